#!/usr/bin/env python3
"""docs/ci.md: GitHub's and GitLab's schemas accept its job files, and what they run works, in a folder laid out as their
jobs do it. The commands that README.md and docs/*.md show are there.
"""
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
if line := packages.python(["PyYAML==6.0.2", "check-jsonschema==0.33.0"], Report()):
    sys.exit(f"tests/guest/ci_page.py: {line}")
import yaml  # noqa: E402


# What check-jsonschema calls the schemas that come with it.
SCHEMAS = {"github": ["vendor.github-workflows"], "gitlab": ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]}


def job_texts():
    """The YAML blocks of the page: GitHub's and GitLab's."""
    with open(PAGE) as f:
        return re.findall(r"^```yaml\n(.*?)^```", f.read(), re.M | re.S)


def job_files():
    github, gitlab = (yaml.safe_load(block) for block in job_texts())
    return github, gitlab


def complaints(kind, text):
    """What the schema says against a job file; nothing if it is one."""
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", *SCHEMAS[kind], file.name],
                              capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    return done.stdout + done.stderr if done.returncode else ""


def the_schemas_accept_the_job_files():
    github, gitlab = job_texts()
    want(not complaints("github", github), complaints("github", github))
    # The schema takes anything for a job whose name begins with a dot: what the others inherit is checked under another.
    for text in gitlab, gitlab.replace(".driver", "driver"):
        want(not complaints("gitlab", text), complaints("gitlab", text))
    # They would say something.
    want("runs-on" in complaints("github", github.replace("runs-on:", "runs_on:")), "GitHub's schema takes anything")
    broken = gitlab.replace(".driver", "driver").replace("when: on_failure", "when: on_fail")
    want("on_fail" in complaints("gitlab", broken), "GitLab's takes anything")


def the_commands_of_the_pages_are_there():
    """Each scripts/X that a code block of the pages starts is a program; each option of it, one that it knows."""
    pages = [os.path.join(harness.REPO, "README.md")]
    docs = os.path.join(harness.REPO, "docs")
    pages += [os.path.join(docs, name) for name in sorted(os.listdir(docs)) if name.endswith(".md")]
    seen = 0
    for page in pages:
        with open(page) as f:
            blocks = re.findall(r"^```\w*\n(.*?)^```", f.read(), re.M | re.S)
        for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
            for script, rest in re.findall(r"(?:^|[\s/(])(scripts/[\w-]+)([^|;&#]*)", line):
                path = os.path.join(harness.REPO, script)
                want(os.access(path, os.X_OK), f"{os.path.basename(page)}: {script} is not there: {line}")
                with open(path) as f:
                    text = f.read()
                # What stands in quotes or behind -- is for somebody else.
                own = re.sub(r"'[^']*'|\"[^\"]*\"", "", rest).split(" -- ")[0]
                for option in re.findall(r"(?<=\s)--[a-z][\w-]*", own):
                    want(option in text, f"{os.path.basename(page)}: {script} has no {option}: {line}")
                seen += 1
    want(seen > 15, f"only {seen} commands found")


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
    harness.main(__file__, [
        the_schemas_accept_the_job_files, the_commands_of_the_pages_are_there, the_github_job_does_what_it_says,
        the_gitlab_job_does_what_it_says,
    ])
