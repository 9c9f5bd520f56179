#!/usr/bin/env python3
"""Damaged kernels: 30 with random bit flips end as the intact one, or with status 1 or 126, never otherwise.

Prints the seed; --seed repeats a run.
"""
import argparse
import concurrent.futures
import os
import random
import subprocess
import tempfile

import harness
from harness import want

PARSER = argparse.ArgumentParser(description=__doc__.split("\n")[0])
PARSER.add_argument("--accel", default="")
PARSER.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
PARSER.add_argument("--count", type=int, default=30)
ARGS = PARSER.parse_args()
KERNEL = os.path.join(harness.REPO, "target", "guest", "bzImage")
MINIVMM = os.path.join(harness.REPO, "target", "release", "minivmm")
TIMEOUT = 60


def run(path):
    """Boots `path` with a command that ends with status 7 on an intact kernel."""
    command = [MINIVMM, "-kernel", path, *(["-accel", ARGS.accel] if ARGS.accel else []), "-no-reboot",
               "-timeout", str(TIMEOUT), "-serial", "null", "-append", 'minivmm.run="exit 7" panic=-1']
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT + 30, errors="replace")
    return done.returncode, done.stderr


def flipped(data, rng, number, folder):
    """A copy with 1 to 8 flipped bits, every third in the first 4 KiB, where the header is."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(4096 if number % 3 == 0 else len(data))] ^= 1 << rng.randrange(8)
    path = os.path.join(folder, f"flip{number}")
    with open(path, "wb") as f:
        f.write(data)
    return path


def the_intact_kernel_ends_with_7():
    status, errors = run(KERNEL)
    want(status == 7, f"status {status}: {errors}")


def flipped_kernels_end_as_intact_or_1_or_126():
    print(f"seed {ARGS.seed}")
    rng = random.Random(ARGS.seed)
    with open(KERNEL, "rb") as f:
        data = f.read()
    counts = {}
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        paths = [flipped(data, rng, n, folder) for n in range(ARGS.count)]
        for path, (status, errors) in zip(paths, pool.map(run, paths)):
            name = os.path.basename(path)
            want(status in (1, 7, 126), f"{name} (seed {ARGS.seed}): status {status}: {errors[-1500:]}")
            want("panicked at" not in errors, f"{name} (seed {ARGS.seed}): {errors}")
            if status == 1:
                want(len(errors.strip().splitlines()) == 1, f"{name}: more than one line: {errors}")
            counts[status] = counts.get(status, 0) + 1
    print(f"statuses: {counts}")


def cut_kernels_end_with_status_1_and_one_line():
    with open(KERNEL, "rb") as f:
        data = f.read()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cut")
        for n in range(30):
            with open(path, "wb") as f:
                f.write(data[: len(data) * n // 30])
            status, errors = run(path)
            want(status == 1 and len(errors.strip().splitlines()) == 1, f"cut at {n}/30: status {status}: {errors}")


if __name__ == "__main__":
    harness.main(__file__, [
        the_intact_kernel_ends_with_7, cut_kernels_end_with_status_1_and_one_line,
        flipped_kernels_end_as_intact_or_1_or_126,
    ])
