//! Mutes on a simulated clock: who hears of what.

use super::*;
use Severity::{Critical, Major};

const RAISE: EffectKind = EffectKind::Raise(Major);
const CLEAR: EffectKind = EffectKind::Clear(ClearedBy::Trap);

struct World {
    correlator: Correlator,
    disk: Disk,
    rule: Arc<RuleAction>,
}

impl World {
    fn new() -> Self {
        let correlator = Correlator::new(Limits::default(), Restored::default(), &[]);
        Self { correlator, disk: Disk::default(), rule: rule("link", None, None, &Arc::default()) }
    }

    /// What event webhooks hear, then `|`, then what Alertmanager is told of the changed alerts.
    fn hear(&mut self, out: &[Command]) -> String {
        let (mut heard, mut told) = (Vec::new(), Vec::new());
        for command in out {
            self.disk.apply(command);
            let changes = match command {
                Command::Event(decided) => &decided.changes[..],
                Command::Changes(changes) => changes,
                _ => &[],
            };
            for AlertChange { record, queue_for } in changes {
                let state = record.state.as_str();
                heard.extend((!queue_for.is_empty()).then_some(state));
                told.extend(record.is_told().then_some(state));
            }
        }
        format!("{} | {}", heard.join(" "), told.join(" "))
    }

    fn at(&mut self, at: i64, kind: EffectKind) -> String {
        let mut out = Vec::new();
        let happened = event(seconds(at), 0, [effect(&self.rule, 1, kind)]);
        self.correlator.event(happened, seconds(at), &routes(), &mut out);
        self.hear(&out)
    }

    fn tick(&mut self, at: i64) -> String {
        let mut out = Vec::new();
        while self.correlator.tick(seconds(at), &routes(), &mut out) {}
        self.hear(&out)
    }

    fn mute(&mut self, at: i64, mutes: &[Mute]) {
        self.disk.mutes = mutes.into();
        self.correlator.mute(mutes.into(), seconds(at));
    }

    fn restart(&mut self) {
        let mut out = Vec::new();
        self.correlator.finish(&mut out);
        self.hear(&out);
        self.correlator = Correlator::new(Limits::default(), self.disk.restored(), &[]);
    }
}

fn mute(id: u64, from: i64, until: i64) -> Mute {
    Mute {
        id: MuteId(id),
        matchers: Matchers { alert: vec!["Down".into()], ..Matchers::default() },
        from: seconds(from),
        until: seconds(until),
        comment: String::new(),
        by: "ann".into(),
        created: seconds(0),
        ended: None,
    }
}

#[test]
fn what_begins_muted_is_told_once_the_mute_is_over() {
    for restarts in [false, true] {
        let mut world = World::new();
        world.mute(0, &[mute(1, 10, 100)]);
        assert_eq!(world.tick(10), " | ");
        assert_eq!(world.at(20, RAISE), " | ");
        assert_eq!(world.at(30, RAISE), " | ", "a repeat");
        assert_eq!(world.correlator.muted(), (1, 1));
        if restarts {
            world.restart();
        }
        assert_eq!(world.tick(99), " | ");
        assert_eq!(world.tick(100), "firing | firing");
        assert_eq!(world.correlator.muted(), (0, 0));
        assert_eq!(world.at(110, CLEAR), "resolved | resolved");
    }
}

#[test]
fn what_comes_and_goes_under_a_mute_is_never_told() {
    let mut world = World::new();
    world.mute(0, &[mute(1, 0, 100)]);
    assert_eq!(world.at(20, RAISE), " | ");
    assert_eq!(world.at(25, EffectKind::Raise(Critical)), " | ");
    assert_eq!(world.at(30, CLEAR), " | ");
    assert_eq!(world.tick(100), " | ");
    assert_eq!(world.disk.alerts.len(), 2, "it is stored all the same");
}

#[test]
fn whoever_heard_of_the_beginning_hears_of_the_end() {
    let mut world = World::new();
    assert_eq!(world.at(1, RAISE), "firing | firing");
    world.mute(10, &[mute(1, 0, 100)]);
    assert_eq!(world.tick(10), " | firing", "Alertmanager goes on to know it");
    assert_eq!(world.at(20, RAISE), " | firing");
    assert_eq!(world.at(30, CLEAR), "resolved | resolved");
    assert_eq!(world.at(40, RAISE), " | ");
    // Ended by hand.
    world.mute(50, &[]);
    assert_eq!(world.tick(50), "firing | firing");
}

#[test]
fn the_next_mute_takes_over_what_is_muted() {
    let mut world = World::new();
    world.mute(0, &[mute(1, 0, 50), mute(2, 0, 100)]);
    assert_eq!(world.at(20, RAISE), " | ");
    assert_eq!(world.correlator.records()[0].muted.unwrap().by, MuteId(1));
    assert_eq!(world.tick(50), " | ");
    let muted = world.correlator.records()[0].muted.unwrap();
    assert_eq!((muted.by, muted.unheard), (MuteId(2), true));
    assert_eq!(world.tick(100), "firing | firing");
}

#[test]
fn a_clock_that_is_set_back_brings_a_mute_back() {
    let mut world = World::new();
    world.mute(0, &[mute(1, 10, 20)]);
    assert_eq!(world.tick(30), " | ");
    assert_eq!(world.at(30, RAISE), "firing | firing");
    assert_eq!(world.tick(15), " | firing");
    assert_eq!(world.correlator.muted(), (1, 1));
    assert_eq!(world.correlator.wake_at(), Some(seconds(20)));
}

#[test]
fn a_walk_over_many_alerts_is_done_in_bounded_steps() {
    let mut world = World::new();
    for number in 0..5_000 {
        let mut out = Vec::new();
        let happened = event(seconds(1), 0, [effect(&world.rule, number, RAISE)]);
        world.correlator.event(happened, seconds(1), &routes(), &mut out);
        world.hear(&out);
    }
    world.mute(2, &[mute(1, 0, 100)]);
    let mut steps = 0;
    let mut out = Vec::new();
    loop {
        let before = out.len();
        let more = world.correlator.tick(seconds(2), &routes(), &mut out);
        steps += 1;
        let made = out[before..].iter().map(|command| match command {
            Command::Changes(changes) => changes.len(),
            _ => 0,
        });
        assert!(made.sum::<usize>() <= 256);
        if !more {
            break;
        }
        // An alert ends meanwhile, and another one begins.
        if steps == 3 {
            for (number, kind) in [(7, CLEAR), (9_999, RAISE)] {
                let happened = event(seconds(2), 0, [effect(&world.rule, number, kind)]);
                world.correlator.event(happened, seconds(2), &routes(), &mut out);
            }
        }
    }
    world.hear(&out);
    assert!(steps > 10);
    assert_eq!(world.correlator.muted(), (5_000, 1));
    assert!(world.correlator.records().iter().all(|record| record.muted.is_some()));
}

/// The rules of a start may give an open alert another identity, with the first tick.
#[test]
fn what_a_start_moves_is_muted_as_it_was() {
    let mut world = World::new();
    world.mute(0, &[mute(1, 0, 100)]);
    assert_eq!(world.at(20, RAISE), " | ");
    world.restart();
    let mut other = Arc::into_inner(rule("link", None, None, &Arc::default())).unwrap();
    other.key_names.reverse();
    let (rule, successor) = ("link".into(), Some(Arc::new(other)));
    let change = RuleChange { rule, key_names: None, same_labels: false, successor };
    let changes = RuleChanges { generation: Generation(1), clear_windows: false, rules: vec![change] };
    world.correlator.reconcile(changes);
    assert_eq!(world.tick(30), " | ", "nobody hears of the end or the beginning");
    let ended = world.disk.alerts.values().filter(|alert| alert.state == AlertState::Resolved).count();
    assert_eq!((ended, world.correlator.muted()), (1, (1, 1)));
    assert_eq!(world.tick(100), "firing | firing", "it is told when the mute ends");
}
