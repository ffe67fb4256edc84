//! When a change is applied: behind the fence, in the order of generations, in bounded steps.

use super::*;

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
