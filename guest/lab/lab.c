// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A network driver for the 8254x in seven steps, each of which runs: docs/driver-lab.md goes through them.
 *
 *   1 probe       2 reset       3 an interface with its MAC       4 transmit       5 receive       6 interrupts
 *   7 checksums left to the chip
 *
 * stepN.c sets STEP and includes this file, so the steps are modules step1.ko to step7.ko. To keep each of them small,
 * frames are copied in and out of buffers that stay where they are, and a full ring loses a frame. guest/driver does
 * better. Section numbers: Intel's "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual".
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/etherdevice.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/pci.h>

#include "../driver/regs.h"

#define NAME "step" __stringify(STEP)
#define RING 64 /* descriptors of 16 bytes; a ring is a multiple of 128 bytes */
#define BUFFER 2048

struct nic {
	struct net_device *netdev;
	struct pci_dev *pci;
	u8 __iomem *registers;
	u8 mac[ETH_ALEN];
#if STEP >= 4
	struct tx_desc *tx;
	u8 (*tx_buffer)[BUFFER];
	dma_addr_t tx_dma, tx_buffer_dma;
	unsigned int tx_next;
#endif
#if STEP >= 5
	struct rx_desc *rx;
	u8 (*rx_buffer)[BUFFER];
	dma_addr_t rx_dma, rx_buffer_dma;
	unsigned int rx_next;
#endif
#if STEP == 5
	struct timer_list timer;
#elif STEP >= 6
	struct napi_struct napi;
#endif
};

static u32 rd(struct nic *nic, u32 reg)
{
	return readl(nic->registers + reg);
}

static void __maybe_unused wr(struct nic *nic, u32 reg, u32 value)
{
	writel(value, nic->registers + reg);
}

/* --- step 2: a known state --------------------------------------------------------------------------------------- */

#if STEP >= 2
static void reset(struct nic *nic)
{
	unsigned int i;

	wr(nic, IMC, ~0u);
	wr(nic, RCTL, 0);
	wr(nic, TCTL, TCTL_PSP);
	rd(nic, STATUS); /* the writes before it are at the chip now */
	wr(nic, CTRL, rd(nic, CTRL) | CTRL_RST);
	usleep_range(5000, 6000); /* 14.3: it reads its EEPROM meanwhile, and RAL and RAH out of it */
	wr(nic, IMC, ~0u);
	rd(nic, ICR); /* causes of before */
	for (i = 0; i < MTA_WORDS; i++)
		wr(nic, MTA + 4 * i, 0); /* 13.5.1: has no start value */
}

static void read_mac(struct nic *nic)
{
	u32 low = rd(nic, RAL), high = rd(nic, RAH);
	unsigned int i;

	for (i = 0; i < ETH_ALEN; i++)
		nic->mac[i] = i < 4 ? low >> 8 * i : high >> 8 * (i - 4);
}
#endif

/* --- step 4: transmit -------------------------------------------------------------------------------------------- */

#if STEP >= 4
static void tx_start(struct nic *nic)
{
	unsigned int i;

	for (i = 0; i < RING; i++)
		nic->tx[i] = (struct tx_desc){
			.address = cpu_to_le64(nic->tx_buffer_dma + i * BUFFER),
			.status = TX_STATUS_DD, /* ours */
		};
	nic->tx_next = 0;
	wr(nic, TDBAL, lower_32_bits(nic->tx_dma));
	wr(nic, TDBAH, upper_32_bits(nic->tx_dma));
	wr(nic, TDLEN, RING * sizeof(struct tx_desc));
	wr(nic, TDH, 0);
	wr(nic, TDT, 0);
	wr(nic, TIPG, TIPG_COPPER);
	wr(nic, TCTL, TCTL_EN | TCTL_PSP | TCTL_CT(15) | TCTL_COLD(64));
}

static netdev_tx_t xmit(struct sk_buff *skb, struct net_device *netdev)
{
	struct nic *nic = netdev_priv(netdev);
	struct tx_desc *desc = &nic->tx[nic->tx_next];
	u8 cmd = TX_CMD_EOP | TX_CMD_IFCS | TX_CMD_RS;

	if (!(READ_ONCE(desc->status) & TX_STATUS_DD) || skb->len > BUFFER || skb_linearize(skb)) {
		netdev->stats.tx_dropped++;
		goto done;
	}
	dma_rmb();
#if STEP >= 7
	desc->cso = desc->css = 0;
	/* 3.3.3: from CSS to the end into the two bytes at CSO, which hold the sum of the pseudo header already. */
	if (skb->ip_summed == CHECKSUM_PARTIAL) {
		unsigned int start = skb_checksum_start_offset(skb);

		desc->css = start;
		desc->cso = start + skb->csum_offset;
		cmd |= BIT(2); /* IC */
	}
#endif
	memcpy(nic->tx_buffer[nic->tx_next], skb->data, skb->len);
	desc->length = cpu_to_le16(skb->len);
	desc->cmd = cmd;
	desc->status = 0; /* the chip's, from the doorbell on */
	nic->tx_next = (nic->tx_next + 1) % RING;
	netdev->stats.tx_packets++;
	netdev->stats.tx_bytes += skb->len;
	wr(nic, TDT, nic->tx_next); /* writel() orders the descriptor before it */
done:
	dev_consume_skb_any(skb);
	return NETDEV_TX_OK;
}
#elif STEP == 3
static netdev_tx_t xmit(struct sk_buff *skb, struct net_device *netdev)
{
	netdev->stats.tx_dropped++;
	dev_kfree_skb_any(skb);
	return NETDEV_TX_OK;
}
#endif

/* --- step 5: receive --------------------------------------------------------------------------------------------- */

#if STEP >= 5
static void rx_start(struct nic *nic)
{
	unsigned int i;

	for (i = 0; i < RING; i++)
		nic->rx[i] = (struct rx_desc){.address = cpu_to_le64(nic->rx_buffer_dma + i * BUFFER)};
	nic->rx_next = 0;
	wr(nic, RDBAL, lower_32_bits(nic->rx_dma));
	wr(nic, RDBAH, upper_32_bits(nic->rx_dma));
	wr(nic, RDLEN, RING * sizeof(struct rx_desc));
	wr(nic, RDH, 0);
	wr(nic, RDT, RING - 1); /* head equal to tail: the chip has none */
#if STEP >= 7
	wr(nic, RXCSUM, RXCSUM_TUOFL);
#endif
	wr(nic, RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC);
}

static void receive_one(struct nic *nic, struct rx_desc *desc, const u8 *data)
{
	unsigned int length = le16_to_cpu(desc->length);
	struct sk_buff *skb;

	if (!(desc->status & RX_STATUS_EOP) || desc->errors & RX_ERROR_FRAME || length < ETH_HLEN || length > BUFFER) {
		nic->netdev->stats.rx_errors++;
		return;
	}
	skb = netdev_alloc_skb_ip_align(nic->netdev, length);
	if (!skb) {
		nic->netdev->stats.rx_dropped++;
		return;
	}
	skb_put_data(skb, data, length);
#if STEP >= 7
	/* 3.2.9: TCPCS says that the sum was computed, the errors whether it is right. */
	if (!(desc->status & RX_STATUS_IXSM) && desc->status & RX_STATUS_TCPCS &&
	    !(desc->errors & (RX_ERROR_TCPE | RX_ERROR_IPE)))
		skb->ip_summed = CHECKSUM_UNNECESSARY;
#endif
	nic->netdev->stats.rx_packets++;
	nic->netdev->stats.rx_bytes += length;
	skb->protocol = eth_type_trans(skb, nic->netdev);
	netif_receive_skb(skb);
}

/* Takes at most `budget` frames; how many there were. */
static int receive(struct nic *nic, int budget)
{
	int done;

	for (done = 0; done < budget; done++) {
		unsigned int at = nic->rx_next;
		struct rx_desc *desc = &nic->rx[at];

		if (!(READ_ONCE(desc->status) & RX_STATUS_DD))
			break;
		dma_rmb(); /* the rest of the descriptor is older than DD */
		receive_one(nic, desc, nic->rx_buffer[at]);
		desc->status = 0;
		nic->rx_next = (at + 1) % RING;
		wr(nic, RDT, at); /* all up to, and without, this one are the chip's again */
	}
	return done;
}
#endif

#if STEP == 5
static void look(struct timer_list *timer)
{
	struct nic *nic = container_of(timer, struct nic, timer);

	receive(nic, RING);
	mod_timer(timer, jiffies + 1);
}
#endif

/* --- step 6: interrupts ------------------------------------------------------------------------------------------ */

#if STEP >= 6
static irqreturn_t interrupt(int number, void *data)
{
	struct nic *nic = data;
	u32 causes = rd(nic, ICR); /* 13.4.17: clears them, and with them the line */

	if (!causes)
		return IRQ_NONE; /* the line is shared */
	if (causes & CAUSE_LSC) {
		if (rd(nic, STATUS) & STATUS_LU)
			netif_carrier_on(nic->netdev);
		else
			netif_carrier_off(nic->netdev);
	}
	if (causes & CAUSE_RINGS) {
		wr(nic, IMC, CAUSE_RINGS); /* until poll has caught up */
		napi_schedule(&nic->napi);
	}
	return IRQ_HANDLED;
}

static int poll(struct napi_struct *napi, int budget)
{
	struct nic *nic = container_of(napi, struct nic, napi);
	int done = receive(nic, budget);

	if (done < budget && napi_complete_done(napi, done))
		wr(nic, IMS, CAUSE_RINGS); /* what came meanwhile raises the interrupt now */
	return done;
}
#endif

/* --- step 3: an interface ---------------------------------------------------------------------------------------- */

#if STEP >= 3
static int open(struct net_device *netdev)
{
	struct nic *nic = netdev_priv(netdev);

	reset(nic);
	/* 13.5.2: what is sent to this address is for us. */
	wr(nic, RAL, nic->mac[0] | nic->mac[1] << 8 | nic->mac[2] << 16 | (u32)nic->mac[3] << 24);
	wr(nic, RAH, nic->mac[4] | nic->mac[5] << 8 | RAH_AV);
#if STEP >= 4
	tx_start(nic);
#endif
#if STEP >= 5
	rx_start(nic);
#endif
#if STEP >= 6
	if (request_irq(nic->pci->irq, interrupt, IRQF_SHARED, netdev->name, nic))
		return -EBUSY;
	napi_enable(&nic->napi);
#endif
	wr(nic, CTRL, (rd(nic, CTRL) & ~CTRL_RST) | CTRL_SLU | CTRL_ASDE);
#if STEP == 5
	timer_setup(&nic->timer, look, 0);
	mod_timer(&nic->timer, jiffies + 1);
#elif STEP >= 6
	wr(nic, IMS, CAUSE_RINGS | CAUSE_LSC);
	wr(nic, ICS, CAUSE_LSC); /* a first look at the link, where all later ones are */
#endif
	netif_start_queue(netdev);
	return 0;
}

static int stop(struct net_device *netdev)
{
	struct nic *nic = netdev_priv(netdev);

	netif_stop_queue(netdev);
#if STEP == 5
	del_timer_sync(&nic->timer);
#elif STEP >= 6
	wr(nic, IMC, ~0u);
	napi_disable(&nic->napi);
	wr(nic, IMC, ~0u); /* poll may have unmasked */
	free_irq(nic->pci->irq, nic);
#endif
	reset(nic); /* from here on the chip touches no memory */
	return 0;
}

static const struct net_device_ops OPS = {
	.ndo_open = open,
	.ndo_stop = stop,
	.ndo_start_xmit = xmit,
	.ndo_validate_addr = eth_validate_addr,
};

/* Memory that chip and driver see alike; it goes with the device. */
static int __maybe_unused alloc_rings(struct nic *nic)
{
#if STEP >= 4
	struct device *dev = &nic->pci->dev;

	nic->tx = dmam_alloc_coherent(dev, RING * sizeof(*nic->tx), &nic->tx_dma, GFP_KERNEL);
	nic->tx_buffer = dmam_alloc_coherent(dev, RING * BUFFER, &nic->tx_buffer_dma, GFP_KERNEL);
	if (!nic->tx || !nic->tx_buffer)
		return -ENOMEM;
#endif
#if STEP >= 5
	nic->rx = dmam_alloc_coherent(dev, RING * sizeof(*nic->rx), &nic->rx_dma, GFP_KERNEL);
	nic->rx_buffer = dmam_alloc_coherent(dev, RING * BUFFER, &nic->rx_buffer_dma, GFP_KERNEL);
	if (!nic->rx || !nic->rx_buffer)
		return -ENOMEM;
#endif
	return 0;
}

static int make_interface(struct nic *nic)
{
	int error = alloc_rings(nic);

	if (error)
		return error;
	eth_hw_addr_set(nic->netdev, nic->mac);
	nic->netdev->netdev_ops = &OPS;
#if STEP >= 6
	netif_napi_add(nic->netdev, &nic->napi, poll);
#endif
#if STEP >= 7
	nic->netdev->hw_features = NETIF_F_HW_CSUM | NETIF_F_RXCSUM | NETIF_F_SG;
	nic->netdev->features = nic->netdev->hw_features;
#endif
	return register_netdev(nic->netdev);
}
#endif

/* --- step 1: find the chip --------------------------------------------------------------------------------------- */

static int probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	struct net_device *netdev = devm_alloc_etherdev(&pci->dev, sizeof(struct nic));
	struct nic *nic;
	int error;

	if (!netdev)
		return -ENOMEM;
	nic = netdev_priv(netdev);
	nic->netdev = netdev;
	nic->pci = pci;
	SET_NETDEV_DEV(netdev, &pci->dev);
	pci_set_drvdata(pci, nic);
	error = pcim_enable_device(pci);
	if (!error)
		error = pcim_iomap_regions(pci, BIT(0), NAME);
	if (error)
		return error;
	nic->registers = pcim_iomap_table(pci)[0];
	dev_info(&pci->dev, NAME ": STATUS %08x\n", rd(nic, STATUS));
#if STEP >= 2
	reset(nic);
	read_mac(nic);
	dev_info(&pci->dev, NAME ": MAC %pM\n", nic->mac);
#endif
#if STEP >= 4
	error = dma_set_mask_and_coherent(&pci->dev, DMA_BIT_MASK(64));
	if (error)
		return error;
	pci_set_master(pci); /* without it the chip reads no descriptor */
#endif
#if STEP >= 3
	error = make_interface(nic);
#endif
	return error;
}

static void remove(struct pci_dev *pci)
{
#if STEP >= 3
	struct nic *nic = pci_get_drvdata(pci);

	unregister_netdev(nic->netdev); /* stops it first */
#endif
#if STEP >= 4
	pci_clear_master(pci);
#endif
}

static const struct pci_device_id IDS[] = {
	{PCI_VDEVICE(INTEL, 0x100e)}, /* 82540EM */
	{PCI_VDEVICE(INTEL, 0x100f)}, /* 82545EM */
	{PCI_VDEVICE(INTEL, 0x100c)}, /* 82544GC */
	{}
};
MODULE_DEVICE_TABLE(pci, IDS);

static struct pci_driver DRIVER = {
	.name = NAME,
	.id_table = IDS,
	.probe = probe,
	.remove = remove,
};
module_pci_driver(DRIVER);

MODULE_DESCRIPTION("A driver for Intel 8254x network controllers, step " __stringify(STEP) " of 7");
MODULE_LICENSE("Dual MIT/GPL");
