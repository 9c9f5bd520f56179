//! Which name server DNS requests go to: the one of `dns-host=`, or the host's own.
//!
//! /etc/resolv.conf is read when it changed, looked at no more than once a second; a server that refuses makes
//! way for the next. Parses the `nameserver` lines only: everything else is the host's own business.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// resolv.conf(5): more are ignored.
const MAX_SERVERS: usize = 3;
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Longest file that is read.
const MAX_FILE: u64 = 64 << 10;

/// The host's name servers.
#[derive(Debug)]
pub struct Resolver {
    source: Source,
    servers: Vec<SocketAddr>,
    current: usize,
}

#[derive(Debug)]
enum Source {
    Fixed,
    File { path: PathBuf, looked: Option<Instant>, stamp: Option<(SystemTime, u64)> },
}

impl Resolver {
    /// Always this server.
    pub fn fixed(server: SocketAddr) -> Self {
        Self { source: Source::Fixed, servers: vec![server], current: 0 }
    }

    /// The servers that a file in the format of resolv.conf names.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            source: Source::File { path: path.into(), looked: None, stamp: None },
            servers: Vec::new(),
            current: 0,
        }
    }

    /// The server to ask now. Without any, the host itself, as resolv.conf(5) has it.
    pub fn server(&mut self) -> SocketAddr {
        self.look();
        let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53);
        self.servers.get(self.current % self.servers.len().max(1)).copied().unwrap_or(local)
    }

    /// `server` did not take a request: the next one is asked from now on.
    pub fn refused(&mut self, server: SocketAddr) {
        if self.server() == server {
            self.current = self.current.wrapping_add(1);
        }
    }

    fn look(&mut self) {
        let Source::File { path, looked, stamp } = &mut self.source else { return };
        if looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return;
        }
        *looked = Some(Instant::now());
        let now = fs::metadata(&path).ok();
        let now = now.filter(|meta| meta.is_file() && meta.len() <= MAX_FILE);
        let found = now.and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        if found != *stamp {
            *stamp = found;
            self.servers = fs::read_to_string(&path).map(|text| servers(&text)).unwrap_or_default();
            self.current = 0;
        }
    }
}

fn servers(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let ip = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        // A scope ("%eth0") names an interface of the host; only a link-local server has one.
        ip.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53))
    };
    text.lines().filter_map(address).take(MAX_SERVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nameserver_lines_count() {
        let text = "# nameserver 1.1.1.1\nsearch example.org\n nameserver\t192.0.2.1 \nnameserver 2001:db8::1\n\
                    nameserver bad\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"].map(|s| s.parse().unwrap());
        assert_eq!(servers(text), expected);
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_refusal_moves_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        fs::write(&path, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").unwrap();
        let mut resolver = Resolver::file(&path);
        let first = resolver.server();
        assert_eq!(first, "192.0.2.1:53".parse().unwrap());
        resolver.refused(first);
        resolver.refused(first);
        assert_eq!(resolver.server(), "192.0.2.2:53".parse().unwrap());
        fs::write(&path, "nameserver 192.0.2.33\n").unwrap();
        let Source::File { looked, .. } = &mut resolver.source else { unreachable!() };
        *looked = None;
        assert_eq!(resolver.server(), "192.0.2.33:53".parse().unwrap());
    }

    #[test]
    fn without_a_file_the_host_itself_is_asked() {
        assert_eq!(Resolver::file("/nonexistent").server(), "127.0.0.1:53".parse().unwrap());
    }
}
