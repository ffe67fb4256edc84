//! A varbind's value as it stands in a datagram: typed, borrowed, validated.
//!
//! A leaf of its own, since both the wire codec (which makes values) and the MIB renderer (which
//! prints them) need it, and neither may import the other.

use crate::oid::EncodedOid;

/// One SMI value (RFC 2578 section 7.1, RFC 1155 section 3.2), borrowing the datagram. Copy: 24 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Value<'a> {
    /// INTEGER, Integer32, enumerations.
    Integer(i32),
    /// OCTET STRING, BITS.
    Octets(&'a [u8]),
    /// OBJECT IDENTIFIER.
    Oid(EncodedOid<'a>),
    /// IpAddress, in network order.
    IpAddress([u8; 4]),
    /// Counter, Counter32.
    Counter32(u32),
    /// Gauge, Gauge32, Unsigned32.
    Unsigned32(u32),
    /// TimeTicks, in hundredths of a second.
    TimeTicks(u32),
    /// Opaque: the octets inside (often a BER-wrapped float, tags 9f 78 and 9f 79).
    Opaque(&'a [u8]),
    /// Counter64.
    Counter64(u64),
    /// NULL (`unSpecified`).
    Null,
    /// The exceptions of RFC 3416 section 3, legal to decode wherever they stand.
    NoSuchObject,
    /// See [`Value::NoSuchObject`].
    NoSuchInstance,
    /// See [`Value::NoSuchObject`].
    EndOfMibView,
}

impl Value<'_> {
    /// The type's name as it stands in events and JSON.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Integer(_) => "INTEGER",
            Self::Octets(_) => "OCTET STRING",
            Self::Oid(_) => "OBJECT IDENTIFIER",
            Self::IpAddress(_) => "IpAddress",
            Self::Counter32(_) => "Counter32",
            Self::Unsigned32(_) => "Gauge32",
            Self::TimeTicks(_) => "TimeTicks",
            Self::Opaque(_) => "Opaque",
            Self::Counter64(_) => "Counter64",
            Self::Null => "NULL",
            Self::NoSuchObject => "noSuchObject",
            Self::NoSuchInstance => "noSuchInstance",
            Self::EndOfMibView => "endOfMibView",
        }
    }

    /// The number behind any of the numeric types, or `None`.
    #[must_use]
    pub fn as_i128(&self) -> Option<i128> {
        Some(match *self {
            Self::Integer(v) => v.into(),
            Self::Counter32(v) | Self::Unsigned32(v) | Self::TimeTicks(v) => v.into(),
            Self::Counter64(v) => v.into(),
            _ => return None,
        })
    }
}
