//! User networking as a guest meets it, without a machine: a stack of its own at the other end of the cable.
//!
//! Everything runs on the host's loopback with ports that the kernel picks; no privilege is needed.

mod guest;
mod services;
mod tcp;
mod udp;
