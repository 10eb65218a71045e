# SPDX-License-Identifier: Apache-2.0
"""`make install` with a prefix and a DESTDIR of its own: what is there works from there."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from conftest import ROOT, Sbx, need_root, need_sandboxes, skip_loudly

PREFIX = "/opt/x"
# Installing sets the prefix of the build directory, which others use meanwhile: what is written
# there goes to a layer that only this process sees.
INSTALL = """
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay overlay -o "lowerdir=$PWD,upperdir=$1/upper,workdir=$1/work" "$PWD"
cd "$PWD"
exec make install PREFIX="$2" DESTDIR="$3"
"""


@contextlib.contextmanager
def install(apparmor_version):
    need_root()
    if not (ROOT / "build/build.ninja").exists():
        skip_loudly("needs the build directory that make makes")
    before = configured()
    with tempfile.TemporaryDirectory(prefix="sbx-i-") as top, \
            tempfile.TemporaryDirectory(prefix="sbx-l-") as layer:
        directory = pathlib.Path(top)
        directory.chmod(0o755)
        abi = directory / "etc/apparmor.d/abi" / apparmor_version
        abi.parent.mkdir(parents=True)
        abi.touch()
        made = subprocess.run(
            ["unshare", "-m", "sh", "-ec", INSTALL, "sh", layer, PREFIX, directory], cwd=ROOT,
            check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
        assert made.returncode == 0, made.stdout
        assert configured() == before
        yield directory


@pytest.fixture(scope="module")
def destdir():
    with install("4.0") as directory:
        yield directory


def configured():
    return (ROOT / "build/meson-private/coredata.dat").stat().st_mtime_ns


def test_the_installed_sbx_finds_its_helpers(destdir, sbx, workspace):
    need_sandboxes(sbx)
    installed = Sbx(destdir / PREFIX[1:] / "bin/sbx", sbx.home)
    assert installed.ok("version") == sbx.ok("version")
    said = installed.ok("run", "--rm", "shell", workspace, "--", "-c", "cat README")
    assert said == "a workspace\n"
    assert "complete" in installed.ok("completion", "bash")


@pytest.mark.no_sandbox
def test_what_is_installed(destdir):
    below = destdir / PREFIX[1:]
    for page in ("man1/sbx.1", "man5/sbx-kit.5"):
        assert ".TH" in (below / "share/man" / page).read_text("utf-8")
    assert os.access(below / "libexec/sbx/vm-kernel", os.X_OK)
    assert {path.name for path in destdir.iterdir()} == {"opt", "etc"}
    assert [path.name for path in (destdir / "opt").iterdir()] == ["x"]


@pytest.mark.no_sandbox
def test_the_apparmor_profile_names_the_programs_that_are_there(destdir):
    profile = destdir / "etc/apparmor.d/sbx"
    text = profile.read_text("utf-8")
    assert "@PREFIX@" not in text
    attached = [line.split()[2] for line in text.splitlines() if line.startswith("profile ")]
    assert attached == [f"{PREFIX}/bin/sbx", f"{PREFIX}/libexec/sbx/sbx-supervisor"]
    assert all(os.access(f"{destdir}{path}", os.X_OK) for path in attached)
    # Debian 12's parser is of version 3.
    if shutil.which("apparmor_parser") and pathlib.Path("/etc/apparmor.d/abi/4.0").exists():
        subprocess.run(["apparmor_parser", "-Q", "-K", profile], check=True, timeout=60)


@pytest.mark.no_sandbox
def test_older_apparmor_gets_no_profile_that_it_cannot_read():
    with install("3.0") as directory:
        assert [path.name for path in (directory / "etc/apparmor.d").iterdir()] == ["abi"]
