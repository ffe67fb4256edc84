//! What goes back to a sender, and the way there.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;

use prometheus::IntCounter;

use super::batch::{self, Origin};
use super::tcp::Stream;
use crate::metrics::Metrics;
use crate::wire::EncodeError;

/// What is to be sent back to the sender of one message: decided by [`super::process`], which does no I/O. Its buffer
/// is used again for each.
#[derive(Debug, Default)]
pub struct Reply {
    kind: ReplyKind,
    octets: Vec<u8>,
}

/// When a [`Reply`] may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyKind {
    /// There is none.
    #[default]
    None,
    /// The Response to an inform that is an event: after the commit that holds it, and never if there is none.
    ResponseAfterCommit,
    /// The Response to an inform that the rules drop: at once, since nothing will be committed and the sender has
    /// no reason to send it again.
    Response,
    /// A Report (RFC 3412 section 7.1 (3)): at once.
    Report,
}

impl Reply {
    /// Nothing is to be sent back.
    pub(crate) fn clear(&mut self) {
        self.kind = ReplyKind::None;
        self.octets.clear();
    }

    /// Sets what is sent back: what `encode` appends to the buffer, which is empty. Nothing, if it fails.
    pub(crate) fn set(
        &mut self,
        kind: ReplyKind,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) {
        self.clear();
        if encode(&mut self.octets).is_ok() {
            self.kind = kind;
        }
    }

    /// When it may leave.
    #[must_use]
    pub fn kind(&self) -> ReplyKind {
        self.kind
    }

    /// The message to send; empty if there is none.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// The way back to a sender. It stays open while anyone holds it.
#[derive(Debug, Clone)]
pub(super) enum WayBack {
    /// From the socket, the address and the port that the datagram came to.
    Datagram { socket: Arc<UdpSocket>, origin: Origin },
    /// On the connection that the message came by.
    Stream(Arc<Stream>),
}

impl WayBack {
    /// Sends one message. Never waits.
    ///
    /// # Errors
    /// The system's; `WouldBlock` if there is no room for it at the moment.
    pub(super) fn send(&self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagram { socket, origin } => batch::answer(socket, octets, origin),
            Self::Stream(stream) => stream.send(octets),
        }
    }
}

/// What has become of replies. A failed one is not tried again: its sender does that.
#[derive(Debug, Clone)]
pub(super) struct ReplyCounters {
    responses: Outcomes,
    reports: Outcomes,
}

#[derive(Debug, Clone)]
struct Outcomes {
    sent: IntCounter,
    failed: IntCounter,
}

impl ReplyCounters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let outcomes = |pdu| Outcomes {
            sent: metrics.replies.with_label_values(&[pdu, "sent"]),
            failed: metrics.replies.with_label_values(&[pdu, "failed"]),
        };
        Self { responses: outcomes("response"), reports: outcomes("report") }
    }

    /// Sends one message and counts what came of it.
    pub(super) fn send(&self, kind: ReplyKind, octets: &[u8], way: &WayBack) {
        let outcomes = if kind == ReplyKind::Report { &self.reports } else { &self.responses };
        match way.send(octets) {
            Ok(()) => outcomes.sent.inc(),
            Err(_) => outcomes.failed.inc(),
        }
    }

    /// Counts a Response that could not even be tried.
    pub(super) fn gave_up(&self) {
        self.responses.failed.inc();
    }
}
