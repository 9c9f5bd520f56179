#!/usr/bin/env python3
"""Linux's own test of the NIC, `ethtool -t eth0 offline`: all five lines, by model and by link delay.

Machines run side by side, since the test mostly sleeps. --long: ten times in a row on each.
"""
import re
import threading

import harness
from harness import want

ARGS = harness.arguments(__doc__)
LINES = ("Register test  (offline)", "Eeprom test    (offline)", "Interrupt test (offline)", "Loopback test  (offline)",
         "Link test   (on/offline)")
# Enough RAM for the test and little to clear: four machines run at once.
MACHINES = ("e1000", "e1000,link-delay=2000", "e1000-82545em", "e1000-82544gc")
REPEATS = 10 if ARGS.long else 1


def passes(device, failures):
    try:
        with harness.boot(ARGS, device, "tap,id=n0,address=none", ("-m", "96")) as vm:
            for turn in range(REPEATS):
                answer = vm.agent().run("ethtool -t eth0 offline", 120)
                text = answer["stdout"] + answer["stderr"]
                found = dict(re.findall(r"^(\S.*?)\s*\t\s*(\d+)$", text, re.M))
                want("result is PASS" in text and set(found) == set(LINES) and set(found.values()) == {"0"},
                     f"turn {turn + 1}: status {answer['status']}: {text}")
            harness.no_complaint(vm)
    except Exception as error:  # told by the check, in the main thread
        failures.append(f"{device}: {error}")


def all_five_lines_pass_on_every_model_and_delay():
    failures = []
    threads = [threading.Thread(target=passes, args=(device, failures)) for device in MACHINES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    want(not failures, "\n".join(failures))
    print(f"     {REPEATS} times on each of: {' '.join(MACHINES)}")


if __name__ == "__main__":
    harness.main(__file__, [all_five_lines_pass_on_every_model_and_delay])
