# SPDX-License-Identifier: Apache-2.0
"""Published ports: real servers inside, reached from the host."""
import json
import socket
import time
import urllib.request

import pytest

from conftest import need_sandboxes, skip_loudly


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(port, path, address="127.0.0.1"):
    """The body, once the server inside listens: until then the connection is closed without one."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return urllib.request.urlopen(f"http://{address}:{port}/{path}", timeout=5).read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture
def web(sbx, workspace):
    port = free_port()
    (workspace / "page").write_bytes(b"from inside\n" * 200000)
    made = sbx("create", "-q", "--name", "web", "-p", f"{port}:3000", "-p", "3001", "shell",
               str(workspace))
    assert made.returncode == 0, made.stderr
    yield port
    sbx("rm", "-f", "web")


def test_server_inside_answers_on_the_host(sbx, web, workspace):
    assert sbx("exec", "-d", "web", "--", "python3", "-m", "http.server", "3000").returncode == 0
    assert sbx("exec", "-d", "web", "--", "python3", "-m", "http.server", "3001", "--bind",
               "127.0.0.1").returncode == 0
    ports = json.loads(sbx("ls", "--json").stdout)[0]["ports"]
    assert [(p["host_ip"], p["port"]) for p in ports] == [("127.0.0.1", 3000), ("127.0.0.1", 3001)]
    for port in (web, ports[1]["host_port"]):
        assert fetch(port, "page") == (workspace / "page").read_bytes()


def test_port_in_use_is_named_and_nothing_is_left(sbx, web, workspace):
    again = sbx("create", "-q", "--name", "second", "-p", f"{web}:80", "shell", str(workspace))
    assert again.returncode == 125
    assert f"127.0.0.1:{web}" in again.stderr and "in use" in again.stderr
    assert [box["name"] for box in json.loads(sbx("ls", "--json").stdout)] == ["web"]


def test_an_ipv6_address_is_shown_in_brackets(sbx, workspace):
    with socket.socket(socket.AF_INET6) as taken:
        try:
            taken.bind(("::1", 0))
        except OSError:
            skip_loudly("no IPv6 on this machine")
        taken.listen()
        place = f"[::1]:{taken.getsockname()[1]}"
        made = sbx("create", "-q", "--name", "six", "-p", f"{place}:80", "shell", workspace, code=125)
        assert f"publish on {place}: " in made.stderr
    sbx.ok("create", "-q", "--name", "six", "-p", f"{place}:80", "shell", workspace)
    assert f" {place}->80/tcp " in sbx.ok("ls")
    assert sbx.json("ls")[0]["ports"][0]["host_ip"] == "::1"


def test_run_publishes_at_an_address_and_again_after_a_stop(sbx, workspace):
    need_sandboxes(sbx)
    port = free_port()
    sbx.ok("run", "-d", "--name", "web", "-p", f"127.0.0.2:{port}:3000/tcp", "shell",
           workspace)
    for _ in range(2):
        sbx.ok("exec", "-d", "web", "--", "python3", "-m", "http.server", "3000")
        assert fetch(port, "README", "127.0.0.2") == b"a workspace\n"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        assert sbx.json("ls")[0]["ports"] == [
            {"host_ip": "127.0.0.2", "host_port": port, "port": 3000}]
        sbx.ok("stop", "web")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)
        sbx.ok("start", "web")


@pytest.mark.parametrize("word", ["x", "0", "70000", "1:2:3:4", "80/udp", "8080:"])
def test_nonsense_is_refused(sbx, workspace, word):
    made = sbx("create", "--name", "bad", "-p", word, "shell", str(workspace))
    assert made.returncode == 2 and "--publish" in made.stderr


@pytest.mark.parametrize("first, second", [
    ("8080:80", "8080:81"), ("8080:80", "127.0.0.1:8080:80"), ("[::1]:8080:80", "[0::1]:8080:81")])
def test_a_host_port_is_given_once(sbx, workspace, first, second):
    words = ("create", "--name", "bad", "-p", first, "-p", second, "shell", workspace)
    assert f"--publish '{second}': host port 8080 is given twice" in sbx(*words, code=2).stderr
    assert sbx.json("ls") == []
    # Another address, or any free port, is another one.
    words = ("-p", first, "-p", "127.0.0.2:8080:80", "-p", "80", "-p", "80")
    sbx.ok("create", "--dry-run", *words, "shell", workspace)
