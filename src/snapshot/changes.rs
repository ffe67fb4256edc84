//! What changed between the rules of two generations, as far as open alerts are concerned.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Snapshot;
use super::index::Pattern;
use super::rules::{Does, Rule};
use crate::config::settings::{AlertSettings, RuleActionSettings};
use crate::event::{AlertRecord, AlertState, KEY_SEPARATOR, RuleAction, RuleChange, RuleChanges};

/// The rules of `old` whose alerts have another identity under `new`, or none.
///
/// Who stands for such a rule is, in this order:
/// 1. the rule under another name that raises the same alert, with the same key and labels, for the same
///    notifications, and did not do so before: the old one renamed. Of several the one that also concerns the
///    same devices; without one, none of them;
/// 2. the rule of the same name, if any notification may match both: one that was turned to wholly other
///    notifications would call the old problem by a new name;
/// 3. none: its alerts end.
///
/// What a rule's alerts are called also depends on the MIBs (an enumeration's labels, the name of a
/// notification); a change of those alone is not seen here. Costs a comparison by pointer for each rule
/// that stayed.
#[must_use]
pub fn rule_changes(old: &Snapshot, new: &Snapshot) -> RuleChanges {
    let mut changes = changes_of(new);
    let (before, after) = (old.rules(), new.rules());
    if Arc::ptr_eq(before, after) {
        return changes;
    }
    // `source` is the device's address or its one name: no alert tells the one from the other, so that what is
    // open under the old spelling ends.
    let respelt = old.settings().source.canonical != new.settings().source.canonical;
    let by_name = |rules| -> HashMap<&str, &Arc<Rule>> { named(rules).collect() };
    let (old_names, new_names) = (by_name(&before.rules), by_name(&after.rules));
    let mut fresh: HashMap<&str, Vec<&Arc<Rule>>> = HashMap::new();
    for (name, rule) in named(&after.rules) {
        let Some(alert) = raised(rule) else { continue };
        let was = old_names.get(name).and_then(|was| raised(was));
        if was.is_none_or(|was| identity(was) != identity(alert)) {
            fresh.entry(&*alert.alert).or_default().push(rule);
        }
    }
    for (name, rule) in named(&before.rules) {
        let Some(alert) = raised(rule) else { continue };
        let same = new_names.get(name).filter(|same| raised(same).is_some());
        let respelt = respelt && has_source(alert);
        if !respelt && same.is_some_and(|same| raises_the_same(alert, same)) {
            continue;
        }
        let heir = || {
            fresh
                .get(&*alert.alert)
                .and_then(|fresh| renamed(rule, alert, fresh))
                .or_else(|| same.copied().filter(|same| overlap(&rule.patterns, &same.patterns)))
        };
        let successor = if respelt { None } else { heir() };
        changes.rules.push(RuleChange {
            rule: Arc::clone(&rule.settings.name),
            key_names: action(rule).map(|action| action.key_names.clone()),
            same_labels: successor
                .and_then(|rule| raised(rule))
                .is_some_and(|new| new.labels == alert.labels),
            successor: successor.and_then(action).cloned(),
        });
    }
    changes
}

/// What the rules of a start mean for the alerts that were open before it: the rules may have been changed
/// meanwhile, or by a reload that the end of the process has cut short.
///
/// `open` is at least one open alert of each rule that has any; the first of each speaks for the rule.
///
/// Names every rule that has open alerts, since what it was like before is not known any more; whoever
/// applies the changes leaves an alert alone that fits its rule. One whose rule is gone, or does not fit
/// it, goes to the only rule without open alerts whose alert and key it fits, as if that were the old one renamed.
/// Costs a walk over the alerts, and one over the rules for each rule that is gone.
#[must_use]
pub fn start_changes<'a>(new: &Snapshot, open: impl Iterator<Item = &'a AlertRecord>) -> RuleChanges {
    let mut changes = changes_of(new);
    let mut open_of: BTreeMap<&Arc<str>, &AlertRecord> = BTreeMap::new();
    let raised = |record: &&AlertRecord| record.state != AlertState::Resolved && record.origin.is_rule();
    for record in open.filter(raised) {
        open_of.entry(&record.rule).or_insert(record);
    }
    let actions = || new.rules().rules.iter().filter_map(action);
    let by_name: HashMap<&str, &Arc<RuleAction>> = actions().map(|action| (&*action.rule, action)).collect();
    for (&rule, record) in &open_of {
        let same = by_name.get(&**rule).copied();
        let successor = same.filter(|same| carries(same, record)).or_else(|| {
            let heirs =
                actions().filter(|other| !open_of.contains_key(&other.rule) && carries(other, record));
            only(heirs).or(same)
        });
        changes.rules.push(RuleChange {
            rule: Arc::clone(rule),
            key_names: None,
            same_labels: false,
            successor: successor.cloned(),
        });
    }
    changes
}

fn changes_of(new: &Snapshot) -> RuleChanges {
    let clear_windows = !new.settings().reload.preserve_state;
    RuleChanges { generation: new.generation(), clear_windows, rules: Vec::new() }
}

fn named(rules: &[Arc<Rule>]) -> impl Iterator<Item = (&str, &Arc<Rule>)> {
    rules.iter().map(|rule| (&*rule.settings.name, rule))
}

fn raised(rule: &Rule) -> Option<&AlertSettings> {
    match &rule.settings.action {
        RuleActionSettings::Alert(alert) => Some(alert),
        RuleActionSettings::Drop | RuleActionSettings::Store => None,
    }
}

fn action(rule: &Arc<Rule>) -> Option<&Arc<RuleAction>> {
    match &rule.does {
        Does::Raise { action, .. } => Some(action),
        Does::Drop | Does::Store(_) => None,
    }
}

/// What of a rule stands in its alerts' labels.
fn identity(alert: &AlertSettings) -> impl PartialEq + '_ {
    (&alert.alert, &alert.key, &alert.labels)
}

/// Whether `source` is part of its alerts' identity.
fn has_source(alert: &AlertSettings) -> bool {
    alert.key.iter().any(|part| part == "source") || alert.labels.values().any(|text| text.contains("source"))
}

fn raises_the_same(alert: &AlertSettings, rule: &Rule) -> bool {
    raised(rule).is_some_and(|other| std::ptr::eq(alert, other) || identity(alert) == identity(other))
}

fn renamed<'a>(old: &Rule, alert: &AlertSettings, fresh: &[&'a Arc<Rule>]) -> Option<&'a Arc<Rule>> {
    let candidates =
        || fresh.iter().copied().filter(|new| raises_the_same(alert, new) && old.patterns == new.patterns);
    candidates().find(|new| concern_the_same(old, new)).or_else(|| only(candidates()))
}

/// The item of an iterator that has exactly one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

fn concern_the_same(one: &Rule, other: &Rule) -> bool {
    let (one, other) = (&*one.settings, &*other.settings);
    (&one.source, &one.realm, &one.community, &one.when, &one.except)
        == (&other.source, &other.realm, &other.community, &other.when, &other.except)
}

/// Whether some notification may match both; no pattern is every notification.
fn overlap(one: &[Pattern], other: &[Pattern]) -> bool {
    let meet = |a: &Pattern, b: &Pattern| a.matches(b.oid().arcs()) || b.matches(a.oid().arcs());
    one.is_empty() || other.is_empty() || one.iter().any(|a| other.iter().any(|b| meet(a, b)))
}

/// Whether the alert has this name and, part by part, the key that `action` gives it.
fn carries(action: &RuleAction, record: &AlertRecord) -> bool {
    let label = |name: &str| record.labels.iter().find(|(own, _)| **own == *name).map(|(_, value)| value);
    record.alert == action.alert
        && record.key.split(KEY_SEPARATOR).count() == 1 + action.key_names.len()
        && action.key_parts(&record.key).all(|(name, part)| label(name).is_some_and(|value| value == part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{RuleSettings, SeveritySettings, Unmatched};
    use crate::event::{AlertId, EventId, Generation, Timestamp};
    use crate::severity::Severity;
    use crate::snapshot::tests::{alert, rule, snapshot};

    const DOWN: &[&str] = &["1.3.6.1.6.3.1.1.5.3"];
    const FAN: &[&str] = &["1.3.6.1.4.1.9.1"];
    const BOTH: &[&str] = &["source", "ifIndex"];

    fn raising(name: &str, traps: &[&str], raises: &str, key: &[&str], team: &str) -> RuleSettings {
        let mut raised = alert(raises, SeveritySettings::Fixed(Severity::Major), key);
        raised.labels.insert("team".into(), team.into());
        rule(name, traps, RuleActionSettings::Alert(raised))
    }

    fn link(name: &str) -> RuleSettings {
        raising(name, DOWN, "Down", BOTH, "noc")
    }

    fn at(site: &str, rule: RuleSettings) -> RuleSettings {
        RuleSettings { source: vec![site.parse().unwrap()], ..rule }
    }

    /// Rule and successor (`-` is none), and `=` where the labels' templates are the same.
    fn told(changes: &RuleChanges) -> Vec<String> {
        let tell = |change: &RuleChange| {
            let successor = change.successor.as_ref().map_or("-", |action| &action.rule);
            let labels = if change.same_labels { " =" } else { "" };
            format!("{} {successor}{labels}", change.rule)
        };
        changes.rules.iter().map(tell).collect()
    }

    #[test]
    fn who_stands_for_a_changed_rule() {
        let drop = |name: &str| rule(name, DOWN, RuleActionSettings::Drop);
        let cases: &[(&str, Vec<RuleSettings>, Vec<RuleSettings>, &[&str])] = &[
            ("nothing changed", vec![link("a")], vec![link("a")], &[]),
            ("what is no part of an alert", vec![link("a")], vec![at("10.0.0.0/8", link("a"))], &[]),
            ("gone", vec![link("a")], vec![], &["a -"]),
            ("raises nothing any more", vec![link("a")], vec![drop("a")], &["a -"]),
            ("raised nothing before", vec![drop("a")], vec![link("a")], &[]),
            ("renamed", vec![link("a")], vec![link("b")], &["a b ="]),
            ("another alert", vec![link("a")], vec![raising("a", DOWN, "Fault", BOTH, "noc")], &["a a ="]),
            (
                "another key",
                vec![link("a")],
                vec![raising("a", DOWN, "Down", &["source"], "noc")],
                &["a a ="],
            ),
            ("another label", vec![link("a")], vec![raising("a", DOWN, "Down", BOTH, "ops")], &["a a"]),
            (
                "for a subtree of what it was for",
                vec![raising("a", &["1.3.6.1.6.3.*"], "Down", BOTH, "noc")],
                vec![raising("a", DOWN, "Fault", BOTH, "noc")],
                &["a a ="],
            ),
            (
                "the name is given to other notifications",
                vec![link("a")],
                vec![raising("a", FAN, "Fan", &["source"], "noc")],
                &["a -"],
            ),
            (
                "the old one goes on under another name, and its name is used again",
                vec![link("a")],
                vec![raising("a", DOWN, "Fault", BOTH, "noc"), link("b")],
                &["a b ="],
            ),
            (
                "two exchange their names",
                vec![link("a"), raising("b", FAN, "Fan", &["source"], "noc")],
                vec![raising("a", FAN, "Fan", &["source"], "noc"), link("b")],
                &["a b =", "b a ="],
            ),
            (
                "two of different sites are renamed",
                vec![at("10.1.0.0/16", link("a")), at("10.2.0.0/16", link("b"))],
                vec![at("10.2.0.0/16", link("d")), at("10.1.0.0/16", link("c"))],
                &["a c =", "b d ="],
            ),
            (
                "nobody knows which",
                vec![link("a")],
                vec![at("10.1.0.0/16", link("b")), at("10.2.0.0/16", link("c"))],
                &["a -"],
            ),
            (
                "one that was there all along is no heir",
                vec![link("a"), link("b")],
                vec![link("b")],
                &["a -"],
            ),
        ];
        for (name, old, new, expected) in cases {
            let old = snapshot(old.clone(), Unmatched::Store);
            let new = snapshot(new.clone(), Unmatched::Store);
            let changes = rule_changes(&old, &new);
            assert_eq!(told(&changes), *expected, "{name}");
            for change in &changes.rules {
                assert_eq!(change.key_names.as_ref().map(|names| names.len()), Some(old_key(&old, change)));
            }
        }
    }

    fn old_key(old: &Snapshot, change: &RuleChange) -> usize {
        let rule = old.rules().rules.iter().find(|rule| rule.settings.name == change.rule);
        rule.and_then(|rule| raised(rule)).map(|alert| alert.key.len()).unwrap_or_default()
    }

    #[test]
    fn the_built_in_rules_leave_as_others_do() {
        let (old, new) = (snapshot(vec![], Unmatched::Builtin), snapshot(vec![], Unmatched::Store));
        assert!(told(&rule_changes(&old, &new)).contains(&"builtin-link -".to_owned()));
        assert!(rule_changes(&new, &old).rules.is_empty());
    }

    #[test]
    fn at_a_start_what_fits_one_rule_alone_goes_to_it() {
        let record = |rule: &str, ended: bool| AlertRecord {
            id: AlertId(1),
            change: 1,
            alert: "Down".into(),
            rule: rule.into(),
            severity: Severity::Major,
            state: if ended { AlertState::Resolved } else { AlertState::Firing },
            key: ["Down", "10.0.0.7", "3"].join(&KEY_SEPARATOR.to_string()).into(),
            labels: [("alertname", "Down"), ("ifIndex", "3"), ("severity", "major"), ("source", "10.0.0.7")]
                .map(|(name, value)| (name.into(), value.to_owned()))
                .into(),
            annotations: Vec::new(),
            count: 1,
            first_seen: Timestamp(0),
            last_seen: Timestamp(0),
            last_event: EventId(1),
            resolved_at: None,
            resolved_by: None,
            quiet_until: None,
            expires_at: None,
            notify: None,
            by_hand: None,
            muted: None,
            flap: None,
            origin: crate::event::AlertOrigin::Rule,
        };
        let turned = |name: &str| raising(name, DOWN, "Down", &["ifIndex", "source"], "noc");
        let cases: &[(&str, &[&str], Vec<RuleSettings>, &[&str])] = &[
            ("its rule is there", &["a"], vec![link("a"), link("b")], &["a a"]),
            ("its rule has changed", &["a"], vec![turned("a")], &["a a"]),
            ("renamed", &["a"], vec![turned("c"), link("b")], &["a b"]),
            ("renamed, and the name is used again", &["a"], vec![turned("a"), link("b")], &["a b"]),
            ("gone", &["a"], vec![turned("b")], &["a -"]),
            ("nobody knows which", &["a"], vec![link("b"), link("c")], &["a -"]),
            ("one with alerts of its own is no heir", &["a", "b"], vec![link("b")], &["a -", "b b"]),
        ];
        for (name, open, rules, expected) in cases {
            let mut open: Vec<_> = open.iter().map(|rule| record(rule, false)).collect();
            open.push(record("ended", true));
            let new = snapshot(rules.clone(), Unmatched::Store);
            let changes = start_changes(&new, open.iter());
            assert_eq!(told(&changes), *expected, "{name}");
            assert!(changes.generation == Generation(1) && !changes.clear_windows);
        }
    }

    #[test]
    fn a_label_is_constant_where_no_event_can_change_it() {
        let labels = |team: &str| {
            let new = snapshot(vec![raising("a", DOWN, "Down", BOTH, team)], Unmatched::Store);
            let labels = action(&new.rules().rules[0]).unwrap().text.constant_labels();
            labels.map(|labels| labels[0].1.clone())
        };
        assert_eq!(labels("noc").as_deref(), Some("noc"));
        assert_eq!(labels("{{ alert }} by {{ rule }}").as_deref(), Some("Down by a"));
        assert_eq!(labels("{{ ifIndex }}"), None);
        assert_eq!(labels("{{ severity }}"), None);
    }
}
