/*
 * Breakpoints of the processor by ptrace, as a debugger in the guest uses them: one for writes of 4 bytes, one for code.
 * Prints a line for each stop; tests/guest/gdb.py builds it and runs it in the guest.
 */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int before, watched, behind;

__attribute__((noinline)) static void place(void)
{
	__asm__ volatile("");
}

static void child(void)
{
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	raise(SIGSTOP);
	for (int n = 1; n <= 3; n++) {
		before = n;
		watched = n * 10;
		behind = n;
		place();
	}
	_exit(0);
}

static long debug_register(pid_t pid, int n, unsigned long value)
{
	return ptrace(PTRACE_POKEUSER, pid, (void *)(offsetof(struct user, u_debugreg) + n * sizeof(long)), (void *)value);
}

int main(void)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		child();
	waitpid(pid, &status, 0);
	/* Number 0: writes of 4 bytes; number 1: code; both by their local bits. */
	if (debug_register(pid, 0, (unsigned long)&watched) || debug_register(pid, 1, (unsigned long)place) ||
	    debug_register(pid, 7, 0x5 | 0xdUL << 16)) {
		perror("PTRACE_POKEUSER");
		return 1;
	}
	while (ptrace(PTRACE_CONT, pid, 0, 0) == 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		long why = ptrace(PTRACE_PEEKUSER, pid, (void *)(offsetof(struct user, u_debugreg) + 6 * sizeof(long)), 0);
		int value = ptrace(PTRACE_PEEKDATA, pid, (void *)&watched, 0);

		printf("signal %d, DR6 %lx, watched %d\n", WSTOPSIG(status), why & 0xf, value);
	}
	printf("ended with %d\n", WEXITSTATUS(status));
	return 0;
}
