//! Every outcome of a reload, through the engine as a program embeds it; what only shows from outside stands in
//! `reload_program.rs`.
#![allow(clippy::print_stderr, reason = "what is measured is said")]

#[path = "common/bed.rs"]
mod bed;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bed::{Bed, Files, PATIENCE, mib};
use nereus::reload::{ReloadError, ReloadOutcome, ReloadType};
use nereus::snapshot::{ComponentReloader, PrepareError, Prepared, ReloadStats, Snapshot};
use parking_lot::Mutex;

/// No file events, so that only what a test asks for happens.
const QUIET: &str = "reload: {enabled: false, reload_delay: 10ms}\n";
/// File events that come to rest quickly.
const QUICK: &str = "reload: {reload_delay: 100ms}\n";
/// Long enough for an event that must not come: several delays and a sweep.
const NOTHING_COMES: Duration = Duration::from_millis(1500);

fn rules(names: &[&str]) -> String {
    let mut text = "rules:\n".to_owned();
    for name in names {
        text += &format!(
            "  - {{name: {name}, match: {{trap: SNMPv2-MIB::coldStart}}, alert: A, severity: info, key: [source]}}\n"
        );
    }
    if names.is_empty() { "rules: []\n".to_owned() } else { text }
}

/// A component of a test's own: what it does is a closure.
struct Test<F>(F);

type Ready = Result<Option<Box<dyn Prepared>>, PrepareError>;

impl<F: Fn(&Snapshot, &Snapshot) -> Ready + Send + Sync> ComponentReloader for Test<F> {
    fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Ready {
        (self.0)(old, new)
    }

    fn reload_stats(&self) -> ReloadStats {
        ReloadStats::default()
    }
}

struct Act<F: FnOnce() + Send>(F);

impl<F: FnOnce() + Send> Prepared for Act<F> {
    fn commit(self: Box<Self>) {
        (self.0)();
    }
}

fn register(bed: &Bed, name: &str, act: impl Fn(&Snapshot, &Snapshot) -> Ready + Send + Sync + 'static) {
    bed.manager.register_component(name, Arc::new(Test(act)));
}

/// A component whose *prepare* tells that it has begun and waits until it is let go on.
fn gate(bed: &Bed) -> (Receiver<()>, Sender<()>) {
    let ((begun, has_begun), (go_on, may_go_on)) = (channel(), channel());
    let gate = Mutex::new((begun, may_go_on));
    register(bed, "gate", move |_, _| {
        let gate = gate.lock();
        let _ = gate.0.send(());
        let _ = gate.1.recv_timeout(PATIENCE);
        Ok(None)
    });
    (has_begun, go_on)
}

#[test]
fn a_change_is_published_and_told() {
    let bed = Bed::start(&(QUIET.to_owned() + &rules(&["one"])));
    bed.configure(&(QUIET.to_owned() + &rules(&["one", "two"])));
    let event = bed.published(ReloadType::Config);
    assert_eq!((event.generation.0, event.previous_generation.0, event.attempts), (2, 1, 1));
    assert_eq!((event.r#type, &*event.source, event.success), ("config", "test", true));
    assert_eq!(event.changes, ["rules.two"]);
    assert!(event.pending.is_empty() && event.error.is_none());
    assert!(event.phases.read > 0.0 && event.phases.build > 0.0 && event.phases.publish > 0.0);
    assert_eq!(bed.rules(), ["one", "two"]);
    assert_eq!(bed.metrics.snapshot_generation.get(), 2);
    assert_eq!(bed.metrics.reload_events.with_label_values(&["config", "success"]).get(), 1);
}

#[test]
fn unchanged_input_publishes_nothing() {
    let bed = Bed::start(&(QUIET.to_owned() + &rules(&["one"])));
    let before = bed.current();
    // Another text, the same settings.
    bed.configure(&(format!("# a comment\n{QUIET}") + &rules(&["one"])));
    for kind in ReloadType::ALL {
        let event = bed.reload(kind);
        assert_eq!(event.outcome, ReloadOutcome::Unchanged, "{event:?}");
        assert!(event.success && event.changes.is_empty() && event.components.is_empty());
    }
    assert!(Arc::ptr_eq(&before, &bed.current()));
    assert_eq!(bed.manager.stats().successful_reloads, 4);
    assert_eq!(bed.manager.generations().len(), 1);
}

#[test]
fn refused_settings_change_nothing_and_say_why_everywhere() {
    let bed = Bed::start(&(QUIET.to_owned() + &rules(&["one"])));
    for (broken, part) in [
        ("rules:\n  - {nmae: x}\n", "nmae"),
        (
            "rules:\n  - {name: x, match: {trap: NO-MIB::such}, alert: A, severity: info, key: [source]}\n",
            "NO-MIB::such",
        ),
        ("rules: [", "nereus.yaml"),
    ] {
        bed.configure(&(QUIET.to_owned() + broken));
        let event = bed.rejected(ReloadType::Config);
        let error = event.error.unwrap();
        assert!(error.starts_with("Configuration validation failed: ") && error.contains(part), "{error}");
        assert!(!event.diagnostics.is_empty());
        assert_eq!(event.attempts, 1, "an invalid input is not tried again");
        assert_eq!(bed.metrics.config_last_reload_successful.get(), 0);
    }
    assert_eq!(bed.metrics.reload_events.with_label_values(&["config", "failure"]).get(), 3);
    let stats = bed.manager.stats();
    assert_eq!((stats.total_reloads, stats.failed_reloads), (3, 3));
    assert_eq!(bed.rules(), ["one"]);
    bed.configure(&(QUIET.to_owned() + &rules(&["one"])));
    assert_eq!(bed.reload(ReloadType::Config).outcome, ReloadOutcome::Unchanged);
    assert_eq!(bed.metrics.config_last_reload_successful.get(), 1);
}

#[test]
fn a_restart_only_key_is_refused_by_name_with_all_that_came_with_it() {
    let bed = Bed::start(&(QUIET.to_owned() + &rules(&["one"])));
    for (key, text) in [
        ("storage.path", "storage: {path: ./elsewhere}\n"),
        ("listener[].receivers", "listener: {receivers: 3}\n"),
        ("admin.address", "admin: {address: '127.0.0.1:1'}\n"),
    ] {
        bed.configure(&(QUIET.to_owned() + text + &rules(&["one", "two"])));
        let event = bed.rejected(ReloadType::All);
        assert!(event.error.as_ref().unwrap().contains(key), "{event:?}");
        assert!(event.error.unwrap().contains("restart"));
    }
    assert_eq!(bed.rules(), ["one"]);
}

#[test]
fn the_type_webhook_takes_the_webhooks_alone() {
    let webhook = |host: &str| format!("webhooks:\n  - {{name: w, format: json, url: 'http://{host}/'}}\n");
    let bed = Bed::start(&(QUIET.to_owned() + &rules(&["one"]) + &webhook("a.example")));
    let before = bed.current();
    bed.configure(
        &(QUIET.to_owned() + &rules(&["one", "two"]) + "unmatched: drop\n" + &webhook("b.example")),
    );
    let event = bed.published(ReloadType::Webhook);
    assert_eq!(event.changes, ["webhooks.w"]);
    assert_eq!(event.pending, ["unmatched", "rules.two"]);
    let now = bed.current();
    assert!(Arc::ptr_eq(before.rules(), now.rules()) && Arc::ptr_eq(before.mib(), now.mib()));
    assert!(Arc::ptr_eq(before.users(), now.users()) && !Arc::ptr_eq(before.routes(), now.routes()));
    assert_eq!(bed.published(ReloadType::Config).changes, ["unmatched", "rules.two"]);
    // The whole file is validated all the same.
    bed.configure(&(QUIET.to_owned() + "rules:\n  - {nmae: x}\n" + &webhook("c.example")));
    bed.rejected(ReloadType::Webhook);
    // A running rule must find its webhook.
    let notifying = rules(&["one"]).replace("key: [source]}", "key: [source], notify: [w]}");
    bed.configure(&(QUIET.to_owned() + &notifying + &webhook("b.example")));
    bed.published(ReloadType::Config);
    bed.configure(&(QUIET.to_owned() + "webhooks: []\n"));
    let error = bed.rejected(ReloadType::Webhook).error.unwrap();
    assert!(error.contains("`one`") && error.contains("`w`") && error.contains("`config`"), "{error}");
    bed.published(ReloadType::Config);
}

/// A folder that takes longer to compile than not at all.
fn slow(settings: &str) -> Files {
    let files = Files::new(settings);
    files.write("mibs/ONE-MIB", &mib("ONE-MIB", 1, &["oneDown"]));
    for number in 2..150 {
        let names: Vec<String> = (0..40).map(|at| format!("n{number}x{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        files.write(&format!("mibs/N{number}-MIB"), &mib(&format!("N{number}-MIB"), number, &names));
    }
    files
}

#[test]
fn directories_that_a_start_does_not_wait_for_follow_as_a_reload() {
    let settings = format!("{QUIET}mib: {{directories: ['{{dir}}/mibs'], cache: '{{dir}}/cache'}}\n");
    let files = slow(&settings);
    let first = files.read_at_once();
    let bed = files.start_with(first);
    bed.wait("the names follow", |bed| bed.knows("ONE-MIB::oneDown") && bed.events() == 1);
    assert!(!bed.manager.mibs_pending());
    let event = &bed.manager.recent_events(1)[0];
    assert_eq!((event.r#type, &*event.source, event.generation.0), ("mib", "start", 2));
    // They were parsed by the start: the reload only took them over.
    let report = event.mib.unwrap();
    assert_eq!((report.files, report.parsed, report.unchanged), (149, 0, false));
    bed.wait("the cache is written", |bed| bed.path("cache").exists());
    // From there on it is as always.
    bed.write("mibs/TWO-MIB", &mib("TWO-MIB", 777, &["twoDown"]));
    let event = bed.published(ReloadType::Mib);
    assert_eq!((event.mib.unwrap().parsed, event.mib.unwrap().reused), (1, 149));
    assert!(bed.knows("ONE-MIB::oneDown") && bed.knows("TWO-MIB::twoDown"));
}

#[test]
fn rules_with_names_that_are_not_built_in_are_waited_for() {
    let rule = "rules: [{name: r, match: {trap: 'ONE-MIB::oneDown'}, alert: A}]\n";
    let files =
        slow(&format!("{QUIET}{rule}mib: {{directories: ['{{dir}}/mibs'], cache: '{{dir}}/cache'}}\n"));
    let first = files.read_at_once();
    let bed = files.start_with(first);
    assert!(bed.knows("ONE-MIB::oneDown") && !bed.manager.mibs_pending());
}

#[test]
fn mib_files_come_change_and_go_and_a_broken_one_hurts_no_other() {
    let settings = format!("{QUIET}mib: {{directories: ['{{dir}}/mibs']}}\n");
    let bed = Bed::with(&[("mibs/ONE-MIB", &mib("ONE-MIB", 1, &["oneDown"]))], &settings);
    assert!(bed.knows("ONE-MIB::oneDown"));
    bed.write("mibs/TWO-MIB", &mib("TWO-MIB", 2, &["twoDown"]));
    let event = bed.published(ReloadType::Mib);
    assert_eq!(event.changes, ["mib"]);
    assert!(!event.mib.unwrap().unchanged && event.mib.unwrap().files == 2);
    assert!(bed.knows("ONE-MIB::oneDown") && bed.knows("TWO-MIB::twoDown"));
    let told = bed.reload(ReloadType::Mib);
    assert!(told.outcome == ReloadOutcome::Unchanged && told.mib.unwrap().unchanged);
    // Twice within one tick of the clock, with the same size: the stamps may be equal, the contents are not.
    for name in ["oneUppp", "oneDown", "oneLeft", "oneDown", "oneUppp"] {
        bed.write("mibs/ONE-MIB", &mib("ONE-MIB", 1, &[name]));
        bed.published(ReloadType::Mib);
        assert!(bed.knows(&format!("ONE-MIB::{name}")), "{name}");
    }
    bed.write("mibs/BROKEN-MIB", "BROKEN-MIB DEFINITIONS ::= BEGIN IMPORTS ;;; { } OBJECT");
    let event = bed.published(ReloadType::Mib);
    assert!(!event.diagnostics.is_empty() && event.mib.unwrap().problems > 0);
    assert!(bed.knows("ONE-MIB::oneUppp") && bed.knows("TWO-MIB::twoDown"));
    std::fs::remove_file(bed.path("mibs/TWO-MIB")).unwrap();
    bed.published(ReloadType::Mib);
    assert!(!bed.knows("TWO-MIB::twoDown"));
}

#[test]
fn a_mib_directory_that_is_gone_takes_no_name_away() {
    let settings = format!("{QUIET}mib: {{directories: ['{{dir}}/mibs']}}\n");
    let bed = Bed::with(&[("mibs/ONE-MIB", &mib("ONE-MIB", 1, &["oneDown"]))], &settings);
    std::fs::rename(bed.path("mibs"), bed.path("away")).unwrap();
    let event = bed.rejected(ReloadType::Mib);
    let error = event.error.unwrap();
    assert!(error.starts_with("Failed to reload component mib_loader: file not found"), "{error}");
    assert_eq!(event.attempts, 3, "it may come back");
    assert!(bed.knows("ONE-MIB::oneDown"));
    // What does not read them goes on working.
    bed.configure(&(settings.clone() + &rules(&["one"])));
    bed.published(ReloadType::Config);
    std::fs::rename(bed.path("away"), bed.path("mibs")).unwrap();
    assert_eq!(bed.reload(ReloadType::Mib).outcome, ReloadOutcome::Unchanged);
}

#[test]
fn the_type_all_takes_both_in_one_generation() {
    let settings = format!("{QUIET}mib: {{directories: ['{{dir}}/mibs']}}\n");
    let bed = Bed::with(&[("mibs/ONE-MIB", &mib("ONE-MIB", 1, &["oneDown"]))], &settings);
    bed.write("mibs/ONE-MIB", &mib("ONE-MIB", 1, &["oneDown", "oneUp"]));
    // A rule that needs the new name: neither type alone could take it.
    bed.configure(&(settings + &rules(&["up"]).replace("SNMPv2-MIB::coldStart", "ONE-MIB::oneUp")));
    bed.rejected(ReloadType::Config);
    let event = bed.published(ReloadType::All);
    assert_eq!((event.changes, event.generation.0), (vec!["rules.up".to_owned(), "mib".to_owned()], 2));
}

#[test]
fn a_component_that_cannot_prepare_stops_everything() {
    let bed = Bed::start(&(QUIET.to_owned() + &rules(&["one"])));
    let (committed, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    struct Ready(Arc<AtomicUsize>, Arc<AtomicUsize>);
    impl Prepared for Ready {
        fn commit(self: Box<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    impl Drop for Ready {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let counts = (Arc::clone(&committed), Arc::clone(&dropped));
    register(&bed, "first", move |_, _| {
        Ok(Some(Box::new(Ready(Arc::clone(&counts.0), Arc::clone(&counts.1))) as Box<dyn Prepared>))
    });
    let failing = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&failing);
    register(&bed, "second", move |_, _| {
        if fails.load(Ordering::SeqCst) { Err(PrepareError::lasting("no room; make some")) } else { Ok(None) }
    });
    bed.configure(&(QUIET.to_owned() + &rules(&["one", "two"])));
    let event = bed.rejected(ReloadType::Config);
    assert_eq!(event.error.as_deref(), Some("Failed to reload component second: no room; make some"));
    assert_eq!((committed.load(Ordering::SeqCst), dropped.load(Ordering::SeqCst)), (0, 1));
    assert!(event.components.is_empty());
    failing.store(false, Ordering::SeqCst);
    assert_eq!(bed.published(ReloadType::Config).components, ["first"]);
    assert_eq!(committed.load(Ordering::SeqCst), 1);
}

#[test]
fn a_component_that_panics_ends_neither_the_engine_nor_those_who_wait() {
    let bed = Bed::start(&(QUIET.to_owned() + &rules(&["one"])));
    let act = Arc::new(AtomicUsize::new(0));
    let acting = Arc::clone(&act);
    register(&bed, "wild", move |_, _| match acting.load(Ordering::SeqCst) {
        0 => panic!("planted in prepare"),
        1 => Ok(Some(Box::new(Act(|| panic!("planted in commit"))) as Box<dyn Prepared>)),
        _ => Ok(None),
    });
    let after = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&after);
    register(&bed, "after", move |_, _| {
        let counted = Arc::clone(&counted);
        Ok(Some(Box::new(Act(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        })) as Box<dyn Prepared>))
    });
    bed.configure(&(QUIET.to_owned() + &rules(&["one", "two"])));
    let error = bed.rejected(ReloadType::Config).error.unwrap();
    assert!(error.starts_with("Failed to reload component wild: "), "{error}");
    act.store(1, Ordering::SeqCst);
    // Too late to refuse: it is in force, and the other component follows it.
    assert_eq!(bed.published(ReloadType::Config).components, ["after"]);
    assert_eq!(after.load(Ordering::SeqCst), 1);
    act.store(2, Ordering::SeqCst);
    bed.configure(&(QUIET.to_owned() + &rules(&["three"])));
    bed.published(ReloadType::Config);
}

#[test]
fn one_runs_one_is_pending_and_everybody_hears_the_outcome() {
    let bed = Bed::start(&(QUIET.to_owned() + &rules(&["one"])));
    let (begun, go_on) = gate(&bed);
    bed.configure(&(QUIET.to_owned() + &rules(&["one", "two"])));
    assert!(bed.manager.request_reload(ReloadType::Config, "first"));
    begun.recv_timeout(PATIENCE).unwrap();
    bed.configure(&(QUIET.to_owned() + &rules(&["three"])));
    // Posted while the first one runs: together they are the one that is pending.
    for _ in 0..50 {
        assert!(bed.manager.request_reload(ReloadType::Config, "poster"));
    }
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let manager = bed.manager.clone();
            thread::spawn(move || manager.trigger_reload(ReloadType::Config, "asker").unwrap())
        })
        .collect();
    assert_eq!(bed.events(), 0);
    drop(go_on);
    let outcomes: Vec<_> = askers.into_iter().map(|asker| asker.join().unwrap()).collect();
    assert!(
        outcomes.iter().all(|event| event.generation.0 == 3),
        "all see the file that was there when they asked"
    );
    // Those who asked too late for the pending one have one of their own.
    assert!(bed.events() <= 2 + 8, "{} reloads for 59 requests", bed.events());
    assert_eq!(bed.rules(), ["three"]);
}

#[test]
fn a_failure_that_may_pass_is_tried_again() {
    let bed = Bed::start("reload: {enabled: false, reload_delay: 10ms, max_reload_attempts: 5}\n");
    let tries = Arc::new(AtomicUsize::new(0));
    let tried = Arc::clone(&tries);
    register(&bed, "busy", move |_, _| match tried.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Err(PrepareError { message: "address in use".to_owned(), transient: true }),
        _ => Ok(None),
    });
    bed.configure(
        &("reload: {enabled: false, reload_delay: 10ms, max_reload_attempts: 5}\n".to_owned()
            + &rules(&["one"])),
    );
    assert_eq!(bed.published(ReloadType::Config).attempts, 3);
    assert_eq!(bed.events(), 1, "one event for all attempts");
    tries.store(0, Ordering::SeqCst);
    for absent in [true, false] {
        let path = bed.path("nereus.yaml");
        if absent {
            std::fs::remove_file(&path).unwrap()
        } else {
            std::fs::write(&path, "").unwrap()
        }
        let event = bed.rejected(ReloadType::Config);
        assert_eq!(event.attempts, 5, "{event:?}");
    }
    // It comes back while it is being tried: whenever that is, it is taken.
    let manager = bed.manager.clone();
    bed.configure("reload: {enabled: false, reload_delay: 10ms, max_reload_attempts: 100}\n");
    bed.published(ReloadType::Config);
    std::fs::remove_file(bed.path("nereus.yaml")).unwrap();
    let asker = thread::spawn(move || manager.trigger_reload(ReloadType::Config, "asker"));
    bed.configure(
        &("reload: {enabled: false, reload_delay: 10ms, max_reload_attempts: 100}\n".to_owned()
            + &rules(&["two"])),
    );
    asker.join().unwrap().unwrap();
    assert_eq!(bed.rules(), ["two"]);
}

#[test]
fn a_build_past_the_timeout_is_left_behind_and_later_ones_work() {
    let settings = "reload: {enabled: false, reload_delay: 10ms, reload_timeout: 100ms}\n";
    let bed = Bed::start(settings);
    let mut names = String::from(settings) + "rules:\n";
    for number in 0..20_000 {
        names += &format!(
            "  - {{name: r{number}, match: {{trap: SNMPv2-MIB::coldStart}}, alert: A, severity: info, key: [source], labels: {{a: '{{{{ sysName }}}}'}}}}\n"
        );
    }
    bed.configure(&names);
    let begun = Instant::now();
    let error = bed.rejected(ReloadType::Config).error.unwrap();
    assert_eq!(error, "the reload took longer than reload_timeout (100ms)");
    assert!(begun.elapsed() < Duration::from_secs(10));
    bed.configure(&(settings.to_owned() + &rules(&["one"])));
    bed.wait("the small one is taken", |bed| bed.reload(ReloadType::Config).success);
    assert_eq!(bed.rules(), ["one"]);
}

#[test]
fn rollback_publishes_old_parts_under_a_new_number() {
    let bed = Bed::start(&(QUIET.to_owned() + &rules(&["one"])));
    for name in ["two", "three"] {
        bed.configure(&(QUIET.to_owned() + &rules(&[name])));
        bed.published(ReloadType::Config);
    }
    let third = bed.current();
    let event = bed.rollback(None);
    assert_eq!((event.outcome, event.r#type, event.generation.0), (ReloadOutcome::Published, "rollback", 4));
    assert_eq!(bed.rules(), ["two"]);
    assert_eq!(bed.rollback(Some(1)).generation.0, 5);
    assert_eq!(bed.rules(), ["one"]);
    let event = bed.rollback(Some(77));
    assert_eq!(event.error.as_deref(), Some("generation 77 is not kept; these are: 1, 2, 3, 4, 5"));
    assert_eq!(bed.rollback(Some(1)).outcome, ReloadOutcome::Unchanged, "its parts are in force");
    bed.rollback(Some(3));
    assert!(Arc::ptr_eq(third.rules(), bed.current().rules()), "the very parts");
    // Asked for, the file's own contents come again.
    bed.rollback(Some(1));
    assert_eq!(bed.published(ReloadType::Config).changes, ["rules.three", "rules.one"]);
}

#[test]
fn a_first_generation_has_nothing_before_it() {
    let bed = Bed::start(QUIET);
    assert_eq!(bed.rollback(None).error.as_deref(), Some("there is no generation before 1"));
}

#[test]
fn after_a_rollback_the_files_wait_until_one_differs() {
    let bed = Bed::start(&(QUICK.to_owned() + &rules(&["one"])));
    bed.configure(&(QUICK.to_owned() + &rules(&["two"])));
    bed.wait("the watch takes it", |bed| bed.rules() == ["two"]);
    // Written before the rollback, not yet at rest: it was there when somebody said no.
    bed.configure(&(QUICK.to_owned() + &rules(&["three"])));
    bed.rollback(Some(1));
    let events = bed.events();
    bed.configure(&(QUICK.to_owned() + &rules(&["three"])));
    thread::sleep(NOTHING_COMES);
    assert_eq!(bed.rules(), ["one"], "{:#?}", bed.manager.recent_events(4));
    assert!(bed.events() <= events);
    bed.configure(&(QUICK.to_owned() + &rules(&["four"])));
    bed.wait("another content is taken", |bed| bed.rules() == ["four"]);
}

#[test]
fn after_a_rollback_a_mib_reload_tells_what_it_changes() {
    let settings = format!("{QUIET}mib: {{directories: ['{{dir}}/mibs']}}\n");
    let bed = Bed::with(&[("mibs/ONE-MIB", &mib("ONE-MIB", 1, &["oneDown"]))], &settings);
    bed.write("mibs/ONE-MIB", &mib("ONE-MIB", 1, &["oneLate"]));
    bed.published(ReloadType::Mib);
    bed.rollback(None);
    assert!(bed.knows("ONE-MIB::oneDown"));
    // A reload of something else leaves the names where the rollback put them.
    bed.configure(&(settings.clone() + &rules(&["one"])));
    bed.published(ReloadType::Config);
    assert!(bed.knows("ONE-MIB::oneDown"));
    let event = bed.published(ReloadType::Mib);
    assert_eq!(event.changes, ["mib"]);
    assert!(!event.mib.unwrap().unchanged);
    assert!(bed.knows("ONE-MIB::oneLate"));
}

#[test]
fn after_a_rollback_over_other_directories_the_right_names_follow() {
    let of = |folder: &str| format!("{QUIET}mib: {{directories: ['{{dir}}/{folder}']}}\nwebhooks: []\n");
    let bed = Bed::with(
        &[("a/ONE-MIB", &mib("ONE-MIB", 1, &["oneA"])), ("b/ONE-MIB", &mib("ONE-MIB", 1, &["oneB"]))],
        &of("a"),
    );
    bed.configure(&of("b"));
    bed.published(ReloadType::Config);
    assert!(bed.knows("ONE-MIB::oneB"));
    bed.rollback(None);
    let before = bed.current();
    assert!(bed.knows("ONE-MIB::oneA"));
    bed.configure(
        &(of("b").replace("webhooks: []", "webhooks: [{name: w, format: json, url: 'http://a.example/'}]")),
    );
    bed.published(ReloadType::Webhook);
    assert!(Arc::ptr_eq(before.mib(), bed.current().mib()), "webhooks rebuild no MIB");
    bed.published(ReloadType::Config);
    assert!(bed.knows("ONE-MIB::oneB"), "settings and names are of the same directories");
}

#[test]
fn of_a_thousand_rules_the_one_that_changed_is_made_anew() {
    let names: Vec<String> = (0..1000).map(|number| format!("r{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let text =
        QUIET.to_owned() + &rules(&names) + "webhooks: [{name: w, format: json, url: 'http://a.example/'}]\n";
    let bed = Bed::start(&text);
    let before = bed.current();
    bed.configure(&text.replace("name: r500,", "name: r500, continue: true,"));
    assert_eq!(bed.published(ReloadType::Config).changes, ["rules.r500"]);
    let now = bed.current();
    for (number, (old, new)) in before.settings().rules.iter().zip(&now.settings().rules).enumerate() {
        assert_eq!(Arc::ptr_eq(old, new), number != 500, "rule {number}");
    }
    assert!(Arc::ptr_eq(before.mib(), now.mib()) && Arc::ptr_eq(before.users(), now.users()));
    assert!(Arc::ptr_eq(before.routes(), now.routes()));
    bed.configure(
        &text.replace("name: r500,", "name: r500, continue: true,").replace("a.example", "b.example"),
    );
    bed.published(ReloadType::Webhook);
    assert!(Arc::ptr_eq(now.rules(), bed.current().rules()));
    assert!(!Arc::ptr_eq(now.routes(), bed.current().routes()));
}

#[test]
fn so_many_generations_are_kept_and_no_more() {
    let of = |keep: usize, name: &str| {
        format!("reload: {{enabled: false, keep_generations: {keep}}}\n{}", rules(&[name]))
    };
    let bed = Bed::start(&of(3, "r0"));
    let first = Arc::downgrade(&bed.current());
    for number in 1..6 {
        bed.configure(&of(3, &format!("r{number}")));
        bed.published(ReloadType::Config);
    }
    let kept = |bed: &Bed| bed.manager.generations().iter().map(|kept| kept.generation.0).collect::<Vec<_>>();
    assert_eq!(kept(&bed), [4, 5, 6]);
    assert!(bed.manager.generations().iter().all(|kept| kept.current == (kept.generation.0 == 6)));
    bed.wait("generation 1 is freed", |_| first.strong_count() == 0);
    // One alone: the receipt still knows what the old one handled.
    bed.configure(&of(1, "last"));
    bed.published(ReloadType::Config);
    bed.metrics.traps_processed.inc_by(7);
    bed.configure(&of(1, "more"));
    let receipt = bed.published(ReloadType::Config).receipt.unwrap();
    assert_eq!((receipt.old_generation_traps, receipt.new_generation_traps), (7, 0));
    assert_eq!(kept(&bed), [8]);
}

#[test]
fn what_waits_for_an_engine_that_ends_hears_it() {
    let mut bed = Bed::start(&(QUIET.to_owned() + &rules(&["one"])));
    let (begun, go_on) = gate(&bed);
    bed.configure(&(QUIET.to_owned() + &rules(&["two"])));
    assert!(bed.manager.request_reload(ReloadType::Config, "first"));
    begun.recv_timeout(PATIENCE).unwrap();
    let posted = Arc::new(Barrier::new(2));
    let (manager, waiting) = (bed.manager.clone(), Arc::clone(&posted));
    let asker = thread::spawn(move || {
        waiting.wait();
        manager.trigger_reload(ReloadType::All, "asker")
    });
    posted.wait();
    let opener = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(go_on);
    });
    bed.end();
    opener.join().unwrap();
    assert!(matches!(asker.join().unwrap(), Err(ReloadError::Unavailable)));
    assert!(matches!(bed.manager.trigger_reload(ReloadType::All, "late"), Err(ReloadError::Unavailable)));
    assert!(!bed.manager.request_reload(ReloadType::All, "late"));
    // An engine that never starts answers too.
    let files = Files::new(QUIET);
    let (manager, engine, _) = files.manager(files.read());
    drop(engine);
    assert!(matches!(manager.trigger_reload(ReloadType::All, "never"), Err(ReloadError::Unavailable)));
}

#[test]
fn the_switches_say_what_is_watched() {
    let of = |switches: &str, name: &str| {
        format!(
            "reload: {{reload_delay: 50ms, {switches}}}\nmib: {{directories: ['{{dir}}/mibs']}}\n{}",
            rules(&[name])
        )
    };
    let one = mib("ONE-MIB", 1, &["oneDown"]);
    for (switches, config, mibs) in [
        ("enabled: false", false, false),
        ("watch_config_file: false", false, true),
        ("watch_mib_directories: false", true, false),
        ("enabled: true", true, true),
    ] {
        let bed = Bed::with(&[("mibs/ONE-MIB", &one)], &of(switches, "one"));
        bed.write("mibs/ONE-MIB", &mib("ONE-MIB", 1, &["oneUp"]));
        bed.configure(&of(switches, "two"));
        let now = |bed: &Bed| (bed.rules() == ["two"], bed.knows("ONE-MIB::oneUp"));
        if config || mibs {
            bed.wait(switches, |bed| now(bed) == (config, mibs));
        }
        if !config || !mibs {
            thread::sleep(NOTHING_COMES / 2);
        }
        assert_eq!(now(&bed), (config, mibs), "{switches}");
        // By hand everything works, and watching can be switched on.
        bed.configure(&of("enabled: true", "three"));
        bed.reload(ReloadType::All);
        assert_eq!(bed.rules(), ["three"]);
        bed.configure(&of("enabled: true", "four"));
        bed.wait("watching was switched on", |bed| bed.rules() == ["four"]);
    }
}

#[test]
fn whatever_way_a_file_is_written_exactly_one_right_generation_follows() {
    let bed = Bed::start(&(QUICK.to_owned() + &rules(&["r0"])));
    // Truncated, then written after a while that is shorter than the delay.
    for pause in [0, 20, 60] {
        let name = format!("t{pause}");
        let generation = bed.generation();
        std::fs::write(bed.path("nereus.yaml"), "").unwrap();
        thread::sleep(Duration::from_millis(pause));
        bed.configure(&(QUICK.to_owned() + &rules(&[&name])));
        bed.wait("truncate, then write", |bed| bed.rules() == [&*name]);
        assert_eq!(bed.generation(), generation + 1);
    }
    // As editors do: a new file over the old name, the old one kept as a backup.
    let generation = bed.generation();
    bed.write("nereus.yaml.new", &(QUICK.to_owned() + &rules(&["renamed"])));
    std::fs::rename(bed.path("nereus.yaml"), bed.path("nereus.yaml~")).unwrap();
    std::fs::rename(bed.path("nereus.yaml.new"), bed.path("nereus.yaml")).unwrap();
    bed.wait("rename", |bed| bed.rules() == ["renamed"]);
    assert_eq!(bed.generation(), generation + 1);
    assert_eq!(bed.manager.stats().failed_reloads, 0, "{:#?}", bed.manager.recent_events(9));
}

#[test]
fn a_mounted_config_map_is_followed() {
    use std::os::unix::fs::symlink;
    let files = Files::new("{}");
    let folder = files.0.path().to_owned();
    std::fs::remove_file(files.path()).unwrap();
    for (version, name) in [("..v1", "one"), ("..v2", "two"), ("..v3", "three")] {
        files.write(&format!("{version}/nereus.yaml"), &(QUICK.to_owned() + &rules(&[name])));
    }
    symlink("..v1", folder.join("..data")).unwrap();
    symlink("..data/nereus.yaml", folder.join("nereus.yaml")).unwrap();
    let bed = files.start();
    for (number, (version, name)) in [("..v2", "two"), ("..v3", "three")].into_iter().enumerate() {
        symlink(version, folder.join("..tmp")).unwrap();
        std::fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
        bed.wait("the swap is followed", |bed| bed.rules() == [name]);
        assert_eq!(bed.generation(), number as u64 + 2);
    }
    assert_eq!(bed.manager.stats().failed_reloads, 0);
}

#[test]
fn a_refused_file_is_refused_once_and_taken_when_it_is_right() {
    let bed = Bed::start(&(QUICK.to_owned() + &rules(&["one"])));
    bed.configure("rules:\n  - {nmae: x}\n");
    bed.wait("it is refused", |bed| bed.manager.stats().failed_reloads == 1);
    let events = bed.events();
    // Touched and written again with the same content: nobody tries it again. (By a rename: a file that is seen
    // between truncating and writing is another content for that moment.)
    bed.write("again", "rules:\n  - {nmae: x}\n");
    std::fs::rename(bed.path("again"), bed.path("nereus.yaml")).unwrap();
    thread::sleep(NOTHING_COMES);
    assert_eq!(bed.events(), events, "{:#?}", bed.manager.recent_events(4));
    assert_eq!(bed.reload(ReloadType::Config).outcome, ReloadOutcome::Rejected, "asked for, it is tried");
    bed.configure(&(QUICK.to_owned() + &rules(&["two"])));
    bed.wait("the right one is taken", |bed| bed.rules() == ["two"]);
    // Refused, and back to what runs: said, and nothing published.
    let generation = bed.generation();
    bed.configure("rules:\n  - {nmae: y}\n");
    bed.wait("it is refused", |bed| bed.metrics.config_last_reload_successful.get() == 0);
    bed.configure(&(QUICK.to_owned() + &rules(&["two"])));
    bed.wait("what runs is right again", |bed| bed.metrics.config_last_reload_successful.get() == 1);
    assert_eq!(bed.generation(), generation);
}

#[test]
fn the_inputs_of_a_refused_configuration_are_watched() {
    let bed = Bed::start(&(QUICK.to_owned() + &rules(&["one"])));
    // A secret that is not there yet.
    let hooked = format!(
        "{QUICK}{}webhooks: [{{name: w, format: json, url: 'http://a.example/', headers: {{A: {{file: '{{dir}}/token'}}}}}}]\n",
        rules(&["two"])
    );
    bed.configure(&hooked);
    bed.wait("it is refused", |bed| bed.manager.stats().failed_reloads == 1);
    bed.write("token", "planted\n");
    bed.wait("the secret has come", |bed| bed.rules() == ["two"]);
    // A MIB directory that is not there yet.
    bed.configure(&format!("{QUICK}{}mib: {{directories: ['{{dir}}/late']}}\n", rules(&["three"])));
    bed.wait("it is refused", |bed| bed.manager.stats().failed_reloads == 2);
    assert_eq!(bed.rules(), ["two"]);
    bed.write("late/ONE-MIB", &mib("ONE-MIB", 1, &["oneDown"]));
    bed.wait("the directory has come", |bed| bed.rules() == ["three"] && bed.knows("ONE-MIB::oneDown"));
}

#[test]
fn what_changes_between_reading_and_watching_is_noticed() {
    let settings = |name: &str| format!("{QUICK}mib: {{directories: ['{{dir}}/mibs']}}\n{}", rules(&[name]));
    let files = Files::new(&settings("one"));
    files.write("mibs/ONE-MIB", &mib("ONE-MIB", 1, &["oneDown"]));
    let loaded = nereus::config::load(&files.path()).unwrap();
    // While a long compile goes on, and before it.
    files.write("nereus.yaml", &settings("two"));
    let first = FirstPlanOf(&files, loaded).make();
    files.write("mibs/ONE-MIB", &mib("ONE-MIB", 1, &["oneUp"]));
    let (manager, engine, metrics) = files.manager(first);
    let _engine = engine.start().unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        let current = manager.snapshot().current();
        if *current.settings().rules[0].name == *"two" && current.mib().resolve("ONE-MIB::oneUp").is_ok() {
            break;
        }
        assert!(Instant::now() < until, "{:#?}", manager.recent_events(5));
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(metrics.reload_events.with_label_values(&["config", "failure"]).get(), 0);
}

struct FirstPlanOf<'a>(&'a Files, nereus::config::Loaded);

impl FirstPlanOf<'_> {
    fn make(self) -> nereus::reload::FirstPlan {
        let Self(files, loaded) = self;
        nereus::reload::FirstPlan::make(Some(files.path()), loaded.inputs, loaded.settings).0.unwrap()
    }
}

#[test]
fn a_fifo_in_a_files_place_holds_nobody() {
    let bed = Bed::start(&(QUICK.to_owned() + &rules(&["one"])));
    let path = bed.path("nereus.yaml");
    std::fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    bed.rejected(ReloadType::Config);
    // The watch reports it as well, and the engine looks whether it was refused already.
    thread::sleep(NOTHING_COMES);
    std::fs::remove_file(&path).unwrap();
    bed.configure(&(QUICK.to_owned() + &rules(&["two"])));
    bed.wait("a file again", |bed| bed.rules() == ["two"]);
}

#[test]
fn ten_thousand_touches_make_no_reload_and_a_change_among_them_one() {
    let bed = Bed::start(&(QUICK.to_owned() + &rules(&["one"])));
    let touched = Arc::new(AtomicU64::new(0));
    let (path, count) = (bed.path("nereus.yaml"), Arc::clone(&touched));
    let storm = thread::spawn(move || {
        let file = std::fs::File::options().append(true).open(path).unwrap();
        for number in 0..10_000 {
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(number)).unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    storm.join().unwrap();
    bed.configure(&(QUICK.to_owned() + &rules(&["two"])));
    let changed = Instant::now();
    bed.wait("the change is taken", |bed| bed.rules() == ["two"]);
    eprintln!(
        "converged {:?} after the last of {} touches",
        changed.elapsed(),
        touched.load(Ordering::Relaxed)
    );
    assert_eq!(bed.generation(), 2);
    assert!(bed.events() <= 4, "{:#?}", bed.manager.recent_events(9));
    assert_eq!(bed.manager.stats().failed_reloads, 0);
}
