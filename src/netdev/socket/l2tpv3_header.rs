//! The header that L2TPv3 puts before each frame.
//!
//! Layout: RFC 3931, sections 3.2.2, 4.1.1 and 4.1.2; the cookie and the sequence number as Linux and QEMU
//! place them. Pure; used by `dgram`. The other side is not trusted.

use crate::cli::{CounterChoice, L2tpv3Options};

/// Flags and version before the session over UDP: a data message, version 3.
const UDP_DATA: u32 = 0x0003_0000;
/// An IPv4 header without options, which a raw socket delivers before the payload.
const IPV4_HEADER: usize = 20;

/// How frames are wrapped.
#[derive(Debug, Clone)]
pub struct L2tpv3 {
    options: L2tpv3Options,
    sent: u32,
}

/// Why a datagram is not for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Shorter than its headers.
    Short,
    /// Another session's, or with the wrong cookie.
    Session,
}

impl L2tpv3 {
    /// As the options say.
    pub fn new(options: &L2tpv3Options) -> Self {
        Self { options: options.clone(), sent: 0 }
    }

    /// Appends the next header to `out`.
    pub fn encode(&mut self, out: &mut Vec<u8>) {
        if self.options.ports.is_some() {
            out.extend_from_slice(&UDP_DATA.to_be_bytes());
        }
        out.extend_from_slice(&self.options.tx_session.to_be_bytes());
        if let Some(cookies) = self.options.cookies {
            put_cookie(cookies.tx, cookies.wide, out);
        }
        match self.options.counter {
            CounterChoice::Absent => {}
            CounterChoice::Counting => {
                self.sent = self.sent.wrapping_add(1);
                out.extend_from_slice(&self.sent.to_be_bytes());
            }
            CounterChoice::Pinned => out.extend_from_slice(&[0; 4]),
        }
        out.resize(out.len() + usize::from(self.options.offset), 0);
    }

    /// Where the frame begins in a received datagram. The sequence number is not looked at: like QEMU's, this
    /// end takes frames in whatever order they come.
    ///
    /// # Errors
    /// [`Foreign`]: not a frame of this session.
    pub fn decode(&self, datagram: &[u8]) -> Result<usize, Foreign> {
        let mut at = 0;
        if self.options.ports.is_some() {
            // The flags are not held against us: QEMU and Linux do not agree on them.
            at += 4;
        } else if !self.options.ipv6 {
            let first = *datagram.first().ok_or(Foreign::Short)?;
            at += (usize::from(first & 0xf) * 4).max(IPV4_HEADER);
        }
        let mut expected = self.options.rx_session.to_be_bytes().to_vec();
        if let Some(cookies) = self.options.cookies {
            put_cookie(cookies.rx, cookies.wide, &mut expected);
        }
        let found = datagram.get(at..at + expected.len()).ok_or(Foreign::Short)?;
        if found != expected {
            return Err(Foreign::Session);
        }
        at += expected.len() + usize::from(self.options.offset);
        at += if self.options.counter == CounterChoice::Absent { 0 } else { 4 };
        if at <= datagram.len() { Ok(at) } else { Err(Foreign::Short) }
    }
}

fn put_cookie(cookie: u64, wide: bool, out: &mut Vec<u8>) {
    if wide {
        out.extend_from_slice(&cookie.to_be_bytes());
    } else {
        // The command line lets no wider value pass.
        out.extend_from_slice(&(cookie as u32).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cookies;

    fn options() -> L2tpv3Options {
        L2tpv3Options {
            src: String::new(),
            dst: String::new(),
            ports: Some((1, 2)),
            ipv6: false,
            tx_session: 0x0a0b_0c0d,
            rx_session: 0x0a0b_0c0d,
            cookies: None,
            counter: CounterChoice::Absent,
            offset: 0,
        }
    }

    fn header(options: &L2tpv3Options) -> Vec<u8> {
        let mut out = Vec::new();
        L2tpv3::new(options).encode(&mut out);
        out
    }

    #[test]
    fn fields_stand_where_the_rfc_has_them() {
        let plain = options();
        assert_eq!(header(&plain), [0, 3, 0, 0, 10, 11, 12, 13]);
        assert_eq!(header(&L2tpv3Options { ports: None, ..plain.clone() }), [10, 11, 12, 13]);
        let narrow = Cookies { tx: 0xdead_beef, rx: 0, wide: false };
        let all = L2tpv3Options {
            cookies: Some(narrow),
            counter: CounterChoice::Counting,
            offset: 3,
            ..plain.clone()
        };
        let expected = [0, 3, 0, 0, 10, 11, 12, 13, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(header(&all), expected);
        let wide = Cookies { tx: 0x0102_0304_0506_0708, rx: 0, wide: true };
        let pinned = L2tpv3Options { cookies: Some(wide), counter: CounterChoice::Pinned, ..plain };
        assert_eq!(header(&pinned)[8..], [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0]);
    }

    #[test]
    fn what_one_end_wraps_the_other_unwraps_and_nobody_else() {
        let cookies = Some(Cookies { tx: 5, rx: 5, wide: false });
        let plain = L2tpv3Options { rx_session: 7, ..options() };
        for (offset, counter, cookies) in [
            (0, CounterChoice::Absent, None),
            (0, CounterChoice::Counting, cookies),
            (9, CounterChoice::Pinned, cookies),
        ] {
            let ours = L2tpv3Options { offset, counter, cookies, ..plain.clone() };
            let theirs = L2tpv3Options { tx_session: 7, rx_session: ours.tx_session, ..ours.clone() };
            let mut datagram = header(&theirs);
            let end = datagram.len();
            assert_eq!(L2tpv3::new(&ours).decode(&datagram), Ok(end));
            assert_eq!(L2tpv3::new(&theirs).decode(&datagram), Err(Foreign::Session));
            assert_eq!(L2tpv3::new(&ours).decode(&datagram[..end - 1]), Err(Foreign::Short));
            datagram[4] ^= 1;
            assert_eq!(L2tpv3::new(&ours).decode(&datagram), Err(Foreign::Session));
        }
        let raw = L2tpv3Options { ports: None, rx_session: 0x0a0b_0c0d, ..plain };
        let with_ip_options = [&[0x46][..], &[0; 23], &header(&raw)].concat();
        assert_eq!(L2tpv3::new(&raw).decode(&with_ip_options), Ok(28));
        assert_eq!(L2tpv3::new(&raw).decode(&[]), Err(Foreign::Short));
    }
}
