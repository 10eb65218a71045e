# SPDX-License-Identifier: Apache-2.0
"""The exit of a virtual machine: whatever its root makes of addresses, routes, names and packets
meets the proxy or nobody."""

import contextlib
import json
import pathlib
import shutil
import socket
import threading

import pytest
import fake_openai
from conftest import need_program, wait_for
from machine import ANSWER_S, BOOT_S, caller_of_machines, create, inside

HERE = pathlib.Path(__file__).parent
KEY = "sk-real-secret"


class Canary:
    """Sockets on every address of the host, which nothing from a machine may reach."""

    def __init__(self):
        self.sockets = []
        with contextlib.ExitStack() as stack:
            self.tcp = stack.enter_context(socket.create_server(
                ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
            self.port = self.tcp.getsockname()[1]
            self.udp = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            self.udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            self.udp.bind(("::", self.port))
            for one in (self.tcp, self.udp):
                one.setblocking(False)
            self.stack = stack.pop_all()

    def assert_silent(self):
        with pytest.raises(BlockingIOError):
            self.tcp.accept()
        with pytest.raises(BlockingIOError):
            self.udp.recv(1)


@pytest.fixture(scope="module")
def canary():
    made = Canary()
    yield made
    made.stack.close()


@pytest.fixture(scope="module")
def model():
    server = fake_openai.make_server(key=KEY)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def box(model):
    need_program("curl")
    with caller_of_machines("root") as one:
        one.port = model.server_address[1]
        one.ok("policy", "init", "deny-all")
        one.ok("secret", "set-custom", "-g", "--host", f"localhost:{one.port}", "--env", "MODEL_KEY",
               "--placeholder", "proxy-managed", "--value-stdin", input=KEY)
        create(one, "--cpus", "1", "--memory", "256m")
        one.ok("policy", "allow", "box", f"localhost:{one.port}", timeout=ANSWER_S)
        shutil.copy(HERE / "guest_net.py", one.work)
        yield one


def own_addresses():
    """The host's own, as far as it has any that a machine could try."""
    found = ["127.0.0.1"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("198.51.100.1", 9))  # sends nothing
        found.append(probe.getsockname()[0])
    return found


def models(box):
    return (f"curl -sS --max-time 60 -H 'Authorization: Bearer '$MODEL_KEY"
            f" http://host.docker.internal:{box.port}/v1/models")


def test_a_rule_opens_and_the_credential_is_added(box):
    assert inside(box, "printenv MODEL_KEY") == "proxy-managed\n"
    assert json.loads(inside(box, models(box)))["object"] == "list"
    # Also for a program that knows of no proxy: captured.
    assert json.loads(inside(box, "unset http_proxy HTTP_PROXY; " + models(box)))["object"] == "list"
    assert inside(box, "env | grep -c sk-real-secret", code=1, user="0") == "0\n"


def test_what_no_rule_opens_is_refused_and_logged(box, canary):
    inside(box, f"curl -sS --max-time 20 http://host.docker.internal:{canary.port}/", timeout=ANSWER_S)
    for url in ("https://evil.example/", "http://evil.example/"):
        done = box("exec", "box", "--", "sh", "-c",
                   f"unset http_proxy https_proxy HTTPS_PROXY HTTP_PROXY; curl -sS --max-time 20 {url}",
                   timeout=ANSWER_S)
        assert "403" in done.stdout + done.stderr or done.returncode
    hosts = {line["host"] for line in map(json.loads, box.ok(
        "policy", "log", "box", "--json", timeout=ANSWER_S).splitlines())}
    assert "evil.example" in hosts
    canary.assert_silent()


def test_root_finds_no_other_way(box, canary):
    """guest_net.py tries them all, first as things are, then with every setting of its own."""
    addresses = own_addresses()
    words = " ".join(map(str, (canary.port, box.port, *addresses)))
    seen = json.loads(inside(box, f"python3 guest_net.py {words}", user="0", timeout=900))
    print("\n" + json.dumps(seen, indent=1))
    canary.assert_silent()
    for setting, found in seen.items():
        # QEMU's TFTP server has no files.
        tftp = found.pop("tftp")
        assert "Access violation" in tftp or not tftp.startswith("ANSWER"), setting
        wrong = {name: came for name, came in found.items() if came.startswith("ANSWER")}
        assert wrong == {}, setting
    # With everything put back, the exit is as it was.
    assert json.loads(inside(box, models(box)))["object"] == "list"


def test_another_sandbox_is_not_there(box, canary):
    """A server in one is nobody's in another, by any address that both have."""
    serve = ("python3 -m http.server --bind 0.0.0.0 8099 >/dev/null 2>&1")
    box("create", "--name", "other", "--cpus", "1", "--memory", "256m", "shell", box.work, code=0,
        timeout=BOOT_S)
    box("exec", "-d", "other", "--", "sh", "-c", serve, code=0, timeout=ANSWER_S)
    here = "curl -s --noproxy '*' -o /dev/null --max-time 20 -w %{http_code} http://{}:8099/"
    wait_for("the other's server does not start",
             lambda: box("exec", "other", "--", "sh", "-c", here.replace("{}", "127.0.0.1"),
                         timeout=ANSWER_S).stdout == "200", ANSWER_S)
    for address in ("192.0.2.15", "192.0.2.2", "127.0.0.1", "198.18.0.1"):
        done = box("exec", "box", "--", "sh", "-c", here.replace("{}", address), timeout=ANSWER_S)
        assert done.stdout in ("000", "403"), address
