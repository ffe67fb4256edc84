//! What a changed rule makes of its open alerts.

use super::*;

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
