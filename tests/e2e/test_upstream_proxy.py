# SPDX-License-Identifier: Apache-2.0
"""The proxy behind an upstream proxy: squid and microsocks are real, and know names that nobody
here knows; the test plays the supervisor."""
import contextlib
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import need_root, wait_for
from test_http2 import Echo, HERE
from test_policy_attacks import with_everything
from test_proxy import Proxy, SECRET, logs, start_origin
from upstreams import ENCODED, PASSWORD, Socks, Squid, USER, authority, free_port

pytestmark = pytest.mark.no_sandbox

NAME = "origin.upstream.example"
END = b"END"
KINDS = ("http", "https", "socks5h")
SPARE_PIPES = 2  # src/proxy/tunnel.c


def banner_server():
    """A server that speaks first, and then sends back what it gets, up to END."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(peer):
        with peer, contextlib.suppress(OSError):
            peer.sendall(b"BANNER\n")
            got = b""
            while not got.endswith(END) and (data := peer.recv(65536)):
                got += data
                peer.sendall(data)

    def accept():
        while True:
            try:
                peer = server.accept()[0]
            except OSError:
                return
            threading.Thread(target=serve, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server


class World:
    """Origins whose name only the upstream proxies know, with certificates of a private authority."""

    def __init__(self, folder):
        self.folder = folder
        self.ca, cert, key = authority(folder, NAME)
        self.proxy_ca, *proxy_tls = authority(folder, "127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.web, self.tls = start_origin(handler=Echo), start_origin(context, Echo)
        self.raw = banner_server()
        self.node = subprocess.Popen(["node", HERE / "http2_origin.js", cert, key],
                                     stdout=subprocess.PIPE, text=True)
        self.ports = {"web": self.web.server_address[1], "h1": self.tls.server_address[1],
                      "h2": int(self.node.stdout.readline()), "raw": self.raw.getsockname()[1]}
        names = {NAME: "127.0.0.1"}
        self.squid = Squid(names, proxy_tls)
        self.socks = Socks(folder, names)
        self.urls = {"http": self.squid.url,
                     "https": f"https://{USER}:{ENCODED}@127.0.0.1:{self.squid.tls_port}",
                     "socks5h": self.socks.url("socks5h")}
        self.proxy = Proxy(folder)
        self.proxy.configure([])
        self.inner_ca = self.proxy.call({"op": "ca"})
        self.inner_ca_file = folder / "inner-ca.pem"
        self.inner_ca_file.write_text(self.inner_ca["cert_pem"])

    def configure(self, url, rules=None, no_proxy="", secret=SECRET, extra=True, **more):
        rule = {"service": "api", "kit": "k", "header": "Authorization", "format": "Bearer %s",
                "mode": "overwrite", "secret": secret}
        via = {"url": url, "no_proxy": no_proxy, "from": "HTTPS_PROXY"} if url else None
        pems = self.ca.read_text() + self.proxy_ca.read_text()
        self.proxy.configure(
            rules if rules is not None else [f"allow {NAME}"], via=via,
            inject=[{**rule, "id": p, "domain": f"{NAME}:{self.ports[p]}"} for p in ("h1", "h2")],
            ca={"cert_pem": self.inner_ca["cert_pem"], "key_pem": self.inner_ca["key_pem"]},
            **({"extra_ca": pems} if extra else {}), **more)

    def curl(self, *args):
        return self.proxy.curl("--cacert", self.inner_ca_file, *args)

    def fetch(self, url, *args):
        """(status, body, status of CONNECT)."""
        done = self.curl("-w", "\n%{http_code} %{http_connect}", url, *args)
        body, _, codes = done.stdout.rpartition("\n")
        return int(codes.split()[0]), body, int(codes.split()[1])

    def reached(self):
        """How many requests came to them, once none is written any more: squid logs at the end."""
        count = -1
        while (now := len(self.squid.log()) + len(self.socks.log())) != count:
            count = now
            time.sleep(0.5)
        return count

    def close(self):
        self.proxy.close()
        self.squid.close()
        self.socks.close()
        self.node.kill()
        self.node.wait()
        self.raw.close()
        for server in (self.web, self.tls):
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def world():
    need_root()  # microsocks gets a hosts file of its own
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sbx-u-"))
    folder.chmod(0o755)
    made = World(folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def connect_through(proxy, authority_text):
    s = socket.create_connection(proxy.http.getsockname(), 15)
    s.sendall(f"CONNECT {authority_text} HTTP/1.1\r\nHost: {authority_text}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = s.recv(1)
        assert part, answer
        answer += part
    return s, answer


# ---- what goes through ----

@pytest.mark.parametrize("kind", KINDS)
def test_requests(world, kind):
    """Plain ones, ones whose TLS is opened to add a credential (either version), and others."""
    world.configure(world.urls[kind])
    for path, args in (("/a?b=c", ()), ("/up", ("-d", "x" * 100_000))):
        status, body, _ = world.fetch(f"http://{NAME}:{world.ports['web']}{path}", *args)
        assert status == 200 and len(json.loads(body)["body"]) == (100_000 if args else 0)
        assert "Authorization" not in json.loads(body)["headers"]
        assert "Proxy-Authorization" not in body and PASSWORD not in body
    for port in ("h1", "h2"):
        for _ in range(2):
            status, body, _ = world.fetch(f"https://{NAME}:{world.ports[port]}/")
            headers = {k.lower(): v for k, v in json.loads(body)["headers"].items()}
            assert status == 200 and headers["authorization"] == f"Bearer {SECRET}"
    world.configure(None)  # squid logs tunnels at their end
    if kind == "socks5h":
        assert world.socks.logged(f"connected to {NAME}:{world.ports['h2']}")
    else:
        assert world.squid.logged(f"200 GET http://{NAME}:{world.ports['web']}/a?b=c {USER}")
        assert world.squid.logged(f"200 CONNECT {NAME}:{world.ports['h2']} {USER}")


@pytest.mark.parametrize("kind", KINDS)
def test_tunnels_and_raw_tcp(world, kind):
    """Every byte, both ways, also of a server that speaks first; then the end is passed on."""
    world.configure(world.urls[kind])
    data = bytes(range(256)) * 8192
    wanted = b"BANNER\n" + data + b"END"
    s, answer = connect_through(world.proxy, f"{NAME}:{world.ports['raw']}")
    assert answer.startswith(b"HTTP/1.1 200")
    sender = threading.Thread(target=s.sendall, args=(data + END,))
    sender.start()
    seen = b""
    while part := s.recv(65536):
        seen += part
    sender.join()
    s.close()
    assert seen == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_tls_that_is_not_opened(world, kind):
    world.configure(world.urls[kind], secret=None)
    done = world.proxy.curl("--cacert", world.ca, f"https://{NAME}:{world.ports['h1']}/")
    assert json.loads(done.stdout)["path"] == "/", done.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("port", ("web", "h1"))
def test_websockets(world, kind, port):
    """Plain ones get a tunnel: squid passes no upgrade on."""
    world.configure(world.urls[kind])
    raw = socket.create_connection(world.proxy.http.getsockname(), 15)
    place = f"{NAME}:{world.ports[port]}"
    if port == "web":
        s, target = raw, f"http://{place}/ws"
    else:
        raw.close()
        raw, _ = connect_through(world.proxy, place)
        s = ssl.create_default_context(cafile=world.inner_ca_file).wrap_socket(
            raw, server_hostname=NAME)
        target = "/ws"
    s.sendall(f"GET {target} HTTP/1.1\r\nHost: {place}\r\nUpgrade: websocket\r\nConnection: Upgrade"
              "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
              "hello".encode())
    seen = b""
    while b"olleh" not in seen:
        part = s.recv(4096)
        assert part, seen
        seen += part
    assert seen.startswith(b"HTTP/1.1 101")
    assert (b"auth:Bearer " + SECRET.encode() in seen) == (port == "h1")
    s.close()


def test_an_opened_connection_is_kept(world):
    world.configure(world.urls["socks5h"])
    before = len(world.socks.log())
    for port, scheme in (("web", "http"), ("h1", "https"), ("h2", "https")):
        for i in range(5):
            assert world.fetch(f"{scheme}://{NAME}:{world.ports[port]}/kept{i}")[0] == 200
    assert len(world.socks.log()) == before + 3


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_goes_there_ahead_of_a_request(world, kind):
    """One that refuses the password would count each client's first request as two logins."""
    world.configure(world.urls[kind])
    before = world.reached()
    context = ssl.create_default_context(cafile=world.inner_ca_file)
    raw, _ = connect_through(world.proxy, f"{NAME}:{world.ports['h1']}")
    with context.wrap_socket(raw, server_hostname=NAME):
        time.sleep(0.5)
    assert world.reached() == before


def test_large_bodies_through_tls_to_the_proxy(world):
    world.configure(world.urls["https"])
    size = 20_000_000
    data = world.folder / "large"
    data.write_bytes(b"y" * size)
    for scheme, port in (("http", "web"), ("https", "h1")):
        status, body, _ = world.fetch(f"{scheme}://{NAME}:{world.ports[port]}/", "--data-binary",
                                      f"@{data}")
        assert status == 200 and len(json.loads(body)["body"]) == size


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_ended_connections(world, kind):
    """However they end: by either side, by an answer, or by a client that does not wait.  A few pipes
    stay for the next bulk transfer."""
    fds = pathlib.Path(f"/proc/{world.proxy.process.pid}/fd")

    def count(kind):
        found = 0
        for fd in fds.iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has just closed
                found += os.readlink(fd).startswith(kind)
        return found
    world.configure(world.urls[kind])
    place = f"{NAME}:{world.ports['raw']}"
    connect_through(world.proxy, place)[0].close()
    world.configure(world.urls[kind])
    wait_for("no end of the first", lambda: len(world.proxy.records()) > 0)
    time.sleep(1)
    before = count("socket:")
    for how in range(30):
        s = socket.create_connection(world.proxy.http.getsockname(), 15)
        s.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        if how % 3:
            assert b"200" in s.recv(1000)
            s.sendall(b"x" * 100_000 if how % 3 == 1 else END)
        s.close()
    wait_for("sockets are left", lambda: count("socket:") <= before)
    assert count("pipe:") <= 2 * SPARE_PIPES


# ---- what does not ----

@pytest.mark.parametrize("kind", KINDS)
def test_denied_requests_never_reach_it(world, kind):
    world.configure(world.urls[kind], [f"allow {NAME}:{world.ports['web']} method GET path /ok/**",
                                       "deny denied.example", "allow **"])
    world.configure(world.urls[kind], [f"allow {NAME}:{world.ports['web']} method GET path /ok/**",
                                       "deny denied.example"])
    assert world.fetch(f"http://{NAME}:{world.ports['web']}/ok/1")[0] == 200
    before = world.reached()
    assert world.fetch(f"http://{NAME}:{world.ports['web']}/no")[0] == 403
    assert world.fetch(f"http://{NAME}:{world.ports['web']}/ok/1", "-d", "x")[0] == 403
    assert world.fetch("http://denied.example/")[0] == 403
    assert world.fetch("https://denied.example/")[2] == 403
    assert world.fetch(f"https://{NAME}:1/")[2] == 403
    assert world.reached() == before


@pytest.mark.parametrize("no_proxy", ("*", NAME, ".upstream.example", f"{NAME}:{{web}}"))
def test_no_proxy(world, no_proxy):
    """The name has no address here: whatever needs no proxy fails, and does not reach one."""
    world.configure(world.urls["http"], no_proxy=no_proxy.format(**world.ports))
    before = world.reached()
    assert world.fetch(f"http://{NAME}:{world.ports['web']}/")[0] == 502
    assert world.reached() == before
    known = {NAME: "127.0.0.1"}
    world.configure(world.urls["http"], [f"allow {NAME}", "allow 127.0.0.1"], hosts=known,
                    no_proxy=no_proxy.format(**world.ports))
    assert world.fetch(f"http://{NAME}:{world.ports['web']}/")[0] == 200
    assert world.reached() == before


def test_loopback_and_pinned_names_never_go_there(world):
    web = world.ports["web"]
    world.configure(world.urls["http"], [f"allow localhost:{web}", f"allow pinned.example:{web}",
                                         f"allow 127.0.0.1:{web}"],
                    pins={"pinned.example": "127.0.0.1"})
    before = world.reached()
    for host in ("localhost", "host.docker.internal", "127.0.0.1", "pinned.example"):
        assert world.fetch(f"http://{host}:{web}/")[0] == 200
    assert world.reached() == before


def test_a_new_setting_is_obeyed_by_kept_connections(world):
    url = f"https://{NAME}:{world.ports['h1']}/"
    world.configure(world.urls["http"])
    assert world.fetch(url)[0] == 200
    world.configure(None)
    assert world.fetch(url)[0] == 502
    world.configure(world.urls["socks5h"])
    before = len(world.socks.log())
    assert world.fetch(url)[0] == 200
    assert len(world.socks.log()) == before + 1


# ---- failures ----

def wrong(url):
    return url.replace(ENCODED, "wrong-p4ssword")


def without(url):
    return url.replace(f"{USER}:{ENCODED}@", "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", (wrong, without))
def test_wrong_password(world, kind, change):
    world.configure(change(world.urls[kind]))
    for target in (f"http://{NAME}:{world.ports['web']}/", f"https://{NAME}:{world.ports['h1']}/"):
        with logs(world.proxy, reason="proxy-auth", status=502, host=NAME):
            status, body, _ = world.fetch(target)
        assert status == 502 and "upstream proxy" in body and "(HTTPS_PROXY)" in body
        assert f"127.0.0.1:{world.urls[kind].rpartition(':')[2]}" in body
        assert "sbx settings set proxy.upstream" in body
        assert "password" in body and "p4ssword" not in body and PASSWORD not in body
    with logs(world.proxy, reason="proxy-auth", path="forward-bypass"):
        s, answer = connect_through(world.proxy, f"{NAME}:{world.ports['raw']}")
        assert answer.startswith(b"HTTP/1.1 502") and b"upstream proxy" in s.recv(2000)
        s.close()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_down(world, kind):
    world.configure(f"{kind}://{USER}:{ENCODED}@127.0.0.1:{free_port()}")
    for target in (f"http://{NAME}:{world.ports['web']}/", f"https://{NAME}:{world.ports['h1']}/"):
        with logs(world.proxy, reason="proxy-unreachable", status=502):
            status, body, _ = world.fetch(target)
        assert status == 502 and "cannot be reached" in body and "Connection refused" in body
        assert "sbx settings ls" in body and "word-8c1f" not in body


def test_its_name_is_unknown(world):
    world.configure("http://no-such-proxy.upstream.example:3128")
    with logs(world.proxy, reason="proxy-unreachable"):
        status, body, _ = world.fetch(f"http://{NAME}:{world.ports['web']}/")
    assert status == 502 and "no-such-proxy.upstream.example" in body


def test_tls_with_it_is_verified(world):
    world.configure(world.urls["https"], extra=False)
    with logs(world.proxy, reason="proxy-tls"):
        status, body, _ = world.fetch(f"http://{NAME}:{world.ports['web']}/")
    assert status == 502 and "tls.extra-ca" in body
    world.configure(world.urls["https"].replace("127.0.0.1", "localhost"))
    status, body, _ = world.fetch(f"http://{NAME}:{world.ports['web']}/")
    assert status == 502 and "hostname mismatch" in body


def test_an_authority_of_ones_own(world):
    url = f"https://{NAME}:{world.ports['h1']}/"
    world.configure(world.urls["http"], extra=False)
    with logs(world.proxy, reason="upstream-tls"):
        status, body, _ = world.fetch(url)
    assert status == 502 and "sbx settings set tls.extra-ca FILE" in body
    world.configure(world.urls["http"])
    assert world.fetch(url)[0] == 200
    world.configure(world.urls["http"], extra=False)
    assert world.fetch(url)[0] == 502


@contextlib.contextmanager
def fake(*answers):
    """A proxy that says these bytes, one for each thing that it hears, and then hangs up."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                peer = server.accept()[0]
            except OSError:
                return
            with peer:
                for answer in answers:
                    peer.recv(4096)
                    peer.sendall(answer)
                peer.settimeout(1)
                with contextlib.suppress(OSError):
                    peer.recv(4096)

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.mark.parametrize("scheme,answers,reason,text", [
    ("http", [b"SSH-2.0-OpenSSH_9\r\n\r\n"], "proxy-answer", "does not answer"),
    ("http", [b"\x05\x00"], "proxy-answer", ""),
    ("http", [b"HTTP/1.1 503 No way\r\n\r\n"], "proxy-refused", "503 to CONNECT"),
    ("http", [b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n"], "proxy-refused",
     "302 to CONNECT"),
    ("http", [b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000], "proxy-answer", ""),
    ("http", [b"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"], "proxy-answer", ""),
    ("http", [b""], "proxy-answer", "closed"),
    ("socks5h", [b"HTTP/1.1 400 Bad\r\n\r\n"], "proxy-answer", "does not answer"),
    ("socks5h", [b"\x05\xff"], "proxy-auth", "password"),
    ("socks5h", [b"\x05\x00", b"\x05\x02\x00\x01\0\0\0\0\0\0"], "proxy-refused", "rules forbid"),
    ("socks5h", [b"\x05\x00", b"\x05\x04\x00\x01\0\0\0\0\0\0"], "proxy-refused", "cannot reach"),
    ("socks5h", [b"\x05\x00", b"\x05\x00\x00\x09\0\0\0\0\0\0"], "proxy-answer", ""),
    ("socks5h", [b"\x05\x00", b"\x05\x00\x00"], "proxy-answer", "closed"),
])
def test_answers_that_let_nothing_through(world, scheme, answers, reason, text):
    with fake(*answers) as port:
        world.configure(f"{scheme}://127.0.0.1:{port}")
        with logs(world.proxy, reason=reason, status=502):
            status, body, _ = world.fetch(f"https://{NAME}:{world.ports['h1']}/")
    assert status == 502 and text in body and "the upstream proxy" in body, body


@pytest.mark.parametrize("scheme,answers", [
    ("http", [b"HTTP/1.0 200 Go\r\nContent-Length: 7\r\n\r\nEARLY words"]),
    ("http", [b"HTTP/1.1 200\r\n\r\nEARLY words"]),
    ("socks5h", [b"\x05\x00", b"\x05\x00\x00\x03\x04name\0\x01EARLY words"])])
def test_what_follows_the_answer_at_once_is_not_lost(world, scheme, answers):
    with fake(*answers) as port:
        world.configure(f"{scheme}://127.0.0.1:{port}")
        s, answer = connect_through(world.proxy, f"{NAME}:{world.ports['raw']}")
        seen = b""
        while part := s.recv(100):
            seen += part
        s.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert seen in (b"EARLY words", b"1.1 200\r\n\r\nEARLY words")  # (no body, whatever is said)


def test_it_does_not_answer(world):
    """A proxy that takes connections and says nothing costs a request some seconds, not for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        world.configure(f"http://127.0.0.1:{silent.getsockname()[1]}")
        s = socket.create_connection(world.proxy.http.getsockname(), 60)
        s.sendall(f"CONNECT {NAME}:{world.ports['raw']} HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
        answer = b""
        while part := s.recv(1000):
            answer += part
        s.close()
    assert answer.startswith(b"HTTP/1.1 502") and b"in time" in answer


# ---- addresses ----

def fetch(proxy, host):
    done = proxy.curl("-o", "/dev/null", "-w", "%{http_code}", f"http://{host}/")
    return int(done.stdout)


def test_addresses_are_judged_before_it_is_asked(tmp_path):
    """Names that resolve here are judged by every answer; others are the upstream's to judge, but
    for those that only private networks have.  A denied one never reaches it."""
    answers = {"public.example": ["192.0.2.7"], "private.example": ["10.0.0.7"],
               "mixed.example": ["192.0.2.7", "10.0.0.7"], "meta.example": ["169.254.169.254"]}
    seen = {**dict.fromkeys((*answers, "unknown.example"), "192.0.2.9"), "wiki": "10.1.1.1",
            "wiki.internal": "10.1.1.2", "evil.localhost": "10.1.1.3"}

    def body(world):
        squid = Squid(seen, password=False)
        via = {"url": f"http://127.0.0.1:{squid.port}", "no_proxy": "", "from": "SBX_PROXY"}

        def codes(rules, origin, names):
            world.proxy.configure(rules, origin, via=via)
            return {name: fetch(world.proxy, name) for name in names}

        try:
            names = (*seen, "10.2.3.4", "169.254.169.254", "metadata.google.internal", "0.0.0.0")
            found = codes(["allow **"], "global", names)
            assert {name for name, code in found.items() if code == 200} == {
                "public.example", "unknown.example"}
            assert found["private.example"] == found["mixed.example"] == 403
            assert found["wiki"] == found["wiki.internal"] == found["10.2.3.4"] == 403
            assert found["meta.example"] == found["169.254.169.254"] == 403
            assert found["evil.localhost"] == 502  # never given to another machine
            wanted = {"http://public.example/", "http://unknown.example/"}
            wait_for("squid's log", lambda: {line.split()[2] for line in squid.log()} == wanted)
            mine = ("private.example", "mixed.example", "wiki", "wiki.internal", "10.2.3.4")
            for origin, code in (("kit:x", 403), ("preset:balanced", 403), ("sandbox", 200)):
                rules = [f"allow {name}" for name in mine]
                assert set(codes(rules, origin, mine).values()) == {code}
            found = codes(["allow **", "deny 192.0.2.0/24"], "global",
                          ("public.example", "unknown.example"))
            assert found == {"public.example": 403, "unknown.example": 200}
        finally:
            squid.close()

    with_everything(tmp_path, body, answers=lambda name: answers.get(name, []))


def test_socks5_is_asked_for_the_judged_address(tmp_path):
    """Not for the name, which the upstream could find elsewhere."""
    answers = {"public.example": ["192.0.2.7"], "private.example": ["10.0.0.7"],
               "mixed.example": ["10.0.0.7", "192.0.2.8"]}

    def body(world):
        socks = Socks(tmp_path, {name: "10.9.9.9" for name in answers})
        via = {"url": socks.url("socks5"), "no_proxy": "", "from": "SBX_PROXY"}
        try:
            world.proxy.configure(["allow **"], via=via)
            assert fetch(world.proxy, "public.example") == 200
            assert fetch(world.proxy, "mixed.example") == 200
            assert fetch(world.proxy, "private.example") == 403
            assert fetch(world.proxy, "unknown.example") == 502
            world.proxy.configure(["allow private.example"], via=via)
            assert fetch(world.proxy, "private.example") == 200
            assert [line.rpartition("connected to ")[2] for line in socks.log()] == [
                "192.0.2.7:80", "192.0.2.8:80", "10.0.0.7:80"]
        finally:
            socks.close()

    with_everything(tmp_path, body, answers=lambda name: answers.get(name, []))


def test_squid_as_it_comes_lets_plain_requests_pass(tmp_path):
    """Its usual configuration forbids CONNECT to port 80: plain requests are given to it whole."""
    def body(world):
        squid = Squid({"mirror.example": "192.0.2.7"}, connect="443", password=False)
        via = {"url": f"http://127.0.0.1:{squid.port}", "no_proxy": "", "from": "SBX_PROXY"}
        try:
            world.proxy.configure(["allow mirror.example"], via=via)
            assert fetch(world.proxy, "mirror.example") == 200
            s, answer = connect_through(world.proxy, "mirror.example:80")
            s.close()
            assert answer.startswith(b"HTTP/1.1 502")
        finally:
            squid.close()

    with_everything(tmp_path, body)
