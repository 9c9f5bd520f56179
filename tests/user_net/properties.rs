//! Any operations of a hostile guest: the body of the fuzz target `user_net`, on inputs of proptest's.
//! `PROPTEST_CASES` says how many.

use proptest::prelude::*;

use crate::hostile;

/// Bytes among which those that mean something are frequent.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        2 => Just(0u8),
        1 => prop_oneof![Just(2u8), Just(4), Just(7), Just(16), Just(17), Just(24), Just(255)],
        2 => any::<u8>(),
    ];
    proptest::collection::vec(byte, 0..900)
}

/// What opens a connection: SYN with an MSS, a look at the host, ACK.
const HANDSHAKE: [u8; 24] = [0, 2, 0, 0, 255, 0, 0, 0, 1, 2, 4, 5, 180, 7, 0, 0, 16, 0, 0, 255, 0, 0, 0, 0];

proptest! {
    #[test]
    fn nothing_a_guest_sends_is_too_much(flags in any::<u8>(), open in any::<bool>(), rest in bytes()) {
        let handshake: &[u8] = if open { &HANDSHAKE } else { &[] };
        hostile::run(&[&[flags], handshake, &rest].concat());
    }
}
