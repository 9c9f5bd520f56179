#!/usr/bin/env python3
"""Faults, one after the other under a running guest: what each does, and that Linux's driver and TCP get over it."""
import os
import re
import socket
import tempfile
import time

import harness
from harness import want
from lib import tcp
from lib.icmp import Pinger
from lib.vm import GUEST_IP, Vm

ARGS = harness.arguments(__doc__)
FOLDER = tempfile.TemporaryDirectory(prefix="minivmm-faults-")
MONITOR = os.path.join(FOLDER.name, "hmp")
# ICMP echo requests: the type byte behind Ethernet and an IPv4 header without options.
REQUESTS = "match=08@34"
BULK = os.urandom(4 << 20)
PROMPT = b"(minivmm) "
vm = hmp = None


class Hmp:
    """The human monitor on its socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        end = time.monotonic() + 10
        while self.socket.connect_ex(path):
            want(time.monotonic() < end, f"nobody listens on {path}")
            time.sleep(0.01)
        self._answer()

    def _answer(self):
        data = b""
        while not data.endswith(PROMPT):
            part = self.socket.recv(65536)
            want(part, f"the monitor went: {data}")
            data += part
        return data[:-len(PROMPT)].decode().replace("\r\n", "\n").strip()

    def ask(self, line):
        self.socket.sendall(line.encode() + b"\n")
        return self._answer()

    def hits(self, fault):
        """How often it has struck."""
        found = re.search(rf"^{fault}: .*,hit=(\d+)", self.ask("info faults"), re.M)
        want(found, f"there is no {fault}: {self.ask('info faults')}")
        return int(found[1])


class Fault:
    """A fault for as long as a block runs. `hits` is what it has done in the end."""

    def __init__(self, plan):
        self.id = hmp.ask(f"fault_add {plan}").splitlines()[-1]
        want(re.fullmatch(r"fault\d+", self.id), f"fault_add {plan}: {self.id}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hits = hmp.hits(self.id)
        want(not hmp.ask(f"fault_del {self.id}").count("Error"), f"{self.id} does not end")


def ping(count, seconds=3.0):
    """Round trips of `count` requests sent together; those that came within `seconds`."""
    pinger = Pinger(GUEST_IP)
    try:
        end = time.monotonic() + seconds
        for _ in range(count):
            want(pinger.send(), "no way to the guest")
        while len(pinger.rtts) < count and time.monotonic() < end:
            pinger.receive(0.1)
        return sorted(pinger.rtts.values())
    finally:
        pinger.close()


def snmp(protocol, name):
    """A counter of the guest's network stack, as in /proc/net/snmp and netstat."""
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        lines = vm.run(f"cat {path}").splitlines()
        for keys, values in zip(lines[::2], lines[1::2]):
            row = dict(zip(keys.split(), values.split()))
            if keys.startswith(f"{protocol}:") and name in row:
                return int(row[name])
    want(False, f"no counter {protocol} {name}")


def boot_with_a_fault_from_the_command_line():
    global vm, hmp
    vm = Vm([*harness.accel_options(ARGS), "-timeout", "600", "-monitor", f"unix:{MONITOR},server=on,wait=off",
             "-fault", f"drop,id=early,netdev=n0,queue=tx,{REQUESTS},count=3"])
    hmp = Hmp(MONITOR)
    vm.agent(60)
    replies = ping(5)
    want(len(replies) == 2 and hmp.hits("early") == 3, f"{len(replies)} of 5 came through: {hmp.ask('info faults')}")
    hmp.ask("fault_del early")
    with Fault(f"drop,netdev=n0,queue=tx,{REQUESTS},every=2") as fault:
        replies = ping(20)
    want(len(replies) == 10 and fault.hits == 10, f"{len(replies)} of 20 came through, {fault.hits} were hit")
    want(len(ping(20)) == 20, "pings are lost without a fault")


def lost_frames_are_sent_again():
    before = snmp("Tcp", "RetransSegs")
    with Fault("drop,netdev=n0,rate=2%,seed=7") as fault:
        tcp.both_ways(vm, BULK)
    want(fault.hits > 10, f"only {fault.hits} frames were hit")
    want(snmp("Tcp", "RetransSegs") > before, "the guest sent nothing again")


def a_flipped_bit_is_found_by_the_checksum():
    def seen_by_the_card():
        return int(vm.run("ethtool -S eth0 | grep rx_csum_offload_errors").split()[-1])

    before = snmp("Tcp", "InCsumErrors"), seen_by_the_card()
    # In the payload of segments: behind Ethernet, IPv4 and TCP with time stamps.
    with Fault("corrupt,netdev=n0,queue=tx,offset=100,match=06@23,rate=1%,seed=3") as fault:
        tcp.to_guest(vm, BULK)
    want(fault.hits > 3, f"only {fault.hits} frames were hit")
    after = snmp("Tcp", "InCsumErrors"), seen_by_the_card()
    want(all(new > old for new, old in zip(after, before)), f"TCP and the card saw {before}, then {after}")


def doubled_frames_come_twice():
    before = snmp("Icmp", "InEchos")
    with Fault(f"duplicate,netdev=n0,queue=tx,{REQUESTS}") as fault:
        want(len(ping(5)) == 5, "not all replies came")
    time.sleep(0.2)
    echos = snmp("Icmp", "InEchos") - before
    want(fault.hits == 5 and echos == 10, f"{fault.hits} hits, {echos} requests reached the guest")
    with Fault("duplicate,netdev=n0,rate=5%"):
        tcp.both_ways(vm, BULK)


def overtaken_frames_are_put_in_order():
    before = snmp("TcpExt", "TCPOFOQueue")
    with Fault("reorder,netdev=n0,distance=3,rate=2%") as fault:
        tcp.both_ways(vm, BULK)
    want(fault.hits > 10 and snmp("TcpExt", "TCPOFOQueue") > before, f"{fault.hits} hits, nothing out of order")


def late_frames_take_their_time():
    with Fault(f"delay,netdev=n0,queue=tx,{REQUESTS},time=150ms") as fault:
        replies = ping(5)
    want(fault.hits == 5 and len(replies) == 5 and replies[0] >= 0.15, f"{fault.hits} hits, round trips {replies}")
    with Fault("delay,netdev=n0,queue=tx,time=2ms,jitter=3ms,every=10"):
        tcp.to_guest(vm, BULK[:1 << 20])


def a_link_that_flaps_comes_back():
    def changes():
        return int(vm.run("cat /sys/class/net/eth0/carrier_changes"))

    before = changes()
    with Fault("link-flap,netdev=n0,time=3s,period=6s,count=2"):
        end = time.monotonic() + 60
        while changes() < before + 4:
            want(time.monotonic() < end, f"{changes() - before} changes of the carrier, not 4")
            time.sleep(0.1)
    end = time.monotonic() + 30
    while not ping(1, seconds=1):
        want(time.monotonic() < end, "the guest does not answer after the link came back")


def a_fault_that_ends_leaves_nothing():
    want(hmp.ask("info faults").splitlines()[-1:] in ([], ["info faults"]), hmp.ask("info faults"))
    want("there is no fault" in hmp.ask("fault_del x"), "an unknown id was accepted")
    want("is not a fault" in hmp.ask("fault_add dorp,netdev=n0"), "an unknown kind was accepted")
    want(len(ping(20)) == 20, "pings are lost")


if __name__ == "__main__":
    try:
        harness.main(__file__, [
            boot_with_a_fault_from_the_command_line,
            lost_frames_are_sent_again,
            a_flipped_bit_is_found_by_the_checksum,
            doubled_frames_come_twice,
            overtaken_frames_are_put_in_order,
            late_frames_take_their_time,
            a_link_that_flaps_comes_back,
            a_fault_that_ends_leaves_nothing,
        ])
    finally:
        if vm:
            vm.kill()
        FOLDER.cleanup()
