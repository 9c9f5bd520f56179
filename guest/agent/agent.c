/*
 * The agent's main loop: bytes from the port become lines, lines become requests, answers are queued and written.
 *
 * One thread, poll(2). Never blocks on the port: what does not fit waits in the queue, and while much is queued
 * nothing more is read. See agent.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "agent.h"

/* Reading stops above this many queued bytes. */
#define OUT_HIGH (4u << 20)

static struct {
	const struct agent_config *config;
	int in, out;
	char *line; /* AGENT_LINE_MAX + 1 bytes */
	size_t line_length;
	bool line_too_long;
	char *queue;
	size_t queue_length, queue_room;
	bool closing;       /* leave once the queue is empty */
	bool power_pending; /* and then change the power state */
	enum agent_power power;
} agent;

static void queue_bytes(const char *bytes, size_t length)
{
	if (agent.queue_length + length > agent.queue_room) {
		size_t room = (agent.queue_length + length) * 2;
		char *queue = realloc(agent.queue, room);
		if (!queue)
			return; /* out of memory: this line is lost, the host's timeout tells */
		agent.queue = queue;
		agent.queue_room = room;
	}
	memcpy(agent.queue + agent.queue_length, bytes, length);
	agent.queue_length += length;
}

void agent_send(cJSON *line)
{
	char *text = line ? cJSON_PrintUnformatted(line) : NULL;
	if (text) {
		size_t length = strlen(text);
		text[length] = '\n'; /* in place of the terminator, which nobody needs */
		queue_bytes(text, length + 1);
	}
	free(text);
	cJSON_Delete(line);
}

cJSON *agent_answer(const cJSON *id)
{
	cJSON *answer = cJSON_CreateObject();
	if (id)
		cJSON_AddItemToObject(answer, "id", cJSON_Duplicate(id, true));
	return answer;
}

void agent_send_error(const cJSON *id, const char *format, ...)
{
	char text[512];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	cJSON *answer = agent_answer(id);
	if (!id)
		cJSON_AddNullToObject(answer, "id");
	/* A path in the text may be anything; JSON is UTF-8. */
	if (!utf8_valid((const uint8_t *)text, strlen(text)))
		for (char *c = text; *c; c++)
			*c = *c & 0x80 ? '?' : *c;
	cJSON_AddStringToObject(answer, "error", text);
	agent_send(answer);
}

void agent_power_later(enum agent_power what)
{
	agent.power_pending = true;
	agent.power = what;
}

static void handle_line(void)
{
	agent.line[agent.line_length] = 0;
	if (agent.line_too_long) {
		agent_send_error(NULL, "line longer than %d bytes", AGENT_LINE_MAX);
		return;
	}
	if (strspn(agent.line, " \t\r") == agent.line_length)
		return;
	const char *end = NULL;
	cJSON *request = cJSON_ParseWithOpts(agent.line, &end, true);
	if (cJSON_IsObject(request))
		ops_handle(agent.config, request);
	else
		agent_send_error(NULL, "not a JSON object, wrong at byte %td", end ? end - agent.line : 0);
	cJSON_Delete(request);
}

static void take_bytes(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (bytes[i] == '\n') {
			handle_line();
			agent.line_length = 0;
			agent.line_too_long = false;
		} else if (agent.line_length < AGENT_LINE_MAX) {
			agent.line[agent.line_length++] = bytes[i];
		} else {
			agent.line_too_long = true;
		}
	}
}

/* False at the end of the port. */
static bool read_port(void)
{
	char bytes[4096];
	ssize_t got = read(agent.in, bytes, sizeof bytes);
	if (got > 0)
		take_bytes(bytes, (size_t)got);
	return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

static bool write_port(void)
{
	ssize_t put = write(agent.out, agent.queue, agent.queue_length);
	if (put < 0)
		return errno == EAGAIN || errno == EINTR;
	agent.queue_length -= (size_t)put;
	memmove(agent.queue, agent.queue + put, agent.queue_length);
	return true;
}

static void read_events(void)
{
	char bytes[1024];
	ssize_t got = read(agent.config->events_fd, bytes, sizeof bytes);
	if (got > 0)
		queue_bytes(bytes, (size_t)got);
	else if (got == 0)
		agent.closing = true;
}

static int open_port(const char *device)
{
	if (!strcmp(device, "-")) {
		agent.in = STDIN_FILENO;
		agent.out = STDOUT_FILENO;
	} else {
		agent.in = agent.out = open(device, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	}
	if (agent.in < 0)
		return -1;
	struct termios mode;
	if (tcgetattr(agent.in, &mode) < 0)
		return errno == ENOTTY ? 0 : -1; /* a pipe or socket is fine; a port without a UART gives EIO */
	cfmakeraw(&mode);
	cfsetspeed(&mode, B115200);
	mode.c_cflag |= CLOCAL | CREAD;
	mode.c_cflag &= ~(tcflag_t)(HUPCL | CRTSCTS);
	return tcsetattr(agent.in, TCSANOW, &mode);
}

static bool step(void)
{
	enum { IN, OUT, EVENTS, FIXED };
	struct pollfd set[FIXED + 3 * AGENT_RUNS_MAX] = {
		[IN] = {.fd = agent.queue_length < OUT_HIGH ? agent.in : -1, .events = POLLIN},
		[OUT] = {.fd = agent.queue_length ? agent.out : -1, .events = POLLOUT},
		[EVENTS] = {.fd = agent.closing ? -1 : agent.config->events_fd, .events = POLLIN},
	};
	size_t count = FIXED + run_poll_set(set + FIXED);
	if (poll(set, count, run_next_timeout()) < 0 && errno != EINTR)
		return false;
	if (set[EVENTS].revents)
		read_events();
	if (set[OUT].revents && !write_port())
		return false;
	if (set[IN].revents && !read_port())
		return false;
	run_service();
	return true;
}

static void change_power(void)
{
	if (isatty(agent.out))
		tcdrain(agent.out);
	agent.power_pending = false;
	agent.config->power(agent.power);
}

int agent_serve(const struct agent_config *config)
{
	agent.config = config;
	agent.line = malloc(AGENT_LINE_MAX + 1);
	if (!agent.line || open_port(config->device) < 0)
		return -1;
	cJSON *ready = cJSON_CreateObject();
	cJSON_AddStringToObject(ready, "event", "ready");
	cJSON_AddNumberToObject(ready, "version", AGENT_VERSION);
	agent_send(ready);
	while (step()) {
		if (agent.queue_length)
			continue;
		if (agent.power_pending)
			change_power();
		if (agent.closing)
			break;
	}
	if (isatty(agent.out))
		tcdrain(agent.out);
	return 0;
}
