//! The compiled rules: what a notification is to become. [`CompiledRules::decide`] is the heart of the hot path.
//!
//! Clears are indexed apart and act before first-match, so that the order of rules never hides the end
//! of an alert. Rules that did not change between two generations are the same `Arc`.

use std::fmt::Write as _;
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::field::{Column, Field, Subject};
use super::index::{Pattern, TrapIndex};
use super::predicate::Predicate;
use crate::config::lookup::LookupTable;
use crate::config::settings::{MappedSeverity, RuleSettings, Unmatched, any_contains};
use crate::device::DEFAULT_REALM;
use crate::event::{ClearedBy, DeviceNames, Effect, EffectKind, RuleAction};
use crate::mib::Mib;
use crate::severity::Severity;

/// What the rules say of one notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is stored, with the effects that were found.
    Keep,
    /// A rule drops it.
    Dropped,
    /// No rule matched, and `unmatched` is `drop`.
    Unmatched,
}

/// Memory that a receiver uses again for each notification.
#[derive(Debug, Default)]
pub struct RuleScratch {
    text: String,
    key: String,
}

/// All rules of a generation, bound to its MIBs.
#[derive(Debug)]
pub struct CompiledRules {
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) index: TrapIndex,
    pub(super) clears: TrapIndex,
    /// The rule of each entry of `clears`.
    pub(super) clearing: Vec<u32>,
    /// From here on the rules are built in.
    pub(super) builtin_from: usize,
    pub(super) unmatched: Unmatched,
    pub(super) mib: Arc<Mib>,
    /// What `source` stands for in place of the address.
    pub(super) canonical: Option<Column>,
}

/// One compiled rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) settings: Arc<RuleSettings>,
    pub(super) patterns: Vec<Pattern>,
    pub(super) except: Vec<Pattern>,
    pub(super) source: Vec<IpNet>,
    pub(super) realm: Vec<Arc<str>>,
    pub(super) community: Vec<Arc<str>>,
    pub(super) when: Option<Predicate>,
    pub(super) does: Does,
    pub(super) goes_on: bool,
    pub(super) cleared_by: Option<Clear>,
    /// The tables that it names.
    pub(super) lookups: Vec<Arc<LookupTable>>,
}

#[derive(Debug)]
pub(super) enum Does {
    Drop,
    Store(Arc<RuleAction>),
    Raise { action: Arc<RuleAction>, severity: SeverityOf, key: Box<[Field]> },
}

#[derive(Debug)]
pub(super) enum SeverityOf {
    Fixed(Severity),
    From { field: Field, map: Vec<(String, MappedSeverity)>, default: MappedSeverity },
}

#[derive(Debug)]
pub(super) struct Clear {
    pub(super) patterns: Vec<Pattern>,
    pub(super) when: Option<Predicate>,
    /// The rule's key, with the names that the clearing notification has for it.
    pub(super) key: Box<[Field]>,
}

impl CompiledRules {
    /// What devices are called besides their addresses (`source.canonical`).
    #[must_use]
    pub fn device_names(&self) -> Option<Arc<dyn DeviceNames>> {
        self.canonical.as_ref().map(|column| Arc::new(column.clone()) as Arc<dyn DeviceNames>)
    }

    /// Whether every device is called as by `other`.
    #[must_use]
    pub fn names_devices_as(&self, other: &Self) -> bool {
        Column::are_one(self.canonical.as_ref(), other.canonical.as_ref())
    }

    /// Decides on one notification and appends what follows to `effects`, clears first. Pure. Cost grows
    /// with the rules that name this notification, not with all.
    pub fn decide(
        &self,
        subject: &Subject<'_>,
        scratch: &mut RuleScratch,
        effects: &mut SmallVec<[Effect; 1]>,
    ) -> Decision {
        self.clear(subject, scratch, effects);
        let cleared = !effects.is_empty();
        let mut matched = false;
        for number in self.index.candidates(subject.trap_oid) {
            let number = number as usize;
            // What ended an alert is no news of its own: the built-in rules stay silent on it.
            if cleared && number >= self.builtin_from {
                break;
            }
            let Some(rule) = self.rules.get(number) else { continue };
            if !rule.matches(subject, &self.mib, &mut scratch.text) {
                continue;
            }
            matched = true;
            match &rule.does {
                // A drop after a clear still ends the alert, and the event that did so is kept.
                Does::Drop if cleared => {}
                Does::Drop => {
                    // What an earlier rule with `continue` wanted stands.
                    if effects.is_empty() {
                        return Decision::Dropped;
                    }
                }
                Does::Store(action) => effects.push(Effect {
                    rule: Arc::clone(action),
                    kind: EffectKind::Store,
                    key: Box::default(),
                }),
                Does::Raise { action, severity, key } => {
                    let kind = match severity.of(subject, &self.mib, &mut scratch.text) {
                        MappedSeverity::Severity(severity) => EffectKind::Raise(severity),
                        MappedSeverity::Clear => EffectKind::Clear(ClearedBy::Severity),
                    };
                    let key = write_key(action, key, subject, &self.mib, scratch);
                    effects.push(Effect { rule: Arc::clone(action), kind, key });
                }
            }
            if !rule.goes_on {
                break;
            }
        }
        if matched || cleared || self.unmatched != Unmatched::Drop {
            Decision::Keep
        } else {
            Decision::Unmatched
        }
    }

    fn clear(&self, subject: &Subject<'_>, scratch: &mut RuleScratch, effects: &mut SmallVec<[Effect; 1]>) {
        for entry in self.clears.candidates(subject.trap_oid) {
            let rule = self.clearing.get(entry as usize).and_then(|&rule| self.rules.get(rule as usize));
            let Some(rule) = rule else { continue };
            let (Some(clear), Does::Raise { action, .. }) = (&rule.cleared_by, &rule.does) else { continue };
            if !rule.concerns(subject)
                || !clear.when.as_ref().is_none_or(|when| when.holds(subject, &self.mib, &mut scratch.text))
            {
                continue;
            }
            let key = write_key(action, &clear.key, subject, &self.mib, scratch);
            // Two rules may raise the same alert (a built-in and a user's): it ends once.
            if !effects.iter().any(|effect| effect.key == key) {
                let kind = EffectKind::Clear(ClearedBy::Trap);
                effects.push(Effect { rule: Arc::clone(action), kind, key });
            }
        }
    }

    /// How many rules there are, the built-in ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Rule {
    /// The parts that hold for the rule's clears as well: who it concerns.
    fn concerns(&self, subject: &Subject<'_>) -> bool {
        (self.source.is_empty() || any_contains(&self.source, subject.source))
            && self.is_in_realm(subject)
            && (self.community.is_empty()
                || subject.community.is_some_and(|alias| self.community.iter().any(|own| **own == *alias)))
    }

    pub(super) fn is_in_realm(&self, subject: &Subject<'_>) -> bool {
        let realm = subject.realm.unwrap_or(DEFAULT_REALM);
        self.realm.is_empty() || self.realm.iter().any(|own| **own == *realm)
    }

    /// Everything but the notification itself, which the index has looked up.
    fn matches(&self, subject: &Subject<'_>, mib: &Mib, text: &mut String) -> bool {
        self.concerns(subject)
            && !self.except.iter().any(|pattern| pattern.matches(subject.trap_oid))
            && self.when.as_ref().is_none_or(|when| when.holds(subject, mib, text))
    }
}

impl SeverityOf {
    fn of(&self, subject: &Subject<'_>, mib: &Mib, text: &mut String) -> MappedSeverity {
        match self {
            Self::Fixed(severity) => MappedSeverity::Severity(*severity),
            Self::From { field, map, default } => {
                // The map may name the number or the label.
                let number = field.varbind(subject).and_then(|(varbind, _)| varbind.value.as_i128());
                if let Some(number) = number {
                    text.clear();
                    let _ = write!(text, "{number}");
                    if let Some((_, meaning)) = map.iter().find(|(from, _)| *from == *text) {
                        return *meaning;
                    }
                }
                text.clear();
                field.write(subject, mib, text);
                map.iter().find(|(from, _)| *from == *text).map_or(*default, |(_, meaning)| *meaning)
            }
        }
    }
}

/// The alert's name and the key's parts, joined as [`RuleAction`] says. One allocation.
fn write_key(
    action: &RuleAction,
    fields: &[Field],
    subject: &Subject<'_>,
    mib: &Mib,
    scratch: &mut RuleScratch,
) -> Box<str> {
    scratch.key.clear();
    scratch.key.push_str(&action.alert);
    for field in fields {
        field.write_key(subject, mib, &mut scratch.key, &mut scratch.text);
    }
    scratch.key.as_str().into()
}
