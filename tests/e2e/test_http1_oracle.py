# SPDX-License-Identifier: Apache-2.0
"""Our HTTP/1 parser against Node's: what we accept, a server that we do not know must read in the
same way.  We may refuse what it takes, never the other way round, and never read something else."""
import json
import pathlib
import random
import struct
import subprocess

import pytest

from conftest import BUILD, ROOT, need_program

pytestmark = pytest.mark.no_sandbox

HERE = pathlib.Path(__file__).parent
INPUTS = 30000

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"GET http://a.example/x?y=1 HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: b\r\n\r\n",
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n"
    b"0\r\nX-T: v\r\n\r\nGET /3 HTTP/1.1\r\nHost: c\r\n\r\n",
    b"PUT /u HTTP/1.1\r\nhost:a\r\nContent-Length:0\r\nExpect: 100-continue\r\n\r\n",
    b"GET /k HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /l HTTP/1.0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
    b"GET /w HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: x\r\n\r\n",
    b"HEAD /h HTTP/1.1\r\nHost: a\r\nX: a, b\r\nX: c\r\nCookie: a=b; c=d\r\n\r\n",
    b"DELETE /d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
    b"\r\nPATCH /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
]
# What parsers differ about.
PIECES = [b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xff", b":",
          b";", b",", b"0", b"1", b"5", b"a", b"f", b"F", b"+", b"-", b"0x", b"#", b"?", b"%", b"/",
          b"//", b"\\", b"\"", b"'", b"@", b"[", b"]", b"_", b"*", b"Content-Length: 5\r\n",
          b"Content-Length: 6\r\n", b"Content-Length : 5\r\n", b"content-length:\t5 \r\n",
          b"Content-Length: 5,5\r\n", b"Content-Length: 05\r\n", b"Content_Length: 5\r\n",
          b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:chunked\r\n",
          b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
          b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n",
          b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding: xchunked\r\n", b"X: a\r\n b\r\n",
          b"X:\r\n", b": x\r\n", b"X\r\n", b"Host: other\r\n", b"Host:\r\n", b"Connection: close\r\n",
          b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9",
          b"HTTP/2.0", b"http/1.1", b"GET ", b"POST ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
          b"0\r\n\r\n", b"5\r\nhello\r\n", b"00005\r\nhello\r\n", b"5 \r\nhello\r\n", b"5\nhello\n",
          b"5;a=\"\r\n\"\r\nhello\r\n", b"fffffffffffffffff\r\n", b"\r\n\r\n",
          b"GET /s HTTP/1.1\r\nHost: s\r\n\r\n"]


def mutate(chance, data):
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            data = data[:at] + chance.choice(PIECES) + data[at:]
        elif kind == 1:  # at the start of a line
            starts = [i + 2 for i in range(len(data) - 1) if data[i:i + 2] == b"\r\n"] or [0]
            at = chance.choice(starts)
            data = data[:at] + chance.choice(PIECES) + data[at:]
        elif kind == 2:
            data = data[:at] + data[at + chance.randint(1, 4):]
        elif kind == 3 and at < len(data):
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1:]
        elif kind == 4:
            data = data[:at] + chance.choice(PIECES) + data[at + chance.randint(1, 3):]
        else:
            data += chance.choice(SEEDS)
    return data


def inputs():
    chance = random.Random(20260129)
    files = sorted((ROOT / "fuzz/corpus/fuzz_http1").iterdir())
    found = SEEDS + [path.read_bytes() for path in files]
    found += [mutate(chance, chance.choice(SEEDS)) for _ in range(INPUTS)]
    return [data for data in found if data and len(data) < 8000]


def read_all(command, data):
    done = subprocess.run(command, input=b"".join(struct.pack("<I", len(d)) + d for d in data),
                          capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def differs(ours, theirs, methods):
    """Why these two readings of one connection do not go together; None when they do."""
    for i, mine in enumerate(ours["requests"]):
        if bytes.fromhex(mine["method"]).decode("latin-1") not in methods:
            return None  # Node knows a list of methods and refuses all others
        if i >= len(theirs["requests"]):
            return f"request {i} is not seen by Node ({theirs['end']})"
        its = theirs["requests"][i]
        for key in ("method", "target", "fields"):
            if mine[key] != its[key]:
                return f"{key} of request {i}: {mine[key]} and {its[key]}"
        refused = ours["end"] == "refused" and i == len(ours["requests"]) - 1
        if mine["whole"] != its["whole"] and not refused:
            return f"the end of the body of request {i}: {mine['whole']} and {its['whole']}"
        if mine["body"] != its["body"] and mine["whole"]:
            return f"body of request {i}: {mine['body']} and {its['body']}"
        if not its["body"].startswith(mine["body"]) and not mine["body"].startswith(its["body"]):
            return f"body of request {i}: {mine['body']} and {its['body']}"
    # Of a head that is not yet whole nothing has been sent on: some versions of Node see its end early.
    sent_on = ours["end"] == "clean" or (ours["end"] == "more" and ours["requests"]
                                         and not ours["requests"][-1]["whole"])
    if sent_on and len(theirs["requests"]) > len(ours["requests"]):
        return "Node sees a request that we do not"
    return None


@pytest.fixture(scope="module")
def methods():
    need_program("node")
    out = subprocess.run(["node", "-p", "JSON.stringify(require('http').METHODS)"], check=True,
                         capture_output=True)
    return set(json.loads(out.stdout))


def test_what_we_accept_node_reads_alike(methods):
    data = inputs()
    ours = read_all([next(BUILD.rglob("http1_reader"))], data)
    theirs = read_all(["node", HERE / "http1_oracle.js"], data)
    assert len(ours) == len(theirs) == len(data)
    wrong = [(d, why) for d, mine, its in zip(data, ours, theirs)
             if (why := differs(mine, its, methods))]
    accepted = sum(len(mine["requests"]) for mine in ours)
    stricter = sum(mine["end"] == "refused" and its["end"] != "refused"
                   for mine, its in zip(ours, theirs))
    print(f"{len(data)} inputs, {accepted} requests accepted, stricter than Node in {stricter}")
    assert accepted > INPUTS / 4, "the inputs are too broken to compare anything"
    assert not wrong, "\n".join(f"{d!r}: {why}" for d, why in wrong[:20])
