"""Builds what the scripts run: minivmm by cargo, the guest by scripts/build-guest. Both are quick when done."""
import os
import subprocess
import sys

from lib import packages
from lib.report import Failed
from lib.vm import REPO


def everything(report, example=None):
    """With one of the examples, if it is named. Raises Failed with one line when something cannot be built."""
    if line := packages.ensure({"cc": "gcc", "unshare": "util-linux"}, report):
        raise Failed(line)
    with report.step("build minivmm (cargo build --release)"):
        more = ["--bins", "--example", example] if example else []
        done = subprocess.run(["cargo", "build", "--release", "--quiet", *more], cwd=REPO)
        if done.returncode:
            raise Failed("cargo build failed (is Rust installed? see README)")
    with report.step("build the guest (scripts/build-guest)"):
        if subprocess.run([os.path.join(REPO, "scripts", "build-guest")], stdout=sys.stderr).returncode:
            raise Failed("scripts/build-guest failed")
