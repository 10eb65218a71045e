# SPDX-License-Identifier: Apache-2.0
"""kill -9 of each host process of a sandbox at any step of its creation, and of the proxy and the
supervisor later.

killer.c stops a creation at its Nth call that changes something and kills the process there.  A few
moments of each process are tried, other ones each day: a failure shows the SBX_KILL_FIRST that
tries them again.  `make check-kill` tries many, with SBX_KILL_POINTS=1000 all of them (an hour).
After each: nothing of it runs on its own, nothing came out of the sandbox, and the next commands
say what happened and work."""

import ctypes
import http.server
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest
from conftest import ISOLATION, PATIENCE, ROOT, need_program, need_root, need_sandboxes, wait_for

DEADLINE = 60 * PATIENCE
POINTS = int(os.environ.get("SBX_KILL_POINTS", "8" if ISOLATION == "ns" else "3"))
FIRST = int(os.environ.get("SBX_KILL_FIRST") or time.localtime().tm_yday)
NAME = f"kill{os.getpid()}"
FIRST_PROCESS = b"sbx-init" if ISOLATION == "ns" else b"sbx-vm"
PR_SET_CHILD_SUBREAPER = 36
KIT = """schemaVersion: "1"
kind: mixin
name: steps
commands:
  install:
    - command: |
        for host in 127.0.0.1 {address} host.docker.internal; do
            timeout 5 bash -c "echo >/dev/tcp/$host/{port}"
        done 2>/dev/null; true
  initFiles:
    - {{path: /home/agent/made, content: made}}
  startup:
    - command: [sh, -c, 'echo started >> ~/starts']
"""


@pytest.fixture(scope="module")
def killer(tmp_path_factory):
    need_root()
    need_program("cc")
    program = tmp_path_factory.mktemp("killer") / "killer"
    subprocess.run(["cc", "-O1", "-o", program, ROOT / "tests/e2e/killer.c"], check=True)
    return program


@pytest.fixture(scope="module", autouse=True)
def reaper():
    """Whatever outlives its parent becomes a child of ours, so that none is overlooked."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def canary():
    """A listener on every address of the host that no sandbox may reach."""
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        listener.setblocking(False)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.fixture
def kit(canary):
    top = pathlib.Path(tempfile.mkdtemp(prefix="sbx-k-"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: only asks for our own address
            address = probe.getsockname()[0]
        except OSError:
            address = "127.0.0.2"
    (top / "files/home").mkdir(parents=True)
    (top / "files/home/note").write_text("a file of the kit\n", encoding="utf-8")
    (top / "spec.yaml").write_text(KIT.format(port=canary.getsockname()[1], address=address),
                                   encoding="utf-8")
    yield top
    shutil.rmtree(top)


def descendants():
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = pathlib.Path(f"/proc/{entry}/stat").read_text("utf-8", errors="replace")
        except OSError:
            continue
        parents[int(entry)] = int(text.rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def await_end(pids):
    """Waits for the ends of processes that nothing but a fault keeps alive."""
    limit = time.monotonic() + DEADLINE
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        left = max(0, limit - time.monotonic())
        ended = select.select([pidfd], [], [], left)[0]
        os.close(pidfd)
        if not ended:
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            raise AssertionError(f"process {pid} is left: {command}")
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # its own parent has reaped it


def await_no_process():
    limit = time.monotonic() + DEADLINE
    while pids := descendants():
        assert time.monotonic() < limit
        await_end(pids)


def assert_nothing_is_left(sbx):
    await_no_process()
    assert sbx.json("ls") == []
    # What a killed `create` has not named yet is removed by the next.
    assert sbx.stored() <= {".new"}
    assert not (sbx.home / "run" / NAME).exists()
    # os.walk passes over what others remove meanwhile.
    groups = [name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names]
    assert not [name for name in groups if name.startswith(f"sbx-{NAME}-")]
    mounts = pathlib.Path("/proc/self/mountinfo").read_text("utf-8")
    assert str(sbx.home) not in mounts


def check_after(sbx, workspace, code):
    """What a person does next, whatever has happened; returns the status that was shown."""
    boxes = {box["name"]: box["status"] for box in sbx.json("ls")}
    assert set(boxes) <= {NAME}
    status = boxes.get(NAME)
    if status is None:
        assert code != 0
    elif status == "broken":
        message = sbx("run", NAME, "--", "-c", "true", code=125).stderr
        assert "never finished" in message and f"sbx rm -f {NAME}" in message
        assert "already a sandbox" in sbx("create", "--name", NAME, "shell", workspace,
                                          code=1).stderr
    else:
        assert status in ("running", "stopped")
        starts = sbx.ok("exec", NAME, "--", "sh", "-c", "cat ~/made ~/note ~/starts")
        assert starts.startswith("madea file of the kit\nstarted\n")
    sbx("rm", "-f", NAME, code=0 if status else 1)
    assert_nothing_is_left(sbx)
    return status


def run_killer(killer, sbx, who, number, *words):
    result = sbx.home / "killed.json"
    done = subprocess.run(
        [killer, who, str(number), result, sbx.binary, *words], env=sbx.env, capture_output=True,
        text=True, timeout=DEADLINE, stdin=subprocess.DEVNULL, check=True)
    return json.loads(result.read_text("utf-8")), done.stderr


def moments(calls):
    print(f"of {calls} moments those of SBX_KILL_FIRST={FIRST} SBX_KILL_POINTS={POINTS}")
    step = max(1, calls // POINTS)
    return range(1 + FIRST % step, calls + 1, step)


@pytest.mark.parametrize("who, cold", (("cli", False), ("supervisor", False), ("supervisor", True),
                                       ("setup", False), ("proxy", False)))
def test_killed_at_any_step_of_create(killer, sbx, workspace, kit, who, cold):
    """cold: the host template is built, too."""
    need_sandboxes(sbx)
    sbx.ok("policy", "init", "deny-all")
    templates = sbx.home / "state/templates"
    if not cold:
        sbx.ok("create", "--name", NAME, "shell", workspace)
        sbx.ok("rm", "-f", NAME)
    create = ("create", "--name", NAME, "--kit", kit, "shell", workspace)
    whole, _ = run_killer(killer, sbx, who, 0, *create)
    assert whole["status"] == 0
    assert check_after(sbx, workspace, 0) == "running"
    seen = set()
    for number in moments(whole["calls"]):
        if cold:
            shutil.rmtree(templates, ignore_errors=True)
        result, message = run_killer(killer, sbx, who, number, *create)
        if not result["killed"]:
            assert result["status"] == 0
        elif who == "cli":
            # Its supervisor sees it go, and takes everything down but what is complete.
            if {box["status"] for box in sbx.json("ls")} != {"running"}:
                await_no_process()
        else:
            assert result["status"] in (0, 1, 125), message
            assert result["status"] == 0 or "sbx: " in message
        try:
            seen.add(check_after(sbx, workspace, result["status"]))
        except AssertionError as error:
            raise AssertionError(f"{who} killed at {number} of {whole['calls']} (system call "
                                 f"{result['call']}): {error}\n{message}") from error
    if who == "cli":
        assert "broken" in seen
    else:
        assert seen <= {None, "running", "stopped"}, "a failed creation is rolled back"
    sbx.ok("create", "--name", NAME, "shell", workspace)
    assert sbx.stored() == {NAME}
    assert not [path for path in templates.iterdir() if ".new." in path.name]
    sbx.ok("rm", "-f", NAME)


@pytest.mark.parametrize("who", ("cli", "supervisor", "setup", "proxy"))
def test_killed_at_any_step_of_start(killer, sbx, workspace, kit, who):
    """What it holds stays, and the next command starts it with all of its steps."""
    need_sandboxes(sbx)
    sbx.ok("policy", "init", "deny-all")
    sbx.ok("create", "--name", NAME, "--kit", kit, "shell", workspace)
    sbx.ok("stop", NAME)
    whole, _ = run_killer(killer, sbx, who, 0, "start", NAME)
    assert whole["status"] == 0
    for number in moments(whole["calls"]):
        sbx.ok("stop", NAME)
        sbx.ok("exec", NAME, "--", "sh", "-c", ": > ~/starts")
        sbx.ok("stop", NAME)
        result, message = run_killer(killer, sbx, who, number, "start", NAME)
        place = f"{who} killed at {number} of {whole['calls']} (call {result['call']}): {message}"
        if who == "cli" and result["killed"] and sbx.json("ls")[0]["status"] == "stopped":
            await_no_process()
        assert [box["status"] for box in sbx.json("ls")] in (["running"], ["stopped"]), place
        assert who == "cli" or result["status"] == 0 or "sbx: " in message, place
        starts = sbx.ok("exec", NAME, "--", "sh", "-c", "cat ~/note ~/starts")
        assert starts.startswith("a file of the kit\nstarted\n"), place
    sbx.ok("rm", "-f", NAME)
    assert_nothing_is_left(sbx)


def test_killed_at_any_step_of_rm(killer, sbx, workspace, kit):
    need_sandboxes(sbx)
    sbx.ok("policy", "init", "deny-all")
    create = ("create", "-q", "--name", NAME, "--kit", kit, "shell", workspace)
    sbx.ok(*create)
    whole, _ = run_killer(killer, sbx, "cli", 0, "rm", "-f", NAME)
    for number in moments(whole["calls"]):
        sbx.ok(*create)
        run_killer(killer, sbx, "cli", number, "rm", "-f", NAME)
        left = sbx.json("ls")
        assert [box["status"] for box in left] in ([], ["running"], ["stopped"]), number
        if left:
            sbx.ok("exec", NAME, "true")
            sbx.ok("rm", "-f", NAME)
        else:
            sbx.ok(*create)  # the name is free at once, and the rest goes with the next removal
            sbx.ok("rm", "-f", NAME)
        assert_nothing_is_left(sbx)


def test_supervisor_killed_at_any_step_of_removal(killer, sbx, workspace, kit):
    """`run --rm`, from the end of the agent on: what is left is removed by the next command."""
    need_sandboxes(sbx)
    sbx.ok("policy", "init", "deny-all")
    words = ("--name", NAME, "--kit", kit, "shell", workspace)
    sbx.ok("create", *words)  # with it the host template
    sbx.ok("rm", "-f", NAME)
    run = ("run", "--rm", *words, "--", "-c", "true")
    for _ in range(5):
        made, _ = run_killer(killer, sbx, "supervisor", 0, "create", *words)
        sbx.ok("rm", "-f", NAME)
        whole, _ = run_killer(killer, sbx, "remover", 0, *run)
        if made["calls"] + 10 < whole["calls"] < made["calls"] + 200:
            break  # else somebody has changed the host's /etc, and one of them has built a template
    else:
        pytest.fail(f"{made} to create, {whole} for all")
    rests = 0
    for number in moments(whole["calls"] - made["calls"]):
        result, message = run_killer(killer, sbx, "remover", made["calls"] + number, *run)
        place = f"killed at {number} (call {result['call']}): {message}"
        assert result["status"] == 0 or "sbx: " in message, place
        await_no_process()
        rests += any(path.name.startswith(".removed.")
                     for path in (sbx.home / "state/sandboxes").iterdir())
        left = sbx.json("ls")
        assert [box["status"] for box in left] in ([], ["stopped"]), place
        if left:
            sbx.ok("rm", "-f", NAME)
        sbx.ok("create", "--name", "next", "shell", workspace)
        assert sbx.stored() == {"next"}, place
        sbx.ok("rm", "-f", "next")
        assert_nothing_is_left(sbx)
    assert rests or POINTS < 8, "no moment lay between the answer and the empty storage"


# --- later

class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append(self.path)
        self.send_response(200)
        if self.path == "/endless":
            self.send_header("Content-Length", str(1 << 50))
            self.end_headers()
            self.server.streaming.set()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                self.server.broken.set()
            self.close_connection = True
        else:
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"answer")

    def log_message(self, *_args):
        pass


@pytest.fixture
def origin(sbx):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    server.daemon_threads = True
    server.seen, server.streaming, server.broken = [], threading.Event(), threading.Event()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    sbx.ok("policy", "init", "deny-all")
    sbx.ok("policy", "allow", "-g", f"localhost:{server.server_address[1]}")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def named(name):
    """Our process of this name: there is one."""
    found = []
    for pid in descendants():
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == name:
            found.append(pid)
    pid, = found
    return pid


def await_new_proxy(old):
    limit = time.monotonic() + DEADLINE
    while True:
        try:
            pid = named(b"sbx-proxy")
        except ValueError:
            pid = old
        if pid != old:
            return pid
        assert time.monotonic() < limit, "no new proxy"


def url(origin, path="/"):
    return f"http://host.docker.internal:{origin.server_address[1]}{path}"


CURL = ("curl", "-sS", "--max-time", str(DEADLINE))
DIRECT = ("env", "-u", "http_proxy", "-u", "HTTP_PROXY", *CURL)
PROXY_PORT = ":0C38 01 "  # 3128, ESTABLISHED


def connected_to_proxy():
    """Whether a process of the sandbox has a connection to the proxy's listener."""
    for pid in descendants():
        try:
            inside = os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
            if inside and PROXY_PORT in pathlib.Path(f"/proc/{pid}/net/tcp").read_text("utf-8"):
                return True
        except OSError:
            continue
    return False


def test_connections_wait_while_there_is_no_proxy(sbx, sandbox, workspace, origin, canary):
    await_go = f"echo up; while ! [ -e {workspace}/go ]; do sleep 0.02; done; "
    bypass = f"timeout 2 bash -c 'echo >/dev/tcp/10.9.8.7/{canary.getsockname()[1]}'; "
    clients = [subprocess.Popen(
        [sbx.binary, "exec", sandbox, "sh", "-c", await_go + bypass + " ".join(words)],
        env=sbx.env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for words in ((*CURL, url(origin)), (*DIRECT, url(origin)))]
    for client in clients:
        assert client.stdout.readline() == "up\n"
    supervisor, proxy = named(b"sbx-supervisor"), named(b"sbx-proxy")
    os.kill(supervisor, signal.SIGSTOP)  # nobody replaces it for now
    try:
        os.kill(proxy, signal.SIGKILL)
        (workspace / "go").touch()
        limit = time.monotonic() + DEADLINE
        while not connected_to_proxy():
            assert time.monotonic() < limit
        assert origin.seen == [] and [client.poll() for client in clients] == [None, None]
    finally:
        os.kill(supervisor, signal.SIGCONT)
    for client in clients:
        assert client.communicate(timeout=DEADLINE)[0] == "answer"
        assert client.returncode == 0
    assert origin.seen == ["/", "/"]


def test_kill_of_the_proxy_in_a_transfer(sbx, sandbox, origin):
    proxy = named(b"sbx-proxy")
    transfer = subprocess.Popen(
        [sbx.binary, "exec", sandbox, *CURL, "-o", "/dev/null", url(origin, "/endless")],
        env=sbx.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert origin.streaming.wait(DEADLINE)
    os.kill(proxy, signal.SIGKILL)
    assert transfer.wait(DEADLINE) != 0, "half a transfer is no success"
    transfer.stderr.close()
    assert origin.broken.wait(DEADLINE)
    for _ in range(5):
        proxy = await_new_proxy(proxy)
        for client in (CURL, DIRECT):
            assert sbx.ok("exec", sandbox, *client, url(origin)) == "answer"
        denied = sbx("exec", sandbox, *CURL, "-o", "/dev/null", "-w", "%{http_code}",
                     "http://denied.example/")
        assert denied.stdout == "403"
        os.kill(proxy, signal.SIGKILL)
    await_new_proxy(proxy)
    log = sbx.json("policy", "log", sandbox, "--denied", "--limit", "1")
    assert log["host"] == "denied.example"


def test_rm_answers_when_nothing_runs_and_no_secret_is_left(sbx, sandbox, workspace):
    sbx.ok("secret", "set-custom", sandbox, "--host", "api.example", "--env", "KEY",
           "--value-stdin", input="sk-of-this-one")
    sbx.ok("policy", "allow", sandbox, "api.example")
    sbx.ok("exec", "-d", sandbox, "--", "sh", "-c", f"touch {workspace}/up; exec sleep 1000")
    wait_for("the command did not begin", (workspace / "up").exists)
    inside = {pid for pid in descendants() if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()}
    inside -= {named(b"sbx-supervisor")}
    assert {named(FIRST_PROCESS), named(b"sbx-proxy")} < inside
    sbx.ok("rm", "-f", sandbox)
    assert not inside & descendants()
    kept = [path for path in (sbx.home / "config").rglob("*")
            if path.is_file() and sandbox in path.name]
    assert kept == [] and sbx.json("ls") == []
    sbx.ok("create", "--name", sandbox, "shell", workspace)


def test_reboot_leaves_state_that_starts_again(sbx, sandbox, origin):
    """The runtime directory and every process are gone, the state is as it was."""
    sbx.ok("exec", sandbox, "--", "sh", "-c", "echo kept > ~/note; sync ~/note")
    os.kill(named(b"sbx-supervisor"), signal.SIGKILL)
    await_no_process()
    shutil.rmtree(sbx.home / "run")
    assert [box["status"] for box in sbx.json("ls")] == ["stopped"]
    assert sbx.ok("exec", sandbox, "--", "sh", "-c", "cat ~/note") == "kept\n"
    assert sbx.ok("exec", sandbox, *CURL, url(origin)) == "answer"


def test_lost_runtime_directory_gives_no_second_supervisor(sbx, sandbox):
    supervisor = named(b"sbx-supervisor")
    shutil.rmtree(sbx.home / "run")
    for words, code in ((("exec", sandbox, "true"), 125), (("rm", "-f", sandbox), 1)):
        message = sbx(*words, code=code).stderr
        assert f"process {supervisor} still runs" in message and f"kill {supervisor}" in message
    assert named(b"sbx-supervisor") == supervisor
    os.kill(supervisor, signal.SIGTERM)
    await_no_process()
    sbx.ok("exec", sandbox, "true")
