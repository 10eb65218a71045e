# SPDX-License-Identifier: Apache-2.0
"""Installing inside: packages of the system as root, tools of languages as agent.  All of it is made
by the tests, so that nothing here needs a network; one test more goes to the distribution's mirror."""

import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import zipfile

import pytest
from conftest import make_caller, need_program, need_root, skip_loudly

# ---- the system's packages ----

CONTROL = """Package: sbx-hello
Version: {version}
Architecture: all
Maintainer: the tests <tests@example.invalid>
Description: greets
"""
POSTINST = """#!/bin/sh
set -e
useradd --system --no-create-home sbx-hello
echo made by postinst > /var/lib/sbx-hello/state
chown -R sbx-hello: /var/lib/sbx-hello
"""


def build_package(place, version):
    root = place / f"sbx-hello-{version}"
    for directory in ("DEBIAN", "usr/bin", "etc", "var/lib/sbx-hello"):
        (root / directory).mkdir(parents=True)
    files = {"DEBIAN/control": (CONTROL.format(version=version), 0o644),
             "DEBIAN/conffiles": ("/etc/sbx-hello.conf\n", 0o644),
             "DEBIAN/postinst": (POSTINST if version == "1" else "#!/bin/sh\n", 0o755),
             "etc/sbx-hello.conf": ("greeting=hello\n", 0o644),
             "usr/bin/sbx-hello": (f"#!/bin/sh\n. /etc/sbx-hello.conf\necho $greeting {version}\n", 0o755)}
    for name, (text, mode) in files.items():
        (root / name).write_text(text, encoding="utf-8")
        (root / name).chmod(mode)
    shutil.copy("/usr/bin/id", root / "usr/bin/sbx-hello-id")
    (root / "usr/bin/sbx-hello-id").chmod(0o4755)
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, place / f"{version}.deb"],
                   check=True, capture_output=True)
    shutil.rmtree(root)
    return place / f"{version}.deb"


def build_repository(place, *versions):
    """A flat repository (sources.list(5)) of versions of the package."""
    place.mkdir()
    entries = []
    for version in versions:
        data = build_package(place, version).read_bytes()
        entries.append(f"{CONTROL.format(version=version)}Filename: ./{version}.deb\n"
                       f"Size: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")
    packages = "\n".join(entries).encode()
    (place / "Packages").write_bytes(packages)
    (place / "Release").write_text(
        f"Suite: local\nSHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n",
        encoding="utf-8")


def fingerprint(*tops):
    """Names, kinds, owners, sizes and times of everything below, but for Python's caches."""
    seen = {}
    for top in tops:
        for directory, names, files in os.walk(top):
            names[:] = [name for name in names if name != "__pycache__"]
            for name in names + files:
                path = os.path.join(directory, name)
                st = os.lstat(path)
                # A directory's time changes with Python's caches, too.
                times = 0 if stat.S_ISDIR(st.st_mode) else (st.st_mtime_ns, st.st_ctime_ns)
                seen[path] = (st.st_mode, st.st_uid, st.st_gid, st.st_ino, times,
                              0 if stat.S_ISDIR(st.st_mode) else st.st_size)
    return seen


APT = ("apt-get -q -y -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/local.list"
       " -o Dir::Etc::sourceparts=-")


@pytest.fixture
def root():
    need_root()
    need_program("dpkg-deb")
    need_program("apt-get")
    with make_caller("root") as one:
        yield one


def test_apt_get_installs_inside_and_changes_nothing_outside(root):
    before = fingerprint("/usr", "/var/lib/dpkg", "/etc/apt", "/etc/alternatives")
    build_repository(root.work / "repo", "1", "2")
    root.ok("create", "--name", "box", "shell", root.work)
    root.inside(f"echo 'deb [trusted=yes] file:{root.work}/repo ./'"
                " > /etc/apt/sources.list.d/local.list", user="0")
    root.inside(f"{APT} update && {APT} install sbx-hello=1", user="0")
    assert root.inside("sbx-hello; stat -c %U /var/lib/sbx-hello/state").stdout == (
        "hello 1\nsbx-hello\n")
    assert "euid=0(root)" in root.inside("sbx-hello-id").stdout
    assert re.search(r"^ii +sbx-hello +1 ", root.inside("dpkg -l sbx-hello").stdout, re.M)
    # As agent by sudo: a newer version over the older one, its changed configuration kept.
    root.inside("echo greeting=moin > /etc/sbx-hello.conf", user="0")
    root.inside(f"sudo {APT} install sbx-hello < /dev/null")
    root.ok("stop", "box")
    assert root.inside("sbx-hello").stdout == "moin 2\n"
    root.inside(f"{APT} purge sbx-hello", user="0")
    assert root.inside("ls /usr/bin/sbx-hello* /etc/sbx-hello.conf", code=2).stdout == ""
    # What came from the host can go, and comes back with a new sandbox only.
    root.inside("dpkg --remove --force-depends --force-remove-essential procps", user="0")
    assert root.inside("command -v ps; test ! -e /usr/bin/ps", code=0).stdout == ""
    after = fingerprint("/usr", "/var/lib/dpkg", "/etc/apt", "/etc/alternatives")
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == set()
    root.ok("create", "--name", "fresh", "shell", root.work)
    assert root.inside("command -v ps", name="fresh").stdout == "/usr/bin/ps\n"


def test_apt_get_from_the_distributions_mirror(root):
    root.ok("create", "--name", "box", "shell", root.work)
    update = root("exec", "-u", "0", "box", "--", "sh", "-c",
                  "apt-get -q -o Acquire::Languages=none -o Acquire::Retries=0"
                  " -o Acquire::http::Timeout=10 -o APT::Update::Error-Mode=any update", timeout=300)
    if update.returncode != 0:
        assert [row for row in root.json("policy", "log", "box")], "apt-get did not come to the proxy"
        skip_loudly("the distribution's mirror cannot be reached, or its host is not allowed")
    root.inside("apt-get -q -y install --no-install-recommends hello", user="0", timeout=300)
    assert root.inside("hello").stdout == "Hello, world!\n"
    assert shutil.which("hello") is None


# ---- tools of languages ----

PATH = "/home/agent/.local/bin"


def npm_package(place):
    package = place / "npm"
    package.mkdir()
    (package / "package.json").write_text(json.dumps(
        {"name": "sbx-npm-tool", "version": "1.0.0", "bin": {"sbx-npm-tool": "tool.js"}}), "utf-8")
    (package / "tool.js").write_text("#!/usr/bin/env node\nconsole.log('npm', process.argv[2])\n",
                                     "utf-8")
    subprocess.run(["npm", "pack", "--silent"], cwd=package, check=True, capture_output=True,
                   timeout=60)
    return shutil.move(package / "sbx-npm-tool-1.0.0.tgz", place)


def wheel(place):
    """A wheel with one console script, made by hand (packaging.python.org, binary format)."""
    files = {
        "sbx_pip_tool.py": "import sys\n\ndef main():\n    print('pip', sys.argv[1])\n",
        "sbx_pip_tool-1.0.dist-info/METADATA":
            "Metadata-Version: 2.1\nName: sbx-pip-tool\nVersion: 1.0\n",
        "sbx_pip_tool-1.0.dist-info/WHEEL":
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "sbx_pip_tool-1.0.dist-info/entry_points.txt":
            "[console_scripts]\nsbx-pip-tool = sbx_pip_tool:main\n",
    }
    record = "sbx_pip_tool-1.0.dist-info/RECORD"
    lines = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        lines.append(f"{name},sha256={digest.decode()},{len(text)}")
    files[record] = "\n".join([*lines, f"{record},,"]) + "\n"
    path = place / "sbx_pip_tool-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def check_tool(caller, command, says):
    """It is agent's, on PATH without a login shell's help, stays, and is nowhere outside."""
    assert caller.inside(f"command -v {command}").stdout == f"{PATH}/{command}\n"
    assert caller("exec", "box", command, "works", code=0).stdout == f"{says} works\n"
    caller.ok("stop", "box")
    assert caller("exec", "box", command, "works", code=0).stdout == f"{says} works\n"
    assert caller.inside(f"stat -c %U {PATH}/{command}").stdout == "agent\n"
    assert shutil.which(command) is None


def test_npm_install_global(caller):
    need_program("npm")
    npm_package(caller.work)
    caller.ok("create", "--name", "box", "shell", caller.work)
    caller.inside("npm install -g ./sbx-npm-tool-1.0.0.tgz", timeout=120)
    assert caller.inside("npm prefix -g; npm root -g").stdout == (
        "/home/agent/.local\n/home/agent/.local/lib/node_modules\n")
    check_tool(caller, "sbx-npm-tool", "npm")


def test_pip_install_user(caller):
    if not pathlib.Path("/usr/bin/pip3").exists():
        skip_loudly("needs the system's pip (python3-pip)")
    wheel(caller.work)
    caller.ok("create", "--name", "box", "shell", caller.work)
    caller.inside("pip3 install --user --no-index ./sbx_pip_tool-1.0-py3-none-any.whl", timeout=120)
    check_tool(caller, "sbx-pip-tool", "pip")


def test_uv_tool_install(caller):
    uv = shutil.which("uv", path="/usr/local/bin:/usr/bin:/bin")
    if uv is None:
        skip_loudly("uv is not on this machine")
    wheel(caller.work)
    caller.ok("create", "--name", "box", "shell", caller.work)
    caller.inside("uv tool install --offline --no-index ./sbx_pip_tool-1.0-py3-none-any.whl",
                  timeout=120)
    check_tool(caller, "sbx-pip-tool", "pip")
