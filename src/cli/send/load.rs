//! The load generator: one thread, connected sockets, paced in batches of a millisecond.
//!
//! It counts exactly: `sent` are the datagrams that the kernel accepted. On a connected UDP socket an ICMP
//! "port unreachable" comes back as `ECONNREFUSED` of the *next* send, which then sends nothing: it is counted
//! apart, and that datagram is sent again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::inform::{self, Asked, Patience};
use super::message::{Message, V1Head};
use super::pace::{Pace, Turn};
use super::v3::Session;
use crate::wire::{Kind, decode_response};

/// Where datagrams leave.
pub(super) struct Sender {
    sockets: Vec<Source>,
    refused: u64,
    errors: u64,
}

struct Source {
    socket: UdpSocket,
    /// For the agent-addr of SNMPv1.
    address: [u8; 4],
}

/// What was sent, as `--json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Sent {
    /// Datagrams that the kernel accepted.
    pub(super) sent: u64,
    /// From the first to the last of them.
    pub(super) seconds: f64,
    /// Datagrams a second.
    pub(super) rate: f64,
    /// How often the receiving host answered that nobody listens there.
    pub(super) refused: u64,
    /// Sends that failed otherwise, and were tried again.
    pub(super) errors: u64,
    /// Why it ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// What is put into each datagram beside the notification.
pub(super) struct Envelope<'a> {
    pub(super) community: &'a [u8],
    /// Trap or inform.
    pub(super) kind: Kind,
    /// `None` sends SNMPv2c.
    pub(super) v1: Option<&'a V1Head>,
    /// Sends SNMPv3.
    pub(super) v3: Option<&'a Session>,
    /// In place of the socket's own address.
    pub(super) agent_addr: Option<[u8; 4]>,
    /// sysUpTime at the start, in hundredths of a second.
    pub(super) uptime: u32,
    pub(super) request_id: i32,
}

impl Sender {
    /// A socket for `to`; with `sources`, so many of them, each with an address of its own in 127.0.0.0/8.
    ///
    /// # Errors
    /// What the system says, with the address that it is about.
    pub(super) fn connect(to: SocketAddr, sources: Option<u32>) -> io::Result<Self> {
        let any = |to: &SocketAddr| {
            SocketAddr::new(if to.is_ipv4() { [0u8; 4].into() } else { [0u16; 8].into() }, 0)
        };
        let sockets = match sources {
            None => vec![Source::connect(any(&to), to)?],
            Some(count) => (1..=count)
                .map(|number| Source::connect((Ipv4Addr::from_bits(0x7f00_0000 + number), 0).into(), to))
                .collect::<io::Result<_>>()?,
        };
        Ok(Self { sockets, refused: 0, errors: 0 })
    }

    /// The first socket.
    pub(super) fn socket(&self) -> &UdpSocket {
        &self.sockets[0].socket
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// What the system says. A refusal that the receiving host has sent back by then is an error here.
    pub(super) fn once(&mut self, message: &Message, envelope: &Envelope<'_>) -> Result<usize, String> {
        let source = &self.sockets[0];
        let mut datagram = Vec::new();
        encode(message, envelope, source.address, 0, envelope.uptime, &mut datagram)?;
        source.socket.send(&datagram).map_err(|error| error.to_string())?;
        match source.socket.take_error() {
            Ok(None) => Ok(datagram.len()),
            Ok(Some(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err("nothing listens there; the port is closed".to_owned())
            }
            Ok(Some(error)) | Err(error) => Err(error.to_string()),
        }
    }

    /// Sends one inform until it is answered; gives its length, and what came of it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn ask(
        &mut self,
        message: &Message,
        envelope: &Envelope<'_>,
        patience: Patience,
    ) -> Result<(usize, Asked), String> {
        let source = &self.sockets[0];
        let mut datagram = Vec::new();
        encode(message, envelope, source.address, 0, envelope.uptime, &mut datagram)?;
        // Whoever else answers from there is not answering this.
        let read = |octets: &[u8]| {
            decode_response(octets).ok().filter(|response| response.request_id == envelope.request_id)
        };
        let asked =
            inform::ask(&source.socket, &datagram, patience, read).map_err(|error| error.to_string())?;
        Ok((datagram.len(), asked))
    }

    /// Sends as `pace` says. Never fails: what stopped it early is in the report.
    pub(super) fn run(mut self, message: &mut Message, envelope: &Envelope<'_>, mut pace: Pace) -> Sent {
        /// The clock is read once for so many.
        const BATCH: u64 = 32;
        let mut datagram = Vec::with_capacity(512);
        let start = Instant::now();
        let mut last = Duration::ZERO;
        let mut error = None;
        'all: loop {
            let elapsed = start.elapsed();
            let many = match pace.turn(elapsed) {
                Turn::Done => break,
                Turn::Wait(wait) => {
                    std::thread::sleep(wait);
                    continue;
                }
                Turn::Send(many) => many.min(BATCH),
            };
            // TimeTicks go round after 497 days (RFC 2578 section 7.1.8).
            let uptime = envelope.uptime.wrapping_add((elapsed.as_millis() / 10) as u32);
            for _ in 0..many {
                let number = pace.sent();
                message.step(number);
                let at = (number % self.sockets.len() as u64) as usize;
                let address = self.sockets[at].address;
                let done = encode(message, envelope, address, number, uptime, &mut datagram)
                    .and_then(|()| self.push(at, &datagram).map_err(|error| error.to_string()));
                if let Err(why) = done {
                    error = Some(why);
                    break 'all;
                }
                pace.count();
            }
            last = start.elapsed();
        }
        // What the last datagrams brought back would be told by a next send, which does not come.
        let pending = self.sockets.iter().filter(|source| matches!(source.socket.take_error(), Ok(Some(_))));
        self.refused += pending.count() as u64;
        let seconds = last.as_secs_f64();
        let sent = pace.sent();
        let rate = if seconds > 0.0 { sent as f64 / seconds } else { 0.0 };
        Sent { sent, seconds, rate, refused: self.refused, errors: self.errors, error }
    }

    /// Sends until the kernel takes it, or has refused everything for a second.
    fn push(&mut self, at: usize, datagram: &[u8]) -> io::Result<()> {
        /// A full device queue empties within this time.
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut since = None;
        loop {
            let Err(error) = self.sockets[at].socket.send(datagram) else {
                return Ok(());
            };
            match error.kind() {
                io::ErrorKind::Interrupted => continue,
                // It tells of an earlier datagram; reading it has cleared it.
                io::ErrorKind::ConnectionRefused => self.refused += 1,
                _ => {
                    self.errors += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                return Err(error);
            }
        }
    }
}

impl Source {
    fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let about =
            |address| move |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
        let socket = UdpSocket::bind(from).map_err(about(from))?;
        socket.connect(to).map_err(about(to))?;
        let address = match socket.local_addr()? {
            SocketAddr::V4(own) => own.ip().octets(),
            // SNMPv1 has no room for any other: RFC 3584 section 3.2 (2) says 0.0.0.0.
            SocketAddr::V6(_) => [0; 4],
        };
        Ok(Self { socket, address })
    }
}

fn encode(
    message: &Message,
    envelope: &Envelope<'_>,
    own_address: [u8; 4],
    number: u64,
    uptime: u32,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    // Any INTEGER serves as a request-id; consecutive datagrams differ.
    let request_id = envelope.request_id.wrapping_add(number as i32);
    let done = match (envelope.v1, envelope.v3) {
        (_, Some(session)) => session.encode(message, envelope.kind, request_id, number, uptime, out),
        (Some(head), None) => {
            let agent_addr = envelope.agent_addr.unwrap_or(own_address);
            message.encode_v1(envelope.community, head, agent_addr, uptime, out)
        }
        (None, None) => message.encode_v2c(envelope.kind, envelope.community, request_id, uptime, out),
    };
    done.map_err(|error| format!("this cannot be encoded: {error}"))
}
