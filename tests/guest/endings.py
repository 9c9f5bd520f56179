#!/usr/bin/env python3
"""Every exit status and `reason` of docs/exit-status.md, end to end: a small kernel that ends as it is told.

Also what goes with each end: the last line on standard error, all of -result, what -on-failure keeps, no result of an
earlier run, and that a panic, told by device or by words, ends the run within a second or so. On any accelerator.
"""
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

import harness
from harness import want

ARGS = harness.arguments(__doc__)
MINIVMM = os.path.join(harness.REPO, "target", "release", "minivmm")
HERE = tempfile.TemporaryDirectory()
KERNEL = os.path.join(HERE.name, "endings")
PAGE = os.path.join(harness.REPO, "docs", "exit-status.md")
LIMIT = 120
# What a whole report has; one of a machine that never was has the first four.
MEMBERS = {"version", "status", "reason", "message", "accel", "uptime_s", "started_unix_s", "setup_s", "expect", "netdevs", "nics"}
BARE = {"version", "status", "reason", "message"}
NETWORK = ["-netdev", "user,id=u0", "-device", "e1000,netdev=u0", "-d", "guest_errors"]
DEBUG_EXIT = ["-device", "isa-debug-exit"]
SEEN = set()  # reasons


class Run:
    """One run in a folder of its own; with `then` it is handed the process, else it ends by itself."""

    def __init__(self, letter, *options, then=None, result=True):
        self.folder = tempfile.TemporaryDirectory(dir=HERE.name)
        self.path, self.kept = (os.path.join(self.folder.name, name) for name in ("result.json", "kept"))
        # What an earlier run has left: nobody must take it for this one's.
        with open(self.path, "w") as f:
            f.write('{"status": 0, "reason": "poweroff"}')
        line = [MINIVMM, "-kernel", KERNEL, "-append", letter, "-m", "16", "-monitor", "none", "-on-failure", self.kept,
                *harness.accel_options(ARGS), *NETWORK, *(["-result", self.path] if result else []), *options]
        if "-timeout" not in options:
            line += ["-timeout", str(LIMIT)]
        self.begin = time.monotonic()
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            if then:
                then(process, self)
            self.console, self.errors = process.communicate(timeout=LIMIT + 30)
        finally:
            process.kill()
        self.status = process.returncode
        self.result = None
        if os.path.exists(self.path):
            with open(self.path) as f:
                self.result = json.load(f)

    def ends(self, status, reason, words, members=frozenset(MEMBERS)):
        told = f"status {self.status}, {self.result}: {self.errors}{self.console}"
        want(self.status == status and self.result, told)
        want((self.result["status"], self.result["reason"]) == (status, reason), told)
        want(re.search(words, self.result["message"]), told)
        want(set(self.result) == set(members), f"members {set(self.result) ^ set(members)}; {told}")
        last = self.errors.strip().splitlines()[-1]
        want(last == (f"minivmm: {reason}: " if status != 1 else "minivmm: ") + self.result["message"], told)
        SEEN.add(reason)
        if "nics" in members:
            self.says_everything()
        return self

    def says_everything(self):
        result = self.result
        want(result["version"] == 1 and result["accel"] in ("kvm", "soft"), str(result))
        want(0 <= result["setup_s"] <= result["uptime_s"] < LIMIT + 30, str(result))
        want(abs(time.time() - result["started_unix_s"]) < LIMIT + 60, str(result))
        (netdev,), (nic,) = result["netdevs"], result["nics"]
        want(netdev["id"] == "u0" and {"wire_frames", "bytes", "dropped"} <= set(netdev["from_guest"]), str(netdev))
        want(nic["netdev"] == "u0" and nic["counters"] and isinstance(nic["findings"], list), str(nic))
        names = sorted(os.listdir(self.kept)) if os.path.exists(self.kept) else None
        whole = ["command-line", "result.json", "serial0.log", "serial1.log", "trace.txt", "u0.pcapng"]
        want(names == (None if self.status == 0 else whole), f"kept: {names}")
        if names:
            with open(os.path.join(self.kept, "result.json")) as f:
                want(json.load(f) == result, "kept/result.json")
            with open(os.path.join(self.kept, "serial0.log")) as f:
                want(f.read().replace("\r", "") == self.console.replace("\r", ""), "kept/serial0.log")
            with open(os.path.join(self.kept, "u0.pcapng"), "rb") as f:
                want(f.read(4) == b"\x0a\x0d\x0d\x0a", "kept/u0.pcapng")

    def took(self):
        """Seconds from the guest's first instruction to the end."""
        return self.result["uptime_s"] - self.result["setup_s"]


def build():
    harness.build_endings(KERNEL)


def the_guest_s_own_ends():
    Run("p").ends(0, "poweroff", "^guest powered off$")
    Run("r", "-no-reboot").ends(0, "reset", "^guest reset")
    Run("d", *DEBUG_EXIT).ends(11, "debug-exit", "status 11$")
    # KVM may leave RIP behind the instruction, or put the CPU to its reset vector first.
    kvm = ARGS.accel == "kvm"
    at = r"\S+" if kvm else r"triple_fault\+0x[0-9a-f]"
    place = rf"; CPU 0 at 0x10[0-9a-f]+\({at}\), IDT 0x[0-9a-f]+ limit 0x0$"
    Run("t").ends(126, "triple-fault", "^guest triple-faulted" + (f"({place}|$)" if kvm else place))
    for cpus in ("1", "2"):  # the second one never starts
        Run("h", "-smp", cpus).ends(126, "halted", r"halted with interrupts off; CPU 0 at 0x10[0-9a-f]+\(halt(\+0x1)?\)$")
    if ARGS.accel == "kvm":  # halted likewise, but the PIT may come as an NMI: nobody says that this is the end
        Run("n", "-timeout", "4").ends(124, "timeout", "")


def a_panic_told_either_way_ends_the_run_soon():
    for letter, words in (("k", "panicked: of the table$"), ("v", "panicked$"), ("K", "panicked: of the table$")):
        run = Run(letter).ends(126, "panic", words)
        # 0.8 s, of a machine that may be busy; the run would last LIMIT if nobody had noticed.
        want(run.took() < LIMIT / 4, f"{letter}: {run.took():.2f} s")
        want(letter == "K" or run.took() >= 0.7, f"{letter}: {run.took():.2f} s: the guest had no time to print")


def what_is_expected():
    run = Run("s", "-expect", "within=100s,^all tests .*: ([0-9]) of", "-expect", " 3$").ends(0, "expected", " 3")
    want(all(0 < seen["seen_s"] <= run.result["uptime_s"] for seen in run.result["expect"]), str(run.result))
    for options, words in [
        (["-expect", "within=1s,nothing of it"], "not seen on the console within 1s: nothing of it"),
        # One after the other: what was seen for the first is not searched for the second.
        (["-expect", "3 of 3", "-expect", "within=1s,all tests"], "within 1s: all tests"),
    ]:
        run = Run("s", *options).ends(123, "expect-failed", words)
        want(run.took() >= 1, f"{run.took():.2f} s")
        want(run.result["expect"][-1]["seen_s"] is None, str(run.result))
    Run("S", "-expect", "all tests", "-expect", "nothing of it").ends(123, "expect-failed", "nothing of it; guest powered off")
    Run("S", "-expect", "all tests").ends(0, "expected", "all tests")
    Run("k", "-expect", "nothing of it").ends(126, "panic", "of the table")
    Run("d", *DEBUG_EXIT, "-expect", "nothing of it").ends(11, "debug-exit", "status 11")


def the_time_is_over():
    run = Run("w", "-timeout", "1").ends(124, "timeout", r"-timeout: 1s passed; CPU 0 at 0x10[0-9a-f]+\(wait(\+0x[0-9a-f])?\)$")
    want(1 <= run.result["uptime_s"] < LIMIT / 4, str(run.result))


def a_finding_that_is_fatal():
    run = Run("f", "-d", "guest_errors=fatal").ends(122, "driver-finding", "E1000-TX-003")
    want([found["id"] for found in run.result["nics"][0]["findings"]][-1] == "E1000-TX-003", str(run.result["nics"]))
    run = Run("f", "-timeout", "1").ends(124, "timeout", "")
    want("E1000-TX-003" in [found["id"] for found in run.result["nics"][0]["findings"]], str(run.result["nics"]))


def no_machine():
    Run("p", "-initrd", "/no/such/file").ends(1, "setup-error", "/no/such/file", BARE)
    Run("p", "-netdev", "socket,id=s0,connect=127.0.0.1:1").ends(1, "setup-error", "127.0.0.1:1", BARE)
    run = Run("p", "-m", "lots")
    want(run.status == 1 and re.fullmatch("minivmm: -m lots: .*", run.errors.strip()), f"{run.status}: {run.errors}")


def once_up(process, run):
    """Waits for the guest's own words."""
    want(process.stdout.readline().startswith("all tests passed"), "the guest's words")


def signals_end_the_run():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        def then(process, run):
            once_up(process, run)
            process.send_signal(number)
        run = Run("s", then=then)
        run.console = "all tests passed: 3 of 3\n" + run.console
        run.ends(128 + number, "signal", f"signal {number}")


def the_present_state_on_demand():
    def then(process, run):
        once_up(process, run)
        process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + LIMIT
        while not os.path.exists(run.path):
            want(time.monotonic() < end, "no report")
            time.sleep(0.01)
        with open(run.path) as f:
            now = json.load(f)
        want(set(now) == MEMBERS and (now["status"], now["reason"]) == (None, "running"), str(now))
        process.kill()
    run = Run("s", then=then)
    want(run.status == -signal.SIGKILL and run.result["reason"] == "running", f"{run.status} {run.result}")


def a_killed_run_leaves_no_result_of_an_earlier_one():
    def then(process, run):
        once_up(process, run)
        process.kill()
    run = Run("s", then=then)
    want(run.status == -signal.SIGKILL and run.result is None, f"{run.status} {run.result}")


def the_user_quits():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "qmp")

        def then(process, run):
            end = time.monotonic() + LIMIT
            while not os.path.exists(path):
                want(process.poll() is None and time.monotonic() < end, "no monitor")
                time.sleep(0.01)
            with socket.socket(socket.AF_UNIX) as monitor:
                monitor.settimeout(LIMIT)
                monitor.connect(path)
                monitor.sendall(b'{"execute": "qmp_capabilities"} {"execute": "quit"}')
                while monitor.recv(65536):
                    pass
        Run("w", "-qmp", f"unix:{path},server=on,wait=off", then=then).ends(0, "quit", "^quit$")
        want(not os.listdir(folder), "the monitor's name stays")


def every_reason_of_the_page_was_seen():
    """But for those that need a command in the guest (ci.py) or a bug of ours (src/machine/tests.rs)."""
    with open(PAGE) as f:
        rows = [line.split("|") for line in f if re.match(r"\| (\d|128|other)", line)]
    named = {reason for row in rows for reason in re.findall("`([a-z-]+)`", row[3])}
    want(named - SEEN == {"command-exit", "internal-error"} and SEEN <= named, f"{named ^ SEEN}")


if __name__ == "__main__":
    harness.main(__file__, [
        build, the_guest_s_own_ends, a_panic_told_either_way_ends_the_run_soon, what_is_expected, the_time_is_over,
        a_finding_that_is_fatal, no_machine, signals_end_the_run, the_present_state_on_demand,
        a_killed_run_leaves_no_result_of_an_earlier_one, the_user_quits, every_reason_of_the_page_was_seen,
    ])
