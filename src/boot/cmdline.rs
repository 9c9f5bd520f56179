//! The kernel's command line: checked against what this kernel can take.
//!
//! Used by `linux` and `pvh`.

use super::image::Piece;
use super::low_memory::{CMDLINE, CMDLINE_ROOM};

/// Longest command line of x86 Linux without its terminating zero (COMMAND_LINE_SIZE, arch/x86/include/asm/setup.h):
/// the limit for kernels that do not say theirs.
pub(super) const DEFAULT_MAX: u64 = 2047;

/// What is wrong with a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    /// A zero byte would end it early.
    #[error("the kernel command line has a zero byte at offset {0}; remove it")]
    ZeroByte(usize),
    /// Longer than the kernel takes.
    #[error("the kernel command line has {len} bytes, this kernel takes at most {max}; shorten it")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The kernel's limit.
        max: u64,
    },
}

/// The command line at its place, for a kernel that takes `max` bytes.
///
/// # Errors
/// [`CmdlineError`].
pub(super) fn place(text: &str, max: u64) -> Result<Piece, CmdlineError> {
    if let Some(at) = text.bytes().position(|b| b == 0) {
        return Err(CmdlineError::ZeroByte(at));
    }
    let max = max.min(CMDLINE_ROOM - 1);
    if text.len() as u64 > max {
        return Err(CmdlineError::TooLong { len: text.len(), max });
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    Ok(Piece::new(CMDLINE, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_a_zero_and_keeps_to_the_limit() {
        assert_eq!(place("a=ü", 4).unwrap().bytes(), "a=ü\0".as_bytes());
        assert_eq!(place("12345", 4).unwrap_err(), CmdlineError::TooLong { len: 5, max: 4 });
        assert_eq!(place("a\0b", 99).unwrap_err(), CmdlineError::ZeroByte(1));
        let long = "x".repeat(CMDLINE_ROOM as usize);
        assert_eq!(
            place(&long, u64::from(u32::MAX)).unwrap_err(),
            CmdlineError::TooLong { len: long.len(), max: CMDLINE_ROOM - 1 }
        );
    }
}
