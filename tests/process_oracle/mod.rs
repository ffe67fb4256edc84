//! What has to be true of [`process`] for any octets at all, under Snapshots of several kinds. Used by
//! `tests/process_any.rs` and by the fuzz target `process`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use nereus::config;
use nereus::config::settings::RuleActionSettings;
use nereus::event::{ClearedBy, EffectKind, Event, EventId, EventRecord, Timestamp, Verdict, Weight};
use nereus::metrics::DropReason;
use nereus::mib::Mib;
use nereus::pipeline::{Datagram, Scratch, explain_datagram, process};
use nereus::snapshot::{self, ExplainedRule, Publisher, Snapshot, view};
use nereus::wire::{self, Kind, Message};

const CONFIGURATIONS: [&str; 4] = [
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
];

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
    let mut scratch = Scratch::default();
    let mut accepted = 0;
    for snapshot in snapshots() {
        let verdict = process(snapshot, &datagram, &mut scratch);
        assert_eq!(scratch.version, decoded.as_ref().ok().map(Message::version));
        match (&verdict, &decoded) {
            (Verdict::Dropped(_), Err(_)) => {}
            (Verdict::Accepted(_), Err(error)) => panic!("accepted in spite of {error}"),
            (Verdict::Dropped(reason), Ok(Message::V3(_))) => assert_eq!(*reason, DropReason::V3NotSupported),
            (Verdict::Accepted(_), Ok(Message::V3(_))) => panic!("SNMPv3 without a user"),
            (Verdict::Dropped(reason), Ok(Message::Community(message))) => {
                let informs = message.notification.kind == Kind::Inform;
                match reason {
                    DropReason::BadCommunity => {
                        assert!(![&b"public"[..], b"other"].contains(&message.community));
                    }
                    DropReason::InformNotSupported => assert!(informs),
                    DropReason::Rule | DropReason::Unmatched => assert!(!informs),
                    other => panic!("{other:?} for what decodes"),
                }
            }
            (Verdict::Accepted(event), Ok(Message::Community(message))) => {
                assert_eq!(event.version, message.version);
                assert_eq!(event.pdu(), message.pdu);
                assert_eq!(event.trap_oid, message.notification.trap_oid.to_oid());
                hold(snapshot, event, octets);
                accepted += 1;
            }
        }
        let again = process(snapshot, &datagram, &mut scratch);
        assert_eq!(format!("{verdict:?}"), format!("{again:?}"), "the same twice");
        explained(snapshot, octets, peer, &verdict);
    }
    accepted
}

/// The explanation says what was decided, and names the very rules that did.
fn explained(snapshot: &Snapshot, octets: &[u8], peer: SocketAddr, verdict: &Verdict) {
    let explained = explain_datagram(snapshot, octets, peer);
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
    assert_eq!(&*event.datagram, octets);
    assert_eq!(event.generation, snapshot.generation());
    assert!(event.answer.is_none());
    assert!(event.trap_name.as_ref().is_none_or(|name| name.len() < 200));
    assert!(event.effects.len() <= 2 * snapshot.rules().len().max(8));
    for effect in &event.effects {
        assert_eq!(effect.kind == EffectKind::Store, effect.key.is_empty());
        assert!(effect.key.len() <= 64 + 620 * effect.rule.key_names.len(), "{}", effect.key);
        assert!(!effect.key.contains('\0'));
    }
    assert!(event.octets() < octets.len() + 16_384);
    let record = EventRecord {
        id: EventId(1),
        time: event.time,
        generation: event.generation,
        source: event.source,
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
