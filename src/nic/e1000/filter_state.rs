//! What the address filters are set to, as plain data, and who hears that they changed: for the monitor's
//! `query-rx-filter`.
//!
//! Read-only; what the filters do is in `rx_filter.rs`.

use std::fmt;
use std::sync::OnceLock;

use super::E1000;
use super::regs::Regs;
use super::regs::table::Found;
use super::spec::{rah, rctl, reg};

/// The address filters at one moment (manual, sections 13.4.22 and 13.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterState {
    /// RCTL.EN.
    pub receiver_on: bool,
    /// RCTL.UPE.
    pub all_unicast: bool,
    /// RCTL.MPE.
    pub all_multicast: bool,
    /// RCTL.BAM.
    pub broadcast: bool,
    /// RAL0 and RAH0, valid or not.
    pub station: [u8; 6],
    /// The valid addresses of the 16 pairs, in their order.
    pub exact: Vec<[u8; 6]>,
    /// Whether the multicast hash lets anything through.
    pub hash: bool,
    /// RCTL.VFE.
    pub vlan_filter: bool,
    /// The VLANs that VFTA lets through.
    pub vlans: Vec<u16>,
}

/// Who is told that the filters changed.
#[derive(Default)]
pub(super) struct FilterListener(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for FilterListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FilterListener")
    }
}

impl FilterListener {
    pub(super) fn tell(&self) {
        if let Some(listener) = self.0.get() {
            listener();
        }
    }
}

impl Found {
    /// Whether the register is one of the address filters'.
    pub(super) fn is_filter(&self) -> bool {
        [reg::RCTL, reg::RAL, reg::RAH, reg::MTA, reg::VFTA].contains(&self.row.offset)
    }
}

impl E1000 {
    /// Names who is told that the guest has changed the filters, once. Called in the vCPU's thread with no lock
    /// held, at most once for each register write; must not wait.
    pub fn on_filter_change(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.filter_listener.0.get_or_init(|| Box::new(listener));
    }

    /// The address filters as the guest has set them.
    pub fn filter_state(&self) -> FilterState {
        self.regs().filter_state()
    }
}

impl Regs {
    fn filter_state(&self) -> FilterState {
        let control = self.get(reg::RCTL);
        let on = |bit: u32| control & bit != 0;
        let valid = |n: &u32| {
            let high = self.get(reg::RAH + 8 * n);
            high & rah::AV != 0 && high & rah::AS_MASK == 0
        };
        let listed = |id: &u16| self.get(reg::VFTA + 4 * u32::from(id >> 5)) >> (id & 31) & 1 != 0;
        FilterState {
            receiver_on: on(rctl::EN),
            all_unicast: on(rctl::UPE),
            all_multicast: on(rctl::MPE),
            broadcast: on(rctl::BAM),
            station: self.receive_address(0),
            exact: (0..16).filter(valid).map(|n| self.receive_address(n)).collect(),
            hash: (0..128).any(|n| self.get(reg::MTA + 4 * n) != 0),
            vlan_filter: on(rctl::VFE),
            vlans: (0..4096).filter(listed).collect(),
        }
    }

    fn receive_address(&self, n: u32) -> [u8; 6] {
        let ([a, b, c, d], [e, f, ..]) =
            (self.get(reg::RAL + 8 * n).to_le_bytes(), self.get(reg::RAH + 8 * n).to_le_bytes());
        [a, b, c, d, e, f]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::testing::TestNic;
    use super::*;

    #[test]
    fn the_state_is_what_the_guest_has_set_and_changes_are_told() {
        let nic = TestNic::default();
        let told = Arc::new(AtomicU32::new(0));
        let count = told.clone();
        nic.nic.on_filter_change(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let station = nic.nic.filter_state().station;
        nic.write(reg::RCTL, rctl::EN | rctl::UPE | rctl::BAM | rctl::VFE);
        nic.write(reg::RAL + 8, 0x0300_5e01);
        nic.write(reg::RAH + 8, rah::AV | 0x0504);
        nic.write(reg::MTA + 4 * 7, 1);
        nic.write(reg::VFTA + 4, 1 << 3);
        nic.write(reg::VFTA + 4, 1 << 3);
        nic.write(reg::TDT, 0);
        assert_eq!(told.load(Ordering::SeqCst), 5, "neither the same value nor another register");
        let state = nic.nic.filter_state();
        assert!(state.receiver_on && state.all_unicast && state.broadcast && state.vlan_filter && state.hash);
        assert!(!state.all_multicast);
        assert_eq!(state.exact, [station, [0x01, 0x5e, 0x00, 0x03, 0x04, 0x05]]);
        assert_eq!(state.vlans, [35]);
    }
}
