/*
 * The agent as a program of its own, for tests on the host: agent DEVICE [FW_CFG_ROOT]. In the guest init runs it.
 *
 * A request to power off or to reboot only ends this process, with status 0 or 3.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent.h"

static void end(enum agent_power what)
{
	exit(what == AGENT_POWEROFF ? 0 : 3);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fputs("usage: agent DEVICE [FW_CFG_ROOT]\n", stderr);
		return 2;
	}
	struct agent_config config = {
		.device = argv[1],
		.fw_cfg_root = argc > 2 ? argv[2] : "/sys/firmware/qemu_fw_cfg/by_name",
		.events_fd = -1,
		.power = end,
	};
	if (agent_serve(&config) < 0) {
		perror(argv[1]);
		return 1;
	}
	return 0;
}
