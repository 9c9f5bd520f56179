// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The two rings. The chip owns the descriptors from its head up to, and without, the one at the tail.
 *
 * Transmit: xmit writes descriptors and moves the tail, NAPI looks for DD and frees what was sent. Receive: the
 * buffers stay where they are, each frame is copied out of its buffer, which then goes back to the chip. A buffer
 * is a 2048-byte kmalloc, which never crosses a 64 KiB boundary.
 */
#include <linux/dma-mapping.h>
#include <linux/etherdevice.h>
#include <linux/slab.h>

#include "minie1000.h"

static unsigned int after(unsigned int at)
{
	return (at + 1) % RING_SIZE;
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

static int alloc_rx_buffer(struct nic *nic, unsigned int i)
{
	struct device *dev = &nic->pci->dev;
	u8 *data = kmalloc(RX_BUFFER_SIZE, GFP_KERNEL);
	dma_addr_t dma;

	if (!data)
		return -ENOMEM;
	dma = dma_map_single(dev, data, RX_BUFFER_SIZE, DMA_FROM_DEVICE);
	if (dma_mapping_error(dev, dma)) {
		kfree(data);
		return -ENOMEM;
	}
	nic->rx.slot[i].data = data;
	nic->rx.slot[i].dma = dma;
	nic->rx.desc[i].address = cpu_to_le64(dma);
	return 0;
}

int rings_alloc(struct nic *nic)
{
	struct device *dev = &nic->pci->dev;
	unsigned int i;

	memset(&nic->tx, 0, sizeof(nic->tx));
	memset(&nic->rx, 0, sizeof(nic->rx));
	/* Zeroed, and aligned to a page; 16 bytes would do. */
	nic->tx.desc = dma_alloc_coherent(dev, RING_SIZE * sizeof(struct tx_desc), &nic->tx.dma, GFP_KERNEL);
	nic->rx.desc = dma_alloc_coherent(dev, RING_SIZE * sizeof(struct rx_desc), &nic->rx.dma, GFP_KERNEL);
	if (!nic->tx.desc || !nic->rx.desc)
		goto failed;
	for (i = 0; i < RING_SIZE; i++)
		if (alloc_rx_buffer(nic, i))
			goto failed;
	return 0;
failed:
	rings_free(nic);
	return -ENOMEM;
}

static void free_tx_slot(struct nic *nic, unsigned int i, int budget)
{
	struct sk_buff *skb = nic->tx.slot[i].skb;

	dma_unmap_single(&nic->pci->dev, nic->tx.slot[i].dma, skb->len, DMA_TO_DEVICE);
	napi_consume_skb(skb, budget);
	nic->tx.slot[i].skb = NULL;
}

/* The chip no longer runs. */
void rings_free(struct nic *nic)
{
	struct device *dev = &nic->pci->dev;
	unsigned int i;

	for (i = 0; i < RING_SIZE; i++) {
		if (nic->tx.slot[i].skb)
			free_tx_slot(nic, i, 0);
		if (nic->rx.slot[i].data) {
			dma_unmap_single(dev, nic->rx.slot[i].dma, RX_BUFFER_SIZE, DMA_FROM_DEVICE);
			kfree(nic->rx.slot[i].data);
		}
	}
	if (nic->tx.desc)
		dma_free_coherent(dev, RING_SIZE * sizeof(struct tx_desc), nic->tx.desc, nic->tx.dma);
	if (nic->rx.desc)
		dma_free_coherent(dev, RING_SIZE * sizeof(struct rx_desc), nic->rx.desc, nic->rx.dma);
}

/* --- start and stop ---------------------------------------------------------------------------------------------- */

/* 14.4 and 14.5 */
void rings_start(struct nic *nic)
{
	wr(nic, RDBAL, lower_32_bits(nic->rx.dma));
	wr(nic, RDBAH, upper_32_bits(nic->rx.dma));
	wr(nic, RDLEN, RING_SIZE * sizeof(struct rx_desc));
	wr(nic, RDH, 0);
	wr(nic, RDT, RING_SIZE - 1); /* a tail equal to the head would mean "none" */
	wr(nic, RXCSUM, RXCSUM_TUOFL);
	wr(nic, RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC);

	wr(nic, TDBAL, lower_32_bits(nic->tx.dma));
	wr(nic, TDBAH, upper_32_bits(nic->tx.dma));
	wr(nic, TDLEN, RING_SIZE * sizeof(struct tx_desc));
	wr(nic, TDH, 0);
	wr(nic, TDT, 0);
	wr(nic, TIPG, TIPG_COPPER);
	wr(nic, TCTL, TCTL_EN | TCTL_PSP | TCTL_CT(15) | TCTL_COLD(64));
}

void rings_stop(struct nic *nic)
{
	wr(nic, RCTL, 0);
	wr(nic, TCTL, TCTL_PSP);
	flush(nic);
}

/* --- transmit ---------------------------------------------------------------------------------------------------- */

static bool tx_full(const struct tx_ring *tx)
{
	return after(tx->tail) == READ_ONCE(tx->head);
}

netdev_tx_t rings_xmit(struct sk_buff *skb, struct net_device *netdev)
{
	struct nic *nic = netdev_priv(netdev);
	struct device *dev = &nic->pci->dev;
	struct tx_ring *tx = &nic->tx;
	unsigned int at = tx->tail;
	struct tx_desc *desc = &tx->desc[at];
	dma_addr_t dma = dma_map_single(dev, skb->data, skb->len, DMA_TO_DEVICE);

	if (dma_mapping_error(dev, dma)) {
		dev_kfree_skb_any(skb);
		netdev->stats.tx_dropped++;
		return NETDEV_TX_OK;
	}
	desc->address = cpu_to_le64(dma);
	desc->length = cpu_to_le16(skb->len);
	desc->cmd = TX_CMD_EOP | TX_CMD_IFCS | TX_CMD_RS;
	desc->status = 0;
	tx->slot[at].skb = skb;
	tx->slot[at].dma = dma;
	/* NAPI may look at the slot once it sees the new tail. */
	smp_store_release(&tx->tail, after(at));
	if (tx_full(tx)) {
		netif_stop_queue(netdev);
		/* NAPI may have freed some before it could see that the queue is stopped. */
		smp_mb();
		if (!tx_full(tx))
			netif_start_queue(netdev);
	}
	/* writel() orders the descriptor before the doorbell. */
	if (!netdev_xmit_more() || netif_queue_stopped(netdev))
		wr(nic, TDT, tx->tail);
	return NETDEV_TX_OK;
}

static void clean_tx(struct nic *nic, int budget)
{
	struct net_device *netdev = nic->netdev;
	struct tx_ring *tx = &nic->tx;
	unsigned int at = tx->head, tail = smp_load_acquire(&tx->tail);

	while (at != tail && READ_ONCE(tx->desc[at].status) & TX_STATUS_DD) {
		netdev->stats.tx_packets++;
		netdev->stats.tx_bytes += tx->slot[at].skb->len;
		free_tx_slot(nic, at, budget);
		at = after(at);
	}
	WRITE_ONCE(tx->head, at);
	smp_mb();
	if (netif_queue_stopped(netdev) && !tx_full(tx) && netif_carrier_ok(netdev))
		netif_wake_queue(netdev);
}

/* --- receive ----------------------------------------------------------------------------------------------------- */

static void receive_one(struct nic *nic, unsigned int at)
{
	struct net_device *netdev = nic->netdev;
	struct rx_desc *desc = &nic->rx.desc[at];
	unsigned int length = le16_to_cpu(desc->length);
	u8 status = desc->status, errors = desc->errors;
	struct sk_buff *skb;

	if (!(status & RX_STATUS_EOP) || errors & RX_ERROR_FRAME || length < ETH_HLEN || length > RX_BUFFER_SIZE) {
		netdev->stats.rx_errors++;
		return;
	}
	skb = napi_alloc_skb(&nic->napi, length);
	if (!skb) {
		netdev->stats.rx_dropped++;
		return;
	}
	dma_sync_single_for_cpu(&nic->pci->dev, nic->rx.slot[at].dma, length, DMA_FROM_DEVICE);
	skb_put_data(skb, nic->rx.slot[at].data, length);
	dma_sync_single_for_device(&nic->pci->dev, nic->rx.slot[at].dma, length, DMA_FROM_DEVICE);
	/* 3.2.9: TCPCS says that the sum was computed, TCPE that it is wrong; then the stack looks itself. */
	if (netdev->features & NETIF_F_RXCSUM && !(status & RX_STATUS_IXSM) && status & RX_STATUS_TCPCS &&
	    !(errors & (RX_ERROR_TCPE | RX_ERROR_IPE)))
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	netdev->stats.rx_packets++;
	netdev->stats.rx_bytes += length;
	skb->protocol = eth_type_trans(skb, netdev);
	napi_gro_receive(&nic->napi, skb);
}

static int receive(struct nic *nic, int budget)
{
	struct rx_ring *rx = &nic->rx;
	unsigned int last = RING_SIZE;
	int done;

	for (done = 0; done < budget; done++) {
		struct rx_desc *desc = &rx->desc[rx->next];

		if (!(READ_ONCE(desc->status) & RX_STATUS_DD))
			break;
		dma_rmb(); /* the rest of the descriptor is older than DD */
		receive_one(nic, rx->next);
		desc->status = 0;
		last = rx->next;
		rx->next = after(rx->next);
	}
	/* The last one read becomes the tail: it belongs to us still, all before it to the chip. */
	if (last != RING_SIZE)
		wr(nic, RDT, last);
	return done;
}

int rings_poll(struct napi_struct *napi, int budget)
{
	struct nic *nic = container_of(napi, struct nic, napi);
	int done;

	clean_tx(nic, budget);
	done = receive(nic, budget);
	/* A cause that came in the meantime raises the interrupt as soon as it is unmasked. */
	if (done < budget && napi_complete_done(napi, done))
		wr(nic, IMS, CAUSE_ALL);
	return done;
}
