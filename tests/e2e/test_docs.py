# SPDX-License-Identifier: Apache-2.0
"""What is written about sbx is so: flags, commands, files, variables and exit codes."""

import re
import shlex

import pytest
from conftest import ROOT
from test_cli import COMMANDS

pytestmark = pytest.mark.no_sandbox

MANUAL = (ROOT / "man/sbx.1.scd").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
GLOBAL = {"--debug", "-D", "--help", "-h"}


def plain(text):
    """scdoc without its marks."""
    marks = r"\\(.)|\*|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"
    return re.sub(marks, lambda m: m.group(1) or "", text)


def flags_in(text):
    return set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-[a-zA-Z])(?![\w-])", text))


def help_flags(sbx, path):
    lines = sbx.ok("help", *path.split("/")).partition("Flags:\n")[2].partition("\n\n")[0]
    return {flag for line in lines.splitlines() for flag in flags_in(line[:line.find("  ", 6)])}


def manual_of(path):
    """The part of sbx(1) that is about a command: its own section, or its entry in one."""
    sections = re.split(r"(?m)^## ", MANUAL.partition("# COMMANDS")[2].partition("\n# ")[0])
    group, _, word = path.partition("/")
    for section in sections[1:]:
        title, _, body = section.partition("\n")
        if group not in title.split(", "):
            continue
        if not word and len(title.split(", ")) == 1:
            return plain(body)
        entries = re.split(r"(?m)^(?=\*)", body)
        start = f"*{group} {word}*" if word else f"*{group}*"
        return plain("".join(entry for entry in entries if start in entry.partition("\n")[0]))
    return ""


@pytest.mark.parametrize("path", COMMANDS)
def test_manual_has_the_flags_that_help_has(sbx, path):
    text = manual_of(path)
    assert text, f"{path} is not in sbx(1)"
    if path in ("run", "exec"):  # one entry for each flag, and prose that may name others
        text = "\n".join(line for line in text.splitlines() if line.startswith("-"))
    written = flags_in(text)
    assert written - GLOBAL == help_flags(sbx, path) - GLOBAL


def test_global_flags_are_in_the_manual():
    assert GLOBAL <= flags_in(plain(MANUAL.partition("# FLAGS")[2].partition("\n# ")[0]))


def commands_in(text):
    """Command lines of sbx in an indented or fenced block, as lists of words."""
    text = text.replace("\\\n", " ")
    for line in re.findall(r"(?m)^(?:\t|    |  )(?:\$ |.*\| )?(?:sudo )?(sbx .*)$", text):
        line = re.split(r" \| | # |\+\+", re.sub(r"  +#.*", "", line))[0]
        yield shlex.split(line.replace("…", "x"))[1:]


def all_examples(sbx):
    for name in ("README.md", "man/sbx.1.scd", "docs/policy.md", "docs/audit-log.md",
                 "docs/upstream-proxy.md"):
        for words in commands_in((ROOT / name).read_text("utf-8")):
            yield name, words
    for path in COMMANDS:
        examples = sbx.ok("help", *path.split("/")).partition("Examples:\n")[2]
        for words in commands_in(examples):
            yield f"help of {path}", words


def test_examples_use_what_there_is(sbx):
    known = {path: help_flags(sbx, path) for path in COMMANDS}
    count = 0
    for place, words in all_examples(sbx):
        path = "/".join(words[:2]) if "/".join(words[:2]) in known else words[0]
        assert path in known, f"{place}: sbx {' '.join(words)}"
        words = words[:words.index("--")] if "--" in words else words
        if path == "exec":  # what follows COMMAND is its own
            words = re.match(r"exec( -\S+( [^-]\S*)??)*? [^-]\S*", " ".join(words)).group(0).split()
        for word in words:
            flag = word.partition("=")[0]
            letters = {f"-{c}" for c in flag[1:]} if re.fullmatch(r"-[a-z]+", flag) else {flag}
            assert not word.startswith("-") or letters <= known[path], f"{place}: {word} of {path}"
        count += 1
    assert count > 40, "the examples were not found"


@pytest.mark.parametrize("name", ("architecture.md", "threat-model.md"))
def test_paths_in_the_documents_exist(name):
    text = (ROOT / "docs" / name).read_text("utf-8")
    words = {word.rstrip(".") for word in re.findall(r"[\w./-]+/[\w.-]+\.[a-z]+\b|\b\w+/ ", text)}
    sources = {word for word in words if re.search(r"\.(c|h|md|py|scd|build)$", word.strip())}
    assert name != "architecture.md" or len(sources) >= 8
    for word in sources:
        assert (ROOT / word).exists() or (ROOT / "src" / word).exists(), f"{word} is not there"
    folders = re.findall(r"(?m)^    (\w+)/ {2,}", text.partition("## Folders")[2].partition("##")[0])
    for folder in folders:
        assert (ROOT / "src" / folder).is_dir(), folder
    if folders:
        assert set(folders) == {path.name for path in (ROOT / "src").iterdir() if path.is_dir()}


def test_links_lead_somewhere():
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_variables_of_the_code_are_in_the_manual():
    """Those that one of our programs sets for another are no interface."""
    section = plain(MANUAL.partition("# ENVIRONMENT")[2].partition("# FILES")[0])
    used = set()
    for source in (ROOT / "src").rglob("*.c"):
        if source.parent.name != "init":
            used |= set(re.findall(r'getenv\("(\w+)"\)|struct place \w+ = {"(\w+)"',
                                   source.read_text("utf-8")))
    names = {a or b for a, b in used}
    assert {"SBX_HOME", "XDG_STATE_HOME"} <= names
    assert not {name for name in names if name not in section}


def test_exit_codes_are_the_same_everywhere():
    table = re.findall(r"(?m)^\| ([\d, +n]+?) \| ", README.partition("## Exit codes")[2])
    section = plain(MANUAL.partition("# EXIT STATUS")[2].partition("# ENVIRONMENT")[0])
    manual = re.findall(r"(?m)^(\d[\d, +n]*)$", section)
    assert table == manual == ["0", "1", "2", "125", "126, 127", "128+n"]


def test_keys_of_the_example_kits_are_in_the_manual():
    text = plain((ROOT / "man/sbx-kit.5.scd").read_text("utf-8"))
    for spec in (ROOT / "examples").glob("*/spec.y*ml"):
        for key in re.findall(r"(?m)^(?:  ){0,1}([a-z]\w+):", spec.read_text("utf-8")):
            assert key in text, f"{spec.parent.name}: {key}"


def test_what_machines_leave_out_is_told():
    """The table of docs/architecture.md has the tests that are marked, and no others."""
    section = (ROOT / "docs/architecture.md").read_text("utf-8").partition(
        "\n| not on machines |")[2].partition("\n\n")[0]
    rows = "".join(line.split("|")[1] for line in section.splitlines()[2:])
    marked, marks = set(), 0
    for file in (ROOT / "tests/e2e").glob("test_*.py"):
        text = file.read_text("utf-8")
        marked |= set(re.findall(r'(?m)^@pytest\.mark\.ns_only\("[^"]+"\)\n(?:@.*\n)*def (\w+)', text))
        marked |= {file.name} if re.search(r"(?m)^pytestmark = .*\bns_only\b", text) else set()
        marks += len(re.findall(r"\bmark\.ns_only\(", text))
    assert len(marked) == marks > 10
    assert marked == set(re.findall(r"`(\w+(?:\.py)?)`", rows))
