# SPDX-License-Identifier: Apache-2.0
"""Machines whose workspace has more files than virtiofsd may have descriptors: nobody inside notices;
and a guest that holds as many open as it can is the only one to suffer."""

import os
import pathlib
import shutil

import pytest
from conftest import need_program
from machine import (ANSWER_S, BOOT_S, caller_of_machines, inside, lives, processes_of, running,
                     state_of)

LIMIT = 2000
DIRECTORIES, FILES = 40, 100


@pytest.fixture(scope="module")
def box():
    """A machine of a user who may have LIMIT descriptors, and cannot change that; its workspace is a
    repository of twice as many files.  It has memory above 4 GiB, which its devices reach themselves
    (swiotlb=noforce).  Beside it a sandbox with namespaces, "other"."""
    need_program("git")
    with caller_of_machines("range") as one:
        one.ok("policy", "init", "deny-all")
        for number in range(DIRECTORIES):
            directory = one.work / f"d{number}"
            directory.mkdir()
            for file in range(FILES):
                (directory / f"f{file}").write_text(f"{number} {file}\n", encoding="utf-8")
                one.own(directory / f"f{file}")
            one.own(directory)
        git = ("git", "-C", one.work, "-c", "user.name=a", "-c", "user.email=a@b")
        one.run(*git, "init", "-q")
        one.run(*git, "add", ".")
        one.run(*git, "commit", "-qm", "all")
        one.command = ["prlimit", f"--nofile={LIMIT}:{LIMIT}", *one.command]
        for name, isolation, memory in (("other", "ns", "512m"), ("box", "vm", "4g")):
            one("create", "--name", name, "--isolation", isolation, "--cpus", "1", "--memory",
                memory, "shell", one.work, code=0, timeout=BOOT_S)
        yield one


def held(one):
    """How many descriptors virtiofsd has."""
    return len(os.listdir(f"/proc/{processes_of(one)['share']}/fd"))


def test_more_files_than_descriptors(box):
    walk = "find . -path ./.git -prune -o -type f -size +0 -print | wc -l"
    for user in ("1000", "0"):
        assert inside(box, walk, user=user, timeout=300) == f"{DIRECTORIES * FILES}\n"
    (box.work / "d7/f7").write_text("changed\n", encoding="utf-8")
    assert inside(box, "git status --short 2>&1", timeout=300) == " M d7/f7\n"
    assert inside(box, "cat d*/f* | sort -n | tail -n1", timeout=300) == f"{DIRECTORIES - 1} {FILES - 1}\n"
    # Walking the system's files, too, of which there are many more.
    assert inside(box, "find /usr -maxdepth 2 -size +0 2>&1 >/dev/null | grep -v denied | head -n3",
                  timeout=300) == ""


def test_devices_reach_all_memory(box):
    """The disk, the share and the network, with most of the memory in use."""
    script = ("head -c 2500M /dev/zero > /dev/shm/filler; head -c 64M /dev/urandom > ~/data;"
              " cp ~/data copy; sync; echo 3 > /proc/sys/vm/drop_caches; cmp ~/data copy && echo same;"
              " curl -sS -o /dev/null -w '%{http_code}' http://example.com/; rm ~/data copy /dev/shm/filler")
    assert inside(box, script, user="0", timeout=300) == "same\n403"


def test_who_holds_them_all_harms_itself_only(box):
    """A program opens files until it cannot; no way to forget those."""
    shutil.copy(pathlib.Path(__file__).parent / "hold_files.py", box.work)
    holder = running(box, "ulimit -n 100000; exec python3 hold_files.py", user="0")
    assert "Too many open files" in holder.stdout.readline()
    pids = processes_of(box)
    assert LIMIT - 100 < held(box) <= LIMIT
    assert box("exec", "other", "--", "sh", "-c", "cat d*/f* | wc -l", code=0).stdout == (
        f"{DIRECTORIES * FILES}\n")
    assert state_of(box)["status"] == "running"
    holder.terminate()
    holder.wait(timeout=ANSWER_S)
    assert inside(box, "cat d5/f5") == "5 5\n"
    assert processes_of(box) == pids and all(map(lives, pids.values()))
