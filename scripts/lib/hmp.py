"""The human monitor of minivmm, on a Unix socket."""
import socket
import time

from lib.report import Failed

PROMPT = b"(minivmm) "


class Hmp:
    """The human monitor on its socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        end = time.monotonic() + 10
        while self.socket.connect_ex(path):
            if time.monotonic() > end:
                raise Failed(f"nobody listens on {path}")
            time.sleep(0.01)
        self._answer()

    def _answer(self):
        data = b""
        while not data.endswith(PROMPT):
            part = self.socket.recv(65536)
            if not part:
                raise Failed(f"the monitor went: {data}")
            data += part
        return data[:-len(PROMPT)].decode().replace("\r\n", "\n").strip()

    def ask(self, line):
        """What it answers to a line; lines end in \\n, the echo of a terminal is not there."""
        self.socket.sendall(line.encode() + b"\n")
        return self._answer()
