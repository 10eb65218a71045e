# SPDX-License-Identifier: Apache-2.0
"""The one exit, from inside a real sandbox with real clients, towards servers of the test on the
host's loopback (inside: host.docker.internal)."""
import http.server
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

from conftest import EXIT, ISOLATION, Sbx, need_root, need_sandboxes, supervisor_of, wait_for
from machine import children, comm

NAME = "exit"
SECRET = "the-real-secret-value"
UNSET = "env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY "
# So much that holding it would show; an emulated machine takes a tenth of it in the time.
LARGE = 1 << 27 if ISOLATION == "vm" else 1 << 30


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def answer(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path.startswith("/big/"):
            return self.big(int(self.path[5:]))
        return {"/sse": self.sse, "/ws": self.websocket, "/wait": self.wait}.get(
            self.path, self.echo)()

    do_POST = do_PUT = do_GET

    def echo(self):
        body = self.body()
        self.answer(json.dumps({"headers": dict(self.headers), "len": len(body)}).encode())

    def big(self, left):
        self.send_response(200)
        self.send_header("Content-Length", str(left))
        self.end_headers()
        block = b"x" * (1 << 20)
        while left:
            self.wfile.write(block[:left])
            left -= min(left, len(block))

    def sse(self):
        """The second event leaves only after the test has seen the first one inside."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in (b"data: one\n\n", b"data: two\n\n"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.server.gate.wait(10)
        self.wfile.write(b"0\r\n\r\n")

    def websocket(self):
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        seen = self.headers.get("Authorization", "").encode()
        self.wfile.write(b"auth:%d " % (seen == b"Bearer " + SECRET.encode()))
        self.wfile.write(self.rfile.read(5)[::-1])
        self.close_connection = True

    def wait(self):
        """Never answers; says when the proxy has hung up."""
        self.server.waiting.set()
        self.connection.settimeout(20)
        try:
            self.connection.recv(1)
        except OSError:
            pass
        self.server.gone.set()
        self.close_connection = True

    def log_message(self, *args):
        pass


def start(context=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    server.daemon_threads = True
    server.gate, server.waiting, server.gone = (threading.Event() for _ in range(3))
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.port = server.server_address[1]
    return server


class World:
    """One sandbox for the whole file; `web` and `tls` are allowed, the latter with a credential."""

    def __init__(self, bindir, folder):
        self.home = folder / "h"
        self.sbx = Sbx(bindir / "sbx", self.home)
        self.work = folder / "w"
        self.work.mkdir()
        cert, key = folder / "cert.pem", folder / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", key, "-out",
                        cert, "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.web, self.tls = start(), start(context)
        self.sbx.env["SSL_CERT_FILE"] = str(cert)

    def begin(self):
        self.sbx.ok("policy", "init", "deny-all")
        self.sbx.ok("secret", "set-custom", "-g", "--host", f"localhost:{self.tls.port}", "--env",
                    "MY_KEY", "--placeholder", "proxy-managed", "--value-stdin", input=SECRET)
        self.sbx.ok("create", "--name", NAME, "shell", self.work)
        self.sbx.ok("policy", "allow", NAME, f"localhost:{self.web.port}",
                    f"localhost:{self.tls.port}", "good.example")

    def end(self):
        self.sbx("rm", "--all", "--force")
        for server in (self.web, self.tls):
            server.gate.set()
            server.shutdown()
            server.server_close()

    def sh(self, script, **options):
        return self.sbx("exec", NAME, "--", "sh", "-c", script, **options)

    def py(self, script, **options):
        done = self.sbx("exec", NAME, "--", "python3", "-c", script, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start_py(self, script):
        return subprocess.Popen([self.sbx.binary, "exec", NAME, "--", "python3", "-uc", script],
                                env=self.sbx.env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, text=True)

    def log(self):
        lines = self.sbx.ok("policy", "log", NAME, "--json").splitlines()
        return [json.loads(line) for line in lines]

    def logged(self, **wanted):
        """Waits for a record with these fields: an allowed request is logged when it has ended."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = [r for r in self.log() if wanted.items() <= r.items()]
            if found:
                return found[-1]
            time.sleep(0.05)
        raise AssertionError(f"no record with {wanted} in {self.log()[-5:]}")

    def helpers(self):
        """(supervisor, proxy) process ids of the sandbox."""
        supervisor = supervisor_of(self.home, NAME)
        return supervisor, next(pid for pid in children(supervisor) if comm(pid) == "sbx-proxy")


@pytest.fixture(scope="module")
def world(bindir):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sbx-x-"))
    folder.chmod(0o755)
    made = World(bindir, folder)
    need_sandboxes(made.sbx)
    try:
        made.begin()
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def status_value(pid, key):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.split(key + ":")[1].split()[0])


def proportional_memory(pids):
    """KiB."""
    texts = [pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(text.split("\nPss:")[1].split()[0]) for text in texts)


def test_idle_helpers_are_small(world):
    """Once what starting needed has been given back."""
    need_root()  # what the kernel shows of a process that cannot be dumped is root's
    wait_for("they keep too much", lambda: proportional_memory(world.helpers()) <= 4096)


@pytest.mark.parametrize("name", ["host.docker.internal", "host.sbx.internal"])
@pytest.mark.parametrize("prefix,tunnel", [("", ""), ("", "-p "), (UNSET, "")])
def test_plain_http(world, prefix, tunnel, name):
    url = f"http://{name}:{world.web.port}/a?b"
    done = world.sh(f"{prefix}curl -sS --max-time 10 {tunnel}{url}")
    assert json.loads(done.stdout)["headers"]["Host"].startswith(name), done
    record = world.logged(path="transparent" if prefix else "forward", port=world.web.port)
    assert record["decision"] == "allow" and record["rule"] == f"allow localhost:{world.web.port}"
    assert record["target"] == "/a" and record["status"] == 200 and record["method"] == "GET"
    assert record["bytes_in"] > 0 and record["origin"] == "sandbox"


@pytest.mark.parametrize("prefix", ["", UNSET])
def test_https_with_injection(world, prefix):
    done = world.sh(f"{prefix}curl -sS --max-time 10 -H 'Authorization: Bearer proxy-managed' "
                    f"https://host.docker.internal:{world.tls.port}/")
    assert json.loads(done.stdout)["headers"]["Authorization"] == f"Bearer {SECRET}", done.stderr
    record = world.logged(path="transparent" if prefix else "forward", port=world.tls.port)
    assert record["credential"] == "injected" and record["scheme"] == "https"
    assert SECRET not in json.dumps(world.log())


def test_leaf_certificate_is_for_the_name_that_was_asked_for(world):
    names = world.py(f"""
import socket, ssl
s = socket.create_connection(("host.docker.internal", {world.tls.port}), 10)
t = ssl.create_default_context().wrap_socket(s, server_hostname="host.docker.internal")
print(t.getpeercert()["subjectAltName"])""")
    assert names == "(('DNS', 'host.docker.internal'),)"


def test_refused_names_do_not_borrow_an_allowed_one(world):
    """Host against address, Host against CONNECT, SNI against address, SNI against CONNECT."""
    out = world.py(f"""
import socket, ssl
def ask(address, head):
    s = socket.create_connection(address, 10)
    s.sendall(head)
    return s
def line(s):
    return s.recv(4096).split(b"\\r\\n")[0].decode()
def hello(s):
    c = ssl.create_default_context()
    try:
        c.wrap_socket(s, server_hostname="evil.example")
        return "open"
    except (ssl.SSLError, ConnectionError):
        return "closed"
proxy, here = ("{EXIT}", 3128), ("host.docker.internal", {world.tls.port})
evil = b"GET / HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n"
print(line(ask(("host.docker.internal", {world.web.port}), evil)))
s = ask(proxy, b"CONNECT host.docker.internal:{world.tls.port} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
print(line(s)); s.close()  # the Host of a CONNECT decides nothing
print(hello(socket.create_connection(here, 10)))
s = ask(proxy, b"CONNECT host.docker.internal:{world.tls.port} HTTP/1.1\\r\\n"
        b"Host: host.docker.internal:{world.tls.port}\\r\\n\\r\\n")
print(line(s)); print(hello(s))
s = ask(proxy, b"CONNECT host.docker.internal:{world.tls.port} HTTP/1.1\\r\\n"
        b"Host: host.docker.internal:{world.tls.port}\\r\\n\\r\\n")
line(s); s.sendall(evil); print(line(s))
""").splitlines()
    assert out[0].startswith("HTTP/1.1 403")
    assert out[2] == "closed"
    assert out[3].startswith("HTTP/1.1 200") and out[4] == "closed"
    assert out[5].startswith("HTTP/1.1 403")
    assert world.logged(reason="host-mismatch") and world.logged(reason="sni-mismatch")


def test_names_are_answered_by_the_policy(world):
    answer = world.sh("getent ahosts good.example").stdout
    assert "198.18." in answer and "fd00:5b:78::" in answer
    # AI_ADDRCONFIG with one family: that family must look configured.
    assert world.sh("getent ahostsv4 good.example").stdout.startswith("198.18.")
    assert world.sh("getent ahostsv6 good.example").stdout.startswith("fd00:")
    assert world.sh("getent ahosts c2VjcmV0.evil.example").returncode == 2
    assert world.logged(path="dns", host="c2vjcmv0.evil.example")["decision"] == "deny"
    over_tcp = world.py(f"server = '{EXIT}'" + r"""
import socket, struct
q = b"\0\7\1\0\0\1\0\0\0\0\0\0\4good\7example\0\0\1\0\1"
s = socket.create_connection((server, 53), 5)
s.sendall(struct.pack(">H", len(q)) + q)
print(s.recv(1000)[-4:].hex())""")
    assert over_tcp.startswith("c612")


def test_other_protocols_have_nowhere_to_go(world):
    """UDP, ICMP, raw IP, packets, vsock: an error, or silence; never an answer."""
    out = world.py("""
import socket
def attempt(family, kind, proto, address):
    try:
        s = socket.socket(family, kind, proto)
        s.settimeout(1)
        s.sendto(b"\\x08\\0\\xf7\\xff\\0\\0\\0\\0", address)
        return "answer" if s.recv(10) else "none"
    except OSError:
        return "none"
I, V = socket.AF_INET, socket.AF_INET6
print(attempt(I, socket.SOCK_DGRAM, 0, ("192.0.2.1", 443)),
      attempt(V, socket.SOCK_DGRAM, 0, ("2001:db8::1", 443)),
      attempt(I, socket.SOCK_RAW, 1, ("192.0.2.1", 0)),
      attempt(I, socket.SOCK_RAW, 255, ("192.0.2.1", 0)),
      attempt(40, socket.SOCK_STREAM, 0, (2, 1024)),
      attempt(17, socket.SOCK_RAW, 3, ("lo", 0)))""")
    assert "answer" not in out


@pytest.mark.parametrize("address", [
    "169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1", "[::ffff:169.254.169.254]",
    "2130706433", "127.1", "0x7f000001", "0", "metadata.google.internal", "192.0.2.1"])
def test_addresses_are_refused(world, address):
    port = world.web.port
    done = world.sh(f"curl -gsS -m 5 --noproxy '' -o /dev/null -w '%{{http_code}}' "
                    f"http://{address}:{port}/; curl -gpsS -m 5 --noproxy '' -o /dev/null "
                    f"-w ' %{{http_connect}}' http://{address}:{port}/")
    assert done.stdout in ("403 403", "400 400"), done


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "[2001:db8::1]"])
def test_addresses_are_refused_without_the_proxy_variables(world, address):
    done = world.sh(f"{UNSET}curl -gsS -m 5 -o /dev/null -w '%{{http_code}}' http://{address}/")
    assert done.stdout in ("403", "000"), done


def test_policy_reaches_a_running_sandbox_at_once(world):
    target = f"localhost:{world.web.port}"
    child = world.start_py(f"""
import socket
s = socket.create_connection(("{EXIT}", 3128), 10)
s.sendall(b"CONNECT host.docker.internal:{world.web.port} HTTP/1.1\\r\\n"
          b"Host: host.docker.internal:{world.web.port}\\r\\n\\r\\n")
print(s.recv(100).split()[1].decode())
print("end" if s.recv(1) == b"" else "data")""")
    try:
        assert child.stdout.readline() == "200\n"
        fetch = (f"curl -s -o /dev/null -w '%{{http_code}}' "
                 f"http://host.docker.internal:{world.web.port}/")
        world.sbx.ok("policy", "deny", NAME, target)
        assert child.communicate(timeout=10)[0] == "end\n"
        assert world.sh(fetch).stdout == "403"
        rules = world.sbx.ok("policy", "ls", NAME)
        assert target in rules
    finally:
        child.kill()
        world.sbx.ok("policy", "rm", NAME, target)
        world.sbx.ok("policy", "allow", NAME, target)
    assert world.sh(fetch).stdout == "200"


def test_refusals_say_what_to_do(world):
    text = world.sh("curl -sS http://evil.example:8080/").stdout
    assert "evil.example:8080 is blocked" in text
    assert f"sbx policy allow {NAME} evil.example:8080" in text
    world.sbx.ok("policy", "deny", NAME, "worse.example")
    text = world.sh("curl -sS http://worse.example/").stdout
    assert "deny worse.example" in text and "policy rm" in text and "policy allow" not in text


def test_websocket_through_injection(world):
    out = world.py(f"""
import socket, ssl
s = socket.create_connection(("host.docker.internal", {world.tls.port}), 10)
t = ssl.create_default_context().wrap_socket(s, server_hostname="host.docker.internal")
t.sendall(b"GET /ws HTTP/1.1\\r\\nHost: host.docker.internal:{world.tls.port}\\r\\n"
          b"Connection: Upgrade\\r\\nUpgrade: websocket\\r\\n"
          b"Authorization: Bearer proxy-managed\\r\\n\\r\\nhello")
data = b""
while part := t.recv(1000):
    data += part
print(data.split(b"\\r\\n")[0].decode(), data.split(b"\\r\\n\\r\\n")[1].decode())""")
    assert out.startswith("HTTP/1.1 101") and out.endswith("auth:1 olleh"), out


def test_events_are_streamed(world):
    world.tls.gate.clear()
    child = subprocess.Popen(
        [world.sbx.binary, "exec", NAME, "--", "curl", "-sSN", "--max-time", "20",
         f"https://host.docker.internal:{world.tls.port}/sse"], env=world.sbx.env,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "data: one\n"
    world.tls.gate.set()
    assert "data: two" in child.communicate(timeout=20)[0]


@pytest.mark.parametrize("flags", ["-H 'Expect: 100-continue'", "-H 'Transfer-Encoding: chunked'",
                                   "-H 'Expect: 100-continue' -H 'Transfer-Encoding: chunked'"])
def test_uploads_through_injection(world, flags):
    done = world.sh(f"head -c 3000000 /dev/zero | curl -sS --max-time 20 -T - {flags} "
                    f"https://host.docker.internal:{world.tls.port}/")
    assert json.loads(done.stdout)["len"] == 3000000, done.stderr


def test_half_close_through_a_tunnel(world):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve():
        peer = listener.accept()[0]
        data = b""
        while part := peer.recv(1000):
            data += part
        peer.sendall(b"after the end: " + data)
        peer.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    world.sbx.ok("policy", "allow", NAME, f"localhost:{port}")
    out = world.py(f"""
import socket
s = socket.create_connection(("host.docker.internal", {port}), 10)
s.sendall(b"\\x00raw"); s.shutdown(socket.SHUT_WR)
data = b""
while part := s.recv(1000):
    data += part
print(data)""")
    thread.join(10)
    listener.close()
    assert out == repr(b"after the end: \x00raw")
    assert world.logged(port=port)["path"] == "network"


@pytest.mark.parametrize("scheme,size", [("http", LARGE), ("https", LARGE // 4)])
def test_bodies_are_never_held(world, scheme, size):
    need_root()  # what the kernel shows of a process that cannot be dumped is root's
    port = world.web.port if scheme == "http" else world.tls.port
    pid = world.helpers()[1]
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")  # forget the peak
    before = status_value(pid, "VmRSS")
    done = world.sh(f"curl -sS --max-time 50 -o /dev/null -w '%{{size_download}}' "
                    f"{scheme}://host.docker.internal:{port}/big/{size}")
    assert done.stdout == str(size), done.stderr
    grown = status_value(pid, "VmHWM") - before
    assert grown < 8192, f"{grown} KiB more at the peak"


@pytest.mark.ns_only("QEMU's network turns a reset into an end, which may be of one side")
@pytest.mark.parametrize("secure", [False, True])
def test_client_that_resets_while_waiting_frees_the_origin(world, secure):
    origin = world.tls if secure else world.web
    origin.waiting.clear()
    origin.gone.clear()
    child = world.start_py(f"""
import socket, ssl, struct, sys
s = socket.create_connection(("host.docker.internal", {origin.port}), 10)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
if {secure}:
    s = ssl.create_default_context().wrap_socket(s, server_hostname="host.docker.internal")
s.sendall(b"GET /wait HTTP/1.1\\r\\nHost: host.docker.internal:{origin.port}\\r\\n\\r\\n")
s.recv(1)""")
    try:
        assert origin.waiting.wait(10)
    finally:
        child.kill()
        child.communicate()
    # The command line is gone: its session gets a hang-up, and the kernel resets the socket.
    assert origin.gone.wait(10)
    assert world.logged(reason="client-gone")


def test_idle_connections_are_bounded(world):
    need_root()  # what the kernel shows of a process that cannot be dumped is root's
    pid = world.helpers()[1]
    child = world.start_py(f"proxy = '{EXIT}'" + """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = []
try:
    for _ in range(2000):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((proxy, 3128))
        held.append(s)
except OSError:
    pass
print(len(held))
import time
time.sleep(30)""")
    try:
        assert int(child.stdout.readline()) > 1000
        open_fds = len(os.listdir(f"/proc/{pid}/fd"))
        assert open_fds < 1100, open_fds
        assert status_value(pid, "VmRSS") < 64 * 1024
    finally:
        child.kill()
        child.communicate()
    done = world.sh(f"curl -s --max-time 20 -o /dev/null -w '%{{http_code}}' "
                    f"http://host.docker.internal:{world.web.port}/")
    assert done.stdout == "200"


def test_no_denied_request_passes_during_reloads(world):
    count = 1000 if ISOLATION == "vm" else 20000
    child = world.start_py(f"""
import socket
passed = 0
for i in range({count}):
    s = socket.create_connection(("{EXIT}", 3128), 10)
    s.sendall(b"GET http://denied%d.example/ HTTP/1.1\\r\\n"
              b"Host: denied%d.example\\r\\n\\r\\n" % (i, i))
    passed += not s.recv(100).startswith(b"HTTP/1.1 403")
    s.close()
print("passed", passed)""")
    reloads = 0
    try:
        while child.poll() is None and reloads < 2000:
            world.sbx.ok("policy", "allow", NAME, f"other{reloads % 7}.example")
            world.sbx.ok("policy", "rm", NAME, f"other{reloads % 7}.example")
            reloads += 1
        assert child.communicate(timeout=60)[0] == "passed 0\n"
    finally:
        child.kill()
    assert reloads > 5


def test_slow_handshakes_are_waited_for(world):
    """A client on a captured connection that thinks for a while between its hello and its last word."""
    got = world.py(f"""
import socket, ssl, time
sock = socket.create_connection(("host.docker.internal", {world.tls.port}))
context = ssl.create_default_context()
read, write = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(read, write, server_hostname="host.docker.internal")
def turn(work):
    while True:
        try:
            return work()
        except ssl.SSLWantReadError:
            sock.sendall(write.read())
            read.write(sock.recv(65536))
            time.sleep(0.5)
turn(tls.do_handshake)
tls.write(b"GET / HTTP/1.1\\r\\nHost: host.docker.internal\\r\\n\\r\\n")
print(turn(lambda: tls.read(15)).decode())
""")
    assert got == "HTTP/1.1 200 OK"
