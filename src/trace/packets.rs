//! pcapng: each frame with a comment that says which descriptors it had, what became of it, and which causes it raised.
//!
//! A transmitted frame is written when its descriptors are reported, a received one when it has been placed, so
//! that the comment can tell the end of it. A frame that a fault hits on a netdev's cable is written as it was before,
//! under the name `ID-cable`. What a limit leaves out is counted, in the comment of the next frame and in statistics
//! of each interface.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::{DataLink, PcapError};

use super::bits::causes;
use super::descriptors;
use super::limit::Limit;
use super::record::words;
use crate::fault::{CableEffect, CableHit};
use crate::nic::e1000::observe::{Disposition, Event, Moment, Ring};

/// Frames that wait for their descriptors' report at most; more than a packet's segments.
const WAITING: usize = 4096;
/// The same for their bytes.
const WAITING_BYTES: usize = 4 << 20;
/// Descriptors named in one comment; the rest is counted.
const NAMED: usize = 8;

/// A capture file, each NIC an interface of its own.
pub(super) struct Packets {
    out: Output,
    nics: Vec<Nic>,
    /// Frames a second.
    limit: Limit,
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
    waiting_bytes: usize,
    /// Frames that were written, or wait.
    taken: u64,
    /// Frames more than the limit.
    dropped: u64,
    /// Of them, those that no comment has told.
    untold: u64,
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
struct Notes {
    named: Vec<String>,
    /// Those that are counted only.
    more: usize,
}

impl Notes {
    fn push(&mut self, note: impl FnOnce() -> String) {
        if self.named.len() < NAMED {
            self.named.push(note());
        } else {
            self.more += 1;
        }
    }

    fn take(&mut self) -> String {
        let Self { named, more } = std::mem::take(self);
        let named = named.join("\n");
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
    /// Begins a file. `epoch`: time since 1970 at device time zero; `limit`: frames a second, zero for all.
    pub fn new(file: File, epoch: Duration, limit: u32) -> io::Result<Self> {
        let mut writer = PcapNgWriter::new(Whole { file, block: Vec::new() }).map_err(broken)?;
        writer.get_mut().flush()?;
        Ok(Self { out: Output { writer, epoch }, nics: Vec::new(), limit: Limit::new(limit) })
    }

    /// Takes note of an event of `nic`, and writes frames that are complete by it. A frame that is not `wanted` is only
    /// taken note of.
    pub fn event(&mut self, nic: &str, moment: &Moment, event: &Event<'_>, wanted: bool) -> io::Result<()> {
        let at = self.interface(nic)?;
        let limit = wanted.then_some(&mut self.limit);
        self.nics[at].event(&mut self.out, limit, moment, event)
    }

    /// Writes the frame that a fault has hit on a cable.
    pub fn cable_fault(&mut self, now_ns: u64, hit: &CableHit<'_>) -> io::Result<()> {
        let CableEffect::Frame { to_guest, bytes, done, .. } = hit.what else { return Ok(()) };
        let at = self.interface(&format!("{}-cable", hit.netdev))?;
        let nic = &mut self.nics[at];
        let Some(before) = nic.admit(&mut self.limit, now_ns) else { return Ok(()) };
        let comment = format!("{before}-fault {},id={}: {done}", hit.kind, hit.id);
        let at = self.out.epoch + Duration::from_nanos(now_ns);
        let (bytes, original) = (bytes.to_vec(), bytes.len());
        self.out.write(nic.interface, Packet { at, bytes, original, inbound: to_guest, comment })
    }

    /// The place of this interface in `nics`; a new one is written down.
    fn interface(&mut self, name: &str) -> io::Result<usize> {
        if let Some(at) = self.nics.iter().position(|known| known.name == name) {
            return Ok(at);
        }
        self.out.add_interface(name)?;
        let (interface, name) = (self.nics.len() as u32, name.to_owned());
        let (tx, rx, waiting) = (Notes::default(), Notes::default(), Vec::new());
        let (waiting_bytes, taken, dropped, untold) = (0, 0, 0, 0);
        self.nics.push(Nic { name, interface, tx, rx, waiting, waiting_bytes, taken, dropped, untold });
        Ok(self.nics.len() - 1)
    }

    /// Writes what still waits, and the statistics.
    pub fn finish(&mut self, now_ns: u64) -> io::Result<()> {
        let at = self.out.epoch + Duration::from_nanos(now_ns);
        for nic in &mut self.nics {
            nic.write_waiting(&mut self.out, "")?;
            self.out.write_statistics(nic, at)?;
        }
        Ok(())
    }
}

impl Nic {
    /// Whether a frame may be written: what its comment begins with, then.
    fn admit(&mut self, limit: &mut Limit, now_ns: u64) -> Option<String> {
        if !limit.event(now_ns).take {
            self.dropped += 1;
            self.untold += 1;
            return None;
        }
        self.taken += 1;
        Some(match std::mem::take(&mut self.untold) {
            0 => String::new(),
            frames => format!("{frames} frames more than limit= were left out before this one\n"),
        })
    }

    /// `limit`: none if a frame is not wanted.
    fn event(
        &mut self,
        out: &mut Output,
        limit: Option<&mut Limit>,
        moment: &Moment,
        event: &Event<'_>,
    ) -> io::Result<()> {
        let at = out.epoch + Duration::from_nanos(moment.now_ns);
        match *event {
            Event::Fetched { ring: Ring::Tx, slot, raw } => {
                self.tx.push(|| format!("descriptor {}: {}", slot.index, descriptors::tx(&raw)));
            }
            Event::WrittenBack { ring: Ring::Rx, slot, raw, .. } => {
                self.rx.push(|| format!("descriptor {}: {}", slot.index, descriptors::rx_done(&raw)));
            }
            Event::HeadMoved { ring: Ring::Rx, causes: set, head } => {
                self.rx.push(|| format!("RDH = {head}, at once: {}", or_nothing(&causes(set))));
            }
            Event::Sent(frame) if frame.disposition != Disposition::PeerFull && !frame.head.is_empty() => {
                let notes = self.tx.take();
                let before = limit.and_then(|limit| self.admit(limit, moment.now_ns));
                let Some(mut comment) = before.map(|before| before + &notes) else { return Ok(()) };
                if let Some(mss) = frame.mss {
                    comment += &format!("\nto be cut into segments of {mss} bytes");
                }
                comment += &format!("\n{}", words(frame.disposition));
                let (bytes, original) = (frame.head.to_vec(), frame.head.len() + frame.rest);
                self.waiting_bytes += bytes.len();
                self.waiting.push(Packet { at, bytes, original, inbound: false, comment });
                if self.waiting.len() >= WAITING || self.waiting_bytes >= WAITING_BYTES {
                    self.write_waiting(out, "")?;
                }
            }
            Event::HeadMoved { ring: Ring::Tx, causes: set, head } => {
                self.tx.take();
                self.write_waiting(out, &format!("\nTDH = {head}, causes: {}", or_nothing(&causes(set))))?;
            }
            Event::Arrived { head, payload, len, disposition } => {
                let notes = self.rx.take();
                let before = limit.and_then(|limit| self.admit(limit, moment.now_ns));
                let Some(before) = before else { return Ok(()) };
                let comment = format!("{before}{}\n{notes}", words(disposition)).trim_end().to_owned();
                let bytes = [head, payload].concat();
                let original = len.max(bytes.len());
                out.write(self.interface, Packet { at, bytes, original, inbound: true, comment })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn write_waiting(&mut self, out: &mut Output, end: &str) -> io::Result<()> {
        self.waiting_bytes = 0;
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

    fn write_statistics(&mut self, nic: &Nic, at: Duration) -> io::Result<()> {
        let mut options = vec![
            InterfaceStatisticsOption::IsbIfRecv(nic.taken + nic.dropped),
            InterfaceStatisticsOption::IsbIfDrop(nic.dropped),
        ];
        if nic.dropped > 0 {
            let comment = format!("{} frames more than limit= were left out", nic.dropped);
            options.push(InterfaceStatisticsOption::Comment(comment.into()));
        }
        let nanoseconds = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        // The upper half comes first in the file (pcapng, section 4.6), which the encoder leaves to us.
        let timestamp = nanoseconds.rotate_left(32);
        let block = InterfaceStatisticsBlock { interface_id: nic.interface, timestamp, options };
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
