//! How the writer answers an inform without knowing sockets.

use std::fmt;

/// The way back to the sender of an inform. Made by the pipeline, carried by the event, called by the
/// writer once the commit that holds the event has returned; dropped unused, the inform stays
/// unanswered and its sender tries again.
pub trait Answer: Send + fmt::Debug {
    /// Sends the Response. Never blocks; a failure is counted by the implementation.
    fn send(self: Box<Self>);
}
