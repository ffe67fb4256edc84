//! USM against vectors of others: keys, digests, ciphers, whole messages (`NEREUS_SNMP_DATA`), and what this
//! library writes against what it reads.
#![allow(clippy::print_stderr, reason = "what was skipped is told")]

use std::fs;
use std::path::Path;

use nereus::oid::OidRef;
use nereus::security::{AuthProtocol, PrivacyProtocol, octets_of_hex};
use nereus::value::Value;
use nereus::wire::usm::{AuthKey, LocalizedKeys, MasterKey, PrivacyKey, Protection, V3Outgoing, V3Pdu};
use nereus::wire::{self, Kind, Message, ScopedData, ScopedPdu, V3Header, Version};
use proptest::prelude::*;
use serde_json::Value as Json;

fn vectors() -> Option<Json> {
    let Some(root) = std::env::var_os("NEREUS_SNMP_DATA") else {
        eprintln!("skipped: NEREUS_SNMP_DATA does not name the folder with v3/");
        return None;
    };
    Some(serde_json::from_slice(&fs::read(Path::new(&root).join("v3/vectors.json")).unwrap()).unwrap())
}

fn text<'j>(vector: &'j Json, key: &str) -> &'j str {
    vector[key].as_str().unwrap_or_else(|| panic!("{key} of {vector}"))
}

fn hex(vector: &Json, key: &str) -> Vec<u8> {
    octets_of_hex(text(vector, key)).unwrap()
}

fn header(datagram: &[u8]) -> V3Header<'_> {
    match wire::decode(datagram) {
        Ok(Message::V3(header)) => header,
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_are_localised_as_others_do() {
    let Some(vectors) = vectors() else { return };
    for vector in vectors["localization"].as_array().unwrap() {
        let protocol: AuthProtocol = text(vector, "hash").parse().unwrap();
        let master = MasterKey::from_passphrase(protocol, text(vector, "password").as_bytes());
        assert_eq!(master.localize(&hex(vector, "engine_id")).expose(), hex(vector, "kul"), "{vector}");
    }
}

#[test]
fn keys_are_lengthened_as_others_do_in_both_ways() {
    let Some(vectors) = vectors() else { return };
    for vector in vectors["extension"].as_array().unwrap() {
        let protocol: AuthProtocol = text(vector, "hash").parse().unwrap();
        let master = MasterKey::from_passphrase(protocol, text(vector, "password").as_bytes());
        let (blumenthal, reeder) = match vector["bytes"].as_u64() {
            Some(24) => (PrivacyProtocol::Aes192, PrivacyProtocol::Aes192C),
            _ => (PrivacyProtocol::Aes256, PrivacyProtocol::Aes256C),
        };
        for (name, protocol) in [("blumenthal", blumenthal), ("reeder", reeder)] {
            let key = master.localize_privacy(protocol, &hex(vector, "engine_id"));
            assert_eq!(key.expose(), hex(vector, name), "{name} of {vector}");
        }
    }
}

#[test]
fn whole_messages_are_authentic_and_decrypt() {
    let Some(vectors) = vectors() else { return };
    for vector in vectors["messages"].as_array().unwrap() {
        let datagram = hex(vector, "hex");
        let message = header(&datagram);
        let security = message.security;
        assert_eq!(security.user, text(vector, "user").as_bytes());
        assert_eq!(security.engine_id, hex(vector, "engine_id"));
        assert_eq!(u64::from(security.boots), vector["boots"].as_u64().unwrap());
        assert_eq!(u64::from(security.time), vector["time"].as_u64().unwrap());
        let protocol: AuthProtocol = text(vector, "auth").parse().unwrap();
        let key = |passphrase: &str| {
            MasterKey::from_passphrase(protocol, passphrase.as_bytes()).localize(security.engine_id)
        };
        assert_eq!(
            key(text(vector, "auth_password")).verifies(&message),
            vector["mac_ok"] == true,
            "{vector}"
        );
        assert!(!key("another passphrase").verifies(&message));
        // Any octet that differs is told.
        for at in [0, 8, datagram.len() / 2, datagram.len() - 1] {
            let mut faulty = datagram.clone();
            faulty[at] ^= 1;
            if let Ok(Message::V3(message)) = wire::decode(&faulty) {
                assert!(!key(text(vector, "auth_password")).verifies(&message), "{at} of {vector}");
            }
        }
        let ScopedData::Encrypted(data) = message.data else {
            assert!(vector["priv"].is_null());
            continue;
        };
        let privacy: PrivacyProtocol = text(vector, "priv").parse().unwrap();
        let master = MasterKey::from_passphrase(protocol, text(vector, "priv_password").as_bytes());
        let privacy = master.localize_privacy(privacy, security.engine_id);
        let mut plain = Vec::new();
        privacy.decrypt(security.boots, security.time, security.privacy, data, &mut plain).unwrap();
        let expected = hex(vector, "plain");
        assert_eq!(plain[..expected.len()], expected);
        ScopedPdu::decrypted(&plain).unwrap();
    }
}

/// CVE-2008-0960: a digest of the sender's choice of length is refused, whatever it says.
#[test]
fn a_digest_has_exactly_its_protocols_length() {
    let Some(root) = std::env::var_os("NEREUS_SNMP_DATA") else { return };
    let master = MasterKey::from_passphrase(AuthProtocol::Md5, b"mypassword");
    for length in [0, 1, 11, 12, 13, 16] {
        let datagram = fs::read(Path::new(&root).join(format!("regress/v3-md5-mac-{length}.bin"))).unwrap();
        let message = header(&datagram);
        assert_eq!(message.security.authentication.len(), length);
        assert_eq!(master.localize(message.security.engine_id).verifies(&message), length == 12, "{length}");
    }
}

fn keys() -> impl Strategy<Value = LocalizedKeys> {
    (0usize..7, 0usize..8, any::<[u8; 64]>()).prop_map(|(auth, privacy, octets)| {
        let auth = AuthProtocol::ALL.get(auth).copied();
        let privacy = PrivacyProtocol::ALL.get(privacy).copied().filter(|_| auth.is_some());
        LocalizedKeys {
            auth: auth.and_then(|protocol| AuthKey::from_octets(protocol, &octets[..protocol.key_octets()])),
            privacy: privacy
                .and_then(|protocol| PrivacyKey::from_octets(protocol, &octets[..protocol.key_octets()])),
        }
    })
}

proptest! {
    /// What is written is authentic, decrypts, and says what it was to say.
    #[test]
    fn a_message_round_trips(
        keys in keys(), engine in prop::collection::vec(any::<u8>(), 5..=32), user in prop::collection::vec(any::<u8>(), 0..=32),
        context in prop::collection::vec(any::<u8>(), 0..=255), salt: u64, reportable: bool, message_id in 0..=i32::MAX as u32,
        boots in 0..=i32::MAX as u32, time in 0..=i32::MAX as u32, text in prop::collection::vec(any::<u8>(), 0..700), inform: bool,
    ) {
        let protection = match (&keys.auth, &keys.privacy) {
            (Some(auth), Some(privacy)) => Protection::AuthPriv(auth, privacy, salt),
            (Some(auth), None) => Protection::Auth(auth),
            _ => Protection::None,
        };
        let outgoing = V3Outgoing {
            message_id, reportable, engine_id: &engine, boots, time, user: &user,
            context_engine_id: &engine, context_name: &context, protection,
        };
        let varbinds = [(OidRef(&[1, 3, 6, 1, 2, 1, 1, 5, 0]), Value::Octets(&text))];
        let kind = if inform { Kind::Inform } else { Kind::Trap };
        let trap_oid = OidRef(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 3]);
        let pdu = V3Pdu::Notification { kind, request_id: 9, uptime: 5, trap_oid, varbinds: &varbinds };
        let mut out = b"before".to_vec();
        wire::encode_v3(&outgoing, &pdu, &mut out).unwrap();
        let datagram = out.strip_prefix(b"before").unwrap();
        let message = header(datagram);
        prop_assert_eq!(message.message_id, message_id);
        prop_assert_eq!(message.flags.level(), keys.level());
        prop_assert_eq!(message.flags.reportable, reportable);
        let security = message.security;
        prop_assert_eq!((security.engine_id, security.user), (&engine[..], &user[..]));
        prop_assert_eq!((security.boots, security.time), (boots, time));
        prop_assert!(keys.auth.as_ref().is_none_or(|key| key.verifies(&message)));
        let mut plain = Vec::new();
        let scoped = match message.data {
            ScopedData::Plain(scoped) => scoped,
            ScopedData::Encrypted(data) => {
                let key = keys.privacy.as_ref().unwrap();
                key.decrypt(boots, time, security.privacy, data, &mut plain).unwrap();
                ScopedPdu::decrypted(&plain).unwrap()
            }
        };
        prop_assert_eq!((scoped.context_engine_id, scoped.context_name), (&engine[..], &context[..]));
        prop_assert_eq!((scoped.is_confirmed(), scoped.request_id()), (inform, Some(9)));
        let notification = wire::decode_pdu(Version::V3, scoped.pdu).unwrap();
        prop_assert_eq!(notification.kind, kind);
        let found = notification.varbinds.iter().next().unwrap();
        prop_assert_eq!(found.value, Value::Octets(&text));

        let mut response = Vec::new();
        let done = wire::encode_v3(&outgoing, &V3Pdu::Response(&notification), &mut response);
        prop_assert_eq!(done.is_ok(), inform);
        if inform {
            prop_assert_eq!(response.len(), datagram.len());
            prop_assert!(keys.auth.as_ref().is_none_or(|key| key.verifies(&header(&response))));
        }
    }
}

#[test]
fn reports_and_discovery_are_written_as_rfc_3414_has_them() {
    let outgoing = V3Outgoing {
        message_id: 7,
        reportable: true,
        engine_id: b"",
        boots: 0,
        time: 0,
        user: b"",
        context_engine_id: b"",
        context_name: b"",
        protection: Protection::None,
    };
    let mut out = Vec::new();
    wire::encode_v3(&outgoing, &V3Pdu::Discovery { request_id: 8 }, &mut out).unwrap();
    let expected = "303a020103300e020107020300ffff040104020103 0410 300e 0400 020100 020100 0400 0400 0400 \
                    3011 0400 0400 a00b 020108 020100 020100 3000";
    let expected = octets_of_hex(&expected.replace(' ', "")).unwrap();
    assert_eq!(out[2..], expected[2..]);
    assert_eq!(usize::from(out[1]), out.len() - 2);

    let counter = OidRef(&[1, 3, 6, 1, 6, 3, 15, 1, 1, 4, 0]);
    let report = V3Pdu::Report { request_id: 8, counter, value: 300 };
    let report_to = V3Outgoing { reportable: false, engine_id: b"engine", ..outgoing };
    out.clear();
    wire::encode_v3(&report_to, &report, &mut out).unwrap();
    let message = header(&out);
    assert!(!message.flags.reportable);
    let ScopedData::Plain(scoped) = message.data else { panic!() };
    assert!(!scoped.is_confirmed());
    assert_eq!(scoped.pdu[0], 0xa8);
    assert!(scoped.pdu.ends_with(&[0x2b, 6, 1, 6, 3, 15, 1, 1, 4, 0, 0x41, 2, 1, 44]));
}
