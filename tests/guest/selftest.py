#!/usr/bin/env python3
"""Linux's own test of the NIC, `ethtool -t eth0 offline`: all five lines, by model and by link delay.

Machines run side by side, since the test mostly sleeps. --long: ten times in a row on each.
"""
import harness

ARGS = harness.arguments(__doc__)
# Enough RAM for the test and little to clear: four machines run at once.
MACHINES = ("e1000", "e1000,link-delay=2000", "e1000-82545em", "e1000-82544gc")
REPEATS = 10 if ARGS.long else 1


def passes(device):
    with harness.boot(ARGS, device, "tap,id=n0,address=none", ("-m", "96", "-d", "guest_errors")) as vm:
        for _ in range(REPEATS):
            harness.self_test(vm)
        harness.no_complaint(vm)
        harness.no_finding(vm)


def all_five_lines_pass_on_every_model_and_delay():
    harness.side_by_side(passes, MACHINES)
    print(f"     {REPEATS} times on each of: {' '.join(MACHINES)}")


if __name__ == "__main__":
    harness.main(__file__, [all_five_lines_pass_on_every_model_and_delay])
