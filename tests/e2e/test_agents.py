# SPDX-License-Identifier: Apache-2.0
"""Agents that are kits: the word for one is its name, its kit comes with --kit."""

import json
import subprocess

import fake_anthropic
import pytest
import upstreams
from conftest import ROOT, need_root, need_sandboxes
from test_founding_kits import INSTALL_SECONDS, disk_holds, inside_processes, memory_holds
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


@pytest.fixture
def claude_api(tmp_path):
    ca, cert, key_file = upstreams.authority(tmp_path, "api.anthropic.com")
    server = fake_anthropic.Server(cert, key_file, KEY)
    yield server, ca
    server.close()


def test_claude_code_answers_and_the_key_is_never_inside(
        sbx, workspace, registry, claude_api):  # noqa: F811 pylint: disable=redefined-outer-name
    """The real program from npm; the API is the vendor's wire format over TLS."""
    need_root()  # to read the memory of the sandbox's processes
    need_sandboxes(sbx)
    server, ca = claude_api
    sbx.ok("policy", "init", "deny-all")
    sbx.ok("policy", "allow", "-g", f"{registry}:443")
    sbx.ok("policy", "host", "add", "-g", "api.anthropic.com", f"127.0.0.1:{server.port}")
    sbx.ok("settings", "set", "tls.extra-ca", ca)
    sbx.ok("secret", "set", "-g", "anthropic", input=KEY)
    sbx("create", "--name", "box", "--kit", ROOT / "examples/claude", "claude", workspace, code=0,
        timeout=INSTALL_SECONDS)
    process = subprocess.Popen([sbx.binary, "run", "box", "--", "-p", "Say hello."], env=sbx.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    inside, seen = set(), set()
    while process.poll() is None:
        for pid in inside_processes("box"):
            seen.add(pid)
            if memory_holds(pid, KEY.encode()):
                inside.add(pid)
    out, error = process.communicate()
    assert process.returncode == 0 and "".join(fake_anthropic.WORDS) in out, out + error
    assert ("/v1/messages", True) in server.asked and all(right for _, right in server.asked)
    assert len(seen) >= 2 and not inside

    assert disk_holds(sbx.home / "state", KEY.encode()) == []
    assert disk_holds(workspace, KEY.encode()) == []
    rows = [json.loads(line)
            for line in sbx.ok("policy", "log", "box", "--json").splitlines()]
    posts = [row for row in rows
             if row["host"] == "api.anthropic.com" and row["method"] == "POST"]
    assert posts and all((row["credential"], row["service"], row["status"]) ==
                         ("injected", "anthropic", 200) for row in posts), posts
    assert not [row for row in rows if row["decision"] == "deny"], "it asks for nothing else"

    sbx.ok("secret", "rm", "-g", "anthropic")
    refused = sbx.ok("exec", "box", "sh", "-c",
                     "curl -s -o /dev/null -w '%{http_code}' -H 'x-api-key: none' -d '{}' "
                     "https://api.anthropic.com/v1/messages")
    assert refused == "401"
