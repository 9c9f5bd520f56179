#!/usr/bin/env python3
"""Monitors: QMP by the qemu.qmp package, broken input by hand, HMP by Ctrl-A c on a terminal."""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

import harness
from harness import netns, want
from lib import qmp as qmp_package
from lib.report import Report

ARGS = harness.arguments(__doc__)
# pip needs the network, which the namespace that harness.main() enters has not.
if line := qmp_package.install(Report()):
    sys.exit(f"tests/guest/qmp.py: {line}")
from lib.icmp import Pinger  # noqa: E402
from lib.qmp import Qmp  # noqa: E402
from lib.vm import GUEST_IP, Vm  # noqa: E402
from qemu.qmp import ExecuteError  # noqa: E402
from terminal import Terminal  # noqa: E402

SLOW = 300
PLAIN = '{"execute":"qmp_capabilities"}'
vm = qmp = None
folder = tempfile.TemporaryDirectory(prefix="minivmm-qmp-")
SOCKET, SECOND = os.path.join(folder.name, "qmp"), os.path.join(folder.name, "second")


def refused(command, **arguments):
    try:
        qmp.execute(command, **arguments)
    except ExecuteError as error:
        return error.error_class, str(error)
    want(False, f"{command} {arguments} was not refused")


def eventually(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while not (value := condition()):
        want(time.monotonic() < end, what)
        time.sleep(0.01)
    return value


def boot_stopped_and_continue():
    global vm, qmp
    options = [*harness.accel_options(ARGS), "-timeout", "1500", "-S",
               "-qmp", f"unix:{SOCKET},server=on,wait=off", "-qmp", f"unix:{SECOND},server=on,wait=off"]
    vm = Vm(options)
    qmp = Qmp(SOCKET)
    status = qmp.execute("query-status")
    want(status["status"] == "prelaunch" and not status["running"], f"-S: {status}")
    time.sleep(0.3)
    want(not vm.console, "the guest ran although -S was given")
    qmp.execute("cont")
    qmp.event("RESUME")
    want(qmp.execute("query-status")["status"] == "running", "not running after cont")
    vm.agent(SLOW)


def questions_are_answered():
    version = qmp.execute("query-version")
    want(version["package"].startswith("minivmm"), f"{version}")
    names = {row["name"] for row in qmp.execute("query-commands")}
    want({"stop", "cont", "set_link", "netdev_add", "query-netdev", "quit"} <= names, f"{names}")
    cpus = qmp.execute("query-cpus-fast")
    want(len(cpus) == 1 and os.path.exists(f"/proc/{vm.process.pid}/task/{cpus[0]['thread-id']}"), f"{cpus}")
    nic = [d for d in qmp.execute("query-pci")[0]["devices"] if d["class_info"]["class"] == 0x200]
    want(len(nic) == 1 and nic[0]["id"] == {"vendor": 0x8086, "device": 0x100E}, f"{nic}")
    irq = int(vm.run("cat /sys/class/net/eth0/device/irq"))
    want(nic[0]["irq"] == irq or irq >= 16, f"query-pci says IRQ {nic[0]['irq']}, Linux {irq}")
    want(qmp.hmp("info status") == "VM status: running\n", "info status")


def the_address_filters_are_the_guest_s():
    first = qmp.execute("query-rx-filter")[0]
    mac = vm.run("cat /sys/class/net/eth0/address").strip()
    want(first["main-mac"] == mac and not first["promiscuous"] and first["broadcast-allowed"], f"{first}")
    vm.run("ip link set eth0 promisc on")
    changed = qmp.event("NIC_RX_FILTER_CHANGED")["data"]["name"]
    want(changed == first["name"], f"the event names {changed}")
    eventually("promiscuous", lambda: qmp.execute("query-rx-filter", name=changed)[0]["promiscuous"])
    vm.run("ip link set eth0 promisc off")


def topology_and_counters():
    ends = {end["id"]: end for end in qmp.execute("query-netdev")}
    want(set(ends) == {"n0", "e1000.0"} and ends["n0"]["peer"] == "e1000.0", f"{ends}")
    before = ends["n0"]["counters"]
    pinger = Pinger(GUEST_IP)
    want(pinger.send() and pinger.receive(10) == 1, "no ping")
    pinger.close()

    def passed():
        now = next(end for end in qmp.execute("query-netdev") if end["id"] == "n0")["counters"]
        return all(now[way]["wire-frames"] > before[way]["wire-frames"] for way in ("to-peer", "from-peer"))

    eventually("the ping is counted", passed)
    network = qmp.hmp("info network")
    want(re.search(r"^e1000\.0: .*macaddr=.*\n \\ n0: .*type=tap", network), network)


def stop_stops_cpus_time_and_frames():
    vm.run("while :; do :; done >/dev/null 2>&1 & echo $! > /tmp/busy")
    begin = time.monotonic()
    up = float(vm.run("cat /proc/uptime").split()[0])
    qmp.execute("stop")
    qmp.event("STOP")
    stopped = time.monotonic()
    want(qmp.execute("query-status") == {"status": "paused", "running": False, "singlestep": False}, "status")
    pinger = Pinger(GUEST_IP)
    cpu = vm.cpu_seconds()
    pinger.send()
    want(pinger.receive(2.0) == 0, "a stopped guest answered a ping")
    used = vm.cpu_seconds() - cpu
    want(used < 0.5, f"a stopped machine with a busy guest used {used:.2f} s of CPU time in 2 s")
    stood = time.monotonic() - stopped
    qmp.execute("cont")
    qmp.event("RESUME")
    want(pinger.receive(10) == 1, "the frame that waited was lost")
    pinger.close()
    passed = float(vm.run("cat /proc/uptime").split()[0]) - up
    # However slow guest and host are, the stop is not among what has passed. KVM takes stops of less than a second for an
    # attempt to synchronize counters (docs/monitor.md); this one is longer.
    ran = time.monotonic() - begin - stood
    want(passed < ran + 0.3, f"{passed:.2f} s passed in the guest, which ran for {ran:.2f} s and stood still for {stood:.2f} s")
    vm.run("kill $(cat /tmp/busy)")


def set_link_is_seen_by_the_guest():
    """ethtool asks the driver, which knows at once by its interrupt. Linux's e1000 carries it on to `carrier` with its
    watchdog only, which looks every two seconds; an interrupt does not make it look sooner."""
    for name in ("e1000.0", "n0"):
        for up in (False, True):
            begin = time.monotonic()
            qmp.execute("set_link", name=name, up=up)
            word = f"Link detected: {'yes' if up else 'no'}"
            eventually(f"set_link {name} {up}", lambda: word in vm.run("ethtool eth0"))
            took = time.monotonic() - begin
            want(took < 5, f"set_link {name} {up} was seen after {took:.2f} s")
            eventually(f"carrier after set_link {name} {up}", lambda: carrier() == up, 10)
            all_took = time.monotonic() - begin
            print(f"     set_link {name} {'on' if up else 'off'}: the driver sees it after {took * 1000:.0f} ms, "
                  f"the carrier changes after {all_took * 1000:.0f} ms", flush=True)
    want(refused("set_link", name="nope", up=True)[0] == "DeviceNotFound", "unknown name")


def carrier():
    return vm.run("cat /sys/class/net/eth0/carrier").strip() == "1"


def netdevs_come_and_go():
    qmp.execute("netdev_add", type="tap", id="n1", ifname="later0", address="none")
    want("later0" in netns.interfaces(), "no interface")
    want("n1" in {end["id"] for end in qmp.execute("query-netdev")}, "not in query-netdev")
    want("the id 'n1' is taken" in refused("netdev_add", type="tap", id="n1")[1], "the same id twice")
    want("did you mean" in refused("netdev_add", type="tpa", id="n2")[1], "a mistyped type")
    kind, text = refused("netdev_del", id="n0")
    want(kind == "GenericError" and "in use by 'e1000.0'" in text, f"netdev_del of a netdev in use: {text}")
    qmp.execute("netdev_del", id="n1")
    eventually("the interface is gone", lambda: "later0" not in netns.interfaces())
    want(refused("netdev_del", id="n1")[0] == "DeviceNotFound", "netdev_del twice")
    want(qmp.hmp("netdev_add tap,id=n3,ifname=later1,address=none") == "", "netdev_add by HMP")
    want(qmp.hmp("netdev_del n3") == "", "netdev_del by HMP")


def filters_come_and_go():
    path = os.path.join(folder.name, "cap")
    pinger = Pinger(GUEST_IP)

    def grows():
        before = os.path.getsize(path)
        want(pinger.send() and pinger.receive(10) == 1, "no ping")
        return os.path.getsize(path) > before

    qmp.execute("object-add", qom_type="filter-dump", id="d0", netdev="n0", file=path)
    want(grows(), "object-add: nothing is captured")
    want("did you mean" in refused("object-add", qom_type="filter-dmp", id="d1", netdev="n0")[1], "a mistyped type")
    want("the id 'd0' is taken" in refused("object-add", qom_type="filter-dump", id="d0", netdev="n0", file=path)[1],
         "the same id twice")
    want(qmp.execute("qom-get", path="/objects/d0", property="status") == "on", "qom-get")
    qmp.execute("qom-set", path="/objects/d0", property="status", value="off")
    want(not grows(), "captured although status is off")
    want(qmp.hmp("qom-set d0 status on") == "" and grows(), "qom-set by HMP")
    want(refused("qom-set", path="/objects/d0", property="file", value="x")[0] == "GenericError", "another property")
    qmp.execute("object-del", id="d0")
    want(not grows(), "captured although the filter is gone")
    want("no filter 'd0'" in refused("object-del", id="d0")[1], "object-del twice")
    pinger.close()


def streams_tell_of_their_connections_and_are_in_use_by_a_mirror():
    path = os.path.join(folder.name, "copies")
    qmp.execute("netdev_add", type="stream", id="s0", server=True, addr={"type": "unix", "path": path})
    qmp.execute("object-add", qom_type="filter-mirror", id="m0", netdev="n0", outdev="s0")
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(path)
        event = qmp.event("NETDEV_STREAM_CONNECTED")
        want(event["data"]["netdev-id"] == "s0" and event["data"]["addr"]["type"] == "unix", f"{event}")
        pinger = Pinger(GUEST_IP)
        want(pinger.send() and pinger.receive(10) == 1, "no ping")
        pinger.close()
        want(int.from_bytes(s.recv(4), "big") >= 42, "no copy came")
    want(qmp.event("NETDEV_STREAM_DISCONNECTED")["data"] == {"netdev-id": "s0"}, "the end is not told")
    want("in use by 'm0:outdev'" in refused("netdev_del", id="s0")[1], "the mirror's netdev was removed")
    end = next(end for end in qmp.execute("query-netdev") if end["id"] == "m0:outdev")
    want(end["type"] == "filter" and end["peer"] == "s0" and end["counters"]["to-peer"]["wire-frames"] > 0, f"{end}")
    want("m0:outdev: " in qmp.hmp("info network"), "info network")
    qmp.execute("object-del", id="m0")
    qmp.execute("netdev_del", id="s0")


def forwards_come_and_go():
    def answers():
        try:
            socket.create_connection(("127.0.0.1", 5099), 10).close()
            return True
        except ConnectionRefusedError:
            return False

    qmp.execute("netdev_add", type="user", id="u0")
    want(not answers(), "somebody listens at port 5099")
    want(qmp.hmp("hostfwd_add u0 tcp:127.0.0.1:5099-:80") == "" and answers(), "hostfwd_add")
    want("5099" in qmp.hmp("info usernet"), "info usernet")
    want("Error" in qmp.hmp("hostfwd_add u0 tcp:127.0.0.1:5099-:80"), "the same port twice")
    want("Error" in qmp.hmp("hostfwd_add n0 tcp::5098-:80"), "a tap has no forwards")
    want(qmp.hmp("hostfwd_remove tcp:127.0.0.1:5099") == "" and not answers(), "hostfwd_remove")
    want("Error" in qmp.hmp("hostfwd_remove u0 tcp:127.0.0.1:5099"), "hostfwd_remove twice")
    qmp.execute("netdev_del", id="u0")


def an_announcement_reaches_the_tap():
    name = next(name for name in netns.interfaces() if name.startswith("tap"))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x8035)) as sniffer:
        sniffer.bind((name, 0x8035))
        sniffer.settimeout(10)
        qmp.execute("announce-self", initial=50, max=50, rounds=2, step=0)
        mac = bytes.fromhex(vm.run("cat /sys/class/net/eth0/address").strip().replace(":", ""))
        for _ in range(2):
            frame = sniffer.recv(2048)
            want(frame[:12] == b"\xff" * 6 + mac, f"{frame[:14].hex()}")


def broken_input_costs_one_error_and_no_more():
    # The socket is closed when both are.
    with socket.socket(socket.AF_UNIX) as s, s.makefile("rb") as lines:
        s.settimeout(20)
        s.connect(SECOND)
        answer = lambda: json.loads(lines.readline())  # noqa: E731
        want("QMP" in answer(), "no greeting")
        broken = [
            b"hello\n", b"\x00\xfe\xfd\n", b'{"execute"}\n', b"[" * 5000 + b"\n",
            b'{"execute":"qmp_capabilities","arguments":3}\n', b'{"a":"' + b"x" * (1 << 20) + b'"}\n',
        ]
        for text in broken:
            s.sendall(text)
            want(answer()["error"]["class"] == "GenericError", f"{text[:20]}")
        s.sendall(b'{"execute":"query-status","id":')
        s.sendall(b'"a"}{"execute":"qmp_capabilities","id":1}')
        want((answer()["id"], answer()) == ("a", {"return": {}, "id": 1}), "pieces of commands")
        s.sendall(b"{'execute':'query-status'}")
        want(answer()["return"]["running"], "not alive")
    # Somebody who asks, goes, and does not stay to listen; then the next client.
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(SECOND)
            s.sendall((PLAIN + '{"execute":"query-commands"}' * 20).encode())
    other = Qmp(SECOND)
    want(other.execute("query-status")["running"], "the next client")
    other.close()


def one_command_through_a_pipe_is_answered():
    """As `echo ... | nc -N -U`: the client stops sending before it has heard anything."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(SECOND)
        s.sendall((PLAIN + '{"execute":"query-name","id":9}').encode())
        s.shutdown(socket.SHUT_WR)
        text = b""
        while piece := s.recv(65536):
            text += piece
        want(json.loads(text.splitlines()[-1]) == {"return": {}, "id": 9}, text.decode())


def reset_boots_again():
    vm.run("touch /tmp/before")
    vm.forget_agent()
    seen = len(vm.console)
    qmp.execute("system_reset")
    event = qmp.event("RESET")
    want(event["data"] == {"guest": False, "reason": "host-qmp-system-reset"}, f"{event}")
    want(time.time() - event["timestamp"]["seconds"] < 60, f"{event}")
    eventually("the kernel starts again", lambda: b"minivmm guest" in vm.console[seen:], SLOW)
    vm.agent(SLOW)
    want(vm.run("ls /tmp/before 2>/dev/null || echo gone").strip() == "gone", "the guest remembers")


def the_power_button_reaches_the_guest():
    # The guest's kernel has no button driver, so the test enables the event in PM1_EN (port 602h, bit 8) itself;
    # ACPICA then says that the event came and nobody wants it.
    vm.run("printf '\\001' | dd of=/dev/port bs=1 seek=$((0x603)) conv=notrunc 2>/dev/null")
    qmp.execute("system_powerdown")
    qmp.event("POWERDOWN")
    eventually("the power button", lambda: "PowerButton" in vm.run("dmesg | grep PowerButton || true"))
    vm.agent()._send({"id": 0, "op": "run", "shell": "poweroff -f", "timeout_ms": 5000})
    event = qmp.event("SHUTDOWN")
    want(event["data"] == {"guest": True, "reason": "guest-shutdown"}, f"{event}")
    want(vm.wait_end(30) == 0, "exit status")
    qmp.close()
    want(not os.path.exists(SOCKET), "the socket is left behind")
    vm.kill()


def a_panic_is_told():
    global vm, qmp
    vm = Vm([*harness.accel_options(ARGS), "-timeout", "1500", "-qmp", f"unix:{SOCKET},server=on,wait=off"])
    qmp = Qmp(SOCKET, SLOW)
    vm.agent(SLOW)
    vm.agent()._send({"id": 0, "op": "run", "shell": "echo c > /proc/sysrq-trigger", "timeout_ms": 5000})
    want(qmp.event("GUEST_PANICKED")["data"] == {"action": "poweroff"}, "GUEST_PANICKED")
    event = qmp.event("SHUTDOWN")
    want(event["data"] == {"guest": True, "reason": "guest-panic"}, f"{event}")
    want(vm.wait_end(30) == 126, "exit status")
    qmp.close()
    vm.kill()


def quit_answers_and_ends():
    global vm, qmp
    vm = Vm([*harness.accel_options(ARGS), "-S", "-qmp", "tcp:127.0.0.1:4444,server=on,wait=off"])
    qmp = Qmp(("127.0.0.1", 4444))
    want(qmp.execute("quit") == {}, "the answer to quit")
    event = qmp.event("SHUTDOWN")
    want(event["data"] == {"guest": False, "reason": "host-qmp-quit"}, f"{event}")
    want(vm.wait_end(30) == 0, "exit status")
    qmp.close()
    vm.kill()


def qmp_on_standard_input_and_output():
    options = ["-kernel", os.path.join(harness.REPO, "target/guest/bzImage"), "-S", "-qmp", "stdio", "-nodefaults"]
    commands = PLAIN + '{"execute":"query-status"}{"execute":"quit"}'
    done = subprocess.run([os.path.join(harness.REPO, "target/release/minivmm"), *options, *harness.accel_options(ARGS)],
                          input=commands, capture_output=True, text=True, timeout=60)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    want([*answers[0]] == ["QMP"] and answers[2]["return"]["status"] == "prelaunch", done.stdout + done.stderr)
    want(answers[-1]["event"] == "SHUTDOWN" and done.returncode == 0, done.stdout + done.stderr)


def hmp_on_the_console_s_terminal():
    term = Terminal(*harness.accel_options(ARGS), "-S")
    time.sleep(0.3)
    term.send(b"\x01c")
    term.wait(rb"\(minivmm\) $", 10)
    term.send(b"info sttus\x7f\x7f\x7f\x7ftatus\r")
    term.wait(rb"VM status: paused \(prelaunch\)\r\n\(minivmm\) $", 10)
    term.send(b"cnot\r")
    term.wait(rb"did you mean 'cont'\?", 10)
    term.send(b"cont\r\x01c")
    term.wait(rb"/ # ")
    term.send(b"echo sh$((40+2))ell\r")
    term.wait(rb"sh42ell\s+[^\n]*# ", 30)
    term.send(b"\x01c")
    term.wait(rb"\(minivmm\) $", 10)
    term.send(b"info network\r")
    term.wait(rb"e1000\.0: .*\r\n \\ n0: ", 10)
    term.send(b"quit\r")
    want(term.end() == 0, "status is not 0")
    want(term.after == term.before, "the terminal is not as it was")


def hmp_through_a_socket():
    path = os.path.join(folder.name, "hmp")
    with Vm([*harness.accel_options(ARGS), "-S", "-monitor", f"unix:{path},server=on,wait=off"]) as machine:
        eventually("the socket", lambda: os.path.exists(path))
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(path)
            s.sendall(b"info status\nbogus\nquit\n")
            text = b""
            while piece := s.recv(65536):
                text += piece
        want(b"VM status: paused (prelaunch)\r\n(minivmm) " in text and b"no command 'bogus'" in text, text.decode())
        want(machine.wait_end(30) == 0, "exit status")


if __name__ == "__main__":
    harness.main(__file__, [
        quit_answers_and_ends, qmp_on_standard_input_and_output, hmp_through_a_socket,
        boot_stopped_and_continue, questions_are_answered, the_address_filters_are_the_guest_s,
        topology_and_counters, stop_stops_cpus_time_and_frames, set_link_is_seen_by_the_guest, netdevs_come_and_go,
        filters_come_and_go, streams_tell_of_their_connections_and_are_in_use_by_a_mirror, forwards_come_and_go,
        an_announcement_reaches_the_tap, broken_input_costs_one_error_and_no_more,
        one_command_through_a_pipe_is_answered, reset_boots_again, the_power_button_reaches_the_guest, a_panic_is_told,
        hmp_on_the_console_s_terminal,
    ])
