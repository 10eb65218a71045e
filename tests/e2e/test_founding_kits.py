# SPDX-License-Identifier: Apache-2.0
"""The kits of examples/ on real input: Biome and OpenCode from npm through the proxy, Ruff without
an internet, a model server on this machine whose key must never be inside."""

import os
import pathlib
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import fake_openai
import pytest
from conftest import (ISOLATION, PATIENCE, ROOT, alone_with, need_program, need_root,
                      need_sandboxes, records, skip_loudly)

EXAMPLES = ROOT / "examples"
KEY = "sk-e2e-7f3a91c5d2-never-inside"
INSTALL_SECONDS = 150
# A machine's memory is that of its emulator, which looking all the time would leave no processor.
LOOK_SECONDS = 5 if ISOLATION == "vm" else 0


@pytest.fixture(scope="module")
def registry():
    """The host of npm's registry; skips where it cannot be reached."""
    need_program("npm")
    url = subprocess.run(["npm", "config", "get", "registry"], check=True, capture_output=True,
                         text=True, timeout=30).stdout.strip()
    try:
        urllib.request.urlopen(url + "-/ping", timeout=10).close()
    except urllib.error.HTTPError:
        pass  # an answer, if not the one asked for
    except OSError as error:
        skip_loudly(f"npm's registry cannot be reached ({error})")
    return urllib.parse.urlparse(url).hostname


@pytest.fixture
def model_at_ollama_port():
    """The model server on the very port that the kit names, of which there is one."""
    with alone_with("port-11434"):
        try:
            server = fake_openai.make_server(11434, key=KEY)
        except OSError as error:
            skip_loudly(f"port 11434 of this machine is taken ({error})")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        server.server_close()
        thread.join()


def test_biome_is_installed_through_the_proxy_and_lints(sbx, workspace, registry):
    need_sandboxes(sbx)
    (workspace / "bad.js").write_text("var a = 1;\nif (a == 1) { debugger }\n", encoding="utf-8")
    (workspace / "good.js").write_text("export const a = 1;\n", encoding="utf-8")
    sbx.ok("policy", "init", "deny-all")
    sbx.ok("policy", "allow", "-g", f"{registry}:443")
    made = sbx("create", "--name", "box", "--kit", EXAMPLES / "biome-lint", "shell", workspace,
               code=0, timeout=INSTALL_SECONDS)
    assert "[biome-lint] install: Install Biome" in made.stderr
    bad = sbx("exec", "box", "biome", "lint", "bad.js", code=1)
    assert "noDebugger" in bad.stdout + bad.stderr
    sbx.ok("exec", "box", "biome", "lint", "good.js")
    assert (workspace / "biome.json").read_bytes() == \
        (EXAMPLES / "biome-lint/files/workspace/biome.json").read_bytes()
    assert sbx.ok("exec", "box", "sh", "-c", "command -v biome").startswith("/home/agent/")
    fetched = records(sbx, host=registry, until=any)
    assert all(row["decision"] == "allow" for row in fetched)
    assert "Install Biome" in sbx.ok("kit", "log", "box")


def assert_ruff_fails_well(sbx, workspace, failed, *words):
    spec = (EXAMPLES / "ruff-lint/spec.yaml").read_text(encoding="utf-8").splitlines()
    line = next(n for n, text in enumerate(spec, 1) if "command:" in text)
    assert f"ruff-lint/spec.yaml:{line}:" in failed.stderr
    for word in (*words, "kit 'ruff-lint'", "uv tool install ruff@latest", "--keep",
                 "sbx exec -it box bash", "sbx kit log box"):
        assert word in failed.stderr, word
    assert sbx.json("ls") == [], "nothing half-made is left"
    assert not (workspace / "ruff.toml").exists()


def test_ruff_without_its_installer_fails_well(sbx, workspace):
    need_sandboxes(sbx)
    if shutil.which("uv"):
        skip_loudly("uv is installed here: what it prints without an internet is its own affair")
    failed = sbx("create", "--name", "box", "--kit", EXAMPLES / "ruff-lint", "shell", workspace,
                 code=1)
    assert_ruff_fails_well(sbx, workspace, failed, "exit status 127", "uv: not found")
    assert "uv: not found" in sbx.ok("kit", "log", "box")

    sbx("create", "--keep", "--name", "kept", "--kit", EXAMPLES / "ruff-lint", "shell", workspace,
        code=1)
    sbx.ok("exec", "kept", "true")


# Begins as uv does: it looks the package up.
UV = """#!/bin/sh
echo "uv: looking for $3"
curl -sS --fail --max-time 20 -o /dev/null https://pypi.org/simple/ruff
status=$?
echo "uv: curl ended with $status"
exit $status
"""


def test_ruff_without_an_internet_fails_well(sbx, workspace, tmp_path):
    """pypi.org is allowed by the kit, and that it was not reached lies beyond the rule."""
    need_sandboxes(sbx)
    uv = tmp_path / "uv/files/home/.local/bin/uv"
    uv.parent.mkdir(parents=True)
    uv.write_text(UV, encoding="utf-8")
    uv.chmod(0o755)
    (tmp_path / "uv/spec.yaml").write_text('schemaVersion: "1"\nkind: mixin\nname: uv\n', "utf-8")
    sbx.ok("policy", "init", "deny-all")
    made = sbx("create", "--name", "box", "--kit", tmp_path / "uv", "--kit",
               EXAMPLES / "ruff-lint", "shell", workspace)
    reached = records(sbx, host="pypi.org", until=any)
    assert all((row["decision"], row["rule"], row["origin"]) ==
               ("allow", "allow pypi.org", "kit:ruff-lint") for row in reached)
    shown = sbx.ok("policy", "log", "box")
    allowed = shown[shown.index("Allowed requests"):]
    assert re.search(r"box +network +pypi\.org:443 .*allow pypi\.org", allowed), shown
    if made.returncode == 0:
        skip_loudly("pypi.org can be reached from here: the install has nothing to fail of")
    assert made.returncode == 1
    status = re.search(r"uv: curl ended with ([1-9]\d*)", made.stderr).group(1)
    assert_ruff_fails_well(sbx, workspace, made, f"exit status {status}\n",
                           "uv: looking for ruff@latest", "curl: (")
    assert all(row["status"] in (0, 502, 504) for row in reached)


def inside_processes(name):
    """All processes below the sandbox's process 1, as the host sees them."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = (int(stat.rsplit(")", 1)[1].split()[1]),
                                            (entry / "cmdline").read_bytes())
            except OSError:
                continue
    supervisors = {pid for pid, (_, line) in parents.items()
                   if line.startswith(b"sbx-supervisor") and name.encode() in line.split(b"\0")}
    found = {pid for pid, (parent, line) in parents.items()
             if parent in supervisors and b"sbx-proxy" not in line}
    while more := {pid for pid, (parent, _) in parents.items() if parent in found} - found:
        found |= more
    return found


def memory_holds(pid, needle):
    """Whether a process's writable memory, arguments or environment hold the bytes."""
    machines = set()
    try:
        maps = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in maps:
                span, mode, _, _, inode, *name = line.split()
                start, end = (int(x, 16) for x in span.split("-"))
                if not mode.startswith("rw"):
                    continue
                if "/memfd:memory-backend-memfd" in name:
                    machines.add((inode, f"/proc/{pid}/map_files/{start:x}-{end:x}"))
                elif region_holds(memory, start, end, needle):
                    return True
        # Gigabytes that are mapped more than once: what has been touched is looked at, and once.
        return any(data_holds(path, needle) for path in dict(machines).values())
    except (FileNotFoundError, ProcessLookupError):
        return False  # it has ended


def look_while_it_runs(process, name, needle):
    """(all processes below the sandbox's process 1 meanwhile, those whose memory held the bytes)"""
    seen, inside = set(), set()
    while process.poll() is None:
        for pid in inside_processes(name):
            seen.add(pid)
            if memory_holds(pid, needle.encode()):
                inside.add(pid)
        time.sleep(LOOK_SECONDS)
    return seen, inside


def region_holds(memory, start, end, needle):
    step, overlap = 8 << 20, len(needle)
    for at in range(start, end, step):
        try:
            memory.seek(at)
            if needle in memory.read(min(step + overlap, end - at)):
                return True
        except OSError:
            return False  # a region without readable pages
    return False


def data_holds(path, needle):
    """Of a machine's disk (or memory) only what was written: it is 64 GiB of holes."""
    with open(path, "rb", buffering=0) as file:
        end = 0
        while end < os.fstat(file.fileno()).st_size:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            for place in range(start, end, 16 << 20):
                part = os.pread(file.fileno(), (16 << 20) + len(needle), place)
                if needle in part:
                    return True
    return False


def disk_holds(top, needle):
    """Files below `top` that hold the bytes (grep is far quicker than Python on 200 MB)."""
    done = subprocess.run(["grep", "-rlaF", "--exclude=disk.img", "-e", needle.decode(), str(top)],
                          check=False, capture_output=True, text=True, timeout=120)
    disks = (path for path in pathlib.Path(top).rglob("disk.img") if data_holds(path, needle))
    return done.stdout.split() + [str(path) for path in disks]


def test_local_llm_answers_and_the_key_is_never_inside(sbx, workspace, registry,
                                                       model_at_ollama_port):
    need_root()  # to read the memory of the sandbox's processes
    need_sandboxes(sbx)
    sbx.ok("policy", "init", "deny-all")
    sbx.ok("policy", "allow", "-g", f"{registry}:443")
    stored = sbx("secret", "set-custom", "-g", "--host", "localhost:11434", "--env",
                 "OLLAMA_API_KEY", "--placeholder", "proxy-managed", "--value", KEY, code=0)
    assert stored.stdout == "proxy-managed\n" and KEY not in stored.stderr
    assert "list of processes; --value-stdin does not" in stored.stderr
    shutil.copytree(EXAMPLES / "local-llm", workspace / "local-llm")
    ran = sbx("run", "shell", "--kit", "./local-llm/", cwd=workspace, code=0,
              input="curl -sS $OPENCODE_BASE_URL/models\nexit\n", timeout=INSTALL_SECONDS)
    assert '"id": "fake"' in ran.stdout and "[local-llm] install: Install OpenCode" in ran.stderr
    box, = sbx.ok("ls", "-q").split()
    shell = subprocess.Popen([sbx.binary, "exec", "-i", box, "sh", "-c", "echo up; cat; :"],
                             env=sbx.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert shell.stdout.readline() == "up\n"
        # A client that keeps its connection and its answer in memory while we look.
        agent = subprocess.Popen(
            [sbx.binary, "exec", box, "opencode", "run", "Say hello."], env=sbx.env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        seen, inside = look_while_it_runs(agent, box, KEY)
        answer = agent.stdout.read()
        assert agent.returncode == 0 and "".join(fake_openai.WORDS) in answer, answer
        assert len(seen) >= 3, "process 1, the shell and the agent were looked at"
        assert not inside, "the key was in the memory of a process inside"
        # That the search finds anything at all: the environment's placeholder is there.
        assert any(memory_holds(pid, b"OLLAMA_API_KEY=proxy-managed")
                   for pid in inside_processes(box))
    finally:
        shell.stdin.close()
        shell.wait(20 * PATIENCE)
    environments = sbx.ok("exec", "-u", "0", box, "sh", "-c",
                          "cat /proc/[0-9]*/environ | tr '\\0' '\\n'; env")
    assert "OLLAMA_API_KEY=proxy-managed" in environments and KEY not in environments
    state = sbx.home / "state/sandboxes" / box
    sbx.ok("exec", box, "sync")
    model = b"{env:OPENCODE_MODEL}"
    assert (data_holds(state / "disk.img", model) if ISOLATION == "vm" else
            disk_holds(state / "root", model)), "the search works"
    assert disk_holds(state, KEY.encode()) == []
    assert disk_holds(sbx.home / "state/log", KEY.encode()) == []
    assert disk_holds(workspace, KEY.encode()) == []

    posts = records(sbx, box, host="localhost", method="POST", until=any)
    assert all(
        (row["path"], row["rule"], row["credential"], row["service"], row["status"]) ==
        ("forward", "allow localhost:11434", "injected", "ollama-local", 200) for row in posts)
    shown = sbx.ok("policy", "log", box)
    assert re.search(rf"{re.escape(box)} +network +localhost:11434 +forward +"
                     "allow localhost:11434 ", shown)

    sbx.ok("secret", "rm", "-g", "--host", "localhost:11434")
    refused = sbx.ok("exec", box, "sh", "-c",
                     "curl -s -o /dev/null -w '%{http_code}' $OPENCODE_BASE_URL/models")
    assert refused == "401"
