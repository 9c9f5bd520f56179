/*
 * Process 1 of the guest: init.c starts everything, cmdline.c reads the kernel command line, net.c sets up eth0.
 *
 * One static program that forks and, as far as it can, does not exec: where guest kernel code is emulated, a system
 * call costs a quarter of a millisecond and an exec half a second.
 */
#ifndef INIT_H
#define INIT_H

#include <stdbool.h>

/* True when the kernel command line has a parameter of this name; `value` (may be NULL) takes what follows the '=',
 * without the double quotes around it. The value lives as long as the program. */
bool cmdline_has(const char *name, const char **value);

/* Brings up lo and, unless `ip=` was given to the kernel, eth0 with the default address and route. Whatever is
 * missing stays as it is: a broken NIC must not keep the guest from coming up. */
void net_up(void);

/* Waits until eth0 has a carrier, at most `milliseconds`; at once when there is no eth0. */
void net_wait_carrier(int milliseconds);

#endif
