//! From settings and MIBs to a [`Candidate`]: pure, and every problem told at once.
//!
//! What did not change is taken over from the previous Snapshot as the very same `Arc`: settings
//! sections, webhooks, single rules, all rules. So a generation costs what changed, and a rollback
//! compares by pointer.

use std::sync::Arc;

use super::field::{Field, Names, Unbound};
use super::index::{Pattern, TrapIndex};
use super::predicate::{BindError, Predicate};
use super::rules::{Clear, CompiledRules, Does, Rule, SeverityOf};
use super::text::RuleText;
use super::{Candidate, Snapshot, Users, builtin};
use crate::config::Settings;
use crate::config::settings::{
    AlertSettings, ClearSettings, Condition, RuleActionSettings, RuleSettings, SeveritySettings, TrapPattern,
    Unmatched,
};
use crate::diagnostic::{Diagnostic, Part};
use crate::event::{Flapping, RuleAction};
use crate::mib::{Mib, NodeId, Target};
use crate::oid::Oid;
use crate::template::Template;

/// Builds a Candidate. Shares with `previous` whatever is equal.
///
/// # Errors
/// Every rule that cannot be compiled, each with the rule's name and what to do: a name that the MIBs
/// do not have or have twice, a template or regular expression that does not compile.
pub fn build(
    mut settings: Settings,
    mib: Arc<Mib>,
    previous: Option<&Snapshot>,
) -> Result<Candidate, Vec<Diagnostic>> {
    if let Some(previous) = previous {
        share_settings(&mut settings, previous.settings());
    }
    let rules = compile_rules(&settings, &mib, previous)?;
    let routes = share_list(&settings.webhooks, previous.map(Snapshot::routes));
    let lookups = share_list(&settings.lookups, previous.map(Snapshot::lookups));
    let users = match previous {
        Some(previous) if Arc::ptr_eq(&previous.users().access, &settings.access) => {
            Arc::clone(previous.users())
        }
        _ => Arc::new(Users::build(&settings.access, previous.map(|previous| &**previous.users()))),
    };
    let settings = match previous {
        Some(previous) if **previous.settings() == settings => Arc::clone(previous.settings()),
        _ => Arc::new(settings),
    };
    Ok(Candidate { settings, mib, rules, routes, lookups, users })
}

/// Replaces every part of `new` that equals the old one by the old `Arc`.
fn share_settings(new: &mut Settings, old: &Settings) {
    fn share<T: PartialEq + ?Sized>(new: &mut Arc<T>, old: &Arc<T>) {
        if !Arc::ptr_eq(new, old) && **new == **old {
            *new = Arc::clone(old);
        }
    }
    share(&mut new.listeners, &old.listeners);
    share(&mut new.source, &old.source);
    share(&mut new.access, &old.access);
    share(&mut new.mib, &old.mib);
    share(&mut new.storage, &old.storage);
    share(&mut new.admin, &old.admin);
    share(&mut new.logging, &old.logging);
    share(&mut new.reload, &old.reload);
    let rules: std::collections::HashMap<&str, &Arc<RuleSettings>> =
        old.rules.iter().map(|rule| (&*rule.name, rule)).collect();
    for rule in &mut new.rules {
        if let Some(old) = rules.get(&*rule.name) {
            share(rule, old);
        }
    }
    for table in &mut new.lookups {
        if let Some(old) = old.lookups.iter().find(|old| old.name() == table.name()) {
            share(table, old);
        }
    }
    for webhook in &mut new.webhooks {
        if let Some(old) = old.webhooks.iter().find(|old| old.name == webhook.name) {
            share(webhook, old);
        }
    }
}

/// The old list if it has the very same parts in the same order.
fn share_list<T>(new: &[Arc<T>], old: Option<&Arc<[Arc<T>]>>) -> Arc<[Arc<T>]> {
    match old {
        Some(old)
            if old.len() == new.len() && old.iter().zip(new).all(|(old, new)| Arc::ptr_eq(old, new)) =>
        {
            Arc::clone(old)
        }
        _ => new.into(),
    }
}

fn compile_rules(
    settings: &Settings,
    mib: &Arc<Mib>,
    previous: Option<&Snapshot>,
) -> Result<Arc<CompiledRules>, Vec<Diagnostic>> {
    let builtin = if settings.unmatched == Unmatched::Builtin { builtin::rules() } else { &[] };
    let sources = || settings.rules.iter().chain(builtin);
    let canonical = settings.source.canonical.as_ref();
    let names = Names::new(mib, &settings.lookups, canonical).map_err(|error| {
        let problem = Diagnostic::error("source-canonical", format!("`source.canonical`: {error}"));
        vec![problem.help(LOOKUP_HELP)]
    })?;
    // Rules are bound to MIBs, and almost all of them speak of `source`: with other MIBs or another meaning of
    // it nothing can be shared. Of the other tables, a rule is bound to those that it names.
    let old = previous
        .map(Snapshot::rules)
        .filter(|old| Arc::ptr_eq(&old.mib, mib) && names.same_source(old.canonical.as_ref()));
    let current = |rule: &Rule| {
        rule.lookups.iter().all(|used| settings.lookups.iter().any(|table| Arc::ptr_eq(table, used)))
    };
    if let Some(old) = old
        && old.unmatched == settings.unmatched
        && old.rules.len() == settings.rules.len() + builtin.len()
        && old.rules.iter().zip(sources()).all(|(old, new)| Arc::ptr_eq(&old.settings, new) && current(old))
    {
        return Ok(Arc::clone(old));
    }
    let compiled: std::collections::HashMap<&str, &Arc<Rule>> =
        old.into_iter().flat_map(|old| &old.rules).map(|rule| (&*rule.settings.name, rule)).collect();
    let mut problems = Vec::new();
    let mut made = CompiledRules {
        rules: Vec::with_capacity(settings.rules.len() + builtin.len()),
        index: TrapIndex::default(),
        clears: TrapIndex::default(),
        clearing: Vec::new(),
        builtin_from: settings.rules.len(),
        unmatched: settings.unmatched,
        mib: Arc::clone(mib),
        canonical: names.canonical.clone(),
    };
    for (number, source) in sources().enumerate() {
        let number = number as u32;
        let rule = match compiled.get(&*source.name) {
            Some(old) if Arc::ptr_eq(&old.settings, source) && current(old) => Arc::clone(old),
            _ => match (Compiler { rule: source, mib, names: &names }).checked() {
                Ok(rule) => Arc::new(rule),
                Err(more) => {
                    problems.extend(more);
                    continue;
                }
            },
        };
        made.index.add(number, &rule.patterns);
        if let Some(clear) = &rule.cleared_by {
            made.clears.add(made.clearing.len() as u32, &clear.patterns);
            made.clearing.push(number);
        }
        made.rules.push(rule);
    }
    if problems.is_empty() { Ok(Arc::new(made)) } else { Err(problems) }
}

/// Compiles one rule.
struct Compiler<'a> {
    rule: &'a Arc<RuleSettings>,
    mib: &'a Arc<Mib>,
    names: &'a Names<'a>,
}

/// What to do about a lookup or a column that is not there.
const LOOKUP_HELP: &str = "name a table of `lookups` and a column of its first line, as `device.site`";

type Compiled<T> = Result<T, Box<Diagnostic>>;

impl Compiler<'_> {
    /// The rule, or everything that is wrong with it.
    fn checked(&self) -> Result<Rule, Vec<Diagnostic>> {
        self.compile().map_err(|first| {
            let all = self.problems();
            if all.is_empty() { vec![*first] } else { all }
        })
    }

    /// What [`compile`](Self::compile) refuses, not only the first of it.
    fn problems(&self) -> Vec<Diagnostic> {
        fn tests<'c>(condition: &'c Condition, found: &mut Vec<&'c Condition>) {
            match condition {
                Condition::All(list) | Condition::Any(list) => list.iter().for_each(|one| tests(one, found)),
                Condition::Field { .. } => found.push(condition),
            }
        }
        let mut found = Vec::new();
        let mut note = |problem: Option<Box<Diagnostic>>| found.extend(problem.map(|problem| *problem));
        // What is known binds the names of the other parts.
        let known = |patterns: &[TrapPattern], place, note: &mut dyn FnMut(Option<Box<Diagnostic>>)| {
            let each = patterns.iter().map(|pattern| self.patterns(std::slice::from_ref(pattern), place));
            let (good, bad): (Vec<_>, Vec<_>) = each.partition(Result::is_ok);
            bad.into_iter().for_each(|problem| note(problem.err()));
            self.notifications(&good.into_iter().flatten().flatten().collect::<Vec<_>>())
        };
        let when = |when: Option<&Condition>,
                    notifications: &[NodeId],
                    note: &mut dyn FnMut(Option<Box<Diagnostic>>)| {
            let mut fields = Vec::new();
            when.into_iter().for_each(|when| tests(when, &mut fields));
            fields.into_iter().for_each(|field| note(self.condition(Some(field), notifications).err()));
        };
        let rule = self.rule;
        let notifications = known(&rule.trap, "trap", &mut note);
        known(&rule.except, "trap", &mut note);
        when(rule.when.as_ref(), &notifications, &mut note);
        if let RuleActionSettings::Alert(alert) = &rule.action {
            if let SeveritySettings::From { varbind, .. } = &alert.severity {
                note(self.field(varbind, "severity", &notifications).err());
            }
            for name in &alert.key {
                note(self.field(name, "key", &notifications).err());
            }
            for (what, texts) in [("labels", &alert.labels), ("annotations", &alert.annotations)] {
                for (name, text) in texts {
                    let place = format!("{what}.{name}");
                    let made = self.template(&place, text, &mut Vec::new(), &notifications);
                    made.err().into_iter().flatten().for_each(|problem| note(Some(Box::new(problem))));
                }
            }
            if let Some(clear) = &alert.cleared_by {
                let notifications = known(&clear.trap, "cleared_by", &mut note);
                when(clear.when.as_ref(), &notifications, &mut note);
                for name in &alert.key {
                    let name = clear.key.get(name).unwrap_or(name);
                    note(self.field(name, "cleared_by", &notifications).err());
                }
            }
        }
        found.dedup();
        found
    }

    fn compile(&self) -> Compiled<Rule> {
        let rule = self.rule;
        self.names.used.borrow_mut().clear();
        let patterns = self.patterns(&rule.trap, "trap")?;
        let notifications = self.notifications(&patterns);
        let (does, cleared_by) = match &rule.action {
            RuleActionSettings::Drop => (Does::Drop, None),
            RuleActionSettings::Store => (Does::Store(self.store_action()), None),
            RuleActionSettings::Alert(alert) => self.alert(alert, &notifications)?,
        };
        let when = self.condition(rule.when.as_ref(), &notifications)?;
        Ok(Rule {
            settings: Arc::clone(rule),
            except: self.patterns(&rule.except, "trap")?,
            source: rule.source.clone(),
            realm: rule.realm.clone(),
            community: rule.community.clone(),
            when,
            goes_on: rule.continue_,
            patterns,
            does,
            cleared_by,
            lookups: self.names.used.take(),
        })
    }

    fn store_action(&self) -> Arc<RuleAction> {
        Arc::new(RuleAction {
            rule: Arc::clone(&self.rule.name),
            alert: "".into(),
            key_names: Box::default(),
            deduplicate: None,
            store_repeats: true,
            expire: None,
            flapping: None,
            notify: None,
            text: Box::new(self.text(Vec::new(), Vec::new(), Vec::new(), "".into())),
        })
    }

    fn text(
        &self,
        labels: Vec<(Arc<str>, Template)>,
        annotations: Vec<(Arc<str>, Template)>,
        fields: Vec<Field>,
        alert: Arc<str>,
    ) -> RuleText {
        RuleText {
            labels,
            annotations,
            fields,
            rule: Arc::clone(&self.rule.name),
            alert,
            mib: Arc::clone(self.mib),
        }
    }

    fn alert(&self, alert: &AlertSettings, notifications: &[NodeId]) -> Compiled<(Does, Option<Clear>)> {
        let key: Box<[Field]> =
            alert.key.iter().map(|name| self.field(name, "key", notifications)).collect::<Compiled<_>>()?;
        let severity = match &alert.severity {
            SeveritySettings::Fixed(severity) => SeverityOf::Fixed(*severity),
            SeveritySettings::From { varbind, map, default } => SeverityOf::From {
                field: self.field(varbind, "severity", notifications)?,
                map: map.iter().map(|(from, to)| (from.clone(), *to)).collect(),
                default: *default,
            },
        };
        let mut fields = Vec::new();
        let mut templates = |what: &str, texts: &std::collections::BTreeMap<String, String>| {
            texts
                .iter()
                .map(|(name, text)| {
                    let place = format!("{what}.{name}");
                    let template = self.template(&place, text, &mut fields, notifications);
                    Ok((
                        Arc::from(name.as_str()),
                        template.map_err(|mut problems| Box::new(problems.swap_remove(0)))?,
                    ))
                })
                .collect::<Compiled<Vec<_>>>()
        };
        let labels = templates("labels", &alert.labels)?;
        let annotations = templates("annotations", &alert.annotations)?;
        let action = Arc::new(RuleAction {
            rule: Arc::clone(&self.rule.name),
            alert: Arc::clone(&alert.alert),
            key_names: alert.key.iter().map(|name| Arc::from(name.as_str())).collect(),
            deduplicate: alert.deduplicate,
            store_repeats: alert.store_repeats,
            expire: alert.expire,
            flapping: alert.flapping.map(|own| Flapping {
                count: own.count,
                window: own.window,
                hold: own.hold,
            }),
            notify: alert.notify.as_deref().map(Arc::from),
            text: Box::new(self.text(labels, annotations, fields, Arc::clone(&alert.alert))),
        });
        let clear = alert.cleared_by.as_ref().map(|clear| self.clear(clear, &alert.key)).transpose()?;
        Ok((Does::Raise { action, severity, key }, clear))
    }

    fn clear(&self, clear: &ClearSettings, key: &[String]) -> Compiled<Clear> {
        let patterns = self.patterns(&clear.trap, "cleared_by")?;
        let notifications = self.notifications(&patterns);
        let key = key
            .iter()
            .map(|name| self.field(clear.key.get(name).unwrap_or(name), "cleared_by", &notifications))
            .collect::<Compiled<_>>()?;
        Ok(Clear { when: self.condition(clear.when.as_ref(), &notifications)?, patterns, key })
    }

    fn template(
        &self,
        place: &str,
        text: &str,
        fields: &mut Vec<Field>,
        notifications: &[NodeId],
    ) -> Result<Template, Vec<Diagnostic>> {
        let template = Template::compile(place, text).map_err(|error| {
            vec![*self.problem("rule-template", (place, ""), &format!("{place}: {error}"), error.help())]
        })?;
        RuleText::bind(&template, fields, notifications, self.names).map_err(|unbound| {
            unbound.iter().map(|(name, error)| *self.unknown(name, place, error)).collect::<Vec<_>>()
        })?;
        Ok(template)
    }

    fn condition(
        &self,
        condition: Option<&Condition>,
        notifications: &[NodeId],
    ) -> Compiled<Option<Predicate>> {
        condition
            .map(|condition| {
                Predicate::bind(condition, notifications, self.names).map_err(|error| match error {
                    BindError::Name(name, error) => self.unknown(&name, "when", &error),
                    BindError::Regex(pattern, error) => self.problem(
                        "rule-regex",
                        ("when", &pattern),
                        &format!("when: the regular expression `{pattern}` does not compile: {error}"),
                        None,
                    ),
                })
            })
            .transpose()
    }

    fn field(&self, name: &str, place: &str, notifications: &[NodeId]) -> Compiled<Field> {
        Field::bind(name, notifications, self.names).map_err(|error| self.unknown(name, place, &error))
    }

    fn patterns(&self, patterns: &[TrapPattern], place: &str) -> Compiled<Vec<Pattern>> {
        patterns
            .iter()
            .map(|pattern| match pattern {
                TrapPattern::Exact(oid) => Ok(Pattern::Exact(oid.clone())),
                TrapPattern::Subtree(oid) => Ok(Pattern::Subtree(oid.clone())),
                TrapPattern::Name(name) => self.named(name, place).map(Pattern::Exact),
            })
            .collect()
    }

    fn named(&self, name: &str, place: &str) -> Compiled<Oid> {
        let Target { oid, .. } =
            self.mib.resolve(name).map_err(|error| self.unknown(name, place, &Unbound::Mib(error)))?;
        Ok(oid)
    }

    /// The nodes of the notifications that the rule names exactly: their OBJECTS bind names first.
    fn notifications(&self, patterns: &[Pattern]) -> Vec<NodeId> {
        patterns
            .iter()
            .filter(|pattern| matches!(pattern, Pattern::Exact(_)))
            .filter_map(|pattern| {
                let arcs = pattern.oid().arcs();
                self.mib.lookup(arcs).filter(|found| found.matched == arcs.len()).map(|found| found.node)
            })
            .collect()
    }

    fn unknown(&self, name: &str, place: &str, error: &Unbound) -> Box<Diagnostic> {
        let (code, help) = match error {
            Unbound::Mib(_) => (
                "rule-unknown-name",
                "load the MIB that defines it (`mib.directories`), write MODULE::name, or use the numeric OID",
            ),
            Unbound::Lookup(_) => ("rule-unknown-lookup", LOOKUP_HELP),
        };
        self.problem(code, (place, name), &format!("{place}: `{name}`: {error}"), Some(help))
    }

    /// A problem with a word that stands at a place of the rule.
    fn problem(
        &self,
        code: &'static str,
        (place, word): (&str, &str),
        message: &str,
        help: Option<&str>,
    ) -> Box<Diagnostic> {
        let key = if matches!(place, "trap" | "when") { "match" } else { place };
        let part = Part { rule: Some(Arc::clone(&self.rule.name)), key: key.into(), word: word.into() };
        let problem = Diagnostic {
            part: Some(Box::new(part)),
            ..Diagnostic::error(code, format!("rule `{}`: {message}", self.rule.name))
        };
        Box::new(match help {
            Some(help) => problem.help(help),
            None => problem,
        })
    }
}
