# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 through the real sbx-proxy, with real clients (curl, Node.js, python-h2 for what no honest
client sends) and real origins (Node.js, nghttpd), translated either way."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

import pytest

from conftest import need_program, need_root, skip_loudly, wait_for
from test_proxy import (MEASURED, Origin, Proxy, SECRET, SLACK, dns_query, in_namespace, logs,
                        self_signed, start_origin)

pytestmark = pytest.mark.no_sandbox

try:
    import h2.config
    import h2.connection
    import h2.events
except ImportError:  # python3-h2 is in tools/setup
    h2 = None

HERE = pathlib.Path(__file__).parent
NAME = "api.example"


class Echo(Origin):
    """HTTP/1.1 with what HTTP/2 has to be translated to: chunks, trailers, a websocket."""

    def do_GET(self):
        if self.path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "X-Sum")
            self.end_headers()
            self.wfile.write(b"3;ext=1\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n")
        elif self.headers.get("Upgrade") == "websocket":
            self.websocket()
        elif "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.chunked()
        else:
            super().do_GET()

    do_POST = do_PUT = do_GET

    def chunked(self):
        data, trailers = b"", []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        while (line := self.rfile.readline().strip()):
            trailers.append(line.decode())
        body = json.dumps({"len": len(data), "trailers": trailers,
                           "headers": dict(self.headers)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def websocket(self):
        import base64
        import hashlib
        key = self.headers["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(hashlib.sha1(
            key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.wfile.write(b"auth:" + self.headers.get("Authorization", "").encode() + b" ")
        self.wfile.write(self.rfile.read(5)[::-1])
        self.close_connection = True


class World:
    """A proxy that injects a credential into requests to two origins: one by HTTP/2, one by 1.1."""

    def __init__(self, folder):
        self.cert, self.key = self_signed(folder, NAME)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        self.http1 = start_origin(context, Echo)
        self.ports = {"h1": self.http1.server_address[1]}
        self.node = subprocess.Popen(["node", HERE / "http2_origin.js", self.cert, self.key],
                                     stdout=subprocess.PIPE, text=True)
        self.ports["h2"] = int(self.node.stdout.readline())
        self.proxy = Proxy(folder, {"SSL_CERT_FILE": str(self.cert), **MEASURED})
        self.proxy.configure([])
        self.ca = self.proxy.call({"op": "ca"})
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(self.ca["cert_pem"])
        self.configure()

    def configure(self, rules=None, secret=SECRET, **inject):
        rule = {"service": "api", "kit": "k", "header": "Authorization", "format": "Bearer %s",
                "mode": "overwrite", "secret": secret, **inject}
        self.proxy.configure(
            rules if rules is not None else [f"allow {NAME}", "allow 127.0.0.1"],
            inject=[{**rule, "id": which, "domain": f"{NAME}:{port}"}
                    for which, port in self.ports.items()],
            hosts={NAME: "127.0.0.1"},
            ca={"cert_pem": self.ca["cert_pem"], "key_pem": self.ca["key_pem"]})

    def url(self, origin, path="/"):
        return f"https://{NAME}:{self.ports[origin]}{path}"

    def logged(self, **wanted):
        """Waits for a record with these fields: one is written when its request has ended."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = [r for r in self.proxy.records() if wanted.items() <= r.items()]
            if found:
                return found[-1]
            time.sleep(0.02)
        raise AssertionError(f"no record with {wanted} in {self.proxy.records()[-5:]}")

    def curl(self, *args):
        return self.proxy.curl("--cacert", str(self.ca_file), *args)

    def tls(self, port, alpn="h2", context=None, session=None):
        """TLS through CONNECT, as a client that speaks HTTP/2 opens it."""
        raw = socket.create_connection(self.proxy.http.getsockname(), 10)
        raw.sendall(f"CONNECT {NAME}:{port} HTTP/1.1\r\nHost: {NAME}:{port}\r\n\r\n".encode())
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")
        context = context or ssl.create_default_context(cafile=self.ca_file)
        context.set_alpn_protocols([alpn])
        made = context.wrap_socket(raw, server_hostname=NAME, session=session)
        assert made.selected_alpn_protocol() == alpn
        return made

    def close(self):
        self.proxy.close()
        self.node.kill()
        self.node.wait()
        self.http1.shutdown()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    need_program("node")
    if h2 is None:
        skip_loudly("needs python3-h2")
    made = World(tmp_path_factory.mktemp("h2"))
    yield made
    made.close()


class Client:
    """A client by python-h2 that also sends what the library would refuse to."""

    def __init__(self, sock, port):
        self.sock, self.port = sock, port
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False,
            normalize_outbound_headers=False, validate_inbound_headers=False)
        self.h2 = h2.connection.H2Connection(config=config)
        self.h2.initiate_connection()
        self.flush()
        self.answers, self.bodies, self.trailers, self.resets = {}, {}, {}, {}
        self.ended, self.gone = set(), None

    def flush(self):
        if data := self.h2.data_to_send():
            self.sock.sendall(data)

    def head(self, path="/", method="GET", authority=None, more=()):
        return [(":method", method), (":scheme", "https"),
                (":authority", authority or f"{NAME}:{self.port}"), (":path", path), *more]

    def request(self, fields, body=None, end=True):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields, end_stream=body is None and end)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def read(self):
        """One read: False when the connection has ended."""
        try:
            data = self.sock.recv(65536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            return False
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.answers[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.TrailersReceived):
                self.trailers[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.resets[event.stream_id] = event.error_code
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.gone = event.error_code
        try:
            self.flush()
        except (OSError, ssl.SSLError):
            return False
        return self.gone is None

    def wait(self, stream):
        while stream not in self.ended and self.read():
            pass
        return self.answers.get(stream, {}).get(":status"), self.bodies.get(stream, b"")

    def until_gone(self):
        while self.read():
            pass
        return self.gone


@pytest.fixture
def client(world):
    made = Client(world.tls(world.ports["h2"]), world.ports["h2"])
    yield made
    made.sock.close()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("origin", ["h1", "h2"])
def test_either_version_on_either_side(world, version, origin):
    with logs(world.proxy, credential="injected", status=200, bytes_out=100000, target="/a"):
        done = world.curl(version, "-H", "Authorization: Bearer mine", "-H", "X-Api-Key: mine",
                          "-d", "x" * 100000, "-w", "\n%{http_version}",
                          world.url(origin, "/a?key=1&b=2"))
    assert done.returncode == 0, done.stderr
    body, used = done.stdout.rsplit("\n", 1)
    assert used == ("2" if version == "--http2" else "1.1")
    seen = {k.lower(): v for k, v in json.loads(body)["headers"].items()}
    assert seen["authorization"] == f"Bearer {SECRET}" and "x-api-key" not in seen
    if origin == "h2":
        assert json.loads(body)["len"] == 100000 and seen[":path"] == "/a?b=2"
        assert seen[":authority"] == f"{NAME}:{world.ports['h2']}"
    else:
        assert json.loads(body)["path"] == "/a?b=2"


def test_clients_resume_their_sessions(world):
    """Who has read one answer, with one read, has the ticket for the next connection."""
    context, session = ssl.create_default_context(cafile=world.ca_file), None
    for resumed in (False, True, True):
        with world.tls(world.ports["h1"], "http/1.1", context, session) as sock:
            place = f"{NAME}:{world.ports['h1']}"
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
            assert sock.session_reused == resumed
            session = sock.session


def test_streams_share_one_connection_to_the_origin(world):
    first = json.loads(world.curl("--http2", world.url("h2")).stdout)["sessions"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda i: world.curl("--http2", world.url("h2", f"/{i}")), range(24)))
    assert {json.loads(d.stdout)["sessions"] for d in done} == {first}


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("origin,size", [("h1", 3000000), ("h2", 3000000)])
def test_uploads_of_unknown_length(world, version, origin, size):
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "20", "--noproxy", "", "-x", world.proxy.url, "--cacert",
         world.ca_file, version, "-T", "-", world.url(origin, "/up")],
        input=b"x" * size, capture_output=True, check=True)
    assert json.loads(done.stdout)["len"] == size


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_large_answers_arrive_whole(world, version):
    size = 64 << 20
    done = world.curl(version, "-o", "/dev/null", "-w", "%{size_download}",
                      world.url("h2", f"/big/{size}"))
    assert done.stdout == str(size), done.stderr


def test_grpc_with_trailers_both_ways(world, client):
    message = b"\0" + struct.pack(">I", 5) + b"hello"
    stream = client.request(
        client.head("/svc.Echo/Say", "POST", more=[("content-type", "application/grpc"),
                                                   ("te", "trailers")]), message)
    assert client.wait(stream) == ("200", message)
    assert client.trailers[stream] == {"grpc-status": "0", "grpc-message": "fine"}
    stream = client.request(client.head("/echo", "POST", more=[("te", "trailers")]), b"x",
                            end=False)
    client.h2.send_headers(stream, [("x-sum", "1")], end_stream=True)
    client.flush()
    seen = json.loads(client.wait(stream)[1])
    assert seen["trailers"]["x-sum"] == "1" and seen["headers"]["te"] == "trailers"


def test_trailers_of_http1_become_those_of_http2_and_back(world):
    client = Client(world.tls(world.ports["h1"]), world.ports["h1"])
    stream = client.request(client.head("/chunks"))
    assert client.wait(stream) == ("200", b"abcdefg")
    assert client.trailers[stream] == {"x-sum": "7"}
    stream = client.request(client.head("/up", "POST"), b"hello", end=False)
    client.h2.send_headers(stream, [("x-sum", "5")], end_stream=True)
    client.flush()
    seen = json.loads(client.wait(stream)[1])
    assert seen["trailers"] == ["x-sum: 5"] and seen["len"] == 5
    client.sock.close()


def test_events_are_streamed(world, client):
    stream = client.request(client.head("/sse"))
    while client.bodies.get(stream) != b"data: one\n\n":
        assert client.read()
    assert client.wait(client.request(client.head("/go"))) == ("200", b"gone")
    assert client.wait(stream)[1] == b"data: one\n\ndata: two\n\n"


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_interim_answers_pass(world, version):
    done = world.curl(version, "-i", world.url("h2", "/hints"))
    assert " 103" in done.stdout and "rel=preload" in done.stdout and "hinted" in done.stdout


def websocket_by_http2(world, port):
    client = Client(world.tls(port), port)
    while not client.h2.remote_settings.enable_connect_protocol:
        assert client.read()
    stream = client.request(client.head("/ws", "CONNECT", more=[
        (":protocol", "websocket"), ("sec-websocket-version", "13"),
        ("authorization", "Bearer mine")]), b"hello", end=False)
    while not client.bodies.get(stream, b"").endswith(b"olleh"):
        assert client.read(), (client.answers, client.resets)
    client.sock.close()
    return client.answers[stream][":status"], client.bodies[stream]


@pytest.mark.parametrize("origin", ["h1", "h2"])
def test_websocket_by_extended_connect(world, origin):
    status, body = websocket_by_http2(world, world.ports[origin])
    assert status == "200" and body == f"auth:Bearer {SECRET} olleh".encode()


def test_websocket_by_http2_is_judged_like_one_by_http1(world):
    """HTTP/1.1 asks for it by GET: a rule against that must not be passed by CONNECT."""
    port = world.ports["h2"]
    try:
        world.configure(rules=[f"allow {NAME}", "allow 127.0.0.1", f"deny {NAME}:{port} method GET path /ws"])
        client = Client(world.tls(port), port)
        while not client.h2.remote_settings.enable_connect_protocol:
            assert client.read()
        stream = client.request(client.head("/ws", "CONNECT", more=[(":protocol", "websocket")]),
                                end=False)
        assert client.wait(stream)[0] == "403"
        client.sock.close()
        assert world.logged(decision="deny", method="GET", target="/ws")
    finally:
        world.configure()


def test_websocket_by_upgrade_goes_to_http1(world):
    sock = world.tls(world.ports["h1"], "http/1.1")
    sock.sendall(f"GET /ws HTTP/1.1\r\nHost: {NAME}:{world.ports['h1']}\r\nConnection: Upgrade\r\n"
                 "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                 "hello".encode())
    data = b""
    while part := sock.recv(1000):
        data += part
    assert data.startswith(b"HTTP/1.1 101") and data.endswith(f"Bearer {SECRET} olleh".encode())
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in data


def test_refusals_are_those_of_http1(world, client):
    try:
        world.configure(rules=[f"allow {NAME}:{client.port}", "allow 127.0.0.1"])
        stream = client.request(client.head())
        assert client.wait(stream)[0] == "200"
        world.configure(rules=[])
        status, body = client.wait(client.request(client.head()))
        assert status == "403"
        assert f"sbx policy allow box {NAME}:{world.ports['h2']}".encode() in body
    finally:
        world.configure()


def test_each_stream_is_judged_by_the_policy_of_its_moment(world, client):
    """A stream that runs when its rule goes is reset; one that starts then is refused."""
    stream = client.request(client.head("/sse"))
    while not client.bodies.get(stream):
        assert client.read()
    try:
        world.configure(rules=[])
        client.wait(stream)
        assert stream in client.resets
        assert client.wait(client.request(client.head()))[0] == "403"
    finally:
        world.configure()
    assert client.wait(client.request(client.head()))[0] == "200"


def test_a_changed_secret_is_used_at_once(world, client):
    def sent():
        _, body = client.wait(client.request(client.head()))
        return json.loads(body)["headers"]["authorization"]
    try:
        assert sent() == f"Bearer {SECRET}"
        world.configure(secret="another-secret")
        assert sent() == "Bearer another-secret"
    finally:
        world.configure()


@pytest.mark.parametrize("authority", ["evil.example", "evil.example:443", "127.0.0.1",
                                       f"{NAME}.evil.example", f"{NAME}:1"])
def test_authority_must_be_that_of_the_connection(world, client, authority):
    status, body = client.wait(client.request(client.head(authority=authority)))
    assert status == "421" and SECRET.encode() not in body
    assert world.logged(reason="host-mismatch", status=421)


@pytest.mark.parametrize("fields", [
    [("X-Upper", "a")], [("transfer-encoding", "chunked")], [("connection", "close")],
    [("upgrade", "h2c")], [("te", "gzip")], [("a", "b\r\nauthorization: c")], [("a", "b\0c")],
    [("a\r\nb", "c")], [("a b", "c")], [("", "c")], [("keep-alive", "5")],
    [("proxy-connection", "x")], [("content-length", "3")], [("content-length", "+0")],
    [("content-length", "0"), ("content-length", "0")], [(":path", "/again")],
    [("host", "evil.example")], [(":status", "200")], [(":unknown", "x")],
    [("transfer_encoding", "chunked")], [("content_length", "0")]])
def test_requests_that_break_the_rules_are_refused(world, client, fields):
    with logs(world.proxy, decision="deny", scheme="https", host=NAME, port=client.port):
        stream = client.request(client.head("/", "POST", more=fields))
        status, _ = client.wait(stream)
    assert world.proxy.records()[-1]["reason"].startswith("bad-request: ")
    assert status == "400" or stream in client.resets or client.gone is not None
    assert status != "200"


@pytest.mark.parametrize("length", ["3", "7"])
def test_content_length_must_be_that_of_the_data(world, client, length):
    stream = client.request(client.head("/", "POST", more=[("content-length", length)]), b"hello")
    assert client.wait(stream)[0] != "200" and stream in client.resets


@pytest.mark.parametrize("fields", [[("authorization", "Bearer mine")], [("content-length", "1")],
                                    [("host", "evil.example")], [("x-api-key", "mine")]])
def test_trailers_carry_no_credential(world, client, fields):
    stream = client.request(client.head("/", "POST"), b"x", end=False)
    client.h2.send_headers(stream, fields, end_stream=True)
    client.flush()
    assert client.wait(stream)[0] != "200" and stream in client.resets


def test_trailers_do_not_carry_what_a_rule_sets(world, client):
    world.configure(header="X-Company-Key")
    try:
        for name, passes in (("x-other", True), ("x-company-key", False), ("x_company_key", False)):
            stream = client.request(client.head("/", "POST"), b"x", end=False)
            client.h2.send_headers(stream, [(name, "mine")], end_stream=True)
            client.flush()
            assert (client.wait(stream)[0] == "200") is passes
            assert (stream in client.resets) is not passes
    finally:
        world.configure()


@pytest.mark.parametrize("head", [
    [(":method", "CONNECT"), (":authority", "evil.example:443")],
    [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/")],
    [(":method", "GET"), (":scheme", "https"), (":path", "/")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "a@b"), (":path", "/")],
    [(":method", "CONNECT"), (":protocol", "other"), (":scheme", "https"), (":authority", "x"),
     (":path", "/")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/ HTTP/1.1")],
    [(":method", "GET / HTTP/1.1"), (":scheme", "https"), (":authority", "x"), (":path", "/")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "x")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/a#b")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/a\xe9")],
    [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "*")]])
def test_odd_pseudo_fields_are_refused(world, client, head):
    head = [(k, f"{NAME}:{client.port}" if v == "x" else v) for k, v in head]
    stream = client.request(head)
    assert client.wait(stream)[0] in ("400", "421", None)


def test_large_heads_are_refused_and_the_connection_goes_on(world, client):
    stream = client.request(client.head(more=[(f"x-{i}", "y" * 1000) for i in range(100)]))
    assert client.wait(stream)[0] != "200"
    if client.gone is None:
        assert client.wait(client.request(client.head()))[0] == "200"


def resident(world):
    text = pathlib.Path(f"/proc/{world.proxy.process.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0])


def test_hpack_bomb(world, client):
    """One large field in the table, named thousands of times in a few bytes."""
    before = resident(world)
    client.request(client.head(more=[("x-bomb", "b" * 3500)]))
    block = bytes([0x82, 0x87, 0x84]) + bytes([0x80 | 62]) * 16000  # 62: the newest of the table
    stream = client.h2.get_next_available_stream_id()
    client.sock.sendall(frame(1, 0x5, stream, block))
    kinds = set()
    while not kinds & {1, 3, 7}:  # HEADERS with 400, RST_STREAM or GOAWAY
        assert raw_read(client, lambda kind, on: kinds.add(kind) if on in (0, stream) else None)
    assert resident(world) - before < 4096 * SLACK
    assert world.curl("--http2", world.url("h2")).returncode == 0


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        ">I", stream) + payload


def flood(world, frames):
    """Sends until the proxy ends the connection; it must, and others must be served meanwhile."""
    client = Client(world.tls(world.ports["h2"]), world.ports["h2"])
    before = resident(world)
    try:
        for _ in range(400):
            client.sock.sendall(frames(client))
            client.sock.setblocking(False)
            try:
                client.read()
            except (BlockingIOError, ssl.SSLWantReadError):
                pass
            client.sock.settimeout(10)
            if client.gone is not None:
                break
    except (ConnectionError, ssl.SSLError, TimeoutError):
        pass
    client.gone = client.gone if client.gone is not None else client.until_gone()
    client.sock.close()
    assert resident(world) - before < 8192 * SLACK
    assert world.curl("--http2", world.url("h2")).returncode == 0
    return client.gone


def rapid_reset(client):
    out = b""
    for _ in range(50):
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, client.head("/sse"), end_stream=True)
        client.h2.reset_stream(stream)
        out += client.h2.data_to_send()
    return out


def upload(client):
    """A stream whose body has not ended."""
    if not hasattr(client, "upload"):
        client.upload = client.request(client.head("/sse", "POST"), end=False)
    return client.upload


@pytest.mark.parametrize("frames", [
    rapid_reset,
    lambda c: frame(6, 0, 0, b"12345678") * 100,
    lambda c: frame(4, 0, 0) * 100,
    lambda c: frame(2, 0, 1, b"\0\0\0\3\x10") * 100,
    lambda c: frame(0, 0, upload(c)) * 100], ids=["reset", "ping", "settings", "priority", "empty"])
def test_floods_end_the_connection(world, frames):
    assert flood(world, frames) != 0


def test_continuation_flood(world):
    client = Client(world.tls(world.ports["h2"]), world.ports["h2"])
    before = resident(world)
    try:
        client.sock.sendall(frame(1, 0, 1, bytes([0x82, 0x87, 0x84])))
        for _ in range(10000):
            client.sock.sendall(frame(9, 0, 1, b"\x40\x01a\x7f\x81\x07" + b"b" * 1030))
    except (ConnectionError, ssl.SSLError):
        pass
    try:
        while raw_read(client, lambda kind, on: None):
            pass  # until the proxy has closed: a read that times out fails
    except (ConnectionError, ssl.SSLError):
        pass
    client.sock.close()
    assert resident(world) - before < 4096 * SLACK
    assert world.curl("--http2", world.url("h2")).returncode == 0


def test_streams_are_bounded(world, client):
    """A client that does not wait for the settings gets the streams above them refused."""
    block = client.h2.encoder.encode(client.head("/sse"))
    first = client.h2.encoder.encode(client.head("/sse"))
    client.sock.sendall(b"".join(frame(1, 0x5, 1 + 2 * i, first if i else block)
                                 for i in range(150)))
    data, refused = set(), set()
    while len(data) + len(refused) < 150:
        assert raw_read(client, lambda kind, on: {0: data, 3: refused}.get(kind, set()).add(on))
    assert len(data) == 100 and len(refused) == 50


def test_streams_of_many_connections_give_way(world):
    """More streams than there may be exchanges, all of them silent: another is served in the end."""
    port = world.ports["h2"]
    before, held = resident(world), []
    try:
        for _ in range(2048 // 100 + 1):
            client = Client(world.tls(port), port)
            held.append(client)
            block = client.h2.encoder.encode(client.head("/sse"))
            client.sock.sendall(b"".join(frame(1, 0x5, 1 + 2 * i, block) for i in range(100)))
        other = Client(world.tls(port), port)
        with logs(world.proxy, reason="too-many", target="/sse"):
            wait_for("it is served", lambda: other.wait(other.request(other.head()))[0] == "200")
        other.sock.close()
        # 2048 exchanges with their heads; nothing of their answers, which are short.
        assert resident(world) - before < 48 * 1024 * SLACK
    finally:
        for client in held:
            client.sock.close()


def test_windows_that_stay_closed(world):
    """A hundred large answers that nobody lets come are not held for him."""
    port = world.ports["h2"]
    client = Client(world.tls(port), port)
    before = resident(world)
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.flush()
    streams = [client.request(client.head("/big/3000000")) for _ in range(100)]
    while len(client.answers) < 100:
        assert client.read()
    assert world.curl("--http2", world.url("h2")).returncode == 0
    assert not any(client.bodies.get(stream) for stream in streams)
    assert resident(world) - before < 100 * 160 * SLACK
    client.sock.close()


def raw_read(client, on_frame):
    """Frames of streams that python-h2 did not open itself."""
    data = client.sock.recv(65536)
    client.raw = getattr(client, "raw", b"") + data
    while len(client.raw) >= 9 and len(client.raw) >= 9 + int.from_bytes(client.raw[:3], "big"):
        on_frame(client.raw[3], int.from_bytes(client.raw[5:9], "big"))
        client.raw = client.raw[9 + int.from_bytes(client.raw[:3], "big"):]
    return bool(data)


def test_pipelined_streams_get_their_own_answers(world, client):
    streams = {client.request(client.head(f"/{i}")): i for i in range(60)}
    for stream, i in streams.items():
        status, body = client.wait(stream)
        assert status == "200" and json.loads(body)["headers"][":path"] == f"/{i}"


def test_cancelled_stream_reaches_the_origin_and_spares_the_others(world, client):
    first = client.request(client.head("/sse"))
    other = client.request(client.head("/sse"))
    while not (client.bodies.get(first) and client.bodies.get(other)):
        assert client.read()
    with logs(world.proxy, reason="client-gone"):
        client.h2.reset_stream(first)
        client.flush()
    client.wait(client.request(client.head("/go")))
    assert client.wait(other)[1].endswith(b"two\n\n")


def test_resets_of_the_origin(world, client):
    assert client.wait(client.request(client.head("/reset")))[0] == "502"
    assert client.wait(client.request(client.head("/refuse-once")))[0] == "200"
    assert client.wait(client.request(client.head("/goaway"))) == ("200", b"last")
    assert client.wait(client.request(client.head("/")))[0] == "200"


def test_answer_before_the_end_of_the_request(world, client):
    stream = client.request(client.head("/early", "POST"), b"x" * 1000, end=False)
    status, body = client.wait(stream)
    assert (status, body) == ("413", b"too much")
    assert client.wait(client.request(client.head("/")))[0] == "200"


@pytest.mark.parametrize("size", [1, 100 << 10, 8 << 20])
def test_upload_that_nobody_wants_still_gets_its_answer(world, tmp_path, size):
    """The origin answers early; to curl a reset would hide what it said."""
    body = tmp_path / "body"
    body.write_bytes(b"x" * size)
    done = world.curl("--http2", "-T", str(body), "-o", "/dev/null", "-w", "%{http_code}",
                      world.url("h2", "/early"))
    assert (done.returncode, done.stdout) == (0, "413"), done.stderr


def test_a_slow_stream_does_not_hold_up_others(world):
    """A reader that never opens its window, beside one that reads."""
    port = world.ports["h2"]
    slow = Client(world.tls(port), port)
    before = resident(world)
    for _ in range(20):
        slow.request(slow.head(f"/big/{64 << 20}"))
    done = world.curl("--http2", "-o", "/dev/null", "-w", "%{size_download}",
                      world.url("h2", f"/big/{8 << 20}"))
    assert done.stdout == str(8 << 20)
    assert resident(world) - before < 16384 * SLACK
    slow.sock.close()


def test_head_and_empty_bodies(world):
    for origin in ("h1", "h2"):
        for version in ("--http1.1", "--http2"):
            done = world.curl(version, "-X", "POST", "-w", "%{http_code}", world.url(origin))
            assert done.stdout.endswith("200"), (origin, version, done)
    done = world.curl("--http2", "-I", world.url("h2"))
    assert "\nHTTP/2 200" in done.stdout


def test_nghttpd_is_an_origin(world, tmp_path):
    need_program("nghttpd")
    (tmp_path / "file").write_text("from nghttpd\n")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(["nghttpd", "-a", "127.0.0.1", "-d", tmp_path, str(port), world.key,
                               world.cert])
    try:
        world.ports["nghttpd"] = port
        world.configure()
        for version in ("--http1.1", "--http2"):
            done = world.curl(version, "--retry", "20", "--retry-delay", "1", "--retry-all-errors",
                              world.url("nghttpd", "/file"))
            assert "from nghttpd" in done.stdout, done
    finally:
        del world.ports["nghttpd"]
        world.configure()
        server.kill()
        server.wait()


NODE_CLIENT = r"""
const http2 = require('http2'), net = require('net'), tls = require('tls'), fs = require('fs');
const [proxy, name, port, ca] = process.argv.slice(1);
const raw = net.connect(Number(proxy), '127.0.0.1', () => {
  raw.write(`CONNECT ${name}:${port} HTTP/1.1\r\nHost: ${name}:${port}\r\n\r\n`);
  raw.once('data', () => {
    const socket = tls.connect({socket: raw, servername: name, ca: fs.readFileSync(ca),
      ALPNProtocols: ['h2']});
    const session = http2.connect(`https://${name}:${port}`, {createConnection: () => socket});
    let left = 50, bytes = 0;
    for (let i = 0; i < 50; i++) {
      const stream = session.request({':path': `/${i}`, ':method': 'POST'});
      let text = '';
      stream.setEncoding('utf8').on('data', (d) => { text += d; }).on('end', () => {
        bytes += JSON.parse(text).len;
        if (!--left) { console.log(bytes); session.close(); }
      });
      stream.end('y'.repeat(i * 1000));
    }
  });
});
"""


def test_node_is_a_client(world):
    done = subprocess.run(
        ["node", "-e", NODE_CLIENT, str(world.proxy.http.getsockname()[1]), NAME,
         str(world.ports["h2"]), world.ca_file], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == str(sum(i * 1000 for i in range(50))), done.stderr


def test_socks_leads_to_the_same_place(world):
    address = f"127.0.0.1:{world.proxy.http.getsockname()[1]}"
    done = world.proxy.curl("--socks5-hostname", address, "--cacert", str(world.ca_file), "--http2",
                            world.url("h2"), proxy=False)
    assert json.loads(done.stdout)["headers"]["authorization"] == f"Bearer {SECRET}", done.stderr
    evil = world.proxy.curl("--socks5-hostname", address, "--cacert", str(world.ca_file),
                            "--connect-to", f"evil.example:443:{NAME}:{world.ports['h2']}",
                            "https://evil.example/", proxy=False)
    assert evil.returncode == 35  # the SNI is not the host of the connection
    assert world.logged(reason="sni-mismatch")


class Raw:
    """An origin over TLS that the test answers by hand."""

    def __init__(self, world):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(world.cert, world.key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)

    def accept(self):
        return self.context.wrap_socket(self.listener.accept()[0], server_side=True)


def heads(sock, count=1):
    data = b""
    while data.count(b"\r\n\r\n") < count:
        part = sock.recv(65536)
        if not part:
            break
        data += part
    return data


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("origin", ["h1", "h2"])
@pytest.mark.parametrize("pause", [0, 0.3])
def test_requests_of_http2_take_what_was_connected_ahead(world, origin, pause):
    """While that is still being made, or later; not one connection is left without a request."""
    world.configure()
    before = len(world.proxy.records(0))
    client = Client(world.tls(world.ports[origin]), world.ports[origin])
    time.sleep(pause)
    streams = [client.request(client.head(f"/{i}")) for i in range(3)]
    assert [client.wait(stream)[0] for stream in streams] == ["200"] * 3
    client.sock.close()
    world.configure()  # which ends what is idle
    lines = world.proxy.records(before + 3)[before:]
    assert sorted((line["target"], line["reason"]) for line in lines) == [
        (f"/{i}", "rule") for i in range(3)]


@pytest.mark.parametrize("method,status", [("GET", b"200"), ("POST", b"502")])
def test_a_kept_connection_that_died_is_replaced_when_that_is_safe(world, method, status):
    raw = Raw(world)
    world.ports["raw"] = raw.listener.getsockname()[1]
    try:
        world.configure()
        client = world.tls(world.ports["raw"], "http/1.1")
        head = f"{method} / HTTP/1.1\r\nHost: {NAME}:{world.ports['raw']}\r\n"
        head = (head + "Content-Length: 0\r\n\r\n").encode()
        client.sendall(head)
        first = raw.accept()
        heads(first)
        first.sendall(OK)
        assert b" 200 " in client.recv(1000)
        client.sendall(head)
        heads(first)  # the second request came here, and gets no answer
        first.close()
        if method == "GET":
            second = raw.accept()
            heads(second)
            second.sendall(OK)
        assert client.recv(1000).split()[1] == status
        client.close()
    finally:
        raw.listener.close()
        del world.ports["raw"]
        world.configure()


def test_connections_are_kept_for_other_clients_with_the_same_credential(world):
    raw = Raw(world)
    world.ports["raw"] = raw.listener.getsockname()[1]
    head = f"GET / HTTP/1.1\r\nHost: {NAME}:{world.ports['raw']}\r\n\r\n".encode()
    try:
        world.configure()
        origin = None
        for _ in range(3):
            client = world.tls(world.ports["raw"], "http/1.1")
            client.sendall(head)
            origin = origin or raw.accept()
            assert SECRET.encode() in heads(origin)
            origin.sendall(OK)
            assert client.recv(1000).endswith(b"ok")
            client.close()
        world.configure(secret="another")  # the old connection is not used any more
        client = world.tls(world.ports["raw"], "http/1.1")
        client.sendall(head)
        assert b"Bearer another" in heads(raw.accept())
        assert origin.recv(1) == b""
        client.close()
    finally:
        raw.listener.close()
        del world.ports["raw"]
        world.configure()


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 100, b"SSH-2.0-x\r\n\r\n", b"",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n"])
def test_bad_answers_become_502(world, answer):
    """Also the second time: the connection may have waited for its request, and be thought dead."""
    raw = Raw(world)
    world.ports["raw"] = raw.listener.getsockname()[1]

    def serve():
        with contextlib.suppress(OSError):  # nobody reads on, or the test is over
            while True:
                with raw.accept() as origin:
                    heads(origin)
                    origin.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    try:
        world.configure()
        client = Client(world.tls(world.ports["raw"]), world.ports["raw"])
        stream = client.request(client.head())
        status, body = client.wait(stream)
        assert status == "502" and b"sbx: " in body
        client.sock.close()
    finally:
        raw.listener.close()
        del world.ports["raw"]
        world.configure()


@pytest.mark.parametrize("version", ["http/1.1", "h2"])
def test_an_answer_that_is_cut_off_is_not_made_whole(world, version):
    raw = Raw(world)
    world.ports["raw"] = raw.listener.getsockname()[1]
    try:
        world.configure()
        with logs(world.proxy, reason="cut-off"):
            sock = world.tls(world.ports["raw"], version)
            head = f"GET / HTTP/1.1\r\nHost: {NAME}:{world.ports['raw']}\r\n\r\n".encode()
            client = Client(sock, world.ports["raw"]) if version == "h2" else None
            stream = client.request(client.head()) if client else sock.sendall(head)
            origin = raw.accept()
            heads(origin)
            origin.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\n")
            origin.close()
            if client:
                client.wait(stream)
                assert stream in client.resets
            else:
                data = b""
                try:
                    while part := sock.recv(1000):
                        data += part
                except (OSError, ssl.SSLError):
                    pass
                assert b"hello" in data and not data.endswith(b"0\r\n\r\n")
    finally:
        raw.listener.close()
        del world.ports["raw"]
        world.configure()


def test_idle_connections_are_small(world):
    count, held = 200, []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        world.configure(rules=[f"allow {NAME}", "allow 127.0.0.1"])
        before = resident(world)
        for _ in range(count):
            held.append(socket.create_connection(world.proxy.http.getsockname(), 10))
            held[-1].sendall(f"CONNECT {NAME}:{port} HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
            assert held[-1].recv(100).startswith(b"HTTP/1.1 200")
            held.append(listener.accept()[0])
        tunnel = (resident(world) - before) / count
        for sock in held:
            sock.close()
    before, held = resident(world), []
    for i in range(count):
        sock = world.tls(world.ports["h2"])
        client = Client(sock, world.ports["h2"])
        assert client.wait(client.request(client.head()))[0] == "200"
        held.append(client)
    intercepted = (resident(world) - before) / count
    for client in held:
        client.sock.close()
    print(f"idle tunnel {tunnel:.1f} KiB, idle intercepted connection {intercepted:.1f} KiB")
    assert tunnel < 16 * SLACK and intercepted < 64 * SLACK


def test_plain_http2_by_prior_knowledge(tmp_path):
    """A redirected connection that begins with the preface; also a load of requests by h2load."""
    need_root()
    for program in ("node", "h2load"):
        need_program(program)
    node = subprocess.Popen(["node", HERE / "http2_origin.js"], stdout=subprocess.PIPE, text=True)
    port = int(node.stdout.readline())
    made = []

    def body():
        proxy = Proxy(tmp_path, tcp4=socket.create_server(("0.0.0.0", port)))
        made.append(proxy)
        proxy.configure([f"allow good.example:{port}", "allow 127.0.0.1"],
                        hosts={"good.example": "127.0.0.1"})
        address = ".".join(map(str, dns_query(proxy, "good.example")[-4:]))
        resolve = ["--resolve", f"good.example:{port}:{address}", "--http2-prior-knowledge"]
        done = proxy.curl(*resolve, "-d", "hello", f"http://good.example:{port}/x", proxy=False)
        seen = json.loads(done.stdout)
        assert seen["len"] == 5 and seen["headers"][":authority"] == f"good.example:{port}"
        assert proxy.records(1)[-1]["path"] == "transparent"
        evil = proxy.curl(*resolve, "-H", "Host: evil.example", "-w", "%{http_code}",
                          f"http://good.example:{port}/x", proxy=False)
        assert evil.stdout.endswith("421")
        out = subprocess.run(
            ["h2load", "-n", "5000", "-c", "20", "-m", "20", "--connect-to", f"{address}:{port}",
             f"http://good.example:{port}/"], capture_output=True, text=True, check=True).stdout
        assert "5000 succeeded, 0 failed" in out, out
        assert len(proxy.records(5002)) == 5002

    try:
        in_namespace(body)
    finally:
        for proxy in made:
            proxy.close()
        node.kill()
        node.wait()


GRPC_SERVER = r"""
import sys
from concurrent import futures
import grpc
class Echo(grpc.GenericRpcHandler):
    def service(self, call):
        def one(request, context):
            sent = dict(context.invocation_metadata())
            context.set_trailing_metadata((("x-auth", sent.get("authorization", "")),))
            if request == b"fail":
                context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
            return request[::-1]
        def many(requests, context):
            for request in requests:
                yield request.upper()
        if call.method.endswith("Many"):
            return grpc.stream_stream_rpc_method_handler(many)
        return grpc.unary_unary_rpc_method_handler(one)
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((Echo(),))
cert, key = (open(name, "rb").read() for name in sys.argv[1:])
port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
server.start()
print(port, flush=True)
server.wait_for_termination()
"""

GRPC_CLIENT = r"""
import queue, sys
import grpc
ca, target = sys.argv[1:]
channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(open(ca, "rb").read()))
one = channel.unary_unary("/echo.Echo/One")
answer, call = one.with_call(b"hello", metadata=(("authorization", "Bearer mine"),), timeout=10)
print(answer, dict(call.trailing_metadata())["x-auth"])
try:
    one(b"fail", timeout=10)
except grpc.RpcError as error:
    print(error.code().name, error.details())
# Each message leaves only after the answer to the one before it: nothing is held back.
todo = queue.Queue()
answers = channel.stream_stream("/echo.Echo/Many")(iter(todo.get, None), timeout=20)
for word in (b"a", b"b" * 100000, b"c"):
    todo.put(word)
    print(len(next(answers)))
todo.put(None)
print(list(answers))
"""


def test_real_grpc(world):
    """The library's own client and server: unary, an error in the trailers, a stream both ways."""
    try:
        import grpc  # noqa: F401
    except ImportError:
        skip_loudly("needs python3-grpcio")
    server = subprocess.Popen([sys.executable, "-c", GRPC_SERVER, world.cert, world.key],
                              stdout=subprocess.PIPE, text=True)
    try:
        world.ports["grpc"] = int(server.stdout.readline())
        world.configure()
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        done = subprocess.run(
            [sys.executable, "-c", GRPC_CLIENT, world.ca_file, f"{NAME}:{world.ports['grpc']}"],
            env={**env, "http_proxy": world.proxy.url}, capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines() == [
            f"b'olleh' Bearer {SECRET}", "NOT_FOUND no such thing", "1", "100000", "1", "[]"], done
    finally:
        del world.ports["grpc"]
        world.configure()
        server.kill()
        server.wait()


def test_http10_gets_no_chunks(world):
    sock = world.tls(world.ports["h2"], "http/1.1")
    sock.sendall(f"GET /big/100000 HTTP/1.0\r\nHost: {NAME}:{world.ports['h2']}\r\n\r\n".encode())
    data = b""
    while part := sock.recv(65536):
        data += part
    head, body = data.split(b"\r\n\r\n", 1)
    assert body == b"x" * 100000 and b"chunked" not in head and b"Connection: close" in head


def test_http10_origin_ends_its_body_by_closing(world, client):
    raw = Raw(world)
    world.ports["raw"] = raw.listener.getsockname()[1]
    try:
        world.configure()
        client = Client(world.tls(world.ports["raw"]), world.ports["raw"])
        stream = client.request(client.head())
        origin = raw.accept()
        assert b"\r\nAuthorization: Bearer " in heads(origin)
        origin.sendall(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nuntil the end")
        origin.unwrap()
        origin.close()
        assert client.wait(stream) == ("200", b"until the end")
        assert stream not in client.resets
    finally:
        raw.listener.close()
        del world.ports["raw"]
        world.configure()
