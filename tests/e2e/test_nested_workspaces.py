# SPDX-License-Identifier: Apache-2.0
"""A workspace inside another one: the sandbox can change the way to it, but neither what it may
only read nor whose rights it has.  And the directories that no sandbox may be given."""

import os

import pytest
from conftest import make_caller
from machine import BOOT_S, caller_of_machines, inside

MODES = ("root", "range", "single")
SHARE = "sbx"  # the tag of the host's directories in a machine
ANOTHER = "is another directory than the one this sandbox was made with"


def make_locked(one, way="locked"):
    """A directory in the workspace with a file "f", for `:ro`."""
    directory = one.work
    for name in way.split("/"):
        directory = directory / name
        directory.mkdir()
        one.own(directory)
    (directory / "f").write_text("as it was\n", encoding="utf-8")
    one.own(directory / "f")
    return directory


def start_refused(one, path):
    done = one("start", "box")
    assert done.returncode == 125, done
    assert f"'{path}' {ANOTHER}" in done.stderr and "create it anew" in done.stderr


# ---- read-only inside writable ----

@pytest.mark.ns_only("a machine's have tests of their own below")
def test_read_only_directory_that_was_moved_away(caller):
    """Its mount point cannot be moved, the way to it can: after a start the mount would be on the
    new directory, and the old one writable."""
    locked = make_locked(caller, "conf/locked")
    caller.ok("create", "--name", "box", "shell", caller.work, f"{locked}:ro")
    caller.inside("mv conf kept && mkdir -p conf/locked && ! echo changed > kept/locked/f")
    caller.ok("stop", "box")
    start_refused(caller, locked)
    assert (caller.work / "kept/locked/f").read_text("utf-8") == "as it was\n"
    # Back in its place, it is as before.
    (caller.work / "conf/locked").rmdir()
    (caller.work / "conf").rmdir()
    (caller.work / "kept").rename(caller.work / "conf")
    caller.inside("cat conf/locked/f && ! echo changed > conf/locked/f")
    assert (locked / "f").read_text("utf-8") == "as it was\n"


@pytest.mark.parametrize("first", ("outer", "inner"))
def test_order_of_the_words(sbx, workspace, first):
    """Whichever is named first, which is the one to work in: the inner one lies on the outer."""
    locked = workspace / "locked"
    locked.mkdir()
    words = [workspace, f"{locked}:ro"]
    words = words if first == "outer" else words[::-1]
    sbx.ok("create", "--name", "box", "shell", *words)
    assert sbx.ok("exec", "box", "pwd") == f"{workspace if first == 'outer' else locked}\n"
    sbx.ok("exec", "box", "--", "sh", "-c", f"touch {workspace}/made && ! touch {locked}/made")
    assert (workspace / "made").exists() and not (locked / "made").exists()
    # The same words mean the same sandbox.
    sbx.ok("run", "--detach", "--name", "box", "shell", *words)
    writable = [str(word).removesuffix(":ro") for word in words]
    done = sbx("run", "--detach", "--name", "box", "shell", *writable, code=2)
    assert "other paths" in done.stderr
    done = sbx("create", "shell", workspace, f"{workspace}:ro", code=2)
    assert f"'{workspace}' is given twice" in done.stderr


@pytest.fixture(scope="module", params=MODES)
def machine(request):
    """A caller with a machine "box", whose workspace has the read-only directory conf/locked."""
    with caller_of_machines(request.param) as one:
        locked = make_locked(one, "conf/locked")
        one.ok("create", "--name", "box", "shell", one.work, f"{locked}:ro", timeout=BOOT_S)
        yield one


def test_machine_without_its_own_mounts(machine):
    """Root of a guest takes its mounts away: below them the host's are as read-only."""
    locked = f"{machine.work}/conf/locked"
    assert inside(machine, f"cat {locked}/f") == "as it was\n"
    script = f"""
        change() {{ test -e $1 && ! echo changed > $1 && ! rm -f $1 && echo kept; }}
        umount {locked} && change {locked}/f
        while umount {locked} && n=x$n && [ $n != xxxx ]; do :; done
        change {locked}/f
        mv {machine.work}/conf {machine.work}/kept && change {machine.work}/kept/locked/f
        mv {machine.work}/kept {machine.work}/conf
        # The share again, without a word about read-only: it shows the tree that was mounted last.
        mkdir /tmp/share && mount -t virtiofs {SHARE} /tmp/share && change /tmp/share/f
    """
    assert inside(machine, script, user="root") == "kept\n" * 4
    assert (machine.work / "conf/locked/f").read_text("utf-8") == "as it was\n"
    # What was given to be changed still is.
    inside(machine, "echo new > conf/made")
    assert (machine.work / "conf/made").read_text("utf-8") == "new\n"


# ---- whose rights a workspace gives ----

@pytest.fixture
def root_caller():
    with make_caller("root") as one:
        yield one


@pytest.mark.ns_only("who owns a workspace is decided by the same code")
def test_directory_of_another_owner_in_its_place(root_caller):
    """What root's sandbox has in a workspace's place gives it no rights of that one's owner."""
    one = root_caller
    os.chown(one.work, 1000, 1000)
    for way, owner in (("a", 1000), ("a/build", 1000), ("b", 1000), ("b/build", 0)):
        (one.work / way).mkdir()
        os.chown(one.work / way, owner, owner)
    (one.work / "b/build").chmod(0o700)
    one.ok("create", "--name", "box", "shell", one.work, one.work / "a/build")
    one.inside("mv a a.old && mv b a")
    one.ok("stop", "box")
    start_refused(one, one.work / "a/build")


@pytest.mark.ns_only("who owns a workspace is decided by the same code")
def test_workspace_that_was_made_anew(caller):
    """As scripts do: welcome, but for root not with another owner."""
    inner = caller.own(make_locked(caller, "inner"))
    caller.ok("create", "--name", "box", "shell", inner)
    caller.ok("stop", "box")
    inner.rename(caller.work / "old")
    inner.mkdir()
    caller.own(inner)
    caller.inside("touch made")
    assert (inner / "made").exists()
    caller.ok("stop", "box")
    if caller.mode != "root":
        return
    inner.rename(caller.work / "older")
    inner.mkdir()
    os.chown(inner, 1000, 1000)
    start_refused(caller, inner)


@pytest.mark.ns_only("who owns a workspace is decided by the same code")
@pytest.mark.parametrize("command", ("chown root", "chgrp root", "chown 65534", "chown 0:0"))
def test_owner_that_root_inside_changed(root_caller, command):
    """The workspace stays agent's who it was; a new sandbox with the same ids starts there, too."""
    one = root_caller
    one.ok("create", "--name", "box", "shell", one.work)
    one.inside(f"{command} . && mkdir made", user="root")
    one.ok("stop", "box")
    one.inside("true")
    one.ok("rm", "-f", "box")
    for work in (one.work, one.work / "made"):
        one.ok("create", "--name", "box", "shell", work)
        one.inside("touch by-root", user="root")
        assert (work / "by-root").exists()
        one.ok("rm", "-f", "box")


def test_workspace_that_is_gone(sbx, sandbox, workspace):
    sbx.ok("stop", sandbox)
    workspace.rename(f"{workspace}.away")
    done = sbx("start", sandbox, code=125)
    assert f"workspace '{workspace}': No such file" in done.stderr and "put the directory" in done.stderr
    os.rename(f"{workspace}.away", workspace)
    sbx.ok("start", sandbox)


# ---- what no sandbox is given ----

def refused(sbx, path, *flags, has, **options):
    done = sbx("create", *flags, "shell", path, code=2, **options)
    assert f"'{path}'" in done.stderr and has in done.stderr, done.stderr


@pytest.mark.parametrize("flags", ((), ("--i-know",)))
def test_directories_of_sbx_itself(sbx, workspace, flags):
    """Who can write them has every right of the one who runs sbx: they are never given."""
    sbx.ok("policy", "init", "balanced")
    for path in (sbx.home, sbx.home / "state", sbx.home / "state/sandboxes", sbx.home / "config"):
        refused(sbx, path, *flags, has="what sbx itself keeps")
    # By a link to them, and by the link itself, which the sandbox would make another.
    link = workspace / "state"
    link.symlink_to(sbx.home / "state")
    done = sbx("create", *flags, "shell", link, code=2)
    assert f"'{sbx.home}/state' cannot be a workspace" in done.stderr
    (workspace / "config").mkdir()
    elsewhere = {"SBX_HOME": "", "XDG_CONFIG_HOME": f"{sbx.home}/config",
                 "XDG_STATE_HOME": str(workspace / "linked"), "XDG_RUNTIME_DIR": f"{sbx.home}/run"}
    (workspace / "linked").symlink_to(sbx.home)
    refused(sbx, workspace, *flags, has="what sbx itself keeps", env=elsewhere)


def test_home_that_holds_what_sbx_keeps(sbx):
    home = sbx.home / "person"
    home.mkdir()
    env = {"HOME": str(home), "SBX_HOME": ""}
    refused(sbx, home, "--i-know", has="SBX_HOME", env=env)
    refused(sbx, home / ".config", "--i-know", has=".config/sbx", env=env)


@pytest.mark.parametrize("way", ("..", ".config", ".local", ".ssh", ".ssh/keys", ".gnupg", ".aws"))
def test_places_of_a_home(sbx, workspace, way):
    home = workspace / "person"
    (home / way).mkdir(parents=True, exist_ok=True)
    refused(sbx, (home / way).resolve(), has="--i-know", env={"HOME": str(home)})


@pytest.mark.parametrize("path", ("/tmp", "/var/tmp", "/srv", "/mnt", "/media", "/usr/bin", "/usr/lib",
                                  "/etc/ssl"))
def test_places_of_the_system(sbx, path):
    # Below /tmp lies what this sbx keeps: more than revealing.
    refused(sbx, path, has="what sbx itself keeps" if path == "/tmp" else "--i-know")

