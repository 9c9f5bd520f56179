//! What comes along with every access: which CPU, how wide, from where.
//!
//! Made by `accel` (vCPU exits) and by tests; read by devices, trace and debugger.

use std::fmt;

/// Width of one access in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 8 bits.
    Byte = 1,
    /// 16 bits.
    Word = 2,
    /// 32 bits.
    Dword = 4,
    /// 64 bits.
    Qword = 8,
}

impl Width {
    /// The width of `bytes`, which the hardware border hands over as a length.
    pub fn from_len(bytes: usize) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            8 => Some(Self::Qword),
            _ => None,
        }
    }

    /// Bytes of this width.
    pub fn bytes(self) -> u64 {
        self as u64
    }

    /// All-ones of this width: what an unclaimed read returns.
    pub fn all_ones(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

/// Where in the guest an access came from, fetched only if somebody asks (on KVM the registers cost an ioctl).
pub trait Origin {
    /// The guest's instruction pointer at the access, if it can be known.
    fn rip(&self) -> Option<u64>;
}

/// An access without a guest instruction behind it: tests, the monitor.
#[derive(Debug, Clone, Copy)]
pub struct NoOrigin;

impl Origin for NoOrigin {
    fn rip(&self) -> Option<u64> {
        None
    }
}

/// One access to a device register.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// Number of the vCPU.
    pub cpu: u32,
    /// How many bytes.
    pub width: Width,
    /// Guest instruction behind it.
    pub origin: &'a dyn Origin,
}

impl Access<'static> {
    /// An access of `width` by CPU 0 without an instruction behind it.
    pub fn plain(width: Width) -> Self {
        Self { cpu: 0, width, origin: &NoOrigin }
    }
}

impl fmt::Debug for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("cpu", &self.cpu).field("width", &self.width).finish_non_exhaustive()
    }
}

/// What was wrong with an access. The bus turns it into what the guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No register there.
    #[error("no such register")]
    NoRegister,
    /// The register exists, but not at this width.
    #[error("register does not take this access width")]
    Width,
    /// The address is not a multiple of what the device decodes.
    #[error("misaligned access")]
    Misaligned,
    /// Nobody answers: decoding is off, or the device is gone.
    #[error("no response")]
    NoResponse,
}
