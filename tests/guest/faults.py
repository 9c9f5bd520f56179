#!/usr/bin/env python3
"""Faults of cables, one after the other under a running guest: what each does, and that Linux and its TCP get over it."""
import os
import tempfile
import time

import harness
from faulty import Fault, hits, ping, snmp
from harness import want
from lib import tcp
from lib.hmp import Hmp
from lib.vm import Vm

ARGS = harness.arguments(__doc__)
FOLDER = tempfile.TemporaryDirectory(prefix="minivmm-faults-")
MONITOR = os.path.join(FOLDER.name, "hmp")
# ICMP echo requests: the type byte behind Ethernet and an IPv4 header without options.
REQUESTS = "match=08@34"
BULK = os.urandom(4 << 20)
vm = hmp = None


def boot_with_a_fault_from_the_command_line():
    global vm, hmp
    vm = Vm([*harness.accel_options(ARGS), "-timeout", "600", "-monitor", f"unix:{MONITOR},server=on,wait=off",
             "-fault", f"drop,id=early,netdev=n0,queue=tx,{REQUESTS},count=3"])
    hmp = Hmp(MONITOR)
    vm.agent(60)
    replies = ping(5)
    want(len(replies) == 2 and hits(hmp, "early") == 3, f"{len(replies)} of 5 came through: {hmp.ask('info faults')}")
    hmp.ask("fault_del early")
    with Fault(hmp, f"drop,netdev=n0,queue=tx,{REQUESTS},every=2") as fault:
        replies = ping(20)
    want(len(replies) == 10 and fault.hits == 10, f"{len(replies)} of 20 came through, {fault.hits} were hit")
    want(len(ping(20)) == 20, "pings are lost without a fault")


def lost_frames_are_sent_again():
    before = snmp(vm, "Tcp", "RetransSegs")
    with Fault(hmp, "drop,netdev=n0,rate=2%,seed=7") as fault:
        tcp.both_ways(vm, BULK)
    want(fault.hits > 10, f"only {fault.hits} frames were hit")
    want(snmp(vm, "Tcp", "RetransSegs") > before, "the guest sent nothing again")


def a_flipped_bit_is_found_by_the_checksum():
    def seen_by_the_card():
        return int(vm.run("ethtool -S eth0 | grep rx_csum_offload_errors").split()[-1])

    before = snmp(vm, "Tcp", "InCsumErrors"), seen_by_the_card()
    # In the payload of segments: behind Ethernet, IPv4 and TCP with time stamps.
    with Fault(hmp, "corrupt,netdev=n0,queue=tx,offset=100,match=06@23,rate=1%,seed=3") as fault:
        tcp.to_guest(vm, BULK)
    want(fault.hits > 3, f"only {fault.hits} frames were hit")
    after = snmp(vm, "Tcp", "InCsumErrors"), seen_by_the_card()
    want(all(new > old for new, old in zip(after, before)), f"TCP and the card saw {before}, then {after}")


def doubled_frames_come_twice():
    before = snmp(vm, "Icmp", "InEchos")
    with Fault(hmp, f"duplicate,netdev=n0,queue=tx,{REQUESTS}") as fault:
        want(len(ping(5)) == 5, "not all replies came")
    time.sleep(0.2)
    echos = snmp(vm, "Icmp", "InEchos") - before
    want(fault.hits == 5 and echos == 10, f"{fault.hits} hits, {echos} requests reached the guest")
    with Fault(hmp, "duplicate,netdev=n0,rate=5%"):
        tcp.both_ways(vm, BULK)


def overtaken_frames_are_put_in_order():
    before = snmp(vm, "TcpExt", "TCPOFOQueue")
    with Fault(hmp, "reorder,netdev=n0,distance=3,rate=2%") as fault:
        tcp.both_ways(vm, BULK)
    want(fault.hits > 10 and snmp(vm, "TcpExt", "TCPOFOQueue") > before, f"{fault.hits} hits, nothing out of order")


def late_frames_take_their_time():
    with Fault(hmp, f"delay,netdev=n0,queue=tx,{REQUESTS},time=150ms") as fault:
        replies = ping(5)
    want(fault.hits == 5 and len(replies) == 5 and replies[0] >= 0.15, f"{fault.hits} hits, round trips {replies}")
    with Fault(hmp, "delay,netdev=n0,queue=tx,time=2ms,jitter=3ms,every=10"):
        tcp.to_guest(vm, BULK[:1 << 20])


def a_link_that_flaps_comes_back():
    def changes():
        return int(vm.run("cat /sys/class/net/eth0/carrier_changes"))

    before = changes()
    with Fault(hmp, "link-flap,netdev=n0,time=3s,period=6s,count=2"):
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
