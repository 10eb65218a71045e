# SPDX-License-Identifier: Apache-2.0
"""Credentials on the wire: real sandboxes, real clients, a forge over TLS outside."""
import base64
import fcntl
import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile
import termios
import time
import urllib.parse

import pytest

import forge as forges
from conftest import EXIT, ROOT, Sbx, need_program, need_root, need_sandboxes, records, skip_loudly
from test_founding_kits import disk_holds, inside_processes, memory_holds

SECRET = "glpat-Fq/7+XkZ&very\"secret~0123"


class World:
    """One sandbox for the whole file, and two origins that it may reach."""

    def __init__(self, bindir, folder):
        self.folder = folder
        self.sbx = Sbx(bindir / "sbx", folder / "h")
        self.work = folder / "w"
        self.work.mkdir()
        self.work.chmod(0o777)
        certificate = forges.authority(folder)
        self.forge = forges.start(folder, SECRET, certificate)
        self.other = forges.start(folder, SECRET, certificate)
        self.sbx.env["SSL_CERT_FILE"] = str(certificate[0])

    def begin(self):
        self.sbx.ok("policy", "init", "deny-all")
        self.sbx.ok("policy", "allow", "-g", f"localhost:{self.forge.port}",
                    f"localhost:{self.other.port}")
        self.sbx.ok("create", "--name", "box", "shell", self.work)

    def end(self):
        self.sbx("rm", "--all", "--force")
        for server in (self.forge, self.other):
            server.shutdown()
            server.server_close()

    def url(self, path, server=None):
        return f"https://host.docker.internal:{(server or self.forge).port}{path}"

    def sh(self, script, code=0):
        done = self.sbx("exec", "box", "--", "bash", "-c", script)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def curl(self, path, *words, server=None):
        # What gets no credential is not looked into: the client meets the origin's certificate.
        verify = ["-k"] if server else []
        done = self.sbx("exec", "box", "--", "curl", "-sS", "--max-time", "20", *verify, *words,
                        self.url(path, server))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def asked(self, server=None):
        """The last request as the origin saw it: its fields by lower-case name, as lists."""
        fields = {}
        for name, value in (server or self.forge).requests[-1]["headers"]:
            fields.setdefault(name.lower(), []).append(value)
        return fields

    def custom(self, *words, env="FORGE_TOKEN", value=SECRET, scope="-g"):
        return self.sbx.ok("secret", "set-custom", scope, "--env", env, "--host",
                           f"localhost:{self.forge.port}", *words, "--value-stdin",
                           input=value).strip()

    def add(self, *words, env="FORGE_TOKEN"):
        self.sbx.ok("secret", "set-custom", "-g", "--env", env, "--host",
                    f"localhost:{self.forge.port}", *words, "--add")

    def log(self):
        return [json.loads(x) for x in self.sbx.ok("policy", "log", "box", "--json").splitlines()]

    def logged(self, **wanted):
        """Waits for a record with these fields: an allowed request is logged when it has ended."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = [r for r in self.log() if wanted.items() <= r.items()]
            if found:
                return found[-1]
            time.sleep(0.05)
        raise AssertionError(f"no record with {wanted} in {self.log()[-5:]}")


@pytest.fixture(scope="module")
def shared(bindir):
    need_program("openssl")
    need_program("curl")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sbx-c-"))
    folder.chmod(0o755)
    made = World(bindir, folder)
    need_sandboxes(made.sbx)
    try:
        made.begin()
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(shared):
    """The shared one without secrets, and with nothing asked yet."""
    shared.sbx("secret", "rm", "-g", "--force")
    shared.sbx("secret", "rm", "box", "--force")
    shared.forge.requests.clear()
    shared.other.requests.clear()
    return shared


def basic(user, secret=SECRET):
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


def forms(secret):
    """Every form in which a careless program could have kept the secret."""
    raw = secret.encode()
    yield raw
    for before in range(3):
        for after in range(3):
            text = base64.b64encode(b"x" * before + raw + b"x" * after)
            yield text[4 if before else 0:-4 if after else None][:40]
    for user in ("oauth2", "x-access-token"):
        yield base64.b64encode(f"{user}:".encode() + raw)
    yield urllib.parse.quote(secret, safe="").encode()
    yield json.dumps(secret)[1:-1].encode()


def helpers_of(world):
    """The /proc directories of our programs that run for this world."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            environ = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if f"SBX_HOME={world.sbx.home}\0".encode() in environ:
            found.append(entry)
    return found


# ---- Ordered rules ----

def test_one_secret_as_basic_for_git_and_as_a_field_for_the_api(world):
    """Clone, push and API calls with real git; nothing inside knows the secret in any form."""
    need_root()  # to read the memory of the sandbox's processes
    need_program("git")
    if not forges.BACKEND.exists():
        skip_loudly("needs git-http-backend")
    forges.make_repository(world.folder, "g.git")
    placeholder = world.custom("--preset", "gitlab")
    git = "git -c user.name=a -c user.email=a@example.com"
    world.sh(f"cd && rm -rf g && {git} clone -q {world.url('/g.git')} g && cd g && cat README && "
             f"head -c 3000000 /dev/urandom >big && git add big && {git} commit -qm second && "
             f"{git} push -q origin main && git fetch -q && git config --list && cat .git/config")
    pushed = subprocess.run(["git", "-C", world.folder / "repositories/g.git", "log", "--format=%s",
                             "main"], capture_output=True, text=True, check=True).stdout
    assert pushed == "second\nfirst\n"
    answer = json.loads(world.curl("/api/v4/user"))
    assert answer == {"path": "/api/v4/user", "method": "GET", "body": ""}
    assert "authorization" not in world.asked()
    record = world.logged(target="/api/v4/user")
    assert (record["credential"], record["service"]) == ("injected", "custom:FORGE_TOKEN")
    # A tool that insists on a token sends the placeholder, in whatever field.
    assert world.curl("/api/v4/user", "-H", f"Authorization: Bearer {placeholder}")
    assert "authorization" not in world.asked()

    shell = subprocess.Popen([world.sbx.binary, "exec", "-i", "box", "bash", "-c",
                              f"cd ~/g; git fetch -v >/dev/null 2>&1; exec 3< <(curl -s "
                              f"{world.url('/api/v4/user')}); cat; :"],
                             env=world.sbx.env, stdin=subprocess.PIPE, text=True)
    try:
        world.sh("true")
        found = set()
        pids = inside_processes("box")
        for pid in pids:
            found |= {form for form in forms(SECRET) if memory_holds(pid, form)}
        assert len(pids) >= 2 and not found
        assert any(memory_holds(pid, f"FORGE_TOKEN={placeholder}".encode()) or
                   memory_holds(pid, b"host.docker.internal") for pid in pids), "the search works"
    finally:
        shell.stdin.close()
        shell.wait(20)
    state = world.sbx.home / "state"
    assert disk_holds(state / "sandboxes/box", b"host.docker.internal"), "the search works"
    for form in forms(SECRET):
        for place in (state, world.work):
            assert disk_holds(place, form) == []
    environments = world.sh("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' "
                            "'\\n'; env")
    assert not any(form.decode() in environments for form in forms(SECRET))


def test_the_helpers_keep_it_out_of_arguments_environment_and_cores(world):
    need_root()
    world.custom("--scheme", "bearer")
    world.curl("/")
    assert world.asked()["authorization"] == [f"Bearer {SECRET}"]
    helpers = helpers_of(world)
    for entry in helpers:
        text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        assert not any(form in text for form in forms(SECRET)), entry
        if (entry / "comm").read_text().startswith("sbx-proxy"):
            limits = (entry / "limits").read_text().splitlines()
            core = next(x for x in limits if x.startswith("Max core file size"))
            assert core.split()[4:6] == ["0", "0"], core
    assert len(helpers) >= 2
    if any("libasan" in (h / "maps").read_text() for h in helpers):
        skip_loudly("the shadow memory of the address sanitizer is too large to be searched")
    proxies = [h for h in helpers if (h / "comm").read_text().startswith("sbx-proxy")]
    assert any(memory_holds(int(p.name), SECRET.encode()) for p in proxies), "the search works"
    world.sbx.ok("secret", "rm", "-g", "--force")
    world.curl("/", server=world.forge)
    assert "authorization" not in world.asked()
    for entry in helpers:
        for form in forms(SECRET):
            assert not memory_holds(int(entry.name), form), (entry / "comm").read_text()


def test_a_fault_leaves_no_core_file(sbx, tmp_path):
    """`sbx secret set` dies with the secret in its memory."""
    def with_cores():
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def die(words):
        process = subprocess.Popen(words, stdin=subprocess.PIPE, cwd=tmp_path, env=sbx.env,
                                   preexec_fn=with_cores)
        process.stdin.write(SECRET.encode())
        process.stdin.flush()
        unread, deadline = b"?", time.monotonic() + 20
        while unread != bytes(4) and time.monotonic() < deadline:
            unread = fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))
        process.send_signal(signal.SIGABRT)
        process.wait(20)
        process.stdin.close()
        return list(tmp_path.iterdir())

    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY and os.geteuid():
        skip_loudly("core files are forbidden here")
    assert die([sbx.binary, "secret", "set", "-g", "demo"]) == []
    if not die(["cat"]):
        skip_loudly("core files go elsewhere here: the check above proves nothing")


def test_rules_are_taken_in_order_by_path_and_method(world):
    world.custom("--path", "/api/**", "--method", "GET", "--method", "HEAD", "--header",
                 "PRIVATE-TOKEN")
    world.add("--path", "/api/**", "--header", "X-Write", "--format", "w %s")
    world.add("--scheme", "basic", "--username", "oauth2")
    for words, path, name, value in (
            ((), "/api/x", "private-token", SECRET), (("-X", "POST"), "/api/x", "x-write",
                                                      f"w {SECRET}"),
            ((), "/", "authorization", basic("oauth2")),
            (("--path-as-is",), "/a/../api/x", "authorization", basic("oauth2"))):
        world.curl(path, *words)
        asked = world.asked()
        assert asked[name] == [value]
        assert not {"private-token", "x-write", "authorization"} - {name} & set(asked)
    entry, = world.sbx.json("secret", "ls")
    assert len(entry["rules"]) == 3 and SECRET not in json.dumps(entry)
    assert f"FORGE_TOKEN for localhost:{world.forge.port}" in world.sbx.ok("secret", "ls")


def test_modes(world):
    world.custom("--scheme", "bearer", "--mode", "if-absent")
    world.curl("/", "-H", "Authorization: Bearer mine")
    assert world.asked()["authorization"] == ["Bearer mine"]
    world.curl("/")
    assert world.asked()["authorization"] == [f"Bearer {SECRET}"]
    placeholder = world.custom("--mode", "placeholder", "--placeholder", "ph-{rand}")
    world.curl("/", "-u", f"me:{placeholder}")
    assert world.asked()["authorization"] == [basic("me")]
    world.curl("/", "-H", f"X-Any: <{placeholder}>", "-H", "X-Api-Key: mine")
    assert world.asked()["x-any"] == [f"<{SECRET}>"] and "x-api-key" not in world.asked()
    # Not in URLs and bodies unless that was asked for.
    world.curl(f"/{placeholder}?a={placeholder}", "-d", placeholder)
    last = world.forge.requests[-1]
    assert last["path"] == f"/{placeholder}?a={placeholder}"
    assert last["body"] == placeholder.encode()
    assert world.custom("--mode", "placeholder", "--in-url") == placeholder
    world.curl(f"/bot{placeholder}/m?a={placeholder}&key=mine")
    quoted = urllib.parse.quote(SECRET, safe="")
    assert world.forge.requests[-1]["path"] == f"/bot{quoted}/m?a={quoted}"
    # Another host sees the placeholder, never what it stands for.
    world.curl("/", "-H", f"X-Any: {placeholder}", server=world.other)
    assert world.asked(world.other)["x-any"] == [placeholder]


KIT = """schemaVersion: "1"
kind: mixin
name: forge
network: {{allowedDomains: ["localhost:{port}"]}}
credentials:
  - service: my-forge
    apiKey:
      name: FORGE_KEY
      inject:
        - {{domain: "localhost:{port}", header: PRIVATE-TOKEN, format: "%s"}}
        - {{domain: "localhost:{port}", scheme: basic, username: oauth2}}
        - {{domain: "localhost:{port}", header: X-Account, format: "a %s"}}
"""


def test_every_entry_of_a_kits_list_counts(world, workspace, tmp_path):
    kit = tmp_path / "forge"
    kit.mkdir()
    (kit / "spec.yaml").write_text(KIT.format(port=world.forge.port), encoding="utf-8")
    world.sbx.ok("kit", "validate", kit)
    world.sbx.ok("secret", "set", "-g", "my-forge", input=SECRET)
    world.sbx.ok("create", "--name", "kitted", "--kit", kit, "shell", workspace)
    try:
        for path in ("/api/v4/user", "/g.git/info/refs?service=git-upload-pack"):
            world.sbx.ok("exec", "kitted", "--", "curl", "-sS", world.url(path))
        api, git = (dict((n.lower(), v) for n, v in r["headers"]) for r in world.forge.requests)
        assert (api["private-token"], api["x-account"]) == (SECRET, f"a {SECRET}")
        assert "authorization" not in api
        assert git["authorization"] == basic("oauth2")
        assert "private-token" not in git and "x-account" not in git
    finally:
        world.sbx.ok("rm", "--force", "kitted")


# ---- Nothing beside it, nothing elsewhere ----

def test_other_carriers_of_credentials_are_removed(world):
    """CVE-2026-105452."""
    world.custom("--scheme", "bearer", "--strip-cookies")
    carriers = ["Authorization: Bearer mine", "authorization: Basic bWluZTptaW5l", "x-api-key: mine",
                "X_API_KEY: mine", "api-key: mine", "X-Goog-Api-Key: mine", "x-auth-token: mine",
                "Private-Token: mine", "JOB-TOKEN: mine", "Deploy-Token: mine",
                "Proxy-Authorization: Basic bWluZTptaW5l", "Cookie: session=mine"]
    words = [w for field in carriers for w in ("-H", field)]
    for version in ("--http1.1", "--http2"):
        world.curl("/x?key=mine&a=1&ACCESS_TOKEN=mine&private%5ftoken=mine&token=mine&b=2"
                   "&access.token=mine&+api%20key=mine&job%5btoken=mine", version, "-g", *words)
        last = world.forge.requests[-1]
        assert last["path"] == "/x?a=1&b=2"
        assert "mine" not in json.dumps(last["headers"])
        assert world.asked()["authorization"] == [f"Bearer {SECRET}"]
    done = world.sbx("exec", "box", "--", "curl", "-sS", "-o", "/dev/null",
                     world.url("/").replace("//", "//me:mine@"))
    assert done.returncode == 0 and world.asked()["authorization"] == [f"Bearer {SECRET}"]


# ---- What programs inside trust ----

def test_the_authority_in_a_variable(world):
    world.custom("--scheme", "bearer")
    world.curl("/x")
    assert world.sh("echo $PROXY_CA_CERT_B64 | base64 -d") == world.sh("cat /opt/sbx/ca.pem")


def test_every_variable_that_leads_to_the_proxy_or_names_whom_to_trust(world):
    """No more and no fewer bundles than docs/credentials.md says; sudo takes none away."""
    world.custom("--scheme", "bearer")
    world.curl("/x")
    text = (ROOT / "docs/credentials.md").read_text(encoding="utf-8")
    named = text.split("ca-certificates.crt`, which ")[1].split("\nname, and ")[0]
    bundle, proxy = "/etc/ssl/certs/ca-certificates.crt", f"http://{EXIT}:3128"
    wanted = {**dict.fromkeys(re.findall(r"`([A-Z_]+)`", named), bundle), "NODE_USE_ENV_PROXY": "1"}
    for name, value in (("HTTP_PROXY", proxy), ("HTTPS_PROXY", proxy),
                        ("NO_PROXY", "localhost,127.0.0.1,::1")):
        wanted |= {name: value, name.lower(): value}
    alone = world.sh("cat /opt/sbx/ca.pem")
    assert alone in world.sh(f"cat {bundle}")
    word = {"PROXY_CA_CERT_B64": base64.b64encode(alone.encode()).decode()}
    about = re.compile("PROXY|CERT|CA_BUNDLE|CAINFO|^SSL_|^JAVA_", re.IGNORECASE)
    for command, more in (("env", word), ("sudo env", word), ("sudo -i env", {})):
        variables = [line.split("=", 1) for line in world.sh(command).splitlines()]
        found = {name: value for name, value in variables if about.search(name)}
        assert found == {**wanted, **more}, command


FETCH = """class Fetch {
    public static void main(String[] words) throws Exception {
        System.out.println(((java.net.HttpURLConnection)
            new java.net.URL(words[0]).openConnection()).getResponseCode());
    }
}
"""


def test_java_trusts_it_when_its_store_does(world):
    """The command of docs/credentials.md; what Java sends is captured, since it asks no variable."""
    for program in ("javac", "keytool"):
        need_program(program)
    world.custom("--scheme", "bearer")
    world.curl("/x")
    (world.work / "Fetch.java").write_text(FETCH, encoding="utf-8")
    fetch = f"java Fetch.java {world.url('/from-java')} 2>&1"
    assert "PKIX path building failed" in world.sh(fetch, code=1)
    text = (ROOT / "docs/credentials.md").read_text(encoding="utf-8")
    command, = [line for line in text.splitlines() if "keytool -importcert" in line]
    world.sh(command)
    assert world.sh(fetch) == "200\n"
    assert world.forge.requests[-1]["path"] == "/from-java"
    assert world.asked()["authorization"] == [f"Bearer {SECRET}"]


def test_a_redirect_carries_nothing_on(world):
    world.custom("--scheme", "bearer")
    to = urllib.parse.quote(world.url("/there", world.other), safe="")
    world.curl(f"/redirect?to={to}", "-k", "-L", "--location-trusted", "-H", "X-Mine: 1")
    assert world.asked()["authorization"] == [f"Bearer {SECRET}"]
    there = world.asked(world.other)
    assert there["x-mine"] == ["1"] and "authorization" not in there
    assert SECRET not in json.dumps(world.other.requests[-1]["headers"])
    assert world.sbx.ok("exec", "box", "--", "curl", "-sS", "-w", "%{http_code}",
                        world.url(f"/redirect?to={to}")) == "302", "the proxy follows none"


def test_unbound_leaves_the_request_alone(world, workspace, tmp_path):
    kit = tmp_path / "forge"
    kit.mkdir()
    (kit / "spec.yaml").write_text(KIT.format(port=world.other.port), encoding="utf-8")
    world.sbx.ok("create", "--name", "kitted", "--kit", kit, "shell", workspace)
    try:
        plain = forges.start(world.folder, SECRET)
        world.sbx.ok("policy", "allow", "kitted", f"localhost:{plain.port}")
        world.sbx.ok("rm", "--force", "kitted")
        (kit / "spec.yaml").write_text(KIT.format(port=plain.port), encoding="utf-8")
        world.sbx.ok("create", "--name", "kitted", "--kit", kit, "shell", workspace)
        world.sbx.ok("exec", "kitted", "--", "curl", "-sS", "-H", "Authorization: mine", "-H",
                     "X-Api-Key: mine", f"http://host.docker.internal:{plain.port}/p?key=mine")
        asked = dict(plain.requests[-1]["headers"])
        assert (asked["Authorization"], asked["X-Api-Key"]) == ("mine", "mine")
        assert plain.requests[-1]["path"] == "/p?key=mine"
        assert records(world.sbx, "kitted", credential="unbound", service="my-forge", until=any)
        plain.shutdown()
        plain.server_close()
    finally:
        world.sbx.ok("rm", "--force", "kitted")


# ---- Changes reach what runs ----

CLIENT = """
import http.client, ssl, sys
import urllib.request
proxy = urllib.request.getproxies().get("https")
c = http.client.HTTPSConnection("host.docker.internal", {port}, timeout=30,
                                context=ssl.create_default_context())
c.connect()
mine = c.sock.getsockname()
for line in sys.stdin:
    c.request("GET", "/")
    r = c.getresponse()
    r.read()
    print(r.status, c.sock is not None and c.sock.getsockname() == mine, flush=True)
"""


class Inside:
    """A program inside that answers one line for each line."""

    def __init__(self, world, script):
        self.process = subprocess.Popen(
            [world.sbx.binary, "exec", "-i", "box", "--", "env", "-u", "https_proxy", "-u",
             "HTTPS_PROXY", "python3", "-uc", script], env=world.sbx.env, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ask(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self):
        self.process.stdin.close()
        self.process.wait(20)


def test_new_changed_and_revoked_on_one_connection(world):
    world.custom("--scheme", "bearer")
    client = Inside(world, CLIENT.format(port=world.forge.port))
    try:
        assert client.ask() == "200 True"
        assert world.asked()["authorization"] == [f"Bearer {SECRET}"]
        world.custom(value="another-value")
        assert client.ask() == "200 True", "the connection stays, the value is new"
        assert world.asked()["authorization"] == ["Bearer another-value"]
        world.custom("--header", "X-Own", value="third-value")
        assert client.ask() == "200 True"
        assert world.asked()["x-own"] == ["third-value"] and "authorization" not in world.asked()
        world.sbx.ok("secret", "rm", "-g", "FORGE_TOKEN")
        assert client.ask() == "200 True"
        assert not {"authorization", "x-own"} & set(world.asked())
    finally:
        client.end()


@pytest.mark.parametrize("door,path", [("", "transparent"),
                                       ('-proxy "${HTTPS_PROXY#http://}"', "forward")])
def test_a_client_that_shakes_hands_and_asks_for_nothing_is_logged(world, door, path):
    """Its origin has been connected ahead: that must not pass without a line."""
    world.custom("--header", "X-Token")
    world.sh(f"openssl s_client {door} -connect host.docker.internal:{world.forge.port} "
             "-servername host.docker.internal -verify_return_error </dev/null")
    line = world.logged(reason="no-request", path=path)
    assert line.items() >= {"decision": "allow", "scheme": "https", "host": "localhost",
                            "port": world.forge.port, "method": None, "status": 0,
                            "service": None}.items()
    assert not world.forge.requests
    world.curl("/after")
    assert world.asked()["x-token"]


def test_a_tunnel_ends_when_its_host_gets_a_credential(world):
    """It was opened before: nothing could be put into it."""
    with_own_certificate = CLIENT.replace("ssl.create_default_context()",
                                          "ssl._create_unverified_context()")
    client = Inside(world, with_own_certificate.format(port=world.forge.port))
    try:
        assert client.ask() == "200 True"
        assert "authorization" not in world.asked()
        world.custom("--scheme", "bearer")
        record = world.logged(port=world.forge.port, reason="rule-changed")
        assert record["path"] == "transparent"
        assert client.ask() == "", "the client meets the end of its connection"
    finally:
        client.end()
    world.curl("/")
    assert world.asked()["authorization"] == [f"Bearer {SECRET}"]


def test_a_stream_with_a_revoked_credential_ends(world):
    world.forge.ended.clear()
    world.custom("--scheme", "bearer")
    stream = subprocess.Popen([world.sbx.binary, "exec", "box", "--", "curl", "-sSN",
                               world.url("/hold")], env=world.sbx.env, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    assert stream.stdout.readline() == "begun\n"
    world.custom(value="another-value")
    assert stream.poll() is None and not world.forge.ended.is_set(), "a new value cuts nothing off"
    world.sbx.ok("secret", "rm", "-g", "FORGE_TOKEN")
    assert stream.wait(20) != 0
    assert world.forge.ended.wait(20)
    assert world.logged(target="/hold")["reason"] == "credential-revoked"


# ---- What comes back ----

def leaks(text):
    """Forms of the secret in what a client got; half of one is a leak as well."""
    data = text.encode() if isinstance(text, str) else text
    return [form for form in forms(SECRET) if form in data or form[:len(form) // 2] in data]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("coding", ["", "gzip", "br"])
@pytest.mark.parametrize("form", ["raw", "json", "url", "base64", "basic"])
def test_scrub(world, form, coding, version):
    """In fields, bodies and trailers, in one piece and byte by byte."""
    world.custom("--scheme", "bearer", "--scrub")
    for step in (1, 7, 100000):
        got = world.curl(f"/scrub?form={form}&coding={coding}&step={step}&times=3", version, "-i",
                         "-H", "Range: bytes=0-3", "-H", "Request-Range: bytes=0-3",
                         "-H", "Accept-Encoding: zstd")
        assert got.count("before ") == got.count(" after") == 3, got
        assert not leaks(got) and "****" in got
        assert "content-encoding" not in got.lower() and "x-echo" in got.lower()
    asked = world.asked()
    assert asked["accept-encoding"] == ["gzip, br"] and not {"range", "request-range"} & set(asked)
    assert asked["authorization"] == [f"Bearer {SECRET}"]


def test_without_scrub_the_answer_is_the_origins(world):
    world.custom("--scheme", "bearer")
    assert SECRET in world.curl("/scrub?form=raw")
    world.custom(value=SECRET)
    assert SECRET in world.curl("/scrub?form=raw&coding=gzip", "--compressed")


@pytest.mark.parametrize("coding", ["", "gzip", "br"])
def test_scrub_of_a_broken_answer_shows_nothing(world, coding):
    """CVE-2026-101998: the origin resets at any place of the secret."""
    world.custom("--scheme", "bearer", "--scrub")
    whole = len("before " + SECRET)
    for cut in ([*range(8, whole + 1, 3)] if not coding else [15, 25, 35]):
        done = world.sbx("exec", "box", "--", "curl", "-sSf", "--max-time", "20",
                         world.url(f"/scrub?form=raw&coding={coding}&times=1&step=5&cut={cut}"))
        assert done.returncode != 0, "the client must not take it for the whole"
        assert SECRET[:6] not in done.stdout
        if not coding:
            done = world.curl(f"/scrub?form=raw&times=1&step=5&cut={cut}&end=clean")
            assert SECRET[:6] not in done


def test_scrub_refuses_what_it_cannot_search(world):
    world.custom("--scheme", "bearer", "--scrub")
    for coding in ("zstd", "deflate", "gzip, br", "nonsense"):
        got = world.curl(f"/scrub?form=raw&coding={urllib.parse.quote(coding)}", "-i")
        assert " 502 " in got, got
        assert "cannot be searched for secrets" in got and not leaks(got)
    # Said to be gzip, and is not.
    done = world.sbx("exec", "box", "--", "curl", "-sS", world.url("/scrub?form=raw&coding=x-gzip"))
    assert done.returncode != 0 and not leaks(done.stdout)
    assert world.logged(reason="scrub")["service"] == "custom:FORGE_TOKEN"
    got = world.curl("/", "-i", "--http1.1", "-H", "Connection: upgrade", "-H",
                     "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13", "-H",
                     "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
    assert "HTTP/1.1 501 " in got and "--scrub" in got


def test_scrub_streams(world):
    """Events come at once, and a large body does not stay in memory."""
    world.forge.ended.clear()
    world.custom("--scheme", "bearer", "--scrub")
    stream = subprocess.Popen([world.sbx.binary, "exec", "box", "--", "curl", "-sSN",
                               world.url("/hold")], env=world.sbx.env, stdout=subprocess.PIPE,
                              text=True)
    try:
        assert stream.stdout.readline() == "begun\n"
    finally:
        stream.kill()
        stream.wait(20)
    times = 400_000
    for words in ("--http1.1", "--http2"):
        for coding in ("", "gzip"):
            url = world.url(f"/scrub?form=raw&coding={coding}&times={times}&step=60000")
            size = world.sh(f"curl -sS --max-time 60 {words} '{url}' | wc -c")
            assert int(size) == times * len(f"before {SECRET} after"), (words, coding)
    for entry in helpers_of(world):
        if (entry / "comm").read_text().startswith("sbx-proxy"):
            peak = int((entry / "status").read_text().split("VmHWM:")[1].split()[0])
            sanitized = "libasan" in (entry / "maps").read_text()  # it keeps freed memory back
            assert peak < (1024 if sanitized else 32) * 1024, f"{peak} KiB"


def test_scrub_of_a_service_and_by_a_kit(world, workspace, tmp_path):
    kit = tmp_path / "forge"
    kit.mkdir()
    spec = KIT.format(port=world.forge.port).replace("      inject:", "      scrub: true\n"
                                                                      "      inject:")
    (kit / "spec.yaml").write_text(spec, encoding="utf-8")
    world.sbx.ok("secret", "set", "-g", "my-forge", input=SECRET)
    world.sbx.ok("create", "--name", "kitted", "--kit", kit, "shell", workspace)
    try:
        def ask():
            return world.sbx.ok("exec", "kitted", "--", "curl", "-sS",
                                world.url("/scrub?form=raw"))
        assert not leaks(ask())
        (kit / "spec.yaml").write_text(KIT.format(port=world.forge.port), encoding="utf-8")
        world.sbx.ok("rm", "--force", "kitted")
        world.sbx.ok("create", "--name", "kitted", "--kit", kit, "shell", workspace)
        assert SECRET in ask()
        world.sbx.ok("secret", "set", "-g", "--force", "--scrub", "my-forge", input=SECRET)
        assert not leaks(ask())
    finally:
        world.sbx.ok("rm", "--force", "kitted")
    assert "8 characters" in world.sbx("secret", "set", "-g", "--scrub", "short", input="1234567",
                                       code=2).stderr


def test_placeholders_in_bodies(world):
    placeholder = world.custom("--mode", "placeholder", "--in-body")
    for kind, written in (("application/json", json.dumps(SECRET)[1:-1]),
                          ("application/vnd.x+json; charset=utf-8", json.dumps(SECRET)[1:-1]),
                          ("application/x-www-form-urlencoded",
                           urllib.parse.quote(SECRET, safe="")),
                          ("text/plain", SECRET)):
        for words in ((), ("-H", "Transfer-Encoding: chunked")):
            world.curl("/", "-H", f"Content-Type: {kind}", "-d", f'{{"a":"{placeholder}"}}', *words)
            assert world.forge.requests[-1]["body"].decode() == f'{{"a":"{written}"}}'
    world.sh(f"(head -c 300000 /dev/zero; printf %s {placeholder}; head -c 300000 /dev/zero) | "
             f"curl -sS -T - {world.url('/up')}")
    body = world.forge.requests[-1]["body"]
    assert body == bytes(300000) + SECRET.encode() + bytes(300000)
    # What is compressed goes on plain; what cannot be decoded ends, or goes on as it is.
    for words in ((), ("-H", "Transfer-Encoding: chunked"), ("--http1.1",)):
        more = " ".join(map(shlex.quote, words))
        world.sh(f"printf 'a %s b' {placeholder} | gzip | curl -sS --data-binary @- {more} "
                 f"-H 'Content-Encoding: gzip' -H 'Content-Type: text/plain' {world.url('/')}")
        last = world.forge.requests[-1]
        assert last["body"].decode() == f"a {SECRET} b"
        assert "content-encoding" not in world.asked()
    count = len(world.forge.requests)
    said = world.curl("/", "-H", "Content-Encoding: gzip", "-d", placeholder, "-w", "%{http_code}")
    assert said.endswith("502")
    assert all(r["body"] == b"" for r in world.forge.requests[count:])
    world.curl("/", "-H", "Content-Encoding: zstd", "-d", placeholder)
    assert world.forge.requests[-1]["body"].decode() == placeholder
    assert world.asked()["content-encoding"] == ["zstd"]
    assert world.logged(reason="unsearched")


# ---- Signing in (OAuth) ----

SIGN_IN = """schemaVersion: "1"
kind: mixin
name: signer
credentials:
  - service: anthropic
    apiKey:
      name: SIGN_KEY
      proxyManaged: true
      inject:
        - {{domain: "localhost:{port}", header: X-Api-Key, format: "%s"}}
    oauth:
      tokenEndpoint: {{host: "localhost:{port}", path: /oauth/token}}
      resourceHosts: ["localhost:{other}"]
      sentinels: {{accessToken: sk-oat01-proxy-managed, refreshToken: sk-ort01-proxy-managed}}
"""


@pytest.fixture
def signed(world, workspace, tmp_path):
    """A sandbox whose kit signs in at the forge; a function that asks inside it."""
    kit = tmp_path / "signer"
    kit.mkdir()
    (kit / "spec.yaml").write_text(SIGN_IN.format(port=world.forge.port, other=world.other.port),
                                   encoding="utf-8")
    world.sbx.ok("create", "--name", "kitted", "--kit", kit, "shell", workspace)
    world.forge.token_coding, world.forge.token_extra = "", lambda tokens: {}
    world.forge.tokens.update(access="none yet", refresh="none yet")

    def ask(path, *words, server=None, code=0):
        done = world.sbx("exec", "kitted", "--", "curl", "-sS", "--max-time", "20", *words,
                         world.url(path, server))
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout
    yield ask
    world.sbx.ok("rm", "--force", "kitted")


ACCESS, REFRESH = "sk-oat01-proxy-managed", "sk-ort01-proxy-managed"


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_sign_in(world, signed, version, coding):
    need_root()  # to read memory
    tokens = world.forge.tokens
    world.forge.token_coding = coding
    refused = signed("/oauth/token", version, "-d", "grant_type=authorization_code&code=bad")
    assert json.loads(refused) == {"error": "invalid_grant"}
    answer = json.loads(signed("/oauth/token", version, "-d",
                               "grant_type=authorization_code&code=good"))
    assert (answer["access_token"], answer["refresh_token"]) == (ACCESS, REFRESH)
    assert answer["expires_in"] == 3600 and answer["account"] == {"id": 7}
    bearer = ("-H", f"Authorization: Bearer {ACCESS}")
    assert signed("/resource", version, *bearer) == "yours\n", "the next request has it"
    world.other.tokens = tokens
    assert signed("/resource", *bearer, server=world.other, code=0) == "yours\n"
    # Refreshed by the client, as a form and as JSON; each refresh token works once.
    for words in (("-d", f"grant_type=refresh_token&refresh_token={REFRESH}"),
                  ("-H", "Content-Type: application/json", "-d",
                   json.dumps({"grant_type": "refresh_token", "refresh_token": REFRESH}))):
        before = tokens["access"]
        answer = json.loads(signed("/oauth/token", version, *words))
        assert answer["access_token"] == ACCESS and tokens["access"] != before
        assert signed("/resource", *bearer) == "yours\n"
    # They survive the proxy and the sandbox's restart, for the supervisor has stored them.
    entry, = world.sbx.json("secret", "ls", "kitted")
    assert (entry["type"], entry["name"]) == ("sign-in", "anthropic")
    world.sbx.ok("stop", "kitted")
    assert signed("/resource", *bearer) == "yours\n"
    for token in tokens["all"]:
        assert not any(memory_holds(pid, token.encode()) for pid in inside_processes("kitted"))
        assert disk_holds(world.sbx.home / "state", token.encode()) == []
        assert token not in json.dumps(world.sbx.json("secret", "ls"))
    world.sbx.ok("secret", "rm", "kitted", "anthropic")
    assert signed("/resource", "-k", *bearer) == "no\n"


def test_a_key_wins_over_a_sign_in(world, signed):
    def mode():
        return world.sbx.ok("exec", "kitted", "printenv", "SBX_CRED_ANTHROPIC_MODE")
    assert mode() == "none\n"
    signed("/oauth/token", "-d", "code=good")
    assert mode() == "oauth\n"
    world.sbx.ok("secret", "set", "kitted", "anthropic", input="the-key")
    assert mode() == "apikey\n"
    signed("/resource", "-H", f"Authorization: Bearer {ACCESS}")
    asked = world.asked()
    assert asked["x-api-key"] == ["the-key"] and "authorization" not in asked


def test_a_sign_in_that_cannot_be_read_is_refused(world, signed):
    world.forge.token_coding = "text"
    done = world.sbx("exec", "kitted", "--", "curl", "-sS", "-d", "code=good",
                     world.url("/oauth/token"))
    assert done.returncode != 0 and done.stdout == ""
    world.forge.token_coding = ""
    world.forge.token_extra = lambda tokens: {"again": f"<{tokens['access']}>"}
    done = world.sbx("exec", "kitted", "--", "curl", "-sS", "-d", "code=good",
                     world.url("/oauth/token"))
    assert done.returncode != 0 and "real-access" not in done.stdout
    world.forge.token_extra = lambda tokens: {"padding": "x" * 200_000}
    done = world.sbx("exec", "kitted", "--", "curl", "-sS", "-d", "code=good",
                     world.url("/oauth/token"))
    assert done.returncode != 0 and "real-access" not in done.stdout


def test_sign_ins_of_one_sandbox_are_its_own(world, signed, workspace, tmp_path):
    signed("/oauth/token", "-d", "code=good")
    world.sbx.ok("create", "--name", "second", "--kit", tmp_path / "signer", "shell", workspace)
    try:
        asked = world.sbx.ok("exec", "second", "--", "curl", "-sS", "-H",
                             f"Authorization: Bearer {ACCESS}", world.url("/resource"))
        assert asked == "no\n"
        assert dict(world.forge.requests[-1]["headers"])["Authorization"] == f"Bearer {ACCESS}"
    finally:
        world.sbx.ok("rm", "--force", "second")
