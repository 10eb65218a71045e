# SPDX-License-Identifier: Apache-2.0
"""The ends of virtual machines: whoever waits for a command is told why there is none any more,
nothing of the machine is left, and the next command starts it with what was written."""

import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
from conftest import skip_loudly, wait_for
from machine import (ANSWER_S, await_ends, caller_of_machines, cgroups_left, cgroups_of, create,
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


def boot_with_a_pause(image, initramfs):
    """What the kernel and sbx-guest say when all stands still as the kernel begins to measure its
    processor's timer.  A console of the emulator's own says when that is; a reset ends it."""
    khz = re.search(r"cpu MHz\s*: (\d+)", pathlib.Path("/proc/cpuinfo").read_text())[1] + "000"
    qemu = subprocess.Popen(
        ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
         "-machine", "microvm,isa-serial=on,rtc=on,pit=off,pic=off,acpi=on,auto-kernel-cmdline=off",
         "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "256", "-serial", "stdio",
         "-kernel", image, "-initrd", initramfs, "-append",
         "earlyprintk=ttyS0 console=ttyS0 apic=verbose reboot=t panic=-1 cryptomgr.notests "
         f"maxcpus=1 tsc=reliable tsc_early_khz={khz}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    said, paused = b"", False
    try:
        while b"sbx-guest: " not in said and (more := os.read(qemu.stdout.fileno(), 65536)):
            said += more
            if b"calibrating APIC timer" in said and not paused:
                os.kill(qemu.pid, signal.SIGSTOP)
                time.sleep(0.3)
                os.kill(qemu.pid, signal.SIGCONT)
                paused = True
    finally:
        qemu.kill()
        qemu.communicate()
    return said.decode("utf-8", errors="replace")


def test_boot_without_a_timer_begins_anew(one):
    """A host that stands still just then leaves the guest's kernel without a timer, and it would wait
    forever for its second processor."""
    images = list((one.home / "state/vm").glob("image-*"))
    if not images:
        skip_loudly("the kernel here is not one that sbx unpacks")
    initramfs, = (one.home / "state/vm").glob("initramfs-guest-*")
    for _ in range(20):
        said = boot_with_a_pause(images[0], initramfs)
        if "disabling apic timer" in said:
            break
        assert "sbx-guest: " in said, said  # with a timer it goes on
    else:
        skip_loudly("the moment was not hit")
    assert "Run /init" in said and "reboot: machine restart" in said
    assert "sbx-guest: " not in said, "without a timer it says nothing and resets the machine"
