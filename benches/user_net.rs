//! Throughput of `-netdev user` without a guest: one TCP connection with a server on the host's loopback.
//!
//! The other end of the cable is smoltcp, which takes processor time of its own; the figures are of both together.
//! `cargo bench --bench user_net` prints a line for each direction and for each kind of NIC.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Instant;

use minivmm::cli::UserOptions;
use smoltcp::socket::tcp::State;

#[path = "../tests/user_net/guest.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod guest;

use guest::Guest;

const BYTES: usize = 256 << 20;
const BUFFER: usize = 256 << 10;

fn main() {
    // cargo passes --bench, and cargo test runs benches once for their own sake.
    let bytes = if std::env::args().any(|arg| arg == "--bench") { BYTES } else { 1 << 20 };
    for (name, make) in
        [("segmenting NIC", Guest::offloading as fn(&UserOptions) -> Guest), ("plain NIC", Guest::new)]
    {
        for (direction, upload) in [("guest to host", true), ("host to guest", false)] {
            let seconds = transfer(make(&UserOptions::default()), bytes, upload);
            println!("{name}, {direction}: {:.2} Gbit/s", bytes as f64 * 8e-9 / seconds);
        }
    }
}

fn transfer(mut guest: Guest, bytes: usize, upload: bool) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let port = listener.local_addr().expect("it is bound").port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the guest connects");
        let mut block = vec![7; 1 << 18];
        let mut left = bytes;
        while left > 0 {
            let part = left.min(block.len());
            left -= match upload {
                true => stream.read(&mut block).expect("the guest sends"),
                false => stream.write(&block[..part]).expect("the guest reads"),
            };
        }
    });
    let begin = Instant::now();
    let handle = guest.connect(SocketAddr::new([10, 0, 2, 2].into(), port), BUFFER);
    let block = vec![7; 1 << 18];
    let mut left = bytes;
    guest.until("all bytes", |guest| {
        let tcp = guest.tcp(handle);
        if tcp.state() == State::SynSent {
            return None;
        }
        while left > 0 {
            let part = left.min(block.len());
            let moved = match upload {
                true => tcp.send_slice(&block[..part]).unwrap_or(0),
                false => tcp.recv(|data| (data.len(), data.len())).unwrap_or(0),
            };
            if moved == 0 {
                return None;
            }
            left -= moved;
        }
        (!upload || server.is_finished()).then_some(())
    });
    server.join().expect("the server took everything");
    begin.elapsed().as_secs_f64()
}
