# SPDX-License-Identifier: Apache-2.0
"""sbx reset: nothing of sbx is left, whatever ids its files have, and nothing else is touched."""

import os

import pytest


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
