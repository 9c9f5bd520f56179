//! Backends on sockets: frames to other machines, without an interface of the host's.
//!
//! QEMU's wire formats, so that guests here and in QEMU share a segment: on streams each frame has its length
//! before it (`framing`), a datagram is one frame, and L2TPv3 puts its header in between. `stream` and `dgram`
//! are the two ports; `connection` and `receiver` their halves; `client` connects; `address` resolves; `passt`
//! starts a program that speaks the stream's format.
//!
//! Everything here is nonblocking on the event loop once a backend is open. Sockets carry finished frames: no
//! offloads are accepted. The other side is never trusted.

mod address;
mod client;
mod connection;
mod dgram;
mod error;
pub mod framing;
mod l2tpv3_header;
mod passt;
mod receiver;
mod stream;
#[cfg(test)]
mod tests;

pub use dgram::Dgram;
pub use error::SocketError;
pub use stream::Stream;
