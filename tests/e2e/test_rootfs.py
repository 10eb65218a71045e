# SPDX-License-Identifier: Apache-2.0
"""The root file system of a sandbox that root made, and the template below it."""

import fcntl
import os
import shutil
import subprocess

import pytest
from conftest import fresh_sbx, make_caller, need_root, need_sandboxes, wait_for


def test_changes_of_the_system_stay_inside(sbx, sandbox):
    need_root()
    sbx.ok("exec", "-u", "0", sandbox, "--", "sh", "-c", "echo x > /usr/bin/sbx-made; rm /usr/bin/env")
    assert shutil.which("sbx-made") is None
    assert shutil.which("env")


def test_login_shells_keep_the_sandboxs_path(sbx, sandbox):
    def path_of(*words, **env):
        flags = [word for name, value in env.items() for word in ("-e", f"{name}={value}")]
        return sbx.ok("exec", *flags, sandbox, *words, "printenv PATH").strip().split(":")

    plain = path_of("sh", "-c")
    for shell in ("sh", "bash"):
        login = path_of(shell, "-lc")
        assert [place for place in login if place in plain][-len(plain):] == plain
        assert path_of(shell, "-lc", PATH="/usr/bin:/kit/bin")[1:4] == ["/opt/sbx/bin", "/usr/bin", "/kit/bin"]
    assert sbx.ok("exec", sandbox, "bash", "-lc", "sudo id -u; set | grep ^sbx_ || true") == "0\n"


def test_bash_reads_the_sandboxs_own_file(sbx, sandbox):
    """In every shell from then on, after a restart too; not in a bare command."""
    own = "/etc/sandbox-persistent.sh"
    sbx.ok("exec", sandbox, "sh", "-c", f"echo 'export SBX_MARK=kept' >>{own}")
    try:
        sbx.ok("stop", sandbox)
        for words in (["bash", "-c"], ["bash", "-lc"], ["bash", "-ic"], ["sudo", "bash", "-c"]):
            assert sbx.ok("exec", sandbox, *words, "echo $SBX_MARK") == "kept\n", words
        assert sbx.ok("exec", sandbox, "sh", "-c", "echo $SBX_MARK") == "\n"
    finally:
        sbx.ok("exec", sandbox, "sh", "-c", f": >{own}")


def host_as_it_is():
    """What a template is made for (template.c): another test that adds a user changes it."""
    paths = ("/etc/ld.so.cache", "/etc/ssl/certs/ca-certificates.crt", "/etc/alternatives",
             "/etc/passwd", "/etc/os-release", "/etc/localtime", "/etc")
    return [(status.st_mtime_ns, status.st_size) for status in map(os.stat, paths)]


def on_a_host_that_stays(make, check):
    """The check counts templates, so it begins anew when the host has changed meanwhile."""
    for _ in range(10):
        with make() as one:
            before = host_as_it_is()
            try:
                check(one)
                return
            except AssertionError:
                if host_as_it_is() == before:
                    raise
    pytest.fail("somebody changes /etc all the time")


def test_first_starts_at_once_leave_one_template(bindir, workspace):
    def check(sbx):
        need_sandboxes(sbx)
        starts = [subprocess.Popen([sbx.binary, "create", "--name", f"b{i}", "shell", str(workspace)],
                                   env=sbx.env, stdout=subprocess.DEVNULL) for i in range(4)]
        assert [start.wait(timeout=60) for start in starts] == [0] * 4
        assert len(templates_of(sbx)) == 1
    on_a_host_that_stays(lambda: fresh_sbx(bindir), check)


def test_the_templates_sudo_is_of_no_use_on_the_host(sbx, sandbox):
    templates = sbx.home / "state" / "templates"
    sudo = next(templates.glob("host-*/opt/sbx/bin/sudo"))
    assert templates.stat().st_mode & 0o077 == 0
    done = subprocess.run([sudo, "id"], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 1 and "outside" in done.stderr


def templates_of(sbx):
    return {path.name for path in (sbx.home / "state" / "templates").glob("host-*")}


def make_it_stale(caller):
    """The template has a copy of sbx-init: another one makes it stale, like a change of /etc."""
    os.utime(caller.place / "bin" / "sbx-init")


def is_held(path):
    """Whether a supervisor keeps the template from being removed."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(directory)
    return False


@pytest.mark.parametrize("mode", ("root", "range", "single"))
def test_stale_templates_go_when_no_sandbox_runs_on_them(mode):
    def check(one):
        one.ok("create", "--name", "first", "shell", one.work)
        old = templates_of(one)
        make_it_stale(one)
        one.ok("create", "--name", "second", "shell", one.work)
        assert old < templates_of(one) and len(templates_of(one)) == 2, "the first runs on the old"
        assert one.ok("exec", "first", "--", "cat", "/etc/hostname") == "first\n"
        middle = templates_of(one) - old
        one.ok("stop", "first")
        make_it_stale(one)
        one.ok("start", "first")
        assert len(templates_of(one)) == 2 and middle < templates_of(one)
        one.ok("stop", "first", "second")
        # A supervisor gives its template up after it has replied.
        templates = one.home / "state" / "templates"
        wait_for("a stopped sandbox holds its template",
                 lambda: not any(is_held(templates / name) for name in templates_of(one)))
        # An interrupted build and an interrupted removal.
        for name in ("host-x.new", "host-y.old"):
            rest = templates / name
            rest.mkdir()
            one.own(rest)
        make_it_stale(one)
        one.ok("start", "first", "second")
        assert len(templates_of(one)) == 1
        for name in ("first", "second"):
            assert one.ok("exec", name, "--", "cat", "/etc/hostname") == f"{name}\n"
    on_a_host_that_stays(lambda: make_caller(mode), check)


def test_starts_while_templates_change():
    """Whoever removes an old template never takes one away that another is about to use."""
    with make_caller("root") as one:
        for i in range(4):
            one.ok("create", "--name", f"b{i}", "shell", one.work)
        for _ in range(3):
            one.ok("stop", *(f"b{i}" for i in range(4)))
            starts = []
            for i in range(4):
                make_it_stale(one)
                starts.append(subprocess.Popen([one.binary, "start", f"b{i}"], env=one.env,
                                               stdout=subprocess.DEVNULL))
            assert [start.wait(timeout=60) for start in starts] == [0] * 4
        for i in range(4):
            assert one.ok("exec", f"b{i}", "--", "sh", "-c", "ls /etc/os-release; id -un"
                          ) == "/etc/os-release\nagent\n"
