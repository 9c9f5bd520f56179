#!/usr/bin/env python3
"""KVM with hardware virtualization under it, on a machine that has none: in a QEMU whose processor has AMD's SVM.

QEMU's emulator (TCG) carries Debian's kernel with kvm-amd; in it minivmm runs the tiny guest on `-accel kvm`, two
CPUs, by the very calls that it makes on a user's machine, and so do the tests of tests/machine that debug a CPU, as far
as QEMU goes along: its VMRUN does not arm the breakpoints of the DR7 that it loads, and it does not offer INT3 to the #BP
intercept, so that neither reaches KVM (seen with QEMU 7.2). Needs scripts/build-debian-guest. QEMU does not emulate VMX.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

import harness
from harness import want

from lib import packages
from lib.qemu import PACKAGE, PROGRAM
from lib.report import Report
from lib.vm import GUEST, MINIVMM

ARGS = harness.arguments(__doc__)
DEBIAN = os.path.join(harness.REPO, "target", "debian")
MODULES = ["irqbypass", "ccp", "kvm", "kvm-amd"]
DEBUGGING = [f"debug::kvm::{name}" for name in ("steps_are", "the_guests_own", "the_guests_debug_registers")]
# Typed at the inner guest's prompt.
COMMANDS = ("ping -c 5 10.0.2.2; nproc; grep eth0 /proc/interrupts; cat /sys/devices/system/clocksource/clocksource0/current_clocksource; "
            "ethtool -t eth0 offline; poweroff")
INIT = f"""#!/bin/ash
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in {' '.join(MODULES)}; do insmod /lib/modules/$module.ko; done
dmesg | grep -i svm
ip link set lo up
minivmm -accel help
machine --test-threads=1 {' '.join(DEBUGGING)}
(until grep -q '/ #' /tmp/log; do sleep 1; done; echo '{COMMANDS}') |
    minivmm -accel kvm -smp 2 -kernel /bzImage -append console=ttyS0 -netdev user,id=n0 -device e1000,netdev=n0 \\
        -d guest_errors,symbols=/System.map -trace e1000_register_write,file=/tmp/trace,format=json \\
        -timeout 300 -result /tmp/result 2>&1 | tee /tmp/log
cat /tmp/result
echo "the trace has $(grep -c . /tmp/trace) writes, $(grep -c '"symbol"' /tmp/trace) by a function that has a name"
grep -m1 'e1000_xmit_frame' /tmp/trace
echo 'the outer kernel says:'; dmesg | grep -iE 'kvm|svm|oops|warning|bug'
poweroff -f
"""
console = ""


def machine_tests(folder):
    """tests/machine as a program, without its debug information."""
    done = subprocess.run(["cargo", "test", "--quiet", "--test", "machine", "--no-run", "--message-format=json"],
                          cwd=harness.REPO, stdout=subprocess.PIPE, text=True)
    found = [message["executable"] for message in map(json.loads, done.stdout.splitlines()) if message.get("executable")]
    want(done.returncode == 0 and found, "cargo test --test machine --no-run made nothing")
    program = os.path.join(folder, "machine")
    subprocess.run(["strip", "-o", program, found[-1]], check=True)
    return program


def overlay(folder):
    """An archive on top of Debian's: the programs with the libraries that they load, the tiny guest, what to do."""
    root = os.path.join(folder, "root")
    listed = subprocess.run(["ldd", MINIVMM], capture_output=True, text=True, check=True).stdout
    files = {"bin/minivmm": MINIVMM, "bin/machine": machine_tests(folder)}
    files |= {name: os.path.join(GUEST, name) for name in ("bzImage", "System.map")}
    files |= {path.lstrip("/"): path for path in re.findall(r"(/\S+) \(0x", listed)}
    for name, path in files.items():
        os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
        subprocess.run(["cp", "-L", path, os.path.join(root, name)], check=True)
    with open(os.path.join(root, "init"), "w") as f:
        os.fchmod(f.fileno(), 0o755)
        f.write(INIT)
    names = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
    return subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root, input=names,
                          capture_output=True, check=True).stdout


def boot():
    global console
    with tempfile.TemporaryDirectory() as folder:
        initrd = os.path.join(folder, "initrd")
        with open(os.path.join(DEBIAN, "initramfs.cpio"), "rb") as below, open(initrd, "wb") as f:
            f.write(below.read() + overlay(folder))
        done = subprocess.run(
            [PROGRAM, "-accel", "tcg", "-cpu", "EPYC", "-m", "2G", "-display", "none", "-serial", "stdio", "-nic", "none",
             "-no-reboot", "-kernel", os.path.join(DEBIAN, "vmlinuz"), "-initrd", initrd,
             "-append", "console=ttyS0 quiet cryptomgr.notests"],
            capture_output=True, text=True, errors="replace", timeout=500)
    console = done.stdout
    want('"reason": "poweroff"' in console, f"no power-off:\n{console[-3000:]}\n{done.stderr}")


def shows(pattern, what):
    found = re.search(pattern, console, re.M)
    want(found, f"{what}: nothing matches {pattern!r} in\n{console[-6000:]}")
    return found[1] if found.groups() else None


def kvm_is_chosen_where_there_is_hardware():
    shows(r"Nested Paging enabled", "the outer kernel has no SVM")
    shows(r"Without -accel this machine takes kvm", "not the default")
    shows(r'"accel": "kvm"', "another accelerator ran")


def a_cpu_is_debugged():
    """Single steps by KVM_SET_GUEST_DEBUG, and the guest's own code and data breakpoints beside it."""
    passed = int(shows(r"^test result: ok\. (\d+) passed; 0 failed;", "tests/machine, debug"))
    want(passed == len(DEBUGGING), f"{passed} of {DEBUGGING}")


def traffic_passes():
    shows(r"5 packets transmitted, 5 packets received", "ping")


def two_cpus_and_paravirtual_time():
    shows(r"^2\s*$", "nproc")
    shows(r"IO-APIC .*eth0", "interrupts")
    shows(r"^kvm-clock", "clock source")


def intels_self_test_passes():
    shows(r"The test result is PASS", "ethtool -t")


def each_access_has_its_instruction_and_nothing_is_wrong():
    writes, named = (int(n) for n in shows(r"the trace has (\d+ writes, \d+) by", "trace").split(" writes, "))
    want(writes > 200 and named > 0.99 * writes, f"{named} of {writes} writes have a symbol")
    shows(r'"register":"TDT","rip":\d+,"symbol":"e1000_xmit_frame\+', "the doorbell")
    findings = re.findall(r'"id": "(E1000-\S+)",\s+"severity": "(\w+)"', console)
    print(f"     {writes} writes traced; findings: {findings}")
    want(all(severity == "note" for _, severity in findings), f"{findings}")


def the_outer_kernel_has_nothing_to_say():
    said = console.split("the outer kernel says:")[-1]
    bad = re.findall(r"^.*(?:Oops|WARNING: CPU|BUG:).*$", said, re.M)
    want(not bad, "\n".join(bad))


if __name__ == "__main__":
    if line := packages.ensure({PROGRAM: PACKAGE, "cpio": "cpio"}, Report()):
        sys.exit(f"FAIL svm: {line}")
    if not os.path.exists(os.path.join(DEBIAN, "vmlinuz")):
        sys.exit("target/debian/vmlinuz is missing: run scripts/build-debian-guest first")
    harness.main(__file__, [boot, kvm_is_chosen_where_there_is_hardware, a_cpu_is_debugged, traffic_passes,
                            two_cpus_and_paravirtual_time, intels_self_test_passes,
                            each_access_has_its_instruction_and_nothing_is_wrong, the_outer_kernel_has_nothing_to_say])
