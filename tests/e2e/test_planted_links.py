# SPDX-License-Identifier: Apache-2.0
"""What a sandbox leaves where the host will pass later: no link leads out of it, nothing stands in
the way."""

import os
import pathlib
import shutil
import tempfile

import pytest
from conftest import need_root, need_sandboxes

SPEC = """schemaVersion: "1"
kind: mixin
name: moving
commands:
  install:
    - command: {command}
      user: "1000"
"""


@pytest.fixture
def secret():
    """A directory of the host with a key in it, which no sandbox was given."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sbx-s-"))
    (directory / "inner").mkdir()
    (directory / "inner" / "key").write_text("the host's key\n", encoding="utf-8")
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("planter", ("itself", "a neighbour"))
def test_workspace_path_that_became_a_link(sbx, workspace, secret, planter):
    """One workspace lies in another, so the way to the inner one is the sandbox's to change."""
    need_sandboxes(sbx)
    inner = workspace / "way" / "inner"
    inner.mkdir(parents=True)
    sbx.ok("create", "--name", "box", "shell", workspace, inner)
    if planter == "itself":
        # The inner directory is a mount point, which cannot be moved; the way to it can.
        sbx.ok("exec", "box", "--", "sh", "-c", f"mv way old && ln -s {secret} way"
                                                f" && mkdir -p {secret}/inner")
    else:
        sbx.ok("create", "--name", "other", "shell", workspace)
        sbx.ok("exec", "other", "--", "sh", "-c", f"mv way/inner old && ln -s {secret} way/inner")
    sbx.ok("stop", "box")
    done = sbx("exec", "box", "--", "cat", inner / "key")
    assert done.returncode == 125
    assert "has become a link" in done.stderr and str(inner) in done.stderr
    assert "key" not in done.stdout
    # Back in its place, it is as before.
    if planter == "itself":
        (workspace / "way").unlink()
        (workspace / "old").rename(workspace / "way")
    else:
        inner.unlink()
        (workspace / "old").rename(inner)
    sbx.ok("exec", "box", "--", "touch", inner / "made")


@pytest.mark.ns_only("the host does not pass through a machine's disk")
def test_links_to_descriptors_of_the_starting_process(sbx, sandbox, workspace):
    """The way to a workspace as a link to /proc/self/fd/N: followed while the root is put together,
    it would lead to a directory of the host that is open just then."""
    need_root()
    canary = pathlib.Path(tempfile.mkdtemp(prefix="sbx-canary-", dir="/usr/local/share"))
    upper = sbx.home / "state" / "sandboxes" / sandbox / "root" / "root.upper"
    link = upper / workspace.parts[1]
    try:
        sbx.ok("stop", sandbox)
        assert not link.exists()
        for number in range(3, 40):
            link.symlink_to(f"/proc/self/fd/{number}/local/share/{canary.name}")
            done = sbx("start", sandbox)
            assert done.returncode == 125 and str(workspace) in done.stderr
            assert os.listdir(canary) == []
            link.unlink()
        sbx.ok("start", sandbox)
    finally:
        shutil.rmtree(canary)


@pytest.mark.ns_only("the host does not pass through a machine's disk")
def test_link_in_place_of_etc(sbx, sandbox):
    """What is written for a start goes below what the sandbox has there, and through no link."""
    need_root()
    canary = pathlib.Path(tempfile.mkdtemp(prefix="sbx-canary-", dir="/usr/local/share"))
    etc = sbx.home / "state" / "sandboxes" / sandbox / "root" / "root.upper" / "etc"
    try:
        sbx.ok("stop", sandbox)
        assert not etc.exists()
        for target in (canary, f"/proc/self/root{canary}"):
            etc.symlink_to(target)
            sbx.ok("start", sandbox)
            assert os.listdir(canary) == []
            sbx.ok("stop", sandbox)
            etc.unlink()
        assert sbx.ok("exec", sandbox, "cat", "/etc/hostname") == f"{sandbox}\n"
    finally:
        shutil.rmtree(canary)


def test_kit_file_that_its_install_command_made_a_link(sbx, workspace, secret):
    """A kit that lies in the workspace can be changed by its own commands while it is carried out."""
    need_sandboxes(sbx)
    kit = workspace / "kit"
    (kit / "files" / "workspace").mkdir(parents=True)
    note = kit / "files" / "workspace" / "note"
    note.write_text("harmless\n", encoding="utf-8")
    (kit / "spec.yaml").write_text(
        SPEC.format(command=f"ln -sf {secret}/inner/key {note}"), encoding="utf-8")
    done = sbx("create", "--name", "box", "--kit", kit, "shell", workspace)
    assert done.returncode == 1 and "has become a link" in done.stderr
    assert str(note) in done.stderr
    assert not (workspace / "note").exists()


def test_certificates_that_cannot_be_written_keep_no_rule_from_the_proxy(sbx, sandbox):
    """Root inside can put a directory where the sandbox's trusted certificates go."""
    sbx.ok("policy", "allow", sandbox, "example.invalid")
    sbx.ok("exec", "-u", "root", sandbox, "--", "mkdir", "-p",
           "/usr/local/share/ca-certificates/sbx.crt/in-the-way")
    sbx("policy", "deny", sandbox, "example.org", "--method", "POST")  # wants certificates
    done = sbx("policy", "deny", sandbox, "example.invalid")
    assert done.returncode == 125 and "sbx.crt" in done.stderr
    code = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://example.invalid/"]
    assert sbx.ok("exec", sandbox, "--", *code) == "403"
