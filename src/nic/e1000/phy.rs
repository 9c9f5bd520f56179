//! The PHY (Marvell 88E1011 family) behind MDIC: registers, autonegotiation, loopback, power-down.
//!
//! Called by the register file for MDIC, CTRL.PHY_RST, cable and time. Decides link, speed and duplex; what the
//! MAC makes of them is `link.rs`. Registers 0 to 10 and 15 are IEEE 802.3 clause 22, the rest is vendor's.

/// Register numbers.
pub mod reg {
    #![allow(missing_docs, reason = "IEEE 802.3 and vendor names")]
    pub const BMCR: usize = 0;
    pub const BMSR: usize = 1;
    pub const ID1: usize = 2;
    pub const ID2: usize = 3;
    pub const ANAR: usize = 4;
    pub const ANLPAR: usize = 5;
    pub const ANER: usize = 6;
    pub const ANNPTR: usize = 7;
    pub const GBCR: usize = 9;
    pub const GBSR: usize = 10;
    pub const ESTATUS: usize = 15;
    pub const PSCR: usize = 16;
    pub const PSSR: usize = 17;
    pub const INT_STATUS: usize = 19;
    pub const EPSCR: usize = 20;
    pub const RX_ERR: usize = 21;
}
use reg::*;

const BMCR_RESET: u16 = 1 << 15;
const BMCR_LOOPBACK: u16 = 1 << 14;
const BMCR_SPEED_LOW: u16 = 1 << 13;
const BMCR_AN_ENABLE: u16 = 1 << 12;
const BMCR_POWER_DOWN: u16 = 1 << 11;
const BMCR_ISOLATE: u16 = 1 << 10;
const BMCR_AN_RESTART: u16 = 1 << 9;
const BMCR_FULL_DUPLEX: u16 = 1 << 8;
const BMCR_SPEED_HIGH: u16 = 1 << 6;
/// Bits whose change makes the link come anew.
const BMCR_LINK_BITS: u16 = BMCR_LOOPBACK
    | BMCR_SPEED_LOW
    | BMCR_AN_ENABLE
    | BMCR_POWER_DOWN
    | BMCR_ISOLATE
    | BMCR_FULL_DUPLEX
    | BMCR_SPEED_HIGH;

const BMSR_IDLE: u16 = 0x7949;
const BMSR_LINK: u16 = 1 << 2;
const BMSR_AN_COMPLETE: u16 = 1 << 5;

/// What the other end of the cable advertises: 10 and 100 in both duplexes, symmetric pause, acknowledge.
const PARTNER: u16 = 0x45e1;
/// Gigabit partner: both duplexes, both receivers in order.
const GIGABIT_PARTNER: u16 = 0x3c00;

/// Speed, as CTRL.SPEED and STATUS.SPEED encode it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// 10 Mb/s.
    M10 = 0,
    /// 100 Mb/s.
    M100 = 1,
    /// 1000 Mb/s.
    M1000 = 2,
}

/// The PHY. Time comes in as an argument, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Phy {
    regs: [u16; 32],
    id2: u16,
    /// From the start of autonegotiation to link up.
    link_delay_ns: u64,
    cable: bool,
    held_in_reset: bool,
    link: bool,
    /// BMSR's link bit has to show the loss once.
    link_was_lost: bool,
    /// When autonegotiation completes.
    completes_at: Option<u64>,
    speed: Speed,
    full_duplex: bool,
    changed: bool,
}

/// What MDIC answers to a read or write of a PHY address that is not there.
pub const NOBODY: u16 = 0xffff;

impl Phy {
    /// A PHY after power-up at time `now`, with the cable in: it starts to negotiate.
    pub fn new(id2: u16, link_delay_ns: u64, now: u64) -> Self {
        let mut phy = Self {
            regs: [0; 32],
            id2,
            link_delay_ns,
            cable: true,
            held_in_reset: false,
            link: false,
            link_was_lost: false,
            completes_at: None,
            speed: Speed::M1000,
            full_duplex: true,
            changed: false,
        };
        phy.hard_reset(now);
        phy.link_was_lost = !phy.link;
        phy.changed = false;
        phy
    }

    /// RST# or power-up: registers to their defaults, negotiation anew. The cable stays as it is.
    pub fn hard_reset(&mut self, now: u64) {
        self.regs = [0; 32];
        for (number, value) in [
            (BMCR, 0x1140),
            (ID1, 0x0141),
            (ID2, self.id2),
            (ANAR, 0x0de1),
            (ANNPTR, 0x2001),
            (GBCR, 0x0300),
            (ESTATUS, 0x3000),
            (PSCR, 0x0360),
            (EPSCR, 0x0d60),
        ] {
            self.regs[number] = value;
        }
        self.held_in_reset = false;
        self.bring_link(now);
    }

    /// CTRL.PHY_RST: the PHY is held in reset while it is set.
    pub fn hold_in_reset(&mut self, held: bool, now: u64) {
        if self.held_in_reset && !held {
            self.hard_reset(now);
        } else if held && !self.held_in_reset {
            self.held_in_reset = true;
            self.lose_link();
        }
    }

    /// Plugs the cable in or pulls it out.
    pub fn set_cable(&mut self, plugged: bool, now: u64) {
        if self.cable != plugged {
            self.cable = plugged;
            self.bring_link(now);
        }
    }

    /// Completes a negotiation that is due.
    pub fn time_passed(&mut self, now: u64) {
        if self.completes_at.is_some_and(|at| at <= now) {
            self.complete_negotiation();
        }
    }

    /// When [`Self::time_passed`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        self.completes_at
    }

    /// Whether the link is up, with its speed and whether it is full duplex.
    pub fn link(&self) -> Option<(Speed, bool)> {
        self.link.then_some((self.speed, self.full_duplex))
    }

    /// Whether transmitted frames come back (BMCR bit 14).
    pub fn loopback(&self) -> bool {
        self.regs[BMCR] & BMCR_LOOPBACK != 0 && !self.held_in_reset
    }

    /// Whether the link went down or up since the last call, even if it is back now.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Reads a register (0 to 31).
    pub fn read(&mut self, number: usize) -> u16 {
        match number % 32 {
            BMSR => self.read_bmsr(),
            PSSR => self.pssr(),
            number @ (INT_STATUS | RX_ERR) => std::mem::take(&mut self.regs[number]),
            number => self.regs[number],
        }
    }

    /// Writes a register (0 to 31).
    pub fn write(&mut self, number: usize, value: u16, now: u64) {
        match number % 32 {
            BMCR => self.write_bmcr(value, now),
            BMSR | ID1 | ID2 | ANLPAR | ANER | GBSR | ESTATUS | PSSR | INT_STATUS | RX_ERR => {}
            number => self.regs[number] = value,
        }
    }

    fn read_bmsr(&mut self) -> u16 {
        let link = self.link && !std::mem::take(&mut self.link_was_lost);
        // The loss is shown until a link has come up since.
        self.link_was_lost = !self.link;
        let complete = self.regs[ANER] != 0 && self.link;
        BMSR_IDLE | if link { BMSR_LINK } else { 0 } | if complete { BMSR_AN_COMPLETE } else { 0 }
    }

    fn pssr(&self) -> u16 {
        if !self.link {
            return 0x8000;
        }
        // Speed, duplex, resolved, link, cable below 50 m.
        (self.speed as u16) << 14 | u16::from(self.full_duplex) << 13 | 0x0c00
    }

    fn write_bmcr(&mut self, value: u16, now: u64) {
        let old = self.regs[BMCR];
        let kept = value & !(BMCR_RESET | BMCR_AN_RESTART | 0x3f);
        self.regs[BMCR] = kept;
        let restart = value & BMCR_RESET != 0
            || (value & BMCR_AN_RESTART != 0 && value & BMCR_AN_ENABLE != 0)
            || (old ^ kept) & BMCR_LINK_BITS != 0;
        if restart && !self.held_in_reset {
            self.bring_link(now);
        }
    }

    /// Drops the link and, if nothing holds it, brings it up as BMCR says.
    fn bring_link(&mut self, now: u64) {
        self.lose_link();
        let bmcr = self.regs[BMCR];
        let held = self.held_in_reset || bmcr & (BMCR_POWER_DOWN | BMCR_LOOPBACK | BMCR_ISOLATE) != 0;
        if held || !self.cable {
            return;
        }
        if bmcr & BMCR_AN_ENABLE == 0 {
            self.speed = match (bmcr & BMCR_SPEED_HIGH != 0, bmcr & BMCR_SPEED_LOW != 0) {
                (true, _) => Speed::M1000,
                (false, true) => Speed::M100,
                (false, false) => Speed::M10,
            };
            self.full_duplex = bmcr & BMCR_FULL_DUPLEX != 0;
            self.gain_link();
        } else if self.link_delay_ns == 0 {
            self.complete_negotiation();
        } else {
            self.completes_at = Some(now.saturating_add(self.link_delay_ns));
        }
    }

    fn complete_negotiation(&mut self) {
        self.completes_at = None;
        let (ours, gigabit) = (self.regs[ANAR], self.regs[GBCR]);
        let Some((speed, full_duplex)) = best_common(ours, gigabit) else { return };
        (self.speed, self.full_duplex) = (speed, full_duplex);
        self.regs[ANLPAR] = PARTNER;
        self.regs[ANER] = 1;
        self.regs[GBSR] = GIGABIT_PARTNER;
        self.gain_link();
    }

    fn gain_link(&mut self) {
        self.link = true;
        self.changed = true;
    }

    fn lose_link(&mut self) {
        self.completes_at = None;
        self.regs[ANLPAR] = 0;
        self.regs[ANER] = 0;
        self.regs[GBSR] = 0;
        if self.link {
            self.link = false;
            self.link_was_lost = true;
            self.changed = true;
        }
    }
}

/// The best mode that `ours` (ANAR) and `gigabit` (GBCR) share with the partner, which has them all (IEEE
/// 802.3, annex 28B.3).
fn best_common(ours: u16, gigabit: u16) -> Option<(Speed, bool)> {
    let modes = [
        (gigabit & 1 << 9 != 0, Speed::M1000, true),
        (gigabit & 1 << 8 != 0, Speed::M1000, false),
        (ours & PARTNER & 1 << 8 != 0, Speed::M100, true),
        (ours & PARTNER & 1 << 7 != 0, Speed::M100, false),
        (ours & PARTNER & 1 << 6 != 0, Speed::M10, true),
        (ours & PARTNER & 1 << 5 != 0, Speed::M10, false),
    ];
    modes.into_iter().find(|m| m.0).map(|(_, speed, full)| (speed, full))
}
