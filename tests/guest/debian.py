#!/usr/bin/env python3
"""Debian's stock kernel with its own e1000 module and Debian's ethtool: self-test, ping, TCP.

Needs scripts/build-debian-guest. --long: the self-test ten times in a row on each machine.
"""
import os

import harness
from harness import want

ARGS = harness.arguments(__doc__)
MACHINES = ("e1000", "e1000,link-delay=2000")
REPEATS = 10 if ARGS.long else 1
DATA = os.urandom(5_000_000)
DOCTOR = ("-d", "guest_errors")
vm = None


def load(guest):
    guest.run("insmod /lib/modules/e1000.ko", 60)
    guest.run("net-up", 60)
    harness.carrier(guest)


def boot():
    global vm
    vm = harness.boot_debian(ARGS, options=DOCTOR)
    version = vm.run("uname -rv").strip()
    want("Debian" in version, f"not Debian's kernel: {version}")
    want("eth0" not in vm.run("cat /proc/net/dev"), "there is an eth0 before a driver is loaded")
    print(f"     {version}")


def the_stock_module_drives_it():
    load(vm)
    text = vm.run("ethtool -i eth0; ethtool eth0", 60)
    want("driver: e1000\n" in text and "Speed: 1000Mb/s" in text and "Link detected: yes" in text, text)


def ping_passes_both_ways():
    from lib.icmp import Pinger

    vm.run("ping -c 20 -i 0.05 -W 5 10.0.2.2", 90)
    answered = Pinger("10.0.2.15").count(20, 0.05, 20)
    want(answered == 20, f"{answered} of 20 pings from the host were answered")


def tcp_passes_both_ways():
    from lib import tcp

    for tso, rx in (("on", "on"), ("off", "off")):
        vm.run(f"ethtool -K eth0 rx {rx} tso {tso}", 60)
        harness.carrier(vm)
        tcp.both_ways(vm, DATA)
    harness.no_complaint(vm)
    harness.no_finding(vm)


def passes(nic):
    with harness.boot_debian(ARGS, nic, "tap,id=n0,address=none", DOCTOR) as guest:
        guest.run("insmod /lib/modules/e1000.ko; ip link set eth0 up", 60)
        for _ in range(REPEATS):
            harness.self_test(guest)
        harness.no_complaint(guest)
        harness.no_finding(guest)


def the_self_test_passes_on_both_link_delays():
    vm.kill()
    harness.side_by_side(passes, MACHINES)
    print(f"     {REPEATS} times on each of: {' '.join(MACHINES)}")


if __name__ == "__main__":
    try:
        harness.main(__file__, [boot, the_stock_module_drives_it, ping_passes_both_ways, tcp_passes_both_ways,
                                the_self_test_passes_on_both_link_delays])
    finally:
        if vm:
            vm.kill()
