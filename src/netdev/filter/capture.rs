//! Capture files: classic pcap and pcapng, written so that they are whole at any moment of a kill.
//!
//! Used by `dump` for writing and by `replay` for reading. Each record reaches the file by one write call; there
//! is no buffer that a crash could lose.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};

use super::node::Way;
use crate::cli::CaptureFormat;

/// Why a capture file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The operating system's word.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not what it should be.
    #[error("{0}")]
    Format(String),
}

impl From<PcapError> for CaptureError {
    fn from(error: PcapError) -> Self {
        match error {
            PcapError::IoError(error) => Self::Io(error),
            other => Self::Format(other.to_string()),
        }
    }
}

/// Bytes on their way from the encoder to the file.
#[derive(Debug, Clone, Default)]
struct Record(Arc<Mutex<Vec<u8>>>);

impl Record {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Record {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Encoder {
    Pcap(PcapWriter<Record>),
    PcapNg(PcapNgWriter<Record>),
}

/// A capture being written.
pub(super) struct Writer {
    file: File,
    encoder: Encoder,
    record: Record,
    max_len: u32,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Writer {
    /// Truncates or creates `path` and writes the file's header. At most `max_len` bytes of a frame are kept;
    /// `interface` is named in pcapng files.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub(super) fn create(
        path: &Path,
        format: CaptureFormat,
        max_len: u32,
        interface: &str,
    ) -> Result<Self, CaptureError> {
        let record = Record::default();
        let encoder = match format {
            CaptureFormat::Pcap => {
                let header = PcapHeader {
                    snaplen: max_len,
                    datalink: DataLink::ETHERNET,
                    endianness: Endianness::native(),
                    ..PcapHeader::default()
                };
                Encoder::Pcap(PcapWriter::with_header(record.clone(), header)?)
            }
            CaptureFormat::PcapNg => {
                let mut writer = PcapNgWriter::new(record.clone())?;
                writer.write_pcapng_block(InterfaceDescriptionBlock {
                    linktype: DataLink::ETHERNET,
                    snaplen: max_len,
                    options: vec![
                        InterfaceDescriptionOption::IfName(interface.into()),
                        // 10^-9 s, which is what the encoder counts in.
                        InterfaceDescriptionOption::IfTsResol(9),
                    ],
                })?;
                Encoder::PcapNg(writer)
            }
        };
        let mut writer = Self { file: File::create(path)?, encoder, record, max_len };
        writer.put()?;
        Ok(writer)
    }

    /// Adds one wire frame. `at` is the time since 1970.
    ///
    /// # Errors
    /// [`CaptureError`]; a record that did not fit the disk is taken back as far as that is possible.
    pub(super) fn add(&mut self, at: Duration, way: Way, frame: &[u8]) -> Result<(), CaptureError> {
        let kept = &frame[..frame.len().min(self.max_len as usize)];
        let original = frame.len() as u32;
        match &mut self.encoder {
            Encoder::Pcap(writer) => {
                writer.write_packet(&PcapPacket::new(at, original, kept))?;
            }
            Encoder::PcapNg(writer) => {
                // pcapng, section 4.3.1, epb_flags: 1 is inbound. Seen from the guest.
                let flags = if way == Way::FromNetdev { 1 } else { 2 };
                writer.write_pcapng_block(EnhancedPacketBlock {
                    interface_id: 0,
                    timestamp: at,
                    original_len: original,
                    data: kept.into(),
                    options: vec![EnhancedPacketOption::Flags(flags)],
                })?;
            }
        }
        self.put()
    }

    fn put(&mut self) -> Result<(), CaptureError> {
        let record = self.record.take();
        let before = self.file.stream_position();
        let written = self.file.write_all(&record);
        if let (Err(_), Ok(before)) = (&written, before) {
            // Half a record would make the whole file look broken. A pipe cannot be cut, and need not be.
            let _ = self.file.set_len(before);
        }
        Ok(written?)
    }
}

/// One frame out of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Time since the epoch of the file.
    pub at: Duration,
    /// The frame, without FCS.
    pub frame: Vec<u8>,
    /// It was cut when it was captured.
    pub cut: bool,
}

enum Decoder<R: Read> {
    Pcap(PcapReader<R>, u64),
    PcapNg(PcapNgReader<R>),
}

/// A capture being read.
pub struct Reader<R: Read>(Decoder<R>);

impl<R: Read> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

/// How [`Reader::open`] reads.
pub type FileReader = BufReader<File>;

impl Reader<FileReader> {
    /// Opens a file of either format.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub(super) fn open(path: &Path) -> Result<Self, CaptureError> {
        Self::new(BufReader::new(File::open(path)?))
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the header, whichever format it is of.
    ///
    /// # Errors
    /// [`CaptureError::Format`] for anything but an Ethernet capture.
    pub fn new(mut input: R) -> Result<Self, CaptureError> {
        const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
        const NO_CAPTURE: &str = "too short for a capture; name a pcap or pcapng file";
        let mut magic = [0; 4];
        input.read_exact(&mut magic).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => CaptureError::Format(NO_CAPTURE.to_owned()),
            _ => CaptureError::Io(error),
        })?;
        input.seek(SeekFrom::Start(0))?;
        if magic == SECTION_HEADER {
            return Ok(Self(Decoder::PcapNg(PcapNgReader::new(input)?)));
        }
        let reader = PcapReader::new(input)?;
        let header = reader.header();
        ethernet(header.datalink)?;
        let tick_ns = match header.ts_resolution {
            pcap_file::TsResolution::MicroSecond => 1000,
            pcap_file::TsResolution::NanoSecond => 1,
        };
        Ok(Self(Decoder::Pcap(reader, tick_ns)))
    }
}

impl<R: Read> Reader<R> {
    /// The next frame, `None` at the end.
    ///
    /// # Errors
    /// [`CaptureError`]; there is no reading on after one.
    pub fn next_frame(&mut self) -> Result<Option<Captured>, CaptureError> {
        match &mut self.0 {
            Decoder::Pcap(reader, tick_ns) => {
                let Some(packet) = reader.next_raw_packet() else { return Ok(None) };
                let packet = packet?;
                let fraction = Duration::from_nanos(u64::from(packet.ts_frac) * *tick_ns);
                let at = Duration::from_secs(packet.ts_sec.into()) + fraction;
                let cut = packet.incl_len < packet.orig_len;
                Ok(Some(Captured { at, frame: packet.data.into_owned(), cut }))
            }
            Decoder::PcapNg(reader) => next_block(reader),
        }
    }
}

fn next_block<R: Read>(reader: &mut PcapNgReader<R>) -> Result<Option<Captured>, CaptureError> {
    loop {
        let packet = match reader.next_block() {
            None => return Ok(None),
            Some(block) => match block? {
                Block::EnhancedPacket(packet) => packet.into_owned(),
                Block::InterfaceDescription(interface) => {
                    ethernet(interface.linktype)?;
                    continue;
                }
                _ => continue,
            },
        };
        let Some(interface) = reader.packet_interface(&packet) else {
            return Err(CaptureError::Format(format!("no interface {}", packet.interface_id)));
        };
        // The decoder counts every tick as a nanosecond.
        let ticks = packet.timestamp.as_nanos() as u64;
        let at = match interface.options.iter().find_map(|option| match option {
            InterfaceDescriptionOption::IfTsResol(value) => Some(*value),
            _ => None,
        }) {
            None => Duration::from_micros(ticks),
            Some(9) => Duration::from_nanos(ticks),
            Some(6) => Duration::from_micros(ticks),
            Some(3) => Duration::from_millis(ticks),
            Some(other) => {
                return Err(CaptureError::Format(format!("time stamps of resolution {other:#x}")));
            }
        };
        let cut = (packet.data.len() as u64) < u64::from(packet.original_len);
        return Ok(Some(Captured { at, frame: packet.data.into_owned(), cut }));
    }
}

fn ethernet(link: DataLink) -> Result<(), CaptureError> {
    match link {
        DataLink::ETHERNET => Ok(()),
        other => Err(CaptureError::Format(format!("frames of link type {}, not Ethernet", u32::from(other)))),
    }
}
