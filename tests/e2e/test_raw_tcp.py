# SPDX-License-Identifier: Apache-2.0
"""Other protocols than HTTP by rules for host and port, with real programs: ssh, git, SMTP."""
import pathlib
import socket
import subprocess
import threading
import time

import pytest

from conftest import EXIT, make_user, need_program, need_root, records, wait_for

UNSET = "unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY; "
# A way to the proxy for programs that know none: CONNECT or SOCKS on standard input and output.
RELAY = f"PROXY = '{EXIT}'" + """
import os, socket, struct, sys, threading
way, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
s = socket.create_connection((PROXY, 3128))
def get(n):
    data = b""
    while len(data) < n:
        data += s.recv(1)
    return data
if way == "connect":
    s.sendall(b"CONNECT %s:%d HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" % (host.encode(), port))
    head = b""
    while not head.endswith(b"\\r\\n\\r\\n"):
        head += get(1)
    assert b" 200 " in head, head
else:
    s.sendall(b"\\5\\1\\0")
    get(2)
    s.sendall(b"\\5\\1\\0\\3%c%s" % (len(host), host.encode()) + struct.pack(">H", port))
    assert get(10)[1] == 0
def up():
    while data := os.read(0, 65536):
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := s.recv(65536):
    os.write(1, data)
"""


class Inside:
    def __init__(self, sbx, name, workspace):
        self.sbx, self.name, self.workspace = sbx, name, workspace
        (workspace / "relay.py").write_text(RELAY, encoding="utf-8")

    def allow(self, host, port, *rules):
        """The name leads to this port of the host's loopback."""
        self.sbx.ok("policy", "host", "add", self.name, host, f"127.0.0.1:{port}")
        self.sbx.ok("policy", "allow", self.name, *(rules or (f"{host}:{port}",)))

    def sh(self, script, timeout=60):
        return self.sbx("exec", self.name, "--", "sh", "-c", f"cd {self.workspace}; {script}",
                        timeout=timeout)

    def py(self, script):
        done = self.sbx("exec", self.name, "--", "/usr/bin/python3", "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def inside(sbx, sandbox, workspace):
    return Inside(sbx, sandbox, workspace)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    except OSError:
        return False


@pytest.fixture
def sshd(tmp_path, workspace):
    """A real ssh server on loopback: (port, user); the user's key is `key` in the workspace."""
    need_root()
    need_program("dropbear")
    need_program("ssh")
    with make_user("range") as entry:
        key = workspace / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        folder = pathlib.Path(entry.pw_dir) / ".ssh"
        folder.mkdir(mode=0o700)
        (folder / "authorized_keys").write_text(key.with_suffix(".pub").read_text("ascii"), "ascii")
        for path in (folder, folder / "authorized_keys"):
            path.chmod(0o700 if path.is_dir() else 0o600)
            subprocess.run(["chown", entry.pw_name, path], check=True)
        host_key = tmp_path / "host"
        subprocess.run(["dropbearkey", "-t", "ed25519", "-f", host_key], check=True,
                       capture_output=True)
        port = free_port()
        server = subprocess.Popen(["dropbear", "-F", "-E", "-s", "-p", f"127.0.0.1:{port}", "-r",
                                   host_key, "-P", tmp_path / "pid"], stderr=subprocess.DEVNULL)
        try:
            wait_for("dropbear listens", lambda: listens(port))
            yield port, entry.pw_name
        finally:
            server.kill()
            server.wait()


def test_ssh_by_every_way(inside, sshd):
    port, user = sshd
    inside.allow("shell.internal", port)
    options = ("-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes "
               f"-o LogLevel=ERROR -i ./key.mine -p {port}")
    inside.sh("cp key key.mine; chmod 600 key.mine")
    for way in ("", "connect", "socks"):
        via = f"-o ProxyCommand='python3 relay.py {way} %h %p'" if way else ""
        done = inside.sh(f"{UNSET} printf over-ssh | ssh {options} {via} {user}@shell.internal "
                         "'id -un; cat; head -c 300000 /dev/zero | wc -c'")
        assert done.stdout.split() == [user, "over-ssh300000"], (way, done)
    seen = records(inside.sbx, inside.name, host="shell.internal", until=lambda found: len(found) == 3)
    assert sorted(record["path"] for record in seen) == ["forward-bypass"] * 2 + ["network"]
    # Its other ports, and its address, are closed at once.
    for host, other in (("shell.internal", port + 1), ("127.0.0.1", port), ("192.0.2.1", port)):
        done = inside.sh(f"{UNSET} ssh {options.replace(str(port), str(other))} -o ConnectTimeout=20 "
                         f"{user}@{host} true")
        assert done.returncode == 255 and "timed out" not in done.stderr, done


def test_git_daemon(inside, tmp_path):
    """git:// is a protocol whose client speaks first, in text without HTTP."""
    repository = tmp_path / "served" / "one.git"
    subprocess.run(["git", "init", "-q", "--bare", repository], check=True)
    subprocess.run(["git", "-C", repository, "config", "uploadpack.allowAnySHA1InWant", "true"],
                   check=True)
    tree = subprocess.run(["git", "-C", repository, "write-tree"], check=True, capture_output=True,
                          text=True).stdout.strip()
    commit = subprocess.run(
        ["git", "-C", repository, "-c", "user.name=n", "-c", "user.email=e", "commit-tree", tree,
         "-m", "by the git protocol"], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["git", "-C", repository, "update-ref", "HEAD", commit], check=True)
    port = free_port()
    daemon = subprocess.Popen(["git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--export-all",
                               "--reuseaddr", f"--base-path={tmp_path / 'served'}"],
                              stderr=subprocess.DEVNULL)
    try:
        wait_for("git daemon listens", lambda: listens(port))
        inside.allow("code.internal", port)
        done = inside.sh(f"{UNSET} git clone -q git://code.internal:{port}/one.git c && "
                         "git -C c log --format=%s")
        assert done.stdout.strip() == "by the git protocol", done
    finally:
        daemon.terminate()
        daemon.wait()


class Mail(threading.Thread):
    """A server that speaks first: enough of SMTP for one message at a time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.messages = []

    def run(self):
        while True:
            try:
                peer = self.listener.accept()[0]
            except OSError:
                return
            with peer, peer.makefile("rwb") as f:
                try:
                    self.talk(f)
                except OSError:
                    pass

    def talk(self, f):
        def say(text):
            f.write(text.encode() + b"\r\n")
            f.flush()

        say("220 mail.internal ready")
        while line := f.readline():
            word = line[:4].upper()
            if word == b"DATA":
                say("354 go on")
                body = []
                while (line := f.readline()) != b".\r\n":
                    body.append(line)
                self.messages.append(b"".join(body))
            say("221 bye" if word == b"QUIT" else "250 fine")


@pytest.fixture
def mail():
    server = Mail()
    server.start()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)  # ends accept(), which close() alone does not
    server.join()
    server.listener.close()


@pytest.mark.parametrize("rule", ["mail.internal:{port}", "*.internal:{port}", "**"])
def test_a_server_that_speaks_first(inside, mail, rule):
    """Nothing waits for the client's first byte: by a rule of any kind, and on every way."""
    inside.allow("mail.internal", mail.port, rule.format(port=mail.port), "mail.internal:1")
    url = f"smtp://mail.internal:{mail.port}"
    for i, way in enumerate(("--noproxy '*'", f"--proxytunnel -x http://{EXIT}:3128",
                             f"-x socks5h://{EXIT}:3128")):
        done = inside.sh(f"{UNSET} printf 'Subject: {i}\\n\\nhello' | curl -sS -m 20 {way} {url} "
                         "--mail-from a@a.example --mail-rcpt b@b.example -T -")
        assert done.returncode == 0, (way, done.stderr)
        assert mail.messages[i].startswith(f"Subject: {i}".encode())


@pytest.fixture
def talker():
    """Accepts connections and hands them to the test."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)
    yield listener
    listener.close()


WAYS = f"PROXY = '{EXIT}'" + """
import socket, sys, time
def opened(way):
    if way == "transparent":
        return socket.create_connection(("talk.internal", {port}), 30)
    s = socket.create_connection((PROXY, 3128), 30)
    s.sendall(b"CONNECT talk.internal:{port} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    head = b""  # what the server says first may come right behind it
    while not head.endswith(b"\\r\\n\\r\\n"):
        head += s.recv(1)
    assert b" 200 " in head
    return s
def rest(s):
    data = b""
    while part := s.recv(1000):
        data += part
    return data
"""


@pytest.mark.parametrize("way", ["transparent", "connect"])
def test_half_close_and_pauses(inside, talker, way):
    """A client that ends its side at once, one that pauses, and a server that does either."""
    port = talker.getsockname()[1]
    inside.allow("talk.internal", port)

    def serve():
        with talker.accept()[0] as peer:  # the client says nothing, and ends
            peer.settimeout(30)
            assert peer.recv(10) == b""
            peer.sendall(b"greeting after the end")
        with talker.accept()[0] as peer:  # the server ends first
            peer.settimeout(30)
            peer.sendall(b"hello, ")
            peer.shutdown(socket.SHUT_WR)
            got = b""
            while part := peer.recv(100):
                got += part
            assert got == b"and more"
        with talker.accept()[0] as peer:  # pauses longer than any guess
            peer.settimeout(30)
            for _ in range(3):
                time.sleep(0.7)
                peer.sendall(b"x")
                assert peer.recv(10) == b"y"

    failed = []

    def run():
        try:
            serve()
        except BaseException as error:  # pylint: disable=broad-except
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    out = inside.py(WAYS.format(port=port) + f"""
s = opened("{way}")
time.sleep(0.5 if "{way}" == "transparent" else 0)
s.shutdown(socket.SHUT_WR)
print(rest(s).decode())
s = opened("{way}")
print(rest(s).decode())
s.sendall(b"and "); time.sleep(0.5); s.sendall(b"more"); s.close()
s = opened("{way}")
for i in range(3):
    assert s.recv(10) == b"x"
    time.sleep(0.7)
    s.sendall(b"y")
print("done")""")
    thread.join(60)
    assert not failed and out.splitlines() == ["greeting after the end", "hello, ", "done"]


@pytest.mark.parametrize("first", [b"NICK somebody\r\n", b"\0\0\0\x08\x04\xd2\x16\x2f", b"hello\n",
                                   b"*1\r\n$4\r\nPING\r\n", b"{\"a\": 1}", b"REGISTER x\r\n"])
def test_protocols_whose_client_speaks_first(inside, talker, first):
    """IRC, PostgreSQL, Redis and what only looks like HTTP."""
    port = talker.getsockname()[1]
    inside.allow("talk.internal", port)
    got = []

    def serve():
        for _ in range(2):
            with talker.accept()[0] as peer:
                peer.settimeout(30)
                got.append(peer.recv(1000))
                peer.sendall(b"answer")

    thread = threading.Thread(target=serve)
    thread.start()
    out = inside.py(WAYS.format(port=port) + f"""
for way in ("transparent", "connect"):
    s = opened(way)
    s.sendall({first!r})
    print(rest(s).decode())""")
    thread.join(30)
    assert out.split() == ["answer"] * 2 and got == [first] * 2


def test_names_are_remembered_apart(inside, talker):
    """Two names of one address: each connection is judged by the name that was looked up for it."""
    port = talker.getsockname()[1]
    inside.allow("talk.internal", port)
    inside.sbx.ok("policy", "host", "add", inside.name, "other.internal", f"127.0.0.1:{port}")
    inside.sbx.ok("policy", "allow", inside.name, "other.internal:1", "**.many.internal")
    thread = threading.Thread(target=lambda: talker.accept()[0].sendall(b"\x01hello"))
    thread.start()
    out = inside.py(f"""
import socket
good = socket.gethostbyname("talk.internal")
bad = socket.gethostbyname("other.internal")
for i in range(500):
    socket.gethostbyname("n%d.many.internal" % i)
assert socket.gethostbyname("talk.internal") == good != bad
for address in (bad, good):
    s = socket.create_connection((address, {port}), 30)
    print(len(s.recv(10)))""")
    thread.join(30)
    assert out.split() == ["0", "6"]


