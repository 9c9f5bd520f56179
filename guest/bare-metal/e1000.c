// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A driver for the 82540EM and its relatives in the least that sends and receives: no interrupts, legacy descriptors.
 *
 * Sections are those of Intel's "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual".
 * Memory is mapped one to one, so the address of a thing is where the chip finds it.
 */
#include "machine.h"

enum { CTRL = 0x0000, STATUS = 0x0008, ICR = 0x00c0, IMC = 0x00d8, RCTL = 0x0100, TCTL = 0x0400, TIPG = 0x0410 };
enum { RDBAL = 0x2800, RDBAH = 0x2804, RDLEN = 0x2808, RDH = 0x2810, RDT = 0x2818 };
enum { TDBAL = 0x3800, TDBAH = 0x3804, TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818 };
enum { MTA = 0x5200, RAL = 0x5400, RAH = 0x5404 };

#define CTRL_SLU (1u << 6)
#define CTRL_RST (1u << 26)
#define STATUS_LU (1u << 1)
#define RCTL_EN (1u << 1)
#define RCTL_BAM (1u << 15)
#define RCTL_SECRC (1u << 26)
#define TCTL_EN (1u << 1)
#define TCTL_PSP (1u << 3)
#define TCTL_VALUES (15u << 4 | 64u << 12) /* CT and COLD for full duplex */
#define TIPG_COPPER (10u | 8u << 10 | 6u << 20)

/* 3.2.3 and 3.3.3, both 16 bytes. */
struct rx_desc {
	uint64_t address;
	uint16_t length, checksum;
	uint8_t status, errors;
	uint16_t special;
};
struct tx_desc {
	uint64_t address;
	uint16_t length;
	uint8_t cso, cmd, status, css;
	uint16_t special;
};

#define DD 1u
#define EOP 2u
#define TX_CMD (1u << 0 | 1u << 1 | 1u << 3) /* EOP, IFCS, RS */

enum { RING = 32, BUFFER = 2048 }; /* a ring is a multiple of 128 bytes, 8 descriptors */

uint8_t nic_mac[6];
static volatile uint8_t *registers;
static volatile struct rx_desc rx[RING] __attribute__((aligned(16)));
static volatile struct tx_desc tx[RING] __attribute__((aligned(16)));
static uint8_t rx_buffer[RING][BUFFER], tx_buffer[FRAME_MAX];
static uint32_t rx_next, tx_next;

static uint32_t rd(uint32_t reg)
{
	return *(volatile uint32_t *)(registers + reg);
}

static void wr(uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)(registers + reg) = value;
}

static uint32_t config(uint32_t slot, uint32_t offset)
{
	out32(0xcf8, 1u << 31 | slot << 11 | offset);
	return in32(0xcfc);
}

static bool find(void)
{
	for (uint32_t slot = 0; slot < 32; slot++) {
		uint32_t id = config(slot, 0);
		if (id != 0x100e8086 && id != 0x100f8086 && id != 0x100c8086 && id != 0x10088086)
			continue;
		registers = (volatile uint8_t *)(config(slot, 0x10) & ~0xfu);
		/* Memory space and bus mastering: without the latter the chip reads no descriptor. */
		uint32_t command = config(slot, 4);
		out32(0xcfc, (command & 0xffff) | 6);
		print("e1000 in slot %u, registers at %x\n", slot, (uint32_t)registers);
		return true;
	}
	return false;
}

/* 14.3: everything to its start values; the chip reads its EEPROM meanwhile. */
static void reset(void)
{
	wr(IMC, ~0u);
	wr(RCTL, 0);
	wr(TCTL, TCTL_PSP);
	wr(CTRL, rd(CTRL) | CTRL_RST);
	for (int i = 0; i < 50000; i++)
		in8(0x80); /* a microsecond each on a PC, so well above the millisecond that it takes */
	wr(IMC, ~0u);
	rd(ICR);
	for (uint32_t i = 0; i < 128; i++)
		wr(MTA + 4 * i, 0);
}

bool nic_start(void)
{
	if (!find())
		return false;
	reset();
	for (int i = 0; i < 6; i++)
		nic_mac[i] = rd(RAL + i / 4 * 4) >> i % 4 * 8;
	/* 14.4: receive. The chip owns RDH up to, and without, RDT. */
	for (uint32_t i = 0; i < RING; i++)
		rx[i].address = (uint32_t)rx_buffer[i];
	wr(RDBAL, (uint32_t)rx);
	wr(RDBAH, 0);
	wr(RDLEN, sizeof rx);
	wr(RDH, 0);
	wr(RDT, RING - 1);
	wr(RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC);
	/* 14.5: transmit. */
	wr(TDBAL, (uint32_t)tx);
	wr(TDBAH, 0);
	wr(TDLEN, sizeof tx);
	wr(TDH, 0);
	wr(TDT, 0);
	wr(TIPG, TIPG_COPPER);
	wr(TCTL, TCTL_EN | TCTL_PSP | TCTL_VALUES);
	wr(CTRL, rd(CTRL) | CTRL_SLU);
	return true;
}

bool nic_link(void)
{
	return rd(STATUS) & STATUS_LU;
}

void nic_send(const void *frame, uint32_t length)
{
	volatile struct tx_desc *desc = &tx[tx_next];
	for (uint32_t i = 0; i < length; i++)
		tx_buffer[i] = ((const uint8_t *)frame)[i];
	desc->address = (uint32_t)tx_buffer;
	desc->length = length;
	desc->cso = desc->css = desc->status = 0;
	desc->cmd = TX_CMD;
	tx_next = (tx_next + 1) % RING;
	__asm__ volatile("" : : : "memory");
	wr(TDT, tx_next);
	while (!(desc->status & DD))
		__asm__ volatile("pause");
}

uint32_t nic_receive(uint8_t frame[FRAME_MAX])
{
	volatile struct rx_desc *desc = &rx[rx_next];
	if (!(desc->status & DD))
		return 0;
	uint32_t length = desc->length;
	if (!(desc->status & EOP) || desc->errors || length > FRAME_MAX)
		length = 0;
	for (uint32_t i = 0; i < length; i++)
		frame[i] = rx_buffer[rx_next][i];
	desc->status = 0;
	__asm__ volatile("" : : : "memory");
	wr(RDT, rx_next);
	rx_next = (rx_next + 1) % RING;
	return length;
}
