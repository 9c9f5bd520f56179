//! What the MAC makes of the PHY's link: STATUS, LSC, loopback modes (manual, sections 8.5 and 13.4.2).

use super::regs::{Effects, Regs};
use super::spec::{cause, ctrl, rctl, reg, status};

/// Where transmitted frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// To the wire; the link is up.
    Wire,
    /// Back into the receiver.
    Loopback,
    /// Nowhere: the ring waits for the link.
    Down,
}

impl Regs {
    /// STATUS as it reads now. Conventional PCI, 32 bits, 33 MHz, copper: all strap bits are 0.
    pub(super) fn status(&self) -> u32 {
        let ctrl = self.get(reg::CTRL);
        let (speed, full) = self.phy.link().unwrap_or((super::phy::Speed::M1000, true));
        let detected = speed as u32;
        let forced = ctrl >> ctrl::SPEED_SHIFT & 3;
        let speed = if ctrl & ctrl::FRCSPD != 0 { forced } else { detected };
        let full = if ctrl & ctrl::FRCDPX != 0 { ctrl & ctrl::FD != 0 } else { full };
        let paused = self.paused_until > 0 && self.paused_until > self.now();
        let bits = [(full, status::FD), (self.link_up, status::LU), (paused, status::TXOFF)];
        let flags = bits.iter().filter(|b| b.0).fold(0, |sum, b| sum | b.1);
        flags | speed << status::SPEED_SHIFT | detected << status::ASDV_SHIFT
    }

    /// Where transmitted frames go now.
    pub(super) fn path(&self) -> Path {
        let lbm = self.get(reg::RCTL) & rctl::LBM_MASK;
        if self.phy.loopback() || lbm == rctl::LBM_MAC || lbm == rctl::LBM_PHY {
            Path::Loopback
        } else if self.link_up {
            Path::Wire
        } else {
            Path::Down
        }
    }

    /// Follows the PHY: LU, LSC on each transition, and what waits for the link.
    pub(super) fn update_link(&mut self, effects: &mut Effects) {
        let ctrl = self.get(reg::CTRL);
        let set_up = ctrl & ctrl::SLU != 0 || !self.strict;
        let up = self.phy.link().is_some() && set_up && ctrl & ctrl::PHY_RST == 0;
        // A negotiation that takes no time goes down and up again between two looks.
        let bounced = self.phy.take_changed() && up;
        effects.negotiation = Some(self.phy.deadline());
        if up != self.link_up || bounced {
            self.link_up = up;
            effects.raise |= cause::LSC;
            self.wake_by_link();
            effects.link = Some(up);
            effects.tx_kick |= up;
            // Down as well: what waits for descriptors is to be dropped then.
            effects.rx_wake = true;
        }
    }
}
