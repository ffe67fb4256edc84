//! Why rules matched, or did not, in words.

use super::*;
use crate::snapshot::explain;

/// Rule, outcome and reason of each rule that names the notification.
fn told(rules: Vec<RuleSettings>, unmatched: Unmatched, octets: &[u8]) -> Vec<String> {
    let snapshot = snapshot(rules, unmatched);
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
    let explained = explain(&snapshot, &subject);
    let line = |kind: &str, rule: &ExplainedRule| {
        format!("{kind}{} {}: {}", rule.rule, rule.outcome, rule.why.as_deref().unwrap_or("-"))
    };
    let clears = explained.clears.iter().map(|rule| line("clear ", rule));
    let rules = explained.rules.iter().map(|rule| line("", rule));
    let effects = explained.effects.iter().map(|effect| format!("{} {}", effect.does, effect.rule));
    clears.chain(rules).chain(effects).collect()
}

fn down() -> Vec<u8> {
    let (admin, descr) = (format!("{IF_ADMIN}.3"), format!("{IF_DESCR}.3"));
    trap(LINK_DOWN, &[(&admin, Value::Integer(2)), (&descr, Value::Octets(b"Gi0/3"))])
}

#[test]
fn each_reason_is_told_with_what_was_there() {
    let text = |text: &str| Scalar::Text(text.into());
    let field = |name: &str, test| Condition::Field { name: name.into(), test };
    let named = |name: &str| RuleSettings { name: name.into(), ..link_rule() };
    let when = |name: &str, condition| RuleSettings { when: Some(condition), ..named(name) };
    let rules = vec![
        RuleSettings { source: vec!["10.1.0.0/16".parse().unwrap()], ..named("elsewhere") },
        RuleSettings { community: vec!["edge".into()], ..named("edge") },
        RuleSettings { except: vec![pattern("IF-MIB::linkDown")], ..named("except") },
        when("up", field("ifAdminStatus", Test::Equals(text("up")))),
        when("there", field("ifAlias", Test::Exists(true))),
        when(
            "either",
            Condition::Any(vec![
                field("ifDescr", Test::Matches("^Te".into())),
                field("ifAdminStatus", Test::In(vec![Scalar::Number(7), text("testing")])),
            ]),
        ),
        when(
            "both",
            Condition::All(vec![
                field("ifDescr", Test::Exists(true)),
                field("ifIndex", Test::Not(Box::new(Test::Below(9.0)))),
            ]),
        ),
        named("link"),
        named("late"),
        rule("others", &["IF-MIB::linkUp"], RuleActionSettings::Drop),
    ];
    assert_eq!(
        told(rules, Unmatched::Store, &down()),
        [
            "elsewhere passed_over: the device 10.0.0.7 is in none of 10.1.0.0/16",
            "edge passed_over: the community is `core`, not edge",
            "except passed_over: `except` names IF-MIB::linkDown",
            "up passed_over: `when`: ifAdminStatus is `down` (2); the rule wants `up`",
            "there passed_over: `when`: ifAlias is not there; the rule wants that it is there",
            "either passed_over: none of these holds: `when`: ifDescr is `Gi0/3`; the rule wants a match of `^Te`; \
             `when`: ifAdminStatus is `down` (2); the rule wants one of 7, `testing`",
            "both passed_over: `when`: ifIndex is `3`; the rule wants not less than 9",
            "link matched: -",
            "late not_reached: `link` matched before it",
            "raise link",
        ]
    );
}

#[test]
fn clears_and_built_in_rules_are_told() {
    let up = trap(LINK_UP, &[(&format!("{IF_INDEX}.3"), Value::Integer(3))]);
    assert_eq!(
        told(vec![link_rule()], Unmatched::Builtin, &up),
        [
            "clear link matched: -",
            "clear builtin-link matched: -",
            "builtin-any not_reached: it has ended an alert: the built-in rules stay silent on it",
            "clear link",
        ]
    );
}
