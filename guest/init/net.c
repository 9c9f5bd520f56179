/*
 * The guest's default network: 10.0.2.15/24 on eth0, gateway 10.0.2.2 (the name server is in /etc/resolv.conf).
 *
 * By ioctl, since that is five system calls. It does not wait for a carrier: the address answers from the moment
 * the driver says that the link is up. The kernel's own `ip=` waits before init even starts.
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

static struct sockaddr address(const char *text)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(text)};
	struct sockaddr out;
	memcpy(&out, &in, sizeof out);
	return out;
}

static bool flags_up(int fd, const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_UP};
	strcpy(request.ifr_name, name);
	return ioctl(fd, SIOCSIFFLAGS, &request) == 0;
}

static bool set_address(int fd, unsigned long what, const char *text)
{
	struct ifreq request = {.ifr_name = "eth0", .ifr_addr = address(text)};
	return ioctl(fd, what, &request) == 0;
}

static bool exists(int fd, const char *name)
{
	struct ifreq request = {0};
	strcpy(request.ifr_name, name);
	return ioctl(fd, SIOCGIFFLAGS, &request) == 0;
}

static bool default_route(int fd)
{
	struct rtentry route = {
		.rt_dst = address("0.0.0.0"),
		.rt_genmask = address("0.0.0.0"),
		.rt_gateway = address("10.0.2.2"),
		.rt_flags = RTF_UP | RTF_GATEWAY,
	};
	return ioctl(fd, SIOCADDRT, &route) == 0;
}

void net_up(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	flags_up(fd, "lo");
	if (!cmdline_has("ip", NULL) && exists(fd, "eth0")) {
		bool ok = set_address(fd, SIOCSIFADDR, "10.0.2.15") && set_address(fd, SIOCSIFNETMASK, "255.255.255.0") &&
			  flags_up(fd, "eth0") && default_route(fd);
		if (!ok)
			perror("init: cannot set up eth0");
	}
	close(fd);
}

void net_wait_carrier(int milliseconds)
{
	enum { STEP_MS = 10 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	for (int waited = 0; waited < milliseconds; waited += STEP_MS) {
		struct ifreq request = {.ifr_name = "eth0"};
		bool there = ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP);
		if (!there || (request.ifr_flags & IFF_RUNNING))
			break;
		nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000}, NULL);
	}
	close(fd);
}
