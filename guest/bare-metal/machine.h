/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What there is without an operating system: ports, the serial port, the clock, the e1000. */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdbool.h>
#include <stdint.h>

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

/* main.c: %s, %u, %x (8 hexadecimal digits), %I (IPv4 address), %M (MAC, by address). */
void print(const char *format, ...);

#define FRAME_MAX 1514

/* e1000.c: finds and starts the first card on bus 0; false when there is none. */
bool nic_start(void);
extern uint8_t nic_mac[6];
bool nic_link(void);
/* Sends one frame and waits until it is on its way. */
void nic_send(const void *frame, uint32_t length);
/* Copies the next received frame; its length, 0 when there is none. */
uint32_t nic_receive(uint8_t frame[FRAME_MAX]);

#endif
