# SPDX-License-Identifier: Apache-2.0
"""Whole sandboxes behind a real upstream proxy that wants a password, in front of a server with a
certificate of a private authority."""
import contextlib
import json
import os
import pathlib
import shutil
import ssl
import tempfile
import time

import pytest

from conftest import Sbx, need_sandboxes, supervisor_of
from test_proxy import start_origin
from upstreams import ENCODED, PASSWORD, Squid, USER, authority, free_port

NAME = "origin.upstream.example"
SECRET = "the-real-secret-value"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


class World:
    def __init__(self, bindir, folder):
        self.sbx = Sbx(bindir / "sbx", folder / "h")
        self.work = folder / "w"
        self.work.mkdir()
        self.ca, cert, key = authority(folder, NAME)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.web, self.tls = start_origin(), start_origin(context)
        self.squid = Squid({NAME: "127.0.0.1"})
        self.sbx.ok("policy", "init", "deny-all")
        self.urls = [f"{scheme}://{NAME}:{server.server_address[1]}/"
                     for scheme, server in (("http", self.web), ("https", self.tls))]

    def create(self, name, **env):
        self.sbx.ok("create", "--name", name, "shell", self.work, env=env)
        self.sbx.ok("policy", "allow", name, NAME)

    def sh(self, name, script, **options):
        return self.sbx("exec", name, "--", "sh", "-c", script, **options)

    def codes(self, name):
        script = "; ".join(f"curl -s -o /dev/null -w '%{{http_code}} ' {url}" for url in self.urls)
        return self.sh(name, script).stdout.split()

    def close(self):
        self.sbx("rm", "--all", "--force")
        self.squid.close()
        for server in (self.web, self.tls):
            server.shutdown()
            server.server_close()


@pytest.fixture
def world(bindir):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sbx-v-"))
    folder.chmod(0o755)
    made = World(bindir, folder)
    try:
        need_sandboxes(made.sbx)
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def forms(password):
    """As it was written, decoded, and as it goes on the wire."""
    import base64
    pair = base64.b64encode(f"{USER}:{password}".encode())
    return [password.encode(), ENCODED.encode(), pair]


def holds_password(data):
    return any(form in data for form in forms(PASSWORD))


def descendants():
    """Process ids by parent."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
        except OSError:
            continue
    return children


def processes_below(pid):
    children, found, left = descendants(), [], [pid]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def test_a_company_network(world):
    """HTTPS_PROXY with a password and a company's authority: everything works, and the password is
    nowhere but where it was given."""
    sbx = world.sbx
    sbx.ok("settings", "set", "tls.extra-ca", world.ca)
    world.create("corp", HTTPS_PROXY=world.squid.url)
    # Passed through: what is inside trusts the authority; then opened, for a credential.
    assert world.codes("corp") == ["200", "200"]
    opened = json.loads(world.sh("corp", f"curl -sS {world.urls[1]}").stdout)
    assert "Authorization" not in opened["headers"]
    sbx.ok("secret", "set-custom", "corp", "--host", NAME, "--env", "KEY", "--scheme", "bearer",
           "--value-stdin", input=SECRET)
    opened = json.loads(world.sh("corp", f"curl -sS {world.urls[1]}").stdout)
    assert opened["headers"]["Authorization"] == f"Bearer {SECRET}"
    for client in ("python3 -c 'import urllib.request as u; print(u.urlopen(\"%s\").status)'",
                   "node -e 'fetch(\"%s\").then(r => console.log(r.status))'"):
        if shutil.which(client.split()[0]):
            done = world.sh("corp", client % world.urls[1])
            assert done.stdout == "200\n", done.stderr
    assert world.squid.logged(f"GET {world.urls[0]} {USER}")
    assert world.sh("corp", "curl -s -o /dev/null -w '%{http_code}' http://denied.example/"
                    ).stdout == "403"
    assert not any("denied" in line for line in world.squid.log())

    # The password: no process of the sandbox's has it in its environment or arguments ...
    supervisor = supervisor_of(world.sbx.home, "corp")
    processes = processes_below(supervisor)
    assert len(processes) >= 3
    for pid in processes:
        for what in ("environ", "cmdline"):
            with contextlib.suppress(PermissionError):  # of one that cannot be dumped: root's alone
                data = pathlib.Path(f"/proc/{pid}/{what}").read_bytes()
                assert not holds_password(data), (pid, what)
    # ... no file of ours has it, no message, and nothing inside.
    for path in sbx.home.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 50_000_000:
            with contextlib.suppress(PermissionError):  # made with the sandbox's own ids
                assert not holds_password(path.read_bytes()), path
    for words in (("policy", "log"), ("policy", "log", "corp", "--json"), ("ls", "--json"),
                  ("settings", "ls"), ("policy", "ls", "corp")):
        assert not holds_password(sbx.ok(*words).encode())
    inside = sbx("exec", "-u", "0", "corp", "--", "sh", "-c",
                 "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; "
                 "cat /etc/environment /run/* /opt/sbx/* 2>/dev/null")
    assert "HTTPS_PROXY" in inside.stdout and not holds_password(inside.stdout.encode())


def test_settings_reach_running_sandboxes_at_once(world):
    sbx = world.sbx
    world.create("box")
    assert world.codes("box") == ["502", "000"]  # the name has no address here
    sbx.ok("settings", "set", "proxy.upstream", input=world.squid.url)
    # TLS that is not opened: curl inside does not know the authority yet.
    assert world.codes("box") == ["200", "000"]
    sbx.ok("settings", "set", "tls.extra-ca", world.ca)
    assert world.codes("box") == ["200", "200"]
    sbx.ok("settings", "set", "proxy.no-proxy", NAME)
    assert world.codes("box") == ["502", "000"]
    sbx.ok("settings", "rm", "proxy.no-proxy")
    assert world.codes("box") == ["200", "200"]
    # They hold after a stop, too, and what is taken back while it is stopped is gone inside.
    sbx.ok("stop", "box")
    assert world.codes("box") == ["200", "200"]
    sbx.ok("stop", "box")
    sbx.ok("settings", "rm", "tls.extra-ca")
    assert world.codes("box") == ["200", "000"]
    lines = world.ca.read_text().splitlines()
    assert lines[2] not in world.sh("box", f"cat {BUNDLE}").stdout
    wrong = world.squid.url.replace(ENCODED, "wrong-p4ssword")
    sbx.ok("settings", "set", "proxy.upstream", input=wrong)
    said = world.sh("box", f"curl -s {world.urls[0]}").stdout
    assert "the upstream proxy http://127.0.0.1" in said and "(proxy.upstream)" in said
    assert "p4ssword" not in said
    log = sbx.ok("policy", "log", "box", "--json")
    assert '"reason":"proxy-auth"' in log.replace(" ", "") and "p4ssword" not in log


def test_which_one_holds(world):
    """SBX_PROXY, then the setting, then the common variables, of the command that starts it."""
    sbx = world.sbx
    dead = f"http://127.0.0.1:{free_port()}"
    good = world.squid.url
    world.create("box", HTTP_PROXY=good)
    assert world.codes("box")[0] == "200"
    sbx.ok("settings", "set", "proxy.upstream", dead)
    assert world.codes("box")[0] == "502"
    sbx.ok("settings", "rm", "proxy.upstream")
    assert world.codes("box")[0] == "200"
    sbx.ok("stop", "box")
    sbx.ok("start", "box")  # without the variable
    assert world.codes("box")[0] == "502" and sbx.ok("settings", "ls")
    sbx.ok("stop", "box")
    sbx.ok("settings", "set", "proxy.upstream", dead)
    sbx.ok("start", "box", env={"SBX_PROXY": good, "HTTPS_PROXY": dead})
    assert world.codes("box")[0] == "200"
    sbx.ok("stop", "box")
    sbx.ok("start", "box", env={"SBX_PROXY": "direct", "HTTPS_PROXY": good})
    assert "upstream proxy" not in world.sh("box", f"curl -s {world.urls[0]}").stdout
    sbx.ok("stop", "box")
    sbx.ok("settings", "rm", "proxy.upstream")
    sbx.ok("start", "box", env={"all_proxy": good, "no_proxy": ".upstream.example"})
    assert "upstream proxy" not in world.sh("box", f"curl -s {world.urls[0]}").stdout


def test_a_bad_variable_fails_the_start_and_is_named(world):
    done = world.sbx("create", "--name", "box", "shell", world.work,
                     env={"SBX_PROXY": f"gopher://{USER}:{ENCODED}@proxy.example"}, code=125)
    assert "SBX_PROXY: unknown kind of upstream proxy" in done.stderr
    assert not holds_password(done.stderr.encode())
    assert world.sbx.json("ls") == []


def test_a_new_proxy_process_knows_it_as_well(world):
    world.create("box", HTTPS_PROXY=world.squid.url)
    assert world.codes("box")[0] == "200"
    pid = next(p for p in processes_below(supervisor_of(world.sbx.home))
               if pathlib.Path(f"/proc/{p}/comm").read_text() == "sbx-proxy\n")
    os.kill(pid, 9)
    deadline = time.monotonic() + 20
    while world.codes("box")[0] != "200":
        assert time.monotonic() < deadline
