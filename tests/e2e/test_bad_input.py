# SPDX-License-Identifier: Apache-2.0
"""Wrong words and machines that lack something: a clear message, the documented exit status, and
nothing lost.  (Bad kits are in test_kits.py and test_cli.py, a port in use in test_publish.py.)"""

import errno
import http.server
import json
import os
import pathlib
import ssl
import subprocess
import threading

import pytest
from conftest import ISOLATION, ROOT, need_program, need_root, need_sandboxes, records, wait_for

HEAD = 'schemaVersion: "1"\nkind: mixin\nname: {}\n'


def refused(sbx, *words, code, has=(), **options):
    """The message of a command that must fail so."""
    message = sbx(*words, code=code, **options).stderr
    assert message.startswith(("sbx: ", "note: ", "warning: ")), message
    for text in has:
        assert text in message, f"{text!r} is not in {message!r}"
    assert "\x1b" not in message and "\x9b" not in message
    return message


# --- words

@pytest.mark.parametrize("words, has", (
    (("create", "shel", "."), ["no agent or sandbox named 'shel'", "did you mean 'shell'?"]),
    (("run", "unheard-of-agent"), ["unheard-of-agent", "'sbx ls' lists sandboxes"]),
    (("run", "."), ["'.' is no agent but a path", "the agent comes first: sbx run shell ."]),
    (("run", "/tmp/x"), ["'/tmp/x' is no agent", "sbx run shell /tmp/x"]),
    (("create", ".", "claude"), ["'.' is no agent", "the agent comes first: sbx create claude ."]),
    (("create", "--kit", "shell", "."), ["'.' is no agent", "--kit takes a directory, and took 'shell'",
                                         "sbx create --kit DIR shell ."]),
    (("run", "--kit", "/no/dir", ".."), ["'..' is no agent", "the agent comes first: sbx run shell .."]),
    (("create", "shell", "/no/such/dir"), ["'/no/such/dir': No such file or directory"]),
    (("create", "shell", "/etc/passwd"), ["'/etc/passwd' is not a directory"]),
    (("create", "--name", "-x-", "shell", "."), ["'-x-' cannot be the name", "1 to 63 letters"]),
    (("create", "--name", "a/b", "shell", "."), ["'a/b' cannot be the name"]),
    (("create", "--name", "default", "shell", "."), ["'default' is reserved"]),
    (("create", "--name", "x" * 64, "shell", "."), ["1 to 63 letters"]),
    (("create", "--name", "a\x1b[2Jb", "shell", "."), ["'a?[2Jb' cannot be the name"]),
    (("create", "--memory", "lots", "shell", "."), ["--memory 'lots'", "512m or 8g"]),
    (("create", "--memory", "1k", "shell", "."), ["--memory '1k'", "at least 16m"]),
    (("create", "--memory", "nan", "shell", "."), ["--memory 'nan'"]),
    (("create", "--memory", "512mxy", "shell", "."), ["--memory '512mxy' is no size"]),
    (("create", "--memory", "0x20m", "shell", "."), ["--memory '0x20m' is no size"]),
    (("create", "--memory", "1e2m", "shell", "."), ["--memory '1e2m' is no size"]),
    (("create", "--memory", "2048t", "shell", "."), ["--memory '2048t'", "at most 1024t"]),
    (("create", "--cpus", "-1", "shell", "."), ["--cpus '-1'"]),
    (("create", "--cpus", "two", "shell", "."), ["--cpus 'two'"]),
    (("create", "--pids", "3", "shell", "."), ["--pids '3'"]),
    (("create", "-e", "1X=y", "shell", "."), ["'1X' is no variable: expected NAME=VALUE"]),
    (("create", "-e", "=y", "shell", "."), ["'' is no variable: expected NAME=VALUE"]),
    (("create", "--env-file", "/no/file", "shell", "."), ["'/no/file': No such file"]),
    (("create", "shell", ".", "--", "word"), ["workspace 'word': No such file"]),
    (("rm", "-f", "../x"), ["'../x' is not the name of a sandbox"]),
    (("stop", ".."), ["'..' is not the name of a sandbox"]),
    (("exec", "a b", "true"), ["'a b' is not the name of a sandbox"]),
    (("create", "--kit", "/no/kit", "shell", "."), ["kit '/no/kit': No such file", "spec.yaml"]),
    (("policy", "allow", "-g", "a.example", "\udcff.example"), ["'?.example' is not UTF-8"]),
    (("policy", "deny", "-g", "a.example", "--except", "\udcff"), ["'?' is not UTF-8"]),
    (("policy", "allow", "-g", "a.example", "--method", ""), ["--method is empty"]),
    (("policy", "allow", "-g", "a,,b"), ["beside ','", "1 | a,,b\n        ^\n"]),
    (("policy", "deny", "-g", "a,b,"), ["beside ','", "1 | a,b,\n          ^\n"]),
    (("policy", "allow", "-g", ""), ["a host is missing\nUsage"]),
    (("policy", "allow", "-g", "a.example:443:80"), ["there are two ports"]),
    (("policy", "check", "a.example:443:80"), ["there are two ports"]),
    (("policy", "rm", "a.example"), ["'a.example' was taken for a sandbox", "-g"]),
    (("policy", "log", "--verify", "--denied"), ["--denied does not go with it"]),
), ids=lambda value: "_".join(value)[:40] if isinstance(value, tuple) else "")
def test_wrong_words(sbx, words, has):
    """Wrong usage is 2, a file that cannot be read or a sandbox that is not there 1."""
    code = 1 if {"/no/file", "/no/kit"} & set(words) or words[0] == "exec" else 2
    refused(sbx, *words, code=code, has=has)
    assert sbx.json("ls") == []
    assert not list((sbx.home / "config/policy").glob("*.rules"))


@pytest.mark.parametrize("words", (
    ("check", "https://user:hunter2@x.example/"), ("check", "hunter2@x.example"),
    ("check", "https://hunter2:80@x.example:443/a"), ("allow", "-g", "a.example,u:hunter2@x.example"),
    ("deny", "-g", "https://u:hunter2@x.example"),
    ("deny", "-g", "*.x.example", "--except", "hunter2@b.x.example")))
def test_a_password_in_an_address_is_not_repeated(sbx, words):
    message = refused(sbx, "policy", *words, code=2, has=["stands before the host"])
    assert "hunter2" not in message


@pytest.mark.parametrize("words", (
    ("set", "-g", "anthropic", "hunter2"), ("set", "box", "anthropic", "hunter2"),
    ("set", "box", "anthropic", "two", "hunter2"),
    ("set-custom", "-g", "--env", "X", "--host", "h.example", "hunter2"),
    ("set-custom", "box", "hunter2", "--env", "X", "--host", "h.example")))
def test_a_secret_among_the_words_is_not_repeated(sbx, words):
    message = refused(sbx, "secret", *words, code=2, has=["read from standard input"])
    assert "hunter2" not in message
    assert sbx.json("secret", "ls") == []


def test_an_at_sign_of_a_path_is_no_user(sbx):
    sbx("policy", "check", "https://x.example/@scope/name?a=b@c", code=1)
    sbx.ok("policy", "allow", "-g", "x.example method GET path /@scope/**")


@pytest.mark.parametrize("path", ("/", "/proc", "/dev", "/sys/kernel"))
@pytest.mark.parametrize("flags", ((), ("--i-know",)))
def test_workspaces_that_a_sandbox_has_itself(sbx, path, flags):
    """They cannot be shown at their own path, whatever the caller knows."""
    refused(sbx, "create", *flags, "shell", path, code=2,
            has=[f"'{path}' cannot be a workspace", "directories"])


@pytest.mark.parametrize("path", ("home", "/etc", "/usr", "/var/../home"))
def test_workspaces_that_show_too_much(sbx, path):
    need_sandboxes(sbx)
    place = sbx.home / "person" if path == "home" else pathlib.Path(path)
    place.mkdir(exist_ok=True)
    env = {"HOME": str(sbx.home / "person")}
    refused(sbx, "create", "--name", "box", "shell", place, code=2, env=env,
            has=[f"'{place.resolve()}'", "would show", "--i-know"])
    assert sbx.json("ls") == []
    if path == "home":
        sbx.ok("create", "--i-know", "--name", "box", "shell", place, env=env)
        assert sbx.ok("exec", "box", "pwd") == f"{place}\n"


def test_an_agent_is_expected_and_a_sandbox_given(sbx, sandbox, workspace):
    for words in (("run", sandbox, workspace), ("create", sandbox)):
        refused(sbx, *words, code=2, has=["'box' is a sandbox", "'sbx run box'"])
    refused(sbx, "stop", "bxo", code=1, has=["no sandbox named 'bxo'", "did you mean 'box'?"])


def test_a_home_that_is_no_absolute_path(sbx):
    """Passed over, it would mean the sandboxes, rules and secrets of another place."""
    refused(sbx, "ls", code=1, env={"SBX_HOME": "here"}, has=["SBX_HOME 'here'", "absolute"])


def test_output_of_a_command_that_cannot_be_written(sbx, sandbox):
    """The command may have ended well before sbx knows; one that nobody reads any more is no fault."""
    def code_of(script, output):
        done = subprocess.run([sbx.binary, "exec", sandbox, "sh", "-c", script], env=sbx.env,
                              stdout=output, stderr=subprocess.PIPE, check=False, timeout=60)
        assert (b"cannot write the command's output: No space" in done.stderr) == (output is full)
        return done.returncode

    with open("/dev/full", "wb") as full:
        assert [code_of(script, full) for script in ("echo x", "yes", "echo x; exit 4")] == [1, 1, 4]
    read, write = os.pipe()
    os.close(read)
    assert code_of("exec yes", write) == 128 + 13
    os.close(write)


def test_taken_name_loses_nothing(sbx, sandbox, workspace):
    sbx.ok("exec", sandbox, "--", "sh", "-c", "echo kept > ~/note")
    refused(sbx, "create", "--name", sandbox, "shell", workspace, code=1,
            has=["already a sandbox named", "--name"])
    other = workspace / "other"
    other.mkdir()
    refused(sbx, "run", "--name", sandbox, "shell", other, code=1, has=[str(workspace), "--name"])
    assert sbx.ok("exec", sandbox, "--", "sh", "-c", "cat ~/note") == "kept\n"


def test_env_file_errors_show_their_place(sbx, workspace):
    file = workspace / "vars"
    file.write_text("# fine\nGOOD=1\n\nBAD NAME=2\n", encoding="utf-8")
    message = refused(sbx, "create", "--env-file", file, "shell", workspace, code=2,
                      has=[f"{file}:4:1: ", "'BAD NAME' is no variable", "4 | BAD NAME\n", "^"])
    assert "2\n" not in message, "a value, which may be a secret, is shown"
    file.write_bytes(b"GOOD=1\nEVIL\x1b[2J=1\n")
    refused(sbx, "create", "--env-file", file, "shell", workspace, code=2, has=[":2:1: ", "EVIL?[2J"])
    file.write_bytes(b"LATIN=\xe4\n")
    refused(sbx, "create", "--env-file", file, "shell", workspace, code=2,
            has=[":1:", "'LATIN' is not UTF-8"])
    refused(sbx, "create", "--env-file", "/dev/zero", "shell", workspace, code=1,
            has=["'/dev/zero' is larger than 1048576 bytes"])
    refused(sbx, "create", "--env-file", workspace, "shell", workspace, code=1,
            has=[f"'{workspace}' is a directory"])
    file.write_bytes(b"GOOD=1\nSECRET=hu\0sh\nMORE=1\n")
    message = refused(sbx, "create", "--env-file", file, "shell", workspace, code=2,
                      has=[f"{file}:2:10: ", "NUL byte"])
    assert "SECRET" not in message, "a line is shown whose value may be a secret"
    refused(sbx, "create", "--env-file", "-", "shell", workspace, code=1, has=["'-': No such file"])
    file.write_bytes(b"A=" + b"x" * (1 << 21))
    refused(sbx, "create", "--env-file", file, "shell", workspace, code=1, has=["larger than"])


# --- machines that lack something

@pytest.fixture(scope="module")
def deny(tmp_path_factory):
    """deny(what, errno): the words before a command that make it see such a kernel."""
    need_program("cc")
    program = tmp_path_factory.mktemp("deny") / "deny"
    subprocess.run(["cc", "-O1", "-o", program, ROOT / "tests/e2e/deny.c", "-lseccomp"], check=True)
    os.chmod(program.parent, 0o755)
    return lambda what, number: (str(program), what, str(number))


def create_under(caller, *deny, outside=(), has=(), lacks=()):
    """`outside`: words before all others."""
    # The filter comes before the words that make the caller, so that newuidmap keeps its rights.
    words = (*outside, *deny, *caller.command)
    done = subprocess.run([*words, "create", "--name", "box", "shell", caller.work],
                          env=caller.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 125, done
    for text in has:
        assert text in done.stderr, f"{text!r} is not in {done.stderr!r}"
    for text in lacks:
        assert text not in done.stderr
    assert caller.json("ls") == []
    caller.ok("create", "--name", "box", "shell", caller.work)


@pytest.mark.parametrize("number, hint", (
    (errno.EPERM, "in a container"), (errno.ENOSPC, "sysctl user.max_user_namespaces=")))
def test_no_user_namespaces(caller, deny, number, hint):
    words = deny("userns", number)
    if caller.mode == "root":  # makes them by clone3 alone, which is not there
        number, hint = errno.ENOSYS, "in a container"
    create_under(caller, *words,
                 has=["does not let you make user namespaces: " + os.strerror(number), hint],
                 lacks=["AppArmor"])


def test_limit_of_user_namespaces(sbx, workspace):
    """The real limit, in a user namespace whose own limit is 0."""
    need_sandboxes(sbx)
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"',
         "sh", sbx.binary, "create", "--name", "box", "shell", workspace],
        env=sbx.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 125
    assert "user namespaces: No space left" in done.stderr
    assert "sysctl user.max_user_namespaces=" in done.stderr


APPARMOR = """mount -t tmpfs none /proc/sys/kernel
echo {} > /proc/sys/kernel/apparmor_restrict_unprivileged_userns
exec "$@\""""


@pytest.mark.parametrize("what", ("userns", "mount"))
@pytest.mark.parametrize("restricts", (1, 0))
def test_apparmor_restriction(caller, deny, what, restricts):
    """As on Ubuntu 24.04: namespaces cannot be made, or they can and nothing is permitted in them."""
    hint = "sudo make install"
    shown = restricts and caller.mode != "root"
    create_under(caller, *deny(what, errno.EACCES), has=[hint] if shown else [],
                 lacks=[] if shown else [hint],
                 outside=("unshare", "-m", "sh", "-c", APPARMOR.format(restricts), "sh"))


@pytest.mark.parametrize("number", (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT))
def test_no_nftables(caller, deny, number):
    create_under(caller, *deny("nft", number),
                 has=["nftables", os.strerror(number), "modprobe nft_redir", "nf_tables"])


def test_root_of_a_user_namespace_without_ids(sbx, workspace):
    """As in a container of an ordinary user: uid 0, and no ids to give away."""
    need_sandboxes(sbx)
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c",
         '"$0" create --name box shell "$1" && "$0" exec box id -u && "$0" rm -f box',
         sbx.binary, workspace],
        env=sbx.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["box", "1000", "box"], done
    assert "only one user id" in done.stderr


# --- disk full

class Disk:
    def __init__(self, path):
        self.path = path
        self.ballast = path / "ballast"

    def fill(self, leave=0):
        with open(self.ballast, "ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError as error:
                assert error.errno == errno.ENOSPC
        os.truncate(self.ballast, max(0, self.ballast.stat().st_size // 4096 * 4096 - leave))

    def free(self):
        self.ballast.unlink()


@pytest.fixture
def disk(request, sbx):
    """The state, or the directory of it that is the parameter, on a small file system of its own."""
    need_root()
    need_sandboxes(sbx)
    place = sbx.home / getattr(request, "param", ".")
    place.mkdir(parents=True, exist_ok=True)
    size = "12m" if ISOLATION == "ns" else "160m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    yield Disk(place)
    sbx("rm", "--all", "--force")
    # Lazily: a supervisor whose start failed has replied, and may be just closing its log.
    subprocess.run(["umount", "--lazy", place], check=True)


NOT_WRITTEN = "creating.json': No space left on device"


def test_disk_full_while_the_template_is_built(sbx, disk, workspace):
    """What was asked for is written before anything starts: until then it is no failed start."""
    start = "cannot start sandbox 'box': build the host template"
    for leave, code, said in ((0, 1, NOT_WRITTEN), (16384, 125, start), (65536, 125, start),
                              (1 << 20, 125, start), (2 << 20, 125, start)):
        disk.fill(leave)
        refused(sbx, "create", "--name", "box", "shell", workspace, code=code,
                has=[said, "No space left on device"])
        assert sbx.json("ls") == []
        disk.free()
    assert not list((disk.path / "state").glob("templates/host-*"))
    sbx.ok("create", "--name", "box", "shell", workspace)


@pytest.mark.ns_only("a machine waits for space: test_disk_full_makes_a_machine_wait")
def test_disk_full_while_creating(sbx, disk, workspace):
    sbx.ok("create", "--name", "first", "shell", workspace)
    codes = []
    for leave in range(0, 256 << 10, 16 << 10):
        disk.fill(leave)
        done = sbx("create", "--name", "box", "shell", workspace)
        codes.append(done.returncode)
        if done.returncode == 0:
            sbx.ok("exec", "box", "true")
        else:
            assert "No space left on device" in done.stderr, done
            assert ("cannot start sandbox 'box'" in done.stderr) == (done.returncode == 125), done
            assert (NOT_WRITTEN in done.stderr) == (done.returncode == 1), done
            assert [box["name"] for box in sbx.json("ls")] == ["first"]
        sbx("rm", "-f", "box", code=0 if done.returncode == 0 else 1)
        disk.free()
    assert codes[0] == 1 and codes[-1] == 0 and set(codes) <= {0, 1, 125}
    assert sbx.ok("exec", "first", "echo", "alive") == "alive\n"


@pytest.mark.ns_only("a machine waits for space: test_disk_full_makes_a_machine_wait")
def test_disk_full_in_an_install_step(sbx, disk, workspace):
    kit = workspace / "kit"
    kit.mkdir()
    (kit / "spec.yaml").write_text(HEAD.format("big") + "commands:\n  install:\n    - command: "
                                   "head -c 64M /dev/zero > /opt/big\n", encoding="utf-8")
    refused(sbx, "create", "--name", "box", "--kit", kit, "shell", workspace, code=1,
            has=["kit 'big'", "No space left on device", "exit status 1", "spec.yaml:6"])
    assert sbx.json("ls") == []
    sbx.ok("create", "--name", "box", "shell", workspace)


@pytest.mark.parametrize("disk", ["state/sandboxes"], indirect=True)
def test_disk_full_makes_a_machine_wait(sbx, disk, workspace):
    """What its kernel has not written yet is not lost; and one that cannot even begin says why."""
    if ISOLATION != "vm":
        pytest.skip("about machines")
    sbx.ok("create", "--name", "first", "--memory", "256m", "shell", workspace)
    disk.fill()
    refused(sbx, "create", "--name", "second", "shell", workspace, code=1,
            has=["No space left on device"])
    writing = subprocess.Popen(
        [sbx.binary, "exec", "first", "--", "sh", "-c", "head -c 8M /dev/urandom > ~/big; sync;"
         " cksum ~/big; echo 3 > /proc/sys/vm/drop_caches; cksum ~/big"],
        env=sbx.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    log = sbx.home / "state/log/first.supervisor.log"
    wait_for("no word of the full disk", lambda: "no space is left" in log.read_text("utf-8"), 120)
    disk.free()
    first, second = writing.communicate(timeout=120)[0].splitlines()
    assert first == second and writing.returncode == 0
    assert log.read_text("utf-8").count("no space is left") == 1


def test_disk_full_loses_no_rules_and_no_secrets(sbx, disk, workspace):
    sbx.ok("policy", "init", "deny-all")
    sbx.ok("policy", "allow", "-g", "kept.example")
    sbx.ok("secret", "set", "-g", "github", input="ghp_kept")
    disk.fill()
    refused(sbx, "policy", "allow", "-g", "new.example", code=1, has=["No space left on device"])
    refused(sbx, "secret", "set", "-g", "anthropic", code=1, input="sk-new",
            has=["No space left on device"])
    disk.free()
    assert "kept.example" in sbx.ok("policy", "ls") and "new.example" not in sbx.ok("policy", "ls")
    assert [entry["name"] for entry in sbx.json("secret", "ls")] == ["github"]


# A machine's disk must not be on the full one.
@pytest.mark.parametrize("disk", ["." if ISOLATION == "ns" else "state/log"], indirect=True)
def test_disk_full_refuses_requests_that_cannot_be_logged(sbx, disk, workspace):
    need_program("curl")
    origin = Origin.start()
    try:
        sbx.ok("policy", "init", "deny-all")
        sbx.ok("policy", "allow", "-g", f"localhost:{origin.port}")
        sbx.ok("create", "--name", "box", "shell", workspace)
        asked = ("exec", "box", "curl", "-sS", "-w", " %{http_code}",
                 f"http://host.docker.internal:{origin.port}/")
        assert sbx.ok(*asked) == "answer 200"
        disk.fill()
        # What is left of the log's last block holds a few lines more.
        answers = []
        while len(answers) < 64 and "request log" not in (answers or [""])[-1]:
            answers.append(sbx.ok(*asked))
        assert "the request log cannot be written" in answers[-1], answers
        assert answers[-1].endswith(" 503"), answers
        seen = len(origin.seen)
        sbx.ok(*asked)
        assert len(origin.seen) == seen, "a request went out that no log knows"
        disk.free()
        assert sbx.ok(*asked) == "answer 200"
        records(sbx, decision="allow", until=lambda passed: len(passed) == len(origin.seen))
    finally:
        origin.stop()


# --- secrets and clocks

class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append(dict(self.headers))
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"answer")

    def log_message(self, *_args):
        pass

    @staticmethod
    def start(context=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
        server.daemon_threads = True
        server.seen = []
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        server.port = server.server_address[1]

        def stop():
            server.shutdown()
            server.server_close()
            thread.join()
        server.stop = stop
        return server


SERVICE = """network:
  allowedDomains: ["localhost:{port}"]
  serviceDomains: {{"localhost:{port}": model}}
  serviceAuth: {{model: {{headerName: Authorization, valueFormat: "Bearer %s"}}}}
credentials: {{sources: {{model: {{env: [MODEL_KEY_OF_THE_TEST]}}}}}}
environment: {{proxyManaged: [MODEL_KEY_OF_THE_TEST]}}
"""


def test_missing_secret_is_unbound(sbx, workspace):
    """The request passes as the client made it, and the log says so."""
    need_program("curl")
    need_sandboxes(sbx)
    origin = Origin.start()
    kit = workspace / "kit"
    kit.mkdir()
    (kit / "spec.yaml").write_text(HEAD.format("model") + SERVICE.format(port=origin.port),
                                   encoding="utf-8")
    try:
        sbx.ok("create", "--name", "box", "--kit", kit, "shell", workspace)
        sbx.ok("exec", "box", "curl", "-sS", "-H", "Authorization: Bearer own", "-H", "X-Own: 1",
               f"http://host.docker.internal:{origin.port}/")
        assert origin.seen[-1]["Authorization"] == "Bearer own"
        assert origin.seen[-1]["X-Own"] == "1"
        assert records(sbx, credential="unbound", service="model", decision="allow", until=any)
    finally:
        origin.stop()


@pytest.fixture
def old_origin(tmp_path):
    """A TLS server whose certificate has long been valid: (server, file of its authority)."""
    for program in ("openssl", "curl", "faketime"):
        need_program(program)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["faketime", "-f", "-60d", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "120", "-subj", "/CN=test",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
                   check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = Origin.start(context)
    yield server, cert
    server.stop()


def test_clocks_that_differ(sbx, workspace, old_origin):
    """Certificates of the proxy hold for a client whose clock is hours off, and the sandbox's CA for
    a host whose clock was set back by days after it was made."""
    need_sandboxes(sbx)
    server, authority = old_origin
    sbx.env["SSL_CERT_FILE"] = str(authority)
    sbx.ok("policy", "init", "deny-all")
    sbx.ok("policy", "allow", "-g", f"localhost:{server.port}")
    sbx.ok("secret", "set-custom", "-g", "--host", f"localhost:{server.port}", "--env", "TOKEN",
           "--placeholder", "proxy-managed-token", "--value-stdin", input="the-real-one")
    sbx.ok("create", "--name", "box", "shell", workspace)

    def ask(shift):
        return sbx("exec", "box", "faketime", "-f", shift, "curl", "-sS", "-H",
                   "Authorization: Bearer proxy-managed-token",
                   f"https://host.docker.internal:{server.port}/")
    for shift in ("-20h", "+0", "+20h", "+3d"):
        assert ask(shift).stdout == "answer", shift
        assert server.seen[-1]["Authorization"] == "Bearer the-real-one"
    assert "certificate" in ask("-30d").stderr, "a client that checks no dates proves nothing"

    sbx.ok("stop", "box")
    words = ("faketime", "-f", "-10d")
    subprocess.run([*words, sbx.binary, "start", "box"], env=sbx.env, check=True,
                   capture_output=True, timeout=60)
    assert ask("-10d").stdout == "answer"
    assert ask("-10d -3h".split()[0]).stdout == "answer"
