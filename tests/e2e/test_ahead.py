# SPDX-License-Identifier: Apache-2.0
"""Connections to origins that are made while their client still shakes hands (proxy/ahead.h): real
sbx-proxy, real TLS on both sides.  What must hold: only where any request would pass, for one client,
under the rules of now, and never without a line in the log."""
import http.client
import json
import signal
import socket
import ssl
import struct
import threading
import time

import pytest

from conftest import wait_for
from test_proxy import Origin, Proxy, SECRET, self_signed, start_origin

pytestmark = pytest.mark.no_sandbox

A, B = "a.host.example", "b.host.example"
LOOPBACK = "allow 127.0.0.1"
MOST = 16  # LIMIT_AHEAD


class Client:
    """A connection of the sandbox by CONNECT, which has shaken hands and has asked for nothing."""

    def __init__(self, world, name=A, before_tls=lambda: None):
        self.name, self.port = name, world.port
        sock = socket.create_connection(world.proxy.http.getsockname(), 10)
        sock.sendall(f"CONNECT {name}:{world.port} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        assert b" 200 " in sock.recv(4096)
        before_tls()
        context = ssl.create_default_context(cadata=world.ca["cert_pem"])
        self.sock = context.wrap_socket(sock, server_hostname=name)

    def ask(self, path="/", method="GET"):
        """Status, and what the origin saw, or the text of a refusal."""
        self.sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: {self.name}:{self.port}\r\n"
                          f"Content-Length: 0\r\n\r\n".encode())
        answer = http.client.HTTPResponse(self.sock)
        answer.begin()
        body = answer.read().decode()
        return answer.status, json.loads(body) if answer.status == 200 else body

    def close(self):
        self.sock.close()


class World:
    """An origin by TLS for all *.host.example, which knows its connections by their ports."""

    def __init__(self, folder, **options):
        self.opened, self.sockets, self.ended, world = [], [], [], self

        class Counting(Origin):
            def setup(self):
                super().setup()
                world.sockets.append(self.connection)
                world.opened.append(self.client_address[1])

            def finish(self):
                super().finish()
                world.ended.append(self.client_address[1])

            def do_GET(self):
                if self.path == "/dies" and self.client_address[1] == world.opened[0]:
                    self.close_connection = True
                    return
                body = json.dumps({"port": self.client_address[1],
                                   "authorization": self.headers["Authorization"]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

        cert, key = self_signed(folder, "*.host.example")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.server = start_origin(context, Counting)
        self.port = self.server.server_address[1]
        self.proxy = Proxy(folder, {"SSL_CERT_FILE": str(cert)}, **options)
        self.proxy.configure([])
        self.ca = self.proxy.call({"op": "ca"})
        self.configure()

    def configure(self, rules=None, inject=None, **more):
        one = {"id": "i1", "service": "api", "kit": "k", "domain": "*.host.example",
               "header": "Authorization", "format": "Bearer %s", "mode": "overwrite",
               "secret": SECRET}
        names = [A, B, *(f"h{i}.host.example" for i in range(MOST + 6))]
        rules = [*(f"allow {name}" for name in names), LOOPBACK] if rules is None else rules
        self.proxy.configure(rules,
                             inject=[{**one, **each} for each in inject or [{}]],
                             ca={k: self.ca[k] for k in ("cert_pem", "key_pem")},
                             **{"hosts": dict.fromkeys(names, "127.0.0.1"), **more})

    def unused(self):
        return [r for r in self.proxy.records(0) if r["reason"].startswith("no-request")]

    def opens(self, count=1):
        """Waits for that many connections in all; their ports at the origin."""
        wait_for(f"{count} connections", lambda: len(self.opened) >= count, 20)
        return self.opened

    def stays_away(self):
        """Has nothing connected so far?  Connections are accepted one after the other, and one made
        ahead would have been begun before its client had shaken hands."""
        with ssl._create_unverified_context().wrap_socket(
                socket.create_connection(("127.0.0.1", self.port), 10)) as probe:
            return self.opens() == [probe.getsockname()[1]]

    def close(self):
        self.proxy.close()
        self.server.shutdown()


@pytest.fixture
def world(tmp_path):
    running = World(tmp_path)
    yield running
    running.close()


def port_of(answer):
    status, seen = answer
    assert status == 200, answer
    return seen["port"]


def test_the_first_request_goes_by_what_was_connected_ahead(world):
    client = Client(world)
    port, = world.opens()  # by now it has asked for nothing
    assert port_of(client.ask("/1")) == port == port_of(client.ask("/2"))
    client.close()
    assert [r["target"] for r in world.proxy.records(2)] == ["/1", "/2"]
    # It is an ordinary one now, and others take it; for them nothing is made ahead.
    other = Client(world)
    assert port_of(other.ask("/3")) == port
    other.close()
    world.proxy.records(3)
    assert world.opened == [port] and not world.unused()


def test_what_no_request_has_used_is_in_the_log(world):
    client = Client(world)
    port, = world.opens()
    assert not world.unused()
    client.close()
    wait_for("a line", world.unused, 20)
    line, = world.unused()
    assert line.items() >= {
        "decision": "allow", "rule": f"allow {A}", "origin": "global", "reason": "no-request",
        "path": "forward", "scheme": "https", "host": A, "port": world.port, "method": None,
        "target": None, "status": 0, "bytes_out": 0, "bytes_in": 0, "service": None}.items()
    wait_for("its end", lambda: world.ended == [port], 20)


def test_a_proxy_that_ends_records_what_no_request_has_used(tmp_path):
    world = World(tmp_path)
    try:
        client = Client(world)
        world.opens()
    finally:
        world.close()
    assert [line["host"] for line in world.unused()] == [A]
    client.close()


def test_it_serves_no_other_client(world):
    first = Client(world)
    port, = world.opens()
    second = Client(world)
    theirs = port_of(second.ask())
    assert theirs != port == port_of(first.ask())
    first.close()
    second.close()
    assert not world.unused()


def test_it_is_kept_for_the_credential_of_its_first_request(world):
    world.configure(inject=[{"id": "i1", "paths": ["/one"], "secret": "secret-one"},
                            {"id": "i2", "paths": ["/two"], "secret": "secret-two"}])
    client = Client(world)
    port, = world.opens()
    assert client.ask("/two") == (200, {"port": port, "authorization": "Bearer secret-two"})
    for path, same in (("/one", False), ("/", False), ("/two", True)):
        assert (port_of(client.ask(path)) == port) == same
    client.close()


@pytest.mark.parametrize("rules", [
    [f"allow {A} method GET"], [f"allow {A} method GET path /v1/**"],
    [f"allow {A}", f"deny {A} method DELETE"],
    [f"allow {A}", f"deny {A} method GET path /admin"],
    ["allow *.host.example", f"allow {A} method GET"]])
def test_where_the_request_decides_nothing_is_connected_ahead(world, rules):
    world.configure([*rules, LOOPBACK])
    client = Client(world)
    assert world.stays_away()
    assert client.ask("/v1/x")[0] == 200
    client.close()
    assert [line["method"] for line in world.proxy.records(1)] == ["GET"]


@pytest.mark.parametrize("pin", [{}, {"pins": {A: "127.0.0.1"}}])
def test_addresses_are_judged_as_for_a_request(world, pin):
    """A wildcard cannot lead to loopback; where the user has pinned the name, it can."""
    world.configure(["allow *.host.example"], **pin)
    client = Client(world)
    if pin:
        port, = world.opens()
        assert port_of(client.ask()) == port
    else:
        assert world.stays_away()
        line = world.proxy.records(1)[0]
        assert (line["decision"], line["reason"], line["method"]) == ("deny", "address", None)
        status, text = client.ask()
        assert status == 403 and "reason: address" in text
    client.close()
    assert not world.unused()


def test_a_rule_that_is_gone_ends_it(world):
    client = Client(world)
    port, = world.opens()
    world.configure([])
    wait_for("its end", lambda: world.ended == [port], 20)
    assert [line["rule"] for line in world.unused()] == [f"allow {A}"]
    status, text = client.ask()
    assert status == 403 and "no rule allows it" in text
    client.close()
    assert world.opened == [port]


def test_a_new_secret_goes_by_a_new_connection(world):
    client = Client(world)
    port, = world.opens()
    world.configure(inject=[{"secret": "the-next"}])
    status, seen = client.ask()
    assert status == 200 and seen["authorization"] == "Bearer the-next" and seen["port"] != port
    client.close()
    assert len(world.unused()) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_outlives_what_the_origin_has_closed(world, method):
    client = Client(world)
    port, = world.opens()
    world.sockets[0].shutdown(socket.SHUT_RDWR)
    assert port_of(client.ask(method=method)) != port
    client.close()


@pytest.mark.parametrize("method,status", [("GET", 200), ("POST", 502)])
def test_a_request_that_meets_the_end_is_sent_again_when_that_is_safe(world, method, status):
    """As with every connection that has waited for a request."""
    client = Client(world)
    world.opens()
    assert client.ask("/dies", method)[0] == status
    client.close()
    assert len(world.opened) == (2 if status == 200 else 1)


def test_without_an_origin_the_request_says_so(world):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    world.port = closed
    client = Client(world)
    wait_for("a line", world.unused, 20)
    assert world.unused()[0]["reason"] == "no-request: unreachable"
    status, text = client.ask()
    assert status == 502 and f"cannot reach {A}:{closed}: Connection refused" in text
    client.close()
    line = world.proxy.records(2)[-1]
    assert (line["reason"], line["method"]) == ("unreachable", "GET")


def test_an_origin_that_is_not_trusted_gets_no_request(world):
    world.configure(["allow other.example", LOOPBACK], [{"domain": "other.example"}],
                    hosts={"other.example": "127.0.0.1"})
    client = Client(world, "other.example")
    wait_for("a line", world.unused, 20)
    assert world.unused()[0]["reason"] == "no-request: upstream-tls"
    status, text = client.ask()
    assert status == 502 and "TLS with other.example" in text
    client.close()


def test_without_a_log_nothing_is_connected_ahead(tmp_path):
    world = World(tmp_path, log_bytes=1000)  # of which twice as many fit, since nobody rotates it

    def fill():
        while world.proxy.curl("-w", "%{http_code}", "http://no.example/").stdout[-3:] == "403":
            assert len(world.proxy.records(0)) < 20

    try:
        client = Client(world, before_tls=fill)
        assert world.stays_away()
        status, text = client.ask()
        assert status == 503 and "the request log cannot be written" in text
        client.close()
    finally:
        world.close()


def frame(kind, flags, stream, payload=b""):
    """Of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def http2_origin(world, folder, serve):
    """Another one in the place of the world's, which speaks HTTP/2 as `serve` makes it; its
    connections are in the list."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.set_alpn_protocols(["h2"])
    server = socket.create_server(("127.0.0.1", 0))
    world.port, opened = server.getsockname()[1], []

    def run():
        while True:
            sock = context.wrap_socket(server.accept()[0], server_side=True)
            sock.sendall(frame(4, 0, 0))  # SETTINGS
            opened.append(sock)
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return opened


def test_what_an_origin_sends_does_not_make_it_wait_longer(world, tmp_path):
    ended = threading.Event()

    def ping(sock):
        try:
            while True:
                sock.sendall(frame(6, 0, 0, b"8 octets"))
                time.sleep(1)
        except OSError:
            ended.set()

    http2_origin(world, tmp_path, ping)
    client = Client(world)
    wait_for("a line", world.unused, 60)  # LIMIT_AHEAD_MS; LIMIT_HEAD_MS is 120 s
    assert ended.wait(20)
    client.close()


def test_a_post_is_not_given_to_what_has_ended_unnoticed(world, tmp_path):
    """The end has come but is not read yet, since the client's words came before it."""
    settled = threading.Event()

    def answer(sock):
        with sock.makefile("rb") as file:
            file.read(24)  # the preface
            while head := file.read(9):
                file.read(int.from_bytes(head[:3], "big"))
                if head[3:5] == b"\4\1":  # the acknowledgement of our SETTINGS
                    settled.set()
                    if len(opened) == 1:
                        return
                elif head[3] == 1:  # HEADERS; 0x88 is ":status: 200"
                    sock.sendall(frame(1, 4, 1, b"\x88") + frame(0, 1, 1, b"{}"))
                    return

    opened = http2_origin(world, tmp_path, answer)
    client = Client(world)
    assert settled.wait(20)
    time.sleep(0.2)  # now it has nothing more to do but to wait for a request
    world.proxy.process.send_signal(signal.SIGSTOP)
    try:
        client.sock.sendall(f"POST / HTTP/1.1\r\nHost: {A}:{world.port}\r\n"
                            "Content-Length: 1\r\n\r\nx".encode())
        opened[0].close()
    finally:
        world.proxy.process.send_signal(signal.SIGCONT)
    answered = http.client.HTTPResponse(client.sock)
    answered.begin()
    assert (answered.status, answered.read(), len(opened)) == (200, b"{}", 2)
    client.close()


def test_there_are_so_many_and_they_wait_so_long(world):
    clients = [Client(world, f"h{i}.host.example") for i in range(MOST + 6)]
    ports = world.opens(MOST)[:]
    assert len(ports) == MOST
    # The others lack nothing.
    assert port_of(clients[-1].ask()) not in ports
    # LIMIT_AHEAD_MS: then they end, though their clients are still there, and may ask.
    wait_for("their ends", lambda: len(world.unused()) == MOST, 40)
    wait_for("their ends", lambda: set(world.ended) >= set(ports), 20)
    assert port_of(clients[0].ask()) not in ports
    for client in clients:
        client.close()
