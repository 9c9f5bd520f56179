//! Host forwards (`hostfwd=`): sockets of the host's whose clients are connected with the guest.
//!
//! Rules come from the command line and, at run time, from the monitor; each is one listening socket. Clients
//! are accepted in turns with everything else. Removing a rule closes its socket and leaves connections that
//! stand alone.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{Errno, Result};
use rustix::net::{self as host, AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};

use super::error::UserError;
use super::poller::{Kind, SocketId};
use super::stack::{Progress, Shared};
use super::tcp::Tcp;
use super::udp::{FamilyOf, MAX_DATAGRAM, Udp};
use crate::cli::{HostForward, ListenAt};
use crate::sys::unix_path::{self, BoundPath};

/// Clients, or datagrams, taken at a time.
const BUDGET: usize = 16;
/// Clients that the host's kernel keeps for us.
const BACKLOG: i32 = 128;
/// Rules at a time.
const MAX_FORWARDS: usize = 256;
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

#[derive(Debug)]
struct Forward {
    id: SocketId,
    rule: HostForward,
    socket: Arc<OwnedFd>,
}

/// The rules in force.
#[derive(Debug, Default)]
pub struct Forwards(Vec<Forward>);

impl Forwards {
    /// Puts a rule in force.
    ///
    /// # Errors
    /// [`UserError::Forward`] with what the host said: the port is taken, the address not the host's, ...
    pub fn add(&mut self, rule: &HostForward, shared: &mut Shared) -> std::result::Result<(), UserError> {
        let failed = |errno| UserError::Forward { listen: rule.listen.to_string(), errno };
        if self.0.len() >= MAX_FORWARDS {
            return Err(failed(Errno::NOSPC));
        }
        let socket = listen(&rule.listen).map_err(failed)?;
        let id = shared.poller.new_id(Kind::Forward);
        shared.poller.watch(&socket, id).map_err(failed)?;
        self.0.push(Forward { id, rule: rule.clone(), socket: Arc::new(socket) });
        Ok(())
    }

    /// Takes a rule out of force. False if there is none that listens there.
    pub fn remove(&mut self, listen: &ListenAt, udp: &mut Udp) -> bool {
        let Some(at) = self.0.iter().position(|forward| forward.rule.listen == *listen) else { return false };
        let forward = self.0.remove(at);
        udp.close_forward(&forward.socket);
        unlink(&forward.rule.listen);
        true
    }

    /// The rules, in the order in which they came.
    pub fn list(&self) -> impl Iterator<Item = &HostForward> {
        self.0.iter().map(|forward| &forward.rule)
    }

    /// Takes what came to the socket `id`.
    pub fn ready(&self, id: SocketId, tcp: &mut Tcp, udp: &mut Udp, shared: &mut Shared) -> Progress {
        let Some(forward) = self.0.iter().find(|forward| forward.id == id) else { return Progress::Idle };
        match &forward.rule.listen {
            ListenAt::Udp(_) => forward.receive(udp, shared),
            ListenAt::Tcp(_) | ListenAt::Unix(_) => forward.accept(tcp, shared),
        }
    }
}

impl Drop for Forwards {
    fn drop(&mut self) {
        self.0.iter().for_each(|forward| unlink(&forward.rule.listen));
    }
}

impl Forward {
    fn accept(&self, tcp: &mut Tcp, shared: &mut Shared) -> Progress {
        for _ in 0..BUDGET {
            match host::acceptfrom_with(&*self.socket, FLAGS) {
                Ok((socket, client)) => {
                    let client = client.and_then(|client| SocketAddr::try_from(client).ok());
                    if client.is_some() {
                        super::connect::prepare(&socket);
                    }
                    let target = client.map_or_else(|| self.rule.listen.to_string(), |c| c.to_string());
                    tcp.accept(socket, client, target, self.rule.guest.into(), shared);
                }
                Err(Errno::AGAIN) => return Progress::Idle,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                // Out of descriptors: the client stays in the kernel's queue until there are some.
                Err(_) => return Progress::Blocked,
            }
        }
        Progress::Again
    }

    fn receive(&self, udp: &mut Udp, shared: &mut Shared) -> Progress {
        let mut data = vec![0; MAX_DATAGRAM];
        for _ in 0..BUDGET {
            if !shared.link.has_room() {
                return Progress::Blocked;
            }
            match host::recvfrom(&*self.socket, &mut *data, RecvFlags::DONTWAIT) {
                Ok((_, len, Some(client))) => {
                    let Ok(client) = SocketAddr::try_from(client) else { continue };
                    let guest = self.rule.guest.into();
                    udp.arrived(&self.socket, client, guest, &data[..len.min(MAX_DATAGRAM)], shared);
                }
                Err(Errno::AGAIN) => return Progress::Idle,
                // ICMP errors about answers to clients that are gone come this way as well.
                Ok((_, _, None)) | Err(_) => {}
            }
        }
        Progress::Again
    }
}

fn listen(at: &ListenAt) -> Result<OwnedFd> {
    match at {
        ListenAt::Tcp(address) => {
            let socket = host::socket_with(AddressFamily::of(*address), SocketType::STREAM, FLAGS, None)?;
            // As QEMU: a rule can be put in force while old connections of the port still linger.
            sockopt::set_socket_reuseaddr(&socket, true)?;
            host::bind(&socket, address)?;
            host::listen(&socket, BACKLOG)?;
            Ok(socket)
        }
        ListenAt::Udp(address) => {
            let socket = host::socket_with(AddressFamily::of(*address), SocketType::DGRAM, FLAGS, None)?;
            host::bind(&socket, address)?;
            Ok(socket)
        }
        ListenAt::Unix(path) => {
            let socket = host::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
            unix_path::bind(&socket, path, SocketType::STREAM)?;
            host::listen(&socket, BACKLOG)?;
            Ok(socket)
        }
    }
}

/// A Unix socket's file goes with its rule.
fn unlink(at: &ListenAt) {
    if let ListenAt::Unix(path) = at {
        drop(BoundPath(Some(path.clone())));
    }
}
