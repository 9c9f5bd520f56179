#!/usr/bin/env python3
"""What a machine leaves behind that is ended by a signal, in each of its phases: no process, tap, port, socket's name,
temporary file or changed terminal. After SIGKILL names may stay; the next machine with the same options takes them over.
"""
import os
import pty
import signal
import socket
import subprocess
import tempfile
import termios
import time

import harness
from harness import netns, want

ARGS = harness.arguments(__doc__)
MINIVMM = os.path.join(harness.REPO, "target", "release", "minivmm")
HERE = tempfile.TemporaryDirectory()
KERNEL = os.path.join(HERE.name, "endings")
LIMIT = 120
PORT = 5023
# SIGKILL can be followed by nothing of ours; the others end in order.
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}
NAMES = ["serial", "qmp", "monitor", "gdb", "stream", "dgram", "forward", "mirror"]


class Victim:
    """A machine with everything that could stay behind, on a terminal of its own."""

    def __init__(self, folder, letter, *options):
        self.folder = folder
        at = {name: os.path.join(folder, name) for name in NAMES}
        self.server = {name: f"unix:{at[name]},server=on,wait=off" for name in NAMES}
        self.ours, theirs = pty.openpty()
        self.theirs = theirs
        self.before = termios.tcgetattr(theirs)
        serial = f"unix:{at['serial']},server=on,wait=on" if "waits" in options else self.server["serial"]
        line = [MINIVMM, "-kernel", KERNEL, "-append", letter, "-m", "16", *harness.accel_options(ARGS), "-timeout", str(LIMIT),
                "-serial", "stdio", "-serial", serial, "-qmp", self.server["qmp"], "-monitor", self.server["monitor"],
                "-gdb", self.server["gdb"],
                "-netdev", "tap,id=n0", "-device", "e1000,netdev=n0",
                "-netdev", f"user,id=n1,hostfwd=tcp:127.0.0.1:{PORT}-:22,hostfwd=unix:{at['forward']}-:23",
                "-device", "e1000,netdev=n1",
                "-netdev", f"stream,id=n2,server=on,addr.type=unix,addr.path={at['stream']}", "-device", "e1000,netdev=n2",
                "-netdev", f"dgram,id=n3,local.type=unix,local.path={at['dgram']},remote.type=unix,remote.path={at['dgram']}.to",
                "-device", "e1000,netdev=n3",
                "-chardev", f"socket,id=c0,path={at['mirror']},server=on,wait=off",
                "-object", "filter-mirror,id=m0,netdev=n0,outdev=c0",
                "-result", os.path.join(folder, "result.json"), "-on-failure", os.path.join(folder, "kept"),
                *(option for option in options if option != "waits")]
        self.process = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, start_new_session=True,
                                        env={**os.environ, "TMPDIR": folder})

    def until(self, what, done):
        end = time.monotonic() + LIMIT
        while not done():
            if self.process.poll() is not None:
                raise harness.Failed(f"{what}: ended with {self.process.returncode}: {self.errors()}")
            want(time.monotonic() < end, f"{what} did not come")
            time.sleep(0.01)

    def errors(self):
        return self.process.stderr.read().decode(errors="replace")

    def bound(self):
        return {name for name in NAMES if os.path.exists(os.path.join(self.folder, name))}

    def connects(self, name):
        """A connection to this socket; None as long as nobody listens, be it that a name of a killed machine's is there."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT)
        try:
            client.connect(os.path.join(self.folder, name))
            return client
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            return None

    def answers_soon(self):
        """Waits until everything is set up: -gdb's is the last of the names."""
        self.until("gdb", lambda: (client := self.connects("gdb")) and not client.close())
        want(self.bound() == set(NAMES), f"names: {self.bound()}")

    def says(self, words):
        """Waits for words on the terminal."""
        said = b""
        while words not in said:
            said += os.read(self.ours, 4096)

    def killed(self, number):
        self.process.send_signal(number)
        status = self.process.wait(LIMIT)
        errors = self.errors()
        want(status == SIGNALS[number], f"status {status}: {errors}")
        self.leaves_nothing(number, errors)

    def leaves_nothing(self, number, errors):
        left = netns.interfaces() - {"lo"}
        want(not left, f"interfaces: {left}")
        with socket.create_server(("127.0.0.1", PORT)):
            pass
        session = subprocess.run(["ps", "-o", "pid,args", "-s", str(self.process.pid)], capture_output=True, text=True)
        want(len(session.stdout.splitlines()) == 1, session.stdout)
        after = termios.tcgetattr(self.theirs)
        os.close(self.ours)
        os.close(self.theirs)
        files = set(os.listdir(self.folder)) - {"kept"}
        if number == signal.SIGKILL:
            want(files <= set(NAMES), f"files: {files}")
            return
        want(after == self.before, "the terminal is not as it was")
        want(files == {"result.json"}, f"files: {files}")
        with open(os.path.join(self.folder, "result.json")) as f:
            want('"signal"' in f.read(), "result.json")
        want(errors.strip().splitlines()[-1] == f"minivmm: signal: ended by signal {int(number)}", errors)


def in_phase(letter, *options, reached):
    """Ends a machine in this phase by each signal; after SIGKILL another one in the same place, in order."""
    for number in SIGNALS:
        with tempfile.TemporaryDirectory(dir=HERE.name) as folder:
            for last in [number] if number != signal.SIGKILL else [number, signal.SIGTERM]:
                victim = Victim(folder, letter, *options)
                try:
                    reached(victim)
                    victim.killed(last)
                finally:
                    victim.process.kill()


def build():
    harness.build_endings(KERNEL)


def waits_for_a_client(victim):
    """The first connection would end the wait, so nobody may knock: what listens is in /proc/net/unix."""
    path = os.path.join(victim.folder, "serial")

    def listens():
        with open("/proc/net/unix") as f:
            return any(line.split()[3] == "00010000" and line.rstrip().endswith(path) for line in f.readlines()[1:])
    victim.until("the serial port", listens)


def while_it_waits_for_a_client_in_its_set_up():
    in_phase("w", "waits", reached=waits_for_a_client)


def while_it_stands_before_the_first_instruction():
    in_phase("w", "-S", reached=Victim.answers_soon)


def while_the_guest_runs():
    in_phase("s", reached=lambda victim: (victim.says(b"3 of 3"), victim.answers_soon()))


def while_it_resets_without_end():
    in_phase("r", reached=Victim.answers_soon)


def while_a_client_talks_to_the_monitor():
    def reached(victim):
        victim.answers_soon()
        victim.client = victim.connects("monitor")
        victim.client.sendall(b"info network\n" * 50 + b"inf")
        want(victim.client.recv(10), "no answer")
    in_phase("s", reached=reached)


if __name__ == "__main__":
    harness.main(__file__, [
        build, while_it_waits_for_a_client_in_its_set_up, while_it_stands_before_the_first_instruction, while_the_guest_runs,
        while_it_resets_without_end, while_a_client_talks_to_the_monitor,
    ])
