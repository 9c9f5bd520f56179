/*
 * The kernel command line, cut as the kernel cuts it: at white space, where double quotes hold a value together.
 *
 * Read once from /proc/cmdline. The last parameter of a name counts, so that -append wins over what is built in.
 */
#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "init.h"

/* x86 kernels have room for 2048. */
static char text[4096];

static void load(void)
{
	int fd = text[0] ? -1 : open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t got = read(fd, text, sizeof text - 1);
	text[got > 0 ? got : 0] = 0;
	close(fd);
}

/* The end of the parameter at `at`. */
static const char *skip(const char *at)
{
	for (bool quoted = false; *at && (quoted || !isspace((unsigned char)*at)); at++)
		if (*at == '"')
			quoted = !quoted;
	return at;
}

/* Copies a value without quotes. */
static const char *unquote(const char *from, const char *end)
{
	static char value[sizeof text];
	char *to = value;
	for (; from < end; from++)
		if (*from != '"')
			*to++ = *from;
	*to = 0;
	return value;
}

bool cmdline_has(const char *name, const char **value)
{
	bool found = false;
	size_t length = strlen(name);
	load();
	for (const char *at = text; *at;) {
		while (isspace((unsigned char)*at))
			at++;
		const char *end = skip(at), *start = at + (*at == '"');
		if (!strncmp(start, name, length) && (start[length] == '=' || start + length == end)) {
			found = true;
			if (value)
				*value = unquote(start + length + (start[length] == '='), end);
		}
		at = end;
	}
	return found;
}
