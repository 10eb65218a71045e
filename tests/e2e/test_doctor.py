# SPDX-License-Identifier: Apache-2.0
"""What the machine offers: `sbx doctor` tells the truth, to every kind of caller."""

import json
import pathlib
import re
import subprocess

import pytest
from conftest import ISOLATION, need_program, need_root, skip_loudly

NAMES = ["namespaces", "user ids", "network", "layers", "limits", "space", "QEMU", "virtiofsd",
         "guest kernel", "virtualization"]
QEMU = "/usr/bin/qemu-system-x86_64"


def checks_of(done):
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_every_caller_is_told(caller):
    done = caller("doctor", "--json", code=0)
    report = json.loads(done.stdout)
    checks = checks_of(done)
    assert [check["name"] for check in report["checks"]] == NAMES
    assert report["ok"] is True and done.stderr == ""
    for name in ("namespaces", "network", "layers", "space"):
        assert checks[name]["state"] == "ok", checks[name]
    ids = checks["user ids"]
    assert (ids["state"] == "weak") == (caller.mode == "single")
    assert ("uidmap" in (ids["better"] or "")) == (caller.mode == "single")
    # The truth about limits is what a sandbox gets.
    created = caller("create", "--name", "box", "shell", caller.work, code=0)
    listed = caller.json("ls")[0]
    assert (checks["limits"]["state"] == "ok") == (listed["limits"].startswith("cgroup "))
    # A machine is limited by its size.
    weak = checks["limits"]["state"] == "weak" and ISOLATION == "ns"
    assert ("LIMITS in sbx(1)" in created.stderr) == weak


def test_nothing_is_left_behind(sbx):
    need_root()
    sbx.ok("doctor")
    left = {path.name for path in (sbx.home / "state").iterdir()}
    assert left <= {"vm"}, left
    assert not list(pathlib.Path("/sys/fs/cgroup").glob("**/sbx-check*"))


def test_text_says_what_json_says(sbx):
    text = sbx.ok("doctor")
    for name, check in checks_of(sbx("doctor", "--json", code=0)).items():
        assert re.search(rf"^{re.escape(name)} +{check['state']} +", text, re.M), name
        if check["better"]:
            assert f"  {name}: {check['better']}\n" in text


def in_own_mounts(sbx, before, *words, code):
    """sbx as root of mounts of its own, where `before` was done."""
    need_root()
    script = f"{before} && exec \"$@\""
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", sbx.binary, *words],
                          capture_output=True, text=True, env=sbx.env, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_without_namespaces_no_sandbox_can_be_made(sbx):
    need_root()
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c",
         "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"", "sh", sbx.binary, "doctor",
         "--json"], capture_output=True, text=True, env=sbx.env, timeout=60, check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["ok"] is False
    found = checks_of(done)["namespaces"]
    assert found["state"] == "missing" and "max_user_namespaces" in found["better"]


def test_missing_qemu_is_told_with_its_package(sbx, workspace):
    if not pathlib.Path(QEMU).exists():
        skip_loudly(f"needs {QEMU}")
    hide = f"mount --bind /dev/null {QEMU}"
    found = checks_of(in_own_mounts(sbx, hide, "doctor", "--json", code=0))["QEMU"]
    assert found["state"] == "missing" and "qemu-system-x86" in found["better"]
    done = in_own_mounts(sbx, hide, "create", "--isolation", "vm", "shell", workspace,
                         code=1)
    assert "QEMU is not installed" in done.stderr and "qemu-system-x86" in done.stderr
    assert sbx.json("ls") == []


def test_missing_unpacker_is_told_with_its_package(sbx):
    """Of the kernel's image, by what it begins with (Debian 12's: xz or lz4)."""
    kernel = checks_of(sbx("doctor", "--json", code=0))["guest kernel"]
    if "(of this system)" not in kernel["text"] or kernel["state"] != "ok":
        skip_loudly("needs the package linux-image-cloud-amd64")
    hide = " && ".join(f"{{ ! [ -e /usr/bin/{name} ] || mount --bind /dev/null /usr/bin/{name}; }}"
                       for name in ("gzip", "xz", "zstd", "lz4"))
    found = checks_of(in_own_mounts(sbx, hide, "doctor", "--json", code=0))["guest kernel"]
    assert found["state"] == "weak" and found["text"] == kernel["text"]
    assert re.search(r"apt-get install (gzip|xz-utils|zstd|lz4): ", found["better"])


def test_virtualization_is_judged_by_a_guest(sbx):
    flags = set(re.search(r"^flags\s*:(.*)", pathlib.Path("/proc/cpuinfo").read_text("utf-8"),
                          re.M).group(1).split())
    first = checks_of(sbx("doctor", "--json", code=0))["virtualization"]
    if not flags & {"vmx", "svm"}:
        assert first["state"] == "missing" and "no vmx or svm" in first["text"]
    kept = json.loads((sbx.home / "state/vm/probe.json").read_text("utf-8"))
    assert kept["works"] == (first["state"] == "ok")
    # A guest that boots is proof, and nothing else is.
    assert kept["works"] <= ("tried" in kept)
    if "tried" in kept:
        assert "just now" in first["text"]
        again = checks_of(sbx("doctor", "--json", code=0))["virtualization"]
        assert kept["tried"] in again["text"]
        once_more = checks_of(sbx("doctor", "--probe", "--json", code=0))["virtualization"]
        assert "just now" in once_more["text"]


# ---- what follows from it ----


def test_automatic_choice_is_told_once(sbx, workspace):
    auto = ("create", "--isolation", "auto", "--name")
    done = sbx(*auto, "one", "shell", workspace, code=0)
    chosen = sbx.json("ls")[0]["isolation"]
    assert chosen == sbx.json("doctor")["isolation"]
    assert (chosen == "ns") == ("share this machine's kernel" in done.stderr)
    again = sbx(*auto, "two", "shell", workspace, code=0)
    assert "kernel" not in again.stderr


def test_choice_is_kept(sbx, workspace):
    sbx.ok("create", "--name", "box", "--isolation", "ns", "shell", workspace)
    config = json.loads((sbx.home / "state/sandboxes/box/sandbox.json").read_text("utf-8"))
    assert config["isolation"] == config["isolation_requested"] == "ns"
    listed = sbx.json("ls")
    assert [one["isolation"] for one in listed] == ["ns"]
    assert re.search(r"^box +shell +running .* ns$", sbx.ok("ls"), re.M)
    # Asked for again it is the same sandbox; asked for otherwise it is refused.
    sbx.ok("run", "--name", "box", "--isolation", "ns", "shell", workspace, "--", "-c", "true")
    done = sbx("run", "--name", "box", "--isolation", "vm", "shell", workspace, code=2)
    assert "--isolation can only be used when creating" in done.stderr


@pytest.mark.parametrize("word", ["", "VM", "none", "ns "])
def test_unknown_words(sbx, workspace, word):
    done = sbx("create", "--isolation", word, "shell", workspace, code=2)
    assert "expected auto, vm or ns" in done.stderr
    if word:
        done = sbx("create", "shell", workspace, code=2, env={"SBX_ISOLATION": word})
        assert f"SBX_ISOLATION '{word}'" in done.stderr
    assert sbx.json("ls") == []


def test_environment_is_the_default(sbx, workspace):
    done = sbx("create", "--name", "box", "shell", workspace, code=0, env={"SBX_ISOLATION": "ns"})
    assert "share this machine's kernel" not in done.stderr
    config = json.loads((sbx.home / "state/sandboxes/box/sandbox.json").read_text("utf-8"))
    assert config["isolation_requested"] == "ns"


# ---- the guest kernel ----


def installed_kernels():
    return sorted(path for path in pathlib.Path("/boot").glob("vmlinuz-*-cloud-amd64")
                  if pathlib.Path("/lib/modules", path.name[8:], "modules.dep").exists())


def test_kernel_of_the_system(sbx):
    if not installed_kernels():
        skip_loudly("needs the package linux-image-cloud-amd64")
    shown = sbx.json("vm", "kernel")
    assert set(shown) == {"version", "source", "image", "size", "modules", "initramfs"}
    image = pathlib.Path(shown["image"])
    assert image in installed_kernels() and shown["source"] == "system"
    assert shown["version"] == image.name[8:] and shown["size"] == image.stat().st_size
    assert shown["modules"] == f"/lib/modules/{shown['version']}"
    text = sbx.ok("vm", "kernel")
    assert shown["version"] in text and shown["image"] in text


def test_named_kernel(sbx, tmp_path):
    if not installed_kernels():
        skip_loudly("needs the package linux-image-cloud-amd64")
    named = tmp_path / "mine"
    named.write_bytes(installed_kernels()[0].read_bytes())
    shown = sbx.json("vm", "kernel", env={"SBX_VM_KERNEL": str(named)})
    assert shown["image"] == str(named) and shown["source"] == "named"
    named.write_bytes(b"\x7fELF" + bytes(8192))
    done = sbx("vm", "kernel", code=1, env={"SBX_VM_KERNEL": str(named)})
    assert "SBX_VM_KERNEL" in done.stderr and "is not a Linux kernel" in done.stderr
    found = checks_of(sbx("doctor", "--json", code=0, env={"SBX_VM_KERNEL": str(named)}))
    assert found["guest kernel"]["state"] == "missing"
    sbx("vm", "kernel", code=1, env={"SBX_VM_KERNEL": "/nowhere"})
    sbx("vm", "kernel", code=2, env={"SBX_VM_KERNEL": "mine"})
    sbx("vm", "kernel", "--jobs", "2", code=2)
    sbx("vm", "kernel", "--build", "--jobs", "many", code=2)


# ---- building one: the script itself, on a source that takes no time ----

FAKE_MAKEFILE = """tinyconfig:
\techo '# CONFIG_A is not set' >.config
olddefconfig:
\ttrue
kernelrelease:
\t@echo {version}
vmlinux:
\ttrue
\techo "  CC      a.o"
\t{build}
"""


def build_kernel(script, target, version="6.1.9-fake", build="cp /bin/true vmlinux"):
    need_program("flex")
    need_program("bison")
    source = target.parent / "source"
    (source / "linux-source-6.1").mkdir(parents=True, exist_ok=True)
    (source / "linux-source-6.1/Makefile").write_text(
        FAKE_MAKEFILE.format(version=version, build=build), "utf-8")
    subprocess.run(["tar", "cJf", source / "source.tar.xz", "-C", source, "linux-source-6.1"],
                   check=True, timeout=60)
    return subprocess.run([script, "-j", "1", "-s", source / "source.tar.xz", target],
                          capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def script(tmp_path):
    from conftest import BUILD
    place = tmp_path / "libexec"
    place.mkdir()
    for name in ("vm-kernel", "vm-kernel.config"):
        (place / name).write_bytes((BUILD / name).read_bytes())
    (place / "vm-kernel").chmod(0o755)
    (place / "vm-kernel.config").write_text("# about\nCONFIG_A=y\n# CONFIG_B is not set\n", "utf-8")
    return place / "vm-kernel"


def need_builders(script, target):
    done = subprocess.run([script, "-s", "/nowhere", target], capture_output=True, text=True,
                          timeout=60, check=False)
    if "apt-get install" in done.stderr:
        skip_loudly(done.stderr.strip())


def test_build_replaces_the_kernel_when_it_is_complete(script, tmp_path):
    target = tmp_path / "vm"
    need_builders(script, target)
    for version in ("6.1.8-fake", "6.1.9-fake"):
        done = build_kernel(script, target, version)
        assert done.returncode == 0, done.stderr
        assert {path.name for path in target.iterdir()} == {
            f"kernel-{version}", f"config-{version}", "kernel-build.log", "build.lock"}
    assert "CONFIG_A=y" in (target / "config-6.1.9-fake").read_text("utf-8")
    done = build_kernel(script, target, "6.1.10-fake", "echo 'a.c:1: error: no'; false")
    assert done.returncode == 1
    assert "compiling failed" in done.stderr and "a.c:1: error: no" in done.stderr
    assert (target / "kernel-6.1.9-fake").exists() and not list(target.glob(".build.*"))


def test_build_stops_where_the_configuration_does_not_hold(script, tmp_path):
    target = tmp_path / "vm"
    need_builders(script, target)
    fragment = script.parent / "vm-kernel.config"
    fragment.write_text("CONFIG_A=y\nCONFIG_A=m\n# CONFIG_A is not set\n", "utf-8")
    done = build_kernel(script, target)
    assert done.returncode == 1 and "the configuration does not fit" in done.stderr
    assert "'# CONFIG_A is not set' does not hold" in done.stderr
    assert not list(target.glob("kernel-6*"))


def test_build_names_missing_packages(script, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "readlink", "nproc", "mkdir", "gcc", "objcopy", "make", "xz"):
        need_program(name)
        (tools / name).symlink_to(subprocess.run(["which", name], capture_output=True, text=True,
                                                 check=True, timeout=10).stdout.strip())
    done = subprocess.run([script, tmp_path / "vm"], capture_output=True, text=True, timeout=60,
                          check=False, env={"PATH": str(tools)})
    assert done.returncode == 1
    assert re.search(r"apt-get install flex bison bc util-linux( |$)", done.stderr, re.M)


def test_fragment_builds_every_part_in(sbx):
    from conftest import BUILD
    text = (BUILD / "vm-kernel.config").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("# ")]
    assert len(lines) > 150
    assert all(re.fullmatch(r'CONFIG_[A-Z0-9_]+=(y|-?\d+|"[a-z-]+")', line) for line in lines)
    assert len(lines) == len({line.partition("=")[0] for line in lines})
