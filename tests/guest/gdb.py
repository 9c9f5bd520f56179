#!/usr/bin/env python3
"""gdb with the guest: from its first instruction, in the driver's transmit path, a descriptor that changes, Ctrl-C."""
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import want
from lib import packages
from lib.report import Failed, Report

ARGS = harness.arguments(__doc__)
# apt needs the network, which the namespace that harness.main() enters has not.
if line := packages.ensure({"gdb": "gdb"}, Report()):
    sys.exit(f"tests/guest/gdb.py: {line}")
from lib.vm import GUEST, HOST_IP, Vm  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="minivmm-gdb-")
SOCKET = os.path.join(FOLDER.name, "gdb")
# A machine without a host to spare is slow, not broken.
PATIENCE = 300
# The kernel's direct map of memory; its place is not random here.
DIRECT_MAP = 0xFFFF888000000000
vm = None


def machine(*options, net=None):
    return Vm([*harness.accel_options(ARGS), "-timeout", "1500", "-gdb", f"unix:{SOCKET}", *options], net)


def gdb(*commands, during=None):
    """Runs gdb on these commands, `during(gdb's process)` meanwhile. Returns what it printed."""
    script = os.path.join(FOLDER.name, "script")
    with open(script, "w") as file:
        file.write("\n".join(["set confirm off", "set pagination off", "set width 0", f"set remotetimeout {PATIENCE}",
                              f"target remote {SOCKET}", *commands]) + "\n")
    process = subprocess.Popen(["gdb", "-nx", "-batch", "-x", script, os.path.join(GUEST, "vmlinux")], text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
    said = []
    reader = threading.Thread(target=lambda: said.append(process.stdout.read()))
    reader.start()
    try:
        if during:
            during(process)
        process.wait(PATIENCE)
        late = ""
    except subprocess.TimeoutExpired:
        late = "gdb did not end; "
    finally:
        process.kill()
        reader.join()
    text = "".join(said)
    want(not late and process.returncode == 0, f"{late}gdb: status {process.returncode}, output:\n{text}")
    return text


def show(name, expression):
    return f'printf "{name}=%#lx\\n", {expression}'


def values(text, name):
    """What `show` printed, each time."""
    found = re.findall(rf"^{name}=(0x[0-9a-f]+|0)$", text, re.M)
    want(found, f"gdb did not print {name}:\n{text}")
    return [int(value, 16) for value in found]


def send_soon():
    """The guest will send; its time stands still while gdb looks at it."""
    vm.run(harness.in_the_background(f"sleep 1; ping -c 200 {HOST_IP}"))


def the_first_instruction_waits_for_gdb():
    global vm
    vm = machine("-S")
    # The kernel's page tables are not there yet: a breakpoint in memory could not be written.
    text = gdb(show("first", "$rip"), "hbreak start_kernel", "continue", show("kernel", "$rip"), "detach")
    want(values(text, "first")[0] < 1 << 32 and values(text, "kernel")[0] >> 47 == 0x1FFFF, text)
    want("in start_kernel ()" in text, text)
    want(vm.agent(PATIENCE) and vm.run("echo alive") == "alive\n", "the guest does not go on after detach")


def it_stops_where_the_driver_sends():
    send_soon()
    look = [show("rip", "$rip"), show("skb", "$rdi"), "stepi", show("next", "$rip"), "backtrace 4", "continue"]
    text = gdb("break e1000_xmit_frame", "continue", *look, show("again", "$rip"), "info threads",
               "monitor info registers", "monitor info status", "delete", "detach")
    begin, after = values(text, "rip")[0], values(text, "next")[0]
    want(0 < after - begin < 16, f"a step went from {begin:#x} to {after:#x}")
    want(values(text, "again")[0] == begin, "the second frame did not stop it at the same place")
    want(values(text, "skb")[0] >> 47 == 0x1FFFF, "the first argument is no kernel address")
    want("dev_hard_start_xmit" in text, f"no caller in the backtrace:\n{text}")
    want("Thread 1.1 (CPU 0)" in text and re.search(r"CR3=[0-9a-f]{16}", text), text)
    want("VM status: paused (debug)" in text, text)
    want(vm.run("echo alive") == "alive\n", "the guest does not go on after detach")


def a_descriptor_is_seen_to_change():
    send_soon()
    # A gdb that disconnects leaves the machine stopped, so that the next descriptor to be written is known.
    registers = gdb("monitor info e1000 regs", "disconnect")
    ring, tail = (int(re.search(rf"^  {name} +([0-9a-f]{{8}})$", registers, re.M)[1], 16) for name in ("TDBAL", "TDT"))
    at = DIRECT_MAP + ring + 16 * tail
    text = gdb(f"watch *(unsigned long *){at:#x}", "continue", show("rip", "$rip"), f"x/2gx {at:#x}", "delete", "detach")
    want("Hardware watchpoint" in text and re.search(r"Old value = \d+\nNew value = \d+", text), text)
    want("e1000_xmit_frame" in text.split("New value")[1], f"somebody else wrote it:\n{text}")
    buffer = int(re.search(rf"^{at:#x}:\t(0x[0-9a-f]+)", text, re.M)[1], 16)
    want(0 < buffer < 256 << 20, f"the descriptor's buffer is at {buffer:#x}:\n{text}")
    want(vm.run("echo alive") == "alive\n", "the guest does not go on after detach")


def the_nic_s_doings_stop_it():
    send_soon()
    text = gdb("monitor e1000 break TDT", "continue", show("rip", "$rip"), "x/1i $rip", "monitor e1000 break",
               "monitor e1000 break off", "monitor e1000 break e1000_tx_writeback", "continue", "monitor e1000 break",
               "monitor e1000 break off", "detach")
    want(text.count("SIGTRAP") == 2, text)
    want(re.search(r"last: TDT written: 0x[0-9a-f]+ \(was 0x[0-9a-f]+\), by CPU 0 at 0x", text), text)
    want("<e1000_xmit_frame+" in text, f"TDT is written elsewhere:\n{text}")
    want(re.search(r"last: e1000_tx_writeback \d+ at 0x[0-9a-f]+", text), text)
    want(vm.run("echo alive") == "alive\n", "the guest does not go on after detach")


GO = os.path.join(FOLDER.name, "go")


def when_it_runs(then):
    """For `during`: waits until gdb has stopped the machine and let it run again, by the command after GO."""
    def wait(process):
        until(lambda: os.path.exists(GO) or process.poll() is not None)
        want(vm.run("echo alive", PATIENCE) == "alive\n", "the guest does not run under gdb")
        os.unlink(GO)
        then(process)
    return wait


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        want(time.monotonic() < end, "gdb does not get there")
        time.sleep(0.02)


def ctrl_c_interrupts():
    # The machine stands still when gdb makes the file, so an agent that answers means that `continue` was carried out.
    text = gdb(f"shell touch {GO}", "continue", show("rip", "$rip"), "monitor info status", "detach",
               during=when_it_runs(lambda process: process.send_signal(signal.SIGINT)))
    want("SIGINT" in text and values(text, "rip") and "VM status: paused" in text, text)
    want(vm.run("echo alive") == "alive\n", "the guest does not go on after detach")


def a_debugger_that_vanishes_leaves_no_breakpoint():
    try:
        gdb("break ksys_sync", f"shell touch {GO}", "continue",
            during=when_it_runs(lambda process: process.kill()))
        want(False, "gdb was not killed")
    except Failed as killed:
        want("status -9" in str(killed), str(killed))
    want(vm.run("sync; echo alive", PATIENCE) == "alive\n", "the guest does not go on")


def kill_ends_the_run():
    gdb("kill")
    want(vm.process.wait(60) == 0, f"status {vm.process.returncode} after kill")


def breakpoints_and_steps_in_kernel_code():
    """All that a KVM without hardware under it can: docs/kvm-hosts.md."""
    global vm
    vm = machine("-S", "-m", "128", net=["-nic", "none"])
    text = gdb(show("first", "$rip"), "hbreak start_kernel", "continue", show("rip", "$rip"), "delete",
               "break rest_init", "continue", show("rip", "$rip"), "stepi", "stepi", "stepi", show("rip", "$rip"),
               "backtrace 3", "delete", "kill")
    first, second, third = values(text, "rip")
    want(values(text, "first")[0] < 1 << 32 < first and second != first and third != second, text)
    want("in start_kernel ()" in text and "in rest_init ()" in text, text)
    want(vm.process.wait(60) == 0, f"status {vm.process.returncode} after kill")


if __name__ == "__main__":
    everywhere = [the_first_instruction_waits_for_gdb, it_stops_where_the_driver_sends, a_descriptor_is_seen_to_change,
                  the_nic_s_doings_stop_it, ctrl_c_interrupts, a_debugger_that_vanishes_leaves_no_breakpoint, kill_ends_the_run]
    harness.main(__file__, [breakpoints_and_steps_in_kernel_code] if ARGS.brief else everywhere)
