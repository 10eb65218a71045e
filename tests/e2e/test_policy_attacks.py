# SPDX-License-Identifier: Apache-2.0
"""Ways around a rule, really sent through the real proxy: names, paths, methods, addresses."""
import http.server
import json
import os
import select
import socket
import ssl
import struct
import threading
import time

import pytest

from conftest import need_root
from test_proxy import Proxy, in_namespace, logs, self_signed, start_origin

pytestmark = pytest.mark.no_sandbox

GET = "GET http://{a}{p} HTTP/1.1\r\nHost: {a}\r\nConnection: close\r\n\r\n"


def send(proxy, data, timeout=10):
    """Everything that comes back for raw bytes."""
    with socket.create_connection(proxy.http.getsockname(), timeout) as s:
        s.sendall(data)
        out = b""
        while part := s.recv(65536):
            out += part
    return out


def status(answer):
    return int(answer.split(None, 2)[1])


def fetch(proxy, authority, path="/", method="GET", fields=""):
    head = (f"{method} http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n{fields}"
            "Connection: close\r\n\r\n")
    return status(send(proxy, head.encode("utf-8", "surrogateescape")))


@pytest.fixture(scope="module")
def origin():
    server = start_origin()
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One proxy for all tests that only ask it questions."""
    running = Proxy(tmp_path_factory.mktemp("proxy"))
    yield running
    running.close()


# ---- names ----

HOSTS = ["github.com", "api.github.com", "a.b.github.com", "evilgithub.com", "github.com.evil.com",
         "xgithub.com", "github.co", "com", "github"]


@pytest.mark.parametrize("rule,allowed", [
    ("github.com", {"github.com"}),
    ("*.github.com", {"api.github.com"}),
    ("**.github.com", {"api.github.com", "a.b.github.com"}),
    ("*.com", {"github.com", "evilgithub.com", "xgithub.com"}),
    ("**.com", set(HOSTS) - {"github.co", "com", "github"}),
    ("**", set(HOSTS)),
    ("**:81", set()),
    ("**:79-81", set(HOSTS)),
    ("GitHub.com.", {"github.com"}),
])
def test_patterns_let_through_what_they_say(shared, origin, rule, allowed):
    pins = {name: f"127.0.0.1:{origin}" for name in HOSTS}
    shared.configure([f"allow {rule}"], pins=pins)
    assert {h for h in HOSTS if fetch(shared, h) == 200} == allowed
    shared.configure(["allow **", f"deny {rule}"], pins=pins)
    assert {h for h in HOSTS if fetch(shared, h) == 403} == allowed


@pytest.mark.parametrize("name", [
    "BAD.example", "bad.example.", "BaD.ExAmPlE.", "bad\u3002example", "bad\uff0eexample",
    "b\u200bad.example", "b\u00adad.example", "\uff42ad.example", "bad.ex\u0430mple",
    "bad.example:80",
    "BAD.EXAMPLE.:80", "bad%2eexample", "b%61d.example", "good.example@bad.example",
    "bad.example\\", "bad.example\t", "bad.example%00", "bad.example\0", "bad..example",
    "[bad.example]", "bad.example%20", "xn--bad.example", "bad.example/", "bad.example?",
    "bad.example#",
    "good.example,bad.example", "good.example bad.example"])
def test_no_spelling_gets_around_a_deny_rule(shared, origin, name):
    """The origin answers for every name: what is let through would be seen."""
    shared.configure(["allow **", "deny bad.example", "deny bad.xn--exmple-4nf"],
                     pins={"bad.example": f"127.0.0.1:{origin}", "good.example": "127.0.0.1:1"})
    for head in ("CONNECT {a} HTTP/1.1\r\nHost: {a}\r\n\r\n", GET):
        raw = head.format(a=name, p="/").encode()
        assert status(send(shared, raw)) in (400, 403, 502), name
    assert fetch(shared, "good.example") == 502  # (nobody listens there: the pin was followed)


def test_spellings_of_one_name_are_one_name(shared, origin):
    shared.configure(["allow xn--bcher-kva.example"], pins={
        "xn--bcher-kva.example": f"127.0.0.1:{origin}"})
    for name in ("xn--bcher-kva.example", "XN--BCHER-KVA.example.", "Xn--Bcher-Kva.Example:80"):
        with logs(shared, host="xn--bcher-kva.example", decision="allow"):
            assert fetch(shared, name) == 200, name
    assert fetch(shared, "b\u00fccher.example") == 400  # people may write that; HTTP has A-labels
    assert fetch(shared, "bucher.example") == 403


# ---- methods and paths ----

EVASIONS = ["/secret", "/secret/", "/secret/x", "/SECRET/x", "/%73ecret", "/./secret", "//secret",
            "/a/../secret", "/a/%2e%2e/secret", "/a/..%2fsecret", "/%2e/secret", "/secret%2fx",
            "/secret;a=b/x", "/a/..;/secret", "/secret\\x", "/a\\..\\secret", "/secret%00",
            "/%252e%252e/secret",
            "/secret?x", "/secret/..%c0%af", "/secret%09", "/a%2f..%2fsecret"]


@pytest.mark.parametrize("path", EVASIONS)
def test_no_path_gets_around_a_rule(shared, origin, path):
    pins = {"a.example": f"127.0.0.1:{origin}"}
    shared.configure(["allow a.example", "deny a.example method ANY path /secret/**"], pins=pins)
    assert fetch(shared, "a.example", path) in (400, 403)
    assert fetch(shared, "a.example", "/public") == 200
    shared.configure(["allow a.example method ANY path /public/**"], pins=pins)
    assert fetch(shared, "a.example", path.replace("/a/", "/public/a/../")) in (400, 403)
    assert fetch(shared, "a.example", "/public/..%2fsecret") == 403
    assert fetch(shared, "a.example", path) in (400, 403)


@pytest.mark.parametrize("method,fields,code", [
    ("GET", "", 200), ("HEAD", "", 501), ("POST", "Content-Length: 0\r\n", 403), ("get", "", 403),
    ("PROPFIND", "", 403), ("DELETE", "", 403), ("GET", "X-HTTP-Method-Override: DELETE\r\n", 403),
    ("GET", "x-http-method: PUT\r\n", 403), ("GET", "X-Method-Override: POST\r\n", 403),
    ("GET", "X-HTTP-Method-Override: get\r\n", 200), ("TRACE", "", 501), ("track", "", 501),
    ("GET", "X-HTTP-Method-Override: GET\r\nX-HTTP-Method-Override: DELETE\r\n", 403),
    ("GET", "X_HTTP_Method_Override: DELETE\r\n", 403)])
def test_methods_are_what_they_are(shared, origin, method, fields, code):
    shared.configure(["allow a.example method GET,HEAD"],
                     pins={"a.example": f"127.0.0.1:{origin}"})
    unread = {"target": None, "reason": "bad-request: TRACE and TRACK show what was added on the way"}
    more = unread if method.upper() in ("TRACE", "TRACK") else {"target": "/"}
    with logs(shared, method=method, decision="deny" if code == 403 or more is unread else "allow",
              **more):
        assert fetch(shared, "a.example", "/", method, fields) == code


@pytest.mark.parametrize("query,code", [
    ("_method=DELETE", 403), ("a=b&%5Fmethod=put", 403), ("a;_method=", 403), ("_method", 403),
    ("+.METHOD=PUT", 403), ("_method=GET", 200), ("method=DELETE", 200), ("a=_method=DELETE", 200)])
def test_parameters_name_no_other_method(shared, origin, query, code):
    shared.configure(["allow a.example method GET"], pins={"a.example": f"127.0.0.1:{origin}"})
    assert fetch(shared, "a.example", f"/?{query}") == code
    shared.configure(["allow a.example"], pins={"a.example": f"127.0.0.1:{origin}"})
    assert fetch(shared, "a.example", f"/?{query}") == 200


def test_each_request_of_a_connection_is_judged(shared, origin):
    shared.configure(["allow a.example method GET path /a"],
                     pins={"a.example": f"127.0.0.1:{origin}"})
    heads = [f"{m} http://a.example{p} HTTP/1.1\r\nHost: a.example\r\n\r\n"
             for m, p in (("GET", "/a"), ("GET", "/a?b"), ("GET", "/b"), ("GET", "/a"))]
    answer = send(shared, "".join(heads).encode())
    assert answer.count(b"HTTP/1.1 200") == 2 and answer.count(b"HTTP/1.1 403") == 1


class Tls:
    """A TLS origin for api.example, and a proxy that trusts it and has a CA of its own."""

    def __init__(self, folder):
        cert, key = self_signed(folder, "api.example")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.server = start_origin(context)
        self.origin_cert = str(cert)
        self.pins = {"api.example": f"127.0.0.1:{self.server.server_address[1]}"}
        self.proxy = Proxy(folder, {"SSL_CERT_FILE": self.origin_cert})
        self.proxy.configure([])
        self.ca = self.proxy.call({"op": "ca"})
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(self.ca["cert_pem"])

    def configure(self, *rules, ca=True):
        more = {"ca": {k: self.ca[k] for k in ("cert_pem", "key_pem")}} if ca else {}
        self.proxy.configure(rules, pins=self.pins, **more)

    def curl(self, *args, cert=None):
        return self.proxy.curl("--cacert", cert or str(self.ca_file), "-o", "/dev/null", "-w",
                               "%{http_code}", *args)

    def close(self):
        self.proxy.close()
        self.server.shutdown()


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    made = Tls(tmp_path_factory.mktemp("tls"))
    yield made
    made.close()


def test_tls_is_opened_where_a_rule_looks_at_requests(tls):
    tls.configure("allow api.example:443 method GET path /v1/**")
    assert tls.curl("https://api.example/v1/x?y").stdout == "200"
    assert tls.curl("https://api.example/v2").stdout == "403"
    with logs(tls.proxy, method="POST", target="/v1/x", path="forward", scheme="https"):
        assert tls.curl("-X", "POST", "https://api.example/v1/x").stdout == "403"
    tls.configure("allow api.example", "deny api.example:443 method POST")
    assert tls.curl("https://api.example/v2").stdout == "200"
    with logs(tls.proxy, method="POST", rule="deny api.example:443 method POST"):
        assert tls.curl("-d", "x", "https://api.example/v2").stdout == "403"


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
@pytest.mark.parametrize("size", [1, 100 << 10, 8 << 20])
def test_a_refused_upload_is_told_so(tls, tmp_path, http, size):
    body = tmp_path / "body"
    body.write_bytes(b"x" * size)
    tls.configure("allow api.example", "deny api.example method PUT")
    done = tls.curl(http, "-H", "Expect:", "-T", str(body), "https://api.example/")
    assert done.stdout == "403", done.stderr


def test_tls_stays_closed_where_no_rule_looks_at_requests(tls):
    """The client sees the origin's own certificate, not one of the proxy."""
    tls.configure("allow api.example", "deny other.example method POST",
                  "deny ** method ANY except api.example")
    with logs(tls.proxy, path="forward-bypass", decision="allow"):
        assert tls.curl("https://api.example/", cert=tls.origin_cert).stdout == "200"
    assert tls.curl("https://api.example/").returncode == 60


def connect(proxy, authority):
    s = socket.create_connection(proxy.http.getsockname(), 10)
    s.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    return s, s.recv(1000)


def test_what_cannot_be_inspected_is_blocked(tls):
    """A tunnel with another protocol in it, and TLS where there is no CA to open it with."""
    tls.configure("allow api.example method ANY")
    with logs(tls.proxy, decision="deny", reason="uninspectable",
              rule="allow api.example method ANY"):
        s, answer = connect(tls.proxy, "api.example:443")
        assert answer.startswith(b"HTTP/1.1 200")
        s.sendall(b"SSH-2.0-x\r\n")
        assert s.recv(100) == b""
        s.close()
    tls.configure("allow api.example method ANY", ca=False)
    with logs(tls.proxy, decision="deny", reason="no-ca"):
        assert tls.curl("https://api.example/").stdout == "000"


def test_host_and_sni_inside_an_opened_tunnel_must_agree(tls):
    tls.configure("allow api.example method GET", "allow other.example")
    with logs(tls.proxy, decision="deny", reason="host-mismatch"):
        refused = tls.curl("-H", "Host: other.example", "https://api.example/")
        assert refused.stdout in ("403", "421")
    with logs(tls.proxy, decision="deny", reason="sni-mismatch"):
        refused = tls.curl("--connect-to", "other.example:443:api.example:443",
                           "https://other.example/")
        assert refused.stdout == "000"


def test_an_address_is_not_the_name_that_leads_there(tls):
    """CONNECT to the very address of an allowed name, with its name in the handshake; and to other
    ports of the name."""
    tls.configure("allow api.example:443", "allow api.example:444 method GET")
    port = tls.server.server_address[1]
    for target in (f"127.0.0.1:{port}", f"[::ffff:127.0.0.1]:{port}", f"localhost:{port}",
                   "192.0.2.1:443", "api.example:22", "api.example:80", f"api.example:{port}"):
        done = tls.curl("-g", "--connect-to", f"api.example:443:{target}", "https://api.example/")
        assert done.stdout == "000" and "403" in done.stderr, target
    assert tls.curl("https://api.example/", cert=tls.origin_cert).stdout == "200"


def client_hello(name):
    """The bytes of a ClientHello, as one TLS record."""
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    try:
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def in_small_records(hello, size):
    body = hello[5:]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(body[i:i + size])) + body[i:i + size]
                    for i in range(0, len(body), size))


@pytest.mark.parametrize("name,size,opened", [
    ("api.example", None, True), ("API.example", None, True), ("api.example", 7, True),
    ("other.example", None, False), ("other.example", 1, False), (None, None, False),
    (None, 3, False)])
def test_hello_is_read_however_it_comes(tls, name, size, opened):
    """Opened: a ServerHello comes back; refused: an alert, or nothing."""
    tls.configure("allow api.example method GET")
    hello = client_hello(name)
    data = hello if size is None else in_small_records(hello, size)
    s, _ = connect(tls.proxy, "api.example:443")
    with s:
        for at in range(0, len(data), 100):
            s.sendall(data[at:at + 100])
        answer = s.recv(1000)
    assert answer[:1] == b"\x16" if opened else answer[:1] in (b"", b"\x15"), answer


@pytest.mark.parametrize("protocol,code", [
    ("HTTP/2.0", 403), ("TLS/1.2", 403), ("websocket, x", 403), ("x", 403), ("websocket", 200)])
def test_no_upgrade_hides_requests(shared, origin, protocol, code):
    """(The origin upgrades to nothing: the request itself is what is answered.)"""
    pins = {"a.example": f"127.0.0.1:{origin}"}
    shared.configure(["allow a.example method GET path /ok"], pins=pins)
    head = f"GET http://a.example/ok HTTP/1.1\r\nHost: a.example\r\nUpgrade: {protocol}\r\n"
    raw = (head + "Connection: Upgrade, close\r\n\r\n").encode()
    assert status(send(shared, raw)) == code
    shared.configure(["allow a.example"], pins=pins)
    assert status(send(shared, raw)) == 200


def test_a_tunnel_ends_when_a_rule_wants_to_see_inside(tls):
    tls.configure("allow api.example")
    s, answer = connect(tls.proxy, "api.example:443")
    assert answer.startswith(b"HTTP/1.1 200")
    with logs(tls.proxy, reason="rule-changed"):
        tls.configure("allow api.example", "deny api.example method PUT")
        assert s.recv(10) == b""
        s.close()


def test_names_are_answered_for_rules_about_requests(shared):
    from test_proxy import dns_query
    shared.configure(["allow a.example:8443 method GET path /x", "allow b.example:9",
                      "deny b.example:1-9", "allow **.c.example", "deny d.c.example"])
    assert dns_query(shared, "a.example")[3] & 15 == 0
    assert dns_query(shared, "b.example")[3] & 15 == 3
    assert dns_query(shared, "e.c.example")[3] & 15 == 0
    assert dns_query(shared, "d.c.example")[3] & 15 == 3


# ---- addresses ----

class Everywhere(http.server.BaseHTTPRequestHandler):
    """Answers at every address; notes at which it was reached."""

    def do_GET(self):
        self.server.reached.append(self.connection.getsockname()[0])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def serve_everywhere(port):
    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6

    server = Server(("::", port), Everywhere)
    server.reached = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def answer_dns(sock, answers):
    """Serves A records: answers(name) is a list of addresses; every TTL is 0."""
    while True:
        query, peer = sock.recvfrom(512)
        name, at = [], 12
        while query[at]:
            name.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12:at + 5]
        found = answers(".".join(name)) if query[at + 1:at + 3] == b"\0\1" else []
        records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(a) for a in found)
        sock.sendto(query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0) + question
                    + records, peer)


class Everything:
    """A network in which every address is ours: the proxy's, a server on port 80, and DNS."""

    def __init__(self, folder, answers=lambda name: []):
        self.web = serve_everywhere(80)
        self.dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.dns.bind(("0.0.0.0", 53))
        threading.Thread(target=answer_dns, args=(self.dns, answers), daemon=True).start()
        self.proxy = Proxy(folder, own_network=True)

    def close(self):
        self.proxy.close()
        self.web.shutdown()
        self.web.server_close()


def with_everything(folder, body, **options):
    need_root()

    def run():
        os.system("ip route add local ::/0 dev lo")
        world = Everything(folder, **options)
        try:
            body(world)
        finally:
            world.close()

    in_namespace(run)


ADDRESSES = ["192.0.2.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "fd00::1",
             "127.0.0.1", "127.9.9.9", "::1", "169.254.169.254", "fd00:ec2::254", "fe80::1",
             "::ffff:10.1.2.3", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a01:203::1",
             "0.0.0.0", "255.255.255.255", "224.0.0.1", "198.18.0.1"]
PRIVATE = {"10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "fd00::1", "fd00:ec2::254",
           "::ffff:10.1.2.3", "2002:a01:203::1"}


def test_which_addresses_a_name_may_lead_to(tmp_path):
    """By the rule and by who wrote it; the server would answer at every one of them."""
    def reachable(world, rule, origin):
        world.proxy.configure([rule], origin, hosts={"name.example": "127.0.0.1"})
        passed = set()
        for address in ADDRESSES:
            world.proxy.configure([rule], origin, hosts={"name.example": address})
            code = fetch(world.proxy, "name.example")
            assert code in (200, 403, 502), (address, code)
            passed |= {address} if code != 403 else set()
        return passed

    def body(world):
        public = {"192.0.2.1"}
        for origin in ("kit:x", "preset:balanced", "global", "sandbox"):
            mine = PRIVATE if origin in ("global", "sandbox") else set()
            assert reachable(world, "allow **", origin) == public
            assert reachable(world, "allow *.example", origin) == public
            assert reachable(world, "allow name.example", origin) == public | mine
            assert reachable(world, "allow name.example:80 method GET", origin) == public | mine
            assert reachable(world, "allow name.example:81", origin) == set()
        reached = set(world.web.reached)
        assert not {a for a in reached if a.startswith(("::ffff:127.", "::ffff:169.", "fe80"))}
        assert "::ffff:10.1.2.3" in reached  # (the server does answer there)

    with_everything(tmp_path, body)


@pytest.mark.parametrize("rule,allowed", [
    ("169.254.169.254", True), ("169.254.169.254:80", True), ("169.254.169.254:81", False),
    ("169.254.0.0/16", False), ("**", False)])
def test_metadata_needs_its_own_address_in_a_rule(tmp_path, rule, allowed):
    def body(world):
        hosts = {"metadata.google.internal": "169.254.169.254"}
        for origin in ("global", "kit:x"):
            opened = allowed and origin == "global"
            world.proxy.configure([f"allow {rule}", "allow metadata.google.internal"], origin,
                                  hosts=hosts)
            for target in ("169.254.169.254", "metadata.google.internal",
                           "[::ffff:169.254.169.254]"):
                assert fetch(world.proxy, target) == (200 if opened else 403), (origin, target)
        assert bool(world.web.reached) == allowed

    with_everything(tmp_path, body)


def test_networks_of_kits_open_nothing_private(tmp_path):
    def body(world):
        for origin, code in (("kit:x", 403), ("preset:balanced", 403), ("global", 200),
                             ("sandbox", 200)):
            world.proxy.configure(["allow 10.0.0.0/8:80", "allow 192.168.7.7"], origin)
            assert fetch(world.proxy, "10.1.2.3") == code
            assert fetch(world.proxy, "192.168.7.7") == code
            assert fetch(world.proxy, "192.168.7.8") == 403

    with_everything(tmp_path, body)


def test_rebinding_between_check_and_connect(tmp_path):
    """A name whose every answer is another: the address that was judged is the one that is
    connected to, and the forbidden one is never."""
    count = {"n": 0}

    def answers(name):
        count["n"] += 1
        return {"flip.example": [["192.0.2.7"], ["169.254.169.254"], ["127.0.0.1"], ["10.0.0.7"]],
                "mixed.example": [["169.254.169.254", "10.0.0.7", "192.0.2.7", "127.0.0.1"]],
                "private.example": [["10.0.0.7"]]}[name][count["n"] % 4 if name[0] == "f" else 0]

    def body(world):
        world.proxy.configure(["allow **.example"])
        codes = {fetch(world.proxy, "flip.example") for _ in range(24)}
        assert codes == {200, 403}
        assert {fetch(world.proxy, "mixed.example") for _ in range(4)} == {200}
        assert fetch(world.proxy, "private.example") == 403
        assert set(world.web.reached) == {"::ffff:192.0.2.7"}
        world.proxy.configure(["allow **.example", "deny 192.0.2.0/24"])
        assert {fetch(world.proxy, "flip.example") for _ in range(8)} == {403}
        assert set(world.web.reached) == {"::ffff:192.0.2.7"}

    with_everything(tmp_path, body, answers=answers)


def test_pinned_names(tmp_path):
    """A pin counts as named, may have a port of its own, allows nothing, and a deny wins."""
    def body(world):
        asked = []
        pins = {"git.corp": "10.9.9.9", "wiki.corp": "169.254.1.1:80", "v6.corp": "[fd00::9]:80"}
        world.proxy.configure(["allow **.corp"], "kit:x", pins=pins)
        assert fetch(world.proxy, "git.corp") == 200
        assert fetch(world.proxy, "GIT.corp.:80") == 200
        assert fetch(world.proxy, "wiki.corp:8080") == 200
        assert fetch(world.proxy, "v6.corp:1") == 200
        assert fetch(world.proxy, "git.corp:8080") == 502  # nobody listens there
        assert fetch(world.proxy, "10.9.9.9") == 403
        asked += world.web.reached
        assert asked == ["::ffff:10.9.9.9", "::ffff:10.9.9.9", "::ffff:169.254.1.1", "fd00::9"]
        world.proxy.configure(["allow **.corp", "deny 10.0.0.0/8"], pins=pins)
        assert fetch(world.proxy, "git.corp") == 403
        world.proxy.configure([], pins=pins)
        assert fetch(world.proxy, "git.corp") == 403
        world.proxy.configure(["allow **.corp"])
        assert fetch(world.proxy, "git.corp") == 502  # looked up again: no such name
        assert world.web.reached == asked

    with_everything(tmp_path, body)


def test_a_pin_is_an_address_or_the_configuration_is_refused(shared):
    for pin in ("a.example", "127.1", "10.0.0.1:0", "10.0.0.1:x", "", 7):
        config = {"version": 1, "sandbox": "box", "inject": [], "hosts": {}, "rules": [],
                  "pins": {"a.corp": pin}}
        fd = os.memfd_create("config")
        os.write(fd, json.dumps(config).encode())
        os.lseek(fd, 0, os.SEEK_SET)
        reply = shared.call({"op": "config"}, [fd])
        os.close(fd)
        assert reply["ok"] is False and "pins" in reply["error"]


def test_a_kept_connection_outlives_no_change(tls):
    """The origin's connection was kept; the next request is judged by the address rules of now."""
    first, port = {"api.example": tls.pins["api.example"]}, tls.pins["api.example"].split(":")[1]
    rules = ["allow api.example method GET"]
    more = {"ca": {k: tls.ca[k] for k in ("cert_pem", "key_pem")}}
    tls.proxy.configure(rules, pins=first, **more)
    assert tls.curl("https://api.example/").stdout == "200"
    tls.proxy.configure(rules + [f"deny 127.0.0.0/8:{port}"], pins=first, **more)
    with logs(tls.proxy, decision="deny", reason="address"):
        assert tls.curl("https://api.example/").stdout == "403"
    tls.proxy.configure(rules, pins=first, **more)
    assert tls.curl("https://api.example/").stdout == "200"
    tls.proxy.configure(rules, pins={"api.example": "127.0.0.1:1"}, **more)
    assert tls.curl("https://api.example/").stdout == "502"


# ---- numbers ----

def test_a_hundred_thousand_rules(shared, origin):
    """They are read, replaced and obeyed; the connection of before is judged by them."""
    rules = [f"allow h{i}.example:80" for i in range(99998)]
    pins = {name: f"127.0.0.1:{origin}" for name in
            ("h0.example", "h99997.example", "h99998.example", "other.example")}
    for extra in ("deny h0.example", "deny h0.example except h0.example:80"):
        shared.configure(rules + ["allow other.example method GET path /x/**", extra], pins=pins)
        assert fetch(shared, "h0.example") == (403 if extra == "deny h0.example" else 200)
        assert fetch(shared, "h99997.example") == 200
        assert fetch(shared, "h99998.example") == 403
        assert fetch(shared, "other.example", "/x/1") == 200
        assert fetch(shared, "other.example", "/y") == 403
    shared.configure([])


SOAK = 100000


def ask_denied(address, count, wrong):
    """Many connections at once, as fast as they are answered; each asks for something denied."""
    poll = select.epoll()
    waiting, begun, answered = {}, 0, 0
    targets = [b"denied%d.example", b"10.0.%d.1", b"only-get.example:8%d", b"x.deny%d.example"]
    while answered < count:
        while begun < count and len(waiting) < 64:
            s = socket.create_connection(address, 30)
            target = targets[begun % 4] % (begun % 200)
            s.sendall(b"POST http://%s/soak HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n"
                      % (target, target))
            waiting[s.fileno()] = s
            poll.register(s, select.EPOLLIN)
            begun += 1
        for fd, _ in poll.poll(30):
            s = waiting.pop(fd)
            if not s.recv(4096).startswith(b"HTTP/1.1 403"):
                wrong.append(fd)
            s.close()
            answered += 1


def soaked(proxy):
    """How many of those requests were logged; none of them as allowed."""
    with open(proxy.log, encoding="utf-8") as log:
        asked = [line for line in log if '"target":"/soak"' in line]
    assert not any('"decision":"allow"' in line for line in asked)
    return len(asked)


def test_nothing_denied_passes_during_reloads(shared, origin):
    """Every reload changes other rules; what is asked for is denied by all versions of them."""
    pins = {f"denied{i}.example": f"127.0.0.1:{origin}" for i in range(200)}
    pins |= {f"x.deny{i}.example": f"127.0.0.1:{origin}" for i in range(200)}
    versions = [["allow only-get.example method GET", "deny **.deny7.example"]
                + [f"allow other{v}-{i}.example" for i in range(50 * v)]
                + ["allow *.example:8080", "allow **.deny1.example method GET"][:v]
                for v in range(3)]
    wrong = []
    address = shared.http.getsockname()
    asking = [threading.Thread(target=ask_denied, args=(address, SOAK // 2, wrong))
              for _ in range(2)]
    reloads = 0
    for thread in asking:
        thread.start()
    while any(thread.is_alive() for thread in asking):
        shared.configure(versions[reloads % 3], pins=pins)
        reloads += 1
    for thread in asking:
        thread.join()
    assert not wrong and reloads > 20
    deadline = time.monotonic() + 30
    while (denied := soaked(shared)) < SOAK and time.monotonic() < deadline:
        time.sleep(0.1)
    assert denied == SOAK
