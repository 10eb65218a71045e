# SPDX-License-Identifier: Apache-2.0
"""Virtual machines of ordinary users: with subordinate ids, and without."""

import os
import threading

import pytest
import fake_openai
from machine import (ANSWER_S, await_ends, caller_of_machines, inside, processes_of,
                     said_by_supervisor, state_of, status_of)


@pytest.fixture(scope="module", params=("range", "single"))
def box(request):
    with caller_of_machines(request.param) as one:
        one.ok("policy", "init", "deny-all")
        one.extra = one.place / "extra"
        one.extra.mkdir()
        (one.extra / "file").write_text("extra", encoding="utf-8")
        one.own(one.extra)
        one.own(one.extra / "file")
        one.said = one("create", "--name", "box", "--cpus", "1", "--memory", "256m", "shell",
                       one.work, f"{one.extra}:ro", code=0, timeout=300).stderr
        yield one


def test_agent_is_the_caller(box):
    assert inside(box, "id -un; whoami; echo from inside > made; mkdir d; echo x > d/e; mv d f;"
                       " chmod 600 made; cat made").split("\n")[:2] == ["agent", "agent"]
    made = (box.work / "made").stat()
    assert (made.st_uid, made.st_gid) == (box.entry.pw_uid, box.entry.pw_gid)
    assert made.st_mode & 0o777 == 0o600
    (box.work / "hosts").write_text("from the host", encoding="utf-8")
    box.own(box.work / "hosts")
    assert inside(box, "stat -c %U hosts; cat hosts") == "agent\nfrom the host"


def test_root_inside(box):
    """It is root of its kernel.  In the workspace it writes as the sandbox's own root where there
    are ids for one, and not at all without."""
    assert inside(box, "id -u; mount -t tmpfs t /mnt && umount /mnt && echo mounted",
                  user="0") == "0\nmounted\n"
    assert inside(box, "echo x > /opt/x && cat /opt/x && rm /opt/x", user="0") == "x\n"
    sudo = box("exec", "box", "--", "sudo", "-n", "id", "-u", timeout=ANSWER_S)
    assert sudo.stdout == ("0\n" if box.mode == "range" else ""), sudo.stderr
    done = box("exec", "-u", "0", "box", "--", "sh", "-c", "echo x > by_root", timeout=ANSWER_S)
    made = box.work / "by_root"
    if box.mode == "range":
        assert done.returncode == 0 and made.stat().st_uid not in (0, box.entry.pw_uid)
    else:
        assert done.returncode and not made.exists()
    inside(box, f"touch {box.extra}/x; rm {box.extra}/file; true", user="0")
    assert [path.name for path in box.extra.iterdir()] == ["file"]


def test_its_system_can_be_changed(box):
    """But /usr, which is the host's, read-only: nobody inside can be shown as its owner."""
    inside(box, "echo changed > /usr/local/bin/x; echo '# changed' >> /etc/profile", user="0")
    assert inside(box, "cat /usr/local/bin/x; tail -n1 /etc/profile") == "changed\n# changed\n"
    assert not os.path.exists("/usr/local/bin/x")
    inside(box, "mount -o remount,rw /usr; echo x > /usr/share/x; echo x >> /usr/bin/env; true",
           user="0")
    assert not os.path.exists("/usr/share/x")


def test_exit(box):
    server = fake_openai.make_server(key="k")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        port = server.server_address[1]
        url = f"http://host.docker.internal:{port}/v1/models"
        assert "403" in box("exec", "box", "--", "curl", "-sS", "-o", "/dev/null", "-w",
                            "%{http_code}", url, timeout=ANSWER_S).stdout
        box.ok("policy", "allow", "box", f"localhost:{port}", timeout=ANSWER_S)
        assert "401" in box("exec", "box", "--", "curl", "-sS", "-o", "/dev/null", "-w",
                            "%{http_code}", url, timeout=ANSWER_S).stdout
    finally:
        server.shutdown()
        server.server_close()


def test_processes_on_the_host(box):
    for name, pid in processes_of(box).items():
        status = status_of(pid)
        assert status["Uid"].split()[0] != "0", name
        if name in ("machine", "monitor"):
            assert int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0, name
            if box.mode == "range":
                assert int(status["Uid"].split()[0]) != box.entry.pw_uid, name
        if name in ("machine", "monitor", "share"):
            assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", name
            for kind in ("user", "mnt", "net", "pid"):
                assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(
                    f"/proc/self/ns/{kind}"), (name, kind)


def test_stop_start_remove(box):
    inside(box, "echo kept > ~/kept")
    pids = processes_of(box)
    box("stop", "box", code=0, timeout=ANSWER_S)
    await_ends(pids.values(), "a process of a stopped machine lives")
    assert "killed" not in said_by_supervisor(box) and state_of(box)["status"] == "stopped"
    assert inside(box, "cat ~/kept", timeout=300) == "kept\n"
    box("rm", "-f", "box", code=0, timeout=ANSWER_S)
    assert box.stored() == set()
