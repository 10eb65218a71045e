# SPDX-License-Identifier: Apache-2.0
"""Datagrams: refused at once, told in the log, and a flood of them costs nobody anything."""

import json
import time

import pytest
from conftest import EXIT, ISOLATION, wait_for

SEND = f"EXIT = '{EXIT}'" + """
import errno, socket, sys
def attempt(host, port, connected):
    # What a program sees of one datagram: the words are the errors, in order.
    seen = []
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(30)  # never reached: an error comes first, or the test fails
    try:
        if connected:
            s.connect(address)
            s.send(b"\\xc3\\0\\0\\0\\1" + bytes(1200))
        else:
            s.sendto(b"x", address)
    except OSError as error:
        seen.append(errno.errorcode[error.errno])
    if connected:
        try:
            s.recv(10)
        except OSError as error:
            seen.append(errno.errorcode.get(error.errno, "timeout"))
    return seen
"""


def records(box, **wanted):
    log = [json.loads(line) for line in box.ok("policy", "log", "box", "--json").splitlines()]
    return [r for r in log if wanted.items() <= r.items()]


def python(box, script, *args, user="1000"):
    done = box("exec", "-u", user, "box", "--", "/usr/bin/python3", "-c", SEND + script, *args, code=0)
    return done.stdout.strip()


@pytest.mark.ns_only("QEMU's network tells its guest of no refused datagram")
def test_clients_are_told_at_once(box):
    """A connected socket (QUIC in browsers) and an unconnected one (QUIC in Go) both get an error."""
    box.ok("policy", "allow", "box", "quic.example")
    told = ["EPERM", "ECONNREFUSED"]
    for host in ("198.51.100.1", "2001:db8::1", "quic.example", "198.18.0.1"):
        assert python(box, "print(*attempt(sys.argv[1], 443, True))", host).split() == told
        assert python(box, "print(*attempt(sys.argv[1], 443, False))", host).split() == told[:1]


def test_each_destination_is_logged(box):
    box.ok("policy", "allow", "box", "logged.quic.example")
    python(box, "for i in range(100): attempt('198.51.100.77', 443, False)\n"
                "attempt('2001:db8::77', 8443, False); attempt('logged.quic.example', 443, True)")
    for host, port in (("198.51.100.77", 443), ("2001:db8::77", 8443), ("logged.quic.example", 443)):
        wait_for(f"a line for {host}", lambda: records(box, host=host, port=port, reason="udp"))
        found = records(box, host=host, port=port)
        assert len(found) == 1, "a hundred datagrams are one line"
        assert found[0] | {"decision": "deny", "path": "network", "rule": None, "scheme": None,
                           "method": None, "status": 0} == found[0]
    table = box.ok("policy", "log", "box", "--denied")
    assert "198.51.100.77:443" in table and "REASON udp:" in table
    assert box.ok("policy", "log", "--verify", "box")


def test_loopback_and_dns_are_left_alone(box):
    out = python(box, """
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(("127.0.0.1", 0))
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); b.sendto(b"mine", a.getsockname())
print(a.recv(10))
a = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); a.bind(("::1", 0))
b = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); b.sendto(b"mine", a.getsockname())
print(a.recv(10))
q = b"\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\6denied\\7example\\0\\0\\1\\0\\1"
for server in (EXIT, "198.51.100.53"):
    c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.settimeout(10)
    c.sendto(q, (server, 53))
    print(c.recv(100)[3] & 15)""")
    assert out.split() == ["b'mine'", "b'mine'", "3", "3"]
    assert not records(box, port=53, reason="udp")


def test_root_inside_cannot_silence_it(box):
    if box.mode == "single":
        return  # there is no root
    nl = "" if ISOLATION == "vm" else """
NET, BATCH = 16, []
def message(kind, flags, body):
    import struct
    return struct.pack("=IHHII", 16 + len(body), kind, 1 | 4 | flags, 1, 0) + body
import struct
s = socket.socket(NET, socket.SOCK_RAW, 12)
def ask(data):
    s.send(data)
    while True:
        head = s.recv(8192)
        if struct.unpack_from("=H", head, 4)[0] == 2:
            return -struct.unpack_from("=i", head, 16)[0]
table = struct.pack("=HH", 8, 1) + b"sbx\\0"
batch = struct.pack(">BBH", 0, 0, 10)
delete = struct.pack(">BBH", 2, 0, 0) + table
begin, end = message(16, 0, batch), message(17, 0, batch)
print(ask(begin + message(10 << 8 | 2, 0, delete) + end))
unbind = struct.pack(">BBH", 0, 0, 1) + struct.pack("=HHB3x", 5, 1, 2)
print(ask(message(4 << 8 | 1, 0, unbind)))
bind = struct.pack(">BBH", 0, 0, 1) + struct.pack("=HHB3x", 5, 1, 1)
print(ask(message(4 << 8 | 1, 0, bind)))"""
    # A machine's root may do so, in its own kernel, which is not the one that tells.
    assert python(box, nl, user="0").split() == ([] if ISOLATION == "vm" else ["1", "1", "1"]), "EPERM"
    python(box, "attempt('198.51.100.78', 443, False)", user="0")
    wait_for("it is still logged", lambda: records(box, host="198.51.100.78", reason="udp"))


def test_a_flood_fills_nothing_and_harms_nobody(box):
    before = len(records(box, reason="udp"))
    child = """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def flood(address):
    try: s.sendto(b"x", address)
    except OSError: pass
for i in range(200000): flood(("198.51.100.79", 443))
for i in range(100000): flood(("203.0.113.%d" % (i % 256), 1024 + i // 256))
# Others are served meanwhile and after it.
a = socket.create_connection((EXIT, 3128), 30)
a.sendall(b"GET http://denied.example/ HTTP/1.1\\r\\nHost: denied.example\\r\\n\\r\\n")
print(a.recv(12).decode())"""
    start = time.monotonic()
    assert python(box, child) == "HTTP/1.1 403"
    seconds = time.monotonic() - start
    lines = len(records(box, reason="udp")) - before
    # A hundred at once and fifty a second, whatever comes.
    assert 0 < lines <= 100 + 50 * (seconds + 1), lines
