//! SNMPv3 notifications as their senders make them, encoded by the library.
#![allow(dead_code, reason = "each test uses some of it")]

use nereus::oid::OidRef;
use nereus::security::{AuthProtocol, PrivacyProtocol};
use nereus::value::Value;
use nereus::wire::usm::{LocalizedKeys, MasterKey, Protection, V3Outgoing, V3Pdu};
use nereus::wire::{Kind, encode_v3};

/// What a message says of its sender.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) engine: Vec<u8>,
    pub(crate) boots: u32,
    pub(crate) time: u32,
    pub(crate) user: &'static str,
    pub(crate) keys: LocalizedKeys,
}

impl Sender {
    /// A user at an engine; privacy only with authentication.
    pub(crate) fn new(
        engine: &[u8],
        user: &'static str,
        auth: Option<(AuthProtocol, &str)>,
        privacy: Option<(PrivacyProtocol, &str)>,
    ) -> Self {
        let keys = auth.map_or_else(LocalizedKeys::default, |(hash, phrase)| LocalizedKeys {
            auth: Some(MasterKey::from_passphrase(hash, phrase.as_bytes()).localize(engine)),
            privacy: privacy.map(|(protocol, phrase)| {
                MasterKey::from_passphrase(hash, phrase.as_bytes()).localize_privacy(protocol, engine)
            }),
        });
        Self { engine: engine.to_vec(), boots: 3, time: 1_000, user, keys }
    }

    /// A linkDown of one interface.
    pub(crate) fn link_down(&self, interface: u32) -> Vec<u8> {
        self.message(Kind::Trap, interface)
    }

    /// The same as an inform, for the engine that receives it.
    pub(crate) fn inform(&self, interface: u32) -> Vec<u8> {
        self.message(Kind::Inform, interface)
    }

    fn message(&self, kind: Kind, interface: u32) -> Vec<u8> {
        let index = [1, 3, 6, 1, 2, 1, 2, 2, 1, 1, interface];
        let number = i32::try_from(interface).unwrap();
        self.encode(&V3Pdu::Notification {
            kind,
            request_id: number,
            uptime: 1,
            trap_oid: OidRef(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 3]),
            varbinds: &[(OidRef(&index), Value::Integer(number))],
        })
    }

    pub(crate) fn encode(&self, pdu: &V3Pdu<'_>) -> Vec<u8> {
        let message = V3Outgoing {
            message_id: 77,
            reportable: !matches!(pdu, V3Pdu::Notification { kind: Kind::Trap, .. }),
            engine_id: &self.engine,
            boots: self.boots,
            time: self.time,
            user: self.user.as_bytes(),
            context_engine_id: &self.engine,
            context_name: b"",
            protection: match (&self.keys.auth, &self.keys.privacy) {
                (Some(auth), Some(privacy)) => Protection::AuthPriv(auth, privacy, 1),
                (Some(auth), None) => Protection::Auth(auth),
                _ => Protection::None,
            },
        };
        let mut out = Vec::new();
        encode_v3(&message, pdu, &mut out).unwrap();
        out
    }
}
