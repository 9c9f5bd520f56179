#!/usr/bin/env python3
"""gdb with the guest: from its first instruction, in the driver's transmit path, a descriptor that changes, Ctrl-C; the
kernel's own gdb commands and a driver that is a module; two CPUs, resets, debuggers that vanish, how the run ends; breakpoints that a debugger in the guest sets."""
import os
import re
import signal
import socket
import struct
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
if line := packages.ensure({"gdb": "gdb", "musl-gcc": "musl-tools", "nm": "binutils"}, Report()):
    sys.exit(f"tests/guest/gdb.py: {line}")
from lib.hmp import Hmp  # noqa: E402
from lib.vm import GUEST, HOST_IP, Vm  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="minivmm-gdb-")
SOCKET = os.path.join(FOLDER.name, "gdb")
MONITOR = os.path.join(FOLDER.name, "monitor")
PORT = 1234  # in a network namespace of our own
# A machine without a host to spare is slow, not broken.
PATIENCE = 300
# The kernel's direct map of memory; its place is not random here.
DIRECT_MAP = 0xFFFF888000000000
# gdb runs the Python that lies beside a vmlinux only where it is told that it may; and it reads 100 MB of debug
# information once.
TRUST = ["-iex", f"add-auto-load-safe-path {os.path.dirname(os.path.realpath(os.path.join(GUEST, 'vmlinux')))}",
         "-iex", f"set index-cache directory {os.path.join(FOLDER.name, 'index')}", "-iex", "set index-cache enabled on"]
vm = None


def machine(*options, net=None, place=f"unix:{SOCKET}"):
    return Vm([*harness.accel_options(ARGS), "-timeout", "1500", "-gdb", place, *options], net)


def gdb(*commands, during=None, place=SOCKET):
    """Runs gdb on these commands, `during(gdb's process)` meanwhile. Returns what it printed."""
    script = os.path.join(FOLDER.name, "script")
    with open(script, "w") as file:
        file.write("\n".join(["set confirm off", "set pagination off", "set width 0", f"set remotetimeout {PATIENCE}",
                              f"target remote {place}", *commands]) + "\n")
    process = subprocess.Popen(["gdb", "-nx", "-batch", *TRUST, "-x", script, os.path.join(GUEST, "vmlinux")], text=True,
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
    want("start_kernel () at" in text, text)
    want(vm.agent(PATIENCE) and vm.run("echo alive") == "alive\n", "the guest does not go on after detach")


def it_stops_where_the_driver_sends():
    send_soon()
    look = [show("rip", "$rip"), show("skb", "$rdi"), 'printf "of %s\\n", netdev->name', "stepi",
            show("next", "$rip"), "backtrace 8", "continue"]
    text = gdb("break *e1000_xmit_frame", "continue", *look, show("again", "$rip"), "info threads",
               "monitor info registers", "monitor info status", "delete", "detach")
    begin, after = values(text, "rip")[0], values(text, "next")[0]
    want(0 < after - begin < 16, f"a step went from {begin:#x} to {after:#x}")
    want(values(text, "again")[0] == begin, "the second frame did not stop it at the same place")
    want(values(text, "skb")[0] >> 47 == 0x1FFFF, "the first argument is no kernel address")
    want("\nof eth0\n" in text, f"no variable of the function:\n{text}")
    want("dev_hard_start_xmit (" in text, f"no caller in the backtrace:\n{text}")
    want("Thread 1.1 (CPU 0)" in text and re.search(r"CR3=[0-9a-f]{16}", text), text)
    want("VM status: paused (debug)" in text, text)
    want(vm.run("echo alive") == "alive\n", "the guest does not go on after detach")


def a_descriptor_is_seen_to_change():
    send_soon()
    # A gdb that disconnects leaves the machine stopped, so that the next descriptor to be written is known.
    registers = gdb("monitor info e1000 regs", "disconnect")
    ring, tail = (int(re.search(rf"^  {name} +([0-9a-f]{{8}})$", registers, re.M)[1], 16) for name in ("TDBAL", "TDT"))
    at = DIRECT_MAP + ring + 16 * tail
    text = gdb(f"watch *(unsigned long *){at:#x}", "continue", "backtrace 4", f"x/2gx {at:#x}", "delete", "stepi",
               show("rip", "$rip"), f"watch *(unsigned int *){at + 8:#x}", "continue", show("rip", "$rip"), "delete", "detach")
    want("Hardware watchpoint" in text and re.search(r"Old value = \d+\nNew value = \d+", text), text)
    want("e1000_xmit_frame (" in text.split("New value")[1], f"somebody else wrote it:\n{text}")
    # The address is written first, then length and command.
    first, second = values(text, "rip")
    want(text.count("New value") == 2 and first < second < first + 64, f"a step, and the next field:\n{text}")
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
    want("start_kernel () at" in text and "rest_init () at" in text, text)
    want(vm.process.wait(60) == 0, f"status {vm.process.returncode} after kill")


def boot_two_cpus_and_a_module():
    global vm
    vm = machine("-smp", "2", "-initrd", os.path.join(GUEST, "minie1000.cpio.gz"), "-append", "initcall_blacklist=e1000_init_module",
                 "-monitor", f"unix:{MONITOR},server=on,wait=off", place=f"tcp:127.0.0.1:{PORT}")
    vm.agent(PATIENCE)
    vm.run("insmod /lib/modules/minie1000.ko && net-up", 120)


def by_tcp(*commands, during=None):
    return gdb(*commands, during=during, place=f"127.0.0.1:{PORT}")


def lx_symbols_finds_the_module_and_its_types():
    send_soon()
    text = by_tcp(f"lx-symbols {os.path.realpath(GUEST)}", "break rings_xmit", "continue", "backtrace 2",
                  # netdev_priv(); newer kernels call it netdev->priv.
                  "set $nic = (struct nic *)((char *)netdev + ((sizeof(struct net_device) + 31) & ~31ul))",
                  'printf "of %s\\n", netdev->name', "print $nic->netdev == netdev",
                  "print $nic->tx.tail < 256", 'printf "task %s\\n", $lx_current().comm', "lx-lsmod", "lx-dmesg", "delete", "detach")
    want(re.search(r"loading @0xffffffff[0-9a-f]+: .*/minie1000\.ko", text), text)
    want(re.search(r"Breakpoint \d+, rings_xmit \(skb=.*\) at .*rings\.c:\d+", text), f"no stop by name in the module:\n{text}")
    want(re.search(r"^#1 .* in .*(netdev_start_xmit|xmit_one|dev_hard_start_xmit) \(", text, re.M), f"the kernel called it:\n{text}")
    want("\nof eth0\n" in text, f"struct net_device:\n{text}")
    want(re.findall(r"^\$\d+ = (.*)$", text, re.M) == ["1", "1"], f"the driver's own structure:\n{text}")
    want(re.search(r"^task \w", text, re.M), f"per-CPU variables:\n{text}")
    want(re.search(r"^0x[0-9a-f]+ minie1000 +\d+ ", text, re.M), f"lx-lsmod:\n{text}")
    want(re.search(r"^\[ +[0-9.]+\] .*minie1000", text, re.M), f"lx-dmesg:\n{text}")
    want(vm.run("echo alive", PATIENCE) == "alive\n", "the guest does not go on after detach")


def a_module_that_comes_later_is_found_by_itself():
    vm.run("rmmod minie1000", 60)
    insmod = harness.in_the_background("insmod /lib/modules/minie1000.ko")
    text = by_tcp(f"lx-symbols {os.path.realpath(GUEST)}", "set breakpoint pending on", "break chip_reset", f"shell touch {GO}",
                  "continue", "backtrace 3", "delete", "detach", during=when_it_runs(lambda _: vm.run(insmod, PATIENCE)))
    want(re.search(r"Breakpoint \d+, chip_reset \(nic=.*0x", text), f"no stop in the module's probe:\n{text}")
    vm.run("i=0; until net-up; do i=$((i+1)); [ $i -lt 50 ] || exit 1; sleep 0.1; done", PATIENCE)


def each_cpu_is_a_thread_with_registers_of_its_own():
    # Something to do on both, that never leaves user mode by itself.
    vm.run(harness.in_the_background("for n in 1 2; do while :; do :; done & echo $!; done > /tmp/busy; wait"))
    look = ["printf \"R %#lx %#lx %#lx %#lx\\n\", $rip, $rsp, $rax, $tr_base"]
    text = by_tcp("info threads", "thread 1", *look, "thread 2", *look, "set scheduler-locking on", "thread 1", "stepi 40",
                  *look, "thread 2", *look, "stepi", *look, "thread 1", *look, "set scheduler-locking off",
                  # Now for a whole tick. The CPU that is to be held is caught in user mode, where it holds no kernel lock.
                  "hbreak sysvec_apic_timer_interrupt thread 1", "continue", "thread 2",
                  "while ($cs & 3) != 3", "continue", "thread 2", "end",
                  *look, "set scheduler-locking on", "thread 1", "continue", *look, "thread 2", *look,
                  "set scheduler-locking off", "delete", "detach")
    want("CPU 0" in text and "CPU 1" in text, text)
    first, second, stepped, held, moved, waiting, caught, ticked, still = (line.split()[1:] for line in re.findall(r"^R .*$", text, re.M))
    want(first[3] != second[3], f"both have the same TSS:\n{text}")
    want(stepped != first, f"the CPU that steps did not move:\n{text}")
    want(held == second, f"the CPU that is held moved:\n{text}")
    want(moved != second and waiting == stepped, f"the other way round:\n{text}")
    want(still == caught and ticked[3] == first[3], f"it did not stand still for a tick:\n{text}")
    vm.run("kill $(cat /tmp/busy)", PATIENCE)
    want(vm.run("echo alive", PATIENCE) == "alive\n", "the guest does not go on after detach")


class Line:
    """A debugger of few words, which can leave without one."""

    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", PORT), PATIENCE)

    def say(self, body, answer=True):
        data = body.encode()
        self.socket.sendall(b"$%s#%02x" % (data, sum(data) % 256))
        got = b""
        while answer and not re.search(rb"\$[^#]*#..", got):
            got += self.socket.recv(4096)
        self.socket.sendall(b"+" if answer else b"")
        return got

    def reset(self):
        """The connection ends by TCP's RST, as when the debugger's machine is gone."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def status_is(text):
    monitor = Hmp(MONITOR)
    until(lambda: monitor.ask("info status") == f"VM status: {text}")
    monitor.socket.close()


def a_connection_that_is_reset_leaves_the_machine_as_it_was():
    where = subprocess.run(["nm", os.path.join(GUEST, "vmlinux")], capture_output=True, text=True, check=True).stdout
    sync = re.search(r"^([0-9a-f]+) T ksys_sync$", where, re.M)[1]
    line = Line()
    want(b"OK" in line.say(f"Z1,{sync},1"), "no breakpoint")
    line.say("vCont;c", answer=False)
    status_is("running")
    line.reset()
    # Neither stopped by it nor by what it left: there is nothing.
    want(vm.run("sync; echo alive", PATIENCE) == "alive\n", "the guest does not go on")
    line = Line()
    line.say("?")
    status_is("paused")
    line.reset()
    # The next debugger is served, which it is only when the one before is gone.
    line = Line()
    line.say("?")
    status_is("paused")
    want(b"OK" in line.say("D"), "no detach")
    line.socket.close()
    want(vm.run("echo alive", PATIENCE) == "alive\n", "the guest does not go on")


def a_reset_leaves_the_debugger_in_place():
    text = by_tcp("hbreak start_kernel", "monitor system_reset", "continue", "info threads", show("rip", "$rip"), "delete",
                  "break rest_init", "continue", "backtrace 1", "delete", "detach")
    want("start_kernel () at" in text and values(text, "rip"), text)
    want("rest_init () at" in text, f"a breakpoint in memory, set behind the reset:\n{text}")
    vm.forget_agent()
    want(vm.agent(PATIENCE) and vm.run("nproc") == "2\n", "the guest does not come up again")


def a_debugger_in_the_guest_has_breakpoints_of_its_own():
    """By ptrace: Linux puts them into DR0 to DR3 and DR7."""
    program = os.path.join(FOLDER.name, "hw_breakpoint")
    subprocess.run(["musl-gcc", "-O1", "-static", "-s", "-o", program, os.path.join(os.path.dirname(__file__), "hw_breakpoint.c")],
                   check=True)
    with open(program, "rb") as f:
        vm.agent().put("/tmp/hw_breakpoint", f.read(), mode=0o755)
    rounds = "".join(f"signal 5, DR6 1, watched {n}0\nsignal 5, DR6 2, watched {n}0\n" for n in (1, 2, 3))
    for _ in range(3):
        said = vm.run("/tmp/hw_breakpoint", PATIENCE)
        want(said == rounds + "ended with 0\n", said)


def gdb_hears_how_the_run_ends():
    panic = harness.in_the_background("sleep 1; echo c > /proc/sysrq-trigger")
    text = by_tcp(f"shell touch {GO}", "continue", during=when_it_runs(lambda _: vm.run(panic)))
    want("exited with code 0176" in text, f"126 in octal, a panic's status:\n{text}")
    want(vm.wait_end(60) == 126, f"status {vm.process.returncode}")


if __name__ == "__main__":
    everywhere = [the_first_instruction_waits_for_gdb, it_stops_where_the_driver_sends, a_descriptor_is_seen_to_change,
                  the_nic_s_doings_stop_it, ctrl_c_interrupts, a_debugger_that_vanishes_leaves_no_breakpoint, kill_ends_the_run,
                  boot_two_cpus_and_a_module, lx_symbols_finds_the_module_and_its_types,
                  a_module_that_comes_later_is_found_by_itself, each_cpu_is_a_thread_with_registers_of_its_own,
                  a_connection_that_is_reset_leaves_the_machine_as_it_was, a_reset_leaves_the_debugger_in_place,
                  a_debugger_in_the_guest_has_breakpoints_of_its_own, gdb_hears_how_the_run_ends]
    harness.main(__file__, [breakpoints_and_steps_in_kernel_code] if ARGS.brief else everywhere)
