#!/usr/bin/env python3
"""Ways into the kernel and interrupt modes, each with one ping; and what the exit status tells."""
import os
import subprocess
import tempfile

import harness
from harness import want

ARGS = harness.arguments(__doc__)
GUEST = os.path.join(harness.REPO, "target", "guest")
MINIVMM = os.path.join(harness.REPO, "target", "release", "minivmm")
LIMIT = 300


def boot(*options, kernel="bzImage", append="", command="ping -c 1 -W 5 10.0.2.2 && cat /proc/interrupts"):
    """Boots, runs `command` in the guest; returns status, standard output and standard error."""
    text = f'minivmm.run="{command}" {append}'
    line = [MINIVMM, "-kernel", os.path.join(GUEST, kernel), *harness.accel_options(ARGS), "-no-reboot",
            "-timeout", str(LIMIT), "-netdev", "tap,id=n0", "-device", "e1000,netdev=n0", "-append", text, *options]
    done = subprocess.run(line, capture_output=True, text=True, errors="replace", timeout=LIMIT + 30,
                          stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def pings(*options, interrupt="IO-APIC", **more):
    """One ping out, and eth0's interrupt comes the way it should."""
    status, out, errors = boot(*options, **more)
    want(status == 0 and " 0% packet loss" in out, f"status {status}: {errors}{out[-1500:]}")
    line = next((x for x in out.splitlines() if x.rstrip().endswith("eth0")), "")
    want(interrupt in line, f"eth0's interrupt: {line!r}")


def acpi_routes_the_interrupt():
    pings()


def the_mp_table_routes_the_interrupt():
    pings(append="acpi=off")


def the_8259s_carry_the_interrupt():
    pings(append="noapic", interrupt="XT-PIC")


def configuration_mechanism_1_is_enough():
    pings(append="pci=conf1")


def an_elf_kernel_boots_by_its_pvh_note():
    pings(kernel="vmlinux")


def the_kernel_can_unpack_itself():
    pings("-machine", "kernel-unpack=guest")


def an_initrd_is_unpacked_over_the_built_in_one():
    pings("-initrd", os.path.join(GUEST, "initramfs.cpio.gz"))


def four_cpus_in_128_mib():
    pings("-smp", "4", "-m", "128")


def a_plain_tap_carries_whole_frames():
    pings("-netdev", "tap,id=n1,vnet_hdr=off,address=10.0.3.2/24", "-device", "e1000,netdev=n1")


def the_link_comes_up_after_its_delay():
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "result.json")
        status, out, errors = boot("-result", result, command="sleep 3; ethtool eth0 | grep -q detected..yes")
        want(status == 0 and '"link_up": true' in open(result).read(), f"{status}: {errors}{out[-800:]}")


def a_command_s_status_is_ours():
    status, _, errors = boot(command="exit 7")
    want(status == 7 and "command-exit" in errors, f"{status}: {errors}")


def a_panic_is_126():
    status, _, errors = boot(command="echo c > /proc/sysrq-trigger; sleep 5; kill -9 1")
    want(status == 126 and "panic" in errors, f"{status}: {errors}")


def the_timeout_is_124():
    status, _, errors = boot("-timeout", "2", command="sleep 100")
    want(status == 124 and "timeout" in errors, f"{status}: {errors}")


def isa_debug_exit_ends_with_2n_plus_1():
    command = "printf '\\020' | dd of=/dev/port bs=1 seek=1281 count=1 2> /dev/null"
    status, _, errors = boot("-device", "isa-debug-exit", command=command)
    want(status == 33, f"{status}: {errors}")


if __name__ == "__main__":
    harness.main(__file__, [
        acpi_routes_the_interrupt, the_mp_table_routes_the_interrupt, the_8259s_carry_the_interrupt,
        configuration_mechanism_1_is_enough, an_elf_kernel_boots_by_its_pvh_note, the_kernel_can_unpack_itself,
        an_initrd_is_unpacked_over_the_built_in_one, four_cpus_in_128_mib, a_plain_tap_carries_whole_frames,
        the_link_comes_up_after_its_delay, a_command_s_status_is_ours, a_panic_is_126,
        the_timeout_is_124, isa_debug_exit_ends_with_2n_plus_1,
    ])
