#!/usr/bin/env python3
"""Guests of ours and of QEMU on common segments: stream, socket over TCP, dgram, L2TPv3; pings both ways.

Three machines boot at once: A (ours) has a NIC on each segment, Q (QEMU, TCG) shares four of them, B (ours) the
fifth. Without QEMU only the segment of A and B is tested, and the rest is a skip.
"""
import os
import tempfile
import time

import harness
from harness import want

from lib import packages
from lib.qemu import PACKAGE, PROGRAM, Qemu
from lib.report import Report
from lib.vm import Vm

ARGS = harness.arguments(__doc__)
SLOW = 300
DIR = tempfile.TemporaryDirectory(prefix="segments-")


def unix_stream(server):
    return f"stream,addr.type=unix,addr.path={DIR.name}/wire,server={'on' if server else 'off'}"


def udp(local, remote):
    ends = (("local", local), ("remote", remote))
    return "dgram," + ",".join(f"{end}.type=inet,{end}.host=127.0.0.1,{end}.port={port}" for end, port in ends)


def tunnel(local, remote):
    return (f"l2tpv3,src=127.0.0.1,dst=127.0.0.1,udp=on,srcport={local},dstport={remote},txsession=7,rxsession=7,"
            "cookie64=on,txcookie=0x1122334455667788,rxcookie=0x1122334455667788,counter=on")


# Segment: our end, the other machine's.
WITH_QEMU = {
    "stream over a Unix socket": (unix_stream(True), unix_stream(False)),
    "socket over TCP": ("socket,listen=127.0.0.1:5001", "socket,connect=127.0.0.1:5001"),
    "dgram over UDP": (udp(5002, 5003), udp(5003, 5002)),
    "l2tpv3 over UDP": (tunnel(5004, 5005), tunnel(5005, 5004)),
}
WITH_US = {"socket between two of ours": ("socket,listen=127.0.0.1:5006", "socket,connect=127.0.0.1:5006")}


class Guest:
    """One machine; its NIC on segment N is 10.9.N.HOST with MAC 52:54:00:09:HOST:N."""

    def __init__(self, host, program, segments):
        self.host, self.segments = host, segments
        net = []
        for n, backend in segments.items():
            device = f"e1000,netdev=n{n},mac={self.mac(n)}" + (",romfile=" if program is Qemu else "")
            net += ["-netdev", f"{backend},id=n{n}", "-device", device]
        options = ["-accel", "tcg"] if program is Qemu else harness.accel_options(ARGS)
        self.vm = program(options, net)

    def mac(self, n):
        return f"52:54:00:09:{self.host:02x}:{n:02x}"

    def address(self, n):
        return f"10.9.{n}.{self.host}"

    def set_up(self):
        """Addresses of the segments in place of the one that every guest has."""
        self.vm.agent(SLOW)
        lines = ["ip addr flush dev eth0"]
        for n in self.segments:
            lines.append(f"dev=$(basename $(dirname $(grep -l {self.mac(n)} /sys/class/net/*/address)))")
            lines.append(f"ip addr add {self.address(n)}/24 dev $dev; ip link set $dev up; echo $dev > /tmp/{n}")
        self.vm.run("; ".join(lines))

    def pings(self, n, other):
        for size in (0, 18, 1472):
            self.vm.run(f"ping -c 1 -W 10 -s {size} {other.address(n)}", 60)

    def carrier_becomes(self, n, value):
        """Linux's watchdog, which sets the carrier, may sleep for two seconds when the link goes."""
        self.vm.run(f"for i in $(seq 200); do [ $(cat /sys/class/net/$(cat /tmp/{n})/carrier) = {value} ] && exit 0; "
                    "usleep 20000; done; exit 1", 30)

    def sends_a_file(self, n, other):
        """Over TCP: full frames, back to back."""
        # nc ends when either side has no more to say, so the receiver's own input must not end.
        other.vm.run("(tail -f /dev/null | (nc -l -p 7 > /tmp/in; killall tail)) > /dev/null 2>&1 < /dev/null &")
        self.vm.run("dd if=/dev/urandom of=/tmp/out bs=1000 count=500 2> /dev/null; for i in 1 2 3 4 5; do "
                    f"nc {other.address(n)} 7 < /tmp/out && break; sleep 0.2; done", 60)
        sums = other.vm.run("sha256sum < /tmp/in"), self.vm.run("sha256sum < /tmp/out")
        want(sums[0] == sums[1], "the file differs")


guests = {}
NUMBERS = {name: n for n, name in enumerate([*WITH_QEMU, *WITH_US], 1)}


def have_qemu():
    why = packages.ensure({PROGRAM: PACKAGE}, Report())
    if why and harness.netns.entered():
        print(f"SKIP qemu: {why}", flush=True)
    return not why


def boot():
    pairs = {**(WITH_QEMU if "qemu" in PEERS else {}), **WITH_US}
    end = lambda segments, which: {NUMBERS[name]: pair[which] for name, pair in segments.items()}
    guests["A"] = Guest(1, Vm, end(pairs, 0))
    while "qemu" in PEERS and not os.path.exists(f"{DIR.name}/wire"):
        if not guests["A"].vm.alive():
            raise guests["A"].vm.failure("ended early")
        time.sleep(0.01)
    guests["B"] = Guest(2, Vm, end(WITH_US, 1))
    if "qemu" in PEERS:
        guests["Q"] = Guest(3, Qemu, end(WITH_QEMU, 1))
    for guest in guests.values():
        guest.set_up()


def check_of(name, peer):
    """A test of one segment."""
    def check():
        ours, other, n = guests["A"], guests[peer], NUMBERS[name]
        ours.pings(n, other)
        other.pings(n, ours)
        ours.sends_a_file(n, other)
        other.sends_a_file(n, ours)

    check.__name__ = name.replace(" ", "_").replace("-", "_")
    return check


def no_frame_was_lost_on_our_side():
    """Everything was sent with room to spare, so whatever is missing was lost by us."""
    for backend in guests["A"].vm.counters()["netdevs"]:
        for direction in ("to_guest", "from_guest"):
            # Before the other side was there; multicast that the guest's filters do not want.
            fine = ("link-down", "filtered")
            drops = {why: n for why, n in backend[direction]["dropped"].items() if why not in fine}
            want(not drops, f"{backend['id']} {direction}: {drops}")


def the_link_falls_with_the_other_machine():
    ours, other, n = guests["A"], guests["B"], NUMBERS["socket between two of ours"]
    ours.carrier_becomes(n, 1)
    other.vm.kill()
    ours.carrier_becomes(n, 0)
    want(b"is gone: closed by the other side; the link is down" in ours.vm.console, "nothing was said")


def and_rises_with_the_next_one():
    ours, n = guests["A"], NUMBERS["socket between two of ours"]
    guests["B"] = Guest(2, Vm, {n: WITH_US["socket between two of ours"][1]})
    guests["B"].set_up()
    ours.carrier_becomes(n, 1)
    ours.pings(n, guests["B"])


if __name__ == "__main__":
    PEERS = {"qemu"} if have_qemu() else set()
    checks = [boot]
    checks += [check_of(name, "Q") for name in WITH_QEMU if PEERS]
    checks += [check_of(name, "B") for name in WITH_US]
    checks += [no_frame_was_lost_on_our_side, the_link_falls_with_the_other_machine, and_rises_with_the_next_one]
    try:
        harness.main(__file__, checks)
    finally:
        for guest in guests.values():
            guest.vm.kill()
        DIR.cleanup()
