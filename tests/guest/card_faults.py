#!/usr/bin/env python3
"""Faults in the card, one after the other under a running guest: what Linux's e1000 driver does, and that traffic goes on."""
import os
import tempfile
import time

import harness
from faulty import Fault, ping, snmp
from harness import want
from lib import tcp
from lib.hmp import Hmp
from lib.vm import Vm

ARGS = harness.arguments(__doc__)
FOLDER = tempfile.TemporaryDirectory(prefix="minivmm-faults-")
MONITOR = os.path.join(FOLDER.name, "hmp")
BULK = os.urandom(2 << 20)
DRIVER = "/sys/bus/pci/drivers/e1000"
vm = hmp = None


def boot():
    global vm, hmp
    vm = Vm([*harness.accel_options(ARGS), "-timeout", "600", "-monitor", f"unix:{MONITOR},server=on,wait=off"])
    hmp = Hmp(MONITOR)
    vm.agent(60)
    want(ping(1, seconds=10), "no answer")


def under(plan, least=1):
    """TCP both ways arrives whole under a fault that strikes."""
    with Fault(hmp, plan) as fault:
        tcp.both_ways(vm, BULK)
    want(fault.hits >= least, f"{plan} struck {fault.hits} times only")


def answers_again(seconds=30):
    end = time.monotonic() + seconds
    while not ping(1, seconds=1):
        want(time.monotonic() < end, f"no answer for {seconds} s after the fault")


def log_says(text, seconds=30):
    end = time.monotonic() + seconds
    while text not in vm.run("dmesg"):
        want(time.monotonic() < end, f"the kernel's log lacks {text!r}:\n{vm.run('dmesg | tail -30')}")
        time.sleep(0.2)


def lost_interrupts_are_made_up_for():
    under("irq-lost,rate=20%,seed=5", 10)


def spurious_interrupts_do_no_harm():
    under("irq-spurious,rate=10%,seed=5", 10)


def a_storm_passes():
    under("irq-storm,time=20ms,skip=20,every=20,count=3", 3)


def descriptors_that_are_done_late_are_waited_for():
    under("late-dd,time=20ms,rate=5%,seed=5", 3)


def frames_that_find_no_room_are_counted_and_sent_again():
    def missed():
        return int(vm.run("ethtool -S eth0 | grep rx_missed_errors").split()[-1])

    before = missed()
    under("rx-overrun,rate=1%,seed=5", 3)
    time.sleep(2.5)  # the driver reads the counters every two seconds
    want(missed() > before, "rx_missed_errors stays")


def frames_that_cannot_be_read_are_sent_again():
    before = snmp(vm, "Tcp", "RetransSegs")
    under("dma-error,rate=1%,seed=5")
    want(snmp(vm, "Tcp", "RetransSegs") > before, "nothing was sent again")


def a_hung_transmitter_is_found_and_works_after_the_interface_was_down():
    """Linux 6.12 does not reset it by itself: each report stops the queue anew, and that restarts the five seconds after
    which the network core's watchdog would (netif_tx_stop_queue)."""
    with Fault(hmp, "tx-hang,count=1") as fault:
        ping(1, seconds=1)
        log_says("Detected Tx Unit Hang")
        want(not ping(1, seconds=1), "it was no hang")
        vm.run("ip link set eth0 down; ip link set eth0 up")
        answers_again()
    want(fault.hits == 1, f"{fault.hits} hangs")


def an_eeprom_with_a_wrong_checksum_is_refused():
    slot = vm.run(f"ls {DRIVER} | grep 0000:").strip()
    for kind in ("eeprom-checksum", "eeprom-bit,skip=5,count=1"):
        vm.run(f"echo {slot} > {DRIVER}/unbind; dmesg -c > /dev/null")
        with Fault(hmp, kind) as fault:
            vm.run(f"echo {slot} > {DRIVER}/bind || true")
            log_says("EEPROM Checksum Is Not Valid")
        want(fault.hits >= 1, f"{kind} did not strike")
        vm.run(f"[ -e {DRIVER}/{slot} ] && echo {slot} > {DRIVER}/unbind; echo {slot} > {DRIVER}/bind; net-up")
        answers_again()


def a_phy_that_does_not_answer_keeps_the_link_as_it_was():
    with Fault(hmp, "mdic-timeout") as fault:
        vm.run("ethtool -r eth0 || true")
        time.sleep(5)
    want(fault.hits >= 1, "nobody asked the PHY")
    answers_again()


def a_card_that_was_pulled_out_works_when_it_is_back():
    with Fault(hmp, "removal") as fault:
        want(not ping(2, seconds=3), "an answer from a card that is gone")
    want(fault.hits == 1, f"removed {fault.hits} times")
    log_says("NIC Link is Down", seconds=60)
    vm.run("ip link set eth0 down; ip link set eth0 up; net-up")
    answers_again()


if __name__ == "__main__":
    try:
        harness.main(__file__, [
            boot,
            lost_interrupts_are_made_up_for,
            spurious_interrupts_do_no_harm,
            a_storm_passes,
            descriptors_that_are_done_late_are_waited_for,
            frames_that_find_no_room_are_counted_and_sent_again,
            frames_that_cannot_be_read_are_sent_again,
            a_hung_transmitter_is_found_and_works_after_the_interface_was_down,
            an_eeprom_with_a_wrong_checksum_is_refused,
            a_phy_that_does_not_answer_keeps_the_link_as_it_was,
            a_card_that_was_pulled_out_works_when_it_is_back,
        ])
    finally:
        if vm:
            vm.kill()
        FOLDER.cleanup()
