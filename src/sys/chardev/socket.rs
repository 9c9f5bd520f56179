//! `unix:PATH` and `tcp:HOST:PORT`: a stream socket, as server for one client after the other, or as client.
//!
//! While nobody is connected, output is dropped. A second client waits in the listener's queue until the first
//! has gone.

use std::io::{Error, ErrorKind, Result as IoResult};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::descriptor::Descriptor;
use super::escape::Key;
use super::input::{Input, InputEvents};
use super::output::Output;
use super::{CharContext, CharDevice, CharError, CharReceiver};
use crate::event::{FdHandler, Interest, Ready, Registration};
use crate::sys::unix_path::{self, BoundPath};

/// Clients that the host's kernel keeps for us.
const BACKLOG: i32 = 128;

/// Where a socket is.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// A path.
    Unix(&'a Path),
    /// A host's name or address, all of ours if empty, and a port.
    Tcp(&'a str, u16),
}

/// A socket as a character device.
#[derive(Debug)]
pub struct SocketChar {
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    /// Somebody is connected. A change of interest takes effect later than it is asked for.
    taken: AtomicBool,
    output: Arc<Output>,
    input: Arc<Input>,
    server: OnceLock<Server>,
}

#[derive(Debug)]
struct Server {
    /// To be removed at the end.
    _path: BoundPath,
    listener: Arc<Listener>,
    watch: Registration,
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

struct Ended(Weak<Line>);

impl InputEvents for Ended {
    fn key(&self, _key: Key) {}

    fn ended(&self, next_at_once: bool) {
        if let Some(line) = self.0.upgrade()
            && next_at_once
        {
            line.next();
        }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host, port) => write!(f, "tcp:{host}:{port}"),
        }
    }
}

impl Place<'_> {
    fn connect(self) -> IoResult<OwnedFd> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).map(Into::into),
            Self::Tcp(host, port) => {
                let host = if host.is_empty() { "localhost" } else { host };
                at_once(TcpStream::connect((host, port))?)
            }
        }
    }

    fn listen(self) -> IoResult<Listener> {
        match self {
            Self::Unix(path) => listen(path).map(Listener::Unix),
            Self::Tcp("", port) => {
                // Both families at once where the host has IPv6.
                let any = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)));
                any.map(Listener::Tcp)
            }
            Self::Tcp(host, port) => TcpListener::bind((host, port)).map(Listener::Tcp),
        }
    }
}

/// An answer is sent as soon as it is there.
fn at_once(stream: TcpStream) -> IoResult<OwnedFd> {
    stream.set_nodelay(true)?;
    Ok(stream.into())
}

impl Listener {
    fn accept(&self) -> IoResult<OwnedFd> {
        match self {
            Self::Unix(listener) => listener.accept().map(|(stream, _)| stream.into()),
            Self::Tcp(listener) => at_once(listener.accept()?.0),
        }
    }

    fn set_nonblocking(&self) -> IoResult<()> {
        match self {
            Self::Unix(listener) => listener.set_nonblocking(true),
            Self::Tcp(listener) => listener.set_nonblocking(true),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Unix(listener) => listener.as_raw_fd(),
            Self::Tcp(listener) => listener.as_raw_fd(),
        }
    }
}

impl SocketChar {
    /// Listens at or connects to `place`; a server with `wait` returns once somebody has connected.
    ///
    /// # Errors
    /// [`CharError::Socket`].
    pub fn open(
        place: Place<'_>,
        server: bool,
        wait: bool,
        context: &CharContext,
    ) -> Result<Arc<Self>, CharError> {
        let name = format!("{} {place}", context.option);
        let failed = |what| {
            let name = name.clone();
            move |error: Error| {
                let advice = match error.kind() {
                    _ if !server => "; start the other side first, or add server=on to listen there",
                    ErrorKind::AddrInUse => "; somebody is there already: choose another place",
                    _ => "",
                };
                CharError::Socket { name, what, error, advice }
            }
        };
        let output = Output::new(context, name.clone(), None)?;
        let line = Arc::new_cyclic(|this: &Weak<Line>| Line {
            taken: AtomicBool::new(false),
            output,
            input: Input::new(&context.events, false, Box::new(Ended(this.clone()))),
            server: OnceLock::new(),
        });
        if !server {
            line.connected(place.connect().map_err(failed("cannot connect"))?);
            return Ok(Arc::new(Self { line }));
        }
        let listener = Arc::new(place.listen().map_err(failed("cannot listen"))?);
        let path = BoundPath(match place {
            Place::Unix(path) => Some(path.to_owned()),
            Place::Tcp(..) => None,
        });
        if wait {
            context.notices.say(&format!("waiting for a connection to {name}"));
            line.connected(listener.accept().map_err(failed("cannot accept"))?);
        }
        listener.set_nonblocking().map_err(failed("cannot listen"))?;
        let handler = Arc::new(Arc::downgrade(&line));
        let watch = context.events.watch(listener.clone(), Interest::NONE, handler)?;
        line.server.get_or_init(|| Server { _path: path, listener, watch });
        line.listen(!wait);
        Ok(Arc::new(Self { line }))
    }
}

/// Binds the path; a socket that a dead server left behind is replaced.
fn listen(path: &Path) -> IoResult<UnixListener> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    unix_path::bind(&socket, path, SocketType::STREAM)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

impl Line {
    fn connected(&self, stream: OwnedFd) {
        self.taken.store(true, Ordering::SeqCst);
        let socket = Arc::new(Descriptor::socket(stream));
        self.output.attach(socket.clone());
        self.input.attach(socket);
    }

    fn listen(&self, on: bool) {
        if let Some(server) = self.server.get() {
            server.watch.set_interest(if on { Interest::READ } else { Interest::NONE });
        }
    }

    /// The client is done with; another one may come.
    fn next(&self) {
        self.output.detach();
        self.taken.store(false, Ordering::SeqCst);
        self.listen(true);
    }
}

impl FdHandler for Line {
    fn ready(&self, _ready: Ready) {
        // A client that has gone again before it was accepted is no event.
        if !self.taken.load(Ordering::SeqCst)
            && let Some(server) = self.server.get()
            && let Ok(stream) = server.listener.accept()
        {
            self.listen(false);
            self.connected(stream);
        }
    }
}

impl CharDevice for SocketChar {
    fn write(&self, bytes: &[u8]) {
        self.line.output.write(bytes);
    }

    fn input_ready(&self) {
        self.line.input.go_on();
    }

    fn start(&self, receiver: Box<dyn CharReceiver>) {
        self.line.input.start(receiver);
    }

    fn has_clients(&self) -> bool {
        true
    }

    fn next_client(&self) {
        self.line.next();
    }
}
