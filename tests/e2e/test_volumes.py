# SPDX-License-Identifier: Apache-2.0
"""Volumes of kits: memory at a path, and directories that stay."""

import os
import tempfile

import pytest
from conftest import ISOLATION

SPEC = """schemaVersion: "1"
kind: mixin
name: {name}
volumes: {volumes}
"""


def kit(caller, name, volumes):
    directory = caller.place / name
    directory.mkdir()
    (directory / "spec.yaml").write_text(SPEC.format(name=name, volumes=volumes), encoding="utf-8")
    return directory


def create(caller, *kits, flags=()):
    words = [word for directory in kits for word in ("--kit", directory)]
    return caller.ok("create", "--name", "box", *flags, *words, "shell", caller.work)


def mounted(caller, path):
    """Type and options of the file system at a path."""
    return caller.inside(f"findmnt -no FSTYPE,OPTIONS --mountpoint {path}").stdout.split()


def test_memory_and_directories(caller):
    create(caller, kit(caller, "first", "[{path: /scratch, type: tmpfs, size: 2m},"
                                        " {path: /data/deep/, mode: '0700'}, {path: /data/shared}]"),
           kit(caller, "last", "[{path: /scratch, type: tmpfs, size: 1m, mode: '0750'}]"))
    kind, options = mounted(caller, "/scratch")
    assert kind == "tmpfs" and {"size=1024k", "nosuid", "nodev"} <= set(options.split(","))
    table = caller.inside("mount").stdout  # conformance kits look for these words in it
    assert "tmpfs on /scratch type" in table and "tmpfs on /run/secrets type" in table
    stat = "stat -c '%U %a' /scratch /data/deep /data/shared"
    assert caller.inside(stat).stdout == "agent 750\nagent 700\nagent 755\n"
    caller.inside("echo gone > /scratch/a; echo kept > /data/deep/a; chmod 711 /data/deep")
    assert "No space" in caller.inside("head -c 2000000 /dev/zero > /scratch/b", code=1).stderr
    caller.ok("stop", "box")
    caller.ok("start", "box")
    assert caller.inside("ls -A /scratch; cat /data/deep/a; stat -c %a /data/deep").stdout == "kept\n711\n"


@pytest.mark.ns_only("the memory of a machine is its own")
def test_size_is_bounded_by_memory(caller):
    create(caller, kit(caller, "huge", "[{path: /scratch, type: tmpfs, size: 4p}, {path: /more, type: tmpfs}]"),
           flags=("--memory", "256m"))
    for path in ("/scratch", "/more"):
        assert "size=32768k" in mounted(caller, path)[1].split(",")


def test_in_the_workspace(caller):
    if ISOLATION == "vm" and caller.mode == "single":
        pytest.skip("root cannot write to the workspace there")
    create(caller, kit(caller, "modules", f"[{{path: {caller.work}/node_modules, type: tmpfs}}]"))
    caller.inside("echo inside > node_modules/a")
    assert os.listdir(caller.work / "node_modules") == []


def test_link_in_place_of_a_volume(caller):
    """It leads nowhere but inside, whatever stands at that path outside."""
    with tempfile.TemporaryDirectory(prefix="sbx-canary-") as canary:
        os.chmod(canary, 0o777)
        create(caller, kit(caller, "one", "[{path: /data/deep}, {path: /data/memory, type: tmpfs}]"))
        become = "" if caller.mode == "single" else "sudo "
        # To what stands outside, and to what stands nowhere.
        caller.inside(f"mkdir -p {canary}/there; {become}rm -rf /data/deep;"
                      f" {become}ln -s {canary}/there /data/deep")
        caller.ok("stop", "box")
        caller.ok("start", "box")
        caller.inside("test -L /data/deep && findmnt -n /data/memory")
        caller.inside(f"{become}rm /data/deep; {become}ln -s {canary}/nowhere/made /data/deep")
        caller.ok("stop", "box")
        done = caller("start", "box", code=125)
        assert "make the volume '/data/deep'" in done.stderr and "put a link" in done.stderr
        assert os.listdir(canary) == []


def test_places_below_home_are_agents(caller):
    create(caller, kit(caller, "cache", "[{path: /home/agent/.cache/deep/er}]"))
    assert caller.inside("stat -c %U ~/.cache ~/.cache/deep ~/.cache/deep/er; touch ~/.cache/made"
                         ).stdout == "agent\n" * 3


@pytest.mark.parametrize("where", ("", "/.."))
def test_workspace_is_not_hidden(sbx, workspace, where):
    place = os.path.normpath(f"{workspace}{where}")
    directory = workspace / "hiding"
    directory.mkdir()
    (directory / "spec.yaml").write_text(SPEC.format(
        name="hiding", volumes=f"[{{path: {place}, type: tmpfs}}]"), encoding="utf-8")
    done = sbx("create", "--kit", directory, "shell", workspace)
    assert done.returncode != 0 and "would hide the workspace" in done.stderr


@pytest.mark.parametrize("path", ["/", "/proc/sys", "/./proc", "/a/./b", "/a//", "/proc/", "/..", "/sys", "/dev/shm", "/opt/../dev", "//dev"])
def test_places_that_are_refused(sbx, workspace, path):
    directory = workspace / "bad"
    directory.mkdir()
    (directory / "spec.yaml").write_text(SPEC.format(name="bad", volumes=f"[{{path: {path}}}]"),
                                         encoding="utf-8")
    done = sbx("kit", "validate", directory)
    assert done.returncode != 0
    assert 'spec.yaml:4:18: ' in done.stderr and "is not a place for a volume" in done.stderr
