#!/usr/bin/env python3
"""scripts/build-driver: a module of one's own is built, and each mistake gets one line. No guest is started."""
import os
import subprocess
import tempfile

import harness
from harness import want

ARGS = harness.arguments(__doc__)
SCRIPT = os.path.join(harness.REPO, "scripts", "build-driver")
SOURCE = '#include <linux/module.h>\nMODULE_LICENSE("Dual MIT/GPL");\n'


def build(folder, files, *options):
    """Writes `files` into `folder` and runs the script there: status, last line, the folder's files afterwards."""
    for name, text in files.items():
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)
    done = subprocess.run([SCRIPT, *options, folder], capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1], sorted(os.listdir(folder))


def a_module_is_built_and_cleaned_away():
    with tempfile.TemporaryDirectory() as folder:
        files = {"mine.c": SOURCE, "Kbuild": "obj-m := mine.o\n"}
        status, last, there = build(folder, files)
        want(status == 0 and last == os.path.join(folder, "mine.ko") and "mine.ko" in there, f"{status}: {last}")
        build(folder, files, "--clean")
        want(sorted(os.listdir(folder)) == ["Kbuild", "mine.c"], f"left behind: {os.listdir(folder)}")


def each_mistake_gets_one_line():
    for files, options, says in (
        ({}, (), "holds no module: neither Kbuild nor Makefile nor a .c file"),
        ({"mine.c": SOURCE}, (), "echo 'obj-m := mine.o' >"),
        ({"mine.c": SOURCE, "Makefile": "all:\n"}, (), "names no module; it needs a line like 'obj-m := mydriver.o'"),
        ({"mine.c": "int x", "Kbuild": "obj-m := mine.o\n"}, (), "make failed; its words are above"),
        ({"mine.c": SOURCE, "Kbuild": "obj-m := mine.o\n"}, ("--kernel", "/tmp"), "is not a kernel build directory"),
    ):
        with tempfile.TemporaryDirectory() as folder:
            status, last, _ = build(folder, files, *options)
            want(status == 1 and last.startswith("build-driver: ") and says in last, f"{status}: {last}")
    with tempfile.TemporaryDirectory(suffix=" with space") as folder:
        want("below a path with spaces" in build(folder, {"Kbuild": "obj-m := mine.o\n"})[1], "a space")
    done = subprocess.run([SCRIPT, "/no/such/folder"], capture_output=True, text=True)
    want(done.returncode == 1 and "is not a directory" in done.stderr, done.stderr)


if __name__ == "__main__":
    harness.main(__file__, [a_module_is_built_and_cleaned_away, each_mistake_gets_one_line])
