# SPDX-License-Identifier: Apache-2.0
"""The root file system of a sandbox that root made, and the template below it."""

import shutil
import subprocess

from conftest import need_root, need_sandboxes


def test_changes_of_the_system_stay_inside(sbx, sandbox):
    need_root()
    sbx.ok("exec", "-u", "0", sandbox, "--", "sh", "-c", "echo x > /usr/bin/sbx-made; rm /usr/bin/env")
    assert shutil.which("sbx-made") is None
    assert shutil.which("env")


def test_first_starts_at_once_leave_one_template(sbx, workspace):
    need_sandboxes(sbx)
    starts = [subprocess.Popen([sbx.binary, "create", "--name", f"b{i}", "shell", str(workspace)],
                               env=sbx.env, stdout=subprocess.DEVNULL) for i in range(4)]
    assert [start.wait(timeout=60) for start in starts] == [0] * 4
    assert len(list((sbx.home / "state" / "templates").iterdir())) == 1


def test_the_templates_sudo_is_of_no_use_on_the_host(sbx, sandbox):
    templates = sbx.home / "state" / "templates"
    sudo = next(templates.glob("host-*/opt/sbx/bin/sudo"))
    assert templates.stat().st_mode & 0o077 == 0
    done = subprocess.run([sudo, "id"], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 1 and "outside" in done.stderr
