/*
 * iperf3's command, on the library that Debian's libiperf-dev ships as libiperf.a.
 *
 * scripts/build-guest links this with no_crypto.c and glibc_names.c into the guest's /usr/bin/iperf3. It is only
 * the outer loop: the library parses the options and does all the work.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "iperf_api.h"

static struct iperf_test *test;
static sigjmp_buf interrupted;

static void on_signal(int sig)
{
	(void)sig;
	siglongjmp(interrupted, 1);
}

/* The library takes -D, but has no way to ask for it. */
static int wants_daemon(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "-D") || !strcmp(argv[i], "--daemon"))
			return 1;
	return 0;
}

static int serve(int background)
{
	if (background && daemon(0, 0) < 0) {
		perror("iperf3: cannot go into the background");
		return 1;
	}
	if (iperf_create_pidfile(test) < 0) {
		iperf_err(test, "error - %s", iperf_strerror(i_errno));
		return 1;
	}
	for (;;) {
		int rc = iperf_run_server(test);
		if (rc < 0) {
			iperf_err(test, "error - %s", iperf_strerror(i_errno));
			if (rc < -1) /* the listening socket itself is gone */
				return 1;
		}
		iperf_reset_test(test);
		if (iperf_get_test_one_off(test))
			return rc < 0;
	}
}

int main(int argc, char **argv)
{
	test = iperf_new_test();
	if (!test || iperf_defaults(test) < 0) {
		fprintf(stderr, "iperf3: cannot set up a test: %s\n", iperf_strerror(i_errno));
		return 1;
	}
	if (iperf_parse_arguments(test, argc, argv) < 0) {
		iperf_err(test, "parameter error - %s", iperf_strerror(i_errno));
		fputs("Usage: iperf3 -s | -c HOST [options], see iperf3 --help\n", stderr);
		return 1;
	}
	iperf_catch_sigend(on_signal);
	if (sigsetjmp(interrupted, 1))
		iperf_got_sigend(test); /* prints what was measured, tells the peer, exits */
	signal(SIGPIPE, SIG_IGN);

	int status;
	if (iperf_get_test_role(test) == 's') {
		status = serve(wants_daemon(argc, argv));
		iperf_delete_pidfile(test);
	} else {
		status = iperf_run_client(test) < 0;
		if (status)
			iperf_err(test, "error - %s", iperf_strerror(i_errno));
	}
	iperf_free_test(test);
	return status;
}
