//! Notifications as datagrams to another SNMP receiver (RFC 3417 section 3).
//!
//! UDP has no acknowledgement: what was handed to the network counts as taken, unless the host answers at once that
//! nobody listens (ICMP), as one on the same network does.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::connect::Connector;
use super::super::webhook::Outcome;
use crate::config::settings::{ForwardForm, ForwardOutput, WebhookSettings};
use crate::event::EventRecord;
use crate::version::Version;
use crate::wire::{Forwarded, decode_pdu, encode_as_received, encode_translated};

/// How long an answer that nobody listens is waited for. It is also the receiver's rest between two writes.
const GRACE: Duration = Duration::from_millis(10);
/// A host's name is looked up again after so long: UDP does not say that it has moved.
const FRESH: Duration = Duration::from_secs(300);
/// What an IPv4 datagram holds at most.
const LONGEST: usize = 65_507;

/// One receiver.
pub(in super::super) struct Sender {
    settings: ForwardOutput,
    connector: Connector,
    timeout: Duration,
    socket: Mutex<Option<(UdpSocket, Instant)>>,
}

impl Sender {
    pub(super) fn new(settings: ForwardOutput, whole: &WebhookSettings) -> Self {
        Self {
            settings,
            connector: Connector::new(whole.connect_timeout, whole.addresses.clone()),
            timeout: whole.timeout,
            socket: Mutex::new(None),
        }
    }

    /// Sends the datagrams of a [`Framed`].
    pub(super) async fn send(&self, framed: &[u8]) -> Outcome {
        let mut open = self.socket.lock().await;
        let reason = match tokio::time::timeout(self.timeout, self.send_on(&mut open, framed)).await {
            Ok(Ok(())) => return Outcome::Taken,
            // The network takes no datagram of this length; the next one may pass.
            Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
                return Outcome::Content {
                    reason: format!("the datagram is too long for the network: {error}"),
                };
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "nobody listens there (ICMP port unreachable)".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took longer than {} s", self.timeout.as_secs_f64()),
        };
        *open = None;
        Outcome::unreached(reason)
    }

    async fn send_on(&self, open: &mut Option<(UdpSocket, Instant)>, framed: &[u8]) -> io::Result<()> {
        let socket = match open.take() {
            Some(kept) if kept.1.elapsed() < FRESH => &open.insert(kept).0,
            _ => &open.insert((self.connect().await?, Instant::now())).0,
        };
        for datagram in unframed(framed) {
            socket.send(datagram).await?;
        }
        tokio::time::sleep(GRACE).await;
        socket.take_error()?.map_or(Ok(()), Err)
    }

    async fn connect(&self) -> io::Result<UdpSocket> {
        let address = self.connector.resolve(&self.settings.host, self.settings.port).await?;
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        Ok(socket)
    }
}

/// Datagrams one after another, each behind its length.
#[derive(Default)]
pub(in super::super) struct Framed(Vec<u8>);

impl Framed {
    pub(in super::super) fn push(&mut self, datagram: &[u8]) {
        // No datagram has more octets than its length has numbers.
        let length = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(&datagram[..length.into()]);
    }

    pub(in super::super) fn into_octets(self) -> Vec<u8> {
        self.0
    }
}

fn unframed(mut framed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = framed.split_first_chunk::<2>()?;
        let (datagram, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        framed = rest;
        Some(datagram)
    })
}

/// The datagram that `event` is sent on as.
///
/// # Errors
/// Why it never can be: for a person, without the community.
pub(in super::super) fn datagram(settings: &ForwardOutput, event: &EventRecord) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(event.pdu.len() + 128);
    let community = settings.community.expose();
    match settings.form {
        ForwardForm::Received if event.version == Version::V3 => {
            return Err(
                "an SNMPv3 notification cannot be sent on as it was received: its message is bound to the engine and \
                 the keys of its sender; `as: v2c` sends it"
                    .to_owned(),
            );
        }
        ForwardForm::Received => encode_as_received(event.version, community, &event.pdu, &mut out),
        ForwardForm::V2c => {
            let notification = decode_pdu(event.version, &event.pdu)
                .map_err(|error| format!("its stored PDU cannot be read: {error}"))?;
            let device = match event.source.address.to_canonical() {
                IpAddr::V4(address) => Some(address.octets()),
                IpAddr::V6(_) => None,
            };
            // Its number's low bits: the same event has the same one when it is sent again.
            let request_id = i32::try_from(event.id.0 & 0x7fff_ffff).unwrap_or(0);
            encode_translated(&notification, &Forwarded { community, request_id, device }, &mut out)
        }
    }
    .map_err(|error| format!("it cannot be sent on: {error}"))?;
    if out.len() > LONGEST {
        return Err(format!("it would be {} octets, more than a datagram holds", out.len()));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_apart_as_they_were_put_together() {
        let mut framed = Framed::default();
        let parts: [&[u8]; 4] = [b"one", b"", &[0; 65_507], b"last"];
        parts.iter().for_each(|part| framed.push(part));
        let mut octets = framed.into_octets();
        assert_eq!(unframed(&octets).collect::<Vec<_>>(), parts);
        octets.pop();
        assert_eq!(unframed(&octets).count(), 3, "a torn one is none");
    }
}
