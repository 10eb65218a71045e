# SPDX-License-Identifier: Apache-2.0
"""Sandboxes of ordinary users: with a range of subordinate ids, and with only their own id."""

import glob
import os
import tempfile

import pytest
from conftest import make_caller, skip_loudly


@pytest.fixture(params=("range", "single"))
def user(request):
    with make_caller(request.param) as one:
        yield one


def test_what_is_limited_is_said(user):
    said = user("create", "--name", "box", "shell", user.work, code=0).stderr
    assert ("only one user id" in said) == (user.mode == "single")
    sudo = user.inside("sudo id -u", code=0 if user.mode == "range" else 1)
    if user.mode == "range":
        assert sudo.stdout == "0\n" and user.inside("id -u", user="0").stdout == "0\n"
    else:
        assert "single user id" in sudo.stderr and "uidmap" in sudo.stderr


def test_workspace_files_have_one_owner_seen_from_both_sides(user):
    (user.own(user.work)).chmod(0o755)
    theirs = user.work / "theirs"
    theirs.write_text("of the host\n", encoding="utf-8")
    user.own(theirs).chmod(0o600)
    user.ok("create", "--name", "box", "shell", user.work)
    assert user.inside("cat theirs; stat -c '%U %G %a' theirs; echo mine > mine; mkdir -p d/e"
                       ).stdout == "of the host\nagent agent 600\n"
    for name in ("mine", "d", "d/e"):
        made = (user.work / name).stat()
        assert (made.st_uid, made.st_gid) == (user.entry.pw_uid, user.entry.pw_gid), name
    user.run("rm", "-r", user.work / "d", user.work / "mine")
    if user.mode == "range":
        user.inside("echo x > roots", user="0")
        made = (user.work / "roots").stat()
        assert made.st_uid not in (0, user.entry.pw_uid), "root inside is somebody outside"
        user.inside("rm -f roots")


def test_writable_places_and_persistence(user):
    user.ok("create", "--name", "box", "shell", user.work)
    assert user.inside("id -u").stdout == "1000\n"
    places = "/home/agent/kept /usr/local/bin/kept /opt/kept /etc/kept /var/lib/kept"
    become = "" if user.mode == "single" else "sudo "
    user.inside(f"{become}sh -c 'echo kept | tee {places} > /dev/null'")
    for refused in ("/usr/made", "/usr/bin/made", "/var/lib/dpkg/made"):
        assert user("exec", "box", "--", "sh", "-c", f"{become}touch {refused}").returncode != 0
    user.ok("stop", "box")
    assert user.json("ls")[0]["status"] == "stopped"
    user.ok("start", "box")
    assert user.inside(f"cat {places}").stdout == "kept\n" * 5
    assert not os.path.exists("/opt/kept") and not os.path.exists("/usr/local/bin/kept")


def test_places_of_installers(user):
    """Directories that the host has there, too, and that installers and sbx itself write to."""
    user.ok("create", "--name", "box", "shell", user.work)
    become = "" if user.mode == "single" else "sudo "
    for place in (*glob.glob("/usr/local/lib/python3*/dist-packages"),
                  "/usr/local/share/ca-certificates", "/usr/local/share/man"):
        user.inside(f"{become}mkdir -p {place} && {become}touch {place}/made")
        assert not os.path.exists(f"{place}/made")


def test_a_secret_for_an_ordinary_user(user):
    """Its authority is written where update-ca-certificates looks, whatever the host has there."""
    user.ok("secret", "set-custom", "-g", "--host", "localhost:1", "--env", "KEY", "--value-stdin",
            input="value of a key\n")
    user.ok("create", "--name", "box", "shell", user.work)
    user.inside("grep -q BEGIN /usr/local/share/ca-certificates/sbx.crt")


def test_link_in_place_of_a_directory(user):
    """What the sandbox put in place of a directory of /usr/local is not followed by the next start."""
    python = glob.glob("/usr/local/lib/python3*/dist-packages")
    if not python:
        skip_loudly("python3 is not on this machine")
    place = os.path.dirname(python[0])
    with tempfile.TemporaryDirectory(prefix="sbx-canary-") as canary:
        os.chmod(canary, 0o777)
        user.ok("create", "--name", "box", "shell", user.work)
        become = "" if user.mode == "single" else "sudo "
        user.inside(f"{become}rm -r {place} && {become}ln -s {canary} {place}")
        user.ok("stop", "box")
        user.ok("start", "box")
        assert os.listdir(canary) == []


def test_read_only_paths(user):
    books = user.place / "books"
    books.mkdir()
    user.own(books)
    (books / "page").write_text("text\n", encoding="utf-8")
    user.own(books / "page")
    user.ok("create", "--name", "box", "shell", user.work, f"{books}:ro")
    users = ("1000", "0") if user.mode == "range" else ("1000",)
    for who in users:
        assert user.inside(f"cat {books}/page", user=who).stdout == "text\n"
        for attack in (f"touch {books}/new", f"echo x > {books}/page", f"rm {books}/page",
                       f"chmod 777 {books}", f"mv {books}/page {books}/q",
                       f"mount -o remount,rw {books}; touch {books}/new"):
            assert user("exec", "-u", who, "box", "--", "sh", "-c", attack).returncode != 0
    assert os.listdir(books) == ["page"]


def test_rm_removes_what_other_ids_left(user):
    user.ok("create", "--name", "box", "shell", user.work)
    user.inside("mkdir -p ~/a/b && touch ~/a/b/c && chmod 0 ~/a/b ~/a")
    if user.mode == "range":
        user.inside("mkdir -p /opt/x/y && touch /opt/x/y/z && chown -R 4321:4321 /opt/x &&"
                    " chmod 700 /opt/x && cp /bin/true /opt/suid && chmod 4755 /opt/suid", user="0")
    user.ok("rm", "--force", "box")
    assert user.stored() == set()
    assert not list((user.home / "run").iterdir())
    user.ok("create", "--name", "box", "shell", user.work)


def test_two_users_do_not_meet(user):
    """The state of one is closed to another, who is only one more ordinary user of the host."""
    user.ok("create", "--name", "box", "shell", user.work)
    for part in ("state", "config", "run"):
        assert (user.home / part).stat().st_mode & 0o077 == 0
