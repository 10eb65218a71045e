# SPDX-License-Identifier: Apache-2.0
"""`sbx policy` as a person uses it: what the log shows and what it advises."""
import contextlib
import json
import pathlib
import subprocess

import pytest
from conftest import need_sandboxes, wait_for


def requests(sbx, name, *hosts):
    script = "; ".join(f"curl -s -m 5 -o /dev/null http://{h}/" for h in hosts)
    sbx("exec", name, "--", "sh", "-c", script)


def test_advice_for_a_name_that_was_only_looked_up(sbx, sandbox):
    sbx("exec", sandbox, "--", "getent", "hosts", "evil.example")
    text = sbx.ok("policy", "log", sandbox)
    assert f"sbx policy allow {sandbox} evil.example (" in text
    assert "sbx policy allow -g evil.example)" in text and ":53" not in text
    assert sbx.ok("policy", "log", sandbox, "-q").split() == ["evil.example"]
    sbx.ok("policy", "allow", sandbox, "evil.example")
    assert sbx("exec", sandbox, "--", "getent", "hosts", "evil.example").returncode == 0


def test_advice_for_a_request_names_its_port(sbx, sandbox):
    requests(sbx, sandbox, "evil.example:8080")
    text = sbx.ok("policy", "log", sandbox)
    assert f"sbx policy allow {sandbox} evil.example:8080 (" in text
    record = json.loads(sbx.ok("policy", "log", sandbox, "--json", "--denied").splitlines()[-1])
    assert record["host"] == "evil.example" and record["port"] == 8080
    assert record["decision"] == "deny" and record["reason"] == "default-deny"
    assert record["sandbox"] == sandbox and record["path"] == "forward" and record["status"] == 403
    assert {"t", "seq", "method", "target"} <= record.keys()


def test_the_log_by_type(sbx, sandbox):
    """There is one, and who asks for it gets it."""
    requests(sbx, sandbox, "evil.example")
    whole = sbx.ok("policy", "log", sandbox, "-q")
    assert whole
    for kind in ("all", "network"):
        assert sbx.ok("policy", "log", sandbox, "-q", "--type", kind) == whole
    said = sbx("policy", "log", sandbox, "--type", "filesystem", code=2).stderr
    assert "--type is all or network, not 'filesystem': nothing else is logged" in said


def test_a_policy_that_nobody_chose_is_told_once(sbx, workspace):
    need_sandboxes(sbx)
    said = []
    for name in ("first", "second"):
        place = workspace / name
        place.mkdir()
        said.append(sbx("create", "--name", name, "shell", place, code=0).stderr)
    note = ("note: no network policy was chosen, so 'balanced' holds "
            "('sbx policy ls' shows it, 'sbx policy init' chooses)\n")
    # What else it says of the machine, it says both times.
    assert note in said[0] and said[0].replace(note, "", 1) == said[1]
    assert "policy" not in said[1]
    assert {rule["origin"] for rule in sbx.json("policy", "ls")} == {"preset:balanced"}


@pytest.mark.parametrize("scope", [["-g"], []])
def test_rules_come_and_go(sbx, sandbox, scope):
    where = scope or [sandbox]
    host = "some.example"
    fetch = ["exec", sandbox, "--", "getent", "hosts", host]
    assert sbx(*fetch).returncode == 2
    sbx.ok("policy", "allow", *where, host)
    assert sbx(*fetch).returncode == 0
    sbx.ok("policy", "deny", *where, host)
    assert sbx(*fetch).returncode == 2
    sbx.ok("policy", "rm", *where, "--resource", host)
    assert sbx(*fetch).returncode == 2
    assert host not in sbx.ok("policy", "ls", sandbox)


def test_log_of_a_removed_sandbox_stays(sbx, sandbox):
    requests(sbx, sandbox, "evil.example")
    sbx.ok("rm", "--force", sandbox)
    assert "evil.example:80" in sbx.ok("policy", "log", sandbox)


def watches(pid):
    """Whether a process waits for changes of files."""
    for info in pathlib.Path(f"/proc/{pid}/fdinfo").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # it has just closed that one
            if "inotify wd:" in info.read_text("ascii"):
                return True
    return False


def test_following_a_name_that_nobody_has(sbx, sandbox, workspace):
    """It says so, as without -f, instead of waiting for ever."""
    for flags in ((), ("-f",), ("-f", "--json")):
        assert "there is no request log for 'bxo'" in sbx("policy", "log", *flags, "bxo", code=1).stderr
    # A sandbox whose log does not exist yet, and a log whose sandbox is gone, are followed.
    sbx.ok("create", "--name", "fresh", "shell", workspace)
    sbx.ok("stop", "fresh")
    for log in (sbx.home / "state/log").glob("fresh.jsonl*"):
        log.unlink()
    requests(sbx, sandbox, "evil.example")
    sbx.ok("rm", "-f", sandbox)
    for name in ("fresh", sandbox):
        with subprocess.Popen([sbx.binary, "policy", "log", "-f", "--json", "--since", "1h", name],
                              env=sbx.env, stdout=subprocess.PIPE, text=True) as follower:
            try:
                if name == "fresh":
                    wait_for("it does not wait for a log", lambda: watches(follower.pid))  # noqa: B023
                    sbx.ok("start", name)
                    requests(sbx, name, "evil.example")
                assert json.loads(follower.stdout.readline())["sandbox"] == name
            finally:
                follower.terminate()


def test_either_every_sandbox_or_one(sbx, sandbox):
    """With both, -g would win, and what was meant for one would hold for all."""
    before = sbx.json("policy", "ls")
    for words in (("allow", "-g", sandbox, "localhost:11434"), ("deny", "-g", sandbox, "a.example"),
                  ("allow", sandbox, "-g"), ("allow", sandbox, "b.example", "--global")):
        said = sbx("policy", *words, code=2).stderr
        assert "'box' is a sandbox: give -g or its name, not both" in said
    assert sbx.json("policy", "ls") == before
    sbx.ok("policy", "allow", "-g", "intranet", "box.example")
    sbx.ok("rm", "-f", sandbox)
    sbx.ok("policy", "allow", "-g", sandbox)
