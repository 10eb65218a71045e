# SPDX-License-Identifier: Apache-2.0
"""What is left, and what the next command says, when something dies or fails at a bad moment."""

import json
import os
import select
import signal
import subprocess

from conftest import supervisor_of

SPEC = """schemaVersion: "1"
kind: mixin
name: {name}
commands:
  install:
    - command: {command}
"""


def kit(workspace, name, command):
    directory = workspace / name
    directory.mkdir()
    (directory / "spec.yaml").write_text(SPEC.format(name=name, command=command), encoding="utf-8")
    return directory


def kill_and_wait(pid):
    pidfd = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([pidfd], [], [], 10)[0], "it did not end"
    finally:
        os.close(pidfd)


def test_killed_supervisor_is_replaced(caller):
    caller.ok("create", "--name", "box", "shell", caller.work)
    # A machine whose supervisor is killed loses what its kernel had not written, as by a power cut.
    caller.inside("echo kept > ~/note && sync ~/note")
    kill_and_wait(supervisor_of(caller.home))
    assert caller.json("ls")[0]["status"] == "stopped"
    assert caller.inside("cat ~/note").stdout == "kept\n"


def test_rm_after_a_killed_supervisor(caller):
    caller.ok("create", "--name", "box", "shell", caller.work)
    kill_and_wait(supervisor_of(caller.home))
    caller.ok("rm", "-f", "box")
    assert caller.json("ls") == []
    assert caller.stored() == set()


def test_killed_create_is_broken_and_can_be_removed(caller):
    slow = kit(caller.work, "slow", "echo begun; sleep 30")
    create = subprocess.Popen([*caller.command, "create", "--name", "half", "--kit", slow, "shell",
                               caller.work], env=caller.env, stderr=subprocess.PIPE)
    while create.stderr.readline() != b"begun\n":
        assert create.poll() is None
    supervisor = os.pidfd_open(supervisor_of(caller.home, "half"))
    create.kill()
    create.wait()
    create.stderr.close()
    ended = select.select([supervisor], [], [], 10)[0]
    os.close(supervisor)
    assert ended, "the supervisor outlived the command that was creating"
    assert caller.json("ls")[0]["status"] == "broken"
    caller.ok("rm", "-f", "half")
    caller.ok("create", "--name", "half", "shell", caller.work)


def test_failing_install_says_where_and_leaves_nothing(sbx, workspace):
    bad = kit(workspace, "bad", "echo last words; exit 9")
    done = sbx("create", "--name", "gone", "--kit", bad, "shell", workspace)
    assert done.returncode != 0
    for text in ("bad", "spec.yaml:6", "exit status 9", "echo last words; exit 9", "last words\n"):
        assert text in done.stderr, f"{text!r} is not in {done.stderr}"
    assert json.loads(sbx.ok("ls", "--json")) == []
    assert "last words" in sbx.ok("kit", "log", "gone")
    sbx.ok("policy", "log", "gone")
