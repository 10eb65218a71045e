# SPDX-License-Identifier: Apache-2.0
"""The real sbx-proxy with listeners on loopback; the test plays the supervisor."""
import contextlib
import ctypes
import http.client
import http.server
import json
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

import pytest

pytestmark = pytest.mark.no_sandbox

BUILD = pathlib.Path(os.environ.get("SBX_BUILD", "build")).resolve()
PROXY = next((p for p in (BUILD / "sbx-proxy", BUILD / "src/proxy/sbx-proxy") if p.exists()),
             BUILD / "sbx-proxy")
SECRET = "real-secret-value"
# Where memory is measured: AddressSanitizer pads what is there, hence SLACK, and holds back 256 MB of
# what was freed, unless it is told to hold back less.
SLACK = 4 if b"__asan_init" in PROXY.read_bytes() else 1
MEASURED = {"ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=4"}


class Origin(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent, so that a test can see what left the proxy."""

    protocol_version = "HTTP/1.1"

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline() or "0", 16):  # "": it was cut off
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_GET(self):
        body = json.dumps({"path": self.path, "headers": dict(self.headers),
                           "body": self.read_body().decode()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args):
        pass


class OriginServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        # A client that is gone is what many tests are about.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def start_origin(context=None, handler=Origin):
    server = OriginServer(("127.0.0.1", 0), handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def self_signed(folder, name):
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", key, "-out", cert,
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"],
                   check=True, capture_output=True)
    return cert, key


@contextlib.contextmanager
def logs(proxy, **wanted):
    """What the body does is logged with these fields; a record may come after the answer."""
    before = len(proxy.records(0))
    yield
    deadline = time.monotonic() + 10
    while True:
        new = proxy.records(0)[before:]
        if any(wanted.items() <= record.items() for record in new):
            return
        assert time.monotonic() < deadline, (wanted, new)
        time.sleep(0.01)


class Proxy:
    """One running sbx-proxy and the supervisor's end of its socket."""

    def __init__(self, folder, env=None, args=(), tcp4=None, log=None, log_bytes=None,
                 own_network=False):
        """`own_network`: it connects from the caller's network namespace, not from the host's."""
        self.log = log or folder / "log.jsonl"
        self.sock, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(10)
        self.http = socket.create_server(("127.0.0.1", 0), backlog=1024)  # as in a sandbox
        self.tcp4 = tcp4 or socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        log_fd = os.open(self.log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        head_fd = os.open(folder / "log-head", os.O_RDWR | os.O_CREAT, 0o600)
        self.keeper, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.keeper.settimeout(10)
        fd = child.detach()

        def in_child():
            os.dup2(fd, 3)
            if not own_network:
                host = os.open(f"/proc/{os.getppid()}/ns/net", os.O_RDONLY)
                ctypes.CDLL(None).setns(host, 0)
            os.set_inheritable(3, True)

        self.process = subprocess.Popen([PROXY, *args], preexec_fn=in_child, close_fds=False,
                                        env={**os.environ, **(env or {})})
        os.close(fd)
        message = {"op": "listen", "fds": ["http", "tcp4", "dns_udp", "log", "log_head"]}
        fds = [self.http.fileno(), self.tcp4.fileno(), self.udp.fileno(), log_fd, head_fd]
        if log_bytes:  # who gives a limit answers on self.keeper when it is reached
            message["fds"].append("log_keeper")
            message["log_bytes"] = log_bytes
            fds.append(far.fileno())
        socket.send_fds(self.sock, [json.dumps(message).encode()], fds)
        os.close(log_fd)
        os.close(head_fd)
        far.close()
        self.url = f"http://127.0.0.1:{self.http.getsockname()[1]}"

    def call(self, message, fds=()):
        socket.send_fds(self.sock, [json.dumps(message).encode()], list(fds))
        data = self.sock.recv(256 * 1024)
        return json.loads(data) if data else None

    def configure(self, rules, origin="global", **more):
        config = {"version": 1, "sandbox": "box", "inject": [], "hosts": {},
                  "rules": [{"text": r, "id": f"{i:08x}", "origin": origin}
                            for i, r in enumerate(rules)], **more}
        fd = os.memfd_create("config")
        os.write(fd, json.dumps(config).encode())
        os.lseek(fd, 0, os.SEEK_SET)
        reply = self.call({"op": "config"}, [fd])
        os.close(fd)
        assert reply == {"ok": True}, reply

    def records(self, at_least=1):
        """The requests in the log; an allowed one is logged when it has ended, soon after its
        answer."""
        deadline = time.monotonic() + 5
        while True:
            lines = [json.loads(line) for line in self.log.read_text().splitlines(True)
                     if line.endswith("\n")]
            requests = [line for line in lines if "decision" in line]
            if len(requests) >= at_least or time.monotonic() > deadline:
                return requests
            time.sleep(0.01)

    def curl(self, *args, proxy=True):
        via = ["-x", self.url] if proxy else []
        return subprocess.run(["curl", "-sS", "--max-time", "15", "--noproxy", "", *via, *args],
                              capture_output=True, text=True)

    def close(self):
        self.sock.close()
        assert self.process.wait(10) in (0, -signal.SIGSYS)
        for s in (self.http, self.tcp4, self.udp, self.keeper):
            s.close()


@pytest.fixture
def proxy(tmp_path):
    running = Proxy(tmp_path)
    yield running
    running.close()


@pytest.fixture
def origin():
    server = start_origin()
    yield server.server_address[1]
    server.shutdown()


def test_plain_http_is_forwarded_and_logged(proxy, origin):
    proxy.configure([f"allow localhost:{origin}"])
    result = proxy.curl(f"http://host.docker.internal:{origin}/a?b=c", "-d", "hello")
    seen = json.loads(result.stdout)
    assert seen["path"] == "/a?b=c" and seen["body"] == "hello"
    record = proxy.records()[-1]
    assert record["decision"] == "allow" and record["path"] == "forward"
    assert record["host"] == "localhost" and record["status"] == 200
    assert record["target"] == "/a" and record["seq"] == 2


def test_denied_request_says_how_to_allow_it(proxy, origin):
    proxy.configure([])
    result = proxy.curl("-w", "%{http_code}", f"http://example.com:{origin}/")
    assert result.stdout.endswith("403")
    assert f"sbx policy allow box example.com:{origin}" in result.stdout
    assert proxy.records()[-1]["decision"] == "deny"


@pytest.mark.parametrize("rules, why", [
    ([], ["no rule allows it", "To allow it, on the host: sbx policy allow box no.example:443",
          "For every sandbox: sbx policy allow -g no.example:443"]),
    (["allow **", "deny no.example"],
     ["rule: deny no.example (global)", "A deny rule wins over every allow rule; on the host "
      "'sbx policy ls' shows it and 'sbx policy rm' removes it"]),
], ids=["default-deny", "rule"])
def test_denied_tunnel_says_what_denied_it(proxy, rules, why):
    """In the answer's body, which is all that many a client shows of it."""
    proxy.configure(rules)
    with socket.create_connection(proxy.http.getsockname(), 10) as s:
        s.sendall(b"CONNECT no.example:443 HTTP/1.1\r\nHost: no.example:443\r\n\r\n")
        answer = http.client.HTTPResponse(s)
        answer.begin()
        said = answer.read().decode().splitlines()
    assert answer.status == 403
    assert said == ["sbx: no.example:443 is blocked for this sandbox", *why]


def test_wildcard_does_not_reach_the_host(proxy, origin):
    proxy.configure(["allow **"])
    result = proxy.curl("-w", "%{http_code}", f"http://localhost:{origin}/",
                        "--next", "-sS", "-x", proxy.url, "-w", "%{http_code}",
                        f"http://127.0.0.1:{origin}/")
    assert result.stdout.count("403") == 2


def test_name_that_leads_to_loopback_is_refused(proxy, origin):
    proxy.configure(["allow **"], hosts={"rebind.example": "127.0.0.1"})
    assert proxy.curl("-w", "%{http_code}", f"http://rebind.example:{origin}/").stdout[-3:] == "403"
    assert proxy.records()[-1]["reason"] == "address"


@pytest.mark.parametrize("address", [
    "127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "::ffff:169.254.169.254",
    "fd00:ec2::254", "fe80::1", "10.0.0.1", "192.168.1.1", "::ffff:10.0.0.1", "100.64.0.1",
    "0.0.0.0", "64:ff9b::7f00:1"])
def test_name_that_leads_to_a_forbidden_address_is_refused(proxy, origin, address):
    proxy.configure(["allow **"], hosts={"rebind.example": address})
    result = proxy.curl("-w", "%{http_code}", f"http://rebind.example:{origin}/")
    assert result.stdout.endswith("403") and "localhost" in result.stdout
    assert f"policy allow -g rebind.example:{origin}" not in result.stdout
    assert proxy.records()[-1]["reason"] == "address"


@pytest.mark.parametrize("authority", [
    "evil.example\0.good.example:80", "good.example:80@evil.example:80",
    "good.example%2eevil.example:80", "good.example\\.evil.example:80", "good.example/evil.example:80",
    "2130706433:80", "127.1:80",
    "0x7f000001:80", "0:80", "good.example.evil.example:80", "evilgood.example:80",
    "[::ffff:127.0.0.1]:80", "good.example:22", "good.example:0", "good.example:65616",
    "good.example:+80", "g\u043eod.example:80"])
def test_confused_names_are_refused(proxy, authority):
    proxy.configure(["allow good.example:80", "allow *.good.example:80"],
                    hosts={"good.example": "127.0.0.1", "evil.example": "127.0.0.1"})
    for head in ("CONNECT {a} HTTP/1.1\r\nHost: {a}\r\n\r\n",
                 "GET http://{a}/ HTTP/1.1\r\nHost: {a}\r\n\r\n"):
        with socket.create_connection(proxy.http.getsockname(), 5) as s:
            s.sendall(head.format(a=authority).encode())
            assert s.recv(1000).split()[1] in (b"400", b"403"), authority


@pytest.mark.parametrize("fields", [
    "Content-Length: 3\r\nTransfer-Encoding: chunked", "Content-Length: 3\r\nContent-Length: 4",
    "Content-Length: +3", "Content-Length: 0x3", "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity", "Content-Length : 3", "A: b\r\n c", "A: b\0c",
    "A: b\nTransfer-Encoding: chunked"])
def test_ambiguous_requests_are_refused(proxy, origin, fields):
    proxy.configure([f"allow localhost:{origin}"])
    with socket.create_connection(proxy.http.getsockname(), 5) as s:
        s.sendall(f"POST http://localhost:{origin}/ HTTP/1.1\r\nHost: localhost:{origin}\r\n"
                  f"{fields}\r\n\r\n".encode())
        assert s.recv(1000).split()[1] == b"400"


def test_nothing_passes_when_the_log_cannot_be_written(tmp_path, origin):
    proxy = Proxy(tmp_path, log=pathlib.Path("/dev/full"))
    try:
        proxy.configure([f"allow localhost:{origin}"])
        # The first refusal to write shows itself on the first record; nothing follows it.
        for _ in range(2):
            last = proxy.curl("-w", "%{http_code}", f"http://localhost:{origin}/")
        assert last.stdout.endswith("503") and "log" in last.stdout
    finally:
        proxy.close()


def test_pipelined_request_to_another_host_is_judged_alone(proxy, origin):
    proxy.configure([f"allow localhost:{origin}"])
    head = "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\n\r\n"
    with socket.create_connection(proxy.http.getsockname(), 5) as s:
        s.sendall((head.format(h=f"localhost:{origin}") + head.format(h="evil.example")).encode())
        data = b""
        while part := s.recv(10000):
            data += part
    assert data.count(b"HTTP/1.1 200") == 1 and data.count(b"HTTP/1.1 403") == 1


def test_connect_tunnel_and_reload(proxy, origin):
    proxy.configure([f"allow localhost:{origin}"])
    result = proxy.curl("-p", f"http://localhost:{origin}/tunnel")
    assert json.loads(result.stdout)["path"] == "/tunnel"
    # HTTP in a tunnel is read as it is elsewhere; what is not is passed through.
    assert proxy.records()[-1]["path"] == "forward"
    with logs(proxy, path="forward-bypass", reason="rule-changed"), \
            socket.create_connection(proxy.http.getsockname()) as s:
        s.sendall(f"CONNECT localhost:{origin} HTTP/1.1\r\nHost: localhost:{origin}\r\n\r\n".encode())
        assert s.recv(1000).startswith(b"HTTP/1.1 200")
        proxy.configure([])
        s.settimeout(5)
        assert s.recv(1000) == b""


def test_keep_alive_request_is_judged_again(proxy, origin):
    proxy.configure([f"allow localhost:{origin}"])
    result = proxy.curl(f"http://localhost:{origin}/1", f"http://localhost:{origin + 1}/2",
                        "-w", "%{http_code} ")
    assert "200" in result.stdout and "403" in result.stdout


class Peer(Origin):
    """Answers with the port that the proxy came from: which of its connections it was."""

    def do_GET(self):
        body = str(self.client_address[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_of_many_idle_connections_the_latest_are_kept(proxy):
    """As many as LIMIT_IDLE_LINKS (src/proxy/bounds.h) to as many hosts."""
    server, kept = start_origin(handler=Peer), 64
    port, names = server.server_address[1], [f"h{i}.example" for i in range(kept + 6)]
    proxy.configure(["allow *.example", "allow 127.0.0.1"],
                    hosts={name: "127.0.0.1" for name in names})
    client = http.client.HTTPConnection(*proxy.http.getsockname(), timeout=20)

    def ask(name):
        client.request("GET", f"http://{name}:{port}/")
        answer = client.getresponse()
        assert answer.status == 200
        return answer.read()

    used = {name: ask(name) for name in names}
    for name in reversed(names[-kept + 1:]):
        assert ask(name) == used[name]
    assert ask(names[0]) != used[names[0]]
    client.close()
    server.shutdown()


def test_origin_form_is_refused(proxy):
    proxy.configure([])
    assert proxy.curl("-w", "%{http_code}", proxy.url + "/", proxy=False).stdout.endswith("400")


def test_tls_is_terminated_only_to_inject(tmp_path):
    cert, key = self_signed(tmp_path, "api.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = start_origin(context)
    port = server.server_address[1]
    proxy = Proxy(tmp_path, {"SSL_CERT_FILE": str(cert)})
    try:
        proxy.configure([])
        ca = proxy.call({"op": "ca"})
        ca_file = tmp_path / "ca.pem"
        ca_file.write_text(ca["cert_pem"])
        inject = {"id": "i1", "service": "api", "kit": "k", "domain": f"api.example:{port}",
                  "header": "Authorization", "format": "Bearer %s", "mode": "overwrite",
                  "secret": SECRET}
        proxy.configure(["allow api.example", "allow 127.0.0.1"], inject=[inject],
                        hosts={"api.example": "127.0.0.1"},
                        ca={"cert_pem": ca["cert_pem"], "key_pem": ca["key_pem"]})
        result = proxy.curl("--cacert", str(ca_file), "-H", "Authorization: Bearer mine",
                            f"https://api.example:{port}/v1")
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["headers"]["Authorization"] == f"Bearer {SECRET}"
        record = proxy.records()[-1]
        assert record["credential"] == "injected" and record["path"] == "forward"
        assert SECRET not in proxy.log.read_text()
    finally:
        proxy.close()
        server.shutdown()


class Foreseen:
    """Origins by TLS under several names; clients shake hands first, and ask later.  The rules look
    at requests, so nothing leaves before one (test_ahead.py has those that do not)."""

    NAMES = ("a.host.example", "b.host.example")

    def __init__(self, folder, trusted):
        cert, key = self_signed(folder, "*.host.example")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.asked_for = []
        context.sni_callback = lambda sock, name, _: self.asked_for.append(name)
        self.server = start_origin(context)
        self.port = self.server.server_address[1]
        self.pem = cert.read_text()
        other, _ = self_signed(folder, "other.example")  # in the same file
        self.proxy = Proxy(folder, {"SSL_CERT_FILE": str(other)})
        self.proxy.configure([])
        self.ca = self.proxy.call({"op": "ca"})
        self.configure(self.pem if trusted else None)

    def configure(self, extra_ca):
        inject = [{"id": "i1", "service": "api", "kit": "k", "domain": f"{name}:{self.port}",
                   "header": "Authorization", "format": "Bearer %s", "mode": "overwrite",
                   "secret": SECRET} for name in self.NAMES]
        more = {"extra_ca": extra_ca} if extra_ca else {}
        self.proxy.configure([*(f"allow {name} method GET" for name in self.NAMES),
                              "allow 127.0.0.1"],
                             inject=inject, hosts=dict.fromkeys(self.NAMES, "127.0.0.1"),
                             ca={k: self.ca[k] for k in ("cert_pem", "key_pem")}, **more)

    def shake_hands(self, name):
        sock = socket.create_connection(self.proxy.http.getsockname(), 10)
        sock.sendall(f"CONNECT {name}:{self.port} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        assert b" 200 " in sock.recv(4096)
        context = ssl.create_default_context(cadata=self.ca["cert_pem"])
        return context.wrap_socket(sock, server_hostname=name)

    def ask(self, sock, name):
        sock.sendall(f"GET /{name} HTTP/1.1\r\nHost: {name}:{self.port}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        return answer.status, answer.read().decode()

    def close(self):
        self.proxy.close()
        self.server.shutdown()


@pytest.fixture
def foreseen(tmp_path):
    running = Foreseen(tmp_path, trusted=True)
    yield running
    running.close()


def test_what_was_made_ready_for_one_host_is_not_said_to_another(foreseen):
    a, b = map(foreseen.shake_hands, foreseen.NAMES)
    time.sleep(0.1)  # nothing has left, also not by now
    assert not foreseen.asked_for
    for sock, name in ((a, "a.host.example"), (b, "b.host.example")):
        status, body = foreseen.ask(sock, name)
        assert status == 200 and json.loads(body)["path"] == f"/{name}"
        assert foreseen.asked_for.pop() == name and not foreseen.asked_for
        sock.close()


def test_what_was_made_ready_trusts_nobody_whom_the_user_has_forgotten(foreseen):
    sock = foreseen.shake_hands("a.host.example")
    time.sleep(0.1)
    foreseen.configure(None)
    status, body = foreseen.ask(sock, "a.host.example")
    assert status == 502 and "TLS with a.host.example" in body
    foreseen.configure(foreseen.pem)
    assert foreseen.ask(foreseen.shake_hands("a.host.example"), "a.host.example")[0] == 200


def socks(proxy, *messages):
    """Sends the messages of a SOCKS5 client; what came back in all."""
    with socket.create_connection(proxy.http.getsockname(), 5) as s:
        data = b""
        for message in messages:
            s.sendall(message)
            data += s.recv(1000)
        return data


def socks_request(host, port, command=1):
    return b"\5%c\0\3%c" % (command, len(host)) + host + struct.pack(">H", port)


HELLO = b"\5\1\0"


@pytest.mark.parametrize("option", ["--socks5-hostname", "--socks5"])
def test_socks(proxy, origin, option):
    proxy.configure([f"allow localhost:{origin}", "allow 127.0.0.1"])
    address = f"127.0.0.1:{proxy.http.getsockname()[1]}"
    host = "localhost" if option == "--socks5-hostname" else "127.0.0.1"
    result = proxy.curl(option, address, f"http://{host}:{origin}/socks", proxy=False)
    assert json.loads(result.stdout)["path"] == "/socks", result.stderr
    record = proxy.records()[-1]
    assert record["path"] == "forward" and record["host"] == host
    denied = proxy.curl(option, address, "http://192.0.2.1/", proxy=False)
    assert denied.returncode == 97 and proxy.records(2)[-1]["decision"] == "deny"


def test_socks_in_single_bytes(proxy, origin):
    proxy.configure([f"allow localhost:{origin}"])
    talk = HELLO + socks_request(b"LOCALHOST", origin) + b"GET /bytes HTTP/1.0\r\n\r\n"
    with socket.create_connection(proxy.http.getsockname(), 5) as s:
        for byte in talk:
            s.sendall(bytes([byte]))
        data = b""
        while part := s.recv(1000):
            data += part
    assert data.startswith(b"\5\0\5\0\0\1\0\0\0\0\0\0HTTP/1.") and b"/bytes" in data


@pytest.mark.parametrize("message,reply", [
    (socks_request(b"evil.example", 80), 2),
    (socks_request(b"localhost\0.good.example", 80), 8), (socks_request(b"a b", 80), 8),
    (socks_request(b"", 80), 8), (socks_request(b"good.example", 0), 8),
    (socks_request(b"2130706433", 80), 8), (socks_request(b"127.1", 80), 8),
    (socks_request(b"good.example", 80, 2), 7), (socks_request(b"good.example", 80, 3), 7),
    (b"\5\1\0\1\x7f\0\0\1\0\x50", 2), (b"\5\1\0\4" + b"\0" * 15 + b"\1\0\x50", 2),
    (b"\5\1\0\4" + b"\0" * 10 + b"\xff\xff\xa9\xfe\xa9\xfe\0\x50", 2),
    (b"\5\1\0\5\0\0", 8)])
def test_socks_refuses(proxy, message, reply):
    proxy.configure(["allow good.example", "allow **.example:81"])
    assert socks(proxy, HELLO, message)[:4] == bytes([5, 0, 5, reply])


def test_socks_needs_no_authentication(proxy):
    proxy.configure([])
    assert socks(proxy, b"\5\1\2") == b"\5\xff"
    assert socks(proxy, b"\5\2\2\0") == b"\5\0"


def dns_query(proxy, name, qtype=1):
    question = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"
    packet = struct.pack(">HHHHHH", 9, 0x100, 1, 0, 0, 0) + question + struct.pack(">HH", qtype, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.sendto(packet, proxy.udp.getsockname())
        return s.recv(2000)


def test_dns_answers_from_the_policy(proxy):
    proxy.configure(["allow good.example:8443"])
    answer = dns_query(proxy, "good.example")
    assert answer[3] & 15 == 0 and answer[-4:-2] == bytes([198, 18])
    assert dns_query(proxy, "good.example") == answer
    assert dns_query(proxy, "bad.example")[3] & 15 == 3
    dns_query(proxy, "bad.example")
    assert [r["host"] for r in proxy.records() if r["path"] == "dns"] == ["bad.example"]


@pytest.mark.parametrize("what", ["open", "exec", "ptrace"])
def test_lockdown(tmp_path, what):
    proxy = Proxy(tmp_path, args=["--allow-probe"])
    try:
        proxy.configure([])
        if what == "open":
            assert proxy.call({"op": "probe", "what": what}) == {"ok": False, "errno": 13}
        else:
            socket.send_fds(proxy.sock, [json.dumps({"op": "probe", "what": what}).encode()], [])
            assert proxy.process.wait(10) == -signal.SIGSYS
    finally:
        proxy.close()


def in_namespace(body):
    """Runs body() in a thread with a network namespace of its own, where every address is local."""
    result = {}

    def run():
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:
            result["skip"] = "no network namespace"
            return
        subprocess.run("ip link set lo up; ip route add local default dev lo", shell=True)
        try:
            body()
        except BaseException as error:
            result["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if "skip" in result:
        pytest.skip(result["skip"])
    if "error" in result:
        raise result["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a network namespace")
def test_redirected_connections(tmp_path, origin):
    proxies = []

    def body():
        proxy = Proxy(tmp_path, tcp4=socket.create_server(("0.0.0.0", origin)))
        proxies.append(proxy)
        proxy.configure([f"allow good.example:{origin}", "allow 127.0.0.1"],
                        hosts={"good.example": "127.0.0.1"})
        address = ".".join(map(str, dns_query(proxy, "good.example")[-4:]))
        good = proxy.curl("--resolve", f"good.example:{origin}:{address}",
                          f"http://good.example:{origin}/x", proxy=False)
        assert json.loads(good.stdout)["path"] == "/x"
        assert proxy.records()[-1]["path"] == "transparent"
        front = proxy.curl("-H", "Host: evil.example", f"http://{address}:{origin}/",
                           "-w", "%{http_code}", proxy=False)
        assert front.stdout.endswith("403")
        assert proxy.records(2)[-1]["reason"] == "host-mismatch"
        bare = proxy.curl(f"http://192.0.2.1:{origin}/", "-w", "%{http_code}", proxy=False)
        assert bare.stdout.endswith("403")
        tls = proxy.curl(f"https://192.0.2.1:{origin}/", proxy=False)
        assert tls.returncode == 35 and "denied" in tls.stderr

    try:
        in_namespace(body)
    finally:
        for proxy in proxies:
            proxy.close()
