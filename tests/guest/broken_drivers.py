#!/usr/bin/env python3
"""Drivers that are wrong in one place each (tests/broken-drivers): the driver doctor names the cause, by its id.

Each patch of tests/broken-drivers is applied to a copy of guest/driver; one call of scripts/build-driver builds them
all, and one guest loads them one after the other.
"""
import glob
import gzip
import os
import re
import shutil
import subprocess
import tempfile
import time

import harness
from harness import REPO, want

from lib.sandbox import stripped

ARGS = harness.arguments(__doc__)
SLOW = 300
FOLDER = tempfile.TemporaryDirectory()
BUILD = os.path.join(FOLDER.name, "modules")
PATCHES = sorted(glob.glob(os.path.join(REPO, "tests", "broken-drivers", "*.patch")))
vm = None


def broadcasts():
    """Frames that interrupt a guest which sends nothing itself."""
    from lib import frames

    for _ in range(90):
        frames.send(frames.frame(b"\xff" * 6))
        time.sleep(0.02)


# What makes the mistake show, where three pings do not.
TRAFFIC = {
    "no-report": "ping -q -c 280 -i 0.002 -W 1 10.0.2.2",
    "freed-too-early": "ping -q -c 40 -i 0.01 -W 1 10.0.2.2",
    "stale-status": "ping -q -c 270 -i 0.002 -W 1 10.0.2.2",
    # The allocator may put the first few anywhere.
    "small-buffers": "ping -q -c 200 -i 0.002 -W 1 10.0.2.2",
    # It never learns that there is a link.
    "icr-read-twice": broadcasts,
}


def name_of(patch):
    return os.path.basename(patch).removesuffix(".patch")


def finding_of(patch):
    with open(patch, encoding="utf-8") as f:
        return re.search(r"^Finding: (E1000-\w+-\d+)$", f.read(), re.M).group(1)


def module_of(name):
    return "drv_" + name.replace("-", "_")


def add_variant(name, patch=None):
    """A copy of the sample driver, patched, and a source file that is all of it."""
    folder = os.path.join(BUILD, module_of(name) + "_src")
    shutil.copytree(os.path.join(REPO, "guest", "driver"), folder, ignore=lambda _, names: [
        n for n in names if not n.endswith((".c", ".h"))])
    if patch:
        env = {**os.environ, "GIT_CEILING_DIRECTORIES": FOLDER.name}
        subprocess.run(["git", "apply", "--whitespace=nowarn", patch], cwd=folder, env=env, check=True)
    with open(os.path.join(BUILD, module_of(name) + ".c"), "w", encoding="utf-8") as f:
        f.write("".join(f'#include "{module_of(name)}_src/{part}.c"\n' for part in ("main", "chip", "rings", "ethtool")))


def cpio(files):
    """An archive in the kernel's format (newc) of {path: content}; no content: a folder."""
    out = bytearray()
    for number, (path, data) in enumerate([*files.items(), ("TRAILER!!!", b"")]):
        mode, data = (0o040755, b"") if data is None else (0o100644, data)
        fields = [number + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path) + 1, 0]
        out += b"070701" + "".join(f"{field:08x}" for field in fields).encode() + path.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def every_broken_driver_is_built():
    want(len(PATCHES) >= 12, f"{len(PATCHES)} broken drivers")
    os.mkdir(BUILD)
    add_variant("correct")
    for patch in PATCHES:
        add_variant(name_of(patch), patch)
    with open(os.path.join(BUILD, "Kbuild"), "w", encoding="utf-8") as f:
        f.write("obj-m := " + " ".join(module_of(n) + ".o" for n in ["correct", *map(name_of, PATCHES)]) + "\n")
    done = subprocess.run([os.path.join(REPO, "scripts", "build-driver"), BUILD], capture_output=True, text=True)
    want(done.returncode == 0, f"build-driver: {done.stdout[-1500:]}{done.stderr[-1500:]}")


def boot():
    global vm
    from lib.vm import Vm

    modules = {"lib": None, "lib/modules": None}
    for path in glob.glob(os.path.join(BUILD, "*.ko")):
        modules["lib/modules/" + os.path.basename(path)] = stripped(path)
    archive = os.path.join(FOLDER.name, "modules.cpio.gz")
    with gzip.open(archive, "wb", 1) as f:
        f.write(cpio(modules))
    options = [*harness.accel_options(ARGS), "-initrd", archive, "-append", "initcall_blacklist=e1000_init_module",
               "-d", "guest_errors", "-timeout", "600"]
    vm = Vm(options, ["-netdev", "tap,id=n0", "-device", "e1000,netdev=n0"])
    vm.agent(SLOW)


def counts():
    """How often each kind of error or warning was found so far."""
    findings = vm.counters()["nics"][0]["findings"]
    return {f["id"]: f["count"] for f in findings if f["severity"] != "note"}


def found_with(name):
    """What the doctor finds while this driver is loaded, used and unloaded."""
    before = counts()
    traffic = TRAFFIC.get(name, "ping -q -c 3 -i 0.05 -W 1 10.0.2.2")
    vm.agent().run(f"insmod /lib/modules/{module_of(name)}.ko irq=msi; ip link set eth0 up; "
                   "ip addr add 10.0.2.15/24 dev eth0", 60)
    if callable(traffic):
        traffic()
    else:
        vm.agent().run(f"{traffic} > /tmp/out 2>&1", 60)
    vm.agent().run(f"rmmod {module_of(name)}", 60)
    return {id: count - before.get(id, 0) for id, count in counts().items() if count > before.get(id, 0)}


def the_correct_driver_gives_no_finding():
    found = found_with("correct")
    want(not found, f"findings: {found}")
    want(" 0% packet loss" in vm.run("cat /tmp/out"), f"no ping: {vm.run('cat /tmp/out')}")


def broken(patch):
    """A check for one broken driver."""
    name, expected = name_of(patch), finding_of(patch)

    def check():
        found = found_with(name)
        want(expected in found, f"{expected} was not found, but {found}")
        print(f"     {expected}; all: {', '.join(found)}")

    check.__name__ = f"{name}_is_found".replace("-", "_")
    return check


def fatal_ends_the_run_with_status_122():
    from lib.vm import GUEST, Vm

    archive = os.path.join(FOLDER.name, "modules.cpio.gz")
    command = f"insmod /lib/modules/{module_of('unmasked-too-early')}.ko; sleep 20"
    options = [*harness.accel_options(ARGS), "-initrd", archive, "-append",
               f'initcall_blacklist=e1000_init_module minivmm.run="{command}"',
               "-d", f"guest_errors=fatal,symbols={os.path.join(GUEST, 'System.map')}", "-timeout", "300"]
    vm.kill()  # its tap has the host's address
    with Vm(options, ["-netdev", "tap,id=n0", "-device", "e1000,netdev=n0"]) as guest:
        status = guest.wait_end(SLOW)
        said = guest.console.decode(errors="replace")
        want(status == 122, f"status {status}: {said[-1500:]}")
        want("driver-finding: -d guest_errors=fatal: E1000-INT-001" in said, said[-1500:])
        result = guest.result()
        want(result["reason"] == "driver-finding" and result["nics"][0]["findings"][0]["id"] == "E1000-INT-001",
             str(result))


if __name__ == "__main__":
    try:
        harness.main(__file__, [
            every_broken_driver_is_built, boot, the_correct_driver_gives_no_finding, *map(broken, PATCHES),
            fatal_ends_the_run_with_status_122,
        ])
    finally:
        if vm:
            vm.kill()
        FOLDER.cleanup()
