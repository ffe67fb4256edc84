//! What changed between the rules of two generations, as far as open alerts are concerned.

use std::collections::HashMap;
use std::sync::Arc;

use super::Snapshot;
use super::rules::{Does, Rule};
use crate::config::settings::{AlertSettings, RuleActionSettings};
use crate::event::{RuleAction, RuleChange, RuleChanges};

/// The rules of `old` whose alerts have another identity under `new`, or none.
///
/// A rule of another name that raises the same alert, with the same key and labels, for the same
/// notifications, is the old one renamed. Costs a comparison by pointer for each rule that stayed.
#[must_use]
pub fn rule_changes(old: &Snapshot, new: &Snapshot) -> RuleChanges {
    let clear_windows = !new.settings().reload.preserve_state;
    let mut changes = RuleChanges { generation: new.generation(), clear_windows, rules: Vec::new() };
    let (before, after) = (old.rules(), new.rules());
    if Arc::ptr_eq(before, after) {
        return changes;
    }
    // `source` is the device's address or its one name: what is open under the one has not the other's key.
    let renamed_sources = old.settings().source.canonical != new.settings().source.canonical;
    let by_name: HashMap<&str, &Arc<Rule>> =
        after.rules.iter().map(|rule| (&*rule.settings.name, rule)).collect();
    let old_names: HashMap<&str, ()> = before.rules.iter().map(|rule| (&*rule.settings.name, ())).collect();
    for rule in &before.rules {
        let Some(alert) = raised(rule) else { continue };
        let successor = match by_name.get(&*rule.settings.name) {
            Some(same) if Arc::ptr_eq(same, rule) => continue,
            Some(same) => match raised(same) {
                Some(other)
                    if identity(alert) == identity(other) && !(renamed_sources && has_source(other)) =>
                {
                    continue;
                }
                Some(_) => action(same),
                None => None,
            },
            None => after
                .rules
                .iter()
                .filter(|other| !old_names.contains_key(&*other.settings.name))
                .find(|other| is_renamed(rule, alert, other))
                .and_then(action),
        };
        changes.rules.push(RuleChange { rule: Arc::clone(&rule.settings.name), successor });
    }
    changes
}

fn raised(rule: &Rule) -> Option<&AlertSettings> {
    match &rule.settings.action {
        RuleActionSettings::Alert(alert) => Some(alert),
        RuleActionSettings::Drop | RuleActionSettings::Store => None,
    }
}

fn action(rule: &Arc<Rule>) -> Option<Arc<RuleAction>> {
    match &rule.does {
        Does::Raise { action, .. } => Some(Arc::clone(action)),
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

fn is_renamed(old: &Rule, alert: &AlertSettings, new: &Rule) -> bool {
    raised(new).is_some_and(|other| identity(alert) == identity(other)) && old.patterns == new.patterns
}
