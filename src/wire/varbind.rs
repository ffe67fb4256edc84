//! Varbinds: checked once while the PDU is decoded, then walked as often as wanted.

use std::fmt;
use std::iter::FusedIterator;

use super::ber::{self, Reader, Tlv};
use super::error::{DecodeError, DecodeErrorKind as Kind};
use crate::oid::EncodedOid;
use crate::value::Value;

/// Contents octets of the instance names that notifications use, for comparison with
/// [`EncodedOid::octets`].
pub mod names {
    /// sysUpTime.0, 1.3.6.1.2.1.1.3.0.
    pub const SYS_UP_TIME: &[u8] = &[0x2b, 6, 1, 2, 1, 1, 3, 0];
    /// snmpTrapOID.0, 1.3.6.1.6.3.1.1.4.1.0.
    pub const SNMP_TRAP_OID: &[u8] = &[0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0];
    /// snmpTrapEnterprise.0, 1.3.6.1.6.3.1.1.4.3.0.
    pub const SNMP_TRAP_ENTERPRISE: &[u8] = &[0x2b, 6, 1, 6, 3, 1, 1, 4, 3, 0];
    /// snmpTrapAddress.0, 1.3.6.1.6.3.18.1.3.0: the device behind a proxy (RFC 3584 section 3.1).
    pub const SNMP_TRAP_ADDRESS: &[u8] = &[0x2b, 6, 1, 6, 3, 18, 1, 3, 0];
    /// snmpTrapCommunity.0, 1.3.6.1.6.3.18.1.4.0. Its value is a secret.
    pub const SNMP_TRAP_COMMUNITY: &[u8] = &[0x2b, 6, 1, 6, 3, 18, 1, 4, 0];
}

/// One name and its value, borrowed from the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Varbind<'a> {
    /// The instance that the value is of.
    pub name: EncodedOid<'a>,
    /// The value, within its type's range.
    pub value: Value<'a>,
}

/// A list of varbinds that was checked when its PDU was decoded. Copy; walking allocates nothing.
///
/// Its Debug tells the count alone, since a value may be a community.
#[derive(Clone, Copy)]
pub struct Varbinds<'a> {
    octets: &'a [u8],
    len: u32,
    /// Varbinds to leave out, by the octets from their start to the list's end.
    skip: [u32; 2],
    hide_community: bool,
}

/// No varbind stands there: each has at least one octet before the list's end.
const NOWHERE: u32 = 0;

impl<'a> Varbinds<'a> {
    /// How many varbinds [`Self::iter`] yields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The varbinds in the order of the datagram. About 12 ns each.
    #[must_use]
    pub fn iter(&self) -> Iter<'a> {
        Iter { reader: Reader::over(self.octets), left: self.len, skip: self.skip, hide: self.hide_community }
    }

    /// The value of the first varbind whose name has the contents octets `name` (see [`names`]).
    /// Costs a walk up to it.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<Value<'a>> {
        self.iter().find(|varbind| varbind.name.octets() == name).map(|varbind| varbind.value)
    }

    /// The octets inside the VarBindList, for a Response that returns them unchanged.
    pub(super) fn octets(&self) -> &'a [u8] {
        self.octets
    }
}

impl<'a> IntoIterator for Varbinds<'a> {
    type Item = Varbind<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Varbinds<'a> {
    type Item = Varbind<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Varbinds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Varbinds({})", self.len)
    }
}

/// Walks [`Varbinds`].
#[derive(Clone)]
pub struct Iter<'a> {
    reader: Reader<'a>,
    left: u32,
    skip: [u32; 2],
    hide: bool,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Varbind<'a>;

    fn next(&mut self) -> Option<Varbind<'a>> {
        // `scan` passed over the same octets with the same functions: no `?` below ends the walk early.
        while self.left > 0 {
            let mark = self.reader.rest().len() as u32;
            let entry = self.reader.read().ok()?;
            if self.skip.contains(&mark) {
                continue;
            }
            let varbind = varbind(entry).ok()?;
            if self.hide && varbind.name.octets() == names::SNMP_TRAP_COMMUNITY {
                continue;
            }
            self.left -= 1;
            return Some(varbind);
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iter({} left)", self.left)
    }
}

/// Where a varbind stands: the octets from its start, and from its end, to the list's end.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

/// What one pass over a VarBindList found out. Where a name comes twice, the first one is meant,
/// and the second stays in the payload.
pub(super) struct Scan<'a> {
    list: &'a [u8],
    total: u32,
    communities: u32,
    /// The value of sysUpTime.0, wherever it stands. A non-negative number of another type is taken
    /// for TimeTicks; anything else is no uptime, and remains a varbind like any other.
    pub(super) uptime: Option<u32>,
    uptime_span: Option<Span>,
    trap_oid: Option<EncodedOid<'a>>,
    trap_oid_span: Option<Span>,
    trap_oid_offset: u32,
    /// The value of snmpTrapAddress.0.
    pub(super) trap_address: Option<[u8; 4]>,
    /// The value of snmpTrapEnterprise.0.
    pub(super) trap_enterprise: Option<EncodedOid<'a>>,
}

/// Checks every varbind of `list`, the element that is the VarBindList.
pub(super) fn scan(list: Tlv<'_>) -> Result<Scan<'_>, DecodeError> {
    let mut found = Scan {
        list: list.contents,
        total: 0,
        communities: 0,
        uptime: None,
        uptime_span: None,
        trap_oid: None,
        trap_oid_span: None,
        trap_oid_offset: 0,
        trap_address: None,
        trap_enterprise: None,
    };
    let mut reader = list.reader();
    while !reader.is_empty() {
        if found.total as usize == super::MAX_VARBINDS {
            return Err(list.fail(Kind::TooManyVarbinds));
        }
        let start = reader.rest().len() as u32;
        let entry = reader.read_as(ber::SEQUENCE)?;
        let Varbind { name, value } = varbind(entry)?;
        found.total += 1;
        let span = Span { start, end: reader.rest().len() as u32 };
        match name.octets() {
            names::SYS_UP_TIME if found.uptime_span.is_none() => {
                found.uptime_span = Some(span);
                found.uptime = match value {
                    Value::TimeTicks(ticks) | Value::Unsigned32(ticks) | Value::Counter32(ticks) => {
                        Some(ticks)
                    }
                    Value::Integer(ticks) => u32::try_from(ticks).ok(),
                    _ => None,
                };
            }
            names::SNMP_TRAP_OID if found.trap_oid_span.is_none() => {
                found.trap_oid_span = Some(span);
                found.trap_oid_offset = entry.start;
                found.trap_oid = oid_of(value);
            }
            names::SNMP_TRAP_ADDRESS => {
                if let (None, Value::IpAddress(address)) = (found.trap_address, value) {
                    found.trap_address = Some(address);
                }
            }
            names::SNMP_TRAP_ENTERPRISE => found.trap_enterprise = found.trap_enterprise.or(oid_of(value)),
            names::SNMP_TRAP_COMMUNITY => found.communities += 1,
            _ => {}
        }
    }
    Ok(found)
}

fn oid_of(value: Value<'_>) -> Option<EncodedOid<'_>> {
    match value {
        Value::Oid(oid) => Some(oid),
        _ => None,
    }
}

impl<'a> Scan<'a> {
    /// The value of snmpTrapOID.0, wherever it stands.
    pub(super) fn trap_oid(&self, list: Tlv<'_>) -> Result<EncodedOid<'a>, DecodeError> {
        match (self.trap_oid, self.trap_oid_span) {
            (Some(oid), _) => Ok(oid),
            (None, Some(_)) => Err(DecodeError::new(Kind::BadTrapOid, self.trap_oid_offset)),
            (None, None) => Err(list.fail(Kind::MissingTrapOid)),
        }
    }

    /// All of them, as the datagram has them.
    pub(super) fn all(&self) -> Varbinds<'a> {
        Varbinds { octets: self.list, len: self.total, skip: [NOWHERE; 2], hide_community: false }
    }

    /// Without communities, and (`of_v2`) without the two varbinds that say when and what.
    pub(super) fn payload(&self, of_v2: bool) -> Varbinds<'a> {
        let mut octets = self.list;
        let mut skip = [NOWHERE; 2];
        let mut len = self.total - self.communities;
        if of_v2 {
            let uptime = self.uptime_span.filter(|_| self.uptime.is_some());
            for (slot, span) in skip.iter_mut().zip([uptime, self.trap_oid_span]) {
                let Some(span) = span else { continue };
                len -= 1;
                // In their places, first and second, they are cut off instead of passed over on every walk.
                if span.start as usize == octets.len() {
                    octets = &octets[octets.len() - span.end as usize..];
                } else {
                    *slot = span.start;
                }
            }
        }
        Varbinds { octets, len, skip, hide_community: self.communities > 0 }
    }
}

/// The contents of one VarBind (RFC 3416 section 3).
#[inline(always)]
fn varbind(entry: Tlv<'_>) -> Result<Varbind<'_>, DecodeError> {
    let mut reader = entry.reader();
    let name = reader.read_as(ber::OBJECT_IDENTIFIER)?.oid()?;
    let value = value(reader.read()?)?;
    reader.finish()?;
    Ok(Varbind { name, value })
}

/// A value of any type that a varbind may have.
///
/// Of the types that RFC 1442 had and RFC 2578 dropped, UInteger32 is an Unsigned32, BIT STRING and
/// NsapAddress are octets: old agents still send them. Counter64 is taken in SNMPv1 too.
#[inline(always)]
fn value(tlv: Tlv<'_>) -> Result<Value<'_>, DecodeError> {
    let empty = |value| if tlv.contents.is_empty() { Ok(value) } else { Err(tlv.fail(Kind::BadLength)) };
    Ok(match tlv.tag {
        ber::INTEGER => Value::Integer(tlv.signed()?),
        ber::OCTET_STRING | ber::BIT_STRING | ber::NSAP_ADDRESS => Value::Octets(tlv.contents),
        ber::OBJECT_IDENTIFIER => Value::Oid(tlv.oid()?),
        ber::IP_ADDRESS => Value::IpAddress(tlv.address()?),
        ber::COUNTER32 => Value::Counter32(tlv.unsigned32()?),
        ber::GAUGE32 | ber::UINTEGER32 => Value::Unsigned32(tlv.unsigned32()?),
        ber::TIME_TICKS => Value::TimeTicks(tlv.unsigned32()?),
        ber::OPAQUE => Value::Opaque(tlv.contents),
        ber::COUNTER64 => Value::Counter64(tlv.unsigned64()?),
        ber::NULL => empty(Value::Null)?,
        ber::NO_SUCH_OBJECT => empty(Value::NoSuchObject)?,
        ber::NO_SUCH_INSTANCE => empty(Value::NoSuchInstance)?,
        ber::END_OF_MIB_VIEW => empty(Value::EndOfMibView)?,
        _ => return Err(tlv.fail(Kind::UnexpectedTag)),
    })
}
