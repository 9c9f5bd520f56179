"""What this host's network can do with no guest: two taps in two namespaces, and a process that carries frames.

The upper bound for anything that reads and writes a tap on this machine, measured by `scripts/bench` as the subject
`host-limit`. Big frames (64 KiB, not cut) pass as they are, so Python's share of a frame is small.
"""
import os
import select
import subprocess
import sys

from lib import netns, tap

SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FAR = "tap-far"
FAR_MAC = "02:00:00:00:00:0b"


class HostLimit:
    """Joins the tap `near` to a host with the address `far` in a namespace of its own, where `serve` runs.

    near, neighbour: name of the tap, and its address and MAC; serve: what runs in the far namespace until the end.
    """

    def __init__(self, near, neighbour, far_address, serve):
        self.children = []
        self.near, self.neighbour, self.far_address, self.serve = near, neighbour, far_address, serve

    def __enter__(self):
        far = self._start(["unshare", "--net", "sh", "-c", f"echo; read go; ip link set lo up; exec {self.serve}"])
        far.stdout.readline()
        wires = [tap.attach(self.near), tap.attach(FAR)]
        try:
            tap.ip("link", "set", FAR, "netns", str(far.pid))
            inside = ["nsenter", "--net", f"--target={far.pid}", "ip"]
            address, mac = self.neighbour
            for words in (
                ["link", "set", FAR, "address", FAR_MAC],
                ["addr", "add", self.far_address, "dev", FAR],
                ["link", "set", FAR, "up"],
                ["neigh", "replace", address, "lladdr", mac, "nud", "permanent", "dev", FAR],
            ):
                subprocess.run([*inside, *words], check=True)
            carrier = [sys.executable, "-m", "lib.host_limit", *map(str, wires)]
            self.carrier = self._start(carrier, pass_fds=wires, cwd=SCRIPTS)
        finally:
            for fd in wires:
                os.close(fd)
        far.stdin.write(b"go\n")
        far.stdin.close()
        return self

    def _start(self, command, **more):
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=netns.die_with_parent, **more
        )
        self.children.append(child)
        return child

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.wait()


def carry(wires):
    """Reads from either tap and writes to the other until killed."""
    other = {wires[0]: wires[1], wires[1]: wires[0]}
    for fd in wires:
        os.set_blocking(fd, False)
    while True:
        for fd in select.select(wires, [], [])[0]:
            for _ in range(64):
                try:
                    frame = os.read(fd, 70000)
                except BlockingIOError:
                    break
                try:
                    os.write(other[fd], frame)
                except OSError:
                    pass  # the other end does not take it (still down, full): lost, as on a wire


if __name__ == "__main__":
    carry([int(fd) for fd in sys.argv[1:]])
