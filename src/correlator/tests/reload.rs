//! Rules that change while their alerts are open: told in a table, step by step, and at random.

use std::collections::BTreeSet;

use proptest::prelude::*;

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

#[test]
fn what_a_changed_rule_makes_of_its_alert() {
    const BOTH: &[&str] = &["source", "ifIndex"];
    let is = |name, alert, key, team| Some(Spec::new(name, alert, key, team));
    let old = is("link", "Down", BOTH, Some("noc"));
    let vary = is("link", "Down", BOTH, None);
    // What happens at a reload, which knows the old rule, and at a start, which does not.
    let cases = [
        ("gone", &old, None, "1 by reload", "1 by reload"),
        ("the same", &old, old.clone(), "", ""),
        (
            "renamed",
            &old,
            is("other", "Down", BOTH, Some("noc")),
            "1 other Down|10.0.0.1|3 noc x2 quietly",
            "1 by reload",
        ),
        (
            "renamed with labels that depend on the event",
            &vary,
            is("other", "Down", BOTH, None),
            "1 other Down|10.0.0.1|3 team 1 x2 quietly",
            "1 by reload",
        ),
        (
            "another alert",
            &old,
            is("link", "Fault", BOTH, Some("noc")),
            "1 by reload, 2 link Fault|10.0.0.1|3 noc x2",
            "1 by reload, 2 link Fault|10.0.0.1|3 noc x2",
        ),
        (
            "key parts change places",
            &old,
            is("link", "Down", &["ifIndex", "source"], Some("noc")),
            "1 by reload, 2 link Down|3|10.0.0.1 noc x2",
            "1 by reload, 2 link Down|3|10.0.0.1 noc x2",
        ),
        (
            "a part less",
            &old,
            is("link", "Down", &["ifIndex"], Some("noc")),
            "1 by reload, 2 link Down|3 noc x2",
            "1 by reload, 2 link Down|3 noc x2",
        ),
        (
            "the source, which every alert knows",
            &is("link", "Down", &["ifIndex"], Some("noc")),
            old.clone(),
            "1 by reload, 2 link Down|10.0.0.1|3 noc x2",
            "1 by reload, 2 link Down|10.0.0.1|3 noc x2",
        ),
        (
            "a part that only an event knows",
            &old,
            is("link", "Down", &["source", "ifDescr"], Some("noc")),
            "1 by reload",
            "1 by reload",
        ),
        (
            "a part whose name a label of the rule has",
            &old,
            is("link", "Down", &["source", "team"], Some("noc")),
            "1 by reload",
            "1 by reload",
        ),
        (
            "a part that stands under another label",
            &is("link", "Down", &["source", "severity"], Some("noc")),
            is("link", "Fault", &["severity"], Some("noc")),
            "1 by reload, 2 link Fault|4 noc x2",
            "1 by reload",
        ),
        (
            "the same with a part that stands under another label",
            &is("link", "Down", &["source", "severity"], Some("noc")),
            is("link", "Down", &["source", "severity"], Some("noc")),
            "",
            "",
        ),
        (
            "another label",
            &old,
            is("link", "Down", BOTH, Some("ops")),
            "1 by reload, 2 link Down|10.0.0.1|3 ops x2",
            "1 by reload, 2 link Down|10.0.0.1|3 ops x2",
        ),
        ("a label that depends on the event from now on", &old, vary.clone(), "1 by reload", ""),
        (
            "a label that depended on the event and does no more",
            &vary,
            old.clone(),
            "1 by reload, 2 link Down|10.0.0.1|3 noc x2",
            "1 by reload, 2 link Down|10.0.0.1|3 noc x2",
        ),
        ("the same with labels that depend on the event", &vary, vary.clone(), "", ""),
        (
            "another key, and the label that was rendered",
            &vary,
            is("link", "Down", &["ifIndex"], None),
            "1 by reload, 2 link Down|3 team 1 x2",
            "1 by reload",
        ),
    ];
    for (name, old, new, live, start) in cases {
        let mut world = World::new(&[]);
        world.event(1, old.as_ref().unwrap().effect(3, RAISE));
        world.event(1, old.as_ref().unwrap().effect(3, RAISE));
        let (before, after) = (vec![old.clone()], vec![new.clone()]);
        let mut restarted = World::new(&[]);
        restarted.disk = world.disk.clone();
        std::mem::swap(&mut restarted.correlator, &mut world.correlator);
        restarted.restart(&after);
        assert_eq!(restarted.tick(), start, "{name}, at a start");
        assert_eq!(restarted.correlator.wake_at(), None);

        let mut world = World::new(&[]);
        world.event(1, old.as_ref().unwrap().effect(3, RAISE));
        world.event(1, old.as_ref().unwrap().effect(3, RAISE));
        // Named even where nothing differs, as a start does it.
        let mut told = changes(2, &before, &after);
        if told.rules.is_empty() {
            told = Arc::new(start_changes(2, &after, &world.disk.open()));
        }
        assert_eq!(world.reload(&told), live, "{name}");
        let (open, disk) = (world.open(), world.disk.alerts.clone());
        assert_eq!(world.reload(&told), "", "{name}: again");
        assert_eq!((world.open(), world.disk.alerts), (open, disk), "{name}: again");
    }
}

#[test]
fn what_goes_on_keeps_what_is_known_of_the_problem() {
    let old = Spec::new("link", "Down", &["source", "ifIndex"], Some("noc"));
    let new = Spec { alert: "Fault", expire: Some(100), ..old.clone() };
    let mut world = World::new(&[]);
    world.event(1, old.effect(3, RAISE));
    world.now += 5;
    world.event(1, old.effect(3, RAISE));
    let before = world.correlator.records().remove(0);
    world.now += 10;
    world.reload(&changes(2, &vec![Some(old.clone())], &vec![Some(new.clone())]));
    let after = world.correlator.records().remove(0);
    assert!(after.id > before.id);
    assert_eq!(
        (after.count, after.first_seen, after.last_seen, after.last_event, &after.annotations),
        (2, before.first_seen, before.last_seen, before.last_event, &before.annotations)
    );
    assert_eq!(after.expires_at, Some(seconds(1_105)), "the rule's expiry, from the newest event on");
    assert_eq!(after.quiet_until, Some(seconds(1_035)), "its opening was told");
    let gone = &world.disk.alerts[&before.id];
    assert_eq!((gone.resolved_by.as_deref(), gone.resolved_at), (Some("reload"), Some(seconds(1_015))));

    world.now += 1;
    let shorter = Spec { alert: "Lost", expire: Some(10), ..new.clone() };
    let told = world.reload(&changes(3, &vec![Some(new)], &vec![Some(shorter)]));
    assert_eq!(told, "2 by expire", "the new rule would have ended it");
    let tally = world.correlator.take_tally();
    assert_eq!((tally.fired, tally.resolved), (2, [0, 0, 0, 1, 0, 1, 0, 0, 0, 0]));
}

/// The reason for the fence: an event of the old generation that comes after the change opens the alert again
/// under a key that nothing will ever clear.
#[test]
fn without_the_fence_a_late_event_would_make_an_orphan() {
    let old = Spec::new("link", "Down", &["source", "ifIndex"], Some("noc"));
    let new = Spec { alert: "Fault", ..old.clone() };
    let told = changes(2, &vec![Some(old.clone())], &vec![Some(new.clone())]);
    for (receivers, left) in [(&[][..], &["Down|10.0.0.1|3"][..]), (&[0, 1], &[])] {
        let mut world = World::new(receivers);
        world.event(1, old.effect(3, RAISE));
        world.reload(&told);
        let late = receivers.len() as u32;
        if late > 0 {
            world.correlator.mark(0, Generation(2));
            assert_eq!((world.tick().as_str(), world.correlator.fence()), ("", Generation(1)));
        }
        world.event(1, old.effect(3, RAISE));
        if late > 0 {
            world.correlator.mark(1, Generation(2));
            assert!(world.correlator.wake_at().is_some_and(|at| at < seconds(0)), "at once");
            assert_eq!(world.tick(), "1 by reload, 2 link Fault|10.0.0.1|3 noc x2");
        }
        assert_eq!(world.correlator.wake_at(), None);
        world.event(2, new.effect(3, CLEAR));
        assert_eq!(world.open(), left, "{receivers:?}");
    }
}

#[test]
fn a_receiver_that_has_left_holds_nothing_up() {
    let old = Spec::new("link", "Down", &["source"], Some("noc"));
    let mut world = World::new(&[0, 1]);
    world.event(1, old.effect(3, RAISE));
    assert_eq!(world.reload(&changes(2, &vec![Some(old)], &vec![None])), "");
    world.correlator.mark(1, Generation(2));
    assert_eq!(world.tick(), "");
    world.correlator.leave(0);
    assert_eq!(world.tick(), "1 by reload");
}

#[test]
fn changes_are_applied_in_the_order_of_generations() {
    let first = Spec::new("link", "Down", &["source", "ifIndex"], Some("noc"));
    let second = Spec { alert: "Fault", key: vec!["ifIndex", "source"], ..first.clone() };
    let third = Spec { name: "other".into(), key: vec!["ifIndex"], ..second.clone() };
    let rules = [&first, &second, &third].map(|spec| vec![Some(spec.clone())]);
    let mut world = World::new(&[0]);
    world.event(1, first.effect(1, RAISE));
    world.correlator.reloaded(changes(3, &rules[1], &rules[2]));
    world.correlator.reloaded(changes(2, &rules[0], &rules[1]));
    world.event(2, second.effect(2, RAISE));
    world.event(3, third.effect(3, RAISE));
    assert_eq!(world.tick(), "");
    world.correlator.mark(0, Generation(2));
    assert_eq!(world.tick(), "1 by reload, 4 link Fault|1|10.0.0.1 noc x1", "only what is older moves");
    world.correlator.mark(0, Generation(3));
    assert_eq!(world.tick(), "4 by reload, 5 other Fault|1 noc x1, 2 by reload, 6 other Fault|2 noc x1");
    assert_eq!(world.open(), ["Fault|3", "Fault|1", "Fault|2"]);
}

#[test]
fn two_that_become_one_leave_one() {
    let old = Spec::new("link", "Down", &["source", "ifIndex"], Some("noc"));
    let new = Spec { key: vec!["source"], ..old.clone() };
    let told = changes(2, &vec![Some(old.clone())], &vec![Some(new.clone())]);
    let mut world = World::new(&[0]);
    world.event(1, old.effect(1, RAISE));
    world.event(1, old.effect(2, RAISE));
    world.correlator.reloaded(Arc::clone(&told));
    assert_eq!(world.event(2, new.effect(3, RAISE)), "3 link Down|10.0.0.1 noc x1");
    world.correlator.mark(0, Generation(2));
    assert_eq!(
        world.tick(),
        "2 by superseded, 1 by superseded",
        "the event of the new generation is younger"
    );

    let mut world = World::new(&[]);
    let resident = Spec::new("resident", "Down", &["source"], Some("noc"));
    world.event(1, resident.effect(1, RAISE));
    world.event(1, old.effect(2, RAISE));
    assert_eq!(world.reload(&told), "1 by superseded, 2 by reload, 3 link Down|10.0.0.1 noc x1");
}

#[test]
fn rules_that_exchange_their_alerts_lose_nothing() {
    let key = &["source", "ifIndex"];
    let old = ["Down", "Fault", "Lost"].map(|alert| Some(Spec::new(alert, alert, key, Some("noc"))));
    let turned = ["Fault", "Lost", "Down"];
    let new =
        old.clone().into_iter().zip(turned).map(|(spec, alert)| spec.map(|spec| Spec { alert, ..spec }));
    let (old, new) = (old.to_vec(), new.collect::<Vec<_>>());
    let mut world = World::new(&[]);
    for spec in old.iter().flatten() {
        world.event(1, spec.effect(1, RAISE));
    }
    let told = world.reload(&changes(2, &old, &new));
    assert_eq!(
        told,
        "3 by reload, 1 by reload, 2 by reload, 4 Lost Down|10.0.0.1|1 noc x1, \
         5 Down Fault|10.0.0.1|1 noc x1, 6 Fault Lost|10.0.0.1|1 noc x1",
        "all ends, then all begins"
    );
}

#[test]
fn a_clear_of_the_new_generation_finds_an_alert_under_its_old_key() {
    let old = Spec::new("link", "Down", &["source", "ifIndex"], Some("noc"));
    let new = Spec { alert: "Fault", ..old.clone() };
    let told = changes(2, &vec![Some(old.clone())], &vec![Some(new.clone())]);
    let by_map = EffectKind::Clear(ClearedBy::Severity);
    let script: &[(&str, &[(u64, EffectKind)], &str, usize)] = &[
        ("cleared", &[(2, CLEAR)], "1 by trap", 0),
        ("cleared by the severity map", &[(2, by_map)], "1 by severity", 0),
        ("cleared and raised again", &[(2, CLEAR), (2, RAISE)], "1 by trap", 1),
        ("raised anew, then cleared", &[(2, RAISE), (2, CLEAR)], "1 by trap", 0),
        (
            "raised by a late event",
            &[(2, CLEAR), (1, RAISE)],
            "1 by reload, 2 link Fault|10.0.0.1|3 noc x2",
            1,
        ),
        ("cleared by a late event", &[(1, CLEAR)], "", 0),
    ];
    for (name, events, expected, open) in script {
        let mut world = World::new(&[0]);
        world.event(1, old.effect(3, RAISE));
        world.correlator.reloaded(Arc::clone(&told));
        for &(generation, kind) in *events {
            world.now += 1;
            world.event(generation, if generation == 1 { &old } else { &new }.effect(3, kind));
        }
        world.correlator.mark(0, Generation(2));
        world.now += 10;
        assert_eq!(&world.tick(), expected, "{name}");
        assert_eq!(world.correlator.open_alerts(), *open, "{name}");
        let ended = world.disk.alerts.values().next().unwrap();
        if *expected == "1 by trap" && events[0].1 == CLEAR {
            assert_eq!(
                (ended.resolved_at, ended.last_seen),
                (Some(seconds(1_001)), seconds(1_001)),
                "{name}"
            );
        }
    }
}

#[test]
fn windows_end_where_the_reload_says_so() {
    let spec = Spec::new("link", "Down", &["source", "ifIndex"], Some("noc"));
    let mut world = World::new(&[]);
    world.event(1, spec.effect(1, RAISE));
    assert_eq!(world.event(1, spec.effect(1, RAISE)), "");
    let told = RuleChanges { generation: Generation(2), clear_windows: true, rules: Vec::new() };
    let told = Arc::new(told);
    assert_eq!(world.reload(&told), "");
    assert_eq!(world.event(2, spec.effect(1, RAISE)), "1 link Down|10.0.0.1|1 noc x3");
    assert_eq!(world.reload(&told), "");
    assert_eq!(world.event(2, spec.effect(1, RAISE)), "", "the same again ends no window that is newer");
}

#[test]
fn many_are_moved_in_bounded_steps_while_events_come() {
    let old = Spec::new("link", "Down", &["source", "ifIndex"], Some("noc"));
    let new = Spec { alert: "Fault", ..old.clone() };
    let mut world = World::new(&[]);
    let (mut out, time) = (Vec::new(), seconds(world.now));
    for problem in 0..2_000 {
        world.correlator.event(event(time, 0, [old.effect(problem, RAISE)]), time, &routes(), &mut out);
    }
    world.store(&out);
    world.correlator.reloaded(changes(2, &vec![Some(old.clone())], &vec![Some(new.clone())]));
    let mut problem = 0;
    loop {
        let mut out = Vec::new();
        let more = world.correlator.tick(seconds(world.now), &routes(), &mut out);
        let sizes: Vec<_> = out.iter().map(|command| command.octets() / 1024).collect();
        assert!(sizes.len() <= 1 && sizes.iter().all(|size| *size <= 257), "{sizes:?}");
        world.store(&out);
        if !more {
            break;
        }
        // Both ends of the table move under the walk.
        let effects = [(problem, CLEAR), (1_999 - problem, CLEAR), (5_000 + problem, RAISE)];
        let effects = effects.map(|(problem, kind)| new.effect(problem, kind));
        let event = Event { generation: Generation(2), ..event(time, 0, effects) };
        let mut out = Vec::new();
        world.correlator.event(event, time, &routes(), &mut out);
        world.store(&out);
        problem += 1;
    }
    assert!(problem > 10);
    let open: BTreeSet<_> = world.open().into_iter().collect();
    let expected = (problem..2_000 - problem).chain(5_000..5_000 + problem);
    assert_eq!(open, expected.map(|problem| new.key(problem).replace(KEY_SEPARATOR, "|")).collect());
    assert_eq!(world.correlator.take_tally().forgotten, 0);
}

const SLOTS: usize = 3;
const PROBLEMS: u32 = 4;

/// One change of the rules.
#[derive(Debug, Clone)]
enum Edit {
    Remove(usize),
    Restore(usize),
    Rename(usize),
    /// Two rules exchange their names, or their alerts.
    ExchangeNames(usize, usize),
    ExchangeAlerts(usize, usize),
    Alert(usize, &'static str),
    Key(usize, Vec<&'static str>),
    Team(usize, Option<&'static str>),
}

#[derive(Debug, Clone)]
enum Step {
    /// Through a receiver: which rule, which problem, raise or clear.
    Event(usize, usize, u32, bool),
    Reload(Vec<Edit>),
    /// A receiver reads the newest generation.
    Read(usize),
    Tick,
    Wait(i64),
    Restart,
}

fn steps(edits: impl Strategy<Value = Edit> + 'static) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..2_usize, 0..SLOTS, 0..PROBLEMS, prop::bool::weighted(0.7))
            .prop_map(|(receiver, rule, problem, raise)| Step::Event(receiver, rule, problem, raise)),
        2 => prop::collection::vec(edits, 0..3).prop_map(Step::Reload),
        2 => (0..2_usize).prop_map(Step::Read),
        2 => Just(Step::Tick),
        1 => (1..25_i64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let key = prop::sample::select(vec![
        vec!["source", "ifIndex"],
        vec!["ifIndex", "source"],
        vec!["ifIndex"],
        vec!["source"],
        vec!["source", "ifDescr"],
        vec!["ifDescr", "ifIndex", "source"],
    ]);
    let team = prop::sample::select(vec![Some("noc"), Some("ops"), None]);
    prop_oneof![
        (0..SLOTS).prop_map(Edit::Remove),
        (0..SLOTS).prop_map(Edit::Restore),
        (0..SLOTS).prop_map(Edit::Rename),
        (0..SLOTS, 0..SLOTS).prop_map(|(a, b)| Edit::ExchangeNames(a, b)),
        (0..SLOTS, 0..SLOTS).prop_map(|(a, b)| Edit::ExchangeAlerts(a, b)),
        (0..SLOTS, prop::sample::select(vec!["Down", "Fault"]))
            .prop_map(|(rule, alert)| Edit::Alert(rule, alert)),
        (0..SLOTS, key).prop_map(|(rule, key)| Edit::Key(rule, key)),
        (0..SLOTS, team).prop_map(|(rule, team)| Edit::Team(rule, team)),
    ]
}

/// Edits that leave no doubt about any alert.
fn sure_edit() -> impl Strategy<Value = Edit> {
    let key =
        prop::sample::select(vec![vec!["source", "ifIndex"], vec!["ifIndex", "source"], vec!["ifIndex"]]);
    let team = prop::sample::select(vec![Some("noc"), Some("ops")]);
    prop_oneof![
        (0..SLOTS).prop_map(Edit::Rename),
        (0..SLOTS, 0..SLOTS).prop_map(|(a, b)| Edit::ExchangeNames(a, b)),
        (0..SLOTS, 0..SLOTS).prop_map(|(a, b)| Edit::ExchangeAlerts(a, b)),
        (0..SLOTS, key).prop_map(|(rule, key)| Edit::Key(rule, key)),
        (0..SLOTS, team).prop_map(|(rule, team)| Edit::Team(rule, team)),
    ]
}

/// A world with rules in generations and two receivers that read them when they come to it.
struct Sim {
    world: World,
    /// Of each generation, from 1.
    rules: Vec<Rules>,
    read: [usize; 2],
    names: usize,
}

impl Sim {
    fn new() -> Self {
        let alerts = ["Down", "Fault", "Lost"];
        let spec = |slot: usize| {
            Spec::new(&format!("rule {slot}"), alerts[slot], &["source", "ifIndex"], Some("noc"))
        };
        let rules = (0..SLOTS).map(|slot| Some(spec(slot))).collect();
        Self { world: World::new(&[0, 1]), rules: vec![rules], read: [1; 2], names: SLOTS }
    }

    fn newest(&self) -> &Rules {
        self.rules.last().unwrap()
    }

    fn reload(&mut self, edits: &[Edit]) {
        let mut rules = self.newest().clone();
        for edit in edits {
            self.names += 1;
            match edit {
                Edit::Remove(slot) => rules[*slot] = None,
                Edit::Restore(slot) => {
                    let name = format!("rule {}", self.names);
                    rules[*slot].get_or_insert_with(|| Spec::new(&name, "Down", &["ifIndex"], None));
                }
                Edit::Rename(slot) => {
                    if let Some(spec) = &mut rules[*slot] {
                        spec.name = format!("rule {}", self.names);
                    }
                }
                Edit::ExchangeNames(a, b) | Edit::ExchangeAlerts(a, b) => {
                    let (Some(one), Some(other)) = (rules[*a].clone(), rules[*b].clone()) else { continue };
                    let (one, other) = match edit {
                        Edit::ExchangeNames(..) => (
                            Spec { name: other.name.clone(), ..one.clone() },
                            Spec { name: one.name, ..other },
                        ),
                        _ => (Spec { alert: other.alert, ..one.clone() }, Spec { alert: one.alert, ..other }),
                    };
                    if a != b {
                        (rules[*a], rules[*b]) = (Some(one), Some(other));
                    }
                }
                Edit::Alert(slot, alert) => rules[*slot].iter_mut().for_each(|spec| spec.alert = alert),
                Edit::Key(slot, key) => rules[*slot].iter_mut().for_each(|spec| spec.key.clone_from(key)),
                Edit::Team(slot, team) => rules[*slot].iter_mut().for_each(|spec| spec.team = *team),
            }
        }
        let generation = self.rules.len() as u64 + 1;
        self.world.correlator.reloaded(changes(generation, self.newest(), &rules));
        self.rules.push(rules);
    }

    fn read(&mut self, receiver: usize) {
        self.read[receiver] = self.rules.len();
        self.world.correlator.mark(receiver as u32, Generation(self.rules.len() as u64));
    }

    /// Returns whether the receiver's generation had the rule.
    fn event(&mut self, receiver: usize, slot: usize, problem: u32, raise: bool) -> bool {
        let generation = self.read[receiver];
        let Some(spec) = self.rules[generation - 1][slot].clone() else { return false };
        let effect = spec.effect(problem, if raise { RAISE } else { CLEAR });
        self.world.event_of(generation as u64, receiver as u16, effect);
        true
    }

    fn restart(&mut self) {
        let rules = self.newest().clone();
        self.world.restart(&rules);
        self.rules = vec![rules];
        (0..2).for_each(|receiver| self.read(receiver));
    }

    fn settle(&mut self) {
        (0..2).for_each(|receiver| self.read(receiver));
        self.world.tick();
    }

    /// Every open alert is one that a rule of the newest generation would raise, by that rule's name.
    fn orphans(&self) -> Vec<AlertRecord> {
        let fits = |record: &AlertRecord, spec: &Spec, problem: u32| {
            let label = |name: &str, value: &str| {
                record.labels.iter().any(|(own, found)| **own == *name && found == value)
            };
            let team = match spec.team {
                Some(team) => label("team", team),
                // One that a restart has kept shows what it had until the next event outside its window.
                None => true,
            };
            let names = ["alertname", "severity", "source", "team"].iter().chain(&spec.key);
            let names: BTreeSet<&str> = names.copied().collect();
            *record.key == *spec.key(problem)
                && names.len() == record.labels.len()
                && team
                && label("alertname", spec.alert)
                && label("source", "10.0.0.1")
        };
        let belongs = |record: &AlertRecord| {
            let spec = self.newest().iter().flatten().find(|spec| *spec.name == *record.rule);
            spec.is_some_and(|spec| (0..PROBLEMS).any(|problem| fits(record, spec, problem)))
        };
        self.world.correlator.records().into_iter().filter(|record| !belongs(record)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever changes: once all receivers have read the newest rules no open alert is an orphan, and the changes
    /// alone give the open set.
    #[test]
    fn no_reload_leaves_an_orphan(steps in steps(any_edit())) {
        let mut sim = Sim::new();
        for step in &steps {
            match step {
                Step::Event(receiver, slot, problem, raise) => drop(sim.event(*receiver, *slot, *problem, *raise)),
                Step::Reload(edits) => sim.reload(edits),
                Step::Read(receiver) => sim.read(*receiver),
                Step::Tick => drop(sim.world.tick()),
                Step::Wait(seconds) => sim.world.now += seconds,
                Step::Restart => sim.restart(),
            }
        }
        sim.settle();
        prop_assert_eq!(sim.orphans(), vec![], "under {:?}", sim.newest());
        let mut out = Vec::new();
        sim.world.correlator.finish(&mut out);
        sim.world.store(&out);
        prop_assert_eq!(sim.world.disk.open(), sim.world.correlator.records());
    }

    /// Where every alert tells what it is under the new rules, no problem gets lost and none is kept: what
    /// is open is what was raised last, whenever the receivers read the rules. Each problem comes through one
    /// receiver, as devices do.
    #[test]
    fn what_is_open_is_what_was_raised_last(steps in steps(sure_edit())) {
        let mut sim = Sim::new();
        let mut raised = BTreeSet::new();
        for step in &steps {
            match step {
                Step::Event(_, slot, problem, raise) => {
                    sim.event(*problem as usize % 2, *slot, *problem, *raise);
                    if *raise {
                        raised.insert((*slot, *problem));
                    } else {
                        raised.remove(&(*slot, *problem));
                    }
                }
                Step::Reload(edits) => sim.reload(edits),
                Step::Read(receiver) => sim.read(*receiver),
                Step::Tick => drop(sim.world.tick()),
                Step::Wait(seconds) => sim.world.now += seconds,
                Step::Restart => {
                    sim.settle();
                    sim.restart();
                }
            }
        }
        sim.settle();
        let expected = raised.iter().map(|&(slot, problem)| sim.newest()[slot].as_ref().unwrap().key(problem));
        let expected: BTreeSet<_> = expected.map(|key| key.replace(KEY_SEPARATOR, "|")).collect();
        let open: BTreeSet<_> = sim.world.open().into_iter().collect();
        prop_assert_eq!(open, expected);
        prop_assert_eq!(sim.orphans(), vec![]);
    }

    /// A restart between reloads changes nothing but numbers of generations: every later decision is the same.
    #[test]
    fn a_restart_between_reloads_changes_nothing(steps in steps(sure_edit())) {
        let (mut sim, mut twin) = (Sim::new(), Sim::new());
        for step in &steps {
            for (sim, restarts) in [(&mut sim, true), (&mut twin, false)] {
                match step {
                    Step::Event(receiver, slot, problem, raise) => {
                        sim.event(*receiver, *slot, *problem, *raise);
                    }
                    Step::Reload(edits) => {
                        sim.reload(edits);
                        sim.settle();
                    }
                    Step::Read(_) | Step::Tick => {}
                    Step::Wait(seconds) => sim.world.now += seconds,
                    Step::Restart if restarts => {
                        sim.restart();
                        prop_assert_eq!(sim.world.tick(), "", "the rules are the same");
                    }
                    Step::Restart => {}
                }
            }
            // In which order alerts are moved, and so their numbers, is no one's business.
            let unnumbered = |sim: &Sim| {
                let records = sim.world.correlator.records().into_iter();
                records
                    .map(|record| (record.key.clone(), AlertRecord { id: AlertId(0), change: 0, ..record }))
                    .collect::<BTreeMap<_, _>>()
            };
            prop_assert_eq!(unnumbered(&sim), unnumbered(&twin), "{:?}", step);
            prop_assert_eq!(&sim.world.disk.alerts.len(), &twin.world.disk.alerts.len());
        }
    }
}
