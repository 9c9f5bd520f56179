#!/usr/bin/env python3
"""docs/driver-lab.md: each step of guest/lab does what it says."""
import os
import re
import shutil
import tempfile
import threading

import harness
from harness import want
from lib import sandbox

ARGS = harness.arguments(__doc__)
LIMIT = 300
HERE = tempfile.TemporaryDirectory()  # a copy of guest/lab and guest/driver: builds leave things behind
vm = None


def build():
    for name in ("lab", "driver"):
        shutil.copytree(os.path.join(harness.REPO, "guest", name), os.path.join(HERE.name, name))
    modules = sandbox.Source(os.path.join(HERE.name, "lab"), ["-j2", "W=1"]).build()
    want(sorted(map(sandbox.module_name, modules)) == [f"step{n}" for n in range(1, 8)], str(modules))


def boot():
    global vm
    from lib.vm import Vm

    net = ["-netdev", "user,id=n0", "-device", "e1000,netdev=n0"]
    vm = Vm([*harness.accel_options(ARGS), "-append", sandbox.WITHOUT_E1000, "-d", "guest_errors", "-timeout", "1000"], net)
    vm.agent(LIMIT)


def load(number):
    """Loads step `number` in place of the one before; what the kernel said."""
    return sandbox.load(vm.agent(), os.path.join(HERE.name, "lab", f"step{number}.ko"))


def sent():
    return vm.counters()["netdevs"][0]["from_guest"]["wire_frames"]


def step_1_finds_the_chip():
    words = load(1)
    want(re.search(r"step1: STATUS [0-9a-f]{8}", words) and "MAC" not in words, words)


def step_2_resets_and_reads_the_mac():
    want("step2: MAC 52:54:00:12:34:56" in load(2), "no MAC")
    want("eth0" not in vm.run("cat /proc/net/dev"), "eth0 is there")


def step_3_makes_an_interface_that_loses_everything():
    load(3)
    vm.agent().run("ping -c 1 -W 1 10.0.2.2", 30)
    want("52:54:00:12:34:56" in vm.run("ip link show eth0") and sent() == 0, "frames without a ring")


def step_4_sends_and_hears_nothing():
    load(4)
    before = sent()
    answer = vm.agent().run("ping -c 2 -W 1 10.0.2.2", 30)
    want(answer["status"] != 0 and sent() >= before + 1, f"{sent() - before} frames sent; {answer}")


def step_5_receives_by_looking():
    load(5)
    vm.run("ping -c 3 -i 0.1 -W 5 10.0.2.2", 60)
    want("eth0" not in vm.run("cat /proc/interrupts"), "it has an interrupt")


def step_6_receives_by_interrupts():
    load(6)
    vm.run("ping -c 20 -i 0.02 -W 5 10.0.2.2", 60)
    row = next(line for line in vm.run("cat /proc/interrupts").splitlines() if line.rstrip().endswith("eth0"))
    want(int(row.split()[1]) >= 20, row)


def step_7_leaves_checksums_to_the_chip():
    load(7)
    text = vm.run("ethtool -k eth0")
    want("tx-checksum-ip-generic: on" in text and "rx-checksumming: on" in text, text)
    # UDP and TCP to the host's name server and TFTP-less gateway: only right checksums are answered by it.
    answer = vm.run("ping -c 2 -W 5 10.0.2.2; nc -w 5 10.0.2.2 1 < /dev/null; echo nc $?; ethtool -K eth0 tx off rx off; "
                    "ping -c 2 -W 5 10.0.2.2", 60)
    want(answer.count(" 0% packet loss") == 2, answer)


def tcp_with_checksums_of_the_chip():
    """A megabyte each way through minivmm's own TCP, which drops what is damaged."""
    import socket

    data = os.urandom(1_000_000)
    back = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(120)

        def serve():
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    if not back:
                        connection.sendall(data)
                        connection.shutdown(socket.SHUT_WR)
                    back.append(b"".join(iter(lambda: connection.recv(65536), b"")))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        vm.run("ethtool -K eth0 tx on rx on", 30)
        vm.run(f"nc 10.0.2.2 {port} > /tmp/in < /dev/null; nc 10.0.2.2 {port} < /tmp/in", 120)
        thread.join(30)
    want(back[1:] == [data], f"{[len(b) for b in back]} bytes came back")


def nothing_was_complained_about():
    vm.agent().run("rmmod step7", 30)
    harness.no_complaint(vm, "step[0-9]|eth0|dma|irq|BUG|WARN")
    findings = [found for found in vm.counters()["nics"][0]["findings"] if found["severity"] != "note"]
    want(not findings, f"the driver doctor finds: {findings}")
    vm.kill()


if __name__ == "__main__":
    try:
        harness.main(__file__, [
            build, boot, step_1_finds_the_chip, step_2_resets_and_reads_the_mac,
            step_3_makes_an_interface_that_loses_everything, step_4_sends_and_hears_nothing, step_5_receives_by_looking,
            step_6_receives_by_interrupts, step_7_leaves_checksums_to_the_chip, tcp_with_checksums_of_the_chip,
            nothing_was_complained_about,
        ])
    finally:
        if vm:
            vm.kill()
