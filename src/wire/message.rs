//! The message around a PDU: community-based (RFC 1157 section 4, RFC 1901 section 3) or SNMPv3.

use std::fmt;

use super::ber::{self, Reader};
use super::error::{DecodeError, DecodeErrorKind as Kind};
use super::pdu::{Notification, notification};
use super::usm::V3Header;
use crate::version::Version;

/// A decoded datagram.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// SNMPv1 or SNMPv2c, with its notification.
    Community(CommunityMessage<'a>),
    /// SNMPv3, as far as it can be read without keys.
    V3(V3Header<'a>),
}

impl Message<'_> {
    /// The version that the message speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::Community(message) => message.version,
            Self::V3(_) => Version::V3,
        }
    }
}

/// An SNMPv1 or SNMPv2c message that holds a notification. Its Debug shows no community.
#[derive(Clone, Copy)]
pub struct CommunityMessage<'a> {
    /// V1 or V2c.
    pub version: Version,
    /// The community, a secret: compare it, never show it.
    pub community: &'a [u8],
    /// The whole PDU (tag, length, contents), which [`super::decode_pdu`] reads again.
    pub pdu: &'a [u8],
    /// The notification inside `pdu`.
    pub notification: Notification<'a>,
    /// Whether octets stood behind the message. Some devices pad; what follows was not looked at.
    pub trailing: bool,
}

impl fmt::Debug for CommunityMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommunityMessage")
            .field("version", &self.version)
            .field("notification", &self.notification)
            .field("trailing", &self.trailing)
            .finish_non_exhaustive()
    }
}

/// Decodes one datagram. Borrows it, allocates nothing, and is linear in its length: some 0.1 µs
/// for a linkDown.
///
/// Octets behind an SNMPv1 or SNMPv2c message are accepted and told
/// ([`CommunityMessage::trailing`]); behind an SNMPv3 message they stand outside what
/// authentication covers, and are refused.
///
/// # Errors
/// Every [`Kind`], with the octet at which the refused element begins.
pub fn decode(datagram: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut outer = Reader::new(datagram)?;
    let envelope = outer.read_as(ber::SEQUENCE)?;
    let mut reader = envelope.reader();
    let version_element = reader.read_as(ber::INTEGER)?;
    let version = match version_element.signed()? {
        0 => Version::V1,
        1 => Version::V2c,
        3 => {
            outer.finish()?;
            return V3Header::read(datagram, reader).map(Message::V3);
        }
        _ => return Err(version_element.fail(Kind::UnsupportedVersion)),
    };
    let community = reader.read_as(ber::OCTET_STRING)?.contents;
    let pdu = reader.rest();
    let element = reader.read()?;
    reader.finish()?;
    Ok(Message::Community(CommunityMessage {
        version,
        community,
        pdu,
        notification: notification(version, element)?,
        trailing: !outer.is_empty(),
    }))
}
