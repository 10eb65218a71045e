# SPDX-License-Identifier: Apache-2.0
"""What a program inside may ask of the kernel: /proc, descriptors, system calls, sockets, set-id
programs and devices.  probe.c makes the attempts; here is what must come of each."""

import contextlib
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import sys
import tempfile

import pytest
from conftest import make_caller, need_program, need_root, skip_loudly, supervisor_of, wait_for
from machine import children, comm

HERE = pathlib.Path(__file__).parent

pytestmark = pytest.mark.ns_only("root of a machine may ask its own kernel for anything; test_vm.py "
                                 "has what holds the host's side")


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    need_program("gcc")
    program = tmp_path_factory.mktemp("probe") / "probe"
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-O1", "-o", program, HERE / "probe.c"], check=True)
    return program


def users(box):
    return ("1000",) if box.mode == "single" else ("1000", "0")


def outcomes(box, probe, user):
    shutil.copy(probe, box.work / "probe")
    lines = box("exec", "-u", user, "box", "--", f"{box.work}/probe", code=0, timeout=120).stdout
    return dict(line.split() for line in lines.splitlines())


# All others fail with EPERM, for agent as for root inside.
EXPECTED = {
    "root_of_1": "EACCES", "cwd_of_1": "EACCES", "exe_of_1": "EACCES", "mem_of_1": "EACCES",
    "descriptors_of_1": "EACCES", "environ_of_1": "EACCES", "namespace_of_1": "EACCES",
    "map_ids_of_1": "EACCES EPERM",
    "leave_by_chroot": "EPERM CONTAINED",
    "raise_priority": "EACCES", "ping4": "EACCES", "ping6": "EACCES",
    # clone3 and what is unknown do not exist, so that libraries fall back; nor do these families.
    "clone_user": "ENOSYS", "clone3_user": "ENOSYS", "unknown_call": "ENOSYS",
    "packet": "ENOSYS", "vsock": "ENOSYS", "crypto": "ENOSYS", "bluetooth": "ENOSYS",
    "xdp": "ENOSYS", "key_management": "ENOSYS", "can_bus": "ENOSYS", "pair_of_tipc": "ENOSYS",
    "pair_of_vsock": "ENOSYS",
    # The filter knows the numbers of one architecture; calls by another's end the process.
    "x32_call": "SYS", "i386_call": "SYS",
}


def test_what_must_not_work(box, probe):
    for user in users(box):
        seen = outcomes(box, probe, user)
        assert len(seen) > 70
        wrong = {name: outcome for name, outcome in seen.items()
                 if outcome not in EXPECTED.get(name, "EPERM").split()}
        assert wrong == {}, f"as user {user}"


def test_the_probe_can_tell(probe):
    """The same attempts outside, as root: some of them work there, so the probe is no dummy."""
    need_root()
    done = subprocess.run(["unshare", "-mnpfu", probe], capture_output=True, text=True, check=True,
                          timeout=120)
    outside = dict(line.split() for line in done.stdout.splitlines())
    for name in ("unshare_mount", "mount_tmpfs", "mount_bind", "packet", "raw4", "new_key",
                 "make_memory", "rename_host", "loopback_down", "begin_batch"):
        assert outside[name] not in ("EPERM", "ENOSYS", "EACCES"), f"{name}: {outside[name]}"


CAPABILITIES = ("cap_chown", "cap_dac_override", "cap_fowner", "cap_fsetid", "cap_kill",
                "cap_setgid", "cap_setuid", "cap_setpcap", "cap_net_bind_service", "cap_sys_chroot",
                "cap_mknod", "cap_audit_write", "cap_setfcap")
NUMBERS = (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31)


def test_capabilities(box):
    kept = sum(1 << number for number in NUMBERS)
    assert len(NUMBERS) == len(CAPABILITIES)
    for user in users(box):
        status = dict(line.split(":", 1) for line in
                      box.inside("cat /proc/self/status", user=user).stdout.splitlines())
        powers = {name: int(status[name], 16) for name in
                  ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        mine = kept if user == "0" else 0
        assert powers == {"CapInh": 0, "CapPrm": mine, "CapEff": mine, "CapBnd": kept, "CapAmb": 0}
        assert status["Seccomp"].strip() == "2"


def test_process_1_and_sbx_init_have_no_power(box):
    status = dict(line.split(":", 1) for line in
                  box.inside("cat /proc/1/status").stdout.splitlines())
    assert status["Name"].strip() == "sbx-init" and status["Seccomp"].strip() == "2"
    assert int(status["CapBnd"], 16) == sum(1 << number for number in NUMBERS)


# ---- descriptors ----

def init_of(box, name="box"):
    """The host's pid of the sandbox's process 1."""
    return next(pid for pid in children(supervisor_of(box.home, name)) if comm(pid) == "sbx-init")


def descriptors(pid):
    return {int(path.name): os.readlink(path) for path in pathlib.Path(f"/proc/{pid}/fd").iterdir()}


def shape(target):
    return target.split("[")[0] if target.endswith("]") and "anon_inode" not in target else target


def test_descriptors_of_process_1(box):
    pid = init_of(box)
    assert {number: shape(descriptors(pid)[number]) for number in range(4)} == {
        0: "/dev/null", 1: "/dev/null", 2: "/dev/null", 3: "socket:"}
    # A command before may still be about to end.
    wait_for("it holds more than it should", lambda: {
        shape(target) for number, target in descriptors(pid).items() if number > 3} <= {
            "anon_inode:[eventpoll]", "anon_inode:[signalfd]"})
    before = descriptors(pid)
    box.inside("true")
    box("exec", "box", "no-such-command", code=127)
    box.ok("exec", "-d", "box", "true")
    box("exec", "-i", "box", "cat", input="x" * 100000, code=0)
    # The last one, detached, may still be about to end.
    wait_for("a session left a descriptor", lambda: descriptors(pid) == before)


def test_descriptors_of_commands(box):
    listing = "for fd in /proc/$$/fd/*; do readlink $fd || true; done"
    for user in users(box):
        for words in (("exec",), ("exec", "-i")):
            seen = box(*words, "-u", user, "box", "--", "bash", "-c", listing, code=0).stdout
            assert {shape(target) for target in seen.split()} <= {"pipe:", "/dev/null"}, seen
    # A detached one, looked at by everyone who can: by the host, and by root inside.
    box.ok("exec", "-d", "box", "sleep", "300")
    try:
        sleeper = next(pid for pid in children(init_of(box)) if comm(pid) == "sleep")
        # While it begins, it reads its locale.
        wait_for("a descriptor too many", lambda: descriptors(sleeper) ==
                 dict.fromkeys(range(3), "/dev/null"))
    finally:
        box.inside("pkill sleep || true")
    if box.mode != "single":
        seen = box.inside("for fd in /proc/[0-9]*/fd/*; do readlink $fd || true; done",
                          user="0").stdout
        assert {shape(target) for target in seen.split()} <= {"pipe:", "/dev/null", ""}, seen


# ---- /proc and /sys ----

def test_nothing_of_proc_can_be_written(box):
    script = ("import os\n"
              "for top, _, names in os.walk('/proc/sys'):\n"
              "    for name in names:\n"
              "        try: os.close(os.open(f'{top}/{name}', os.O_WRONLY))\n"
              "        except OSError: pass\n"
              "        else: print(f'{top}/{name}')\n"
              "for name in ('sysrq-trigger', 'kcore', 'kmsg', 'bus', 'irq', 'fs', 'acpi', 'scsi',\n"
              "             'kpagecount', 'kpageflags', 'vmallocinfo', 'slabinfo', 'mtrr'):\n"
              "    for top, _, names in os.walk(f'/proc/{name}'):\n"
              "        for below in names:\n"
              "            if os.access(f'{top}/{below}', os.W_OK): print(f'{top}/{below}')\n"
              "    try: fd = os.open(f'/proc/{name}', os.O_RDWR)\n"
              "    except OSError: continue\n"
              "    if os.read(fd, 1): print(f'/proc/{name}')\n")
    for user in users(box):
        seen = box("exec", "-u", user, "box", "--", "/usr/bin/python3", "-c", script, code=0).stdout
        assert seen == "", f"user {user} can write these"


def test_proc_shows_nothing_of_the_hosts_memory_and_keys(box):
    for user in users(box):
        assert box.inside("cat /proc/keys /proc/timer_list; head -c 1 /proc/kcore 2>/dev/null; true",
                          user=user).stdout == ""
        assert box("exec", "-u", user, "box", "--", "head", "-c1", "/proc/kmsg").returncode != 0
        lines = box.inside("cat /proc/kallsyms 2>/dev/null | head -1", user=user).stdout.split()
        assert not lines or int(lines[0], 16) == 0, "addresses of the kernel"


def test_sys_is_empty(box):
    assert box.inside("ls -A /sys").stdout == ""


# ---- set-id programs, capabilities of files and devices ----

# With a single id there is no root inside to plant them.
@pytest.mark.parametrize("box", ("root", "range"), indirect=True)
def test_set_id_programs_of_the_workspace_give_nothing(box, probe):
    shutil.copy(probe, box.work / "probe")
    plant = "cp probe {0} && chown 0:0 {0} && chmod 6755 {0}"
    box.inside(f"{plant.format('planted')} && {plant.format('/usr/local/bin/planted')}", user="0")
    try:
        assert box.inside("./planted caps").stdout == "1000 0\n"
        # The same file where set-id counts: the test would notice.
        assert box.inside("/usr/local/bin/planted caps").stdout.startswith("0 ")
    finally:
        box.inside("rm planted /usr/local/bin/planted", user="0")


@pytest.mark.parametrize("box", ("root", "range"), indirect=True)
def test_capabilities_of_files_in_the_workspace_give_nothing(box, probe):
    shutil.copy(probe, box.work / "probe")
    # VFS_CAP_REVISION_2, effective, permitted: cap_chown.
    give = ("import os, struct, sys; os.setxattr(sys.argv[1], 'security.capability',"
            " struct.pack('<IIIII', 0x02000001, 1, 0, 0, 0))")
    seen = {}
    for path in (f"{box.work}/planted", "/usr/local/bin/planted"):
        box.inside(f"cp probe {path}", user="0")
        box.ok("exec", "-u", "0", "box", "--", "/usr/bin/python3", "-c", give, path)
        seen[path] = box.inside(f"{path} caps").stdout
        box.inside(f"rm -f {path}", user="0")
    # Where they count, the capability is there: bit 0.
    assert seen == {f"{box.work}/planted": "1000 0\n", "/usr/local/bin/planted": "1000 1\n"}


def test_devices_of_the_workspace_cannot_be_opened(box):
    need_root()
    node = box.work / "zero"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    try:
        box.own(node)
        for user in users(box):
            done = box("exec", "-u", user, "box", "--", "head", "-c1", node)
            assert done.returncode != 0 and "Permission denied" in done.stderr
    finally:
        node.unlink()


# ---- the network but for the proxy ----

def test_no_datagram_reaches_the_host(box):
    addresses = ["127.0.0.1", "198.18.0.1"]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect(("203.0.113.1", 9))  # sends nothing: tells the host's own address
        addresses.append(route.getsockname()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 0))
        server.setblocking(False)
        port = server.getsockname()[1]
        send = ("import socket, sys\n"
                "for address in sys.argv[2:]:\n"
                "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
                "        try: s.sendto(b'x', (address, int(sys.argv[1])))\n"
                "        except OSError: pass\n")
        for user in users(box):
            box("exec", "-u", user, "box", "--", "/usr/bin/python3", "-c", send, port, *addresses,
                code=0)
        # Datagrams within a machine are delivered by the call that sends them.
        with pytest.raises(BlockingIOError):
            server.recv(1)
        subprocess.run([sys.executable, "-c", send, str(port), "127.0.0.1"], check=True)
        assert server.recv(1) == b"x", "and this one would have been seen"


def test_only_loopback_and_no_address_of_the_host(box):
    assert box.inside("ls /proc/sys/net/ipv4/conf").stdout.split() == ["all", "default", "lo"]
    need_program("ip")
    hosts = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    if hosts.count("\n") < 2:
        skip_loudly("this machine has no network device to hide")
    assert len(box.inside("cat /proc/net/dev").stdout.splitlines()) == 3


# ---- crashes ----

@contextlib.contextmanager
def crash_handler(program):
    """The host has crashes handled by a program, and waits for it (core_pipe_limit)."""
    settings = {"core_pattern": f"|{program} %h", "core_pipe_limit": "64"}
    files = {name: pathlib.Path("/proc/sys/kernel", name) for name in settings}
    before = {name: files[name].read_text("utf-8") for name in settings}
    try:
        for name, value in settings.items():
            try:
                files[name].write_text(value, "utf-8")
            except OSError:
                skip_loudly(f"kernel.{name} cannot be set here")
        yield
    finally:
        for name, value in before.items():
            files[name].write_text(value, "utf-8")


def test_a_crash_starts_no_program_of_the_host():
    """Others may crash meanwhile: the sandbox's crashes would be known by its name."""
    need_root()
    with tempfile.TemporaryDirectory(prefix="sbx-h-") as place, make_caller("root") as one:
        handler, dumped = pathlib.Path(place, "h"), pathlib.Path(place, "dumped")
        handler.write_text(f"#!/bin/sh\ncat > /dev/null\necho $1 >> {dumped}\n", "utf-8")
        handler.chmod(0o755)
        name = f"crash-{os.getpid()}"
        with crash_handler(handler):
            one.ok("create", "--name", name, "shell", one.work)
            one.inside("ulimit -S -c unlimited 2>/dev/null; kill -SEGV $$", code=128 + 11, name=name)
            one.inside("kill -SEGV $$", code=128 + 11, user="0", name=name)
            subprocess.run(["sh", "-c", "kill -SEGV $$"], check=False)
            hosts = dumped.read_text("utf-8").split()
            assert socket.gethostname() in hosts and name not in hosts
        # Without such a program a dump is a file inside, for those who want one.
        one.ok("stop", name)
        one.inside("ulimit -H -c | grep -v '^[01]$'", name=name)
