#!/usr/bin/env python3
"""What a CI job relies on: -expect, exit statuses, -result, -on-failure, panics, and that nothing stays behind."""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import harness
from harness import netns, want

ARGS = harness.arguments(__doc__)
GUEST = os.path.join(harness.REPO, "target", "guest")
MINIVMM = os.path.join(harness.REPO, "target", "release", "minivmm")
LIMIT = 300
PANIC = "echo c > /proc/sysrq-trigger; sleep 30"


class Run:
    """One run to its end; its result and what it kept."""

    def __init__(self, folder, *options, command=None, append="", kernel="bzImage"):
        self.kept = os.path.join(folder, "kept")
        result = os.path.join(folder, "result.json")
        text = append + (f' minivmm.run="{command}"' if command else "")
        line = [MINIVMM, "-kernel", os.path.join(GUEST, kernel), *harness.accel_options(ARGS), "-no-reboot", "-timeout",
                str(LIMIT), "-result", result, "-on-failure", self.kept, "-append", text, *options]
        done = subprocess.run(line, capture_output=True, text=True, errors="replace", timeout=LIMIT + 30,
                              stdin=subprocess.DEVNULL)
        self.status, self.console, self.errors = done.returncode, done.stdout, done.stderr
        with open(result) as f:
            self.result = json.load(f)

    def ends(self, status, reason):
        told = f"status {self.status}, result {self.result['reason']}: {self.errors}{self.console[-1500:]}"
        want((self.status, self.result["status"], self.result["reason"]) == (status, status, reason), told)
        want(self.errors.strip().splitlines()[-1].startswith(f"minivmm: {reason}: ") or status == 1, told)
        want(os.path.exists(self.kept) == (status not in (0, 1)), f"kept: {os.path.exists(self.kept)}; {told}")
        return self

    def keeps(self, name):
        with open(os.path.join(self.kept, name), "rb") as f:
            return f.read()


def in_a_folder(check):
    """The check with a folder of its own, which is gone afterwards."""
    def run():
        with tempfile.TemporaryDirectory() as folder:
            check(folder)
    run.__name__ = check.__name__
    return run


@in_a_folder
def what_was_expected_ends_the_run(folder):
    run = Run(folder, "-expect", "within=200s,The network card under test is eth[0-9]", "-expect", r"# ")
    run.ends(0, "expected")
    first, second = run.result["expect"]
    want(run.result["setup_s"] <= first["seen_s"] <= second["seen_s"] <= run.result["uptime_s"], str(run.result))
    want(abs(time.time() - run.result["started_unix_s"]) < LIMIT, str(run.result))


@in_a_folder
def what_does_not_come_in_time_is_123(folder):
    run = Run(folder, "-expect", "within=1s,no such words").ends(123, "expect-failed")
    want("no such words" in run.result["message"] and run.result["expect"][0]["seen_s"] is None, str(run.result))


@in_a_folder
def a_guest_that_ends_before_is_123_or_says_why(folder):
    run = Run(folder, "-expect", "no such words", command="exit 0").ends(123, "expect-failed")
    want("command in the guest ended with status 0" in run.result["message"], str(run.result))
    Run(folder, "-expect", "no such words", command="exit 5").ends(5, "command-exit")


@in_a_folder
def a_failure_keeps_serial_output_frames_and_result(folder):
    run = Run(folder, "-netdev", "user,id=u0", "-device", "e1000,netdev=u0",
              command="ping -c 3 -W 5 10.0.2.2; echo these-$((1+1))-words; exit 4").ends(4, "command-exit")
    names = sorted(os.listdir(run.kept))
    want(names == ["command-line", "result.json", "serial0.log", "serial1.log", "trace.txt", "u0.pcapng"], str(names))
    want(b"e1000_" in run.keeps("trace.txt"), "trace.txt")
    want(run.keeps("serial0.log").decode().replace("\r\n", "\n") == run.console and b"these-2-words" in run.keeps("serial0.log"), "serial0.log")
    want(b'"run-exit"' in run.keeps("serial1.log"), "serial1.log")
    want(json.loads(run.keeps("result.json")) == run.result, "result.json")
    capture = run.keeps("u0.pcapng")
    want(capture[:4] == b"\x0a\x0d\x0d\x0a" and capture.count(b"\x08\x00\x45\x00") >= 6, f"{len(capture)} bytes captured")
    want(b"-on-failure" in run.keeps("command-line") and b"'minivmm.run=" not in run.keeps("command-line"), "command-line")


@in_a_folder
def a_success_keeps_nothing(folder):
    Run(folder, command="true").ends(0, "command-exit")
    want(sorted(os.listdir(folder)) == ["result.json"], str(os.listdir(folder)))


@in_a_folder
def a_panic_is_126_with_the_kernel_s_words(folder):
    run = Run(folder, command=PANIC).ends(126, "panic")
    want("sysrq triggered crash" in run.result["message"], str(run.result))


@in_a_folder
def a_panic_that_nobody_prints_comes_by_pvpanic(folder):
    """The kernel's own driver finds the device by ACPI; there is no console, and the guest would wait for ever."""
    run = Run(folder, "-serial", "none", command=PANIC, append="panic=0").ends(126, "panic")
    want(run.result["message"] == "guest panicked", run.result["message"])


@in_a_folder
def a_panic_without_the_device_comes_by_the_console(folder):
    blacklist = "initcall_blacklist=slab_late_init,pvpanic_mmio_driver_init,pvpanic_init"
    run = Run(folder, command=f"ls /sys/bus/platform/drivers; {PANIC}", append=f"panic=0 {blacklist}").ends(126, "panic")
    want("pvpanic" not in run.console, f"the driver is there: {run.console}")
    want("sysrq triggered crash" in run.result["message"], str(run.result))


@in_a_folder
def a_machine_that_cannot_be_set_up_says_so_in_the_result(folder):
    run = Run(folder, kernel="no-such-kernel").ends(1, "setup-error")
    want("no-such-kernel" in run.result["message"], str(run.result))


def monitors_hear_of_a_panic():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "qmp")
        line = [MINIVMM, "-kernel", os.path.join(GUEST, "bzImage"), *harness.accel_options(ARGS), "-no-reboot", "-S",
                "-serial", "null", "-qmp", f"unix:{path},server=on,wait=off", "-timeout", str(LIMIT), "-append",
                f'minivmm.run="{PANIC}"']
        with subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                while not os.path.exists(path):
                    time.sleep(0.02)
                with socket.socket(socket.AF_UNIX) as monitor:
                    monitor.settimeout(LIMIT)
                    monitor.connect(path)
                    monitor.sendall(b'{"execute": "qmp_capabilities"} {"execute": "cont"}')
                    said = [json.loads(line) for line in monitor.makefile()]
                want(process.wait(30) == 126, f"status {process.returncode}")
                events = [(event["event"], event.get("data")) for event in said if "event" in event]
                want(("GUEST_PANICKED", {"action": "poweroff"}) in events, str(events))
                want(("SHUTDOWN", {"guest": True, "reason": "guest-panic"}) in events, str(events))
            finally:
                process.kill()


class Victim:
    """A machine with everything that could stay behind, up and running."""

    def __init__(self, folder):
        self.folder = folder
        self.sockets = [os.path.join(folder, name) for name in ("console", "agent", "qmp")]
        console, agent, qmp = (f"unix:{path},server=on,wait=off" for path in self.sockets)
        self.kept = os.path.join(folder, "kept")
        self.process = subprocess.Popen(
            [MINIVMM, "-kernel", os.path.join(GUEST, "bzImage"), *harness.accel_options(ARGS), "-serial", console, "-serial",
             agent, "-qmp", qmp, "-netdev", "tap,id=n0", "-device", "e1000,netdev=n0", "-netdev",
             "user,id=n1,hostfwd=tcp:127.0.0.1:5022-:22", "-device", "e1000,netdev=n1", "-result",
             os.path.join(folder, "result.json"), "-on-failure", self.kept, "-timeout", str(LIMIT)],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not all(os.path.exists(path) for path in self.sockets) or netns.interfaces() == {"lo"}:
            want(self.process.poll() is None and time.monotonic() < end, "did not start")
            time.sleep(0.02)
        log = os.path.join(self.kept, "serial1.log")
        while not os.path.exists(log) or b'"ready"' not in open(log, "rb").read():
            want(self.process.poll() is None and time.monotonic() < end + LIMIT, "the guest did not start")
            time.sleep(0.02)

    def leaves_nothing(self):
        """No process, no interface, no port, no temporary file."""
        left = netns.interfaces() - {"lo"}
        want(not left, f"interfaces: {left}")
        with socket.create_server(("127.0.0.1", 5022)):
            pass
        children = subprocess.run(["ps", "-o", "pid,args", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        want(len(children.stdout.splitlines()) == 1, children.stdout)
        want(not glob.glob(os.path.join(self.folder, ".*")), str(os.listdir(self.folder)))


def killed_by(number, status):
    with tempfile.TemporaryDirectory() as folder:
        victim = Victim(folder)
        victim.process.send_signal(number)
        want(victim.process.wait(20) == status, f"status {victim.process.returncode}")
        victim.leaves_nothing()
        want(b'"ready"' in open(os.path.join(victim.kept, "serial1.log"), "rb").read(), "serial1.log")
        if number != signal.SIGKILL:
            want(sorted(os.listdir(folder)) == ["kept", "result.json"], str(os.listdir(folder)))
            with open(os.path.join(folder, "result.json")) as f:
                want(json.load(f)["reason"] == "signal", "result.json")
            return
        # Nobody can remove a socket's name after SIGKILL; the next machine takes it over and removes it.
        shutil.rmtree(victim.kept)
        again = Victim(folder)
        again.process.send_signal(signal.SIGTERM)
        want(again.process.wait(20) == 143, f"status {again.process.returncode}")
        again.leaves_nothing()
        want(sorted(os.listdir(folder)) == ["kept", "result.json"], str(os.listdir(folder)))


def sigterm_leaves_nothing_behind():
    killed_by(signal.SIGTERM, 143)


def sigint_leaves_nothing_behind():
    killed_by(signal.SIGINT, 130)


def sigkill_leaves_nothing_that_stands_in_the_way():
    killed_by(signal.SIGKILL, -9)


if __name__ == "__main__":
    harness.main(__file__, [
        what_was_expected_ends_the_run, what_does_not_come_in_time_is_123, a_guest_that_ends_before_is_123_or_says_why,
        a_failure_keeps_serial_output_frames_and_result, a_success_keeps_nothing, a_panic_is_126_with_the_kernel_s_words,
        a_panic_that_nobody_prints_comes_by_pvpanic, a_panic_without_the_device_comes_by_the_console,
        a_machine_that_cannot_be_set_up_says_so_in_the_result, monitors_hear_of_a_panic,
        sigterm_leaves_nothing_behind, sigint_leaves_nothing_behind, sigkill_leaves_nothing_that_stands_in_the_way,
    ])
