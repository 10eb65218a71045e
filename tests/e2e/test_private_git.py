# SPDX-License-Identifier: Apache-2.0
"""Private repositories and Go modules, with real git, git-lfs, Go, npm and pip inside, a forge that
wants Basic on the host's loopback outside, and the kit of examples/private-git between them."""
import base64
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

import pytest

from conftest import ROOT, Sbx, need_program, need_root, need_sandboxes, skip_loudly
from git_server import BACKEND, FORGE, MIRROR, NAMES, STORE, TARBALLS, VANITY, GitServer
from test_founding_kits import disk_holds, inside_processes, memory_holds

KIT = ROOT / "examples/private-git"
TOKEN = "ghp_3f9Kq7RtYb2MvXw0LzNs8Hd5"
PUBLIC_GO = ("proxy.golang.org", "sum.golang.org")
VANITY_KIT = f"""schemaVersion: "1"
kind: mixin
name: vanity
network:
  allowedDomains: [{VANITY}]
  serviceDomains: {{{VANITY}: vanity}}
  serviceAuth: {{vanity: {{headerName: Authorization, valueFormat: Basic %s}}}}
credentials:
  sources: {{vanity: {{env: [VANITY_BASIC]}}}}
"""
ME = "git config --global user.name a; git config --global user.email a@test; "
IN_NEW = 'set -e; cd "$(mktemp -d)"; '


def go_module(path, needs, body):
    need = "".join(f"require {name} v1.0.0\n" for name in needs)
    return {"go.mod": f"module {path}\n\ngo 1.19\n\n{need}", "code.go": body}


class World:
    """The forge, and sandboxes that reach it; one of them with the kit and the token."""

    def __init__(self, bindir, folder):
        self.folder = folder
        self.forge = GitServer(folder, "x-access-token", TOKEN)
        self.sbx = Sbx(bindir / "sbx", folder / "h")
        self.sbx.env["SSL_CERT_FILE"] = str(self.forge.cert)
        self.fill()

    def fill(self):
        repository = self.forge.repository
        repository("acme/priv", {"README": "private\n"})
        repository("acme/sub", {"README": "a part\n"})
        repository("acme/many", {"README": "many\n"})
        repository("acme/slow", {"README": "slow\n"})
        repository("public/free", {"README": "free for all\n"})
        repository("public/moved", {"README": "it was here\n"})
        repository("acme/whole", {"README": "a whole\n"}, prepare=self.add_submodule)
        repository("acme/deep", go_module(f"{FORGE}/acme/deep", [],
                                          'package deep\n\nconst Word = "deep"\n'), "v1.0.0")
        repository("acme/lib", go_module(
            f"{FORGE}/acme/lib", [f"{FORGE}/acme/deep"],
            f'package lib\n\nimport "{FORGE}/acme/deep"\n\nconst Word = "lib+" + deep.Word\n'),
            "v1.0.0")
        repository("acme/van", go_module(f"{VANITY}/tool", [],
                                         'package tool\n\nconst Word = "tool"\n'), "v1.0.0")
        repository("acme/npmpkg", {"package.json": '{"name": "npmpkg", "version": "1.2.3"}',
                                   "index.js": 'module.exports = "from private npm"\n'})
        repository("acme/pypkg", {
            "setup.py": 'from setuptools import setup\n'
                        'setup(name="pypkg", version="1.2.3", py_modules=["pypkg"])\n',
            "pypkg.py": 'word = "from private pip"\n'})

    def add_submodule(self, work):
        """One whose address only ssh could use."""
        self.forge.git("submodule", "add", "-q", self.forge.root / "acme/sub.git", "part", cwd=work)
        self.forge.git("config", "-f", ".gitmodules", "submodule.part.url",
                       f"git@{FORGE}:acme/sub.git", cwd=work)

    def begin(self):
        kit = self.folder / "vanity"
        kit.mkdir()
        (kit / "spec.yaml").write_text(VANITY_KIT, encoding="utf-8")
        self.sbx.ok("policy", "init", "deny-all")
        self.sbx.ok("policy", "allow", "-g", STORE, MIRROR, TARBALLS)
        for name in NAMES:
            self.sbx.ok("policy", "host", "add", "-g", name, self.forge.address)
        # Where the kit looks: the environment of whoever starts the sandbox.
        self.create("box", "--kit", KIT, "--kit", kit,
                    env={"GITHUB_TOKEN_BASIC": self.forge.basic, "VANITY_BASIC": self.forge.basic})

    def create(self, name, *words, env=None):
        work = self.folder / f"w-{name}"
        work.mkdir()
        self.sbx.ok("create", "--name", name, *words, "shell", work, env=env)
        # What no credential is bound to shows the forge's own certificate.  Before, the sandbox gets
        # a CA of its own (as soon as it has a secret), which writes the bundle anew.
        self.sbx.ok("secret", "set-custom", name, "--host", "other.test", "--env", "OTHER",
                    "--value-stdin", input="unused")
        done = subprocess.run(
            [self.sbx.binary, "exec", "-i", "-u", "0", name, "sh", "-c",
             "cat >>/etc/ssl/certs/ca-certificates.crt"], env=self.sbx.env,
            input=self.forge.cert.read_bytes(), capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr

    def sh(self, script, name="box", code=0, words=(), timeout=120):
        self.forge.forget()
        return self.sbx("exec", *words, name, "--", "sh", "-c", IN_NEW + script, code=code,
                        timeout=timeout)

    def log(self, name="box"):
        return [json.loads(line)
                for line in self.sbx.ok("policy", "log", name, "--json").splitlines()]

    def logged(self, name="box", **wanted):
        """Waits for a record with these fields: an allowed request is logged when it has ended."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = [row for row in self.log(name) if wanted.items() <= row.items()]
            if found:
                return found[-1]
            time.sleep(0.05)
        raise AssertionError(f"no record with {wanted} in {self.log(name)[-5:]}")

    @staticmethod
    def wait_for(address):
        deadline = time.monotonic() + 20
        while True:
            try:
                return socket.create_connection((address, 443), 1).close()
            except OSError:
                assert time.monotonic() < deadline, "it does not listen"
                time.sleep(0.05)

    def end(self):
        self.sbx("rm", "--all", "--force")
        self.forge.end()


@pytest.fixture(scope="module")
def world(bindir):
    need_root()  # port 443
    if not os.access(BACKEND, os.X_OK):
        skip_loudly(f"needs {BACKEND} (package git)")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sbx-g-"))
    folder.chmod(0o755)
    made = World(bindir, folder)
    try:
        need_sandboxes(made.sbx)
        made.begin()
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


# ---- git ----

def test_clone_commit_push_and_fetch(world):
    world.sh(ME + f"git clone -q https://{FORGE}/acme/priv; cd priv; grep -q private README; "
             "echo more >more; git add more; git commit -qm more; git push -q")
    assert "more" in world.forge.git("log", "--format=%s", cwd=world.forge.root / "acme/priv.git")
    asked = world.forge.requests()
    assert all(request.authorization == f"Basic {world.forge.basic}" for request in asked)
    row = world.logged(host=FORGE, method="POST", target="/acme/priv/git-receive-pack")
    assert (row["credential"], row["service"], row["status"]) == ("injected", "github-private", 200)

    world.sh(f"git clone -q https://{FORGE}/acme/priv a; cd a; git reset -q --hard HEAD~1; "
             "git fetch -q; git merge -q --ff-only origin/main; grep -q more more")


def test_push_of_more_than_a_megabyte(world):
    """Git asks first with a small POST, then sends chunks without a length."""
    world.sh(ME + f"git clone -q https://{FORGE}/acme/priv; cd priv; "
             "head -c 3000000 /dev/urandom >big; git add big; git commit -qm big; git push -q")
    posts = [dict(request.headers) for request in world.forge.requests()
             if request.path.endswith("/git-receive-pack") and request.method == "POST"]
    assert len(posts) == 2 and "Content-Length" in posts[0]
    assert posts[1].get("Transfer-Encoding") == "chunked"
    listed = world.forge.git("ls-tree", "-l", "main", "big", cwd=world.forge.root / "acme/priv.git")
    assert "3000000" in listed


def test_shallow_partial_and_compressed_requests(world):
    work = world.forge.folder / "work/acme/many"
    for number in range(40):
        world.forge.git("commit", "-q", "--allow-empty", "-m", f"c{number}", cwd=work)
        world.forge.git("branch", f"b{number}", cwd=work)
    world.forge.git("push", "-q", "--all", world.forge.root / "acme/many.git", cwd=work)
    done = world.sh(
        f"git clone -q --depth 1 https://{FORGE}/acme/many.git s; git -C s rev-list --count HEAD; "
        f"git clone -q --filter=blob:none --no-checkout https://{FORGE}/acme/many p; "
        "git -C p rev-list --objects --missing=print HEAD | grep -c '^?'; "
        f"git -C p checkout -q main; cat p/README; git clone -q https://{FORGE}/acme/many all")
    assert done.stdout.split() == ["1", "1", "many"]
    assert any(name == "Content-Encoding" and value == "gzip"
               for request in world.forge.requests() for name, value in request.headers)


def test_ssh_addresses_and_submodules(world):
    world.sh(f"git clone -q --recurse-submodules ssh://git@{FORGE}/acme/whole.git; "
             "grep -q 'a part' whole/part/README; "
             f"git clone -q git@{FORGE}:acme/sub; grep -q part sub/README; "
             f"test \"$(git -C sub remote get-url origin)\" = https://{FORGE}/acme/sub")
    assert {request.path.split("/")[2] for request in world.forge.requests()} >= \
        {"whole.git", "sub.git", "sub"}


def test_large_files(world):
    need_program("git-lfs")
    world.sh(ME + f"git lfs install; git clone -q https://{FORGE}/acme/priv; cd priv; "
             "git lfs track '*.bin'; head -c 200000 /dev/urandom >x.bin; sha256sum x.bin >sum; "
             "git add .; git commit -qm large; git push -q; cd ..; "
             f"git clone -q https://{FORGE}/acme/priv again; cd again; git lfs pull; "
             "sha256sum -c sum; git lfs ls-files | grep -q x.bin")
    asked = world.forge.requests()
    stored = [request for request in asked if request.host == STORE]
    assert {request.method for request in stored} == {"PUT", "GET"}
    assert all(request.authorization is None for request in stored)
    batches = [request for request in asked if request.path.endswith("/objects/batch")]
    assert batches and all(request.authorization for request in batches)


def test_http2_on_both_sides(world):
    """nghttpx speaks it for the forge."""
    need_program("nghttpx")
    address = world.forge.address[:-1] + "8"
    front = subprocess.Popen(
        ["nghttpx", "--single-process", "--no-ocsp", "-LERROR", f"--frontend={address},443",
         f"--backend={world.forge.address},443;;tls;proto=http/1.1", "--insecure",
         world.forge.key, world.forge.cert], stdin=subprocess.DEVNULL)
    try:
        world.wait_for(address)
        world.sbx.ok("policy", "host", "add", "box", FORGE, address)
        done = world.sh(ME + f"export GIT_CURL_VERBOSE=1; git clone https://{FORGE}/acme/priv; "
                        "cd priv; head -c 3000000 /dev/urandom >big2; git add .; "
                        "git commit -qm h2; git push; git fetch", timeout=180)
        assert "HTTP/2 200" in done.stderr
        assert any(name.lower() == "via" and value.startswith("2 ")
                   for request in world.forge.requests() for name, value in request.headers)
    finally:
        world.sbx("policy", "host", "rm", "box", FORGE)
        front.terminate()
        front.wait()


# ---- Go, npm, pip ----

def test_go_builds_with_private_modules(world):
    need_program("go")
    need = [f"{FORGE}/acme/lib", f"{VANITY}/tool"]
    main = ('package main\n\nimport (\n\t"fmt"\n' + "".join(f'\t"{name}"\n' for name in need) +
            ')\n\nfunc main() { fmt.Println(lib.Word, tool.Word) }\n')
    files = go_module("example.test/app", need, main)
    app = world.folder / "w-box/app"
    app.mkdir()
    app.chmod(0o777)
    for name, text in files.items():
        (app / name).write_text(text, encoding="utf-8")
        (app / name).chmod(0o666)
    done = world.sh(f"cd {app}; go mod tidy; go mod download -x; go build -o app .; ./app",
                    timeout=300)
    assert done.stdout.splitlines()[-1] == "lib+deep tool"
    assert f"{FORGE}/acme/deep v1.0.0" in (app / "go.sum").read_text(encoding="utf-8")
    asked = world.forge.requests()
    assert any(request.host == VANITY and "go-get=1" in request.path for request in asked)
    assert all(request.authorization for request in asked)
    hosts = {row["host"] for row in world.log()}
    assert not hosts & set(PUBLIC_GO), "no private name was told to a public service"

    # What the variable is for: without it the names do leak.
    leaky = world.sh(f"cd {app}; GOPRIVATE= GOFLAGS=-mod=mod GOMODCACHE=$(mktemp -d) "
                     "go mod download", code=1, timeout=120)
    assert "proxy.golang.org" in leaky.stderr
    assert world.logged(host="proxy.golang.org", decision="deny")


@pytest.mark.parametrize("address", [f"git+https://{FORGE}/acme/npmpkg.git",
                                     f"git+ssh://git@{FORGE}/acme/npmpkg.git",
                                     "github:acme/npmpkg"])
def test_npm_installs_from_a_private_repository(world, address):
    need_program("npm")
    done = world.sh(f"npm init -y >/dev/null; npm i --no-audit --no-fund {address} >&2; "
                    "node -p 'require(\"npmpkg\")'", timeout=180)
    assert done.stdout.splitlines()[-1] == "from private npm"
    assert any(request.path.startswith("/acme/npmpkg") for request in world.forge.requests())


def test_pip_installs_from_a_private_repository(world):
    missing = subprocess.run(["/usr/bin/python3", "-c", "import setuptools, wheel, pip"],
                             check=False, capture_output=True).returncode
    if missing:
        skip_loudly("needs Debian's python3-pip, python3-setuptools and python3-wheel")
    done = world.sh("/usr/bin/python3 -m pip install -q --no-build-isolation --no-index "
                    f"--target t git+https://{FORGE}/acme/pypkg.git; "
                    "PYTHONPATH=t /usr/bin/python3 -c 'import pypkg; print(pypkg.word)'",
                    timeout=180)
    assert done.stdout.splitlines()[-1] == "from private pip"


# ---- rules ----

def test_read_only(world):
    """A push is refused where it begins, and where it ends; fetching goes on."""
    sbx, rule = world.sbx, ("--method", "POST", "--path", "/**/git-receive-pack")
    sbx.ok("policy", "deny", "box", FORGE, *rule)
    try:
        refused = world.sh(ME + f"git clone -q https://{FORGE}/acme/priv; cd priv; "
                           "git commit -q --allow-empty -m no; git fetch -q; git push", code=128)
        assert not any("receive-pack" in request.path for request in world.forge.requests())
        assert f"remote: sbx: {FORGE}:443 is blocked for this sandbox" in refused.stderr
        assert f"deny {FORGE} method POST path /**/git-receive-pack" in refused.stderr
        row = world.logged(decision="deny", method="GET", target="/acme/priv/info/refs")
        assert row["rule"] == f"deny {FORGE} method POST path /**/git-receive-pack"
        posted = world.sh(
            "curl -s -o /dev/null -w '%{http_code}' -d 0000 "
            f"https://{FORGE}/acme/priv.git/git-receive-pack")
        assert posted.stdout == "403" and world.forge.requests() == []
        url = f"https://{FORGE}/acme/priv/info/refs?service=git-receive-pack"
        assert sbx("policy", "check", "--sandbox", "box", url).returncode == 1
        assert sbx("policy", "check", "--sandbox", "box", url.replace("receive", "upload")
                   ).returncode == 0
    finally:
        sbx.ok("policy", "rm", "box", "--resource", FORGE)
    world.sh(ME + f"git clone -q https://{FORGE}/acme/priv; cd priv; "
             "git commit -q --allow-empty -m yes; git push -q")


# ---- without the secret, or with a wrong one ----

@pytest.fixture(scope="module")
def unbound(world):
    """A sandbox with the kit, whose token nobody gave."""
    world.create("bare", "--kit", KIT)
    return "bare"


def test_unbound(world, unbound):
    done = world.sh(f"git clone -q https://{FORGE}/public/free; cat free/README; "
                    f"! git clone -q https://{FORGE}/acme/priv", name=unbound)
    assert done.stdout == "free for all\n"
    assert f"Authentication failed for 'https://{FORGE}/acme/priv/'" in done.stderr
    asked = world.forge.requests()
    assert all(request.authorization is None for request in asked if "/public/" in request.path)
    assert not any(world.forge.basic in str(request.headers) for request in asked)
    row = world.logged(unbound, host=FORGE, credential="unbound")
    assert (row["service"], row["decision"]) == ("github-private", "allow")
    assert (f"{unbound} asked {FORGE} without a secret, since none is kept for the service "
            f"'github-private': sbx secret set {unbound} github-private\n"
            ) in world.sbx.ok("policy", "log", unbound)
    assert "without a secret" not in world.sbx.ok("policy", "log", "box")


def test_unbound_where_requests_are_seen(world, unbound):
    """A rule about requests opens TLS; then the log has the forge's own answer."""
    rule = ("--method", "POST", "--path", "/**/git-receive-pack")
    world.sbx.ok("policy", "deny", unbound, FORGE, *rule)
    try:
        world.sh(f"git clone -q https://{FORGE}/public/free; "
                 f"! git clone -q https://{FORGE}/acme/priv", name=unbound)
        row = world.logged(unbound, target="/acme/priv/info/refs", status=401)
        assert (row["credential"], row["service"]) == ("unbound", "github-private")
    finally:
        world.sbx.ok("policy", "rm", unbound, "--resource", FORGE)


def secret(world, name, value):
    world.sbx.ok("secret", "set", "--force", name, "github-private", input=value)


def test_wrong_then_right_secret(world, unbound):
    """Each change reaches the running sandbox; the log has the origin's word."""
    clone = f"git clone -q https://{FORGE}/acme/priv"
    secret(world, unbound, "d3Jvbmc6d3Jvbmc=")
    try:
        failed = world.sh(clone, name=unbound, code=128)
        assert f"Authentication failed for 'https://{FORGE}/acme/priv/'" in failed.stderr
        assert "remote: Bad credentials" in failed.stderr
        row = world.logged(unbound, host=FORGE, target="/acme/priv/info/refs", status=401)
        assert (row["credential"], row["service"]) == ("injected", "github-private")
        secret(world, unbound, world.forge.basic)
        world.sh(clone, name=unbound)
    finally:
        world.sbx.ok("secret", "rm", unbound, "github-private")
    world.sh(clone, name=unbound, code=128)
    assert not any(request.authorization == f"Basic {world.forge.basic}"
                   for request in world.forge.requests())


def test_redirect_carries_nothing_on(world):
    world.sh(f"git clone -q https://{FORGE}/acme/moved; grep -q 'was here' moved/README")
    asked = world.forge.requests()
    away = [request for request in asked if request.host == MIRROR]
    assert away and all(request.authorization is None for request in away)
    assert not any(world.forge.basic in str(request.headers) for request in away)
    assert asked[0].host == FORGE and asked[0].authorization


# ---- what is inside ----

def test_variables(world):
    def inside(script, *words, name="box"):
        return world.sh(script, name=name, words=words).stdout.split()
    show = "printenv GOPRIVATE GONOSUMCHECK GIT_CONFIG_COUNT GIT_TERMINAL_PROMPT GIT_ASKPASS"
    usual = [f"{FORGE}/acme/*,{VANITY}", f"{FORGE}/acme/*", "6", "0", "true"]
    url, https = f"git ls-remote --get-url git@{FORGE}:acme/x", f"https://{FORGE}/acme/x"
    for prefix, words in (("", ()), ("", ("-u", "0")), ("sudo ", ())):
        assert inside(prefix + show, *words) == usual
        assert inside(prefix + url, *words) == [https]
    assert inside(f"sudo -i {url}") == [https]
    assert inside("sudo -i printenv GOPRIVATE") == usual[:1]
    assert inside("printenv GOPRIVATE", "-e", f"GOPRIVATE={FORGE},a.example") == \
        [f"{FORGE},a.example,{VANITY}"]
    assert inside("printenv GIT_TERMINAL_PROMPT", "-e", "GIT_TERMINAL_PROMPT=1") == ["1"]
    own = ("-e", "GIT_CONFIG_COUNT=1", "-e", "GIT_CONFIG_KEY_0=user.name", "-e",
           "GIT_CONFIG_VALUE_0=me")
    assert inside(f"git config user.name; {url}", *own) == ["me", https]
    bogus = world.sh("git config user.name", code=128, words=("-e", "GIT_CONFIG_COUNT=x"))
    assert "bogus count in GIT_CONFIG_COUNT" in bogus.stderr


def test_trust_survives_a_new_bundle(world):
    """Packages make the bundle anew when they are installed."""
    need_program("update-ca-certificates")
    world.sh(f"git ls-remote -q https://{FORGE}/acme/priv; sudo cp "
             "/etc/ssl/certs/ca-certificates.crt old; sudo update-ca-certificates --fresh; "
             f"git ls-remote -q https://{FORGE}/acme/priv; "
             "sudo cp old /etc/ssl/certs/ca-certificates.crt")


def test_helpers_of_the_project_are_not_asked(world, unbound):
    """They could only bring a credential that the proxy replaces, or hang."""
    world.sh(f"""git init -q; git config credential.helper '!touch "$PWD/asked"; false'
        ! git fetch -q https://{FORGE}/acme/priv 2>said
        grep -q 'Authentication failed' said; test ! -e asked
        printf 'protocol=https\\nhost=other.test\\n' | git credential fill; test -e asked""",
             name=unbound)


def test_no_byte_of_the_token_is_inside(world):
    forge, sbx = world.forge, world.sbx
    needles = [TOKEN.encode(), forge.basic.encode()]
    git = subprocess.Popen(
        [sbx.binary, "exec", "box", "--", "sh", "-c",
         IN_NEW + f"exec env CANARY=is-found git clone -q https://{FORGE}/acme/slow"],
        env=sbx.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert forge.waiting.wait(30), git.communicate(timeout=30)
        # Git has sent its request, and waits with everything that it knows in memory.
        pids = inside_processes("box")
        names = {pathlib.Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids}
        assert "git-remote-http" in names, names
        assert any(memory_holds(pid, b"CANARY=is-found") for pid in pids), "the search works"
        for needle in needles:
            assert not [pid for pid in pids if memory_holds(pid, needle)]
    finally:
        forge.gate.set()
        assert git.wait(60) == 0, git.stderr.read()
    state = sbx.home / "state"
    assert disk_holds(state / "sandboxes/box/root", b"a part"), "the search works"
    for needle in needles:
        assert disk_holds(state, needle) == []
        assert disk_holds(world.folder / "w-box", needle) == []
    told = world.sh("cat /proc/[0-9]*/environ | tr '\\0' '\\n'; env; git config --list",
                    words=("-u", "0")).stdout
    assert "GOPRIVATE" in told and "insteadof" in told
    assert TOKEN not in told and forge.basic not in told


# ---- docs/private-git.md ----

DOC = (ROOT / "docs/private-git.md").read_text(encoding="utf-8")


@pytest.fixture
def kept(world):
    """Whatever a test keeps for all sandboxes goes with it."""
    yield
    world.sbx.ok("secret", "rm", "-g", "--force")


def sent(world):
    """{host: "user:password"} of what was asked."""
    return {request.host: base64.b64decode(request.authorization.split()[1]).decode()
            for request in world.forge.requests()}


def test_document(world, kept):
    """Its commands in order, with the output that stands there."""
    shell = world.folder / "doc"
    shutil.copytree(KIT, shell / "private-git")
    (shell / "project").mkdir()
    env = {**world.sbx.env, "TOKEN": TOKEN,
           "PATH": f"{pathlib.Path(world.sbx.binary).parent}:{os.environ['PATH']}"}
    world.sbx.ok("policy", "allow", "-g", FORGE)  # as balanced does
    world.sbx.ok("policy", "host", "add", "-g", "git.acme.example", world.forge.address)
    commands = re.findall(r"^    \$ (.*)\n((?:    (?!\$ ).*\n)*)", DOC, re.M)
    assert len(commands) == 10
    for command, output in commands:
        done = subprocess.run(["sh", "-c", command], cwd=shell, env=env, capture_output=True,
                              text=True, check=False, stdin=subprocess.DEVNULL, timeout=120)
        assert done.returncode == 0, (command, done.stderr)
        if command.startswith("sbx policy log"):
            record = json.loads(done.stdout)
            assert (record["host"], record["credential"]) == (FORGE, "injected")
        elif output:
            assert done.stdout == re.sub("^    ", "", output, flags=re.M), command
    assert (shell / "project/priv/README").read_text(encoding="utf-8") == "private\n"
    world.sh("git ls-remote -q git@git.acme.example:acme/priv || :", name="demo")
    assert sent(world) == {"git.acme.example": f"oauth2:{TOKEN}"}


def test_forges(world, kept):
    """Each service of the table has the host and the user of the table."""
    forges = re.findall(r"^\| [^|]+ \| `([a-z-]+)` \| `([a-z.]+)` \| ([^|]+) \|", DOC, re.M)
    assert len(forges) == 5
    for service, host, _ in forges:
        world.sbx.ok("policy", "host", "add", "-g", host, world.forge.address)
        world.sbx.ok("policy", "allow", "-g", host)
        world.sbx.ok("secret", "set", "-g", service, input=TOKEN)
    world.create("all")
    world.sh("".join(f"git ls-remote -q git@{host}:acme/priv || :; " for _, host, _ in forges),
             name="all")
    assert sent(world) == {host: f"{'' if user == '(none)' else user.strip('`')}:{TOKEN}"
                           for _, host, user in forges}
