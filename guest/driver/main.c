// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The PCI device, the network interface, the interrupt.
 *
 * The parameter `irq` chooses how the interrupt comes: `msi`, `intx`, or `auto`, which is MSI where there is MSI.
 */
#include <linux/etherdevice.h>
#include <linux/interrupt.h>
#include <linux/module.h>

#include "minie1000.h"

#ifndef PCI_IRQ_INTX /* its name before Linux 6.8 */
#define PCI_IRQ_INTX PCI_IRQ_LEGACY
#endif

static char *irq = "auto";
module_param(irq, charp, 0444);
MODULE_PARM_DESC(irq, "how interrupts come: auto (default), msi or intx");

/* --- interrupt --------------------------------------------------------------------------------------------------- */

static void look_at_link(struct nic *nic)
{
	bool up = chip_has_link(nic);

	if (up == netif_carrier_ok(nic->netdev))
		return;
	netdev_info(nic->netdev, "link %s\n", up ? "up" : "down");
	if (up)
		netif_carrier_on(nic->netdev);
	else
		netif_carrier_off(nic->netdev);
}

/*
 * Reading ICR clears all causes, and with that takes INTA# back. By MSI the next message comes when (ICR & IMS)
 * becomes non-zero again, so the causes are masked while NAPI works and unmasked when it is done (rings_poll).
 */
static irqreturn_t interrupt(int number, void *data)
{
	struct nic *nic = data;
	u32 causes = rd(nic, ICR);

	if (!causes)
		return IRQ_NONE; /* the line is shared and this is not ours */
	nic->interrupts++;
	if (causes & CAUSE_LSC)
		look_at_link(nic);
	if (causes & CAUSE_RINGS) {
		wr(nic, IMC, ~0u);
		napi_schedule(&nic->napi);
	}
	return IRQ_HANDLED;
}

/* --- network interface ------------------------------------------------------------------------------------------- */

static int open(struct net_device *netdev)
{
	struct nic *nic = netdev_priv(netdev);
	int error = rings_alloc(nic);

	if (error)
		return error;
	chip_reset(nic);
	chip_set_address(nic);
	rings_start(nic);
	error = request_irq(pci_irq_vector(nic->pci, 0), interrupt, nic->pci->msi_enabled ? 0 : IRQF_SHARED,
			    netdev->name, nic);
	if (error) {
		rings_stop(nic);
		rings_free(nic);
		return error;
	}
	napi_enable(&nic->napi);
	netif_carrier_off(netdev);
	netif_start_queue(netdev);
	chip_link_up(nic);
	wr(nic, IMS, CAUSE_ALL);
	wr(nic, ICS, CAUSE_LSC); /* a first look at the link, from where all later ones happen */
	return 0; /* next, the network stack calls set_rx_mode */
}

static int stop(struct net_device *netdev)
{
	struct nic *nic = netdev_priv(netdev);

	netif_stop_queue(netdev);
	napi_disable(&nic->napi); /* from here on nobody unmasks */
	wr(nic, IMC, ~0u);
	flush(nic);
	free_irq(pci_irq_vector(nic->pci, 0), nic);
	netif_carrier_off(netdev);
	chip_read_stats(nic);
	chip_reset(nic);
	rings_free(nic);
	return 0;
}

static void set_rx_mode(struct net_device *netdev)
{
	chip_set_rx_mode(netdev_priv(netdev));
}

static int set_mac_address(struct net_device *netdev, void *address)
{
	int error = eth_mac_addr(netdev, address);

	if (!error)
		chip_set_address(netdev_priv(netdev));
	return error;
}

static void tx_timeout(struct net_device *netdev, unsigned int queue)
{
	struct nic *nic = netdev_priv(netdev);

	netdev_err(netdev, "nothing is sent: TDH %u TDT %u head %u tail %u\n", rd(nic, TDH), rd(nic, TDT), nic->tx.head,
		   nic->tx.tail);
}

static const struct net_device_ops NETDEV_OPS = {
	.ndo_open = open,
	.ndo_stop = stop,
	.ndo_start_xmit = rings_xmit,
	.ndo_set_rx_mode = set_rx_mode,
	.ndo_set_mac_address = set_mac_address,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_tx_timeout = tx_timeout,
};

/* --- PCI device -------------------------------------------------------------------------------------------------- */

static int irq_types(void)
{
	if (!strcmp(irq, "msi"))
		return PCI_IRQ_MSI;
	if (!strcmp(irq, "intx"))
		return PCI_IRQ_INTX;
	return strcmp(irq, "auto") ? -EINVAL : PCI_IRQ_MSI | PCI_IRQ_INTX;
}

static int read_address(struct nic *nic)
{
	int error = chip_read_eeprom(nic);
	u8 mac[ETH_ALEN];
	unsigned int i;

	if (error)
		return dev_err_probe(&nic->pci->dev, error, "the EEPROM cannot be read or its checksum is wrong\n");
	for (i = 0; i < ETH_ALEN; i++)
		mac[i] = nic->eeprom[i / 2] >> 8 * (i % 2);
	if (!is_valid_ether_addr(mac))
		return dev_err_probe(&nic->pci->dev, -EADDRNOTAVAIL, "the EEPROM holds no address: %pM\n", mac);
	eth_hw_addr_set(nic->netdev, mac);
	return 0;
}

/* Everything that is taken here goes by itself when the device does (pcim_, devm_), except the vectors. */
static int probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	struct net_device *netdev = devm_alloc_etherdev(&pci->dev, sizeof(struct nic));
	int error, types = irq_types();
	struct nic *nic;

	if (!netdev)
		return -ENOMEM;
	if (types < 0)
		return dev_err_probe(&pci->dev, types, "irq=%s: write auto, msi or intx\n", irq);
	nic = netdev_priv(netdev);
	nic->netdev = netdev;
	nic->pci = pci;
	SET_NETDEV_DEV(netdev, &pci->dev);
	pci_set_drvdata(pci, nic);

	error = pcim_enable_device(pci);
	if (!error)
		error = pcim_iomap_regions(pci, BIT(0), "minie1000");
	if (!error)
		error = dma_set_mask_and_coherent(&pci->dev, DMA_BIT_MASK(64));
	if (error)
		return error;
	nic->registers = pcim_iomap_table(pci)[0];
	pci_set_master(pci);
	chip_reset(nic);
	error = read_address(nic);
	if (error)
		return error;

	error = pci_alloc_irq_vectors(pci, 1, 1, types);
	if (error < 0)
		return dev_err_probe(&pci->dev, error, "no interrupt by irq=%s\n", irq);
	netdev->netdev_ops = &NETDEV_OPS;
	netdev->ethtool_ops = &minie1000_ethtool_ops;
	netdev->hw_features = NETIF_F_RXCSUM;
	netdev->features = netdev->hw_features;
	netif_napi_add(netdev, &nic->napi, rings_poll);
	error = register_netdev(netdev);
	if (error) {
		pci_free_irq_vectors(pci);
		return error;
	}
	netif_carrier_off(netdev);
	netdev_info(netdev, "%pM, interrupt %d by %s\n", netdev->dev_addr, pci_irq_vector(pci, 0),
		    pci->msi_enabled ? "MSI" : "INTx");
	return 0;
}

static void remove(struct pci_dev *pci)
{
	struct nic *nic = pci_get_drvdata(pci);

	unregister_netdev(nic->netdev); /* stops it first */
	pci_free_irq_vectors(pci);
}

static const struct pci_device_id IDS[] = {
	{PCI_VDEVICE(INTEL, 0x100e)}, /* 82540EM */
	{PCI_VDEVICE(INTEL, 0x100f)}, /* 82545EM */
	{PCI_VDEVICE(INTEL, 0x1008)}, /* 82544EI */
	{PCI_VDEVICE(INTEL, 0x100c)}, /* 82544GC */
	{}
};
MODULE_DEVICE_TABLE(pci, IDS);

static struct pci_driver DRIVER = {
	.name = "minie1000",
	.id_table = IDS,
	.probe = probe,
	.remove = remove,
};
module_pci_driver(DRIVER);

MODULE_DESCRIPTION("Sample driver for Intel 8254x network controllers");
MODULE_LICENSE("Dual MIT/GPL");
