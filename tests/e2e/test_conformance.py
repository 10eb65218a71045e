# SPDX-License-Identifier: Apache-2.0
"""Kits as people have published them and as a stranger might make them: where a kit is looked for,
what its directory may hold, what is refused with which words, and what a sandbox is told of it."""

import csv
import os
import pathlib
import re

import pytest
from conftest import ROOT, SKIPPED, need_sandboxes

HEAD = 'schemaVersion: "1"\nkind: mixin\nname: {}\n'
CORPUS = pathlib.Path(os.environ.get("SBX_CORPUS", ROOT / "../shared/corpus"))
REST = "use a directory that holds the kit's spec.yaml"


@pytest.fixture
def kit(tmp_path):
    """kit(name, spec, files) makes a kit directory and returns its path."""
    def make(name, body="", files=()):
        directory = tmp_path / name
        (directory / "files").mkdir(parents=True)
        (directory / "spec.yaml").write_text(HEAD.format(name) + body, encoding="utf-8")
        for path, content in dict(files).items():
            (directory / "files" / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / "files" / path).write_text(content, encoding="utf-8")
        return directory
    os.chmod(tmp_path, 0o755)
    return make


# --- where a kit is looked for

@pytest.mark.no_sandbox
@pytest.mark.parametrize("ref, words", (
    ("nowhere", ["kit 'nowhere': No such file", "the directory that holds the kit's spec.yaml"]),
    ("file:///nowhere", ["kit '/nowhere': No such file"]),
    ("/etc/passwd", ["'/etc/passwd' is not a directory"]),
    ("./kit.zip", ["ZIP archives are not supported yet", REST]),
    ("oci://registry.example/kit:1", ["OCI references are not supported yet", REST]),
    ("registry.example/org/kit:1", ["OCI references", REST]),
    ("localhost:5000/kit@sha256:00", ["OCI references", REST]),
    ("git+https://git.example/kits.git#ref=v1&dir=../..", ["git references", REST]),
    ("git+ssh://git@git.example/kits.git", ["git references", REST]),
    ("git+https://--upload-pack=touch/x.git", ["git references", REST]),
    ("a\x1b[2Jb", ["a?[2Jb"]),
))
def test_references(sbx, ref, words):
    for command in (("kit", "validate"), ("kit", "inspect")):
        done = sbx(*command, ref)
        assert done.returncode in (1, 2) and done.stdout == "" and "\x1b" not in done.stderr
        for word in words:
            assert word in done.stderr


@pytest.mark.no_sandbox
def test_forms_of_a_directory(sbx, kit):
    one = kit("one")
    (one.parent / "link").symlink_to(one)
    for ref in (one, f"{one}/", f"file://{one}", f"{one}/../link"):
        assert sbx.ok("kit", "validate", ref) == "kit 'one' is valid (0 warnings)\n"
    (one / "spec.yml").write_text("a: @b", encoding="utf-8")
    sbx.ok("kit", "validate", one)
    (one / "spec.yaml").unlink()
    assert f"{one}/spec.yml:1:4: not valid YAML" in sbx("kit", "validate", one, code=1).stderr
    (one / "spec.yml").unlink()
    assert "no spec.yaml (or spec.yml)" in sbx("kit", "validate", one, code=1).stderr
    for odd in (os.mkdir, os.mkfifo):
        odd(one / "spec.yaml")
        assert "is not a regular file" in sbx("kit", "validate", one, code=1).stderr
        os.rmdir(one / "spec.yaml") if odd is os.mkdir else os.unlink(one / "spec.yaml")


# --- what others have published

@pytest.mark.no_sandbox
def test_corpus(sbx, tmp_path):
    """Every published document of this grammar is valid; the others are refused by their version."""
    if not (CORPUS / "index.tsv").exists():
        SKIPPED.append(f"test_corpus: no corpus at {CORPUS} (set SBX_CORPUS)")
        pytest.skip("no corpus")
    with open(CORPUS / "index.tsv", encoding="utf-8", newline="") as index:
        rows = list(csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows
    for row in rows:
        (tmp_path / "spec.yaml").write_bytes((CORPUS / row["file"]).read_bytes())
        done = sbx("kit", "validate", tmp_path)
        if row["schemaVersion"] == "1" and row["expect"] == "ok":
            assert done.returncode == 0, f"{row['file']}: {done.stderr}"
            assert sbx.json("kit", "inspect", tmp_path)["name"] == row["name"]
        else:
            assert done.returncode == 1, row["file"]
            assert re.search(r"spec\.yaml:\d+:\d+: unsupported schemaVersion", done.stderr), row


# --- what a kit's directory may hold

@pytest.mark.no_sandbox
@pytest.mark.parametrize("make, words", (
    (lambda home: os.mkfifo(home / "f"), ["home/f is neither a regular file", "leave it out"]),
    (lambda home: (home / "l").symlink_to("nowhere"), ["home/l: No such file", "link to nothing"]),
    (lambda home: (home / "l").symlink_to("../../.."), ["escapes the kit directory"]),
    (lambda home: (home / "l").symlink_to("."), ["nested too deeply", "its own parent"]),
    (lambda home: open(os.fsencode(home) + b"/\xe4", "wb").close(),
     ["home/?: its name is not valid UTF-8", "another name"]),
    (lambda home: [(home / str(i)).touch() for i in range(10001)],
     ["more than 10000 files", "one archive"]),
), ids=["fifo", "dangling", "escape", "loop", "latin1", "many"])
def test_odd_files(sbx, kit, make, words):
    odd = kit("odd", files={"home/x": ""})
    make(odd / "files/home")
    done = sbx("kit", "validate", odd, code=1)
    for word in words:
        assert word in done.stderr
    answer = sbx("kit", "validate", "--json", odd, code=1).stdout
    assert '"valid": false' in answer and '"message"' in answer


@pytest.mark.no_sandbox
def test_what_is_beside_the_trees_is_named(sbx, kit):
    odd = kit("odd", files={"Home/x": "", "home/y": ""})
    done = sbx("kit", "validate", odd)
    assert done.returncode == 0 and "(1 warning)" in done.stdout
    assert "warning: files/Home is ignored" in done.stderr


# --- what is refused before anything exists

@pytest.mark.no_sandbox
@pytest.mark.parametrize("body, place, words", (
    ('network: {serviceDomains: {"https://a.example/x": s}}\n', "4:28", "write a.example, not"),
    ('network: {serviceDomains: {"a*.example": s}}\n', "4:28", "a '*' can only be a whole label"),
    ("network:\n  allowedDomains:\n    - a.example:0\n", "6:7", "a number from 1 to 65535"),
    ("network:\n  deniedDomains:\n    - |\n      a b\n", "6:7", "a b"),
    ("credentials: [{service: s, apiKey: {inject: [{domain: 'a b', header: X}]}}]\n", "4:55", "a b"),
    ("oauth: {service: s, tokenEndpoint: {host: a_/b, path: /t}, sentinels: {accessToken: a, "
     "refreshToken: b}}\n", "4:43", "a_/b"),
))
def test_domains_are_checked_when_the_kit_is_read(sbx, kit, body, place, words):
    done = sbx("kit", "validate", kit("bad", body), code=1)
    assert f"/bad/spec.yaml:{place}: kit 'bad': no network rule can be made of" in done.stderr
    assert words in done.stderr and "^" in done.stderr


@pytest.mark.no_sandbox
def test_a_label_between_names(sbx, kit):
    """As three published kits write it; it is what it looks like."""
    aws = kit("aws", "network: {allowedDomains: ['bedrock.*.cloud.example:443']}\n")
    sbx.ok("kit", "validate", aws)
    sbx.ok("policy", "init", "deny-all")
    sbx.ok("policy", "allow", "-g", "bedrock.*.cloud.example:443")
    for host, code in (("bedrock.eu.cloud.example", 0), ("bedrock.cloud.example", 1),
                       ("bedrock.a.b.cloud.example", 1), ("x.bedrock.eu.cloud.example", 1),
                       ("bedrock.eu.cloud.example:80", 1)):
        sbx("policy", "check", host, code=code)


# --- what the person is told when a sandbox is made

def test_a_file_that_cannot_be_written_names_its_kit(sbx, workspace, kit):
    need_sandboxes(sbx)
    bad = kit("bad", "commands:\n  initFiles:\n    - {path: /proc/x, content: a}\n")
    failed = sbx("create", "--name", "box", "--kit", bad, "shell", workspace, code=1)
    assert f"{bad}/spec.yaml:6:" in failed.stderr and "kit 'bad': cannot write '/proc/x'" in failed.stderr
    assert sbx.json("ls") == []


def test_files_of_the_workspace_that_are_replaced(sbx, workspace, kit):
    need_sandboxes(sbx)
    (workspace / "own.toml").write_text("mine\n", encoding="utf-8")
    (workspace / "same.toml").write_text("a = 1\n", encoding="utf-8")
    files = {"workspace/own.toml": "a = 1\n", "workspace/same.toml": "a = 1\n",
             "workspace/new.toml": "a = 1\n"}
    one = kit("one", "commands: {initFiles: [{path: '${WORKDIR}/own.toml', onlyIfMissing: true}]}\n"
                     "publishedPorts: [{container: 53, protocol: udp}]\nextends: shell\n", files)
    os.chmod(one / "files/workspace/new.toml", 0o4711)
    told = f"warning: kit 'one' replaces '{workspace}/own.toml', which is there already"
    for flags in (("--dry-run",), ()):
        made = sbx("create", *flags, "--name", "box", "--kit", one, "shell", workspace, code=0)
        assert made.stdout.count(told) + made.stderr.count(told) == 1
        assert (made.stdout + made.stderr).count("which is there already") == 1
        assert "udp is not published" in made.stdout + made.stderr
    assert (workspace / "own.toml").read_text(encoding="utf-8") == "a = 1\n"
    assert (workspace / "new.toml").stat().st_mode & 0o7777 == 0o711
    assert sbx.json("ls")[0]["ports"] == []
