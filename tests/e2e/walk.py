# SPDX-License-Identifier: Apache-2.0
"""Runs inside a sandbox: walks everything that can be reached from / and prints, as JSON, what it
saw.  The words are marks that names and contents are searched for, and with a - before them places
that are left out."""

import json
import os
import stat
import sys

CONTENT_MAX = 1 << 20


def walk(marks, left_out):
    seen = {"marked": [], "socket": [], "block": [], "char": [], "fifo": [], "denied": [],
            "files": 0}
    kinds = ((stat.S_ISSOCK, "socket"), (stat.S_ISBLK, "block"), (stat.S_ISCHR, "char"),
             (stat.S_ISFIFO, "fifo"))
    pending = ["/"]
    while pending:
        directory = pending.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError:
            seen["denied"].append(directory)
            continue
        for entry in entries:
            seen["files"] += 1
            if any(mark in entry.path for mark in marks):
                seen["marked"].append(entry.path)
            mode = entry.stat(follow_symlinks=False).st_mode
            for is_kind, name in kinds:
                if is_kind(mode):
                    seen[name].append(entry.path)
            if stat.S_ISLNK(mode) and any(mark in os.readlink(entry.path) for mark in marks):
                seen["marked"].append(entry.path)
            if stat.S_ISDIR(mode):
                if entry.path not in left_out:
                    pending.append(entry.path)
            # All of /usr is the host's, known, and a gigabyte.
            elif stat.S_ISREG(mode) and not entry.path.startswith("/usr/"):
                seen["marked"] += search(entry.path, marks)
    return seen


def search(path, marks):
    try:
        with open(path, "rb") as file:
            data = file.read(CONTENT_MAX)
    except OSError:
        return []
    return [path + ": content"] if any(mark.encode() in data for mark in marks) else []


if __name__ == "__main__":
    words = sys.argv[1:]
    json.dump(walk([word for word in words if word[0] != "-"],
                   ["/proc"] + [word[1:] for word in words if word[0] == "-"]), sys.stdout)
