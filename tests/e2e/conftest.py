# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests: the real programs, a private SBX_HOME for each test.

SBX_BUILD names the build directory (default: build).  Nothing here is a mock; what a test needs
and the machine lacks is skipped by `need_*`, which says so on the terminal even under -q.
"""

import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import fake_openai  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = (ROOT / os.environ.get("SBX_BUILD", "build")).resolve()
PROGRAMS = ("sbx", "sbx-supervisor", "sbx-proxy", "sbx-init", "sbx-vm", "sbx-guest", "sbx-check",
            "sbx-probe-init")
# Debian keeps servers and administrators' programs out of an ordinary user's way.
os.environ["PATH"] += ":/usr/sbin:/sbin"
# The suite runs on either backend: SBX_TEST_ISOLATION=vm for machines.  Without hardware
# virtualization those are ten times slower, and so is patience.
ISOLATION = os.environ.get("SBX_TEST_ISOLATION", "ns")
PATIENCE = 10 if ISOLATION == "vm" else 1
# Where programs inside meet the proxy; names are answered there, too.
EXIT = "192.0.2.2" if ISOLATION == "vm" else "127.0.0.1"
NAME_SERVER = "198.18.0.1" if ISOLATION == "vm" else "127.0.0.1"
SKIPPED = []
USERS = itertools.count()


def copy_programs(directory):
    directory.chmod(0o755)
    for name in PROGRAMS:
        for built in BUILD.rglob(name):
            if built.is_file() and os.access(built, os.X_OK):
                shutil.copy2(built, directory / name)
    assert (directory / "sbx").exists(), f"sbx is not built below {BUILD}: run make first"


@pytest.fixture(scope="session")
def bindir(tmp_path_factory):
    """All programs in one directory, as after an installation: sbx finds its helpers there."""
    directory = tmp_path_factory.mktemp("bin")
    copy_programs(directory)
    return directory


class Sbx:
    """Runs sbx; calling it returns a CompletedProcess with text output.

    `command` is how to run it: words to begin with, for another user's sbx.
    """

    def __init__(self, binary, home, command=()):
        self.binary = str(binary)
        self.command = [*command, self.binary]
        self.home = home
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith(("SBX_", "XDG_")) and not k.upper().endswith("_PROXY")}
        self.env.update(SBX_HOME=str(home), NO_COLOR="1", LC_ALL="C.UTF-8",
                        SBX_ISOLATION=ISOLATION)

    def __call__(self, *words, code=None, input=None, env=None, cwd=None, timeout=60):
        done = subprocess.run(
            [*self.command, *map(str, words)], input="" if input is None else input,
            capture_output=True, text=True, errors="replace",
            env={**self.env, **(env or {})}, cwd=cwd, timeout=timeout * PATIENCE, check=False)
        if code is not None:
            assert done.returncode == code, (
                f"sbx {' '.join(map(str, words))}: exit {done.returncode}, expected {code}\n"
                f"stdout: {done.stdout}\nstderr: {done.stderr}")
        return done

    def ok(self, *words, **options):
        """Standard output of a command that must succeed."""
        return self(*words, code=0, **options).stdout

    def json(self, *words, **options):
        return json.loads(self.ok(*words, "--json", **options))

    def stored(self):
        """Names of what lies where sandboxes do, once what was removed has been emptied, too."""
        def names():
            return {path.name for path in (self.home / "state/sandboxes").iterdir()}
        wait_for("a removed sandbox keeps its storage",
                 lambda: not [name for name in names() if name.startswith(".removed.")])
        return names()


@contextlib.contextmanager
def fresh_sbx(bindir):
    # Not pytest's tmp_path: its length would push the control sockets over the kernel's limit.
    home = pathlib.Path(tempfile.mkdtemp(prefix="sbx-t-"))
    run = Sbx(bindir / "sbx", home)
    yield run
    run("rm", "--all", "--force")
    shutil.rmtree(home, ignore_errors=True)


class Caller(Sbx):
    """sbx as one kind of caller has it, with a workspace of his own.

    mode   "root", "range" (an ordinary user with subordinate ids) or "single" (one without)
    """

    def __init__(self, mode, entry, place):
        as_user = [] if mode == "root" else [
            "setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups"]
        super().__init__(place / "bin" / "sbx", place / "home", as_user)
        self.mode, self.entry, self.place = mode, entry, place
        self.work = place / "work"
        self.env["HOME"] = entry.pw_dir

    def own(self, path):
        """Gives a file or directory to the caller."""
        os.chown(path, self.entry.pw_uid, self.entry.pw_gid)
        return path

    def inside(self, script, user="1000", code=0, name="box", **options):
        return self("exec", "-u", user, name, "--", "sh", "-c", script, code=code, **options)

    def run(self, *words, **options):
        """A command of the host's, as the caller."""
        return subprocess.run([*self.command[:-1], *map(str, words)], capture_output=True,
                              text=True, timeout=60, check=True, env=self.env, **options)


@contextlib.contextmanager
def alone_with(what):
    """What the machine has once, for one test of all that run on it at a time."""
    with open(pathlib.Path(tempfile.gettempdir()) / f"sbx-tests-{what}-{os.geteuid()}.lock",
              "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def make_user(mode):
    name = f"sbxt{os.getpid()}{mode[0]}{next(USERS)}"
    system = ["-r"] if mode == "single" else []
    subprocess.run(["useradd", *system, "-m", name], check=True, timeout=30)
    try:
        ranges = pathlib.Path("/etc/subuid").read_text("utf-8").splitlines()
        if any(line.startswith(f"{name}:") for line in ranges) != (mode == "range"):
            skip_loudly("useradd gives other subordinate ids here than the test needs")
        yield pwd.getpwnam(name)
    finally:
        # The supervisor of a removed sandbox still empties its storage for a moment, and a user with
        # a process is not deleted.
        wait_for(f"the user {name} cannot be deleted", lambda: subprocess.run(
            ["userdel", "-r", name], check=False, capture_output=True, timeout=30).returncode in (0, 6, 12))


@contextlib.contextmanager
def make_caller(mode):
    need_root()
    if mode != "root":
        need_program("useradd")
    if mode == "range":
        need_program("newuidmap")
    with contextlib.ExitStack() as stack:
        entry = pwd.getpwuid(0) if mode == "root" else stack.enter_context(make_user(mode))
        place = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sbx-c-")))
        place.chmod(0o755)
        one = Caller(mode, entry, place)
        for directory in (place / "bin", one.home, one.work):
            directory.mkdir()
        copy_programs(place / "bin")
        one.own(one.home).chmod(0o700)
        one.own(one.work)
        need_sandboxes(one)
        try:
            yield one
        finally:
            one("rm", "--all", "--force")


@pytest.fixture(params=("root", "range", "single"))
def caller(request):
    with make_caller(request.param) as one:
        yield one


@pytest.fixture(scope="module", params=("root", "range", "single"))
def box(request):
    """A caller with a running sandbox "box", for all tests of a module that leave no trace."""
    with make_caller(request.param) as one:
        one.ok("create", "--name", "box", "shell", one.work)
        yield one


@contextlib.contextmanager
def fresh_workspace():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sbx-w-"))
    directory.chmod(0o755)
    (directory / "README").write_text("a workspace\n", encoding="utf-8")
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def sbx(request, bindir):
    with fresh_sbx(bindir) as run:
        yield run
        left = request.node.get_closest_marker("no_sandbox") and run.ok("ls", "-q")
    assert not left, "marked no_sandbox, and there is one"


@pytest.fixture
def workspace():
    with fresh_workspace() as directory:
        yield directory


@pytest.fixture
def sandbox(sbx, workspace):
    """The name of a fresh sandbox of the shell agent; the `sbx` fixture removes it."""
    need_sandboxes(sbx)
    sbx.ok("create", "--name", "box", "shell", workspace)
    return "box"


@pytest.fixture
def model():
    """A running fake model server with the key "sk-real-secret"."""
    server = fake_openai.make_server(key="sk-real-secret")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def wait_for(what, condition, seconds=60):
    """Until the condition holds; `what` is said when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def records(sbx, name="box", until=None, **wanted):
    """The request log's records with these fields. A record is written when its request has ended,
    which may be after the client has: with a condition, until it holds for what is found."""
    deadline = time.monotonic() + 60
    while True:
        log = [json.loads(line) for line in sbx.ok("policy", "log", name, "--json").splitlines()]
        found = [record for record in log if wanted.items() <= record.items()]
        if until is None or until(found):
            return found
        assert time.monotonic() < deadline, f"no such records with {wanted}: {log[-5:]}"
        time.sleep(0.05)


def supervisor_of(home, name="box"):
    """The process id of a running sandbox's supervisor: the first line of its lock."""
    pid = int((home / "state" / "sandboxes" / name / "supervisor.lock").read_text("utf-8").split()[0])
    assert pathlib.Path(f"/proc/{pid}/comm").read_text("ascii").strip() == "sbx-supervisor"
    return pid


def skip_loudly(reason):
    SKIPPED.append(f"{os.environ.get('PYTEST_CURRENT_TEST', '?')}: {reason}")
    pytest.skip(reason)


def need_root():
    if os.geteuid() != 0:
        skip_loudly("needs root")


def need_program(name):
    if shutil.which(name) is None:
        skip_loudly(f"needs the program {name}")


def need_sandboxes(sbx):
    """User namespaces must be permitted; everything else is our own business."""
    if subprocess.run(["unshare", "-Urn", "true"], check=False, capture_output=True).returncode:
        skip_loudly("this machine permits no user namespaces")
    if not (pathlib.Path(sbx.binary).parent / "sbx-supervisor").exists():
        pytest.fail("sbx-supervisor is not built")


def pytest_configure(config):
    config.addinivalue_line("markers", "ns_only(reason): is about namespaces, not about machines")
    config.addinivalue_line("markers", "no_sandbox: starts none, so that it holds on either backend")


def pytest_collection_modifyitems(config, items):
    """On machines only what starts some is run; tests of what only namespaces have are left out,
    each with its reason."""
    if ISOLATION != "vm":
        return
    without = [item for item in items if item.get_closest_marker("no_sandbox")]
    config.hook.pytest_deselected(items=without)
    items[:] = [item for item in items if not item.get_closest_marker("no_sandbox")]
    for item in items:
        for mark in item.iter_markers("ns_only"):
            item.add_marker(pytest.mark.skip(reason=f"ns only: {mark.args[0]}"))


def pytest_terminal_summary(terminalreporter):
    for line in SKIPPED:
        terminalreporter.write_line(f"SKIPPED {line}", yellow=True)
