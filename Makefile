# SPDX-License-Identifier: Apache-2.0
# Shortcuts; the build itself is meson's (meson.build).  `make help` lists them.

PREFIX ?= /usr/local
# Another python may come first in PATH and lack Debian's pytest.
PYTHON := /usr/bin/python3
SOURCES = $$(find src tests fuzz bench -name '*.[ch]')

# Of the suite what also runs on virtual machines in `make check`: something of each part of sbx that
# a machine has a way of its own for.  Without hardware virtualization each test's own machine boots
# for seconds, and all else is slow in it, too.  tests/e2e/test_vm*.py are about machines alone.
MACHINE_LANE = $(addprefix tests/e2e/test_, sandbox.py terminal.py publish.py \
	kits.py::test_stacked_kits kits.py::test_startup_runs_at_every_start \
	kits.py::test_secrets_reach_a_running_sandbox \
	rootfs.py::test_changes_of_the_system_stay_inside \
	visibility.py::test_a_walk_of_everything[root] visibility.py::test_homes[root] \
	visibility.py::test_files_that_hold_keys_are_not_there[root] \
	visibility.py::test_mounts_tell_no_host_path[root] \
	visibility.py::test_names_and_accounts_are_made_for_it[root] \
	limits.py::test_process_hog[root] limits.py::test_memory_hog[root] \
	limits.py::test_memory_file_systems_are_bounded[root] limits.py::test_processors \
	policy_requests.py::test_requests_are_judged_where_a_rule_looks_at_them \
	policy_requests.py::test_a_pin_comes_and_goes_at_once \
	exit.py::test_plain_http exit.py::test_https_with_injection \
	exit.py::test_refused_names_do_not_borrow_an_allowed_one \
	exit.py::test_names_are_answered_by_the_policy exit.py::test_addresses_are_refused \
	exit.py::test_policy_reaches_a_running_sandbox_at_once \
	raw_tcp.py::test_a_server_that_speaks_first \
	udp.py::test_each_destination_is_logged[root] udp.py::test_loopback_and_dns_are_left_alone[root] \
	credentials.py::test_rules_are_taken_in_order_by_path_and_method credentials.py::test_modes \
	audit_log.py::test_killed_supervisor_leaves_a_whole_log \
	faults.py::test_killed_supervisor_is_replaced \
	faults.py::test_failing_install_says_where_and_leaves_nothing \
	rootless.py::test_writable_places_and_persistence rootless.py::test_read_only_paths)

.PHONY: all setup demo check check-machines check-kill static install bench fuzz lint format clean help

all: build/build.ninja ## build into build/
	ninja -C build

build/build.ninja:
	meson setup build --buildtype=release --prefix=$(PREFIX) $(WERROR)

build-asan/build.ninja:
	meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false

build-clang/build.ninja:
	CC=clang meson setup build-clang --werror

build-fuzz/build.ninja:
	CC=clang meson setup build-fuzz -Dfuzz=true -Db_lundef=false

setup: ## install what building needs (Debian packages)
	tools/setup build

demo: ## set up, build, and show the main job in a temporary project
	tools/demo

check: ## every test: what CI runs
	tools/setup build test demo
	$(MAKE) static
	$(MAKE) all WERROR=--werror
	$(MAKE) lint
	$(MAKE) build-asan/build.ninja
	ninja -C build-asan
	meson test -C build --print-errorlogs
	meson test -C build-asan --print-errorlogs
	$(PYTHON) -m pytest tests/e2e -q
	SBX_TEST_ISOLATION=vm $(PYTHON) -m pytest $(MACHINE_LANE) -q

check-machines: all ## the whole end-to-end suite on virtual machines (hours without hardware virtualization)
	SBX_TEST_ISOLATION=vm $(PYTHON) -m pytest tests/e2e -q

check-kill: all ## kill each process of a sandbox at 100 steps of each of its ways (SBX_KILL_POINTS; minutes)
	SBX_KILL_POINTS=$${SBX_KILL_POINTS:-100} $(PYTHON) -m pytest tests/e2e/test_kill.py -q

static: ## the format of the sources
	clang-format --dry-run -Werror $(SOURCES)

install: all ## install below PREFIX (default /usr/local; DESTDIR is honoured)
	meson configure build --prefix=$(PREFIX)
	meson install -C build
	@if [ -e $(DESTDIR)/etc/apparmor.d/abi/4.0 ]; then \
		echo "installing the AppArmor profile that lets sbx make user namespaces"; \
		sed 's#@PREFIX@#$(PREFIX)#' packaging/apparmor/sbx.in >$(DESTDIR)/etc/apparmor.d/sbx; \
		if [ -z "$(DESTDIR)" ] && command -v apparmor_parser >/dev/null; then \
			apparmor_parser -r /etc/apparmor.d/sbx || echo "(AppArmor is not active here)"; \
		fi; \
	fi

bench: all ## measure (bench/run)
	tools/setup bench
	bench/run

fuzz: build-fuzz/build.ninja ## run each fuzz target for FUZZ_SECONDS (default 60)
	ninja -C build-fuzz
	tools/fuzz build-fuzz $${FUZZ_SECONDS:-60}

# clang's static analyser takes ten times as long as all other checks: `make lint ANALYZE=1`.
lint: build-clang/build.ninja ## clang's warnings, clang-tidy, and shellcheck
	ninja -C build-clang
	run-clang-tidy -quiet -p build-clang $(if $(ANALYZE),,-checks='-clang-analyzer-*') \
		"$(CURDIR)/src/.*" >build-clang/tidy.log 2>&1 || { grep -A4 'error:' build-clang/tidy.log; false; }
	shellcheck tools/setup tools/demo tools/fuzz tools/vm-kernel .ci/run bench/run

format: ## format the sources in place
	clang-format -i $(SOURCES)

clean: ## remove the build directories
	rm -rf build build-asan build-clang build-fuzz

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1\t\2/p' Makefile | expand -t 24
