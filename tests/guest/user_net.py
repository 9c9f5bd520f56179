#!/usr/bin/env python3
"""User networking under a real guest, by a user without any privilege, in a network namespace with only loopback.

The namespace is made and the files are laid out before the script becomes uid 65534; from then on it has no right to
make an interface, and the guest reaches nothing but what this process could reach.
"""
import encodings.idna  # noqa: F401  socket loads it late, when root's Python can no longer be read
import hashlib
import os
import shutil
import socket
import tempfile
import threading
import time

import harness
from harness import want

from lib import netns, tcp, vm as machines
from lib.report import Failed
from lib.vm import Vm

ARGS = harness.arguments(__doc__)
SLOW = 300
NOBODY = 65534
LOOPBACK = "127.0.0.1"
FORWARDED, RESOLVER = 5022, 5053
MEGABYTES = 50
folder = tempfile.TemporaryDirectory()
vm = None


def the_stage_is_bare_and_we_are_nobody():
    """Copies what is needed to where everybody may read it, and gives all rights away."""
    os.chmod(folder.name, 0o777)
    for name in ("target/release/minivmm", "target/guest/bzImage"):
        shutil.copy(os.path.join(harness.REPO, name), folder.name)
    machines.MINIVMM = os.path.join(folder.name, "minivmm")
    os.mkdir(os.path.join(folder.name, "tftp"), 0o755)
    with open(os.path.join(folder.name, "tftp", "file"), "wb") as f:
        f.write(os.urandom(200_001))
    with open(os.path.join(folder.name, "secret"), "w") as f:
        f.write("secret")
    os.symlink("../secret", os.path.join(folder.name, "tftp", "link"))
    try:
        for path, _, names in os.walk(folder.name):
            for name in ("", *names):
                os.chown(os.path.join(path, name), NOBODY, NOBODY, follow_symlinks=False)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    except OSError:  # a user namespace of somebody who had no rights to begin with
        pass
    want(netns.interfaces() == {"lo"}, f"there is more than loopback: {netns.interfaces()}")


def start(*keys):
    net = ["-netdev", ",".join(["user", "id=n0", *keys]), "-device", "e1000,netdev=n0"]
    return Vm([*harness.accel_options(ARGS), "-m", "512"], net, os.path.join(folder.name, "bzImage"))


def boot():
    global vm
    vm = start(
        f"hostfwd=tcp:{LOOPBACK}:{FORWARDED}-:8080", f"dns-host={LOOPBACK}:{RESOLVER}", "hostname=guest7",
        f"tftp={folder.name}/tftp", "guestfwd=tcp:10.0.2.100:7-cmd:tr a-z A-Z",
    )
    vm.agent(SLOW)
    vm.run("ip addr flush dev eth0; ip link set eth0 up")


def dhcp_gives_address_route_and_name_server():
    vm.run("udhcpc -i eth0 -n -q -t 5 -T 1", 60)
    text = vm.run("ip -4 addr show eth0; ip route; cat /etc/resolv.conf")
    for expected in ("10.0.2.15/24", "default via 10.0.2.2", "nameserver 10.0.2.3"):
        want(expected in text, f"no {expected!r} in:\n{text}")


def the_gateway_answers_ping():
    vm.run("ping -c 3 -W 5 10.0.2.2 && ping -c 1 -W 5 -s 1472 10.0.2.3")


def the_world_is_not_there():
    answer = vm.agent().run("ping -c 1 -W 2 192.0.2.1; nc -w 5 192.0.2.1 80 < /dev/null", 30)
    want(answer["status"] != 0, f"192.0.2.1 answers: {answer}")


def fifty_megabytes_pass_each_way():
    data = os.urandom(MEGABYTES << 20)
    for what, move in (
        ("to the guest", lambda: tcp.to_guest(vm, data, timeout=SLOW, listen=LOOPBACK)),
        ("to the host", lambda: tcp.from_guest(vm, timeout=SLOW, listen=LOOPBACK)),
    ):
        begin = time.monotonic()
        move()
        print(f"     {MEGABYTES} MiB {what}, with SHA-256: {time.monotonic() - begin:.1f} s")
    vm.run("rm /tmp/in")
    print("     Tcp:", vm.run("grep ^Tcp: /proc/net/snmp | tail -1").split()[11:13], "segments sent, and sent again")


def a_refused_connection_is_refused_at_once():
    begin = time.monotonic()
    answer = vm.agent().run("nc -w 20 10.0.2.2 9 < /dev/null", 30)
    want(answer["status"] != 0 and time.monotonic() - begin < 10, f"a closed port: {answer}")


def clients_of_the_host_come_in_by_the_forward():
    question, answer = os.urandom(300_000), b"answer of the guest"
    vm.agent().put("/tmp/answer", answer)
    vm.run("(nc -l -p 8080 < /tmp/answer > /tmp/question) > /dev/null 2>&1 & sleep 1")
    with socket.create_connection((LOOPBACK, FORWARDED), 30) as client:
        client.sendall(question)
        client.shutdown(socket.SHUT_WR)
        got = b""
        while part := client.recv(65536):
            got += part
    want(got == answer, f"the guest answered {got!r}")
    # The guest's end closes its own direction early; it still reads.
    vm.run("while pidof nc > /dev/null; do usleep 20000; done")
    sha = vm.agent().call("sha256", 60, path="/tmp/question")["sha256"]
    want(sha == hashlib.sha256(question).hexdigest(), "the guest read something else")


def resolve(server):
    """Answers questions until it is closed: 192.0.2.77 for an A record, nothing for others."""
    while True:
        try:
            query, client = server.recvfrom(512)
        except OSError:
            return
        end = query.index(b"\0", 12) + 5
        kind = query[end - 4:end - 2]
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x4d" if kind == b"\0\1" else b""
        head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if record else b"\0\0") + b"\0\0\0\0"
        server.sendto(head + query[12:end] + record, client)


def names_come_from_the_resolver():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((LOOPBACK, RESOLVER))
        server.settimeout(30)
        thread = threading.Thread(target=resolve, args=(server,), daemon=True)
        thread.start()
        text = vm.run("nslookup minivmm.example 10.0.2.3")
    want("192.0.2.77" in text, f"nslookup says: {text}")


def tftp_brings_files_of_its_folder_only():
    vm.run("cd /tmp && tftp -g -r file -l fetched 10.0.2.2", 60)
    with open(os.path.join(folder.name, "tftp", "file"), "rb") as f:
        expected = hashlib.sha256(f.read()).hexdigest()
    want(vm.agent().call("sha256", 60, path="/tmp/fetched")["sha256"] == expected, "TFTP brought something else")
    for name in ("../secret", "link", f"{folder.name}/secret"):
        answer = vm.agent().run(f"cd /tmp && tftp -g -r {name} -l stolen 10.0.2.2", 60)
        want(answer["status"] != 0, f"TFTP gave {name} away")


def ipv6_comes_by_router_advertisement_and_reaches_the_host():
    # boot() has taken all addresses away, the link-local one of IPv6 too.
    vm.run("cd /proc/sys/net/ipv6/conf/eth0; echo 1 > disable_ipv6; echo 0 > disable_ipv6")
    end = time.monotonic() + 60
    while " fec0:" not in (text := vm.run("ip -6 addr show eth0 scope site; ip -6 addr show eth0 scope global")) \
            or "tentative" in text:
        want(time.monotonic() < end, f"no address by router advertisement:\n{text}")
        time.sleep(0.2)
    want("default via fe80:" in vm.run("ip -6 route"), "no default route by router advertisement")
    vm.run("ping -6 -c 3 -W 5 fec0::2 && ping -6 -c 1 -W 5 -s 1452 fec0::3")
    data = os.urandom(2_000_000)
    tcp.to_guest(vm, data, timeout=SLOW, host="fec0::2", listen="::1")
    tcp.from_guest(vm, timeout=SLOW, host="fec0::2", listen="::1")


def a_guest_forward_runs_its_program():
    text = vm.run("echo hello | nc 10.0.2.100 7")
    want(text.strip() == "HELLO", f"the program said {text!r}")


def off():
    vm.run("poweroff", 60)
    want(vm.wait_end(60) == 0, f"minivmm ended with {vm.process.returncode}")
    vm.kill()


def without_any_network_option_the_guest_has_this_network():
    with Vm(harness.accel_options(ARGS), [], os.path.join(folder.name, "bzImage")) as default:
        default.agent(SLOW)
        default.run("ping -c 1 -W 5 10.0.2.2")


def a_restricted_guest_reaches_nothing():
    with start("restrict=on") as restricted, socket.create_server((LOOPBACK, 5004)) as server:
        restricted.agent(SLOW)
        restricted.run("ping -c 1 -W 5 10.0.2.2")
        answer = restricted.agent().run("nc -w 3 10.0.2.2 5004 < /dev/null", 30)
        server.settimeout(0.2)
        try:
            server.accept()
        except TimeoutError:
            want(answer["status"] != 0, "the guest thinks that it is connected")
            return
        raise Failed("a restricted guest reached the host")


if __name__ == "__main__":
    harness.main(__file__, [
        the_stage_is_bare_and_we_are_nobody, boot, dhcp_gives_address_route_and_name_server, the_gateway_answers_ping,
        the_world_is_not_there, fifty_megabytes_pass_each_way, a_refused_connection_is_refused_at_once,
        clients_of_the_host_come_in_by_the_forward, names_come_from_the_resolver,
        tftp_brings_files_of_its_folder_only, ipv6_comes_by_router_advertisement_and_reaches_the_host,
        a_guest_forward_runs_its_program, off,
        without_any_network_option_the_guest_has_this_network, a_restricted_guest_reaches_nothing,
    ])
