//! lzop's container around LZO1X blocks, as Linux reads it (lib/decompress_unlzo.c; numbers are big-endian).
//!
//! The blocks themselves are lzokay's work. Checksums are skipped, as the kernel does.

/// lzop's file magic.
pub(super) const MAGIC: [u8; 9] = [0x89, b'L', b'Z', b'O', 0, 0x0d, 0x0a, 0x1a, 0x0a];

/// Header flags.
const ADLER32_D: u32 = 1 << 0;
const ADLER32_C: u32 = 1 << 1;
const EXTRA_FIELD: u32 = 1 << 6;
const CRC32_D: u32 = 1 << 8;
const CRC32_C: u32 = 1 << 9;
const FILTER: u32 = 1 << 11;

/// From this version on the header has a level and a 64-bit time.
const LONG_HEADER: u16 = 0x0940;

/// Unpacks all blocks into `out`, which grows to `declared` bytes at most.
///
/// # Errors
/// What is wrong with the stream.
pub(super) fn decode(stream: &[u8], declared: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let mut input = Input { rest: stream.get(MAGIC.len()..).unwrap_or_default() };
    let flags = header(&mut input).ok_or("lzop's header is cut off")?;
    out.resize(declared, 0);
    let mut filled = 0;
    loop {
        let block = next_block(&mut input, flags).ok_or("a block is cut off")?;
        let Some(block) = block else { break };
        let room = &mut out[filled..];
        if block.unpacked > room.len() {
            return Err("it unpacks to more than it declares".into());
        }
        filled += unpack_block(&block, &mut room[..block.unpacked])?;
    }
    out.truncate(filled);
    Ok(())
}

struct Block<'a> {
    packed: &'a [u8],
    unpacked: usize,
}

/// A block that did not shrink is stored as it is.
fn unpack_block(block: &Block<'_>, to: &mut [u8]) -> Result<usize, String> {
    if block.packed.len() == block.unpacked {
        to.copy_from_slice(block.packed);
        return Ok(to.len());
    }
    match lzokay::decompress::decompress(block.packed, to) {
        Ok(n) if n == to.len() => Ok(n),
        Ok(_) => Err("a block is shorter than it says".into()),
        Err(e) => Err(format!("{e:?}")),
    }
}

/// Reads the header and returns its flags. None when it is cut off.
fn header(input: &mut Input<'_>) -> Option<u32> {
    let version = input.u16()?;
    input.skip(2)?; // Library version.
    let long = version >= LONG_HEADER;
    input.skip(if long { 2 + 1 + 1 } else { 1 })?; // Version needed, method, level.
    let flags = input.u32()?;
    input.skip(if flags & FILTER != 0 { 4 } else { 0 })?;
    input.skip(if long { 4 + 4 + 4 } else { 4 + 4 })?; // Mode and time.
    let name = input.u8()?;
    input.skip(usize::from(name) + 4)?; // Name and header checksum.
    if flags & EXTRA_FIELD != 0 {
        let extra = input.u32()? as usize;
        input.skip(extra.checked_add(4)?)?;
    }
    Some(flags)
}

/// The next block, Some(None) at the end mark, None when cut off.
fn next_block<'a>(input: &mut Input<'a>, flags: u32) -> Option<Option<Block<'a>>> {
    let unpacked = input.u32()? as usize;
    if unpacked == 0 {
        return Some(None);
    }
    let packed = input.u32()? as usize;
    let checksums = |of: u32| 4 * (flags & of).count_ones() as usize;
    input.skip(checksums(ADLER32_D | CRC32_D))?;
    if packed < unpacked {
        input.skip(checksums(ADLER32_C | CRC32_C))?;
    }
    Some(Some(Block { packed: input.take(packed)?, unpacked }))
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    fn skip(&mut self, n: usize) -> Option<()> {
        self.take(n).map(|_| ())
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }
}
