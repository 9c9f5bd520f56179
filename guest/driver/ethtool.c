// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What ethtool asks: -i, no option, -S, -g, -e, -r. Called under rtnl.
 */
#include <linux/ethtool.h>
#include <linux/mii.h>

#include "minie1000.h"

static const char STAT_NAMES[STATS][ETH_GSTRING_LEN] = {
	[STAT_CRCERRS] = "crc_errors",	   [STAT_MPC] = "missed_packets",   [STAT_RNBC] = "no_buffers",
	[STAT_GPRC] = "good_rx_packets",   [STAT_BPRC] = "broadcast_rx",    [STAT_MPRC] = "multicast_rx",
	[STAT_GPTC] = "good_tx_packets",   [STAT_TPR] = "total_rx_packets", [STAT_TPT] = "total_tx_packets",
};

static void get_drvinfo(struct net_device *netdev, struct ethtool_drvinfo *info)
{
	struct nic *nic = netdev_priv(netdev);

	strscpy(info->driver, "minie1000", sizeof(info->driver));
	strscpy(info->bus_info, pci_name(nic->pci), sizeof(info->bus_info));
}

static int get_link_ksettings(struct net_device *netdev, struct ethtool_link_ksettings *settings)
{
	static const int speeds[] = {SPEED_10, SPEED_100, SPEED_1000, SPEED_1000};
	struct nic *nic = netdev_priv(netdev);
	u32 status = rd(nic, STATUS);

	ethtool_link_ksettings_add_link_mode(settings, supported, Autoneg);
	ethtool_link_ksettings_add_link_mode(settings, supported, TP);
	ethtool_link_ksettings_add_link_mode(settings, supported, 1000baseT_Full);
	settings->base.port = PORT_TP;
	settings->base.phy_address = 1;
	settings->base.autoneg = AUTONEG_ENABLE;
	settings->base.speed = SPEED_UNKNOWN;
	settings->base.duplex = DUPLEX_UNKNOWN;
	if (netif_carrier_ok(netdev)) {
		settings->base.speed = speeds[STATUS_SPEED(status)];
		settings->base.duplex = status & STATUS_FD ? DUPLEX_FULL : DUPLEX_HALF;
	}
	return 0;
}

static int nway_reset(struct net_device *netdev)
{
	if (!netif_running(netdev))
		return -EINVAL;
	return chip_phy_write(netdev_priv(netdev), MII_BMCR, BMCR_ANENABLE | BMCR_ANRESTART);
}

static void get_ringparam(struct net_device *netdev, struct ethtool_ringparam *ring,
			  struct kernel_ethtool_ringparam *more, struct netlink_ext_ack *ack)
{
	ring->rx_max_pending = ring->rx_pending = RING_SIZE;
	ring->tx_max_pending = ring->tx_pending = RING_SIZE;
}

static int get_eeprom_len(struct net_device *netdev)
{
	return 2 * EEPROM_WORDS;
}

static int get_eeprom(struct net_device *netdev, struct ethtool_eeprom *eeprom, u8 *bytes)
{
	struct nic *nic = netdev_priv(netdev);
	unsigned int i;

	eeprom->magic = nic->pci->vendor | nic->pci->device << 16;
	for (i = 0; i < eeprom->len; i++)
		bytes[i] = nic->eeprom[(eeprom->offset + i) / 2] >> 8 * ((eeprom->offset + i) % 2);
	return 0;
}

/* The statistics of the chip and, last, how many interrupts the driver took. */
static int get_sset_count(struct net_device *netdev, int set)
{
	return set == ETH_SS_STATS ? STATS + 1 : -EOPNOTSUPP;
}

static void get_strings(struct net_device *netdev, u32 set, u8 *strings)
{
	if (set != ETH_SS_STATS)
		return;
	memcpy(strings, STAT_NAMES, sizeof(STAT_NAMES));
	strscpy(strings + sizeof(STAT_NAMES), "interrupts", ETH_GSTRING_LEN);
}

static void get_ethtool_stats(struct net_device *netdev, struct ethtool_stats *header, u64 *values)
{
	struct nic *nic = netdev_priv(netdev);

	chip_read_stats(nic);
	memcpy(values, nic->stats, sizeof(nic->stats));
	values[STATS] = READ_ONCE(nic->interrupts);
}

const struct ethtool_ops minie1000_ethtool_ops = {
	.get_drvinfo = get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_link_ksettings = get_link_ksettings,
	.nway_reset = nway_reset,
	.get_ringparam = get_ringparam,
	.get_eeprom_len = get_eeprom_len,
	.get_eeprom = get_eeprom,
	.get_sset_count = get_sset_count,
	.get_strings = get_strings,
	.get_ethtool_stats = get_ethtool_stats,
};
