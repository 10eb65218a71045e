# SPDX-License-Identifier: Apache-2.0
"""A git forge for the tests: git-http-backend behind TLS, on port 443 of a loopback address of its own
(a Go module's path has no port).

Repositories below acme/ are private and want Basic with the forge's user and token; those below
public/ are for everybody, but not for somebody with a wrong Authorization, as with the big forges.
One server answers for all names: the forge, a vanity import path (`?go-get=1`), an LFS store whose
links are signed, and a mirror that the forge redirects to.  Each request is recorded.  What is asked
of acme/slow is answered when the test opens the gate.
"""

import base64
import collections
import gzip
import hashlib
import http.server
import json
import os
import random
import ssl
import subprocess
import threading

FORGE, VANITY, STORE, MIRROR = "github.com", "vanity.test", "store.test", "mirror.test"
TARBALLS = "codeload.github.com"
NAMES = (FORGE, VANITY, STORE, MIRROR, TARBALLS, "gitlab.com", "bitbucket.org", "dev.azure.com",
         "codeberg.org", "git.acme.example")
BACKEND = "/usr/lib/git-core/git-http-backend"
BODY_MAX = 64 << 20

Request = collections.namedtuple("Request", "host method path authorization headers")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
            assert len(data) <= BODY_MAX
        while self.rfile.readline().strip():
            pass
        return data

    def answer(self, status, data=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json(self, value):
        self.answer(200, json.dumps(value).encode(),
                    Content_Type="application/vnd.git-lfs+json")

    def serve(self):
        self.data = self.body()
        host = self.headers.get("Host", "").split(":")[0]
        with self.server.lock:
            self.server.requests.append(Request(host, self.command, self.path,
                                                self.headers.get("Authorization"),
                                                list(self.headers.items())))
        {VANITY: self.vanity, STORE: self.store, TARBALLS: self.missing}.get(host, self.forge)()

    do_GET = do_POST = do_PUT = do_HEAD = serve

    def missing(self):
        self.answer(404)

    def challenge(self):
        self.answer(401, b"Bad credentials\n", WWW_Authenticate='Basic realm="forge"',
                    Content_Type="text/plain")

    def forge(self):
        path, _, query = self.path.partition("?")
        given = self.headers.get("Authorization")
        right = given == self.server.authorization
        if given and not right or path.startswith("/acme/") and not right:
            return self.challenge()
        if path.startswith("/acme/moved/"):
            return self.answer(301, Location=f"https://{MIRROR}/public/{self.path[6:]}")
        if "go-get=1" in query:
            return self.missing()
        if "/info/lfs/" in path:
            return self.lfs()
        return self.git(path, query)

    def git(self, path, query):
        """One CGI request (RFC 3875)."""
        if path.endswith("/git-upload-pack") and "/slow" in path:
            self.server.waiting.set()
            self.server.gate.wait(60)
        head = self.headers
        if not os.path.isdir(os.path.join(self.server.root, *path.split("/")[1:3])):
            path = "/".join([*path.split("/")[:2], path.split("/")[2] + ".git",
                             *path.split("/")[3:]])
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.server.root, "PATH_INFO": path,
               "GIT_HTTP_EXPORT_ALL": "1", "GIT_CONFIG_NOSYSTEM": "1", "HOME": self.server.root,
               "REQUEST_METHOD": self.command, "QUERY_STRING": query, "REMOTE_USER": "agent",
               "REMOTE_ADDR": "127.0.0.1", "CONTENT_TYPE": head.get("Content-Type", ""),
               "CONTENT_LENGTH": str(len(self.data)), "GIT_PROTOCOL": head.get("Git-Protocol", ""),
               "HTTP_CONTENT_ENCODING": head.get("Content-Encoding", "")}
        done = subprocess.run([BACKEND], input=self.data, env=env, capture_output=True, check=False,
                              timeout=60)
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(fields.pop("Status", "200").split()[0])
        fields.pop("Content-Length", None)
        self.answer(status, data, **fields)

    def vanity(self):
        """vanity.test/tool lives in the forge's acme/van."""
        if self.headers.get("Authorization") != self.server.authorization:
            return self.challenge()
        self.answer(200, f'<html><head><meta name="go-import" content="{VANITY}/tool git '
                         f'https://{FORGE}/acme/van.git"></head></html>'.encode(),
                    Content_Type="text/html")

    def lfs(self):
        """The batch API; objects are in the store, behind a signed link that is enough."""
        if not self.path.endswith("/objects/batch"):
            return self.missing()
        data = self.data
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        asked = json.loads(data)
        way = asked["operation"]
        self.json({"transfer": "basic", "objects": [
            {"oid": each["oid"], "size": each["size"], "authenticated": True,
             "actions": {way: {"href": f"https://{STORE}/{each['oid']}?signature=good"}}}
            if way == "upload" or each["oid"] in self.server.objects else
            {**each, "error": {"code": 404, "message": "no such object"}}
            for each in asked["objects"]]})

    def store(self):
        """As the big stores do: a signed link with an Authorization beside it is refused."""
        oid = self.path[1:].partition("?")[0]
        if self.headers.get("Authorization") or not self.path.endswith("?signature=good"):
            return self.answer(400, b"one way to authenticate, please\n")
        if self.command == "PUT":
            if hashlib.sha256(self.data).hexdigest() != oid:
                return self.answer(422)
            self.server.objects[oid] = self.data
            return self.answer(200)
        self.answer(200, self.server.objects[oid], Content_Type="application/octet-stream")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # a client that hangs up in the handshake is not our affair


class GitServer:
    """`root` holds OWNER/REPO.git; `cert` is what clients have to trust."""

    def __init__(self, folder, user, token):
        self.folder, self.root = folder, folder / "repositories"
        self.root.mkdir()
        self.cert = folder / "forge.pem"
        self.token = token
        self.basic = base64.b64encode(f"{user}:{token}".encode()).decode()
        self.key = folder / "forge.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", self.key, "-out",
                        self.cert, "-subj", "/CN=forge", "-addext", "subjectAltName=" +
                        ",".join(f"DNS:{name}" for name in NAMES)], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        self.server = self.bind()
        # The handshake is the handler thread's: a slow one must not stop the others.
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.server.root = str(self.root)
        self.server.authorization = f"Basic {self.basic}"
        self.server.requests, self.server.objects = [], {}
        self.server.lock = threading.Lock()
        self.gate = self.server.gate = threading.Event()
        self.waiting = self.server.waiting = threading.Event()
        self.address = self.server.server_address[0]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @staticmethod
    def bind():
        while True:
            address = f"127.{random.randint(64, 250)}.{random.randint(0, 255)}.7"
            try:
                return Server((address, 443), Handler)
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno != 98:  # address in use
                    raise

    def requests(self):
        with self.server.lock:
            return list(self.server.requests)

    def forget(self):
        with self.server.lock:
            self.server.requests.clear()

    def git(self, *words, cwd=None):
        """Git on the server's side; no configuration of whoever runs the tests."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1",
               "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@test", "GIT_COMMITTER_NAME": "a",
               "GIT_COMMITTER_EMAIL": "a@test"}
        return subprocess.run(["git", "-c", "init.defaultBranch=main", "-c",
                               "protocol.file.allow=always", *map(str, words)], cwd=cwd, env=env,
                              check=True, capture_output=True, text=True).stdout

    def repository(self, name, files, tag=None, prepare=None):
        """Makes OWNER/REPO with one commit of `files` {path: text}; `prepare` may add to it."""
        bare, work = self.root / f"{name}.git", self.folder / "work" / name
        work.mkdir(parents=True)
        self.git("init", "-q", "--bare", bare)
        self.git("config", "-f", bare / "config", "uploadpack.allowFilter", "true")
        self.git("init", "-q", work)
        for path, text in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(text, encoding="utf-8")
        if prepare:
            prepare(work)
        self.git("add", "-A", cwd=work)
        self.git("commit", "-qm", "first", cwd=work)
        if tag:
            self.git("tag", tag, cwd=work)
        self.git("push", "-q", "--tags", bare, "HEAD:refs/heads/main", cwd=work)
        return bare

    def end(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
