//! The events' names, as `-trace` patterns and trace lines know them.

use crate::fault::{CableEffect, CableHit};
use crate::nic::e1000::observe::{Event, Ring};

/// Every name and what it stands for.
pub const NAMES: &[(&str, &str)] = &[
    ("e1000_register_read", "a register was read: value, decoded bits"),
    ("e1000_register_write", "a register was written: value, old and new, decoded bits"),
    ("e1000_bad_access", "an access that the part does not take, or to no register"),
    ("e1000_reset", "CTRL.RST, RST# or leaving D3hot"),
    ("e1000_tx_fetch", "a transmit descriptor as it was read"),
    ("e1000_tx_writeback", "a transmit descriptor's status was written"),
    ("e1000_tx_head", "TDH moved, and with which causes"),
    ("e1000_tx_frame", "a frame was sent, or why not"),
    ("e1000_rx_fetch", "a receive descriptor as it was read"),
    ("e1000_rx_writeback", "a receive descriptor was written back"),
    ("e1000_rx_head", "RDH moved, and with which causes"),
    ("e1000_rx_frame", "a frame came: which filter took it, or why it was dropped"),
    ("e1000_dma_error", "memory of a ring or buffer could not be reached"),
    ("e1000_irq_raise", "causes were set in ICR"),
    ("e1000_irq_ack", "causes were cleared in ICR"),
    ("e1000_irq_mask", "IMS changed"),
    ("e1000_irq_deliver", "INTA# went up (or a message left) or down"),
    ("e1000_link", "the link went up or down"),
    ("e1000_phy", "a PHY register was accessed through MDIC"),
    ("e1000_eeprom", "an EEPROM word was read or programmed"),
    ("e1000_fault", "a -fault struck in the card: plan, seed, what happens"),
    ("e1000_finding", "the driver doctor found something (with -d guest_errors)"),
    (
        "net_fault_frame",
        "a -fault struck a frame on a netdev's cable: plan, seed, direction, length, what was done",
    ),
    ("net_fault_link", "a -fault pulled a netdev's cable out, or put it in"),
];

/// The name of a finding of the doctor.
pub(super) const FINDING: &str = "e1000_finding";

/// The name of a fault on a cable.
pub(super) fn name_of_hit(hit: &CableHit<'_>) -> &'static str {
    match hit.what {
        CableEffect::Frame { .. } => "net_fault_frame",
        CableEffect::Link { .. } => "net_fault_link",
    }
}

/// Whether `name` is that of something that happens in a NIC ([`name_of`]).
pub fn is_of_the_device(name: &str) -> bool {
    name.starts_with("e1000_") && name != FINDING
}

/// The name of `event`.
pub fn name_of(event: &Event<'_>) -> &'static str {
    match event {
        Event::RegisterRead { .. } => "e1000_register_read",
        Event::RegisterWrite { .. } => "e1000_register_write",
        Event::NoRegister { .. } | Event::BadAccess { .. } => "e1000_bad_access",
        Event::Reset { .. } => "e1000_reset",
        Event::Fetched { ring: Ring::Tx, .. } => "e1000_tx_fetch",
        Event::Fetched { ring: Ring::Rx, .. } => "e1000_rx_fetch",
        Event::WrittenBack { ring: Ring::Tx, .. } => "e1000_tx_writeback",
        Event::WrittenBack { ring: Ring::Rx, .. } => "e1000_rx_writeback",
        Event::HeadMoved { ring: Ring::Tx, .. } => "e1000_tx_head",
        Event::HeadMoved { ring: Ring::Rx, .. } => "e1000_rx_head",
        Event::Sent(_) => "e1000_tx_frame",
        Event::Arrived { .. } => "e1000_rx_frame",
        Event::DmaFailed { .. } => "e1000_dma_error",
        Event::Raised { .. } => "e1000_irq_raise",
        Event::Acknowledged { .. } => "e1000_irq_ack",
        Event::Masked { .. } => "e1000_irq_mask",
        Event::Line { .. } => "e1000_irq_deliver",
        Event::Link { .. } => "e1000_link",
        Event::Phy { .. } => "e1000_phy",
        Event::Eeprom { .. } => "e1000_eeprom",
        Event::Fault { .. } => "e1000_fault",
    }
}

#[cfg(test)]
mod tests {
    use super::NAMES;

    #[test]
    fn what_has_a_name_can_be_asked_for() {
        let source = include_str!("names.rs");
        let functions = source.split_once("/// The name of `event`").unwrap().1;
        let hits = source.split_once("fn name_of_hit").unwrap().1.split_once('}').unwrap().0;
        let named = |text: &str| -> Vec<String> {
            text.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
        };
        let all = [named(functions), named(hits)].concat();
        assert!(all.len() > 20, "{all:?}");
        for name in all {
            assert!(
                NAMES.iter().any(|(known, _)| *known == name),
                "{name} is not in NAMES: no pattern finds it"
            );
        }
    }
}
