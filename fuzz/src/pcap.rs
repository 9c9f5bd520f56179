//! Capture files, as `filter-replay` reads them.
//!
//! The input: a file. Whatever it holds, reading ends by itself in frames and at most one error of one line; frames
//! take no more than the file; and they are the same however the file's bytes arrive. Of the classic format they must
//! be those that a reading by its definition finds.

use std::io::{Cursor, Read, Result, Seek, SeekFrom};

use minivmm::netdev::filter::capture::{CaptureError, Captured, Reader};

/// The least that a frame takes in a file: the header of a classic record.
const LEAST: usize = 16;

pub fn run(data: &[u8]) {
    let (frames, error) = read(Cursor::new(data), data.len());
    assert!(frames.iter().map(|captured| captured.frame.len()).sum::<usize>() <= data.len());
    if let Some(error) = &error {
        let line = error.to_string();
        assert!(!line.is_empty() && line.len() < 500 && !line.contains(char::is_control), "{line:?}");
    }
    let (again, other) = read(Slow(Cursor::new(data)), data.len());
    assert_eq!((&frames, error.is_some()), (&again, other.is_some()), "in pieces it is another file");
    if let Some(expected) = by_definition(data) {
        assert!(expected.starts_with(&frames), "{frames:?}\nof {expected:?}");
        assert!(error.is_some() || frames.len() == expected.len(), "frames are missing");
    }
}

fn read(input: impl Read + Seek, size: usize) -> (Vec<Captured>, Option<CaptureError>) {
    let mut frames = Vec::new();
    let mut reader = match Reader::new(input) {
        Ok(reader) => reader,
        Err(error) => return (frames, Some(error)),
    };
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
        assert!(frames.len() * LEAST <= size, "more frames than the file can hold");
    }
}

/// Three bytes at a time.
struct Slow<'a>(Cursor<&'a [u8]>);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let n = into.len().min(3);
        self.0.read(&mut into[..n])
    }
}

impl Seek for Slow<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.0.seek(to)
    }
}

/// The whole records of a classic file, read in the plainest way (pcap-savefile(5)).
fn by_definition(data: &[u8]) -> Option<Vec<Captured>> {
    let word = |at: usize| -> Option<[u8; 4]> { data.get(at..at + 4)?.try_into().ok() };
    let number: fn([u8; 4]) -> u32 = match word(0)? {
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => u32::from_be_bytes,
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => u32::from_le_bytes,
        _ => return None,
    };
    let tick = if number(word(0)?) == 0xa1b2_3c4d { 1 } else { 1000 };
    let mut frames = Vec::new();
    let mut at = 24;
    while let (Some(sec), Some(frac), Some(kept), Some(whole)) =
        (word(at), word(at + 4), word(at + 8), word(at + 12))
    {
        let (kept, whole) = (number(kept), number(whole));
        let Some(frame) = data.get(at + LEAST..at + LEAST + kept as usize) else { break };
        frames.push(Captured {
            at: std::time::Duration::new(number(sec).into(), 0)
                + std::time::Duration::from_nanos(u64::from(number(frac)) * tick),
            frame: frame.to_vec(),
            cut: kept < whole,
        });
        at += LEAST + kept as usize;
    }
    Some(frames)
}
