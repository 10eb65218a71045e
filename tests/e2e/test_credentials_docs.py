# SPDX-License-Identifier: Apache-2.0
"""Every command of docs/credentials.md, in order, with the output that stands there."""
import os
import re
import subprocess

from conftest import ROOT, need_sandboxes

TEXT = (ROOT / "docs/credentials.md").read_text(encoding="utf-8")
BLOCKS = [re.sub(r"^    ", "", block, flags=re.M)
          for block in re.findall(r"(?:^    .*\n)+", TEXT, re.M)]


def commands():
    """(command, its output) of every block with a prompt."""
    for block in BLOCKS:
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def test_examples_do_what_they_say(sbx, workspace):
    need_sandboxes(sbx)
    sbx.ok("create", "--name", "demo", "shell", workspace)
    env = {**sbx.env, "TOKEN": "tok-0123456789abcdef", "NEW": "new-0123456789abcdef",
           "PATH": f"{os.path.dirname(sbx.binary)}:{os.environ['PATH']}"}
    seen = 0
    for command, output in commands():
        done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True,
                              timeout=60, check=False, stdin=subprocess.DEVNULL)
        shown = "\n".join(line.rstrip() for line in (done.stdout + done.stderr).splitlines())
        wanted = re.escape(output.rstrip("\n")).replace("…", "[0-9a-f]{32}")
        assert re.fullmatch(wanted, shown), f"$ {command}\n{shown}"
        assert done.returncode == 0
        seen += 1
    assert seen > 12


def test_every_preset_of_the_text_exists(sbx):
    table = TEXT.split("| services | sent as |")[1].split("\n\n")[0]
    names = [name for row in table.splitlines() for name in re.findall(r"`([a-z-]+)`",
                                                                     row.split("|")[1] if "|" in row
                                                                     else "")]
    assert len(names) > 12
    for name in [*names, "git"]:
        sbx.ok("secret", "set-custom", "-g", "--env", "X", "--host", "h.example", "--preset", name,
               "--value-stdin", input="value")
        entry, = sbx.json("secret", "ls")
        assert all(rule["host"] == "h.example" for rule in entry["rules"]) and entry["rules"]
        sbx.ok("secret", "rm", "-g", "X")
