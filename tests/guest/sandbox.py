#!/usr/bin/env python3
"""scripts/sandbox: loads and replaces drivers, survives those that break the guest, and says what a newcomer did wrong."""
import os
import pty
import re
import select
import shutil
import subprocess
import tempfile
import time

import harness
from harness import want

ARGS = harness.arguments(__doc__)
SCRIPT = os.path.join(harness.REPO, "scripts", "sandbox")
LIMIT = 300
HERE = tempfile.TemporaryDirectory()
FOLDER = os.path.join(HERE.name, "mine")
box = None


def write(init, leave="", more=""):
    """The driver's source: what it does when it is loaded and when it is removed."""
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "mine.c"), "w") as f:
        f.write('#include <linux/module.h>\n#include <linux/delay.h>\n#include <linux/irqflags.h>\nMODULE_LICENSE("GPL");\n'
                f"{more}\nstatic int __init begin(void) {{ {init} }}\nstatic void __exit end(void) {{ {leave} }}\n"
                "module_init(begin);\nmodule_exit(end);\n")
    with open(os.path.join(FOLDER, "Kbuild"), "w") as f:
        f.write("obj-m := mine.o\n")


def says(words):
    return f'pr_info("{words} of mine\\n");'


def sandbox(*words):
    """The script to its end; what it said on both of its outputs."""
    done = subprocess.run([SCRIPT, "--no-build", *words], capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def reload():
    return sandbox("--driver", FOLDER, "--reload")


class Box:
    """scripts/sandbox on a terminal."""

    def __init__(self, *words):
        self.output = b""
        line = [SCRIPT, "--no-build", *(["--accel", ARGS.accel] if ARGS.accel else []), *words]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(SCRIPT, line)

    def wait(self, pattern, seconds=LIMIT):
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.output)):
            want(time.monotonic() < end, f"{pattern!r} did not come:\n{self.output[-3000:].decode(errors='replace')}")
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.output += os.read(self.fd, 65536)
                except OSError:
                    want(re.search(pattern, self.output), f"ended before {pattern!r}: {self.output.decode(errors='replace')}")
        self.output = self.output[found.end():]

    def end(self):
        while True:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def replaced_by(init, status, *words, leave=""):
    """Another source, loaded in place of what is there: the script ends with this status and says all of `words`."""
    write(init, leave)
    found, said = reload()
    want(found == status and all(word in said for word in words), f"status {found}: {said}")
    return said


def it_loads_and_replaces_by_key_and_by_command():
    global box
    write(says("first") + "return 0;")
    box = Box("--driver", FOLDER)
    # The kernel's own words on the console, and not a second time in ours.
    box.wait(rb"first of mine")
    box.wait(rb"mine is loaded")
    # A key: built again, replaced.
    write(says("second") + "return 0;")
    os.write(box.fd, b"\x01r")
    box.wait(rb"second of mine")
    box.wait(rb"mine was loaded again", 30)
    said = replaced_by(says("third") + "return 0;", 0, "third of mine")
    want("second" not in said, said)


def a_source_that_is_none_leaves_the_old_driver_where_it_is():
    replaced_by("this is no C", 1, "error:")
    replaced_by(says("fourth") + "return -EIO;", 1, "was not loaded", "fourth of mine")


def a_driver_that_does_not_let_go_is_left_with_its_machine():
    replaced_by(says("fifth") + "return 0;", 0, "fifth of mine", leave="for (;;) msleep(1000);")
    replaced_by(says("sixth") + "return 0;", 0, "mine cannot be removed: rmmod does not end: the machine is started anew",
                "sixth of mine")


def after_an_oops_the_next_one_gets_a_new_machine():
    replaced_by(says("seventh") + "*(volatile int *)8 = 1; return 0;", 1, "mine broke the kernel", "NULL pointer", "seventh")
    replaced_by(says("eighth") + "return 0;", 0, "the machine is started anew", "eighth of mine")


def a_driver_that_stops_the_kernel_is_taken_out():
    replaced_by("local_irq_disable(); for (;;) cpu_relax(); return 0;", 1, "mine hangs", "started anew without it")
    box.wait(rb"the machine runs without a driver")
    replaced_by(says("ninth") + "return 0;", 0, "ninth of mine")
    replaced_by('panic("of mine"); return 0;', 1, "mine ended the guest", "started anew without it")
    box.wait(rb"the machine runs without a driver")
    replaced_by(says("tenth") + "return 0;", 0, "tenth of mine")


def findings_name_the_driver_s_line_and_are_told_again_for_the_next_driver():
    more = """#include <linux/pci.h>
    static u32 rd(void __iomem *at) { return readl(at); }
    static noinline int wrong(void) {
        struct pci_dev *pci = pci_get_device(0x8086, 0x100e, NULL);
        void __iomem *bar = pci && !pci_enable_device(pci) ? pci_iomap(pci, 0, 0) : NULL;
        if (!bar) return -ENODEV;
        rd(bar + 0xd8); /* IMC, which cannot be read */
        pci_iounmap(pci, bar);
        return 0;
    }"""
    for _ in range(2):
        write("return wrong();", more=more)
        status, words = reload()
        want(status == 0 and "warning E1000-REG-003" in words, words)
        # With the inlined helper's line, and that of its caller.
        want(re.search(r"0xffffffff[0-9a-f]{8} is rd, mine\.c:6 <- wrong, mine\.c:11$", words, re.M), words)
        box.wait(rb"E1000-REG-003")
        box.wait(rb"\[sandbox\] 0xffffffff[0-9a-f]{8} is rd, mine\.c:6 <- wrong")
    write("return 0;")
    status, words = reload()
    want(status == 0 and "E1000" not in words, words)


def it_ends_with_its_terminal_and_listens_no_more():
    os.write(box.fd, b"\x01x")
    want(box.end() == 0, "status")
    status, words = reload()
    want(status == 1 and "no sandbox runs" in words, words)


def what_a_newcomer_gets_wrong_is_said_in_a_line():
    """Before any machine is started: each of these ends at once."""
    def refused(path, words):
        status, said = sandbox("--driver", path)
        want(status == 1 and re.fullmatch(f"sandbox: .*{words}.*", said.strip(), re.S) and "Traceback" not in said,
             f"{path}: status {status}: {said}")
        return said

    said = refused(os.path.join(HERE.name, "nowhere"), "there is no such file or directory")
    want(len(said.splitlines()) == 1, said)
    empty = os.path.join(HERE.name, "empty")
    os.mkdir(empty)
    refused(empty, "holds no module")
    with open(os.path.join(empty, "mine.c"), "w") as f:
        f.write("int x;\n")
    refused(empty, "echo 'obj-m := mine.o' > .*/Kbuild")
    refused(os.path.join(empty, "mine.c"), "is no kernel module; --driver wants")
    write("this is no C")
    said = refused(FOLDER, "error:")
    want(len(said.splitlines()) < 10, said)


def a_module_of_another_kernel_is_refused_with_advice():
    write("return 0;")
    build = subprocess.run([os.path.join(harness.REPO, "scripts", "build-driver"), FOLDER], capture_output=True, text=True)
    want(build.returncode == 0, build.stderr)
    other = os.path.join(HERE.name, "other.ko")
    shutil.copy(os.path.join(FOLDER, "mine.ko"), other)
    with open(other, "r+b") as f:
        data = f.read()
        at = data.index(b"vermagic=") + len(b"vermagic=")
        f.seek(at)
        f.write(b"5")
    other_box = Box("--driver", other)
    other_box.wait(rb"other was not loaded .*: .*other\.ko was built for another kernel; build it by scripts/build-driver DIR")
    os.write(other_box.fd, b"\x01x")
    want(other_box.end() == 0, "status")


if __name__ == "__main__":
    harness.main(__file__, [
        it_loads_and_replaces_by_key_and_by_command, a_source_that_is_none_leaves_the_old_driver_where_it_is,
        a_driver_that_does_not_let_go_is_left_with_its_machine, after_an_oops_the_next_one_gets_a_new_machine,
        a_driver_that_stops_the_kernel_is_taken_out,
        findings_name_the_driver_s_line_and_are_told_again_for_the_next_driver, it_ends_with_its_terminal_and_listens_no_more,
        what_a_newcomer_gets_wrong_is_said_in_a_line, a_module_of_another_kernel_is_refused_with_advice,
    ])
