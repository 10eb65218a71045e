# SPDX-License-Identifier: Apache-2.0
"""The kit of examples/docker: a real Docker Engine in a virtual machine, with containers that reach a
server of the test on the host's loopback, by the sandbox's exit and with its credential.  One machine for
all of it: in software its boot and each docker command take seconds, on a busy machine a minute."""
import http.server
import json
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import tarfile
import tempfile
import threading

import pytest

from conftest import ROOT, Sbx, need_program, need_root, need_sandboxes, skip_loudly

KIT = ROOT / "examples/docker"
SECRET = "the-real-secret-value"
ADDRESS = "127.93.4.5"
NAME = "api.test"
PROGRAMS = ("/bin/sh", "/bin/cat", "/usr/bin/env", "/bin/sleep", "/usr/bin/curl")
PATIENCE_S = 480


class Origin(http.server.BaseHTTPRequestHandler):
    """Says what reached it: where, and with which credential."""

    def do_GET(self):
        seen = self.headers.get("Authorization", "none")
        self.server.seen.append((self.path, seen))
        data = f"{self.path} {'good' if seen == f'Bearer {SECRET}' else 'bad'}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def make_image(path):
    """The root file system of an image, out of the host's programs and what they are linked to."""
    files = set(PROGRAMS)
    for program in PROGRAMS:
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        files.update(re.findall(r"(/\S+) \(0x", linked))
    with tarfile.open(path, "w") as archive:
        for file in sorted(files):
            archive.add(os.path.realpath(file), arcname=file.lstrip("/"))
        etc = tarfile.TarInfo("etc")
        etc.type, etc.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(etc)


class World:
    def __init__(self, bindir, folder):
        self.sbx = Sbx(bindir / "sbx", folder / "h")
        self.sbx.env["SBX_ISOLATION"] = "vm"
        self.work = folder / "w"
        self.work.mkdir()
        os.chown(self.work, 1000, 1000)
        cert, key = folder / "cert.pem", folder / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", key, "-out",
                        cert, "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"],
                       check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.server = http.server.ThreadingHTTPServer((ADDRESS, 0), Origin)
        self.server.daemon_threads, self.server.seen = True, []
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_address[1]
        self.url = f"https://{NAME}:{self.port}"
        self.sbx.env["SSL_CERT_FILE"] = str(cert)

    def begin(self):
        self.sbx.ok("policy", "init", "deny-all")
        self.sbx.ok("policy", "host", "add", "-g", NAME, ADDRESS)
        self.sbx.ok("policy", "allow", "-g", f"{NAME}:{self.port}")
        self.sbx.ok("secret", "set-custom", "-g", "--host", f"{NAME}:{self.port}",
                    "--env", "KEY", "--scheme", "bearer", "--value-stdin", input=SECRET)
        done = self.sbx("create", "--name", "box", "-m", "2g", "--kit", KIT, "shell", self.work,
                        timeout=PATIENCE_S)
        assert done.returncode == 0, (done.stderr, self.last_words())
        make_image(self.work / "base.tar")
        self.docker("docker import base.tar base")

    def docker(self, script, code=0, user="1000"):
        """A script inside, as agent: docker commands."""
        done = self.sbx("exec", "-u", user, "box", "--", "sh", "-ec", script, timeout=PATIENCE_S)
        assert done.returncode == code, (done.stdout, done.stderr, self.last_words())
        return done.stdout

    def last_words(self):
        """Why a machine ended, and what the engine said."""
        logs = sorted((self.sbx.home / "state/log").glob("box.*.log"))
        return [log.read_text("utf-8", "replace")[-2000:] for log in logs]

    def end(self):
        self.sbx("rm", "--all", "--force")
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def world(bindir):
    need_root()
    for program in ("dockerd", "qemu-system-x86_64"):
        need_program(program)
    if not list(pathlib.Path("/boot").glob("vmlinuz-*-cloud-amd64")):
        skip_loudly("needs Debian's cloud kernel")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sbx-d-"))
    folder.chmod(0o755)
    made = World(bindir, folder)
    need_sandboxes(made.sbx)
    try:
        made.begin()
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def test_engine_is_the_sandboxes_own(world):
    told = world.docker("docker info --format '{{.Driver}} {{.CgroupVersion}} {{.DockerRootDir}}'")
    assert told.strip() == "overlay2 2 /var/lib/docker"


def test_containers_meet_the_exit(world):
    """Without a word about proxies, with one, and with the machine's own network: the same exit.  What
    no rule allows has no address, and the host's loopback is not there."""
    script = (f"curl -sS -m 60 {world.url}/bridge; env; cat /etc/ssl/certs/* 2>/dev/null;"
              "curl -sS -m 60 https://evil.example/ 2>&1;"
              f"curl -sS -m 60 -x http://192.0.2.2:3128 {world.url}/proxy;"
              f"curl -sS -m 60 -x http://192.0.2.2:3128 https://evil.example/ 2>&1; true")
    out = world.docker(f"docker run --rm base sh -c '{script}'")
    assert "/bridge good\n" in out and "/proxy good\n" in out
    assert "Could not resolve host: evil.example" in out
    assert "CONNECT tunnel failed, response 403" in out
    assert SECRET not in out and "PROXY" not in out.upper().replace("/PROXY GOOD", "")
    out = world.docker(f"docker run --rm --privileged --network host base sh -c 'curl -sS -m 60 "
                       f"{world.url}/host; curl -sS -m 60 -k https://{ADDRESS}:{world.port}/loop "
                       "2>&1; true'")
    assert "/host good\n" in out and "/loop" not in [path for path, _ in world.server.seen]
    log = [json.loads(line) for line in world.sbx.ok("policy", "log", "box", "--json").splitlines()]
    assert any(record.get("host") == "evil.example" for record in log), log[-5:]


def test_commands_in_a_container_trust_the_ca_too(world):
    out = world.docker("docker run -d --name sleeps base sleep 1000 >/dev/null; docker exec sleeps "
                       f"curl -sS -m 60 {world.url}/exec; docker rm -f sleeps >/dev/null")
    assert out == "/exec good\n"


def test_images_are_built_and_hold_nothing_of_the_sandboxes(world):
    (world.work / "Dockerfile").write_text(
        f"FROM base\nRUN curl -sS -m 60 {world.url}/build -o /answer\n"
        "ENV SSL_CERT_FILE=/mine\nCMD [\"sh\", \"-c\", \"cat /answer; echo $SSL_CERT_FILE\"]\n",
        encoding="utf-8")
    out = world.docker("docker build -q -t made . >/dev/null; docker run --rm made;"
                       "docker image inspect --format '{{.Config.Env}}' made;"
                       "docker create --name made made >/dev/null; docker export made | tar -t;"
                       "docker rm made >/dev/null")
    answer, path, env, *names = out.splitlines()
    assert (answer, path) == ("/build good", "/mine")
    assert "CA_BUNDLE" not in env
    assert "answer" in names and not [name for name in names if "cert" in name]


def test_what_was_made_is_there_after_a_stop(world):
    world.sbx.ok("stop", "box", timeout=PATIENCE_S)
    assert "base" in world.docker("docker image ls --format '{{.Repository}}'").split()
