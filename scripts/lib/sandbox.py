"""A guest with a driver of one's own in it: loading, replacing, and starting again when nothing else helps.

Used by scripts/sandbox and the lab's test. Talks to the guest by its agent alone, so that the driver cannot cut it off.
"""
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile

from lib.agent import AgentError, AgentGone, AgentTimeout
from lib.report import Failed
from lib.vm import REPO

# Leaves the kernel's own e1000 out; later words of the same parameter would replace these, so they are all here.
WITHOUT_E1000 = "initcall_blacklist=slab_late_init,irq_sysfs_init,param_sysfs_builtin_init,e1000_init_module"
FOLDER = "/lib/modules"
# A module is loaded or unloaded within milliseconds, or never.
LOAD_S = 20


class Source:
    """Where a driver comes from: a directory that is built, or a finished module."""

    def __init__(self, path, make=()):
        self.path, self.make = os.path.realpath(path), list(make)
        if not os.path.exists(self.path):
            raise Failed(f"{path}: there is no such file or directory")

    def build(self):
        """The modules, built if this is a directory. Raises Failed with the compiler's words."""
        if not os.path.isdir(self.path):
            check_module(self.path)
            return [self.path]
        done = subprocess.run([os.path.join(REPO, "scripts", "build-driver"), self.path, *self.make], capture_output=True, text=True)
        if done.returncode:
            telling = re.compile(r"\berror\b|^build-(driver|guest):")
            words = [line for line in (done.stdout + done.stderr).splitlines() if telling.search(line)]
            raise Failed("\n".join(words) or done.stderr)
        # make's own lines name them too, behind other words.
        return [line for line in done.stdout.splitlines() if line.startswith(self.path) and line.endswith(".ko")]


def check_module(path):
    """Refuses what no kernel would take, before a machine is started for it."""
    with open(path, "rb") as f:
        if f.read(4) != b"\x7fELF":
            raise Failed(f"{path} is no kernel module; --driver wants a directory with a Kbuild, or a .ko file")


def choose(modules, name):
    """The one module that is to be loaded."""
    found = [path for path in modules if name in (None, module_name(path))]
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(module_name(path) for path in modules))
    raise Failed(f"which module? --module NAME, one of: {names}" if name is None else f"there is no module {name}, only: {names}")


def module_name(path):
    return os.path.basename(path).removesuffix(".ko").replace("-", "_")


def stripped(path):
    """The module without debug information: it goes over a serial port."""
    strip = shutil.which("strip")
    if not strip:
        with open(path, "rb") as f:
            return f.read()
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run([strip, "--strip-debug", "-o", out.name, path], check=True)
        with open(out.name, "rb") as f:
            return f.read()


class Lines:
    """Where in the driver's source an address of the guest lies, once the module is loaded."""

    def __init__(self, source, module):
        """source: the folder that the driver's files are in."""
        self.source, self.module = os.path.realpath(source), module
        self.sections = []  # start, end, name

    def find_sections(self, agent):
        """Asks the guest where it has put the module's code."""
        status, words = quick(agent, f"cd /sys/module/{module_name(self.module)}/sections && grep -H . .text*")
        tools = shutil.which("addr2line") and shutil.which("readelf")
        if status or not tools:
            return
        headers = subprocess.run(["readelf", "-SW", self.module], capture_output=True, text=True).stdout
        sizes = {name: int(size, 16) for name, size in re.findall(r"\] (\S+) +PROGBITS +\S+ +\S+ +(\S+)", headers)}
        for name, start in re.findall(r"^(\S+):0x(\S+)$", words, re.M):
            self.sections.append((int(start, 16), int(start, 16) + sizes.get(name, 0), name))

    def describe(self, address):
        """`function, file:line`, with what it was inlined into behind it; None for what is not the module's."""
        for start, end, name in self.sections:
            if start <= address < end:
                line = ["addr2line", "-f", "-i", "-e", self.module, "-j", name, hex(address - start)]
                words = subprocess.run(line, capture_output=True, text=True).stdout.splitlines()
                return self._own(list(zip(words[::2], words[1::2])))
        return None

    def _own(self, frames):
        """The driver's own frames, innermost first: register accesses are the kernel's inline functions."""
        own = []
        for function, place in frames:
            path, _, line = place.split(" ")[0].rpartition(":")
            path = os.path.realpath(os.path.join(self.source, path))
            if path.startswith(os.path.dirname(self.source) + "/") and line.isdigit():
                own.append(f"{function}, {os.path.relpath(path, self.source)}:{line}")
        return " <- ".join(own) or None


class Monitor:
    """minivmm's QMP socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        self.file.readline()
        self._execute({"execute": "qmp_capabilities"})

    def _execute(self, command):
        self.socket.sendall(json.dumps(command).encode() + b"\n")
        while "event" in (answer := json.loads(self.file.readline() or b"{}")):
            pass
        return answer

    def tell_again(self):
        """Another driver was loaded: what the doctor found in the one before is no longer known."""
        self._execute({"execute": "human-monitor-command", "arguments": {"command-line": "e1000 tell-again"}})

    def close(self):
        self.file.close()
        self.socket.close()


class OldStays(Failed):
    """What was loaded before does not let go, or has stopped the guest: only a new start helps."""


class Broken(Failed):
    """The new module has broken the guest; `alive`: its shell still works."""

    def __init__(self, text, alive):
        super().__init__(text)
        self.alive = alive


def load(agent, path, parameters="", before=lambda: None, placed=lambda: None):
    """Puts the module in place of what was loaded and loads it; what it and the kernel said.

    before: called when the old ones are gone; placed: when the new one is in memory, before its interface comes up.
    Raises OldStays, Broken, or Failed for a module that the kernel refuses: the text says what went wrong.
    """
    name = module_name(path)
    try:
        agent.run(f"mkdir -p {FOLDER}", LOAD_S)
        agent.put(f"{FOLDER}/{name}.ko", stripped(path))
        for old in [line.split()[0] for line in quick(agent, "cat /proc/modules")[1].splitlines()]:
            remove(agent, old)
        quick(agent, "dmesg -c > /dev/null")
        before()
    except (AgentTimeout, AgentGone, AgentError) as error:
        raise OldStays(f"the guest no longer answers: {error}") from error
    try:
        status, words = quick(agent, f"insmod {FOLDER}/{name}.ko {parameters}")
        placed()
        if status == 0 and "eth0" in quick(agent, "cat /proc/net/dev")[1]:
            more = quick(agent, "net-up")
            status, words = more[0], words + more[1]
        words += quick(agent, "dmesg")[1]
    except AgentGone as error:
        raise Broken(f"{name} ended the guest", False) from error
    except (AgentTimeout, AgentError) as error:
        raise Broken(f"{name} hangs: the guest has not answered for {LOAD_S} s", False) from error
    if re.search(r"\bBUG: |\bOops: |general protection fault|divide error:", words):
        raise Broken(f"{name} broke the kernel:\n{words}", True)
    if status:
        raise Failed(f"{name} was not loaded (status {status}){advice(path, words)}:\n{words}")
    return words


def remove(agent, name):
    try:
        status, words = quick(agent, f"rmmod {name}")
    except AgentTimeout:
        raise OldStays(f"{name} cannot be removed: rmmod does not end") from None
    if status:
        raise OldStays(f"{name} cannot be removed: {words.strip()}")


def advice(path, words):
    """What to do about a refusal, where that is known."""
    if "version magic" in words or "invalid module format" in words.lower() or "disagrees about" in words:
        return f": {path} was built for another kernel; build it by scripts/build-driver DIR, or give its folder to --driver"
    if "Unknown symbol" in words:
        return ": it needs what the guest's kernel has not (guest/kernel.config)"
    return ""


def quick(agent, command):
    """Status and output of a command that takes no time. Raises AgentTimeout when it does not end."""
    answer = agent.run(command, LOAD_S)
    if answer.get("timed_out"):
        raise AgentTimeout(f"{command!r} does not end")
    return answer["status"], str(answer["stdout"]) + str(answer["stderr"])
