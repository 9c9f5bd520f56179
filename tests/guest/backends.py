#!/usr/bin/env python3
"""Backends that need the host's help, each under a running guest: bridge helper, passt, taps that vanish or go down."""
import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

import harness
from harness import want

from lib import packages
from lib.report import Report
from lib.vm import GUEST, MINIVMM, Vm

ARGS = harness.arguments(__doc__)
SLOW = 300
HELPER = "/usr/lib/qemu/qemu-bridge-helper"


def sh(line):
    subprocess.run(["sh", "-ec", line], check=True)


def machine(netdev):
    return Vm(harness.accel_options(ARGS), ["-netdev", netdev, "-device", "e1000,netdev=n0"])


def carrier_becomes(vm, value):
    """In under a second for the driver; Linux's watchdog, which sets the carrier, may sleep for two more."""
    vm.run(f"for i in $(seq 200); do [ $(cat /sys/class/net/eth0/carrier) = {value} ] && exit 0; usleep 20000; done; exit 1", 30)


def loop_seconds(vm):
    """Processor time of the event loop's thread so far."""
    tasks = f"/proc/{vm.process.pid}/task"
    for task in os.listdir(tasks):
        fields = open(f"{tasks}/{task}/stat").read().rsplit(")", 1)
        if fields[0].endswith("(event-loop"):
            return sum(int(n) for n in fields[1].split()[11:13]) / os.sysconf("SC_CLK_TCK")
    return 0


def does_not_spin(vm):
    before = loop_seconds(vm)
    time.sleep(0.5)
    want(loop_seconds(vm) - before < 0.25, f"the event loop took {loop_seconds(vm) - before} s of half a second")


def a_deleted_tap_is_a_cable_pulled_out():
    with machine("tap,id=n0") as vm:
        vm.agent(SLOW)
        vm.run("ping -c 1 -W 10 10.0.2.2")
        sh("ip link del tap0")
        carrier_becomes(vm, 0)
        want(vm.console.count(b"tap0 is gone") == 1, "one line says so")
        does_not_spin(vm)
        vm.run("ping -c 1 -W 1 10.0.2.2 && exit 1 || exit 0")
        vm.agent().call("poweroff", 10)
        want(vm.wait_end(60) == 0, "it ends in order")


def a_tap_goes_down_and_comes_back():
    with machine("tap,id=n0") as vm:
        vm.agent(SLOW)
        vm.run("ping -c 1 -W 10 10.0.2.2")
        for _ in range(2):
            sh("ip link set tap0 down")
            vm.run("ping -c 1 -W 1 10.0.2.2 && exit 1 || exit 0")
            does_not_spin(vm)
            sh("ip link set tap0 up")
            vm.run("ping -c 1 -W 10 10.0.2.2")
        said = lambda: vm.console.count(b"tap0 is down; frames are dropped")
        end = time.monotonic() + 5
        while said() < 2 and time.monotonic() < end:
            time.sleep(0.01)
        want(said() == 2, f"{said()} lines instead of one each time")
        want(vm.counters()["netdevs"][0]["from_guest"]["dropped"]["link-down"] > 0, "they are counted")


def a_bridge_helper_s_tap():
    sh("ip link add br0 type bridge; ip addr add 10.0.2.2/24 dev br0; ip link set br0 up")
    try:
        with tempfile.TemporaryDirectory() as folder:
            # The helper's list of bridges has a fixed place, which is not ours to write to.
            stage = os.path.join(folder, "stage")
            with open(stage, "w") as f:
                f.write("#!/bin/sh\nmount -t tmpfs none /etc && mkdir /etc/qemu && echo allow br0 > /etc/qemu/bridge.conf"
                        f' && exec {HELPER} "$@"\n')
            os.chmod(stage, 0o755)
            for netdev in (f"bridge,id=n0,helper=unshare --mount {stage}", f"tap,id=n0,br=br0,helper=unshare --mount {stage}"):
                with machine(netdev) as vm:
                    vm.agent(SLOW)
                    vm.run("ping -c 1 -W 10 10.0.2.2")
            # And what the helper refuses is told.
            line = [MINIVMM, "-kernel", os.path.join(GUEST, "bzImage"), *harness.accel_options(ARGS), "-timeout", "60",
                    "-netdev", f"bridge,id=n0,br=other,helper=unshare --mount {stage}", "-device", "e1000,netdev=n0"]
            done = subprocess.run(line, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL)
            want(done.returncode == 1 and "access denied by acl file" in done.stderr, done.stderr)
    finally:
        sh("ip link del br0")


def passt_without_any_right():
    """Data from the host to the guest is not tried: Debian 12's passt (of March 2023) does not move any under a
    kernel of 2025, neither with us nor with QEMU; the frames that carry it are the same as the other way."""
    # passt wants an interface with a default route; nothing is ever sent there.
    sh("ip link add up0 type veth peer name up1; ip addr add 192.0.2.10/24 dev up0; ip link set up1 up; ip link set up0 up;"
       "ip route add default via 192.0.2.1")
    with machine("passt,id=n0,address=10.0.2.15,netmask=24,gateway=10.0.2.2,dhcp-dns=off") as vm:
        vm.agent(SLOW)
        vm.run("udhcpc -i eth0 -q -n -t 5 -s /bin/true", 60)
        with socket.create_server(("127.0.0.1", 5090)) as server:
            server.settimeout(60)
            _upload(vm, server)
        want(_passt_of(), "passt runs")
        vm.process.send_signal(signal.SIGKILL)
        end = time.monotonic() + 10
        while _passt_of():
            want(time.monotonic() < end, "passt outlives us")
            time.sleep(0.02)


def _upload(vm, server):
    """The guest sends a file to a server on the host's loopback."""
    got = []

    def serve():
        with server.accept()[0] as connection:
            while part := connection.recv(65536):
                got.append(part)

    thread = threading.Thread(target=serve)
    thread.start()
    total = vm.run("dd if=/dev/urandom of=/tmp/out bs=1000 count=2000 2> /dev/null; nc 10.0.2.2 5090 < /tmp/out; "
                   "sha256sum < /tmp/out", 60).split()[0]
    thread.join(60)
    want(total == hashlib.sha256(b"".join(got)).hexdigest(), f"the file differs: {len(b''.join(got))} bytes came")


def _passt_of():
    """Whether a passt runs in our namespace."""
    ours = os.readlink("/proc/self/ns/net")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = open(f"/proc/{pid}/cmdline").read()
            if command.startswith("passt") and os.readlink(f"/proc/{pid}/ns/net") == ours:
                return pid
        except OSError:
            continue
    return None


def can_have(program, package, reason):
    why = packages.ensure({program: package}, Report())
    if why and harness.netns.entered():
        print(f"SKIP {reason}: {why}", flush=True)
    return not why


if __name__ == "__main__":
    CHECKS = [a_deleted_tap_is_a_cable_pulled_out, a_tap_goes_down_and_comes_back]
    if can_have(HELPER, "qemu-system-common", "qemu"):
        CHECKS.append(a_bridge_helper_s_tap)
    if can_have("passt", "passt", "passt"):
        CHECKS.append(passt_without_any_right)
    harness.main(__file__, CHECKS)
