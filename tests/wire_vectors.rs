//! The decoder against known datagrams: golden ones made here by a writer of its own, the fixtures
//! of tests/data/wire, and the shared folder of captured and hostile ones (`NEREUS_SNMP_DATA`).

#![allow(clippy::print_stderr, reason = "what was skipped or left out is told")]

mod wire_oracle;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nereus::oid::{Oid, OidRef};
use nereus::value::Value;
use nereus::wire::{
    self, CommunityMessage, DecodeError, DecodeErrorKind as Reason, EncodeError, Kind, Message, V1Trap,
    V2Notification, Version,
};
use wire_oracle::check;

/// A writer of BER that shares nothing with `wire::encode`: contents inside out, lengths minimal.
mod ber {
    pub(crate) fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
        let contents = contents.concat();
        let length = contents.len();
        let mut out = match length {
            0..0x80 => vec![tag, length as u8],
            0x80..0x100 => vec![tag, 0x81, length as u8],
            _ => vec![tag, 0x82, (length / 256) as u8, (length % 256) as u8],
        };
        out.extend(contents);
        out
    }

    pub(crate) fn integer(tag: u8, value: i64) -> Vec<u8> {
        let octets = value.to_be_bytes();
        let fits = |&from: &usize| {
            let rest = &octets[from..];
            let sign = if rest[0] < 0x80 { 0 } else { 0xff };
            octets[..from].iter().all(|&octet| octet == sign)
        };
        let from = (0..8).rev().find(fits).unwrap_or(0);
        element(tag, &[&octets[from..]])
    }

    pub(crate) fn oid(arcs: &[u32]) -> Vec<u8> {
        let mut contents = Vec::new();
        let first = u64::from(arcs[0]) * 40 + u64::from(arcs[1]);
        for arc in std::iter::once(first).chain(arcs[2..].iter().map(|&arc| arc.into())) {
            let mut groups = vec![(arc % 128) as u8];
            let mut left = arc / 128;
            while left > 0 {
                groups.push((left % 128) as u8 | 0x80);
                left /= 128;
            }
            contents.extend(groups.iter().rev());
        }
        element(6, &[&contents])
    }
}

fn oid(text: &str) -> Oid {
    text.parse().expect("an OID of the test's own")
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn accepted(datagram: &[u8]) -> CommunityMessage<'_> {
    match check(datagram) {
        Ok(Message::Community(message)) => message,
        other => panic!("{other:?}"),
    }
}

fn refused(datagram: &[u8]) -> DecodeError {
    check(datagram).expect_err("refused")
}

// What follows is RFC 3584 section 3.1 (2) to (4).

#[test]
fn every_generic_trap_maps_for_every_shape_of_enterprise() {
    let shapes: [&[u32]; 9] = [
        &[1, 3],
        &[0, 0],
        &[2, 999],
        &[1, 3, 6, 1, 4, 1, 8072, 3, 2, 10],
        &[1, 3, 6, 1, 4, 1, 9, 0],
        &[1, 3, 6, 1, 6, 3, 1, 1, 5],
        &[1, 3, 6, 1, 2, 1, 11],
        &[1, 3, 6, 1, 4, 1, u32::MAX, 0, u32::MAX],
        &[1; 126],
    ];
    for enterprise in shapes {
        for generic in 0..7 {
            for specific in [0, 1, 127, 128, 255, 256, i32::MAX as u32] {
                let expected = if generic < 6 {
                    [&[1, 3, 6, 1, 6, 3, 1, 1, 5][..], &[generic + 1]].concat()
                } else {
                    [enterprise, &[0, specific]].concat()
                };
                let datagram = v1(enterprise, generic.into(), specific.into(), &ber::integer(0x43, 4711));
                let message = accepted(&datagram);
                let notification = message.notification;
                assert_eq!(message.version, Version::V1);
                assert_eq!(message.community, b"public");
                assert_eq!(notification.trap_oid.to_oid().arcs(), expected);
                assert_eq!(notification.kind, Kind::Trap);
                assert_eq!(notification.uptime, Some(4711));
                assert_eq!(notification.agent_addr, Some([192, 0, 2, 1]));
                assert!(notification.enterprise.unwrap().arcs().eq(enterprise.iter().copied()));
                assert!(notification.varbinds.is_empty());

                let mut ours = Vec::new();
                let trap = V1Trap {
                    community: b"public",
                    enterprise: OidRef(enterprise),
                    agent_addr: [192, 0, 2, 1],
                    generic: generic as u8,
                    specific,
                    uptime: 4711,
                    varbinds: &[],
                };
                wire::encode_v1(&trap, &mut ours).unwrap();
                assert_eq!(ours, datagram, "both writers agree");
            }
        }
    }
}

#[test]
fn numbers_outside_the_mapping_are_refused() {
    let ticks = ber::integer(0x43, 0);
    let enterprise = &[1, 3, 6, 1, 4, 1, 9];
    for (generic, specific, reason) in [
        (7, 0, Reason::BadGenericTrap),
        (-1, 0, Reason::BadGenericTrap),
        (i32::MAX.into(), 0, Reason::BadGenericTrap),
        (i32::MIN.into(), 0, Reason::BadGenericTrap),
        (i64::from(i32::MAX) + 1, 0, Reason::BadInteger),
        (i64::MAX, 0, Reason::BadInteger),
        (6, -1, Reason::BadSpecificTrap),
        (6, i32::MIN.into(), Reason::BadSpecificTrap),
        (6, i64::from(u32::MAX), Reason::BadInteger),
    ] {
        assert_eq!(refused(&v1(enterprise, generic, specific, &ticks)).kind, reason, "{generic} {specific}");
    }
    for arcs in [127, 128] {
        let error = refused(&v1(&vec![1; arcs], 6, 1, &ticks));
        assert_eq!(error.kind, Reason::TrapOidTooLong);
        // A generic trap needs no room behind the enterprise.
        assert_eq!(
            accepted(&v1(&vec![1; arcs], 3, 1, &ticks)).notification.trap_oid.to_string(),
            "1.3.6.1.6.3.1.1.5.4"
        );
    }
}

#[test]
fn a_timestamp_may_be_an_integer_but_not_a_negative_one() {
    let stamped = |tag, value| v1(&[1, 3, 6, 1, 4, 1, 9], 6, 1, &ber::integer(tag, value));
    assert_eq!(accepted(&stamped(0x02, 5)).notification.uptime, Some(5));
    assert_eq!(accepted(&stamped(0x43, u32::MAX.into())).notification.uptime, Some(u32::MAX));
    assert_eq!(refused(&stamped(0x02, -5)).kind, Reason::BadTimestamp);
    assert_eq!(refused(&stamped(0x04, 5)).kind, Reason::BadTimestamp);
}

fn v1(enterprise: &[u32], generic: i64, specific: i64, stamp: &[u8]) -> Vec<u8> {
    let pdu = [
        ber::oid(enterprise),
        ber::element(0x40, &[&[192, 0, 2, 1]]),
        ber::integer(2, generic),
        ber::integer(2, specific),
        stamp.to_vec(),
        ber::element(0x30, &[]),
    ]
    .concat();
    ber::element(0x30, &[&ber::integer(2, 0), &ber::element(4, &[b"public"]), &ber::element(0xa4, &[&pdu])])
}

/// linkDown with its three varbinds and ifDescr, octet by octet as RFC 3416 and RFC 3417 have it.
const LINK_DOWN: &str = "
    30 81 9a 02 01 01 04 06 70 75 62 6c 69 63
    a7 81 8c 02 04 12 34 56 78 02 01 00 02 01 00
    30 7e
    30 10 06 08 2b 06 01 02 01 01 03 00 43 04 07 5b cd 15
    30 17 06 0a 2b 06 01 06 03 01 01 04 01 00 06 09 2b 06 01 06 03 01 01 05 03
    30 0f 06 0a 2b 06 01 02 01 02 02 01 01 07 02 01 07
    30 0f 06 0a 2b 06 01 02 01 02 02 01 07 07 02 01 01
    30 0f 06 0a 2b 06 01 02 01 02 02 01 08 07 02 01 02
    30 1e 06 0a 2b 06 01 02 01 02 02 01 02 07 04 10 47 69 67 61 62 69 74 45 74 68 65 72 6e 65 74 31";

#[test]
fn a_link_down_reads_and_writes_octet_by_octet() {
    let datagram = hex(LINK_DOWN);
    assert_eq!(datagram.len(), 157);
    let message = accepted(&datagram);
    let notification = message.notification;
    assert_eq!((message.version, message.trailing), (Version::V2c, false));
    assert_eq!((notification.kind, notification.request_id), (Kind::Trap, 0x1234_5678));
    assert_eq!(notification.uptime, Some(123_456_789));
    assert_eq!(notification.trap_oid.to_string(), "1.3.6.1.6.3.1.1.5.3");
    assert_eq!((notification.agent_addr, notification.trap_address), (None, None));
    assert_eq!(message.pdu, &datagram[14..]);
    let told: Vec<(String, Value<'_>)> =
        notification.varbinds.iter().map(|varbind| (varbind.name.to_string(), varbind.value)).collect();
    assert_eq!(
        told,
        [
            ("1.3.6.1.2.1.2.2.1.1.7".to_owned(), Value::Integer(7)),
            ("1.3.6.1.2.1.2.2.1.7.7".to_owned(), Value::Integer(1)),
            ("1.3.6.1.2.1.2.2.1.8.7".to_owned(), Value::Integer(2)),
            ("1.3.6.1.2.1.2.2.1.2.7".to_owned(), Value::Octets(b"GigabitEthernet1")),
        ]
    );
    assert_eq!(notification.all_varbinds().len(), 6);

    let owned: Vec<Oid> = told.iter().map(|(name, _)| oid(name)).collect();
    let varbinds: Vec<_> = owned.iter().zip(&told).map(|(name, told)| (name.borrow(), told.1)).collect();
    let mut ours = b"already there".to_vec();
    let outgoing = V2Notification {
        community: b"public",
        kind: Kind::Trap,
        request_id: 0x1234_5678,
        uptime: 123_456_789,
        trap_oid: OidRef(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 3]),
        varbinds: &varbinds,
    };
    wire::encode_v2c(&outgoing, &mut ours).unwrap();
    assert_eq!(ours.strip_prefix(b"already there"), Some(&datagram[..]));
}

#[test]
fn an_inform_is_answered_with_its_own_varbinds() {
    let mut datagram = hex(LINK_DOWN);
    datagram[14] = 0xa6;
    let message = accepted(&datagram);
    assert_eq!(message.notification.kind, Kind::Inform);
    let mut response = Vec::new();
    wire::encode_response(message.version, message.community, &message.notification, &mut response).unwrap();
    let mut expected = datagram.clone();
    expected[14] = 0xa2;
    assert_eq!(response, expected);

    let error = wire::encode_response(Version::V3, b"", &message.notification, &mut response);
    assert_eq!(error, Err(EncodeError::Version));
    assert_eq!(response, expected, "nothing appended");
}

#[test]
fn proxied_traps_tell_the_device_and_keep_the_community() {
    let (address, community) = (oid("1.3.6.1.6.3.18.1.3.0"), oid("1.3.6.1.6.3.18.1.4.0"));
    let (enterprise, name) = (oid("1.3.6.1.6.3.1.1.4.3.0"), oid("1.3.6.1.2.1.1.5.0"));
    let cisco = [0x2b, 6, 1, 4, 1, 9];
    let cisco = nereus::oid::EncodedOid::new(&cisco).unwrap();
    let mut datagram = Vec::new();
    let outgoing = V2Notification {
        community: b"hunter2",
        kind: Kind::Trap,
        request_id: 1,
        uptime: 1,
        trap_oid: OidRef(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 1]),
        varbinds: &[
            (address.borrow(), Value::IpAddress([192, 0, 2, 77])),
            (community.borrow(), Value::Octets(b"hunter3")),
            (enterprise.borrow(), Value::Oid(cisco)),
            (name.borrow(), Value::Octets(b"core")),
        ],
    };
    wire::encode_v2c(&outgoing, &mut datagram).unwrap();
    let message = accepted(&datagram);
    let notification = message.notification;
    assert_eq!(notification.trap_address, Some([192, 0, 2, 77]));
    assert_eq!(notification.enterprise, Some(cisco));
    assert_eq!(notification.varbinds.len(), 3);
    assert_eq!(notification.all_varbinds().len(), 6);
    assert_eq!(
        notification.all_varbinds().find(wire::names::SNMP_TRAP_COMMUNITY),
        Some(Value::Octets(b"hunter3"))
    );
    assert_eq!(notification.varbinds.find(wire::names::SNMP_TRAP_COMMUNITY), None);

    let shown = format!("{message:?} {:?}", check(&datagram));
    for secret in [&b"hunter"[..], b"core"] {
        assert!(!shown.contains(std::str::from_utf8(secret).unwrap()), "{shown}");
        let numbers = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        assert!(!shown.contains(&numbers), "{shown}");
    }
}

#[test]
fn a_second_trap_oid_stays_in_the_payload() {
    let trap_oid = |last: u8| {
        let value = ber::oid(&[1, 3, 6, 1, 6, 3, 1, 1, 5, last.into()]);
        ber::element(0x30, &[&ber::oid(&[1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0]), &value])
    };
    let list = ber::element(0x30, &[&trap_oid(3), &trap_oid(4)]);
    let zero = ber::integer(2, 0);
    let pdu = ber::element(0xa7, &[&ber::integer(2, 1), &zero, &zero, &list]);
    let notification = wire::decode_pdu(Version::V2c, &pdu).unwrap();
    assert_eq!(notification.trap_oid.to_string(), "1.3.6.1.6.3.1.1.5.3");
    assert_eq!(notification.uptime, None);
    assert_eq!(notification.varbinds.len(), 1);
    assert!(matches!(notification.varbinds.find(wire::names::SNMP_TRAP_OID), Some(Value::Oid(oid))
        if oid.to_string() == "1.3.6.1.6.3.1.1.5.4"));
}

#[test]
fn a_kept_pdu_has_nothing_behind_it() {
    let datagram = hex(LINK_DOWN);
    let mut pdu = accepted(&datagram).pdu.to_vec();
    assert!(wire::decode_pdu(Version::V2c, &pdu).is_ok());
    assert!(wire::decode_pdu(Version::V3, &pdu).is_ok());
    assert_eq!(wire::decode_pdu(Version::V1, &pdu).unwrap_err().kind, Reason::PduNotOfVersion);
    pdu.push(0);
    let error = wire::decode_pdu(Version::V2c, &pdu).unwrap_err();
    assert_eq!((error.kind, error.offset), (Reason::TrailingOctets, 143));
}

#[test]
fn a_message_has_a_largest_size() {
    assert_eq!(refused(&vec![0x30; wire::MAX_MESSAGE_SIZE + 1]).kind, Reason::MessageTooLong);

    let octets = vec![0xa5; wire::MAX_MESSAGE_SIZE];
    let encoded = |length: usize| {
        let mut out = Vec::new();
        let outgoing = V2Notification {
            community: b"public",
            kind: Kind::Trap,
            request_id: 1,
            uptime: 1,
            trap_oid: OidRef(&[1, 3, 6]),
            varbinds: &[(OidRef(&[1, 3, 6, 1]), Value::Octets(&octets[..length]))],
        };
        wire::encode_v2c(&outgoing, &mut out).map(|()| out)
    };
    let around = encoded(60_000).unwrap().len() - 60_000;
    let longest = encoded(wire::MAX_MESSAGE_SIZE - around).unwrap();
    assert_eq!(longest.len(), wire::MAX_MESSAGE_SIZE);
    assert_eq!(accepted(&longest).notification.varbinds.len(), 1);
    assert_eq!(encoded(wire::MAX_MESSAGE_SIZE - around + 1), Err(EncodeError::TooLong));
}

#[test]
fn what_has_no_encoding_leaves_the_buffer_alone() {
    let name = oid("1.3.6.1.2.1.1.5.0");
    let long = vec![0u8; 65_500];
    let many = vec![(name.borrow(), Value::Null); wire::MAX_VARBINDS - 1];
    let good = V2Notification {
        community: b"public",
        kind: Kind::Trap,
        request_id: 1,
        uptime: 1,
        trap_oid: OidRef(&[1, 3, 6]),
        varbinds: &[],
    };
    let mut out = b"kept".to_vec();
    for (bad, error) in [
        (V2Notification { trap_oid: OidRef(&[1]), ..good }, EncodeError::Oid(nereus::oid::OidError::Empty)),
        (V2Notification { trap_oid: OidRef(&[3, 1]), ..good }, EncodeError::Oid(nereus::oid::OidError::Arc)),
        (V2Notification { varbinds: &many, ..good }, EncodeError::TooManyVarbinds),
        (V2Notification { varbinds: &[(name.borrow(), Value::Octets(&long))], ..good }, EncodeError::TooLong),
    ] {
        assert_eq!(wire::encode_v2c(&bad, &mut out), Err(error));
        assert_eq!(out, b"kept");
    }
    let trap = V1Trap {
        community: b"public",
        enterprise: OidRef(&[1, 3, 6]),
        agent_addr: [0; 4],
        generic: 7,
        specific: 0,
        uptime: 0,
        varbinds: &[],
    };
    assert_eq!(wire::encode_v1(&trap, &mut out), Err(EncodeError::TrapNumber));
    let trap = V1Trap { generic: 6, specific: 1 << 31, ..trap };
    assert_eq!(wire::encode_v1(&trap, &mut out), Err(EncodeError::TrapNumber));
    assert_eq!(out, b"kept");
}

#[test]
fn every_fixture_has_the_outcome_that_it_names() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire");
    let mut count = 0;
    for path in files(&folder, "hex") {
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert!(lines.next().is_some_and(|why| why.starts_with("# ")), "{path:?} says why");
        let expected: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let datagram: Vec<u8> = lines
            .flat_map(|line| match line.split_once('*') {
                Some((unit, times)) => hex(unit).repeat(times.parse().unwrap()),
                None => hex(line),
            })
            .collect();
        match (expected.as_slice(), check(&datagram)) {
            (["accept", trap_oid, flags @ ..], Ok(Message::Community(message))) => {
                assert_eq!(message.notification.trap_oid.to_string(), *trap_oid, "{path:?}");
                assert_eq!(message.trailing, flags.contains(&"trailing"), "{path:?}");
                assert_eq!(message.notification.uptime.is_none(), flags.contains(&"no-uptime"), "{path:?}");
            }
            (["accept-length", arcs], Ok(Message::Community(message))) => {
                assert_eq!(
                    message.notification.trap_oid.to_oid().arcs().len(),
                    arcs.parse::<usize>().unwrap()
                );
            }
            (["v3"], Ok(Message::V3(_))) => {}
            (["refuse", reason], Err(error)) => assert_eq!(error.kind.as_str(), *reason, "{path:?}: {error}"),
            (expected, found) => panic!("{path:?}: {expected:?}, but {found:?}"),
        }
        count += 1;
    }
    assert!(count >= 70, "{count} fixtures only");
}

// The shared folder. Its expectations for SNMPv3 that only USM can meet are listed as such.

/// What of MANIFEST.json's expectations for SNMPv3 is decided without keys, and how.
const V3_REFUSED: [(&str, Reason); 3] = [
    ("v3-flags-priv-no-auth", Reason::BadV3Flags),
    ("v3-engineid-33", Reason::BadEngineId),
    ("v3-time-negative", Reason::BadEngineTime),
];

/// Where MANIFEST.json says "policy", "bounded" or leaves a choice: what is chosen.
const POLICY: [(&str, Result<&str, Reason>); 8] = [
    ("v2-sysobjectid-for-trapoid", Err(Reason::MissingTrapOid)),
    ("v2-trapoid-not-second", Ok("1.3.6.1.6.3.1.1.5.3")),
    ("netxms-3576-integer-timestamp", Ok("1.3.6.1.4.1.8072.2.3.0.17")),
    ("trailing-garbage", Ok("1.3.6.1.6.3.1.1.5.3")),
    ("v1-counter64", Ok("1.3.6.1.4.1.8072.2.3.0.1")),
    ("varbind-bomb", Err(Reason::TooManyVarbinds)),
    ("cve-2025-68615-empty-enterprise", Err(Reason::BadOid)),
    ("v1-specific-min", Err(Reason::BadSpecificTrap)),
];

#[test]
fn every_regression_has_the_outcome_of_its_manifest() {
    let Some(folder) = shared("regress") else { return };
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("MANIFEST.json")).unwrap()).unwrap();
    let entries = manifest.as_array().unwrap();
    let mut left_to_usm = Vec::new();
    for entry in entries {
        let (name, expect) = (entry["name"].as_str().unwrap(), entry["expect"].as_str().unwrap());
        let datagram = fs::read(folder.join(name).with_extension("bin"))
            .or_else(|_| fs::read(folder.join(format!("{name}.bin"))))
            .unwrap();
        assert_eq!(datagram.len() as u64, entry["len"].as_u64().unwrap());
        let found = check(&datagram);
        if let Some((_, reason)) = V3_REFUSED.iter().find(|(known, _)| *known == name) {
            assert_eq!(found.expect_err(name).kind, *reason, "{name}");
        } else if name.starts_with("v3-") {
            // Digest lengths, unknown engines, levels and time windows need users and keys.
            assert!(matches!(found, Ok(Message::V3(_))), "{name}: {found:?}");
            left_to_usm.push(name);
        } else if let Some((_, chosen)) = POLICY.iter().find(|(known, _)| *known == name) {
            match (found, chosen) {
                (Ok(Message::Community(message)), Ok(trap_oid)) => {
                    assert_eq!(message.notification.trap_oid.to_string(), *trap_oid, "{name}");
                    assert_eq!(message.trailing, name == "trailing-garbage");
                }
                (Err(error), Err(reason)) => assert_eq!(error.kind, *reason, "{name}"),
                (found, _) => panic!("{name}: {chosen:?}, but {found:?}"),
            }
        } else if expect.starts_with("accept") {
            assert!(matches!(found, Ok(Message::Community(_))), "{name}: {found:?}");
        } else {
            assert!(expect.starts_with("reject"), "{name}: what is {expect:?}?");
            found.expect_err(name);
        }
    }
    assert!(entries.len() >= 50);
    eprintln!("left to USM, which is not in this version: {left_to_usm:?}");
}

#[test]
fn every_captured_payload_is_told_by_a_reason() {
    let Some(folder) = shared("payloads") else { return };
    let mut outcomes: BTreeMap<&str, u32> = BTreeMap::new();
    let paths = files(&folder, "bin");
    for path in &paths {
        let outcome = match check(&fs::read(path).unwrap()) {
            Ok(message) => message.version().as_str(),
            Err(error) => error.kind.as_str(),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    assert_eq!(outcomes.values().sum::<u32>() as usize, paths.len());
    // Captures hold more Gets and Responses than notifications: all of these have to be there.
    for seen in ["v1", "v3", Reason::NotANotification.as_str()] {
        assert!(outcomes.contains_key(seen), "{outcomes:?}");
    }
    eprintln!("{} payloads: {outcomes:?}", paths.len());
}

#[test]
fn every_whole_v3_message_has_a_readable_header() {
    let Some(folder) = shared("v3") else { return };
    for path in files(&folder, "bin") {
        let datagram = fs::read(&path).unwrap();
        match check(&datagram) {
            Ok(Message::V3(header)) => {
                assert!(!header.security.user.is_empty(), "{path:?}");
                assert_eq!(header.flags.authenticated, !header.security.authentication.is_empty());
            }
            other => panic!("{path:?}: {other:?}"),
        }
    }
}

fn shared(folder: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("NEREUS_SNMP_DATA") else {
        eprintln!("skipped: NEREUS_SNMP_DATA does not name the folder with {folder}/");
        return None;
    };
    Some(Path::new(&root).join(folder))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{folder:?}: {error}"))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    paths
}
