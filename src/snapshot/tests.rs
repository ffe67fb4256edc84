//! What rules decide, told in small settings.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::*;
use crate::config::settings::{
    AlertSettings, ClearSettings, Condition, MappedSeverity, RuleActionSettings, RuleSettings, Scalar,
    SeveritySettings, SourceSettings, Test, TrapPattern, Unmatched,
};
use crate::event::{ClearedBy, Effect, EffectKind, KEY_SEPARATOR};
use crate::oid::{Oid, OidRef};
use crate::severity::Severity;
use crate::value::Value;
use crate::version::Version;
use crate::wire::{self, Kind, Message, OutgoingVarbind, V2Notification};

const LINK_DOWN: &str = "1.3.6.1.6.3.1.1.5.3";
const LINK_UP: &str = "1.3.6.1.6.3.1.1.5.4";
const IF_INDEX: &str = "1.3.6.1.2.1.2.2.1.1";
const IF_DESCR: &str = "1.3.6.1.2.1.2.2.1.2";
const IF_ADMIN: &str = "1.3.6.1.2.1.2.2.1.7";

fn oid(text: &str) -> Oid {
    text.parse().unwrap()
}

fn trap(trap_oid: &str, varbinds: &[(&str, Value<'_>)]) -> Vec<u8> {
    let names: Vec<Oid> = varbinds.iter().map(|(name, _)| oid(name)).collect();
    let varbinds: Vec<OutgoingVarbind<'_>> =
        names.iter().zip(varbinds).map(|(name, (_, value))| (name.borrow(), *value)).collect();
    let trap_oid = oid(trap_oid);
    let mut out = Vec::new();
    wire::encode_v2c(
        &V2Notification {
            community: b"public",
            kind: Kind::Trap,
            request_id: 1,
            uptime: 1,
            trap_oid: OidRef(trap_oid.arcs()),
            varbinds: &varbinds,
        },
        &mut out,
    )
    .unwrap();
    out
}

pub(super) fn alert(name: &str, severity: SeveritySettings, key: &[&str]) -> AlertSettings {
    AlertSettings {
        alert: name.into(),
        severity,
        key: key.iter().map(|&part| part.to_owned()).collect(),
        cleared_by: None,
        deduplicate: None,
        store_repeats: true,
        expire: None,
        flapping: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        notify: None,
    }
}

pub(super) fn rule(name: &str, traps: &[&str], action: RuleActionSettings) -> RuleSettings {
    RuleSettings {
        name: name.into(),
        trap: traps.iter().map(|&trap| pattern(trap)).collect(),
        except: Vec::new(),
        source: Vec::new(),
        realm: Vec::new(),
        community: Vec::new(),
        when: None,
        action,
        continue_: false,
    }
}

fn pattern(text: &str) -> TrapPattern {
    match text.strip_suffix(".*") {
        Some(subtree) => TrapPattern::Subtree(oid(subtree)),
        None => text.parse().map_or_else(|_| TrapPattern::Name(text.into()), TrapPattern::Exact),
    }
}

pub(super) fn link_rule() -> RuleSettings {
    let mut link = alert("InterfaceDown", SeveritySettings::Fixed(Severity::Major), &["source", "ifIndex"]);
    link.cleared_by =
        Some(ClearSettings { trap: vec![pattern("IF-MIB::linkUp")], when: None, key: BTreeMap::new() });
    rule("link", &["IF-MIB::linkDown"], RuleActionSettings::Alert(link))
}

pub(super) fn snapshot(rules: Vec<RuleSettings>, unmatched: Unmatched) -> Snapshot {
    let settings =
        Settings { rules: rules.into_iter().map(Arc::new).collect(), unmatched, ..Settings::default() };
    build(settings, Mib::builtin(), None).unwrap().into_snapshot(Generation(1))
}

fn decide(snapshot: &Snapshot, octets: &[u8]) -> (Decision, Vec<Effect>) {
    let Ok(Message::Community(message)) = wire::decode(octets) else { panic!("a valid trap") };
    let trap_oid = message.notification.trap_oid.to_oid();
    let subject = Subject {
        notification: &message.notification,
        trap_oid: trap_oid.arcs(),
        source: IpAddr::from([10, 0, 0, 7]),
        realm: None,
        peer: SocketAddr::from(([10, 0, 0, 7], 4000)),
        version: Version::V2c,
        community: Some("core"),
    };
    let mut effects = SmallVec::new();
    let decision = snapshot.rules().decide(&subject, &mut RuleScratch::default(), &mut effects);
    (decision, effects.into_vec())
}

fn key(parts: &[&str]) -> String {
    parts.join(&KEY_SEPARATOR.to_string())
}

/// Rule name, kind and key of each effect.
fn told(effects: &[Effect]) -> Vec<(&str, EffectKind, &str)> {
    effects.iter().map(|effect| (&*effect.rule.rule, effect.kind, &*effect.key)).collect()
}

#[test]
fn a_link_down_raises_by_interface_and_its_link_up_clears_the_same_key() {
    let snapshot = snapshot(vec![link_rule()], Unmatched::Builtin);
    let expected = key(&["InterfaceDown", "10.0.0.7", "3"]);
    let down = trap(LINK_DOWN, &[(&format!("{IF_INDEX}.3"), Value::Integer(3))]);
    let (decision, effects) = decide(&snapshot, &down);
    assert_eq!(decision, Decision::Keep);
    assert_eq!(told(&effects), [("link", EffectKind::Raise(Severity::Major), &*expected)]);
    let up = trap(LINK_UP, &[(&format!("{IF_INDEX}.3"), Value::Integer(3))]);
    let (decision, effects) = decide(&snapshot, &up);
    assert_eq!(decision, Decision::Keep);
    assert_eq!(
        told(&effects),
        [("link", EffectKind::Clear(ClearedBy::Trap), &*expected)],
        "cleared once, and no alert for linkUp"
    );
}

#[test]
fn a_missing_if_index_is_read_from_the_instance_of_another_column() {
    let snapshot = snapshot(vec![link_rule()], Unmatched::Store);
    let down = trap(LINK_DOWN, &[(&format!("{IF_DESCR}.17"), Value::Octets(b"Gi0/17"))]);
    let (_, effects) = decide(&snapshot, &down);
    assert_eq!(&*effects[0].key, key(&["InterfaceDown", "10.0.0.7", "17"]));
}

#[test]
fn an_oid_that_no_mib_knows_means_itself_alone() {
    let [one, two] = [1, 2].map(|arc| format!("1.3.6.1.4.1.99999.1.{arc}"));
    let severity = SeveritySettings::From {
        varbind: two.clone(),
        map: BTreeMap::from([("7".to_owned(), MappedSeverity::Severity(Severity::Critical))]),
        default: MappedSeverity::Severity(Severity::Info),
    };
    let own = alert("Own", severity, &["source", &one, &two, &format!("{IF_DESCR}.4")]);
    let snapshot =
        snapshot(vec![rule("own", &[LINK_DOWN], RuleActionSettings::Alert(own))], Unmatched::Store);
    let instance = |name: &str| format!("{name}.0");
    let [descr_3, descr_4] = [3, 4].map(|index| format!("{IF_DESCR}.{index}"));
    let octets = trap(
        LINK_DOWN,
        &[
            ("1.3.6.1.4.1.9.1.0", Value::Integer(5)),
            (&descr_3, Value::Octets(b"Gi0/3")),
            (&instance(&two), Value::Integer(7)),
            (&descr_4, Value::Octets(b"Gi0/4")),
            (&instance(&one), Value::Integer(6)),
        ],
    );
    let (_, effects) = decide(&snapshot, &octets);
    let expected = key(&["Own", "10.0.0.7", "6", "7", "Gi0/4"]);
    assert_eq!(told(&effects), [("own", EffectKind::Raise(Severity::Critical), &*expected)]);
    // Another one below the same known OID is not taken for it.
    let (_, effects) = decide(&snapshot, &trap(LINK_DOWN, &[("1.3.6.1.4.1.9.1.0", Value::Integer(5))]));
    assert_eq!(&*effects[0].key, key(&["Own", "10.0.0.7", "", "", ""]));
}

#[test]
fn typed_conditions_know_labels_numbers_and_texts() {
    let admin = format!("{IF_ADMIN}.3");
    let descr = format!("{IF_DESCR}.3");
    let down = trap(LINK_DOWN, &[(&admin, Value::Integer(2)), (&descr, Value::Octets(b"Gi0/3"))]);
    let text = |text: &str| Scalar::Text(text.into());
    let field = |name: &str, test| Condition::Field { name: name.into(), test };
    for (condition, holds) in [
        (field("ifAdminStatus", Test::Equals(text("down"))), true),
        (field("ifAdminStatus", Test::Equals(text("up"))), false),
        (field("ifAdminStatus", Test::Equals(Scalar::Number(2))), true),
        (field("IF-MIB::ifAdminStatus", Test::In(vec![Scalar::Number(1), text("down")])), true),
        (field("ifAdminStatus", Test::Not(Box::new(Test::Equals(text("down"))))), false),
        (field("ifAdminStatus", Test::Above(1.0)), true),
        (field("ifAdminStatus", Test::Below(2.0)), false),
        (field("ifDescr", Test::Matches("^(Gi|Te)".into())), true),
        (field("ifDescr", Test::Contains("0/3".into())), true),
        (field("ifDescr", Test::Equals(text("Gi0/3"))), true),
        (field(IF_DESCR, Test::Equals(text("Gi0/3"))), true),
        (field("ifDescr", Test::Above(0.0)), false),
        (field("ifOperStatus", Test::Exists(false)), true),
        (field("ifOperStatus", Test::Equals(text("up"))), false),
        (field("ifIndex", Test::Equals(Scalar::Number(3))), true),
        (field("community", Test::Equals(text("core"))), true),
        (
            Condition::All(vec![
                field("ifDescr", Test::Exists(true)),
                Condition::Any(vec![
                    field("ifIndex", Test::Equals(Scalar::Number(9))),
                    field("ifIndex", Test::Above(2.0)),
                ]),
            ]),
            true,
        ),
    ] {
        let mut rule = rule("when", &["IF-MIB::linkDown"], RuleActionSettings::Store);
        rule.when = Some(condition.clone());
        let (_, effects) = decide(&snapshot(vec![rule], Unmatched::Store), &down);
        assert_eq!(!effects.is_empty(), holds, "{condition:?}");
    }
}

#[test]
fn first_match_wins_unless_it_goes_on_and_a_drop_ends_it() {
    let down = trap(LINK_DOWN, &[]);
    let store = |name: &str, goes_on| RuleSettings {
        continue_: goes_on,
        ..rule(name, &["1.3.6.1.6.3.1.1.5.*"], RuleActionSettings::Store)
    };
    let names = |rules| {
        let (decision, effects) = decide(&snapshot(rules, Unmatched::Drop), &down);
        let names: Vec<String> = effects.iter().map(|effect| effect.rule.rule.to_string()).collect();
        (decision, names.join(" "))
    };
    assert_eq!(names(vec![store("a", false), store("b", false)]), (Decision::Keep, "a".into()));
    assert_eq!(names(vec![store("a", true), store("b", false)]), (Decision::Keep, "a b".into()));
    let drop = || rule("drop", &[], RuleActionSettings::Drop);
    assert_eq!(names(vec![drop(), store("b", false)]), (Decision::Dropped, String::new()));
    assert_eq!(names(vec![store("a", true), drop(), store("b", false)]), (Decision::Keep, "a".into()));
    assert_eq!(names(vec![]), (Decision::Unmatched, String::new()));
    let except = RuleSettings { except: vec![pattern(LINK_DOWN)], ..store("a", false) };
    assert_eq!(names(vec![except, store("b", false)]), (Decision::Keep, "b".into()));
    let elsewhere = RuleSettings { source: vec!["10.1.0.0/16".parse().unwrap()], ..store("a", false) };
    assert_eq!(names(vec![elsewhere]), (Decision::Unmatched, String::new()));
    let other = RuleSettings { community: vec!["edge".into()], ..store("a", false) };
    assert_eq!(names(vec![other]), (Decision::Unmatched, String::new()));
}

#[test]
fn a_drop_does_not_hide_the_end_of_an_alert() {
    let drop_up = rule("drop", &["IF-MIB::linkUp"], RuleActionSettings::Drop);
    let snapshot = snapshot(vec![drop_up, link_rule()], Unmatched::Drop);
    let up = trap(LINK_UP, &[(&format!("{IF_INDEX}.3"), Value::Integer(3))]);
    let (decision, effects) = decide(&snapshot, &up);
    assert_eq!(
        (decision, effects.len(), effects[0].kind),
        (Decision::Keep, 1, EffectKind::Clear(ClearedBy::Trap))
    );
}

#[test]
fn severity_comes_from_a_varbind_by_label_or_number_and_may_clear() {
    let map = BTreeMap::from([
        ("up".to_owned(), MappedSeverity::Clear),
        ("2".to_owned(), MappedSeverity::Severity(Severity::Critical)),
    ]);
    let severity = SeveritySettings::From {
        varbind: "ifAdminStatus".into(),
        map,
        default: MappedSeverity::Severity(Severity::Info),
    };
    let rules = vec![rule("map", &[LINK_DOWN], RuleActionSettings::Alert(alert("A", severity, &["source"])))];
    let snapshot = snapshot(rules, Unmatched::Drop);
    for (number, kind) in [
        (1, EffectKind::Clear(ClearedBy::Severity)),
        (2, EffectKind::Raise(Severity::Critical)),
        (3, EffectKind::Raise(Severity::Info)),
    ] {
        let (_, effects) =
            decide(&snapshot, &trap(LINK_DOWN, &[(&format!("{IF_ADMIN}.3"), Value::Integer(number))]));
        assert_eq!(effects[0].kind, kind);
    }
}

#[test]
fn a_hostile_key_part_is_cut_and_cannot_forge_another_key() {
    let rules = vec![rule(
        "r",
        &[LINK_DOWN],
        RuleActionSettings::Alert(alert("A", SeveritySettings::Fixed(Severity::Info), &["ifDescr"])),
    )];
    let snapshot = snapshot(rules, Unmatched::Drop);
    let keyed = |descr: &[u8]| {
        let (_, effects) =
            decide(&snapshot, &trap(LINK_DOWN, &[(&format!("{IF_DESCR}.3"), Value::Octets(descr))]));
        effects[0].key.to_string()
    };
    let long = [b'x'; 60_000];
    let mut other = long;
    other[59_999] = b'y';
    assert!(keyed(&long).len() < 300);
    assert_ne!(keyed(&long), keyed(&other), "told apart behind the cut");
    assert_eq!(keyed(b"a\x1fb").matches(KEY_SEPARATOR).count(), 1);
}

#[test]
fn unknown_names_are_refused_with_the_rule_and_all_at_once() {
    let bad_key = rule(
        "one",
        &["IF-MIB::linkDown"],
        RuleActionSettings::Alert(alert("A", SeveritySettings::Fixed(Severity::Info), &["ifIndx"])),
    );
    let bad_trap = rule("two", &["IF-MIB::linkDwn"], RuleActionSettings::Drop);
    let settings = Settings { rules: vec![Arc::new(bad_key), Arc::new(bad_trap)], ..Settings::default() };
    let problems = build(settings, Mib::builtin(), None).unwrap_err();
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 2, "{text:?}");
    assert!(
        text[0].contains("`one`") && text[0].contains("ifIndx") && text[0].contains("ifIndex"),
        "{text:?}"
    );
    assert!(text[1].contains("`two`") && text[1].contains("linkDown"), "{text:?}");
}

#[test]
fn what_did_not_change_is_the_same_arc() {
    let mib = Mib::builtin();
    let settings = |second: &str| Settings {
        rules: vec![Arc::new(link_rule()), Arc::new(rule(second, &[LINK_UP], RuleActionSettings::Drop))],
        ..Settings::default()
    };
    let first = build(settings("a"), Arc::clone(&mib), None).unwrap().into_snapshot(Generation(1));
    let same = build(settings("a"), Arc::clone(&mib), Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&same.settings, first.settings()));
    assert!(Arc::ptr_eq(&same.rules, first.rules()));
    assert!(Arc::ptr_eq(&same.routes, first.routes()));
    assert!(Arc::ptr_eq(&same.users, first.users()));
    let changed = build(settings("b"), mib, Some(&first)).unwrap();
    assert!(!Arc::ptr_eq(&changed.rules, first.rules()));
    assert!(Arc::ptr_eq(&changed.rules.rules[0], &first.rules().rules[0]), "the rule that stayed");
    assert!(!Arc::ptr_eq(&changed.rules.rules[1], &first.rules().rules[1]));
    assert!(Arc::ptr_eq(&changed.settings.storage, &first.settings().storage));
}

#[test]
fn the_device_is_taken_from_whom_it_may_be() {
    let source = SourceSettings {
        trusted_relays: vec!["10.0.0.5/32".parse().unwrap()],
        direct_agent_address: vec!["10.9.0.0/16".parse().unwrap()],
        ..SourceSettings::default()
    };
    let settings = Settings { source: Arc::new(source), ..Settings::default() };
    let snapshot = build(settings, Mib::builtin(), None).unwrap().into_snapshot(Generation(1));
    let (relay, direct, other) = ("10.0.0.5", "10.9.1.1", "10.7.0.1");
    let ask = |peer: &str, trap: Option<[u8; 4]>, agent: Option<[u8; 4]>| {
        snapshot.device(peer.parse().unwrap(), trap, agent).to_string()
    };
    let (a, b) = (Some([192, 0, 2, 1]), Some([192, 0, 2, 2]));
    assert_eq!(ask(relay, a, b), "192.0.2.1");
    assert_eq!(ask(relay, None, b), "192.0.2.2");
    assert_eq!(ask(relay, Some([0; 4]), Some([0; 4])), relay, "0.0.0.0 is no device");
    assert_eq!(ask(direct, a, b), "192.0.2.2", "its agent-addr, not its snmpTrapAddress");
    assert_eq!(ask(other, a, b), other);
    assert_eq!(ask("::ffff:10.7.0.1", None, None), other, "one device through either socket");
}

#[test]
fn annotations_read_well_and_an_absent_name_loses_nothing() {
    let mut link = alert("InterfaceDown", SeveritySettings::Fixed(Severity::Major), &["source", "ifIndex"]);
    link.deduplicate = Some(Duration::from_secs(1));
    link.annotations = BTreeMap::from([(
        "summary".to_owned(),
        "{{ source }} {{ ifDescr }}{{ ifOperStatus }} {{ ifAdminStatus }} {{ severity }} {{ trap }}"
            .to_owned(),
    )]);
    let snapshot =
        snapshot(vec![rule("link", &[LINK_DOWN], RuleActionSettings::Alert(link))], Unmatched::Drop);
    let octets = trap(
        LINK_DOWN,
        &[(&format!("{IF_DESCR}.3"), Value::Octets(b"Gi0/3")), (&format!("{IF_ADMIN}.3"), Value::Integer(2))],
    );
    let (_, effects) = decide(&snapshot, &octets);
    let Ok(Message::Community(message)) = wire::decode(&octets) else { panic!("valid") };
    let start = message.pdu.as_ptr() as usize - octets.as_ptr() as usize;
    let event = crate::event::Event {
        time: crate::event::Timestamp(0),
        generation: Generation(1),
        listener: 0,
        peer: SocketAddr::from(([10, 0, 0, 7], 4000)),
        source: IpAddr::from([10, 0, 0, 7]).into(),
        version: Version::V2c,
        community: None,
        trap_oid: oid(LINK_DOWN),
        trap_name: None,
        pdu: start..start + message.pdu.len(),
        datagram: octets.clone().into(),
        effects: SmallVec::new(),
        answer: None,
    };
    let rendered = effects[0].rule.text.render(&event, Severity::Major);
    assert_eq!(rendered.annotations[0].1, "10.0.0.7 Gi0/3 down major IF-MIB::linkDown");
}

mod explain;
mod lookups;
