// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A kernel of its own, started by multiboot 2: says what the loader told it, pings the gateway once a second, and
 * answers ARP and ping. It is 10.0.2.15, the gateway 10.0.2.2.
 */
#include <stdarg.h>
#include <stddef.h>

#include "machine.h"

enum { COM1 = 0x3f8, MAGIC = 0x36d76289, PINGS = 3 };
enum { ETHERTYPE = 12, ARP = 14, IP = 14, ICMP = 34 }; /* offsets in a frame; no IP options */
#define OUR_IP 0x0a00020fu
#define GATEWAY 0x0a000202u

static uint8_t frame[FRAME_MAX], gateway_mac[6];
static bool gateway_known;

/* GCC makes calls of these by itself. */
void *memcpy(void *to, const void *from, size_t length)
{
	for (size_t i = 0; i < length; i++)
		((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
	return to;
}

void *memset(void *to, int value, size_t length)
{
	for (size_t i = 0; i < length; i++)
		((volatile uint8_t *)to)[i] = value;
	return to;
}

/* --- printing ---------------------------------------------------------------------------------------------------- */

static void put(char c)
{
	if (c == '\n')
		put('\r');
	while (!(in8(COM1 + 5) & 0x20))
		;
	out8(COM1, c);
}

static void put_number(uint32_t value, uint32_t base, int digits)
{
	char text[10];
	int n = 0;
	while (value || n < digits) {
		text[n++] = "0123456789abcdef"[value % base];
		value /= base;
	}
	while (n)
		put(text[--n]);
}

static void put_list(const uint8_t *bytes, int count, uint32_t base, char between)
{
	for (int i = 0; i < count; i++) {
		if (i)
			put(between);
		put_number(bytes[i], base, base == 16 ? 2 : 1);
	}
}

void print(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	for (; *format; format++) {
		if (*format != '%') {
			put(*format);
			continue;
		}
		uint32_t value = va_arg(list, uint32_t);
		uint8_t bytes[4] = {value >> 24, value >> 16, value >> 8, value};
		switch (*++format) {
		case 's':
			for (const char *text = (const char *)value; *text; text++)
				put(*text);
			break;
		case 'u': put_number(value, 10, 1); break;
		case 'x': put_number(value, 16, 8); break;
		case 'I': put_list(bytes, 4, 10, '.'); break;
		case 'M': put_list((const uint8_t *)value, 6, 16, ':'); break;
		}
	}
	va_end(list);
}

/* --- numbers in frames, most significant byte first -------------------------------------------------------------- */

static uint32_t get(const uint8_t *at, int bytes)
{
	uint32_t value = 0;
	while (bytes--)
		value = value << 8 | *at++;
	return value;
}

static void set(uint8_t *at, int bytes, uint32_t value)
{
	while (bytes--)
		*at++ = value >> 8 * bytes;
}

/* RFC 1071 */
static uint32_t checksum(const uint8_t *at, uint32_t length)
{
	uint32_t sum = 0;
	for (uint32_t i = 0; i < length; i++)
		sum += i % 2 ? at[i] : at[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}

/* --- protocols --------------------------------------------------------------------------------------------------- */

/* RFC 826. The other addresses are in the frame already where it is an answer. */
static void send_arp(uint32_t operation, const uint8_t *to, uint32_t ip)
{
	memcpy(frame, operation == 1 ? (const uint8_t *)"\xff\xff\xff\xff\xff\xff" : to, 6);
	memcpy(frame + 6, nic_mac, 6);
	memcpy(frame + ETHERTYPE, "\x08\x06\0\1\x08\0\6\4", 8);
	set(frame + ARP + 6, 2, operation);
	memcpy(frame + ARP + 8, nic_mac, 6);
	set(frame + ARP + 14, 4, OUR_IP);
	memcpy(frame + ARP + 18, to, 6);
	set(frame + ARP + 24, 4, ip);
	memset(frame + ARP + 28, 0, 18);
	nic_send(frame, 60);
}

static void got_arp(void)
{
	static uint8_t sender[6];
	uint32_t ip = get(frame + ARP + 14, 4);
	memcpy(sender, frame + ARP + 8, 6);
	if (ip == GATEWAY) {
		memcpy(gateway_mac, sender, 6);
		gateway_known = true;
	}
	if (get(frame + ARP + 6, 2) == 1 && get(frame + ARP + 24, 4) == OUR_IP)
		send_arp(2, sender, ip);
}

/* RFC 792: an echo request to the gateway. */
static void send_ping(uint32_t sequence)
{
	enum { LENGTH = 20 + 8 + 32 };
	memset(frame, 0, 14 + LENGTH);
	memcpy(frame, gateway_mac, 6);
	memcpy(frame + 6, nic_mac, 6);
	set(frame + ETHERTYPE, 2, 0x0800);
	set(frame + IP, 4, 0x45000000 | LENGTH);
	set(frame + IP + 8, 2, 64 << 8 | 1);
	set(frame + IP + 12, 4, OUR_IP);
	set(frame + IP + 16, 4, GATEWAY);
	set(frame + IP + 10, 2, checksum(frame + IP, 20));
	set(frame + ICMP, 1, 8);
	set(frame + ICMP + 4, 4, 0x4242 << 16 | sequence);
	set(frame + ICMP + 2, 2, checksum(frame + ICMP, LENGTH - 20));
	nic_send(frame, 14 + LENGTH);
}

static void got_ip(uint32_t length)
{
	uint32_t total = get(frame + IP + 2, 2), from = get(frame + IP + 12, 4);
	if (frame[IP] != 0x45 || frame[IP + 9] != 1 || get(frame + IP + 16, 4) != OUR_IP || total < 28 || 14 + total > length)
		return;
	if (checksum(frame + IP, 20) || checksum(frame + ICMP, total - 20)) {
		print("damaged packet from %I\n", from);
	} else if (frame[ICMP] == 0) {
		print("ping: reply from %I, sequence %u\n", from, get(frame + ICMP + 6, 2));
	} else if (frame[ICMP] == 8) {
		/* The same back: addresses change places, and the type from 8 to 0. */
		memcpy(frame, frame + 6, 6);
		memcpy(frame + 6, nic_mac, 6);
		memcpy(frame + IP + 16, frame + IP + 12, 4);
		set(frame + IP + 12, 4, OUR_IP);
		frame[ICMP] = 0;
		set(frame + ICMP + 2, 2, 0);
		set(frame + ICMP + 2, 2, checksum(frame + ICMP, total - 20));
		nic_send(frame, 14 + total);
		print("ping: answered %I, %u bytes\n", from, total - 28);
	}
}

/* --- start ------------------------------------------------------------------------------------------------------- */

/* Multiboot2 Specification, section 3.6. */
static void show_boot_information(const uint32_t *information)
{
	const uint8_t *end = (const uint8_t *)information + information[0];
	for (const uint32_t *tag = information + 2; (const uint8_t *)tag < end && tag[0];
	     tag = (const uint32_t *)((uintptr_t)tag + ((tag[1] + 7) & ~7u))) {
		if (tag[0] == 1)
			print("command line: %s\n", (const char *)(tag + 2));
		if (tag[0] == 3)
			print("module %s at %x, %u bytes\n", (const char *)(tag + 4), tag[2], tag[3] - tag[2]);
		for (const uint32_t *entry = tag + 4; tag[0] == 6 && entry < tag + tag[1] / 4; entry += tag[2] / 4)
			print("memory %x%x + %x%x type %u\n", entry[1], entry[0], entry[3], entry[2], entry[4]);
	}
}

/* The clock's seconds; they only need to differ. */
static uint8_t second(void)
{
	out8(0x70, 0);
	return in8(0x71);
}

void kernel_main(uint32_t magic, const uint32_t *information)
{
	uint32_t sequence = 0;
	uint8_t now = second();
	if (magic != MAGIC) {
		print("not started by multiboot 2 (EAX %x)\n", magic);
		return;
	}
	show_boot_information(information);
	if (!nic_start()) {
		print("no e1000\n");
		return;
	}
	print("MAC %M, link %s\n", nic_mac, nic_link() ? "up" : "down");
	for (;;) {
		uint32_t length = nic_receive(frame);
		uint32_t type = length >= 42 ? get(frame + ETHERTYPE, 2) : 0;
		if (type == 0x0806)
			got_arp();
		else if (type == 0x0800)
			got_ip(length);
		if (second() == now || sequence == PINGS || !nic_link())
			continue;
		now = second();
		if (gateway_known)
			send_ping(++sequence);
		else
			send_arp(1, (const uint8_t *)"\0\0\0\0\0\0", GATEWAY);
	}
}
