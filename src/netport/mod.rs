//! Frames and the ports that exchange them: the only word NICs and network backends share.
//!
//! A NIC, a backend, a hub port and a filter are all [`FramePort`]s; [`join`] makes two of them peers. A frame
//! here has no preamble and no FCS. Offload requests travel as [`FrameMeta`], so a NIC never learns of
//! vnet headers and a backend never learns of descriptors.

pub mod checksum;
mod finish;
mod frame;
mod port;
pub mod segment;
pub mod transport;

pub use finish::{OwnedFrame, finish, fits};
pub use frame::{CsumRequest, Frame, FrameMeta, Gso, GsoKind, MAX_FRAME};
pub use port::{Delivery, DropReason, FramePort, Offloads, PeerSlot, join, part};
