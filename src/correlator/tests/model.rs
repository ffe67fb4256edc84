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
    /// All mutes from now on: severity, seconds until it begins, seconds that it lasts.
    Mute(Vec<(Severity, i64, i64)>),
}

const RULES: usize = 5;
const DEDUPLICATE: [Option<u64>; RULES] = [None, Some(5), Some(20), Some(60), Some(15)];
const EXPIRE: [Option<u64>; RULES] = [None, Some(10), None, Some(30), Some(120)];
/// Whether the rule's silent repeats are stored.
const HISTORY: [bool; RULES] = [true, false, false, true, false];
/// Whether the rule's label depends on the event.
const VARIES: [bool; RULES] = [false, false, true, true, false];
/// So many changes in so many seconds are flapping, held for so many.
const FLAPPING: [Option<(usize, i64, i64)>; RULES] = [None, None, None, Some((4, 60, 40)), Some((3, 30, 25))];

fn rules() -> Vec<Arc<RuleAction>> {
    let make = |number: usize| {
        let text = Arc::new(Text { varies: VARIES[number], ..Text::default() });
        let rule = rule(&format!("rule {number}"), DEDUPLICATE[number], EXPIRE[number], &text);
        let mut rule = Arc::into_inner(rule).unwrap();
        rule.store_repeats = HISTORY[number];
        let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        rule.flapping = FLAPPING[number].map(|(count, window, hold)| Flapping {
            count,
            window: seconds(window),
            hold: seconds(hold),
        });
        Arc::new(rule)
    };
    (0..RULES).map(make).collect()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let severity = prop_oneof![
        3 => Just(Some(Severity::Major)),
        1 => Just(Some(Severity::Minor)),
        2 => Just(None)
    ];
    let effects = prop::collection::vec((0_usize..RULES, 0_u32..5, severity), 0..3);
    let muted = prop_oneof![Just(Severity::Major), Just(Severity::Minor)];
    let mutes = prop::collection::vec((muted, 0_i64..20, 1_i64..40), 0..3);
    let step = prop_oneof![
        8 => (0_u16..2, effects).prop_map(|(listener, effects)| Step::Event(listener, effects)),
        2 => (1_i64..25).prop_map(Step::Wait),
        1 => mutes.prop_map(Step::Mute),
        2 => (0_u32..5, prop_oneof![Just(Deed::Acknowledge), Just(Deed::Close)])
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
    /// How often event webhooks were told of it as open, and whether of its end.
    told: usize,
    end_told: bool,
    /// When it was acknowledged.
    acknowledged: Option<i64>,
    muted: bool,
    unheard: bool,
    changes: Vec<i64>,
    /// Flapping since, held until, and what was said last.
    held: Option<(i64, i64, Option<Severity>)>,
}

impl Naive {
    fn tell(&mut self) {
        self.told += usize::from(!self.muted);
    }

    fn end(&mut self, how: &'static str, now: i64) {
        self.ended = Some((how, now));
        self.end_told = !self.muted || !self.unheard;
    }

    /// Counts a change. Whether the alert flaps with it.
    fn changed(&mut self, now: i64, (count, window, _): (usize, i64, i64)) -> bool {
        self.changes.retain(|at| now - at < window);
        self.changes.push(now);
        // More than one too many where another rule of this alert counts more.
        while self.changes.len() > count {
            self.changes.remove(0);
        }
        self.changes.len() == count
    }
}

#[derive(Debug, Default)]
struct Model {
    alerts: Vec<Naive>,
    events: usize,
    /// Events that are stored.
    rows: usize,
    /// Severity, from, until.
    mutes: Vec<(Severity, i64, i64)>,
    /// When keys changed whose last alert was cleared.
    past: BTreeMap<u32, Vec<i64>>,
}

impl Model {
    fn open(&mut self, key: u32) -> Option<&mut Naive> {
        self.alerts.iter_mut().find(|alert| alert.key == key && alert.ended.is_none())
    }

    fn is_muted(&self, severity: Severity, now: i64) -> bool {
        self.mutes.iter().any(|(muted, from, until)| *muted == severity && *from <= now && now < *until)
    }

    fn begin(&mut self, mut alert: Naive, now: i64) {
        alert.muted = self.is_muted(alert.severity, now);
        alert.unheard = alert.muted;
        alert.told = usize::from(!alert.muted);
        self.alerts.push(alert);
    }

    fn event(&mut self, now: i64, listener: u16, effects: &[(usize, u32, Option<Severity>)]) {
        self.events += 1;
        let number = self.events;
        let mut row = effects.is_empty();
        for &(rule, key, said) in effects {
            let window = DEDUPLICATE[rule].map(|window| i64::try_from(window).unwrap());
            let expires = EXPIRE[rule].map(|expire| now + i64::try_from(expire).unwrap());
            let quiet = window.map(|window| now + window);
            let flapping = FLAPPING[rule];
            let hold = |since| (since, now + flapping.unwrap().2, said);
            let team = if VARIES[rule] { format!("team {listener}") } else { "noc".to_owned() };
            let fresh = |severity, changes, held| Naive {
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
                told: 0,
                end_told: false,
                acknowledged: None,
                muted: false,
                unheard: false,
                changes,
                held,
            };
            let Some(place) = self.alerts.iter().position(|a| a.key == key && a.ended.is_none()) else {
                row = true;
                let Some(severity) = said else { continue };
                let mut alert = fresh(severity, Vec::new(), None);
                if let Some(flapping) = flapping {
                    alert.changes = self.past.remove(&key).unwrap_or_default();
                    alert.held = alert.changed(now, flapping).then(|| hold(now));
                }
                self.begin(alert, now);
                continue;
            };
            let alert = &mut self.alerts[place];
            let Some(severity) = said else {
                row = true;
                if let (Some((since, until, before)), Some(_)) = (alert.held, flapping) {
                    (alert.last, alert.event) = (now, number);
                    alert.held = Some(if before.is_none() { (since, until, None) } else { hold(since) });
                    continue;
                }
                let flaps = flapping.is_some_and(|flapping| alert.changed(now, flapping));
                alert.last = now;
                if flaps {
                    alert.event = number;
                    alert.held = Some(hold(now));
                    alert.tell();
                    continue;
                }
                alert.end("trap", now);
                if flapping.is_some() {
                    self.past.insert(key, self.alerts[place].changes.clone());
                }
                continue;
            };
            if alert.event == number {
                row |= HISTORY[rule];
                continue;
            }
            let same = alert.severity == severity;
            let held = alert.held.filter(|_| flapping.is_some());
            if let Some((since, until, before)) = held.filter(|_| severity <= alert.severity) {
                row |= HISTORY[rule] || before != said;
                alert.held = Some(if before == said { (since, until, said) } else { hold(since) });
                alert.count += 1;
                (alert.last, alert.event, alert.expires) = (now, number, expires);
                continue;
            }
            let silent = |quiet: i64| now < quiet && window.is_some_and(|w| quiet - now <= 2 * w);
            let silent = same && alert.quiet.is_some_and(silent);
            row |= HISTORY[rule] || !silent;
            if !same || (!silent && alert.team != team) {
                let mut next = fresh(severity, alert.changes.clone(), alert.held);
                if !same {
                    match flapping {
                        Some(flapping) => {
                            let flaps = next.changed(now, flapping);
                            let since = held.map_or(now, |held| held.0);
                            next.held = (flaps || held.is_some()).then(|| hold(since));
                        }
                        None => (next.changes, next.held) = (Vec::new(), None),
                    }
                }
                alert.last = now;
                alert.end(if same { "labels" } else { "severity" }, now);
                self.begin(next, now);
                continue;
            }
            alert.count += 1;
            alert.last = now;
            alert.event = number;
            alert.expires = expires;
            if !silent {
                alert.tell();
                alert.quiet = quiet;
            }
        }
        self.rows += usize::from(row);
    }

    fn operate(&mut self, now: i64, key: u32, deed: Deed) {
        let Some(alert) = self.open(key) else { return };
        match deed {
            Deed::Close => alert.end("operator", now),
            Deed::Acknowledge if alert.acknowledged.is_none() => {
                alert.acknowledged = Some(now);
                alert.tell();
            }
            Deed::Acknowledge => {}
        }
    }

    fn mute(&mut self, now: i64, mutes: &[(Severity, i64, i64)]) {
        let absolute =
            |&(severity, after, lasts): &(Severity, i64, i64)| (severity, now + after, now + after + lasts);
        self.mutes = mutes.iter().map(absolute).collect();
    }

    fn tick(&mut self, now: i64) {
        for place in 0..self.alerts.len() {
            let alert = &self.alerts[place];
            let muted = self.is_muted(alert.severity, now);
            let alert = &mut self.alerts[place];
            if alert.ended.is_some() {
                continue;
            }
            if alert.muted && !muted {
                (alert.muted, alert.unheard) = (false, false);
                alert.tell();
            }
            alert.muted = muted;
            if alert.expires.is_some_and(|at| at <= now) {
                alert.end("expire", now);
                continue;
            }
            let Some((_, _, said)) = alert.held.filter(|(_, until, _)| *until <= now) else { continue };
            (alert.held, alert.changes) = (None, Vec::new());
            match said {
                Some(severity) if severity == alert.severity => alert.tell(),
                Some(severity) => {
                    alert.end("severity", now);
                    let mut next = Naive { severity, ended: None, acknowledged: None, ..alert.clone() };
                    next.end_told = false;
                    self.begin(next, now);
                }
                None => alert.end("flapping", now),
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
    end_told: BTreeMap<AlertId, bool>,
}

impl World {
    fn new() -> Self {
        Self {
            correlator: Correlator::new(Limits::default(), Restored::default(), &[]),
            disk: Disk::default(),
            rules: rules(),
            now: 1_000,
            told: BTreeMap::new(),
            end_told: BTreeMap::new(),
        }
    }

    /// What comes out, without the counts, whose times a restart moves.
    fn step(&mut self, step: &Step) -> Vec<String> {
        let (routes, mut out) = (routes(), Vec::new());
        match step {
            Step::Wait(seconds) => self.now += seconds,
            Step::Mute(mutes) => {
                let mute = |(number, &(severity, after, lasts)): (u64, &(Severity, i64, i64))| Mute {
                    id: MuteId(number),
                    matchers: Matchers { severity: vec![severity], ..Matchers::default() },
                    from: seconds(self.now + after),
                    until: seconds(self.now + after + lasts),
                    comment: String::new(),
                    by: "ann".into(),
                    created: seconds(self.now),
                    ended: None,
                };
                self.disk.mutes = (1..).zip(mutes).map(mute).collect();
                self.correlator.mute(Arc::clone(&self.disk.mutes), seconds(self.now));
            }
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
                    let changes = unnumbered(&decided.changes);
                    format!("{:?} {:?} {:?} {changes:?}", decided.id, decided.row, decided.alert)
                }
                Command::Changes(changes) => format!("{:?}", unnumbered(changes)),
                other => format!("{other:?}"),
            })
            .collect()
    }

    fn unnumbered(&self) -> Vec<AlertRecord> {
        self.correlator.records().into_iter().map(|record| AlertRecord { change: 0, ..record }).collect()
    }

    fn store(&mut self, out: &[Command]) {
        for command in out {
            let changes = match command {
                Command::Event(decided) => &decided.changes[..],
                Command::Changes(changes) => changes,
                _ => &[],
            };
            for AlertChange { record, queue_for } in changes {
                let (ended, heard) = (record.state == AlertState::Resolved, !queue_for.is_empty());
                *self.told.entry(record.id).or_default() += usize::from(heard && !ended);
                self.end_told.insert(record.id, heard && ended);
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
        let flap = record.flap.as_deref().cloned().unwrap_or_default();
        let ended = record.resolved_at.map(|at| {
            let all = ["trap", "severity", "labels", "expire", "operator", "flapping"];
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
            end_told: self.end_told[&record.id],
            acknowledged: record.by_hand.as_ref().and_then(|hand| hand.acknowledged_at).map(second),
            muted: record.muted.is_some(),
            unheard: record.muted.is_some_and(|muted| muted.unheard),
            changes: flap.changes.iter().copied().map(second).filter(|_| open).collect(),
            held: flap.held.filter(|_| open).map(|held| (second(held.since), second(held.until), held.said)),
        }
    }
}

/// Changes by alert, without their numbers.
fn unnumbered(changes: &[AlertChange]) -> Vec<(AlertRecord, &[Arc<str>])> {
    let mut all: Vec<_> = changes
        .iter()
        .map(|change| {
            (AlertRecord { change: 0, ..AlertRecord::clone(&change.record) }, &change.queue_for[..])
        })
        .collect();
    all.sort_by_key(|(record, _)| record.id);
    all
}

/// What of a model's alert a record says.
fn visible(alert: &Naive) -> Naive {
    let open = alert.ended.is_none();
    let (quiet, expires) = (alert.quiet.filter(|_| open), alert.expires.filter(|_| open));
    let changes = alert.changes.iter().copied().filter(|_| open).collect();
    Naive { event: 0, quiet, expires, changes, held: alert.held.filter(|_| open), ..alert.clone() }
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
            if let Step::Mute(mutes) = step {
                model.mute(world.now, mutes);
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
    /// the number of each event and alert. (Changes that are made together have no order: a restart puts the alerts
    /// into another one.) Each key has one rule, as in settings that are sound.
    #[test]
    fn a_restart_changes_nothing(steps in steps(), restarts in prop::collection::vec(0_usize..120, 1..4)) {
        let (mut world, mut twin) = (World::new(), World::new());
        for (number, step) in steps.into_iter().enumerate() {
            let step = match step {
                Step::Event(listener, effects) => {
                    let by_key = |(_, key, severity): (usize, u32, _)| (key as usize % RULES, key, severity);
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
            prop_assert_eq!(world.unnumbered(), twin.unnumbered());
        }
    }
}
