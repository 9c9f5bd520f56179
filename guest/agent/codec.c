/*
 * Bytes as text: base64 (RFC 4648, with padding) and a check for UTF-8 (RFC 3629). Pure functions.
 */
#include <stdlib.h>
#include <string.h>

#include "agent.h"

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const uint8_t *data, size_t length)
{
	char *text = malloc((length + 2) / 3 * 4 + 1), *out = text;
	if (!text)
		return NULL;
	for (size_t i = 0; i < length; i += 3) {
		size_t left = length - i;
		uint32_t group = (uint32_t)data[i] << 16;
		group |= left > 1 ? (uint32_t)data[i + 1] << 8 : 0;
		group |= left > 2 ? data[i + 2] : 0;
		*out++ = ALPHABET[group >> 18];
		*out++ = ALPHABET[group >> 12 & 63];
		*out++ = left > 1 ? ALPHABET[group >> 6 & 63] : '=';
		*out++ = left > 2 ? ALPHABET[group & 63] : '=';
	}
	*out = 0;
	return text;
}

static int sextet(char c)
{
	const char *at = c ? strchr(ALPHABET, c) : NULL;
	return at ? (int)(at - ALPHABET) : -1;
}

uint8_t *base64_decode(const char *text, size_t *length)
{
	size_t chars = strlen(text);
	if (chars % 4)
		return NULL;
	size_t padding = chars && text[chars - 1] == '=' ? 1 + (text[chars - 2] == '=') : 0;
	uint8_t *data = malloc(chars / 4 * 3 + 1), *out = data;
	if (!data)
		return NULL;
	*length = chars / 4 * 3 - padding;
	for (size_t i = 0; i < chars; i += 4) {
		uint32_t group = 0;
		for (size_t j = 0; j < 4; j++) {
			int bits = i + j >= chars - padding ? 0 : sextet(text[i + j]);
			if (bits < 0) {
				free(data);
				return NULL;
			}
			group = group << 6 | (uint32_t)bits;
		}
		*out++ = (uint8_t)(group >> 16);
		*out++ = (uint8_t)(group >> 8);
		*out++ = (uint8_t)group;
	}
	return data;
}

/* Length of the sequence at `s`, 0 if it is none. */
static size_t utf8_sequence(const uint8_t *s, size_t left)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	if (s[0] < 0x80)
		return 1;
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4 || n > left)
		return 0;
	uint32_t code = s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	bool surrogate = code >= 0xd800 && code <= 0xdfff;
	return code < least[n] || code > 0x10ffff || surrogate ? 0 : n;
}

bool utf8_valid(const uint8_t *data, size_t length)
{
	for (size_t i = 0; i < length;) {
		/* A zero byte is UTF-8, but would end the C string that carries the answer. */
		size_t n = data[i] ? utf8_sequence(data + i, length - i) : 0;
		if (!n)
			return false;
		i += n;
	}
	return true;
}
