# SPDX-License-Identifier: Apache-2.0
"""Guests that were taken over: their kernel runs hostile_guest.c instead of sbx-guest, and root of a
good one reaches for what joins it to the host."""

import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from conftest import need_program, wait_for
from machine import (ANSWER_S, BOOT_S, await_ends, build_hostile_guest, caller_of_machines,
                     children, comm, create, end_of, inside, processes_of, running,
                     said_by_supervisor, state_of, status_of, tree)

MIB = 1024


@pytest.fixture(scope="module")
def one():
    need_program("gcc")
    with caller_of_machines("root") as caller:
        caller.ok("policy", "init", "deny-all")
        yield caller


@pytest.fixture
def hostile(one, tmp_path):
    """Makes sbx-guest of this caller a hostile program, until the test is over."""
    guest = one.place / "bin/sbx-guest"
    shutil.copy2(guest, tmp_path / "good")

    def become(mode):
        program = build_hostile_guest(mode, tmp_path)
        guest.unlink()
        shutil.copy2(program, guest)
    yield become
    one("rm", "--force", "box", timeout=ANSWER_S)
    guest.unlink()
    shutil.copy2(tmp_path / "good", guest)


@pytest.mark.parametrize("mode,reason", [
    ("garbage", "the guest broke the protocol of the link"),
    ("greeting", "the guest broke the protocol of the link: a frame for what is not open"),
])
def test_a_guest_that_breaks_the_protocol(one, hostile, mode, reason):
    hostile(mode)
    said = create(one, code=125).stderr
    assert reason in said
    assert one.json("ls") == []


def test_a_guest_that_floods_the_host_with_messages(one, hostile):
    """It may have its machine, whose supervisor does not listen to it; then it is ended."""
    hostile("orders")
    done = create(one, code=None)
    # Ended before, while or after the creating command was done with it.
    wait_for("a flood goes on", lambda: not one.json("ls") or state_of(one)["status"] == "stopped",
             ANSWER_S)
    said = said_by_supervisor(one)
    assert "a lie of the guest's" not in done.stderr + said
    assert "the guest broke the protocol of the link" in done.stderr + said


def starting(one, *words):
    command = subprocess.Popen(
        [*one.command, "create", "--name", "box", *(words or ("shell", one.work))], env=one.env,
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
        start_new_session=True)

    def named(pid, name):
        return [child for child in children(pid) if comm(child).startswith(name)]

    def processes():
        return [(monitor, machine) for pid in children(command.pid)
                for monitor in named(pid, "sbx-vm") for machine in named(monitor, "qemu")]
    wait_for("no machine is started", processes, ANSWER_S)
    return command, *processes()[0]


@pytest.mark.parametrize("mode", ["console", "silence", "slow"])
def test_a_guest_that_never_comes_up(one, hostile, mode):
    """Whoever waits for it can give up, and nothing is left; what it floods stays small."""
    hostile(mode)
    command, monitor, machine = starting(one)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        assert command.poll() is None, command.stderr.read()
        assert int(status_of(monitor)["VmRSS"].split()[0]) < 16 * MIB
        time.sleep(0.2)
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=ANSWER_S)
    await_ends([monitor, machine], "a machine outlived the command that made it")
    assert one.json("ls") == []


def test_a_guest_that_changes_what_the_host_shows_it(one, hostile):
    """All trees that virtiofsd has, with nothing between them and the guest's kernel."""
    hostile("share")
    extra = one.place / "extra"
    extra.mkdir()
    (extra / "file").write_text("extra", encoding="utf-8")
    one("create", "--name", "box", "shell", one.work, f"{extra}:ro", code=125, timeout=BOOT_S)
    assert [path.name for path in extra.iterdir()] == ["file"]
    assert (extra / "file").read_text("utf-8") == "extra"
    assert extra.stat().st_mode & 0o777 == 0o755
    template = next(path for path in (one.home / "state/templates").iterdir() if path.is_dir())
    for top in (pathlib.Path("/usr/bin"), pathlib.Path("/var/lib/dpkg"), template, template / "etc"):
        assert not list(top.glob("planted*")), top
    # Its own workspace it may fill.
    planted = {path.name: path.lstat().st_mode for path in one.work.glob("planted*")}
    assert "planted" in planted and "planted.device" not in planted


# ---- virtio's devices without a driver ----

@pytest.fixture(scope="module")
def box(one):
    create(one, "--cpus", "2", "--memory", "256m", name="good")
    yield one
    one("rm", "--force", "good", timeout=ANSWER_S)


def good(one, script, code=0, user="0", **options):
    return inside(one, script, user=user, code=code, name="good", **options)


@pytest.fixture
def prey(box):
    """Workspaces for a hostile guest: the first may be changed, the second not, nor what lies beside
    them; and the neighbour does not notice."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="prey-", dir=box.place))
    top.chmod(0o755)
    for name in ("mine", "shown", "beside"):
        (top / name).mkdir(parents=True)
        (top / name / "file").write_text(name, encoding="utf-8")
    before = {place: tree(place) for place in (top, pathlib.Path("/etc"))}
    yield [top / "mine", f"{top / 'shown'}:ro"]
    for place, was in before.items():
        now = tree(place)
        assert {path: now.get(path) for path in was.keys() | now.keys()
                if now.get(path) != was.get(path) and not path.startswith("mine")} == {}
    assert [(top / name / "file").read_text("utf-8") for name in ("shown", "beside")] == [
        "shown", "beside"]
    assert [row["name"] for row in box.json("ls")] == ["good"]
    assert good(box, "echo alive > alive; cat alive", user="1000") == "alive\n"


def misuse(one, deed, hostile, workspaces):
    """What a command says whose guest does this to its devices."""
    hostile(deed)
    command, monitor, machine = starting(one, "--cpus", "2", "--memory", "256m", "shell",
                                         *workspaces)
    await_ends([machine], "a machine outlived what its guest did")
    ended = time.monotonic()
    _, said = command.communicate(timeout=ANSWER_S)
    assert command.returncode == 125
    await_ends([monitor], "sbx-vm outlived its machine")
    print(f"\n{said.splitlines()[-1]} [{time.monotonic() - ended:.1f} s]")
    return said


TALLY = r"devices (\d+), queues (\d+), refused (\d+), used (\d+), ignored (\d+), share (\w+)"


def test_malformed_queues(one, hostile, prey):
    """Of the disk, the balloon and the random numbers: QEMU says no, and what the kernel's drivers
    take over afterwards works."""
    devices, _, refused, used, ignored, share = re.search(
        TALLY, misuse(one, "devices", hostile, prey)).groups()
    assert int(devices) == 3 and share == "well"
    assert int(refused) > 100 and int(used) > 0 and int(ignored) > 0


def test_requests_without_sense(one, hostile, prey):
    """To virtiofsd: opcodes, lengths, ids and names that no kernel would send."""
    _, workspaces, refused, used, ignored, share = re.search(
        TALLY, misuse(one, "requests", hostile, prey)).groups()
    assert int(workspaces) == 2 and share == "well"
    assert int(refused) > 10000 and int(used) > 500 and int(ignored) == 0


@pytest.mark.parametrize("deed", [
    "network", "port",  # QEMU's are not as careful as the others
    "unanswered",       # requests to virtiofsd, to forget more than it remembers
    "loop_of_two", "lengths_of_4_gib", "short_pieces",  # queues of virtiofsd's
])
def test_what_a_guest_breaks_is_its_own(one, hostile, prey, deed):
    """QEMU and virtiofsd end where they find themselves deceived; whether they do is their affair."""
    said = misuse(one, deed, hostile, prey)
    assert re.search(r"(QEMU|virtiofsd) (ended with status|was killed by signal) \d+", said) or (
        re.search(TALLY, said)), said


# ---- root of a good guest ----

def test_root_does_not_get_the_port(box):
    """sbx-guest has it, and the driver gives it to one."""
    ports = good(box, "ls /dev/vport*").split()
    assert ports
    for port in ports:
        said = box("exec", "-u", "0", "good", "--", "sh", "-c", f"exec 3<>{port}",
                   timeout=ANSWER_S).stderr
        assert "busy" in said or "No such device" in said  # the console's is the kernel's own
    good(box, "true", user="1000")


def test_root_floods_the_console(box):
    pids = processes_of(box, "good")
    flood = running(box, "while :; do head -c 65536 /dev/zero | tr '\\0' x > /dev/hvc0;"
                         " echo '<0>flood' > /dev/kmsg; done", user="0", name="good")
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        assert flood.poll() is None
        assert int(status_of(pids["monitor"])["VmRSS"].split()[0]) < 16 * MIB
        time.sleep(0.2)
    assert good(box, "echo alive") == "alive\n"
    flood.send_signal(signal.SIGTERM)
    end_of(flood)
    assert processes_of(box, "good") == pids


def test_root_fills_the_share(box):
    """Many open files, and locks and watches of them: they end where the host's limits are."""
    script = ("import os\n"
              "kept = []\n"
              "try:\n"
              "    for i in range(100000):\n"
              "        kept.append(os.open(f'many{i}', os.O_RDWR | os.O_CREAT))\n"
              "        if i % 20000 == 19999: print(i, flush=True)\n"
              "except OSError as error: print(error.strerror)\n")
    work = box.work
    done = box("exec", "-u", "0", "-w", str(work), "good", "--", "sh", "-c",
               f"ulimit -n 4096; python3 -c \"{script}\"; rm -f many*", timeout=300)
    assert "Too many open files" in done.stdout
    assert good(box, "echo alive") == "alive\n"


def test_pressure_on_memory(box):
    """The balloon and free page reporting: what the guest frees is the host's again."""
    machine = processes_of(box, "good")["machine"]

    def shared():
        text = pathlib.Path(f"/proc/{machine}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) for line in text.splitlines()
                   if line.startswith(("Pss_Shmem:",)))
    good(box, "python3 -c 'b = b\"x\" * (120 << 20)'")
    full = shared()
    wait_for("freed memory stays with the machine", lambda: shared() < full - 40 * MIB, 60)
