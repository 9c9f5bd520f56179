//! pcapng: each frame with a comment that says which descriptors it had, what became of it, and which causes it raised.
//!
//! A transmitted frame is written when its descriptors are reported, a received one when it has been placed, so
//! that the comment can tell the end of it.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};

use super::bits::causes;
use super::descriptors;
use super::record::words;
use crate::nic::e1000::observe::{Disposition, Event, Moment, Ring};

/// Frames that wait for their descriptors' report at most; more than a packet's segments.
const WAITING: usize = 4096;
/// Descriptors named in one comment; the rest is counted.
const NAMED: usize = 8;

/// A capture file, each NIC an interface of its own.
pub(super) struct Packets {
    out: Output,
    nics: Vec<Nic>,
}

struct Output {
    writer: PcapNgWriter<Whole>,
    /// Wall time of device time zero.
    epoch: Duration,
}

/// What is known of one NIC's frames.
#[derive(Debug)]
struct Nic {
    name: String,
    interface: u32,
    tx: Notes,
    rx: Notes,
    waiting: Vec<Packet>,
}

impl std::fmt::Debug for Packets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packets").field("nics", &self.nics).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Packet {
    at: Duration,
    bytes: Vec<u8>,
    original: usize,
    inbound: bool,
    comment: String,
}

/// What descriptors have said since the last frame.
#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl Notes {
    fn take(&mut self) -> String {
        let all = std::mem::take(&mut self.0);
        let more = all.len().saturating_sub(NAMED);
        let named = all.into_iter().take(NAMED).collect::<Vec<_>>().join("\n");
        if more == 0 { named } else { format!("{named}\nand {more} more descriptors") }
    }
}

/// Collects a block and writes it with one call, so that the file is whole at any moment.
struct Whole {
    file: File,
    block: Vec<u8>,
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.block.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        self.file.write_all(&block)
    }
}

fn broken(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

impl Packets {
    /// Begins a file. `epoch`: time since 1970 at device time zero.
    pub fn new(file: File, epoch: Duration) -> io::Result<Self> {
        let mut writer = PcapNgWriter::new(Whole { file, block: Vec::new() }).map_err(broken)?;
        writer.get_mut().flush()?;
        Ok(Self { out: Output { writer, epoch }, nics: Vec::new() })
    }

    /// Takes note of an event of `nic`, and writes frames that are complete by it.
    pub fn event(&mut self, nic: &str, moment: &Moment, event: &Event<'_>) -> io::Result<()> {
        let known = self.nics.iter().position(|known| known.name == nic);
        let at = match known {
            Some(at) => at,
            None => {
                let (interface, name) = (self.nics.len() as u32, nic.to_owned());
                self.out.add_interface(nic)?;
                let (tx, rx, waiting) = (Notes::default(), Notes::default(), Vec::new());
                self.nics.push(Nic { name, interface, tx, rx, waiting });
                self.nics.len() - 1
            }
        };
        self.nics[at].event(&mut self.out, moment, event)
    }

    /// Writes what still waits.
    pub fn finish(&mut self) -> io::Result<()> {
        self.nics.iter_mut().try_for_each(|nic| nic.write_waiting(&mut self.out, ""))
    }
}

impl Nic {
    fn event(&mut self, out: &mut Output, moment: &Moment, event: &Event<'_>) -> io::Result<()> {
        let at = out.epoch + Duration::from_nanos(moment.now_ns);
        match *event {
            Event::Fetched { ring: Ring::Tx, slot, raw } => {
                self.tx.0.push(format!("descriptor {}: {}", slot.index, descriptors::tx(&raw)));
            }
            Event::WrittenBack { ring: Ring::Rx, slot, raw, .. } => {
                self.rx.0.push(format!("descriptor {}: {}", slot.index, descriptors::rx_done(&raw)));
            }
            Event::HeadMoved { ring: Ring::Rx, causes: set, head } => {
                self.rx.0.push(format!("RDH = {head}, at once: {}", or_nothing(&causes(set))));
            }
            Event::Sent(frame) if frame.disposition != Disposition::PeerFull && !frame.head.is_empty() => {
                let mut comment = self.tx.take();
                if let Some(mss) = frame.mss {
                    comment += &format!("\nto be cut into segments of {mss} bytes");
                }
                comment += &format!("\n{}", words(frame.disposition));
                let (bytes, original) = (frame.head.to_vec(), frame.head.len() + frame.rest);
                self.waiting.push(Packet { at, bytes, original, inbound: false, comment });
                if self.waiting.len() >= WAITING {
                    self.write_waiting(out, "")?;
                }
            }
            Event::HeadMoved { ring: Ring::Tx, causes: set, head } => {
                self.tx.0.clear();
                self.write_waiting(out, &format!("\nTDH = {head}, causes: {}", or_nothing(&causes(set))))?;
            }
            Event::Arrived { head, payload, len, disposition } => {
                let comment = format!("{}\n{}", words(disposition), self.rx.take()).trim_end().to_owned();
                let bytes = [head, payload].concat();
                let original = len.max(bytes.len());
                out.write(self.interface, Packet { at, bytes, original, inbound: true, comment })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn write_waiting(&mut self, out: &mut Output, end: &str) -> io::Result<()> {
        self.waiting.drain(..).try_for_each(|mut packet| {
            packet.comment += end;
            out.write(self.interface, packet)
        })
    }
}

impl Output {
    fn add_interface(&mut self, name: &str) -> io::Result<()> {
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 1 << 18,
            options: vec![
                InterfaceDescriptionOption::IfName(name.to_owned().into()),
                // 10^-9 s, which is what the encoder counts in.
                InterfaceDescriptionOption::IfTsResol(9),
            ],
        };
        self.writer.write_pcapng_block(block).map_err(broken)?;
        self.writer.get_mut().flush()
    }

    fn write(&mut self, interface: u32, packet: Packet) -> io::Result<()> {
        let Packet { at, bytes, original, inbound, comment } = packet;
        let block = EnhancedPacketBlock {
            interface_id: interface,
            timestamp: at,
            original_len: original as u32,
            data: bytes.into(),
            // pcapng, section 4.3.1, epb_flags: 1 is inbound, 2 outbound. Seen from the guest.
            options: vec![
                EnhancedPacketOption::Comment(comment.into()),
                EnhancedPacketOption::Flags(if inbound { 1 } else { 2 }),
            ],
        };
        self.writer.write_pcapng_block(block).map_err(broken)?;
        self.writer.get_mut().flush()
    }
}

fn or_nothing(causes: &str) -> &str {
    if causes.is_empty() { "none" } else { causes }
}
