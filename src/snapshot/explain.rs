//! Why a notification is treated as it is: the walk of [`CompiledRules::decide`] once more, told in words.
//!
//! What comes of the notification is asked of `decide` itself. Here is only told why: which rules name it, and
//! what kept each of those before the one that matched from doing so.

use serde::Serialize;
use smallvec::SmallVec;

use super::field::{Field, Subject};
use super::predicate::Predicate;
use super::rules::{Decision, Does, Rule, RuleScratch};
use super::{CompiledRules, Snapshot};
use crate::config::settings::{
    AlertSettings, Condition, DeliveryKind, RuleActionSettings, Scalar, Test, any_contains,
};
use crate::device::DEFAULT_REALM;
use crate::event::{ClearedBy, Effect, EffectKind, KEY_SEPARATOR};
use crate::mib::Mib;
use crate::oid::{Oid, OidRef};
use crate::severity::Severity;

/// What the rules say of one notification, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `kept`, `dropped` (by a rule) or `unmatched` (and `unmatched: drop`).
    pub decision: &'static str,
    /// What follows from it, clears first.
    pub effects: Vec<ExplainedEffect>,
    /// Rules whose `cleared_by` names it.
    pub clears: Vec<ExplainedRule>,
    /// Rules whose `match` names it, in their order; the last ones may not have been reached.
    pub rules: Vec<ExplainedRule>,
    /// Rules that name other notifications alone.
    pub others: usize,
    /// Where the definitions that were used stand, the notification's first.
    pub definitions: Vec<Definition>,
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedEffect {
    /// The rule.
    pub rule: String,
    /// `raise`, `clear` or `store`.
    pub does: &'static str,
    /// The alert's name; null for one that only stores.
    pub alert: Option<String>,
    /// The severity, if it raises.
    pub severity: Option<Severity>,
    /// The alert's key, name first.
    pub key: Option<Vec<String>>,
    /// The webhooks that hear of it, unless a mute keeps it quiet.
    pub webhooks: Vec<ExplainedWebhook>,
}

/// A webhook that hears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedWebhook {
    /// Its name.
    pub name: String,
    /// What it is posted: `state` (what the alert is now), `events` (each change) or `notifications` (this notification itself).
    pub told: &'static str,
}

/// A rule that names the notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedRule {
    /// Its name.
    pub rule: String,
    /// Its place among the rules, from 1; built-in ones come behind the last.
    pub place: usize,
    /// Whether it is built in.
    pub builtin: bool,
    /// `matched`, `passed_over` or `not_reached`.
    pub outcome: &'static str,
    /// Why it was passed over, or was not reached.
    pub why: Option<String>,
    /// Where it stands, as `FILE:LINE`, if that is known.
    pub defined: Option<String>,
}

/// Where a MIB defines a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Definition {
    /// `MODULE::name`.
    pub name: String,
    /// Its OID.
    pub oid: String,
    /// The file.
    pub file: String,
    /// From 1; 0 for what is built in.
    pub line: u32,
}

/// Explains what the rules of `snapshot` say of `subject`. Pure; allocates as it likes.
#[must_use]
pub fn explain(snapshot: &Snapshot, subject: &Subject<'_>) -> Explanation {
    let rules = snapshot.rules();
    let mut scratch = RuleScratch::default();
    let mut effects = SmallVec::new();
    let decision = rules.decide(subject, &mut scratch, &mut effects);
    let cleared = effects.iter().any(|effect| effect.kind == EffectKind::Clear(ClearedBy::Trap));
    let (clears, mut text) = (rules.explain_clears(subject), String::new());
    let named = rules.index.candidates(subject.trap_oid).count();
    Explanation {
        decision: match decision {
            Decision::Keep => "kept",
            Decision::Dropped => "dropped",
            Decision::Unmatched => "unmatched",
        },
        effects: effects.iter().map(|effect| explain_effect(snapshot, effect)).collect(),
        clears,
        rules: rules.explain_rules(subject, cleared, &mut text),
        others: rules.rules.len() - named,
        definitions: definitions(snapshot.mib(), subject),
    }
}

fn explain_effect(snapshot: &Snapshot, effect: &Effect) -> ExplainedEffect {
    let (does, severity) = match effect.kind {
        EffectKind::Raise(severity) => ("raise", Some(severity)),
        EffectKind::Clear(_) => ("clear", None),
        EffectKind::Store => ("store", None),
    };
    let alert = (effect.kind != EffectKind::Store).then(|| effect.rule.alert.to_string());
    let notify = effect.rule.notify.as_deref();
    let raises = alert.is_some();
    let hears = snapshot
        .routes()
        .iter()
        .filter(|webhook| raises && notify.is_none_or(|names| names.contains(&webhook.name)));
    ExplainedEffect {
        rule: effect.rule.rule.to_string(),
        does,
        severity,
        key: raises.then(|| effect.key.split(KEY_SEPARATOR).map(str::to_owned).collect()),
        alert,
        webhooks: hears
            .map(|webhook| ExplainedWebhook {
                name: webhook.name.to_string(),
                told: match webhook.delivery() {
                    DeliveryKind::State => "state",
                    DeliveryKind::Queued => "events",
                    DeliveryKind::Journal => "notifications",
                },
            })
            .collect(),
    }
}

impl CompiledRules {
    fn explained(&self, number: usize, outcome: &'static str, why: Option<String>) -> ExplainedRule {
        let rule = self.rules.get(number).map_or("", |rule| &*rule.settings.name);
        ExplainedRule {
            rule: rule.to_owned(),
            place: number + 1,
            builtin: number >= self.builtin_from,
            outcome,
            why,
            defined: None,
        }
    }

    fn explain_clears(&self, subject: &Subject<'_>) -> Vec<ExplainedRule> {
        let mut text = String::new();
        let mut explained = Vec::new();
        for entry in self.clears.candidates(subject.trap_oid) {
            let Some(number) = self.clearing.get(entry as usize).map(|&rule| rule as usize) else { continue };
            let Some(rule) = self.rules.get(number) else { continue };
            let Some(clear) = &rule.cleared_by else { continue };
            let wanted = match &rule.settings.action {
                RuleActionSettings::Alert(AlertSettings { cleared_by: Some(clear), .. }) => {
                    clear.when.as_ref()
                }
                _ => None,
            };
            let why = rule
                .does_not_concern(subject)
                .or_else(|| clear.when.as_ref()?.why_not(wanted?, subject, &self.mib, &mut text));
            let outcome = if why.is_some() { "passed_over" } else { "matched" };
            explained.push(self.explained(number, outcome, why));
        }
        explained
    }

    fn explain_rules(&self, subject: &Subject<'_>, cleared: bool, text: &mut String) -> Vec<ExplainedRule> {
        let mut explained = Vec::new();
        let mut ended_by: Option<String> = None;
        let mut wanted = cleared;
        for number in self.index.candidates(subject.trap_oid) {
            let number = number as usize;
            let Some(rule) = self.rules.get(number) else { continue };
            if let Some(by) = &ended_by {
                explained.push(self.explained(number, "not_reached", Some(by.clone())));
                continue;
            }
            if cleared && number >= self.builtin_from {
                let why = "it has ended an alert: the built-in rules stay silent on it";
                ended_by = Some(why.to_owned());
                explained.push(self.explained(number, "not_reached", ended_by.clone()));
                continue;
            }
            match rule.why_not(subject, &self.mib, text) {
                Some(why) => explained.push(self.explained(number, "passed_over", Some(why))),
                None => {
                    // What was wanted before stands, and the rules go on.
                    let drops = matches!(rule.does, Does::Drop);
                    if !rule.goes_on || (drops && !wanted) {
                        ended_by = Some(format!("`{}` matched before it", rule.settings.name));
                    }
                    wanted |= !drops;
                    explained.push(self.explained(number, "matched", None));
                }
            }
        }
        explained
    }
}

impl Rule {
    /// What of the sender keeps the rule from it and its clears.
    fn does_not_concern(&self, subject: &Subject<'_>) -> Option<String> {
        if !self.source.is_empty() && !any_contains(&self.source, subject.source) {
            let networks: Vec<_> = self.source.iter().map(ToString::to_string).collect();
            return Some(format!("the device {} is in none of {}", subject.source, networks.join(", ")));
        }
        if !self.is_in_realm(subject) {
            let realm = subject.realm.unwrap_or(DEFAULT_REALM);
            return Some(format!("the realm is `{realm}`, not {}", self.realm.join(", ")));
        }
        let known = subject.community.is_some_and(|alias| self.community.iter().any(|own| **own == *alias));
        if !self.community.is_empty() && !known {
            let wanted = self.community.join(", ");
            return Some(match subject.community {
                Some(alias) => format!("the community is `{alias}`, not {wanted}"),
                None => format!("the community has no name, or it is not known; the rule wants {wanted}"),
            });
        }
        None
    }

    fn why_not(&self, subject: &Subject<'_>, mib: &Mib, text: &mut String) -> Option<String> {
        self.does_not_concern(subject)
            .or_else(|| {
                let excepted = self.except.iter().find(|pattern| pattern.matches(subject.trap_oid))?;
                let mut name = String::new();
                mib.write_name(excepted.oid().arcs(), &mut name);
                Some(format!("`except` names {name}"))
            })
            .or_else(|| self.when.as_ref()?.why_not(self.settings.when.as_ref()?, subject, mib, text))
    }
}

impl Predicate {
    /// Why it does not hold; `None` where it does. `said` is what it was bound from.
    fn why_not(
        &self,
        said: &Condition,
        subject: &Subject<'_>,
        mib: &Mib,
        text: &mut String,
    ) -> Option<String> {
        if self.holds(subject, mib, text) {
            return None;
        }
        Some(match (self, said) {
            (Self::All(own), Condition::All(said)) => {
                own.iter().zip(said).find_map(|(own, said)| own.why_not(said, subject, mib, text))?
            }
            (Self::Any(own), Condition::Any(said)) => {
                let each =
                    own.iter().zip(said).filter_map(|(own, said)| own.why_not(said, subject, mib, text));
                let each: Vec<_> = each.collect();
                format!("none of these holds: {}", each.join("; "))
            }
            (Self::Field { field, .. }, Condition::Field { test, .. }) => {
                let is = value_of(field, subject, mib);
                format!("`when`: {} {is}; the rule wants {}", field.name, describe(test))
            }
            // They were bound from one another.
            _ => "`when` does not hold".to_owned(),
        })
    }
}

/// `is down (2)`, `is not there`.
fn value_of(field: &Field, subject: &Subject<'_>, mib: &Mib) -> String {
    let mut text = String::new();
    if !field.write(subject, mib, &mut text) {
        return "is not there".to_owned();
    }
    let number = field.varbind(subject).and_then(|(varbind, _)| varbind.value.as_i128());
    match number.map(|number| number.to_string()).filter(|number| *number != text) {
        Some(number) => format!("is `{text}` ({number})"),
        None => format!("is `{text}`"),
    }
}

fn describe(test: &Test) -> String {
    let scalar = |scalar: &Scalar| match scalar {
        Scalar::Number(number) => number.to_string(),
        Scalar::Text(text) => format!("`{text}`"),
    };
    match test {
        Test::Equals(wanted) => scalar(wanted),
        Test::In(list) => format!("one of {}", list.iter().map(scalar).collect::<Vec<_>>().join(", ")),
        Test::Not(test) => format!("not {}", describe(test)),
        Test::Matches(pattern) => format!("a match of `{pattern}`"),
        Test::Above(limit) => format!("more than {limit}"),
        Test::Below(limit) => format!("less than {limit}"),
        Test::Contains(part) => format!("a text with `{part}` in it"),
        Test::Exists(true) => "that it is there".to_owned(),
        Test::Exists(false) => "that it is not there".to_owned(),
        Test::All(tests) => tests.iter().map(describe).collect::<Vec<_>>().join(" and "),
    }
}

/// The definitions of the notification and of its varbinds, each once.
fn definitions(mib: &Mib, subject: &Subject<'_>) -> Vec<Definition> {
    let mut found: Vec<Definition> = Vec::new();
    let mut add = |arcs: &[u32], exact: bool| {
        let Some(hit) = mib.lookup(arcs).filter(|hit| !exact || hit.matched == arcs.len()) else { return };
        let node = mib.node(hit.node);
        let name = node.qualified_name();
        if !found.iter().any(|own| own.name == name) {
            let oid = OidRef(&arcs[..hit.matched]).to_string();
            found.push(Definition { name, oid, file: node.file().to_string(), line: node.line() });
        }
    };
    add(subject.trap_oid, true);
    for varbind in subject.notification.varbinds.iter() {
        let name: Oid = varbind.name.to_oid();
        add(name.arcs(), false);
    }
    found
}
