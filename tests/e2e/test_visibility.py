# SPDX-License-Identifier: Apache-2.0
"""What of the host a sandbox sees: nothing but /usr, a few files of /etc, and the workspace.

Canaries with one mark are planted all over the host, readable by everyone, so that only their
absence inside can hide them; then all that can be reached inside is searched for the mark."""

import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import socket
import subprocess
import uuid

import pytest
from conftest import ISOLATION, NAME_SERVER, need_program, need_root

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n{mark}\n-----END OPENSSH PRIVATE KEY-----\n"
HERE = pathlib.Path(__file__).parent


class Canaries:
    """Things of the host that have `mark` in their name or content."""

    def __init__(self, stack):
        self.mark = f"sbxcanary{uuid.uuid4().hex[:12]}"
        self.stack = stack
        self.listeners = []

    def file(self, path, text):
        path = pathlib.Path(path)
        made = next((p for p in reversed(path.parents) if not p.exists()), None)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists()
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        self.stack.callback(shutil.rmtree, made) if made else self.stack.callback(path.unlink)
        return path

    def unix_socket(self, address):
        listener = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(address)
        listener.listen()
        if not address.startswith("\0"):
            os.chmod(address, 0o777)
            self.stack.callback(os.unlink, address)
        return address

    def ipc(self):
        """A shared memory segment, semaphores, a message queue of each of the two kinds."""
        for flag, word in (("-M", "4096"), ("-S", "1"), ("-Q", None)):
            words = ["ipcmk", flag, *([word] if word else []), "-p", "0666"]
            made = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            number = made.split()[-1]
            self.stack.callback(subprocess.run, ["ipcrm", flag.lower(), number], check=True)
        libc = ctypes.CDLL(None, use_errno=True)
        name = f"/{self.mark}".encode()
        descriptor = libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o666, None)
        assert descriptor >= 0, os.strerror(ctypes.get_errno())
        self.stack.callback(libc.mq_unlink, name)
        self.stack.callback(os.close, descriptor)


@pytest.fixture(scope="module")
def canaries():
    need_root()
    need_program("ipcmk")
    with contextlib.ExitStack() as stack:
        one = Canaries(stack)
        key = KEY.format(mark=one.mark)
        one.file(f"/root/{one.mark}/id_ed25519", key)
        one.file(f"/home/{one.mark}/.ssh/id_ed25519", key)
        for path in ("/etc/ssl/private/{}.key", "/etc/ssh/ssh_host_{}_key", "/etc/{}",
                     "/etc/apt/auth.conf.d/{}.conf", "/etc/cron.d/{}", "/tmp/{}/x", "/var/tmp/{}",
                     "/var/lib/{}/x", "/var/log/{}.log", "/opt/{}/x", "/srv/{}", "/mnt/{}/x",
                     "/media/{}/x", "/run/{}.pid", "/dev/shm/{}", "/{}"):
            one.file(path.format(one.mark), key)
        one.unix_socket(f"/run/{one.mark}.sock")
        one.unix_socket(f"/var/tmp/{one.mark}.sock")
        one.abstract = one.unix_socket(f"\0{one.mark}")
        one.ipc()
        yield one


def users(box):
    return ("1000",) if box.mode == "single" else ("1000", "0")


def walk(box, user, *marks):
    """On a machine without what is the same in a namespace (hundreds of thousands of files of /usr),
    and without what its own kernel shows."""
    shutil.copy(HERE / "walk.py", box.work)
    words = (*marks, "-/usr", "-/sys") if ISOLATION == "vm" else marks
    return json.loads(box.inside(f"/usr/bin/python3 walk.py {' '.join(words)}", user=user,
                                 timeout=120).stdout)


DEVICES = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}


def test_a_walk_of_everything(box, canaries):
    # A user's own name is no secret of the host, but there is no reason to tell it.  (With a single
    # id the test's user is a system user, and those are known inside.)
    marks = [canaries.mark] + ([box.entry.pw_name] if box.mode == "range" else [])
    for user in users(box):
        seen = walk(box, user, *marks)
        assert seen["files"] > (500 if ISOLATION == "vm" else 1000)
        assert seen["marked"] == []
        assert seen["socket"] == [] and seen["fifo"] == []
        # A machine has devices of its own, and one disk.
        assert seen["block"] == (["/dev/vda"] if ISOLATION == "vm" else [])
        devices = {path for path in seen["char"] if not path.startswith("/dev/pts/")}
        assert devices >= DEVICES if ISOLATION == "vm" else devices == DEVICES
        if user == "0":
            # An ordinary user's /usr is the host's, with what only real root may read.
            kept_out = [path for path in seen["denied"] if not path.startswith("/usr/")]
            assert (seen["denied"] if box.mode == "root" else kept_out) == []


def test_the_walk_finds_what_is_there(box, canaries):
    """The searching itself: in the workspace it must find all of this."""
    try:
        (box.work / "deep").mkdir()
        (box.work / "deep" / "content").write_text(f"x {canaries.mark} y", encoding="utf-8")
        (box.work / "deep" / f"name-{canaries.mark}").touch()
        (box.work / "deep" / "link").symlink_to(f"/nowhere/{canaries.mark}")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(box.work / "deep" / "sock"))
            seen = walk(box, "1000", canaries.mark)
        found = {pathlib.Path(path).name for path in seen["marked"]}
        assert found == {"content: content", f"name-{canaries.mark}", "link"}
        assert seen["socket"] == [str(box.work / "deep" / "sock")]
    finally:
        shutil.rmtree(box.work / "deep")


def test_homes(box):
    assert box.inside("ls /home").stdout == "agent\n"
    assert box.inside("ls -A ~").stdout.split() == [".bashrc", ".local", ".profile"]
    if box.mode != "single":
        assert box.inside("ls -A /root", user="0").stdout == ""


def test_files_that_hold_keys_are_not_there(box):
    for path in ("/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/ssl/private", "/etc/apt/auth.conf",
                 "/etc/apt/auth.conf.d", "/etc/sudoers.d", "/etc/environment", "/etc/gitconfig",
                 "/etc/machine-id", "/etc/fstab", "/etc/crontab", "/var/lib/sbx", "/boot"):
        box.inside(f"test ! -e {path}")


def test_sockets_queues_and_shared_memory_of_the_host(box, canaries):
    script = ("import socket, sys\nfor address in sys.argv[1:]:\n"
              "    try: socket.socket(socket.AF_UNIX).connect(address.replace('@', '\\0', 1))\n"
              "    except OSError as e: print(type(e).__name__)\n    else: print('connected')\n")
    for user in users(box):
        done = box("exec", "-u", user, "box", "--", "/usr/bin/python3", "-c", script,
                   f"@{canaries.mark}", f"/run/{canaries.mark}.sock", f"/var/tmp/{canaries.mark}.sock",
                   code=0)
        assert done.stdout.split() == ["ConnectionRefusedError"] + ["FileNotFoundError"] * 2
        assert box.inside("cat /proc/net/unix | grep -c sbxcanary", user=user, code=1).stdout == "0\n"
        lines = box.inside("cat /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg", user=user)
        assert len(lines.stdout.splitlines()) == 3, "more than the three headings"
        assert box.inside("ls -A /dev/mqueue /dev/shm", user=user).stdout == "/dev/mqueue:\n\n/dev/shm:\n"
    # The same look from outside, so that the emptiness inside means something.
    outside = sum(len(pathlib.Path(f"/proc/sysvipc/{kind}").read_text("utf-8").splitlines()) > 1
                  for kind in ("shm", "sem", "msg"))
    assert outside == 3


MOUNTS = {
    "/": "overlay", "/usr": "overlay", "/var/lib/dpkg": "overlay", "/dev": "tmpfs",
    "/dev/pts": "devpts", "/dev/shm": "tmpfs", "/dev/mqueue": "mqueue", "/proc": "proc",
    "/proc/sys": "proc", "/run": "tmpfs", "/run/secrets": "tmpfs",
}
if ISOLATION == "vm":
    del MOUNTS["/proc/sys"]
    MOUNTS |= {"/dev": "devtmpfs", "/sys": "sysfs", "/sys/fs/cgroup": "cgroup2",
               "/var/lib/docker": "ext4", "/var/lib/containerd": "ext4"}


def test_mounts_tell_no_host_path(box):
    """Of a mount from the host, mountinfo tells the path within its file system: for the workspace
    that is what it is, for /usr it is no secret; the rest is the sandbox's own."""
    expected = dict(MOUNTS)
    if box.mode != "root":
        expected["/usr/local"] = "ext4" if ISOLATION == "vm" else "overlay"
        del expected["/usr"], expected["/var/lib/dpkg"]
    text = box.inside("cat /proc/self/mountinfo").stdout
    assert str(box.home) not in text and "sandboxes/box" not in text and "templates" not in text
    seen = {}
    for line in text.splitlines():
        fields = line.split()
        root, point, kind = fields[3], fields[4], fields[fields.index("-") + 1]
        if point == str(box.work):
            assert str(box.work).endswith(root) or root == "/"
        elif point.startswith("/dev/") and root == f"/{pathlib.Path(point).name}":
            assert point in DEVICES
        elif root == "/null":
            assert point.startswith("/proc/")
        elif box.mode != "root" and point in ("/usr", "/var/lib/dpkg"):
            assert root.endswith(point) or root == "/"
        elif point.startswith("/usr/") and box.mode != "root" and point != "/usr/local":
            pass  # what the host has mounted below its own /usr
        else:
            assert root in ("/", "/sys") or kind == "ext4", line
            seen[point] = kind
    assert seen == expected
    assert box.inside("cat /proc/mounts /etc/mtab 2>/dev/null | grep -c templates", code=1)


def test_names_and_accounts_are_made_for_it(box, canaries):
    assert box.inside("hostname; cat /etc/hostname; uname -n").stdout == "box\n" * 3
    assert box.inside("cat /etc/resolv.conf").stdout == f"nameserver {NAME_SERVER}\n"
    hosts = box.inside("cat /etc/hosts").stdout
    assert hosts == "127.0.0.1 localhost box\n::1 localhost ip6-localhost\n"
    assert socket.gethostname() not in hosts.split()
    people = [line.split(":") for line in box.inside("getent passwd").stdout.splitlines()]
    assert [p[0] for p in people if 1000 <= int(p[2]) < 65534] == ["agent"]
    assert not [p for p in people if p[1] not in ("x", "*")], "a password"
    groups = [line.split(":") for line in box.inside("getent group").stdout.splitlines()]
    assert [g[0] for g in groups if 1000 <= int(g[2]) < 65534] == ["agent"]
    assert not [g for g in groups if g[3]], "members"
    assert box.inside("id").stdout.startswith("uid=1000(agent) gid=1000(agent)")


def test_environment_of_the_host_stays_outside(box, canaries):
    done = box("exec", "box", "env", env={"SOME_TOKEN": canaries.mark, "SSH_AUTH_SOCK": canaries.mark},
               code=0)
    assert canaries.mark not in done.stdout and "SSH_AUTH_SOCK" not in done.stdout
    for user in users(box):
        box.inside(f"! cat /proc/[0-9]*/environ 2>/dev/null | grep {canaries.mark}", user=user)


def test_no_process_of_the_host(box):
    for user in users(box):
        names = box.inside("cat /proc/[0-9]*/comm", user=user).stdout.split()
        assert set(names) <= {"sbx-init", "sh", "cat"}
        assert names.count("sbx-init") == 1


def test_groups_of_the_caller_are_given_up(box):
    """Where the kernel lets us: with a single id there is no setgroups(2), so the caller's groups
    stay, which open nothing here that they do not open outside."""
    groups = box.inside("cat /proc/self/status | grep ^Groups:").stdout.split()[1:]
    assert groups in ([], ["1000"]) or box.mode == "single"
