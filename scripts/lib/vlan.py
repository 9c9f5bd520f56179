"""A neighbour behind a VLAN tag: answers ARP and ping on tagged frames, without help from the host's kernel."""
import socket
import struct
import threading

from lib import frames

SOL_PACKET, PACKET_AUXDATA, TAG_IS_VALID = 263, 8, 0x10
ETH_P_ALL = 3


class Neighbour:
    """A context manager: while it lives, `address` answers on VLAN `vid`; `tags` are those that frames came with."""

    def __init__(self, vid, address, mac=frames.OURS):
        self.vid, self.address, self.mac = vid, socket.inet_aton(address), mac
        self.tags = []
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        # The host's kernel takes the tag out of a received frame and tells it aside.
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.bind((frames.tap(), ETH_P_ALL))
        self.socket.settimeout(0.1)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.socket.close()

    def _serve(self):
        while not self.ended.is_set():
            try:
                data, aside, _, where = self.socket.recvmsg(65536, 256)
            except TimeoutError:
                continue
            if where[2] == socket.PACKET_OUTGOING:
                continue
            tag = next((self._tag_of(value) for _, kind, value in aside if kind == PACKET_AUXDATA), None)
            if tag is None and data[12:14] == b"\x81\x00":
                tag, data = struct.unpack("!H", data[14:16])[0], data[:12] + data[16:]
            if tag is None:
                continue
            self.tags.append(tag)
            if tag & 0xFFF == self.vid:
                self._answer(data)

    @staticmethod
    def _tag_of(value):
        status, _, _, _, _, tag, _ = struct.unpack("=IIIHHHH", value[:20])
        return tag if status & TAG_IS_VALID else None

    def _answer(self, data):
        kind, body = data[12:14], data[14:]
        if kind == b"\x08\x06" and body[6:8] == b"\0\1" and body[24:28] == self.address:
            reply = body[:6] + b"\0\2" + self.mac + self.address + body[8:18]
        elif kind == b"\x08\0" and body[9] == 1 and body[16:20] == self.address and body[20] == 8:
            echo = b"\0\0\0\0" + body[24 : struct.unpack("!H", body[2:4])[0]]
            echo = echo[:2] + struct.pack("!H", frames.internet_sum(echo)) + echo[4:]
            source, destination = socket.inet_ntoa(self.address), socket.inet_ntoa(body[12:16])
            reply = frames.ipv4(1, echo, source, destination)
        else:
            return
        frame = data[6:12] + self.mac + b"\x81\0" + struct.pack("!H", self.vid) + kind + reply
        self.socket.send(frame.ljust(64, b"\0"))
