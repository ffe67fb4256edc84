//! Storm control and heartbeats on a simulated clock.

use super::*;
use std::borrow::Cow;

use crate::device::{Device, DeviceRef};
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
    Watch { storm: Some(storm), ..Watch::default() }
}

fn heartbeats(named: &[(&str, u64)]) -> Watch {
    let heartbeat = |&(name, within): &(&str, u64)| Heartbeat {
        name: name.into(),
        sources: vec![device(1).into(), device(2).into()],
        within: Duration::from_secs(within),
        raises: raises("DeviceSilent"),
    };
    Watch { heartbeats: named.iter().map(heartbeat).collect(), ..Watch::default() }
}

fn device(number: u8) -> Device {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)).into()
}

/// The device with that address in another realm.
fn branch(number: u8) -> Device {
    Device { realm: Some("branch".into()), ..device(number) }
}

/// What the last octet of an address is called.
#[derive(Debug)]
struct Names(&'static [(u8, &'static str)]);

impl DeviceNames for Names {
    fn name(&self, wanted: &Device) -> Option<Cow<'_, str>> {
        self.0.iter().find(|(number, _)| device(*number) == *wanted).map(|(_, name)| Cow::Borrowed(*name))
    }
}

/// 10.0.0.1 and 10.0.0.2 are one device.
const CORE: &[(u8, &str)] = &[(1, "core-1"), (2, "core-1"), (3, "edge-3")];

fn named(watch: Watch, names: &'static [(u8, &'static str)]) -> Watch {
    Watch { names: Some(Arc::new(Names(names))), ..watch }
}

fn mute_of(source: &str) -> Mute {
    Mute {
        id: MuteId(1),
        matchers: serde_json::from_value(serde_json::json!({"source": [source]})).unwrap(),
        from: seconds(0),
        until: seconds(1_000_000),
        comment: String::new(),
        by: "ann".into(),
        created: seconds(0),
        ended: None,
    }
}

fn label<'a>(record: &'a AlertRecord, name: &str) -> &'a str {
    record.labels.iter().find(|(own, _)| **own == *name).map_or("", |(_, value)| value)
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

    fn mute(&mut self, source: &str) {
        self.disk.mutes = [mute_of(source)].into();
        self.correlator.mute(Arc::clone(&self.disk.mutes), seconds(0));
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
    watch.heartbeats[0].sources = vec![device(1).into(), branch(1).into()];
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

/// The one alert that no rule has raised.
fn watched(world: &World) -> AlertRecord {
    let mut records = world.correlator.records();
    records.retain(|record| !record.origin.is_rule());
    assert_eq!(records.len(), 1);
    records.remove(0)
}

#[test]
fn a_storm_is_called_as_its_device_is_and_muted_so() {
    let mut world = World::new(named(storm(), CORE));
    world.mute("core-1");
    for interface in 0..3 {
        assert_eq!(
            world.from(1 + interface % 2, 1, interface.into(), RAISE),
            format!("Down {interface} firing")
        );
    }
    assert_eq!(
        world.from(2, 2, 3, RAISE),
        "AlertStorm core-1 firing",
        "the addresses of one device count together"
    );
    assert_eq!(world.from(1, 2, 4, RAISE), "");
    let record = watched(&world);
    assert_eq!(label(&record, "source"), "core-1");
    assert!(record.muted.is_some(), "a mute by name concerns it");
    let summary = &record.annotations[0].1;
    assert!(summary.starts_with("core-1 (10.0.0.2) has begun"), "{summary}");
    assert_eq!(world.restart(5), "");
    assert_eq!(world.from(1, 6, 5, RAISE), "", "also after a restart");
    assert_eq!(world.from(9, 6, 6, RAISE), "Down 6 firing", "one without a name is its address");
    assert_eq!(world.tick(32), "AlertStorm core-1 quiet");
}

#[test]
fn a_storm_of_an_address_goes_on_under_the_name_that_it_gets() {
    for restarts in [false, true] {
        let mut world = World::new(storm());
        for source in [1, 2] {
            (0..6)
                .for_each(|interface| drop(world.from(source, 1, u32::from(source) * 10 + interface, RAISE)));
        }
        let counts: u64 = 3;
        world.watch = Arc::new(named(storm(), CORE));
        let told = if restarts { world.restart(2) } else { world.watch(2) };
        assert_eq!(told, "AlertStorm 10.0.0.1 reload; AlertStorm 10.0.0.2 reload; AlertStorm core-1 firing");
        let record = watched(&world);
        assert_eq!((label(&record, "source"), record.count), ("core-1", counts));
        assert_eq!(record.first_seen, seconds(1), "it is the same storm");
        assert_eq!(world.from(2, 3, 90, RAISE), "", "what would begin is still held back");
        assert_eq!(world.restart(4), "", "once");
        assert_eq!(world.tick(100), "AlertStorm core-1 quiet");
        // Names that nobody has any more are not orphaned.
        (0..6).for_each(|interface| drop(world.from(1, 200, 100 + interface, RAISE)));
        world.watch = Arc::new(storm());
        assert_eq!(if restarts { world.restart(201) } else { world.watch(201) }, "");
        assert_eq!(world.tick(230), "AlertStorm core-1 quiet");
    }
}

#[test]
fn a_heartbeat_is_that_of_the_device_whatever_address_it_sends_from() {
    let mut watch = named(heartbeats(&[("ups", 60)]), CORE);
    watch.heartbeats[0].sources = vec![DeviceRef::Name("edge-3".into()), device(2).into(), device(1).into()];
    let mut world = World::new(watch);
    world.mute("core-1");
    assert_eq!(world.from(3, 50, 1, EffectKind::Store), "");
    assert_eq!(world.tick(60), "DeviceSilent 10.0.0.1 firing", "one alert for one device");
    let record = watched(&world);
    assert_eq!((label(&record, "source"), label(&record, "heartbeat")), ("core-1", "ups"));
    assert!(record.muted.is_some(), "a mute by name concerns it");
    assert_eq!(record.annotations[0].1, "core-1 (10.0.0.1) has sent nothing for 60 s");
    assert_eq!(world.restart(61), "");
    assert_eq!(world.from(2, 62, 1, EffectKind::Store), "DeviceSilent 10.0.0.1 heartbeat");
    assert_eq!(world.tick(121), "DeviceSilent edge-3 firing", "named by its name");
    assert_eq!(watched(&world).annotations[0].1, "edge-3 has sent nothing for 60 s");
    assert_eq!(world.from(3, 122, 1, EffectKind::Store), "DeviceSilent edge-3 heartbeat");
}

#[test]
fn a_silent_device_that_is_called_otherwise_now_stays_silent() {
    for restarts in [false, true] {
        let mut world = World::new(heartbeats(&[("ups", 60)]));
        assert_eq!(world.from(2, 30, 1, EffectKind::Store), "");
        assert_eq!(world.tick(60), "DeviceSilent 10.0.0.1 firing");
        let before = watched(&world);
        let (request, _answers) = request(before.id, &before.key, Deed::Acknowledge);
        let mut out = Vec::new();
        world.correlator.operate(request, seconds(61), &routes(), &mut out);
        assert_eq!(world.tell(&out), "DeviceSilent 10.0.0.1 acknowledged");
        let change = |world: &mut World, names: &'static [(u8, &'static str)], at| {
            world.watch = Arc::new(named(heartbeats(&[("ups", 60)]), names));
            if restarts { world.restart(at) } else { world.watch(at) }
        };
        let moved = "DeviceSilent 10.0.0.1 reload; DeviceSilent 10.0.0.1 acknowledged";
        // Also where names are exchanged, and where the name is gone.
        const FIRST: &[(u8, &str)] = &[(1, "a"), (2, "b")];
        const OTHER: &[(u8, &str)] = &[(1, "b"), (2, "a")];
        for (names, source, at) in [(FIRST, "a", 62), (OTHER, "b", 63), (&[], "10.0.0.1", 64)] {
            assert_eq!(change(&mut world, names, at), moved);
            let record = watched(&world);
            assert_eq!((label(&record, "source"), record.first_seen), (source, seconds(60)));
            assert!(record.id != before.id && record.by_hand.is_some());
            assert_eq!(change(&mut world, names, at), "", "nothing has changed");
        }
        assert_eq!(world.from(1, 65, 1, EffectKind::Store), "DeviceSilent 10.0.0.1 heartbeat");
    }
}

/// Who tells alerts apart by labels must not take the end of one for that of the other.
#[test]
fn devices_that_exchange_their_names_end_before_they_begin() {
    let mut world = World::new(named(heartbeats(&[("ups", 60)]), &[(1, "a"), (2, "b")]));
    assert_eq!(world.tick(60).matches("firing").count(), 2);
    world.watch = Arc::new(named(heartbeats(&[("ups", 60)]), &[(1, "b"), (2, "a")]));
    let told = world.watch(61);
    let hows: Vec<_> = told.split("; ").map(|told| told.rsplit(' ').next().unwrap()).collect();
    assert_eq!(hows, ["reload", "reload", "firing", "firing"]);
}

/// One device of two entries that was silent at one address alone is heard at the other.
#[test]
fn entries_that_turn_out_to_be_one_device_are_one() {
    let mut world = World::new(heartbeats(&[("ups", 60)]));
    assert_eq!(world.from(1, 30, 1, EffectKind::Store), "");
    assert_eq!(world.tick(60), "DeviceSilent 10.0.0.2 firing");
    world.watch = Arc::new(named(heartbeats(&[("ups", 60)]), CORE));
    assert_eq!(world.watch(61), "DeviceSilent 10.0.0.2 reload");
    assert_eq!(world.tick(89), "");
    assert_eq!(world.tick(90), "DeviceSilent 10.0.0.1 firing", "its time went on");
}

#[test]
fn what_gets_a_name_that_is_muted_begins_muted() {
    for restarts in [false, true] {
        let mut world = World::new(heartbeats(&[("ups", 60)]));
        world.mute("core-1");
        assert_eq!(world.tick(60).matches("firing").count(), 2);
        assert!(world.correlator.records().iter().all(|record| record.muted.is_none()), "not as addresses");
        world.watch = Arc::new(named(heartbeats(&[("ups", 60)]), CORE));
        let told = if restarts { world.restart(61) } else { world.watch(61) };
        assert_eq!(told.matches("firing").count(), 1);
        let record = watched(&world);
        assert!(record.muted.is_some_and(|muted| muted.unheard) && !record.is_news(), "nobody hears of it");
    }
}
