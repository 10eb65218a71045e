# SPDX-License-Identifier: Apache-2.0
"""Takes all it can get of one thing, prints a line when there is no more, and keeps it until its
standard input ends.  Runs inside a sandbox, and outside with a second word to take so many only."""

import ctypes
import errno
import os
import signal
import sys

LIBC = ctypes.CDLL(None, use_errno=True)


def watches(_):
    return LIBC.inotify_init1(0) >= 0


def signals(_):
    """Queued and never taken."""
    number = signal.SIGRTMIN + 1
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    return LIBC.sigqueue(os.getpid(), number, None) == 0


def descriptors(held):
    try:
        held.append(os.dup(0))
    except OSError as error:
        ctypes.set_errno(error.errno)
        return False
    return True


def queues(held):
    """Message queues: each is charged with all that it could hold."""
    name = f"/sbx{os.getpid()}.{len(held)}".encode()
    descriptor = LIBC.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None)
    if descriptor >= 0:
        held.append(descriptor)
        LIBC.mq_unlink(name)
    return descriptor >= 0


def memory(held):
    try:
        held.append(bytearray(16 << 20))
        held[-1][::4096] = b"x" * len(held[-1][::4096])
    except MemoryError:
        ctypes.set_errno(errno.ENOMEM)
        return False
    return True


def processes(held):
    try:
        pid = os.fork()
    except OSError as error:
        ctypes.set_errno(error.errno)
        return False
    if pid == 0:
        os.close(1)
        signal.pause()
    held.append(pid)
    return True


def main():
    take, held = globals()[sys.argv[1]], []
    count, most = 0, int(sys.argv[2]) if len(sys.argv) > 2 else sys.maxsize
    while count < most and take(held):
        count += 1
    end = "enough" if count == most else errno.errorcode[ctypes.get_errno()]
    print(count, end, flush=True)
    sys.stdin.read()
    if take is processes:
        for pid in held:
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
