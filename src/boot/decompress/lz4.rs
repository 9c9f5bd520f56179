//! LZ4's legacy container, which `lz4 -l` writes and Linux uses: a magic number, then blocks of a 32-bit length and
//! at most 8 MiB of unpacked data (LZ4 frame format description, "Legacy frame").
//!
//! The blocks themselves are lz4_flex's work.

use super::super::bytes::u32_at;

/// 0x184C2102, little-endian.
pub(super) const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// A block's unpacked size.
const BLOCK: usize = 8 << 20;

/// Unpacks all blocks into `out`, which grows to `declared` bytes at most.
///
/// # Errors
/// What is wrong with the stream.
pub(super) fn decode(stream: &[u8], declared: usize, out: &mut Vec<u8>) -> Result<(), String> {
    out.resize(declared, 0);
    let mut at = MAGIC.len();
    let mut filled = 0;
    while at < stream.len() {
        let len = u32_at(stream, at).ok_or("a block's length is cut off")?;
        at += 4;
        if len.to_le_bytes() == MAGIC {
            continue; // Concatenated streams: each begins with the magic number.
        }
        let block = stream.get(at..at.saturating_add(len as usize)).ok_or("a block is cut off")?;
        let end = declared.min(filled + BLOCK);
        filled +=
            lz4_flex::block::decompress_into(block, &mut out[filled..end]).map_err(|e| e.to_string())?;
        at += block.len();
    }
    out.truncate(filled);
    Ok(())
}
