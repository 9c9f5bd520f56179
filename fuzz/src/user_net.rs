//! What a guest may send into a user network: frames of any kind, and TCP that knows the sequence numbers.
//!
//! The input: what the guest's NIC takes, then operations. A raw frame is any bytes behind a good Ethernet header; a
//! segment goes to the one address with something behind it (a `guestfwd=` to a listener on the host's loopback;
//! `restrict=on` keeps everything else inside), with numbers near those that the other side expects. Checksums are
//! left to be done, so nothing stops at them. Every answer must be a frame that its own lengths describe.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};

use minivmm::cli::{ForwardTarget, GuestForward, UserOptions};
use minivmm::netdev::PortCounters;
use minivmm::netdev::user::Stack;
use minivmm::netport::{
    CsumRequest, Delivery, Frame, FrameMeta, FramePort, Gso, GsoKind, Offloads, PeerSlot, checksum, join,
    part,
};

use super::input::Input;

const OPERATIONS: usize = 64;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
const ETHERNET: [u8; 12] = [0x52, 0x55, 10, 0, 2, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// The NIC: looks at every frame and keeps the numbers of the last segment.
#[derive(Debug, Default)]
struct Nic {
    slot: PeerSlot,
    offloads: Offloads,
    full: Mutex<bool>,
    /// The other side's next byte, and the last that it acknowledged.
    numbers: Mutex<(u32, u32)>,
}

impl FramePort for Nic {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        if *self.full.lock().unwrap() {
            return Delivery::Full;
        }
        let mut bytes = Vec::new();
        frame.copy_to(&mut bytes);
        assert!(bytes.len() <= 14 + 65535, "{} bytes", bytes.len());
        assert!(frame.meta.csum.is_none() || self.offloads.csum);
        assert!(frame.meta.gso.is_none_or(|gso| self.offloads.cuts(gso.kind)));
        assert!(frame.meta.gso.is_some() || bytes.len() <= 1514, "{} bytes", bytes.len());
        if bytes[12..14] == [8, 0] {
            assert_eq!(checksum::load(&bytes, 16), Some((bytes.len() - 14) as u16), "total length");
            if bytes[23] == 6 {
                let at = 14 + usize::from(bytes[14] & 0xf) * 4;
                let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
                let header = usize::from(bytes[at + 12] >> 4) * 4;
                let flags = u32::from(bytes[at + 13]);
                let next = number(at + 4)
                    .wrapping_add((bytes.len() - at - header) as u32 + (flags & 3).count_ones());
                *self.numbers.lock().unwrap() = (next, number(at + 8));
            }
        }
        Delivery::Taken
    }

    fn accepts(&self) -> Offloads {
        self.offloads
    }

    fn peer_ready(&self) {}
    fn peer_link(&self, _up: bool) {}

    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}

/// The host's end, for all executions of this process.
static LISTENER: LazyLock<TcpListener> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    listener.set_nonblocking(true).expect("a socket can be made nonblocking");
    listener
});

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let target = ForwardTarget::Tcp(LISTENER.local_addr().expect("it is bound"));
    let rule = GuestForward { server: std::net::SocketAddrV4::new(SERVER, 7), target };
    let options = UserOptions { restrict: true, guestfwd: vec![rule], ..UserOptions::default() };
    let mut stack =
        Stack::new(&options, Arc::new(PortCounters::default())).expect("it opens nothing but an epoll set");
    let offloads = Offloads { csum: flags & 1 != 0, tso4: flags & 2 != 0, tso6: flags & 4 != 0 };
    let nic = Arc::new(Nic { offloads, ..Nic::default() });
    let (near, far): (Arc<dyn FramePort>, Arc<dyn FramePort>) = (nic.clone(), Arc::new(Nic::default()));
    join(&near, &far);
    let (mut clients, mut now, mut sent) = (Vec::new(), 0u64, 1u32);
    for _ in 0..OPERATIONS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0..4 => segment(&mut stack, &mut input, *nic.numbers.lock().unwrap(), &mut sent),
            4 => raw(&mut stack, &mut input, &[8, 0, 0x45, 0]),
            5 => raw(&mut stack, &mut input, &[]),
            6 => now += u64::from(input.u32()) * 1000,
            _ => {
                let choice = input.u8();
                *nic.full.lock().unwrap() = choice & 1 != 0;
                host(&mut clients, choice);
            }
        }
        stack.set_now(now);
        stack.work();
        stack.flush(far.peer_slot());
    }
    part(&near);
}

/// A frame from the guest's address: `begin`, then the input's bytes.
fn raw(stack: &mut Stack, input: &mut Input<'_>, begin: &[u8]) {
    let len = usize::from(input.u8());
    let mut frame = [&ETHERNET[..], begin, input.bytes(len)].concat();
    if begin.len() > 2 && frame.len() >= 34 {
        let total = (frame.len() - 14) as u16;
        checksum::store(&mut frame, 16, total);
        checksum::store(&mut frame, 24, 0);
        frame[26..30].copy_from_slice(&[10, 0, 2, 15]);
        checksum::insert(&mut frame, 14, 34, 24);
    }
    stack.frame(&mut frame, FrameMeta { csum_valid: true, ..FrameMeta::default() });
}

/// A segment for the server, near what it expects.
fn segment(stack: &mut Stack, input: &mut Input<'_>, (next, _): (u32, u32), sent: &mut u32) {
    let [flags, port, shape, window, seq, ack, len, options] = std::array::from_fn(|_| input.u8());
    // Mostly exact numbers, at times a little off.
    let near = |exact: u32, off: u8| exact.wrapping_add((i32::from(off as i8) >> 4) as u32);
    let payload = usize::from(len) << (shape & 7);
    let header = 20 + usize::from(options % 4) * 4;
    let mut frame = vec![0; 34 + header + payload];
    frame[..12].copy_from_slice(&ETHERNET);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    let total = (frame.len() - 14) as u16;
    checksum::store(&mut frame, 16, total);
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[26..30].copy_from_slice(&[10, 0, 2, 15]);
    frame[30..34].copy_from_slice(&SERVER.octets());
    checksum::insert(&mut frame, 14, 34, 24);
    checksum::store(&mut frame, 34, 1000 + u16::from(port % 4));
    checksum::store(&mut frame, 36, 7);
    frame[38..42].copy_from_slice(&near(*sent, seq).to_be_bytes());
    frame[42..46].copy_from_slice(&near(next, ack).to_be_bytes());
    frame[46] = (header / 4) as u8 * 16;
    frame[47] = flags;
    checksum::store(&mut frame, 48, u16::from(window) << (shape >> 5));
    let given = input.bytes(header - 20);
    frame[54..54 + given.len()].copy_from_slice(given);
    if seq < 16 {
        *sent = sent.wrapping_add(payload as u32 + u32::from(flags & 3).count_ones());
    }
    let csum = Some(CsumRequest { start: 34, offset: 16 });
    let gso =
        (shape & 8 != 0).then_some(Gso { kind: GsoKind::Tcp4, mss: 1460, header_len: 34 + header as u16 });
    stack.frame(&mut frame, FrameMeta { csum, csum_valid: false, gso });
}

/// The host's side does something.
fn host(clients: &mut Vec<TcpStream>, choice: u8) {
    if let Ok((stream, _)) = LISTENER.accept() {
        stream.set_nonblocking(true).expect("a socket can be made nonblocking");
        clients.push(stream);
    }
    let Some(client) = clients.last_mut() else { return };
    // Whatever the outcome: the guest's side is what is watched.
    let _ = match choice >> 1 & 3 {
        0 => client.write(&[7; 5000]),
        1 => client.read(&mut [0; 5000]),
        2 => client.shutdown(std::net::Shutdown::Write).map(|()| 0),
        _ => Ok(0),
    };
    if choice >> 1 & 7 == 7 {
        clients.pop();
    }
}
