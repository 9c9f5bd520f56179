/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * minie1000: a sample driver for the 82540EM, 82545EM and 82544, written from Intel's manual, to be read in one
 * sitting.
 *
 * main.c ties a PCI device to a network interface and takes its interrupt, chip.c works registers, EEPROM and PHY,
 * rings.c moves frames, ethtool.c answers ethtool. It does one thing for each job and the simplest one: one transmit and one receive
 * ring, legacy descriptors, received frames copied. No VLAN or segmentation offload, no jumbo frames, no wake-up,
 * no workaround for errata.
 */
#ifndef MINIE1000_H
#define MINIE1000_H

#include <linux/io.h>
#include <linux/netdevice.h>
#include <linux/pci.h>

#include "regs.h"

#define RING_SIZE 256 /* descriptors; RDLEN and TDLEN count 128 bytes, which is 8 of them */
#define RX_BUFFER_SIZE 2048

struct tx_ring {
	struct tx_desc *desc;
	dma_addr_t dma;
	unsigned int head; /* first descriptor not yet cleaned; written by NAPI */
	unsigned int tail; /* first free one; written by xmit */
	struct {
		struct sk_buff *skb;
		dma_addr_t dma;
	} slot[RING_SIZE];
};

struct rx_ring {
	struct rx_desc *desc;
	dma_addr_t dma;
	unsigned int next; /* the descriptor that is filled next */
	struct {
		u8 *data;
		dma_addr_t dma;
	} slot[RING_SIZE];
};

enum { STAT_CRCERRS, STAT_MPC, STAT_RNBC, STAT_GPRC, STAT_BPRC, STAT_MPRC, STAT_GPTC, STAT_TPR, STAT_TPT, STATS };

struct nic {
	struct net_device *netdev;
	struct pci_dev *pci;
	u8 __iomem *registers;
	struct napi_struct napi;
	struct tx_ring tx;
	struct rx_ring rx;
	u16 eeprom[EEPROM_WORDS];
	u64 stats[STATS]; /* sums of the statistics registers, under rtnl */
	u64 interrupts;
};

static inline u32 rd(const struct nic *nic, u32 reg)
{
	return readl(nic->registers + reg);
}

static inline void wr(struct nic *nic, u32 reg, u32 value)
{
	writel(value, nic->registers + reg);
}

/* A write may wait in a bridge; a read behind it does not overtake it. */
static inline void flush(struct nic *nic)
{
	rd(nic, STATUS);
}

/* chip.c */
void chip_reset(struct nic *nic);
int chip_read_eeprom(struct nic *nic);
int chip_phy_write(struct nic *nic, unsigned int reg, u16 value);
void chip_set_address(struct nic *nic);
void chip_set_rx_mode(struct nic *nic);
void chip_link_up(struct nic *nic);
bool chip_has_link(struct nic *nic);
void chip_read_stats(struct nic *nic);

/* rings.c */
int rings_alloc(struct nic *nic);
void rings_free(struct nic *nic);
void rings_start(struct nic *nic);
void rings_stop(struct nic *nic);
netdev_tx_t rings_xmit(struct sk_buff *skb, struct net_device *netdev);
int rings_poll(struct napi_struct *napi, int budget);

extern const struct ethtool_ops minie1000_ethtool_ops;

#endif
