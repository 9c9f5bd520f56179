//! Bit fields of registers, by the manual's names.

use crate::nic::e1000::spec::reg;

/// A field: its name, lowest bit and width.
type Field = (&'static str, u32, u32);

const CAUSES: &[Field] = &[
    ("TXDW", 0, 1),
    ("TXQE", 1, 1),
    ("LSC", 2, 1),
    ("RXSEQ", 3, 1),
    ("RXDMT0", 4, 1),
    ("RXO", 6, 1),
    ("RXT0", 7, 1),
    ("MDAC", 9, 1),
    ("RXCFG", 10, 1),
    ("TXD_LOW", 15, 1),
    ("SRPD", 16, 1),
];

/// The fields of the register at `offset`; none for those that are one number.
#[rustfmt::skip]
fn fields(offset: u32) -> &'static [Field] {
    match offset {
        reg::CTRL => &[
            ("FD", 0, 1), ("LRST", 3, 1), ("ASDE", 5, 1), ("SLU", 6, 1), ("ILOS", 7, 1), ("SPEED", 8, 2), ("FRCSPD", 11, 1),
            ("FRCDPLX", 12, 1), ("RST", 26, 1), ("RFCE", 27, 1), ("TFCE", 28, 1), ("VME", 30, 1), ("PHY_RST", 31, 1),
        ],
        reg::STATUS => &[
            ("FD", 0, 1), ("LU", 1, 1), ("TXOFF", 4, 1), ("TBIMODE", 5, 1), ("SPEED", 6, 2), ("ASDV", 8, 2),
        ],
        reg::EECD => &[
            ("SK", 0, 1), ("CS", 1, 1), ("DI", 2, 1), ("DO", 3, 1), ("FWE", 4, 2), ("REQ", 6, 1), ("GNT", 7, 1),
            ("PRES", 8, 1), ("SIZE", 9, 1),
        ],
        reg::EERD => &[("START", 0, 1), ("DONE", 4, 1), ("ADDR", 8, 8), ("DATA", 16, 16)],
        reg::CTRL_EXT => &[("ASDCHK", 12, 1), ("EE_RST", 13, 1), ("SPD_BYPS", 15, 1), ("RO_DIS", 17, 1)],
        reg::MDIC => &[
            ("DATA", 0, 16), ("REG", 16, 5), ("PHY", 21, 5), ("OP", 26, 2), ("READY", 28, 1), ("INT_EN", 29, 1),
            ("ERROR", 30, 1),
        ],
        reg::ICR | reg::ICS | reg::IMS | reg::IMC => CAUSES,
        reg::RCTL => &[
            ("EN", 1, 1), ("SBP", 2, 1), ("UPE", 3, 1), ("MPE", 4, 1), ("LPE", 5, 1), ("LBM", 6, 2), ("RDMTS", 8, 2),
            ("MO", 12, 2), ("BAM", 15, 1), ("BSIZE", 16, 2), ("VFE", 18, 1), ("CFIEN", 19, 1), ("CFI", 20, 1),
            ("DPF", 22, 1), ("PMCF", 23, 1), ("BSEX", 25, 1), ("SECRC", 26, 1),
        ],
        reg::TCTL => &[
            ("EN", 1, 1), ("PSP", 3, 1), ("CT", 4, 8), ("COLD", 12, 10), ("SWXOFF", 22, 1), ("RTLC", 24, 1), ("NRTU", 25, 1),
        ],
        reg::TIPG => &[("IPGT", 0, 10), ("IPGR1", 10, 10), ("IPGR2", 20, 10)],
        reg::PBA => &[("RXA", 0, 16), ("TXA", 16, 16)],
        reg::FCRTL => &[("RTL", 0, 16), ("XONE", 31, 1)],
        reg::FCRTH => &[("RTH", 0, 16), ("XFCE", 31, 1)],
        reg::RDTR | reg::TIDV => &[("DELAY", 0, 16), ("FPD", 31, 1)],
        reg::RXDCTL => &[("PTHRESH", 0, 6), ("HTHRESH", 8, 6), ("WTHRESH", 16, 6), ("GRAN", 24, 1)],
        reg::TXDCTL => &[
            ("PTHRESH", 0, 6), ("HTHRESH", 8, 6), ("WTHRESH", 16, 6), ("GRAN", 24, 1), ("LWTHRESH", 25, 7),
        ],
        reg::RXCSUM => &[("PCSS", 0, 8), ("IPOFL", 8, 1), ("TUOFL", 9, 1), ("IPV6OFL", 10, 1)],
        reg::WUFC | reg::WUS => &[
            ("LNKC", 0, 1), ("MAG", 1, 1), ("EX", 2, 1), ("MC", 3, 1), ("BC", 4, 1), ("ARP", 5, 1), ("IPV4", 6, 1),
            ("IPV6", 7, 1), ("FLX", 16, 4),
        ],
        _ if (reg::RAH..reg::RAH + 128).contains(&offset) && offset & 7 == 4 => {
            &[("ADDR", 0, 16), ("AS", 16, 2), ("AV", 31, 1)]
        }
        _ => &[],
    }
}

/// What `value` means in the register at `offset`: set flags by name, wider fields by name and value. Empty for
/// registers that are one number.
pub(super) fn decode(offset: u32, value: u32) -> String {
    let words = fields(offset).iter().filter_map(|&(name, shift, width)| {
        let field = value >> shift & (u32::MAX >> (32 - width));
        match (width, field) {
            (1, 0) => None,
            (1, _) => Some(name.to_owned()),
            _ => Some(format!("{name}={field:#x}")),
        }
    });
    words.collect::<Vec<_>>().join("|")
}

/// Interrupt causes by name.
pub(super) fn causes(value: u32) -> String {
    decode(reg::ICR, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nic::e1000::regs::table::{TABLE, find};

    #[test]
    fn fields_lie_beside_each_other_in_registers_that_exist() {
        for row in TABLE {
            let mut seen = 0u32;
            for &(name, shift, width) in fields(row.offset) {
                let mask = (u32::MAX >> (32 - width)) << shift;
                assert_eq!(seen & mask, 0, "{}.{name} overlaps", row.name);
                seen |= mask;
            }
        }
        assert!(find(reg::RCTL).is_some());
    }

    #[test]
    fn values_read_as_the_manual_names_them() {
        assert_eq!(decode(reg::RCTL, 0x0400_8002), "EN|LBM=0x0|RDMTS=0x0|MO=0x0|BAM|BSIZE=0x0|SECRC");
        assert_eq!(causes(0x85), "TXDW|LSC|RXT0");
        assert_eq!(decode(reg::RAH + 8, 0x8000_1234), "ADDR=0x1234|AS=0x0|AV");
        assert_eq!(decode(reg::RDT, 7), "");
    }
}
