#!/usr/bin/env python3
"""U-Boot as firmware, and its own e1000 driver: a lease, a ping, a file, all told on the serial console.

The images are those of Debian's package u-boot-qemu, for 32 and 64 bits. The driver polls its rings, reads the EEPROM by
its pins and takes the semaphores of later parts first.
"""
import os
import random
import tempfile
import zlib

import harness
from harness import want

from lib.vm import Vm

ARGS = harness.arguments(__doc__)
IMAGES = ["usr/lib/u-boot/qemu-x86/u-boot.rom", "usr/lib/u-boot/qemu-x86_64/u-boot.rom"]
FOLDER = harness.unpacked("u-boot-qemu", *IMAGES)
MAC = "52:54:00:aa:bb:cc"
LIMIT = 120

# Every block is like no other, and the last one is short.
BLOB = random.Random(2).randbytes(300_001)


class UBoot(Vm):
    """A machine at U-Boot's prompt."""

    program = "minivmm with U-Boot"

    def __init__(self, image, tftp, model):
        net = ["-netdev", f"user,id=n0,tftp={tftp}", "-device", f"{model},netdev=n0,mac={MAC}"]
        bios = os.path.join(FOLDER, image)
        options = [*harness.accel_options(ARGS), "-bios", bios, "-m", "256", "-d", "guest_errors", "-timeout", "600"]
        super().__init__(options, net, keyboard=True)
        self.wait_console(b"Hit any key to stop autoboot", LIMIT)
        self.type(b"\r")
        self.wait_console(b"=> ", LIMIT)
        self.said = len(self.console)

    def says(self, command, answer):
        """Types a command and waits until `answer` and the next prompt were printed behind it."""
        self.type(command.encode() + b"\r")
        with self.changed:
            done = self.changed.wait_for(lambda: b"=> " in self.console[self.said:], LIMIT)
            output, self.said = self.console[self.said:].decode("utf-8", "replace"), len(self.console)
        want(done and answer in output, f"{command} gave:\n{output}")


def a_boot(image, model):
    with tempfile.TemporaryDirectory() as tftp:
        with open(os.path.join(tftp, "blob"), "wb") as f:
            f.write(BLOB)
        with UBoot(image, tftp, model) as vm:
            want(f"e1000: {MAC}".encode() in vm.console, "another MAC address than the EEPROM's")
            vm.says("setenv autoload no; dhcp", "DHCP client bound to address 10.0.2.15")
            vm.says("ping 10.0.2.2", "host 10.0.2.2 is alive")
            vm.says("tftpboot 2000000 10.0.2.2:blob", f"Bytes transferred = {len(BLOB)}")
            vm.says(f"crc32 2000000 {len(BLOB):x}", f"{zlib.crc32(BLOB):08x}")
            harness.no_finding(vm)


def the_32_bit_image():
    a_boot(IMAGES[0], "e1000")


def the_64_bit_image():
    a_boot(IMAGES[1], "e1000")


def the_82545em():
    a_boot(IMAGES[0], "e1000-82545em")


def the_82544gc():
    a_boot(IMAGES[0], "e1000-82544gc")


if __name__ == "__main__":
    harness.main(__file__, [the_32_bit_image, the_64_bit_image, the_82545em, the_82544gc])
