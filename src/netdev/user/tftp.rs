//! The TFTP server (RFC 1350) of `tftp=`: reading only, and nothing outside its directory.
//!
//! Files are opened with openat2(2) and RESOLVE_BENEATH, so neither `..` nor an absolute path nor a symbolic
//! link leads out. Block size and transfer size can be negotiated (RFC 2347, 2348, 2349). The client's
//! acknowledgements drive the transfer; a repeated one gets its block again, so the server needs no timer.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::error::UserError;
use super::stack::Shared;

/// Where the server listens, and answers from.
pub const PORT: u16 = 69;
/// Transfers at a time; the longest silent one makes way.
const MAX_TRANSFERS: usize = 16;
/// How long a silent transfer is kept.
const KEEP_NS: u64 = 60_000_000_000;
/// Block size unless negotiated; the least and the most that may be (RFC 2348), the last so that a block fits
/// one frame.
const BLOCK: usize = 512;
const MIN_BLOCK: usize = 8;
const MAX_BLOCK: usize = 1428;

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// Error codes of RFC 1350.
const NOT_FOUND: u16 = 1;
const ACCESS: u16 = 2;
const ILLEGAL: u16 = 4;

#[derive(Debug)]
struct Transfer {
    client: SocketAddr,
    file: File,
    block_size: usize,
    /// Number of blocks acknowledged so far, which is that of the block under way less one.
    acked: u64,
    /// Bytes in the block under way, once it was sent.
    sent: Option<usize>,
    active: u64,
}

/// The server; without a directory it answers nothing.
#[derive(Debug, Default)]
pub struct Tftp {
    folder: Option<OwnedFd>,
    transfers: Vec<Transfer>,
}

impl Tftp {
    /// Serves the files below `folder`.
    ///
    /// # Errors
    /// [`UserError::Tftp`] if it is not a directory or may not be read.
    pub fn new(folder: Option<&Path>) -> Result<Self, UserError> {
        let open = |path: &Path| {
            openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| UserError::Tftp { path: path.to_owned(), errno })
        };
        Ok(Self { folder: folder.map(open).transpose()?, transfers: Vec::new() })
    }

    /// Whether there is a directory.
    pub fn serves(&self) -> bool {
        self.folder.is_some()
    }

    /// Answers one datagram of `client`'s.
    pub fn receive(&mut self, client: SocketAddr, server: SocketAddr, data: &[u8], shared: &mut Shared) {
        let Some((&[a, b], rest)) = data.split_first_chunk() else { return };
        let answer = match u16::from_be_bytes([a, b]) {
            RRQ => self.request(client, rest, shared.now),
            WRQ => Some(error(ACCESS, "read only")),
            ACK => self.acknowledged(client, rest, shared.now),
            ERROR => {
                self.transfers.retain(|transfer| transfer.client != client);
                None
            }
            _ => Some(error(ILLEGAL, "what is this?")),
        };
        if let Some(answer) = answer {
            shared.deliver_udp(server, client, &answer);
        }
    }

    fn request(&mut self, client: SocketAddr, data: &[u8], now: u64) -> Option<Vec<u8>> {
        self.transfers
            .retain(|transfer| transfer.client != client && now.saturating_sub(transfer.active) < KEEP_NS);
        let mut words = data.split(|byte| *byte == 0).map(|word| std::str::from_utf8(word).ok());
        let (Some(Some(name)), Some(Some(mode))) = (words.next(), words.next()) else {
            return Some(error(ILLEGAL, "malformed request"));
        };
        if !mode.eq_ignore_ascii_case("octet") {
            return Some(error(ILLEGAL, "only mode octet is served"));
        }
        let file = match self.open(name) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Some(error(NOT_FOUND, "file not found")),
            Err(_) => return Some(error(ACCESS, "access violation")),
        };
        let size = file.metadata().map_or(0, |meta| meta.len());
        let (mut block_size, mut agreed) = (BLOCK, Vec::new());
        while let (Some(Some(option)), Some(Some(value))) = (words.next(), words.next()) {
            let mut agree = |value: String| {
                agreed.extend_from_slice(option.as_bytes());
                agreed.push(0);
                agreed.extend_from_slice(value.as_bytes());
                agreed.push(0);
            };
            if option.eq_ignore_ascii_case("blksize")
                && let Ok(wanted) = value.parse::<usize>()
                && wanted >= MIN_BLOCK
            {
                block_size = wanted.min(MAX_BLOCK);
                agree(block_size.to_string());
            } else if option.eq_ignore_ascii_case("tsize") {
                agree(size.to_string());
            }
        }
        if self.transfers.len() >= MAX_TRANSFERS {
            let oldest = (0..self.transfers.len()).min_by_key(|&at| self.transfers[at].active);
            oldest.map(|at| self.transfers.swap_remove(at));
        }
        let mut transfer = Transfer { client, file, block_size, acked: 0, sent: None, active: now };
        let answer = match agreed.is_empty() {
            true => transfer.block(),
            false => Some([&OACK.to_be_bytes()[..], &agreed].concat()),
        };
        self.transfers.push(transfer);
        answer
    }

    /// A regular file below the directory. A leading slash means the directory itself, as boot ROMs write it.
    fn open(&self, name: &str) -> Result<File, Errno> {
        let folder = self.folder.as_ref().ok_or(Errno::NOENT)?;
        // Opening must not wait for whoever writes into a FIFO, nor make a terminal ours.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(folder, name.trim_start_matches('/'), flags, Mode::empty(), within)?;
        let file = File::from(file);
        match file.metadata() {
            Ok(meta) if meta.is_file() => Ok(file),
            _ => Err(Errno::ACCESS),
        }
    }

    fn acknowledged(&mut self, client: SocketAddr, data: &[u8], now: u64) -> Option<Vec<u8>> {
        let at = self.transfers.iter().position(|transfer| transfer.client == client)?;
        let transfer = &mut self.transfers[at];
        let &[a, b] = data.first_chunk()?;
        transfer.active = now;
        let number = u16::from_be_bytes([a, b]);
        match transfer.sent {
            Some(len) if number == (transfer.acked + 1) as u16 => {
                transfer.acked += 1;
                if len < transfer.block_size {
                    self.transfers.swap_remove(at);
                    return None;
                }
            }
            // The block before, again: ours was lost. Anything else is a late duplicate.
            _ if number == transfer.acked as u16 => {}
            _ => return None,
        }
        let block = transfer.block();
        if block.is_none() {
            self.transfers.swap_remove(at);
            return Some(error(ACCESS, "the file cannot be read"));
        }
        block
    }

    /// Forgets transfers that have been silent for long.
    pub fn sweep(&mut self, now: u64) {
        self.transfers.retain(|transfer| now.saturating_sub(transfer.active) < KEEP_NS);
    }

    /// Whether no transfer is under way.
    pub fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }
}

impl Transfer {
    /// The block after those that were acknowledged.
    fn block(&mut self) -> Option<Vec<u8>> {
        let number = (self.acked + 1) as u16;
        let mut bytes = vec![0; 4 + self.block_size];
        bytes[..2].copy_from_slice(&DATA.to_be_bytes());
        bytes[2..4].copy_from_slice(&number.to_be_bytes());
        let (mut len, start) = (0, self.acked * self.block_size as u64);
        while len < self.block_size {
            match self.file.read_at(&mut bytes[4 + len..], start + len as u64) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        bytes.truncate(4 + len);
        self.sent = Some(len);
        Some(bytes)
    }
}

fn error(code: u16, text: &str) -> Vec<u8> {
    [&ERROR.to_be_bytes()[..], &code.to_be_bytes(), text.as_bytes(), &[0]].concat()
}
