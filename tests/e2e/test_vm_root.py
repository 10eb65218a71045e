# SPDX-License-Identifier: Apache-2.0
"""Root of a running machine against what the machine stands on (hostile_root.c): it replaces the
kernel, takes the devices' drivers away, stops sbx-guest, and speaks in its place.  Whatever comes of
it is the machine's own end, which is told, or a machine that stands still and can be stopped."""

import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import pytest
from conftest import need_program, skip_loudly, wait_for
from machine import (ANSWER_S, BOOT_S, await_ends, build_hostile_guest, caller_of_machines,
                     create, end_of, inside, processes_of, running, said_by_supervisor, state_of,
                     tree)

HERE = pathlib.Path(__file__).parent
STOPPED = "sbx: the sandbox stopped while the command was running: "
BROKEN = "the link to the guest ended: the guest broke the protocol of the link"


def cpio_entry(name, data, mode):
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    entry = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    entry += bytes(-len(entry) % 4) + data
    return entry + bytes(-len(entry) % 4)


class Place:
    """What root of the machine has at hand, and what it must not reach."""

    def __init__(self, one):
        self.one = one
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="prey-", dir=one.place))
        self.top.chmod(0o755)
        for name in ("mine", "shown", "tools", "beside"):
            (self.top / name).mkdir()
            (self.top / name / "file").write_text(name, encoding="utf-8")
        self.program = self.top / "tools/root"
        subprocess.run(["gcc", "-O1", "-static", "-o", self.program, HERE / "hostile_root.c"],
                       check=True, timeout=120)
        self.workspaces = [self.top / "mine", f"{self.top / 'shown'}:ro", f"{self.top / 'tools'}:ro"]

    def put_kernel(self, mode):
        """Words for `root kexec`: the machine's own kernel, and its initramfs with another /init."""
        kernel = self.one.json("vm", "kernel")
        if not kernel["modules"]:
            skip_loudly("a guest kernel that has everything built in has no kexec")
        image, initramfs = self.top / "tools/kernel", self.top / f"tools/initramfs-{mode}"
        if not image.exists():
            shutil.copy(kernel["image"], image)
        own = pathlib.Path(kernel["initramfs"]).read_bytes()
        guest = build_hostile_guest(mode, self.top / "tools")
        initramfs.write_bytes(own + bytes(-len(own) % 512) +
                              cpio_entry("init", guest.read_bytes(), 0o100755) +
                              cpio_entry("TRAILER!!!", b"", 0))
        return f"kexec {image} {initramfs}"

    def untouched(self):
        return {name: tree(self.top / name) for name in ("shown", "tools", "beside")}


@pytest.fixture(scope="module")
def place():
    need_program("gcc")
    with caller_of_machines("root") as one:
        one.ok("policy", "init", "deny-all")
        made = Place(one)
        create(one, "--cpus", "1", "--memory", "192m", name="good")
        one("create", "--name", "box", "--cpus", "2", "--memory", "256m", "shell", *made.workspaces,
            code=0, timeout=BOOT_S)
        yield made


@pytest.fixture
def box(place):
    """A running machine; and a neighbour, which notices nothing."""
    one = place.one
    one("start", "box", code=0, timeout=BOOT_S)
    neighbour = processes_of(one, "good")
    yield one
    assert processes_of(one, "good") == neighbour
    assert inside(one, "echo alive > ~/alive; cat ~/alive", name="good") == "alive\n"


class Deed:
    """What root does while another command of the machine waits."""

    def __init__(self, one, place, words):
        self.one = one
        self.pids = processes_of(one)
        self.waiting = running(one, "sleep 600")
        self.doing = subprocess.Popen(
            [*one.command, "exec", "-u", "0", "box", "--", str(place.program), *words.split()],
            env=one.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, cwd="/")

    def end(self):
        """The machine's, which it brought about itself; what is said of it."""
        code, said = end_of(self.waiting)
        self.doing.communicate(timeout=ANSWER_S)
        await_ends(self.pids.values(), "a process of a machine outlived it")
        assert code == 137 and said.startswith(STOPPED) and said.count("\n") == 1, said
        assert state_of(self.one)["status"] == "stopped"
        assert said == f"sbx: {STOPPED[5:]}{state_of(self.one)['ended']}\n"
        print("\n" + said)
        return said.removeprefix(STOPPED)

    def stop(self):
        """A machine that stands still: it is seen to, and ended when it is told to stop."""
        wait_for("nobody noticed", lambda: state_of(self.one)["status"] == "not responding", ANSWER_S)
        assert self.waiting.poll() is None
        began = time.monotonic()
        self.one("stop", "box", code=0, timeout=ANSWER_S)
        print(f"\nstopped in {time.monotonic() - began:.1f} s")
        assert end_of(self.waiting)[0] == 137
        self.doing.communicate(timeout=ANSWER_S)
        await_ends(self.pids.values(), "a process of a stopped machine lives")
        assert said_by_supervisor(self.one).endswith(
            "did not stop when it was told to, and was killed\n")


# ---- with the machine's own kernel ----

def test_what_root_finds_of_the_host(box, place):
    """No socket of virtual machines leads out, and the firmware tells nothing of who started it."""
    said = inside(box, f"modprobe vmw_vsock_virtio_transport; modprobe vsock_loopback; {place.program} vsock",
                  user="0")
    assert re.search(r"^tried \d+$", said) and "ANSWER" not in said
    told = inside(box, "modprobe qemu_fw_cfg; cat /sys/firmware/qemu_fw_cfg/by_name/*/raw"
                  " /sys/firmware/qemu_fw_cfg/by_name/etc/*/raw /proc/cmdline | tr -c '[:print:]' '\\n'",
                  user="0", timeout=300)
    assert "sbx.guest" in told
    for secret in (str(box.place), str(box.home), "box", "/proc/self/fd"):
        assert secret not in told, secret


@pytest.mark.parametrize("deed,reason", [
    ("off", "the guest ended itself"),
    ("restart", "the guest ended itself"),
    ("port", BROKEN),
])
def test_an_end_that_sbx_guest_does_not_know_of(box, place, deed, reason):
    assert Deed(box, place, deed).end().startswith(reason)


@pytest.mark.parametrize("deed", ["halt", "hold"])
def test_a_machine_that_stands_still(box, place, deed):
    Deed(box, place, deed).stop()


def test_sbx_init_stands_still(box, place):
    """Its commands go on; none begins until it goes on, and the machine can be stopped."""
    pids = processes_of(box)
    holding = running(box, f"exec {place.program} hold-init", user="0")
    assert holding.stdout.readline() == "held\n"
    late = subprocess.Popen([*box.command, "exec", "box", "--", "echo", "late"], env=box.env,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, cwd="/")
    assert state_of(box)["status"] == "running"
    time.sleep(3)
    assert late.poll() is None
    box("stop", "box", code=0, timeout=ANSWER_S)
    assert end_of(holding)[0] in (137, 143)
    late.communicate(timeout=ANSWER_S)
    assert late.returncode != 0
    await_ends(pids.values(), "a process of a stopped machine lives")


def test_lies_in_sbx_inits_name(box, place):
    """They are heard by a supervisor that believes nothing of them; or that is the end of it."""
    pids = processes_of(box)
    waiting = running(box, "sleep 600")
    done = box("exec", "-u", "0", "box", "--", place.program, "orders", timeout=ANSWER_S)
    if "sent" in done.stdout:
        assert inside(box, "echo alive") == "alive\n"
        assert waiting.poll() is None and processes_of(box) == pids
    assert "a lie of the guest's" not in done.stderr + said_by_supervisor(box)
    box("stop", "box", code=0, timeout=ANSWER_S)
    end_of(waiting)
    await_ends(pids.values(), "a process of a stopped machine lives")


UNBIND = ("for device in /sys/bus/virtio/drivers/{}/virtio*; do"
          " echo ${{device##*/}} > ${{device%/*}}/../{}/unbind; done")


def test_devices_lose_their_drivers(box, place):
    """All that the sandbox's root, home and exit are made of; it has what is left."""
    pids = processes_of(box)
    drivers = ("virtio_balloon", "virtio_rng", "virtio_net", "virtiofs", "virtio_blk")
    script = "; ".join(f"({UNBIND.format(driver, driver)}) &" for driver in drivers).replace("&;", "&")
    box("exec", "-u", "0", "box", "--", "sh", "-c", f"{script} wait", timeout=ANSWER_S)
    assert processes_of(box) == pids and state_of(box)["status"] == "running"
    box("stop", "box", code=0, timeout=ANSWER_S)
    await_ends(pids.values(), "a process of a stopped machine lives")


def test_the_link_loses_its_driver(box, place):
    pids = processes_of(box)
    waiting = running(box, "sleep 600")
    driver = "virtio_console"
    box("exec", "-u", "0", "box", "--", "sh", "-c", UNBIND.format(driver, driver), timeout=ANSWER_S)
    code, said = end_of(waiting)
    assert code == 137 and said.startswith(STOPPED + "the guest ended itself"), said
    await_ends(pids.values(), "a process of a machine outlived it")


def test_all_ports_of_the_machine(box, place):
    """A clock and an interrupt controller that were written to may leave no machine to speak of."""
    pids = processes_of(box)
    waiting = running(box, "sleep 600")
    deed = subprocess.Popen([*box.command, "exec", "-u", "0", "box", "--", place.program, "ports"],
                            env=box.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, cwd="/")
    wait_for("nothing came of it", lambda: deed.poll() is not None or waiting.poll() is not None or
             state_of(box)["status"] == "not responding", ANSWER_S)
    if waiting.poll() is None:
        box("stop", "box", code=0, timeout=ANSWER_S)
    code, said = end_of(waiting)
    assert code in (137, 143), said
    deed.communicate(timeout=ANSWER_S)
    await_ends(pids.values(), "a process of a stopped machine lives")


# ---- with a kernel of its own ----

@pytest.mark.parametrize("mode", ["garbage", "greeting"])
def test_another_kernel_breaks_the_protocol(box, place, mode):
    assert Deed(box, place, place.put_kernel(mode)).end().startswith(BROKEN)


def test_another_kernel_is_silent(box, place):
    Deed(box, place, place.put_kernel("silence")).stop()


def test_another_kernel_changes_what_the_host_shows_it(box, place):
    words = place.put_kernel("share")
    before = place.untouched()
    assert Deed(box, place, words).end().startswith(BROKEN)
    assert place.untouched() == before
    assert (place.top / "shown/file").read_text("utf-8") == "shown"
    planted = {path.name: path.lstat().st_mode for path in (place.top / "mine").glob("planted*")}
    assert "planted" in planted and "planted.device" not in planted
    template = next(path for path in (box.home / "state/templates").iterdir() if path.is_dir())
    for top in (pathlib.Path("/usr/bin"), pathlib.Path("/var/lib/dpkg"), template, template / "etc"):
        assert not list(top.glob("planted*")), top


@pytest.mark.parametrize("mode", ["devices", "requests", "port"])
def test_another_kernel_misuses_the_devices(box, place, mode):
    """After the drivers of the first one, in whatever state these left them."""
    words = place.put_kernel(mode)
    before = place.untouched()
    said = Deed(box, place, words).end()
    assert said.startswith((BROKEN, "the guest ended itself", "the guest's kernel stopped: ")) or (
        re.match(r"(QEMU|virtiofsd) (ended with status|was killed by signal) \d+", said)), said
    assert place.untouched() == before
    # Its disk was written by somebody who does not know what it is for.
    box("rm", "--force", "box", code=0, timeout=ANSWER_S)
    box("create", "--name", "box", "--cpus", "2", "--memory", "256m", "shell", *place.workspaces,
        code=0, timeout=BOOT_S)
