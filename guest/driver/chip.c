// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The chip: reset, EEPROM, PHY, address filter, statistics. Sleeps, except for what the filter and the link need.
 */
#include <linux/delay.h>
#include <linux/etherdevice.h>
#include <linux/iopoll.h>
#include <linux/mii.h>

#include "minie1000.h"

/* 14.3: all of the MAC to its start values. The rings are stopped first so that no DMA is under way. */
void chip_reset(struct nic *nic)
{
	unsigned int i;

	wr(nic, IMC, ~0u);
	wr(nic, RCTL, 0);
	wr(nic, TCTL, TCTL_PSP);
	flush(nic);
	usleep_range(1000, 2000);
	wr(nic, CTRL, rd(nic, CTRL) | CTRL_RST);
	usleep_range(5000, 6000); /* the chip reads its EEPROM */
	wr(nic, IMC, ~0u);
	rd(nic, ICR);
	/* The filter tables have no start values. */
	for (i = 0; i < MTA_WORDS; i++)
		wr(nic, MTA + 4 * i, 0);
	for (i = 1; i < RA_PAIRS; i++)
		wr(nic, RAH + 8 * i, 0);
	flush(nic);
}

/* 5.3.1: a read of one word through EERD, without the serial lines. */
static int read_word(struct nic *nic, unsigned int word, u16 *value)
{
	u32 eerd;

	wr(nic, EERD, EERD_ADDRESS(word) | EERD_START);
	if (read_poll_timeout(rd, eerd, eerd & EERD_DONE, 5, 10000, false, nic, EERD))
		return -ETIMEDOUT;
	*value = eerd >> 16;
	return 0;
}

/* Reads all words and checks their sum. */
int chip_read_eeprom(struct nic *nic)
{
	unsigned int i;
	u16 sum = 0;

	for (i = 0; i < EEPROM_WORDS; i++) {
		int error = read_word(nic, i, &nic->eeprom[i]);

		if (error)
			return error;
		sum += nic->eeprom[i];
	}
	return sum == EEPROM_SUM ? 0 : -EBADMSG;
}

/* 13.4.7 */
int chip_phy_write(struct nic *nic, unsigned int reg, u16 value)
{
	u32 mdic;

	wr(nic, MDIC, MDIC_WRITE | MDIC_PHY_1 | MDIC_REGISTER(reg) | value);
	if (read_poll_timeout(rd, mdic, mdic & MDIC_READY, 5, 10000, false, nic, MDIC))
		return -ETIMEDOUT;
	return mdic & MDIC_ERROR ? -EIO : 0;
}

void chip_set_address(struct nic *nic)
{
	const u8 *mac = nic->netdev->dev_addr;

	wr(nic, RAL, mac[0] | mac[1] << 8 | mac[2] << 16 | (u32)mac[3] << 24);
	wr(nic, RAH, mac[4] | mac[5] << 8 | RAH_AV);
}

/* 13.5.1, with RCTL.MO = 0: bits 47:36 of the address choose one of 4096 bits. */
static void add_to_hash(u32 *table, const u8 *mac)
{
	unsigned int hash = (mac[5] << 8 | mac[4]) >> 4;

	table[hash >> 5] |= BIT(hash & 31);
}

void chip_set_rx_mode(struct nic *nic)
{
	struct net_device *netdev = nic->netdev;
	u32 rctl = rd(nic, RCTL) & ~(RCTL_UPE | RCTL_MPE);
	struct netdev_hw_addr *address;
	u32 table[MTA_WORDS] = {};
	unsigned int i;

	netdev_for_each_mc_addr(address, netdev)
		add_to_hash(table, address->addr);
	for (i = 0; i < MTA_WORDS; i++)
		wr(nic, MTA + 4 * i, table[i]);
	if (netdev->flags & IFF_PROMISC)
		rctl |= RCTL_UPE | RCTL_MPE;
	if (netdev->flags & IFF_ALLMULTI)
		rctl |= RCTL_MPE;
	wr(nic, RCTL, rctl);
}

/*
 * 8.6: the PHY finds speed and duplex by itself (and wakes up, should the last driver have put it to sleep), the MAC
 * follows it.
 */
void chip_link_up(struct nic *nic)
{
	wr(nic, CTRL, (rd(nic, CTRL) & ~CTRL_RST) | CTRL_SLU | CTRL_ASDE | CTRL_FD);
	if (chip_phy_write(nic, MII_BMCR, BMCR_ANENABLE | BMCR_ANRESTART))
		netdev_err(nic->netdev, "the PHY does not answer\n");
}

bool chip_has_link(struct nic *nic)
{
	return rd(nic, STATUS) & STATUS_LU;
}

/* The registers count from the last read on. */
void chip_read_stats(struct nic *nic)
{
	static const u16 registers[STATS] = {
		[STAT_CRCERRS] = CRCERRS, [STAT_MPC] = MPC,   [STAT_RNBC] = RNBC, [STAT_GPRC] = GPRC, [STAT_BPRC] = BPRC,
		[STAT_MPRC] = MPRC,	  [STAT_GPTC] = GPTC, [STAT_TPR] = TPR,	  [STAT_TPT] = TPT,
	};
	unsigned int i;

	for (i = 0; i < STATS; i++)
		nic->stats[i] += rd(nic, registers[i]);
}
