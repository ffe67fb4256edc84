//! Random histories against a naive model, and with restarts against none.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Effects as rule, key, and severity or clear.
    Event(u16, Vec<(usize, u32, Option<Severity>)>),
    Wait(i64),
    /// An operator, with the open alert of this key.
    Operate(u32, Deed),
}

const DEDUPLICATE: [Option<u64>; 4] = [None, Some(5), Some(20), Some(60)];
const EXPIRE: [Option<u64>; 4] = [None, Some(10), None, Some(30)];
/// Whether the rule's silent repeats are stored.
const HISTORY: [bool; 4] = [true, false, false, true];
/// Whether the rule's label depends on the event.
const VARIES: [bool; 4] = [false, false, true, true];

fn rules() -> Vec<Arc<RuleAction>> {
    let make = |number: usize| {
        let text = Arc::new(Text { varies: VARIES[number], ..Text::default() });
        let rule = rule(&format!("rule {number}"), DEDUPLICATE[number], EXPIRE[number], &text);
        let mut rule = Arc::into_inner(rule).unwrap();
        rule.store_repeats = HISTORY[number];
        Arc::new(rule)
    };
    (0..4).map(make).collect()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let severity = prop_oneof![
        3 => Just(Some(Severity::Major)),
        1 => Just(Some(Severity::Minor)),
        2 => Just(None)
    ];
    let effects = prop::collection::vec((0_usize..4, 0_u32..4, severity), 0..3);
    let step = prop_oneof![
        4 => (0_u16..2, effects).prop_map(|(listener, effects)| Step::Event(listener, effects)),
        1 => (1_i64..25).prop_map(Step::Wait),
        1 => (0_u32..4, prop_oneof![Just(Deed::Acknowledge), Just(Deed::Close)])
            .prop_map(|(key, deed)| Step::Operate(key, deed)),
    ];
    prop::collection::vec(step, 1..120)
}

/// One alert as the product's rules say it, without any of the correlator's shapes.
#[derive(Debug, Clone, PartialEq)]
struct Naive {
    key: u32,
    severity: Severity,
    team: String,
    count: u64,
    first: i64,
    last: i64,
    quiet: Option<i64>,
    expires: Option<i64>,
    /// How it ended, and when.
    ended: Option<(&'static str, i64)>,
    event: usize,
    /// How often it was told as open.
    told: usize,
    /// When it was acknowledged.
    acknowledged: Option<i64>,
}

#[derive(Debug, Default)]
struct Model {
    alerts: Vec<Naive>,
    events: usize,
    /// Events that are stored.
    rows: usize,
}

impl Model {
    fn open(&mut self, key: u32) -> Option<&mut Naive> {
        self.alerts.iter_mut().find(|alert| alert.key == key && alert.ended.is_none())
    }

    fn event(&mut self, now: i64, listener: u16, effects: &[(usize, u32, Option<Severity>)]) {
        self.events += 1;
        let number = self.events;
        let mut row = effects.is_empty();
        for &(rule, key, severity) in effects {
            let window = DEDUPLICATE[rule].map(|window| i64::try_from(window).unwrap());
            let expires = EXPIRE[rule].map(|expire| now + i64::try_from(expire).unwrap());
            let quiet = window.map(|window| now + window);
            let team = if VARIES[rule] { format!("team {listener}") } else { "noc".to_owned() };
            let begin = |severity| Naive {
                key,
                severity,
                team: team.clone(),
                count: 1,
                first: now,
                last: now,
                quiet,
                expires,
                ended: None,
                event: number,
                told: 1,
                acknowledged: None,
            };
            let end = |alert: &mut Naive, how| {
                alert.ended = Some((how, now));
                alert.last = now;
            };
            match (self.open(key), severity) {
                (None, None) => row = true,
                (Some(alert), None) => {
                    end(alert, "trap");
                    row = true;
                }
                (None, Some(severity)) => {
                    self.alerts.push(begin(severity));
                    row = true;
                }
                (Some(alert), Some(_)) if alert.event == number => row |= HISTORY[rule],
                (Some(alert), Some(severity)) => {
                    let same = alert.severity == severity;
                    let silent = |quiet: i64| now < quiet && window.is_some_and(|w| quiet - now <= 2 * w);
                    let silent = same && alert.quiet.is_some_and(silent);
                    row |= HISTORY[rule] || !silent;
                    if !same || (!silent && alert.team != team) {
                        end(alert, if same { "labels" } else { "severity" });
                        self.alerts.push(begin(severity));
                        continue;
                    }
                    alert.count += 1;
                    alert.last = now;
                    alert.event = number;
                    alert.expires = expires;
                    if !silent {
                        alert.told += 1;
                        alert.quiet = quiet;
                    }
                }
            }
        }
        self.rows += usize::from(row);
    }

    fn operate(&mut self, now: i64, key: u32, deed: Deed) {
        let Some(alert) = self.open(key) else { return };
        match deed {
            Deed::Close => alert.ended = Some(("operator", now)),
            Deed::Acknowledge if alert.acknowledged.is_none() => {
                alert.acknowledged = Some(now);
                alert.told += 1;
            }
            Deed::Acknowledge => {}
        }
    }

    fn tick(&mut self, now: i64) {
        for alert in self.alerts.iter_mut().filter(|alert| alert.ended.is_none()) {
            if alert.expires.is_some_and(|at| at <= now) {
                alert.ended = Some(("expire", now));
            }
        }
    }
}

/// The correlator, the disk behind it and a clock.
struct World {
    correlator: Correlator,
    disk: Disk,
    rules: Vec<Arc<RuleAction>>,
    now: i64,
    told: BTreeMap<AlertId, usize>,
}

impl World {
    fn new() -> Self {
        Self {
            correlator: Correlator::new(Limits::default(), Restored::default(), &[]),
            disk: Disk::default(),
            rules: rules(),
            now: 1_000,
            told: BTreeMap::new(),
        }
    }

    /// What comes out, without the counts, whose times a restart moves.
    fn step(&mut self, step: &Step) -> Vec<String> {
        let (routes, mut out) = (routes(), Vec::new());
        match step {
            Step::Wait(seconds) => self.now += seconds,
            Step::Operate(key, deed) => {
                let key = format!("Down{KEY_SEPARATOR}10.0.0.1{KEY_SEPARATOR}{key}");
                let open = self.correlator.records().into_iter().find(|record| *record.key == *key);
                let id = open.map_or(AlertId(u64::MAX), |record| record.id);
                let (request, answers) = request(id, &key, *deed);
                self.correlator.operate(request, seconds(self.now), &routes, &mut out);
                assert_eq!(answers.try_recv().unwrap() == Outcome::NotOpen, id == AlertId(u64::MAX));
            }
            Step::Event(listener, effects) => {
                let effects = effects.iter().map(|&(rule, key, severity)| {
                    effect(
                        &self.rules[rule],
                        key,
                        severity.map_or(EffectKind::Clear(ClearedBy::Trap), EffectKind::Raise),
                    )
                });
                let event = event(seconds(self.now), *listener, effects);
                self.correlator.event(event, seconds(self.now), &routes, &mut out);
            }
        }
        while self.correlator.tick(seconds(self.now), &routes, &mut out) {}
        self.store(&out);
        out.iter()
            .filter(|command| !matches!(command, Command::Counts(_) | Command::Flush(_)))
            .map(|command| match command {
                Command::Event(decided) => {
                    format!("{:?} {:?} {:?} {:?}", decided.id, decided.row, decided.alert, decided.changes)
                }
                other => format!("{other:?}"),
            })
            .collect()
    }

    fn store(&mut self, out: &[Command]) {
        for command in out {
            let changes = match command {
                Command::Event(decided) => &decided.changes[..],
                Command::Changes(changes) => changes,
                _ => &[],
            };
            for AlertChange { record, .. } in changes {
                *self.told.entry(record.id).or_default() += usize::from(record.state != AlertState::Resolved);
            }
            self.disk.apply(command);
        }
    }

    fn finish(&mut self) {
        let mut out = Vec::new();
        self.correlator.finish(&mut out);
        self.store(&out);
    }

    fn naive(&self, record: &AlertRecord) -> Naive {
        let second = |time: Timestamp| time.0 / SECOND;
        let open = record.state != AlertState::Resolved;
        let key = record.key.rsplit(KEY_SEPARATOR).next().unwrap().parse().unwrap();
        let team = record.labels.iter().find(|(name, _)| &**name == "team").unwrap().1.clone();
        let ended = record.resolved_at.map(|at| {
            let all = ["trap", "severity", "labels", "expire", "operator"];
            let how = all.into_iter().find(|how| record.resolved_by.as_deref() == Some(how));
            (how.expect("a known end"), second(at))
        });
        Naive {
            key,
            severity: record.severity,
            team,
            count: record.count,
            first: second(record.first_seen),
            last: second(record.last_seen),
            quiet: record.quiet_until.map(second).filter(|_| open),
            expires: record.expires_at.map(second).filter(|_| open),
            ended,
            event: 0,
            told: self.told[&record.id],
            acknowledged: record.by_hand.as_ref().and_then(|hand| hand.acknowledged_at).map(second),
        }
    }
}

/// What of a model's alert a record says.
fn visible(alert: &Naive) -> Naive {
    let open = alert.ended.is_none();
    let (quiet, expires) = (alert.quiet.filter(|_| open), alert.expires.filter(|_| open));
    Naive { event: 0, quiet, expires, ..alert.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// No alert is lost, none is told twice inside its window, each ends or is open, and the changes alone
    /// give the open set.
    #[test]
    fn the_correlator_is_the_model(steps in steps()) {
        let (mut world, mut model) = (World::new(), Model::default());
        for step in &steps {
            world.step(step);
            if let Step::Event(listener, effects) = step {
                model.event(world.now, *listener, effects);
            }
            if let Step::Operate(key, deed) = step {
                model.operate(world.now, *key, *deed);
            }
            model.tick(world.now);
            let open: Vec<_> = world.correlator.records().iter().map(|record| world.naive(record)).collect();
            let expected: Vec<_> =
                model.alerts.iter().filter(|alert| alert.ended.is_none()).map(visible).collect();
            prop_assert_eq!(open, expected, "after {:?}", step);
            let ids = |records: Vec<AlertRecord>| records.iter().map(|r| r.id).collect::<Vec<_>>();
            prop_assert_eq!(ids(world.disk.open()), ids(world.correlator.records()));
        }
        world.finish();
        let all: Vec<_> = world.disk.alerts.values().map(|record| world.naive(record)).collect();
        let expected: Vec<_> = model.alerts.iter().map(visible).collect();
        let without_expiry = |alerts: Vec<Naive>| {
            // The disk moves an expiry by the repeats' times; which rule repeated it, it does not know.
            alerts.into_iter().map(|alert| Naive { expires: None, ..alert }).collect::<Vec<_>>()
        };
        prop_assert_eq!(without_expiry(all), without_expiry(expected));
        prop_assert_eq!(world.disk.events, model.rows);
    }

    /// Ended in order and started again anywhere, from the disk alone: every later decision is the same, to
    /// the number. Each key has one rule, as in settings that are sound.
    #[test]
    fn a_restart_changes_nothing(steps in steps(), restarts in prop::collection::vec(0_usize..120, 1..4)) {
        let (mut world, mut twin) = (World::new(), World::new());
        for (number, step) in steps.into_iter().enumerate() {
            let step = match step {
                Step::Event(listener, effects) => {
                    let by_key = |(_, key, severity): (usize, u32, _)| (key as usize % 4, key, severity);
                    Step::Event(listener, effects.into_iter().map(by_key).collect())
                }
                other => other,
            };
            if restarts.contains(&number) {
                world.finish();
                prop_assert_eq!(world.disk.open(), world.correlator.records(), "the disk knows everything");
                world.correlator = Correlator::new(Limits::default(), world.disk.restored(), &[]);
            }
            prop_assert_eq!(world.step(&step), twin.step(&step), "after {:?}", step);
            prop_assert_eq!(world.correlator.records(), twin.correlator.records());
        }
    }
}
