#!/usr/bin/env python3
"""The exact line of the README on a terminal: a shell, its keys, and the terminal as it was before."""
import os
import pty
import re
import select
import signal
import termios
import time

import harness
from harness import want

ARGS = harness.arguments(__doc__)
LIMIT = 300


class Terminal:
    """minivmm on a pseudo-terminal, as a person starts it."""

    def __init__(self, *options):
        self.before = None
        self.output = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(harness.REPO)
            line = ["minivmm", "--kernel", "target/guest/bzImage", "-netdev", "tap,id=n0", "-device",
                    "e1000,netdev=n0", *options]
            os.execv("target/release/minivmm", line)
        self.before = termios.tcgetattr(self.fd)

    def read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if ready:
            try:
                self.output += os.read(self.fd, 65536)
            except OSError:  # EIO: the other side is closed
                return False
        return True

    def wait(self, pattern, seconds=LIMIT):
        """Until the output since the last `send` has this. No pattern of a prompt may ask for the output's end: the
        kernel writes there, too."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.output):
            want(time.monotonic() < end and self.read(1), f"{pattern!r} did not come:\n{self.output[-2000:].decode(errors='replace')}")

    def send(self, data):
        self.output = b""
        os.write(self.fd, data)

    def end(self, seconds=30):
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.after = termios.tcgetattr(self.fd)
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise harness.Failed(f"did not end:\n{self.output[-2000:].decode(errors='replace')}")
            self.read(0.05)


def the_exact_line_reaches_the_shell_and_ctrl_a_x_quits():
    term = Terminal(*harness.accel_options(ARGS))
    term.wait(rb"/ # ")
    term.send(b"echo sh$((40+2))ell\r")
    term.wait(rb"sh42ell", 30)
    term.send(b"\x01h")
    term.wait(rb"Ctrl-A x", 5)
    # Ctrl-C must find sleep in the foreground: before that the shell's line editor would eat it.
    term.send(b"sleep 100\r")
    term.wait(rb"sleep 100\s", 30)
    time.sleep(1)
    term.send(b"\x03")
    term.wait(rb"# ", 30)
    term.send(b"echo int$((1+1))errupted\r")
    term.wait(rb"int2errupted", 30)
    term.send(b"\x01x")
    want(term.end() == 0, "status is not 0")
    want(term.after == term.before, "the terminal is not as it was")


def sigterm_restores_the_terminal():
    term = Terminal(*harness.accel_options(ARGS))
    term.wait(rb"Linux version|\[ +0\.|minivmm", 60)
    time.sleep(0.3)
    os.kill(term.pid, signal.SIGTERM)
    want(term.end() == 143, "status is not 143")
    want(term.after == term.before, "the terminal is not as it was")


def a_command_in_the_guest_gives_its_status():
    term = Terminal(*harness.accel_options(ARGS), "-append", 'minivmm.run="echo from-$((1+1))-guest; exit 7"')
    term.wait(rb"from-2-guest")
    want(term.end(60) == 7, "status is not 7")


if __name__ == "__main__":
    harness.main(__file__, [
        the_exact_line_reaches_the_shell_and_ctrl_a_x_quits, sigterm_restores_the_terminal,
        a_command_in_the_guest_gives_its_status,
    ])
