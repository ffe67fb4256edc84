//! What a changed rule makes of one alert that is open under it: nothing, another name, another identity, its
//! end.

use std::sync::Arc;

use super::identity::{EXPORTED, LabelNames, Labels};
use crate::event::{AlertRecord, KEY_SEPARATOR, RuleAction, RuleChange};

/// What becomes of an alert.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is what its rule would raise now.
    Stays,
    /// The same under a rule of another name.
    Renamed,
    /// Its problem has another identity now.
    Moves { key: Box<str>, labels: Labels },
    /// No rule raises it any more, or only an event can tell what it is now.
    Ends,
}

/// Decides on an alert whose rule `change` is about.
pub(super) fn fate(names: &LabelNames, record: &AlertRecord, change: &RuleChange) -> Fate {
    let Some(successor) = &change.successor else { return Fate::Ends };
    let own = successor.text.constant_labels();
    if fits(names, record, change, successor, own.as_ref()) {
        return if record.rule == successor.rule { Fate::Stays } else { Fate::Renamed };
    }
    match moved(names, record, change, successor, own) {
        Some((key, labels)) => Fate::Moves { key, labels },
        None => Fate::Ends,
    }
}

/// Whether key and labels are what `successor` gives this problem. Labels that depend on the event are
/// believed to be where their templates may be the same: the next event outside the window looks at them.
fn fits(
    names: &LabelNames,
    record: &AlertRecord,
    change: &RuleChange,
    successor: &RuleAction,
    own: Option<&Labels>,
) -> bool {
    if record.alert != successor.alert || parts(record).count() != successor.key_names.len() {
        return false;
    }
    let identity = |own| {
        let parts = successor.key_parts(&record.key);
        names.identity(&record.alert, record.severity, names.source(&record.labels), parts, own)
    };
    match own {
        Some(own) => identity(own.clone()) == record.labels,
        None if change.same_labels || change.key_names.is_none() => {
            identity(Vec::new()).iter().all(|label| record.labels.contains(label))
        }
        None => false,
    }
}

/// The key and the labels that the problem has under `successor`, if the alert tells all of them.
fn moved(
    names: &LabelNames,
    record: &AlertRecord,
    change: &RuleChange,
    successor: &RuleAction,
    own: Option<Labels>,
) -> Option<(Box<str>, Labels)> {
    let mut key = successor.alert.to_string();
    for name in &successor.key_names {
        key.push(KEY_SEPARATOR);
        key.push_str(part(names, record, change, name)?);
    }
    let own = match own {
        Some(own) => own,
        None => rendered_labels(names, record, change)?,
    };
    let source = names.source(&record.labels);
    let labels = names.identity(&successor.alert, record.severity, source, successor.key_parts(&key), own);
    Some((key.into(), labels))
}

/// What the alert knows of the key part `name`.
fn part<'a>(
    names: &LabelNames,
    record: &'a AlertRecord,
    change: &RuleChange,
    name: &Arc<str>,
) -> Option<&'a str> {
    if let Some(old) = old_names(record, change) {
        if let Some(place) = old.iter().position(|old| old == name) {
            return parts(record).nth(place);
        }
        // A label of the rule's own may have the name and another meaning.
        return names.is_source(name).then(|| names.source(&record.labels));
    }
    if names.is_source(name) {
        return Some(names.source(&record.labels));
    }
    if names.is_own(name) || name.starts_with(EXPORTED) {
        return None;
    }
    let (_, value) = record.labels.iter().find(|(label, _)| label == name)?;
    // Which labels were key parts is not known. If no more labels have this value than parts do, each of them
    // is one.
    let labels = record.labels.iter().filter(|(_, other)| other == value).count();
    let parts = parts(record).filter(|part| part == value).count();
    (labels <= parts).then_some(value)
}

/// What a rule with the same templates has rendered for this alert: its labels without those that every
/// alert of this key has. Not known where one of them may have been moved out of another's way.
fn rendered_labels(names: &LabelNames, record: &AlertRecord, change: &RuleChange) -> Option<Labels> {
    let old = old_names(record, change).filter(|_| change.same_labels)?;
    let source = names.source(&record.labels);
    let base =
        names.identity(&record.alert, record.severity, source, old.iter().zip(parts(record)), Vec::new());
    let own = record.labels.iter().filter(|(name, _)| base.iter().all(|(known, _)| known != name));
    let own: Labels = own.cloned().collect();
    own.iter().all(|(name, _)| !name.starts_with(EXPORTED)).then_some(own)
}

/// The names of the record's key parts, if they are known and it has so many.
fn old_names<'a>(record: &AlertRecord, change: &'a RuleChange) -> Option<&'a [Arc<str>]> {
    change.key_names.as_deref().filter(|names| names.len() == parts(record).count())
}

fn parts(record: &AlertRecord) -> impl Iterator<Item = &str> {
    record.key.split(KEY_SEPARATOR).skip(1)
}
