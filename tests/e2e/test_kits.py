# SPDX-License-Identifier: Apache-2.0
"""Kits and secrets by the real program: what a kit may do, in which order, and what is refused."""

import contextlib
import http.server
import json
import os
import pathlib
import pty
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
import time

import pytest
from conftest import need_program, need_sandboxes, records
from test_cli import OTHER_REFERENCES

HEAD = 'schemaVersion: "1"\nkind: {kind}\nname: {name}\n'


@pytest.fixture
def kit():
    """kit(name, spec, files) makes a kit directory and returns its path."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="sbx-k-"))

    def make(name, body="", files=(), kind="mixin"):
        directory = top / name
        directory.mkdir()
        (directory / "spec.yaml").write_text(HEAD.format(kind=kind, name=name) + body,
                                             encoding="utf-8")
        for path, content in dict(files).items():
            (directory / "files" / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / "files" / path).write_text(content, encoding="utf-8")
        return directory
    yield make
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(autouse=True)
def sandboxes(sbx):
    need_sandboxes(sbx)


def create(sbx, workspace, *kits, code=0, flags=()):
    words = [word for directory in kits for word in ("--kit", directory)]
    return sbx("create", "--name", "box", *flags, *words, "shell", workspace, code=code)


def inside(sbx, script, *flags):
    return sbx.ok("exec", *flags, "box", "sh", "-c", script)


# What kits do

FIRST = """
environment: {variables: {SHARED: first, FIRST: "1"}}
commands:
  install:
    - command: |
        id -u
        cat /home/agent/from-home
        echo "first $(id -u)" >> /var/tmp/order
    - {command: 'echo "user $(id -u)" >> /var/tmp/order.user', user: "1000"}
agentContext: Lint before you commit.
"""
SECOND = """
environment: {variables: {SHARED: second}}
commands:
  install:
    - command: echo second >> /var/tmp/order
  initFiles:
    - {path: "${WORKDIR}/made/where.txt", content: "work is ${WORKDIR}\\n"}
    - {path: /home/agent/kept, content: replaced, onlyIfMissing: true}
    - {path: /home/agent/always, content: replaced, mode: "0600"}
agentContext: A second text.
"""


def test_stacked_kits(sbx, workspace, kit):
    first = kit("first", FIRST, {"home/from-home": "home file\n", "home/kept": "kept",
                                 "home/always": "lost", "workspace/conf/a.toml": "a = 1\n"})
    second = kit("second", SECOND, {"workspace/conf/a.toml": "a = 2\n"})
    made = create(sbx, workspace, first, second)
    assert made.stdout == "box\n"
    assert "home file" in made.stderr and "[first] install" in made.stderr
    assert made.stderr.count("\nInstall commands completed\n") == 1
    assert made.stderr.rindex("] install: ") < made.stderr.index("Install commands completed")
    assert inside(sbx, "cat /var/tmp/order") == "first 0\nsecond\n"
    assert inside(sbx, "cat /var/tmp/order.user") == "user 1000\n"
    assert inside(sbx, "echo $SHARED $FIRST") == "second 1\n"
    assert (workspace / "made/where.txt").read_text() == f"work is {workspace}\n"
    assert (workspace / "conf/a.toml").read_text() == "a = 2\n", "the later kit's file stays"
    assert (workspace / "conf/a.toml").stat().st_uid == workspace.stat().st_uid
    assert inside(sbx, "cat ~/kept ~/always; stat -c '%a %u' ~/always") == "keptreplaced600 1000\n"
    memory = inside(sbx, f"cd {workspace}/..; cat AGENTS.md; cat kits-agent-context/*.md")
    assert "kits-agent-context/first.md" in memory and "kits-agent-context/second.md" in memory
    assert "Lint before you commit." in memory and "A second text." in memory
    assert not (workspace.parent / "AGENTS.md").exists(), "the host's directory is not written to"
    assert "home file" in sbx.ok("kit", "log", "box")


LOOK = ("for file in $HOME/home $HOME/install $HOME/init $HOME/startup work; do "
        "[ -e $file ] && printf '%s ' ${file##*/}; done")
ORDERED = """
commands:
  install:
    - {command: 'LOOK > /var/tmp/at-install; touch $HOME/install', user: "1000"}
  initFiles:
    - {path: /home/agent/init, content: x}
  startup:
    - command: [sh, -c, 'cd $WORKSPACE_DIR && LOOK > /var/tmp/at-startup; touch $HOME/startup']
""".replace("LOOK", LOOK.replace("'", "''"))


def test_order_of_effects(sbx, workspace, kit):
    """Each step of a kit's writes down what is there in its time."""
    create(sbx, workspace, kit("ordered", ORDERED, {"home/home": "x", "workspace/work": "x"}))
    assert inside(sbx, "cat /var/tmp/at-install") == "home "
    assert inside(sbx, "cat /var/tmp/at-startup") == "home install init "
    assert inside(sbx, LOOK) == "home install init startup work "


def test_startup_runs_at_every_start(sbx, workspace, kit):
    started = kit("started", """
commands:
  startup:
    - command: [sh, -c, 'echo "$(id -u) $1" >> /home/agent/starts', sh, "two words"]
    - command: [sh, -c, 'echo $$ > /tmp/pid; exec sleep 600']
      background: true
    - command: [sh, -c, 'nohup sleep 601 > /tmp/log 2>&1 & echo $! > /tmp/nohup']
""")
    create(sbx, workspace, started)
    line = "1000 two words\n"
    assert inside(sbx, "cat ~/starts") == line
    # The last of them is how published kits keep a server running.
    running = ("while ! [ -s /tmp/pid ]; do sleep 0.02; done; "
               "kill -0 $(cat /tmp/pid) $(cat /tmp/nohup) && echo alive")
    assert inside(sbx, running) == "alive\n"
    for count in (2, 3):
        sbx.ok("stop", "box")
        sbx.ok("start", "box")
        assert inside(sbx, "cat ~/starts") == line * count
        assert inside(sbx, running) == "alive\n"


def test_failing_startup_names_its_place(sbx, workspace, kit):
    bad = kit("bad", "commands:\n  startup:\n    - command: [sh, -c, 'echo why; exit 9']\n")
    failed = create(sbx, workspace, bad, code=1)
    for words in ("bad/spec.yaml:6:", "kit 'bad'", "startup", "exit status 9", "why"):
        assert words in failed.stderr
    assert sbx.json("ls") == []


def test_warnings_show_their_place(sbx, workspace, kit):
    old = kit("old", "memory: An old key.\n")
    made = create(sbx, workspace, old)
    assert "old/spec.yaml:4:" in made.stderr and "warning" in made.stderr
    assert "memory: An old key." in made.stderr and "^" in made.stderr


def test_dry_run_obeys_no_control_bytes(sbx, workspace, kit):
    sly = kit("sly", 'commands: {install: [{command: "evil\\e[2K\\nkind"}]}\n')
    text = sbx.ok("create", "--dry-run", "--kit", sly, "shell", workspace)
    assert "evil?[2K\\nkind" in text and "\x1b" not in text


def test_dry_run_does_nothing(sbx, workspace, kit):
    one = kit("one", 'network: {allowedDomains: [api.example.com, api.example.com]}\n'
                     'commands: {install: [{command: touch /x}], startup: [{command: [sh, -c, ": all of it"]}]}\n')
    model = kit("model", SERVICE.format(port=99) + "commands: {}\n")
    text = sbx.ok("create", "--dry-run", "--name", "box", "--kit", one, "--kit", model, "shell",
                  workspace, f"{one}:ro")
    for words in ("api.example.com", "touch /x", str(workspace), f"path     {one} (read-only)",
                  "secret   model (kit model)", "startup  sh -c : all of it (kit one)"):
        assert words in text
    assert text.count("allow    api.example.com (kit one)") == 1
    for words in (("-p", "x"), ("-e", "1=2"), ("--memory", "x"), ("--pids", "1"), ("--cpus", "x"),
                  ("--isolation", "x")):
        assert words[1][0] in sbx("create", "--dry-run", *words, "shell", workspace, code=2).stderr
    plan = json.loads(sbx.ok("run", "--dry-run", "--json", "--kit", one, "shell", workspace))
    assert plan["version"] == 1 and [k["name"] for k in plan["kits"]] == ["shell", "one"]
    assert [s.get("command") for s in plan["steps"]] == ["touch /x", None]
    assert plan["allow"][0]["rule"] == "api.example.com" and plan["allow"][0]["kit"] == "one"
    assert sbx.json("ls") == [] and not (sbx.home / "state/sandboxes/box").exists()


def test_dry_run_shows_what_the_words_say(sbx, workspace):
    words = ("--dry-run", "--name", "box", "-m", "512m", "--cpus", "1.5", "-p", "8080:80", "-p", "81",
             "-e", "A=hidden", "--isolation", "ns", "shell", f"{workspace}:ro")
    lines = sbx.ok("run", *words, "--", "-c", "echo x").splitlines()
    assert lines[0] == f"sandbox box: agent shell, workspace {workspace} (read-only)"
    for line in ("  isolation ns", "  limits   memory 512m, cpus 1.5, pids 4096",
                 "  publish  127.0.0.1:8080->80/tcp", "  publish  127.0.0.1:(a free port)->81/tcp",
                 "  env      A (its value is not shown)"):
        assert line in lines
    assert [line for line in lines if line.startswith("  command ") and line.endswith(" -c echo x")]
    assert "hidden" not in sbx.ok("create", *words) and "  command " not in sbx.ok("create", *words)
    plan = json.loads(sbx.ok("run", "--json", *words, "--", "-c", "echo x"))
    assert plan["name"] == "box" and plan["workspace"] == str(workspace) and not plan["exists"]
    assert plan["mounts"] == [{"path": str(workspace), "read_only": True}]
    assert plan["limits"] == {"memory_bytes": 512 << 20, "cpus": 1.5, "pids": 4096}
    assert plan["publish"] == [{"host_ip": "127.0.0.1", "host_port": 8080, "port": 80},
                               {"host_ip": "127.0.0.1", "host_port": 0, "port": 81}]
    assert plan["isolation"] == "ns" and plan["env_names"] == ["A"]
    assert plan["command"][-2:] == ["-c", "echo x"]
    assert "hidden" not in json.dumps(plan)
    assert "--rm" in sbx("run", "-d", "--rm", *words, code=2).stderr


def test_dry_run_where_the_sandbox_is_there(sbx, sandbox, workspace):
    words = ("--dry-run", "--name", sandbox, "shell", workspace)
    assert "already a sandbox named 'box'" in sbx("create", *words, code=1).stderr
    for run in (words, ("--dry-run", sandbox)):
        lines = sbx.ok("run", "-e", "B=1", *run).splitlines()
        assert lines[0].startswith("'box' is there already, and 'sbx run' would go back to it")
        assert lines[1] == f"sandbox box: agent shell, workspace {workspace}"
        assert "  env      B (its value is not shown)" in lines
    assert "--pids can only be used when creating" in sbx("run", "--pids", "99", *words, code=2).stderr
    sbx.ok("stop", sandbox)
    assert json.loads(sbx.ok("run", "--json", *words))["exists"] is True
    assert sbx.json("ls")[0]["status"] == "stopped"


def nothing_made(sbx):
    """Neither a sandbox nor a part of one."""
    return sbx.json("ls") == [] and sbx.stored() == set()


# What is refused: (spec body, exit code, words of the message)

# In a place for any keys.
BOMB = "environment:\n  variables:\n    a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"    {b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi"))


@pytest.mark.parametrize("body, words", [
    (BOMB, ["spec.yaml:", "too many YAML nodes (limit 50000, aliases expanded)"]),
    ("environment: {variables: {A: [", ["spec.yaml:"]),
    ("commands: {initFiles: [{path: /home/agent/../../etc/x, content: a}]}\n",
     ["spec.yaml:4:", "..", "^"]),
    ("network: {allowedDomains: ['bad host!']}\n", ["spec.yaml:4:", "^"]),
], ids=["bomb", "unclosed", "dots", "host"])
def test_bad_spec_is_refused(sbx, workspace, kit, body, words):
    failed = create(sbx, workspace, kit("bad", body), code=1)
    for word in words:
        assert word in failed.stderr
    assert sbx.json("ls") == []


def test_huge_scalar_is_refused_at_once(sbx, workspace, kit):
    huge = kit("huge")
    with open(huge / "spec.yaml", "a", encoding="utf-8") as spec:
        spec.write("description: ")
        for _ in range(100):
            spec.write("x" * (1 << 20))
    start = time.monotonic()
    failed = create(sbx, workspace, huge, code=1)
    assert f"'{huge}/spec.yaml' is larger than 1048576 bytes" in failed.stderr
    assert "below files/" in failed.stderr and len(failed.stderr) < 4096
    assert time.monotonic() - start < 10
    assert nothing_made(sbx)


def test_files_cannot_point_out_of_the_kit(sbx, workspace, kit):
    sly = kit("sly", files={"home/fine": "x"})
    (sly / "files/home/shadow").symlink_to("/etc/passwd")
    failed = create(sbx, workspace, sly, code=1)
    assert "shadow" in failed.stderr and "escapes the kit" in failed.stderr
    assert nothing_made(sbx)


def test_files_cannot_write_through_a_link_in_the_workspace(sbx, workspace, kit):
    """The workspace belongs to others, too: a link in it must not lead a kit's file elsewhere."""
    victim = pathlib.Path(tempfile.mkdtemp(prefix="sbx-v-"))
    try:
        (workspace / "conf").symlink_to(victim)
        failed = create(sbx, workspace, kit("w", files={"workspace/conf/a": "x"}), code=1)
        for words in ("kit 'w'", f"cannot write '{workspace}/conf/a'",
                      f"'{workspace}/conf' is a symbolic link", "put a directory in its place"):
            assert words in failed.stderr, words
        assert sbx.json("ls") == [] and list(victim.iterdir()) == []
    finally:
        shutil.rmtree(victim)


def test_missing_and_double_kits(sbx, workspace, kit):
    one = kit("one")
    missing = create(sbx, workspace, one.parent / "nowhere", code=1)
    assert f"kit '{one.parent}/nowhere': No such file or directory" in missing.stderr
    double = create(sbx, workspace, one, one, code=2)
    assert "duplicate kit name" in double.stderr and "one" in double.stderr
    assert nothing_made(sbx)


@pytest.mark.parametrize("ref, what", OTHER_REFERENCES)
def test_other_kit_references_make_nothing(sbx, workspace, ref, what):
    failed = create(sbx, workspace, ref, code=1)
    assert f"kit '{ref}': {what} are not supported yet" in failed.stderr
    assert nothing_made(sbx)


def test_agent_with_an_image_is_refused(sbx, workspace, kit):
    own = kit("own", "agent:\n  image: docker.io/library/debian:12\n", kind="agent")
    failed = create(sbx, workspace, own, code=1)
    assert "images are not supported yet" in failed.stderr
    assert "docker.io/library/debian:12" in failed.stderr and "'shell'" in failed.stderr


def test_kit_for_an_existing_sandbox_is_refused(sbx, workspace, kit):
    one = kit("one")
    create(sbx, workspace)
    assert "--kit" in sbx("run", "--name", "box", "--kit", one, "shell", workspace, code=2).stderr


# Secrets

SERVICE = """
network:
  allowedDomains: ["localhost:{port}"]
  serviceDomains: {{"localhost:{port}": model}}
  serviceAuth: {{model: {{headerName: Authorization, valueFormat: "Bearer %s"}}}}
credentials: {{sources: {{model: {{env: [MODEL_KEY]}}}}}}
environment: {{proxyManaged: [MODEL_KEY]}}
"""
KEY = "sk-real-secret"


def status(sbx, port, scheme="http"):
    return inside(sbx, f"curl -s -o /dev/null -w '%{{http_code}} %{{errormsg}}' "
                       f"{scheme}://host.docker.internal:{port}/v1/models").strip()


def test_secrets_reach_a_running_sandbox(sbx, workspace, kit, model):
    need_program("curl")
    port = model.server_address[1]
    create(sbx, workspace, kit("model", SERVICE.format(port=port)))
    assert inside(sbx, "echo $MODEL_KEY") == "proxy-managed\n"
    assert status(sbx, port) == "401"
    custom = ("secret", "set-custom", "-g", "--host", f"localhost:{port}", "--env", "MODEL_KEY",
              "--placeholder", "proxy-managed", "--value-stdin")
    assert sbx.ok(*custom, input=KEY + "\n") == "proxy-managed\n"
    assert status(sbx, port) == "200"
    listed = sbx.ok("secret", "ls")
    assert "MODEL_KEY" in listed and f"localhost:{port}" in listed and KEY not in listed
    assert KEY not in json.dumps(sbx.json("secret", "ls"))
    sbx.ok("secret", "rm", "-g", "--host", f"localhost:{port}")
    assert status(sbx, port) == "401"

    assert sbx("secret", "set", "box", "model", input=KEY, code=0).stderr == ""
    assert status(sbx, port) == "200"
    assert "--force" in sbx("secret", "set", "box", "model", input="other", code=1).stderr
    sbx.ok("secret", "set", "--force", "box", "model", input="other")
    assert status(sbx, port) == "401"
    sbx.ok("secret", "rm", "box", "model")
    assert "sbx secret ls" in sbx("secret", "rm", "box", "model", code=1).stderr
    log = records(sbx, until=lambda found: len(found) == 5)
    assert [(row["status"], row["credential"]) for row in log] == [
        (401, "unbound"), (200, "injected"), (401, "unbound"), (200, "injected"), (401, "injected")]
    modes = {oct(p.stat().st_mode & 0o777) for p in sbx.home.rglob("secrets/*") if p.is_file()}
    assert modes <= {"0o600"}


def test_secrets_of_no_sandbox_are_an_error(sbx):
    for words in (("secret", "ls"), ("policy", "ls")):
        assert "no sandbox named 'nosuch'" in sbx(*words, "nosuch", code=1).stderr
    sbx.ok("secret", "set", "later", "anthropic", input=KEY)
    assert "anthropic" in sbx.ok("secret", "ls", "later")
    assert sbx.json("secret", "ls", "later", "--service", "other") == []


def test_a_service_that_is_not_known_is_noted(sbx):
    for service, note in (("anthropik", "did you mean 'anthropic'?"), ("my-own-forge", None)):
        said = sbx("secret", "set", "-g", service, input=KEY, code=0).stderr
        assert f"note: '{service}' is no service that sbx knows" in said
        assert note in said if note else "did you mean" not in said
    assert sbx("secret", "set", "-g", "anthropic", input=KEY, code=0).stderr == ""
    assert len(sbx.json("secret", "ls")) == 3
    failed = sbx("secret", "set", "github", KEY, input="", code=2).stderr  # -g was forgotten
    assert "'github' is a service" in failed and KEY not in failed
    assert len(sbx.json("secret", "ls")) == 3


def test_placeholder_of_a_custom_secret(sbx, workspace, model):
    """No kit: the sandbox sends the placeholder itself, and only to this host it is replaced."""
    need_program("curl")
    port = model.server_address[1]
    sbx.ok("policy", "allow", "-g", f"localhost:{port}")
    placeholder = sbx.ok("secret", "set-custom", "-g", "--host", f"localhost:{port}", "--env",
                         "TOKEN", "--placeholder", "ph-{rand}", "--value-stdin", input=KEY).strip()
    assert placeholder.startswith("ph-") and len(placeholder) > 10
    usual = sbx.ok("secret", "set-custom", "-g", "--host", "other.example", "--env", "OTHER",
                   "--value-stdin", input=KEY)
    assert re.fullmatch("sbx-cs-[0-9a-f]{32}\n", usual)
    create(sbx, workspace)
    assert inside(sbx, "echo $TOKEN; echo $OTHER") == f"{placeholder}\n{usual}"
    asked = inside(sbx, "curl -s -o /dev/null -w '%{http_code}' -H \"Authorization: Bearer $TOKEN\""
                        f" http://host.docker.internal:{port}/v1/models")
    assert asked == "200"


FIRST_AND_SECOND = "env: [FIRST_KEY, SECOND_KEY]"
TOKEN_FILE = 'file: {{path: "~/token.json", parser: "json:auth.token"}}'
OF_FIRST, OF_SECOND, OF_FILE = "sk-of-first-51c7", "sk-of-second-0b3e", "sk-of-file-9d42"


@pytest.mark.parametrize("sources, variables, used", [
    (FIRST_AND_SECOND, {"SECOND_KEY": OF_SECOND}, OF_SECOND),
    (FIRST_AND_SECOND, {"FIRST_KEY": OF_FIRST, "SECOND_KEY": OF_SECOND}, OF_FIRST),
    (TOKEN_FILE, {}, OF_FILE),
    (f"{FIRST_AND_SECOND}, {TOKEN_FILE}", {"SECOND_KEY": OF_SECOND}, OF_SECOND),
    (f"{FIRST_AND_SECOND}, {TOKEN_FILE}, priority: file-first", {"FIRST_KEY": OF_FIRST}, OF_FILE),
], ids=["second", "first", "file", "env-first", "file-first"])
def test_value_comes_from_the_hosts_sources(sbx, workspace, kit, tmp_path, origin, sources,
                                            variables, used):
    need_program("curl")
    (tmp_path / "token.json").write_text(json.dumps({"auth": {"token": OF_FILE}}), "utf-8")
    port = origin.server_address[1]
    body = SERVICE.replace("env: [MODEL_KEY]", sources).replace("[MODEL_KEY]", "[FIRST_KEY]")
    sbx("create", "--name", "box", "--kit", kit("model", body.format(port=port)), "shell",
        workspace, code=0, env={"HOME": str(tmp_path), **variables})
    status(sbx, port)
    assert origin.seen == [f"Bearer {used}"]
    assert records(sbx, until=any)[0]["credential"] == "injected"
    held = inside(sbx, "cat /proc/[0-9]*/environ | tr '\\0' '\\n'; env; "
                       "grep -rasF -- sk-of- /home /tmp /var/tmp /run /etc; :", "-u", "0")
    assert "FIRST_KEY=proxy-managed" in held and "sk-of-" not in held.replace("-- sk-of-", "")


def type_secret(sbx, value):
    """Sets the secret of github at a terminal: (exit status, what was shown)."""
    pid, master = pty.fork()
    if pid == 0:
        os.execve(sbx.binary, [sbx.binary, "secret", "set", "-g", "github"], sbx.env)
    shown = b""
    while b"not shown" not in shown:
        shown += os.read(master, 4096)
    for i in range(0, len(value), 1024):
        os.write(master, value[i:i + 1024])
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:
        pass  # the terminal is closed
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def test_secret_is_asked_for_on_a_terminal(sbx):
    # The kernel would cut it: a part of a secret must not be stored.
    status, shown = type_secret(sbx, b"k" * 5000 + b"\n")
    assert status == 1 and b"longer than a line of a terminal" in shown
    assert sbx.json("secret", "ls") == []
    status, shown = type_secret(sbx, b"ghp_typed_by_hand\n")
    assert status == 0 and b"ghp_typed" not in shown
    entry, = sbx.json("secret", "ls")
    assert entry["name"] == "github" and "ghp_typed_by_hand" not in json.dumps(entry)
    sbx.ok("secret", "rm", "-g", "github")
    assert sbx.json("secret", "ls") == []


class KeyedOrigin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append(self.headers.get("Authorization"))
        good = self.server.seen[-1] == f"Bearer {KEY}"
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args):
        pass


@contextlib.contextmanager
def keyed_origin(context=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), KeyedOrigin)
    server.seen = []
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def origin():
    with keyed_origin() as server:
        yield server


@pytest.fixture
def tls_origin(tmp_path):
    """(server, file of the authority that signed it), for the name localhost."""
    need_program("openssl")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
                   check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with keyed_origin(context) as server:
        yield server, cert


def test_tls_secret_in_a_running_sandbox(sbx, workspace, kit, tls_origin):
    """The sandbox's authority is made only when the first TLS host needs it."""
    need_program("curl")
    server, authority = tls_origin
    port = server.server_address[1]
    sbx.env["SSL_CERT_FILE"] = str(authority)
    sbx.ok("policy", "allow", "-g", f"localhost:{port}")
    create(sbx, workspace)
    custom = ("secret", "set-custom", "-g", "--host", f"localhost:{port}", "--env", "TOKEN",
              "--placeholder", "proxy-managed-token", "--value-stdin")
    sbx.ok(*custom, input=KEY)
    asked = inside(sbx, "curl -sS -o /dev/null -w '%{http_code}' -H "
                        "'Authorization: Bearer proxy-managed-token' "
                        f"https://host.docker.internal:{port}/")
    assert asked == "200"
    sbx.ok("rm", "--force", "box")
    sbx.ok("secret", "rm", "-g", "--host", f"localhost:{port}")

    create(sbx, workspace, kit("model", SERVICE.format(port=port)))
    unbound = inside(sbx, "curl -sk -o /dev/null -w '%{http_code} %{ssl_verify_result}' "
                          f"https://host.docker.internal:{port}/")
    assert unbound.startswith("401") and not unbound.endswith(" 0"), \
        "without a value nothing is opened: the client meets the origin's own certificate"
    sbx.ok(*custom[:-5], "--env", "MODEL_KEY", "--placeholder", "proxy-managed", "--value-stdin",
           input=KEY)
    assert status(sbx, port, "https") == "200"
