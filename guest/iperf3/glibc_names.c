/*
 * The names of glibc's checked functions (_FORTIFY_SOURCE) on top of musl, for libiperf.a.
 *
 * Debian compiled that archive against glibc. On x86-64 the C types it uses (sockaddr, addrinfo, stat, timeval, tm,
 * fd_set, sigset_t) are laid out alike in both, and musl itself answers to glibc's other private names; these nine
 * are what is left. They keep the check where there is one: an overflow ends the program.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>

long __fdelt_chk(long fd)
{
	if (fd < 0 || fd >= FD_SETSIZE)
		abort();
	return fd / (8 * (long)sizeof(long));
}

void *__memmove_chk(void *to, const void *from, size_t length, size_t room)
{
	if (length > room)
		abort();
	return memmove(to, from, length);
}

char *__strncat_chk(char *to, const char *from, size_t length, size_t room)
{
	if (strlen(to) + strnlen(from, length) >= room)
		abort();
	return strncat(to, from, length);
}

int __vsnprintf_chk(char *to, size_t size, int flag, size_t room, const char *format, va_list args)
{
	(void)flag;
	if (size > room)
		abort();
	return vsnprintf(to, size, format, args);
}

int __snprintf_chk(char *to, size_t size, int flag, size_t room, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int length = __vsnprintf_chk(to, size, flag, room, format, args);
	va_end(args);
	return length;
}

int __sprintf_chk(char *to, int flag, size_t room, const char *format, ...)
{
	(void)flag;
	va_list args;
	va_start(args, format);
	/* (size_t)-1 says that the room is not known; vsnprintf takes no more than INT_MAX. */
	size_t size = room > 0x7fffffff ? 0x7fffffff : room;
	int length = vsnprintf(to, size, format, args);
	va_end(args);
	if (length >= 0 && (size_t)length >= size)
		abort();
	return length;
}

int __vfprintf_chk(FILE *stream, int flag, const char *format, va_list args)
{
	(void)flag;
	return vfprintf(stream, format, args);
}

int __fprintf_chk(FILE *stream, int flag, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int length = __vfprintf_chk(stream, flag, format, args);
	va_end(args);
	return length;
}

int __printf_chk(int flag, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int length = __vfprintf_chk(stdout, flag, format, args);
	va_end(args);
	return length;
}
