/*
 * What each request does, one function an operation; agent.c calls ops_handle() with a parsed line.
 *
 * File operations run to their end here; `run` is handed to run.c. Every wrong request is answered by an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

static const char *text_of(const cJSON *request, const char *name)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, name));
}

/* A non-negative whole number, `otherwise` when absent, -1 when it is something else. */
static int64_t number_of(const cJSON *request, const char *name, int64_t otherwise)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(request, name);
	if (!item)
		return otherwise;
	double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
	return value >= 0 && value <= 9e15 && value == (double)(int64_t)value ? (int64_t)value : -1;
}

static const cJSON *id_of(const cJSON *request)
{
	return cJSON_GetObjectItemCaseSensitive(request, "id");
}

static void fail(const cJSON *request, const char *what, const char *path)
{
	agent_send_error(id_of(request), "%s %s: %s", what, path, strerror(errno));
}

static bool write_all(int fd, const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t put = write(fd, data, length);
		if (put < 0)
			return false;
		data += put;
		length -= (size_t)put;
	}
	return true;
}

static void send_size(const cJSON *request, int64_t size)
{
	cJSON *answer = agent_answer(id_of(request));
	cJSON_AddNumberToObject(answer, "size", (double)size);
	agent_send(answer);
}

static void op_ping(const struct agent_config *config, const cJSON *request)
{
	(void)config;
	cJSON *answer = agent_answer(id_of(request));
	cJSON_AddNumberToObject(answer, "version", AGENT_VERSION);
	agent_send(answer);
}

/* The whole of a fw_cfg file, by way of the kernel's sysfs directory. Bytes copied, or -1. */
static int64_t copy_fw_cfg(const char *root, const char *name, int to)
{
	static uint8_t buffer[64 << 10];
	char *path = NULL;
	if (asprintf(&path, "%s/%s/raw", root, name) < 0)
		return -1;
	int from = open(path, O_RDONLY | O_CLOEXEC);
	free(path);
	if (from < 0)
		return -1;
	int64_t total = 0;
	ssize_t got;
	while ((got = read(from, buffer, sizeof buffer)) > 0 && write_all(to, buffer, (size_t)got))
		total += got;
	int error = errno;
	close(from);
	errno = error;
	return got == 0 ? total : -1;
}

static int64_t fill(const struct agent_config *config, const cJSON *request, int fd)
{
	const char *fw_cfg = text_of(request, "fw_cfg"), *text = text_of(request, "data");
	if (fw_cfg)
		return copy_fw_cfg(config->fw_cfg_root, fw_cfg, fd);
	size_t length;
	uint8_t *data = base64_decode(text, &length);
	if (!data) {
		errno = EILSEQ;
		return -1;
	}
	bool ok = write_all(fd, data, length);
	free(data);
	return ok ? (int64_t)length : -1;
}

static void op_put(const struct agent_config *config, const cJSON *request)
{
	const char *path = text_of(request, "path"), *fw_cfg = text_of(request, "fw_cfg");
	int64_t mode = number_of(request, "mode", 0644);
	bool append = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(request, "append"));
	if (!path || (!fw_cfg && !text_of(request, "data")) || mode < 0 || mode > 07777) {
		agent_send_error(id_of(request), "put needs path, and data (base64) or fw_cfg; mode is a number up to 4095");
		return;
	}
	if (fw_cfg && (strncmp(fw_cfg, "opt/", 4) || strstr(fw_cfg, ".."))) {
		agent_send_error(id_of(request), "fw_cfg takes a name that begins with opt/");
		return;
	}
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), (mode_t)mode);
	if (fd < 0) {
		fail(request, "put", path);
		return;
	}
	int64_t size = fill(config, request, fd);
	/* Not all files have a mode of their own (sysfs); creating set it already where there was none. */
	int error = errno;
	if (cJSON_HasObjectItem(request, "mode") && fchmod(fd, (mode_t)mode) < 0 && size >= 0) {
		error = errno;
		size = -1;
	}
	if (close(fd) < 0 && size >= 0) {
		error = errno;
		size = -1;
	}
	errno = error;
	if (size < 0)
		fail(request, fw_cfg ? fw_cfg : "put", path);
	else
		send_size(request, size);
}

/* Reads until `length` or the end. Files of /proc and /sys have no size, so only reading tells. */
static ssize_t read_range(int fd, int64_t offset, uint8_t *data, size_t length, bool *eof)
{
	size_t have = 0;
	*eof = false;
	while (have < length) {
		ssize_t got = offset ? pread(fd, data + have, length - have, offset + (int64_t)have)
				     : read(fd, data + have, length - have);
		if (got < 0)
			return -1;
		if (got == 0) {
			*eof = true;
			break;
		}
		have += (size_t)got;
	}
	return (ssize_t)have;
}

static void send_range(const cJSON *request, int fd, int64_t offset, const uint8_t *data, size_t length, bool eof)
{
	struct stat info = {0};
	if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0)
		eof = offset + (int64_t)length >= info.st_size;
	cJSON *answer = agent_answer(id_of(request));
	char *text = base64_encode(data, length);
	cJSON_AddStringToObject(answer, "data", text ? text : "");
	free(text);
	cJSON_AddNumberToObject(answer, "size", (double)info.st_size);
	cJSON_AddBoolToObject(answer, "eof", eof);
	agent_send(answer);
}

static void op_get(const struct agent_config *config, const cJSON *request)
{
	(void)config;
	static uint8_t data[AGENT_DATA_MAX];
	const char *path = text_of(request, "path");
	int64_t offset = number_of(request, "offset", 0), length = number_of(request, "length", AGENT_DATA_MAX);
	if (!path || offset < 0 || length < 0) {
		agent_send_error(id_of(request), "get needs path; offset and length are whole numbers");
		return;
	}
	if (length > AGENT_DATA_MAX)
		length = AGENT_DATA_MAX;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool eof;
	ssize_t got = fd < 0 ? -1 : read_range(fd, offset, data, (size_t)length, &eof);
	if (got < 0)
		fail(request, "get", path);
	else
		send_range(request, fd, offset, data, (size_t)got, eof);
	if (fd >= 0)
		close(fd);
}

static const char *type_of(mode_t mode)
{
	return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : S_ISLNK(mode) ? "link" : S_ISCHR(mode) ? "char"
	     : S_ISBLK(mode) ? "block" : S_ISFIFO(mode) ? "fifo" : "socket";
}

static void op_stat(const struct agent_config *config, const cJSON *request)
{
	(void)config;
	const char *path = text_of(request, "path");
	struct stat info;
	if (!path) {
		agent_send_error(id_of(request), "stat needs path");
	} else if (lstat(path, &info) < 0) {
		fail(request, "stat", path);
	} else {
		cJSON *answer = agent_answer(id_of(request));
		cJSON_AddStringToObject(answer, "type", type_of(info.st_mode));
		cJSON_AddNumberToObject(answer, "size", (double)info.st_size);
		cJSON_AddNumberToObject(answer, "mode", info.st_mode & 07777);
		cJSON_AddNumberToObject(answer, "mtime", (double)info.st_mtime);
		agent_send(answer);
	}
}

static int64_t hash_file(int fd, char hex[SHA256_DIGEST_STRING_LENGTH])
{
	static uint8_t buffer[64 << 10];
	uint8_t digest[SHA256_DIGEST_LENGTH];
	SHA2_CTX context;
	SHA256Init(&context);
	int64_t size = 0;
	ssize_t got;
	while ((got = read(fd, buffer, sizeof buffer)) > 0) {
		SHA256Update(&context, buffer, (size_t)got);
		size += got;
	}
	SHA256Final(digest, &context);
	for (size_t i = 0; i < sizeof digest; i++)
		sprintf(hex + 2 * i, "%02x", digest[i]);
	return got < 0 ? -1 : size;
}

static void op_sha256(const struct agent_config *config, const cJSON *request)
{
	(void)config;
	const char *path = text_of(request, "path");
	if (!path) {
		agent_send_error(id_of(request), "sha256 needs path");
		return;
	}
	char hex[SHA256_DIGEST_STRING_LENGTH];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int64_t size = fd < 0 ? -1 : hash_file(fd, hex);
	if (size < 0) {
		fail(request, "sha256", path);
	} else {
		cJSON *answer = agent_answer(id_of(request));
		cJSON_AddStringToObject(answer, "sha256", hex);
		cJSON_AddNumberToObject(answer, "size", (double)size);
		agent_send(answer);
	}
	if (fd >= 0)
		close(fd);
}

static void op_run(const struct agent_config *config, const cJSON *request)
{
	(void)config;
	run_start(request);
}

static void power(const cJSON *request, enum agent_power what)
{
	agent_send(agent_answer(id_of(request)));
	agent_power_later(what);
}

static void op_poweroff(const struct agent_config *config, const cJSON *request)
{
	(void)config;
	power(request, AGENT_POWEROFF);
}

static void op_reboot(const struct agent_config *config, const cJSON *request)
{
	(void)config;
	power(request, AGENT_REBOOT);
}

static const struct {
	const char *name;
	void (*handle)(const struct agent_config *config, const cJSON *request);
} OPS[] = {
	{"ping", op_ping}, {"run", op_run},	  {"put", op_put},	     {"get", op_get},
	{"stat", op_stat}, {"sha256", op_sha256}, {"poweroff", op_poweroff}, {"reboot", op_reboot},
};

void ops_handle(const struct agent_config *config, const cJSON *request)
{
	const char *op = text_of(request, "op");
	for (size_t i = 0; op && i < sizeof OPS / sizeof *OPS; i++) {
		if (!strcmp(op, OPS[i].name)) {
			OPS[i].handle(config, request);
			return;
		}
	}
	if (op)
		agent_send_error(id_of(request), "unknown op '%.64s'; known: ping run put get stat sha256 poweroff reboot", op);
	else
		agent_send_error(id_of(request), "the request has no op");
}
