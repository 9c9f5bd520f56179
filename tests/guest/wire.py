#!/usr/bin/env python3
"""What reaches the guest and what does not, through Linux's e1000: sizes, VLANs, multicast, promiscuous, checksums.

Frames are counted on the tap by the host's kernel, so vnet_hdr is off for that: each frame passes it as on a wire.
"""
import re
import subprocess

import harness
from harness import want

ARGS = harness.arguments(__doc__)
GUEST_MAC = bytes.fromhex("525400123456")
STRANGER = bytes.fromhex("020000000077")
vm = None


def boot():
    global vm
    vm = harness.boot(ARGS, tap="tap,id=n0,vnet_hdr=off")
    vm.run("ping -c 1 -W 5 10.0.2.2", 60)


def tap_counters():
    """(frames, bytes) from the guest, and to it, as the host's kernel counts them."""
    from lib import frames

    with open("/proc/net/dev") as f:
        row = next(line for line in f if line.strip().startswith(frames.tap() + ":"))
    n = [int(x) for x in row.split(":")[1].split()]
    return (n[1], n[0]), (n[9], n[8])


def nic_counters():
    text = vm.run("ethtool -S eth0")
    return {name: int(value) for name, value in re.findall(r"^\s*(\w+): (\d+)$", text, re.M)}


def statistics_equal_the_frames_on_the_tap():
    from lib import tcp

    vm.run("ethtool -K eth0 tso on", 60)
    tcp.both_ways(vm, b"0123456789abcdef" * 20000)
    vm.run("ping -c 20 -i 0.01 -s 1400 -W 5 10.0.2.2", 60)
    for _ in range(10):
        nic, (sent, received) = nic_counters(), tap_counters()
        # The chip counts the FCS, and pads what is shorter than 60 bytes; the tap's frames may be shorter.
        found = {"sent": (nic["tx_packets"], sent[0]), "received": (nic["rx_packets"], received[0]),
                 "bytes sent": (nic["tx_bytes"] - 4 * nic["tx_packets"], sent[1])}
        if all(a == b for a, b in found.values()):
            break
    else:
        raise harness.Failed(f"(chip, tap): {found}")
    low = nic["rx_bytes"] - 4 * nic["rx_packets"] - received[1]
    want(0 <= low <= 18 * nic["rx_packets"], f"bytes received: {nic['rx_bytes']} and {received[1]}")
    print(f"     {found}")


def frames_to_others_arrive_only_when_promiscuous():
    from lib import frames

    for to, name in ((GUEST_MAC, "us"), (b"\xff" * 6, "all")):
        frames.want(vm, frames.frame(to), True, f"to {name}")
    frames.want(vm, frames.frame(STRANGER), False, "not promiscuous")
    vm.run("ip link set eth0 promisc on")
    frames.want(vm, frames.frame(STRANGER), True, "promiscuous")
    vm.run("ip link set eth0 promisc off")
    frames.want(vm, frames.frame(STRANGER), False, "no longer promiscuous")


def multicast_arrives_while_the_group_is_joined():
    from lib import frames

    # An IPv6 address brings its solicited-node group. 30 of them are more than the 15 exact addresses of the chip, so
    # the hash table is in use too.
    groups = [(f"fd00::ab:{n:04x}", bytes.fromhex(f"3333ffab{n:04x}")) for n in range(0x1001, 0x1001 + 30)]
    for _, mac in (groups[0], groups[-1]):
        frames.want(vm, frames.frame(mac), False, "before")
    vm.run("; ".join(f"ip addr add {address}/64 dev eth0" for address, _ in groups), 60)
    for _, mac in (groups[0], groups[7], groups[20], groups[-1]):
        frames.want(vm, frames.frame(mac), True, "joined")
    vm.run("; ".join(f"ip addr del {address}/64 dev eth0" for address, _ in groups), 60)
    for _, mac in (groups[0], groups[7], groups[20], groups[-1]):
        frames.want(vm, frames.frame(mac), False, "left")
    vm.run("ifconfig eth0 allmulti")
    frames.want(vm, frames.frame(groups[3][1]), True, "all multicast")
    vm.run("ifconfig eth0 -allmulti")


def vlans_pass_with_offload_and_filter_on_and_off():
    from lib import frames, vlan

    for vid in (5, 4094):
        vm.run(f"ip link add link eth0 name eth0.{vid} type vlan id {vid}; ip addr add 10.5.0.15/24 dev eth0.{vid}; "
               f"ip link set eth0.{vid} up", 60)
        with vlan.Neighbour(vid, "10.5.0.2") as neighbour:
            for offload in ("on", "off"):
                vm.run(f"ethtool -K eth0 rxvlan {offload}", 60)
                harness.carrier(vm)
                # Promiscuous switches the VLAN filter off.
                for promiscuous in ("off", "on"):
                    vm.run(f"ip link set eth0 promisc {promiscuous}")
                    for size in (0, 56, 1472):
                        vm.run(f"ping -c 2 -i 0.05 -W 5 -s {size} 10.5.0.2", 60)
                    other = frames.frame(GUEST_MAC, (vid - 1).to_bytes(2, "big") + b"\x88\xb5", b"\x81\x00")
                    frames.want(vm, other, promiscuous == "on", f"VLAN {vid - 1}, filter {promiscuous != 'on'}")
            want(set(neighbour.tags) == {vid}, f"tags on the wire: {set(neighbour.tags)}")
        vm.run(f"ip link del eth0.{vid}; ip link set eth0 promisc off; ethtool -K eth0 rxvlan on", 60)
        harness.carrier(vm)


def snmp(protocol, name):
    """A counter of the guest's network stack."""
    lines = [x.split() for x in vm.run("cat /proc/net/snmp").splitlines() if x.startswith(protocol + ":")]
    return int(dict(zip(lines[0], lines[1]))[name])


def a_flipped_checksum_is_dropped_with_the_offload_on_and_off():
    from lib import frames

    good = {"Udp": (frames.udp(9), "NoPorts"), "Tcp": (frames.tcp_syn(9), "OutRsts")}
    for offload in ("on", "off"):
        vm.run(f"ethtool -K eth0 rx {offload}", 60)
        harness.carrier(vm)
        seen = nic_counters()
        for protocol, make in (("Udp", frames.udp), ("Tcp", frames.tcp_syn)):
            packet, answered = good[protocol]
            before = snmp(protocol, answered), snmp(protocol, "InCsumErrors")
            frames.send(frames.frame(GUEST_MAC, packet, b"\x08\0"), 3)
            for bit in (0, 7, 15):
                frames.send(frames.frame(GUEST_MAC, make(9, flip=1 << bit), b"\x08\0"))
            vm.run("ping -c 2 -i 0.05 -W 5 10.0.2.2", 60)
            after = snmp(protocol, answered), snmp(protocol, "InCsumErrors")
            want((after[0] - before[0], after[1] - before[1]) == (3, 3),
                 f"{protocol}, offload {offload}: taken {after[0] - before[0]} of 3 good ones, "
                 f"dropped {after[1] - before[1]} of 3 bad ones")
        now = nic_counters()
        verdicts = {n: now[n] - seen[n] for n in ("rx_csum_offload_good", "rx_csum_offload_errors")}
        if offload == "on":
            want(verdicts["rx_csum_offload_errors"] == 6 and verdicts["rx_csum_offload_good"] >= 6, str(verdicts))
        else:
            want(verdicts == {"rx_csum_offload_good": 0, "rx_csum_offload_errors": 0}, str(verdicts))
    vm.run("ethtool -K eth0 rx on", 60)
    harness.carrier(vm)


def large_frames_pass_at_their_mtu():
    from lib import frames, tcp

    for mtu in (9000, 16110):
        subprocess.run(["ip", "link", "set", frames.tap(), "mtu", str(mtu)], check=True)
        vm.run(f"ip link set eth0 mtu {mtu}", 60)
        harness.carrier(vm)
        # 20 bytes of IP and 8 of ICMP: the largest frame and its neighbours.
        for size in (mtu - 28, mtu - 29, mtu - 60, 4000, 2040, 100):
            vm.run(f"ping -c 2 -i 0.05 -W 5 -s {size} 10.0.2.2", 60)
        tcp.both_ways(vm, b"0123456789abcdef" * 60000)
    harness.no_complaint(vm)
    refused = vm.agent().run("ip link set eth0 mtu 16111; status=$?; dmesg -c > /dev/null; exit $status")
    want(refused["status"] != 0, "an MTU of 16111 was taken")
    vm.run("ip link set eth0 mtu 1500", 60)
    subprocess.run(["ip", "link", "set", frames.tap(), "mtu", "1500"], check=True)
    harness.carrier(vm)
    frames.want(vm, frames.frame(GUEST_MAC, b"x" * 1500), True, "1514 bytes at MTU 1500")


def no_complaint():
    harness.no_complaint(vm)


if __name__ == "__main__":
    try:
        harness.main(__file__, [
            boot, statistics_equal_the_frames_on_the_tap, frames_to_others_arrive_only_when_promiscuous,
            multicast_arrives_while_the_group_is_joined, vlans_pass_with_offload_and_filter_on_and_off,
            a_flipped_checksum_is_dropped_with_the_offload_on_and_off, large_frames_pass_at_their_mtu, no_complaint,
        ])
    finally:
        if vm:
            vm.kill()
