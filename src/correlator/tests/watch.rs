//! Storm control and heartbeats on a simulated clock.

use super::*;
use crate::device::Device;
use Severity::Major;

const RAISE: EffectKind = EffectKind::Raise(Major);
const CLEAR: EffectKind = EffectKind::Clear(ClearedBy::Trap);

struct World {
    correlator: Correlator,
    disk: Disk,
    rule: Arc<RuleAction>,
    watch: Arc<Watch>,
}

fn raises(alert: &str) -> Raises {
    let labels = vec![("team".into(), "noc".to_owned())];
    Raises { alert: alert.into(), severity: Major, labels, notify: None }
}

/// More than three new alerts in ten seconds, calm after thirty.
fn storm() -> Watch {
    let (per, hold) = (Duration::from_secs(10), Duration::from_secs(30));
    let storm = StormControl { alerts: 3, per, hold, raises: raises("AlertStorm") };
    Watch { storm: Some(storm), heartbeats: Vec::new() }
}

fn heartbeats(named: &[(&str, u64)]) -> Watch {
    let heartbeat = |&(name, within): &(&str, u64)| Heartbeat {
        name: name.into(),
        sources: vec![device(1), device(2)],
        within: Duration::from_secs(within),
        raises: raises("DeviceSilent"),
    };
    Watch { storm: None, heartbeats: named.iter().map(heartbeat).collect() }
}

fn device(number: u8) -> Device {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)).into()
}

/// The device with that address in another realm.
fn branch(number: u8) -> Device {
    Device { realm: Some("branch".into()), ..device(number) }
}

impl World {
    fn new(watch: Watch) -> Self {
        let mut rule = Arc::into_inner(rule("link", Some(300), None, &Arc::default())).unwrap();
        rule.store_repeats = false;
        let (watch, disk) = (Arc::new(watch), Disk::default());
        let correlator = Correlator::new(Limits::default(), Restored::default(), &[]);
        let mut world = Self { correlator, disk, rule: Arc::new(rule), watch };
        assert_eq!(world.watch(0), "");
        world
    }

    /// What comes out: alerts by name and key's end, with their state.
    fn tell(&mut self, out: &[Command]) -> String {
        let mut told = Vec::new();
        for command in out {
            self.disk.apply(command);
            let changes = match command {
                Command::Event(decided) => &decided.changes[..],
                Command::Changes(changes) => changes,
                _ => &[],
            };
            for AlertChange { record, .. } in changes {
                let end = record.key.rsplit(KEY_SEPARATOR).next().unwrap();
                let how = record.resolved_by.as_deref().unwrap_or(record.state.as_str());
                told.push(format!("{} {end} {how}", record.alert));
            }
        }
        told.join("; ")
    }

    fn watch(&mut self, at: i64) -> String {
        let mut changes = Vec::new();
        self.correlator.watch(&Arc::clone(&self.watch), seconds(at), &routes(), &mut changes);
        self.tell(&(if changes.is_empty() { Vec::new() } else { vec![Command::Changes(changes)] }))
    }

    fn from(&mut self, source: u8, at: i64, interface: u32, kind: EffectKind) -> String {
        let mut out = Vec::new();
        let mut happened = event(seconds(at), 0, [effect(&self.rule, interface, kind)]);
        happened.source = device(source);
        self.correlator.event(happened, seconds(at), &routes(), &mut out);
        self.tell(&out)
    }

    fn branch_sends(&mut self, source: u8, at: i64, interface: u32, kind: EffectKind) -> String {
        let mut out = Vec::new();
        let mut happened = event(seconds(at), 0, [effect(&self.rule, interface, kind)]);
        happened.source = branch(source);
        self.correlator.event(happened, seconds(at), &routes(), &mut out);
        self.tell(&out)
    }

    fn tick(&mut self, at: i64) -> String {
        let mut out = Vec::new();
        while self.correlator.tick(seconds(at), &routes(), &mut out) {}
        self.tell(&out)
    }

    fn restart(&mut self, at: i64) -> String {
        let mut out = Vec::new();
        self.correlator.finish(&mut out);
        self.tell(&out);
        self.correlator = Correlator::new(Limits::default(), self.disk.restored(), &[]);
        self.watch(at)
    }
}

#[test]
fn a_storm_is_one_alert_and_no_event_is_lost() {
    for restarts in [false, true] {
        let mut world = World::new(storm());
        for interface in 0..3 {
            assert_eq!(world.from(1, 1, interface, RAISE), format!("Down {interface} firing"));
        }
        assert_eq!(world.from(1, 2, 3, RAISE), "AlertStorm 10.0.0.1 firing");
        for interface in 4..100 {
            assert_eq!(world.from(1, 3, interface, RAISE), "");
        }
        assert_eq!(world.disk.events, 100, "every event has its row, also of a rule that stores no repeats");
        assert_eq!(world.from(2, 3, 200, RAISE), "Down 200 firing", "another source");
        assert_eq!(world.from(1, 3, 1, CLEAR), "Down 1 trap", "what is open ends");
        assert_eq!(world.from(1, 3, 2, RAISE), "", "and is repeated");
        if restarts {
            assert_eq!(world.restart(5), "");
        }
        let storm =
            world.correlator.records().into_iter().find(|record| &*record.alert == "AlertStorm").unwrap();
        assert_eq!((storm.count, storm.origin), (97, AlertOrigin::Storm));
        let labels: Vec<_> = storm.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(labels, ["alertname=AlertStorm", "severity=major", "source=10.0.0.1", "team=noc"]);
        // Below the rate, and not for long enough yet.
        assert_eq!(world.from(1, 20, 300, RAISE), "");
        assert_eq!(world.tick(32), "");
        assert_eq!(world.tick(33), "AlertStorm 10.0.0.1 quiet");
        assert_eq!(world.from(1, 34, 300, RAISE), "Down 300 firing");
    }
}

#[test]
fn a_storm_that_goes_on_is_not_over() {
    let mut world = World::new(storm());
    (0..4).for_each(|interface| drop(world.from(1, 1, interface, RAISE)));
    for round in 1..10 {
        let at = round * 15;
        (0..4).for_each(|interface| drop(world.from(1, at, 1_000 + interface, RAISE)));
        assert_eq!(world.tick(at), "", "at {at}");
    }
    assert_eq!(world.tick(165), "AlertStorm 10.0.0.1 quiet");
}

#[test]
fn an_operator_and_a_reload_end_a_storm() {
    let mut world = World::new(storm());
    (0..4).for_each(|interface| drop(world.from(1, 1, interface, RAISE)));
    let storm = world.correlator.records().into_iter().find(|record| !record.origin.is_rule()).unwrap();
    let (request, _answers) = request(storm.id, &storm.key, Deed::Close);
    let mut out = Vec::new();
    world.correlator.operate(request, seconds(2), &routes(), &mut out);
    assert_eq!(world.tell(&out), "AlertStorm 10.0.0.1 operator");
    assert_eq!(world.from(1, 3, 50, RAISE), "Down 50 firing", "it counts anew");
    (60..70).for_each(|interface| drop(world.from(1, 4, interface, RAISE)));
    // Rules that change leave it alone, also one of its name; without control it is over.
    let change = RuleChange { rule: "storm".into(), key_names: None, same_labels: false, successor: None };
    let changes = RuleChanges { generation: Generation(2), clear_windows: false, rules: vec![change] };
    world.correlator.reloaded(Arc::new(changes));
    assert_eq!(world.tick(5), "");
    world.watch = Arc::default();
    assert_eq!(world.watch(6), "");
    assert_eq!(world.tick(6), "AlertStorm 10.0.0.1 reload");
    assert_eq!(world.from(1, 7, 99, RAISE), "Down 99 firing");
}

#[test]
fn a_storm_is_that_of_a_device_in_its_realm() {
    for restarts in [false, true] {
        let mut world = World::new(storm());
        for interface in 0..3 {
            assert_eq!(world.from(1, 1, interface, RAISE), format!("Down {interface} firing"));
            let other = world.branch_sends(1, 1, 50 + interface, RAISE);
            assert_eq!(other, format!("Down {} firing", 50 + interface));
        }
        assert_eq!(world.branch_sends(1, 2, 53, RAISE), "AlertStorm branch/10.0.0.1 firing");
        if restarts {
            assert_eq!(world.restart(2), "");
        }
        assert_eq!(world.branch_sends(1, 3, 54, RAISE), "");
        assert_eq!(world.from(2, 3, 3, RAISE), "Down 3 firing", "nobody else is held back");
        assert_eq!(world.tick(100), "AlertStorm branch/10.0.0.1 quiet");
    }
}

#[test]
fn a_heartbeat_is_not_that_of_the_same_address_elsewhere() {
    let mut watch = heartbeats(&[("ups", 60)]);
    watch.heartbeats[0].sources = vec![device(1), branch(1)];
    let mut world = World::new(watch);
    assert_eq!(world.branch_sends(1, 30, 1, EffectKind::Store), "");
    assert_eq!(world.tick(60), "DeviceSilent 10.0.0.1 firing");
    assert_eq!(world.branch_sends(1, 61, 1, EffectKind::Store), "", "that is another device");
    assert_eq!(world.from(1, 62, 1, EffectKind::Store), "DeviceSilent 10.0.0.1 heartbeat");
    assert_eq!(world.tick(121), "DeviceSilent branch/10.0.0.1 firing");
}

#[test]
fn sources_that_are_counted_are_bounded() {
    let mut world = World::new(storm());
    let mut out = Vec::new();
    for number in 0..70_000_u32 {
        let mut happened = event(seconds(1), 0, [effect(&world.rule, number, RAISE)]);
        happened.source = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)).into();
        world.correlator.event(happened, seconds(1), &routes(), &mut out);
    }
    assert_eq!(world.correlator.open_alerts(), 70_000);
    // Those that were quiet make room.
    let mut late = String::new();
    for interface in 0..5 {
        late = world.from(200, 60, 100_000 + interface, RAISE);
    }
    assert_eq!(late, "", "it is controlled");
}

#[test]
fn a_device_that_does_not_send_is_told_until_it_does() {
    let mut world = World::new(heartbeats(&[("ups", 60)]));
    assert_eq!(world.tick(59), "");
    assert_eq!(world.from(1, 59, 1, EffectKind::Store), "");
    assert_eq!(world.tick(60), "DeviceSilent 10.0.0.2 firing");
    assert_eq!(world.tick(118), "");
    let open = world.correlator.records();
    let labels: Vec<_> = open[0].labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected =
        ["alertname=DeviceSilent", "heartbeat=ups", "severity=major", "source=10.0.0.2", "team=noc"];
    assert_eq!((labels, &*open[0].rule), (expected.map(str::to_owned).into(), "ups"));
    assert_eq!(world.tick(119), "DeviceSilent 10.0.0.1 firing");
    assert_eq!(world.from(2, 200, 1, EffectKind::Store), "DeviceSilent 10.0.0.2 heartbeat");
    assert_eq!(world.tick(259), "");
    assert_eq!(world.tick(260), "DeviceSilent 10.0.0.2 firing");
    // Others are not waited for.
    assert_eq!(world.from(3, 261, 1, EffectKind::Store), "");
}

#[test]
fn heartbeats_survive_restarts_and_reloads() {
    let mut world = World::new(heartbeats(&[("ups", 60)]));
    assert_eq!(world.from(1, 30, 1, EffectKind::Store), "");
    assert_eq!(world.tick(60), "DeviceSilent 10.0.0.2 firing");
    assert_eq!(world.restart(70), "");
    assert_eq!(world.tick(129), "", "nobody knows what the first one sent meanwhile");
    assert_eq!(world.tick(130), "DeviceSilent 10.0.0.1 firing");
    assert_eq!(world.from(2, 140, 1, EffectKind::Store), "DeviceSilent 10.0.0.2 heartbeat");
    // A second one is added, the first one's time goes on; then the first is gone.
    world.watch = Arc::new(heartbeats(&[("all", 500), ("ups", 60)]));
    assert_eq!(world.watch(150), "");
    assert_eq!(world.tick(200), "DeviceSilent 10.0.0.2 firing");
    world.watch = Arc::new(heartbeats(&[("all", 500)]));
    let mut ended: Vec<_> = world.watch(210).split("; ").map(str::to_owned).collect();
    ended.sort();
    assert_eq!(ended, ["DeviceSilent 10.0.0.1 reload", "DeviceSilent 10.0.0.2 reload"]);
    assert_eq!(world.tick(649), "");
    assert_eq!(world.tick(650).matches("firing").count(), 2);
}

#[test]
fn a_clock_that_is_set_does_not_make_a_device_wait_longer() {
    let mut world = World::new(heartbeats(&[("ups", 60)]));
    assert_eq!(world.from(1, 1_000, 1, EffectKind::Store), "");
    assert_eq!(world.from(2, 1_000, 1, EffectKind::Store), "");
    assert_eq!(world.tick(1_001), "");
    assert_eq!(world.tick(500), "");
    assert_eq!(world.tick(559), "");
    assert_eq!(world.tick(560).matches("firing").count(), 2);
}
