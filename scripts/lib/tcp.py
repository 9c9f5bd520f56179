"""Bulk data over TCP between the host's end of the cable and the guest, compared by SHA-256.

host: the address that the guest connects to; listen: where that is on the host, if it is not the same.
"""
import hashlib
import socket
import threading

from lib.report import Failed

HOST = "10.0.2.2"
PORT = 5003


def to_guest(vm, data, path="/tmp/in", timeout=120, host=HOST, listen=None):
    """Sends `data` to a file in the guest; fails unless it arrived as it was."""
    _served(vm, f"nc {host} {PORT} > {path} < /dev/null", data, timeout, listen or host)
    got = vm.agent().call("sha256", timeout, path=path)
    if got["sha256"] != hashlib.sha256(data).hexdigest():
        raise Failed(f"{got['size']} of {len(data)} bytes reached the guest, and their SHA-256 differs")


def from_guest(vm, path="/tmp/in", timeout=120, host=HOST, listen=None):
    """The bytes of a file in the guest, by way of the network; its SHA-256 was compared."""
    want = vm.agent().call("sha256", timeout, path=path)
    data = _served(vm, f"nc {host} {PORT} < {path}", None, timeout, listen or host)
    if hashlib.sha256(data).hexdigest() != want["sha256"]:
        raise Failed(f"{len(data)} of {want['size']} bytes came from the guest, and their SHA-256 differs")
    return data


def both_ways(vm, data, timeout=120, host=HOST, path="/tmp/in"):
    """To the guest and back. What comes back is compared here, which spares the guest two sums over all of it."""
    _served(vm, f"nc {host} {PORT} > {path} < /dev/null", data, timeout, host)
    back = _served(vm, f"nc {host} {PORT} < {path}", None, timeout, host)
    if hashlib.sha256(back).digest() == hashlib.sha256(data).digest():
        return
    got = vm.agent().call("sha256", timeout, path=path)
    way = "from" if got["sha256"] == hashlib.sha256(data).hexdigest() else "to"
    raise Failed(f"on the way {way} the guest: {got['size']} of {len(data)} bytes are there, {len(back)} came back")


def _served(vm, command, data, timeout, listen):
    """Listens, runs `command` in the guest, sends `data` (None: receives only) to who connects; what came back."""
    received = []

    def body():
        connection, _ = server.accept()
        with connection:
            connection.settimeout(timeout)
            if data is not None:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 18):
                received.append(part)

    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.create_server((listen, PORT), family=family) as server:
        server.settimeout(timeout)
        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        vm.run(command, timeout)
        thread.join(timeout)
    return b"".join(received)
