# SPDX-License-Identifier: Apache-2.0
"""Commands at the same moment, and commands that are interrupted: one sandbox, nothing half-made.

Where the order matters, a step of a kit waits for a file that the test makes in the workspace."""

import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from conftest import ISOLATION, PATIENCE, need_sandboxes, supervisor_of, wait_for

DEADLINE = 60 * PATIENCE
# A machine's creation takes seconds.
TIMES, MOMENTS, STEP_S = (20, 12, 0.008) if ISOLATION == "ns" else (3, 6, 0.5)
HEAD = 'schemaVersion: "1"\nkind: mixin\nname: {}\ncommands:\n'
# Its heading, which comes before it runs, does not say "waiting".
AWAIT = 'echo wait""ing; while ! [ -e {}/go ]; do sleep 0.02; done'


@pytest.fixture(autouse=True)
def sandboxes(sbx):
    need_sandboxes(sbx)
    sbx.ok("policy", "init", "deny-all")


@pytest.fixture
def kit():
    top = pathlib.Path(tempfile.mkdtemp(prefix="sbx-k-"))

    def make(name, commands):
        (top / name).mkdir()
        (top / name / "spec.yaml").write_text(HEAD.format(name) + commands, encoding="utf-8")
        return top / name
    yield make
    shutil.rmtree(top)


@pytest.fixture
def begin(sbx):
    """begin(words…) starts sbx without waiting for it."""
    running = []

    def start(*words, **options):
        running.append(subprocess.Popen(
            [sbx.binary, *map(str, words)], env=sbx.env, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options))
        return running[-1]
    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def end(process, code=None):
    """(standard output, standard error) of a process that ends by itself."""
    out, err = process.communicate(timeout=DEADLINE)
    assert code is None or process.returncode == code, (process.args, process.returncode, out, err)
    return out, err


def await_line(stream, text):
    """Reads lines until one holds the text: the process is now where it writes that."""
    for line in stream:
        if text in line:
            return
    raise AssertionError(f"ended before {text!r}")


def slow_install(kit, workspace):
    return kit("slow", f"  install:\n    - command: '{AWAIT.format(workspace)}'\n")


def statuses(sbx):
    return {box["name"]: box["status"] for box in sbx.json("ls")}


# --- two at once

def test_two_runs_at_once_share_one_sandbox(sbx, begin, workspace):
    for i in range(TIMES):
        name = f"both{i}"
        words = ("run", "--name", name, "shell", workspace, "--", "-c", "echo $$ >> ~/who")
        both = [begin(*words), begin(*words)]
        for process in both:
            end(process, 0)
        assert len(sbx.ok("exec", name, "--", "sh", "-c", "cat ~/who").split()) == 2
        sbx.ok("rm", "-f", name)


def test_second_run_waits_for_the_first(sbx, begin, workspace, kit):
    slow = slow_install(kit, workspace)
    words = ("shell", workspace, "--", "-c", "echo attached $(cat ~/made)")
    first = begin("run", "--name", "box", "--kit", slow, *words)
    await_line(first.stderr, "waiting")
    second = begin("run", "--name", "box", *words)
    third = begin("run", "box", "--", "-c", "echo third")
    for process in (second, third):
        await_line(process.stderr, "waiting for the command that is creating 'box'")
    sbx.ok("exec", "box", "--", "sh", "-c", "echo once > ~/made")
    (workspace / "go").touch()
    assert end(first, 0)[0] == end(second, 0)[0] == "attached once\n"
    assert end(third, 0)[0] == "third\n"


def test_second_run_with_the_same_kit_is_told_how_to_join(sbx, begin, workspace, kit):
    words = ("run", "--name", "box", "--kit", slow_install(kit, workspace), "shell", workspace)
    first = begin(*words, "--", "-c", "true")
    await_line(first.stderr, "waiting")
    message = sbx(*words, code=2).stderr
    assert "--kit can only be used when creating a new sandbox" in message
    assert "is creating 'box' at this moment" in message and "'sbx run box' waits" in message
    (workspace / "go").touch()
    end(first, 0)


def test_second_run_makes_it_when_the_first_fails(sbx, begin, workspace, kit):
    bad = kit("bad", f"  install:\n    - command: '{AWAIT.format(workspace)}; exit 3'\n")
    first = begin("run", "--name", "box", "--kit", bad, "shell", workspace)
    await_line(first.stderr, "waiting")
    second = begin("run", "--name", "box", "shell", workspace, "--", "-c", "echo mine")
    await_line(second.stderr, "waiting for")
    (workspace / "go").touch()
    assert "exit status 3" in end(first, 1)[1]
    assert end(second, 0)[0] == "mine\n"


def test_second_run_reports_that_the_first_was_killed(sbx, begin, workspace, kit):
    first = begin("run", "--name", "box", "--kit", slow_install(kit, workspace), "shell", workspace)
    await_line(first.stderr, "waiting")
    second = begin("run", "box")
    await_line(second.stderr, "waiting for")
    first.kill()
    message = end(second, 125)[1]
    assert "never finished" in message and "sbx rm -f box" in message


def test_two_creates_at_once_have_one_winner(sbx, begin, workspace):
    for i in range(TIMES):
        words = ("create", "--name", f"one{i}", "shell", workspace)
        both = [begin(*words), begin(*words)]
        ends = [end(process) for process in both]
        assert sorted(process.returncode for process in both) == [0, 1]
        loser = next(e for e, process in zip(ends, both) if process.returncode)
        assert f"there is already a sandbox named 'one{i}'" in loser[1]
        sbx.ok("exec", f"one{i}", "true")
        sbx.ok("rm", "-f", f"one{i}")


def first_process(sbx, name):
    """Of the sandbox's namespaces, as the host sees it: sbx-init or sbx-vm."""
    supervisor = supervisor_of(sbx.home, name)
    children = pathlib.Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return next(int(pid) for pid in children
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() in ("sbx-init", "sbx-vm"))


def test_sandboxes_made_at_once_have_ids_of_their_own(sbx, begin, workspace):
    made = [begin("create", "--name", f"many{i}", "shell", workspace) for i in range(6)]
    for process in made:
        end(process, 0)
    maps = {pathlib.Path(f"/proc/{first_process(sbx, f'many{i}')}/uid_map").read_text()
            for i in range(6)}
    assert len(maps) == (6 if os.geteuid() == 0 else 1)


def stopped_with_startup(sbx, workspace, kit, script):
    """A stopped sandbox "box" whose starts run the script, which waits for "go"."""
    startup = kit("s", f"""  startup:
    - command: [sh, -c, '{script}']
""")
    (workspace / "go").touch()
    sbx.ok("create", "--name", "box", "--kit", startup, "shell", workspace)
    sbx.ok("stop", "box")
    (workspace / "go").unlink()


def test_two_starts_at_once_run_startup_once(sbx, begin, workspace, kit):
    stopped_with_startup(sbx, workspace, kit,
                         f"echo begun >> ~/log; {AWAIT.format(workspace)}; echo done >> ~/log")
    both = [begin("start", "box"), begin("start", "box")]
    working, = select.select([process.stderr for process in both], [], [], DEADLINE)[0]
    await_line(working, "waiting")
    assert [process.poll() for process in both] == [None, None], "it returned before its steps"
    (workspace / "go").touch()
    for process in both:
        end(process, 0)
    assert sbx.ok("exec", "box", "--", "sh", "-c", "cat ~/log").split() == ["begun", "done"] * 2


# --- removal and stop in the way

def test_rm_during_create(sbx, begin, workspace, kit):
    create = begin("create", "--name", "box", "--kit", slow_install(kit, workspace), "shell",
                   workspace)
    await_line(create.stderr, "waiting")
    assert sbx.ok("rm", "-f", "box") == "box\n"
    message = end(create, 1)[1]
    assert "the sandbox stopped while the command was running" in message
    assert statuses(sbx) == {} and sbx.stored() == set()
    sbx.ok("create", "--name", "box", "shell", workspace)


def waits_for_a_lock(process):
    locks = pathlib.Path("/proc/locks").read_text(encoding="ascii")
    return any("->" in line and f" {process.pid} " in line for line in locks.splitlines())


def test_rm_beside_a_start_that_has_no_socket_yet(sbx, begin, workspace, kit):
    """It waits for the start, and then ends what that has started."""
    stopped_with_startup(sbx, workspace, kit, AWAIT.format(workspace))
    start = begin("start", "box")
    await_line(start.stderr, "waiting")
    control = next(sbx.home.rglob("control"))
    control.rename(control.with_name("later"))
    remove = begin("rm", "-f", "box")
    wait_for("rm does not wait for the start", lambda: waits_for_a_lock(remove))
    control.with_name("later").rename(control)
    (workspace / "go").touch()
    end(start, 0)
    assert end(remove, 0)[0] == "box\n"
    assert statuses(sbx) == {} and sbx.stored() == set()


def test_ls_that_waited_for_a_creation_tells_what_became_of_it(sbx, begin, workspace, kit):
    create = begin("create", "--name", "box", "--kit", slow_install(kit, workspace), "shell",
                   workspace)
    await_line(create.stderr, "waiting")
    lock = sbx.home / "state/sandboxes/box/supervisor.lock"
    supervisor = int(lock.read_text(encoding="ascii").split()[0])
    os.kill(supervisor, signal.SIGSTOP)
    try:
        ls = begin("ls", "--json")
        wait_for("ls does not ask", lambda: pathlib.Path(f"/proc/{ls.pid}/wchan").read_text(
            encoding="ascii").startswith(("unix_", "__skb_wait", "sock_")))
        (workspace / "go").touch()
        end(create, 0)
    finally:
        os.kill(supervisor, signal.SIGCONT)
    assert [box["status"] for box in json.loads(end(ls, 0)[0])] == ["running"]


def test_rm_of_a_suspended_creation(sbx, begin, workspace, kit):
    """A create that was suspended (^Z) cannot give up: the name stays its own, and rm says so."""
    create = begin("create", "--name", "box", "--kit", slow_install(kit, workspace), "shell",
                   workspace)
    await_line(create.stderr, "waiting")
    create.send_signal(signal.SIGSTOP)
    message = sbx("rm", "-f", "box", code=1).stderr
    assert f"process {create.pid} is creating sandbox 'box'" in message and "kill -9" in message
    create.send_signal(signal.SIGCONT)
    end(create, 1)
    assert statuses(sbx) == {}


def test_rm_at_any_moment_of_create(sbx, begin, workspace):
    for i in range(MOMENTS):
        create = begin("create", "--name", "box", "shell", workspace)
        time.sleep(STEP_S * i)  # not to wait for anything: to meet another moment each time
        gone = sbx("rm", "-f", "box")
        removed = gone.returncode == 0
        err = end(create)[1]
        assert "without a message" not in err and (create.returncode == 0 or "sbx: " in err)
        assert removed or create.returncode == 0, err
        assert statuses(sbx) == ({} if removed else {"box": "running"}), (err, gone)
        sbx("rm", "-f", "box")


def test_stop_during_create_rolls_back(sbx, begin, workspace, kit):
    create = begin("create", "--name", "box", "--kit", slow_install(kit, workspace), "shell",
                   workspace)
    await_line(create.stderr, "waiting")
    sbx.ok("stop", "box")
    end(create, 1)
    assert statuses(sbx) == {}


def test_exec_while_stopping(sbx, begin, sandbox):
    """A process that ignores SIGTERM keeps the sandbox in its grace time."""
    deaf = begin("exec", sandbox, "--", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
    await_line(deaf.stdout, "up")
    stop = begin("stop", sandbox)
    seen = set()
    while stop.poll() is None:
        done = sbx("exec", sandbox, "true")
        seen.add(done.returncode)
        why = {0: "", 126: "the sandbox is stopping", 143: "",
               137: "the sandbox stopped while the command"}
        assert done.returncode in why and why[done.returncode] in done.stderr, done
    assert 126 in seen
    end(stop, 0)
    sbx.ok("exec", sandbox, "true")


def test_stop_ends_what_does_not_obey(sbx, sandbox):
    """Process 1 of a machine's guest may be anybody's."""
    init = first_process(sbx, sandbox)
    os.kill(init, signal.SIGSTOP)
    sbx.ok("stop", sandbox)
    assert not pathlib.Path(f"/proc/{init}").exists()
    sbx.ok("exec", sandbox, "true")


def test_exec_at_any_moment_of_stop(sbx, begin, sandbox):
    for i in range(MOMENTS):
        stop = begin("stop", sandbox)
        time.sleep(STEP_S / 3 * i)  # another moment each time
        done = sbx("exec", sandbox, "true")
        assert "without a message" not in done.stderr
        terminated = done.returncode == 128 + signal.SIGTERM  # it ran when the stop came
        assert done.returncode == 0 or terminated or "sbx: " in done.stderr, done
        end(stop, 0)
        sbx.ok("exec", sandbox, "true")


# --- interrupted

@pytest.mark.parametrize("signo", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
def test_interrupted_create_leaves_nothing(sbx, begin, workspace, kit, signo):
    create = begin("create", "--name", "box", "--kit", slow_install(kit, workspace), "shell",
                   workspace)
    await_line(create.stderr, "waiting")
    create.send_signal(signo)
    message = end(create, -signo)[1]
    assert "interrupted" in message and "kit 'slow'" in message
    assert statuses(sbx) == {} and sbx.stored() == set()


def test_interrupted_create_with_keep_can_be_looked_into(sbx, begin, workspace, kit):
    create = begin("create", "--name", "box", "--keep", "--kit", slow_install(kit, workspace),
                   "shell", workspace)
    await_line(create.stderr, "waiting")
    create.send_signal(signal.SIGINT)
    assert "sbx exec -it box bash" in end(create, -signal.SIGINT)[1]
    assert statuses(sbx) == {"box": "running"}
    sbx.ok("exec", "box", "true")


def test_interrupt_at_any_moment_of_create(sbx, begin, workspace):
    for i in range(MOMENTS):
        create = begin("create", "--name", "box", "shell", workspace)
        time.sleep(STEP_S * i)  # another moment each time
        create.send_signal(signal.SIGINT)
        end(create)
        assert create.returncode in (0, 1, -signal.SIGINT)
        assert statuses(sbx) in ({}, {"box": "running"})
        assert create.returncode != 1, "it dies of the signal, after it has cleaned up"
        sbx("rm", "-f", "box")


def test_killed_start_runs_its_steps_next_time(sbx, begin, workspace, kit):
    startup = kit("s", f"  startup:\n    - command: [sh, -c, '{AWAIT.format(workspace)}; "
                       "echo done >> ~/log']\n")
    (workspace / "go").touch()
    sbx.ok("create", "--name", "box", "--kit", startup, "shell", workspace)
    sbx.ok("stop", "box")
    (workspace / "go").unlink()
    start = begin("start", "box")
    await_line(start.stderr, "waiting")
    start.kill()
    start.wait()
    limit = time.monotonic() + DEADLINE
    while statuses(sbx) != {"box": "stopped"}:
        assert time.monotonic() < limit, "it outlived the command that was starting it"
    (workspace / "go").touch()
    sbx.ok("start", "box")
    assert sbx.ok("exec", "box", "--", "sh", "-c", "cat ~/log").split() == ["done"] * 2


def test_failed_startup_leaves_it_running_to_be_looked_into(sbx, workspace, kit):
    startup = kit("s", f"  startup:\n    - command: [sh, -c, 'test -e {workspace}/go']\n")
    (workspace / "go").touch()
    sbx.ok("create", "--name", "box", "--kit", startup, "shell", workspace)
    sbx.ok("stop", "box")
    (workspace / "go").unlink()
    assert "exit status 1" in sbx("start", "box", code=1).stderr
    assert statuses(sbx) == {"box": "running"}
    sbx.ok("exec", "box", "true")


@pytest.mark.parametrize("command", ("create", "rm"))
def test_half_removed_sandbox_is_gone_and_its_rest_goes_with_the_next(sbx, sandbox, workspace,
                                                                      command):
    """As a killed `sbx rm` leaves it, or a supervisor that was killed while it emptied it."""
    sbx.ok("create", "--name", "other", "shell", workspace)
    sbx.ok("stop", sandbox)
    home = sbx.home / "state/sandboxes"
    rest = home / f".removed.{sandbox}.1"
    (home / sandbox).rename(rest)
    assert statuses(sbx) == {"other": "running"}
    words = {"create": ("create", "--name", sandbox, "shell", workspace), "rm": ("rm", "-f", "other")}
    with open(rest / "supervisor.lock", "rb") as lock:  # as while a supervisor empties it
        fcntl.flock(lock, fcntl.LOCK_EX)
        sbx.ok(*words[command])
        assert (rest / "sandbox.json").exists()
    sbx.ok("rm", "-f", sandbox) if command == "create" else sbx.ok(*words["create"])
    assert sbx.stored() == ({"other"} if command == "create" else {sandbox})


def test_rm_frees_the_storage(sbx, sandbox):
    sbx.ok("exec", sandbox, "-u", "0", "--", "sh", "-c",
           "mkdir -p /opt/a/b && for i in $(seq 500); do echo $i > /opt/a/b/$i; done; chmod 0 /opt/a")
    sbx.ok("rm", "-f", sandbox)
    assert statuses(sbx) == {} and sbx.stored() == set()
