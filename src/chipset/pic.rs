//! The PC's two cascaded 8259A interrupt controllers, with the ELCR (edge/level control registers).
//!
//! Pure: `accel/soft` drives the inputs, asks [`PicPair::output`] and acknowledges; with KVM the kernel has its
//! own. Facts: Intel 8259A data sheet (1988), 82371SB (PIIX3) section 2.5.6 for the ELCR at 0x4d0/0x4d1.

/// One 8259A.
#[derive(Debug, Clone, Default)]
struct Pic {
    /// Interrupt request, mask, in-service, one bit for each input.
    irr: u8,
    imr: u8,
    isr: u8,
    /// Input levels as last driven.
    level: u8,
    /// Inputs that are level-triggered.
    elcr: u8,
    /// Upper five bits of the vector (ICW2).
    vector_base: u8,
    /// The input with the lowest priority is `priority - 1`; rotated by OCW2.
    priority: u8,
    /// Expecting ICW2 (1), ICW3 (2), ICW4 (3); 0: initialised.
    init_step: u8,
    wants_icw4: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    read_isr: bool,
    polled: bool,
}

impl Pic {
    /// An edge stays latched until it is acknowledged, even if the input falls meanwhile: the PIT's pulse is
    /// short, and PC hardware and other emulators behave so (the data sheet would call the interrupt spurious).
    fn set_input(&mut self, n: u8, level: bool) {
        let bit = 1 << n;
        let rising = level && self.level & bit == 0;
        self.level = if level { self.level | bit } else { self.level & !bit };
        if self.elcr & bit != 0 {
            self.irr = if level { self.irr | bit } else { self.irr & !bit };
        } else if rising {
            self.irr |= bit;
        }
    }

    /// Distance from the highest priority, 8 for none.
    fn rank(&self, set: u8) -> u8 {
        (0..8).find(|i| set & (1 << ((i + self.priority) & 7)) != 0).unwrap_or(8)
    }

    fn pending(&self) -> Option<u8> {
        let request = self.rank(self.irr & !self.imr);
        let service = self.rank(if self.special_mask { self.isr & !self.imr } else { self.isr });
        (request < service).then(|| (request + self.priority) & 7)
    }

    fn ack(&mut self, n: u8) {
        let bit = 1 << n;
        if self.auto_eoi {
            if self.rotate_on_auto_eoi {
                self.priority = (n + 1) & 7;
            }
        } else {
            self.isr |= bit;
        }
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            let (level, elcr) = (self.level, self.elcr);
            *self = Self { level, elcr, irr: level & elcr, ..Self::default() };
            self.init_step = 1;
            self.wants_icw4 = value & 1 != 0;
        } else if value & 0x08 != 0 {
            if value & 0x04 != 0 {
                self.polled = true;
            }
            if value & 0x02 != 0 {
                self.read_isr = value & 1 != 0;
            }
            if value & 0x40 != 0 {
                self.special_mask = value & 0x20 != 0;
            }
        } else {
            self.ocw2(value);
        }
    }

    fn ocw2(&mut self, value: u8) {
        let named = value & 7;
        let highest = (self.rank(self.isr) + self.priority) & 7;
        match value >> 5 {
            0 => self.rotate_on_auto_eoi = false,
            4 => self.rotate_on_auto_eoi = true,
            1 | 5 if self.isr != 0 => {
                self.isr &= !(1 << highest);
                if value >> 5 == 5 {
                    self.priority = (highest + 1) & 7;
                }
            }
            3 => self.isr &= !(1 << named),
            6 => self.priority = (named + 1) & 7,
            7 => {
                self.isr &= !(1 << named);
                self.priority = (named + 1) & 7;
            }
            _ => {}
        }
    }

    fn write_data(&mut self, value: u8) {
        match self.init_step {
            0 => self.imr = value,
            1 => {
                self.vector_base = value & 0xf8;
                self.init_step = 2;
            }
            2 => self.init_step = if self.wants_icw4 { 3 } else { 0 },
            _ => {
                self.auto_eoi = value & 2 != 0;
                self.init_step = 0;
            }
        }
    }

    fn read(&mut self, data_port: bool) -> u8 {
        if std::mem::take(&mut self.polled) {
            return match self.pending() {
                Some(n) => {
                    self.ack(n);
                    0x80 | n
                }
                None => 0,
            };
        }
        match (data_port, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.irr,
        }
    }
}

/// Master and slave, the slave on the master's input 2.
#[derive(Debug, Clone)]
pub struct PicPair {
    master: Pic,
    slave: Pic,
}

impl Default for PicPair {
    fn default() -> Self {
        // Nothing is delivered before somebody has programmed them.
        let off = || Pic { imr: 0xff, ..Pic::default() };
        Self { master: off(), slave: off() }
    }
}

/// Inputs that stay edge-triggered whatever ELCR says: timer, keyboard, cascade; RTC, FPU on the slave.
const ELCR_MASK: [u8; 2] = [0xf8, 0xde];

impl PicPair {
    /// Drives input `irq` (0 to 15, 2 being the cascade, which cannot be driven).
    pub fn set_input(&mut self, irq: u8, level: bool) {
        match irq {
            0 | 1 | 3..=7 => self.master.set_input(irq, level),
            8..=15 => self.slave.set_input(irq - 8, level),
            _ => {}
        }
        self.cascade();
    }

    /// The INTR pin.
    pub fn output(&self) -> bool {
        self.master.pending().is_some()
    }

    /// The processor's interrupt acknowledge cycle: the vector. Without a request the spurious vector
    /// (input 7), as the data sheet says.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(n) = self.master.pending() else { return self.master.vector_base | 7 };
        self.master.ack(n);
        if n != 2 {
            return self.master.vector_base | n;
        }
        let vector = match self.slave.pending() {
            Some(n) => {
                self.slave.ack(n);
                self.slave.vector_base | n
            }
            None => self.slave.vector_base | 7,
        };
        self.cascade();
        vector
    }

    /// Reads a port: 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1; others read as ones.
    pub fn read(&mut self, port: u16) -> u8 {
        let value = match port {
            0x20 | 0x21 => self.master.read(port & 1 != 0),
            0xa0 | 0xa1 => self.slave.read(port & 1 != 0),
            0x4d0 => self.master.elcr,
            0x4d1 => self.slave.elcr,
            _ => 0xff,
        };
        self.cascade();
        value
    }

    /// Writes a port; others are ignored.
    pub fn write(&mut self, port: u16, value: u8) {
        match port {
            0x20 => self.master.write_command(value),
            0x21 => self.master.write_data(value),
            0xa0 => self.slave.write_command(value),
            0xa1 => self.slave.write_data(value),
            0x4d0 => self.master.elcr = value & ELCR_MASK[0],
            0x4d1 => self.slave.elcr = value & ELCR_MASK[1],
            _ => {}
        }
        self.cascade();
    }

    /// The slave's output is the master's input 2, a level.
    fn cascade(&mut self) {
        let level = self.slave.pending().is_some();
        self.master.set_input(2, level);
        self.master.irr = if level { self.master.irr | 4 } else { self.master.irr & !4 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programmed() -> PicPair {
        let mut pics = PicPair::default();
        for (port, base) in [(0x20, 0x30), (0xa0, 0x38)] {
            for (offset, value) in [(0, 0x11), (1, base), (1, 4), (1, 1), (1, 0)] {
                pics.write(port + offset, value);
            }
        }
        pics
    }

    #[test]
    fn an_edge_is_delivered_once_until_eoi() {
        let mut pics = programmed();
        pics.set_input(4, true);
        assert!(pics.output());
        assert_eq!(pics.acknowledge(), 0x34);
        pics.set_input(4, false);
        pics.set_input(4, true);
        assert!(!pics.output(), "in service");
        pics.write(0x20, 0x20);
        assert!(pics.output());
    }

    #[test]
    fn the_slave_comes_through_the_cascade_and_needs_both_eois() {
        let mut pics = programmed();
        pics.set_input(10, true);
        assert_eq!(pics.acknowledge(), 0x3a);
        pics.set_input(3, true);
        assert!(!pics.output(), "cascade in service outranks 3");
        pics.write(0xa0, 0x20);
        pics.write(0x20, 0x20);
        assert_eq!(pics.acknowledge(), 0x33);
    }

    #[test]
    fn a_level_input_asks_again_until_it_is_dropped() {
        let mut pics = programmed();
        pics.write(0x4d1, 0x04);
        pics.set_input(10, true);
        for _ in 0..2 {
            assert_eq!(pics.acknowledge(), 0x3a);
            pics.write(0xa0, 0x20);
            pics.write(0x20, 0x20);
        }
        pics.set_input(10, false);
        assert!(!pics.output());
    }

    #[test]
    fn masked_inputs_are_silent_and_a_withdrawn_level_is_spurious() {
        let mut pics = programmed();
        pics.write(0x4d0, 0x20);
        pics.write(0x21, 0x20);
        pics.set_input(5, true);
        assert!(!pics.output());
        pics.write(0x21, 0);
        assert!(pics.output());
        pics.set_input(5, false);
        assert_eq!(pics.acknowledge(), 0x37);
        assert_eq!(pics.read(0x21), 0);
    }

    #[test]
    fn a_short_pulse_on_an_edge_input_is_not_lost() {
        let mut pics = programmed();
        pics.set_input(0, true);
        pics.set_input(0, false);
        assert_eq!(pics.acknowledge(), 0x30);
    }
}
