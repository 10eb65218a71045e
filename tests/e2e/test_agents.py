# SPDX-License-Identifier: Apache-2.0
"""Agents that are kits: the word for one is its name, its kit comes with --kit."""

import json
import ssl
import subprocess
import threading
import time

import fake_anthropic
import fake_openai
import pytest
import upstreams
from conftest import need_root, need_sandboxes, records
from test_founding_kits import INSTALL_SECONDS, disk_holds, look_while_it_runs
from test_founding_kits import registry  # noqa: F401 pylint: disable=unused-import

AGENT = """schemaVersion: "1"
kind: {kind}
name: {name}
{kind}:
  image: {image}
  entrypoint: {{run: {run}}}
"""
MIXIN = 'schemaVersion: "1"\nkind: mixin\nname: {name}\n{body}'


@pytest.fixture
def kits(tmp_path):
    def make(name, text):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "spec.yaml").write_text(text, encoding="utf-8")
        return directory
    return make


def agent(name="greeter", run='[echo, hello, "from inside"]', image="host", kind="sandbox"):
    return AGENT.format(name=name, run=run, image=image, kind=kind)


@pytest.mark.parametrize("kind", ["sandbox", "agent"])
def test_an_agent_of_ones_own(sbx, workspace, kits, kind):
    need_sandboxes(sbx)
    kit = kits("own", agent(kind=kind))
    done = sbx("run", "--rm", "--kit", kit, "greeter", workspace, code=0)
    assert done.stdout == "hello from inside\n"
    more = sbx("run", "--rm", "--kit", kit, "greeter", workspace, "--", "--and", "more", code=0)
    assert more.stdout == "hello from inside --and more\n"


def test_its_sandbox_is_named_after_it_and_found_again_by_name(sbx, workspace, kits):
    need_sandboxes(sbx)
    kit = kits("own", agent())
    name = sbx.ok("create", "--kit", kit, "greeter", workspace).strip()
    assert name.startswith("greeter-")
    assert [row["agent"] for row in sbx.json("ls")] == ["greeter"]
    assert sbx("run", name, code=0).stdout == "hello from inside\n"


def test_mixins_are_stacked_on_it_in_any_order(sbx, workspace, kits):
    need_sandboxes(sbx)
    own = kits("own", agent(run='[sh, -c, "echo $WORD"]'))
    one = kits("one", MIXIN.format(name="one", body="environment: {variables: {WORD: one}}\n"))
    two = kits("two", MIXIN.format(name="two", body="environment: {variables: {WORD: two}}\n"))
    done = sbx("run", "--rm", "--kit", one, "--kit", own, "--kit", two, "greeter", workspace,
               code=0)
    assert done.stdout == "two\n"


CREDENTIAL = """
credentials:
  - service: {service}
    apiKey: {{inject: [{{domain: {service}.test, header: X-Key, format: "%s"}}]}}
"""
LOGIN_TOO = """    oauth:
      tokenEndpoint: {host: login.test, path: /token}
      sentinels: {accessToken: a, refreshToken: r}
"""


def test_who_makes_it_is_told_which_secrets_are_missing(sbx, workspace, kits):
    need_sandboxes(sbx)
    one = kits("one", MIXIN.format(name="one", body=CREDENTIAL.format(service="one-key")))
    two = kits("two", MIXIN.format(name="two", body=CREDENTIAL.format(service="two-key") + LOGIN_TOO))
    words = ("run", "--rm", "--kit", one, "--kit", two, "shell", workspace, "--", "-c", ":")
    told = sbx(*words, code=0).stderr
    assert "note: there is no secret 'one-key': 'sbx secret set -g one-key' stores one\n" in told
    assert "no secret 'two-key': log in inside, or 'sbx secret set -g two-key' stores one" in told
    sbx.ok("secret", "set", "-g", "one-key", input="value")
    told = sbx(*words, code=0).stderr
    assert "one-key" not in told and "no secret 'two-key'" in told
    sbx.ok("secret", "set", "-g", "two-key", input="value")
    assert "no secret" not in sbx(*words, code=0).stderr, "a key is enough where one may log in too"


@pytest.mark.no_sandbox
@pytest.mark.parametrize("words,expected", [
    (("greeter", "."), ["no agent or sandbox named 'greeter'", "--kit DIR greeter"]),
    (("--kit", "own", "greter", "."), ["no agent or sandbox named 'greter'"]),
    (("--kit", "own", "shell", "."), ["kit 'greeter' is an agent, and so is 'shell'",
                                      "--kit DIR greeter"]),
    (("--kit", "own", "--kit", "other", "greeter", "."), ["kit 'other' is an agent"]),
    (("--kit", "own", "--kit", "own", "greeter", "."), ['duplicate kit name "greeter"']),
    (("--kit", "mixin", "plain", "."), ["kit 'plain' is a mixin and cannot be the agent"]),
    (("--kit", "image", "boxed", "."), ["kit 'boxed' names the image 'debian:12'",
                                        "images are not supported yet"]),
])
def test_what_cannot_be_an_agent(sbx, workspace, kits, words, expected):
    kits("own", agent())
    kits("other", agent("other"))
    kits("mixin", MIXIN.format(name="plain", body=""))
    top = kits("image", agent("boxed", image="debian:12")).parent
    words = [str(top / word) if (top / word).is_dir() and word != "." else word for word in words]
    failed = sbx("create", *words, cwd=workspace, code=None)
    assert failed.returncode in (1, 2)
    for text in expected:
        assert text in failed.stderr, failed.stderr
    assert sbx.json("ls") == []


KEY = "sk-ant-e2e-5d20b7aa91-never-inside"


API, LOGIN = "api.anthropic.com", "platform.claude.com"


@pytest.fixture
def claude(sbx, workspace, tmp_path, registry):  # noqa: F811 pylint: disable=redefined-outer-name
    """A sandbox "box" with the real Claude Code from npm, whose API is the vendor's wire format over
    TLS on this machine; the server."""
    need_root()  # to read the memory of the sandbox's processes
    need_sandboxes(sbx)
    ca, cert, key_file = upstreams.authority(tmp_path, API, LOGIN)
    server = fake_anthropic.Server(cert, key_file, KEY)
    try:
        sbx.ok("policy", "init", "deny-all")
        sbx.ok("policy", "allow", "-g", f"{registry}:443")
        for name in (API, LOGIN):
            sbx.ok("policy", "host", "add", "-g", name, f"127.0.0.1:{server.port}")
        sbx.ok("settings", "set", "tls.extra-ca", ca)
        sbx("create", "--name", "box", "claude", workspace, code=0, timeout=INSTALL_SECONDS)
        yield server
    finally:
        server.close()


def say_hello(sbx, never_inside, words=("-p", "Say hello."), answer=fake_anthropic.WORDS):
    """Lets it answer, and looks into the memory of all processes inside meanwhile."""
    process = subprocess.Popen([sbx.binary, "run", "box", "--", *words], env=sbx.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    seen, inside = look_while_it_runs(process, "box", never_inside)
    out, error = process.communicate()
    assert process.returncode == 0 and "".join(answer) in out, out + error
    assert len(seen) >= 2 and not inside
    sbx.ok("exec", "box", "sync")  # what it wrote is looked at next


def messages(sbx):
    def of_messages(found):
        return [row for row in found if row["target"].startswith("/v1/messages")]
    return of_messages(records(sbx, host=API, path="forward", method="POST", until=of_messages))


def test_claude_code_answers_and_its_key_is_never_inside(sbx, workspace, claude):
    sbx.ok("secret", "set", "-g", "anthropic", input=KEY)
    say_hello(sbx, KEY)
    assert ("/v1/messages", True) in claude.asked and all(right for _, right in claude.asked)
    assert disk_holds(sbx.home / "state", KEY.encode()) == []
    assert disk_holds(workspace, KEY.encode()) == []
    asked = messages(sbx)
    assert asked and all((row["credential"], row["service"], row["status"]) ==
                         ("injected", "anthropic", 200) for row in asked), asked
    assert not records(sbx, decision="deny")
    sbx.ok("secret", "rm", "-g", "anthropic")
    refused = sbx.ok("exec", "box", "sh", "-c",
                     "curl -s -o /dev/null -w '%{http_code}' -H 'x-api-key: none' -d '{}' "
                     f"https://{API}/v1/messages")
    assert refused == "401"


def test_claude_code_is_logged_in_and_the_token_is_never_inside(sbx, claude):
    """The login by hand, since it wants a browser: what it gets is written where Claude Code does."""
    answer = json.loads(sbx.ok("exec", "box", "curl", "-sS", "-d", "code=from-the-browser",
                               f"https://{LOGIN}/v1/oauth/token"))
    assert answer["access_token"] == "sk-ant-oat01-proxy-managed"
    assert answer["refresh_token"] == "sk-ant-ort01-proxy-managed"
    kept = {"claudeAiOauth": {"accessToken": answer["access_token"],
                              "refreshToken": answer["refresh_token"],
                              "expiresAt": int(time.time() + answer["expires_in"]) * 1000,
                              "scopes": answer["scope"].split(), "subscriptionType": "pro"}}
    sbx("exec", "-i", "box", "sh", "-c", "mkdir -p ~/.claude && cat >~/.claude/.credentials.json",
        input=json.dumps(kept), code=0)
    say_hello(sbx, claude.token)
    assert ("/v1/messages", True) in claude.asked
    assert disk_holds(sbx.home / "state", claude.token.encode()) == []


@pytest.fixture
def codex(sbx, workspace, tmp_path, registry):  # noqa: F811 pylint: disable=redefined-outer-name
    """A sandbox "box" with the real Codex from npm; the requests that reached its API."""
    need_root()
    need_sandboxes(sbx)
    ca, cert, key_file = upstreams.authority(tmp_path, "api.openai.com")
    log = tmp_path / "asked"
    server = fake_openai.make_server(key=KEY, log_path=log)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key_file)
    server.socket = context.wrap_socket(server.socket, server_side=True,
                                        do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        sbx.ok("policy", "init", "deny-all")
        sbx.ok("policy", "allow", "-g", f"{registry}:443")
        sbx.ok("policy", "host", "add", "-g", "api.openai.com",
               f"127.0.0.1:{server.server_address[1]}")
        sbx.ok("settings", "set", "tls.extra-ca", ca)
        sbx.ok("secret", "set", "-g", "openai", input=KEY)
        sbx("create", "--name", "box", "codex", workspace, code=0, timeout=INSTALL_SECONDS)
        yield log
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_codex_answers_and_its_key_is_never_inside(sbx, codex):
    """By a WebSocket, which this server does not speak but would have answered, then by HTTP."""
    say_hello(sbx, KEY, ("exec", "--skip-git-repo-check", "Say hello."), fake_openai.WORDS)
    asked = codex.read_text("utf-8").splitlines()
    assert {"GET /v1/responses ok", "POST /v1/responses ok"} == set(asked)
    assert disk_holds(sbx.home / "state", KEY.encode()) == []
    upgrades = records(sbx, host="api.openai.com", method="GET", until=any)
    assert all(row["credential"] == "injected" for row in upgrades)
