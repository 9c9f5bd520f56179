#!/usr/bin/env python3
"""Kernels that are not Linux: guest/bare-metal by multiboot 2, and memtest86+ from Debian's package."""
import os
import subprocess
import sys
import tempfile

import harness
from harness import want

ARGS = harness.arguments(__doc__)
MINIVMM = os.path.join(harness.REPO, "target", "release", "minivmm")
LIMIT = 120
MEMTEST = {"x64": "boot/memtest86+x64.bin", "ia32": "boot/memtest86+ia32.bin"}
PACKAGE = harness.unpacked("memtest86+", *MEMTEST.values())


def bare_metal(folder):
    kernel = os.path.join(folder, "bare-metal.elf")
    done = subprocess.run([os.path.join(harness.REPO, "scripts", "build-bare-metal"), kernel], capture_output=True, text=True)
    want(done.returncode == 0, f"scripts/build-bare-metal: {done.stderr}")
    return kernel


def run(kernel, *options):
    """Status, console and messages of one run."""
    line = [MINIVMM, "-kernel", kernel, *harness.accel_options(ARGS), "-no-reboot", "-timeout", str(LIMIT), *options]
    done = subprocess.run(line, capture_output=True, text=True, errors="replace", timeout=LIMIT + 30,
                          stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def our_kernel_is_told_everything_and_pings_without_any_right():
    with tempfile.TemporaryDirectory() as folder:
        module = os.path.join(folder, "module")
        with open(module, "wb") as f:
            f.write(bytes(5000))
        expected = [r"^command line: a b=\"c d\"$", r"^module initrd at 00[0-9a-f]{3}000, 5000 bytes$",
                    r"^memory 0000000000100000 \+ 0000000003f00000 type 1$", r"MAC 52:54:00:12:34:56, link up",
                    r"ping: reply from 10\.0\.2\.2, sequence 1$", r"ping: reply from 10\.0\.2\.2, sequence 2$"]
        options = [word for pattern in expected for word in ("-expect", pattern)]
        status, console, errors = run(bare_metal(folder), "-m", "64", "-initrd", module,
                                      "-d", "guest_errors=fatal", "-append", 'a b="c d"', *options)
        want(status == 0, f"status {status}: {errors}{console}")


def our_kernel_answers_the_host_s_ping():
    from lib.icmp import Pinger
    from lib.vm import Vm

    with tempfile.TemporaryDirectory() as folder:
        with Vm([*harness.accel_options(ARGS), "-timeout", str(LIMIT)], kernel=bare_metal(folder)) as vm:
            vm.wait_console(b"ping: reply from 10.0.2.2", LIMIT)
            pinger = Pinger("10.0.2.15")
            try:
                received = pinger.count(20, 0.05, 10)
            finally:
                pinger.close()
            want(received == 20, f"{received} of 20 pings answered: {vm.console.decode()}")
            vm.wait_console(b"ping: answered 10.0.2.2", 10)


def memtest86_starts_and_tests():
    """By Linux's boot protocol, 64-bit and 32-bit, without a payload to unpack; it paints its screen over the serial
    line, after waiting for something else than the processor for some ten seconds (under QEMU, too)."""

    def start(name):
        options = ["-append", "console=ttyS0,115200", "-m", "16", "-nic", "none", "-expect", r"Memtest86\+", "-expect",
                   r"#[3-9] +\[Moving inversions"]
        status, console, errors = run(os.path.join(PACKAGE, MEMTEST[name]), *options)
        want(status == 0, f"status {status}: {errors}{console[-1500:]}")

    harness.side_by_side(start, MEMTEST)


if __name__ == "__main__":
    harness.main(__file__, [
        our_kernel_is_told_everything_and_pings_without_any_right, our_kernel_answers_the_host_s_ping,
        memtest86_starts_and_tests,
    ])
