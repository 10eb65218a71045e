# SPDX-License-Identifier: Apache-2.0
"""Sandboxes as a person uses them: commands, their streams and ends, persistence, names."""

import os
import pathlib
import subprocess

import pytest


@pytest.mark.parametrize("status", (0, 1, 2, 7, 125, 126, 127, 128, 255))
def test_exit_status_is_exact(sbx, sandbox, status):
    sbx("exec", sandbox, "--", "sh", "-c", f"exit {status}", code=status)


@pytest.mark.parametrize("signo", (2, 9, 15))
def test_death_by_signal_is_128_plus_n(sbx, sandbox, signo):
    sbx("exec", sandbox, "--", "sh", "-c", f"kill -{signo} $$", code=128 + signo)


def test_commands_that_cannot_run(sbx, sandbox):
    assert "not found" in sbx("exec", sandbox, "no-such-command", code=127).stderr
    assert "cannot be run in the sandbox: Permission" in sbx("exec", sandbox, "/etc/passwd", code=126).stderr


def loader_of_its_own(path):
    """A program whose loader (PT_INTERP) is nowhere: /bin/true with another name for it."""
    data = pathlib.Path("/bin/true").read_bytes()
    loader = b"/lib64/ld-linux-x86-64.so.2"
    assert data.count(loader) == 1
    path.write_bytes(data.replace(loader, loader[:-1] + b"9"))


@pytest.mark.parametrize("make,said", [
    (lambda path: path.write_text("#! /no/such/python -u\n", encoding="utf-8"),
     "cannot be run in the sandbox: its interpreter '/no/such/python' is not there"),
    (lambda path: path.write_text("#!/bin/sh\r\necho\r\n", encoding="utf-8", newline=""),
     "cannot be run in the sandbox: its first line ends with a carriage return"),
    (loader_of_its_own,
     "cannot be run in the sandbox: its loader '/lib64/ld-linux-x86-64.so.9' is not there"),
    # What runs it is there, and cannot be run itself.
    (lambda path: path.write_text(f"#!{path.parent}/other\n", encoding="utf-8"),
     "cannot be run in the sandbox: its interpreter '/no/such/other' is not there"),
    # Nothing that the kernel takes for a program is waited for.
    (lambda path: os.mkfifo(path, 0o777), "cannot be run in the sandbox: Permission denied"),
])
def test_what_a_program_is_run_by_is_missing(sbx, sandbox, workspace, make, said):
    other = workspace / "other"
    other.write_text("#!/no/such/other\n", encoding="utf-8")
    program = workspace / "program"
    make(program)
    for path in (other, program):
        path.chmod(0o755)
    code = 126 if "Permission" in said else 127
    assert f"'./program' {said}" in sbx("exec", sandbox, "./program", code=code).stderr
    if code == 127:
        # Found by PATH, as by its name.
        on_path = ("-e", f"PATH=/nowhere:{workspace}:/usr/bin:/bin")
        assert f"'program' {said}" in sbx("exec", *on_path, sandbox, "program", code=127).stderr
        reason = said.partition("sandbox: ")[2]
        assert f"sudo: ./program: {reason}" in sbx("exec", sandbox, "sudo", "./program", code=1).stderr


def piped(sbx, *words, data=None, timeout=30):
    return subprocess.run([sbx.binary, "exec", *words], input=data, env=sbx.env, timeout=timeout,
                          capture_output=True, check=True).stdout


def test_commands_begin_with_clean_signals(sbx, sandbox):
    """Also those that libc keeps for itself, which what spawned our helpers may have ignored."""
    state = sbx.ok("exec", sandbox, "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")
    assert [int(line.split()[1], 16) for line in state.splitlines()] == [0, 0], state


def test_ten_megabytes_through_pipes(sbx, sandbox):
    data = os.urandom(10_000_000)
    assert piped(sbx, "-i", sandbox, "--", "cat", data=data) == data


def test_output_larger_than_input_does_not_deadlock(sbx, sandbox):
    data = os.urandom(2_000_000)
    out = piped(sbx, "-i", sandbox, "--", "od", "-An", "-v", "-tx1", data=data)
    assert bytes.fromhex(out.decode()) == data


def test_closed_output_ends_the_command(sbx, sandbox):
    command = subprocess.Popen([sbx.binary, "exec", sandbox, "yes"], env=sbx.env,
                               stdout=subprocess.PIPE)
    assert command.stdout.readline() == b"y\n"
    command.stdout.close()
    assert command.wait(timeout=10) == 128 + 13


def test_background_child_does_not_hold_the_command(sbx, sandbox):
    done = sbx("exec", sandbox, "--", "sh", "-c", "yes & exit 3", timeout=10)
    assert done.returncode == 3


def test_files_persist_until_rm(sbx, sandbox, workspace):
    sbx.ok("exec", sandbox, "--", "sh", "-c", "echo kept > ~/note; echo mine > made")
    assert (workspace / "made").stat().st_uid == os.getuid()
    assert sbx.ok("exec", sandbox, "stat", "-c", "%U", "made").strip() == "agent"
    sbx.ok("stop", sandbox)
    assert sbx.json("ls")[0]["status"] == "stopped"
    assert sbx.ok("exec", sandbox, "--", "sh", "-c", "cat ~/note; hostname") == f"kept\n{sandbox}\n"


def test_removal_asks(sbx, sandbox):
    done = sbx("rm", sandbox, code=2, input="y\n")
    assert "there is no terminal" in done.stderr and "add --force" in done.stderr
    assert "nosuch" in sbx("rm", sandbox, "nosuch", code=1).stderr
    assert sbx.ok("ls", "-q") == sandbox + "\n"


def test_taken_name_is_refused_and_nothing_lost(sbx, sandbox, workspace):
    sbx.ok("exec", sandbox, "--", "sh", "-c", "echo kept > ~/note")
    assert "already" in sbx("create", "--name", sandbox, "shell", workspace, code=1).stderr
    assert sbx.ok("exec", sandbox, "--", "sh", "-c", "cat ~/note") == "kept\n"


@pytest.mark.parametrize("words", (("create", "--name", "-x-", "shell", "."),
                                   ("create", "shell", "/"), ("create", "shell", "/no/such/dir"),
                                   ("create", "shel", ".")))
def test_bad_words_are_exit_2(sbx, words):
    assert sbx(*words, code=2).stderr
