//! The register table: every register once, with everything that is said about it.
//!
//! Dispatch, reset, names in traces, self-test limits and the table in `docs/e1000.md` are made from it. A row
//! says what the storage does (access class, masks, reset); [`Effect`] names what else happens.

use std::sync::LazyLock;

use crate::nic::e1000::spec::{ctrl_ext, reg::*};

/// Bytes of BAR0.
pub const BAR0_LEN: u32 = 0x2_0000;
/// Dwords of BAR0.
pub const DWORDS: usize = (BAR0_LEN / 4) as usize;

/// How a register answers (manual, section 13.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Read and write, within the mask.
    Rw,
    /// Writes are ignored.
    Ro,
    /// Reads give 0.
    Wo,
    /// A read clears it; writes are ignored.
    Rc,
    /// Writing 1 clears the bit.
    W1c,
}

/// What a CTRL.RST does to a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReset {
    /// Back to the reset value.
    Value,
    /// Keeps its contents; only a power cycle or RST# gives the reset value.
    Keep,
}

/// What happens beyond storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the registers")]
pub enum Effect {
    None,
    Ctrl,
    Status,
    Eecd,
    Eerd,
    CtrlExt,
    Mdic,
    Icr,
    Itr,
    Ics,
    Ims,
    Imc,
    Rctl,
    Tctl,
    Pba,
    RxRing,
    Rdt,
    Rdtr,
    TxRing,
    Tdt,
    Tidv,
    Wuc,
    /// The low half of a 64-bit counter: read alone it keeps its value.
    CounterLow,
    /// The high half: its read clears both.
    CounterHigh,
}

/// How much of a register's function exists here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does what the manual says.
    Implemented,
    /// It reads back what was written; nothing follows from it.
    Stored,
    /// It reads zero and ignores writes: the part has no such register, drivers touch it all the same.
    ReadsZero,
}

/// One register, or an array of them.
#[derive(Debug, Clone, Copy)]
pub struct Reg {
    /// Byte offset of the first.
    pub offset: u32,
    /// How many.
    pub count: u32,
    /// Bytes from one to the next.
    pub stride: u32,
    /// The manual's name.
    pub name: &'static str,
    /// Access class.
    pub class: Class,
    /// Bits that a write stores.
    pub mask: u32,
    /// Bits that writing 1 clears, outside `mask`.
    pub w1c: u32,
    /// Value after power-up and, unless kept, after CTRL.RST.
    pub reset: u32,
    /// What CTRL.RST does.
    pub on_reset: OnReset,
    /// What else happens.
    pub effect: Effect,
    /// How much of it exists.
    pub state: State,
    /// Section of the manual.
    pub section: &'static str,
}

impl Reg {
    const fn new(offset: u32, name: &'static str, class: Class, mask: u32, section: &'static str) -> Self {
        Self {
            offset,
            count: 1,
            stride: 4,
            name,
            class,
            mask,
            w1c: 0,
            reset: 0,
            on_reset: OnReset::Value,
            effect: Effect::None,
            state: State::Implemented,
            section,
        }
    }
    const fn rw(offset: u32, name: &'static str, mask: u32, section: &'static str) -> Self {
        Self::new(offset, name, Class::Rw, mask, section)
    }
    const fn ro(offset: u32, name: &'static str, section: &'static str) -> Self {
        Self::new(offset, name, Class::Ro, 0, section)
    }
    const fn wo(offset: u32, name: &'static str, section: &'static str) -> Self {
        Self::new(offset, name, Class::Wo, 0, section)
    }
    /// A statistics counter.
    const fn counter(offset: u32, name: &'static str, section: &'static str) -> Self {
        Self::new(offset, name, Class::Rc, 0, section)
    }
    /// A statistics counter whose event cannot happen on a perfect wire.
    const fn idle_counter(offset: u32, name: &'static str, section: &'static str) -> Self {
        Self::counter(offset, name, section).stored()
    }
    const fn low(offset: u32, name: &'static str, section: &'static str) -> Self {
        Self::counter(offset, name, section).does(Effect::CounterLow)
    }
    const fn high(offset: u32, name: &'static str, section: &'static str) -> Self {
        Self::counter(offset, name, section).does(Effect::CounterHigh)
    }
    const fn zero(offset: u32, name: &'static str, section: &'static str) -> Self {
        let mut reg = Self::ro(offset, name, section);
        reg.state = State::ReadsZero;
        reg
    }
    const fn reset(mut self, value: u32) -> Self {
        self.reset = value;
        self
    }
    const fn keep(mut self) -> Self {
        self.on_reset = OnReset::Keep;
        self
    }
    const fn does(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }
    const fn stored(mut self) -> Self {
        self.state = State::Stored;
        self
    }
    const fn times(mut self, count: u32, stride: u32) -> Self {
        self.count = count;
        self.stride = stride;
        self
    }
    const fn w1c(mut self, bits: u32) -> Self {
        self.w1c = bits;
        self
    }
}

const ALL: u32 = 0xffff_ffff;
const LOW16: u32 = 0xffff;
const FIFO: u32 = 0x1fff;
const RING_LEN: u32 = 0x000f_ff80;
const RING_BASE: u32 = 0xffff_fff0;
const NOT_ON_8254X: &str = "not on 8254x";

/// All registers, in the order of the manual's summary (13.3).
#[rustfmt::skip]
pub const TABLE: &[Reg] = &[
    // General.
    Reg::rw(CTRL, "CTRL", 0xdbff_1be9, "13.4.1").reset(0x0000_0a09).does(Effect::Ctrl),
    Reg::ro(STATUS, "STATUS", "13.4.2").does(Effect::Status),
    Reg::rw(EECD, "EECD", 0x0000_0077, "13.4.3").does(Effect::Eecd),
    Reg::rw(EERD, "EERD", 0x0000_ff00, "13.4.4").does(Effect::Eerd),
    Reg::rw(CTRL_EXT, "CTRL_EXT", 0x10c2_cfff & !(ctrl_ext::ASDCHK | ctrl_ext::EE_RST), "13.4.6").does(Effect::CtrlExt),
    Reg::rw(FLA, "FLA", 0x0000_003f, "13.4.5").stored(),
    Reg::rw(MDIC, "MDIC", 0x2fff_ffff, "13.4.7").reset(0x1000_0000).does(Effect::Mdic),
    Reg::rw(SCTL, "SCTL", ALL, "serdes parts").stored(),
    Reg::rw(FCAL, "FCAL", ALL, "13.4.8"),
    Reg::rw(FCAH, "FCAH", LOW16, "13.4.9"),
    Reg::rw(FCT, "FCT", LOW16, "13.4.10"),
    Reg::rw(VET, "VET", LOW16, "13.4.11").reset(0x8100),
    Reg::new(ICR, "ICR", Class::W1c, ALL, "13.4.17").does(Effect::Icr),
    Reg::rw(ITR, "ITR", LOW16, "13.4.18").does(Effect::Itr),
    Reg::wo(ICS, "ICS", "13.4.19").does(Effect::Ics),
    Reg::rw(IMS, "IMS", ALL, "13.4.20").does(Effect::Ims),
    Reg::wo(IMC, "IMC", "13.4.21").does(Effect::Imc),
    Reg::zero(0x00e0, "IAM", NOT_ON_8254X),
    Reg::rw(RCTL, "RCTL", 0x06df_b3fe, "13.4.22").does(Effect::Rctl),
    Reg::rw(FCTTV, "FCTTV", LOW16, "13.4.12"),
    Reg::rw(TXCW, "TXCW", 0xc000_ffff, "13.4.13").stored(),
    Reg::ro(RXCW, "RXCW", "13.4.14").stored(),
    Reg::rw(TCTL, "TCTL", 0x03bf_fffa, "13.4.33").does(Effect::Tctl),
    Reg::rw(0x0404, "TCTL_EXT", ALL, NOT_ON_8254X).stored(),
    Reg::rw(TIPG, "TIPG", 0x3fff_ffff, "13.4.34").stored(),
    Reg::rw(TBT, "TBT", ALL, "82542 only").stored(),
    Reg::rw(AIT, "AIT", LOW16, "13.4.35").stored(),
    Reg::rw(LEDCTL, "LEDCTL", 0xcfcf_cfcf, "13.4.15").reset(0x0706_8302),
    Reg::rw(PBA, "PBA", 0x7f, "13.4.16").reset(0x0010_0030).keep().does(Effect::Pba),
    Reg::rw(0x1008, "PBS", LOW16, NOT_ON_8254X).stored(),
    // Receive.
    Reg::rw(ERT, "ERT", 0x3fff, NOT_ON_8254X).stored(),
    Reg::rw(FCRTL, "FCRTL", 0x8000_fff8, "13.4.23"),
    Reg::rw(FCRTH, "FCRTH", 0x8000_fff8, "13.4.24"),
    Reg::rw(RDFH, "RDFH", FIFO, "13.8.1").stored(),
    Reg::rw(RDFT, "RDFT", FIFO, "13.8.2").stored(),
    Reg::rw(RDFHS, "RDFHS", FIFO, "13.8.3").stored(),
    Reg::rw(RDFTS, "RDFTS", FIFO, "13.8.4").stored(),
    Reg::rw(RDFPC, "RDFPC", FIFO, "13.8.5"),
    Reg::rw(RDBAL, "RDBAL", RING_BASE, "13.4.25").keep().does(Effect::RxRing),
    Reg::rw(RDBAH, "RDBAH", ALL, "13.4.26").keep().does(Effect::RxRing),
    Reg::rw(RDLEN, "RDLEN", RING_LEN, "13.4.27").does(Effect::RxRing),
    Reg::rw(RDH, "RDH", LOW16, "13.4.28").does(Effect::RxRing),
    Reg::rw(RDT, "RDT", LOW16, "13.4.29").does(Effect::Rdt),
    Reg::rw(RDTR, "RDTR", LOW16, "13.4.30").does(Effect::Rdtr),
    Reg::rw(RXDCTL, "RXDCTL", 0x013f_3f3f, "13.4.46").reset(0x0101_0000),
    Reg::rw(RADV, "RADV", LOW16, "13.4.31"),
    Reg::rw(0x2900, "RDBAL1", ALL, NOT_ON_8254X).times(7, 4).stored(),
    Reg::rw(0x2928, "RXDCTL1", ALL, NOT_ON_8254X).stored(),
    Reg::rw(RSRPD, "RSRPD", 0xfff, "13.4.32"),
    Reg::rw(RAID, "RAID", LOW16, NOT_ON_8254X).stored(),
    Reg::rw(RXCSUM, "RXCSUM", 0x7ff, "13.4.47"),
    Reg::rw(RFCTL, "RFCTL", ALL, NOT_ON_8254X).stored(),
    Reg::rw(MTA, "MTA", ALL, "13.5.1").keep().times(128, 4),
    Reg::rw(RAL, "RAL", ALL, "13.5.2").times(16, 8),
    Reg::rw(RAH, "RAH", 0x8003_ffff, "13.5.3").times(16, 8),
    Reg::rw(VFTA, "VFTA", ALL, "13.5.4").keep().times(128, 4),
    // Transmit.
    Reg::rw(TXDMAC, "TXDMAC", 1, "13.4.42").stored(),
    Reg::rw(TDFH, "TDFH", FIFO, "13.8.6").reset(0x30 << 7).stored(),
    Reg::rw(TDFT, "TDFT", FIFO, "13.8.7").reset(0x30 << 7).stored(),
    Reg::rw(TDFHS, "TDFHS", FIFO, "13.8.8").reset(0x30 << 7).stored(),
    Reg::rw(TDFTS, "TDFTS", FIFO, "13.8.9").reset(0x30 << 7).stored(),
    Reg::rw(TDFPC, "TDFPC", FIFO, "13.8.10").stored(),
    Reg::rw(TDBAL, "TDBAL", RING_BASE, "13.4.36").keep().does(Effect::TxRing),
    Reg::rw(TDBAH, "TDBAH", ALL, "13.4.37").keep().does(Effect::TxRing),
    Reg::rw(TDLEN, "TDLEN", RING_LEN, "13.4.38").does(Effect::TxRing),
    Reg::rw(TDH, "TDH", LOW16, "13.4.39").does(Effect::TxRing),
    Reg::rw(TDT, "TDT", LOW16, "13.4.40").does(Effect::Tdt),
    Reg::rw(TIDV, "TIDV", LOW16, "13.4.41").does(Effect::Tidv),
    Reg::rw(TXDCTL, "TXDCTL", 0xff7f_3f3f, "13.4.43"),
    Reg::rw(TADV, "TADV", LOW16, "13.4.44"),
    Reg::rw(TSPMT, "TSPMT", ALL, "13.4.45").reset(0x0100_0400).stored(),
    Reg::rw(0x3840, "TARC0", ALL, NOT_ON_8254X).stored(),
    Reg::rw(0x3900, "TDBAL1", ALL, NOT_ON_8254X).times(7, 4).stored(),
    Reg::rw(0x3928, "TXDCTL1", ALL, NOT_ON_8254X).stored(),
    Reg::rw(0x3940, "TARC1", ALL, NOT_ON_8254X).stored(),
    // Wake-up and management.
    Reg::rw(WUC, "WUC", 0x09, "13.6.1").does(Effect::Wuc),
    Reg::rw(WUFC, "WUFC", 0x000f_80ff, "13.6.2"),
    Reg::new(WUS, "WUS", Class::W1c, 0, "13.6.3").w1c(ALL).keep(),
    Reg::zero(0x5818, "MRQC", NOT_ON_8254X),
    Reg::rw(MANC, "MANC", 0x01ff_fffe, "13.6.4").stored(),
    Reg::rw(IPAV, "IPAV", 0x0001_000f, "13.6.5"),
    Reg::rw(IP4AT, "IP4AT", ALL, "13.6.6").times(4, 8),
    Reg::rw(IP6AT, "IP6AT", ALL, "13.6.7").times(4, 4),
    Reg::rw(WUPL, "WUPL", 0xfff, "13.6.8").keep(),
    Reg::rw(WUPM, "WUPM", ALL, "13.6.9").keep().times(32, 4),
    Reg::zero(0x5b00, "GCR", NOT_ON_8254X).times(20, 4),
    // U-Boot takes later parts' EEPROM semaphores on every part.
    Reg::rw(0x5b50, "SWSM", 0x3, NOT_ON_8254X).stored(),
    Reg::zero(0x5b54, "FWSM", NOT_ON_8254X).times(2, 4),
    Reg::rw(0x5b5c, "SW_FW_SYNC", ALL, NOT_ON_8254X).stored(),
    Reg::rw(FFLT, "FFLT", 0x7ff, "13.6.10").times(4, 8),
    Reg::zero(0x8800, "HOST_IF", NOT_ON_8254X),
    Reg::zero(0x8f00, "HICR", NOT_ON_8254X),
    Reg::rw(FFMT, "FFMT", 0xf, "13.6.11").keep().times(128, 8),
    Reg::rw(FFVT, "FFVT", ALL, "13.6.12").keep().times(128, 8),
    // Statistics.
    Reg::counter(CRCERRS, "CRCERRS", "13.7.1"),
    Reg::idle_counter(ALGNERRC, "ALGNERRC", "13.7.2"),
    Reg::idle_counter(SYMERRS, "SYMERRS", "13.7.3"),
    Reg::idle_counter(RXERRC, "RXERRC", "13.7.4"),
    Reg::counter(MPC, "MPC", "13.7.5"),
    Reg::idle_counter(SCC, "SCC", "13.7.6"),
    Reg::idle_counter(ECOL, "ECOL", "13.7.7"),
    Reg::idle_counter(MCC, "MCC", "13.7.8"),
    Reg::idle_counter(LATECOL, "LATECOL", "13.7.9"),
    Reg::idle_counter(COLC, "COLC", "13.7.10"),
    Reg::idle_counter(DC, "DC", "13.7.11"),
    Reg::idle_counter(TNCRS, "TNCRS", "13.7.12"),
    Reg::idle_counter(SEC, "SEC", "13.7.13"),
    Reg::idle_counter(CEXTERR, "CEXTERR", "13.7.14"),
    Reg::idle_counter(RLEC, "RLEC", "13.7.15"),
    Reg::counter(XONRXC, "XONRXC", "13.7.16"),
    Reg::counter(XONTXC, "XONTXC", "13.7.17"),
    Reg::counter(XOFFRXC, "XOFFRXC", "13.7.18"),
    Reg::counter(XOFFTXC, "XOFFTXC", "13.7.19"),
    Reg::counter(FCRUC, "FCRUC", "13.7.20"),
    Reg::counter(PRC64, "PRC64", "13.7.21"),
    Reg::counter(PRC64 + 4, "PRC127", "13.7.22"),
    Reg::counter(PRC64 + 8, "PRC255", "13.7.23"),
    Reg::counter(PRC64 + 12, "PRC511", "13.7.24"),
    Reg::counter(PRC64 + 16, "PRC1023", "13.7.25"),
    Reg::counter(PRC64 + 20, "PRC1522", "13.7.26"),
    Reg::counter(GPRC, "GPRC", "13.7.27"),
    Reg::counter(BPRC, "BPRC", "13.7.28"),
    Reg::counter(MPRC, "MPRC", "13.7.29"),
    Reg::counter(GPTC, "GPTC", "13.7.30"),
    Reg::low(GORCL, "GORCL", "13.7.31"),
    Reg::high(GORCL + 4, "GORCH", "13.7.31"),
    Reg::low(GOTCL, "GOTCL", "13.7.32"),
    Reg::high(GOTCL + 4, "GOTCH", "13.7.32"),
    Reg::counter(RNBC, "RNBC", "13.7.33"),
    Reg::counter(RUC, "RUC", "13.7.34"),
    Reg::counter(RFC, "RFC", "13.7.35"),
    Reg::counter(ROC, "ROC", "13.7.36"),
    Reg::counter(RJC, "RJC", "13.7.37"),
    Reg::idle_counter(MGTPRC, "MGTPRC", "13.7.38"),
    Reg::idle_counter(MGTPDC, "MGTPDC", "13.7.39"),
    Reg::idle_counter(MGTPTC, "MGTPTC", "13.7.40"),
    Reg::low(TORL, "TORL", "13.7.41"),
    Reg::high(TORL + 4, "TORH", "13.7.41"),
    Reg::low(TOTL, "TOTL", "13.7.42"),
    Reg::high(TOTL + 4, "TOTH", "13.7.42"),
    Reg::counter(TPR, "TPR", "13.7.43"),
    Reg::counter(TPT, "TPT", "13.7.44"),
    Reg::counter(PTC64, "PTC64", "13.7.45"),
    Reg::counter(PTC64 + 4, "PTC127", "13.7.46"),
    Reg::counter(PTC64 + 8, "PTC255", "13.7.47"),
    Reg::counter(PTC64 + 12, "PTC511", "13.7.48"),
    Reg::counter(PTC64 + 16, "PTC1023", "13.7.49"),
    Reg::counter(PTC64 + 20, "PTC1522", "13.7.50"),
    Reg::counter(MPTC, "MPTC", "13.7.51"),
    Reg::counter(BPTC, "BPTC", "13.7.52"),
    Reg::counter(TSCTC, "TSCTC", "13.7.53"),
    Reg::counter(TSCTFC, "TSCTFC", "13.7.54"),
    Reg::idle_counter(0x4100, "IAC", NOT_ON_8254X).times(10, 4),
    // Packet buffer memory.
    Reg::rw(PBM, "PBM", ALL, "13.8.11").keep().times(0x4000, 4).stored(),
];

/// A second address of registers: the 82542's places for them, which later parts still answer (13.3).
#[derive(Debug, Clone, Copy)]
pub struct Alias {
    /// First byte of the second place.
    pub from: u32,
    /// First byte of the registers themselves.
    pub to: u32,
    /// Bytes.
    pub len: u32,
}

const fn alias(from: u32, to: u32, len: u32) -> Alias {
    Alias { from, to, len }
}

/// All second places.
pub const ALIASES: &[Alias] = &[
    alias(0x0004, CTRL, 4),
    alias(0x0040, RAL, 0x80),
    alias(0x0108, RDTR, 4),
    alias(0x0110, RDBAL, 4),
    alias(0x0114, RDBAH, 4),
    alias(0x0118, RDLEN, 4),
    alias(0x0120, RDH, 4),
    alias(0x0128, RDT, 4),
    alias(0x0160, FCRTH, 4),
    alias(0x0168, FCRTL, 4),
    alias(0x0200, MTA, 0x200),
    alias(0x0420, TDBAL, 4),
    alias(0x0424, TDBAH, 4),
    alias(0x0428, TDLEN, 4),
    alias(0x0430, TDH, 4),
    alias(0x0438, TDT, 4),
    alias(0x0440, TIDV, 4),
    alias(0x0600, VFTA, 0x200),
    alias(0x8000, RDFH, 4),
    alias(0x8008, RDFT, 4),
    alias(0x8010, TDFH, 4),
    alias(0x8018, TDFT, 4),
];

/// A register that an offset means: its row, and which one of the row's.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// The row.
    pub row: &'static Reg,
    /// The register's own offset, whatever alias was used.
    pub offset: u32,
}

impl Found {
    /// Index of the register in storage.
    pub fn index(&self) -> usize {
        (self.offset / 4) as usize
    }

    /// Name for people, with the index of an array's element.
    pub fn name(&self) -> String {
        match self.row.count {
            1 => self.row.name.to_owned(),
            _ => format!("{}[{}]", self.row.name, (self.offset - self.row.offset) / self.row.stride),
        }
    }
}

/// For each dword of the BAR: the row (plus one; zero is none) and the register's own dword.
static LOOKUP: LazyLock<Vec<(u16, u16)>> = LazyLock::new(|| {
    let mut map = vec![(0u16, 0u16); DWORDS];
    for (i, row) in (1..).zip(TABLE) {
        for k in 0..row.count {
            let dword = (row.offset + k * row.stride) / 4;
            map[dword as usize] = (i, dword as u16);
        }
    }
    for a in ALIASES {
        for dword in 0..a.len / 4 {
            map[(a.from / 4 + dword) as usize] = map[(a.to / 4 + dword) as usize];
        }
    }
    map
});

/// The register at `offset` (a multiple of 4), if there is one.
pub fn find(offset: u32) -> Option<Found> {
    let &(row, dword) = LOOKUP.get((offset / 4) as usize)?;
    let row = TABLE.get(usize::from(row).checked_sub(1)?)?;
    Some(Found { row, offset: u32::from(dword) * 4 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn no_two_registers_share_an_offset_and_all_lie_in_the_bar() {
        let mut seen = HashMap::new();
        for row in TABLE {
            for k in 0..row.count {
                let offset = row.offset + k * row.stride;
                assert!(offset % 4 == 0 && offset < BAR0_LEN, "{}", row.name);
                assert_eq!(seen.insert(offset, row.name), None, "{} at {offset:#x}", row.name);
            }
        }
        for a in ALIASES {
            for at in (0..a.len).step_by(4) {
                assert!(seen.contains_key(&(a.to + at)), "alias {:#x} of nothing", a.from + at);
                assert!(!seen.contains_key(&(a.from + at)), "alias {:#x} hides a register", a.from + at);
            }
        }
    }

    #[test]
    fn masks_and_reset_values_agree() {
        for row in TABLE {
            assert_eq!(row.mask & row.w1c, 0, "{}", row.name);
            if row.class == Class::Ro && row.state != State::Implemented {
                assert_eq!(row.reset, 0, "{}", row.name);
            }
        }
    }

    #[test]
    fn aliases_lead_to_the_register_itself() {
        assert_eq!(find(0x0438).map(|f| f.offset), Some(TDT));
        assert_eq!(find(0x0044).map(|f| f.name()), Some("RAH[0]".into()));
        assert_eq!(find(0x5408 + 4).map(|f| f.name()), Some("RAH[1]".into()));
        assert!(find(0x003c).is_none());
        assert!(find(BAR0_LEN).is_none());
    }
}
