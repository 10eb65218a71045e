# SPDX-License-Identifier: Apache-2.0
"""The request log: the real proxy with the test as its supervisor, then whole sandboxes."""
import contextlib
import hashlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from conftest import EXIT, ROOT, need_root, skip_loudly, supervisor_of
from machine import children, comm
from test_proxy import Proxy, start_origin

SECONDS = 30
# Asks for COUNT different names, with at most WINDOW questions under way.
FLOOD = f"SERVER = '{EXIT}'" + """
import socket, struct, sys
count, window, sent, got = int(sys.argv[1]), 64, 0, 0
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((SERVER, 53))
s.settimeout(2)
while got < count:
    while sent - got < window and sent < count:
        name = b"n%d" % sent
        s.send(struct.pack(">HHHHHH", sent & 0xffff, 0x100, 1, 0, 0, 0) + bytes([len(name)]) + name
               + b"\\x05flood\\x07example\\0\\0\\1\\0\\1")
        sent += 1
    try:
        s.recv(2048)
        got += 1
    except TimeoutError:
        got = sent
"""


def wait_for(what, condition, seconds=SECONDS):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return value


def read(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def check_script(*files):
    """The script of the documentation, as it stands there."""
    text = (ROOT / "docs/audit-log.md").read_text(encoding="utf-8")
    script = re.search(r"```python\n(.*?)```", text, re.S)[1]
    return subprocess.run([sys.executable, "-c", script, *map(str, files)], capture_output=True,
                          text=True, check=False)


def denied(proxy, host="evil.example", target="/"):
    """One refused request; the answer."""
    with socket.create_connection(proxy.http.getsockname(), SECONDS) as s:
        head = f"GET http://{host}{target} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        s.sendall(head.encode("latin-1"))
        data = b""
        while part := s.recv(65536):
            data += part
    return data.decode("latin-1")


@pytest.fixture
def proxy(tmp_path):
    running = Proxy(tmp_path)
    yield running
    running.close()


# ---- one proxy ----

@pytest.mark.no_sandbox
def test_lines_follow_the_documentation(proxy):
    origin = start_origin()
    port = origin.server_address[1]
    proxy.configure([f"allow localhost:{port}"])
    proxy.curl(f"http://localhost:{port}/a/b?token=hidden", "-d", "hello")
    denied(proxy)
    origin.shutdown()
    proxy.records(2)
    opened, allowed, refused = read(proxy.log)
    assert opened["event"] == "open" and opened["reason"] == "start" and opened["seq"] == 1
    fields = re.search(r'\{"v":1,"seq":8.*?\}', (ROOT / "docs/audit-log.md").read_text(), re.S)[0]
    assert list(allowed) == list(refused) == re.findall(r'"(\w+)":', fields)
    assert [allowed["seq"], refused["seq"]] == [2, 3]
    assert allowed["target"] == "/a/b" and allowed["bytes_out"] == 5 and allowed["status"] == 200
    assert allowed["rule_id"] == "00000000" and allowed["origin"] == "global"
    assert refused["rule"] is None and refused["reason"] == "default-deny"
    assert b"hidden" not in proxy.log.read_bytes()
    assert check_script(proxy.log).returncode == 0
    head = (proxy.log.parent / "log-head").read_text().split()
    assert head == [f"{3:020}", refused["chain"]]


@pytest.mark.no_sandbox
def test_refusal_is_in_the_file_before_it_is_sent(proxy):
    proxy.configure([])
    for i in range(200):
        with socket.create_connection(proxy.http.getsockname(), SECONDS) as s:
            s.sendall(f"GET http://n{i}.example/ HTTP/1.1\r\nHost: n{i}.example\r\n\r\n".encode())
            s.recv(1)
            assert read(proxy.log)[-1]["host"] == f"n{i}.example"


@pytest.mark.no_sandbox
def test_hostile_bytes_stay_inside_their_line(proxy):
    proxy.configure([])
    for target in ('/"},{"decision":"allow"', "/\\\\", "/%0a%1b[2J", "/\xff\xfe\x80", "/\x1b[2J", "/\x7f",
                   "/" + "x" * 5000, "/" + "\xff" * 5000):
        denied(proxy, target=target)
    data = proxy.log.read_bytes()
    assert all(32 <= c < 127 or c == 10 for c in data)
    records = [r for r in read(proxy.log) if "decision" in r]
    assert records and {r["decision"] for r in records} == {"deny"}
    assert max(map(len, data.splitlines())) < 16384 and check_script(proxy.log).returncode == 0


class Keeper(threading.Thread):
    """The supervisor's part: a new file for each {"op":"rotate"}."""

    def __init__(self, proxy):
        super().__init__(daemon=True)
        self.proxy, self.files, self.go = proxy, [], threading.Event()
        self.refusals = 0
        self.start()

    def next_file(self):
        path = self.proxy.log.parent / f"log.{len(self.files)}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.files.append(path)
        socket.send_fds(self.proxy.keeper, [b'{"op":"log"}'], [fd])
        os.close(fd)

    def run(self):
        self.proxy.keeper.settimeout(None)
        while message := self.proxy.keeper.recv(1000):
            assert json.loads(message) == {"op": "rotate"}
            self.go.wait(SECONDS)
            if self.refusals:  # as when the disk is full
                self.refusals -= 1
                self.proxy.keeper.send(b'{"ok":false,"error":"No space left on device"}')
            else:
                with contextlib.suppress(BrokenPipeError):  # the test is over
                    self.next_file()


@pytest.mark.no_sandbox
def test_no_line_is_lost_or_moved_by_a_change_of_files(tmp_path):
    proxy = Proxy(tmp_path, log_bytes=10000)
    keeper = Keeper(proxy)
    keeper.go.set()
    try:
        proxy.configure([])
        answers = []
        clients = [threading.Thread(target=lambda: answers.extend(denied(proxy)
                                                                  for _ in range(100)))
                   for _ in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    finally:
        proxy.close()
    files = [proxy.log, *(f for f in keeper.files if f.stat().st_size)]
    assert len(files) > 5 and all(f.stat().st_size < 2 * 10000 + 1000 for f in files)
    lines = [line for f in files for line in read(f)]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    # Every answer is accounted for, those too that came before this slow keeper's next file.
    refused = sum(" 503 " in answer for answer in answers)
    assert len(answers) == 400 and len([r for r in lines if "decision" in r]) == 400 - refused
    assert sum(line.get("refused", 0) for line in lines) == refused
    for f in files[1:]:
        first = read(f)[0]
        assert first["event"] == "open" and first["reason"] == "rotation"
    assert lines[-1]["event"] == "close" and check_script(*files).returncode == 0


@pytest.mark.no_sandbox
def test_file_does_not_grow_when_the_keeper_is_silent(tmp_path):
    proxy = Proxy(tmp_path, log_bytes=5000)
    keeper = Keeper(proxy)
    try:
        proxy.configure([])
        for _ in range(40):
            answer = denied(proxy)
        assert " 503 " in answer and "it is full and could not be rotated" in answer
        assert proxy.log.stat().st_size < 2 * 5000 + 1000
        keeper.refusals = 2
        keeper.go.set()
        wait_for("requests to be judged again", lambda: " 403 " in denied(proxy))
        gap = [line for line in read(keeper.files[0]) if line.get("event") == "gap"]
        assert gap and gap[0]["refused"] > 5 and gap[0]["lost"] == 0
        assert check_script(proxy.log, keeper.files[0]).returncode == 0
    finally:
        proxy.close()


@pytest.fixture
def small_disk(tmp_path):
    need_root()
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=False,
                      capture_output=True).returncode:
        skip_loudly("this machine lets root mount no tmpfs")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk, name):
    with open(disk / name, "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 512)
        except OSError:
            pass


@pytest.mark.no_sandbox
def test_full_disk_refuses_and_says_so(tmp_path, small_disk):
    origin = start_origin()
    port = origin.server_address[1]
    proxy = Proxy(tmp_path, log=small_disk / "log.jsonl")
    url = f"http://localhost:{port}/"
    try:
        proxy.configure([f"allow localhost:{port}"])
        assert proxy.curl("-w", "%{http_code}", url).stdout.endswith("200")
        fill(small_disk, "filler")
        for _ in range(30):  # the rest of the log's last page
            answer = proxy.curl("-w", "%{http_code}", url).stdout
        assert answer.endswith("503") and "No space left on device" in answer
        (small_disk / "filler").unlink()
        assert proxy.curl("-w", "%{http_code}", url).stdout.endswith("200")
        gap = wait_for("the gap", lambda: [r for r in read(proxy.log) if r.get("event") == "gap"])
        assert gap[0]["refused"] > 5
        assert check_script(proxy.log).returncode == 0
    finally:
        proxy.close()
        origin.shutdown()


@pytest.mark.no_sandbox
def test_torn_line_of_a_killed_proxy_is_named(tmp_path, small_disk):
    log = small_disk / "log.jsonl"
    first = Proxy(tmp_path, log=log)
    first.configure([])
    fill(small_disk, "filler")
    wait_for("a line without its end", lambda: " 503 " in denied(first))
    torn = log.read_bytes().rpartition(b"\n")[2]
    assert torn
    first.process.kill()
    assert first.process.wait(SECONDS) == -signal.SIGKILL
    for s in (first.sock, first.http, first.tcp4, first.udp, first.keeper):
        s.close()
    (small_disk / "filler").unlink()
    second = Proxy(tmp_path, log=log)
    try:
        second.configure([])
        denied(second)
    finally:
        second.close()
    lines = log.read_bytes().splitlines()
    at = lines.index(torn)
    event = json.loads(lines[at + 1])
    assert event["event"] == "open" and event["torn"] == len(torn)
    assert event["torn_sha256"] == hashlib.sha256(torn).hexdigest()
    assert event["prev"] == json.loads(lines[at - 1])["chain"]
    assert event["seq"] == json.loads(lines[at - 1])["seq"] + 1


@pytest.mark.no_sandbox
def test_orderly_end_records_what_is_open(proxy):
    origin = start_origin()
    port = origin.server_address[1]
    proxy.configure([f"allow localhost:{port}"])
    with socket.create_connection(proxy.http.getsockname(), SECONDS) as s:
        s.sendall(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        assert b" 200 " in s.recv(1000)
        proxy.sock.shutdown(socket.SHUT_RDWR)
        proxy.process.wait(SECONDS)
    origin.shutdown()
    tunnel, closed = read(proxy.log)[-2:]
    assert tunnel["reason"] == "stopped" and tunnel["port"] == port and tunnel["decision"] == "allow"
    assert closed["event"] == "close"


# ---- whole sandboxes ----

def log_file(sbx, name="box"):
    return sbx.home / "state/log" / f"{name}.jsonl"


def lookups(sbx, name, count):
    sbx.ok("exec", name, "--", "/usr/bin/python3", "-c", FLOOD, count, timeout=120)


def verify(sbx, code, *names):
    return sbx("policy", "log", "--verify", *names, code=code).stdout


def test_chain_goes_on_over_stop_kill_and_a_new_sandbox(sbx, sandbox, workspace):
    lookups(sbx, sandbox, 5)
    sbx.ok("stop", sandbox)
    lookups(sbx, sandbox, 5)
    assert "note" not in verify(sbx, 0)
    proxy = next(pid for pid in children(supervisor_of(sbx.home, sandbox)) if comm(pid) == "sbx-proxy")
    os.kill(proxy, signal.SIGKILL)
    wait_for("the proxy's successor", lambda: log_file(sbx).read_text().count('"event":"open"') == 3)
    lookups(sbx, sandbox, 5)
    text = verify(sbx, 0)
    assert "box: whole: " in text and "the proxy before was killed" in text
    sbx.ok("rm", "--force", sandbox)
    assert "box: whole: " in verify(sbx, 0, sandbox)
    assert "flood.example" in sbx.ok("policy", "log", sandbox)
    sbx.ok("create", "--name", sandbox, "shell", workspace)
    lookups(sbx, sandbox, 5)
    assert "box: whole: " in verify(sbx, 0, sandbox)
    numbers = [line["seq"] for line in read(log_file(sbx))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_killed_supervisor_leaves_a_whole_log(sbx, sandbox):
    lookups(sbx, sandbox, 5)
    pidfd = os.pidfd_open(supervisor_of(sbx.home, sandbox))
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], SECONDS)[0]
    os.close(pidfd)
    sbx.ok("start", sandbox)
    lookups(sbx, sandbox, 5)
    assert "box: whole: " in verify(sbx, 0)


@pytest.mark.parametrize("change, line", [
    (lambda lines: lines[3].replace(b"flood.example", b"flood.exbmple"), 4),
    (lambda lines: lines[3].replace(b'"deny"', b'"allow"'), 4),
    (lambda lines: b"", 4),
    (lambda lines: lines[4] + lines[3], 4),
    (lambda lines: lines[3] + lines[3], 5),
    (lambda lines: b"not a record\n" + lines[3], 4)])
def test_change_is_found_with_its_place(sbx, sandbox, change, line):
    lookups(sbx, sandbox, 6)
    sbx.ok("stop", sandbox)
    lines = log_file(sbx).read_bytes().splitlines(True)
    lines[3] = change(lines)
    log_file(sbx).write_bytes(b"".join(lines))
    assert f"{log_file(sbx)}:{line}: " in verify(sbx, 1)
    assert "NOT whole" in verify(sbx, 1, sandbox)
    found, = json.loads(verify(sbx, 1, "--json"))
    assert (found["sandbox"], found["whole"], found["files"]) == ("box", False, 1)
    assert ("box.jsonl", line, False) in [(place["file"], place["line"], place["harmless"])
                                          for place in found["findings"]]


def test_cut_end_is_found_now_and_after_a_start(sbx, sandbox):
    lookups(sbx, sandbox, 6)
    sbx.ok("stop", sandbox)
    lines = log_file(sbx).read_bytes().splitlines(True)
    log_file(sbx).write_bytes(b"".join(lines[:4]))
    assert "log/box.jsonl:4: the end is missing: record 8 was written" in verify(sbx, 1)
    sbx.ok("start", sandbox)
    assert "log/box.jsonl:5: records 5 to 8 are missing before this line" in verify(sbx, 1)
    log_file(sbx).unlink()
    assert "the log is missing" in verify(sbx, 1, sandbox)


def test_filters(sbx, sandbox):
    for host in ("a.example:80", "b.example:8080", "x.b.example:80"):
        sbx("exec", sandbox, "--", "curl", "-s", "-m", "9", "-o", "/dev/null", f"http://{host}/")
    hosts = lambda *words: sbx.ok("policy", "log", sandbox, "-q", *words).split()  # noqa: E731
    assert sorted(hosts("--denied")) == ["a.example:80", "b.example:8080", "x.b.example:80"]
    assert hosts("--host", "*.b.example") == ["x.b.example:80"]
    assert hosts("--host", "b.example:8080", "--since", "10m") == ["b.example:8080"]
    assert hosts("--since", "2999-01-01") == []
    stored = [line for line in log_file(sbx).read_text().splitlines() if '"decision"' in line]
    assert sbx.ok("policy", "log", sandbox, "--json").splitlines() == stored
    assert sbx.ok("policy", "log", sandbox, "--json", "--limit", 2).splitlines() == stored[-2:]
    middle = json.loads(stored[1])["t"]
    assert sbx.ok("policy", "log", sandbox, "--json", "--since", middle).splitlines() == stored[1:]
    for words in (["--since", "soon"], ["--since", "5"], ["--host", "a b"], ["--limit", "0"]):
        assert words[0] in sbx("policy", "log", sandbox, *words, code=2).stderr


def test_flood_is_bounded_followed_and_harms_nobody(sbx, sandbox, workspace):
    """More refusals than the log keeps: 128 MiB hold about 335,000 of these."""
    count = 360_000
    sbx.ok("create", "--name", "other", "shell", workspace)
    with subprocess.Popen([sbx.binary, "policy", "log", sandbox, "-f", "--json"], env=sbx.env,
                          stdout=subprocess.PIPE) as follower:
        numbers = []
        reader = threading.Thread(
            target=lambda: numbers.extend(json.loads(line)["seq"] for line in follower.stdout))
        reader.start()
        flood = threading.Thread(target=lookups, args=(sbx, sandbox, count))
        flood.start()
        lookups(sbx, "other", 100)
        assert flood.is_alive()
        flood.join()
        files = sorted(log_file(sbx).parent.glob("box.jsonl*"))
        last = read(log_file(sbx))[-1]["seq"]
        wait_for("the follower", lambda: numbers and numbers[-1] == last)
        follower.terminate()
        reader.join()
    assert len(files) == 8 and sum(f.stat().st_size for f in files) < 136 << 20
    # What follows saw every request in order, over all changes of files; 25 are events.
    assert numbers == sorted(set(numbers)) and len(numbers) > count - 1000
    shown = sbx("policy", "log", sandbox, code=0)
    dropped = int(re.search(r"sbx: (\d+) older records of box were dropped", shown.stderr)[1])
    oldest = json.loads(next(iter(open(files[-1], "rb"))))
    assert oldest["event"] == "open" and dropped == oldest["seq"] - 1 > 10_000
    text = verify(sbx, 0)
    assert "box: whole: " in text and "other: whole: records 1 to " in text
    assert len([r for r in read(log_file(sbx, "other")) if "decision" in r]) == 100
