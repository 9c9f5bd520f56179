/*
 * Process 1: mounts, network, the agent, then a shell or the command of `minivmm.run=`, and the way out.
 *
 * Powers off on SIGUSR2 (busybox poweroff), halts on SIGUSR1, reboots on SIGTERM and SIGINT, as busybox's own init
 * does. It never ends by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../agent/agent.h"
#include "init.h"

#define CONSOLE "/dev/ttyS0"
#define AGENT_PORT "/dev/ttyS1"

enum {
	CARRIER_WAIT_MS = 5000,
	/* How long the agent may take to send what is queued before the power goes. */
	AGENT_FLUSH_MS = 2000,
	CONSOLE_DEBUG = 7, /* all but debug messages */
};

static pid_t agent_pid, shell_pid, command_pid;
static int agent_events = -1; /* what is written here, the agent sends */

static const char GREETING[] =
	"\n"
	"minivmm guest. The network card under test is eth0.\n"
	"  network  ip ping ethtool iperf3 tcpdump arping nc traceroute brctl vconfig udhcpc wget tftp\n"
	"  drivers  insmod rmmod lsmod lspci dmesg devmem net-up (addresses eth0 after a driver came later)\n"
	"  the rest busybox: vi less grep awk find ps top ..., `busybox` lists all\n"
	"  leave    poweroff, or Ctrl-A x\n"
	"\n";

static void mount_one(const char *type, const char *on)
{
	if (mount(type, on, type, MS_NOSUID | MS_NOEXEC, NULL) < 0 && errno != EBUSY)
		fprintf(stderr, "init: cannot mount %s on %s: %s\n", type, on, strerror(errno));
}

static void unblock_all(void)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* --- power ----------------------------------------------------------------------------------------------------- */

static _Noreturn void change_power(int how)
{
	sync();
	reboot(how);
	perror("init: reboot");
	for (;;)
		pause();
}

/* Called in the agent's process: init does it, in one place. */
static void agent_power(enum agent_power what)
{
	kill(1, what == AGENT_REBOOT ? SIGTERM : SIGUSR2);
}

/* --- children -------------------------------------------------------------------------------------------------- */

static void start_agent(void)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	agent_pid = fork();
	if (agent_pid == 0) {
		close(ends[1]);
		unblock_all();
		signal(SIGPIPE, SIG_DFL);
		struct agent_config config = {
			.device = AGENT_PORT,
			.fw_cfg_root = "/sys/firmware/qemu_fw_cfg/by_name",
			.events_fd = ends[0],
			.power = agent_power,
		};
		/* No UART there is no error: the machine need not have one. */
		_exit(agent_serve(&config) < 0);
	}
	close(ends[0]);
	if (agent_events >= 0)
		close(agent_events);
	agent_events = ends[1];
}

/* Makes the console the child's terminal, so that Ctrl-C and job control work. */
static void take_console(void)
{
	setsid();
	int fd = open(CONSOLE, O_RDWR);
	if (fd < 0)
		return; /* the kernel's /dev/console stays */
	ioctl(fd, TIOCSCTTY, 0);
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static pid_t start(char *const argv[])
{
	pid_t pid = fork();
	if (pid == 0) {
		unblock_all();
		signal(SIGPIPE, SIG_DFL);
		take_console();
		execv("/bin/sh", argv);
		perror("init: /bin/sh");
		_exit(127);
	}
	return pid;
}

static void start_shell(void)
{
	shell_pid = start((char *const[]){"-sh", NULL});
}

static void report_run(int status)
{
	char line[64];
	int length = snprintf(line, sizeof line, "{\"event\":\"run-exit\",\"status\":%d}\n", status);
	if (agent_events < 0 || write(agent_events, line, (size_t)length) != length)
		return; /* no agent: the console shows what happened */
	close(agent_events);
	agent_events = -1;
	for (int waited = 0; waited < AGENT_FLUSH_MS && waitpid(agent_pid, NULL, WNOHANG) == 0; waited++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void reap(pid_t pid, int status)
{
	if (pid == command_pid) {
		report_run(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
		change_power(RB_POWER_OFF);
	} else if (pid == shell_pid) {
		start_shell();
	} else if (pid == agent_pid && WIFSIGNALED(status)) {
		start_agent(); /* it fell; when it left by itself, there is no port to serve */
	}
}

/* --- main ------------------------------------------------------------------------------------------------------ */

static void set_environment(void)
{
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	setenv("TERM", "linux", 0);
	/* For interactive shells, login or not: prompt and aliases. */
	setenv("ENV", "/etc/shrc", 1);
}

static _Noreturn void serve(const sigset_t *signals)
{
	for (;;) {
		int status, sig = sigwaitinfo(signals, NULL);
		pid_t pid;
		if (sig == SIGUSR2)
			change_power(RB_POWER_OFF);
		if (sig == SIGUSR1)
			change_power(RB_HALT_SYSTEM);
		if (sig == SIGTERM || sig == SIGINT)
			change_power(RB_AUTOBOOT);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			reap(pid, status);
	}
}

int main(void)
{
	if (getpid() != 1) {
		fputs("init: to be run by the kernel only\n", stderr);
		return 1;
	}
	static const int WATCHED[] = {SIGCHLD, SIGUSR1, SIGUSR2, SIGTERM, SIGINT};
	sigset_t signals;
	sigemptyset(&signals);
	for (size_t i = 0; i < sizeof WATCHED / sizeof *WATCHED; i++)
		sigaddset(&signals, WATCHED[i]);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	reboot(RB_DISABLE_CAD);

	/* The network first: from here on the host may get its first answer. */
	mount_one("proc", "/proc");
	net_up();
	mount_one("sysfs", "/sys");
	mount_one("devtmpfs", "/dev");
	mkdir("/dev/pts", 0755);
	mount_one("devpts", "/dev/pts");
	set_environment();
	start_agent();

	/* The boot is silent but for warnings; what a driver says from now on is what the user is here for. */
	if (!cmdline_has("quiet", NULL) && !cmdline_has("loglevel", NULL))
		klogctl(8, NULL, CONSOLE_DEBUG);
	const char *command;
	if (cmdline_has("minivmm.run", &command)) {
		net_wait_carrier(CARRIER_WAIT_MS);
		command_pid = start((char *const[]){"sh", "-c", (char *)command, NULL});
	} else {
		if (write(STDOUT_FILENO, GREETING, sizeof GREETING - 1) < 0)
			perror("init: console");
		start_shell();
	}
	serve(&signals);
}
