//! The way back: SNMPv1 traps, SNMPv2c traps and informs, and the Response to an inform, into a
//! buffer of the caller. Lengths are minimal. For `nereus send`, its load generator, and answers.

use super::ber;
use super::error::EncodeError;
use super::pdu::{Kind, Notification};
use super::varbind::names;
use super::{MAX_MESSAGE_SIZE, MAX_VARBINDS};
use crate::oid::{self, OidRef};
use crate::value::Value;
use crate::version::Version;

/// A varbind to send.
pub type OutgoingVarbind<'a> = (OidRef<'a>, Value<'a>);

/// An SNMPv1 trap to send (RFC 1157 section 4.1.6). Its Debug is not there: the community is a secret.
#[derive(Clone, Copy)]
pub struct V1Trap<'a> {
    /// The community.
    pub community: &'a [u8],
    /// enterprise.
    pub enterprise: OidRef<'a>,
    /// agent-addr, in network order.
    pub agent_addr: [u8; 4],
    /// generic-trap, 0 to 6.
    pub generic: u8,
    /// specific-trap, at most 2^31-1.
    pub specific: u32,
    /// time-stamp, in hundredths of a second.
    pub uptime: u32,
    /// variable-bindings.
    pub varbinds: &'a [OutgoingVarbind<'a>],
}

/// An SNMPv2 trap or inform to send (RFC 3416 sections 4.2.6 and 4.2.7). sysUpTime.0 and
/// snmpTrapOID.0 are put before `varbinds`. Its Debug is not there: the community is a secret.
#[derive(Clone, Copy)]
pub struct V2Notification<'a> {
    /// The community.
    pub community: &'a [u8],
    /// Trap or inform.
    pub kind: Kind,
    /// The request-id, by which a Response is known.
    pub request_id: i32,
    /// The value of sysUpTime.0, in hundredths of a second.
    pub uptime: u32,
    /// The value of snmpTrapOID.0.
    pub trap_oid: OidRef<'a>,
    /// What follows.
    pub varbinds: &'a [OutgoingVarbind<'a>],
}

/// Appends `trap` to `out` as one SNMPv1 message.
///
/// # Errors
/// [`EncodeError::TrapNumber`], [`EncodeError::Oid`], [`EncodeError::TooManyVarbinds`],
/// [`EncodeError::TooLong`]; `out` is then as it was.
pub fn encode_v1(trap: &V1Trap<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if trap.generic > 6 || trap.specific > i32::MAX as u32 {
        return Err(EncodeError::TrapNumber);
    }
    whole(out, |out| {
        message(Version::V1, trap.community, out, |out| {
            nested(ber::pdu::TRAP_V1, out, |out| {
                oid(trap.enterprise.0, out)?;
                primitive(ber::IP_ADDRESS, &trap.agent_addr, out)?;
                signed(i64::from(trap.generic), out)?;
                signed(i64::from(trap.specific), out)?;
                unsigned(ber::TIME_TICKS, trap.uptime.into(), out)?;
                nested(ber::SEQUENCE, out, |out| varbinds(trap.varbinds, 0, out))
            })
        })
    })
}

/// Appends `notification` to `out` as one SNMPv2c message.
///
/// # Errors
/// [`EncodeError::Oid`], [`EncodeError::TooManyVarbinds`], [`EncodeError::TooLong`]; `out` is then
/// as it was.
pub fn encode_v2c(notification: &V2Notification<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let V2Notification { community, kind, request_id, uptime, trap_oid, varbinds } = *notification;
    whole(out, |out| {
        message(Version::V2c, community, out, |out| {
            notification_pdu(kind, request_id, uptime, trap_oid, varbinds, out)
        })
    })
}

/// SNMPv2-Trap-PDU or InformRequest-PDU.
pub(super) fn notification_pdu(
    kind: Kind,
    request_id: i32,
    uptime: u32,
    trap_oid: OidRef<'_>,
    list: &[OutgoingVarbind<'_>],
    out: &mut Vec<u8>,
) -> Done {
    let tag = match kind {
        Kind::Trap => ber::pdu::TRAP_V2,
        Kind::Inform => ber::pdu::INFORM,
    };
    pdu(tag, request_id, out, |out| {
        nested(ber::SEQUENCE, out, |out| {
            primitive(ber::OBJECT_IDENTIFIER, names::SYS_UP_TIME, out)?;
            unsigned(ber::TIME_TICKS, uptime.into(), out)
        })?;
        nested(ber::SEQUENCE, out, |out| {
            primitive(ber::OBJECT_IDENTIFIER, names::SNMP_TRAP_OID, out)?;
            oid(trap_oid.0, out)
        })?;
        varbinds(list, 2, out)
    })
}

/// The Response-PDU to an inform.
pub(super) fn response_pdu(version: Version, inform: &Notification<'_>, out: &mut Vec<u8>) -> Done {
    if inform.kind != Kind::Inform {
        return Err(EncodeError::NotAnInform);
    }
    if version == Version::V1 {
        return Err(EncodeError::Version);
    }
    pdu(ber::pdu::RESPONSE, inform.request_id, out, |out| {
        out.extend_from_slice(inform.all_varbinds().octets());
        Ok(())
    })
}

/// A Report-PDU with one counter.
pub(super) fn report_pdu(request_id: i32, counter: OidRef<'_>, value: u32, out: &mut Vec<u8>) -> Done {
    pdu(ber::pdu::REPORT, request_id, out, |out| varbinds(&[(counter, Value::Counter32(value))], 0, out))
}

/// A GetRequest-PDU without varbinds.
pub(super) fn get_pdu(request_id: i32, out: &mut Vec<u8>) -> Done {
    pdu(ber::pdu::GET, request_id, out, |_| Ok(()))
}

/// A PDU of RFC 3416 without an error, with the varbinds that `list` writes.
pub(super) fn pdu(
    tag: u8,
    request_id: i32,
    out: &mut Vec<u8>,
    list: impl FnOnce(&mut Vec<u8>) -> Done,
) -> Done {
    nested(tag, out, |out| {
        signed(request_id.into(), out)?;
        signed(0, out)?;
        signed(0, out)?;
        nested(ber::SEQUENCE, out, list)
    })
}

/// Appends to `out` the Response to `inform`, which came in an SNMPv2c message with `community`:
/// the same request-id and varbinds, no error (RFC 3416 section 4.2.7).
///
/// # Errors
/// [`EncodeError::NotAnInform`], [`EncodeError::Version`] for anything but SNMPv2c,
/// [`EncodeError::TooLong`]; `out` is then as it was.
pub fn encode_response(
    version: Version,
    community: &[u8],
    inform: &Notification<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if version == Version::V3 {
        return Err(EncodeError::Version);
    }
    whole(out, |out| message(version, community, out, |out| response_pdu(version, inform, out)))
}

pub(super) type Done = Result<(), EncodeError>;

/// All of what `write` appends, or nothing.
pub(super) fn whole(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Done) -> Done {
    let before = out.len();
    let done = write(out).and_then(|()| {
        if out.len() - before > MAX_MESSAGE_SIZE { Err(EncodeError::TooLong) } else { Ok(()) }
    });
    if done.is_err() {
        out.truncate(before);
    }
    done
}

pub(super) fn message(
    version: Version,
    community: &[u8],
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Done,
) -> Done {
    let number = match version {
        Version::V1 => 0,
        Version::V2c => 1,
        Version::V3 => return Err(EncodeError::Version),
    };
    nested(ber::SEQUENCE, out, |out| {
        signed(number, out)?;
        primitive(ber::OCTET_STRING, community, out)?;
        write(out)
    })
}

/// An element whose contents `write` appends. The header is put before them afterwards, when their
/// length is known: moving a hundred octets costs less than measuring everything first.
pub(super) fn nested(tag: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Done) -> Done {
    let start = out.len();
    write(out)?;
    let (header, used) = header(tag, out.len() - start)?;
    out.splice(start..start, header[..used].iter().copied());
    Ok(())
}

pub(super) fn primitive(tag: u8, contents: &[u8], out: &mut Vec<u8>) -> Done {
    let (header, used) = header(tag, contents.len())?;
    out.extend_from_slice(&header[..used]);
    out.extend_from_slice(contents);
    Ok(())
}

/// Tag and minimal length, and how many octets they take.
fn header(tag: u8, length: usize) -> Result<([u8; 4], usize), EncodeError> {
    let length = u16::try_from(length).map_err(|_| EncodeError::TooLong)?;
    let [high, low] = length.to_be_bytes();
    Ok(match length {
        0..0x80 => ([tag, low, 0, 0], 2),
        0x80..0x100 => ([tag, 0x81, low, 0], 3),
        _ => ([tag, 0x82, high, low], 4),
    })
}

pub(super) fn signed(value: i64, out: &mut Vec<u8>) -> Done {
    let octets = value.to_be_bytes();
    // An octet may go while the next one still says the sign.
    let spare = octets.windows(2).take_while(|pair| match pair[0] {
        0 => pair[1] & 0x80 == 0,
        0xff => pair[1] & 0x80 != 0,
        _ => false,
    });
    let spare = spare.count();
    primitive(ber::INTEGER, &octets[spare..], out)
}

pub(super) fn unsigned(tag: u8, value: u64, out: &mut Vec<u8>) -> Done {
    let mut octets = [0; 9];
    octets[1..].copy_from_slice(&value.to_be_bytes());
    // One zero octet stays where the next one's first bit would read as a sign.
    let spare = octets.windows(2).take_while(|pair| pair[0] == 0 && pair[1] & 0x80 == 0).count();
    primitive(tag, &octets[spare..], out)
}

pub(super) fn oid(arcs: &[u32], out: &mut Vec<u8>) -> Done {
    let start = out.len();
    oid::encode(arcs, out)?;
    let (header, used) = header(ber::OBJECT_IDENTIFIER, out.len() - start)?;
    out.splice(start..start, header[..used].iter().copied());
    Ok(())
}

/// `before` counts the varbinds that already stand in the list.
fn varbinds(varbinds: &[OutgoingVarbind<'_>], before: usize, out: &mut Vec<u8>) -> Done {
    if varbinds.len() > MAX_VARBINDS - before {
        return Err(EncodeError::TooManyVarbinds);
    }
    let start = out.len();
    for (name, value) in varbinds {
        nested(ber::SEQUENCE, out, |out| {
            oid(name.0, out)?;
            write_value(*value, out)
        })?;
        // Here, so that a long list cannot grow the buffer far past what a message may hold.
        if out.len() - start > MAX_MESSAGE_SIZE {
            return Err(EncodeError::TooLong);
        }
    }
    Ok(())
}

pub(super) fn write_value(value: Value<'_>, out: &mut Vec<u8>) -> Done {
    match value {
        Value::Integer(value) => signed(value.into(), out),
        Value::Octets(octets) => primitive(ber::OCTET_STRING, octets, out),
        Value::Oid(oid) => primitive(ber::OBJECT_IDENTIFIER, oid.octets(), out),
        Value::IpAddress(address) => primitive(ber::IP_ADDRESS, &address, out),
        Value::Counter32(value) => unsigned(ber::COUNTER32, value.into(), out),
        Value::Unsigned32(value) => unsigned(ber::GAUGE32, value.into(), out),
        Value::TimeTicks(value) => unsigned(ber::TIME_TICKS, value.into(), out),
        Value::Opaque(octets) => primitive(ber::OPAQUE, octets, out),
        Value::Counter64(value) => unsigned(ber::COUNTER64, value, out),
        Value::Null => primitive(ber::NULL, &[], out),
        Value::NoSuchObject => primitive(ber::NO_SUCH_OBJECT, &[], out),
        Value::NoSuchInstance => primitive(ber::NO_SUCH_INSTANCE, &[], out),
        Value::EndOfMibView => primitive(ber::END_OF_MIB_VIEW, &[], out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oid::{EncodedOid, Oid};
    use crate::wire::{Message, decode};
    use proptest::prelude::*;

    /// A value that owns its octets.
    #[derive(Debug, Clone)]
    enum Owned {
        Fixed(Value<'static>),
        Octets(Vec<u8>),
        Opaque(Vec<u8>),
        Oid(Vec<u8>),
    }

    impl Owned {
        fn value(&self) -> Value<'_> {
            match self {
                Self::Fixed(value) => *value,
                Self::Octets(octets) => Value::Octets(octets),
                Self::Opaque(octets) => Value::Opaque(octets),
                Self::Oid(octets) => Value::Oid(EncodedOid::new(octets).unwrap()),
            }
        }
    }

    fn arcs(most: usize) -> impl Strategy<Value = Vec<u32>> {
        let rest = prop::collection::vec(prop_oneof![0u32..300, any::<u32>()], 0..most - 1);
        (0u32..3, any::<u32>(), rest).prop_map(|(root, second, rest)| {
            let second = if root < 2 { second % 40 } else { second };
            [root, second].into_iter().chain(rest).collect()
        })
    }

    fn owned() -> impl Strategy<Value = Owned> {
        let octets = || prop::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            any::<i32>().prop_map(|v| Owned::Fixed(Value::Integer(v))),
            any::<u32>().prop_map(|v| Owned::Fixed(Value::Counter32(v))),
            any::<u32>().prop_map(|v| Owned::Fixed(Value::Unsigned32(v))),
            any::<u32>().prop_map(|v| Owned::Fixed(Value::TimeTicks(v))),
            any::<u64>().prop_map(|v| Owned::Fixed(Value::Counter64(v))),
            (0u32..64, any::<u64>()).prop_map(|(by, v)| Owned::Fixed(Value::Counter64(v >> by))),
            (0u32..32, any::<i32>()).prop_map(|(by, v)| Owned::Fixed(Value::Integer(v >> by))),
            any::<[u8; 4]>().prop_map(|v| Owned::Fixed(Value::IpAddress(v))),
            prop::sample::select(vec![
                Value::Null,
                Value::NoSuchObject,
                Value::NoSuchInstance,
                Value::EndOfMibView
            ])
            .prop_map(Owned::Fixed),
            octets().prop_map(Owned::Octets),
            octets().prop_map(Owned::Opaque),
            arcs(128).prop_map(|arcs| {
                let mut octets = Vec::new();
                oid::encode(&arcs, &mut octets).unwrap();
                Owned::Oid(octets)
            }),
        ]
    }

    fn list() -> impl Strategy<Value = Vec<(Oid, Owned)>> {
        let name = arcs(128).prop_map(|arcs| Oid::new(arcs).unwrap());
        prop::collection::vec((name, owned()), 0..20)
    }

    fn read(octets: &[u8]) -> Result<crate::wire::CommunityMessage<'_>, TestCaseError> {
        match decode(octets) {
            Ok(Message::Community(message)) => Ok(message),
            other => Err(TestCaseError::fail(format!("{other:?}"))),
        }
    }

    fn same(sent: &[OutgoingVarbind<'_>], read: &Notification<'_>) -> Result<(), TestCaseError> {
        prop_assert_eq!(read.varbinds.len(), sent.len());
        for (read, (name, value)) in read.varbinds.iter().zip(sent) {
            prop_assert!(read.name.arcs().eq(name.0.iter().copied()));
            prop_assert_eq!(read.value, *value);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn v2c_round_trips(
            community in prop::collection::vec(any::<u8>(), 0..200), inform: bool, request_id: i32,
            uptime: u32, trap_oid in arcs(128), list in list()
        ) {
            let varbinds: Vec<_> = list.iter().map(|(name, value)| (name.borrow(), value.value())).collect();
            let kind = if inform { Kind::Inform } else { Kind::Trap };
            let sent = V2Notification {
                community: &community, kind, request_id, uptime, trap_oid: OidRef(&trap_oid), varbinds: &varbinds,
            };
            let mut octets = Vec::new();
            encode_v2c(&sent, &mut octets).unwrap();
            let message = read(&octets)?;
            prop_assert_eq!(message.version, Version::V2c);
            prop_assert_eq!(message.community, &community);
            prop_assert_eq!(message.notification.kind, kind);
            prop_assert_eq!(message.notification.request_id, request_id);
            prop_assert_eq!(message.notification.uptime, Some(uptime));
            let sent_as = message.notification.trap_oid.to_oid();
            prop_assert_eq!(sent_as.arcs(), &trap_oid);
            same(&varbinds, &message.notification)?;
        }

        #[test]
        fn v1_round_trips(
            enterprise in arcs(126), agent_addr: [u8; 4], generic in 0u8..7, specific in 0..=i32::MAX as u32,
            uptime: u32, list in list()
        ) {
            let varbinds: Vec<_> = list.iter().map(|(name, value)| (name.borrow(), value.value())).collect();
            let sent = V1Trap {
                community: b"public", enterprise: OidRef(&enterprise), agent_addr, generic, specific, uptime,
                varbinds: &varbinds,
            };
            let mut octets = Vec::new();
            encode_v1(&sent, &mut octets).unwrap();
            let message = read(&octets)?;
            prop_assert_eq!(message.notification.agent_addr, Some(agent_addr));
            prop_assert_eq!(message.notification.uptime, Some(uptime));
            let mapped = message.notification.trap_oid.to_oid();
            if generic == 6 {
                prop_assert_eq!(mapped.arcs(), [&enterprise[..], &[0, specific]].concat());
            } else {
                prop_assert_eq!(mapped.arcs(), [1, 3, 6, 1, 6, 3, 1, 1, 5, u32::from(generic) + 1]);
            }
            same(&varbinds, &message.notification)?;
        }
    }

    #[test]
    fn integers_take_the_fewest_octets() {
        let octets = |value| {
            let mut out = Vec::new();
            signed(value, &mut out).unwrap();
            out.split_off(2)
        };
        for (value, expected) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0, 0x80]),
            (-1, &[0xff]),
            (-128, &[0x80]),
            (-129, &[0xff, 0x7f]),
            (i64::from(i32::MIN), &[0x80, 0, 0, 0]),
        ] {
            assert_eq!(octets(value), expected, "{value}");
        }
    }
}
