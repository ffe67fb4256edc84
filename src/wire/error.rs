//! Why a datagram is no notification ([`DecodeError`]), and why a notification cannot be encoded
//! ([`EncodeError`]). Both are Copy and hold nothing of what was read, so that they cost nothing to
//! report and cannot leak a community.

use std::fmt;

use crate::oid::OidError;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident => $reason:literal, $text:literal;)+) => {
        /// What was wrong. Each kind is one reason of `nereus_traps_dropped_total{reason}`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DecodeErrorKind {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DecodeErrorKind {
            /// Every kind, so that counters can stand at zero before the first refusal.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The reason in counters and JSON: stable, lower case, unique.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $reason,)+
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

kinds! {
    /// The input, or what encloses the element, ends before the element does.
    Truncated => "truncated", "ends before its length says";
    /// Indefinite or reserved length, more than four length octets, or a length that the type does not have.
    BadLength => "bad_length", "a length that is not allowed here";
    /// An INTEGER without octets, or outside its type's range.
    BadInteger => "bad_integer", "an integer that is empty or out of range";
    /// An OBJECT IDENTIFIER that [`crate::oid::EncodedOid::new`] refuses.
    BadOid => "bad_oid", "an object identifier that is not valid";
    /// An IpAddress that is not of four octets.
    BadAddress => "bad_address", "an IpAddress that is not of four octets";
    /// Another type than the one that has to stand here, or one that SNMP does not have.
    UnexpectedTag => "unexpected_tag", "an element of another type than expected";
    /// Octets between the end of an element and the end of what encloses it.
    TrailingOctets => "trailing_octets", "octets behind the last element";
    /// More octets than [`crate::wire::MAX_MESSAGE_SIZE`].
    MessageTooLong => "message_too_long", "a message over 65535 octets";
    /// A version other than SNMPv1, SNMPv2c and SNMPv3.
    UnsupportedVersion => "unsupported_version", "a version other than SNMPv1, SNMPv2c and SNMPv3";
    /// A Get, Set, Response or Report.
    NotANotification => "not_a_notification", "a PDU that is neither trap nor inform";
    /// An SNMPv1 Trap-PDU in an SNMPv2c message, or the reverse.
    PduNotOfVersion => "pdu_not_of_version", "a PDU that the message's version does not have";
    /// More varbinds than [`crate::wire::MAX_VARBINDS`].
    TooManyVarbinds => "too_many_varbinds", "more than 4096 varbinds";
    /// No snmpTrapOID.0 among the varbinds.
    MissingTrapOid => "missing_trap_oid", "no snmpTrapOID.0 among the varbinds";
    /// snmpTrapOID.0 is not an OBJECT IDENTIFIER.
    BadTrapOid => "bad_trap_oid", "snmpTrapOID.0 is not an object identifier";
    /// The SNMPv1 enterprise leaves no room for `.0.specific` within 128 arcs.
    TrapOidTooLong => "trap_oid_too_long", "enterprise.0.specific would have more than 128 arcs";
    /// generic-trap outside 0 to 6.
    BadGenericTrap => "bad_generic_trap", "a generic-trap outside 0 to 6";
    /// A negative specific-trap of an enterprise-specific trap.
    BadSpecificTrap => "bad_specific_trap", "a negative specific-trap";
    /// The SNMPv1 time-stamp is negative or of another type than TimeTicks and INTEGER.
    BadTimestamp => "bad_timestamp", "a time-stamp that is negative or not a number";
    /// msgID, msgMaxSize, contextEngineID or contextName outside its range (RFC 3412 section 6).
    BadV3Header => "bad_v3_header", "an SNMPv3 header field outside its range";
    /// msgFlags is not one octet, or asks for privacy without authentication (RFC 3412 section 7.2).
    BadV3Flags => "bad_v3_flags", "msgFlags that are not one octet, or privacy without authentication";
    /// A security model other than USM.
    UnsupportedSecurityModel => "unsupported_security_model", "a security model other than USM";
    /// An authoritative engine ID that is neither empty nor of 5 to 32 octets (RFC 3411 section 5).
    BadEngineId => "bad_engine_id", "an engine ID that is not of 5 to 32 octets";
    /// Negative engine boots or engine time (RFC 3414 section 2.4).
    BadEngineTime => "bad_engine_time", "negative engine boots or engine time";
    /// A user name over 32 octets (RFC 3414 section 2.4).
    BadUserName => "bad_user_name", "a user name over 32 octets";
}

impl fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A refusal with its place. Eight octets; never holds what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecodeError {
    /// What was wrong.
    pub kind: DecodeErrorKind,
    /// Where: the octet of the input, from 0, at which the refused element begins.
    pub offset: u32,
}

impl DecodeError {
    #[cold]
    pub(crate) const fn new(kind: DecodeErrorKind, offset: u32) -> Self {
        Self { kind, offset }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at octet {}", self.kind, self.offset)
    }
}

impl std::error::Error for DecodeError {}

/// Why a notification cannot be put on the wire. Nothing was appended then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// An OID that has no encoding.
    Oid(OidError),
    /// The message would pass [`crate::wire::MAX_MESSAGE_SIZE`].
    TooLong,
    /// More varbinds than [`crate::wire::MAX_VARBINDS`].
    TooManyVarbinds,
    /// A generic-trap outside 0 to 6, or a specific-trap over 2^31-1.
    TrapNumber,
    /// A Response was asked for something that was no inform.
    NotAnInform,
    /// What is to be sent on is neither a trap nor an inform.
    NotANotification,
    /// The version has no such message: SNMPv1 has no Response to a notification, and SNMPv3 has no community.
    Version,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Oid(error) => return error.fmt(f),
            Self::TooLong => "the message would be over 65535 octets",
            Self::TooManyVarbinds => "more than 4096 varbinds",
            Self::TrapNumber => {
                "generic-trap is a number from 0 to 6, specific-trap one from 0 to 2147483647"
            }
            Self::NotAnInform => "only an inform is answered",
            Self::NotANotification => "only a trap or an inform is sent on",
            Self::Version => "this SNMP version has no such message",
        })
    }
}

impl std::error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Oid(error) => Some(error),
            _ => None,
        }
    }
}

impl From<OidError> for EncodeError {
    fn from(error: OidError) -> Self {
        Self::Oid(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn reasons_are_unique_label_values() {
        let reasons: HashSet<&str> = DecodeErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(reasons.len(), DecodeErrorKind::ALL.len());
        for reason in reasons {
            assert!(
                reason.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{reason}"
            );
        }
    }

    #[test]
    fn an_error_is_small_and_names_its_place() {
        assert_eq!(size_of::<DecodeError>(), 8);
        let error = DecodeError::new(DecodeErrorKind::BadLength, 17);
        assert_eq!(error.to_string(), "a length that is not allowed here at octet 17");
    }
}
