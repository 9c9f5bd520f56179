//! What the other end of a socket may send: the stream's framing, and L2TPv3's header.
//!
//! The input: how the stream is cut, the options of a tunnel, and what is left is the stream, which is also taken for
//! one datagram. Frames must be those that a reading of the format by its definition finds, in any cut; nothing may be
//! put beyond the room; a header must end within its datagram and be one that we would write ourselves.

use minivmm::cli::{Cookies, CounterChoice, L2tpv3Options};
use minivmm::netdev::socket::framing::{Decoder, LONGEST, PREFIX, TooLong, encode};
use minivmm::netdev::socket::l2tpv3_header::L2tpv3;
use minivmm::netport::Frame;

use super::input::Input;

/// How many pieces the cut has before it starts anew.
const PIECES: usize = 4;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let pieces: [usize; PIECES] = std::array::from_fn(|_| usize::from(input.u16()) + 1);
    let options = tunnel(&mut input);
    let stream = input.bytes(usize::MAX);
    let expected = by_definition(stream);
    let mut wire = Vec::new();
    let (frames, end) = decode(stream, &pieces);
    assert_eq!((&frames, end), (&expected.0, expected.1));
    for frame in &frames {
        let mut one = Vec::new();
        encode(&Frame::whole(frame), &mut one);
        wire.extend(one);
    }
    assert!(stream.starts_with(&wire), "frames come back as they were sent");
    datagram(&options, stream);
}

fn decode(stream: &[u8], pieces: &[usize]) -> (Vec<Vec<u8>>, Option<TooLong>) {
    let (mut decoder, mut frames, mut rest) = (Decoder::default(), Vec::new(), stream);
    for piece in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let room = decoder.room();
        assert!(!room.is_empty() && room.len() <= PREFIX + LONGEST, "room of {} bytes", room.len());
        let n = (*piece).min(rest.len()).min(room.len());
        room[..n].copy_from_slice(&rest[..n]);
        rest = &rest[n..];
        decoder.filled(n);
        loop {
            match decoder.next_frame() {
                Ok(Some(place)) => frames.push(decoder.bytes(place).to_vec()),
                Ok(None) => break,
                Err(end) => return (frames, Some(end)),
            }
        }
    }
    (frames, None)
}

/// The format, read in the plainest way.
fn by_definition(mut stream: &[u8]) -> (Vec<Vec<u8>>, Option<TooLong>) {
    let mut frames = Vec::new();
    while let [a, b, c, d, rest @ ..] = stream {
        let announced = u32::from_be_bytes([*a, *b, *c, *d]);
        if announced as usize > LONGEST {
            return (frames, Some(TooLong(announced)));
        }
        let Some(frame) = rest.get(..announced as usize) else { break };
        frames.push(frame.to_vec());
        stream = &rest[frame.len()..];
    }
    (frames, None)
}

fn tunnel(input: &mut Input<'_>) -> L2tpv3Options {
    let shape = input.u8();
    let (session, cookie) = (input.u32(), input.u64());
    let wide = shape & 1 != 0;
    let cookie = if wide { cookie } else { cookie & 0xffff_ffff };
    L2tpv3Options {
        src: String::new(),
        dst: String::new(),
        ports: (shape & 2 != 0).then_some((1, 2)),
        ipv6: shape & 4 != 0,
        tx_session: session,
        rx_session: session,
        cookies: (shape & 8 != 0).then_some(Cookies { tx: cookie, rx: cookie, wide }),
        counter: if shape & 16 != 0 { CounterChoice::Pinned } else { CounterChoice::Absent },
        offset: u16::from(shape >> 5),
    }
}

fn datagram(options: &L2tpv3Options, stream: &[u8]) {
    let mut tunnel = L2tpv3::new(options);
    if let Ok(start) = tunnel.decode(stream) {
        assert!(start <= stream.len(), "the frame begins at {start} of {}", stream.len());
    }
    // What this end writes, the other end reads, whatever follows. A raw IPv4 socket adds its header.
    let mut ours = if options.ports.is_none() && !options.ipv6 { vec![0x45; 20] } else { Vec::new() };
    tunnel.encode(&mut ours);
    let start = ours.len();
    ours.extend_from_slice(stream);
    assert_eq!(tunnel.decode(&ours), Ok(start));
}
