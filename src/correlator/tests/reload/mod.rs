//! Rules that change while their alerts are open: told in a table, step by step, and at random.

mod fence;
mod identity;
mod random;

use std::collections::BTreeSet;

use super::*;

/// A rule, as far as alerts show it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    name: String,
    alert: &'static str,
    key: Vec<&'static str>,
    /// The label `team`; `None` is one that depends on the event.
    team: Option<&'static str>,
    expire: Option<u64>,
}

#[derive(Debug)]
struct Team(Option<&'static str>);

impl AlertText for Team {
    fn render(&self, event: &Event, _: Severity) -> Rendered {
        let team = self.0.map_or_else(|| format!("team {}", event.listener), str::to_owned);
        Rendered { labels: vec![("team".into(), team)], annotations: vec![("summary".into(), "down".into())] }
    }

    fn constant_labels(&self) -> Option<Vec<(Arc<str>, String)>> {
        self.0.map(|team| vec![("team".into(), team.to_owned())])
    }
}

impl Spec {
    fn new(name: &str, alert: &'static str, key: &[&'static str], team: Option<&'static str>) -> Self {
        Self { name: name.into(), alert, key: key.to_vec(), team, expire: None }
    }

    fn action(&self) -> Arc<RuleAction> {
        Arc::new(RuleAction {
            rule: self.name.as_str().into(),
            alert: self.alert.into(),
            key_names: self.key.iter().map(|&name| name.into()).collect(),
            deduplicate: Some(Duration::from_secs(20)),
            store_repeats: true,
            expire: self.expire.map(Duration::from_secs),
            flapping: None,
            notify: None,
            text: Box::new(Team(self.team)),
        })
    }

    fn key(&self, problem: u32) -> String {
        let mut key = self.alert.to_owned();
        for name in &self.key {
            let part = match *name {
                "source" => "10.0.0.1".to_owned(),
                "ifIndex" => problem.to_string(),
                "ifDescr" => format!("eth{problem}"),
                "team" => "noc".to_owned(),
                "severity" => "4".to_owned(),
                other => panic!("no notification has {other}"),
            };
            key.push(KEY_SEPARATOR);
            key.push_str(&part);
        }
        key
    }

    fn effect(&self, problem: u32, kind: EffectKind) -> Effect {
        Effect { rule: self.action(), kind, key: self.key(problem).into() }
    }

    fn is_the_same(&self, other: &Self) -> bool {
        (self.alert, &self.key, self.team) == (other.alert, &other.key, other.team)
    }
}

type Rules = Vec<Option<Spec>>;

/// What `snapshot::rule_changes` says of rules that keep their places.
fn changes(generation: u64, old: &Rules, new: &Rules) -> Arc<RuleChanges> {
    let mut changes = RuleChanges { generation: Generation(generation), ..RuleChanges::default() };
    for (old, new) in old.iter().zip(new) {
        let Some(old) = old else { continue };
        if new.as_ref().is_some_and(|new| new.name == old.name && new.is_the_same(old)) {
            continue;
        }
        changes.rules.push(RuleChange {
            rule: old.name.as_str().into(),
            key_names: Some(old.key.iter().map(|&name| name.into()).collect()),
            same_labels: new.as_ref().is_some_and(|new| new.team == old.team),
            successor: new.as_ref().map(Spec::action),
        });
    }
    Arc::new(changes)
}

/// What `snapshot::start_changes` says where no rule was renamed.
fn start_changes(generation: u64, rules: &Rules, open: &[AlertRecord]) -> RuleChanges {
    let names: BTreeSet<_> = open.iter().map(|record| Arc::clone(&record.rule)).collect();
    let change = |rule: Arc<str>| {
        let successor = rules.iter().flatten().find(|spec| *spec.name == *rule).map(Spec::action);
        RuleChange { rule, key_names: None, same_labels: false, successor }
    };
    RuleChanges {
        generation: Generation(generation),
        clear_windows: false,
        rules: names.into_iter().map(change).collect(),
    }
}

const RAISE: EffectKind = EffectKind::Raise(Severity::Major);
const CLEAR: EffectKind = EffectKind::Clear(ClearedBy::Trap);

/// A correlator with the disk behind it.
struct World {
    correlator: Correlator,
    disk: Disk,
    now: i64,
}

impl World {
    fn new(receivers: &[u32]) -> Self {
        let mut correlator = Correlator::new(Limits::default(), Restored::default(), receivers);
        receivers.iter().for_each(|&receiver| correlator.mark(receiver, Generation(1)));
        Self { correlator, disk: Disk::default(), now: 1_000 }
    }

    fn event(&mut self, generation: u64, effect: Effect) -> String {
        self.event_of(generation, 1, effect)
    }

    fn event_of(&mut self, generation: u64, listener: u16, effect: Effect) -> String {
        let (time, mut out) = (seconds(self.now), Vec::new());
        let event = Event { generation: Generation(generation), ..event(time, listener, [effect]) };
        self.correlator.event(event, time, &routes(), &mut out);
        self.store(&out)
    }

    fn tick(&mut self) -> String {
        let mut out = Vec::new();
        while self.correlator.tick(seconds(self.now), &routes(), &mut out) {}
        self.store(&out)
    }

    fn reload(&mut self, changes: &Arc<RuleChanges>) -> String {
        self.correlator.reloaded(Arc::clone(changes));
        self.tick()
    }

    fn restart(&mut self, rules: &Rules) {
        let mut out = Vec::new();
        self.correlator.finish(&mut out);
        self.store(&out);
        self.correlator = Correlator::new(Limits::default(), self.disk.restored(), &[0, 1]);
        self.correlator.reconcile(start_changes(1, rules, &self.disk.open()));
    }

    /// Each change in short: alert number in the order of opening, rule, key and team.
    fn store(&mut self, out: &[Command]) -> String {
        let mut told = Vec::new();
        for command in out {
            self.disk.apply(command);
            let changes = match command {
                Command::Event(decided) => &decided.changes[..],
                Command::Changes(changes) => changes,
                _ => continue,
            };
            for AlertChange { record, queue_for } in changes {
                let number = self.disk.alerts.range(..=record.id).count();
                let key = record.key.replace(KEY_SEPARATOR, "|");
                let team = &record.labels.iter().find(|(name, _)| &**name == "team").unwrap().1;
                let rows = if queue_for.is_empty() { " quietly" } else { "" };
                told.push(match &record.resolved_by {
                    Some(how) => format!("{number} by {how}{rows}"),
                    None => format!("{number} {} {key} {team} x{}{rows}", record.rule, record.count),
                });
            }
        }
        let open = self.correlator.records();
        assert_eq!(
            open.iter().map(|record| (record.id, &record.rule, &record.key)).collect::<Vec<_>>(),
            self.disk.open().iter().map(|record| (record.id, &record.rule, &record.key)).collect::<Vec<_>>(),
        );
        told.join(", ")
    }

    fn open(&self) -> Vec<String> {
        self.correlator.records().iter().map(|record| record.key.replace(KEY_SEPARATOR, "|")).collect()
    }
}
