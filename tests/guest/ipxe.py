#!/usr/bin/env python3
"""Firmware and a network boot: SeaBIOS, iPXE from the NIC's expansion ROM, and Linux loaded over TFTP.

All from Debian's packages seabios and ipxe-qemu. What happens is told by the serial console, which SeaBIOS and iPXE write
to, and by the frames on the wire.
"""
import os
import random
import shutil
import struct
import tempfile

import harness
from harness import want

from lib.vm import Vm

ARGS = harness.arguments(__doc__)
BIOS = os.path.join(harness.unpacked("seabios", "usr/share/seabios/bios-256k.bin"), "usr/share/seabios/bios-256k.bin")
ROM = "usr/lib/ipxe/qemu/pxe-e1000.rom"
ROM = os.path.join(harness.unpacked("ipxe-qemu", ROM), ROM)
LIMIT = 240
TFTP_DATA = 3

# A file that no block of which is like another, and whose last block is short.
BLOB = random.Random(1).randbytes(300_001)
SCRIPT = """#!ipxe
echo script: ${net0/ip} from ${net0/dhcp-server} by ${net0/chip}
imgfetch --name blob tftp://${next-server}/blob
echo script: blob fetched
kernel tftp://${next-server}/bzImage console=ttyS0 from=ipxe || goto failed
boot || goto failed
:failed
echo script: failed
"""

folder = vm = None


def wire():
    return os.path.join(folder.name, "wire.pcap")


def boot(*options, cpus=1):
    """A machine without a kernel."""
    tftp = os.path.join(folder.name, "tftp")
    os.makedirs(tftp, exist_ok=True)
    shutil.copy(os.path.join(harness.REPO, "target", "guest", "bzImage"), tftp)
    for name, content in (("script", SCRIPT.encode()), ("blob", BLOB)):
        with open(os.path.join(tftp, name), "wb") as f:
            f.write(content)
    net = ["-netdev", f"user,id=n0,tftp={tftp},bootfile=script", "-device", f"e1000,netdev=n0,romfile={ROM}"]
    options = [*harness.accel_options(ARGS), "-bios", BIOS, "-smp", str(cpus), "-d", "guest_errors", *options]
    return Vm([*options, "-timeout", "1000"], net)


def the_firmware_starts_and_runs_the_rom():
    global folder, vm
    folder = tempfile.TemporaryDirectory()
    vm = boot("-object", f"filter-dump,id=f0,netdev=n0,file={wire()}", cpus=2)
    vm.wait_console(b"SeaBIOS (version", LIMIT)
    vm.wait_console(b"using 82540em on 0000:00:02.0", LIMIT)


def ipxe_gets_a_lease_and_its_script():
    vm.wait_console(b"net0: 10.0.2.15/255.255.255.0 gw 10.0.2.2", LIMIT)
    vm.wait_console(b"script: 10.0.2.15 from 10.0.2.2 by 82540em", LIMIT)


def every_byte_of_a_file_is_on_the_wire_once_acknowledged():
    vm.wait_console(b"script: blob fetched", LIMIT)
    want(blocks(wire(), len(BLOB)) == BLOB, "the file's blocks on the wire are not the file")


def blocks(path, size):
    """The content of the TFTP transfer of `size` bytes in a pcap file: each block's last transmission, in their order."""
    with open(path, "rb") as f:
        data = f.read()
    transfers = {}
    at = 24
    while at + 16 <= len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        frame = data[at + 16:at + 16 + length]
        at += 16 + length
        if frame[12:14] != b"\x08\x00" or frame[23] != 17:
            continue
        udp = 14 + (frame[14] & 15) * 4
        client = struct.unpack_from(">H", frame, udp + 2)[0]
        code, number = struct.unpack_from(">HH", frame, udp + 8) if len(frame) >= udp + 12 else (0, 0)
        if code == TFTP_DATA:
            end = udp + struct.unpack_from(">H", frame, udp + 4)[0]
            transfers.setdefault(client, {})[number] = frame[udp + 12:end]
    whole = [b"".join(part[n] for n in sorted(part)) for part in transfers.values()]
    return next((content for content in whole if len(content) == size), None)


def linux_starts_and_has_what_firmware_left():
    """Through its own real-mode code and decompressor; with interrupts by ACPI, BARs where SeaBIOS put them."""
    vm.agent(LIMIT)
    want("from=ipxe" in vm.run("cat /proc/cmdline"), "another command line")
    want(vm.run("nproc").strip() == "2", "not both CPUs")
    vm.run("ping -c 3 10.0.2.2")
    interrupts = vm.run("grep -E 'eth0|PCI-MSI|IO-APIC' /proc/interrupts")
    want("eth0" in interrupts, interrupts)
    bar = vm.run("head -1 /sys/bus/pci/devices/0000:00:02.0/resource").split()[0]
    want(int(bar, 16) >= 0xe0000000, f"BAR 0 has been moved to {bar}")


def no_driver_has_done_anything_wrong():
    harness.no_finding(vm)


def a_reset_starts_the_firmware_again():
    begin = len(vm.console)
    vm.agent().events.clear()
    vm.agent().call("reboot", 10)
    vm.agent().wait_event("ready", LIMIT)
    want(b"SeaBIOS (version" in vm.console[begin:], "Linux came back without firmware")
    vm.run("ping -c 2 -W 10 10.0.2.2", 60)


def the_machine_can_be_switched_off():
    vm.agent().call("poweroff", 10)
    want(vm.wait_end(60) == 0, f"status {vm.process.returncode}")



if __name__ == "__main__":
    try:
        harness.main(__file__, [
            the_firmware_starts_and_runs_the_rom,
            ipxe_gets_a_lease_and_its_script,
            every_byte_of_a_file_is_on_the_wire_once_acknowledged,
            linux_starts_and_has_what_firmware_left,
            no_driver_has_done_anything_wrong,
            a_reset_starts_the_firmware_again,
            the_machine_can_be_switched_off,
        ])
    finally:
        if vm is not None:
            vm.kill()
        if folder is not None:
            folder.cleanup()
