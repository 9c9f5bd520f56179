//! A tap from QEMU's bridge helper: a set-uid program that makes one, puts it on a bridge, and hands it over.
//!
//! Its interface: it is run with `--fd=N --br=BRIDGE` and `--use-vnet`, sends the tap's descriptor over socket N
//! as SCM_RIGHTS with one byte, and ends with status 0. What it refuses (its list of allowed bridges is
//! /etc/qemu/bridge.conf) it says on standard error.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::error::TapError;
use crate::cli::BridgeHelper;
use crate::netdev::helper::{self, HelperError};

/// Where distributions put the helper.
const PLACES: [&str; 4] = [
    "/usr/lib/qemu/qemu-bridge-helper",
    "/usr/libexec/qemu-bridge-helper",
    "/usr/local/libexec/qemu-bridge-helper",
    "/usr/lib64/qemu/qemu-bridge-helper",
];

/// Runs the helper; the tap it made.
///
/// # Errors
/// [`TapError::Helper`] and its kin.
pub fn request(wish: &BridgeHelper, vnet: bool) -> Result<OwnedFd, TapError> {
    let os = |what| move |error| TapError::Os { what, error };
    let found = || PLACES.into_iter().find(|place| Path::new(place).exists()).map(str::to_owned);
    let program = wish.program.clone().or_else(found).ok_or(TapError::NoHelper)?;
    let (ours, theirs) = UnixStream::pair().map_err(os("making a socket pair"))?;
    let failed = |why: String| TapError::Helper { program: program.clone(), why };
    let ran = helper::run(theirs.as_fd(), |fd| command(&program, fd, &wish.bridge, vnet));
    ran.map_err(|error| match error {
        HelperError::NotRun(error) => failed(format!(": {error}")),
        HelperError::Failed { status, said } => {
            failed(format!(" failed ({status}){}", helper::last_words(said.iter())))
        }
    })?;
    drop(theirs);
    receive(&ours)
        .map_err(os("receiving a tap from the helper"))?
        .ok_or_else(|| failed(" sent no tap".into()))
}

/// The helper's command line; with blanks in it, it is a shell's, as in QEMU.
fn command(program: &str, fd: i32, bridge: &str, vnet: bool) -> Command {
    let vnet = vnet.then_some("--use-vnet");
    let (fd, bridge) = (format!("--fd={fd}"), format!("--br={bridge}"));
    if !program.contains([' ', '\t']) {
        let mut command = Command::new(program);
        command.args(vnet).args([fd, bridge]);
        return command;
    }
    // A bridge's name has no character that a shell would take for its own but these two; the option's parser
    // lets more pass, so it is quoted.
    let quoted = format!("'{}'", bridge.replace('\'', r"'\''"));
    let bridge = if program.contains("--br=") { String::new() } else { quoted };
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("exec {program} {} {fd} {bridge}", vnet.unwrap_or_default()));
    command
}

/// The descriptor in the message that waits, if there is one.
fn receive(socket: &UnixStream) -> std::io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    match recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags) {
        Ok(_) => {}
        Err(rustix::io::Errno::AGAIN) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let descriptor = |message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    };
    Ok(control.drain().find_map(descriptor))
}
