//! Wake-up: what a frame or the link can do while the function sleeps in D3hot (manual, chapter 6; 13.6).
//!
//! Called under the register lock. Sets WUS, keeps the frame's beginning in WUPM, and sets PME_Status, which WUC and
//! PMCSR show. PME# itself is a wire of the slot, not of this part.

use super::regs::{Effects, Regs};
use super::spec::{rctl, reg, wake};
use super::stats::Cast;
use crate::netport::Frame;
use crate::netport::checksum::load;

/// Bytes of WUPM.
const KEPT: usize = 128;
/// Flexible filters.
const FLEXIBLE_FILTERS: u32 = 4;

impl Regs {
    /// D3hot.
    pub(super) fn fall_asleep(&mut self) -> Effects {
        self.asleep = true;
        Effects::default()
    }

    /// D0 again: the device is reset, but tells still why it woke.
    pub(super) fn wake_up(&mut self) -> Effects {
        self.asleep = false;
        self.device_reset()
    }

    /// WUC as it reads.
    pub(super) fn read_wuc(&self) -> u32 {
        let pme = [(self.pme.enabled(), wake::PME_EN), (self.pme.status(), wake::PME_STATUS)];
        pme.iter().filter(|p| p.0).fold(self.get(reg::WUC), |sum, p| sum | p.1)
    }

    /// WUC was written; its own bits are stored already.
    pub(super) fn wuc_written(&mut self, value: u32) {
        self.pme.set_enabled(value & wake::PME_EN != 0);
        if value & wake::PME_STATUS != 0 {
            self.pme.clear();
        }
    }

    /// The link has changed.
    pub(super) fn wake_by_link(&mut self) {
        if self.asleep && self.get(reg::WUFC) & wake::LNKC != 0 {
            self.wake(wake::LNKC, true);
        }
    }

    /// A frame has arrived that nobody received.
    pub(super) fn wake_by(&mut self, frame: &Frame<'_>) {
        // The first one that wakes is the one that software finds.
        if !self.asleep || !self.link_up || self.pme.status() {
            return;
        }
        let mut bytes = Vec::new();
        frame.copy_to(&mut bytes);
        let found = self.reasons(&bytes);
        let enabled = found & self.get(reg::WUFC);
        // A board that is to be switched on by magic packets hears them whatever the driver asked for.
        let wuc = self.get(reg::WUC);
        let powering = if wuc & wake::APME != 0 { found & wake::MAG } else { 0 };
        if enabled | powering == 0 {
            return;
        }
        self.set(reg::WUPL, bytes.len() as u32 & 0xfff);
        bytes.resize(KEPT, 0);
        for (at, word) in (reg::WUPM..).step_by(4).zip(bytes.as_chunks::<4>().0) {
            self.set(at, u32::from_le_bytes(*word));
        }
        self.wake(enabled | powering, enabled != 0 || wuc & wake::APMPME != 0);
    }

    fn wake(&mut self, reasons: u32, tell: bool) {
        self.set(reg::WUS, self.get(reg::WUS) | reasons);
        if tell {
            self.pme.set_status();
        }
    }

    /// All reasons for which a frame could wake.
    fn reasons(&self, frame: &[u8]) -> u32 {
        // Broadcasts wake whether or not RCTL.BAM lets them in.
        let control = self.get(reg::RCTL) | rctl::BAM;
        if self.judge_address(control, frame).is_none() {
            return 0;
        }
        let cast = Cast::of(frame);
        let exact = frame.first_chunk().is_some_and(|address| self.is_station_address(address));
        let ethertype = load(frame, 12).unwrap_or(0);
        let reasons = [
            (self.is_magic(frame), wake::MAG),
            (exact && cast == Cast::Unicast, wake::EX),
            (cast == Cast::Multicast, wake::MC),
            (cast == Cast::Broadcast, wake::BC),
            (cast == Cast::Broadcast && ethertype == 0x0806 && self.asks_for_us(frame), wake::ARP),
            (exact && ethertype == 0x0800 && self.is_ours(frame, 30), wake::IPV4),
            (exact && ethertype == 0x86dd && self.is_our_ipv6(frame), wake::IPV6),
        ];
        let fixed = reasons.iter().filter(|r| r.0).fold(0, |sum, r| sum | r.1);
        (0..FLEXIBLE_FILTERS)
            .filter(|&n| self.flexible_filter_matches(n, frame))
            .fold(fixed, |sum, n| sum | wake::FLX0 << n)
    }

    /// Six octets of ones and sixteen times the station address, anywhere behind the addresses.
    fn is_magic(&self, frame: &[u8]) -> bool {
        let mut pattern = vec![0xff; 6];
        let [a, b, c, d] = self.get(reg::RAL).to_le_bytes();
        let [e, f, ..] = self.get(reg::RAH).to_le_bytes();
        for _ in 0..16 {
            pattern.extend([a, b, c, d, e, f]);
        }
        frame.get(12..).is_some_and(|rest| rest.windows(pattern.len()).any(|w| w == pattern))
    }

    /// An ARP request for an address of IP4AT.
    fn asks_for_us(&self, frame: &[u8]) -> bool {
        load(frame, 20) == Some(1) && self.is_ours(frame, 38)
    }

    /// Whether the IPv4 address at `at` is a valid one of IP4AT.
    fn is_ours(&self, frame: &[u8], at: usize) -> bool {
        let Some(address) = frame.get(at..).and_then(|rest| rest.first_chunk()) else { return false };
        let address = u32::from_le_bytes(*address);
        (0..4).any(|n| self.get(reg::IPAV) >> n & 1 != 0 && self.get(reg::IP4AT + 8 * n) == address)
    }

    fn is_our_ipv6(&self, frame: &[u8]) -> bool {
        let valid = self.get(reg::IPAV) & wake::IPAV_V60 != 0;
        valid
            && frame.get(38..54).is_some_and(|address| {
                (0..4).all(|n| {
                    let word = self.get(reg::IP6AT + 4 * n).to_le_bytes();
                    address[4 * n as usize..][..4] == word
                })
            })
    }

    /// All bytes that the mask selects are those of the filter.
    fn flexible_filter_matches(&self, n: u32, frame: &[u8]) -> bool {
        let len = (self.get(reg::FFLT + 8 * n) & 0x7ff) as usize;
        let selected = |k: &u32| self.get(reg::FFMT + 8 * k) >> n & 1 != 0;
        let wanted = |k: u32| (self.get(reg::FFVT + 8 * k) >> (8 * n)) as u8;
        frame.len() >= len
            && len > 0
            && (0..KEPT as u32).filter(selected).all(|k| frame.get(k as usize) == Some(&wanted(k)))
    }
}
