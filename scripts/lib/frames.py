"""Frames put on the wire by hand, from the host's end of the cable, and what the guest saw of them."""
import socket
import time

from lib import netns
from lib.report import Failed

# Ethertype for local experiments (IEEE 802): no protocol in the guest takes it.
EXPERIMENT = bytes.fromhex("88b5")
OURS = bytes.fromhex("02000000fe01")


def tap():
    """The name of the one tap in our namespace."""
    names = sorted(netns.interfaces() - {"lo"})
    if len(names) != 1:
        raise Failed(f"one tap was expected, there are: {names}")
    return names[0]


def send(frame, count=1, interface=None):
    """Sends a frame (destination address first, without FCS) from the host into the guest's NIC."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind((interface or tap(), 0))
        for _ in range(count):
            s.send(frame)


def frame(destination, payload=b"", ethertype=EXPERIMENT):
    return (destination + OURS + ethertype + payload).ljust(60, b"\0")


def received(vm):
    """Frames that the driver in the guest has taken in."""
    return int(vm.run("cat /sys/class/net/eth0/statistics/rx_packets"))


def reaches(vm, data, count=5):
    """Whether the guest takes this frame in: all of `count` copies, or none. Other traffic must be quiet."""
    for _ in range(5):
        before = received(vm)
        send(data, count)
        time.sleep(0.05)
        new = received(vm) - before
        if new in (0, count):
            return new == count
        time.sleep(0.3)  # something else was on the wire
    raise Failed(f"{new} of {count} equal frames were received")


def want(vm, data, arrives, when):
    if reaches(vm, data) != arrives:
        raise Failed(f"{when}: frame to {data[:6].hex(':')} {'did not arrive' if arrives else 'arrived'}")
