//! What is written is read back as it was. Used by `tests/usm_any.rs` and by the fuzz target `wire_roundtrip`.

use nereus::oid::{Oid, OidRef};
use nereus::security::{AuthProtocol, PrivacyProtocol};
use nereus::value::Value;
use nereus::wire::usm::{AuthKey, PrivacyKey, Protection, V3Outgoing, V3Pdu};
use nereus::wire::{
    self, Kind, Message, Notification, OutgoingVarbind, ScopedData, ScopedPdu, V1Trap, V2Notification,
    Version,
};

/// Takes fields from the front of the input; zeros once it is empty.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn octet(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.octet()))
    }

    fn octets(&mut self, most: usize) -> &'a [u8] {
        let length = usize::from(self.octet()) % (most + 1);
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn arcs(&mut self) -> Vec<u32> {
        let mut arcs = vec![1, u32::from(self.octet() % 40)];
        for _ in 0..self.octet() % 12 {
            arcs.push((self.number() >> (self.octet() % 64)) as u32);
        }
        arcs
    }

    fn value(&mut self) -> Value<'a> {
        match self.octet() % 10 {
            0 => Value::Integer((self.number() >> (self.octet() % 32)) as i32),
            1 => Value::Octets(self.octets(200)),
            2 => Value::Counter32(self.number() as u32),
            3 => Value::Unsigned32((self.number() >> (self.octet() % 64)) as u32),
            4 => Value::TimeTicks(self.number() as u32),
            5 => Value::Opaque(self.octets(200)),
            6 => Value::Counter64(self.number() >> (self.octet() % 64)),
            7 => Value::IpAddress((self.number() as u32).to_be_bytes()),
            8 => Value::NoSuchInstance,
            _ => Value::Null,
        }
    }
}

/// Writes one message of each version with what `octets` say, and reads it again.
pub(crate) fn check(octets: &[u8]) {
    let mut source = Source(octets);
    let (salt, request_id, uptime) = (source.number(), source.number() as i32, source.number() as u32);
    let choice = source.octet();
    let name = source.octets(32);
    let trap_oid = source.arcs();
    let mut list: Vec<(Oid, Value<'_>)> = Vec::new();
    while !source.0.is_empty() && list.len() < 20 {
        let arcs = source.arcs();
        list.push((Oid::new(arcs).expect("two arcs at least"), source.value()));
    }
    let varbinds: Vec<OutgoingVarbind<'_>> =
        list.iter().map(|(name, value)| (name.borrow(), *value)).collect();
    let kind = if choice & 1 == 0 { Kind::Trap } else { Kind::Inform };
    let sent_oid = Oid::new(trap_oid.clone()).expect("two arcs at least");
    let trap_oid = OidRef(&trap_oid);

    let mut out = Vec::new();
    let v2 = V2Notification { community: name, kind, request_id, uptime, trap_oid, varbinds: &varbinds };
    wire::encode_v2c(&v2, &mut out).expect("it fits");
    let Ok(Message::Community(message)) = wire::decode(&out) else { panic!("v2c") };
    assert_eq!((message.version, message.community), (Version::V2c, name));
    same(&message.notification, kind, request_id, uptime, &sent_oid, &varbinds);

    out.clear();
    let specific = (salt & i32::MAX as u64) as u32;
    let v1 = V1Trap {
        community: name,
        enterprise: trap_oid,
        agent_addr: uptime.to_be_bytes(),
        generic: 6,
        specific,
        uptime,
        varbinds: &varbinds,
    };
    wire::encode_v1(&v1, &mut out).expect("it fits");
    let Ok(Message::Community(message)) = wire::decode(&out) else { panic!("v1") };
    let mapped = Oid::new([trap_oid.0, &[0, specific]].concat()).expect("it has room");
    same(&message.notification, Kind::Trap, 0, uptime, &mapped, &varbinds);

    let auth = AuthProtocol::ALL.get(usize::from(choice / 2) % 7).copied();
    let privacy = PrivacyProtocol::ALL.get(usize::from(choice / 14) % 8).copied().filter(|_| auth.is_some());
    let key =
        |length: usize| -> Vec<u8> { salt.to_be_bytes().iter().cycle().take(length).copied().collect() };
    let auth = auth.and_then(|protocol| AuthKey::from_octets(protocol, &key(protocol.key_octets())));
    let privacy = privacy.and_then(|protocol| PrivacyKey::from_octets(protocol, &key(protocol.key_octets())));
    let engine = [&[0x80, 0, 0, 0, 5], &name[..name.len().min(27)]].concat();
    let v3 = V3Outgoing {
        message_id: specific,
        reportable: choice & 1 != 0,
        engine_id: &engine,
        boots: uptime >> 1,
        time: specific,
        user: name,
        context_engine_id: &engine,
        context_name: name,
        protection: match (&auth, &privacy) {
            (Some(auth), Some(privacy)) => Protection::AuthPriv(auth, privacy, salt),
            (Some(auth), None) => Protection::Auth(auth),
            _ => Protection::None,
        },
    };
    out.clear();
    let pdu = V3Pdu::Notification { kind, request_id, uptime, trap_oid, varbinds: &varbinds };
    wire::encode_v3(&v3, &pdu, &mut out).expect("it fits");
    let Ok(Message::V3(message)) = wire::decode(&out) else { panic!("v3") };
    let security = message.security;
    assert_eq!((message.message_id, security.boots, security.time), (specific, uptime >> 1, specific));
    assert_eq!((security.engine_id, security.user), (&engine[..], name));
    assert!(auth.as_ref().is_none_or(|key| key.verifies(&message)));
    let mut plain = Vec::new();
    let scoped = match message.data {
        ScopedData::Plain(scoped) => scoped,
        ScopedData::Encrypted(data) => {
            let key = privacy.as_ref().expect("only with privacy");
            key.decrypt(security.boots, security.time, security.privacy, data, &mut plain).expect("its own");
            ScopedPdu::decrypted(&plain).expect("its own")
        }
    };
    assert_eq!((scoped.context_name, scoped.request_id()), (name, Some(request_id)));
    let notification = wire::decode_pdu(Version::V3, scoped.pdu).expect("its own");
    same(&notification, kind, request_id, uptime, &sent_oid, &varbinds);
}

fn same(
    read: &Notification<'_>,
    kind: Kind,
    request_id: i32,
    uptime: u32,
    trap_oid: &Oid,
    varbinds: &[OutgoingVarbind<'_>],
) {
    assert_eq!((read.kind, read.request_id, read.uptime), (kind, request_id, Some(uptime)));
    assert_eq!(read.trap_oid.to_oid(), *trap_oid);
    // The notification's own names are no payload; where one was made by chance, the numbers differ.
    for (name, value) in varbinds {
        let mut encoded = Vec::new();
        nereus::oid::encode(name.0, &mut encoded).expect("an OID");
        let own = [wire::names::SYS_UP_TIME, wire::names::SNMP_TRAP_OID, wire::names::SNMP_TRAP_COMMUNITY];
        if own.contains(&&encoded[..]) {
            return;
        }
        assert!(read.varbinds.iter().any(|found| found.name.octets() == encoded && found.value == *value));
    }
    assert_eq!(read.varbinds.len(), varbinds.len());
}
