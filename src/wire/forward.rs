//! Sending a received notification on to another receiver, as a proxy does (RFC 3413 section 3.5, RFC 3584
//! section 3.1). What was kept of a notification is its PDU: the message around it is made anew.

use super::ber;
use super::encode::{Done, message, nested, oid, pdu, primitive, unsigned, whole, write_value};
use super::error::EncodeError;
use super::pdu::Notification;
use super::varbind::names;
use super::{MAX_VARBINDS, Varbind};
use crate::oid::OidArray;
use crate::value::Value;
use crate::version::Version;

/// What a translation adds to a notification. Its Debug is not there: the community is a secret.
#[derive(Clone, Copy)]
pub struct Forwarded<'a> {
    /// The community of the new message. It also becomes snmpTrapCommunity.0 of a translated SNMPv1 trap.
    pub community: &'a [u8],
    /// The request-id of a notification that has none (SNMPv1).
    pub request_id: i32,
    /// The device, where neither an SNMPv1 agent-addr nor snmpTrapAddress.0 says it. `None` for IPv6, which
    /// snmpTrapAddress cannot hold.
    pub device: Option<[u8; 4]>,
}

/// Appends to `out` one message of `version` with `community` around `kept`, the PDU of a trap or an inform as it was
/// received. Its octets stay as they are, but for an inform's tag: it becomes a trap, since it was answered here.
///
/// # Errors
/// [`EncodeError::Version`] for SNMPv3, whose message is bound to its engine and keys; [`EncodeError::NotANotification`];
/// [`EncodeError::TooLong`]; `out` is then as it was.
pub fn encode_as_received(
    version: Version,
    community: &[u8],
    kept: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let (tag, rest) = kept.split_first().ok_or(EncodeError::NotANotification)?;
    let tag = match *tag {
        ber::pdu::INFORM => ber::pdu::TRAP_V2,
        tag @ (ber::pdu::TRAP_V1 | ber::pdu::TRAP_V2) => tag,
        _ => return Err(EncodeError::NotANotification),
    };
    whole(out, |out| {
        message(version, community, out, |out| {
            out.push(tag);
            out.extend_from_slice(rest);
            Ok(())
        })
    })
}

/// Appends `notification` of any version to `out` as an SNMPv2c trap: sysUpTime.0 (0 where the sender left it out),
/// snmpTrapOID.0, the varbinds, and what is not among them already of
/// * snmpTrapAddress.0: an SNMPv1 trap's agent-addr unless that is 0.0.0.0, else the device;
/// * for an SNMPv1 trap, snmpTrapCommunity.0 and snmpTrapEnterprise.0 (RFC 3584 section 3.1 (4)).
///
/// A snmpTrapCommunity.0 that came in is left out: it is a secret of its sender.
///
/// # Errors
/// [`EncodeError::Oid`], [`EncodeError::TooManyVarbinds`], [`EncodeError::TooLong`]; `out` is then as it was.
pub fn encode_translated(
    notification: &Notification<'_>,
    forwarded: &Forwarded<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let is_v1 = notification.agent_addr.is_some();
    let address = notification.agent_addr.filter(|address| *address != [0; 4]).or(forwarded.device);
    let enterprise = notification.enterprise.filter(|_| is_v1).map(Value::Oid);
    let added = [
        (names::SNMP_TRAP_ADDRESS, address.map(Value::IpAddress)),
        (names::SNMP_TRAP_COMMUNITY, is_v1.then_some(Value::Octets(forwarded.community))),
        (names::SNMP_TRAP_ENTERPRISE, enterprise),
    ];
    let added = added.into_iter().filter_map(|(name, value)| {
        value.filter(|_| notification.varbinds.find(name).is_none()).map(|value| (name, value))
    });
    let request_id = if is_v1 { forwarded.request_id } else { notification.request_id };
    let mut trap = OidArray::default();
    notification.trap_oid.decode_into(&mut trap);
    whole(out, |out| {
        message(Version::V2c, forwarded.community, out, |out| {
            pdu(ber::pdu::TRAP_V2, request_id, out, |out| {
                nested(ber::SEQUENCE, out, |out| {
                    primitive(ber::OBJECT_IDENTIFIER, names::SYS_UP_TIME, out)?;
                    unsigned(ber::TIME_TICKS, notification.uptime.unwrap_or(0).into(), out)
                })?;
                nested(ber::SEQUENCE, out, |out| {
                    primitive(ber::OBJECT_IDENTIFIER, names::SNMP_TRAP_OID, out)?;
                    oid(trap.arcs(), out)
                })?;
                let sent = notification.varbinds.iter().map(|Varbind { name, value }| (name.octets(), value));
                let mut number = 2;
                for (name, value) in sent.chain(added) {
                    number += 1;
                    if number > MAX_VARBINDS {
                        return Err(EncodeError::TooManyVarbinds);
                    }
                    varbind(name, value, out)?;
                }
                Ok(())
            })
        })
    })
}

fn varbind(name: &[u8], value: Value<'_>, out: &mut Vec<u8>) -> Done {
    nested(ber::SEQUENCE, out, |out| {
        primitive(ber::OBJECT_IDENTIFIER, name, out)?;
        write_value(value, out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oid::OidRef;
    use crate::wire::{Kind, Message, V1Trap, V2Notification, decode, encode_v1, encode_v2c};

    const COLD: &[u32] = &[1, 3, 6, 1, 4, 1, 9, 9, 1];

    fn v1(agent_addr: [u8; 4], generic: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let trap = V1Trap {
            community: b"theirs",
            enterprise: OidRef(COLD),
            agent_addr,
            generic,
            specific: 17,
            uptime: 4711,
            varbinds: &[(OidRef(COLD), Value::Integer(-3))],
        };
        encode_v1(&trap, &mut out).unwrap();
        out
    }

    fn v2(kind: Kind) -> Vec<u8> {
        let mut out = Vec::new();
        let notification = V2Notification {
            community: b"theirs",
            kind,
            request_id: 77,
            uptime: 5,
            trap_oid: OidRef(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 3]),
            varbinds: &[(OidRef(COLD), Value::Counter64(1 << 40))],
        };
        encode_v2c(&notification, &mut out).unwrap();
        out
    }

    fn community(octets: &[u8]) -> crate::wire::CommunityMessage<'_> {
        match decode(octets).unwrap() {
            Message::Community(message) => message,
            Message::V3(_) => panic!("no v3 here"),
        }
    }

    const OURS: Forwarded<'_> =
        Forwarded { community: b"ours", request_id: 12, device: Some([192, 0, 2, 1]) };

    fn translated(octets: &[u8]) -> Vec<u8> {
        let mut out = vec![9];
        encode_translated(&community(octets).notification, &OURS, &mut out).unwrap();
        assert_eq!(out.remove(0), 9, "it appends");
        out
    }

    #[test]
    fn a_v1_trap_is_translated_as_rfc_3584_says() {
        for (agent_addr, address) in [([10, 1, 2, 3], [10, 1, 2, 3]), ([0; 4], [192, 0, 2, 1])] {
            let octets = translated(&v1(agent_addr, 6));
            let message = community(&octets);
            assert_eq!((message.version, message.community), (Version::V2c, &b"ours"[..]));
            let trap = message.notification;
            assert_eq!((trap.kind, trap.request_id, trap.uptime), (Kind::Trap, 12, Some(4711)));
            assert_eq!(trap.trap_oid.to_string(), "1.3.6.1.4.1.9.9.1.0.17");
            let all: Vec<_> = trap.all_varbinds().iter().skip(2).collect();
            assert_eq!((all[0].name.to_oid().arcs(), all[0].value), (COLD, Value::Integer(-3)));
            assert_eq!(
                all[1..].iter().map(|varbind| varbind.name.octets()).collect::<Vec<_>>(),
                [names::SNMP_TRAP_ADDRESS, names::SNMP_TRAP_COMMUNITY, names::SNMP_TRAP_ENTERPRISE]
            );
            assert_eq!(trap.trap_address, Some(address));
            assert_eq!(all[2].value, Value::Octets(b"ours"));
            assert_eq!(trap.enterprise.unwrap().to_oid().arcs(), COLD);
            // Once more it says the same: what is there already is not added.
            let again = translated(&octets);
            let again = community(&again).notification;
            assert_eq!(again.trap_address, Some(address));
            assert_eq!(
                again.all_varbinds().len(),
                trap.all_varbinds().len() - 1,
                "no community of ours twice"
            );
        }
        let octets = translated(&v1([10, 1, 2, 3], 2));
        assert_eq!(community(&octets).notification.trap_oid.to_string(), "1.3.6.1.6.3.1.1.5.3");
    }

    #[test]
    fn an_inform_becomes_a_trap_that_names_the_device() {
        let octets = translated(&v2(Kind::Inform));
        let trap = community(&octets).notification;
        assert_eq!((trap.kind, trap.request_id, trap.uptime), (Kind::Trap, 77, Some(5)));
        assert_eq!(trap.trap_address, Some([192, 0, 2, 1]));
        let all: Vec<_> = trap.all_varbinds().iter().map(|varbind| varbind.value).collect();
        assert_eq!(all[2..], [Value::Counter64(1 << 40), Value::IpAddress([192, 0, 2, 1])]);
    }

    #[test]
    fn as_received_only_the_community_differs() {
        for octets in [v1([10, 1, 2, 3], 6), v2(Kind::Trap), v2(Kind::Inform)] {
            let received = community(&octets);
            let mut out = Vec::new();
            encode_as_received(received.version, b"ours", received.pdu, &mut out).unwrap();
            let sent = community(&out);
            assert_eq!((sent.version, sent.community), (received.version, &b"ours"[..]));
            assert_eq!(sent.pdu[1..], received.pdu[1..]);
            assert_eq!(sent.notification.kind, Kind::Trap);
        }
    }

    #[test]
    fn what_cannot_be_sent_on_is_refused_and_appends_nothing() {
        let octets = v2(Kind::Trap);
        let kept = community(&octets).pdu;
        let mut out = vec![1];
        let refused = encode_as_received(Version::V3, b"ours", kept, &mut out);
        assert!(matches!(refused, Err(EncodeError::Version)));
        for other in [&[][..], &[0xa2, 0], &[0x30, 0]] {
            let refused = encode_as_received(Version::V2c, b"ours", other, &mut out);
            assert!(matches!(refused, Err(EncodeError::NotANotification)));
        }
        let long = [&[ber::pdu::TRAP_V2][..], &[0; 65_530]].concat();
        let refused = encode_as_received(Version::V2c, b"ours", &long, &mut out);
        assert!(matches!(refused, Err(EncodeError::TooLong)));
        assert_eq!(out, [1]);
    }
}
