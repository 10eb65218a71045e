# SPDX-License-Identifier: Apache-2.0
"""sbx settings: the store, its words and its refusals."""
import json
import os
import stat
import subprocess

import pytest

from conftest import ROOT, need_program
from upstreams import authority

SECRET_URL = "http://user:s3cret-word@proxy.example:3128"


def test_from_nothing_to_nothing(sbx):
    assert [row["value"] for row in sbx.json("settings", "ls")] == [None] * 4
    assert sbx("settings", "get", "proxy.upstream", code=1).stdout == ""
    assert sbx.ok("settings", "set", "proxy.upstream", "socks5://proxy.example") == (
        "proxy.upstream: socks5://proxy.example\n")
    sbx.ok("settings", "set", "proxy.no-proxy", "corp.example, 10.0.0.0/8")
    assert sbx.ok("settings", "get", "proxy.upstream") == "socks5://proxy.example\n"
    assert sbx.ok("settings", "get", "proxy.no-proxy") == "corp.example, 10.0.0.0/8\n"
    assert sbx.ok("settings", "ls").splitlines() == [
        "KEY             VALUE                     FROM",
        "proxy.upstream  socks5://proxy.example    setting",
        "proxy.no-proxy  corp.example, 10.0.0.0/8  setting",
        "tls.extra-ca    -                         default",
        "isolation       -                         default"]
    sbx.ok("settings", "rm", "proxy.upstream")
    assert sbx("settings", "get", "proxy.upstream", code=1).stdout == ""
    assert "is not set" in sbx("settings", "rm", "proxy.upstream", code=1).stderr


def test_a_password_is_never_shown_nor_taken_as_an_argument(sbx):
    refused = sbx("settings", "set", "proxy.upstream", SECRET_URL, code=2)
    assert "standard input" in refused.stderr and "s3cret" not in refused.stderr
    shown = sbx.ok("settings", "set", "proxy.upstream", input=SECRET_URL + "\n")
    shown += sbx.ok("settings", "get", "proxy.upstream") + sbx.ok("settings", "ls")
    shown += sbx.ok("settings", "ls", "--json")
    assert "http://user:***@proxy.example:3128" in shown and "s3cret" not in shown
    bad = sbx("settings", "set", "proxy.upstream", code=2, input="gopher://u:s3cret@h")
    assert "gopher://u:***@h" in bad.stderr and "s3cret" not in bad.stderr
    store = sbx.home / "config/settings"
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    for path in store.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "s3cret-word" in (store / "settings.json").read_text()


@pytest.mark.parametrize("data", (b"http://u:p\xff@h", b"http://h\0", b""))
def test_what_is_no_text_changes_nothing(sbx, data):
    sbx.ok("settings", "set", "proxy.upstream", "direct")
    for key in ("proxy.upstream", "proxy.no-proxy"):
        done = subprocess.run([sbx.binary, "settings", "set", key], input=data, env=sbx.env,
                              capture_output=True, timeout=60, check=False)
        assert done.returncode == (0 if data == b"" and key == "proxy.no-proxy" else 2)
    assert sbx.ok("settings", "get", "proxy.upstream") == "direct\n"


@pytest.mark.parametrize("name", ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy",
                                  "ALL_PROXY", "all_proxy", "SBX_PROXY"))
def test_ls_shows_what_the_environment_says(sbx, name):
    env = {name: SECRET_URL}
    row = sbx.json("settings", "ls", env=env)[0]
    assert row["value"] == "http://user:***@proxy.example:3128" and row["from"] == name
    sbx.ok("settings", "set", "proxy.upstream", "direct")
    row = sbx.json("settings", "ls", env=env)[0]
    assert row["from"] == (name if name == "SBX_PROXY" else "setting")


def test_the_example_of_the_document(sbx):
    text = (ROOT / "docs/upstream-proxy.md").read_text("utf-8")
    shown = text.partition("    $ sbx settings ls\n")[2].partition("\n\n")[0]
    done = sbx.ok("settings", "ls", env={"HTTPS_PROXY": "http://me:x@proxy.corp.example:3128"})
    assert [line.strip() for line in shown.splitlines()] == done.splitlines()


def way(sbx, target, **env):
    return sbx.json("policy", "check", target, env=env)["upstream_proxy"]


def test_policy_check_says_which_way_it_goes(sbx):
    names = ("a.example", "git.corp.example", "10.0.0.1", "localhost:631", "pinned.example",
             "metadata.google.internal")
    for name in names:
        sbx.ok("policy", "allow", "-g", name)
    sbx.ok("policy", "host", "add", "-g", "pinned.example", "10.0.0.2")
    assert [way(sbx, name) for name in names] == [None] * len(names)
    env = {"HTTPS_PROXY": SECRET_URL, "NO_PROXY": "corp.example"}
    taken = {"url": "http://proxy.example:3128", "from": "HTTPS_PROXY"}
    assert way(sbx, "a.example", **env) == taken == way(sbx, "http://a.example:443/x", **env)
    assert way(sbx, "10.0.0.1", **env) == taken
    # What is excepted, pinned, or near (as upstream.c has it) is reached directly.
    for name in ("git.corp.example", "pinned.example", "localhost:631", "metadata.google.internal"):
        assert way(sbx, name, **env) is None
    assert way(sbx, "git.corp.example", HTTPS_PROXY=SECRET_URL) == taken
    sbx.ok("settings", "set", "proxy.upstream", "socks5h://other.example")
    assert way(sbx, "a.example", **env) == {"url": "socks5h://other.example:1080",
                                            "from": "proxy.upstream"}
    assert way(sbx, "a.example", SBX_PROXY="direct", **env) is None
    bad = sbx("policy", "check", "a.example", env={"SBX_PROXY": "gopher://u:s3cret@h"})
    assert bad.returncode == 2 and "SBX_PROXY" in bad.stderr and "s3cret" not in bad.stderr


def test_the_example_of_policy_check(sbx):
    sbx.ok("policy", "allow", "-g", "example.com:443")
    text = (ROOT / "docs/upstream-proxy.md").read_text("utf-8")
    line, _, shown = text.partition("    $ HTTPS_PROXY=")[2].partition("\n\n")[0].partition("\n")
    url, _, words = line.partition(" sbx ")
    done = sbx.ok(*words.split(), env={"HTTPS_PROXY": url})
    assert [line.strip() for line in shown.splitlines()] == [
        line.strip() for line in done.splitlines()]


@pytest.mark.parametrize("words,says", [
    (("set", "proxy.upstrem", "x"), "did you mean 'proxy.upstream'?"),
    (("get", "nothing.like.it"), "'sbx settings ls' lists them"),
    (("rm", "tls.extraca"), "did you mean 'tls.extra-ca'?"),
    (("set", "proxy.upstream", "ftp://proxy.example"), "1 | ftp://proxy.example\n      ^~~"),
    (("set", "proxy.upstream", "http://proxy.example/x"), "has no path"),
    (("set", "proxy.no-proxy", "corp.example,10.0.0.0/40"),
     "1 | corp.example,10.0.0.0/40\n                   ^~~~~~~~~~~"),
])
def test_bad_words_are_refused_with_their_place(sbx, words, says):
    done = sbx("settings", *words, code=2)
    assert says in done.stderr
    assert [row["value"] for row in sbx.json("settings", "ls")] == [None] * 4


def test_certificates(sbx, tmp_path):
    ca, cert, key = authority(tmp_path, "corp.example")
    both = tmp_path / "both.pem"
    both.write_text("some words\n" + ca.read_text() + cert.read_text())
    shown = sbx.ok("settings", "set", "tls.extra-ca", both)
    assert "CN=Root of corp.example,O=Corp Example (until 20" in shown
    assert "CN=corp.example (until 20" in shown and ", no authority)" in shown
    kept = json.loads((sbx.home / "config/settings/settings.json").read_text())["tls.extra-ca"]
    assert kept["pem"] == ca.read_text() + cert.read_text()
    # A copy: the file may be anybody's from now on.
    both.write_text("")
    assert sbx.ok("settings", "get", "tls.extra-ca") in shown.partition(": ")[2]

    for text, says in (("", "no certificate"), ("words", "no certificate"),
                       (ca.read_text() + key.read_text(), "a private key"),
                       (ca.read_text().replace("MII", "MIX", 1), "damaged"),
                       (ca.read_text() + cert.read_text()[:300], "damaged")):
        both.write_text(text)
        assert says in sbx("settings", "set", "tls.extra-ca", both, code=2).stderr, text
    assert "No such file" in sbx("settings", "set", "tls.extra-ca", tmp_path / "no", code=1).stderr
    sbx("settings", "set", "tls.extra-ca", tmp_path, code=1)
    both.write_text(ca.read_text() * 3000)
    sbx("settings", "set", "tls.extra-ca", both, code=1)
    assert sbx.ok("settings", "get", "tls.extra-ca") in shown


def test_an_expired_certificate_is_named_so(sbx, tmp_path):
    need_program("faketime")
    pem = tmp_path / "old.pem"
    subprocess.run(["faketime", "2001-02-03", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", "/dev/null",
                    "-out", pem, "-subj", "/CN=old"], check=True, capture_output=True)
    assert "CN=old (until 2001-02-05, expired)" in sbx.ok("settings", "set", "tls.extra-ca", pem)


def test_a_damaged_store_is_not_passed_over(sbx):
    sbx.ok("settings", "set", "proxy.no-proxy", "corp.example")
    path = sbx.home / "config/settings/settings.json"
    for text in ("{", "[]", '{"proxy.upstream": "http://u:s3cret@h" "x"}'):
        path.write_text(text)
        done = sbx("settings", "ls", code=1)
        assert "settings.json' is damaged" in done.stderr and "s3cret" not in done.stderr
    os.unlink(path)
    sbx.ok("settings", "ls")


def test_isolation(sbx, tmp_path):
    sbx("settings", "set", "isolation", "kvm", code=2)
    assert sbx.ok("settings", "set", "isolation", "ns") == "isolation: ns\n"
    plain = {"SBX_ISOLATION": ""}
    sbx.ok("create", "--name", "box", "shell", tmp_path, env=plain)
    assert sbx.json("ls")[0]["isolation"] == "ns"
    # The setting is asked last.
    sbx.ok("settings", "set", "isolation", "vm")
    sbx.ok("create", "--name", "two", "shell", tmp_path, env={"SBX_ISOLATION": "ns"})
    assert "--isolation 'x'" in sbx("create", "--isolation", "x", "shell", tmp_path, code=2).stderr
