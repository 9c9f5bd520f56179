#!/usr/bin/env python3
"""One boot of a two-CPU machine with RAM above 4 GiB; what Linux says of it, traffic shapes, reboot."""
import os
import re

import harness
from harness import netns, want

ARGS = harness.arguments(__doc__)
SLOW = 300
vm = None


def boot():
    global vm
    from lib.vm import Vm

    options = [*harness.accel_options(ARGS), "-smp", "2", "-m", "5G", "-timeout", "1500"]
    vm = Vm(options)
    vm.agent(SLOW)


def both_cpus_are_up():
    want(vm.run("nproc").strip() == "2", "nproc is not 2")


def ram_above_4_gib_is_usable():
    total = int(re.search(r"MemTotal:\s+(\d+)", vm.run("cat /proc/meminfo")).group(1))
    want(total > 4_700_000, f"MemTotal is {total} kB of 5 GiB")


def ecam_is_in_use():
    text = vm.run("dmesg | grep -i -E 'ECAM|MMCONFIG|acpi PNP0A08'")
    want(re.search(r"ECAM \[mem 0xe0000000-0xe00fffff\]", text), f"no ECAM line: {text}")
    want("not reserved" not in text, f"ECAM refused: {text}")


def no_kernel_complaint_about_pci_or_acpi():
    harness.no_complaint(vm, "pci|acpi|irq|e1000")


def the_interrupt_is_the_one_the_tables_announce():
    text = vm.run("cat /proc/interrupts; cat /sys/class/net/eth0/device/irq")
    line = next((x for x in text.splitlines() if "eth0" in x), "")
    number, counts = line.split(":")[0].strip(), sum(int(n) for n in line.split()[1:3])
    want(number == text.split()[-1], f"/proc/interrupts says {number}, the device {text.split()[-1]}")
    want("fasteoi" in line and counts > 0, f"no level-triggered interrupts counted: {line}")


def bars_lie_in_the_windows_of_the_bridge():
    text = vm.run("cat /sys/class/net/eth0/device/resource")
    bars = [tuple(int(x, 16) for x in row.split()) for row in text.splitlines()[:6]]
    memory = [b for b in bars if b[2] & 0x200]
    ports = [b for b in bars if b[2] & 0x100]
    want(memory and all(0xC000_0000 <= b[0] and b[1] <= 0xDFFF_FFFF for b in memory), f"memory BAR: {text}")
    want(ports and all(0xC000 <= b[0] and b[1] <= 0xFFFF for b in ports), f"I/O BAR: {text}")


def every_ping_length_comes_back():
    # Only sizes around the interesting ones: minimum frame, one descriptor, MTU.
    for size in (0, 1, 17, 18, 19, 64, 999, 1471, 1472):
        vm.run(f"ping -c 1 -W 5 -s {size} 10.0.2.2", 60)


def tcp_with_each_offload_setting():
    from lib import tcp

    data = os.urandom(300_000)
    for tso, tx, rx in (("on", "on", "off"), ("off", "on", "on"), ("off", "off", "off"), ("on", "on", "on")):
        vm.run(f"ethtool -K eth0 tx {tx} rx {rx}; ethtool -K eth0 tso {tso}", 60)
        tcp.both_ways(vm, data)


def the_link_goes_down_and_comes_back():
    for _ in range(3):
        vm.run("ip link set eth0 down; ip link set eth0 up", 60)
    vm.run("ip route replace default via 10.0.2.2; ping -c 1 -W 10 10.0.2.2", 60)


def ethtool_reads_the_device():
    text = vm.run("ethtool -i eth0; ethtool eth0; ethtool -e eth0 length 6; ethtool -d eth0 | head -n 5", 60)
    want("driver: e1000" in text and "Speed: 1000Mb/s" in text and "Link detected: yes" in text, text)
    want("52 54 00 12 34 56" in text, f"EEPROM does not hold the MAC: {text}")


def reboot_brings_the_machine_up_again():
    vm.run("echo before > /tmp/before")
    vm.agent().events.clear()
    vm.agent().call("reboot", 10)
    vm.agent().wait_event("ready", SLOW)
    want(vm.run("ls /tmp").strip() == "", "files of the first boot are still there")
    vm.run("ping -c 2 -W 10 10.0.2.2", 60)


def power_off_ends_with_status_0():
    vm.agent().call("poweroff", 10)
    want(vm.wait_end(60) == 0, f"status {vm.process.returncode}")


def the_tap_goes_with_sigkill():
    from lib.vm import Vm

    with Vm([*harness.accel_options(ARGS)]) as other:
        while not _taps():
            if not other.alive():
                raise other.failure("minivmm ended early")
        other.process.kill()
        other.process.wait()
        want(not _taps(), f"left behind: {_taps()}")


def _taps():
    return netns.interfaces() - {"lo"}


if __name__ == "__main__":
    try:
        harness.main(__file__, [
            boot, both_cpus_are_up, ram_above_4_gib_is_usable, ecam_is_in_use, no_kernel_complaint_about_pci_or_acpi,
            the_interrupt_is_the_one_the_tables_announce, bars_lie_in_the_windows_of_the_bridge,
            every_ping_length_comes_back, tcp_with_each_offload_setting, the_link_goes_down_and_comes_back,
            ethtool_reads_the_device, reboot_brings_the_machine_up_again, power_off_ends_with_status_0,
            the_tap_goes_with_sigkill,
        ])
    finally:
        if vm:
            vm.kill()
