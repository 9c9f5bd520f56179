//! `-netdev passt`: user networking by the program passt, which speaks QEMU's stream protocol.
//!
//! The program gets one end of a socket pair and goes to the background when it is ready; it ends when our end
//! is closed, however we end. With `path=` naming a socket, one that runs already is used.

use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::error::SocketError;
use super::receiver::Core;
use super::stream::Stream;
use crate::cli::{PasstOptions, SocketAddress, StreamOptions, UnixAddress};
use crate::netdev::helper::{self, HelperError};

const KIND: &str = "passt";

/// Starts or finds passt.
///
/// # Errors
/// [`SocketError`]; no program of ours runs then.
pub fn open(core: Arc<Core>, options: &PasstOptions) -> Result<Arc<Stream>, SocketError> {
    let path = options.path.clone().unwrap_or_else(|| PathBuf::from("passt"));
    if is_socket(&path) {
        let addr = SocketAddress::Unix(UnixAddress::Path(path));
        return Stream::open(core, KIND, &StreamOptions { addr, server: false, reconnect: None });
    }
    let (ours, theirs) =
        UnixStream::pair().map_err(|error| SocketError::Os { what: "making a socket pair", error })?;
    let started = helper::run(theirs.as_fd(), |fd| {
        let mut command = Command::new(&path);
        command.arg("--fd").arg(fd.to_string()).args(&options.arguments);
        command
    });
    started.map_err(|error| match error {
        HelperError::NotRun(error) => {
            SocketError::NoProgram { path: path.clone(), error, package: "passt", option: "path" }
        }
        HelperError::Failed { status, said } => {
            // It complains once for each line that a missing syslog does not take.
            let lines = said.iter().filter(|line| !line.contains("to syslog"));
            SocketError::ProgramEnded { path: path.clone(), status, said: helper::last_words(lines) }
        }
    })?;
    drop(theirs);
    Stream::given(core, KIND, ours.into(), path.display().to_string())
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.file_type().is_socket())
}
