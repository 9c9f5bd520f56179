#!/usr/bin/env python3
"""Filters in the cable of a running guest: captures against a raw socket on the tap, SIGKILL, replay, buffer, mirror,
redirector."""
import os
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import harness
from harness import want
from lib.icmp import Pinger
from lib.vm import GUEST_IP, Vm

ARGS = harness.arguments(__doc__)
TAP = "tap-filters"
NETDEV = f"tap,id=n0,ifname={TAP},address=10.0.2.2/24"
FOLDER = tempfile.TemporaryDirectory(prefix="minivmm-filters-")
TO_GUEST, FROM_GUEST = "to guest", "from guest"


def file(name):
    return os.path.join(FOLDER.name, name)


def machine(*options, netdev=NETDEV):
    objects = [word for text in options for word in ("-object", text)]
    return Vm([*harness.accel_options(ARGS), *objects], ["-netdev", netdev, "-device", "e1000,netdev=n0"])


class RawSocket:
    """Every frame that crosses the tap, as the host's kernel sees it: [(direction, bytes)]."""

    def __init__(self):
        self.frames, self.end = [], False
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE: nothing is lost
        self.socket.bind((TAP, 3))
        self.socket.settimeout(0.1)
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        while True:
            try:
                data, (_, _, kind, _, _) = self.socket.recvfrom(1 << 17)
            except TimeoutError:
                if self.end:
                    return
                continue
            except OSError:  # the tap went; what it brought is still queued
                continue
            self.frames.append((TO_GUEST if kind == socket.PACKET_OUTGOING else FROM_GUEST, data))

    def stop(self):
        self.end = True
        self.thread.join()
        self.socket.close()
        return self.frames


def read_pcap(path):
    """The frames of a classic pcap file, read by hand; fails on a file that does not end with its last record."""
    with open(path, "rb") as f:
        data = f.read()
    magic, major, minor, _, _, _, link = struct.unpack_from("=IHHiIII", data)
    want((magic, major, minor, link) == (0xA1B2C3D4, 2, 4, 1), f"pcap header {data[:24].hex()}")
    at, frames = 24, []
    while at < len(data):
        _, _, kept, whole = struct.unpack_from("=IIII", data, at)
        want(kept <= whole and at + 16 + kept <= len(data), f"a record at {at} is cut")
        frames.append(data[at + 16:at + 16 + kept])
        at += 16 + kept
    return frames


def write_pcap(path, frames, microseconds):
    """Frames this far apart."""
    with open(path, "wb") as f:
        f.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65536, 1))
        for n, frame in enumerate(frames):
            f.write(struct.pack("=IIII", *divmod(n * microseconds, 1_000_000), len(frame), len(frame)) + frame)


def tshark(path, *arguments):
    done = subprocess.run(["tshark", "-n", "-r", path, *arguments], capture_output=True, text=True, timeout=60)
    warnings = [x for x in done.stderr.splitlines() if "Running as user" not in x]
    want(done.returncode == 0 and not warnings, f"tshark: {done.stderr}")
    return done.stdout.splitlines()


def connect(port):
    """To a server that is about to listen."""
    end = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection((GUEST_IP, port), timeout=30)
        except ConnectionRefusedError:
            want(time.monotonic() < end, f"nobody listens on port {port}")
            time.sleep(0.1)


def transfer(vm, megabytes):
    """TCP both ways, each end counting."""
    size = megabytes << 20
    vm.run(f"head -c {size} /dev/zero > /tmp/data; nc -l -p 7 | wc -c > /tmp/n & nc -l -p 8 < /tmp/data & echo")
    with connect(7) as s:
        s.sendall(bytes(size))
        s.shutdown(socket.SHUT_WR)
    with connect(8) as s:
        got = 0
        while data := s.recv(1 << 20):
            got += len(data)
    want(got == size, f"{got} of {size} bytes came")
    end = time.monotonic() + 10
    while vm.run("cat /tmp/n").strip() != str(size):
        want(time.monotonic() < end, "the guest did not get everything")
        time.sleep(0.1)


def captures_equal_a_raw_socket_on_the_tap():
    with machine(f"filter-dump,id=a,netdev=n0,file={file('all')}", f"filter-dump,id=n,netdev=n0,file={file('ng')},format=pcapng",
                 f"filter-dump,id=r,netdev=n0,queue=rx,file={file('rx')}", netdev=NETDEV + ",vnet_hdr=off") as vm:
        vm.agent()
        subprocess.run(["ip", "link", "set", TAP, "promisc", "on"], check=True)
        raw = RawSocket()
        skip = {name: len(read_pcap(file(name))) for name in ("all", "rx")}
        pinger = Pinger(GUEST_IP)
        pinger.count(20, 0.01, 5)
        pinger.close()
        transfer(vm, 2)
        # In order: no frame is lost between a capture and the tap.
        vm.process.terminate()
        vm.wait_end(20)
        seen = raw.stop()
        frames = {name: read_pcap(file(name))[skip[name]:] for name in ("all", "rx")}
        # The device's order within a direction is kept; the two directions meet in the host at different points.
        for direction in (TO_GUEST, FROM_GUEST):
            here = [data for way, data in seen if way == direction]
            outgoing = set(here)
            there = [data for data in frames["all"] if data in outgoing]
            want(len(here) > 100, f"only {len(here)} frames {direction}")
            want(there == here, f"{direction}: {len(there)} captured, {len(here)} on the tap")
        want(len(frames["all"]) == len(seen), f"{len(frames['all'])} captured, {len(seen)} on the tap")
        want(frames["rx"] == [data for way, data in seen if way == FROM_GUEST], "queue=rx differs")
        ng = tshark(file("ng"), "-T", "fields", "-e", "frame.packet_flags_direction", "-e", "frame.len")
        want(len(ng) == len(read_pcap(file("all"))), f"{len(ng)} frames in the pcapng")
        inbound = sum(int(line.split("\t")[0], 0) == 1 for line in ng)
        outbound = sum(int(line.split("\t")[0], 0) == 2 for line in ng)
        want(outbound == len(read_pcap(file("rx"))) and inbound + outbound == len(ng), f"{inbound} in, {outbound} out")
        want(len(tshark(file("all"))) == len(ng), "tshark reads the pcap otherwise")


def offloaded_frames_are_captured_as_wire_frames():
    with machine(f"filter-dump,id=a,netdev=n0,file={file('gso')}") as vm:
        vm.agent()
        transfer(vm, 4)
        bad = tshark(file("gso"), "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
                     "-Y", "tcp.checksum.status == 0 || ip.checksum.status == 0")
        want(not bad, f"{len(bad)} wrong checksums, such as {bad[:2]}")
        longest = max(map(len, read_pcap(file("gso"))))
        want(longest == 1514, f"the longest frame has {longest} bytes")


def a_kill_in_full_traffic_leaves_whole_files():
    for name, options, ok in (("k1", "", read_pcap), ("k2", ",format=pcapng", tshark)):
        with machine(f"filter-dump,id=a,netdev=n0,file={file(name)}{options}") as vm:
            vm.run("nc -l -p 7 > /dev/null & echo")
            with connect(7) as s:
                while os.path.getsize(file(name)) < 1 << 20:
                    s.sendall(bytes(1 << 16))
                vm.process.send_signal(signal.SIGKILL)
            vm.process.wait()
        want(len(ok(file(name))) > 100, "hardly a frame was captured")


def arp_request(n):
    """Who has the guest's address? asked by 10.0.2.(100+n)."""
    mac = bytes([2, 0, 0, 0, 1, n])
    head = b"\xff" * 6 + mac + struct.pack(">HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1)
    body = mac + bytes([10, 0, 2, 100 + n]) + bytes(6) + socket.inet_aton(GUEST_IP)
    return (head + body).ljust(60, b"\0")


def a_replayed_capture_reaches_the_guest():
    # Again and again for five seconds: a driver listens before its interface has the address.
    write_pcap(file("in"), [arp_request(n % 10) for n in range(500)], 10_000)
    with machine(f"filter-replay,id=p,netdev=n0,file={file('in')}",
                 f"filter-dump,id=a,netdev=n0,file={file('out')}") as vm:
        vm.agent()
        end = time.monotonic() + 20
        answered = set()
        while len(answered) < 10:
            want(time.monotonic() < end, f"answers to {sorted(answered)} only")
            replies = [f for f in read_pcap(file("out")) if f[12:14] == b"\x08\x06" and f[21] == 2]
            answered = {f[5] for f in replies if f[:5] == bytes([2, 0, 0, 0, 1])}
            time.sleep(0.1)
        vm.wait_console(b"the end: 500 frames sent", 20)


def a_buffer_delays_and_loses_nothing():
    with machine("filter-buffer,id=b,netdev=n0,queue=tx,interval=40000") as vm:
        vm.agent()
        pinger = Pinger(GUEST_IP)
        pinger.count(50, 0.01, 5)
        pinger.close()
        want(len(pinger.rtts) == 50, f"{len(pinger.rtts)} of 50 pings answered")
        want(max(pinger.rtts.values()) > 0.02, "no ping waited")
        transfer(vm, 1)


class Chardev:
    """The other end of a `-chardev socket`: frames with their length before them, as QEMU's."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        end = time.monotonic() + 20
        while True:
            try:
                self.socket.connect(path)
                return
            except (FileNotFoundError, ConnectionRefusedError):
                want(time.monotonic() < end, f"nobody listens at {path}")
                time.sleep(0.01)

    def send(self, frame):
        self.socket.sendall(struct.pack(">I", len(frame)) + frame)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            want(piece, "the connection ended")
            data += piece
        return data

    def receive(self):
        return self._exactly(struct.unpack(">I", self._exactly(4))[0])

    def wait_for(self, fits):
        """The next frame for which `fits` holds."""
        end = time.monotonic() + 20
        while not fits(frame := self.receive()):
            want(time.monotonic() < end, "the frame did not come")
        return frame


def is_arp_reply_to(n):
    """To the sender of arp_request(n)."""
    return lambda f: f[12:14] == b"\x08\x06" and f[21] == 2 and f[:6] == bytes([2, 0, 0, 0, 1, n])


def a_mirror_copies_and_a_redirector_brings_in_as_qemu_s():
    words = ["-chardev", f"socket,id=copy,path={file('copy')},server=on,wait=on",
             "-chardev", f"socket,id=in,path={file('in-socket')},server=on,wait=off",
             "-object", "filter-mirror,id=m,netdev=n0,queue=rx,outdev=copy",
             "-object", "filter-redirector,id=r,netdev=n0,queue=tx,indev=in"]
    with Vm([*harness.accel_options(ARGS), *words], ["-netdev", NETDEV, "-device", "e1000,netdev=n0"]) as vm:
        vm.wait_console(b"chardev copy: waiting for a connection", 60)
        time.sleep(0.3)
        want(b"Linux" not in vm.console and not os.path.exists(file("in-socket")), "wait=on did not wait")
        copies, entry = Chardev(file("copy")), Chardev(file("in-socket"))
        vm.agent()
        # The copy of what the guest sends, and what it sends is still on the tap.
        pinger = Pinger(GUEST_IP)
        pinger.count(5, 0.01, 5)
        pinger.close()
        want(len(pinger.rtts) == 5, f"{len(pinger.rtts)} of 5 pings answered")
        for _ in range(5):
            copies.wait_for(lambda f: f[12:14] == b"\x08\x00" and f[23] == 1 and f[34] == 0)
        # The guest answers a question that was never on the tap.
        entry.send(arp_request(3))
        copies.wait_for(is_arp_reply_to(3))
        # A TCP transfer is mirrored as wire frames.
        transfer(vm, 1)
        longest = len(copies.wait_for(lambda f: len(f) > 1000))
        want(longest <= 1514, f"a copy of {longest} bytes")


def a_redirected_cable_leads_elsewhere():
    """The guest's cable ends in a socket: nothing of it is on the tap, and what comes from there reaches the guest."""
    words = ["-netdev", f"stream,id=out,server=on,addr.type=unix,addr.path={file('away')}",
             "-object", "filter-redirector,id=r,netdev=n0,queue=rx,outdev=out",
             "-chardev", f"socket,id=in,path={file('in2')},server=on,wait=off",
             "-object", "filter-redirector,id=s,netdev=n0,queue=tx,indev=in"]
    with Vm([*harness.accel_options(ARGS), *words], ["-netdev", NETDEV, "-device", "e1000,netdev=n0"]) as vm:
        out, entry = Chardev(file("away")), Chardev(file("in2"))
        vm.agent()
        raw = RawSocket()
        entry.send(arp_request(5))
        out.wait_for(is_arp_reply_to(5))
        vm.run("ping -c 1 -W 1 10.0.2.2 || true")
        out.wait_for(lambda f: f[12:14] in (b"\x08\x00", b"\x08\x06"))
        seen = [data for way, data in raw.stop() if way == FROM_GUEST]
        want(not seen, f"{len(seen)} frames of the guest reached the tap")


harness.main(__file__, [
    captures_equal_a_raw_socket_on_the_tap,
    offloaded_frames_are_captured_as_wire_frames,
    a_kill_in_full_traffic_leaves_whole_files,
    a_replayed_capture_reaches_the_guest,
    a_buffer_delays_and_loses_nothing,
    a_mirror_copies_and_a_redirector_brings_in_as_qemu_s,
    a_redirected_cable_leads_elsewhere,
])
