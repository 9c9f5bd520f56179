#!/usr/bin/env python3
"""Properties of the board under Linux's e1000: strict=on carries traffic, overflow=drop loses frames as a wire does."""
import re
import subprocess
import time

import harness
from harness import want

ARGS = harness.arguments(__doc__)
MAC = bytes.fromhex("525400123456")
# Registers (manual, chapter 13) and causes.
ICS, IMS, IMC, RXO = 0xC8, 0xD0, 0xD8, 1 << 6
# What Linux's driver enables: RXT0, RXDMT0, RXSEQ, LSC, TXDW.
LINUX_MASK = 0x9D
FLOOD, LENGTH = 700, 1000
# The receive FIFO as Linux leaves PBA, and what a frame takes of it: length with FCS, rounded up to 8, and 16 bytes.
FIFO = 48 * 1024 // ((LENGTH + 4 + 7) // 8 * 8 + 16)


def a_strict_board_carries_traffic():
    from lib import tcp

    with harness.boot(ARGS, "e1000,strict=on") as vm:
        harness.carrier(vm)
        vm.run("ping -c 10 -i 0.05 -W 5 10.0.2.2", 60)
        tcp.both_ways(vm, b"0123456789abcdef" * 100000)
        harness.no_complaint(vm)
        # PCI 2.2 has no INTx disable, without which a driver in user space could not share its line.
        vm.run("echo 0000:00:01.0 > /sys/bus/pci/drivers/e1000/unbind; "
               "echo 8086 100e > /sys/bus/pci/drivers/uio_pci_generic/new_id; [ ! -e /sys/class/uio/uio0 ]", 60)


def registers(vm):
    """Reads (value None) and writes the device's registers past the driver."""
    base = int(vm.run("head -n 1 /sys/class/net/eth0/device/resource").split()[0], 16)

    def access(offset, value=None):
        text = vm.run(f"devmem {base + offset:#x} 32 {'' if value is None else f'{value:#x}'}")
        return int(text, 16) if value is None else None

    return access


def statistics(vm):
    text = vm.run("ethtool -S eth0")
    return {name: int(value) for name, value in re.findall(r"^\s*(\w+): (\d+)$", text, re.M)}


def overflow_drop_loses_and_counts_what_does_not_fit():
    from lib import frames, tcp

    with harness.boot(ARGS, "e1000,overflow=drop", "tap,id=n0,vnet_hdr=off") as vm:
        harness.carrier(vm)
        vm.run("ping -c 2 -i 0.05 -W 5 10.0.2.2", 60)
        register, taken = registers(vm), frames.received(vm)
        # The tap holds all of them, however slowly minivmm comes to read: what is lost is lost in the NIC.
        subprocess.run(["ip", "link", "set", frames.tap(), "txqueuelen", str(2 * FLOOD)], check=True)
        # With its interrupt masked the driver takes nothing from the ring, however fast the machine is.
        register(IMC, 0xFFFFFFFF)
        want(register(IMS) == 0, "the driver was just at work")
        frame = frames.frame(MAC, b"x" * (LENGTH - 14))
        for _ in range(0, FLOOD, 50):
            frames.send(frame, 50)
            time.sleep(0.05)
        want(register(ICS) & RXO, "no RXO")
        register(IMS, LINUX_MASK)
        # Linux reads the chip's counters every two seconds.
        end = time.monotonic() + 20
        while (seen := statistics(vm))["rx_missed_errors"] == 0 and time.monotonic() < end:
            time.sleep(0.5)
        lost, dropped = seen["rx_missed_errors"], vm.counters()["netdevs"][0]["to_guest"]["dropped"]
        want(0 < lost < FLOOD and dropped == {"overrun": lost}, f"MPC {lost}, minivmm says {dropped}")
        # All that found no descriptor, the FIFO's among them.
        want(seen["rx_no_buffer_count"] == lost + FIFO, f"RNBC {seen['rx_no_buffer_count']}, MPC {lost}, FIFO {FIFO}")
        got = frames.received(vm) - taken
        want(got == FLOOD - lost, f"{FLOOD} frames came, {lost} were lost and {got} taken in")
        # FCRTH and FCRTL, as the driver negotiated pauses with the link partner.
        want(seen["tx_flow_control_xoff"] > 0 and seen["tx_flow_control_xon"] == 1, f"pauses: {seen}")
        vm.run("ping -c 10 -i 0.05 -W 5 10.0.2.2", 60)
        tcp.both_ways(vm, b"0123456789abcdef" * 100000)
        print(f"     of {FLOOD} frames {got} arrived, {FIFO} of them by way of the FIFO")
        harness.no_complaint(vm)


if __name__ == "__main__":
    harness.main(__file__, [a_strict_board_carries_traffic, overflow_drop_loses_and_counts_what_does_not_fit])
