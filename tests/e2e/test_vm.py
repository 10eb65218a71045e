# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: a kernel of their own, the same workspace, one exit, and a host side that holds
against a guest whose root does what it likes.

One machine, "box", serves all tests that leave no trace; those of ends have one of their own, which
each starts anew."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import time

import pytest
from conftest import need_program, wait_for
from machine import (ANSWER_S, BOOT_S, caller_of_machines, end_of, inside, processes_of, running,
                     state_of, status_of)

HERE = pathlib.Path(__file__).parent
MIB = 1 << 20
MEMORY_MIB = 512
PIDS = 200
SECRET = "the host's own file\n"


@pytest.fixture(scope="module")
def box():
    """A machine with the workspace `work`, in it `work/inner` read-only as one of its own, and
    `extra`, read-only."""
    with caller_of_machines("root") as one:
        one.extra, one.outside = one.place / "extra", one.place / "outside"
        for directory in (one.work / "inner", one.extra, one.outside):
            directory.mkdir()
            (directory / "file").write_text(f"{directory.name}\n", encoding="utf-8")
        (one.outside / "secret").write_text(SECRET, encoding="utf-8")
        one.ok("policy", "init", "deny-all")
        one("create", "--name", "box", "--cpus", "2", "--memory", f"{MEMORY_MIB}m", "--pids",
            str(PIDS), "shell", one.work, f"{one.work}/inner:ro", f"{one.extra}:ro", code=0,
            timeout=BOOT_S)
        yield one


# ---- what a machine is ----

def test_its_own_kernel(box):
    boot_id = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text("utf-8")
    assert inside(box, "cat /proc/sys/kernel/random/boot_id") != boot_id
    assert inside(box, "uname -n; sudo -n id -u") == "box\n0\n"
    # Root there has all of it: its kernel is nobody else's.
    assert "CapEff:\t000001ffffffffff" in inside(box, "cat /proc/self/status", user="0")
    assert inside(box, "mount -t tmpfs t /mnt && findmnt -no FSTYPE /mnt; umount /mnt",
                  user="0") == "tmpfs\n"


def test_it_says_what_it_is(box):
    assert state_of(box)["isolation"] == "vm" and state_of(box)["status"] == "running"


def test_size_is_as_asked(box):
    assert inside(box, "nproc") == "2\n"
    total = int(re.search(r"MemTotal: +(\d+)", inside(box, "cat /proc/meminfo"))[1])
    assert MEMORY_MIB * 0.8 < total / 1024 <= MEMORY_MIB


# ---- files ----

def test_its_clock_is_the_hosts(box):
    """It was told the time after its boot, and counts no interrupts, which a busy host loses."""
    source = inside(box, "cat /sys/devices/system/clocksource/clocksource0/current_clocksource")
    assert source in ("tsc\n", "kvm-clock\n")
    before = time.time()
    said = float(inside(box, "date +%s.%N"))
    assert before - 1 < said < time.time() + 0.1


def test_what_programs_do_with_files(box):
    shutil.copy(HERE / "guest_files.py", box.work)
    data = b"from the host" * (1 << 20)
    (box.work / "large_from_host").write_bytes(data)
    seen = json.loads(inside(box, f"python3 guest_files.py {box.work}", timeout=300))
    top = box.work / "files"
    large = hashlib.sha256((top / "large").read_bytes()).hexdigest()
    expected = {
        "mmap": "0123456789", "flock": [True, False], "fcntl": [True, False],
        "rename": ["one", False], "rename_directory": ["x"], "hard_link": [True, 2],
        "symlink": "linked", "names": True, "sparse": [1 << 30, True], "modes": "0o640",
        "times": 1_100_000_000_987_654_321, "xattr": [["user.sbx"], b"\0value".hex()],
        "append": "abcd", "unlinked_but_open": "after!", "fifo_and_socket": "through",
        "inotify": [[0x100, "watched"], [0x8, "watched"], [0x200, "watched"]],
        "large": large, "large_from_host": hashlib.sha256(data).hexdigest(),
    }
    assert seen == expected
    # The same, as the host has it.
    assert (top / "mapped").read_bytes()[4090:4100] == b"0123456789"
    assert (top / "sparse").stat().st_blocks * 512 < MIB
    assert stat.S_IMODE((top / "mode").stat().st_mode) == 0o640
    assert os.getxattr(top / "xattr", "user.sbx") == b"\0value"
    assert (top / "times").stat().st_mtime_ns == 1_100_000_000_987_654_321
    assert b"\xff\xfe" in os.listdir(os.fsencode(top / "names"))
    assert os.readlink(top / "link") == "first"
    assert (top / "first").stat().st_ino == (top / "second").stat().st_ino


def test_changes_of_the_host_are_seen(box):
    """Without being told, a second later at most (virtiofs keeps what it has seen for that long)."""
    (box.work / "seen").write_text("one", encoding="utf-8")
    assert inside(box, "cat seen") == "one"
    (box.work / "seen").write_text("two, longer", encoding="utf-8")
    (box.work / "new").mkdir()
    wait_for("a change of the host's does not get through",
             lambda: inside(box, "cat seen; ls") .startswith("two, longer") and
             "new\n" in inside(box, "ls"))


def test_owners(box):
    mine = os.stat(box.work)
    inside(box, "mkdir -p owned && touch owned/agents")
    inside(box, "touch owned/roots && mkdir owned/dir && chown 1234:4321 owned/dir", user="0")
    assert inside(box, "stat -c %u:%g . owned/agents owned/roots owned/dir").split() == [
        "1000:1000", "1000:1000", "0:0", "1234:4321"]
    owned = box.work / "owned"
    assert (owned / "agents").stat().st_uid == mine.st_uid
    base = int(status_of(processes_of(box)["share"])["Uid"].split()[0])
    assert base >= 1 << 30
    for name, uid, gid in (("roots", 0, 0), ("dir", 1234, 4321)):
        found = (owned / name).stat()
        assert (found.st_uid, found.st_gid) == (base + uid, base + gid)


def test_root_makes_no_devices_and_no_powers(box):
    script = ("mkdir powers; cd powers; mknod null c 1 3; mknod disk b 8 0;"
              " cp /bin/true suid; chown 0:0 suid; chmod 6755 suid;"
              " cp /bin/true caps; setcap cap_setuid+ep caps; setfattr -n trusted.x -v 1 caps;"
              " setfattr -n security.selinux -v x caps; true")
    inside(box, script, user="0")
    base = int(status_of(processes_of(box)["share"])["Uid"].split()[0])
    for path in (box.work / "powers").iterdir():
        found = path.lstat()
        assert not stat.S_ISCHR(found.st_mode) and not stat.S_ISBLK(found.st_mode), path.name
        if found.st_mode & (stat.S_ISUID | stat.S_ISGID):
            assert found.st_uid >= base and found.st_gid >= base, path.name
        assert not [name for name in os.listxattr(path) if name.startswith("trusted.")]
        with contextlib.suppress(OSError):
            # For the sandbox's own user namespace only: version 3, with its root's id.
            value = os.getxattr(path, "security.capability")
            assert value[3] == 3 and int.from_bytes(value[20:24], "little") >= base


def test_read_only_is_read_only(box):
    for place in (box.extra, box.work / "inner"):
        for user in ("1000", "0"):
            assert inside(box, f"cat {place}/file", user=user) == f"{place.name}\n"
            inside(box, f"echo x > {place}/file", user=user, code=2)
        # Guest root may say what it likes of its mounts; the server's are the host's.
        inside(box, f"mount -o remount,bind,rw {place}; cd {place}; echo x > file; rm -f file;"
                    " mkdir d; chmod 777 .; mv file other; ln file hard; truncate -s0 file;"
                    " touch -d @0 file; setfattr -n user.x -v 1 file; true", user="0")
        assert [path.name for path in place.iterdir()] == ["file"]
        assert (place / "file").read_text("utf-8") == f"{place.name}\n"
        assert place.stat().st_mode & 0o777 == 0o755 and not os.listxattr(place / "file")


def test_links_end_in_the_guest(box):
    links = box.work / "links"
    links.mkdir()
    for name, target in (("name", "/etc/hostname"), ("secret", box.outside / "secret"),
                         ("up", "../../outside/secret"), ("self", "/proc/self/environ")):
        (links / name).symlink_to(target)
    assert inside(box, "cat links/name") == "box\n"
    for name in ("secret", "up"):
        inside(box, f"cat links/{name}", code=1)
        inside(box, f"cat links/{name}", code=1, user="0")
    inside(box, f"ls {box.outside}", code=2, user="0")
    inside(box, "ln -sfn /etc links/etc; echo guest > /etc/planted; ls links/etc/planted", user="0")
    assert not pathlib.Path("/etc/planted").exists()


@pytest.fixture(scope="module")
def race(tmp_path_factory):
    need_program("gcc")
    program = tmp_path_factory.mktemp("race") / "share_race"
    subprocess.run(["gcc", "-O1", "-Wall", "-pthread", "-o", program, HERE / "share_race.c"],
                   check=True)
    return program


def test_races_on_the_share(box, race):
    """A program swaps a directory and a link to a place of the host's while others open, create,
    rename and change files by that path, and by descriptors whose paths have gone."""
    shutil.copy(race, box.work / "share_race")
    before = {path.name: path.read_bytes() for path in box.outside.iterdir()}
    for user in ("1000", "0"):
        (box.work / f"race{user}").mkdir()
        os.chown(box.work / f"race{user}", os.stat(box.work).st_uid, os.stat(box.work).st_gid)
        said = inside(box, f"./share_race race{user} ../../outside {box.outside} 4", user=user,
                      timeout=300)
        done, leaked = re.fullmatch(r"(\d+) attempts, (\d+) leaks\n", said).groups()
        assert int(done) > 100 and leaked == "0"
    assert {path.name: path.read_bytes() for path in box.outside.iterdir()} == before


def test_git(box):
    need_program("git")
    script = ("export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a"
              " GIT_COMMITTER_EMAIL=a@b; mkdir repo; cd repo; git init -q -b main; seq 500 > text;"
              " mkdir -p d/e; seq 9 > d/e/f; git add .; git commit -qm first; seq 300 > text;"
              " git status --short; git stash -q; git status --short; git fsck --strict 2>&1;"
              " git gc -q; git log --oneline | wc -l")
    assert inside(box, script, timeout=300) == " M text\n1\n"
    repository = box.work / "repo"
    status = subprocess.run(["git", "-C", repository, "status", "--short"], check=True, text=True,
                            capture_output=True, timeout=60).stdout
    assert status == ""


# ---- limits ----

def test_fork_bomb(box):
    """It ends at the limit; the host does not notice, the machine is of use again."""
    bomb = running(box, "python3 -c 'import os, time\n"
                        "n = 0\n"
                        "try:\n"
                        "    while True:\n"
                        "        if os.fork() == 0: time.sleep(600)\n"
                        "        n += 1\n"
                        "except OSError: print(n, flush=True)\n"
                        "time.sleep(600)'")
    count = int(bomb.stdout.readline())
    assert PIDS / 2 < count < PIDS
    threads = int(status_of(processes_of(box)["machine"])["Threads"])
    assert threads < 40
    bomb.send_signal(signal.SIGTERM)
    bomb.wait(timeout=ANSWER_S)
    wait_for("the bomb's processes stay",
             lambda: box("exec", "-u", "0", "box", "--", "sh", "-c", "pkill -9 python3; true",
                         timeout=ANSWER_S).returncode == 0)
    assert inside(box, "echo alive | cat") == "alive\n"


def test_memory_hog(box):
    """The guest's kernel ends it, and nothing else: of all processes sbx-init is spared."""
    before = processes_of(box)
    assert inside(box, "cat /proc/1/oom_score_adj /proc/self/oom_score_adj") == "-1000\n0\n"
    done = box("exec", "box", "--", "python3", "-c",
               "b = bytearray(2 << 30)\nfor i in range(0, len(b), 4096): b[i] = 1",
               timeout=300)
    assert done.returncode == 137 or "MemoryError" in done.stderr
    assert inside(box, "echo alive") == "alive\n"
    assert processes_of(box) == before


def test_exit_codes_and_signals(box):
    assert box("exec", "box", "--", "sh", "-c", "exit 37", timeout=ANSWER_S).returncode == 37
    assert box("exec", "box", "--", "sh", "-c", "kill -SEGV $$", timeout=ANSWER_S).returncode == 139
    assert box("exec", "box", "no-such-program", timeout=ANSWER_S).returncode == 127
    assert box("exec", "box", "/etc/hostname", timeout=ANSWER_S).returncode == 126
    trapped = running(box, "trap 'echo got; exit 3' TERM; echo set; while :; do sleep 0.1; done")
    assert trapped.stdout.readline() == "set\n"
    trapped.send_signal(signal.SIGTERM)
    # Its `sleep` gets the signal, too, as at a terminal: the shell may have something to say of that.
    assert trapped.stdout.readline() == "got\n" and end_of(trapped)[0] == 3


def test_input_and_output(box):
    data = "".join(f"{i}\n" for i in range(200000))
    assert box.ok("exec", "-i", "box", "cat", input=data, timeout=ANSWER_S) == data
    assert inside(box, "head -c 3000000 /dev/zero | tr '\\0' x") == "x" * 3000000


# ---- how the host's side is held ----

def test_processes_on_the_host(box):
    pids = processes_of(box)
    base = int(status_of(pids["share"])["Uid"].split()[0])
    # Neither is an owner of anything, or may send the other a signal.
    for name, own in (("machine", 65534), ("monitor", 65533)):
        status = status_of(pids[name])
        assert set(status["Uid"].split() + status["Gid"].split()) == {str(base + own)}, name
        for powers in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[powers], 16) == 0, (name, powers)
    share = status_of(pids["share"])
    # In its user namespace, which has no device, network or mount of the host's.
    files_only = sum(1 << number for number in (0, 1, 3, 4, 6, 7, 27, 31))
    assert int(share["CapEff"], 16) & ~files_only == 0 and int(share["CapBnd"], 16) == 0
    for name in ("machine", "monitor", "share"):
        status = status_of(pids[name])
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", name
        for kind in ("user", "mnt", "net", "pid", "ipc", "uts", "cgroup"):
            theirs = os.readlink(f"/proc/{pids[name]}/ns/{kind}")
            assert theirs != os.readlink(f"/proc/self/ns/{kind}"), (name, kind)
        for task in pathlib.Path(f"/proc/{pids[name]}/task").iterdir():
            assert "Seccomp:\t2" in (task / "status").read_text(), (name, task.name)


@pytest.mark.skipif(not os.path.exists("/dev/kvm"), reason="no hardware virtualization")
def test_qemu_may_open_kvm(box):
    """Whose device is its group's, in which root is not."""
    group = os.stat("/dev/kvm").st_gid
    pids = processes_of(box)
    assert str(group) in status_of(pids["machine"])["Groups"].split()
    assert str(group) not in status_of(pids["share"])["Groups"].split()
    # As what it is allowed, it opens the node that it sees.
    uid = int(status_of(pids["machine"])["Uid"].split()[0])
    mine = os.stat(f"/proc/{pids['machine']}/root/dev/kvm")
    assert mine.st_gid == group and uid != mine.st_uid and mine.st_mode & 0o060 == 0o060


def names(path):
    return sorted(entry.name for entry in pathlib.Path(path).iterdir())


def test_roots_on_the_host(box):
    pids = processes_of(box)
    root = f"/proc/{pids['machine']}/root"
    assert set(names(root)) == {"bin", "dev", "lib", "lib32", "lib64", "libx32", "proc", "sbin",
                                "usr"}
    assert set(names(f"{root}/dev")) <= {"null", "zero", "random", "urandom", "kvm"}
    # One process namespace, in which there is nobody but these three.
    assert {name for name in names(f"{root}/proc") if name.isdigit()} == {"1", "2", "3"}
    assert names(f"/proc/{pids['share']}/root") == ["dpkg", "template", "usr", "workspaces"]
    assert names(f"/proc/{pids['share']}/root/workspaces") == ["0", "1", "2"]
    for name in ("machine", "monitor", "share"):
        mounts = pathlib.Path(f"/proc/{pids[name]}/mountinfo").read_text()
        assert str(box.outside) not in mounts


def descriptors(pid):
    found = {}
    for path in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            flags = re.search(r"flags:\s+(\d+)",
                              pathlib.Path(f"/proc/{pid}/fdinfo/{path.name}").read_text())
            found[int(path.name)] = (os.readlink(path), int(flags[1], 8) & os.O_ACCMODE)
    return found


def test_descriptors_on_the_host(box):
    pids = processes_of(box)
    of_machine = descriptors(pids["machine"]).values()
    for target, mode in of_machine:
        kind = re.sub(r"\[\d+\]$|\s\(deleted\)$", "", target)
        if target.startswith("/") and not target.startswith(("/memfd:", "/dev/null")):
            assert target.endswith("/disk.img") or mode == os.O_RDONLY, target
            assert re.search(r"/disk\.img$|vmlinu[xz]|bzImage|/state/vm/(image|initramfs-guest)-|/dev/kvm$", target)
        else:
            assert kind in {"socket:", "pipe:", "/dev/null", "/memfd:memory-backend-memfd"} or (
                target.startswith("anon_inode:")), target
    # To sbx-vm (link, monitor, console) and to virtiofsd; libslirp opens the guest's connections.
    assert sum(target.startswith("socket:") for target, _ in of_machine) <= 8
    for target, _ in descriptors(pids["monitor"]).values():
        assert target.startswith(("socket:", "pipe:", "anon_inode:", "/dev/null",
                                  "/memfd:sbx-machine")), target


def test_the_only_network_is_the_exit(box):
    words = pathlib.Path(f"/proc/{processes_of(box)['machine']}/cmdline").read_bytes().split(b"\0")
    network = words[words.index(b"-netdev") + 1].decode()
    assert network.startswith("user,") and words.count(b"-netdev") == 1
    for door in ("tftp", "bootfile", "smb", "guestfwd", "hostfwd"):
        assert door not in network
    assert not {b"-nic", b"-net", b"-virtfs", b"-fsdev", b"-usb", b"-vnc", b"-gdb"} & set(words)


def memory_of(pid):
    """KiB of memory: all of it; of which the guest's; code that software emulation has translated;
    and files that its kernel was loaded from, in the page cache, which all machines share and the
    host takes back when it needs memory."""
    sums = dict.fromkeys(("total", "guest", "code", "cache"), 0)
    kind = None
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if re.match(r"[0-9a-f]+-[0-9a-f]+$", words[0]):
            kind = ("guest" if "memory-backend-memfd" in line else
                    "code" if words[1] == "rwxp" and len(words) == 5 else
                    "cache" if re.search("/state/vm/|/boot/", line) else None)
        elif words[0] == "Pss:":
            sums["total"] += int(words[1])
            if kind:
                sums[kind] += int(words[1])
    return sums


def test_memory_on_the_host(box):
    seen = {name: memory_of(pid) for name, pid in processes_of(box).items()}
    own = sum(kib["total"] - kib["guest"] - kib["code"] - kib["cache"] for kib in seen.values()) / 1024
    print("\nMiB beyond the guest's own:", round(own, 1), {
        name: [round(kib / 1024, 1) for kib in kibs.values()] for name, kibs in seen.items()})
    emulated = any(kib["code"] for kib in seen.values())
    # What the translated code is found by grows with it.
    # Alone on a machine none of the programs' pages are shared, and an emulating QEMU has tables
    # of its own beside the code that it made: that is no figure of a machine by hardware.
    assert own < (128 if emulated else 40)
    assert seen["machine"]["code"] <= 80 * 1024
