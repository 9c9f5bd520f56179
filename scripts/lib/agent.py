"""Host side of the guest's agent: JSON lines over the guest's second serial port.

    agent = Agent.connect("/tmp/agent.sock")      # -serial unix:/tmp/agent.sock,server=on,wait=off
    agent.wait_ready(60)
    print(agent.run("ethtool -i eth0")["stdout"])

Used by the scripts and tests of this project. One thread at a time. It never starts or ends a machine.
The protocol is described in docs/guest.md.
"""

import base64
import itertools
import json
import os
import select
import socket
import time

# Bytes of a file in one request. The guest's tty buffers 64 KiB of a line that the agent has not read yet.
CHUNK = 32 * 1024


class AgentError(Exception):
    """The agent answered with an error."""


class AgentTimeout(Exception):
    """No answer in time."""


class AgentGone(Exception):
    """The serial port was closed: the machine is gone."""


class Agent:
    def __init__(self, fd):
        """`fd`: an open, connected byte stream (socket, pty); closed by close()."""
        self._fd = fd
        self._buffer = b""
        self._ids = itertools.count(1)
        self.events = []  # seen and not yet taken by wait_event()

    @classmethod
    def connect(cls, path, timeout=10):
        """Connects to a unix socket, which may appear only within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(path)
                return cls(sock.detach())
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
                if time.monotonic() > deadline:
                    raise AgentTimeout(f"nobody listens on {path}") from None
                time.sleep(0.02)

    def close(self):
        os.close(self._fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- lines ---------------------------------------------------------------------------------------------------

    def _read_line(self, deadline):
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._fd], [], [], left)[0]:
                raise AgentTimeout("no answer from the agent in time")
            try:
                got = os.read(self._fd, 65536)
            except (ConnectionResetError, OSError) as error:
                raise AgentGone(f"the agent's port: {error}") from None
            if not got:
                raise AgentGone("the agent's port was closed")
            self._buffer += got
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _read_object(self, deadline):
        """The next JSON object; anything else (noise of a port that is just being opened) is passed over."""
        while True:
            try:
                value = json.loads(self._read_line(deadline))
            except ValueError:
                continue
            if isinstance(value, dict):
                return value

    def _send(self, request):
        data = memoryview(json.dumps(request).encode() + b"\n")
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except (BrokenPipeError, ConnectionResetError) as error:
                raise AgentGone(f"the agent's port: {error}") from None

    # --- requests ------------------------------------------------------------------------------------------------

    def wait_ready(self, timeout):
        """Returns once the agent answers, be it that its first words were missed. Raises AgentTimeout."""
        deadline = time.monotonic() + timeout
        while True:
            # The line end ends whatever an earlier client, or a half-open port, left behind.
            os.write(self._fd, b"\n")
            try:
                self.call("ping", min(1.0, max(0.0, deadline - time.monotonic())))
                return
            except AgentTimeout:
                if self.events and any(event.get("event") == "ready" for event in self.events):
                    return
                if time.monotonic() >= deadline:
                    raise

    def wait_event(self, name, timeout):
        """The next event of this name, for example run-exit."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            self._take(self._read_object(deadline), None)

    def _take(self, value, wanted):
        """True when `value` is the answer to `wanted`; events are kept, answers that nobody waits for dropped.

        A request that reaches the port just before the agent has made it raw comes back as an echo: no answer.
        """
        if "event" in value:
            self.events.append(value)
        return wanted is not None and value.get("id") == wanted and "op" not in value

    def call(self, op, timeout=30, **args):
        """One request; returns the answer, raises AgentError when it is an error."""
        number = next(self._ids)
        deadline = time.monotonic() + timeout
        self._send({"id": number, "op": op, **args})
        while True:
            answer = self._read_object(deadline)
            if self._take(answer, number):
                if "error" in answer:
                    raise AgentError(answer["error"])
                return answer

    def run(self, command, timeout=60, stdin=None):
        """Runs a shell text (str) or an argument vector (list) in the guest; the answer has status, stdout, stderr.

        The guest ends the command after `timeout` seconds; the answer then has timed_out. Output that is not UTF-8
        comes as bytes.
        """
        args = {"shell": command} if isinstance(command, str) else {"argv": list(command)}
        if stdin is not None:
            args["stdin"] = base64.b64encode(stdin).decode()
        answer = self.call("run", timeout + 10, timeout_ms=int(timeout * 1000), **args)
        if answer.get("encoding") == "base64":
            for name in ("stdout", "stderr"):
                answer[name] = base64.b64decode(answer[name])
        return answer

    def put(self, path, data, mode=0o644, timeout=60):
        """Writes a file in the guest, in pieces."""
        for start in range(0, max(len(data), 1), CHUNK):
            piece = base64.b64encode(data[start : start + CHUNK]).decode()
            self.call("put", timeout, path=path, mode=mode, data=piece, append=start > 0)

    def get(self, path, timeout=60):
        """The bytes of a file in the guest."""
        data = b""
        while True:
            answer = self.call("get", timeout, path=path, offset=len(data))
            data += base64.b64decode(answer["data"])
            if answer["eof"]:
                return data
