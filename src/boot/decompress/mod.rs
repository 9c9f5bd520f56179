//! Unpacks the payload of a bzImage on the host: every compression that Linux offers on x86.
//!
//! Called by `bzimage`. The kernel's build appends the unpacked size to the payload (arch/x86/boot/compressed:
//! `size_append`, read by mkpiggy; gzip has it in its own trailer), so memory is bounded before a byte is unpacked,
//! and a payload that yields more or less is damaged. Checksums are those of the libraries; LZ4 legacy has none.

mod lz4;
mod lzo;

use std::fmt;
use std::io::{self, Read};

use super::bytes::u32_at;
use super::error::KernelError;

/// More than any kernel unpacks to.
const MAX_UNPACKED: u64 = 1 << 30;
/// Dictionary that an LZMA or XZ payload may ask for, in KiB: twice the largest that kernel builds use.
const MAX_DICTIONARY_KIB: u32 = 256 << 10;

/// How a payload is compressed (the names are those of Linux's CONFIG_KERNEL_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// DEFLATE in a gzip frame.
    Gzip,
    /// bzip2.
    Bzip2,
    /// The old .lzma format.
    Lzma,
    /// XZ, with the x86 branch filter.
    Xz,
    /// LZO1X in lzop's container.
    Lzo,
    /// LZ4 in its legacy container.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    const MAGICS: [(&'static [u8], Compression); 8] = [
        (&[0x1f, 0x8b], Compression::Gzip),
        (b"BZh", Compression::Bzip2),
        (&[0x5d, 0, 0], Compression::Lzma),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
        (&lzo::MAGIC, Compression::Lzo),
        (&lz4::MAGIC, Compression::Lz4),
        (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
        (&[0x1f, 0x9e], Compression::Gzip),
    ];

    /// Recognizes a compressed stream by its first bytes.
    pub(super) fn detect(data: &[u8]) -> Option<Self> {
        Self::MAGICS.iter().find(|(magic, _)| data.starts_with(magic)).map(|&(_, kind)| kind)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "LZMA",
            Self::Xz => "XZ",
            Self::Lzo => "LZO",
            Self::Lz4 => "LZ4",
            Self::Zstd => "Zstandard",
        })
    }
}

/// Unpacks a kernel's payload with its appended size.
///
/// # Errors
/// [`KernelError::Payload`] when it is damaged or too large.
pub(super) fn unpack(payload: &[u8], format: Compression) -> Result<Vec<u8>, KernelError> {
    run(payload, format).map_err(|why| KernelError::Payload { format, why: one_line(&why) })
}

fn run(payload: &[u8], format: Compression) -> Result<Vec<u8>, String> {
    let trailer = payload.len().checked_sub(4).ok_or("it is shorter than its size field")?;
    let declared = u64::from(u32_at(payload, trailer).unwrap_or(0));
    if declared > MAX_UNPACKED {
        return Err(format!("it says that it unpacks to {} MiB", declared >> 20));
    }
    let stream = if format == Compression::Gzip { payload } else { &payload[..trailer] };
    let mut out = Vec::new();
    out.try_reserve_exact(declared as usize + 1).map_err(|_| "the host has no memory for it".to_string())?;
    decode(stream, format, declared, &mut out)?;
    if out.len() as u64 == declared {
        return Ok(out);
    }
    let how = if out.len() as u64 > declared { "more" } else { "less" };
    Err(format!("it unpacks to {how} than the {declared} bytes that it declares"))
}

/// Appends at most `declared` + 1 bytes to `out`.
fn decode(stream: &[u8], format: Compression, declared: u64, out: &mut Vec<u8>) -> Result<(), String> {
    let limit = declared + 1;
    match format {
        Compression::Gzip => drain(flate2::read::GzDecoder::new(stream), limit, out),
        Compression::Bzip2 => drain(bzip2::read::BzDecoder::new(stream), limit, out),
        Compression::Lzma => {
            let reader = lzma_rust2::LzmaReader::new_mem_limit(stream, MAX_DICTIONARY_KIB, None);
            drain(reader.map_err(|e| e.to_string())?, limit, out)
        }
        Compression::Xz => {
            drain(lzma_rust2::XzReader::new_mem_limit(stream, true, MAX_DICTIONARY_KIB), limit, out)
        }
        Compression::Lzo => lzo::decode(stream, declared as usize, out),
        Compression::Lz4 => lz4::decode(stream, declared as usize, out),
        Compression::Zstd => zstd(stream, limit, out),
    }
}

fn drain(reader: impl Read, limit: u64, out: &mut Vec<u8>) -> Result<(), String> {
    reader.take(limit).read_to_end(out).map(|_| ()).map_err(|e: io::Error| e.to_string())
}

/// One frame after the other, as the `zstd` tool makes several for large inputs.
fn zstd(mut stream: &[u8], limit: u64, out: &mut Vec<u8>) -> Result<(), String> {
    while !stream.is_empty() && (out.len() as u64) < limit {
        let room = limit - out.len() as u64;
        let frame = ruzstd::decoding::StreamingDecoder::new(&mut stream).map_err(|e| e.to_string())?;
        drain(frame, room, out)?;
    }
    Ok(())
}

/// Library messages may hold line breaks and nested causes; the user gets one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
