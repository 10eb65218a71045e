# SPDX-License-Identifier: Apache-2.0
"""A forge over TLS, as GitLab is one: git wants Basic, the API wants its own field, on one host.

Everything that it was asked is kept in `requests`.  git is served by the real git-http-backend."""
import base64
import ctypes
import gzip
import http.server
import json
import os
import pathlib
import socket
import ssl
import struct
import subprocess
import threading
import urllib.parse

BACKEND = pathlib.Path("/usr/lib/git-core/git-http-backend")


def brotli(data):
    """Compressed by the library itself; Python's bindings are a package of their own."""
    library = ctypes.CDLL("libbrotlienc.so.1")
    size = ctypes.c_size_t(len(data) + 1024)
    out = ctypes.create_string_buffer(size.value)
    assert library.BrotliEncoderCompress(5, 22, 0, ctypes.c_size_t(len(data)), data,
                                         ctypes.byref(size), out)
    return out.raw[:size.value]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(self, status, body=b"", fields=()):
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *fields):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        data = self.body()
        self.server.requests.append({"method": self.command, "path": self.path,
                                     "headers": self.headers.items(), "body": data})
        if url.path.startswith("/api/"):
            self.api(url, data)
        elif ".git/" in url.path:
            self.git(url, data)
        elif url.path == "/redirect":
            self.reply(302, fields=[("Location", urllib.parse.parse_qs(url.query)["to"][0])])
        elif url.path == "/reflect":
            self.reflect(url, data)
        elif url.path == "/oauth/token":
            self.token(data)
        elif url.path == "/resource":
            good = self.headers.get("Authorization") == f"Bearer {self.server.tokens['access']}"
            self.reply(200 if good else 401, b"yours\n" if good else b"no\n")
        elif url.path == "/scrub":
            self.scrub(dict(urllib.parse.parse_qsl(url.query)))
        elif url.path == "/hold":
            self.hold()
        else:
            self.reply(200, b"hello\n")

    do_POST = do_PUT = do_HEAD = do_GET

    def api(self, url, data):
        if self.headers.get("Private-Token") != self.server.secret:
            self.reply(401, b'{"message":"401 Unauthorized"}')
            return
        self.reply(200, json.dumps({"path": url.path, "method": self.command,
                                    "body": data.decode()}).encode())

    def git(self, url, data):
        wanted = "Basic " + base64.b64encode(f"oauth2:{self.server.secret}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self.reply(401, b"HTTP Basic: Access denied\n",
                       [("WWW-Authenticate", 'Basic realm="forge"')])
            return
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.server.root),
               "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "oauth2", "PATH_INFO": url.path,
               "QUERY_STRING": url.query, "REQUEST_METHOD": self.command,
               "CONTENT_TYPE": self.headers.get("Content-Type", ""),
               "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        done = subprocess.run([BACKEND], input=data, env=env, capture_output=True, check=True)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
        status = next((int(v.split()[0]) for n, v in fields if n == "Status"), 200)
        self.reply(status, body, [f for f in fields if f[0] != "Status"])

    def reflect(self, url, data):
        self.reply(200, json.dumps([*self.headers.items(), url.query, data.decode()]).encode())

    def token(self, data):
        """A token endpoint whose refresh tokens work once, as RFC 9700 wants it."""
        tokens, coding = self.server.tokens, self.server.token_coding
        asked = (json.loads(data) if "json" in self.headers.get("Content-Type", "") else
                 dict(urllib.parse.parse_qsl(data.decode())))
        if asked.get("code") != "good" and asked.get("refresh_token") != tokens["refresh"]:
            self.reply(400, b'{"error":"invalid_grant"}', [("Content-Type", "application/json")])
            return
        tokens["count"] += 1
        tokens["access"] = f"real-access-{tokens['count']}-{os.urandom(8).hex()}"
        tokens["refresh"] = f"real/refresh+{tokens['count']}-{os.urandom(8).hex()}"
        tokens["all"] += [tokens["access"], tokens["refresh"]]
        answer = {"access_token": tokens["access"], "refresh_token": tokens["refresh"],
                  "expires_in": 3600, "token_type": "Bearer", "account": {"id": 7}}
        body = json.dumps({**answer, **self.server.token_extra(tokens)}).encode()
        fields = [("Content-Type", "application/json")]
        if coding:
            body = gzip.compress(body) if coding == "gzip" else b"not json"
            fields += [("Content-Encoding", coding)] if coding == "gzip" else []
        self.reply(200, body, fields)

    def scrub(self, how):
        """The secret in a form, compressed or not, in pieces, and perhaps broken off."""
        secret, pieces = self.server.secret, []
        text = {"raw": secret, "json": json.dumps({"a": secret}),
                "url": urllib.parse.quote(secret, safe=""),
                "base64": base64.b64encode(b"ab" + secret.encode() + b"c").decode(),
                "basic": base64.b64encode(f"oauth2:{secret}".encode()).decode()}[how["form"]]
        body = f"before {text} after".encode() * int(how.get("times", 1))
        coding = how.get("coding", "")
        if coding in ("gzip", "br"):
            body = gzip.compress(body) if coding == "gzip" else brotli(body)
        step = int(how.get("step", len(body)))
        pieces = [body[i:i + step] for i in range(0, len(body), step)]
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-Echo", f"<{text}>")
        if coding:
            self.send_header("Content-Encoding", coding)
        self.end_headers()
        cut = int(how.get("cut", -1))
        sent = 0
        for piece in pieces:
            if 0 <= cut < sent + len(piece):
                piece = piece[:cut - sent]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b"")
            self.wfile.flush()
            sent += len(piece)
            if sent == cut:
                if how.get("end") == "clean":
                    break
                # The kernel sends a reset instead of an end, behind what was written.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                           struct.pack("ii", 1, 0))
                self.close_connection = True
                os.close(self.connection.detach())
                return
        self.wfile.write(b"0\r\nX-Trailer: " + text.encode() + b"\r\n\r\n")

    def hold(self):
        """A stream that stays open; its end is told by an event."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"6\r\nbegun\n\r\n")
        self.wfile.flush()
        self.rfile.read(1)
        self.server.ended.set()
        self.close_connection = True

    def log_message(self, *_args):
        pass


def authority(folder):
    """A certificate for localhost and its key, self-signed."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
                   check=True, capture_output=True, timeout=30)
    return cert, key


def start(folder, secret, certificate=None, handler=Handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.secret, server.requests, server.root = secret, [], folder / "repositories"
    server.ended = threading.Event()
    server.tokens = {"count": 0, "access": "none yet", "refresh": "none yet", "all": []}
    server.token_coding, server.token_extra = "", lambda tokens: {}
    server.port = server.server_address[1]
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True,
                                            do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def make_repository(folder, name):
    """A bare repository with one commit, open for pushes."""
    bare, work = folder / "repositories" / name, folder / "work"
    run = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "init", "-q", "-b", "main", work], check=True)
    (work / "README").write_text("private\n", encoding="utf-8")
    subprocess.run([*run, "-C", work, "add", "."], check=True)
    subprocess.run([*run, "-C", work, "commit", "-qm", "first"], check=True)
    bare.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "-q", "--bare", work, bare], check=True)
    subprocess.run(["git", "-C", bare, "config", "http.receivepack", "true"], check=True)
    return bare
