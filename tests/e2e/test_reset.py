# SPDX-License-Identifier: Apache-2.0
"""sbx reset: nothing of sbx is left, whatever ids its files have, and nothing else is touched."""

import contextlib
import os
import pathlib
import subprocess
import time

import pytest
from conftest import need_sandboxes, wait_for


@pytest.fixture
def used(caller):
    """A caller who has used sbx: a running sandbox with files of several ids, a stopped one, rules, a
    setting and a secret."""
    caller.ok("policy", "init", "deny-all")
    caller.ok("policy", "allow", "-g", "example.com")
    caller.ok("settings", "set", "proxy.no-proxy", "example.org")
    caller.ok("secret", "set-custom", "-g", "--host", "localhost:1", "--env", "KEY",
              "--value-stdin", input="value of a key\n")
    for name in ("box", "other"):
        caller.ok("create", "--name", name, "shell", caller.work)
    become = "" if caller.mode == "single" else "sudo "
    caller.inside(f"{become}sh -c 'mkdir -p /opt/deep/er && touch /opt/deep/er/file &&"
                  " chmod 0 /opt/deep/er && chmod 500 /opt/deep' && echo kept > kept")
    caller.ok("stop", "other")
    (caller.own(caller.home) / "mine").write_text("not of sbx\n", encoding="utf-8")
    return caller


def everything(caller):
    return sorted(os.path.relpath(os.path.join(place, name), caller.home)
                  for place, dirs, files in os.walk(caller.home) for name in dirs + files)


def test_nothing_is_left(used):
    assert used.ok("reset", "--force") == "box\nother\n"
    assert everything(used) == ["mine"]
    assert (used.work / "kept").read_text("utf-8") == "kept\n"
    # And it can be used again.
    used.ok("create", "--name", "box", "shell", used.work)
    assert used.json("secret", "ls") == []


def test_secrets_can_be_kept(used):
    used.ok("reset", "--force", "--preserve-secrets")
    assert used.json("ls") == [] and used.json("settings", "ls") != []
    assert [secret["env"] for secret in used.json("secret", "ls")] == ["KEY"]
    assert "example.com" not in used.ok("policy", "ls")


def test_not_without_asking(used):
    done = used("reset")
    assert done.returncode == 2 and "--force" in done.stderr
    assert [box["name"] for box in used.json("ls")] == ["box", "other"]


def test_where_nothing_was(caller):
    assert caller.ok("reset", "--force") == ""
    assert everything(caller) == []


def supervisors(prefix):
    """Names of running sandboxes, whatever is recorded of them."""
    found = set()
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if words[0] == b"sbx-supervisor" and words[1].decode().startswith(prefix):
                found.add(words[1].decode())
    return found


def test_beside_creations(sbx, workspace):
    """Each is removed or comes after it; none goes on without its directory."""
    need_sandboxes(sbx)
    prefix = f"r{os.getpid()}-"

    def start(*words):
        return subprocess.Popen([sbx.binary, *words], env=sbx.env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for i in range(4):
        sbx.ok("create", "--name", f"{prefix}a{i}", "shell", workspace)
    resets, creations = [start("reset", "--force")], []
    for i in range(12):
        creations.append(start("create", "--name", f"{prefix}b{i}", "shell", str(workspace)))
        time.sleep(0.02)
    resets.append(start("reset", "--force"))
    for command in creations:
        command.communicate(timeout=60)
    assert [(command.communicate(timeout=60)[1], command.returncode) for command in resets] == [("", 0)] * 2
    # A supervisor whose sandbox is gone may still be emptying its storage.
    wait_for("a sandbox runs that nobody knows of", lambda: supervisors(prefix) == {
        box["name"] for box in sbx.json("ls") if box["status"] == "running"})
    sbx.ok("reset", "--force")
    assert not supervisors(prefix) and sbx.json("ls") == []
