#!/usr/bin/env python3
"""DPDK's poll-mode driver net_e1000_em drives the NIC from user space: testpmd sends, swaps and reports the link.

Debian's kernel with uio_pci_generic, Debian's dpdk-testpmd. Frames are counted on the tap. Needs
scripts/build-debian-guest.
"""
import os
import re
import socket
import struct
import tempfile
import time

import harness
from harness import want

ARGS = harness.arguments(__doc__)
MAC = bytes.fromhex("525400123456")
LOG = "/tmp/testpmd"
# Sends and then waits for the answers of this many: fewer than the driver's receive ring holds.
BURST = 128
SWAPPED = 20000 if ARGS.long else 2000
FOLDER = tempfile.TemporaryDirectory(prefix="minivmm-dpdk-")
MONITOR = os.path.join(FOLDER.name, "monitor")
vm = None


def boot():
    global vm
    # vnet_hdr=off: each frame passes the tap as on a wire.
    vm = harness.boot_debian(ARGS, tap="tap,id=n0,vnet_hdr=off", options=("-monitor", f"unix:{MONITOR},server=on,wait=off", "-d", "guest_errors"))
    vm.run("insmod /lib/modules/uio.ko; insmod /lib/modules/uio_pci_generic.ko; mkdir /dev/hugepages; "
           "mount -t hugetlbfs none /dev/hugepages", 60)
    vm.run("echo 8086 100e > /sys/bus/pci/drivers/uio_pci_generic/new_id; ls /dev/uio0", 60)


class Testpmd:
    """testpmd in the guest with one forwarding mode, from port start to port stop."""

    def __init__(self, mode, *options):
        # Two threads on the one CPU: one forwards, one is the main thread, which may not.
        words = ["dpdk-testpmd", "--lcores", "(0,1)@0", "-m", "64", "-d", "/usr/lib/x86_64-linux-gnu/dpdk", "--",
                 "--auto-start", "--total-num-mbufs=2048", "--stats-period=1", f"--forward-mode={mode}", *options]
        command = " ".join(f"'{word}'" for word in words)
        vm.run(f"{command} < /dev/null > {LOG} 2>&1 & echo $! > {LOG}.pid", 60)

    def __enter__(self):
        self.wait("Port statistics", 120)
        return self

    def __exit__(self, *_):
        vm.agent().run(f"kill -KILL $(cat {LOG}.pid)", 60)

    def log(self):
        return vm.run(f"cat {LOG}", 60)

    def wait(self, text, seconds):
        end = time.monotonic() + seconds
        while text not in (log := self.log()):
            want(time.monotonic() < end and vm.agent().run(f"kill -0 $(cat {LOG}.pid)")["status"] == 0,
                 f"testpmd does not say {text!r}: {log[-1500:]}")
            time.sleep(0.2)

    def stop(self):
        """Ends it as Ctrl-C does; returns how many frames it (received, sent)."""
        vm.run(f"kill -INT $(cat {LOG}.pid)", 60)
        self.wait("Bye...", 120)
        log = self.log()
        totals = log[log.index("Accumulated forward statistics"):]
        return tuple(int(re.search(rf"{way}-packets: (\d+)", totals)[1]) for way in ("RX", "TX"))


def on_the_tap(what="frames"):
    """Frames or bytes (to the guest, from it), as the host's kernel counts them."""
    from lib import frames

    with open("/proc/net/dev") as f:
        row = next(line for line in f if line.strip().startswith(frames.tap() + ":"))
    n = [int(x) for x in row.split(":")[1].split()]
    return (n[9], n[1]) if what == "frames" else (n[8], n[0])


def txonly_frames_all_reach_the_tap():
    before, bytes_before = on_the_tap(), on_the_tap("bytes")
    with Testpmd("txonly", "--txpkts=64,256", "--tx-offloads=0x8000") as pmd:
        want("Probe PCI driver: net_e1000_em (8086:100e)" in pmd.log(), "another driver")
        time.sleep(3)
        _, sent = pmd.stop()
    after = on_the_tap()
    want(sent > 1000, f"only {sent} frames were sent")
    want(after[1] - before[1] == sent, f"testpmd sent {sent} frames, the tap counts {after[1] - before[1]}")
    carried = on_the_tap("bytes")[1] - bytes_before[1]
    want(carried == 320 * sent, f"{carried} bytes in {sent} frames of 320")
    print(f"     {sent} frames of two descriptors each")


def macswap_gives_every_frame_back():
    from lib import frames

    before = on_the_tap()
    with Testpmd("macswap") as pmd, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) as s:
        s.bind((frames.tap(), 0x88B5))
        s.settimeout(30)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        for first in range(0, SWAPPED, BURST):
            waiting = set()
            for n in range(first, min(first + BURST, SWAPPED)):
                # Lengths from the shortest to the longest.
                payload = struct.pack("!I", n) + bytes([n & 0xFF]) * (42 + n * 13 % 1455)
                waiting.add(frames.OURS + MAC + frames.EXPERIMENT + payload)
                s.send(MAC + frames.OURS + frames.EXPERIMENT + payload)
            while waiting:
                frame, where = s.recvfrom(65536)
                if where[2] != socket.PACKET_OUTGOING:
                    want(frame in waiting, f"an unknown frame, or one twice: {frame[:40].hex()}")
                    waiting.remove(frame)
        received, sent = pmd.stop()
    after = on_the_tap()
    wire = after[0] - before[0], after[1] - before[1]
    want((received, sent) == wire and received >= SWAPPED, f"testpmd counts {(received, sent)}, the tap {wire}")
    print(f"     {SWAPPED} frames of 60 to 1514 bytes came back as they were, addresses exchanged")


def a_lost_link_is_told_by_interrupt():
    """By INTx through uio_pci_generic, which masks the line by Command bit 10 until testpmd has seen it."""
    with Testpmd("rxonly") as pmd:
        for word, count in (("off", 1), ("on", 2), ("off", 3), ("on", 4)):
            hmp(f"set_link n0 {word}")
            end = time.monotonic() + 30
            while (seen := pmd.log().count("link state change event")) < count:
                want(time.monotonic() < end, f"set_link {word}: {seen} of {count} events: {pmd.log()[-500:]}")
                time.sleep(0.2)
        pmd.stop()
    interrupts = vm.run("grep uio /proc/interrupts")
    want(int(interrupts.split()[1]) >= 4, f"too few interrupts: {interrupts}")


def hmp(line):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.connect(MONITOR)
        s.sendall(line.encode() + b"\n")
        time.sleep(0.3)


def the_kernel_found_nothing_to_complain_about():
    harness.no_complaint(vm, "uio|irq|dma|BUG|WARN|DPC|nobody cared")


def the_driver_doctor_found_nothing():
    harness.no_finding(vm)


if __name__ == "__main__":
    try:
        harness.main(__file__, [boot, txonly_frames_all_reach_the_tap, macswap_gives_every_frame_back,
                                a_lost_link_is_told_by_interrupt, the_kernel_found_nothing_to_complain_about,
                                the_driver_doctor_found_nothing])
    finally:
        if vm:
            vm.kill()
