# SPDX-License-Identifier: Apache-2.0
"""A sandbox that takes all it can get: its limits hold, the host and a neighbour do not notice, and
it is of use again afterwards.  With cgroups (root) and with resource limits (ordinary users)."""

import contextlib
import pathlib
import shutil
import subprocess

import pytest
from conftest import make_caller, skip_loudly, wait_for

HERE = pathlib.Path(__file__).parent
WHOLE = ("cgroup v1", "cgroup v2", "cgroup v1 and v2")
MIB = 1 << 20


@pytest.fixture(scope="module", params=("root", "range", "single"))
def two(request):
    """A caller with a small sandbox "hog" and a neighbour "good"."""
    with make_caller(request.param) as one:
        shutil.copy(HERE / "hog.py", one.work)
        (one.work / "hog.py").chmod(0o644)
        said = one("create", "--name", "hog", "--memory", "128m", "--pids", "64", "--cpus", "1", "shell",
                   one.work, code=0).stderr
        one.ok("create", "--name", "good", "shell", one.work)
        one.said = said
        yield one


def kind_of(caller, name="hog"):
    return next(box for box in caller.json("ls") if box["name"] == name)["limits"]


@contextlib.contextmanager
def taking(caller, thing, *words, outside=False):
    """A hog at its limit; the value is [count, how it ended]."""
    command = ([*caller.command[:-1], "/usr/bin/python3"] if outside else
               [*caller.command, "exec", "-i", "hog", "/usr/bin/python3"])
    hog = subprocess.Popen([*command, str(caller.work / "hog.py"), thing, *words], env=caller.env,
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    try:
        yield hog.stdout.readline().split()
    finally:
        hog.stdin.close()
        hog.stdout.close()
        hog.wait(timeout=60)


def host_can_take(caller, thing, count):
    with taking(caller, thing, str(count), outside=True) as end:
        return end[1] == "enough"


def neighbour_lives(caller):
    assert caller.ok("exec", "good", "--", "sh", "-c", "echo alive | cat") == "alive\n"


def works_again(caller):
    assert caller.ok("exec", "hog", "--", "sh", "-c", "echo again | cat") == "again\n"


def refused(caller):
    """What a command that needs three processes says at the limit; nothing when it works."""
    done = caller("exec", "hog", "--", "sh", "-c", "echo again | cat")
    assert done.returncode or done.stdout == "again\n"
    return done.stderr if done.returncode else ""


def test_what_holds_is_said(two):
    kind = kind_of(two)
    assert ("no usable cgroup" in two.said) == (kind not in WHOLE)
    if kind == "rlimits":
        for word in ("memory is limited for each process", "processes are limited for each user",
                     "processors are not limited", "LIMITS in sbx(1)"):
            assert word in two.said
    if two.mode == "root":
        if kind not in WHOLE:
            skip_loudly(f"this machine gives root no whole cgroup: {kind}")
        assert two.said.count("note:") == ("no network policy" in two.said)


def test_process_hog(two):
    with taking(two, "processes") as (count, end):
        assert end == "EAGAIN" and 16 < int(count) < 64
        refusal = refused(two)
        assert "Resource temporarily unavailable" in refusal or "fork" in refusal
        neighbour_lives(two)
        assert host_can_take(two, "processes", 64)
    works_again(two)


def test_fork_bomb(two):
    """The real thing, which never rests: it is stopped by stopping the sandbox."""
    two.ok("exec", "-d", "hog", "--", "bash", "-c", "b() { b | b & }; b")
    wait_for("the bomb came to no limit", lambda: refused(two))
    for _ in range(5):
        neighbour_lives(two)
    two.ok("stop", "hog")
    assert not [box for box in two.json("ls") if box["name"] == "hog" and box["status"] == "running"]
    works_again(two)


def test_memory_hog(two):
    for _ in range(3):
        with taking(two, "memory") as end:
            # Killed by the kernel before it could say anything, or refused.
            assert end == [] or (end[1] == "ENOMEM" and int(end[0]) * 16 <= 128)
            neighbour_lives(two)
        works_again(two)


def test_memory_hog_of_many_processes(two):
    """Together they want six times the limit; where a cgroup holds it, together they do not get it."""
    if kind_of(two) not in WHOLE:
        assert "for each process only" in two.said
        return
    hogs = [two("exec", "-d", "hog", "--", "/usr/bin/python3", "-c",
                "b = bytearray(96 << 20); b[::4096] = b'x' * len(b[::4096]); import time; time.sleep(600)",
                code=0) for _ in range(8)]
    assert len(hogs) == 8
    # In a machine none may be left: its kernel is in those 128 MiB, too.
    wait_for("some hog must die",
             lambda: int(two("exec", "hog", "--", "pgrep", "-c", "python3").stdout or "9") < 3)
    neighbour_lives(two)
    two("exec", "hog", "pkill", "python3")
    works_again(two)


def test_address_space_is_no_memory(two):
    """Programs reserve it by the gigabyte (node, Go, Java): only what is written to counts."""
    script = ("import mmap; mmap.mmap(-1, 8 << 30, prot=0, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS);"
              " print('reserved')")
    assert two.ok("exec", "hog", "--", "/usr/bin/python3", "-c", script) == "reserved\n"


def sizes(caller, user, name, path):
    words = caller.ok("exec", "-u", user, name, "--", "stat", "-f", "-c", "%S %b %c", path).split()
    return int(words[0]) * int(words[1]), int(words[2])


def test_memory_file_systems_are_bounded(two):
    """Filled to the brim, one after the other: no space, and no more than a share of the memory."""
    for path, share in (("/dev/shm", 2), ("/run", 8), ("/run/secrets", 128)):
        size, inodes = sizes(two, "1000", "hog", path)
        assert size <= 128 * MIB // share and 0 < inodes <= 100000
    done = two("exec", "hog", "--", "sh", "-c", "head -c 200M /dev/zero > /dev/shm/fill")
    assert done.returncode != 0 and "No space left" in done.stderr
    neighbour_lives(two)
    if two.mode != "single":
        done = two("exec", "-u", "0", "hog", "--", "sh", "-c", "head -c 200M /dev/zero > /run/fill")
        assert done.returncode != 0 and "No space left" in done.stderr
        two.ok("exec", "-u", "0", "hog", "rm", "/run/fill")
    works_again(two)
    two.ok("exec", "hog", "rm", "/dev/shm/fill")


def test_descriptor_hog(two):
    with taking(two, "descriptors") as (count, end):
        assert end == "EMFILE" and int(count) > 100
        neighbour_lives(two)
        assert host_can_take(two, "descriptors", 100)
    works_again(two)


@pytest.mark.parametrize("thing", ("watches", "signals", "queues"))
def test_hog_of_what_the_kernel_counts_by_user(two, thing):
    with taking(two, thing) as (count, end):
        assert end in ("EMFILE", "EAGAIN") and int(count) >= 2
        # The same user outside, and the neighbour, still get some.
        assert host_can_take(two, thing, 2)
        assert two.ok("exec", "good", "--", "/usr/bin/python3", two.work / "hog.py", thing,
                      "2") == "2 enough\n"
    works_again(two)


def groups_of(caller, name):
    record = caller.home / "state" / "sandboxes" / name / "supervisor.lock"
    return [pathlib.Path(line) for line in record.read_text("utf-8").splitlines()[1:]]


def test_processors():
    """A busy sandbox with half a processor is held back: the kernel counts how often."""
    with make_caller("root") as one:
        said = one("create", "--name", "box", "--cpus", "0.5", "shell", one.work, code=0).stderr
        if "processors are not limited" in said:
            skip_loudly("root has no cgroup for processors here")
        one.ok("exec", "-d", "box", "--", "sh", "-c", "while :; do :; done")
        files = [group / "cpu.stat" for group in groups_of(one, "box") if (group / "cpu.stat").exists()]
        assert files

        def held_back():
            return any(line.split()[0] == "nr_throttled" and int(line.split()[1]) > 2
                       for file in files for line in file.read_text("utf-8").splitlines())
        wait_for("nothing held it back", held_back)


def test_shares_that_the_kernel_cannot_hold_are_refused(sbx, workspace):
    for words in (("--cpus", "0.001"), ("--cpus", "-1"), ("--cpus", "x"), ("--memory", "1m"),
                  ("--pids", "1")):
        assert words[0] in sbx("create", *words, "shell", workspace, code=2).stderr


def test_groups_go_with_the_sandbox():
    with make_caller("root") as one:
        one.ok("create", "--name", "box", "shell", one.work)
        groups = groups_of(one, "box")
        if not groups:
            skip_loudly("root has no cgroups here")
        assert all(group.is_dir() for group in groups)
        one.ok("stop", "box")
        assert not any(group.exists() for group in groups)
