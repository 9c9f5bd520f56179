#!/usr/bin/env python3
"""boot-and-ping by a user without any privilege, on a machine without /dev/kvm.

Root is needed to set the stage: a private mount namespace in which /dev/net/tun is a node of mode 0666 and
/dev/kvm is not there. What runs on it is uid 65534.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import harness
from harness import want

from lib import packages
from lib.report import Report

NOBODY = 65534
TUN = os.makedev(10, 200)


def stage(folder):
    """A copy of what boot-and-ping needs where everybody may read it, and an empty file to hide /dev/kvm."""
    os.chmod(folder, 0o755)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(os.path.join(harness.REPO, "scripts"), os.path.join(folder, "scripts"), ignore=ignore)
    for name in ("target/release/minivmm", "target/guest/bzImage"):
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        shutil.copy(os.path.join(harness.REPO, name), os.path.join(folder, name))
    os.mknod(os.path.join(folder, "tun"), 0o666 | 0o020000, TUN)
    os.chmod(os.path.join(folder, "tun"), 0o666)


def inner(folder, *options):
    """Runs inside the private mount namespace: hides and binds, becomes nobody, runs boot-and-ping."""
    mount = ["mount", "--bind"]
    subprocess.run([*mount, os.path.join(folder, "tun"), "/dev/net/tun"], check=True)
    if os.path.exists("/dev/kvm"):
        os.chmod(folder, 0o755)
        hidden = os.path.join(folder, "no-kvm")
        with open(hidden, "w"):
            os.chmod(hidden, 0)
        subprocess.run([*mount, hidden, "/dev/kvm"], check=True)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.chdir(folder)
    script = os.path.join(folder, "scripts", "boot-and-ping")
    # A Python in root's home is not for nobody: Debian's.
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.execvp("python3", ["python3", script, "--no-build", "--json", *options])


def nobody_boots_and_pings():
    with tempfile.TemporaryDirectory() as folder:
        stage(folder)
        command = ["unshare", "--mount", sys.executable, os.path.abspath(__file__), "--inner", folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    sys.stdout.write(done.stderr)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "{}"
    result = json.loads(last)
    want(done.returncode == 0 and result.get("ok"), f"status {done.returncode}: {last}\n{done.stderr[-2000:]}")
    want(result["accel"] == "soft", f"took {result['accel']}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inner"]:
        inner(*sys.argv[2:])
    # Before harness.main, whose namespace has no way out.
    if line := packages.ensure({"/usr/bin/python3": "python3"}, Report()):
        sys.exit(f"FAIL rootless: {line}")
    harness.main(__file__, [nobody_boots_and_pings])
