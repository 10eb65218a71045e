# SPDX-License-Identifier: Apache-2.0
"""Attempts to exhaust a sandbox's proxy: its memory and descriptors stay bounded, and others are
served meanwhile.  The bounds stand in src/proxy/bounds.h."""
import os
import pathlib
import resource
import select
import socket
import ssl
import struct
import threading
import time

import pytest

from conftest import need_root, wait_for
from test_policy_attacks import send, status
from test_proxy import MEASURED, SLACK, Proxy, logs

pytestmark = pytest.mark.no_sandbox

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONNECTIONS = 1024  # LIMIT_CONNECTIONS


class World:
    def __init__(self, folder):
        self.proxy = Proxy(folder, MEASURED)
        self.web = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.web.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()
        # Accepts, reads and says nothing.
        self.silent = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.silent_port = self.silent.getsockname()[1]
        self.taken = []
        self.taker = threading.Thread(target=self.take, daemon=True)
        self.taker.start()
        self.proxy.configure([])
        ca = self.proxy.call({"op": "ca"})
        self.proxy.configure(["allow good.example", "allow tls.example method GET"],
                             pins={"good.example": "127.0.0.1"},
                             ca={k: ca[k] for k in ("cert_pem", "key_pem")})

    def serve(self):
        """Answers whatever ends with an empty line."""
        poll, peers = select.epoll(), {}
        poll.register(self.web, select.EPOLLIN)
        while True:
            for fd, _ in poll.poll():
                try:
                    if fd == self.web.fileno():
                        peer = self.web.accept()[0]
                        peers[peer.fileno()] = peer
                        poll.register(peer, select.EPOLLIN)
                    elif not (data := peers[fd].recv(65536)):
                        peers.pop(fd).close()
                    elif data.endswith(b"\r\n\r\n"):
                        peers[fd].send(ANSWER)
                except ConnectionError:
                    peers.pop(fd).close()
                except OSError:
                    return

    def take(self):
        while True:
            try:
                self.taken.append(self.silent.accept()[0])
            except OSError:
                return

    def connect(self, timeout=30):
        return socket.create_connection(self.proxy.http.getsockname(), timeout)

    def pss(self):
        text = pathlib.Path(f"/proc/{self.proxy.process.pid}/smaps_rollup").read_text("ascii")
        return int(text.split("\nPss:")[1].split()[0])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.proxy.process.pid}/fd"))

    def works(self):
        """One ordinary request is answered, by an origin."""
        head = (f"GET http://good.example:{self.port}/ HTTP/1.1\r\n"
                f"Host: good.example:{self.port}\r\nConnection: close\r\n\r\n")
        return status(send(self.proxy, head.encode(), timeout=60)) == 200

    def ask(self, path="/", method="GET", fields="", port=None):
        authority = f"good.example:{port or self.port}"
        return f"{method} http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n".encode()

    def close(self):
        self.proxy.close()
        self.silent.shutdown(socket.SHUT_RDWR)  # ends accept(), which close() alone does not
        self.taker.join()
        self.silent.close()
        self.web.close()
        for s in self.taken:
            s.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    need_root()  # what the kernel shows of a process that cannot be dumped is root's
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    made = World(tmp_path_factory.mktemp("pressure"))
    yield made
    made.close()


@pytest.fixture
def held(world):
    """Connections that a test holds open; when they are gone, so is what the proxy had for them."""
    sockets = []
    yield sockets
    for s in [*sockets, *world.taken]:
        s.close()
    world.taken.clear()
    # 64 of them are connections to origins that are kept for the next request.
    wait_for("the connections are closed", lambda: world.descriptors() < 150)


def hold(world, held, count, data=b"", progress=None):
    """Opens connections as fast as they are taken, sending the same first bytes on each."""
    for i in range(count):
        s = world.connect()
        try:
            if data:
                s.sendall(data)
        except ConnectionError:
            pass
        held.append(s)
        if progress and i % 1000 == 999:
            progress()


def bounded(world, before):
    # An idle connection is a few hundred bytes; one with a head begun has a buffer of 4 KiB.
    assert world.descriptors() < CONNECTIONS + 100
    assert world.pss() - before < 16 * 1024 * SLACK, f"{world.pss() - before} KiB more"


@pytest.mark.parametrize("data", [
    b"", b"GET http://good.example/ HTTP/1.1\r\nHost: good.", b"\5", b"\5\1\0\5\1\0\3\x0cgood.ex"],
    ids=["silent", "slowloris", "socks", "socks-request"])
def test_ten_thousand_connections_that_ask_nothing(world, held, data):
    before = world.pss()

    def progress():
        assert world.works()
        bounded(world, before)

    hold(world, held, 10000, data, progress)
    assert world.works()
    bounded(world, before)


def client_hello(name):
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


def test_handshakes_that_are_never_finished(world, held):
    """Where requests must be seen, our part of each is done and waits for the client's: these are
    the first to go, however long one of them may take."""
    before = world.pss()
    first = b"CONNECT tls.example:443 HTTP/1.1\r\nHost: tls.example\r\n\r\n"
    hello = client_hello("tls.example")
    for i in range(2 * CONNECTIONS):
        held.append(world.connect())
        held[-1].sendall(first)
        assert held[-1].recv(1000).startswith(b"HTTP/1.1 200")
        held[-1].sendall(hello)
        if i % 500 == 499:
            assert held[-1].recv(1) == b"\x16"  # our ServerHello
            assert world.works()
    assert world.works()
    assert world.descriptors() < CONNECTIONS + 100
    used = world.pss() - before
    assert used < CONNECTIONS * 80 * SLACK, f"{used} KiB"


def test_slowloris_that_goes_on(world, held):
    """Each sends another field now and then: none of them is a reason to refuse others."""
    hold(world, held, CONNECTIONS + 100, b"GET http://good.example/ HTTP/1.1\r\nHost: good.example\r\n")
    for _ in range(3):
        for s in held:
            try:
                s.sendall(b"X-A: b\r\n")
            except ConnectionError:
                pass
        assert world.works()


def test_kept_connections_give_way(world, held):
    """Idle keep-alives are the first to go, and the newest of them stay usable."""
    def ask(s):
        s.sendall(world.ask())
        assert s.recv(65536) == ANSWER

    for _ in range(CONNECTIONS + 50):
        held.append(world.connect())
        ask(held[-1])
    ask(held[-1])
    assert held[0].recv(65536) == b""


def tunnels(world, held, count):
    request = f"CONNECT good.example:{world.silent_port} HTTP/1.1\r\nHost: good.example\r\n\r\n".encode()
    for _ in range(count):
        s = world.connect()
        s.sendall(request)
        held.append(s)
    for s in held[-count:]:
        assert s.recv(1000).startswith(b"HTTP/1.1 200")


def test_idle_tunnels_give_way_to_others(world, held):
    """As many tunnels as there may be, none of which moves anything: a busy one outlives them."""
    before = world.pss()
    busy = world.connect()
    held.append(busy)
    busy.sendall(f"CONNECT good.example:{world.port} HTTP/1.1\r\nHost: good.example\r\n\r\n".encode())
    assert busy.recv(1000).startswith(b"HTTP/1.1 200")

    def use():
        busy.sendall(b"x" * 60000 + b"\r\n\r\n")
        assert busy.recv(1000) == ANSWER

    use()
    tunnels(world, held, CONNECTIONS - 1)
    with logs(world.proxy, reason="too-many", path="forward-bypass", decision="allow"):
        for _ in range(20):
            assert world.works()
            use()
    assert world.descriptors() < 2 * CONNECTIONS + 100
    assert world.pss() - before < 16 * 1024 * SLACK


def test_slow_bodies_give_way_to_others(world, held):
    """Uploads of a byte now and then: allowed, but not while they keep others out."""
    head = world.ask("/", "POST", "Content-Length: 1000000\r\n", port=world.silent_port)
    for _ in range(CONNECTIONS):
        s = world.connect()
        s.sendall(head)
        held.append(s)
    stop = threading.Event()

    def trickle():
        while not stop.is_set():
            for s in list(held):
                try:
                    s.send(b"x")
                except OSError:
                    pass
            time.sleep(0.5)

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        with logs(world.proxy, reason="too-many", method="POST", decision="allow"):
            for _ in range(5):
                assert world.works()
    finally:
        stop.set()
        thread.join()


def test_a_head_without_end(world):
    """A gigabyte of fields is not waited for: the answer comes at 64 KiB."""
    before = world.pss()
    with world.connect() as s:
        s.sendall(b"GET http://good.example/ HTTP/1.1\r\n")
        field = (b"X-Field: " + b"y" * 1000 + b"\r\n") * 1000
        try:
            for _ in range(1000):
                s.sendall(field)
            assert status(s.recv(1000)) == 400
        except ConnectionError:
            pass  # what is not read is not waited for either
    assert world.pss() - before < 4096 * SLACK
    assert world.works()


def stream_up(world, fields, pieces, peer_reads):
    """Sends pieces until the connection does not take more (or has ended); bytes sent."""
    sent = 0
    with world.connect() as s:
        s.sendall(world.ask("/", "POST", fields, port=world.silent_port))
        wait_for("the origin has it", lambda: world.taken)
        peer = world.taken.pop()
        peer.settimeout(30)
        s.settimeout(2)
        try:
            for piece in pieces:
                s.sendall(piece)
                sent += len(piece)
                if peer_reads:
                    peer.recv(1 << 20)
        except (TimeoutError, ConnectionError):
            pass
        peer.close()
    return sent


@pytest.mark.parametrize("pieces", [
    [b"7fffffff\r\n"] + [b"x" * 65536] * 2000,
    [b"1;" + b"e" * 1000 + b"\r\nx\r\n"] * 20000,
    [b"1\r\nx\r\n" * 1000] * 2000], ids=["huge", "extensions", "tiny"])
def test_chunks_without_end(world, pieces):
    """A hundred megabytes of one body: none of it stays."""
    world.taken.clear()
    before = world.pss()
    assert stream_up(world, "Transfer-Encoding: chunked\r\n", pieces, True) > 10 << 20
    assert world.pss() - before < 4096 * SLACK
    assert world.works()


@pytest.mark.parametrize("chunk", [b"fffffffffffffffff\r\n", b"1" * 2000 + b"\r\n",
                                   b"1;" + b"e" * 2000 + b"\r\n", b"0\r\n" + b"A: b\r\n" * 5000])
def test_chunks_that_are_refused(world, chunk):
    world.taken.clear()
    with world.connect() as s:
        s.sendall(world.ask("/", "POST", "Transfer-Encoding: chunked\r\n", port=world.silent_port))
        wait_for("the origin has it", lambda: world.taken)
        try:
            s.sendall(chunk)
            assert s.recv(1000) == b""
        except ConnectionError:
            pass
        world.taken.pop().close()
    assert world.works()


def test_an_origin_that_does_not_read(world):
    """Its zero window stops the client, not our memory."""
    world.taken.clear()
    before = world.pss()
    sent = stream_up(world, "Content-Length: 1000000000\r\n", [b"x" * 65536] * 15000, False)
    assert sent < 64 << 20
    assert world.pss() - before < 4096 * SLACK
    assert world.works()


def test_clients_that_do_not_read(world, held):
    """A hundred answers of endless length that nobody takes."""
    world.taken.clear()
    before = world.pss()
    for _ in range(100):
        s = world.connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(world.ask(port=world.silent_port))
        held.append(s)
    wait_for("all are asked for", lambda: len(world.taken) == 100)
    for peer in world.taken:
        peer.setblocking(False)
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(50):
        for peer in world.taken:
            try:
                peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            except BlockingIOError:
                pass
    assert world.works()
    # 64 KiB each, and what a read added.
    assert world.pss() - before < 100 * 160 * SLACK, world.pss() - before
    for peer in world.taken:
        peer.close()


def test_resets_amid_everything(world):
    """RST while a handshake, a head, a body or an answer is under way leaves nothing behind."""
    before, fds = world.pss(), world.descriptors()
    reset = struct.pack("ii", 1, 0)
    stages = [b"", b"GET ", world.ask(), world.ask("/", "POST", "Content-Length: 100\r\n") + b"x",
              f"CONNECT good.example:{world.port} HTTP/1.1\r\nHost: good.example\r\n\r\n".encode(),
              b"\5\1\0", b"\x16\x03\x01\x02\x00\x01"]
    for i in range(2000):
        s = world.connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        s.sendall(stages[i % len(stages)])
        s.close()
    assert world.works()
    wait_for("nothing is left", lambda: world.descriptors() < fds + 70)
    assert world.pss() - before < 4096 * SLACK
