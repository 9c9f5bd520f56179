//! Frames that a filter has seen and that come again, because there was no room for them.
//!
//! Used by filters that write or copy a frame before they pass it on.

use super::node::Way;

/// At most one frame of each direction.
#[derive(Debug, Default)]
pub(super) struct Refused(Vec<(Way, Vec<u8>)>);

impl Refused {
    /// Whether the next frame of this direction is the one for which there was no room.
    pub(super) fn comes_again(&mut self, way: Way, frame: &[u8]) -> bool {
        let waits = self.0.iter().position(|(refused, _)| *refused == way);
        waits.is_some_and(|at| self.0.swap_remove(at).1 == frame)
    }

    /// There was no room for this frame.
    pub(super) fn keep(&mut self, way: Way, frame: Vec<u8>) {
        self.0.push((way, frame));
    }
}
