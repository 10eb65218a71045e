# SPDX-License-Identifier: Apache-2.0
"""Far ends that do not take at once what the proxy has for them: every byte arrives all the same, in
order, in tunnels and in bodies that are decrypted on the way."""
import hashlib
import random
import socket
import ssl
import threading
import time

import pytest

from test_proxy import Origin, Proxy, SECRET, logs, self_signed, start_origin

pytestmark = pytest.mark.no_sandbox

NAME = "slow.example"
SIZE = 12 << 20  # more than the sockets on the way hold
DATA = random.Random(1).randbytes(SIZE)


def sha(data):
    return hashlib.sha256(data).hexdigest()


def small_buffer(sock):
    """Small, but enough for a segment of the loopback; before it connects or listens."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)


def read_slowly(read, size):
    """In odd pieces, with pauses in which everything before it fills up."""
    digest, got, dice = hashlib.sha256(), 0, random.Random(2)
    while got < size:
        data = read(min(dice.randrange(1, 200000), size - got))
        if not data:
            break
        digest.update(data)
        got += len(data)
        if dice.random() < 0.02:
            time.sleep(0.05)
    assert got == size
    return digest.hexdigest()


class Slow(Origin):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        self.wfile.write(DATA)

    def do_PUT(self):
        body = read_slowly(self.rfile.read, int(self.headers["Content-Length"])).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def way(request, tmp_path):
    """A proxy that decrypts what goes to `NAME`, how to open a connection there, and its authority;
    by this version of TLS on both sides."""
    cert, key = self_signed(tmp_path, NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.maximum_version = request.param
    origin = start_origin(context, Slow)
    small_buffer(origin.socket)
    port = origin.server_address[1]
    proxy = Proxy(tmp_path, {"SSL_CERT_FILE": str(cert)})
    try:
        proxy.configure([])
        ca = proxy.call({"op": "ca"})
        proxy.configure([f"allow {NAME}", "allow 127.0.0.1"], hosts={NAME: "127.0.0.1"},
                        ca={"cert_pem": ca["cert_pem"], "key_pem": ca["key_pem"]},
                        inject=[{"service": "api", "kit": "k", "header": "Authorization",
                                 "format": "Bearer %s", "mode": "overwrite", "secret": SECRET,
                                 "id": "i", "domain": f"{NAME}:{port}"}])

        def connect():
            raw = socket.socket()
            small_buffer(raw)
            raw.settimeout(60)
            raw.connect(proxy.http.getsockname())
            raw.sendall(f"CONNECT {NAME}:{port} HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
            assert raw.recv(1000).startswith(b"HTTP/1.1 200")
            trusts = ssl.create_default_context(cadata=ca["cert_pem"])
            trusts.maximum_version = request.param
            return trusts.wrap_socket(raw, server_hostname=NAME)

        yield proxy, connect, f"{NAME}:{port}"
    finally:
        proxy.close()
        origin.shutdown()


def test_a_slow_client_gets_the_whole_body(way):
    proxy, connect, place = way
    with logs(proxy, status=200, bytes_in=SIZE), connect() as sock, sock.makefile("rb") as file:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"
        while file.readline() != b"\r\n":
            pass
        assert read_slowly(file.read, SIZE) == sha(DATA)


def test_a_slow_origin_gets_the_whole_body(way):
    proxy, connect, place = way
    with logs(proxy, status=200, bytes_out=SIZE), connect() as sock:
        sock.sendall(f"PUT / HTTP/1.1\r\nHost: {place}\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        sock.sendall(DATA)
        answer = b""
        while not answer.endswith(sha(DATA).encode()):
            part = sock.recv(4096)
            assert part, answer
            answer += part


def test_tunnels_carry_short_and_long_messages_both_ways(tmp_path):
    """What changes between the two is how the proxy moves it."""
    server = socket.create_server(("127.0.0.1", 0))
    small_buffer(server)
    port = server.getsockname()[1]
    got = {}

    def send(sock):
        at, dice = 0, random.Random(3)
        while at < SIZE:
            n = dice.choice((1, 7, 500, 16384, 16385, 70000, 1 << 20))
            sock.sendall(DATA[at:at + n])
            at += n
            if n < 1000:
                time.sleep(0.001)
        sock.shutdown(socket.SHUT_WR)

    def talk(who, sock):
        sender = threading.Thread(target=send, args=(sock,), daemon=True)
        sender.start()
        got[who] = read_slowly(sock.recv, SIZE)
        assert sock.recv(1) == b""  # after the rest comes the end
        sender.join(30)

    def serve():
        sock, _ = server.accept()
        with sock:
            sock.settimeout(60)
            talk("server", sock)

    proxy = Proxy(tmp_path)
    try:
        proxy.configure([f"allow localhost:{port}"])
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with logs(proxy, path="forward-bypass", bytes_in=SIZE, bytes_out=SIZE), \
                socket.socket() as sock:
            small_buffer(sock)
            sock.settimeout(60)
            sock.connect(proxy.http.getsockname())
            sock.sendall(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert sock.recv(39) == b"HTTP/1.1 200 Connection established\r\n\r\n"
            talk("client", sock)
            thread.join(30)
    finally:
        proxy.close()
        server.close()
    assert got == {"server": sha(DATA), "client": sha(DATA)}
