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
pub mod l2tpv3_header;
mod passt;
mod receiver;
mod stream;

pub use dgram::Dgram;
pub use error::SocketError;
pub use stream::Stream;

use std::sync::Arc;

use super::{Backend, NetdevError, Surroundings};
use crate::cli::{DgramOptions, L2tpv3Options, PasstOptions, SocketChardev, SocketOptions, StreamOptions};
use receiver::Core;

type Opened = Result<Arc<dyn Backend>, NetdevError>;

/// `-netdev stream`.
///
/// # Errors
/// [`NetdevError::Socket`], here and below; nothing is left behind then.
pub fn open_stream(id: &str, options: &StreamOptions, around: &Surroundings) -> Opened {
    named("stream", id, Stream::open(Core::new(id, around), "stream", options))
}

/// `-chardev socket`, under this name. A server that is to wait returns when the first client has come.
///
/// # Errors
/// [`NetdevError::Chardev`].
pub fn open_chardev(name: &str, options: &SocketChardev, around: &Surroundings) -> Opened {
    let core = Core::about(name, &format!("chardev {}", options.id), around);
    match Stream::open(core, "chardev", &options.stream) {
        Ok(stream) => {
            if options.wait {
                stream.wait_for_first();
            }
            Ok(stream)
        }
        Err(error) => Err(NetdevError::Chardev { id: options.id.clone(), error }),
    }
}

/// `-netdev dgram`.
///
/// # Errors
/// [`NetdevError::Socket`].
pub fn open_dgram(id: &str, options: &DgramOptions, around: &Surroundings) -> Opened {
    named("dgram", id, Dgram::open(Core::new(id, around), "dgram", options, "local.host"))
}

/// `-netdev socket`.
///
/// # Errors
/// [`NetdevError::Socket`].
pub fn open_socket(id: &str, options: &SocketOptions, around: &Surroundings) -> Opened {
    const KIND: &str = "socket";
    let core = Core::new(id, around);
    match options {
        SocketOptions::Stream(options) => named(KIND, id, Stream::open(core, KIND, options)),
        SocketOptions::Dgram(options) => named(KIND, id, Dgram::open(core, KIND, options, "localaddr")),
        SocketOptions::Fd(fd) if address::is_stream(*fd) => {
            named(KIND, id, Stream::inherited(core, KIND, *fd))
        }
        SocketOptions::Fd(fd) => {
            named(KIND, id, Dgram::open(core, KIND, &DgramOptions::Fd(*fd), "localaddr"))
        }
    }
}

/// `-netdev l2tpv3`.
///
/// # Errors
/// [`NetdevError::Socket`].
pub fn open_l2tpv3(id: &str, options: &L2tpv3Options, around: &Surroundings) -> Opened {
    named("l2tpv3", id, Dgram::open_l2tpv3(Core::new(id, around), options))
}

/// `-netdev passt`.
///
/// # Errors
/// [`NetdevError::Socket`].
pub fn open_passt(id: &str, options: &PasstOptions, around: &Surroundings) -> Opened {
    named("passt", id, passt::open(Core::new(id, around), options))
}

fn named<B: Backend + 'static>(kind: &'static str, id: &str, opened: Result<Arc<B>, SocketError>) -> Opened {
    match opened {
        Ok(backend) => Ok(backend),
        Err(error) => Err(NetdevError::Socket { kind, id: id.to_owned(), error }),
    }
}
