/*
 * iperf3's command, on the library that Debian's libiperf-dev ships as libiperf.a.
 *
 * scripts/build-guest links this with no_crypto.c and glibc_names.c into the guest's /usr/bin/iperf3. It is only
 * the outer loop (the library parses the options and does all the work); no pid file, no daemon mode of its own.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "iperf_api.h"

static struct iperf_test *test;
static sigjmp_buf interrupted;

static void on_signal(int sig)
{
	(void)sig;
	siglongjmp(interrupted, 1);
}

static int serve(void)
{
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
		status = serve();
	} else {
		status = iperf_run_client(test) < 0;
		if (status)
			iperf_err(test, "error - %s", iperf_strerror(i_errno));
	}
	iperf_free_test(test);
	return status;
}
