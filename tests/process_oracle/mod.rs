//! What has to be true of [`process`] for any octets at all, under Snapshots of several kinds. Used by
//! `tests/process_any.rs` and by the fuzz target `process`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use nereus::config;
use nereus::config::settings::RuleActionSettings;
use nereus::event::{ClearedBy, EffectKind, Event, EventId, EventRecord, QueueEntry, Timestamp, Verdict};
use nereus::metrics::{DropReason, Metrics};
use nereus::mib::Mib;
use nereus::pipeline::{
    Datagram, LocalEngine, Reply, ReplyKind, Scratch, Usm, explain_datagram, process, settle,
};
use nereus::snapshot::{self, ExplainedRule, Publisher, Snapshot, view};
use nereus::wire::{self, Kind, Message, ScopedData, V3Header, Version};

const CONFIGURATIONS: [&str; 6] = [
    "access: {communities: [{name: core, community: public}, other]}\n",
    "{}",
    "unmatched: drop\n",
    r#"
listener: [{address: "127.0.0.1:1162", allow: [10.0.0.0/8]}]
source: {trusted_relays: [10.0.0.0/8]}
unmatched: store
rules:
  - name: off
    match: {trap: IF-MIB::linkDown, when: {ifAdminStatus: down}}
    drop: true
  - name: link
    match:
      trap: [IF-MIB::linkDown, "1.3.6.1.4.1.*"]
      except: ["1.3.6.1.4.1.9.*"]
      source: [192.0.2.0/24, 10.0.0.0/8]
      when:
        any:
          - {ifDescr: {matches: "^(Gi|Te)[0-9/]+$"}}
          - {ifIndex: {above: 2, below: 10}, ifOperStatus: {in: [down, 7]}}
          - {sysDescr: {contains: "down"}, "1.3.6.1.4.1.5.1.0": {exists: false}}
    alert: Link
    severity: {from: ifOperStatus, map: {down: major, up: clear}, default: warning}
    key: [source, trap, ifIndex, ifDescr]
    cleared_by: {trap: IF-MIB::linkUp, when: {ifOperStatus: {not: down}}, key: {ifDescr: ifAlias}}
    continue: true
  - {name: any, alert: Any, severity: info, key: [sysDescr, "1.3.6.1.4.1.5.1"]}
"#,
    "access: {users: [{name: myuser, auth: {protocol: md5, passphrase: mypassword}}]}\n",
    r#"
unmatched: store
access:
  communities: [public]
  users:
    - {name: plain}
    - name: myuser
      auth: {protocol: md5, passphrase: mypassword}
      privacy: {protocol: aes128, passphrase: myprivacy}
      minimum_level: no_auth_no_priv
"#,
];

/// Whether the configuration of that number has SNMPv3 users.
const HAS_USERS: [bool; 6] = [false, false, false, false, true, true];
/// The configuration with users and no communities: nobody may send without a user.
const USERS_ALONE: usize = 4;

/// The prepared Snapshots, made once.
fn snapshots() -> &'static [Arc<Snapshot>] {
    static SNAPSHOTS: OnceLock<Vec<Arc<Snapshot>>> = OnceLock::new();
    SNAPSHOTS.get_or_init(|| {
        let snapshot = |text: &&str| {
            let loaded = config::parse("any.yaml", text.as_bytes(), &config::System)
                .unwrap_or_else(|problems| panic!("{problems}"));
            let candidate = snapshot::build(loaded.settings, Mib::builtin(), None)
                .unwrap_or_else(|problems| panic!("{problems:?}"));
            Arc::clone(Publisher::new(candidate, 1).expect("a thread").current())
        };
        CONFIGURATIONS.iter().map(snapshot).collect()
    })
}

/// Decides on `octets` under each Snapshot and holds every Verdict against what is promised. Gives how
/// many accepted it.
pub(crate) fn check(octets: &[u8]) -> usize {
    let peer = SocketAddr::from(([10, 0, 0, 7], 4000));
    let datagram = Datagram { octets, peer, listener: 0, received: Timestamp(1) };
    let decoded = wire::decode(octets);
    // One scratch for all: nothing may be left over from one datagram to the next.
    let mut scratch = Scratch::with(Arc::clone(usm()));
    let mut accepted = 0;
    for (number, (snapshot, has_users)) in snapshots().iter().zip(HAS_USERS).enumerate() {
        let verdict = process(snapshot, &datagram, &mut scratch);
        let verdict = settle(verdict, Timestamp(1), &mut scratch);
        assert_eq!(scratch.version, decoded.as_ref().ok().map(Message::version));
        match (&verdict, &decoded) {
            (Verdict::Dropped(_), Err(_)) => {}
            (Verdict::Accepted(_), Err(error)) => panic!("accepted in spite of {error}"),
            (Verdict::Dropped(reason), Ok(Message::V3(_))) => {
                assert!(has_users || *reason == DropReason::UnknownUserNames, "{reason:?}");
            }
            (Verdict::Accepted(event), Ok(Message::V3(message))) => {
                assert!(has_users, "SNMPv3 without a user");
                assert!([&b"myuser"[..], b"plain"].contains(&message.security.user));
                assert_eq!(event.version, Version::V3);
                match message.data {
                    ScopedData::Plain(scoped) => assert_eq!(event.pdu(), scoped.pdu),
                    ScopedData::Encrypted(_) => assert_eq!(event.datagram[octets.len()..], *event.pdu()),
                }
                hold(snapshot, event, octets);
                accepted += 1;
            }
            (Verdict::Dropped(reason), Ok(Message::Community(message))) => match reason {
                DropReason::BadCommunity => {
                    assert!(
                        number == USERS_ALONE || ![&b"public"[..], b"other"].contains(&message.community)
                    );
                }
                DropReason::Rule | DropReason::Unmatched => {}
                other => panic!("{other:?} for what decodes"),
            },
            (Verdict::Accepted(event), Ok(Message::Community(message))) => {
                assert_eq!(event.version, message.version);
                assert_eq!(event.pdu(), message.pdu);
                assert_eq!(event.trap_oid, message.notification.trap_oid.to_oid());
                hold(snapshot, event, octets);
                accepted += 1;
            }
        }
        let expected = match (&verdict, &decoded) {
            (Verdict::Dropped(DropReason::BadCommunity), _) => ReplyKind::None,
            (_, Ok(Message::Community(message))) if message.notification.kind == Kind::Inform => {
                match verdict {
                    Verdict::Accepted(_) => ReplyKind::ResponseAfterCommit,
                    Verdict::Dropped(_) => ReplyKind::Response,
                }
            }
            (_, Ok(Message::V3(message))) => check_v3_reply(message, has_users, &verdict, &scratch.reply),
            _ => ReplyKind::None,
        };
        assert_eq!(scratch.reply.kind(), expected, "{verdict:?}");
        assert_eq!(scratch.reply.octets().is_empty(), expected == ReplyKind::None);
        let again = process(snapshot, &datagram, &mut scratch);
        let again = settle(again, Timestamp(1), &mut scratch);
        assert_eq!(format!("{verdict:?}"), format!("{again:?}"), "the same twice");
        // What is in an SNMPv3 message is its user's: an explanation has neither the keys' table nor the engines'.
        if !matches!(decoded, Ok(Message::V3(_))) {
            explained(snapshot, octets, peer, &verdict);
        }
    }
    accepted
}

/// Whatever goes back is smaller than a few hundred octets more than what came, is of the sender's message, and only
/// if it asked.
fn check_v3_reply(message: &V3Header<'_>, has_users: bool, verdict: &Verdict, reply: &Reply) -> ReplyKind {
    if reply.kind() == ReplyKind::None {
        return ReplyKind::None;
    }
    assert!(has_users && matches!(verdict, Verdict::Dropped(_)) == (reply.kind() == ReplyKind::Report));
    assert!(message.flags.reportable || reply.kind() != ReplyKind::Report);
    assert!(reply.octets().len() <= message.message.len() + 200, "a Report must not amplify");
    let Ok(Message::V3(back)) = wire::decode(reply.octets()) else { panic!("a message of our own") };
    assert_eq!((back.message_id, back.flags.reportable), (message.message_id, false));
    reply.kind()
}

/// The own engine, and the table of the others, for all datagrams.
fn usm() -> &'static Arc<Usm> {
    static USM: OnceLock<Arc<Usm>> = OnceLock::new();
    USM.get_or_init(|| {
        let engine = "8000000005010203".parse().expect("an engine ID");
        Arc::new(Usm::new(LocalEngine::new(engine, 7, Timestamp(0)), Arc::default(), &Metrics::new()))
    })
}

/// The explanation says what was decided, and names the very rules that did.
fn explained(snapshot: &Snapshot, octets: &[u8], peer: SocketAddr, verdict: &Verdict) {
    let explained = explain_datagram(snapshot, octets, peer, None);
    let event = match verdict {
        Verdict::Dropped(reason) => return assert_eq!(explained.verdict, reason.as_str()),
        Verdict::Accepted(event) => event,
    };
    assert_eq!(explained.verdict, "accepted");
    let rules = explained.rules.expect("an accepted one came to the rules");
    let of = |kinds: &dyn Fn(&EffectKind) -> bool| -> Vec<String> {
        let effects = event.effects.iter().filter(|effect| kinds(&effect.kind));
        effects.map(|effect| effect.rule.rule.to_string()).collect()
    };
    let by_trap = |kind: &EffectKind| *kind == EffectKind::Clear(ClearedBy::Trap);
    let matched = |list: &[ExplainedRule], dropping: bool| -> Vec<String> {
        let drops = |name: &str| {
            snapshot
                .settings()
                .rules
                .iter()
                .any(|rule| *rule.name == *name && rule.action == RuleActionSettings::Drop)
        };
        let matched =
            list.iter().filter(|rule| rule.outcome == "matched" && (dropping || !drops(&rule.rule)));
        matched.map(|rule| rule.rule.clone()).collect()
    };
    // Of clears with one key the first counts.
    let clears = matched(&rules.clears, true);
    assert!(
        of(&by_trap).iter().all(|rule| clears.contains(rule)) && of(&by_trap).is_empty() == clears.is_empty()
    );
    assert_eq!(matched(&rules.rules, false), of(&|kind| !by_trap(kind)));
    let places: Vec<_> = rules.rules.iter().map(|rule| rule.place).collect();
    assert!(places.is_sorted(), "in the order of the rules");
    for rule in rules.rules.iter().chain(&rules.clears) {
        assert_eq!(rule.why.is_none(), rule.outcome == "matched", "{rule:?}");
    }
}

/// An event is bounded by its datagram, shows its community nowhere, and can be read again from what is stored.
fn hold(snapshot: &Snapshot, event: &Event, octets: &[u8]) {
    assert!(event.datagram.starts_with(octets) && event.datagram.len() <= 2 * octets.len());
    assert!(event.version == Version::V3 || event.datagram.len() == octets.len());
    assert_eq!(event.generation, snapshot.generation());
    assert!(event.answer.is_none());
    assert!(event.trap_name.as_ref().is_none_or(|name| name.len() < 200));
    assert!(event.effects.len() <= 2 * snapshot.rules().len().max(8));
    for effect in &event.effects {
        assert_eq!(effect.kind == EffectKind::Store, effect.key.is_empty());
        assert!(effect.key.len() <= 64 + 620 * effect.rule.key_names.len(), "{}", effect.key);
        assert!(!effect.key.contains('\0'));
    }
    assert!(event.octets() < 2 * octets.len() + 16_384);
    let record = EventRecord {
        id: EventId(1),
        time: event.time,
        generation: event.generation,
        source: event.source.clone(),
        peer: event.peer,
        version: event.version,
        trap_oid: event.trap_oid.clone(),
        trap_name: event.trap_name.as_deref().map(str::to_owned),
        rule: None,
        alert: None,
        severity: None,
        alert_id: None,
        pdu: event.pdu().to_vec(),
    };
    let shown = view::event_json(snapshot.mib(), &record).to_string();
    assert!(shown.len() <= 1024 + 1024 * octets.len(), "{} octets of JSON for {}", shown.len(), octets.len());
    assert!(!shown.contains(|c: char| c.is_control()), "an unescaped control character");
    let varbinds = wire::decode_pdu(event.version, event.pdu()).expect("what was accepted decodes again");
    let json: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(json["varbinds"].as_array().map(Vec::len), Some(varbinds.varbinds.len()));
}
