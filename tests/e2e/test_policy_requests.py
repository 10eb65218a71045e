# SPDX-License-Identifier: Apache-2.0
"""Rules about requests and names of the user's own, from inside a real sandbox, with the commands
that a person types."""
import json
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import time

import pytest

from conftest import Sbx, need_sandboxes
from test_proxy import self_signed, start_origin

UNSET = "env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY "
KIT = """schemaVersion: "1"
kind: mixin
name: rules
network:
  allowedDomains:
    - kit.example:443 method GET,HEAD path /team/**
    - "ports.example:8000-8001"
    - host.docker.internal:1
  deniedDomains:
    - "**.internal.example except public.internal.example"
"""


class World:
    """A sandbox, and a TLS server of the test that api.example and kit.example lead to."""

    def __init__(self, bindir, folder):
        cert, key = self_signed(folder, "api.example")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.server = start_origin(context)
        self.port = self.server.server_address[1]
        self.sbx = Sbx(bindir / "sbx", folder / "h")
        self.sbx.env["SSL_CERT_FILE"] = str(cert)
        (folder / "w").mkdir()
        (folder / "kit").mkdir()
        (folder / "kit" / "spec.yaml").write_text(KIT, encoding="utf-8")
        need_sandboxes(self.sbx)
        self.sbx.ok("policy", "init", "deny-all")
        self.sbx.ok("create", "--name", "box", "--kit", folder / "kit", "shell", folder / "w")

    def curl(self, *args, prefix=""):
        script = f"{prefix}curl -sS -m 20 -o /dev/null -w '%{{http_code}}' " + " ".join(args)
        return self.sbx("exec", "box", "--", "sh", "-c", script).stdout

    def check(self, *words):
        done = self.sbx("policy", "check", "--sandbox", "box", "--json", *words)
        return json.loads(done.stdout)

    def logged(self, **wanted):
        """Waits for a record: it may come after the answer."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            lines = self.sbx.ok("policy", "log", "box", "--json").splitlines()
            if any(wanted.items() <= json.loads(line).items() for line in lines):
                return
            time.sleep(0.05)
        raise AssertionError(f"no record with {wanted}")

    def end(self):
        self.sbx("rm", "--all", "--force")
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def world(bindir):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sbx-r-"))
    folder.chmod(0o755)
    made = None
    try:
        made = World(bindir, folder)
        yield made
    finally:
        if made:
            made.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def clean(world):
    """Takes back what a test wrote for the sandbox."""
    yield world
    path = world.sbx.home / "config/policy/sandbox/box.rules"
    if path.exists():
        path.write_text("", encoding="utf-8")
        world.sbx.ok("policy", "allow", "box", "unused.example")


def test_no_ca_before_a_rule_needs_one(world):
    """(Runs first.)  A sandbox without credentials and HTTP rules has no CA, outside or inside; a
    kit's rule brings one."""
    assert (world.sbx.home / "state/sandboxes/box/ca.json").exists()
    trusted = ("for file in /opt/sbx/ca.pem /usr/local/share/ca-certificates/sbx.crt; do "
               "[ -e $file ] && echo $file; done; "
               "cmp -s /etc/ssl/certs/ca-certificates.crt - || echo bundle; "
               "printenv PROXY_CA_CERT_B64 | head -c 9 && echo")
    bundle = pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_text("utf-8")

    def inside(name):
        return world.sbx("exec", "-i", name, "--", "sh", "-c", trusted, input=bundle).stdout.split()
    brought = ["/opt/sbx/ca.pem", "/usr/local/share/ca-certificates/sbx.crt", "bundle", "LS0tLS1CR"]
    assert inside("box") == brought
    other = world.sbx.home.parent / "w2"
    other.mkdir()
    world.sbx.ok("create", "--name", "plain", "shell", other)
    ca = world.sbx.home / "state/sandboxes/plain/ca.json"
    assert not ca.exists() and inside("plain") == []
    world.sbx.ok("policy", "allow", "plain", "a.example", "--method", "GET")
    assert ca.exists() and inside("plain") == brought
    world.sbx.ok("rm", "--force", "plain")


@pytest.mark.parametrize("prefix", ["", UNSET])
def test_requests_are_judged_where_a_rule_looks_at_them(clean, prefix):
    world = clean
    world.sbx.ok("policy", "host", "add", "box", "api.example", f"127.0.0.1:{world.port}")
    world.sbx.ok("policy", "allow", "box", "api.example:443", "--method", "get,HEAD", "--path",
                 "/v1/**")
    assert world.curl("https://api.example/v1/x?y", prefix=prefix) == "200"
    assert world.curl("https://api.example/v2", prefix=prefix) == "403"
    assert world.curl("-d x https://api.example/v1/x", prefix=prefix) == "403"
    world.logged(method="POST", target="/v1/x", decision="deny",
                 path="transparent" if prefix else "forward")
    world.sbx.ok("policy", "rm", "box", "--resource", "api.example:443", "--method", "HEAD,GET")
    assert world.curl("https://api.example/v1/x", prefix=prefix) == "000"


def test_read_only_for_one_host(clean):
    world = clean
    world.sbx.ok("policy", "host", "add", "box", "api.example", f"127.0.0.1:{world.port}")
    world.sbx.ok("policy", "allow", "box", "api.example")
    world.sbx.ok("policy", "deny", "box", "api.example", "--method", "POST,PUT,PATCH,DELETE")
    assert world.curl("https://api.example/") == "200"
    assert world.curl("-X DELETE https://api.example/") == "403"
    shown = world.sbx("exec", "box", "--", "curl", "-sS", "-d", "x", "https://api.example/").stdout
    assert "rule: deny api.example method POST,PUT,PATCH,DELETE (sandbox)" in shown


def test_a_pin_comes_and_goes_at_once(clean):
    world = clean
    world.sbx.ok("policy", "allow", "box", "**.corp")
    fetch = "-k https://git.corp/"
    assert world.curl(fetch) == "000"
    world.sbx.ok("policy", "host", "add", "-g", "git.corp", "127.0.0.1")
    world.sbx.ok("policy", "host", "add", "box", "GIT.corp", f"127.0.0.1:{world.port}")
    assert world.curl(fetch) == "200"
    assert world.curl(fetch, prefix=UNSET) == "200"
    rows = world.sbx.ok("policy", "host", "ls", "box").splitlines()
    assert [r.split() for r in rows[1:]] == [
        ["git.corp", "127.0.0.1", "global"], ["git.corp", f"127.0.0.1:{world.port}", "sandbox"]]
    assert world.check("git.corp")["pinned"] == f"127.0.0.1:{world.port}"
    world.sbx.ok("policy", "deny", "box", "127.0.0.0/8")
    answer = world.check("git.corp")
    assert world.curl(fetch) == "000" and not answer["allowed"]
    assert answer["rule"] == "deny 127.0.0.0/8" and len(answer["changes"]) == 1
    world.sbx.ok("policy", "rm", "box", "127.0.0.0/8")
    world.sbx.ok("policy", "host", "rm", "box", "git.corp")
    world.sbx.ok("policy", "host", "rm", "-g", "git.corp")
    assert world.curl(fetch) == "000"
    assert world.sbx("policy", "host", "rm", "-g", "git.corp").returncode == 1


def test_a_damaged_file_of_rules_is_left_as_it_is(bindir, tmp_path):
    sbx = Sbx(bindir / "sbx", tmp_path / "h")
    path = sbx.home / "config/policy/global.rules"
    path.parent.mkdir(parents=True)
    path.write_text("allow a.com\nallow b..com\n", "utf-8")
    (tmp_path / "w").mkdir()
    done = sbx("create", "shell", tmp_path / "w")
    assert done.returncode == 125 and "no network policy" not in done.stderr
    assert f"sbx: {path}:2:9: cannot start sandbox 'shell-w': " in done.stderr, done.stderr
    assert path.read_text("utf-8") == "allow a.com\nallow b..com\n"
    assert sbx.ok("ls", "-q") == ""


def test_names_beyond_ascii_are_those_on_the_wire(clean):
    """In a rule, a pin and a credential; the proxy itself knows A-labels alone."""
    world, name = clean, "b\u00fccher.example"
    origin = start_origin()
    world.sbx.ok("policy", "allow", "box", name)
    world.sbx.ok("policy", "host", "add", "box", name, f"127.0.0.1:{origin.server_address[1]}")
    world.sbx.ok("secret", "set-custom", "box", "--host", name, "--env", "KEY", "--header", "X-Key",
                 "--value-stdin", input="of-the-books")
    assert world.curl("http://xn--bcher-kva.example/") == "200"
    world.logged(host="xn--bcher-kva.example", rule="allow xn--bcher-kva.example",
                 service="custom:KEY")
    world.sbx.ok("secret", "rm", "box", "--host", name, "-f")


def test_rules_of_a_kit_have_the_whole_grammar(clean):
    world = clean
    rules = {r["resources"][0]: r for r in world.sbx.json("policy", "ls", "box")}
    http = rules["kit.example:443"]
    assert http["origin"] == "kit:rules" and http["type"] == "http"
    assert http["method"] == "GET,HEAD" and http["path"] == "/team/**"
    assert rules["**.internal.example"]["except"] == ["public.internal.example"]
    assert rules["**.internal.example"]["decision"] == "deny"
    assert "localhost:1" in rules and "ports.example:8000-8001" in rules
    world.sbx.ok("policy", "host", "add", "box", "kit.example", f"127.0.0.1:{world.port}")
    assert world.check("https://kit.example/team/a")["origin"] == "kit:rules"
    assert world.curl("-k https://kit.example/other") == "403"
    # The origin's certificate is for another name: the proxy reached it and refused it.
    assert world.curl("-k https://kit.example/team/a") == "502"
    assert world.curl("http://host.docker.internal:1/") == "502"  # nobody listens there
    assert world.curl("http://host.docker.internal:2/") == "403"
    world.sbx.ok("policy", "allow", "box", "public.internal.example", "a.internal.example")
    assert world.check("public.internal.example")["allowed"]
    answer = world.check("a.internal.example")
    assert not answer["allowed"] and answer["origin"] == "kit:rules" and not answer["changes"]
    world.sbx.ok("policy", "deny", "box", "kit.example")
    assert not world.check("https://kit.example/team/a")["allowed"]


@pytest.mark.parametrize("target,method,allowed", [
    ("https://api.example/v1/a", "GET", True), ("https://api.example/v1/a", "POST", False),
    ("https://api.example/v1/../b", "GET", False), ("https://api.example/V1/a", "GET", False),
    ("https://api.example/v1/secret", "GET", False),
    ("https://api.example/v1/Secret/", "GET", False),
    ("https://API.example./v1", "GET", True), ("https://api.example:444/v1/a", "GET", False),
    ("https://other.example/", "GET", False)])
def test_check_says_what_the_proxy_does(world, target, method, allowed):
    rules = world.sbx.home / "config/policy/sandbox/box.rules"
    rules.write_text(f"host api.example 127.0.0.1:{world.port}\n"
                     "allow api.example:443 method GET,HEAD path /v1/**\n"
                     "deny api.example method ANY path /*/secret/**\n", encoding="utf-8")
    world.sbx.ok("policy", "allow", "box", "unused.example")
    assert world.check(target, "--method", method)["allowed"] == allowed
    code = world.curl(f"--path-as-is -X {method} {target}")
    assert (code == "200") == allowed, code


def test_changes_of_check_are_what_changes_it(clean):
    """Each command that it names is run, as it stands, and then the answer is the other one."""
    world = clean
    world.sbx.ok("policy", "deny", "box", "**.foo.example", "a.foo.example:443")
    world.sbx.ok("policy", "deny", "-g", "a.foo.example")
    world.sbx.ok("policy", "allow", "box", "b.foo.example", "--method", "GET")
    world.sbx.ok("policy", "allow", "box", "**")
    world.sbx.ok("policy", "deny", "box", "10.0.0.0/8", "** method PUT path /x/**")
    for target in (["a.foo.example"], ["https://b.foo.example/x/y?z", "--method", "PUT"],
                   ["https://b.foo.example/x/%41;y", "--method", "PUT"],
                   ["https://b.foo.example/y", "--method", "propfind"], ["10.1.1.1:22"],
                   ["127.0.0.1:80"], ["localhost:80"], ["169.254.169.254"]):
        for _ in range(2):
            before = world.check(*target)
            assert before["changes"], before
            for command in before["changes"]:
                subprocess.run(command.replace("sbx", world.sbx.binary, 1), shell=True, check=True,
                               env=world.sbx.env, stdout=subprocess.DEVNULL)
            assert world.check(*target)["allowed"] != before["allowed"]
    world.sbx("policy", "rm", "-g", "a.foo.example")


def test_note_when_a_change_changes_nothing(clean):
    world = clean
    world.sbx.ok("policy", "deny", "box", "**.foo.example")
    told = world.sbx.ok("policy", "allow", "box", "a.foo.example")
    assert "a.foo.example stays denied by 'deny **.foo.example' (sandbox, id " in told
    told = world.sbx.ok("policy", "deny", "box", "**.foo.example", "--except", "a.foo.example")
    assert "a.foo.example stays denied by 'deny **.foo.example' (sandbox" in told


@pytest.mark.parametrize("words,column", [
    (["a.*x.com"], 3), (["a.com:0"], 7), (["1.2.3.4/33"], 9), (["a.com", "--method", "GET,X"], 5),
    (["a.com", "--method", "GET", "--path", "/a/../b"], 4), (["1.2.3.4", "--method", "GET"], 1),
    (["a.com:80-79"], 7), (["b..com"], 3)])
def test_nonsense_is_shown_with_a_caret(world, words, column):
    done = world.sbx("policy", "allow", "-g", *words, code=2)
    lines = done.stderr.splitlines()
    caret = next(i for i, line in enumerate(lines) if line.strip().startswith("^"))
    shown = lines[caret - 1]
    assert lines[caret].index("^") - shown.index("|") - 2 == column - 1, done.stderr


@pytest.mark.parametrize("words", [
    ["allow", "-g", "a.com", "--path", "/x"], ["allow", "-g", "a.com", "--method", ""],
    ["deny", "-g", "a.com", "--except", "b.com"], ["allow", "-g", "a.com", "--except", "b.a.com"],
    ["rm", "-g", "a.com", "--id", "x"], ["rm", "-g"], ["host", "add", "-g", "a.com"],
    ["host", "add", "-g", "a.com", "b.com"], ["host", "add", "-g", "*.a.com", "1.2.3.4"],
    ["host", "add", "-g", "localhost", "1.2.3.4"], ["host", "frob"], ["ls", "--type", "x"],
    ["check", "ftp://a.com/"], ["check", "a.com", "--method", "G T"], ["check"]])
def test_wrong_usage(world, words):
    before = world.sbx.ok("policy", "ls", "--json")
    assert world.sbx("policy", *words).returncode == 2
    assert world.sbx.ok("policy", "ls", "--json") == before


def test_words_of_the_original(world):
    """`network` behind the verb, commas, --resource, --id, --sandbox, set-default."""
    sbx = world.sbx
    sbx.ok("policy", "allow", "network", "-g", "a.com,b.com:443")
    sbx.ok("policy", "deny", "network", "box", "c.com")
    sbx.ok("policy", "allow", "network", "--sandbox", "box", "d.com")
    rules = {r["resources"][0]: r for r in sbx.json("policy", "ls", "box", "--type", "network")}
    assert rules["b.com:443"]["origin"] == "global" and rules["d.com"]["origin"] == "sandbox"
    assert sbx.ok("policy", "check", "network", "a.com").startswith("Allowed: a.com\n")
    assert sbx("policy", "check", "network", "--sandbox", "box", "c.com").returncode == 1
    sbx.ok("policy", "rm", "network", "-g", "--resource", "a.com")
    sbx.ok("policy", "rm", "network", "-g", "--id", rules["b.com:443"]["id"])
    sbx.ok("policy", "rm", "network", "box", "deny c.com")
    sbx.ok("policy", "rm", "box", "allow", "d.com")
    left = {r["resources"][0] for r in sbx.json("policy", "ls", "box", "--type", "all")}
    assert not left & {"a.com", "b.com:443", "c.com", "d.com"}
    sbx.ok("policy", "set-default", "deny-all")


def test_a_hundred_thousand_rules_on_disk(world):
    """Listing, changing, and a running sandbox go on working."""
    path = world.sbx.home / "config/policy/global.rules"
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "".join(f"allow h{i}.example:443\n" for i in range(100000)),
                    encoding="utf-8")
    try:
        world.sbx.ok("policy", "allow", "-g", "one.more.example")
        assert world.check("h99999.example")["allowed"]
        assert not world.check("h100000.example")["allowed"]
        assert world.sbx.ok("policy", "ls").count("\n") > 100000
        lookup = ["exec", "box", "--", "getent", "hosts"]
        assert world.sbx(*lookup, "h99999.example").returncode == 0
        assert world.sbx(*lookup, "h100000.example").returncode == 2
    finally:
        path.write_text(before, encoding="utf-8")
        world.sbx.ok("policy", "allow", "-g", "unused.example")
