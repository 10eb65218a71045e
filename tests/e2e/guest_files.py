# SPDX-License-Identifier: Apache-2.0
"""Runs inside a machine (test_vm.py), in a workspace: what programs do with files.  Prints what came
of each attempt as JSON."""

import ctypes
import fcntl
import hashlib
import json
import mmap
import os
import select
import struct
import sys

top = os.path.join(sys.argv[1], "files")
os.mkdir(top)
os.chdir(top)
seen = {}


def attempt(name):
    def run(function):
        try:
            seen[name] = function()
        except OSError as error:
            seen[name] = f"{type(error).__name__} {error.errno}: {error}"
    return run


def write(name, data=b"data"):
    with open(name, "wb") as file:
        file.write(data)


def in_child(function):
    pid = os.fork()
    if pid == 0:
        os._exit(bool(function()))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@attempt("mmap")
def _():
    write("mapped", b"." * 8192)
    with open("mapped", "r+b") as file, mmap.mmap(file.fileno(), 8192) as area:
        area[4090:4100] = b"0123456789"
        area.flush()
    with open("mapped", "rb") as file:
        return file.read()[4090:4100].decode()


def refused(lock, path):
    with open(path, "r+b") as file:
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@attempt("flock")
def _():
    write("locked")
    with open("locked", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        held = in_child(lambda: refused(fcntl.flock, "locked"))
    return [held, in_child(lambda: refused(fcntl.flock, "locked"))]


@attempt("fcntl")
def _():
    with open("locked", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        held = in_child(lambda: refused(fcntl.lockf, "locked"))
    return [held, in_child(lambda: refused(fcntl.lockf, "locked"))]


@attempt("rename")
def _():
    write("from", b"one")
    write("to", b"two")
    os.rename("from", "to")
    with open("to", "rb") as file:
        return [file.read().decode(), os.path.exists("from")]


@attempt("rename_directory")
def _():
    os.mkdir("a")
    write("a/x", b"x")
    os.rename("a", "b")
    return sorted(os.listdir("b"))


@attempt("hard_link")
def _():
    write("first", b"linked")
    os.link("first", "second")
    one, two = os.stat("first"), os.stat("second")
    return [one.st_ino == two.st_ino, one.st_nlink]


@attempt("symlink")
def _():
    os.symlink("first", "link")
    with open("link", "rb") as file:
        return file.read().decode()


@attempt("names")
def _():
    names = [b"\xff\xfe", b"new\nline", b"-rf", b"\xe2\x98\x83", b"q\"'\\", b"n" * 255]
    os.mkdir("names")
    for name in names:
        write(b"names/" + name, name)
    return sorted(name.hex() for name in os.listdir(b"names")) == sorted(n.hex() for n in names)


@attempt("sparse")
def _():
    with open("sparse", "wb") as file:
        file.truncate(1 << 30)
        file.seek(512 << 20)
        file.write(b"middle")
    found = os.stat("sparse")
    return [found.st_size, found.st_blocks * 512 < 1 << 20]


@attempt("modes")
def _():
    write("mode")
    os.chmod("mode", 0o640)
    return oct(os.stat("mode").st_mode & 0o7777)


@attempt("times")
def _():
    write("times")
    os.utime("times", ns=(1_000_000_000_123_456_789, 1_100_000_000_987_654_321))
    return os.stat("times").st_mtime_ns


@attempt("xattr")
def _():
    write("xattr")
    os.setxattr("xattr", "user.sbx", b"\0value")
    return [os.listxattr("xattr"), os.getxattr("xattr", "user.sbx").hex()]


@attempt("append")
def _():
    write("append", b"a")
    for letter in b"bcd":
        descriptor = os.open("append", os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, bytes([letter]))
        os.close(descriptor)
    with open("append", "rb") as file:
        return file.read().decode()


@attempt("unlinked_but_open")
def _():
    write("gone", b"before")
    with open("gone", "r+b") as file:
        os.unlink("gone")
        file.write(b"after!")
        file.flush()
        file.seek(0)
        return file.read().decode()


@attempt("fifo_and_socket")
def _():
    os.mkfifo("fifo")
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open("fifo", os.O_WRONLY)
    os.write(writer, b"through")
    return os.read(reader, 16).decode()


@attempt("inotify")
def _():
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(0o4000)
    assert libc.inotify_add_watch(watch, b".", 0x100 | 0x200 | 0x8) >= 0
    write("watched")
    os.unlink("watched")
    found = []
    while select.select([watch], [], [], 1)[0]:
        data = os.read(watch, 4096)
        while data:
            _, mask, _, size = struct.unpack("iIII", data[:16])
            found.append([mask, data[16:16 + size].rstrip(b"\0").decode()])
            data = data[16 + size:]
    return found


@attempt("large")
def _():
    digest = hashlib.sha256()
    with open("large", "wb") as file:
        for i in range(24):
            block = hashlib.sha256(b"%d" % i).digest() * (1 << 15)
            digest.update(block)
            file.write(block)
        os.fsync(file.fileno())
    return digest.hexdigest()


@attempt("large_from_host")
def _():
    with open("../large_from_host", "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(
            hashlib, "file_digest") else hashlib.sha256(file.read()).hexdigest()


print(json.dumps(seen))
