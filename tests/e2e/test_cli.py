# SPDX-License-Identifier: Apache-2.0
"""The command line itself: help, hints, exit codes, kits, hardening of the programs."""

import json
import os
import re
import subprocess

import pytest

from conftest import ROOT

pytestmark = pytest.mark.no_sandbox

COMMANDS = """run create exec ls start stop rm reset completion version help
policy/init policy/set-default policy/ls policy/allow policy/deny policy/rm policy/check policy/host policy/log
secret/set secret/set-custom secret/ls secret/rm settings/ls settings/get settings/set settings/rm kit/validate kit/inspect kit/log
vm/kernel doctor""".split()
EXAMPLES = sorted(p.parent for p in (ROOT / "examples").glob("*/spec.y*ml"))


@pytest.mark.parametrize("path", COMMANDS)
def test_help_of_every_command(sbx, path):
    words = path.split("/")
    by_word = sbx.ok("help", *words)
    by_flag = sbx.ok(*words, "--help")
    assert by_word == by_flag == sbx.ok(*words, "-h")
    assert f"Usage: sbx {' '.join(words)}" in by_word
    assert "Flags:" in by_word and "Exit status" in by_word
    # Aligned: every description of a flag begins in the same column.
    flags = by_word.split("Flags:\n")[1].split("\n\n")[0].splitlines()
    assert len({re.search(r"\S  +(?=\S)", line[2:]).end() for line in flags}) == 1, flags
    # Nothing is longer than a terminal is wide, but for commands to copy.
    assert not [line for line in by_word.splitlines() if len(line) > 80 and not line.startswith("  sbx ")]


def test_overview(sbx):
    bare = sbx.ok()
    assert bare == sbx.ok("help") == sbx.ok("--help")
    for command in COMMANDS:
        assert re.search(rf"^  {command.split('/')[0]} ", bare, re.M), command


@pytest.mark.parametrize("group", ["policy", "secret", "kit", "vm"])
def test_group_alone_lists_its_commands(sbx, group):
    shown = sbx.ok(group)
    for command in COMMANDS:
        if command.startswith(group + "/"):
            assert command.replace("/", " ") in shown
    assert shown == sbx.ok("help", group) == sbx.ok(group, "--help")


@pytest.mark.parametrize("words, hint", [
    (["rnu"], "sbx run"),
    (["polciy"], "sbx policy"),
    (["policy", "alow"], "sbx policy allow"),
    (["kit", "validat"], "sbx kit validate"),
    (["ls", "--jsn"], "--json"),
    (["run", "--memroy", "1g", "shell"], "--memory"),
    (["help", "stpo"], "sbx stop"),
])
def test_mistyped_word_gets_the_nearest(sbx, words, hint):
    done = sbx(*words, code=2)
    assert f"did you mean '{hint}'?" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("words, usage", [
    (["ls", "--wrong-flag-entirely"], "Usage: sbx ls"),
    (["run", "-Z", "shell"], "Usage: sbx run"),
    (["run", "shell", "--memory"], "Usage: sbx run"),
    (["rm"], "Usage: sbx rm"),
    (["rm", "--all", "name"], "Usage: sbx rm"),
    (["reset"], "--force"),
    (["reset", "name"], "Usage: sbx reset"),
    (["start"], "Usage: sbx start"),
    (["exec", "box"], "Usage: sbx exec"),
    (["kit", "validate"], "Usage: sbx kit validate"),
    (["version", "word"], "unexpected word 'word'"),
    (["completion", "tcsh"], "expected bash, zsh or fish"),
])
def test_wrong_usage_is_exit_2(sbx, words, usage):
    assert usage in sbx(*words, code=2).stderr


def test_version(sbx):
    assert re.fullmatch(r"sbx \d+\.\d+\.\d+\n", sbx.ok("version"))
    assert sbx.ok("--version") == sbx.ok("version")
    assert f"sbx {sbx.json('version')['version']}\n" == sbx.ok("version")


def test_full_output_device_is_a_failure(sbx):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sbx.binary, "help"], stdout=full, stderr=subprocess.PIPE,
                              env=sbx.env, check=False)
    assert done.returncode == 1 and b"cannot write the output: No space" in done.stderr


def test_ls_without_sandboxes(sbx):
    assert sbx.ok("ls").split() == "SANDBOX AGENT STATUS PORTS WORKSPACE ISOLATION".split()
    assert sbx.json("ls") == []
    assert sbx.ok("ls", "-q") == ""


def test_unknown_sandbox_is_exit_1(sbx):
    for words in (["stop", "nosuch"], ["start", "nosuch"], ["rm", "-f", "nosuch"],
                  ["kit", "log", "nosuch"]):
        assert "nosuch" in sbx(*words, code=1).stderr
    assert "../x" in sbx("kit", "log", "../x", code=2).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_every_command(sbx, shell):
    script = sbx.ok("completion", shell)
    for command in COMMANDS:
        assert command.split("/")[-1] in script


def test_bash_completion_works(sbx):
    script = sbx.ok("completion", "bash") + """
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _sbx; echo "${COMPREPLY[@]}"; }
try sbx pol; try sbx policy al; try sbx ls --js; try sbx kit validate --j
try sbx policy init ba; try sbx settings set proxy.u
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True,
                          env=sbx.env)
    assert done.stdout.split() == ["policy", "allow", "--json", "--json", "balanced",
                                   "proxy.upstream"]


# --- kits ---------------------------------------------------------------------------------------

def test_there_are_examples():
    assert {"biome-lint", "local-llm", "ruff-lint"} <= {p.name for p in EXAMPLES}


@pytest.mark.parametrize("kit", EXAMPLES, ids=lambda p: p.name)
def test_examples_are_valid(sbx, kit):
    assert re.search(r"kit '[a-z0-9-]+' is valid \(0 warnings\)", sbx.ok("kit", "validate", kit))
    answer = sbx.json("kit", "validate", kit)
    assert answer["valid"] is True and answer["warnings"] == []
    name = sbx.json("kit", "inspect", kit)["name"]
    assert name == answer["name"]
    assert re.search(rf"^name +{name}$", sbx.ok("kit", "inspect", kit), re.M)


def write_kit(directory, text):
    (directory / "spec.yaml").write_text(text, encoding="utf-8")
    return directory


def test_bad_kit_shows_the_place_with_a_caret(sbx, workspace):
    kit = write_kit(workspace, 'schemaVersion: "1"\nkind: mixin\nname: x\nnetwrok:\n  a: b\n')
    done = sbx("kit", "validate", kit, code=1)
    assert "spec.yaml:4:1: " in done.stderr and "netwrok" in done.stderr
    lines = done.stderr.splitlines()
    excerpt = next(i for i, line in enumerate(lines) if "| netwrok:" in line)
    assert lines[excerpt + 1].index("^") == lines[excerpt].index("netwrok")
    assert done.stdout == ""
    answer = json.loads(sbx("kit", "validate", "--json", kit, code=1).stdout)
    assert answer["valid"] is False
    assert (answer["error"]["line"], answer["error"]["column"]) == (4, 1)


@pytest.mark.parametrize("text", [
    "", "[]", "schemaVersion: '1'\n", "{", "a: &a [*a]\n", "\0", "name: \xff\n",
    'schemaVersion: "1"\nkind: mixin\nname: "Bad Name"\n', "x: " + "[" * 5000,
], ids=range(9))
def test_broken_kits_fail_cleanly(sbx, workspace, text):
    done = sbx("kit", "validate", write_kit(workspace, text), code=1)
    assert done.stderr.startswith("sbx: ") and "spec.yaml" in done.stderr


OTHER_REFERENCES = [
    ("kit.zip", "ZIP archives"),
    ("git+https://git.example/org/repo.git#ref=v1", "git references"),
    ("https://git.example/org/repo", "git and web addresses"),
    ("http://git.example:3000/org/repo", "git and web addresses"),
    ("registry.example/org/kit:1.0", "OCI references"),
]


@pytest.mark.parametrize("ref, what", OTHER_REFERENCES)
def test_other_kit_references_are_refused_by_name(sbx, ref, what):
    done = sbx("kit", "validate", ref, code=1)
    assert f"{what} are not supported yet" in done.stderr and "directory" in done.stderr


def test_missing_kit_directory(sbx, workspace):
    assert "nowhere" in sbx("kit", "validate", workspace / "nowhere", code=1).stderr
    assert "spec.yaml" in sbx("kit", "inspect", workspace, code=1).stderr


def test_a_kit_that_cannot_be_read_says_why(sbx, workspace):
    (workspace / "spec.yaml").symlink_to("nowhere")
    said = sbx("kit", "validate", workspace, code=1).stderr
    assert "spec.yaml': No such file or directory" in said and "a link that leads nowhere" in said
    (workspace / "spec.yaml").unlink()
    write_kit(workspace, 'schemaVersion: "1"\nkind: mixin\nname: x\n')
    workspace.chmod(0o000)
    # Root may read everything, but not without its capabilities.
    plain = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    try:
        done = subprocess.run([*plain, sbx.binary, "kit", "validate", workspace], env=sbx.env,
                              capture_output=True, text=True, check=False, timeout=60)
    finally:
        workspace.chmod(0o755)
    assert done.returncode == 1 and "spec.yaml': Permission denied" in done.stderr
    assert "no spec.yaml" not in done.stderr


def test_inspect_never_looks_up_a_secret(sbx, workspace):
    kit = write_kit(workspace, """schemaVersion: "1"
kind: mixin
name: withkey
credentials:
  sources:
    svc:
      env: [MY_KEY]
network:
  serviceDomains:
    api.example.com: svc
  serviceAuth:
    svc:
      headerName: Authorization
      valueFormat: Bearer %s
""")
    for flags in ([], ["--json"]):
        shown = sbx.ok("kit", "inspect", kit, *flags, env={"MY_KEY": "sk-should-not-appear"})
        assert "sk-should-not-appear" not in shown
        assert "svc" in shown and "MY_KEY" in shown and "api.example.com" in shown


# --- the programs --------------------------------------------------------------------------------

def readelf(path, *flags):
    return subprocess.run(["readelf", "-W", *flags, path], capture_output=True, text=True,
                          check=True).stdout


@pytest.mark.parametrize("name", ["sbx", "sbx-supervisor", "sbx-proxy", "sbx-init"])
def test_programs_are_hardened(bindir, name):
    path = bindir / name
    assert path.exists(), f"{name} is not built"
    header, segments, dynamic = (readelf(path, f) for f in ("-h", "-l", "-d"))
    assert "DYN (" in header or name == "sbx-init", "position independent"
    assert "GNU_RELRO" in segments
    stack = next(line for line in segments.splitlines() if "GNU_STACK" in line)
    assert " RW " in stack and "RWE" not in stack, "no executable stack"
    assert not re.search(r"LOAD.* RWE ", segments), "no segment both writable and executable"
    if name != "sbx-init":
        assert "NOW" in dynamic, "all symbols bound at start"
        assert "__stack_chk_fail" in readelf(path, "--dyn-syms")
    assert "RPATH" not in dynamic and "RUNPATH" not in dynamic


FOREIGN = ["template ls", "login", "daemon status", "cp a b", "ports x", "kit pack x", "kit add a b", "policy reset -f",
           "run --template x shell", "run -t x shell", "create --branch auto shell", "exec --privileged a b",
           "exec --detach-keys ctrl-q a b", "secret set --oauth openai", "list", "shell .", "logs", "remove x", "ps"]


@pytest.mark.parametrize("words", FOREIGN)
def test_words_of_other_programs_are_answered(sbx, words):
    """With what does the same here, or why there is no such thing yet."""
    done = sbx(*words.split(), code=2)
    assert "unknown" in done.stderr and "\n  hint: " in done.stderr
    assert "did you mean" not in done.stderr and "lists the" not in done.stderr.split("Usage:")[0]


def test_removal_of_what_is_not_there_is_not_asked_about(sbx):
    done = sbx("rm", "nosuch", code=1)
    assert "there is no sandbox named 'nosuch'" in done.stderr and "nothing was removed" in done.stderr
