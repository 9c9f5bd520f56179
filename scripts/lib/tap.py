"""Taps in our own network namespace, the host's side of a measurement."""
import fcntl
import os
import struct
import subprocess

from lib.report import Failed

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
# Checksums and TCP segments left to the reader: TUN_F_CSUM, TUN_F_TSO4.
OFFLOADS = 0x01 | 0x02


def ip(*words):
    """Runs ip(8)."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Tap:
    """A persistent tap with an address; a context manager that removes it.

    peer: (address, MAC) of the other end, entered as a permanent neighbour, so that no ARP retry is in the figures.
    """

    def __init__(self, name, address, mac, peer):
        self.name = name
        ip("tuntap", "add", "dev", name, "mode", "tap")
        ip("link", "set", name, "address", mac)
        ip("addr", "add", address, "dev", name)
        ip("link", "set", name, "up")
        ip("neigh", "replace", peer[0], "lladdr", peer[1], "nud", "permanent", "dev", name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        ip("link", "del", self.name)

    def queue(self, frames):
        """How many frames wait in the kernel before it drops more."""
        ip("link", "set", self.name, "txqueuelen", str(frames))


def attach(name):
    """Opens the tap `name` (made if it is not there): frames with a virtio-net header, segments not cut."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(fd, TUNSETOFFLOAD, OFFLOADS)
    return fd
