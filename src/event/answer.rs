//! How the writer answers an inform without knowing sockets.

use std::fmt;

/// The way back to the sender of an inform. Made by the pipeline, carried by the event, called by the
/// writer once the commit that holds the event has returned; dropped unused, the inform stays
/// unanswered and its sender tries again.
pub trait Answer: Send + fmt::Debug {
    /// Sends the Response, and one for each retransmission that came meanwhile. Never blocks; a failure is
    /// counted by the implementation.
    fn send(self: Box<Self>);

    /// Says that there was no room for the event: nothing is answered. Returns how many retransmissions waited
    /// for it; whoever refuses counts them with the event. (When it is just dropped, the implementation counts
    /// them, as `stopped`.)
    fn refuse(self: Box<Self>) -> u64 {
        0
    }

    /// What it holds in memory, in octets, roughly.
    fn octets(&self) -> usize {
        0
    }
}
