//! User networking as a guest meets it, without a machine: a stack of its own at the other end of the cable.
//!
//! Everything runs on the host's loopback with ports that the kernel picks; no privilege is needed.

mod guest;
#[path = "../../fuzz/src/user_net.rs"]
mod hostile;
#[path = "../../fuzz/src/input.rs"]
#[expect(dead_code, reason = "shared with other targets")]
mod input;
mod properties;
mod services;
mod tcp;
mod udp;
