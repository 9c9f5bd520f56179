"""Ping without a program: ICMP echo over a raw socket (root, or root in our own user namespace)."""
import os
import socket
import struct
import time


def _checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Pinger:
    """Echo requests to one address. Each request has its own sequence number; late replies still count."""

    def __init__(self, address):
        self.address = address
        self.ident = os.getpid() & 0xFFFF
        self.seq = 0
        self.sent = {}
        self.rtts = {}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)

    def close(self):
        self.socket.close()

    def send(self):
        """Sends one request; False while there is no way to the address yet."""
        body = b"minivmm boot-and-ping !!"
        head = struct.pack("!BBHHH", 8, 0, 0, self.ident, self.seq & 0xFFFF)
        head = head[:2] + struct.pack("!H", _checksum(head + body)) + head[4:]
        # Before the call: the reply may be there before it returns, if the machine preempts us to answer.
        now = time.monotonic()
        try:
            self.socket.sendto(head + body, (self.address, 0))
        except OSError:
            return False
        self.sent[self.seq & 0xFFFF] = now
        self.seq += 1
        return True

    def receive(self, wait):
        """Collects replies for `wait` seconds or until one came; returns how many are new."""
        end = time.monotonic() + wait
        new = 0
        while not new and (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                packet, source = self.socket.recvfrom(2048)
            except (TimeoutError, OSError):
                break
            kind, _, _, ident, seq = struct.unpack_from("!BBHHH", packet, (packet[0] & 15) * 4)
            if kind == 0 and ident == self.ident and source[0] == self.address and seq in self.sent:
                if seq not in self.rtts:
                    self.rtts[seq] = time.monotonic() - self.sent[seq]
                    new += 1
        return new

    def first_reply(self, alive, interval, timeout):
        """Sends until the first reply. None when `alive()` ends or `timeout` seconds pass."""
        end = time.monotonic() + timeout
        while time.monotonic() < end and alive():
            if not self.send():
                time.sleep(0.002)
            elif self.receive(interval):
                return True
        return None

    def count(self, number, interval, wait):
        """Sends `number` requests, then waits up to `wait` seconds for the missing replies."""
        self.sent, self.rtts = {}, {}
        for _ in range(number):
            begin = time.monotonic()
            self.send()
            while (left := begin + interval - time.monotonic()) > 0:
                self.receive(left)
        end = time.monotonic() + wait
        while len(self.rtts) < number and (left := end - time.monotonic()) > 0:
            self.receive(left)
        return len(self.rtts)
