# SPDX-License-Identifier: Apache-2.0
"""Sandboxes of ordinary users: with a range of subordinate ids, and with only their own id."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import pytest
from conftest import need_program, need_root, skip_loudly


class User:
    """A user of the test's own, who runs the programs from a directory that everyone may read."""

    def __init__(self, name, binary):
        self.entry = pwd.getpwnam(name)
        self.binary = binary
        self.work = pathlib.Path(self.entry.pw_dir) / "work"
        self.home = pathlib.Path(self.entry.pw_dir) / "sbx"

    def __call__(self, *words, check=True):
        done = subprocess.run(
            ["setpriv", f"--reuid={self.entry.pw_uid}", f"--regid={self.entry.pw_gid}",
             "--init-groups", self.binary, *map(str, words)],
            cwd=self.work, capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": self.entry.pw_dir,
                 "SBX_HOME": str(self.home)})
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done

    def inside(self, script, check=True):
        return self("exec", "box", "--", "sh", "-c", script, check=check)


@pytest.fixture(params=["range", "single"])
def user(request, bindir):
    need_root()
    need_program("useradd")
    if request.param == "range":
        need_program("newuidmap")
    name = f"sbxt{os.getpid()}{request.param[0]}"
    programs = pathlib.Path(tempfile.mkdtemp(prefix="sbx-b-"))
    system = ["-r"] if request.param == "single" else []
    subprocess.run(["useradd", *system, "-m", name], check=True, timeout=30)
    try:
        has_range = any(line.startswith(f"{name}:")
                        for line in pathlib.Path("/etc/subuid").read_text("utf-8").splitlines())
        if has_range != (request.param == "range"):
            skip_loudly("useradd gives other subordinate ids here than the test needs")
        programs.chmod(0o755)
        for program in bindir.iterdir():
            shutil.copy2(program, programs)
        person = User(name, programs / "sbx")
        person.mode = request.param
        person.work.mkdir()
        os.chown(person.work, person.entry.pw_uid, person.entry.pw_gid)
        yield person
        person("rm", "--all", "--force", check=False)
    finally:
        subprocess.run(["userdel", "-r", name], check=False, capture_output=True, timeout=30)
        shutil.rmtree(programs, ignore_errors=True)


def test_an_ordinary_user_has_a_working_sandbox(user):
    created = user("create", "--name", "box", "shell", ".")
    assert ("only one user id" in created.stderr) == (user.mode == "single")
    assert user.inside("id -u").stdout == "1000\n"
    user.inside("echo kept > ~/kept; echo mine > made; test $(stat -c %u made) = 1000")
    assert (user.work / "made").stat().st_uid == user.entry.pw_uid
    assert user.inside("touch /usr/made", check=False).returncode != 0
    sudo = user.inside("sudo sh -c 'touch /usr/local/made /opt/made && id -u'", check=False)
    if user.mode == "range":
        assert sudo.stdout == "0\n"
    else:
        assert "single user id" in sudo.stderr and "uidmap" in sudo.stderr
        user.inside("touch /usr/local/made /opt/made")
    user("stop", "box")
    assert user.inside("cat ~/kept; ls /opt/made").stdout == "kept\n/opt/made\n"
    user("rm", "--force", "box")
    assert not list((user.home / "state" / "sandboxes").iterdir())
