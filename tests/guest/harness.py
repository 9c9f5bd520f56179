"""What the guest tests share: run inside an own network namespace, count, report."""
import argparse
import os
import re
import subprocess
import sys
import threading
import time
import traceback

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(REPO, "scripts"))
from lib import netns, packages  # noqa: E402
from lib.report import Failed, Report  # noqa: E402

CHOSEN = []  # what --only says
SELF_TEST = ("Register test  (offline)", "Eeprom test    (offline)", "Interrupt test (offline)", "Loopback test  (offline)",
             "Link test   (on/offline)")


def arguments(description):
    """Every guest test takes --accel; minivmm and the guest must have been built (scripts/test does)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--accel", default="", help="passed on as -accel")
    parser.add_argument("--long", action="store_true", help="all repetitions and all data (minutes); else some of them")
    parser.add_argument("--brief", action="store_true", help="the least that shows it, for KVM without hardware under it")
    parser.add_argument("--only", default="", metavar="WORD,...", help="only checks with one of these in their names, and boot")
    args = parser.parse_args()
    CHOSEN.extend(word for word in args.only.split(",") if word)
    for path in ("target/release/minivmm", "target/guest/bzImage"):
        if not os.path.exists(os.path.join(REPO, path)):
            sys.exit(f"{path} is missing: run `cargo build --release` and scripts/build-guest first")
    return args


def accel_options(args):
    return ["-accel", args.accel] if args.accel else []


def unpacked(package, *names):
    """A Debian package, unpacked into the cache and never installed: its folder. To be called before the namespace, which
    leads nowhere, and cheap afterwards. `names` are the files in it that the test needs."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(home, "minivmm", package)
    if all(os.path.exists(os.path.join(folder, name)) for name in names):
        return folder
    os.makedirs(folder, exist_ok=True)
    for command in (["true"], ["apt-get", "-qq", "update"]):
        subprocess.run(command, capture_output=True)
        done = subprocess.run(["apt-get", "-qq", "download", package], cwd=folder, capture_output=True, text=True)
        if done.returncode == 0:
            break
    if done.returncode:
        sys.exit(f"apt-get download {package}: {done.stderr}")
    archive = next(file for file in os.listdir(folder) if file.endswith(".deb"))
    subprocess.run(["dpkg-deb", "-x", archive, "."], cwd=folder, check=True)
    return folder


def boot(args, device="e1000", tap="tap,id=n0", options=(), limit=300):
    """A guest with one NIC whose agent answers; `device` and `tap` are what stands behind -device and -netdev."""
    from lib.vm import Vm

    net = ["-netdev", tap, "-device", f"{device},netdev=n0"]
    vm = Vm([*accel_options(args), "-timeout", "3000", *options], net)
    return ready(vm, limit)


def ready(vm, limit):
    """The guest, once its agent answers; one that does not within `limit` seconds is ended."""
    try:
        vm.agent(limit)
    except Failed:
        vm.kill()
        raise
    return vm


def build_endings(path):
    """The small kernel that ends as the first letter of its command line says (endings.S)."""
    if line := packages.ensure({"gcc": "gcc", "ld": "binutils"}, Report()):
        raise Failed(line)
    linker = "-Wl,-N,-Ttext=0x100000,--build-id=none,-z,noexecstack,--no-warn-rwx-segments"
    flags = ["-m32", "-nostdlib", "-static", "-no-pie", linker]
    subprocess.run(["gcc", *flags, "-o", path, os.path.join(REPO, "tests", "guest", "endings.S")], check=True)


def boot_debian(args, nic="e1000", tap="tap,id=n0", options=(), limit=300):
    """Debian's own kernel and programs (scripts/build-debian-guest) with one NIC and no driver loaded.

    The kernel's self-tests of its cryptography would take half of the boot.
    """
    from lib.vm import REPO, Vm

    folder = os.path.join(REPO, "target", "debian")
    if not os.path.exists(os.path.join(folder, "vmlinuz")):
        sys.exit("target/debian/vmlinuz is missing: run scripts/build-debian-guest first")
    options = [*accel_options(args), "-m", "512", "-timeout", "3000", "-initrd", os.path.join(folder, "initramfs.cpio"),
               "-append", "console=ttyS0 loglevel=4 cryptomgr.notests hugepages=40", *options]
    vm = Vm(options, ["-netdev", tap, "-device", f"{nic},netdev=n0"], kernel=os.path.join(folder, "vmlinuz"))
    return ready(vm, limit)


def self_test(vm):
    """Linux's own test of the NIC passes, with exactly its five lines."""
    answer = vm.agent().run("ethtool -t eth0 offline", 120)
    text = answer["stdout"] + answer["stderr"]
    found = dict(re.findall(r"^(\S.*?)\s*\t\s*(\d+)$", text, re.M))
    want("result is PASS" in text and set(found) == set(SELF_TEST) and set(found.values()) == {"0"},
         f"status {answer['status']}: {text}")


def carrier(vm):
    """Waits for eth0's."""
    vm.run("i=0; while [ $(cat /sys/class/net/eth0/carrier) != 1 ]; do sleep 0.1; i=$((i+1)); [ $i -lt 100 ] || exit 1; "
           "done", 60)


def side_by_side(work, names):
    """work(name) in a thread for each name; the first lines of all that failed."""
    failures = []

    def body(name):
        try:
            work(name)
        except Exception as error:  # told below, in the main thread
            failures.append(f"{name}: {error}")

    threads = [threading.Thread(target=body, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    want(not failures, "\n".join(failures))


def in_the_background(command):
    """A shell command that the agent starts and does not wait for."""
    return f"({command}) < /dev/null > /dev/null 2>&1 &"


def no_complaint(vm, about="e1000|eth0|hang|irq|dma|BUG|WARN"):
    """The kernel has said nothing worse than a notice about these since the last call."""
    # "no configuration for board #32": Linux's e1000 has default parameters for the first 32 probes only.
    usual = "no configuration for board|loading out-of-tree module taints kernel"
    text = vm.run(f"dmesg -r -c | grep -E '^<[0-4]>' | grep -v -E '{usual}' | grep -i -E '{about}' || true")
    want(not text.strip(), f"the kernel complains: {text}")


def no_finding(vm):
    """The driver doctor (-d guest_errors) has found neither errors nor warnings."""
    found = vm.counters()["nics"][0]["findings"]
    notes = [f"{f['id']} ({f['count']} times)" for f in found if f["severity"] == "note"]
    if notes:
        print(f"     the driver doctor notes: {', '.join(notes)}")
    bad = [f"{f['id']} {f['what']} ({f['subject']}), {f['count']} times" for f in found if f["severity"] != "note"]
    want(not bad, f"the driver doctor: {bad}")


def main(script, checks):
    """Runs `checks` (functions without arguments) in order inside an own namespace; prints the counts."""
    netns.enter(os.path.abspath(script))
    passed = failed = 0
    for check in checks:
        if CHOSEN and check.__name__ != "boot" and not any(word in check.__name__ for word in CHOSEN):
            continue
        begin = time.monotonic()
        try:
            check()
            passed += 1
            print(f"ok   {check.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Failed as error:
            failed += 1
            print(f"FAIL {check.__name__}: {error}", flush=True)
        except Exception:  # a broken test is a failed test, and the others still run
            failed += 1
            print(f"FAIL {check.__name__}:\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def want(condition, what):
    if not condition:
        raise Failed(what)
