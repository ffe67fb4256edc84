//! Each step of RFC 3414 section 3.2 with its counter and its Report, and what forged messages cost.

use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::config::{self, System};
use crate::event::Event;
use crate::mib::Mib;
use crate::oid::OidRef;
use crate::pipeline::{Datagram, process};
use crate::security::{AuthProtocol, PrivacyProtocol};
use crate::snapshot::{self, Publisher, Snapshot};
use crate::value::Value;
use crate::wire::usm::{MasterKey, PrivacyKey, derived};
use crate::wire::{Kind, Message, Version, decode};

const USERS: &str = "
unmatched: store
access:
  engine_id: auto
  users:
    - {name: plain}
    - {name: signed, auth: {protocol: sha256, passphrase: authentication}}
    - name: private
      auth: {protocol: sha1, passphrase: authentication}
      privacy: {protocol: aes128, passphrase: confidential}
      minimum_level: no_auth_no_priv
    - name: strict
      auth: {protocol: sha1, passphrase: authentication}
      privacy: {protocol: aes128, passphrase: confidential}
    - {name: lenient, auth: {protocol: md5, passphrase: authentication}, lenient_time: true}
    - name: cisco
      auth: {protocol: sha1, passphrase: authentication}
      privacy: {protocol: aes256c, passphrase: confidential}
    - name: here
      engines: 0x8000000005010203
      auth: {protocol: sha1, passphrase: authentication}
      privacy: {protocol: aes128, passphrase: confidential}
";
const DEVICE: &[u8] = &[0x80, 0, 0x1f, 0x88, 4, b'c', b'o', b'r', b'e'];
const STARTED: Timestamp = Timestamp(1_700_000_000_000_000);

fn at(seconds: i64) -> Timestamp {
    Timestamp(STARTED.0 + seconds * 1_000_000)
}

struct Bed {
    snapshot: Arc<Snapshot>,
    usm: Arc<Usm>,
    metrics: Metrics,
    scratch: Scratch,
}

impl Bed {
    fn new(text: &str) -> Self {
        let loaded =
            config::parse("a.yaml", text.as_bytes(), &System).unwrap_or_else(|problems| panic!("{problems}"));
        let candidate = snapshot::build(loaded.settings, Mib::builtin(), None).unwrap();
        let snapshot = Arc::clone(Publisher::new(candidate, 1).unwrap().current());
        let metrics = Metrics::new();
        let local = LocalEngine::new("8000000005010203".parse().unwrap(), 7, STARTED);
        let usm = Arc::new(Usm::new(local, Arc::default(), &metrics));
        Self { snapshot, scratch: Scratch::with(Arc::clone(&usm)), usm, metrics }
    }

    fn own(&self) -> Vec<u8> {
        self.usm.local().id().octets().to_vec()
    }

    fn ask(&mut self, octets: &[u8], seconds: i64) -> Result<Event, DropReason> {
        let peer = SocketAddr::from(([10, 0, 0, 7], 4_000));
        let datagram = Datagram { octets, peer, listener: 0, received: at(seconds) };
        let verdict = process(&self.snapshot, &datagram, &mut self.scratch);
        match settle(verdict, at(seconds), &mut self.scratch) {
            Verdict::Accepted(event) => Ok(event),
            Verdict::Dropped(reason) => Err(reason),
        }
    }

    /// Refused for this reason, counted by this counter, and answered with a Report, or not.
    fn refuses(&mut self, octets: &[u8], reason: DropReason, stat: Option<Stat>, report: bool) {
        let before = Stat::ALL.map(|stat| self.usm.local().counted(stat));
        assert_eq!(self.ask(octets, 0).map(|event| event.trap_oid), Err(reason));
        for (known, before) in Stat::ALL.into_iter().zip(before) {
            let counted = self.usm.local().counted(known) - before;
            assert_eq!(counted, u32::from(Some(known) == stat), "{known:?} for {reason:?}");
        }
        let kind = if report { ReplyKind::Report } else { ReplyKind::None };
        assert_eq!(self.scratch.reply.kind(), kind, "{reason:?}");
        if let Some(stat) = stat.filter(|_| report) {
            let local = self.usm.local();
            let report = header(self.scratch.reply.octets());
            assert_eq!(report.security.engine_id, local.id().octets());
            assert_eq!((report.security.boots, report.security.time), (local.boots(), 0));
            assert!(!report.flags.reportable && !report.flags.private);
            let asked = header(octets);
            assert_eq!((report.message_id, report.security.user), (asked.message_id, asked.security.user));
            let ScopedData::Plain(scoped) = report.data else { panic!() };
            assert_eq!(scoped.context_engine_id, local.id().octets());
            assert_eq!(scoped.pdu[0], 0xa8, "a Report-PDU");
            let mut expected = Vec::new();
            crate::oid::encode(stat.oid().0, &mut expected).unwrap();
            expected.extend([0x41, 1, local.counted(stat) as u8]);
            assert!(scoped.pdu.ends_with(&expected), "{stat:?} and its value");
        }
    }
}

fn header(octets: &[u8]) -> V3Header<'_> {
    match decode(octets) {
        Ok(Message::V3(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// A message as its sender makes it.
#[derive(Clone)]
struct Sent<'a> {
    engine: &'a [u8],
    user: &'a str,
    boots: u32,
    time: u32,
    reportable: bool,
    kind: Kind,
    auth: Option<(AuthProtocol, &'a str)>,
    privacy: Option<(PrivacyProtocol, &'a str)>,
}

impl Sent<'_> {
    fn octets(&self) -> Vec<u8> {
        let varbinds = [(OidRef(&[1, 3, 6, 1, 2, 1, 1, 5, 0]), Value::Octets(b"name"))];
        let trap_oid = OidRef(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 1]);
        let pdu =
            V3Pdu::Notification { kind: self.kind, request_id: 5, uptime: 1, trap_oid, varbinds: &varbinds };
        self.with(&pdu)
    }

    fn with(&self, pdu: &V3Pdu<'_>) -> Vec<u8> {
        let auth = self.auth.map(|(protocol, phrase)| {
            MasterKey::from_passphrase(protocol, phrase.as_bytes()).localize(self.engine)
        });
        let privacy: Option<PrivacyKey> = self.privacy.map(|(protocol, phrase)| {
            let hash = self.auth.map_or(AuthProtocol::Md5, |(hash, _)| hash);
            MasterKey::from_passphrase(hash, phrase.as_bytes()).localize_privacy(protocol, self.engine)
        });
        let outgoing = V3Outgoing {
            message_id: 99,
            reportable: self.reportable,
            engine_id: self.engine,
            boots: self.boots,
            time: self.time,
            user: self.user.as_bytes(),
            context_engine_id: self.engine,
            context_name: b"context",
            protection: match (&auth, &privacy) {
                (Some(auth), Some(privacy)) => Protection::AuthPriv(auth, privacy, 4_711),
                (Some(auth), None) => Protection::Auth(auth),
                _ => Protection::None,
            },
        };
        let mut out = Vec::new();
        wire::encode_v3(&outgoing, pdu, &mut out).unwrap();
        out
    }
}

const AUTH: &str = "authentication";
const PRIV: &str = "confidential";
const TRAP: Sent<'_> = Sent {
    engine: DEVICE,
    user: "signed",
    boots: 3,
    time: 1_000,
    reportable: false,
    kind: Kind::Trap,
    auth: Some((AuthProtocol::Sha256, AUTH)),
    privacy: None,
};
const PRIVATE: Sent<'_> = Sent {
    user: "private",
    auth: Some((AuthProtocol::Sha1, AUTH)),
    privacy: Some((PrivacyProtocol::Aes128, PRIV)),
    ..TRAP
};

fn inform<'a>(own: &'a [u8], sent: &Sent<'a>) -> Sent<'a> {
    Sent { engine: own, boots: 7, time: 0, reportable: true, kind: Kind::Inform, ..sent.clone() }
}

#[test]
fn traps_are_taken_at_every_level() {
    let mut bed = Bed::new(USERS);
    for sent in [
        TRAP,
        PRIVATE,
        Sent { user: "plain", auth: None, ..TRAP },
        Sent { user: "cisco", privacy: Some((PrivacyProtocol::Aes256C, PRIV)), ..PRIVATE },
        // Some senders ask for Reports of traps.
        Sent { reportable: true, ..PRIVATE },
    ] {
        let octets = sent.octets();
        let event = bed.ask(&octets, 0).unwrap();
        assert_eq!((event.version, event.trap_oid.to_string()), (Version::V3, "1.3.6.1.6.3.1.1.5.1".into()));
        assert!(event.datagram.starts_with(&octets));
        let pdu = wire::decode_pdu(Version::V3, event.pdu()).unwrap();
        assert_eq!(pdu.varbinds.iter().next().unwrap().value, Value::Octets(b"name"));
        assert_eq!(bed.scratch.reply.kind(), ReplyKind::None);
    }
    assert_eq!(bed.usm.engines().len(), 1);
    assert_eq!(bed.metrics.usm_engines.get(), 1);
}

#[test]
fn each_step_has_its_counter_and_its_report_or_none() {
    let mut bed = Bed::new(USERS);
    let own = bed.own();
    let wrong = Some((AuthProtocol::Sha256, "another passphrase"));
    let signed = inform(&own, &TRAP);
    let private = inform(&own, &PRIVATE);

    // (3) No engine, or another one than this.
    let discovery = Sent { engine: b"", user: "", auth: None, boots: 0, ..signed.clone() };
    let get = V3Pdu::Discovery { request_id: 5 };
    bed.refuses(&discovery.with(&get), DropReason::Discovery, Some(Stat::UnknownEngineIds), true);
    let silent = Sent { reportable: false, ..discovery.clone() };
    bed.refuses(&silent.with(&get), DropReason::UnknownEngineIds, Some(Stat::UnknownEngineIds), false);
    let trap = Sent { kind: Kind::Trap, ..discovery.clone() };
    bed.refuses(&trap.octets(), DropReason::UnknownEngineIds, Some(Stat::UnknownEngineIds), false);
    let other = Sent { engine: DEVICE, ..signed.clone() };
    bed.refuses(&other.octets(), DropReason::UnknownEngineIds, Some(Stat::UnknownEngineIds), true);
    let other = Sent { engine: DEVICE, ..private.clone() };
    bed.refuses(&other.octets(), DropReason::UnknownEngineIds, Some(Stat::UnknownEngineIds), true);

    // (4) to (6), of traps and of informs.
    for (report, sent) in [(false, &TRAP), (true, &signed)] {
        let unknown = Sent { user: "nobody", ..sent.clone() };
        bed.refuses(&unknown.octets(), DropReason::UnknownUserNames, Some(Stat::UnknownUserNames), report);
        let level = Sent { privacy: Some((PrivacyProtocol::Des, PRIV)), ..sent.clone() };
        bed.refuses(
            &level.octets(),
            DropReason::UnsupportedSecLevels,
            Some(Stat::UnsupportedSecLevels),
            report,
        );
        let plain = Sent { user: "plain", ..sent.clone() };
        bed.refuses(
            &plain.octets(),
            DropReason::UnsupportedSecLevels,
            Some(Stat::UnsupportedSecLevels),
            report,
        );
        let digest = Sent { auth: wrong, ..sent.clone() };
        bed.refuses(&digest.octets(), DropReason::WrongDigests, Some(Stat::WrongDigests), report);
        let protocol = Sent { auth: Some((AuthProtocol::Sha512, AUTH)), ..sent.clone() };
        bed.refuses(&protocol.octets(), DropReason::WrongDigests, Some(Stat::WrongDigests), report);
    }

    // Some ask for Reports of what they encrypt. Whether it is a trap nobody can tell then, but what is wrong with it.
    let asked = Sent { reportable: true, ..PRIVATE };
    let digest = Sent { auth: Some((AuthProtocol::Sha1, "another passphrase")), ..asked.clone() };
    bed.refuses(&digest.octets(), DropReason::WrongDigests, Some(Stat::WrongDigests), true);
    let privacy = Sent { privacy: Some((PrivacyProtocol::Aes128, "another one")), ..asked.clone() };
    bed.refuses(&privacy.octets(), DropReason::DecryptionErrors, Some(Stat::DecryptionErrors), true);
    let level = Sent { user: "signed", auth: Some((AuthProtocol::Sha256, AUTH)), ..asked.clone() };
    bed.refuses(&level.octets(), DropReason::UnsupportedSecLevels, Some(Stat::UnsupportedSecLevels), true);
    let unknown = Sent { user: "nobody", ..asked.clone() };
    bed.refuses(&unknown.octets(), DropReason::UnknownUserNames, Some(Stat::UnknownUserNames), true);
    // One that is known at this engine alone has to learn which that is.
    let stale = Sent { user: "here", ..asked };
    bed.refuses(&stale.octets(), DropReason::UnknownEngineIds, Some(Stat::UnknownEngineIds), true);

    // (7) The time: an inform's sender is told this engine's, authenticated.
    for (boots, time) in [(7, 151), (6, 0), (8, 0), (0, 0)] {
        let late = Sent { boots, time, ..signed.clone() };
        bed.refuses(&late.octets(), DropReason::NotInTimeWindows, Some(Stat::NotInTimeWindows), true);
        let report = header(bed.scratch.reply.octets());
        let key = MasterKey::from_passphrase(AuthProtocol::Sha256, AUTH.as_bytes()).localize(&own);
        assert!(report.flags.authenticated && key.verifies(&report));
    }
    bed.ask(&TRAP.octets(), 0).unwrap();
    let old = Sent { boots: 2, time: 9_999, ..TRAP };
    bed.refuses(&old.octets(), DropReason::NotInTimeWindows, Some(Stat::NotInTimeWindows), false);
    let old = Sent { time: 849, ..TRAP };
    bed.refuses(&old.octets(), DropReason::NotInTimeWindows, Some(Stat::NotInTimeWindows), false);
    let latched = Sent { boots: i32::MAX as u32, ..TRAP };
    bed.refuses(&latched.octets(), DropReason::NotInTimeWindows, Some(Stat::NotInTimeWindows), false);

    // (8) Another passphrase for privacy. The digest is right.
    for (report, sent) in [(false, &PRIVATE), (true, &private)] {
        let wrong = Sent { privacy: Some((PrivacyProtocol::Aes128, "another one")), ..sent.clone() };
        bed.refuses(&wrong.octets(), DropReason::DecryptionErrors, Some(Stat::DecryptionErrors), report);
    }

    // What the user may send at least is this receiver's own rule.
    for sent in [
        Sent { user: "strict", auth: None, ..TRAP },
        Sent { user: "strict", auth: Some((AuthProtocol::Sha1, AUTH)), ..TRAP },
        Sent { user: "signed", auth: None, ..TRAP },
    ] {
        bed.refuses(&sent.octets(), DropReason::BelowMinimumLevel, None, false);
    }

    // A request that is no notification.
    bed.refuses(&signed.with(&get), DropReason::NotANotification, Some(Stat::UnknownPduHandlers), true);
    let report = header(bed.scratch.reply.octets());
    assert!(report.flags.authenticated);
}

#[test]
fn informs_are_answered_at_their_own_level() {
    let mut bed = Bed::new(USERS);
    let own = bed.own();
    let plain = Sent { user: "plain", auth: None, ..TRAP };
    let cisco = Sent { user: "cisco", privacy: Some((PrivacyProtocol::Aes256C, PRIV)), ..PRIVATE };
    let mut salts = std::collections::HashSet::new();
    for sent in [&plain, &TRAP, &PRIVATE, &cisco, &cisco] {
        let octets = inform(&own, sent).octets();
        let event = bed.ask(&octets, 100).unwrap();
        assert!(event.answer.is_none(), "the receiver adds it");
        assert_eq!(bed.scratch.reply.kind(), ReplyKind::ResponseAfterCommit);
        let (asked, response) = (header(&octets), header(bed.scratch.reply.octets()));
        assert_eq!((response.message_id, response.flags.level()), (99, asked.flags.level()));
        assert!(!response.flags.reportable);
        let security = response.security;
        assert_eq!((security.engine_id, security.boots, security.time), (&own[..], 7, 100));
        assert_eq!(security.user, sent.user.as_bytes());
        let mut plain = Vec::new();
        if let Some((protocol, phrase)) = sent.auth {
            let key = MasterKey::from_passphrase(protocol, phrase.as_bytes()).localize(&own);
            assert!(key.verifies(&response));
        }
        let scoped = match response.data {
            ScopedData::Plain(scoped) => scoped,
            ScopedData::Encrypted(data) => {
                let ((hash, _), (protocol, phrase)) = (sent.auth.unwrap(), sent.privacy.unwrap());
                let key =
                    MasterKey::from_passphrase(hash, phrase.as_bytes()).localize_privacy(protocol, &own);
                key.decrypt(security.boots, security.time, security.privacy, data, &mut plain).unwrap();
                assert!(salts.insert(security.privacy.to_vec()), "a salt came twice");
                ScopedPdu::decrypted(&plain).unwrap()
            }
        };
        assert_eq!(
            (scoped.pdu[0], scoped.request_id(), scoped.context_name),
            (0xa2, Some(5), &b"context"[..])
        );
    }
    assert!(bed.usm.engines().is_empty(), "the own engine is not among the others");
}

#[test]
fn what_is_only_looked_at_is_an_inform_for_this_engine_if_none_is_known() {
    let bed = Bed::new(USERS);
    let own = bed.own();
    let peer = SocketAddr::from(([10, 0, 0, 7], 4_000));
    let plain = Sent { user: "plain", auth: None, ..TRAP };
    for sent in [&plain, &TRAP, &PRIVATE] {
        // Of a time that no window has.
        let octets = Sent { boots: 1, time: 77, ..inform(&own, sent) }.octets();
        let look = |own: Option<EngineId>| {
            let datagram = Datagram { octets: &octets, peer, listener: 0, received: at(0) };
            let mut scratch = Scratch::offline(own);
            let verdict = process(&bed.snapshot, &datagram, &mut scratch);
            (matches!(verdict, Verdict::Accepted(_)), scratch.reply.kind())
        };
        for known in [None, EngineId::new(&own)] {
            assert_eq!(look(known), (true, ReplyKind::ResponseAfterCommit));
        }
        assert_eq!(look(EngineId::new(DEVICE)), (false, ReplyKind::None));
        let explained = crate::pipeline::explain_datagram(&bed.snapshot, &octets, peer, None);
        assert_eq!(explained.verdict, "accepted");
        assert!(explained.rules.is_some());
        assert!(explained.steps.iter().any(|step| step.contains("engine_id: auto")), "{:?}", explained.steps);
        let other = EngineId::new(DEVICE);
        let explained = crate::pipeline::explain_datagram(&bed.snapshot, &octets, peer, other.as_ref());
        assert_eq!(explained.verdict, "unknown_engine_ids");
    }
    // A wrong passphrase is one here too.
    let wrong = Sent { auth: Some((AuthProtocol::Sha256, "another passphrase")), ..inform(&own, &TRAP) };
    let explained = crate::pipeline::explain_datagram(&bed.snapshot, &wrong.octets(), peer, None);
    assert_eq!(explained.verdict, "wrong_digests");
}

#[test]
fn lenient_users_are_taken_and_counted() {
    let mut bed = Bed::new(USERS);
    let sent = Sent { user: "lenient", auth: Some((AuthProtocol::Md5, AUTH)), ..TRAP };
    for (boots, lenient) in [(3, 0), (2, 1), (3, 1), (1, 2)] {
        bed.ask(&Sent { boots, ..sent.clone() }.octets(), 0).unwrap();
        assert_eq!(bed.metrics.usm_lenient_time.get(), lenient);
    }
}

#[test]
fn a_captured_message_is_a_replay_for_every_receiver_and_whatever_else_happens() {
    let mut bed = Bed::new(USERS);
    let captured = Sent { time: 800, ..TRAP }.octets();
    bed.ask(&captured, 0).unwrap();
    bed.ask(&TRAP.octets(), 200).unwrap();
    // Another receiver, which remembers no key; then another generation, whose users have other keys.
    bed.scratch = Scratch::with(Arc::clone(&bed.usm));
    assert_eq!(bed.ask(&captured, 200).map(drop), Err(DropReason::NotInTimeWindows));
    let other = Bed::new(&USERS.replace("signed", "renamed").replace("plain", "signed2"));
    bed.snapshot = other.snapshot;
    assert_eq!(bed.ask(&captured, 200).map(drop), Err(DropReason::UnknownUserNames));
    bed.snapshot = Bed::new(USERS).snapshot;
    assert_eq!(bed.ask(&captured, 200).map(drop), Err(DropReason::NotInTimeWindows));
    bed.ask(&TRAP.octets(), 200).unwrap();
}

#[test]
fn forged_messages_cost_no_derivation_and_no_memory() {
    let mut bed = Bed::new(USERS);
    bed.ask(&TRAP.octets(), 0).unwrap();
    bed.ask(&PRIVATE.octets(), 0).unwrap();
    let mut forged: Vec<Vec<u8>> =
        [TRAP.octets(), PRIVATE.octets(), Sent { user: "cisco", ..PRIVATE }.octets()].into();
    let places: Vec<usize> = forged
        .iter()
        .map(|octets| octets.windows(DEVICE.len()).position(|window| window == DEVICE).unwrap())
        .collect();
    let before = derived();
    for number in 0..60_000_u32 {
        let which = number as usize % forged.len();
        let place = places[which] + DEVICE.len() - 4;
        forged[which][place..place + 4].copy_from_slice(&number.to_be_bytes());
        let octets = forged[which].clone();
        assert_eq!(bed.ask(&octets, 0).map(drop), Err(DropReason::WrongDigests));
    }
    assert_eq!(derived(), before);
    assert_eq!(bed.usm.engines().len(), 1);
    let (security, _) = bed.scratch.security();
    assert_eq!(security.keys.len(), 2, "the two that were authenticated");
    bed.ask(&TRAP.octets(), 0).unwrap();
}

#[test]
fn without_users_nobody_is_answered() {
    let mut bed = Bed::new("unmatched: store");
    let own = bed.own();
    let discovery = Sent { engine: b"", user: "", auth: None, ..inform(&own, &TRAP) };
    let get = V3Pdu::Discovery { request_id: 5 };
    bed.refuses(&discovery.with(&get), DropReason::UnknownUserNames, None, false);
    bed.refuses(&TRAP.octets(), DropReason::UnknownUserNames, None, false);
}
