"""Frames put on the wire by hand, from the host's end of the cable, and what the guest saw of them."""
import socket
import struct
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


def internet_sum(data):
    """The Internet checksum (RFC 1071) of `data`."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def ipv4(protocol, body, source="10.0.2.2", destination="10.0.2.15"):
    """An IPv4 packet; `body` is the protocol's header and data."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(destination))
    return head[:10] + struct.pack("!H", internet_sum(head)) + head[12:] + body


def with_sum(protocol, body, at, flip=0, source="10.0.2.2", destination="10.0.2.15"):
    """`body` (TCP or UDP) with its checksum at `at`, in which the bits of `flip` are turned over."""
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!HH", protocol, len(body))
    value = internet_sum(pseudo + body[:at] + b"\0\0" + body[at + 2 :]) or 0xFFFF
    return body[:at] + struct.pack("!H", value ^ flip) + body[at + 2 :]


def udp(port, data=b"x" * 64, flip=0):
    body = struct.pack("!HHHH", 4000, port, 8 + len(data), 0) + data
    return ipv4(17, with_sum(17, body, 6, flip))


def tcp_syn(port, flip=0):
    body = struct.pack("!HHIIBBHHH", 4000, port, 1, 0, 5 << 4, 2, 64240, 0, 0)
    return ipv4(6, with_sum(6, body, 16, flip))


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
