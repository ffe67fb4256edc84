//! Alerts that come and go, on a simulated clock.

use super::*;
use Severity::{Critical, Major, Minor};

const RAISE: EffectKind = EffectKind::Raise(Major);
const CLEAR: EffectKind = EffectKind::Clear(ClearedBy::Trap);

struct World {
    correlator: Correlator,
    disk: Disk,
    rule: Arc<RuleAction>,
}

impl World {
    /// Four changes in a minute flap; quiet is ten minutes.
    fn new() -> Self {
        let mut rule = Arc::into_inner(rule("link", Some(300), None, &Arc::default())).unwrap();
        let (window, hold) = (Duration::from_secs(60), Duration::from_secs(600));
        rule.flapping = Some(Flapping { count: 4, window, hold });
        let correlator = Correlator::new(Limits::default(), Restored::default(), &[0]);
        Self { correlator, disk: Disk::default(), rule: Arc::new(rule) }
    }

    /// What webhooks hear: state, severity, and whether it flaps.
    fn hear(&mut self, out: &[Command]) -> Vec<String> {
        let mut heard = Vec::new();
        for command in out {
            self.disk.apply(command);
            let changes = match command {
                Command::Event(decided) => &decided.changes[..],
                Command::Changes(changes) => changes,
                _ => &[],
            };
            for AlertChange { record, .. } in changes.iter().filter(|change| !change.queue_for.is_empty()) {
                let flaps = if record.flapping_since().is_some() { " flapping" } else { "" };
                let how = record.resolved_by.as_deref().map(|how| format!(" {how}")).unwrap_or_default();
                heard.push(format!("{} {}{how}{flaps}", record.state.as_str(), record.severity));
            }
        }
        heard
    }

    fn at(&mut self, at: i64, kind: EffectKind) -> Vec<String> {
        let mut out = Vec::new();
        let happened = event(seconds(at), 0, [effect(&self.rule, 1, kind)]);
        self.correlator.event(happened, seconds(at), &routes(), &mut out);
        self.hear(&out)
    }

    fn tick(&mut self, at: i64) -> Vec<String> {
        let mut out = Vec::new();
        while self.correlator.tick(seconds(at), &routes(), &mut out) {}
        self.hear(&out)
    }

    fn restart(&mut self) {
        let mut out = Vec::new();
        self.correlator.finish(&mut out);
        assert!(self.hear(&out).is_empty());
        self.correlator = Correlator::new(Limits::default(), self.disk.restored(), &[0]);
    }

    /// Raise, clear, raise, clear: ten seconds each.
    fn flap(&mut self) {
        assert_eq!(self.at(0, RAISE), ["firing major"]);
        assert_eq!(self.at(10, CLEAR), ["resolved major trap"]);
        assert_eq!(self.at(20, RAISE), ["firing major"]);
        assert_eq!(self.at(30, CLEAR), ["firing major flapping"], "the fourth change holds it");
    }
}

#[test]
fn one_alert_says_that_it_flaps_and_ends_when_it_is_quiet() {
    for restarts in [false, true] {
        let mut world = World::new();
        world.flap();
        for at in (40..400).step_by(10) {
            let kind = if at % 20 == 0 { RAISE } else { CLEAR };
            assert!(world.at(at, kind).is_empty(), "silence at {at}");
            if restarts {
                world.restart();
            }
            assert!(world.tick(at).is_empty());
        }
        assert_eq!(world.correlator.open_alerts(), 1);
        assert!(world.tick(989).is_empty());
        assert_eq!(world.tick(990), ["resolved major flapping"], "cleared at 390, quiet since");
        assert_eq!(world.at(1_000, RAISE), ["firing major"], "what was counted is over");
    }
}

#[test]
fn one_that_comes_to_rest_raised_goes_on() {
    let mut world = World::new();
    world.flap();
    assert!(world.at(40, RAISE).is_empty());
    assert!(world.at(300, RAISE).is_empty(), "a repeat is no change");
    assert_eq!(world.tick(640), ["firing major"]);
    assert_eq!(world.correlator.records()[0].count, 3);
    assert_eq!(world.at(650, CLEAR), ["resolved major trap"]);
}

#[test]
fn the_past_of_an_ended_alert_counts_after_a_restart() {
    let mut world = World::new();
    assert_eq!(world.at(0, RAISE), ["firing major"]);
    assert_eq!(world.at(10, CLEAR), ["resolved major trap"]);
    world.restart();
    assert_eq!(world.at(20, RAISE), ["firing major"]);
    world.restart();
    assert_eq!(world.at(30, CLEAR), ["firing major flapping"]);
    // Slower than the window it never flaps.
    let mut world = World::new();
    for round in 0..10 {
        assert_eq!(world.at(round * 60, RAISE), ["firing major"]);
        assert_eq!(world.at(round * 60 + 30, CLEAR), ["resolved major trap"]);
    }
}

#[test]
fn what_is_worse_comes_through_and_what_is_less_bad_waits() {
    let mut world = World::new();
    world.flap();
    let worse = world.at(40, EffectKind::Raise(Critical));
    assert_eq!(worse, ["resolved major severity", "firing critical flapping"]);
    assert!(world.at(50, EffectKind::Raise(Minor)).is_empty());
    assert_eq!(world.tick(650), ["resolved critical severity", "firing minor"]);
    let open = world.correlator.records();
    let severity = open[0].labels.iter().find(|(name, _)| &**name == "severity").unwrap();
    assert_eq!((open.len(), severity.1.as_str()), (1, "minor"));
}

#[test]
fn an_operator_ends_it_at_once() {
    let mut world = World::new();
    world.flap();
    let open = world.correlator.records().remove(0);
    let (request, _answers) = request(open.id, &open.key, Deed::Close);
    let mut out = Vec::new();
    world.correlator.operate(request, seconds(35), &routes(), &mut out);
    assert_eq!(world.hear(&out), ["resolved major operator"]);
    assert_eq!(world.at(40, RAISE), ["firing major"], "and what was counted is over");
    assert!(world.tick(5_000).is_empty(), "nothing is left to be let go");
}

#[test]
fn a_reload_without_preserve_state_lets_it_go() {
    let mut world = World::new();
    world.flap();
    let changes = |generation| {
        Arc::new(RuleChanges { generation: Generation(generation), clear_windows: true, rules: Vec::new() })
    };
    world.correlator.reloaded(changes(2));
    world.correlator.mark(0, Generation(2));
    assert_eq!(world.tick(40), ["resolved major flapping"]);
    let mut world = World::new();
    assert_eq!(world.at(0, RAISE), ["firing major"]);
    assert_eq!(world.at(10, CLEAR), ["resolved major trap"]);
    world.correlator.reloaded(changes(2));
    world.correlator.mark(0, Generation(2));
    assert!(world.tick(15).is_empty());
    assert_eq!(world.at(20, RAISE), ["firing major"]);
    assert_eq!(world.at(30, CLEAR), ["resolved major trap"], "it counts anew");
}
