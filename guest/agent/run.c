/*
 * Commands under way: started by ops.c, watched by agent.c's loop, answered when the command has ended.
 *
 * Each command leads a process group of its own, which a timeout kills. What it leaves running in the background
 * is not waited for: once the command itself has ended, what its pipes hold is the answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

/* Children are checked this often where the kernel has no pidfd_open (before 5.3). */
enum { CHECK_MS = 50 };

struct stream {
	int fd; /* read end of the pipe, -1 once it is closed */
	uint8_t *data;
	size_t length;
	bool truncated;
};

static struct run {
	pid_t pid; /* 0: this slot is free */
	int pidfd;
	cJSON *id;
	struct stream out, err;
	int64_t deadline_ms; /* on CLOCK_MONOTONIC, 0 for none */
	bool timed_out;
} runs[AGENT_RUNS_MAX];

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- start --------------------------------------------------------------------------------------------------- */

/* The argument vector of the request, NULL when it has none. Strings stay the request's; the caller frees the array. */
static char **argv_of(const cJSON *request)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(request, "argv");
	char *shell = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "shell"));
	size_t count = shell ? 3 : cJSON_IsArray(list) ? (size_t)cJSON_GetArraySize(list) : 0;
	char **argv = count ? calloc(count + 1, sizeof *argv) : NULL;
	if (!argv)
		return NULL;
	if (shell) {
		argv[0] = "/bin/sh";
		argv[1] = "-c";
		argv[2] = shell;
		return argv;
	}
	size_t i = 0;
	const cJSON *item;
	cJSON_ArrayForEach(item, list) {
		if (!cJSON_IsString(item)) {
			free(argv);
			return NULL;
		}
		argv[i++] = item->valuestring;
	}
	return argv;
}

/* What the command reads: a file in memory with the request's bytes, or nothing. -1 when `text` is not base64. */
static int stdin_of(const char *text)
{
	if (!text)
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	size_t length;
	uint8_t *data = base64_decode(text, &length);
	int fd = data ? memfd_create("stdin", MFD_CLOEXEC) : -1;
	if (fd >= 0 && (write(fd, data, length) != (ssize_t)length || lseek(fd, 0, SEEK_SET) < 0)) {
		close(fd);
		fd = -1;
	}
	free(data);
	return fd;
}

static _Noreturn void become(char **argv, int in, int out, int err, int report)
{
	setpgid(0, 0);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	execvp(argv[0], argv);
	int error = errno;
	/* The parent reads this, or end of file when exec closed the pipe. A lost report shows as status 127. */
	if (write(report, &error, sizeof error) < 0)
		_exit(126);
	_exit(127);
}

/* Starts the command; errno tells why not. */
static bool spawn(struct run *run, char **argv, int in)
{
	int out[2] = {-1, -1}, err[2] = {-1, -1}, report[2] = {-1, -1}, error = 0;
	bool started = false;
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 || pipe2(report, O_CLOEXEC) < 0)
		goto done;
	run->pid = fork();
	if (run->pid < 0) {
		run->pid = 0;
		goto done;
	}
	if (run->pid == 0)
		become(argv, in, out[1], err[1], report[1]);
	close(report[1]);
	report[1] = -1;
	if (read(report[0], &error, sizeof error) == sizeof error) {
		waitpid(run->pid, NULL, 0);
		run->pid = 0;
		errno = error;
		goto done;
	}
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	run->out = (struct stream){.fd = out[0]};
	run->err = (struct stream){.fd = err[0]};
	run->pidfd = (int)syscall(SYS_pidfd_open, run->pid, 0);
	out[0] = err[0] = -1;
	started = true;
done:
	error = errno;
	for (int i = 0; i < 2; i++) {
		int *ends[] = {&out[i], &err[i], &report[i]};
		for (size_t j = 0; j < 3; j++)
			if (*ends[j] >= 0)
				close(*ends[j]);
	}
	errno = error;
	return started;
}

static struct run *free_slot(void)
{
	for (size_t i = 0; i < AGENT_RUNS_MAX; i++)
		if (!runs[i].pid)
			return &runs[i];
	return NULL;
}

void run_start(const cJSON *request)
{
	const cJSON *id = cJSON_GetObjectItemCaseSensitive(request, "id");
	const cJSON *timeout = cJSON_GetObjectItemCaseSensitive(request, "timeout_ms");
	const char *input = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "stdin"));
	struct run *run = free_slot();
	if (!run) {
		agent_send_error(id, "%d commands are running already", AGENT_RUNS_MAX);
		return;
	}
	char **argv = argv_of(request);
	int in = argv ? stdin_of(input) : -1;
	*run = (struct run){.pidfd = -1};
	if (!argv)
		agent_send_error(id, "run needs argv (array of strings) or shell (string)");
	else if (in < 0)
		agent_send_error(id, "stdin is not base64, or does not fit into memory");
	else if (!spawn(run, argv, in))
		agent_send_error(id, "run %s: %s", argv[0], strerror(errno));
	if (in >= 0)
		close(in);
	free(argv);
	if (!run->pid)
		return;
	run->id = cJSON_Duplicate(id, true);
	if (cJSON_IsNumber(timeout) && timeout->valuedouble > 0 && timeout->valuedouble < 1e12)
		run->deadline_ms = now_ms() + (int64_t)timeout->valuedouble;
}

/* --- while it runs -------------------------------------------------------------------------------------------- */

size_t run_poll_set(struct pollfd *set)
{
	size_t count = 0;
	for (struct run *run = runs; run < runs + AGENT_RUNS_MAX; run++) {
		if (!run->pid)
			continue;
		set[count++] = (struct pollfd){.fd = run->out.fd, .events = POLLIN};
		set[count++] = (struct pollfd){.fd = run->err.fd, .events = POLLIN};
		set[count++] = (struct pollfd){.fd = run->pidfd, .events = POLLIN};
	}
	return count;
}

int run_next_timeout(void)
{
	int64_t now = now_ms(), least = -1;
	for (const struct run *run = runs; run < runs + AGENT_RUNS_MAX; run++) {
		if (!run->pid)
			continue;
		int64_t left = run->deadline_ms && !run->timed_out ? run->deadline_ms - now : -1;
		if (run->deadline_ms && !run->timed_out && left < 0)
			left = 0;
		if (run->pidfd < 0 && (left < 0 || left > CHECK_MS))
			left = CHECK_MS;
		if (left >= 0 && (least < 0 || left < least))
			least = left;
	}
	return least > 1000000 ? 1000000 : (int)least;
}

/* Takes what the pipe holds; what is over the limit is read and thrown away, so that the command goes on. */
static void drain(struct stream *stream)
{
	uint8_t bytes[16384];
	ssize_t got = -1;
	/* Twice a full pipe at most: one command's flood must not keep the others waiting. */
	for (int i = 0; i < 8 && stream->fd >= 0; i++) {
		got = read(stream->fd, bytes, sizeof bytes);
		if (got <= 0)
			break;
		size_t room = AGENT_DATA_MAX - stream->length, take = (size_t)got < room ? (size_t)got : room;
		uint8_t *data = take ? realloc(stream->data, stream->length + take) : NULL;
		if (data) {
			stream->data = data;
			memcpy(data + stream->length, bytes, take);
			stream->length += take;
		}
		if (!data || take < (size_t)got)
			stream->truncated = true;
	}
	if (stream->fd >= 0 && got == 0) {
		close(stream->fd);
		stream->fd = -1;
	}
}

/* --- end ------------------------------------------------------------------------------------------------------ */

static void drop(struct stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	free(stream->data);
}

static char *as_text(const struct stream *stream)
{
	char *text = malloc(stream->length + 1);
	if (text) {
		memcpy(text, stream->data ? stream->data : (const uint8_t *)"", stream->length);
		text[stream->length] = 0;
	}
	return text;
}

static void finish(struct run *run, int wait_status)
{
	int status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
	drain(&run->out);
	drain(&run->err);
	bool text = utf8_valid(run->out.data, run->out.length) && utf8_valid(run->err.data, run->err.length);
	cJSON *answer = agent_answer(run->id);
	cJSON_AddNumberToObject(answer, "status", status);
	char *out = text ? as_text(&run->out) : base64_encode(run->out.data, run->out.length);
	char *err = text ? as_text(&run->err) : base64_encode(run->err.data, run->err.length);
	cJSON_AddStringToObject(answer, "stdout", out ? out : "");
	cJSON_AddStringToObject(answer, "stderr", err ? err : "");
	if (!text)
		cJSON_AddStringToObject(answer, "encoding", "base64");
	if (run->out.truncated || run->err.truncated)
		cJSON_AddTrueToObject(answer, "truncated");
	if (run->timed_out)
		cJSON_AddTrueToObject(answer, "timed_out");
	agent_send(answer);
	free(out);
	free(err);
	drop(&run->out);
	drop(&run->err);
	if (run->pidfd >= 0)
		close(run->pidfd);
	cJSON_Delete(run->id);
	*run = (struct run){0};
}

void run_service(void)
{
	for (struct run *run = runs; run < runs + AGENT_RUNS_MAX; run++) {
		if (!run->pid)
			continue;
		if (run->deadline_ms && !run->timed_out && now_ms() >= run->deadline_ms) {
			kill(-run->pid, SIGKILL);
			run->timed_out = true;
		}
		/* Ask first whether it has ended: then whatever it wrote is in the pipes already. */
		int status;
		bool ended = waitpid(run->pid, &status, WNOHANG) == run->pid;
		drain(&run->out);
		drain(&run->err);
		if (ended)
			finish(run, status);
	}
}
