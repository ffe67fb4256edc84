//! Scripts: at a second, something happens, and these commands come out.

use super::*;
use Severity::{Critical, Major};

#[derive(Clone, Copy)]
enum Do {
    /// An event through `listener`, with effects on one interface each.
    Event(u16, &'static [(u32, EffectKind)]),
    Tick,
    /// Ends the program in order and starts it again.
    Restart,
}
use Do::{Event as On, Restart, Tick};

const RAISE: EffectKind = EffectKind::Raise(Major);
const WORSE: EffectKind = EffectKind::Raise(Critical);
const CLEAR: EffectKind = EffectKind::Clear(ClearedBy::Trap);
const STORE: EffectKind = EffectKind::Store;

struct World {
    correlator: Correlator,
    disk: Disk,
    rule: Arc<RuleAction>,
    limits: Limits,
}

impl World {
    fn new(limits: Limits, rule: Arc<RuleAction>) -> Self {
        let correlator = Correlator::new(limits, Restored::default(), &[0]);
        Self { correlator, disk: Disk::default(), rule, limits }
    }

    /// What comes out, in short: alerts are lettered in the order of their opening.
    fn step(&mut self, at: i64, what: Do) -> String {
        let (now, routes, mut out) = (seconds(at), routes(), Vec::new());
        match what {
            On(listener, effects) => {
                let effects = effects.iter().map(|&(key, kind)| effect(&self.rule, key, kind));
                self.correlator.event(event(now, listener, effects), now, &routes, &mut out);
            }
            Tick => while self.correlator.tick(now, &routes, &mut out) {},
            Restart => self.correlator.finish(&mut out),
        }
        let mut told = Vec::new();
        for command in &out {
            self.disk.apply(command);
            told.push(self.tell(command));
        }
        if matches!(what, Restart) {
            self.correlator = Correlator::new(self.limits, self.disk.restored(), &[0]);
        }
        let open = self.correlator.records();
        assert_eq!(
            open.iter().map(|record| record.id).collect::<Vec<_>>(),
            self.disk.open().iter().map(|record| record.id).collect::<Vec<_>>(),
        );
        told.join("; ")
    }

    fn letter(&self, id: AlertId) -> char {
        let place = self.disk.alerts.keys().position(|other| *other == id).expect("a known alert");
        (b'A' + u8::try_from(place).unwrap()) as char
    }

    fn tell(&self, command: &Command) -> String {
        let changes = |changes: &[AlertChange]| {
            let tell = |change: &AlertChange| {
                let record = &change.record;
                assert_eq!(change.queue_for, ["hook".into()], "the state webhook gets no row");
                let how = record.resolved_by.as_deref().map(|how| format!(" by {how}")).unwrap_or_default();
                let (name, state) = (self.letter(record.id), record.state.as_str());
                format!("{name} {state}{how} {} x{}", record.severity, record.count)
            };
            changes.iter().map(tell).collect::<Vec<_>>().join(", ")
        };
        match command {
            Command::Event(decided) => {
                let alert = decided.alert.map_or('-', |id| self.letter(id));
                format!("event of {alert}: {}", changes(&decided.changes))
                    .trim_end_matches([' ', ':'])
                    .to_owned()
            }
            Command::Changes(list) => format!("change: {}", changes(list)),
            Command::Counts(list) => {
                let tell = |&(id, count, ..): &(AlertId, u64, _, _)| format!("{} x{count}", self.letter(id));
                format!("counts: {}", list.iter().map(tell).collect::<Vec<_>>().join(", "))
            }
            other => panic!("{other:?}"),
        }
    }
}

type Script = [(i64, Do, &'static str)];

fn play(name: &str, rule: Arc<RuleAction>, script: &Script) -> World {
    play_within(Limits::default(), name, rule, script)
}

fn play_within(limits: Limits, name: &str, rule: Arc<RuleAction>, script: &Script) -> World {
    let mut world = World::new(limits, rule);
    for (number, &(at, what, expected)) in script.iter().enumerate() {
        assert_eq!(world.step(at, what), expected, "{name}: step {number}, second {at}");
    }
    world
}

#[test]
fn the_life_of_an_alert() {
    let text = Arc::default();
    let scripts: &[(&str, Option<u64>, Option<u64>, &Script)] = &[
        (
            "linkDown and linkUp of two interfaces",
            Some(300),
            None,
            &[
                (0, On(0, &[(1, RAISE)]), "event of A: A firing major x1"),
                (1, On(0, &[(2, RAISE)]), "event of B: B firing major x1"),
                (2, On(0, &[(1, CLEAR)]), "event of A: A resolved by trap major x1"),
                (3, On(0, &[(1, CLEAR)]), "event of -"),
                (4, On(0, &[(1, RAISE)]), "event of C: C firing major x1"),
                (5, On(0, &[(2, CLEAR)]), "event of B: B resolved by trap major x1"),
            ],
        ),
        (
            "a clear that comes first, and an event without effects",
            Some(300),
            None,
            &[
                (0, On(0, &[(1, CLEAR)]), "event of -"),
                (1, On(0, &[]), "event of -"),
                (2, On(0, &[(1, STORE)]), "event of -"),
                (3, On(0, &[(1, STORE), (1, RAISE)]), "event of A: A firing major x1"),
            ],
        ),
        (
            "the window does not slide",
            Some(60),
            None,
            &[
                (0, On(0, &[(1, RAISE)]), "event of A: A firing major x1"),
                (30, On(0, &[(1, RAISE)]), "event of A"),
                (59, On(0, &[(1, RAISE)]), "event of A"),
                (60, On(0, &[(1, RAISE)]), "event of A: A firing major x4"),
                (119, On(0, &[(1, RAISE)]), "event of A"),
                (120, On(0, &[(1, RAISE)]), "event of A: A firing major x6"),
                (121, On(0, &[(1, CLEAR)]), "event of A: A resolved by trap major x6"),
                (122, On(0, &[(1, RAISE)]), "event of B: B firing major x1"),
            ],
        ),
        (
            "without a window each repeat is told",
            None,
            None,
            &[
                (0, On(0, &[(1, RAISE)]), "event of A: A firing major x1"),
                (1, Tick, ""),
                (1, On(0, &[(1, RAISE)]), "event of A: A firing major x2"),
                (31, Tick, ""),
            ],
        ),
        (
            "a new severity ends one and begins another, also inside the window",
            Some(60),
            None,
            &[
                (0, On(0, &[(1, RAISE)]), "event of A: A firing major x1"),
                (1, On(0, &[(1, RAISE)]), "event of A"),
                (
                    2,
                    On(0, &[(1, WORSE)]),
                    "event of B: A resolved by severity major x2, B firing critical x1",
                ),
                (3, On(0, &[(1, WORSE)]), "event of B"),
                (
                    4,
                    On(0, &[(1, RAISE)]),
                    "event of C: B resolved by severity critical x2, C firing major x1",
                ),
            ],
        ),
        (
            "expiry is pushed on by repeats",
            Some(600),
            Some(100),
            &[
                (0, On(0, &[(1, RAISE)]), "event of A: A firing major x1"),
                (99, Tick, ""),
                (99, On(0, &[(1, RAISE)]), "event of A"),
                (100, Tick, ""),
                (198, Tick, "counts: A x2"),
                (199, Tick, "change: A resolved by expire major x2"),
                (200, Tick, ""),
                (201, On(0, &[(1, RAISE)]), "event of B: B firing major x1"),
                (202, On(0, &[(1, CLEAR)]), "event of B: B resolved by trap major x1"),
                (1000, Tick, ""),
            ],
        ),
        (
            "counts are told every 30 s, and only where they changed",
            Some(600),
            None,
            &[
                (0, Tick, ""),
                (1, On(0, &[(1, RAISE)]), "event of A: A firing major x1"),
                (1, On(0, &[(2, RAISE)]), "event of B: B firing major x1"),
                (2, On(0, &[(2, RAISE)]), "event of B"),
                (29, Tick, ""),
                (30, Tick, "counts: B x2"),
                (60, Tick, ""),
                (61, On(0, &[(1, RAISE)]), "event of A"),
                (62, On(0, &[(1, CLEAR)]), "event of A: A resolved by trap major x2"),
                (90, Tick, ""),
            ],
        ),
        (
            "one event raises an alert once; a clear acts before a raise",
            None,
            None,
            &[
                (
                    0,
                    On(0, &[(1, RAISE), (1, WORSE), (2, WORSE)]),
                    "event of A: A firing major x1, B firing critical x1",
                ),
                (
                    1,
                    On(0, &[(1, CLEAR), (1, RAISE)]),
                    "event of A: A resolved by trap major x1, C firing major x1",
                ),
            ],
        ),
        (
            "a restart keeps window, expiry and counts",
            Some(60),
            Some(100),
            &[
                (0, On(0, &[(1, RAISE)]), "event of A: A firing major x1"),
                (50, On(0, &[(1, RAISE)]), "event of A"),
                (51, Restart, "counts: A x2"),
                (52, On(0, &[(1, RAISE)]), "event of A"),
                (53, Restart, "counts: A x3"),
                (151, Tick, ""),
                (152, Tick, "change: A resolved by expire major x3"),
                (153, On(0, &[(1, RAISE)]), "event of B: B firing major x1"),
                (154, Restart, ""),
                (155, On(0, &[(1, CLEAR)]), "event of B: B resolved by trap major x1"),
            ],
        ),
        (
            "a clock that steps back keeps nothing silent and nothing open",
            Some(60),
            Some(100),
            &[
                (100_000, Tick, ""),
                (100_000, On(0, &[(1, RAISE)]), "event of A: A firing major x1"),
                (99_990, On(0, &[(1, RAISE)]), "event of A"),
                (10, On(0, &[(1, RAISE)]), "event of A: A firing major x3"),
                (11, On(0, &[(1, RAISE)]), "event of A"),
                (109, Tick, "counts: A x4"),
                (111, Tick, "change: A resolved by expire major x4"),
            ],
        ),
    ];
    for (name, deduplicate, expire, script) in scripts {
        play(name, rule("link", *deduplicate, *expire, &text), script);
    }
}

#[test]
fn labels_that_change_end_the_alert_once_the_window_is_over() {
    let text = Arc::new(Text { varies: true, ..Text::default() });
    let world = play(
        "labels",
        rule("link", Some(60), None, &text),
        &[
            (0, On(1, &[(1, RAISE)]), "event of A: A firing major x1"),
            (1, On(2, &[(1, RAISE)]), "event of A"),
            (60, On(1, &[(1, RAISE)]), "event of A: A firing major x3"),
            (120, On(2, &[(1, RAISE)]), "event of B: A resolved by labels major x3, B firing major x1"),
        ],
    );
    assert_eq!(text.rendered.load(Ordering::Relaxed), 3, "nothing is rendered for a silent repeat");
    let labels = |id: usize| &world.disk.alerts.values().nth(id).unwrap().labels;
    let text = |labels: &Vec<(Arc<str>, String)>| {
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(text(labels(0)), "alertname=Down ifIndex=1 severity=major source=10.0.0.1 team=team 1");
    assert_eq!(text(labels(1)), "alertname=Down ifIndex=1 severity=major source=10.0.0.1 team=team 2");
}

#[test]
fn annotations_are_those_of_the_last_raise_that_was_told() {
    let mut world = World::new(Limits::default(), rule("link", Some(60), None, &Arc::default()));
    let summary = |world: &World| world.disk.alerts.values().next().unwrap().annotations[0].1.clone();
    for (at, listener, kind, expected) in [
        (0, 1, RAISE, "major by listener 1"),
        (1, 2, RAISE, "major by listener 1"),
        (60, 300, RAISE, "major by listener 300"),
        (61, 4, CLEAR, "major by listener 300"),
    ] {
        let effects: &'static [(u32, EffectKind)] = if kind == CLEAR { &[(1, CLEAR)] } else { &[(1, RAISE)] };
        world.step(at, On(listener, effects));
        assert_eq!(summary(&world), expected, "second {at}");
    }
    let record = world.disk.alerts.values().next().unwrap();
    assert_eq!((record.first_seen, record.last_seen), (seconds(0), seconds(61)));
    assert_eq!((record.count, record.resolved_at), (3, Some(seconds(61))));
    assert_eq!(record.last_event, world.disk.restored().last_event, "the clear is its last event");
}

#[test]
fn a_repeat_makes_one_command_and_no_change() {
    let text = Arc::default();
    let mut world = World::new(Limits::default(), rule("link", Some(3600), Some(3600), &text));
    world.step(0, On(0, &[(1, RAISE)]));
    let (routes, mut out) = (routes(), Vec::new());
    for repeat in 0..10_000 {
        let now = Timestamp(SECOND + repeat);
        world.correlator.event(event(now, 0, [effect(&world.rule, 1, RAISE)]), now, &routes, &mut out);
        let [Command::Event(decided)] = &out[..] else { panic!("one command, an event: {out:?}") };
        assert!(decided.changes.is_empty() && decided.alert.is_some());
        out.clear();
    }
    assert_eq!(text.rendered.load(Ordering::Relaxed), 1);
    assert_eq!(world.correlator.records()[0].count, 10_001);
    assert!(!world.correlator.tick(seconds(2), &routes, &mut out) && out.is_empty());
    world.correlator.tick(seconds(32), &routes, &mut out);
    assert!(matches!(&out[..], [Command::Counts(counts)] if counts.len() == 1 && counts[0].1 == 10_001));
}

#[test]
fn beyond_the_bound_events_are_stored_without_an_alert() {
    let limits = Limits { open_alerts: 2, ..Limits::default() };
    let mut world = play_within(
        limits,
        "full",
        rule("link", None, None, &Arc::default()),
        &[
            (
                0,
                On(0, &[(1, RAISE), (2, RAISE), (3, RAISE)]),
                "event of A: A firing major x1, B firing major x1",
            ),
            (1, On(0, &[(3, RAISE)]), "event of -"),
            (2, On(0, &[(2, RAISE)]), "event of B: B firing major x2"),
            (3, On(0, &[(2, WORSE)]), "event of C: B resolved by severity major x2, C firing critical x1"),
            (4, On(0, &[(1, CLEAR)]), "event of A: A resolved by trap major x1"),
            (5, On(0, &[(3, RAISE)]), "event of D: D firing major x1"),
        ],
    );
    let tally = world.correlator.take_tally();
    assert_eq!((tally.fired, tally.refused), (4, 2));
    assert_eq!(world.correlator.open_by_severity(), [0, 0, 0, 1, 1]);
}

#[test]
fn a_full_memory_opens_nothing_and_renders_nothing_anew() {
    let text = Arc::new(Text { varies: true, ..Text::default() });
    let limits = Limits { open_octets: 1, ..Limits::default() };
    let world = play_within(
        limits,
        "full",
        rule("link", None, None, &text),
        &[
            (0, On(1, &[(1, RAISE)]), "event of A: A firing major x1"),
            (1, On(1, &[(2, RAISE)]), "event of -"),
            (2, On(2, &[(1, RAISE)]), "event of A: A firing major x2"),
            (3, On(3, &[(1, WORSE)]), "event of B: A resolved by severity major x2, B firing critical x1"),
        ],
    );
    assert_eq!(text.rendered.load(Ordering::Relaxed), 1);
    let open = world.correlator.records();
    let label = |name: &str| &open[0].labels.iter().find(|(label, _)| &**label == name).unwrap().1;
    assert_eq!((label("team").as_str(), label("severity").as_str()), ("team 1", "critical"));
    assert_eq!(open[0].annotations[0].1, "major by listener 1");
}

#[test]
fn restored_maxima_are_respected_and_twins_are_ended() {
    let ended = AlertRecord { state: AlertState::Resolved, ..record(90, "gone") };
    let restored = Restored {
        last_event: EventId(1_000),
        last_alert: AlertId(80),
        last_change: 7,
        ..Restored::of([record(70, "b"), record(5, "a"), record(60, "b"), ended])
    };
    let limits = Limits { open_alerts: 1, ..Limits::default() };
    let mut correlator = Correlator::new(limits, restored, &[]);
    assert_eq!(correlator.open_alerts(), 2, "the bound is for new ones");
    let mut out = Vec::new();
    correlator.tick(Timestamp(0), &routes(), &mut out);
    let [Command::Changes(changes)] = &out[..] else { panic!("{out:?}") };
    let [AlertChange { record: twin, .. }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((twin.id, twin.change, twin.resolved_by.as_deref()), (AlertId(60), 71, Some("superseded")));
    let ids: Vec<_> = correlator.records().iter().map(|record| record.id.0).collect();
    assert_eq!(ids, [5, 70]);

    out.clear();
    let text = Arc::default();
    let clear = Effect { key: "a".into(), ..effect(&rule("link", None, None, &text), 1, CLEAR) };
    let clear_b = Effect { key: "b".into(), ..clear.clone() };
    let raise = effect(&rule("link", None, None, &text), 1, RAISE);
    correlator.event(event(Timestamp(3), 0, [clear, clear_b, raise]), Timestamp(3), &routes(), &mut out);
    let [Command::Event(decided)] = &out[..] else { panic!("{out:?}") };
    let numbers: Vec<_> = decided.changes.iter().map(|c| (c.record.id.0, c.record.change)).collect();
    assert_eq!(numbers, [(5, 72), (70, 73), (81, 74)]);
    assert_eq!((decided.id, decided.alert), (EventId(1_001), Some(AlertId(5))));
}

#[test]
fn maxima_that_lag_behind_the_open_alerts_are_put_right() {
    let newest = AlertRecord { last_event: EventId(900), change: 30, ..record(70, "a") };
    let restored = Restored::of([newest, record(5, "b")]);
    let mut correlator = Correlator::new(Limits::default(), restored, &[]);
    let (raise, mut out) = (effect(&rule("link", None, None, &Arc::default()), 1, RAISE), Vec::new());
    correlator.event(event(Timestamp(1), 0, [raise]), Timestamp(1), &routes(), &mut out);
    let [Command::Event(decided)] = &out[..] else { panic!("{out:?}") };
    let change = &decided.changes[0].record;
    assert_eq!((decided.id.0, change.id.0, change.change), (901, 71, 31));
}

#[test]
fn the_next_thing_to_do_is_an_expiry_or_a_flush() {
    let mut world = World::new(Limits::default(), rule("link", Some(300), Some(100), &Arc::default()));
    assert_eq!(world.correlator.wake_at(), None);
    world.step(0, Tick);
    world.step(1, On(0, &[(1, RAISE)]));
    assert_eq!(world.correlator.wake_at(), Some(seconds(101)), "nothing to tell");
    world.step(2, On(0, &[(1, RAISE)]));
    assert_eq!(world.correlator.wake_at(), Some(seconds(30)));
    world.step(95, Tick);
    world.step(96, On(0, &[(1, RAISE)]));
    assert_eq!(
        world.correlator.wake_at(),
        Some(seconds(101)),
        "the timer is looked at before the flush at 125"
    );
}

#[test]
fn many_that_expire_at_once_are_ended_in_bounded_steps() {
    let mut world = World::new(Limits::default(), rule("link", None, Some(10), &Arc::default()));
    let (routes, mut out) = (routes(), Vec::new());
    for key in 0..1_000 {
        world.correlator.event(
            event(seconds(0), 0, [effect(&world.rule, key, RAISE)]),
            seconds(0),
            &routes,
            &mut out,
        );
    }
    assert_eq!(world.correlator.wake_at(), Some(seconds(10)));
    out.clear();
    let mut steps = 1;
    while world.correlator.tick(seconds(10), &routes, &mut out) {
        steps += 1;
    }
    let sizes = out.iter().map(|command| match command {
        Command::Changes(changes) => changes.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [256, 256, 256, 232]);
    assert_eq!((steps, world.correlator.open_alerts(), world.correlator.wake_at()), (4, 0, None));
}
