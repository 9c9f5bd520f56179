/*
 * The agent: JSON lines over a serial port, so that a host can act in the guest without a network.
 *
 * agent.c owns the port and the main loop, ops.c answers requests, run.c looks after commands, codec.c converts
 * bytes and text. init links all of it and runs it in a child; agent_main.c makes a program of it for tests on the
 * host. The protocol is in docs/guest.md. Nothing here touches the network.
 */
#ifndef AGENT_H
#define AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cJSON.h"

enum {
	AGENT_VERSION = 1,
	/* A longer line is thrown away and answered by an error. */
	AGENT_LINE_MAX = 1 << 20,
	/* Bytes of stdout, and of stderr, that a `run` keeps; and most bytes that one `get` gives (base64: 4/3). */
	AGENT_DATA_MAX = 256 << 10,
	AGENT_RUNS_MAX = 16,
};

enum agent_power { AGENT_POWEROFF, AGENT_REBOOT };

struct agent_config {
	const char *device;      /* serial port; "-" is stdin and stdout */
	const char *fw_cfg_root; /* where the kernel shows fw_cfg files by name */
	int events_fd;           /* lines read here are sent as they are; end of file ends the agent; -1: none */
	void (*power)(enum agent_power what);
};

/* Serves until the port or events_fd closes. Returns 0, or -1 when the port cannot be used (errno says why). */
int agent_serve(const struct agent_config *config);

/* --- between the agent's own files -------------------------------------------------------------------------- */

/* Queues one line; takes the object. */
void agent_send(cJSON *line);
/* Queues {"id":id,"error":text}; `id` may be NULL. */
void agent_send_error(const cJSON *id, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A new answer {"id":id}. */
cJSON *agent_answer(const cJSON *id);
/* Asks for a power change once everything queued has left the port. */
void agent_power_later(enum agent_power what);

/* Answers one request, or starts a run that answers later. */
void ops_handle(const struct agent_config *config, const cJSON *request);

struct pollfd;
void run_start(const cJSON *request);
/* Adds the descriptors of running commands; returns how many. */
size_t run_poll_set(struct pollfd *set);
/* Milliseconds to the next deadline, -1 for none. */
int run_next_timeout(void);
/* Reads what is there, ends what is due, answers what is done. */
void run_service(void);

char *base64_encode(const uint8_t *data, size_t length);
/* NULL when `text` is not base64. The caller frees. */
uint8_t *base64_decode(const char *text, size_t *length);
bool utf8_valid(const uint8_t *data, size_t length);

#endif
