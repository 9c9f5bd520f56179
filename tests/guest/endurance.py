#!/usr/bin/env python3
"""Linux's e1000 under strain: link down and up under load, driver off and on, bulk TCP with each offload setting.

The kernel's driver is built in; it is taken off and put back by sysfs (unbind, bind). --long: 200 times down and up, 50
times off and on by sysfs, 50 times loading and unloading the same driver as a module (built from the kernel's source by
scripts/build-driver), and 200 MB of TCP each way for each setting. Without: fewer, and 2 MB.
"""
import os
import shutil
import subprocess
import tempfile
import threading

import harness
from harness import want

from lib.sandbox import stripped

ARGS = harness.arguments(__doc__)
CYCLES = 200 if ARGS.long else 10
REBINDS = 50 if ARGS.long else 5
DATA = os.urandom(200_000_000 if ARGS.long else 2_000_000)
PATIENCE = 1200
vm = None


def boot():
    global vm
    # The file lies in the guest's RAM, and the network's buffers besides.
    vm = harness.boot(ARGS, options=("-m", "768") if ARGS.long else ())


class Flood:
    """Frames for the guest at full speed, as long as the context lasts."""

    def __enter__(self):
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def _run(self):
        from lib import frames

        frame = frames.frame(bytes.fromhex("525400123456"), frames.udp(9, b"x" * 1000), b"\x08\0")
        while not self.ended.wait(0.0005):
            try:
                frames.send(frame, 8)
            except OSError:  # the tap's queue is full, or its carrier gone
                pass


def the_link_goes_down_and_up_under_load():
    vm.run("dmesg -c > /dev/null")
    with Flood():
        vm.run(harness.in_the_background("while [ ! -e /tmp/stop ]; do ping -c 500 -i 0.001 -s 1000 10.0.2.2; done"))
        vm.run(f"for i in $(seq {CYCLES}); do ip link set eth0 down; ip link set eth0 up; usleep 20000; done",
               PATIENCE)
        vm.run("touch /tmp/stop")
    harness.carrier(vm)
    # The flood's late answers would fill the next ping's socket.
    vm.run("killall ping; sleep 0.5; true", 60)
    # ARP may have given up while the link was down, and asks again after a second.
    vm.run("ip route replace default via 10.0.2.2; for i in $(seq 20); do ping -c 1 -W 1 10.0.2.2 && break; done; "
           "ping -c 5 -i 0.05 -W 5 10.0.2.2", 60)
    harness.no_complaint(vm)
    print(f"     {CYCLES} times")


def the_driver_goes_off_and_on():
    vm.run(f"set -e; cd /sys/bus/pci/drivers/e1000; for i in $(seq {REBINDS}); do echo 0000:00:01.0 > unbind; "
           "[ ! -e /sys/class/net/eth0 ]; echo 0000:00:01.0 > bind; ip link set eth0 up; done", PATIENCE)
    vm.run("net-up", 60)
    harness.carrier(vm)
    vm.run("ping -c 5 -i 0.05 -W 5 10.0.2.2", 60)
    harness.no_complaint(vm)
    print(f"     {REBINDS} times")


def bulk_tcp_with_each_offload_setting():
    from lib import tcp

    for tso, rx in (("on", "on"), ("off", "on"), ("on", "off"), ("off", "off")):
        vm.run(f"ethtool -K eth0 rx {rx}; ethtool -K eth0 tso {tso}", 60)
        harness.carrier(vm)
        tcp.both_ways(vm, DATA, PATIENCE)
    harness.no_complaint(vm)
    print(f"     {len(DATA)} bytes each way, four settings")


def the_driver_as_a_module_loads_and_unloads():
    from lib.vm import GUEST

    vm.kill()  # its tap has the host's address
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(GUEST, "kernel-build", "source", "drivers", "net", "ethernet", "intel", "e1000")
        module = os.path.join(folder, "e1000")
        shutil.copytree(source, module)
        # The kernel leaves out initcalls by name, in modules too: ours gets another.
        with open(os.path.join(module, "e1000_main.c"), "r+") as f:
            text = f.read().replace("e1000_init_module", "e1000_init_as_module")
            f.seek(0)
            f.write(text)
        build = [os.path.join(harness.REPO, "scripts", "build-driver"), module, "CONFIG_E1000=m"]
        done = subprocess.run(build, capture_output=True, text=True)
        want(done.returncode == 0, f"build-driver: {done.stdout[-500:]}{done.stderr[-500:]}")
        with harness.boot(ARGS, options=("-append", "initcall_blacklist=e1000_init_module")) as guest:
            guest.agent().put("/tmp/e1000.ko", stripped(os.path.join(module, "e1000.ko")), timeout=120)
            guest.run(f"set -e; for i in $(seq {REBINDS}); do insmod /tmp/e1000.ko; ip link set eth0 up; rmmod e1000; "
                      "done; insmod /tmp/e1000.ko; net-up", PATIENCE)
            harness.carrier(guest)
            guest.run("ping -c 5 -i 0.05 -W 5 10.0.2.2", 60)
            harness.no_complaint(guest)
    print(f"     {REBINDS} times")


if __name__ == "__main__":
    checks = [boot, the_link_goes_down_and_up_under_load, the_driver_goes_off_and_on, bulk_tcp_with_each_offload_setting]
    try:
        harness.main(__file__, checks + [the_driver_as_a_module_loads_and_unloads] * ARGS.long)
    finally:
        if vm:
            vm.kill()
