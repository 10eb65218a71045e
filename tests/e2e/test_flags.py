# SPDX-License-Identifier: Apache-2.0
"""Flags of exec and run, one by one, with the streams, words and variables that they get."""

import json
import os
import signal
import subprocess
import tempfile
import time

import pytest
from conftest import PATIENCE, fresh_sbx, fresh_workspace, need_sandboxes, wait_for

DEADLINE = 30


@pytest.fixture(scope="module")
def sbx(bindir):
    """One for all of these, which leave it as it was."""
    with fresh_sbx(bindir) as run:
        yield run


@pytest.fixture(scope="module")
def top():
    with fresh_workspace() as directory:
        yield directory


@pytest.fixture(scope="module")
def sandbox(sbx, top):
    need_sandboxes(sbx)
    sbx.ok("create", "--name", "box", "shell", top)
    return "box"


@pytest.fixture
def workspace(request, top):
    """A directory of each test's own; `box` sees it, because it lies in its workspace."""
    directory = top / request.node.name.partition("[")[0].replace("_", "-")
    directory.mkdir(exist_ok=True)
    return directory


def names(sbx):
    return {box["name"] for box in sbx.json("ls")}


def sh(sbx, name, script, *flags, **options):
    return sbx("exec", *flags, name, "--", "sh", "-c", script, **options)


def raw(sbx, *words, env=None, **options):
    """An exec whose streams are what the test says."""
    return subprocess.run([sbx.binary, "exec", *words], env={**sbx.env, **(env or {})},
                          timeout=DEADLINE, check=False, **options)


# --- words

def test_words_are_the_commands_own(sbx, sandbox):
    show = ("python3", "-c", "import sys; print(sys.argv[1:])")
    words = ("-it", "--json", "--", "a b", "", "*", "$HOME", "ä", "-")
    for before in ((), ("--",)):
        assert sbx.ok("exec", sandbox, *before, *show, *words) == f"{list(words)}\n"
    assert sbx.ok("exec", sandbox, "echo", "--", "x") == "-- x\n"


def test_long_arguments_and_environment(sbx, sandbox):
    long = "x" * 131000  # the kernel takes 128 KiB in one word
    assert sbx.ok("exec", sandbox, "sh", "-c", "echo ${#1}", "sh", long) == "131000\n"
    many = [str(number) for number in range(100000)]
    assert sbx.ok("exec", sandbox, "printf", r"%s\n", *many).split() == many
    flags = [word for i in range(8) for word in ("-e", f"V{i}={long}")]
    assert sh(sbx, sandbox, "echo $((${#V0} + ${#V7}))", *flags).stdout == "262000\n"
    with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
        file.write("".join(f"F{i}={'y' * 1000}\n" for i in range(900)))
        file.flush()
        assert sh(sbx, sandbox, "env | grep -c ^F", "--env-file", file.name).stdout == "900\n"


def test_what_the_kernel_does_not_take_is_said(sbx, sandbox):
    with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
        for size, code, text in ((140000, 126, "Argument list too long"),):
            file.write(f"BIG={'x' * size}\n")
            file.flush()
            assert text in sh(sbx, sandbox, "true", "--env-file", file.name, code=code).stderr
    files = []
    try:
        for i in range(9):  # a file may have 1 MiB, a message 8
            files.append(tempfile.NamedTemporaryFile("w", suffix=".env"))
            files[-1].write("".join(f"F{i}_{n}={'y' * 1000}\n" for n in range(1020)))
            files[-1].flush()
        flags = [word for file in files for word in ("--env-file", file.name)]
        message = sh(sbx, sandbox, "true", *flags, code=1).stderr
        assert "arguments and environment" in message and "too large" in message
    finally:
        for file in files:
            file.close()


def test_words_that_are_no_utf8_are_refused_not_dropped(sbx, sandbox):
    done = raw(sbx, sandbox, "rm", "-rf", b"/tmp/\xe4", capture_output=True)
    assert done.returncode == 2 and b"must be UTF-8" in done.stderr
    done = raw(sbx, "-w", b"/tmp/\xe4", sandbox, "pwd", capture_output=True)
    assert done.returncode == 2 and b"workdir" in done.stderr
    done = raw(sbx, "-e", b"A=\xe4", sandbox, "env", capture_output=True)
    assert done.returncode == 2 and b"'A' is not UTF-8" in done.stderr


# --- streams

def test_streams_are_apart_and_clean(sbx, sandbox):
    data = bytes(range(256)) * 5000
    done = raw(sbx, "-i", sandbox, "sh", "-c", "tee /dev/stderr", input=data, capture_output=True)
    assert done.stdout == data and done.stderr == data and done.returncode == 0


def test_input_only_with_interactive(sbx, sandbox):
    assert raw(sbx, sandbox, "cat", input=b"data", capture_output=True).stdout == b""
    assert raw(sbx, "-i", sandbox, "cat", input=b"data", capture_output=True).stdout == b"data"
    with tempfile.TemporaryFile() as file:
        file.write(b"of a file")
        file.seek(0)
        assert raw(sbx, "-i", sandbox, "cat", stdin=file, capture_output=True).stdout == b"of a file"
    with open("/dev/null", "rb") as null:
        assert raw(sbx, "-i", sandbox, "cat", stdin=null, capture_output=True).returncode == 0


@pytest.mark.parametrize("closed", (0, 1, 2))
def test_closed_streams(sbx, sandbox, closed):
    """Neither a hang nor a descriptor of ours in their place; the status is the command's."""
    done = raw(sbx, "-i", sandbox, "sh", "-c", "cat; echo out; echo err >&2; exit 4",
               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
               preexec_fn=lambda: os.close(closed))
    assert done.returncode == 4
    assert done.stdout == (b"" if closed == 1 else b"out\n")
    assert done.stderr == (b"" if closed == 2 else b"err\n")


def test_no_descriptor_of_the_caller_goes_in(sbx, sandbox):
    listing = sh(sbx, sandbox, "ls -l /proc/self/fd", "-i").stdout
    targets = [line.split(" -> ")[1] for line in listing.splitlines() if " -> " in line]
    assert all(t.startswith("pipe:") or t.startswith("/proc/") for t in targets), targets


def test_interactive_terminal_needs_one(sbx, sandbox):
    message = sbx("exec", "-it", sandbox, "true", code=2).stderr
    assert "needs a terminal" in message
    assert sbx.ok("exec", "-t", sandbox, "tty").startswith("/dev/pts/")


@pytest.mark.parametrize("signo", (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP))
def test_signals_are_forwarded(sbx, sandbox, signo):
    script = f"trap 'echo got; exit 9' {signo.value}; echo up; while :; do sleep 0.05; done"
    command = subprocess.Popen([sbx.binary, "exec", sandbox, "bash", "-c", script], env=sbx.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert command.stdout.readline() == b"up\n"
    command.send_signal(signo)
    assert command.communicate(timeout=DEADLINE)[0] == b"got\n" and command.returncode == 9


def test_third_signal_hangs_up(sbx, sandbox):
    """A command that ignores them keeps nobody; it gets SIGHUP."""
    script = ("exec 2>/dev/null; trap '' INT TERM; trap 'echo hung >hung; exit' HUP; echo up;"
              " while :; do sleep 0.05; done")
    command = subprocess.Popen([sbx.binary, "exec", sandbox, "bash", "-c", script], env=sbx.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout.readline() == b"up\n"
    for signo in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        assert command.poll() is None
        command.send_signal(signo)
        time.sleep(0.2)  # signals of one kind that wait are one
    out, errors = command.communicate(timeout=DEADLINE)
    assert command.returncode == 128 + signal.SIGTERM and b"hanging up" in errors and out == b""
    wait_for("it is not hung up", lambda: sbx("exec", sandbox, "cat", "hung").stdout == "hung\n")


def test_signals_that_are_far_apart(sbx, sandbox):
    """Each of them is the command's; and so is every SIGHUP."""
    # Not bash, which loses a signal that comes while its trap for the last one ends.
    script = ("import os, signal\n"
              "signal.signal(signal.SIGHUP, lambda *_: os.write(1, b'hup\\n'))\n"
              "signal.signal(signal.SIGINT, lambda *_: os.write(1, b'int\\n'))\n"
              "os.write(1, b'up\\n')\n"
              "while True: signal.pause()\n")
    command = subprocess.Popen([sbx.binary, "exec", sandbox, "python3", "-c", script], env=sbx.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout.readline() == b"up\n"
    for signo, said in 4 * [(signal.SIGHUP, b"hup\n")] + 2 * [(signal.SIGINT, b"int\n")]:
        command.send_signal(signo)
        assert command.stdout.readline() == said
    time.sleep(3.1)
    command.send_signal(signal.SIGINT)
    assert command.stdout.readline() == b"int\n" and command.poll() is None
    command.kill()
    command.communicate(timeout=DEADLINE)


def test_signals_while_nobody_takes_the_output(sbx, sandbox):
    command = subprocess.Popen([sbx.binary, "exec", sandbox, "yes"], env=sbx.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout.read(2) == b"y\n"
    time.sleep(0.5)
    command.send_signal(signal.SIGTERM)
    # It has ended; what it wrote before can still be read.
    out = command.communicate(timeout=DEADLINE)[0]
    assert command.returncode == 128 + signal.SIGTERM and set(out) <= set(b"y\n")
    # And when nobody reads, asking again and again ends us.
    command = subprocess.Popen([sbx.binary, "exec", sandbox, "yes"], env=sbx.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout.read(2) == b"y\n"
    for _ in range(3):
        time.sleep(0.3)
        command.send_signal(signal.SIGINT)
    assert command.wait(timeout=DEADLINE) == 128 + signal.SIGINT
    command.stdout.close()
    command.stderr.close()


def test_detach(sbx, sandbox, workspace):
    started = time.monotonic()
    sbx.ok("exec", "-d", sandbox, "--", "sh", "-c",
           f"echo begun > {workspace}/log; while ! [ -e {workspace}/go ]; do sleep 0.02; done;"
           f" echo done >> {workspace}/log")
    (workspace / "go").touch()
    while not (workspace / "log").exists() or "done" not in (workspace / "log").read_text():
        assert time.monotonic() - started < DEADLINE
    assert "not found" in sbx("exec", "-d", sandbox, "no-such-command", code=127).stderr


# --- who, where, with what

@pytest.mark.parametrize("user, ids", (
    ("agent", "1000 1000"), ("1000", "1000 1000"), ("root", "0 0"), ("0", "0 0"), ("0:0", "0 0"),
    ("1000:0", "1000 0"), ("root:agent", "0 1000"), ("4242", "4242 4242"), ("4242:7", "4242 7")))
def test_user(sbx, sandbox, user, ids):
    if os.geteuid() != 0:
        pytest.skip("these ids need root or a range")
    assert sh(sbx, sandbox, "echo $(id -u) $(id -g)", "-u", user).stdout == f"{ids}\n"


@pytest.mark.parametrize("user", ("", ":", "nosuch", "agent:nosuch", "-1", "4294967295", "1:2:3",
                                  "99999999999", "a\x1b[2J"))
def test_user_that_is_not_there(sbx, sandbox, user):
    message = sbx("exec", "-u", user, sandbox, "true", code=126).stderr
    assert "is not in /etc/" in message and "\x1b" not in message


@pytest.mark.ns_only("a machine's kernel has every id")
@pytest.mark.parametrize("user", ("65536", "99999", "0:99999"))
def test_user_beyond_the_ids_of_a_sandbox(sbx, sandbox, user):
    if os.geteuid() != 0:
        pytest.skip("these ids need root or a range")
    for flags in ((), ("-t",)):
        done = sbx("exec", *flags, "-u", user, sandbox, "true", code=126)
        assert "the ids of a sandbox are 0 to 65535" in done.stdout + done.stderr
    assert sh(sbx, sandbox, "id -u", "-u", "65535").stdout == "65535\n"


def test_home_and_shell_follow_the_user(sbx, sandbox):
    script = "echo $HOME $USER $LOGNAME"
    assert sh(sbx, sandbox, script).stdout == "/home/agent agent agent\n"
    if os.geteuid() == 0:
        assert sh(sbx, sandbox, script, "-u", "0").stdout == "/root root root\n"


def test_workdir(sbx, sandbox, top):
    assert sh(sbx, sandbox, "pwd").stdout == f"{top}\n"
    assert sh(sbx, sandbox, "pwd", "-w", "/tmp").stdout == "/tmp\n"
    for missing in ("/no/such", "/etc/passwd"):
        message = sbx("exec", "-w", missing, sandbox, "pwd", code=126).stderr
        assert f"working directory '{missing}'" in message


def test_environment(sbx, sandbox, workspace):
    file = workspace / "vars"
    file.write_text("# comment\n\n  INDENTED=1\nSPACED=a b  c\nHASH=a#b\nEMPTY=\nEQUALS=a=b=c\n"
                    "QUOTED=\"as it is\"\nFROM_HOST\nMISSING_ON_HOST\nTWICE=file\n", "utf-8")
    flags = ("--env-file", file, "-e", "TWICE=flag", "-e", "FLAG_FROM_HOST", "-e", "NOT_THERE",
             "--env=LONG=form", "-eSHORT=form")
    names = ("INDENTED SPACED HASH EMPTY EQUALS QUOTED FROM_HOST MISSING_ON_HOST TWICE "
             "FLAG_FROM_HOST NOT_THERE LONG SHORT").split()
    script = f"import os, json; print(json.dumps([os.environ.get(n) for n in {names}]))"
    done = sbx.ok("exec", *flags, sandbox, "python3", "-c", script,
                  env={"FROM_HOST": "h1", "FLAG_FROM_HOST": "h2", "NOT_ASKED": "secret"})
    assert dict(zip(names, json.loads(done))) == {
        "INDENTED": "1", "SPACED": "a b  c", "HASH": "a#b", "EMPTY": "", "EQUALS": "a=b=c",
        "QUOTED": '"as it is"', "FROM_HOST": "h1", "MISSING_ON_HOST": None, "TWICE": "flag",
        "FLAG_FROM_HOST": "h2", "NOT_THERE": None, "LONG": "form", "SHORT": "form"}
    assert "NOT_ASKED" not in sh(sbx, sandbox, "env", env={"NOT_ASKED": "secret"}).stdout


def test_environment_from_files_of_other_systems(sbx, sandbox, workspace):
    file = workspace / "vars"
    file.write_bytes(b"\xef\xbb\xbfFIRST=1\r\n\r\n# comment\r\nFROM_HOST\r\nTWO=a\r\r\nLAST=a b\r")
    script = 'printf "%s." "$FIRST" "$FROM_HOST" "$TWO" "$LAST"'
    done = subprocess.run([sbx.binary, "exec", "--env-file", file, sandbox, "sh", "-c", script],
                          env={**sbx.env, "FROM_HOST": "h"},
                          stdout=subprocess.PIPE, check=True, timeout=60 * PATIENCE)
    assert done.stdout == b"1.h.a\r.a b."
    assert sh(sbx, sandbox, "echo fine", "--env-file", "/dev/null").stdout == "fine\n"


def test_environment_from_a_pipe(sbx, sandbox, workspace):
    """A secret that never lies on the disk. It is read once, whatever becomes of the command."""
    create = ('"$0" create --name piped --env-file '
              '<(echo P1=one; sleep 0.3; echo P2=two; yes "#" | head -c 100000) shell "$1"')
    subprocess.run(["bash", "-c", create, sbx.binary, workspace], env=sbx.env, check=True,
                   timeout=60 * PATIENCE)
    assert sh(sbx, "piped", "echo $P1 $P2").stdout == "one two\n"
    for words in (("--name", "anew", "shell", workspace), (sandbox,)):  # one to make, one that is there
        run = '"$0" run --env-file <(echo P1=one; sleep 0.3; echo P2=two) "$@" -- -c \'echo $P1 $P2\''
        done = subprocess.run(["bash", "-c", run, sbx.binary, *words], env=sbx.env, text=True,
                              stdout=subprocess.PIPE, check=True, timeout=60 * PATIENCE)
        assert done.stdout.endswith("one two\n")
    sbx.ok("rm", "-f", "piped", "anew")


def test_environment_of_run_is_kept_and_can_be_added_to(sbx, sandbox, workspace):
    sbx.ok("create", "--name", "vars", "-e", "KEPT=1", "-e", "CHANGED=old", "shell", workspace)
    script = "echo $KEPT $CHANGED $ONCE"
    assert sh(sbx, "vars", script).stdout == "1 old\n"
    run = ("run", "-e", "CHANGED=new", "-e", "ONCE=x", "vars", "--", "-c", script)
    assert sbx.ok(*run) == "1 new x\n"
    sbx.ok("stop", "vars")
    assert sh(sbx, "vars", script).stdout == "1 old\n"
    sbx.ok("rm", "-f", "vars")


# --- run

def test_agent_arguments(sbx, sandbox, workspace):
    """Words that begin with a flag are added to the agent's own, others take their place."""
    assert sbx.ok("run", sandbox, "--", "-c", 'shopt -q login_shell && echo "$0 $1"', "a", "b") == \
        "a b\n"
    script = workspace / "script.sh"
    script.write_text('shopt -q login_shell || echo "plain $1"\n', "utf-8")
    assert sbx.ok("run", sandbox, "--", script, "word") == "plain word\n"
    sbx("run", sandbox, "--", "-c", "exit 42", code=42)


def test_run_comes_back_by_name_and_by_place(sbx, workspace):
    made = sbx.ok("run", "-d", "shell", workspace)
    name = made.strip()
    assert name == f"shell-{workspace.name}"
    sbx.ok("run", name, "--", "-c", "echo kept > ~/note")
    sbx.ok("stop", name)
    assert sbx.ok("run", "shell", workspace, "--", "-c", "cat ~/note") == "kept\n"
    assert sbx.ok("run", "shell", "--", "-c", "cat ~/note", cwd=workspace) == "kept\n"
    assert names(sbx) - {"box"} == {name}
    sbx.ok("rm", "-f", name)


def test_run_rm(sbx, workspace):
    for words, code in ((("-c", "true"), 0), (("-c", "exit 3"), 3)):
        sbx("run", "--rm", "--name", "gone", "shell", workspace, "--", *words, code=code)
        assert "gone" not in names(sbx)


@pytest.mark.parametrize("signo", (signal.SIGINT, signal.SIGTERM))
def test_run_rm_when_interrupted(sbx, workspace, signo):
    run = subprocess.Popen([sbx.binary, "run", "--rm", "--name", "gone", "shell", workspace, "--",
                            "-c", "echo up; exec sleep 600"], env=sbx.env,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"up\n"
    run.send_signal(signo)
    assert run.wait(DEADLINE) == 128 + signo
    run.stdout.close()
    assert "gone" not in names(sbx)


def test_run_without_a_terminal_takes_input(sbx, sandbox):
    done = subprocess.run([sbx.binary, "run", sandbox], input=b"echo from a pipe\nexit 5\n",
                          env=sbx.env, capture_output=True, timeout=DEADLINE, check=False)
    assert done.stdout.endswith(b"from a pipe\n") and done.returncode == 5


def test_creation_flags_on_an_existing_sandbox(sbx, sandbox, top, workspace):
    for flags in (("--kit", "x"), ("-p", "80"), ("--memory", "1g"), ("--cpus", "1"),
                  ("--pids", "99")):
        message = sbx("run", *flags, sandbox, code=2).stderr
        assert f"{flags[0] if flags[0] != '-p' else '--publish'} can only be used when creating" \
            in message
    message = sbx("run", "--name", sandbox, "shell", top, workspace, code=2).stderr
    assert "other paths can only be given when creating" in message
    sbx.ok("run", "--name", sandbox, "shell", top, "--", "-c", "true")


def test_read_only_paths(sbx, workspace):
    inner, fixed = workspace / "w", workspace / "fixed"
    for path in (inner, fixed):
        path.mkdir()
    sbx.ok("create", "--name", "ro", "shell", inner, f"{fixed}:ro")
    assert sh(sbx, "ro", f"touch {inner}/a && ! touch {fixed}/a 2>/dev/null").returncode == 0
    assert not (fixed / "a").exists()
    sbx.ok("rm", "-f", "ro")
