//! `-serial unix:PATH`: a stream socket, as server for one client after the other, or as client.
//!
//! While nobody is connected, output is dropped. A second client waits in the listener's queue until the first
//! has gone.

use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use super::descriptor::Descriptor;
use super::escape::Key;
use super::input::{Input, InputEvents};
use super::output::Output;
use super::{CharContext, CharDevice, CharError, CharReceiver};
use crate::event::{FdHandler, Interest, Ready, Registration};

/// A Unix socket as a serial line's host side.
#[derive(Debug)]
pub struct UnixChar {
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    output: Arc<Output>,
    input: Arc<Input>,
    server: OnceLock<Server>,
}

#[derive(Debug)]
struct Server {
    path: PathBuf,
    listener: Arc<UnixListener>,
    watch: Registration,
}

struct Ended(Weak<Line>);

impl InputEvents for Ended {
    fn key(&self, _key: Key) {}

    fn ended(&self) {
        if let Some(line) = self.0.upgrade() {
            line.output.detach();
            line.listen(true);
        }
    }
}

impl UnixChar {
    /// Listens at or connects to `path`; a server with `wait` returns once somebody has connected.
    ///
    /// # Errors
    /// [`CharError::Unix`].
    pub fn open(
        path: &Path,
        server: bool,
        wait: bool,
        context: &CharContext,
    ) -> Result<Arc<Self>, CharError> {
        let failed = |what| {
            let path = path.to_owned();
            move |error| CharError::Unix { path, what, error }
        };
        let output = Output::new(context, format!("-serial unix:{}", path.display()), None)?;
        let line = Arc::new_cyclic(|this: &Weak<Line>| Line {
            output,
            input: Input::new(&context.events, false, Box::new(Ended(this.clone()))),
            server: OnceLock::new(),
        });
        if !server {
            line.connected(UnixStream::connect(path).map_err(failed("cannot connect"))?);
            return Ok(Arc::new(Self { line }));
        }
        let listener = listen(path).map_err(failed("cannot listen"))?;
        if wait {
            context.notices.say(&format!("waiting for a connection to -serial unix:{}", path.display()));
            line.connected(listener.accept().map_err(failed("cannot accept"))?.0);
        }
        listener.set_nonblocking(true).map_err(failed("cannot listen"))?;
        let listener = Arc::new(listener);
        let handler = Arc::new(Arc::downgrade(&line));
        let watch = context.events.watch(listener.clone(), Interest::NONE, handler)?;
        line.server.get_or_init(|| Server { path: path.to_owned(), listener, watch });
        line.listen(!wait);
        Ok(Arc::new(Self { line }))
    }
}

/// Binds the path; a socket that a dead server left behind is replaced.
fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        result => result,
    }
}

fn is_stale(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

impl Line {
    fn connected(&self, stream: UnixStream) {
        let socket = Arc::new(Descriptor::socket(stream.into()));
        self.output.attach(socket.clone());
        self.input.attach(socket);
    }

    fn listen(&self, on: bool) {
        if let Some(server) = self.server.get() {
            server.watch.set_interest(if on { Interest::READ } else { Interest::NONE });
        }
    }
}

impl FdHandler for Line {
    fn ready(&self, _ready: Ready) {
        // A client that has gone again before it was accepted is no event.
        if let Some(server) = self.server.get()
            && let Ok((stream, _)) = server.listener.accept()
        {
            self.listen(false);
            self.connected(stream);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Somebody may have removed it before us.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl CharDevice for UnixChar {
    fn write(&self, bytes: &[u8]) {
        self.line.output.write(bytes);
    }

    fn input_ready(&self) {
        self.line.input.go_on();
    }

    fn start(&self, receiver: Box<dyn CharReceiver>) {
        self.line.input.start(receiver);
    }
}
