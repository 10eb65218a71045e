# SPDX-License-Identifier: Apache-2.0
"""A person's terminal: a real pseudo-terminal around `sbx run shell` and `sbx exec -it`.

Every wait is for text that the terminal shows or for the end of a process, with a deadline."""

import fcntl
import hashlib
import os
import pty
import re
import select
import signal
import string
import struct
import subprocess
import termios
import threading
import time

import pytest
from conftest import fresh_sbx, fresh_workspace, need_sandboxes, supervisor_of, wait_for
from test_faults import kill_and_wait

DEADLINE = 30
PROMPT = "PS1='READY> '\n"


class Terminal:
    """A command whose controlling terminal is ours; `seen` is all that it has shown."""

    def __init__(self, words, env, rows=24, cols=80, cwd=None):
        self.master, slave = pty.openpty()
        self.resize(rows, cols, tell=False)
        self.before = termios.tcgetattr(slave)
        self.slave = slave  # kept open: the modes are read after the command has ended
        self.seen = ""

        def take_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            list(map(str, words)), stdin=slave, stdout=slave, stderr=slave, cwd=cwd,
            env={**env, "TERM": "dumb"}, preexec_fn=take_terminal)

    def resize(self, rows, cols, tell=True):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def type(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self.master, data):]

    def read(self, timeout):
        if not select.select([self.master], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def expect(self, pattern):
        """Waits for the pattern behind what was matched last; returns the match."""
        limit = time.monotonic() + DEADLINE
        while True:
            match = re.search(pattern, self.seen)
            if match:
                self.seen = self.seen[match.end():]
                return match
            left = limit - time.monotonic()
            assert left > 0 and self.process.poll() is None or self.read(0.1), (
                f"no {pattern!r} in {self.seen!r} (exit {self.process.poll()})")
            self.read(max(0, min(left, 0.2)))

    def end(self):
        """The exit status; -n when a signal ended it."""
        limit = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            assert time.monotonic() < limit, f"did not end: {self.seen!r}"
            self.read(0.1)
        while self.read(0):
            pass
        return self.process.returncode

    def restored(self):
        return termios.tcgetattr(self.slave) == self.before

    def close(self):
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)
        self.master = self.slave = -1
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def sbx(bindir):
    """One for all of these, which leave its sandbox as it was."""
    with fresh_sbx(bindir) as run:
        yield run


@pytest.fixture(scope="module")
def workspace():
    with fresh_workspace() as directory:
        yield directory


@pytest.fixture(scope="module")
def sandbox(sbx, workspace):
    need_sandboxes(sbx)
    sbx.ok("create", "--name", "box", "shell", workspace)
    return "box"


@pytest.fixture
def terminal(sbx):
    opened = []

    def start(*words, **options):
        opened.append(Terminal([sbx.binary, *words], sbx.env, **options))
        return opened[-1]
    yield start
    for one in opened:
        one.close()


BASH = ("bash", "--norc", "--noediting")  # the terminal itself echoes, not readline
LOOP = "sh -c 'echo up; exec sleep 600'"


@pytest.fixture
def shell(terminal, sandbox):
    """An interactive bash inside, at its prompt."""
    one = terminal("exec", "-it", sandbox, *BASH)
    at_prompt(one)
    return one


def at_prompt(one):
    one.type(PROMPT)
    one.expect(r"(?<!')READY> ")


def test_interrupt_reaches_only_the_inner_program(shell):
    shell.type(f"{LOOP}\n")
    shell.expect(r"\nup\r\n")
    shell.type("\x03")
    shell.expect(r"\^C")
    shell.type("echo status=$?\n")
    shell.expect(r"status=130\r\n")
    shell.type("exit 7\n")
    assert shell.end() == 7 and shell.restored()


RESUMES = """import os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCONT])
os.write(1, b"up\\n")
while signal.sigwait([signal.SIGCONT]):
    os.write(1, b"resumed\\n")"""


def test_stop_and_continue_inside(shell, workspace):
    (workspace / "resumes.py").write_text(RESUMES, "utf-8")
    shell.type("python3 resumes.py\n")
    shell.expect(r"\nup\r\n")
    shell.type("\x1a")
    shell.expect(r"Stopped ")
    shell.type("fg\n")
    shell.expect(r"resumed\r\n")
    shell.type("\x03")
    shell.expect(r"READY> ")
    shell.type("exit\n")
    assert shell.end() == 130 and shell.restored()


AWAIT_RESIZE = """import os, signal as s
s.pthread_sigmask(s.SIG_BLOCK, [s.SIGWINCH])
print("set", os.get_terminal_size(), flush=True)
s.sigwait([s.SIGWINCH])
print("now", os.get_terminal_size())"""


def test_window_size_at_start_and_after_a_resize(terminal, sandbox):
    one = terminal("exec", "-t", sandbox, "python3", "-c", AWAIT_RESIZE, rows=31, cols=117)
    one.expect(r"set .*columns=117, lines=31")
    one.resize(40, 99)
    one.expect(r"now .*columns=99, lines=40")
    assert one.end() == 0


def test_run_attaches_and_comes_back(terminal, sandbox, workspace):
    """The agent's own terminal; words after `--` are the agent's."""
    for words in (("run", "--name", sandbox, "shell", workspace), ("run", sandbox)):
        one = terminal(*words)
        one.type("tty; pwd; echo shell=$0 term=$TERM; exit 42\n")
        one.expect(r"\n/dev/pts/\d+\r\n" + re.escape(str(workspace)))
        one.expect(r"\nshell=-?bash term=dumb\r\n")
        assert one.end() == 42 and one.restored()
    one = terminal("run", sandbox, "--", "-c", "echo agent words; kill -9 $$")
    one.expect(r"agent words\r\n")
    assert one.end() == 128 + 9 and one.restored()


@pytest.mark.parametrize("status", (0, 1, 127, 255))
def test_exit_status_through_a_terminal(terminal, sandbox, status):
    one = terminal("exec", "-it", sandbox, "sh", "-c", f"exit {status}")
    assert one.end() == status and one.restored()


def test_failures_to_run_restore_the_terminal(terminal, sandbox):
    one = terminal("exec", "-it", sandbox, "no-such-command")
    assert one.end() == 127 and one.restored() and "not found" in one.seen
    one = terminal("exec", "-it", "-w", "/no/such", sandbox, "true")
    assert one.end() == 126 and one.restored() and "/no/such" in one.seen


def pids_inside(sbx, name, command):
    """Processes inside whose arguments hold `command`."""
    script = ("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline | grep -qF -- \"$1\" && "
              "! [ $p = /proc/$$ ] && echo ${p#/proc/}; done; true")
    return sbx.ok("exec", name, "--", "sh", "-c", script, "sh", command).split()


def await_none_inside(sbx, name, command):
    limit = time.monotonic() + DEADLINE
    while found := pids_inside(sbx, name, command):
        assert time.monotonic() < limit, f"still inside: {found}"


@pytest.mark.parametrize("signo", (signal.SIGTERM, signal.SIGHUP))
def test_signal_to_the_command_line_ends_the_session(sbx, shell, sandbox, signo):
    """As with ssh: an interactive shell would ignore SIGTERM, so its terminal hangs up."""
    shell.type(f"{LOOP}\n")
    shell.expect(r"\nup\r\n")
    shell.process.send_signal(signo)
    assert shell.end() == 128 + signo and shell.restored()
    await_none_inside(sbx, sandbox, "sleep 600")
    assert sbx.json("ls")[0]["status"] == "running"


@pytest.mark.parametrize("signo, name", ((signal.SIGINT, "INT"), (signal.SIGQUIT, "QUIT")))
def test_interrupts_go_to_the_program_in_the_foreground(shell, signo, name):
    shell.type(f"(trap 'echo got-{name}; exit 3' {name}; echo up; while :; do sleep 0.05; done)\n")
    shell.expect(r"\nup\r\n")
    shell.process.send_signal(signo)
    shell.expect(rf"got-{name}\r\n")
    shell.type("exit 0\n")
    assert shell.end() == 0


def test_closed_terminal_ends_the_session_and_keeps_the_sandbox(sbx, shell, sandbox):
    shell.type(f"{LOOP}\n")
    shell.expect(r"\nup\r\n")
    os.close(shell.slave)
    os.close(shell.master)
    shell.master = shell.slave = -1
    assert shell.process.wait(DEADLINE) == 128 + signal.SIGHUP
    await_none_inside(sbx, sandbox, "sleep 600")
    assert sbx.json("ls")[0]["status"] == "running"


def test_killed_command_line_ends_the_session(sbx, shell, sandbox):
    shell.type(f"{LOOP}\n")
    shell.expect(r"\nup\r\n")
    shell.process.kill()
    shell.process.wait()
    await_none_inside(sbx, sandbox, "sleep 600")


def test_paste_of_a_megabyte(terminal, sandbox):
    """Far more than the line discipline holds: no byte may be lost, none may block the other way."""
    size = 1 << 20
    script = (f"stty raw -echo; echo ready; head -c {size} | sha256sum; stty sane; exit 5")
    one = terminal("exec", "-it", sandbox, "bash", "-c", script)
    one.expect(r"ready\r?\n")
    data = (string.ascii_letters * (size // 52 + 1))[:size]
    feeder = threading.Thread(target=one.type, args=(data,))
    feeder.start()
    one.expect(hashlib.sha256(data.encode()).hexdigest())
    feeder.join()
    assert one.end() == 5 and one.restored()


def test_output_of_a_megabyte_arrives_whole_and_before_the_end(terminal, sandbox):
    one = terminal("exec", "-t", sandbox, "sh", "-c",
                   "seq 1 150000; echo last words; exit 6")
    assert one.end() == 6
    lines = one.seen.split()
    assert lines == [str(n) for n in range(1, 150001)] + ["last", "words"]


def test_death_by_signal_of_the_inner_shell(shell):
    shell.type("kill -KILL $$\n")
    assert shell.end() == 128 + 9 and shell.restored()


def test_stopping_hangs_up_an_interactive_shell(sbx, shell, sandbox):
    """It ignores SIGTERM, and would hold up the stop until it is killed."""
    sbx.ok("stop", sandbox)
    assert shell.end() == 128 + signal.SIGHUP and shell.restored()


def test_a_slow_end_is_told_at_a_terminal(sbx, terminal, sandbox):
    sbx.ok("exec", "-d", sandbox, "sh", "-c", "trap '' TERM; touch /dev/shm/up; while :; do sleep 1; done")
    wait_for("the stubborn process has not begun",
             lambda: sbx("exec", sandbox, "test", "-e", "/dev/shm/up").returncode == 0)
    stop = terminal("stop", sandbox)
    stop.expect("waiting for the processes of 'box' to end, 5 seconds at most")
    stop.expect("box")
    assert stop.end() == 0
    sbx.ok("start", sandbox)


def test_killed_supervisor_ends_the_session_with_a_message(sbx, shell, sandbox):
    kill_and_wait(supervisor_of(sbx.home, sandbox))
    assert shell.end() == 128 + 9 and shell.restored()
    assert "the sandbox stopped while the command was running" in shell.seen


def test_terminal_without_input(terminal, sandbox):
    """-t alone: a terminal inside, ours keeps its modes, and only interrupts go in."""
    one = terminal("exec", "-t", sandbox, "sh", "-c", "test -t 0 && tty && exec cat")
    one.expect(r"/dev/pts/\d+\r*\n")
    assert one.restored()
    one.type("typed\n")
    one.expect("typed")
    one.type("\x03")
    assert one.end() == 128 + signal.SIGINT
    assert "typed" not in one.seen, "only our own terminal echoes"


def test_ignored_hangup_stays_ignored(sbx, sandbox):
    """nohup sbx exec …: what the caller ignores neither ends the command nor reaches it."""
    command = subprocess.Popen(
        [sbx.binary, "exec", "-i", sandbox, "cat"], env=sbx.env, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    for line in (b"before\n", b"after\n"):
        command.stdin.write(line)
        command.stdin.flush()
        assert command.stdout.readline() == line
        command.send_signal(signal.SIGHUP)
    assert command.communicate(timeout=DEADLINE)[0] == b"" and command.returncode == 0


def test_rm_removes_also_when_interrupted(sbx, terminal, workspace):
    one = terminal("run", "--rm", "--name", "gone", "shell", workspace)
    at_prompt(one)
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == 128 + signal.SIGTERM and one.restored()
    assert [box["name"] for box in sbx.json("ls")] == ["box"]
