# SPDX-License-Identifier: Apache-2.0
"""The JSON of every command that lists: its shape, key by key, pure and in ASCII; and the plan, the
kits' log and a kept sandbox beside it."""

import json
import pty
import os
import re
import subprocess

import pytest
from conftest import fresh_sbx, fresh_workspace, need_program, need_sandboxes

KIT = """schemaVersion: "1"
kind: mixin
name: shaped
description: "k\\u00e4se"
network:
  allowedDomains: [api.example.com]
  deniedDomains: [bad.example.com]
  serviceDomains: {api.example.com: svc}
  serviceAuth: {svc: {headerName: Authorization, valueFormat: "Bearer %s"}}
credentials: {sources: {svc: {env: [K]}}}
environment: {variables: {A: "1"}, proxyManaged: [K]}
commands:
  install: [{command: "printf 'installed k\\u00e4se\\\\033[31m\\\\n'"}]
  startup: [{command: [echo, started]}]
  initFiles: [{path: /home/agent/x, content: y}]
publishedPorts: [{container: 8080}]
agentContext: text
"""
TEXT_OR_NULL = (str, type(None))
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")
HEX = re.compile(r"[0-9a-f]+")


def check(value, shape, where="$"):
    """`shape` is a type, a tuple of types, a set of values, a pattern, [shape of each item], or a
    mapping with exactly these keys (a '?' ends the name of one that may be missing)."""
    if isinstance(shape, dict):
        assert isinstance(value, dict), where
        required = {key for key in shape if not key.endswith("?")}
        known = {key.rstrip("?"): item for key, item in shape.items()}
        assert required <= set(value) <= set(known), f"{where}: {sorted(value)}"
        for key, item in value.items():
            check(item, known[key], f"{where}.{key}")
    elif isinstance(shape, list):
        assert isinstance(value, list), where
        for i, item in enumerate(value):
            check(item, shape[0], f"{where}[{i}]")
    elif isinstance(shape, set):
        assert value in shape, f"{where}: {value!r}"
    elif isinstance(shape, re.Pattern):
        assert isinstance(value, str) and shape.fullmatch(value), f"{where}: {value!r}"
    else:
        assert isinstance(value, shape), f"{where}: {value!r}"
        assert not isinstance(value, bool) or shape is bool, where


@pytest.fixture(scope="module")
def sbx(bindir):
    with fresh_sbx(bindir) as run:
        yield run


@pytest.fixture(scope="module")
def world(sbx):
    """Directory of the workspace and of the kit; a sandbox `box` with all that can be listed."""
    need_sandboxes(sbx)
    need_program("curl")
    with fresh_workspace() as workspace:
        kit = workspace / "kit"
        kit.mkdir()
        (kit / "spec.yaml").write_text(KIT, encoding="utf-8")
        sbx.ok("policy", "init", "deny-all")
        sbx.ok("policy", "allow", "-g", "good.example")
        sbx.ok("policy", "deny", "-g", "**.example.net", "--except", "www.example.net")
        sbx.ok("policy", "host", "add", "-g", "n.example", "10.0.0.1")
        sbx.ok("secret", "set", "-g", "github", input="ghp_x")
        sbx.ok("secret", "set-custom", "-g", "--host", "a.example", "--env", "TOK", "--value-stdin",
               input="tok")
        sbx.ok("create", "-q", "--name", "box", "-p", "9999", "--kit", kit, "shell", workspace)
        sbx.ok("exec", "box", "curl", "-s", "http://denied.example/")
        yield workspace, kit


def pure(sbx, *words, code=0, **options):
    """The parsed standard output; everything but JSON must be elsewhere."""
    out = sbx(*words, "--json", code=code, **options).stdout
    assert out.isascii() and out.endswith("\n")
    return json.loads(out)


PORT = {"host_ip": str, "host_port": int, "port": int}
BOX = {"name": str, "agent": str, "status": {"running", "stopped", "creating", "broken"},
       "isolation": {"ns", "vm"}, "workspace": str, "ports": [PORT], "created": TIME, "limits?": str,
       "unfinished?": str}
REPORT = {"ok": bool, "isolation": {"ns", "vm"},
          "checks": [{"name": str, "state": {"ok", "weak", "missing"}, "text": str,
                      "better": TEXT_OR_NULL}]}
RULE = {"id": HEX, "type": {"network", "http"}, "origin": str, "decision": {"allow", "deny"},
        "status": {"active", "overridden"}, "resources": [str], "except": [str],
        "method": TEXT_OR_NULL, "path": TEXT_OR_NULL}
CHECK = {"allowed": bool, "host": str, "port": int, "rule": TEXT_OR_NULL, "rule_id": TEXT_OR_NULL,
         "origin": TEXT_OR_NULL, "reason": str, "pinned": TEXT_OR_NULL,
         "upstream_proxy": (dict, type(None)), "changes": [str],
         "method": TEXT_OR_NULL, "path": TEXT_OR_NULL}
RECORD = {"v": int, "seq": int, "t": TIME, "sandbox": str, "decision": {"allow", "deny"},
          "rule": TEXT_OR_NULL, "rule_id": TEXT_OR_NULL, "origin": TEXT_OR_NULL, "reason": str,
          "path": {"forward", "forward-bypass", "transparent", "dns"}, "scheme": TEXT_OR_NULL,
          "host": str, "port": int, "method": TEXT_OR_NULL, "target": TEXT_OR_NULL, "status": int,
          "bytes_out": int, "bytes_in": int, "ms": int, "service": TEXT_OR_NULL,
          "credential": {"injected", "unbound", None}, "chain": HEX}
SECRET_RULE = {"host": str, "mode": {"overwrite", "if-absent", "placeholder"}, "paths?": [str],
               "methods?": [str], "header?": str, "format?": str, "scheme?": {"basic", "bearer"},
               "username?": str}
SECRET = {"scope": str, "type": {"service", "custom"}, "name": str, "masked": str, "env?": str,
          "placeholder?": str, "rules?": [SECRET_RULE], "scrub?": bool}
CREDENTIAL = {"service": str, "required": bool,
              "sources": {"env?": [str], "file?": dict, "priority": {"env-first", "file-first"}},
              "proxy_managed": [str], "kit?": str,
              "inject": [{"domain": str, "header": str, "format": str, "username": str}]}
KIT_PORT = {"container": int, "protocol": {"tcp", "udp"}, "name": str}
INSPECT = {
    "schemaVersion": {"1"}, "kind": {"mixin", "sandbox"}, "name": str, "displayName?": str,
    "description?": str, "agentInstructions?": {"content": str},
    "permissions?": {"network": {"allow?": [str], "deny?": [str]}}, "ports?": [KIT_PORT],
    "credentials?": [{
        "service": str, "required": bool, "sources": CREDENTIAL["sources"],
        "apiKey?": {"name?": str, "proxyManaged?": bool, "inject?": CREDENTIAL["inject"]}}],
    "environment?": {"variables?": dict, "proxyManaged?": [str]},
    "files?": [{"target": {"home", "workspace"}, "relativePath": str, "mode": str, "size": int}],
    "setup?": {"install?": [{"command": str, "user": str, "description?": str, "line": int}],
               "startup?": [{"command": [str], "user": str, "background": bool,
                             "description?": str, "line": int}],
               "files?": [{"path": str, "content": str, "mode": re.compile(r"[0-7]{4}"),
                           "onlyIfMissing": bool, "line": int}]}}
PLAN = {
    "version": {1}, "agent": str, "kits": [{"name": str, "kind": str, "source": str}], "env": dict,
    "allow": [{"rule": str, "kit": str, "line": int}],
    "deny": [{"rule": str, "kit": str, "line": int}], "credentials": [CREDENTIAL],
    "steps": [{"op": {"run", "write", "init_file", "memory"},
               "phase": {"home", "workspace", "install", "files", "startup", "memory"}, "kit": str,
               "file?": str, "line?": int, "command?": str, "argv?": [str], "user?": str,
               "background?": bool, "description?": str, "path?": str, "host_path?": str,
               "content?": str, "mode?": int, "only_if_missing?": bool}],
    "entry": {"argv": [str]}, "ports": [KIT_PORT], "volumes": list,
    "resources": {"cpu": float, "memory_mb": int}, "warnings": [dict],
    "name": str, "exists": bool, "workspace": str, "mounts": [{"path": str, "read_only": bool}],
    "isolation": {"ns", "vm"}, "publish": [PORT], "env_names": [str], "command?": [str],
    "limits": {"memory_bytes": int, "cpus": float, "pids": int}}


@pytest.mark.parametrize("words, shape", (
    (("ls",), [BOX]),
    (("policy", "ls"), [RULE]),
    (("policy", "ls", "box"), [RULE]),
    (("policy", "host", "ls", "-g"), [{"name": str, "address": str, "origin": str}]),
    (("secret", "ls"), [SECRET]),
    (("doctor",), REPORT),
    (("version",), {"version": re.compile(r"\d+\.\d+\.\d+"), "kit_schema_versions": [str]}),
), ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_lists(sbx, world, words, shape):
    found = pure(sbx, *words)
    assert found, "nothing was listed"
    check(found, shape)


def test_what_is_listed(sbx, world):
    box, = pure(sbx, "ls")
    assert (box["name"], box["status"], box["workspace"]) == ("box", "running", str(world[0]))
    assert [(port["host_ip"], port["port"]) for port in box["ports"]] == [("127.0.0.1", 9999),
                                                                          ("127.0.0.1", 8080)]
    rules = {(r["decision"], r["resources"][0], r["origin"]) for r in pure(sbx, "policy", "ls", "box")}
    assert {("allow", "good.example", "global"), ("deny", "**.example.net", "global"),
            ("allow", "api.example.com", "kit:shaped"),
            ("deny", "bad.example.com", "kit:shaped")} <= rules
    secrets = {(s["type"], s["name"], s["scope"]) for s in pure(sbx, "secret", "ls")}
    assert secrets == {("service", "github", "(global)"), ("custom", "TOK", "(global)")}


@pytest.mark.parametrize("target, allowed", (("good.example", True), ("other.example:80", False)))
def test_policy_check(sbx, world, target, allowed):
    found = pure(sbx, "policy", "check", target, code=0 if allowed else 1)
    check(found, CHECK)
    assert found["allowed"] is allowed
    assert found["upstream_proxy"] is None
    found = pure(sbx, "policy", "check", target, code=0 if allowed else 1,
                 env={"SBX_PROXY": "proxy.example"})
    check(found, CHECK)
    if allowed:
        check(found["upstream_proxy"], {"url": str, "from": {"SBX_PROXY"}})
    else:
        assert found["upstream_proxy"] is None  # it would go nowhere


def test_policy_log_is_one_object_a_line(sbx, world):
    lines = sbx.ok("policy", "log", "box", "--json").splitlines()
    assert lines
    for line in lines:
        check(json.loads(line), RECORD)
    assert json.loads(lines[-1])["host"] == "denied.example"


def test_policy_log_verify(sbx, world):
    found, = pure(sbx, "policy", "log", "--verify")
    check(found, {"sandbox": {"box"}, "whole": {True}, "files": {1}, "first_seq": {1}, "last_seq": int,
                  "chain": str, "findings": [dict]})
    assert sbx.ok("policy", "log", "--verify").split()[-1] == found["chain"][:16]


def test_kit_validate_and_inspect(sbx, world, workspace):
    _, kit = world
    check(pure(sbx, "kit", "validate", kit),
          {"valid": {True}, "name": {"shaped"}, "kind": str, "warnings": [dict]})
    found = pure(sbx, "kit", "inspect", kit)
    check(found, INSPECT)
    assert found["description"] == "käse"
    lost = pure(sbx, "kit", "validate", "\udcff", code=1)
    assert lost["error"]["message"] == "kit '?': No such file or directory"
    (workspace / "spec.yaml").write_text("schemaVersion: '1'\nkind: mixin\nname: x\nbad: 1\n")
    check(pure(sbx, "kit", "validate", workspace, code=1),
          {"valid": {False}, "error": {"message": str, "file": str, "line": {4}, "column": {1},
                                       "hint?": str}})


@pytest.mark.parametrize("command", ("create", "run"))
def test_plan(sbx, world, command):
    workspace, kit = world
    found = pure(sbx, command, "--dry-run", "--name", "other", "--kit", kit, "shell", workspace)
    check(found, PLAN)
    assert [step["phase"] for step in found["steps"]] == ["install", "files", "startup", "memory",
                                                          "memory"]
    assert [box["name"] for box in pure(sbx, "ls")] == ["box"]
    text = sbx.ok(command, "--dry-run", "--kit", kit, "shell", workspace)
    for word in ("api.example.com", "bad.example.com", "svc", "A=1", "install", "startup"):
        assert word in text
    assert "needs --dry-run" in sbx(command, "--json", "shell", workspace, code=2).stderr
    assert "needs --dry-run" in sbx("run", "--json", "box", code=2).stderr, "one that is there"


def test_kit_log(sbx, world):
    """As it was printed; on a terminal without what would control it."""
    shown = sbx.ok("kit", "log", "box")
    for line in ("[shaped] install: printf", "installed käse\x1b[31m\n", "[shaped] startup: echo",
                 "started\n"):
        assert line in shown, line
    master, slave = pty.openpty()
    subprocess.run([sbx.binary, "kit", "log", "box"], env=sbx.env, stdout=slave, check=True)
    os.close(slave)
    seen = os.read(master, 65536).decode()
    os.close(master)
    assert "installed käse?[31m" in seen and "\x1b" not in seen
    sbx.ok("stop", "box")
    sbx.ok("start", "box")
    assert sbx.ok("kit", "log", "box").count("started\n") == 2, "each start is added"


def test_quiet_and_kept(sbx, world, workspace):
    bad = workspace / "bad"
    bad.mkdir()
    (bad / "spec.yaml").write_text("schemaVersion: '1'\nkind: mixin\nname: bad\ncommands:\n"
                                   "  install:\n    - command: echo some output; exit 9\n", "utf-8")
    failed = sbx("create", "-q", "--keep", "--name", "kept", "--kit", bad, "shell", workspace, code=1)
    assert "[bad] install" not in failed.stderr, "only the error shows the last lines"
    assert "sbx exec -it kept bash" in failed.stderr and "exit status 9" in failed.stderr
    assert "some output\n" in sbx.ok("kit", "log", "kept")
    assert "did not finish" not in sbx("exec", "kept", "true", code=0).stderr, "it runs already"
    why = "kit 'bad': the install command failed with exit status 9"
    for start in (("exec", "kept", "true"), ("start", "kept"), ("run", "-d", "kept")):
        sbx.ok("stop", "kept")
        assert sbx(*start, code=0).stderr.count(
            f"note: the kits of 'kept' did not finish installing ({why}): 'sbx kit log kept' shows it") == 1
    assert [box.get("unfinished") for box in pure(sbx, "ls")].count(why) == 1
    sbx.ok("rm", "-f", "kept")
    assert "some output\n" in sbx.ok("kit", "log", "kept"), "the log outlives its sandbox"


def test_kept_with_a_startup_step_that_fails(sbx, world, workspace):
    """What comes behind it, as the kit's files for the workspace, was not done either."""
    bad = workspace / "late"
    bad.mkdir()
    (bad / "spec.yaml").write_text("schemaVersion: '1'\nkind: mixin\nname: late\ncommands:\n"
                                   "  startup:\n    - command: [sh, -c, exit 9]\n", "utf-8")
    sbx("create", "--keep", "--name", "late", "--kit", bad, "shell", workspace, code=1)
    why = "kit 'late': the startup command failed with exit status 9"
    assert [box.get("unfinished") for box in pure(sbx, "ls")].count(why) == 1
    sbx.ok("stop", "late")
    failed = sbx("start", "late", code=1).stderr
    assert f"did not finish installing ({why})" in failed and "it runs: " in failed
    sbx.ok("rm", "-f", "late")
