"""Faults of a running guest, for the tests of faults: set by the monitor for as long as a block runs."""
import re
import time

from harness import want
from lib.icmp import Pinger
from lib.vm import GUEST_IP


class Fault:
    """A fault for as long as a block runs. `hits` is what it has done in the end."""

    def __init__(self, hmp, plan):
        self.hmp = hmp
        self.id = hmp.ask(f"fault_add {plan}").splitlines()[-1]
        want(re.fullmatch(r"fault\d+", self.id), f"fault_add {plan}: {self.id}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hits = hits(self.hmp, self.id)
        want(not self.hmp.ask(f"fault_del {self.id}").count("Error"), f"{self.id} does not end")


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


def hits(hmp, fault):
    """How often it has struck."""
    found = re.search(rf"^{fault}: .*,hit=(\d+)", hmp.ask("info faults"), re.M)
    want(found, f"there is no {fault}: {hmp.ask('info faults')}")
    return int(found[1])


def snmp(vm, protocol, name):
    """A counter of the guest's network stack, as in /proc/net/snmp and netstat."""
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        lines = vm.run(f"cat {path}").splitlines()
        for keys, values in zip(lines[::2], lines[1::2]):
            row = dict(zip(keys.split(), values.split()))
            if keys.startswith(f"{protocol}:") and name in row:
                return int(row[name])
    want(False, f"no counter {protocol} {name}")
