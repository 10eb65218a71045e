# SPDX-License-Identifier: Apache-2.0
"""What the proxy cannot read it refuses, and the log says what was wrong with it."""
import json
import os
import socket
import struct

import pytest

from test_policy_attacks import send, status
from test_proxy import HELLO, Proxy, in_namespace, logs, socks, socks_request, start_origin

pytestmark = pytest.mark.no_sandbox

HEAD = b"GET http://good.example/ HTTP/1.1\r\nHost: good.example\r\n"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    running = Proxy(tmp_path_factory.mktemp("proxy"))
    running.configure(["allow good.example"])
    yield running
    running.close()


def bad(why):
    return "bad-request: " + why


@pytest.mark.parametrize("data,code,record", [
    (b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n", 400,
     {"reason": bad("this is a proxy: ask for an absolute URL (http://host/path)"), "host": None}),
    (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
     {"reason": bad("both Content-Length and Transfer-Encoding"), "method": None}),
    (HEAD + b"A: b\nC: d\r\n\r\n", 400, {"reason": bad("a line of the head ends without CR LF")}),
    (HEAD + b"A: b\x01\r\n\r\n", 400,
     {"reason": bad("the value of a header field holds a control character")}),
    (HEAD + b"A: " + b"b" * 70000 + b"\r\n\r\n", 400,
     {"reason": bad("the head is larger than 64 KiB")}),
    (HEAD + b"A: b\r\n" * 200 + b"\r\n", 400, {"reason": bad("more than 128 header fields")}),
    (b"GET http://127.1/x?key=1 HTTP/1.1\r\nHost: 127.1\r\n\r\n", 400,
     {"reason": bad("the host is not a valid name or address"), "host": None, "port": 0,
      "method": "GET", "target": None}),
    (b"CONNECT 127.1:443 HTTP/1.1\r\nHost: 127.1:443\r\n\r\n", 400,
     {"reason": bad("the host is not a valid name or address"), "status": 400}),
    (b"GET https://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n", 400,
     {"reason": bad("only http:// may be asked of a proxy; use CONNECT")}),
    (b"\x16\x03\x01\x00\x05hello\r\n\r\n", 400,
     {"reason": bad("the request line does not start with a method")}),
    (b"\4\1\0\x50\x7f\0\0\1\0\r\n\r\n", 400,
     {"reason": bad("the request line does not start with a method")}),
    (HEAD.replace(b"GET", b"A" * 32) + b"\r\n", 501,
     {"reason": bad("the method is longer than any that exists"), "method": None}),
])
def test_requests(proxy, data, code, record):
    with logs(proxy, decision="deny", path="forward", rule=None, **record):
        assert status(send(proxy, data)) == code


@pytest.mark.parametrize("messages,why", [
    ((b"\5\1\2",), "SOCKS with no method that needs no password"),
    ((HELLO, b"\4\1\0\1\x7f\0\0\1\0\x50"), "SOCKS of another version than 5"),
    ((HELLO, socks_request(b"localhost\0.good.example", 80)),
     "the address in SOCKS is no valid name or address"),
    ((HELLO, b"\5\1\0\7\0\0"), "the address in SOCKS is no valid name or address"),
    ((HELLO, socks_request(b"good.example", 80, 2)), "the only command of SOCKS is CONNECT")])
def test_socks(proxy, messages, why):
    with logs(proxy, decision="deny", path="forward-bypass", host=None, reason=bad(why)):
        socks(proxy, *messages)


def test_every_refusal_is_one_line(proxy):
    before = len(proxy.records(0))
    for _ in range(50):
        assert status(send(proxy, b"GET / HTTP/1.1\r\n\r\n")) == 400
    assert len(proxy.records(before + 50)) == before + 50


@pytest.mark.parametrize("method", ["UPDATEREDIRECTREF", "A" * 31])
def test_a_long_method_is_judged_whole(proxy, method):
    """The first fifteen letters decided once; a rule must not be met by a part of a method."""
    proxy.configure(["allow good.example", "deny good.example method GET"])
    try:
        with logs(proxy, method=method, decision="allow"):
            send(proxy, HEAD.replace(b"GET", method.encode()) + b"Connection: close\r\n\r\n")
        # POST is denied; no longer word that begins so is.
        proxy.configure(["allow good.example", "deny good.example method POST"])
        with logs(proxy, method="POSTX" + "X" * 26, decision="allow"):
            send(proxy, HEAD.replace(b"GET", b"POSTX" + b"X" * 26) + b"Connection: close\r\n\r\n")
    finally:
        proxy.configure(["allow good.example"])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a network namespace")
def test_redirected_connections(tmp_path):
    """HTTP/1.0 without Host is for the place that its connection leads to; other nonsense is told."""
    server = start_origin()
    origin = server.server_address[1]
    proxies = []

    def ask(address, data):
        with socket.create_connection((address, origin), 10) as s:
            s.sendall(data)
            out = b""
            while part := s.recv(65536):
                out += part
            return out

    def body():
        # An origin only by this name, whose address inside is made up.
        proxy = Proxy(tmp_path, tcp4=socket.create_server(("0.0.0.0", origin)))
        proxies.append(proxy)
        proxy.configure([f"allow good.example:{origin}", f"deny good.example:{origin} method POST"],
                        pins={"good.example": "127.0.0.1"})
        query = (struct.pack(">HHHHHH", 9, 0x100, 1, 0, 0, 0) + b"\4good\7example\0" +
                 struct.pack(">HH", 1, 1))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(query, proxy.udp.getsockname())
            address = ".".join(map(str, s.recv(2000)[-4:]))
        with logs(proxy, decision="allow", path="transparent", host="good.example", port=origin,
                  target="/old"):
            answer = ask(address, b"GET /old HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        sent = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert sent["headers"]["Host"] == f"good.example:{origin}" and sent["path"] == "/old"
        # Judged by that name: its rules hold, and an address that no rule allows is not reached.
        assert status(ask(address, b"POST /old HTTP/1.0\r\n\r\n")) == 403
        with logs(proxy, decision="deny", host="192.0.2.1", reason="default-deny"):
            assert status(ask("192.0.2.1", b"GET / HTTP/1.0\r\n\r\n")) == 403
        # HTTP/1.1 must have one (RFC 9112 3.2).
        with logs(proxy, decision="deny", host="good.example", port=origin,
                  reason=bad("no Host field"), status=400):
            assert status(ask(address, b"GET / HTTP/1.1\r\n\r\n")) == 400
        with logs(proxy, decision="deny", host="good.example", reason="bad-hello"):
            assert ask(address, b"\x16\x03\x01\x00\x05hello").startswith(b"\x15")

    try:
        in_namespace(body)
    finally:
        server.shutdown()
        for proxy in proxies:
            proxy.close()
