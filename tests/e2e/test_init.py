# SPDX-License-Identifier: Apache-2.0
"""The real sbx-init as process 1 of a fresh process namespace; this file plays the supervisor.

Needs root (or skips)."""
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INIT = os.path.join(ROOT, os.environ.get("SBX_BUILD", "build"), "sbx-init")

pytestmark = [pytest.mark.no_sandbox,
              pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists(INIT),
                                 reason="needs root and a built sbx-init")]


def send(sock, message, fds=()):
    socket.send_fds(sock, [json.dumps(message).encode()], list(fds))


def receive(sock, timeout=20):
    sock.settimeout(timeout)
    data, fds, _, _ = socket.recv_fds(sock, 1 << 17, 8)
    return (json.loads(data) if data else None), fds


class Session:
    def __init__(self, init, argv, fds=(), **fields):
        self.channel, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        message = {"op": "exec", "argv": argv, "user": "0", "workdir": "/",
                   "env": {"PATH": os.environ["PATH"]}, **fields}
        send(init.sock, message, [far.fileno(), *fds])
        far.close()
        self.master = None

    def event(self):
        message, fds = receive(self.channel)
        if fds:
            self.master = fds[0]
        return message

    def end(self):
        first = self.event()
        assert first["event"] == "started" and first["pid"] > 1
        return self.event()


class Init:
    def __init__(self, tmp_path, **env):
        self.sock, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def move():
            os.dup2(far.fileno(), 3)
            os.set_inheritable(3, True)
        self.process = subprocess.Popen(
            ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child", INIT],
            preexec_fn=move, close_fds=False, env={**os.environ, **env})
        far.close()
        assert receive(self.sock)[0] == {"event": "ready"}
        self.tmp = tmp_path

    def run(self, argv, **fields):
        """(end event, output)"""
        r, w = os.pipe()
        with open("/dev/null") as null:
            session = Session(self, argv, [null.fileno(), w, w], **fields)
        os.close(w)
        end = session.end()
        with os.fdopen(r) as out:
            return end, out.read()

    def write(self, path, content, **fields):
        channel, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = os.memfd_create("content")
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        send(self.sock, {"op": "write", "path": str(path), **fields}, [far.fileno(), fd])
        far.close()
        os.close(fd)
        return receive(channel)[0]


@pytest.fixture
def init(tmp_path):
    one = Init(tmp_path)
    yield one
    one.sock.close()
    one.process.wait(20)


def test_exit_codes(init):
    for code in range(256):
        assert Session(init, ["sh", "-c", f"exit {code}"]).end() == {"event": "exit",
                                                                    "status": code}


@pytest.mark.parametrize("signo", [1, 2, 3, 6, 9, 13, 15])
def test_death_by_signal(init, signo):
    end, _ = init.run(["sh", "-c", f"kill -{signo} $$"])
    assert end == {"event": "exit", "signal": signo}


@pytest.mark.parametrize("argv, errno", [(["no-such-command"], 2), (["/no/such"], 2),
                                         (["/etc/passwd"], 13), ([], 22)])
def test_command_that_cannot_run(init, argv, errno):
    event = Session(init, argv).event()
    assert event["event"] == "failed" and event["errno"] == errno and event["error"]


def test_missing_workdir_is_named(init):
    event = Session(init, ["true"], workdir="/no/such/dir").event()
    assert event["errno"] == 20 and "/no/such/dir" in event["error"]


@pytest.mark.parametrize("argv, fields, shown", [
    (["a" * 149 + "é"], {}, "a" * 149 + "?"),
    (["true"], {"workdir": "/" + "a" * 148 + "é"}, "a" * 148 + "?"),
    (["true"], {"user": "a" * 63 + "é"}, "a" * 63)])
def test_what_is_cut_within_a_character_is_told(init, argv, fields, shown):
    event = Session(init, argv, **fields).event()
    assert event["event"] == "failed" and shown in event["error"]


def test_unknown_user_is_named(init):
    event = Session(init, ["true"], user="nobody-here").event()
    assert event["event"] == "failed" and "nobody-here" in event["error"]


def test_identity_and_environment(init):
    _, out = init.run(["sh", "-c", "id -u; id -g; env; ls /proc/self/fd; pwd"], user="12345:54321",
                      env={"PATH": os.environ["PATH"], "A": "b c"}, workdir="/tmp")
    lines = out.splitlines()
    assert lines[:2] == ["12345", "54321"] and "A=b c" in lines and "USER=12345" in lines
    assert lines[-5:] == ["0", "1", "2", "3", "/tmp"]  # 3 is ls's own
    assert not [x for x in lines if x.startswith("SBX")]


def test_process_state_is_fresh(init):
    _, out = init.run(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])
    # Signals 32 and 33 are the C library's own: its posix_spawn leaves them ignored for good.
    own = 1 << 31 | 1 << 32
    assert [int(x.split()[1], 16) & ~own for x in out.splitlines()] == [0, 0]


def read_until(fd, text):
    data = b""
    while text not in data:
        data += os.read(fd, 4096)
    return data


def test_terminal(init):
    session = Session(init, ["sh", "-c", "tty; stty size; read x; stty size; exit 7"], tty=True,
                      rows=33, cols=99)
    assert session.event()["event"] == "started"
    assert b"/dev/pts/" in read_until(session.master, b"33 99")
    fcntl.ioctl(session.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    os.write(session.master, b"go\n")
    read_until(session.master, b"40 120")
    assert session.event() == {"event": "exit", "status": 7}


def test_terminal_interrupt_and_stop(init):
    session = Session(init, ["sleep", "60"], tty=True, rows=24, cols=80)
    session.event()
    os.write(session.master, b"\x1a")
    # An orphaned process group is never stopped by the terminal; a signal stops it.
    send(session.channel, {"op": "signal", "signo": int(signal.SIGSTOP)})
    assert session.event() == {"event": "stopped", "signal": int(signal.SIGSTOP)}
    send(session.channel, {"op": "signal", "signo": int(signal.SIGCONT)})
    os.write(session.master, b"\x03")
    assert session.event() == {"event": "exit", "signal": 2}


def process_count(init):
    return int(init.run(["sh", "-c", "ls -d /proc/[0-9]* | wc -l"])[1])


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_orphans_are_reaped(init):
    before = process_count(init)
    init.run(["sh", "-c", "i=0; while [ $i -lt 200 ]; do (sleep 0.1 &) ; i=$((i+1)); done"])
    wait_for(lambda: process_count(init) == before)


def test_background_child_outlives_its_leader(init):
    mark = init.tmp / "mark"
    end, _ = init.run(["sh", "-c", f"(sleep 0.3; echo x > {mark}) >/dev/null 2>&1 &"])
    assert end["status"] == 0
    wait_for(mark.exists)


def test_closed_channel_hangs_up(init):
    mark = init.tmp / "mark"
    session = Session(init, ["sh", "-c", f"trap 'echo x > {mark}; exit' HUP; "
                                         "while :; do sleep 0.05; done"])
    session.event()
    time.sleep(0.3)
    session.channel.close()
    wait_for(mark.exists)


def test_detached_command_outlives_its_channel(init):
    mark = init.tmp / "mark"
    session = Session(init, ["sh", "-c", f"sleep 0.5; echo x > {mark}"], detach=True)
    session.event()
    session.channel.close()
    wait_for(mark.exists)


def test_many_sessions_at_once(init):
    sessions = [Session(init, ["sh", "-c", f"sleep 0.5; exit {i % 256}"]) for i in range(400)]
    for i, session in enumerate(sessions):
        assert session.end() == {"event": "exit", "status": i % 256}
        session.channel.close()


def test_end_waits_for_a_full_channel(init):
    session = Session(init, ["sh", "-c", "sleep 0.5; exit 3"])
    session.event()
    for _ in range(600):
        send(session.channel, {"op": "signal", "signo": int(signal.SIGSTOP)})
        send(session.channel, {"op": "signal", "signo": int(signal.SIGCONT)})
    time.sleep(1.5)
    while (event := session.event())["event"] == "stopped":
        pass
    assert event == {"event": "exit", "status": 3}


def test_write(init):
    path = init.tmp / "a" / "b" / "file"
    assert init.write(path, b"one", mode=0o640, uid=1234, gid=2345) == {"ok": True}
    st = path.stat()
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (0o640, 1234, 2345)
    assert path.parent.stat().st_uid == 1234 and path.parent.parent.stat().st_gid == 2345
    assert init.tmp.stat().st_uid == 0
    assert init.write(path, b"two", only_if_missing=True) == {"ok": True}
    assert path.read_bytes() == b"one"
    assert init.write(path, b"x" * 3000000) == {"ok": True}
    assert path.stat().st_size == 3000000
    assert os.listdir(path.parent) == ["file"]


def test_write_replaces_a_link_itself(init):
    (init.tmp / "target").write_text("kept")
    (init.tmp / "link").symlink_to("target")
    assert init.write(init.tmp / "link", b"new")["ok"]
    assert (init.tmp / "target").read_text() == "kept" and not (init.tmp / "link").is_symlink()


@pytest.mark.parametrize("path", ["relative", "/", "/tmp/", "/tmp/..", "/etc/passwd/x"])
def test_write_refuses(init, path):
    answer = init.write(path, b"")
    assert not answer["ok"] and answer["errno"] and path in answer["error"]


def test_bad_orders_are_survived(init):
    init.sock.send(b"not json")
    init.sock.send(b"[]")
    send(init.sock, {"op": "exec"})
    send(init.sock, {"op": "write"})
    send(init.sock, {"op": "what"})
    assert Session(init, ["true"]).end() == {"event": "exit", "status": 0}


def test_stop_is_quick_when_all_obey(init):
    session = Session(init, ["sleep", "60"])
    session.event()
    start = time.monotonic()
    send(init.sock, {"op": "stop", "grace_ms": 15000})
    assert session.event() == {"event": "exit", "signal": 15}
    assert init.process.wait(10) == 0 and time.monotonic() - start < 5


def test_stop_kills_after_grace(init):
    session = Session(init, ["sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"])
    session.event()
    time.sleep(0.3)
    send(init.sock, {"op": "stop", "grace_ms": 300})
    assert init.process.wait(10) == 0


def test_lost_supervisor_ends_everything(tmp_path):
    init = Init(tmp_path)
    session = Session(init, ["sh", "-c", "trap '' HUP TERM; while :; do sleep 1; done"])
    session.event()
    init.sock.close()
    assert init.process.wait(10) == 1


def test_signals_from_inside_are_ignored(init):
    init.run(["sh", "-c", "kill -TERM 1; kill -INT 1; kill -KILL 1; kill -HUP 1"])
    assert Session(init, ["true"]).end()["status"] == 0


def test_single_uid(tmp_path):
    init = Init(tmp_path, SBX_SINGLE_UID="1")
    end, out = init.run(["id", "-u"], user="1000")
    assert end["status"] == 0 and out == "0\n"  # the only user there is
    init.sock.close()
    init.process.wait(10)


def test_refuses_to_run_elsewhere():
    done = subprocess.run([INIT], capture_output=True, text=True)
    assert done.returncode == 1 and "process 1" in done.stderr


# sudo

BASE = 100000  # the sandbox's uid 0, as the host sees it


def user_namespace(mapping):
    """A process that keeps a user namespace with this map open; its sudo works nowhere else."""
    holder = subprocess.Popen(["unshare", "-U", "sh", "-c", "echo ready; exec cat"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"ready\n"
    for kind in ("uid_map", "gid_map"):
        with open(f"/proc/{holder.pid}/{kind}", "w", encoding="ascii") as file:
            file.write(mapping)
    return holder


def install_sudo(base, mode):
    for parent in [base, *base.parents][:3]:
        parent.chmod(0o755)
    path = base / "sudo"
    shutil.copy(INIT, path)
    os.chown(path, BASE, BASE)
    path.chmod(mode)
    return str(path)


def run_inside(holder, path, words, uid, env):
    return subprocess.run(["nsenter", "-t", str(holder.pid), "-U", "-S", str(uid), "-G", str(uid),
                           "--", path, *words], capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"], "HOME": "/x", **env})


@pytest.fixture(scope="module")
def sudo(tmp_path_factory):
    path = install_sudo(tmp_path_factory.mktemp("sudo"), 0o4755)
    holder = user_namespace(f"0 {BASE} 65536\n")
    yield lambda *words, **env: run_inside(holder, path, words, 12345, env)
    holder.communicate()


def test_sudo_becomes_root(sudo):
    assert sudo("id", "-u").stdout == "0\n"
    assert sudo("-n", "-u", "#54321", "id", "-u").stdout == "54321\n"
    assert sudo("-g", "777", "id", "-g").stdout == "777\n"
    assert sudo("-E", "-H", "--", "sh", "-c", "exit 41").returncode == 41


def test_sudo_environment(sudo):
    out = sudo("A=b", "env", HTTP_PROXY="p", LD_PRELOAD_X="evil", KEPT="yes").stdout.splitlines()
    assert {"A=b", "HTTP_PROXY=p", "KEPT=yes", "HOME=/root", "USER=root", "SUDO_UID=12345",
            "SUDO_GID=12345", "SUDO_COMMAND=env"} <= set(out)
    assert not [x for x in out if x.startswith("LD_")]
    assert [x for x in out if x.startswith("PATH=/usr/local/sbin:")]
    assert "HOME=/x" in sudo("-E", "env").stdout.splitlines()
    assert "HOME=/x" in sudo("--preserve-env=HOME,B", "env").stdout.splitlines()


def test_sudo_shells(sudo):
    out = sudo("-i", "env", HTTP_PROXY="p", OTHER="x").stdout.splitlines()
    assert "HTTP_PROXY=p" in out and "OTHER=x" not in out
    assert sudo("-i", "printenv", "HOME").stdout == "/root\n"
    assert sudo("-s", "printf", "%s|", "a b", "", "$HOME'\"", "x\ny",
                SHELL="/bin/sh").stdout.startswith("a b||")
    assert sudo("-i", "echo", "a  b;c").stdout == "a  b;c\n"


def test_sudo_validates(sudo):
    assert sudo("-nv").returncode == 0 and sudo("-k").returncode == 0


@pytest.mark.parametrize("words, text", [(["-X"], "-X"), (["--nope"], "--nope"), (["-u"], "-u"),
                                         ([], "no command"), (["-u", "ghost", "id"], "ghost"),
                                         (["no-such-cmd"], "no-such-cmd")])
def test_sudo_refuses(sudo, words, text):
    done = sudo(*words)
    assert done.returncode == 1 and text in done.stderr


def test_sudo_in_a_single_uid_sandbox(tmp_path):
    holder = user_namespace(f"1000 {BASE} 1\n")
    done = run_inside(holder, install_sudo(tmp_path, 0o755), ["id"], 1000, {})
    holder.communicate()
    assert done.returncode == 1 and "uidmap" in done.stderr


def test_sudo_does_nothing_outside(tmp_path):
    path = install_sudo(tmp_path, 0o4755)
    os.chown(path, 0, 0)
    os.chmod(path, 0o4755)
    done = subprocess.run([path, "id"], capture_output=True, text=True, user=12345)
    assert done.returncode == 1 and "outside" in done.stderr and done.stdout == ""
