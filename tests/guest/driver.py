#!/usr/bin/env python3
"""The sample driver guest/driver (minie1000) in a real guest: by MSI and by INTx, and what it says when it cannot."""
import os
import re
import socket
import tempfile
import time

import harness
from harness import want

ARGS = harness.arguments(__doc__)
SLOW = 300
DATA = os.urandom(1_000_000)
FOLDER = tempfile.TemporaryDirectory(prefix="minivmm-driver-")
MONITOR = os.path.join(FOLDER.name, "monitor")
vm = None


def machine(*nic):
    """A guest without the kernel's own e1000 driver, with the sample driver's module in it."""
    from lib.vm import GUEST, Vm

    net = ["-netdev", "tap,id=n0", "-device", ",".join(["e1000", "netdev=n0", *nic])]
    archive = os.path.join(GUEST, "minie1000.cpio.gz")
    options = [*harness.accel_options(ARGS), "-initrd", archive, "-append", "initcall_blacklist=e1000_init_module",
               "-timeout", "1500", "-d", "guest_errors", "-monitor", f"unix:{MONITOR},server=on,wait=off"]
    guest = Vm(options, net)
    guest.agent(SLOW)
    return guest


def boot():
    global vm
    vm = machine()
    want("eth0" not in vm.run("cat /proc/net/dev"), "there is an eth0 before a driver is loaded")


def load(mode, guest=None):
    (guest or vm).run(f"insmod /lib/modules/minie1000.ko irq={mode}", 60)
    (guest or vm).run("net-up", 60)


def unload():
    vm.run("rmmod minie1000", 60)


def interrupts(guest=None):
    """The line of eth0 in /proc/interrupts, and its count."""
    text = (guest or vm).run("cat /proc/interrupts")
    line = next((x for x in text.splitlines() if x.rstrip().endswith("eth0")), "")
    found = re.match(r"\s*\d+:\s+(\d+)", line)
    want(found, f"eth0 has no interrupt: {text}")
    return line, int(found.group(1))


def traffic_by(controller, guest=None):
    """Interrupts come from `controller`, are counted while traffic runs, and the driver took each of them."""
    from lib import tcp

    guest = guest or vm
    line, before = interrupts(guest)
    want(controller in line, f"not by {controller}: {line}")
    guest.run("ping -c 20 -i 0.05 -W 5 10.0.2.2", 90)
    _, after = interrupts(guest)
    want(after >= before + 20, f"20 pings and {after - before} interrupts")
    tcp.both_ways(guest, DATA)
    guest.run("ping -c 1 -W 5 10.0.2.2", 90)
    taken = int(re.search(r"interrupts: (\d+)", guest.run("ethtool -S eth0")).group(1))
    _, count = interrupts(guest)
    want(0 <= count - taken <= 2, f"the kernel counts {count} interrupts, the driver {taken}")


def msi_interrupts_carry_ping_and_tcp():
    load("msi")
    want("by MSI" in vm.run("dmesg | grep minie1000"), "the driver did not say that it uses MSI")
    traffic_by("PCI-MSI")


def the_command_register_and_capability_are_as_for_msi():
    # Bit 10 of Command is INTx disable; the MSI capability is 5, its enable bit the first of Message Control.
    config = bytes.fromhex(vm.run("xxd -p /sys/class/net/eth0/device/config").replace("\n", ""))
    at = config[0x34]
    while config[at] != 5:
        want(at, "no MSI capability")
        at = config[at + 1]
    want(config[at + 2] & 1 and config[5] & 4, f"MSI enable {config[at + 2] & 1}, Command {config[5]:02x}{config[4]:02x}")


def statistics_equal_the_wire():
    text = vm.run("ethtool -S eth0")
    guest = {name: int(n) for name, n in re.findall(r"(\w+): (\d+)", text)}
    port = vm.counters()["netdevs"][0]
    want(guest["good_tx_packets"] == port["from_guest"]["wire_frames"], f"sent: {guest} and {port}")
    want(guest["good_rx_packets"] == port["to_guest"]["wire_frames"], f"received: {guest} and {port}")


def ethtool_reads_the_device():
    text = vm.run("ethtool -i eth0; ethtool eth0; ethtool -g eth0; ethtool -e eth0 length 6; ethtool -r eth0", 60)
    want("driver: minie1000" in text and "Speed: 1000Mb/s" in text and "Link detected: yes" in text, text)
    want("52 54 00 12 34 56" in text, f"EEPROM does not hold the MAC: {text}")
    vm.run("ping -c 1 -W 5 10.0.2.2", 60)


def a_pulled_cable_is_seen_at_once():
    """By `carrier`: this driver acts on the interrupt (LSC) itself."""
    def carrier():
        return vm.run("cat /sys/class/net/eth0/carrier").strip() == "1"

    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(20)
        monitor.connect(MONITOR)
        for name in ("n0", "e1000.0"):
            for up in (False, True):
                begin = time.monotonic()
                monitor.sendall(f"set_link {name} {'on' if up else 'off'}\n".encode())
                while carrier() != up:
                    want(time.monotonic() - begin < 60, f"set_link {name} {up} was never seen")
                took = time.monotonic() - begin
                print(f"     set_link {name} {'on' if up else 'off'}: carrier after {took * 1000:.0f} ms")
                # Nothing but the interrupt makes this driver look; how long that takes is the machine's speed.
                want(took < 10, f"set_link {name} {up} was seen after {took:.2f} s")
    vm.run("ping -c 1 -W 5 10.0.2.2", 60)


def a_multicast_group_is_heard_after_it_was_joined():
    from lib import frames

    # An IPv6 address brings its solicited-node group with it.
    group = bytes.fromhex("3333ffababcd")
    frames.want(vm, frames.frame(group), False, "before it was joined")
    vm.run("ip addr add fd00::ab:abcd/64 dev eth0")
    frames.want(vm, frames.frame(group), True, "after it was joined")
    vm.run("ip addr del fd00::ab:abcd/64 dev eth0")
    frames.want(vm, frames.frame(group), False, "after it was left")


def intx_interrupts_carry_ping_and_tcp():
    unload()
    load("intx")
    traffic_by("IO-APIC")


def it_loads_and_unloads_50_times():
    unload()
    vm.run("set -e; for i in $(seq 25); do for mode in msi intx; do insmod /lib/modules/minie1000.ko irq=$mode; "
           "ip link set eth0 up; rmmod minie1000; done; done", 240)
    load("msi")
    traffic_by("PCI-MSI")


def the_kernel_found_nothing_to_complain_about():
    harness.no_complaint(vm, "minie1000:? [0-9]|eth0|dma|irq|BUG|WARN")
    harness.no_finding(vm)


def a_wrong_parameter_gets_one_line():
    unload()
    answer = vm.agent().run("insmod /lib/modules/minie1000.ko irq=fast; dmesg -r | grep '^<3>'", 60)
    want("irq=fast: write auto, msi or intx" in answer["stdout"], str(answer))  # and harness.no_complaint would see it
    vm.run("rmmod minie1000")


def without_the_capability_auto_is_intx_and_msi_is_refused():
    """On a strict board, which forgives a driver nothing that works on emulators only."""
    vm.kill()  # its tap has the host's address
    with machine("msi=off", "strict=on") as guest:
        answer = guest.agent().run("insmod /lib/modules/minie1000.ko irq=msi; dmesg | tail -n 3; rmmod minie1000", 60)
        want("no interrupt by irq=msi" in answer["stdout"], str(answer))
        load("auto", guest)
        traffic_by("IO-APIC", guest)


BRIEF = """
for mode in msi intx; do
insmod /lib/modules/minie1000.ko irq=$mode && net-up; grep eth0 /proc/interrupts;
ping -c 5 -i 0.05 -W 20 10.0.2.2; nc 10.0.2.2 5003 > /tmp/in < /dev/null; nc 10.0.2.2 5003 < /tmp/in;
grep eth0 /proc/interrupts; rmmod minie1000; done
"""


def one_boot_carries_ping_and_tcp_by_both():
    """The driver by MSI and by INTx with hardly more than that: no agent, one boot."""
    import socket
    import subprocess
    import threading

    from lib.vm import GUEST, MINIVMM

    back = []

    def serve(server):
        for turn in range(4):
            connection, _ = server.accept()
            with connection:
                if turn % 2 == 0:
                    connection.sendall(DATA[:100_000])
                    connection.shutdown(socket.SHUT_WR)
                back.append(b"".join(iter(lambda: connection.recv(65536), b"")))

    text = f'initcall_blacklist=e1000_init_module minivmm.run="{" ".join(BRIEF.split())}"'
    line = [MINIVMM, "-kernel", os.path.join(GUEST, "bzImage"), *harness.accel_options(ARGS), "-no-reboot", "-timeout",
            "900", "-initrd", os.path.join(GUEST, "minie1000.cpio.gz"), "-append", text, "-netdev", "tap,id=n0",
            "-device", "e1000,netdev=n0"]
    # On all addresses: the tap has none until minivmm has made it.
    with socket.create_server(("0.0.0.0", 5003)) as server:
        server.settimeout(900)
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        done = subprocess.run(line, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
        if done.returncode == 0:
            thread.join(5)
    out = done.stdout
    want(done.returncode == 0, f"status {done.returncode}: {done.stderr}{out[-1500:]}")
    want(out.count(" 0% packet loss") == 2, f"ping: {out[-1500:]}")
    want(back[1::2] == [DATA[:100_000]] * 2, f"TCP: {[len(b) for b in back]} bytes came back")
    rows = re.findall(r"^ *\d+: +(\d+) +(\S+).*eth0\s*$", out, re.M)
    want([how.startswith(name) for (_, how), name in zip(rows, ["PCI-MSI"] * 2 + ["IO-APIC"] * 2)] == [True] * 4,
         f"/proc/interrupts: {rows}")
    counts = [int(n) for n, _ in rows]
    want(counts[1] - counts[0] > 10 and counts[3] - counts[2] > 10, f"interrupts before and after: {rows}")
    print(f"     interrupts before and after: {rows}")


if __name__ == "__main__":
    if ARGS.brief:
        harness.main(__file__, [one_boot_carries_ping_and_tcp_by_both])
    try:
        harness.main(__file__, [
            boot, msi_interrupts_carry_ping_and_tcp, the_command_register_and_capability_are_as_for_msi,
            statistics_equal_the_wire, ethtool_reads_the_device, a_pulled_cable_is_seen_at_once,
            a_multicast_group_is_heard_after_it_was_joined,
            intx_interrupts_carry_ping_and_tcp, it_loads_and_unloads_50_times,
            the_kernel_found_nothing_to_complain_about, a_wrong_parameter_gets_one_line,
            without_the_capability_auto_is_intx_and_msi_is_refused,
        ])
    finally:
        if vm:
            vm.kill()
