//! Whether a frame that leaves has the TCP or UDP checksum that its receiver computes.

use crate::netport::checksum::load;
use crate::netport::transport::Transport;
use crate::nic::e1000::observe::SentFrame;

/// None if that cannot be told: neither TCP nor UDP, a fragment, a payload that is not at hand.
pub(super) fn is_good(frame: &SentFrame<'_>) -> Option<bool> {
    if frame.checksum_left {
        // The device leaves to the peer only what comes out right.
        return Some(true);
    }
    let found = Transport::find(frame.head, frame.head.len() + frame.rest)?;
    let field = load(frame.head, found.checksum)?;
    if frame.rest > 0 || found.is_udp && field == 0 {
        return None;
    }
    Some(found.is_good(frame.head.get(found.range.clone())?))
}
