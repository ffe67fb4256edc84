//! What has to be true of the decoder for any octets at all. Used by the tests of the wire and by
//! the fuzz target `wire_decode`.

use nereus::oid::{OidArray, OidRef};
use nereus::value::Value;
use nereus::wire::{
    self, CommunityMessage, DecodeError, EncodeError, Kind, MAX_VARBINDS, Message, Notification, ScopedData,
    V1Trap, V2Notification, Varbind, Varbinds, Version, names,
};

/// Decodes `datagram` and holds the outcome against every promise of [`wire::decode`].
pub(crate) fn check(datagram: &[u8]) -> Result<Message<'_>, DecodeError> {
    let decoded = wire::decode(datagram);
    match &decoded {
        Err(error) => {
            assert!(error.offset as usize <= datagram.len(), "{error} in {} octets", datagram.len());
        }
        Ok(Message::Community(message)) => community(datagram, message),
        Ok(Message::V3(header)) => {
            let security = &header.security;
            assert_eq!(header.message, datagram);
            assert!(format!("{header:?}").len() < 4_096, "a Debug that grows with the datagram");
            let at = security.authentication_offset as usize;
            assert_eq!(&datagram[at..at + security.authentication.len()], security.authentication);
            assert!(header.flags.authenticated || !header.flags.private);
            assert!(security.boots <= i32::MAX as u32 && security.time <= i32::MAX as u32);
            for slice in [security.engine_id, security.user, security.authentication, security.privacy] {
                within(datagram, slice);
            }
            match header.data {
                ScopedData::Encrypted(octets) => within(datagram, octets),
                ScopedData::Plain(scoped) => {
                    within(datagram, scoped.pdu);
                    if let Ok(notification) = wire::decode_pdu(Version::V3, scoped.pdu) {
                        walk(&notification);
                    }
                }
            }
        }
    }
    decoded
}

fn community(datagram: &[u8], message: &CommunityMessage<'_>) {
    within(datagram, message.community);
    within(datagram, message.pdu);
    walk(&message.notification);
    let again = wire::decode_pdu(message.version, message.pdu).expect("the kept PDU decodes again");
    same(&message.notification, &again, true);
    let shown = format!("{message:?}");
    assert!(shown.len() < 4_096, "a Debug that grows with the datagram: {} octets", shown.len());
    encoded_again(message);
}

fn within(outer: &[u8], inner: &[u8]) {
    assert!(outer.as_ptr_range().start <= inner.as_ptr_range().start);
    assert!(inner.as_ptr_range().end <= outer.as_ptr_range().end);
}

/// That both walks yield as many varbinds as they say, that the payload is what it promises to be.
fn walk(notification: &Notification<'_>) {
    let (payload, all) = (notification.varbinds, notification.all_varbinds());
    for varbinds in [payload, all] {
        assert_eq!(varbinds.iter().len(), varbinds.len());
        assert_eq!(varbinds.iter().count(), varbinds.len());
        assert!(varbinds.len() <= MAX_VARBINDS);
    }
    let secret = |varbind: &Varbind<'_>| varbind.name.octets() == names::SNMP_TRAP_COMMUNITY;
    assert!(!payload.iter().any(|varbind| secret(&varbind)));

    // The naive way to the payload: all varbinds, less the ones that the promises name.
    let mut expected: Vec<Varbind<'_>> = all.iter().filter(|varbind| !secret(varbind)).collect();
    if notification.agent_addr.is_none() {
        for (name, spoken_for) in
            [(names::SYS_UP_TIME, notification.uptime.is_some()), (names::SNMP_TRAP_OID, true)]
        {
            if spoken_for {
                let at = expected.iter().position(|varbind| varbind.name.octets() == name);
                expected.remove(at.expect("it came from somewhere"));
            }
        }
    }
    assert!(payload.iter().eq(expected));

    let mut arcs = OidArray::default();
    notification.trap_oid.decode_into(&mut arcs);
    assert!((2..=128).contains(&arcs.arcs().len()));
    assert_eq!(notification.trap_oid.to_oid().arcs(), arcs.arcs());
}

/// That two notifications say the same; `exactly` also in what a new encoding may change.
fn same(left: &Notification<'_>, right: &Notification<'_>, exactly: bool) {
    assert_eq!(left.kind, right.kind);
    assert_eq!(left.request_id, right.request_id);
    assert_eq!(left.trap_oid, right.trap_oid);
    assert_eq!(left.agent_addr, right.agent_addr);
    assert!(left.varbinds.iter().eq(right.varbinds.iter()));
    assert_eq!(left.uptime.unwrap_or(0), right.uptime.unwrap_or(0));
    if exactly {
        assert_eq!(left.uptime, right.uptime);
        assert_eq!(left.enterprise, right.enterprise);
        assert_eq!(left.trap_address, right.trap_address);
        assert!(left.all_varbinds().iter().eq(right.all_varbinds().iter()));
    }
}

/// That what was decoded can be encoded, and says the same then.
fn encoded_again(message: &CommunityMessage<'_>) {
    let notification = &message.notification;
    let owned = owned(notification.varbinds);
    let varbinds: Vec<_> = owned.iter().map(|(name, value)| (OidRef(name), *value)).collect();
    let mut octets = Vec::new();
    let encoded = match (message.version, notification.agent_addr) {
        (Version::V1, Some(agent_addr)) => {
            let enterprise: Vec<u32> = notification.enterprise.expect("SNMPv1 has one").arcs().collect();
            let trap_oid = notification.trap_oid.to_oid();
            let (generic, specific) = match trap_oid.arcs() {
                [1, 3, 6, 1, 6, 3, 1, 1, 5, last @ 1..=6] if !specific_of(&enterprise, trap_oid.arcs()) => {
                    (*last as u8 - 1, 0)
                }
                arcs => (6, *arcs.last().expect("never empty")),
            };
            wire::encode_v1(
                &V1Trap {
                    community: message.community,
                    enterprise: OidRef(&enterprise),
                    agent_addr,
                    generic,
                    specific,
                    uptime: notification.uptime.expect("SNMPv1 has one"),
                    varbinds: &varbinds,
                },
                &mut octets,
            )
        }
        _ => wire::encode_v2c(
            &V2Notification {
                community: message.community,
                kind: notification.kind,
                request_id: notification.request_id,
                uptime: notification.uptime.unwrap_or(0),
                trap_oid: notification.trap_oid.to_oid().borrow(),
                varbinds: &varbinds,
            },
            &mut octets,
        ),
    };
    match encoded {
        // A new sysUpTime.0 may be the one varbind, or the octets, too many.
        Err(EncodeError::TooManyVarbinds | EncodeError::TooLong) => assert!(octets.is_empty()),
        Err(error) => panic!("{error} for {message:?}"),
        Ok(()) => match wire::decode(&octets) {
            Ok(Message::Community(again)) => {
                assert_eq!(again.community, message.community);
                same(notification, &again.notification, false);
            }
            other => panic!("{other:?} for what encodes {message:?}"),
        },
    }
    let mut response = Vec::new();
    let answered = wire::encode_response(message.version, message.community, notification, &mut response);
    match notification.kind {
        Kind::Trap => assert_eq!(answered, Err(EncodeError::NotAnInform)),
        Kind::Inform => {
            answered.expect("a Response is no longer than its inform");
            assert_eq!(
                wire::decode(&response).expect_err("a Response is none").kind,
                wire::DecodeErrorKind::NotANotification
            );
        }
    }
}

fn specific_of(enterprise: &[u32], trap_oid: &[u32]) -> bool {
    trap_oid.len() == enterprise.len() + 2
        && trap_oid.starts_with(enterprise)
        && trap_oid[enterprise.len()] == 0
}

fn owned<'a>(varbinds: Varbinds<'a>) -> Vec<(Vec<u32>, Value<'a>)> {
    varbinds.iter().map(|varbind| (varbind.name.arcs().collect(), varbind.value)).collect()
}
