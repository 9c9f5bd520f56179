"""A guest with a driver of one's own in it: loading, replacing, and starting again when nothing else helps.

Used by scripts/sandbox and the lab's test. Talks to the guest by its agent alone, so that the driver cannot cut it off.
"""
import os
import shutil
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
            return [self.path]
        done = subprocess.run([os.path.join(REPO, "scripts", "build-driver"), self.path, *self.make], capture_output=True, text=True)
        if done.returncode:
            words = [line for line in (done.stdout + done.stderr).splitlines() if "error" in line or "build-driver:" in line]
            raise Failed("\n".join(words) or done.stderr)
        # make's own lines name them too, behind other words.
        return [line for line in done.stdout.splitlines() if line.startswith(self.path) and line.endswith(".ko")]


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


def load(agent, path, parameters=""):
    """Puts the module in place of what was loaded and loads it; what it and the kernel said.

    Raises Failed: the text says what went wrong; the guest is to be started again if `stuck` is set on it.
    """
    name = module_name(path)
    agent.run(f"mkdir -p {FOLDER}", 30)
    agent.put(f"{FOLDER}/{name}.ko", stripped(path))
    loaded = agent.run("cat /proc/modules", 30)["stdout"]
    for old in [line.split()[0] for line in loaded.splitlines()]:
        if shell(agent, f"rmmod {old}")[0]:
            raise stuck(f"{old} cannot be removed")
    shell(agent, "dmesg -c > /dev/null")
    status, words = shell(agent, f"insmod {FOLDER}/{name}.ko {parameters}")
    if status == 0 and "eth0" in agent.run("cat /proc/net/dev", 30)["stdout"]:
        more = shell(agent, "net-up")
        status, words = more[0], words + more[1]
    words += shell(agent, "dmesg")[1]
    if status:
        raise Failed(f"{name} was not loaded (status {status}):\n{words}")
    if "BUG:" in words or "Oops" in words:
        raise stuck(f"{name} broke the kernel:\n{words}")
    return words


def shell(agent, command):
    """Status and output of a command that must be quick; one that hangs is an error that only a new start helps."""
    try:
        answer = agent.run(command, LOAD_S)
    except (AgentTimeout, AgentGone, AgentError) as error:
        raise stuck(f"{command!r}: {error}") from error
    if answer.get("timed_out"):
        raise stuck(f"{command!r} does not end")
    return answer["status"], str(answer["stdout"]) + str(answer["stderr"])


def stuck(text):
    error = Failed(text)
    error.stuck = True
    return error
