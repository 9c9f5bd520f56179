"""QEMU with the same guest, serial ports and network as `lib.vm`'s minivmm, to be measured beside it."""
import os
import shutil

from lib.vm import GUEST, Vm

PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"


def installed():
    """Whether there is a QEMU on this machine."""
    return shutil.which(PROGRAM) is not None


class Qemu(Vm):
    """One running QEMU. No screen, no option ROM for the NIC: what would only slow its start is left out."""

    program = "QEMU"

    def _command(self, kernel, net, options):
        return [
            PROGRAM, "-M", "pc", "-m", "256", "-nodefaults", "-display", "none", "-vga", "none", "-no-reboot",
            "-kernel", kernel or os.path.join(GUEST, "bzImage"), *net,
            "-serial", "stdio", "-serial", f"unix:{self.agent_path},server=on,wait=off", *options,
        ]
