/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Registers and descriptors of the 8254x, as far as this driver uses them.
 *
 * Names and section numbers are those of Intel's "PCI/PCI-X Family of Gigabit Ethernet Controllers Software
 * Developer's Manual" (317453).
 */
#ifndef MINIE1000_REGS_H
#define MINIE1000_REGS_H

#include <linux/bits.h>
#include <linux/types.h>

enum minie1000_register {
	CTRL = 0x0000,   /* 13.4.1 */
	STATUS = 0x0008, /* 13.4.2 */
	EERD = 0x0014,   /* 13.4.4 */
	MDIC = 0x0020,   /* 13.4.7 */
	ICR = 0x00c0,    /* 13.4.17 */
	ICS = 0x00c8,    /* 13.4.19 */
	IMS = 0x00d0,    /* 13.4.20 */
	IMC = 0x00d8,    /* 13.4.21 */
	RCTL = 0x0100,   /* 13.4.22 */
	TCTL = 0x0400,   /* 13.4.33 */
	TIPG = 0x0410,   /* 13.4.34 */
	RDBAL = 0x2800,  /* 13.4.25 */
	RDBAH = 0x2804,
	RDLEN = 0x2808,
	RDH = 0x2810,
	RDT = 0x2818,
	TDBAL = 0x3800, /* 13.4.36 */
	TDBAH = 0x3804,
	TDLEN = 0x3808,
	TDH = 0x3810,
	TDT = 0x3818,
	CRCERRS = 0x4000, /* 13.7: statistics, cleared by reading */
	MPC = 0x4010,
	GPRC = 0x4074,
	BPRC = 0x4078,
	MPRC = 0x407c,
	GPTC = 0x4080,
	RNBC = 0x40a0,
	TPR = 0x40d0,
	TPT = 0x40d4,
	RXCSUM = 0x5000, /* 13.4.47 */
	MTA = 0x5200,    /* 13.5.1: 128 words */
	RAL = 0x5400,    /* 13.5.2: 16 pairs of RAL and RAH */
	RAH = 0x5404,
};

#define MTA_WORDS 128
#define RA_PAIRS 16

#define CTRL_FD BIT(0)
#define CTRL_ASDE BIT(5)
#define CTRL_SLU BIT(6)
#define CTRL_RST BIT(26)

#define STATUS_FD BIT(0)
#define STATUS_LU BIT(1)
#define STATUS_SPEED(status) ((status) >> 6 & 3) /* 0: 10, 1: 100, 2 and 3: 1000 Mbit/s */

#define EERD_START BIT(0)
#define EERD_DONE BIT(4)
#define EERD_ADDRESS(word) ((u32)(word) << 8)
#define EEPROM_WORDS 64
#define EEPROM_SUM 0xbaba /* 5.6.35: what all 64 words add up to */

#define MDIC_PHY_1 (1u << 21)
#define MDIC_REGISTER(reg) ((u32)(reg) << 16)
#define MDIC_WRITE (1u << 26)
#define MDIC_READ (2u << 26)
#define MDIC_READY BIT(28)
#define MDIC_ERROR BIT(30)

/* Causes, for ICR, ICS, IMS and IMC alike. */
#define CAUSE_TXDW BIT(0)
#define CAUSE_LSC BIT(2)
#define CAUSE_RXDMT0 BIT(4)
#define CAUSE_RXO BIT(6)
#define CAUSE_RXT0 BIT(7)
#define CAUSE_RINGS (CAUSE_TXDW | CAUSE_RXDMT0 | CAUSE_RXO | CAUSE_RXT0)
#define CAUSE_ALL (CAUSE_RINGS | CAUSE_LSC)

/* Buffers of 2048 bytes are BSIZE 0. */
#define RCTL_EN BIT(1)
#define RCTL_UPE BIT(3)
#define RCTL_MPE BIT(4)
#define RCTL_BAM BIT(15)
#define RCTL_SECRC BIT(26)

#define TCTL_EN BIT(1)
#define TCTL_PSP BIT(3)
#define TCTL_CT(n) ((u32)(n) << 4)
#define TCTL_COLD(n) ((u32)(n) << 12)
/* 13.4.34: what the manual recommends for copper. */
#define TIPG_COPPER (10 | 8 << 10 | 6 << 20)

#define RXCSUM_TUOFL BIT(9)
#define RAH_AV BIT(31)

/* 3.2.3 */
struct rx_desc {
	__le64 address;
	__le16 length;
	__le16 checksum;
	u8 status;
	u8 errors;
	__le16 special;
};

#define RX_STATUS_DD BIT(0)
#define RX_STATUS_EOP BIT(1)
#define RX_STATUS_IXSM BIT(2)
#define RX_STATUS_TCPCS BIT(5)
#define RX_ERROR_TCPE BIT(5)
#define RX_ERROR_IPE BIT(6)
/* Errors of the wire: CE, SE, SEQ, CXE, RXE. */
#define RX_ERROR_FRAME 0x97

/* 3.3.3: the legacy layout */
struct tx_desc {
	__le64 address;
	__le16 length;
	u8 cso;
	u8 cmd;
	u8 status;
	u8 css;
	__le16 special;
};

#define TX_CMD_EOP BIT(0)
#define TX_CMD_IFCS BIT(1)
#define TX_CMD_RS BIT(3)
#define TX_STATUS_DD BIT(0)

#endif
