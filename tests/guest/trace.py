#!/usr/bin/env python3
"""-trace in every format beside each other, -d guest_errors, coverage= and -fault, under Linux's own driver in one run.

What the files say is compared with what was done; captures are read by tshark and capinfos. At last a program in the guest does one thing wrong,
which the doctor names. --brief: less traffic, no faults.
"""
import json
import os
import re
import subprocess
import tempfile
import time

import harness
from faulty import ping
from harness import want
from lib.vm import GUEST, Vm

ARGS = harness.arguments(__doc__)
FOLDER = tempfile.TemporaryDirectory(prefix="minivmm-trace-")
MONITOR = os.path.join(FOLDER.name, "hmp")
TRACES = {
    "all.txt": "e1000_*,limit=0",
    "registers.json": "e1000_register_*,format=json,limit=0",
    "faults.json": "*fault*,format=json",
    "little.txt": "enable=e1000_*,limit=20",
    "frames.pcapng": "*,format=pcapng",
    "few.pcapng": "e1000_rx_frame,format=pcapng,limit=2",
}
# The first echo requests are lost, and one interrupt.
FAULTS = ("drop,id=requests,netdev=n0,queue=tx,match=08@34,count=3,seed=11", "irq-lost,id=irq,count=1,skip=2,seed=12",
          "link-flap,id=flap,netdev=n0,time=100ms,period=3s,count=1")
# KVM without hardware under it takes minutes.
SLOW = 300
ROUNDS = 1 if ARGS.brief else 10
result = None
said = ""


def path(name):
    return os.path.join(FOLDER.name, name)


def read(name):
    with open(path(name), encoding="utf-8") as f:
        return f.read()


def objects(name):
    return [json.loads(line) for line in read(name).splitlines()]


def the_guest_runs_and_ends():
    global result, said
    options = [*harness.accel_options(ARGS), "-timeout", "900", "-d",
               f"guest_errors,symbols={os.path.join(GUEST, 'System.map')}"]
    for name, what in TRACES.items():
        options += ["-trace", f"{what},file={path(name)}"]
    options += ["-trace", "e1000_link", "-trace", "enable=e1000_reset,format=json"]
    if not ARGS.brief:
        options += [word for plan in FAULTS for word in ("-fault", plan)]
    net = ["-netdev", "tap,id=n0,vnet_hdr=off", "-device", f"e1000,netdev=n0,coverage={path('used')}"]
    with Vm(options, net) as vm:
        vm.agent(SLOW)
        if not ARGS.brief:
            time.sleep(4)  # the cable comes out after 3 s
        for _ in range(ROUNDS):
            replies = ping(20, seconds=SLOW if ARGS.brief else 3)
        want(len(replies) == 20, f"{len(replies)} of 20 pings were answered")
        # GPRC, the count of good frames received, cannot be written.
        vm.run("set -- $(cat /sys/class/net/eth0/device/resource); devmem $(($1 + 0x4074)) 32 5", SLOW)
        vm.run("ethtool -d eth0 > /dev/null; ping -c 3 10.0.2.2", SLOW)
        vm.agent().call("poweroff", SLOW)
        want(vm.wait_end(SLOW) == 0, "no power-off")
        result, said = vm.result(), vm.console.decode(errors="replace")


def the_text_is_one_timeline():
    stamps, names = [], set()
    for line in read("all.txt").splitlines():
        found = re.match(r" *(\d+\.\d{9}) n0 (e1000_\w+)( |$)", line)
        want(found, f"not a line of a trace: {line!r}")
        stamps.append(float(found[1]))
        names.add(found[2])
    # Two threads may stamp in one order and write in the other, by microseconds.
    back = [(a, b) for a, b in zip(stamps, stamps[1:]) if b < a - 0.01]
    want(len(stamps) > 500 and not back, f"{len(stamps)} lines; back in time: {back[:3]}")
    wanted = {f"e1000_{name}" for name in (
        "register_read", "register_write", "reset", "tx_fetch", "tx_writeback", "tx_head", "tx_frame", "rx_fetch",
        "rx_writeback", "rx_head", "rx_frame", "irq_raise", "irq_ack", "irq_mask", "irq_deliver", "link", "phy", "eeprom")}
    want(wanted <= names, f"no {wanted - names}")
    print(f"     {len(stamps)} events of {len(names)} kinds")


def without_a_file_events_are_on_standard_error():
    want(re.search(r"^ +\d+\.\d{9} n0 e1000_link link=up", said, re.M), said[-2000:])
    want(re.search(r'^\{.*"event":"e1000_reset","kind":"CTRL.RST"', said, re.M), said[-2000:])
    want("e1000_register" not in said, "events that were not asked for")


def every_access_has_the_instruction_and_its_symbol():
    accesses = objects("registers.json")
    lost = [a for a in accesses if not {"cpu", "rip", "symbol"} <= set(a)]
    want(len(accesses) > 300 and len(lost) < len(accesses) // 100, f"{len(lost)} of {len(accesses)}: {lost[:2]}")
    doorbells = {re.sub(r"\+.*", "", a["symbol"]) for a in accesses
                 if a["event"] == "e1000_register_write" and a["register"] == "TDT" and a["value"]}
    want(any("xmit" in name for name in doorbells), f"TDT is written by {doorbells}")
    tail = 0
    for a in accesses:
        if a["event"] == "e1000_register_write" and a["register"] == "RDT":
            # A reset makes it zero.
            want(a["old"] in (tail, 0) and a["new"] == a["value"], f"RDT was {tail}, but {a}")
            tail = a["new"]
    print(f"     {len(accesses)} accesses; TDT by {', '.join(sorted(doorbells))}")


def a_limit_says_what_it_left_out():
    lines = read("little.txt").splitlines()
    dropped = [int(found[1]) for line in lines if (found := re.match(r"\.\.\. (\d+) events", line))]
    kept = len(lines) - len(dropped)
    want(dropped and kept + sum(dropped) == len(read("all.txt").splitlines()), f"{kept} lines and {dropped}")
    seconds = [line.split(".")[0] for line in lines if not line.startswith("...")]
    want(max(seconds.count(s) for s in set(seconds)) == 20, "more than 20 in one second")


def tshark(name, *arguments):
    done = subprocess.run(["tshark", "-n", "-r", path(name), *arguments], capture_output=True, text=True, timeout=120)
    warnings = [line for line in done.stderr.splitlines() if "Running as user" not in line]
    want(done.returncode == 0 and not warnings, f"tshark: {done.stderr}")
    return done.stdout.splitlines()


def captures_are_read_by_tshark():
    rows = [line.split("\t") for line in tshark(
        "frames.pcapng", "-T", "fields", "-e", "frame.interface_name", "-e", "frame.packet_flags_direction",
        "-e", "frame.comment", "-e", "icmp.type")]
    nic = [row for row in rows if row[0] == "n0"]
    answers = [row for row in nic if row[3] == "0" and row[1] == "0x00000002"]
    requests = [row for row in nic if row[3] == "8" and row[1] == "0x00000001"]
    want(len(answers) >= 20 * ROUNDS - 3 and len(requests) >= 20 * ROUNDS - 3, f"{len(requests)} requests in, {len(answers)} answers out")
    bad = [row for row in answers if not re.search(r"descriptor \d+: .*sent.*TDH = \d+, causes:", row[2])]
    bad += [row for row in requests if not re.search(r"stored by Station.*descriptor \d+: length=", row[2])]
    want(not bad, f"a comment lacks something: {bad[0] if bad else ''}")
    text = read("all.txt")
    want(len(nic) == len(re.findall(r"n0 e1000_[rt]x_frame ", text)), f"{len(nic)} frames")


def a_capture_with_a_limit_says_what_it_left_out():
    frames = len(tshark("few.pcapng"))
    said = subprocess.run(["capinfos", "-M", path("few.pcapng")], capture_output=True, text=True, timeout=60).stdout
    seen = len(re.findall(r"n0 e1000_rx_frame ", read("all.txt")))
    found = re.search(r"Number of packets = (\d+)", said)
    want(found and int(found[1]) == frames and 0 < frames < seen, f"{frames} frames of {seen}: {said}")
    with open(path("few.pcapng"), "rb") as f:
        told = re.findall(rb"(\d+) frames more than limit= were left out(?! before)", f.read())
    want([frames + int(n) for n in told] == [seen], f"{frames} of {seen}, left out {told}")


def each_fault_is_in_the_timeline():
    told = {}
    for event in objects("faults.json"):
        told.setdefault(event.get("plan"), []).append(event)
    lost = told["requests"]
    want([e["hit"] for e in lost] == [1, 2, 3] and all(
        (e["event"], e["netdev"], e["kind"], e["seed"], e["done"]) == ("net_fault_frame", "n0", "drop", 11, "lost")
        and e["way"] == "to the guest" and e["length"] > 60 for e in lost), f"{lost}")
    [irq] = told["irq"]
    want((irq["event"], irq["nic"], irq["kind"], irq["of"]) == ("e1000_fault", "n0", "irq-lost", 3), f"{irq}")
    want([(e["event"], e["cable"]) for e in told["flap"]] == [("net_fault_link", "out"), ("net_fault_link", "in")],
         f"{told['flap']}")
    comments = [row for row in tshark("frames.pcapng", "-Y", 'frame.interface_name == "n0-cable"', "-T", "fields",
                                      "-e", "frame.comment")]
    want(comments == ["-fault drop,id=requests: lost"] * 3, f"{comments}")


def the_doctor_names_what_is_wrong_and_nothing_else():
    found = result["nics"][0]["findings"]
    print(f"     findings: {', '.join(f['id'] for f in found)}")
    bad = [f for f in found if f["severity"] != "note"]
    want([(f["id"], f["subject"], f["count"]) for f in bad] == [("E1000-REG-002", "GPRC = 0x5", 1)], f"{bad}")
    want(0 < bad[0]["rip"] < 1 << 47 and bad[0]["cpu"] == 0, f"by a program: {bad}")
    note = [f for f in found if f["id"] == "E1000-RX-021"]
    want(note and note[0]["symbol"].startswith("e1000_"), f"RADV below ITR, as stock Linux has it: {found}")
    events = [line for line in read("all.txt").splitlines() if " e1000_finding " in line]
    want(len(events) == len(found), f"{len(found)} findings, but {events}")


def coverage_lists_what_the_driver_met():
    used = json.loads(read("used"))
    # docs/trace.md lists these.
    want(set(used) == {"version", "registers", "unknown_offsets", "descriptors", "frames", "offloads", "causes", "faults",
                       "events"}, f"{set(used)}")
    registers = used["registers"]
    want(set(registers["TDT"]) == {"reads", "writes", "writable", "ones", "zeros"}, f"{registers['TDT']}")
    text = read("all.txt")
    for name, verb, count in (("TDT", "write", registers["TDT"]["writes"]), ("ICR", "read", registers["ICR"]["reads"])):
        traced = len(re.findall(rf"e1000_register_{verb} register={name} ", text))
        want(count == traced, f"{name}: {count} in coverage, {traced} in the trace")
    want(registers["RCTL"]["ones"] & 0x8002 == 0x8002 and registers["RCTL"]["zeros"] & 2, f"{registers['RCTL']}")
    want(used["frames"]["tx Sent"] == len(re.findall("e1000_tx_frame .*disposition=sent ", text)), f"{used['frames']}")
    want(used["frames"]["rx stored by Station(0)"] >= 20 * ROUNDS - 3, f"{used['frames']}")
    # ICMP needs no checksum offload: the driver's descriptors are legacy ones.
    want(used["descriptors"]["tx legacy"] + used["descriptors"].get("tx data", 0) >= used["frames"]["tx Sent"],
         f"{used['descriptors']}")
    want(used["causes"]["RXT0"] >= 1 and used["causes"]["LSC"] >= 1, f"{used['causes']}")
    met = {name: count for name, count in used["faults"].items() if count}
    want(met == ({} if ARGS.brief else {"drop": 3, "irq-lost": 1, "link-flap": 2}), f"{met}")
    table = read("used.txt")
    words = ["never used: ", "rx stored by Station(0)", "irq-lost"] + ([] if ARGS.brief else ["link-flap"])
    want(all(word in table for word in words), table)


if __name__ == "__main__":
    CHECKS = [the_guest_runs_and_ends, the_text_is_one_timeline,
              without_a_file_events_are_on_standard_error, every_access_has_the_instruction_and_its_symbol,
              a_limit_says_what_it_left_out, captures_are_read_by_tshark, a_capture_with_a_limit_says_what_it_left_out,
              *([] if ARGS.brief else [each_fault_is_in_the_timeline]), the_doctor_names_what_is_wrong_and_nothing_else,
              coverage_lists_what_the_driver_met]
    try:
        harness.main(__file__, CHECKS)
    finally:
        FOLDER.cleanup()
