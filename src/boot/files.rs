//! Reading the files that the user names, whole and bounded. The only part of `boot` that opens anything.
//!
//! Used by `prepare`.

use std::fs::{File, FileType, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Why a file gave no bytes.
#[derive(Debug)]
pub(super) enum FileError {
    Io(io::Error),
    NotAFile(&'static str),
    TooLarge(u64),
}

/// The content of a regular file or pipe of at most `limit` bytes.
///
/// # Errors
/// [`FileError`]; a file known to be too large is not read at all.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let meta = std::fs::metadata(path).map_err(FileError::Io)?;
    check_kind(&meta)?;
    if meta.len() > limit {
        return Err(FileError::TooLarge(meta.len()));
    }
    let file = File::open(path).map_err(FileError::Io)?;
    let mut bytes = Vec::with_capacity(meta.len() as usize + 1);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(FileError::Io)?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge(bytes.len() as u64));
    }
    Ok(bytes)
}

/// A path as part of one line of text.
pub(super) fn printable(path: &Path) -> String {
    path.to_string_lossy()
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

fn check_kind(meta: &Metadata) -> Result<(), FileError> {
    let kind: FileType = meta.file_type();
    match () {
        () if kind.is_dir() => Err(FileError::NotAFile("directory")),
        () if kind.is_block_device() => Err(FileError::NotAFile("block device")),
        () if kind.is_char_device() => Err(FileError::NotAFile("character device")),
        () if kind.is_socket() => Err(FileError::NotAFile("socket")),
        () => Ok(()),
    }
}
