#!/usr/bin/env python3
"""docs/ci.md: its job files are YAML, and what they run works, in a folder laid out as their jobs do it."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import harness
from harness import want
from lib import packages
from lib.report import Report

ARGS = harness.arguments(__doc__)
PAGE = os.path.join(harness.REPO, "docs", "ci.md")
if line := packages.python(["PyYAML==6.0.2"], Report()):
    sys.exit(f"tests/guest/ci_page.py: {line}")
import yaml  # noqa: E402


def job_files():
    """The YAML blocks of the page: GitHub's and GitLab's."""
    with open(PAGE) as f:
        blocks = re.findall(r"^```yaml\n(.*?)^```", f.read(), re.M | re.S)
    github, gitlab = (yaml.safe_load(block) for block in blocks)
    return github, gitlab


def in_a_checkout(script, variables):
    """Builds the driver as the jobs do, and runs `script` where minivmm is a folder `minivmm`."""
    with tempfile.TemporaryDirectory() as driver, tempfile.TemporaryDirectory() as folder:
        os.symlink(harness.REPO, os.path.join(folder, "minivmm"))
        # A copy: what a build leaves does not belong into guest/driver.
        shutil.copytree(os.path.join(folder, variables["DRIVER"]), driver, dirs_exist_ok=True)
        build = [os.path.join(harness.REPO, "scripts", "build-driver"), driver]
        subprocess.run(build, check=True, capture_output=True)
        given = {name: value for name, value in variables.items() if "$" not in value}
        env = {**os.environ, **given, "DRIVER": driver}
        done = subprocess.run(["bash", "-e", "-c", script], cwd=folder, env=env, capture_output=True, text=True,
                              timeout=300, stdin=subprocess.DEVNULL)
        want(done.returncode == 0 and " 0% packet loss" in done.stdout, f"{script}: {done.stdout}{done.stderr}")
        want(os.listdir(folder) == ["minivmm"], f"left behind: {os.listdir(folder)}")


def the_github_job_does_what_it_says():
    github, _ = job_files()
    for name, job in github["jobs"].items():
        steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
        want(list(steps) == ["build", "test"] and f"--accel {name}" in steps["test"], str(steps))
        for path in re.findall(r"minivmm/(scripts/\S+)", "\n".join(steps.values())):
            want(os.access(os.path.join(harness.REPO, path), os.X_OK), path)
    test = next(step["run"] for step in github["jobs"]["soft"]["steps"] if step.get("name") == "test")
    in_a_checkout(test, github["env"])


def the_gitlab_job_does_what_it_says():
    _, gitlab = job_files()
    want(gitlab["soft"]["extends"] == gitlab["kvm"]["extends"] == ".driver", str(gitlab))
    want("kept" in gitlab[".driver"]["artifacts"]["paths"], str(gitlab))
    variables = {**gitlab["variables"], **gitlab["soft"]["variables"]}
    in_a_checkout("\n".join(gitlab[".driver"]["script"]), variables)


if __name__ == "__main__":
    harness.main(__file__, [the_github_job_does_what_it_says, the_gitlab_job_does_what_it_says])
