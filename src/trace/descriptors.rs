//! Descriptors in words (manual, sections 3.2.3 and 3.3.3 to 3.3.7).

use crate::nic::e1000::spec::{rxd, txd};

fn word(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([raw[at], raw[at + 1]])
}

fn dword(raw: &[u8], at: usize) -> u32 {
    u32::from(word(raw, at + 2)) << 16 | u32::from(word(raw, at))
}

fn address(raw: &[u8; 16]) -> u64 {
    u64::from(dword(raw, 4)) << 32 | u64::from(dword(raw, 0))
}

fn flags<T: Copy + Into<u64>>(value: T, names: &[(&str, T)]) -> String {
    let set = names.iter().filter(|(_, bit)| value.into() & (*bit).into() != 0);
    set.map(|(name, _)| *name).collect::<Vec<_>>().join("|")
}

/// A transmit descriptor as it was fetched.
pub(super) fn tx(raw: &[u8; 16]) -> String {
    let lower = dword(raw, 8);
    let common = [("EOP", txd::EOP), ("IFCS", txd::IFCS)];
    let tail = [("RS", txd::RS), ("VLE", txd::VLE), ("IDE", txd::IDE)];
    let kind = if lower & txd::DEXT == 0 { None } else { Some(lower >> txd::DTYP_SHIFT & 0xf) };
    match kind {
        Some(txd::DTYP_CONTEXT) => {
            let cmd = [("TCP", txd::TUCMD_TCP), ("IP", txd::TUCMD_IP), ("TSE", txd::TSE), tail[0], tail[2]];
            format!(
                "context ipcss={} ipcso={} ipcse={} tucss={} tucso={} tucse={} paylen={} hdrlen={} mss={} {}",
                raw[0],
                raw[1],
                word(raw, 2),
                raw[4],
                raw[5],
                word(raw, 6),
                lower & 0xf_ffff,
                raw[13],
                word(raw, 14),
                flags(lower, &cmd)
            )
        }
        Some(txd::DTYP_DATA) => {
            let cmd = [common[0], common[1], ("TSE", txd::TSE), tail[0], tail[1], tail[2]];
            let popts = [("IXSM", txd::POPTS_IXSM), ("TXSM", txd::POPTS_TXSM)];
            format!(
                "data address={:#x} length={} {} popts=[{}] special={:#06x}",
                address(raw),
                lower & 0xf_ffff,
                flags(lower, &cmd),
                flags(raw[13], &popts),
                word(raw, 14)
            )
        }
        Some(other) => format!("unknown DTYP {other}"),
        None => {
            let cmd = [common[0], common[1], ("IC", txd::IC), tail[0], tail[1], tail[2]];
            format!(
                "legacy address={:#x} length={} {} cso={} css={} special={:#06x}",
                address(raw),
                lower & 0xffff,
                flags(lower, &cmd),
                raw[10],
                raw[13],
                word(raw, 14)
            )
        }
    }
}

/// A receive descriptor as it was fetched.
pub(super) fn rx(raw: &[u8; 16]) -> String {
    format!("address={:#x} status={}", address(raw), status(raw[12]))
}

/// Bytes 8 to 15 of a receive descriptor as they were written back.
pub(super) fn rx_done(raw: &[u8; 8]) -> String {
    let errors = [("CE", rxd::CE), ("TCPE", rxd::TCPE), ("IPE", rxd::IPE), ("RXE", rxd::RXE)];
    format!(
        "length={} checksum={:#06x} status={} errors=[{}] special={:#06x}",
        word(raw, 0),
        word(raw, 2),
        status(raw[4]),
        flags(raw[5], &errors),
        word(raw, 6)
    )
}

fn status(value: u8) -> String {
    let names = [
        ("DD", rxd::DD),
        ("EOP", rxd::EOP),
        ("IXSM", rxd::IXSM),
        ("VP", rxd::VP),
        ("TCPCS", rxd::TCPCS),
        ("IPCS", rxd::IPCS),
        ("PIF", rxd::PIF),
    ];
    format!("[{}]", flags(value, &names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_read_as_the_manual_names_them() {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&0x1234_5678u64.to_le_bytes());
        raw[8..12].copy_from_slice(&(60 | txd::EOP | txd::IFCS | txd::RS).to_le_bytes());
        assert_eq!(tx(&raw), "legacy address=0x12345678 length=60 EOP|IFCS|RS cso=0 css=0 special=0x0000");
        raw[8..12].copy_from_slice(&(60 | txd::DEXT | 1 << 20 | txd::TSE | txd::EOP).to_le_bytes());
        raw[13] = 3;
        assert_eq!(tx(&raw), "data address=0x12345678 length=60 EOP|TSE popts=[IXSM|TXSM] special=0x0000");
        raw[8..12].copy_from_slice(&(60 | txd::DEXT | txd::TSE).to_le_bytes());
        assert!(
            tx(&raw).starts_with("context ipcss=120 ipcso=86 ") && tx(&raw).ends_with(" TSE"),
            "{}",
            tx(&raw)
        );
        let done = [64, 0, 0xcd, 0xab, rxd::DD | rxd::EOP, rxd::CE, 5, 0];
        assert_eq!(rx_done(&done), "length=64 checksum=0xabcd status=[DD|EOP] errors=[CE] special=0x0005");
    }
}
