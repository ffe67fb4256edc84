//! The outer structure of an SNMPv3 message (RFC 3412 section 6) with the security parameters of the
//! user-based security model (RFC 3414 section 2.4).
//!
//! Nothing here verifies a digest, decrypts, or judges whether boots and time are in the window; a
//! [`V3Header`] is what the sender claims. What is checked is what needs no key: types, ranges, and flags.

use std::fmt;

use crate::security::SecurityLevel;
use crate::wire::ber::{self, Reader, Tlv};
use crate::wire::error::{DecodeError, DecodeErrorKind as Kind};

/// msgSecurityModel of USM (RFC 3411 section 6.1).
const USM: i32 = 3;
/// The least msgMaxSize that a sender may state (RFC 3412 section 6.3).
const LEAST_MAX_SIZE: i32 = 484;
/// SnmpEngineID is of 5 to 32 octets (RFC 3411 section 5).
const ENGINE_ID_OCTETS: std::ops::RangeInclusive<usize> = 5..=32;
/// SnmpAdminString, as user name and as context name (RFC 3414 section 2.4, RFC 3411 section 5).
const MAX_USER_NAME: usize = 32;
const MAX_CONTEXT_NAME: usize = 255;

/// An SNMPv3 message, not authenticated. Its Debug shows neither digest nor data.
#[derive(Clone, Copy)]
pub struct V3Header<'a> {
    /// msgID, which a Response or Report returns.
    pub message_id: u32,
    /// msgMaxSize: the largest message that the sender takes, at least 484.
    pub max_size: u32,
    /// msgFlags.
    pub flags: V3Flags,
    /// msgSecurityParameters.
    pub security: UsmParameters<'a>,
    /// msgData, plain or encrypted as `flags` say.
    pub data: ScopedData<'a>,
    /// The whole message: what a digest covers, with the octets of
    /// [`UsmParameters::authentication`] set to zero.
    pub message: &'a [u8],
}

/// msgFlags (RFC 3412 section 6.4). Privacy without authentication does not exist: it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V3Flags {
    /// The message carries a digest.
    pub authenticated: bool,
    /// The scoped PDU is encrypted.
    pub private: bool,
    /// The sender takes a Report.
    pub reportable: bool,
}

/// UsmSecurityParameters (RFC 3414 section 2.4).
#[derive(Clone, Copy)]
pub struct UsmParameters<'a> {
    /// msgAuthoritativeEngineID: empty (discovery), or 5 to 32 octets.
    pub engine_id: &'a [u8],
    /// msgAuthoritativeEngineBoots, at most 2^31-1.
    pub boots: u32,
    /// msgAuthoritativeEngineTime in seconds, at most 2^31-1.
    pub time: u32,
    /// msgUserName, at most 32 octets.
    pub user: &'a [u8],
    /// msgAuthenticationParameters. Of any length: the right one depends on the user's protocol.
    pub authentication: &'a [u8],
    /// Where in [`V3Header::message`] they begin.
    pub authentication_offset: u32,
    /// msgPrivacyParameters, of any length for the same reason.
    pub privacy: &'a [u8],
}

/// msgData.
#[derive(Clone, Copy)]
pub enum ScopedData<'a> {
    /// As sent without privacy.
    Plain(ScopedPdu<'a>),
    /// The encrypted octets of a scoped PDU.
    Encrypted(&'a [u8]),
}

/// ScopedPDU (RFC 3412 section 6.8).
#[derive(Clone, Copy)]
pub struct ScopedPdu<'a> {
    /// contextEngineID, at most 32 octets.
    pub context_engine_id: &'a [u8],
    /// contextName, at most 255 octets.
    pub context_name: &'a [u8],
    /// The whole PDU, of any kind: [`crate::wire::decode_pdu`] with [`crate::version::Version::V3`] reads it.
    pub pdu: &'a [u8],
}

impl<'a> V3Header<'a> {
    /// What stands behind msgVersion. `reader` stands there, in the envelope that fills `message`.
    pub(in crate::wire) fn read(message: &'a [u8], mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let mut header = reader.read_as(ber::SEQUENCE)?.reader();
        let message_id = at_least(0, header.read_as(ber::INTEGER)?, Kind::BadV3Header)?;
        let max_size = at_least(LEAST_MAX_SIZE, header.read_as(ber::INTEGER)?, Kind::BadV3Header)?;
        let flags = V3Flags::read(header.read_as(ber::OCTET_STRING)?)?;
        let model = header.read_as(ber::INTEGER)?;
        if model.signed()? != USM {
            return Err(model.fail(Kind::UnsupportedSecurityModel));
        }
        header.finish()?;
        let security = UsmParameters::read(reader.read_as(ber::OCTET_STRING)?)?;
        let data = if flags.private {
            ScopedData::Encrypted(reader.read_as(ber::OCTET_STRING)?.contents)
        } else {
            ScopedData::Plain(ScopedPdu::read(reader.read_as(ber::SEQUENCE)?)?)
        };
        reader.finish()?;
        Ok(Self { message_id, max_size, flags, security, data, message })
    }
}

impl V3Flags {
    /// The level that they say.
    #[must_use]
    pub fn level(self) -> SecurityLevel {
        match (self.authenticated, self.private) {
            (false, _) => SecurityLevel::NoAuthNoPriv,
            (true, false) => SecurityLevel::AuthNoPriv,
            (true, true) => SecurityLevel::AuthPriv,
        }
    }

    fn read(element: Tlv<'_>) -> Result<Self, DecodeError> {
        // The other five bits are reserved and ignored (RFC 3412 section 6.4).
        let &[octet] = element.contents else {
            return Err(element.fail(Kind::BadV3Flags));
        };
        let flags =
            Self { authenticated: octet & 1 != 0, private: octet & 2 != 0, reportable: octet & 4 != 0 };
        if flags.private && !flags.authenticated {
            return Err(element.fail(Kind::BadV3Flags));
        }
        Ok(flags)
    }
}

impl<'a> UsmParameters<'a> {
    fn read(element: Tlv<'a>) -> Result<Self, DecodeError> {
        let mut outer = element.reader();
        let mut reader = outer.read_as(ber::SEQUENCE)?.reader();
        outer.finish()?;
        let engine = reader.read_as(ber::OCTET_STRING)?;
        if !engine.contents.is_empty() && !ENGINE_ID_OCTETS.contains(&engine.contents.len()) {
            return Err(engine.fail(Kind::BadEngineId));
        }
        let boots = at_least(0, reader.read_as(ber::INTEGER)?, Kind::BadEngineTime)?;
        let time = at_least(0, reader.read_as(ber::INTEGER)?, Kind::BadEngineTime)?;
        let user = reader.read_as(ber::OCTET_STRING)?;
        if user.contents.len() > MAX_USER_NAME {
            return Err(user.fail(Kind::BadUserName));
        }
        let authentication = reader.read_as(ber::OCTET_STRING)?;
        let privacy = reader.read_as(ber::OCTET_STRING)?;
        reader.finish()?;
        Ok(Self {
            engine_id: engine.contents,
            boots,
            time,
            user: user.contents,
            authentication: authentication.contents,
            authentication_offset: authentication.end - authentication.contents.len() as u32,
            privacy: privacy.contents,
        })
    }
}

impl<'a> ScopedPdu<'a> {
    /// Reads what was decrypted. Behind the scoped PDU CBC's padding may stand, which is ignored.
    ///
    /// # Errors
    /// As [`crate::wire::decode`], with offsets counted from the first decrypted octet.
    pub fn decrypted(octets: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(Reader::new(octets)?.read_as(ber::SEQUENCE)?)
    }

    /// Whether the sender of such a PDU waits for an answer (RFC 3411 section 2.8): the Confirmed Class.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        use ber::pdu;
        matches!(self.pdu.first(), Some(&(pdu::GET..=pdu::GET_NEXT | pdu::SET | pdu::GET_BULK | pdu::INFORM)))
    }

    /// The request-id, if the PDU begins as RFC 3416 has it.
    #[must_use]
    pub fn request_id(&self) -> Option<i32> {
        Reader::new(self.pdu).ok()?.read().ok()?.reader().integer().ok()
    }

    fn read(element: Tlv<'a>) -> Result<Self, DecodeError> {
        let mut reader = element.reader();
        let engine = reader.read_as(ber::OCTET_STRING)?;
        if engine.contents.len() > *ENGINE_ID_OCTETS.end() {
            return Err(engine.fail(Kind::BadV3Header));
        }
        let name = reader.read_as(ber::OCTET_STRING)?;
        if name.contents.len() > MAX_CONTEXT_NAME {
            return Err(name.fail(Kind::BadV3Header));
        }
        let pdu = reader.rest();
        let pdu_element = reader.read()?;
        if !(ber::pdu::GET..=ber::pdu::REPORT).contains(&pdu_element.tag) {
            return Err(pdu_element.fail(Kind::UnexpectedTag));
        }
        reader.finish()?;
        Ok(Self { context_engine_id: engine.contents, context_name: name.contents, pdu })
    }
}

impl fmt::Debug for V3Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("V3Header")
            .field("message_id", &self.message_id)
            .field("max_size", &self.max_size)
            .field("flags", &self.flags)
            .field("security", &self.security)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for UsmParameters<'_> {
    /// Who claims to send, and when; neither digest nor salt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsmParameters")
            .field("engine_id", &self.engine_id)
            .field("boots", &self.boots)
            .field("time", &self.time)
            .field("user", &self.user.escape_ascii().to_string())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ScopedData<'_> {
    /// How many octets: a plain PDU may hold a community.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(scoped) => scoped.fmt(f),
            Self::Encrypted(octets) => write!(f, "Encrypted({} octets)", octets.len()),
        }
    }
}

impl fmt::Debug for ScopedPdu<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopedPdu({} octets)", self.pdu.len())
    }
}

/// An INTEGER of 31 bits that is not below `least`.
fn at_least(least: i32, element: Tlv<'_>, kind: Kind) -> Result<u32, DecodeError> {
    match element.signed()? {
        value if value >= least => Ok(value as u32),
        _ => Err(element.fail(kind)),
    }
}
