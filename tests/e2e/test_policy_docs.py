# SPDX-License-Identifier: Apache-2.0
"""Every command of docs/policy.md, in order, with the output that stands there."""
import re
import shlex

from conftest import ROOT, need_sandboxes

TEXT = (ROOT / "docs/policy.md").read_text(encoding="utf-8")
BLOCKS = [re.sub(r"^    ", "", block, flags=re.M)
          for block in re.findall(r"(?:^    .*\n)+", TEXT, re.M)]


def commands():
    """(command, its output) of every block with a prompt."""
    for block in BLOCKS:
        if block.startswith("$ "):
            for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
                command, _, output = part.partition("\n")
                yield command, output


def test_examples_do_what_they_say(sbx, workspace):
    need_sandboxes(sbx)
    sbx.ok("policy", "init", "deny-all")
    sbx.ok("create", "--name", "demo", "shell", workspace)
    seen = 0
    for command, output in commands():
        words = shlex.split(command)
        assert words[0] == "sbx"
        done = sbx(*words[1:])
        shown = "\n".join(line.rstrip() for line in (done.stdout + done.stderr).splitlines())
        assert shown == output.rstrip("\n"), f"$ {command}\n{shown}"
        seen += 1
    assert seen > 25


def test_the_file_is_read_as_it_stands(sbx):
    block = next(b for b in BLOCKS if b.startswith("# everything"))
    path = sbx.home / "config/policy/global.rules"
    sbx.ok("policy", "init", "deny-all")
    path.write_text(block, encoding="utf-8")
    rules = [line for line in block.splitlines() if line.startswith(("allow", "deny"))]
    shown = sbx.json("policy", "ls")
    assert len(shown) == len(rules)
    for rule in rules:  # each is its own canonical text
        sbx.ok("policy", "rm", "-g", rule)
    assert sbx.json("policy", "ls") == []
    assert sbx.ok("policy", "host", "ls").splitlines()[1].split() == [
        "wiki.corp.example", "10.1.2.3:8443", "global"]
