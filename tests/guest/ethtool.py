#!/usr/bin/env python3
"""What ethtool says and sets on Linux's e1000: registers, EEPROM, statistics, pause, rings, offloads, link, LED, wake-up.

The models boot one after the other, and the EEPROM is kept in a file over two runs.
"""
import os
import re
import tempfile
import time

import harness
from harness import want

ARGS = harness.arguments(__doc__)
FOLDER = tempfile.TemporaryDirectory()
ROM = os.path.join(FOLDER.name, "rom")
vm = None


def boot():
    global vm
    vm = harness.boot(ARGS, f"e1000,eeprom={ROM}")


def ping(guest=None):
    (guest or vm).run("ping -c 3 -i 0.05 -W 5 10.0.2.2", 60)


def carrier(guest=None):
    """Waits until eth0 has a link again."""
    (guest or vm).run("i=0; while [ $(cat /sys/class/net/eth0/carrier) != 1 ]; do sleep 0.1; i=$((i+1)); "
                      "[ $i -lt 100 ] || exit 1; done", 60)


def fields(text):
    return {name.strip(): value.strip() for name, value in re.findall(r"^\s*([^:\n]+):[ \t]*(.*)$", text, re.M)}


def d_dumps_registers_that_agree_with_the_state():
    text = vm.run("ethtool -d eth0")
    found = fields(text)
    for name, value in (("Link up", "link config"), ("Receiver", "enabled"), ("Transmitter", "enabled"),
                        ("PHY type", "M88")):
        want(found.get(name) == value, f"{name}: {found.get(name)!r} in {text}")
    head, tail = (int(re.search(rf"{n} .*?(0x[0-9A-F]+)", text).group(1), 16) for n in ("RDH", "RDT"))
    want(head < 256 and tail < 256 and head != tail, f"RDH {head}, RDT {tail}")
    raw = vm.agent().run("ethtool -d eth0 raw on | wc -c")["stdout"]
    want(int(raw) >= 128, f"raw dump: {raw}")


def e_reads_what_is_in_the_file():
    vm.run("ethtool -e eth0 raw on > /tmp/rom")
    with open(ROM, "rb") as f:
        content = f.read()
    want(vm.agent().get("/tmp/rom") == content and len(content) == 128, "ethtool -e and the file differ")
    want(content[:6] == bytes.fromhex("525400123456"), "no MAC in the file")


def E_programs_the_eeprom_and_the_file():
    # Byte 10h is in a word for PXE; the driver mends the checksum by itself. 100e8086: what the magic must be.
    vm.run("ethtool -E eth0 magic 0x100e8086 offset 0x60 value 0x5a", 60)
    vm.run("ethtool -E eth0 magic 0x100e8086 offset 0x63 value 0xa5", 60)
    text = vm.run("ethtool -e eth0 offset 0x60 length 4")
    want("5a ff ff a5" in text, f"read back: {text}")
    with open(ROM, "rb") as f:
        content = f.read()
    words = [int.from_bytes(content[n : n + 2], "little") for n in range(0, 128, 2)]
    want(content[0x60:0x64] == bytes.fromhex("5affffa5"), "the file was not written")
    want(sum(words) & 0xFFFF == 0xBABA, "the checksum was not mended")
    want(os.listdir(FOLDER.name) == ["rom"], f"left behind: {os.listdir(FOLDER.name)}")
    refused = vm.agent().run("ethtool -E eth0 magic 0x1234 offset 0x60 value 0")
    want(refused["status"] != 0, "a wrong magic was taken")


def S_counts():
    before = fields(vm.run("ethtool -S eth0"))
    vm.run("ping -c 10 -i 0.02 -s 1000 -W 5 10.0.2.2", 60)
    after = fields(vm.run("ethtool -S eth0"))
    for name in ("tx_packets", "rx_packets"):
        want(int(after[name]) - int(before[name]) >= 10, f"{name}: {before[name]}, {after[name]}")
    want(int(after["rx_bytes"]) - int(before["rx_bytes"]) >= 10 * 1042, "rx_bytes")
    errors = {n: v for n, v in after.items() if ("error" in n or "drop" in n) and v not in ("0", "")}
    want(not errors, f"errors: {errors}")


def a_and_A_pause():
    for setting in ("off", "on"):
        vm.run(f"ethtool -A eth0 autoneg off rx {setting} tx {setting}; true", 60)
        found = fields(vm.run("ethtool -a eth0"))
        want((found["RX"], found["TX"]) == (setting, setting), f"{setting}: {found}")
    vm.run("ethtool -A eth0 autoneg on; true", 60)
    want(fields(vm.run("ethtool -a eth0"))["Autonegotiate"] == "on", "autoneg")
    carrier()
    ping()


def g_and_G_rings():
    for rx, tx in ((80, 80), (4096, 4096), (256, 256)):
        vm.run(f"ethtool -G eth0 rx {rx} tx {tx}", 60)
        current = fields(vm.run("ethtool -g eth0").split("Current")[1])
        want((current["RX"], current["TX"]) == (str(rx), str(tx)), f"{current}")
        carrier()
        ping()


def K_switches_what_can_be_switched():
    names = {"rx": "rx-checksumming", "tx": "tx-checksumming", "sg": "scatter-gather", "tso": "tcp-segmentation-offload",
             "rxvlan": "rx-vlan-offload", "rx-all": "rx-all", "rx-fcs": "rx-fcs"}
    original = fields(vm.run("ethtool -k eth0"))
    for short, name in names.items():
        for setting in ("off", "on", original[name].split()[0]):
            vm.run(f"ethtool -K eth0 {short} {setting}", 60)
            now = fields(vm.run("ethtool -k eth0"))[name]
            want(now.split()[0] == setting, f"{name} {setting}: {now}")
            carrier()
            ping()
        vm.run("ethtool -K eth0 tx on sg on tso on", 60)


def p_blinks():
    begin = time.monotonic()
    vm.run("ethtool -p eth0 1", 30)
    want(0.9 < time.monotonic() - begin < 20, "-p eth0 1 did not take a second")
    ping()


def r_renegotiates():
    before = len(re.findall("Link is Up", vm.run("dmesg")))
    vm.run("ethtool -r eth0; sleep 0.3", 60)
    carrier()
    want(len(re.findall("Link is Up", vm.run("dmesg"))) > before, "the link did not come up anew")
    ping()


def s_sets_the_speed():
    for speed, duplex in ((10, "half"), (100, "full"), (100, "half"), (10, "full")):
        vm.run(f"ethtool -s eth0 autoneg off speed {speed} duplex {duplex}", 60)
        carrier()
        found = fields(vm.run("ethtool eth0"))
        want((found["Speed"], found["Duplex"].lower()) == (f"{speed}Mb/s", duplex), f"{speed} {duplex}: {found}")
        ping()
    # A link of 1000 Mbit/s is always negotiated.
    vm.run("ethtool -s eth0 autoneg on advertise 0x20; sleep 0.2", 60)
    carrier()
    want(fields(vm.run("ethtool eth0"))["Speed"] == "1000Mb/s", "autoneg back to 1000")
    ping()


def s_sets_wake_up():
    want("g" in fields(vm.run("ethtool eth0"))["Supports Wake-on"], "no magic packet")
    for options in ("g", "umb", "d"):
        vm.run(f"ethtool -s eth0 wol {options}", 60)
        now = fields(vm.run("ethtool eth0"))["Wake-on"]
        want(sorted(now) == sorted(options), f"wol {options}: {now}")


def s_sets_message_level():
    vm.run("ethtool -s eth0 msglvl 0x7fff")
    want("0x00007fff" in vm.run("ethtool eth0"), "msglvl")


def no_complaint():
    harness.no_complaint(vm)


def the_next_run_finds_what_was_programmed():
    vm.agent().call("poweroff", 10)
    want(vm.wait_end(60) == 0, "power-off")
    with open(ROM, "rb") as f:
        content = bytearray(f.read())
    vm.kill()
    # A new address, as a user would write it into the file, with its checksum.
    content[:6] = bytes.fromhex("020000abcdef")
    rest = sum(int.from_bytes(content[n : n + 2], "little") for n in range(0, 126, 2))
    content[126:] = ((0xBABA - rest) & 0xFFFF).to_bytes(2, "little")
    with open(ROM, "wb") as f:
        f.write(content)
    with harness.boot(ARGS, f"e1000,eeprom={ROM}") as guest:
        want("5a ff ff a5" in guest.run("ethtool -e eth0 offset 0x60 length 4"), "the first run's bytes are gone")
        want(guest.run("cat /sys/class/net/eth0/address").strip() == "02:00:00:ab:cd:ef", "the file's address")
        ping(guest)


def the_82545em_coalesces_as_told():
    with harness.boot(ARGS, "e1000-82545em") as guest:
        want(guest.run("cat /sys/class/net/eth0/device/device").strip() == "0x100f", "not the 82545EM")
        ping(guest)
        for usecs in (0, 4, 100, 3):
            guest.run(f"ethtool -C eth0 rx-usecs {usecs}", 60)
            now = fields(guest.run("ethtool -c eth0"))["rx-usecs"]
            want(now == str(usecs), f"rx-usecs {usecs}: {now}")
            ping(guest)
        harness.no_complaint(guest)


def the_82544gc_boots_and_pings():
    with harness.boot(ARGS, "e1000-82544gc") as guest:
        want(guest.run("cat /sys/class/net/eth0/device/device").strip() == "0x100c", "not the 82544GC")
        ping(guest)
        want("Speed: 1000Mb/s" in guest.run("ethtool eth0"), "speed")
        want("52 54 00 12 34 56" in guest.run("ethtool -e eth0 length 6"), "EEPROM")
        harness.no_complaint(guest)


if __name__ == "__main__":
    try:
        harness.main(__file__, [
            boot, d_dumps_registers_that_agree_with_the_state, e_reads_what_is_in_the_file,
            E_programs_the_eeprom_and_the_file, S_counts, a_and_A_pause, g_and_G_rings,
            K_switches_what_can_be_switched, p_blinks, r_renegotiates, s_sets_the_speed, s_sets_wake_up,
            s_sets_message_level, no_complaint, the_next_run_finds_what_was_programmed, the_82545em_coalesces_as_told,
            the_82544gc_boots_and_pings,
        ])
    finally:
        if vm:
            vm.kill()
        FOLDER.cleanup()
