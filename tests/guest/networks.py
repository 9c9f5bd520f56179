#!/usr/bin/env python3
"""Hubs with a real guest: five NICs on one by `-net`, two hubs joined of which one learns, which NICs there are.

Each NIC of the guest lives in a network namespace of its own, so that what passes between two of them passes the hub.
"""
import hashlib
import collections
import os
import socket
import struct
import tempfile
import threading

import harness
from harness import want
from lib.icmp import Pinger

ARGS = harness.arguments(__doc__)
SLOW = 120
HOST = "10.0.2.2"


def boot(net, *options):
    from lib.vm import Vm

    return Vm([*harness.accel_options(ARGS), "-timeout", "300", *options], net=net)


def separate(vm, count):
    """Moves every NIC into a namespace of its own; returns the prefixes that run a command there."""
    prefixes = []
    for n in range(count):
        script = (
            f"ip addr flush dev eth{n}; unshare -n sleep 100000 > /dev/null 2>&1 < /dev/null &"
            ' while [ "$(readlink /proc/$!/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do :; done;'
            f" ip link set eth{n} netns $!;"
            f" nsenter -t $! -n sh -c 'ip addr add {address(n)}/24 dev eth{n}; ip link set eth{n} up' && echo $!"
        )
        pid = vm.run(script, 60).strip()
        want(pid.isdigit(), f"no namespace for eth{n}: {pid}")
        prefixes.append(f"nsenter -t {pid} -n")
    return prefixes


def address(n):
    return f"10.0.2.{20 + n}"


def ping(vm, prefix, target, count=2):
    vm.run(f"for i in $(seq {count}); do {prefix} ping -c 1 -W 5 {target} || exit 1; done", 60)


def ports(vm):
    """Counters of every hub's port by its id."""
    return {n["id"]: n for n in vm.counters()["netdevs"] if "hub" in n["what"]}


def lost(port):
    return sum(port["to_guest"]["dropped"].values())


def conserved(hub):
    """Every port was given exactly what the others brought in: no frame is lost, doubled, or returned."""
    for name, port in hub.items():
        others = sum(p["from_guest"]["wire_frames"] for id, p in hub.items() if id != name)
        given = port["to_guest"]["wire_frames"] + lost(port)
        want(given == others, f"{name} was given {given} frames, the others brought {others}: {hub}")


def five_nics_on_hub_0():
    net = [word for _ in range(5) for word in ("-net", "nic")] + ["-net", "tap"]
    with boot(net) as vm:
        vm.agent(SLOW)
        said = vm.console.decode("utf-8", "replace")
        want(said.count("-net is QEMU's old form") == 1, f"the remark on -net is not said once: {said}")
        inside = separate(vm, 5)
        for n, prefix in enumerate(inside):
            ping(vm, prefix, HOST)
            ping(vm, prefix, address((n + 1) % 5))
        hub = ports(vm)
        want(len(hub) == 6, f"six ports expected: {list(hub)}")
        want(all(p["from_guest"]["wire_frames"] >= 4 for p in hub.values()), f"a port is silent: {hub}")
        # A NIC whose receiver is off loses its own frames and nobody else's.
        vm.run(f"{inside[4]} ip link set eth4 down", 30)
        for prefix in inside[:4]:
            ping(vm, prefix, HOST)
        tcp_both_ways(vm, inside[0])
        end(vm)
        hub = {n["id"]: n for n in vm.result()["netdevs"] if "hub" in n["what"]}
        conserved(hub)
        last = hub["hub0port4"]["to_guest"]["dropped"]
        want(last.get("link-down", 0) > 1000, f"what eth4 lost while it was down: {last}")
        sound = [p for id, p in hub.items() if id != "hub0port4"]
        want(all(set(p["to_guest"]["dropped"]) <= {"filtered", "link-down"} for p in sound), f"frames are lost: {hub}")


def tcp_both_ways(vm, prefix):
    """A file to the guest and back by TCP, with the NIC's offloads on: long frames pass the hub, cut where needed."""
    data = os.urandom(2_000_000)
    digest = hashlib.sha256(data).hexdigest()
    with socket.create_server((HOST, 5003)) as server:
        server.settimeout(60)
        serve(server, vm, f"{prefix} nc {HOST} 5003 > /tmp/in < /dev/null", data)
        want(vm.agent().call("sha256", 60, path="/tmp/in")["sha256"] == digest, "to guest: content differs")
        back = serve(server, vm, f"{prefix} nc {HOST} 5003 < /tmp/in", None)
        want(hashlib.sha256(back).hexdigest() == digest, "from guest: content differs")


def serve(server, vm, command, data):
    """Accepts one connection while the guest runs `command`; sends `data`, or returns what comes."""
    received = []

    def body():
        connection, _ = server.accept()
        with connection:
            connection.settimeout(60)
            if data is not None:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                received.append(part)

    thread = threading.Thread(target=body)
    thread.start()
    vm.run(command, 120)
    thread.join(60)
    return b"".join(received)


def two_hubs_joined_and_one_learns():
    net = [
        "-netdev", '{"type":"hubport","id":"a0","hubid":0}', "-device", "e1000,netdev=a0",
        "-netdev", "hubport,id=a1,hubid=0", "-device", "e1000,netdev=a1",
        "-netdev", "hubport,id=join,hubid=0",
        "-netdev", "hubport,id=b0,hubid=1,netdev=join,learning=on",
        "-netdev", "hubport,id=b1,hubid=1", "-device", "e1000,netdev=b1",
        "-netdev", "hubport,id=b2,hubid=1,netdev=n0", "-netdev", "tap,id=n0",
    ]
    with boot(net) as vm:
        vm.agent(SLOW)
        inside = separate(vm, 3)
        for n, prefix in enumerate(inside):
            ping(vm, prefix, HOST)
            ping(vm, prefix, address((n + 1) % 3))
        before = ports(vm)
        ping(vm, inside[0], HOST, 20)
        after = ports(vm)

        def grown(id):
            return after[id]["to_guest"]["wire_frames"] + lost(after[id]) - \
                before[id]["to_guest"]["wire_frames"] - lost(before[id])

        # Hub 0 floods: eth1 is shown what eth0 and the host say to each other. Hub 1 knows both and shows nobody.
        want(grown("a1") >= 40, f"the hub that floods gave eth1 {grown('a1')} frames of 20 pings")
        want(grown("b1") < 10, f"the hub that learns gave eth2 {grown('b1')} frames of 20 pings to others")
        want(grown("b2") >= 20 and grown("join") >= 20, f"across: {grown('b2')}, {grown('join')}")
        tcp_both_ways(vm, inside[0])
        end(vm)


def end(vm):
    vm.agent().call("poweroff", 10)
    want(vm.wait_end(60) == 0, f"status {vm.process.returncode}")


def two_guests_on_a_hub_with_a_tap():
    """The second guest reaches the hub over a socket: host and guests all reach each other by the one segment."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "segment")
        net = [
            "-nic", "hubport,hubid=0,id=here", "-netdev", "hubport,id=up,hubid=0,netdev=n0", "-netdev", "tap,id=n0",
            "-netdev", "hubport,id=across,hubid=0,netdev=s0",
            "-netdev", f"stream,id=s0,server=on,addr.type=unix,addr.path={path}",
        ]
        # On each of the hub's three cables.
        files = [os.path.join(folder, f"{netdev}.pcap") for netdev in ("here", "n0", "s0")]
        for netdev, file in zip(("here", "n0", "s0"), files):
            net += ["-object", f"filter-dump,id=dump-{netdev},netdev={netdev},file={file}"]
        other = ["-nic", f"stream,addr.type=unix,addr.path={path},reconnect-ms=50,mac=52:54:00:00:00:02"]
        with boot(net) as first, boot(other) as second:
            first.agent(SLOW)
            second.agent(SLOW)
            second.run(f"ip addr flush dev eth0; ip addr add {address(1)}/24 dev eth0", 30)
            ping(second, "", HOST)
            ping(first, "", HOST)
            ping(first, "", address(1))
            ping(second, "", "10.0.2.15")
            pinger = Pinger(address(1))
            want(pinger.first_reply(second.alive, 0.1, 10) is not None, "the host does not reach the second guest")
            pinger.close()
            tcp_both_ways(second, "")
            end(second)
            end(first)
            hub = {n["id"]: n for n in first.result()["netdevs"] if "hub" in n["what"]}
            conserved(hub)
            # What one port brings in, each other one is given, once: every cable carries the same frames.
            here, up, across = (collections.Counter(frames_in(file)) for file in files)
            want(here.total() > 1000 and here == up == across,
                 f"the cables do not carry the same: {[c.total() for c in (here, up, across)]},"
                 f" {len(here - up)}, {len(up - across)}, {len(across - here)} differ")
            want(len(hub) == 3 and all(p["from_guest"]["wire_frames"] >= 8 for p in hub.values()), f"silent: {hub}")


def frames_in(file):
    """The frames of a classic capture file."""
    with open(file, "rb") as f:
        data = f.read()
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}[data[:4]]
    at = 24
    while at < len(data):
        kept, length = struct.unpack_from(order + "II", data, at + 8)
        want(kept == length, f"{file} holds {kept} of {length} bytes of a frame")
        yield data[at + 16:at + 16 + kept]
        at += 16 + kept


def the_nics_that_were_asked_for():
    for net, expected in [([], ["eth0"]), (["-nic", "none"], []), (["-device", "e1000"], ["eth0"]),
                          (["-nic", "tap,model=e1000,mac=52:54:00:00:00:77"], ["eth0"])]:
        with boot(net) as vm:
            vm.agent(SLOW)
            names = vm.run("ls /sys/class/net").split()
            want([n for n in names if n.startswith("eth")] == expected, f"{net} gave {names}")
            if not net:
                ping(vm, "", HOST)  # answered by the user network's own gateway: there is no tap
            elif "mac=" in net[1]:
                want(vm.run("cat /sys/class/net/eth0/address").strip() == "52:54:00:00:00:77", "not the MAC asked for")
                ping(vm, "", HOST)
            end(vm)


if __name__ == "__main__":
    harness.main(__file__, [five_nics_on_hub_0, two_hubs_joined_and_one_learns,
                            two_guests_on_a_hub_with_a_tap, the_nics_that_were_asked_for])
