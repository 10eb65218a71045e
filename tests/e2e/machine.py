# SPDX-License-Identifier: Apache-2.0
"""What the tests of virtual machines share: a caller's machines, and their processes on the host."""

import contextlib
import os
import pathlib
import subprocess
import time

from conftest import make_caller, need_program, skip_loudly, supervisor_of, wait_for

# Without hardware virtualization, beside other work.
BOOT_S = 240
ANSWER_S = 120

HERE = pathlib.Path(__file__).parent


def need_machines(one):
    need_program("qemu-system-x86_64")
    done = one("vm", "kernel", timeout=ANSWER_S)
    if done.returncode:
        skip_loudly(f"no machine can be started here: {done.stderr.strip()}")


@contextlib.contextmanager
def caller_of_machines(mode):
    with make_caller(mode) as one:
        one.env["SBX_ISOLATION"] = "vm"
        need_machines(one)
        yield one


def create(one, *words, name="box", work=None, code=0):
    return one("create", "--name", name, *words, "shell", work or one.work, code=code,
               timeout=BOOT_S)


def inside(one, script, user="1000", code=0, name="box", **options):
    """A command in a machine; its standard output."""
    return one("exec", "-u", user, name, "--", "sh", "-c", script, code=code,
               timeout=options.pop("timeout", ANSWER_S), **options).stdout


def build_hostile_guest(mode, directory):
    """hostile_guest.c as compiled for a mode, static."""
    program = directory / mode
    subprocess.run(["gcc", "-O1", "-static", f'-DMODE="{mode}"', "-o", program,
                    HERE / "hostile_guest.c", HERE / "hostile_virtio.c"], check=True, timeout=120)
    return program


def tree(top):
    return {str(path.relative_to(top)): path.lstat().st_mode for path in top.rglob("*")}


def state_of(one, name="box"):
    return next(box for box in one.json("ls", timeout=ANSWER_S) if box["name"] == name)


def said_by_supervisor(one, name="box"):
    path = one.home / f"state/log/{name}.supervisor.log"
    return path.read_text("utf-8") if path.exists() else ""


# ---- processes ----

def children(pid):
    with contextlib.suppress(OSError):
        return [int(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()]
    return []


def comm(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def processes_of(one, name="box"):
    """{"supervisor", "proxy", "monitor", "share", "machine"}: the pids of a running machine."""
    supervisor = supervisor_of(one.home, name)
    first = {comm(pid): pid for pid in children(supervisor)}
    second = {comm(pid): pid for pid in children(first["sbx-vm"])}
    return {"supervisor": supervisor, "proxy": first["sbx-proxy"], "monitor": first["sbx-vm"],
            "share": second["virtiofsd"], "machine": second["qemu-system-x86"]}


def status_of(pid):
    return dict(line.split(":\t", 1) for line in
                pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def lives(pid):
    with contextlib.suppress(OSError):
        return status_of(pid)["State"][0] not in "ZX"
    return False


def await_ends(pids, what):
    wait_for(what, lambda: not any(map(lives, pids)), ANSWER_S)


def cgroups_of(pid):
    """Paths of the cgroups that were made for a sandbox, by its process 1."""
    return [line.split(":", 2)[2] for line in
            pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines() if "sbx-" in line]


def cgroups_left(paths):
    return [path for path in paths
            if any(pathlib.Path(top + path).exists() for top in
                   (f"/sys/fs/cgroup/{name}" for name in ("", "memory", "pids", "cpu", "unified")))]


def running(one, script, user="1000", name="box", first=":"):
    """A command in a machine as a process of ours; it has begun, and done `first`, when this
    returns."""
    command = subprocess.Popen(
        [*one.command, "exec", "-u", user, name, "--", "sh", "-c", f"{first}; echo begun; {script}"],
        env=one.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd="/")
    assert command.stdout.readline() == "begun\n", command.stderr.read()
    return command


def end_of(command):
    """(exit code, what it said on standard error) of what running() has started."""
    _, said = command.communicate(timeout=ANSWER_S)
    return command.returncode, said


def kill(pid, signal):
    os.kill(pid, signal)
    return time.monotonic()
