# SPDX-License-Identifier: Apache-2.0
"""Callers whose own hard limits are lower than what a sandbox may have by default, and what a sandbox
may do to the limits of its process 1."""

import contextlib
import os
import subprocess

import pytest
from conftest import ISOLATION, make_caller, skip_loudly, wait_for

# As many children as it gets; says how many, and keeps them until its input ends.
FORK = """
import os, sys
count = 0
try:
    while count < int(sys.argv[1]) and os.fork():
        count += 1
except BlockingIOError:
    pass
else:
    if count < int(sys.argv[1]):
        sys.stdin.read()
        os._exit(0)
print(count, flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=("range", "single"))
def user(request):
    with make_caller(request.param) as one:
        one.plain = one.command
        yield one


def limit(user, *flags):
    user.command = [*user.plain[:-1], "prlimit", *flags, "--", user.plain[-1]]


def need_rlimits(user):
    if user.json("ls")[0]["limits"] != "rlimits":
        skip_loudly("this machine gives ordinary users control groups")


@contextlib.contextmanager
def forking(*command, env):
    """A program that has made as many children as it could; the value is their number."""
    fork = subprocess.Popen([*map(str, command), "/usr/bin/python3", "-c", FORK, "1000"], env=env,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    try:
        yield int(fork.stdout.readline())
    finally:
        fork.stdin.close()
        fork.stdout.close()
        fork.wait(timeout=60)


@pytest.mark.ns_only("the processes in a machine are its kernel's")
def test_sandboxes_share_half_of_a_low_limit_of_processes(user):
    """However many they are, their user still has the other half."""
    limit(user, "--nproc=400:400")
    said = user("create", "--name", "one", "shell", user.work, code=0).stderr
    need_rlimits(user)
    assert "processes are limited for each user id only and to 200, half of your own" in said
    user.ok("create", "--name", "two", "shell", user.work)
    with forking(*user.command, "exec", "-i", "one", env=user.env) as first:
        refused = user("exec", "two", "true", code=126).stderr
        assert 100 < first < 200 and "Resource temporarily unavailable" in refused
        with forking(*user.command[:-1], env=user.env) as outside:
            assert 180 < outside <= 200
    wait_for("the neighbour is of no use any more",
             lambda: user("exec", "two", "true").returncode == 0)


def test_a_low_limit_of_memory(user):
    limit(user, "--data=268435456:268435456")
    said = user("create", "--name", "box", "--memory", "1g", "shell", user.work, code=0).stderr
    if ISOLATION == "vm":
        assert "your own limit is 256 MiB (ulimit -Hd)" in said and "no usable cgroup" not in said
        return
    need_rlimits(user)
    assert "for each process only and to 256 MiB, your own limit" in said
    done = user("exec", "box", "--", "python3", "-c", "bytearray(400 << 20)")
    assert done.returncode == 1 and "MemoryError" in done.stderr


def test_process_1_keeps_its_limits(user):
    user.ok("create", "--name", "box", "shell", user.work)
    prlimit = "import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))"
    done = user("exec", "box", "--", "python3", "-c", prlimit)
    assert done.returncode == 1 and "PermissionError" in done.stderr
    user.inside("ulimit -n 64; ulimit -n", code=0)
    assert user.ok("exec", "box", "--", "echo", "alive") == "alive\n"


def test_state_that_the_ids_cannot_reach():
    """Root inside may pass a closed directory only where he has ids for its owner and its group."""
    with make_caller("range") as user:
        shut = user.place / "shut"
        shut.mkdir()
        os.chown(shut, user.entry.pw_uid, 4)
        shut.chmod(0o700)
        user.env["SBX_HOME"] = str(shut / "home")
        done = user("create", "--name", "box", "shell", user.work, code=125)
        assert "build the host template" in done.stderr and "Permission denied" in done.stderr
        assert "chmod o+x" in done.stderr


def test_what_fails_late_is_told(user):
    """The last that happens before process 1 is what it is: to execute it."""
    program = user.place / "bin" / "sbx-init"
    program.write_bytes(b"no program\n")
    said = user("create", "--name", "box", "shell", user.work, code=125).stderr
    assert "execute sbx-init: Exec format error" in said
