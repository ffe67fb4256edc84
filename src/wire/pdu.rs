//! Notifications: the SNMPv1 Trap-PDU (RFC 1157 section 4.1.6), the SNMPv2-Trap-PDU and the
//! InformRequest-PDU (RFC 3416 sections 4.2.6 and 4.2.7), made one by RFC 3584 section 3.1.
//!
//! # Where this is more tolerant than the RFCs
//! Real devices do the following, and a trap is worth more than its sender's correctness:
//! * snmpTrapOID.0 may stand anywhere among the varbinds, and sysUpTime.0 may be missing
//!   ([`Notification::uptime`] is `None` then), stand anywhere, or be a number of another type. But
//!   without snmpTrapOID.0, or with another object in its place, a notification says nothing that
//!   can be named: it is refused.
//! * The SNMPv1 time-stamp may be tagged INTEGER, if it is not negative.
//! * Counter64 may stand in an SNMPv1 trap.
//! * error-status and error-index may hold any INTEGER.

use std::fmt;

use super::ber::{self, Reader, Tlv};
use super::error::{DecodeError, DecodeErrorKind};
use super::varbind::{Varbinds, scan};
use crate::oid::{EncodedOid, MAX_ARCS, Oid, OidArray, OidRef};
use crate::version::Version;

/// snmpTraps, 1.3.6.1.6.3.1.1.5: the generic traps stand below it.
const SNMP_TRAPS: [u32; 9] = [1, 3, 6, 1, 6, 3, 1, 1, 5];
/// generic-trap: enterpriseSpecific(6).
const ENTERPRISE_SPECIFIC: i32 = 6;

/// What the sender wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing: SNMPv1 Trap-PDU or SNMPv2-Trap-PDU.
    Trap,
    /// A Response: InformRequest-PDU.
    Inform,
}

/// A notification as RFC 3584 section 3.1 sees it, borrowed from the datagram. Copy; nothing in it
/// was allocated, and everything in it was checked.
#[derive(Clone, Copy)]
pub struct Notification<'a> {
    /// Trap or inform.
    pub kind: Kind,
    /// The request-id; 0 for SNMPv1, which has none.
    pub request_id: i32,
    /// sysUpTime.0, or the SNMPv1 time-stamp, in hundredths of a second. `None` where an SNMPv2
    /// sender left it out.
    pub uptime: Option<u32>,
    /// Which notification it is.
    pub trap_oid: TrapOid<'a>,
    /// The payload: neither the sysUpTime.0 nor the snmpTrapOID.0 that [`Self::uptime`] and
    /// [`Self::trap_oid`] came from, and no snmpTrapCommunity.0, whose value is a secret.
    pub varbinds: Varbinds<'a>,
    /// agent-addr of an SNMPv1 trap: who the sender says that it is.
    pub agent_addr: Option<[u8; 4]>,
    /// The value of snmpTrapAddress.0 among the varbinds: the device, as a proxy says.
    pub trap_address: Option<[u8; 4]>,
    /// enterprise of an SNMPv1 trap, else the value of snmpTrapEnterprise.0.
    pub enterprise: Option<EncodedOid<'a>>,
    all: Varbinds<'a>,
}

impl<'a> Notification<'a> {
    /// Every varbind of the datagram in its order. For answering and forwarding: among them may be
    /// snmpTrapCommunity.0, whose value must not be shown.
    #[must_use]
    pub fn all_varbinds(&self) -> Varbinds<'a> {
        self.all
    }
}

impl fmt::Debug for Notification<'_> {
    /// Values and communities do not appear.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("kind", &self.kind)
            .field("request_id", &self.request_id)
            .field("uptime", &self.uptime)
            .field("trap_oid", &self.trap_oid)
            .field("varbinds", &self.varbinds)
            .field("agent_addr", &self.agent_addr)
            .field("trap_address", &self.trap_address)
            .field("enterprise", &self.enterprise)
            .finish()
    }
}

/// snmpTrapOID, sent or derived (RFC 3584 section 3.1). Always 2 to [`MAX_ARCS`] arcs. Equal to
/// another one when the arcs are, however they came about.
#[derive(Clone, Copy)]
pub struct TrapOid<'a>(Form<'a>);

#[derive(Clone, Copy)]
enum Form<'a> {
    /// As SNMPv2 sends it.
    Sent(EncodedOid<'a>),
    /// snmpTraps.`number`, from a generic trap of SNMPv1.
    Generic { number: u32 },
    /// enterprise.0.specific.
    Specific { enterprise: EncodedOid<'a>, specific: u32 },
}

impl<'a> TrapOid<'a> {
    /// RFC 3584 section 3.1 (2) and (3). The elements are those that the numbers came from.
    fn from_v1(
        enterprise: EncodedOid<'a>,
        enterprise_element: Tlv<'_>,
        (generic, generic_element): (i32, Tlv<'_>),
        (specific, specific_element): (i32, Tlv<'_>),
    ) -> Result<Self, DecodeError> {
        match generic {
            0..ENTERPRISE_SPECIFIC => Ok(Self(Form::Generic { number: generic as u32 + 1 })),
            ENTERPRISE_SPECIFIC => {
                let specific = u32::try_from(specific)
                    .map_err(|_| specific_element.fail(DecodeErrorKind::BadSpecificTrap))?;
                // The first sub-identifier is two arcs; `.0.specific` adds two more.
                let arcs = enterprise.octets().iter().filter(|&octet| octet & 0x80 == 0).count() + 1;
                if arcs + 2 > MAX_ARCS {
                    return Err(enterprise_element.fail(DecodeErrorKind::TrapOidTooLong));
                }
                Ok(Self(Form::Specific { enterprise, specific }))
            }
            _ => Err(generic_element.fail(DecodeErrorKind::BadGenericTrap)),
        }
    }

    /// Decodes the arcs into `into`, which is emptied before. No allocation, some 20 ns.
    pub fn decode_into(self, into: &mut OidArray) {
        let done = match self.0 {
            Form::Sent(oid) => {
                oid.decode_into(into);
                Ok(())
            }
            Form::Generic { number } => {
                into.clear();
                into.extend(SNMP_TRAPS).and_then(|()| into.push(number))
            }
            Form::Specific { enterprise, specific } => {
                enterprise.decode_into(into);
                into.extend([0, specific])
            }
        };
        debug_assert!(done.is_ok(), "from_v1 left room for every arc");
    }

    /// An owned copy.
    #[must_use]
    pub fn to_oid(self) -> Oid {
        let mut arcs = OidArray::default();
        self.decode_into(&mut arcs);
        Oid::new(arcs.arcs()).expect("every form has at least two arcs and at most 128")
    }
}

impl PartialEq for TrapOid<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (mut left, mut right) = (OidArray::default(), OidArray::default());
        self.decode_into(&mut left);
        other.decode_into(&mut right);
        left.arcs() == right.arcs()
    }
}

impl Eq for TrapOid<'_> {}

impl fmt::Display for TrapOid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut arcs = OidArray::default();
        self.decode_into(&mut arcs);
        OidRef(arcs.arcs()).fmt(f)
    }
}

impl fmt::Debug for TrapOid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Decodes a PDU that was kept from a message ([`super::CommunityMessage::pdu`]): tag, length and
/// contents, with nothing behind. Gives the very notification that [`super::decode`] gave.
///
/// # Errors
/// As [`super::decode`], with offsets counted from the PDU's tag; octets behind the PDU are
/// [`DecodeErrorKind::TrailingOctets`].
pub fn decode_pdu(version: Version, pdu: &[u8]) -> Result<Notification<'_>, DecodeError> {
    let mut reader = Reader::new(pdu)?;
    let element = reader.read()?;
    reader.finish()?;
    notification(version, element)
}

/// The notification of a PDU's element in a message of `version`.
#[inline]
pub(super) fn notification(version: Version, element: Tlv<'_>) -> Result<Notification<'_>, DecodeError> {
    match (element.tag, version) {
        (ber::pdu::TRAP_V2, Version::V2c | Version::V3) => v2(Kind::Trap, element),
        (ber::pdu::INFORM, Version::V2c | Version::V3) => v2(Kind::Inform, element),
        (ber::pdu::TRAP_V1, Version::V1) => v1(element),
        (ber::pdu::TRAP_V1 | ber::pdu::INFORM | ber::pdu::TRAP_V2, _) => {
            Err(element.fail(DecodeErrorKind::PduNotOfVersion))
        }
        (ber::pdu::GET..=ber::pdu::REPORT, _) => Err(element.fail(DecodeErrorKind::NotANotification)),
        _ => Err(element.fail(DecodeErrorKind::UnexpectedTag)),
    }
}

#[inline]
fn v2(kind: Kind, element: Tlv<'_>) -> Result<Notification<'_>, DecodeError> {
    let mut reader = element.reader();
    let request_id = reader.integer()?;
    let _error_status = reader.integer()?;
    let _error_index = reader.integer()?;
    let list = reader.read_as(ber::SEQUENCE)?;
    reader.finish()?;
    let found = scan(list)?;
    Ok(Notification {
        kind,
        request_id,
        uptime: found.uptime,
        trap_oid: TrapOid(Form::Sent(found.trap_oid(list)?)),
        varbinds: found.payload(true),
        agent_addr: None,
        trap_address: found.trap_address,
        enterprise: found.trap_enterprise,
        all: found.all(),
    })
}

#[inline]
fn v1(element: Tlv<'_>) -> Result<Notification<'_>, DecodeError> {
    let mut reader = element.reader();
    let enterprise_element = reader.read_as(ber::OBJECT_IDENTIFIER)?;
    let enterprise = enterprise_element.oid()?;
    let agent_addr = reader.read_as(ber::IP_ADDRESS)?.address()?;
    let generic = reader.read_as(ber::INTEGER)?;
    let specific = reader.read_as(ber::INTEGER)?;
    let trap_oid = TrapOid::from_v1(
        enterprise,
        enterprise_element,
        (generic.signed()?, generic),
        (specific.signed()?, specific),
    )?;
    let uptime = timestamp(reader.read()?)?;
    let list = reader.read_as(ber::SEQUENCE)?;
    reader.finish()?;
    let found = scan(list)?;
    Ok(Notification {
        kind: Kind::Trap,
        request_id: 0,
        uptime: Some(uptime),
        trap_oid,
        varbinds: found.payload(false),
        agent_addr: Some(agent_addr),
        trap_address: found.trap_address,
        enterprise: Some(enterprise),
        all: found.all(),
    })
}

fn timestamp(element: Tlv<'_>) -> Result<u32, DecodeError> {
    match element.tag {
        ber::TIME_TICKS => element.unsigned32(),
        ber::INTEGER => {
            u32::try_from(element.signed()?).map_err(|_| element.fail(DecodeErrorKind::BadTimestamp))
        }
        _ => Err(element.fail(DecodeErrorKind::BadTimestamp)),
    }
}
