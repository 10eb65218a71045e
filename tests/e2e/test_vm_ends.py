# SPDX-License-Identifier: Apache-2.0
"""The ends of virtual machines: whoever waits for a command is told why there is none any more,
nothing of the machine is left, and the next command starts it with what was written."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time

import pytest
from conftest import wait_for
from machine import (ANSWER_S, BOOT_S, await_ends, caller_of_machines, cgroups_left, cgroups_of, create,
                     end_of, inside, processes_of, running, said_by_supervisor, state_of)

MIB = 1 << 20
STOPPED = "the sandbox stopped while the command was running"


@pytest.fixture(scope="module")
def one():
    with caller_of_machines("root") as caller:
        caller.ok("policy", "init", "deny-all")
        create(caller, "--cpus", "2", "--memory", "256m")
        yield caller


def mounts_of(place):
    return [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
            if str(place) in line]


def end_by(one, deed):
    """What a command says whose machine ends by `deed` (pids): and nothing of the machine is left."""
    inside(one, "echo kept > ~/kept && sync ~/kept")
    waiting = running(one, "sleep 600")
    pids = processes_of(one)
    cgroups = cgroups_of(pids["monitor"])
    began = time.monotonic()
    deed(pids)
    code, said = end_of(waiting)
    took = time.monotonic() - began
    assert code == 137 and said.count("\n") == 1, said
    await_ends(pids.values(), "a process of a machine outlived it")
    assert mounts_of(one.place) == []
    if pathlib.Path(f"/proc/{pids['supervisor']}").exists() is False and deed is not kill_supervisor:
        wait_for("a cgroup outlived its machine", lambda: cgroups_left(cgroups) == [])
    assert state_of(one)["status"] == "stopped"
    ended = state_of(one).get("ended")
    print(f"\n{said.strip()} [{took:.1f} s]")
    # The next command starts it again, and what had been synced is there.
    assert inside(one, "cat ~/kept", timeout=300) == "kept\n"
    assert cgroups_left(cgroups) == []
    assert "ended" not in state_of(one)
    return said.strip(), ended


def as_guest_root(one, script):
    def deed(pids):
        one("exec", "-u", "0", "box", "--", "sh", "-c", script, timeout=ANSWER_S)
    return deed


def kill_supervisor(pids):
    os.kill(pids["supervisor"], signal.SIGKILL)


def kill_of(name):
    def deed(pids):
        os.kill(pids[name], signal.SIGKILL)
    return deed


@pytest.mark.parametrize("script,reason", [
    ("echo c > /proc/sysrq-trigger", "the guest's kernel stopped: Kernel panic - not syncing: sysrq"),
    ("sync; echo b > /proc/sysrq-trigger", "the guest ended itself"),
    # sbx-init with all others: by its signal, or by its socket, whichever is seen first.
    ("echo i > /proc/sysrq-trigger", "(last words: sbx-guest: "),
    ("sysctl -qw vm.panic_on_oom=2; python3 -c 'b = []\nwhile True: b.append(b\"x\" * (4 << 20))'",
     "the guest's kernel stopped: Kernel panic - not syncing: Out of memory"),
])
def test_ends_by_the_guest(one, script, reason):
    said, ended = end_by(one, as_guest_root(one, script))
    assert said.startswith(f"sbx: {STOPPED}: ") and reason in said
    assert said == f"sbx: {STOPPED}: {ended}"
    assert f"sandbox 'box': {ended}" in said_by_supervisor(one)


@pytest.mark.parametrize("name,reason", [
    ("machine", "QEMU was killed by signal 9"),
    ("share", "virtiofsd was killed by signal 9"),
    ("monitor", "sbx-vm was killed by signal 9"),
])
def test_ends_by_the_host(one, name, reason):
    said, ended = end_by(one, kill_of(name))
    assert said.startswith(f"sbx: {STOPPED}: {reason}") and ended.startswith(reason)


def test_end_of_the_supervisor(one):
    said, ended = end_by(one, kill_supervisor)
    assert said == f"sbx: {STOPPED}" and ended is None


def test_stop_and_start(one):
    """An idle machine ends by itself, in no time; its disk is clean."""
    inside(one, "echo kept > ~/unsynced")
    before = said_by_supervisor(one)
    pids = processes_of(one)
    began = time.monotonic()
    one("stop", "box", code=0, timeout=ANSWER_S)
    print(f"\nstopped in {time.monotonic() - began:.2f} s")
    await_ends(pids.values(), "a process of a stopped machine lives")
    assert said_by_supervisor(one) == before and "ended" not in state_of(one)
    disk = one.home / "state/sandboxes/box/disk.img"
    state = subprocess.run(["/sbin/dumpe2fs", "-h", disk], check=True, text=True,
                           capture_output=True, timeout=60).stdout
    assert "needs_recovery" not in state
    assert inside(one, "cat ~/unsynced", timeout=300) == "kept\n"


def test_stop_while_a_command_runs(one):
    waiting = running(one, "sleep 600", first="trap '' TERM")
    one("stop", "box", code=0, timeout=ANSWER_S)
    code, _ = end_of(waiting)
    assert code == 137
    assert state_of(one)["status"] == "stopped"


def test_what_does_not_answer_is_told(one):
    """... and never ended for that; but it is when it is told to stop."""
    inside(one, "true", timeout=300)
    waiting = running(one, "sleep 600")
    pids = processes_of(one)
    os.kill(pids["machine"], signal.SIGSTOP)
    wait_for("nobody noticed", lambda: state_of(one)["status"] == "not responding", 30)
    os.kill(pids["machine"], signal.SIGCONT)
    wait_for("nobody noticed", lambda: state_of(one)["status"] == "running", 60)
    assert waiting.poll() is None
    said = said_by_supervisor(one)
    assert said.endswith("sandbox 'box': the guest does not answer\n"
                         "sandbox 'box': the guest answers again\n")
    os.kill(pids["machine"], signal.SIGSTOP)
    one("stop", "box", code=0, timeout=60)
    assert end_of(waiting)[0] == 137
    await_ends(pids.values(), "a stopped machine lives")
    assert said_by_supervisor(one).endswith("did not stop when it was told to, and was killed\n")


def test_nobody_asks_an_idle_guest(one):
    """What sbx-vm does while nothing runs: nothing."""
    inside(one, "true", timeout=300)
    monitor = processes_of(one)["monitor"]

    def switches():
        text = pathlib.Path(f"/proc/{monitor}/status").read_text()
        return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    def rests():
        before = switches()
        time.sleep(3)
        return switches() == before
    wait_for("sbx-vm does not rest", rests, 60)


def test_the_disk_gives_space_back(one):
    disk = one.home / "state/sandboxes/box/disk.img"
    inside(one, "sync", timeout=300)
    before = disk.stat().st_blocks * 512
    inside(one, "head -c 200M /dev/urandom > ~/filler; sync", timeout=300)
    full = disk.stat().st_blocks * 512
    assert full - before > 190 * MIB
    inside(one, "rm ~/filler; sync", timeout=300)
    # Blocks are discarded when the journal has the removal.
    wait_for("the disk keeps what was removed",
             lambda: inside(one, "sync") == "" and disk.stat().st_blocks * 512 < before + 40 * MIB)


def processor_time(pid):
    """Ticks that it has used, 0 when it has ended."""
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0


def test_boot_on_a_host_without_time_for_it(one):
    """The guest's kernel measures its timer within a tenth of a second of its boot.  A host that
    stood still just then left it without one, and the boot never ended: such a guest begins anew."""
    one("stop", "box", code=0, timeout=ANSWER_S)
    start = subprocess.Popen([*one.command, "start", "box"], env=one.env, cwd="/",
                             stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    machine = []

    def find():
        with contextlib.suppress(OSError, KeyError, AssertionError):
            machine.append(processes_of(one)["machine"])
        return machine or start.poll() is not None
    wait_for("no machine was started", find)
    pauses = 0
    while start.poll() is None and processor_time(machine[0]) < 70:
        if processor_time(machine[0]) >= 25:  # the measuring comes after that
            os.kill(machine[0], signal.SIGSTOP)
            time.sleep(0.12)
            os.kill(machine[0], signal.SIGCONT)
            pauses += 1
        time.sleep(0.003)
    said = start.communicate(timeout=BOOT_S)[1]
    assert start.returncode == 0, said
    assert pauses > 20
    assert inside(one, "sleep 0.01; echo works", timeout=300) == "works\n"
