"""One running minivmm with its serial console, its guest agent and its counters."""
import json
import os
import signal
import subprocess
import tempfile
import threading
import time

from lib import netns
from lib.agent import Agent, AgentError, AgentGone, AgentTimeout
from lib.report import Failed

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MINIVMM = os.path.join(REPO, "target", "release", "minivmm")
GUEST = os.path.join(REPO, "target", "guest")
HOST_IP, GUEST_IP = "10.0.2.2", "10.0.2.15"


class Vm:
    """Starts minivmm; a context manager that never leaves a process behind.

    options: more minivmm options, in which -bios takes the kernel's place; net: the -netdev and -device options (a list); result: whether counters() and
    result() will be asked for; terminal: a descriptor that becomes minivmm's standard input, output and error; keyboard:
    whether type() will be called.
    """

    program = "minivmm"

    def __init__(self, options=(), net=None, kernel=None, log=None, result=True, terminal=None, keyboard=False):
        self.dir = tempfile.TemporaryDirectory(prefix="minivmm-")
        self.agent_path = os.path.join(self.dir.name, "agent")
        self.result_path = os.path.join(self.dir.name, "result.json") if result else None
        if net is None:
            net = ["-netdev", "tap,id=n0", "-device", "e1000,netdev=n0"]
        self.command = self._command(kernel, net, options)
        self.console = b""
        self.changed = threading.Condition()
        self.log = open(log, "wb") if log else None
        self.start = time.monotonic()
        stdin = subprocess.PIPE if keyboard else subprocess.DEVNULL
        stdin, stdout = (stdin, subprocess.PIPE) if terminal is None else (terminal, terminal)
        self.process = subprocess.Popen(
            self.command, stdin=stdin, stdout=stdout, stderr=subprocess.STDOUT, preexec_fn=netns.die_with_parent,
        )
        self.reader = threading.Thread(target=self._read if terminal is None else lambda: None, daemon=True)
        self.reader.start()
        self._agent = None

    def _command(self, kernel, net, options):
        first = [] if "-bios" in options else ["-kernel", kernel or os.path.join(GUEST, "bzImage")]
        return [
            MINIVMM, *first, *net,
            "-serial", "stdio", "-serial", f"unix:{self.agent_path},server=on,wait=off",
            *(["-result", self.result_path] if self.result_path else []), *options,
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def _read(self):
        while data := os.read(self.process.stdout.fileno(), 65536):
            with self.changed:
                self.console += data
                self.changed.notify_all()
            if self.log:
                self.log.write(data)
                self.log.flush()
        with self.changed:
            self.changed.notify_all()

    def _read_to_the_end(self):
        """Of a program that has ended; not with `changed` held, which the reader needs."""
        if not self.alive():
            self.reader.join(5)

    def elapsed(self):
        """Seconds since the process was started."""
        return time.monotonic() - self.start

    def wait_console(self, text, timeout):
        """Waits until `text` (bytes) was printed on the console; returns the seconds since the start."""
        end = time.monotonic() + timeout
        with self.changed:
            while text not in self.console and self.alive() and (left := end - time.monotonic()) > 0:
                self.changed.wait(min(left, 0.2))
        self._read_to_the_end()
        if text not in self.console:
            raise self.failure(f"{text.decode()!r} did not appear on the console")
        return self.elapsed()

    def type(self, text):
        """Types `text` (bytes) on the console."""
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def cpu_seconds(self):
        """CPU time of the whole process so far, user and system, in nanosecond steps (clock_getcpuclockid)."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def alive(self):
        return self.process.poll() is None

    def failure(self, what):
        """An error that shows the end of the console. Of a program that has ended its own last line comes first, since what
        did not happen is only what follows from that."""
        if self.alive():
            first = f"{what} ({self.program} still running)"
        else:
            self._read_to_the_end()
            lines = self.console.decode("utf-8", "replace").splitlines()
            said = next((line for line in reversed(lines) if line.startswith(f"{self.program}: ")), f"{self.program}:")
            first = f"{said} (status {self.process.returncode}; {what})"
        tail = self.console[-2500:].decode("utf-8", "replace")
        return Failed(f"{first}. Console:\n{tail}")

    def agent(self, timeout=60):
        """The guest agent, once it is ready."""
        if self._agent is None:
            end = time.monotonic() + timeout
            try:
                while not os.path.exists(self.agent_path) and self.alive() and time.monotonic() < end:
                    time.sleep(0.02)
                self._agent = Agent.connect(self.agent_path, max(0.1, end - time.monotonic()) if self.alive() else 0)
                self._agent.wait_ready(max(1, end - time.monotonic()))
            except (OSError, AgentGone, AgentTimeout) as error:
                raise self.failure(f"the guest agent did not answer: {error}") from error
        return self._agent

    def vanish(self):
        """Removes our folder while everything in it is open: from now on SIGKILL leaves nothing on the disk, and the
        agent cannot be reached a second time. Not with result=True."""
        self.dir.cleanup()

    def forget_agent(self):
        """Closes the connection; the next use connects again (after a reboot of the guest)."""
        if self._agent:
            self._agent.close()
            self._agent = None

    def run(self, command, timeout=60):
        """Runs a shell command in the guest; returns its standard output; a non-zero status fails."""
        try:
            answer = self.agent().run(command, timeout)
        except (AgentError, AgentGone, AgentTimeout) as error:
            raise self.failure(f"in the guest, {command!r}: {type(error).__name__}: {error}") from error
        if answer["status"] != 0:
            text = (answer.get("stdout", "") + answer.get("stderr", "")).strip()
            raise self.failure(f"in the guest, {command!r} ended with status {answer['status']}: {text}")
        return answer["stdout"]

    def counters(self):
        """minivmm's own view of the network right now (SIGUSR1 makes it write -result)."""
        before = self._result_stamp()
        self.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + 10
        while self._result_stamp() == before:
            if time.monotonic() > end:
                raise self.failure("no -result after SIGUSR1")
            time.sleep(0.01)
        with open(self.result_path) as f:
            return json.load(f)

    def result(self):
        """What -result says, as it was written last: after the end, of the whole run."""
        with open(self.result_path) as f:
            return json.load(f)

    def _result_stamp(self):
        try:
            return os.stat(self.result_path).st_ino
        except FileNotFoundError:
            return None

    def wait_end(self, timeout):
        """Waits for the end of minivmm; returns its exit status."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.failure("minivmm did not end") from None
        self.reader.join(5)
        return status

    def kill(self):
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.reader.join(5)
        self.forget_agent()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        if self.log:
            self.log.close()
        self.dir.cleanup()
