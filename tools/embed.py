#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed.py OUTPUT NAME=FILE...: a C table of texts, for files that are part of the program."""
import sys


def quoted(line: bytes) -> str:
    plain = set(range(0x20, 0x7F)) - set(b'"\\?')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in line) + '"'


with open(sys.argv[1], "w", encoding="ascii") as out:
    for pair in sys.argv[2:]:
        name, path = pair.split("=", 1)
        with open(path, "rb") as source:
            lines = source.read().splitlines(keepends=True)
        body = "\n     ".join(quoted(line) for line in lines)
        out.write(f'    {{"{name}",\n     {body}}},\n')
