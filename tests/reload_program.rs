//! What of a reload only shows from outside: sockets, workers, the log file, signals, the command line.
#![allow(clippy::print_stderr, reason = "what is measured is said")]

#[path = "common/bed.rs"]
mod bed;
#[path = "common/nereus.rs"]
mod program;
#[path = "common/sink.rs"]
mod sink;
#[path = "common/trap.rs"]
mod trap;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nereus::config;
use nereus::reload::{ReloadError, ReloadType};
use nereus::server::Server;
use program::{Nereus, http, metric_sum, signal};
use serde_json::Value;
use sink::Sink;

const QUIET: &str = "reload: {enabled: false, reload_delay: 10ms}\n";

/// The generation in force and how many events there are: what a refused request must not move.
fn state(nereus: &Nereus) -> (u64, u64) {
    let generation = nereus.json("/api/v1/status")["generation"].as_u64().unwrap();
    let events = nereus.json("/debug/reload/events?limit=0");
    (generation, events["statistics"]["total_reloads"].as_u64().unwrap())
}

#[test]
fn sighup_reloads_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut nereus = Nereus::start(folder.path(), QUIET);
    Nereus::configure(folder.path(), &format!("{QUIET}unmatched: store\n"));
    signal(nereus.pid(), "HUP");
    let line = nereus.wait_for_log("Reload completed successfully");
    assert_eq!(
        (&line["type"], &line["source"], &line["success"]),
        (&"all".into(), &"SIGHUP".into(), &true.into())
    );
    assert_eq!(state(&nereus), (2, 1));
    Nereus::configure(folder.path(), "unmatched: stroe\n");
    signal(nereus.pid(), "HUP");
    let line = nereus.wait_for_log("Reload failed");
    assert!(line["error"].as_str().unwrap().contains("stroe"), "{line}");
    assert_eq!(line["level"], "ERROR");
    assert_eq!(state(&nereus), (2, 2));
    // What was sent in between is taken.
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&trap::link_down(1, "public"), nereus.traps).unwrap();
    nereus.wait("it is stored", |nereus| (nereus.metric("nereus_events_stored_total") == 1.0).then_some(()));
}

#[test]
fn a_change_of_another_log_file_takes_effect_and_a_bad_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), QUIET);
    let file = folder.path().join("nereus.log");
    Nereus::configure(folder.path(), &format!("{QUIET}logging: {{output: '{}'}}\n", file.display()));
    let (status, body) = http(nereus.admin, "POST", "/reload", "");
    assert_eq!(status, 200, "{body}");
    let event: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&event["changes"][0], &event["components"][0]), (&"logging".into(), &"logging".into()));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(r#""msg":"Reload completed successfully""#), "{text}");
    Nereus::configure(
        folder.path(),
        &format!("{QUIET}unmatched: store\nlogging: {{output: '{}/no/such'}}\n", folder.path().display()),
    );
    let (status, body) = http(nereus.admin, "POST", "/reload", "");
    assert_eq!(status, 422);
    assert!(body.contains("Failed to reload component logging: log file"), "{body}");
    assert_eq!(state(&nereus), (2, 2));
    // The old file goes on.
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(r#""msg":"Reload failed""#), "{text}");
}

#[test]
fn sighup_opens_a_rotated_log_anew_though_nothing_else_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, old) = (folder.path().join("nereus.log"), folder.path().join("nereus.log.1"));
    let mut nereus = Nereus::start(folder.path(), QUIET);
    Nereus::configure(folder.path(), &format!("{QUIET}logging: {{output: '{}'}}\n", file.display()));
    let (status, body) = http(nereus.admin, "POST", "/reload", "");
    assert_eq!(status, 200, "{body}");
    std::fs::rename(&file, &old).unwrap();
    for number in 1..=2 {
        signal(nereus.pid(), "HUP");
        // Each is waited for: signals that come together are one.
        nereus.wait("the line is in the new file", |_| {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            (text.matches(r#""source":"SIGHUP""#).count() == number).then_some(())
        });
    }
    assert!(!std::fs::read_to_string(&old).unwrap().contains("SIGHUP"));
    // Where no file can be opened the old one goes on.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    signal(nereus.pid(), "HUP");
    nereus.wait("it reloads all the same", |nereus| (state(nereus).1 == 4).then_some(()));
    nereus.read_log();
}

#[test]
fn the_command_line_reloads_rolls_back_and_lists() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), QUIET);
    let run = |arguments: &[&str]| {
        let url = format!("http://{}", nereus.admin);
        let output = Command::new(env!("CARGO_BIN_EXE_nereus"))
            .args(arguments)
            .args(["--admin", &url])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for kind in ["all", "config", "mib", "webhook"] {
        let (code, said) = run(&["reload", "--type", kind]);
        assert!(code == Some(0) && said.starts_with("nothing has changed: generation 1 goes on"), "{said}");
    }
    Nereus::configure(folder.path(), &format!("{QUIET}unmatched: store\n"));
    let (code, said) = run(&["reload", "--type", "config"]);
    assert!(
        code == Some(0) && said.contains("generation 2 is in force") && said.contains("changed: unmatched"),
        "{said}"
    );
    Nereus::configure(folder.path(), &format!("{QUIET}unmatched: stroe\n"));
    let (code, said) = run(&["reload"]);
    assert!(code == Some(1) && said.contains("rejected: ") && said.contains("stroe"), "{said}");
    let (code, said) = run(&["rollback"]);
    assert!(code == Some(0) && said.contains("generation 3 is in force"), "{said}");
    assert_eq!(run(&["rollback", "77"]).0, Some(1));
    let (code, said) = run(&["generations", "--json"]);
    let listed: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, listed.len()), (Some(0), 3));
    assert_eq!(
        (&listed[2]["type"], &listed[2]["source"], &listed[2]["current"]),
        (&"rollback".into(), &"cli".into(), &true.into())
    );
}

/// A server in the test's own process.
struct Own {
    folder: tempfile::TempDir,
    server: Server,
}

impl Own {
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = configure(&folder, settings);
        let loaded = config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        let server = Server::start(Some((file, loaded.inputs)), loaded.settings).unwrap();
        Self { folder, server }
    }

    fn reload(&self, kind: ReloadType, settings: &str) -> nereus::reload::ReloadEvent {
        configure(&self.folder, settings);
        match self.server.reload_manager().trigger_reload(kind, "test") {
            Ok(event) => event,
            Err(ReloadError::Rejected(event)) => panic!("{event:#?}"),
            Err(error) => panic!("{error}"),
        }
    }

    fn metric(&self, name: &str) -> u64 {
        metric_sum(&http(self.server.admin(), "GET", "/metrics", "").1, name) as u64
    }

    fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + program::PATIENCE;
        while !done(self) {
            assert!(Instant::now() < until, "{what} did not happen");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn configure(folder: &tempfile::TempDir, settings: &str) -> std::path::PathBuf {
    let settings = settings.replace("{dir}", &folder.path().display().to_string());
    Nereus::configure(folder.path(), &settings)
}

const ONE: &str =
    "listener: [{address: '127.0.0.1:0', receivers: 2}]\nunmatched: store\nlogging: {level: error}\n";
const TWO: &str = "listener: [{address: '127.0.0.1:0', receivers: 2}, {address: '127.0.0.2:0', receivers: 2}]\nunmatched: store\nlogging: {level: error}\n";

#[test]
fn a_listener_comes_and_goes_with_datagrams_in_flight() {
    let own = Own::start(&format!("{QUIET}{ONE}"));
    let first = own.server.listeners()[0];
    let on = Arc::new(AtomicBool::new(true));
    let flows = Arc::clone(&on);
    // One address is sent to all the time, whatever happens to the other.
    let steady = thread::spawn(move || {
        let (socket, mut sent) = (UdpSocket::bind("127.0.0.1:0").unwrap(), 0);
        while flows.load(Ordering::Relaxed) {
            for _ in 0..20 {
                sent += 1;
                socket.send_to(&trap::link_down(sent as u32, "public"), first).unwrap();
            }
            thread::sleep(Duration::from_millis(5));
        }
        sent
    });
    let mut sent = 0;
    for _ in 0..5 {
        let event = own.reload(ReloadType::Config, &format!("{QUIET}{TWO}"));
        assert_eq!(event.components, ["listener"]);
        let second: SocketAddr =
            own.server.listeners().into_iter().find(|address| address.ip() != first.ip()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for interface in 0..2_000 {
            sent += socket.send_to(&trap::link_down(interface, "public"), second).map_or(0, |_| 1);
        }
        // At once: most of them still lie in the kernel.
        own.reload(ReloadType::Config, &format!("{QUIET}{ONE}"));
        assert_eq!(own.server.listeners(), [first]);
    }
    on.store(false, Ordering::Relaxed);
    let sent = sent + steady.join().unwrap();
    let account =
        |own: &Own| own.metric("nereus_events_stored_total") + own.metric("nereus_kernel_drops_total");
    own.wait("each is stored or counted", |own| account(own) == sent);
    eprintln!("sent {sent}, dropped by the kernel and counted {}", own.metric("nereus_kernel_drops_total"));
    assert_eq!(own.metric("nereus_traps_dropped_total"), 0);
}

#[test]
fn a_changed_webhook_keeps_what_is_queued() {
    // A port where nobody listens: posts wait.
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sink = Sink::start();
    let of = |url: &str| {
        format!(
            "{QUIET}{ONE}rules:\n  - {{name: all, alert: Any, severity: info, key: [source, ifIndex]}}\nwebhooks:\n  - {{name: w, format: json, url: '{url}', retry: {{attempts: 100, initial: 100ms, max: 200ms}}}}\n"
        )
    };
    let own = Own::start(&of(&format!("http://{nowhere}/")));
    let before = own.server.reload_manager().snapshot().current();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&trap::link_down(7, "public"), own.server.listeners()[0]).unwrap();
    own.wait("it is tried in vain", |own| own.metric("nereus_webhooks_failed_total") > 0);
    let event = own.reload(ReloadType::Webhook, &of(&sink.url()));
    assert_eq!(
        (&event.changes, &event.components),
        (&vec!["webhooks.w".to_owned()], &vec!["notifier".to_owned()])
    );
    let now = own.server.reload_manager().snapshot().current();
    assert!(Arc::ptr_eq(before.rules(), now.rules()) && Arc::ptr_eq(before.mib(), now.mib()));
    let post = sink.next_json().to_string();
    assert!(post.contains("Any"), "{post}");
}

#[test]
fn a_generation_that_left_the_ring_is_freed_within_a_second() {
    let keep = "reload: {enabled: false, keep_generations: 1}\n";
    let own = Own::start(&format!("{keep}{ONE}"));
    let webhook = |n: usize| {
        format!("{keep}{ONE}webhooks: [{{name: w, format: json, url: 'http://127.0.0.1:{}/'}}]\n", n + 1)
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut slowest = Duration::ZERO;
    for number in 0..10 {
        // Traffic or none: neither may pin it.
        if number % 2 == 0 {
            socket.send_to(&trap::link_down(7, "public"), own.server.listeners()[0]).unwrap();
        }
        let old = Arc::downgrade(&own.server.reload_manager().snapshot().current());
        own.reload(ReloadType::Webhook, &webhook(number));
        let left = Instant::now();
        while old.strong_count() > 0 {
            assert!(left.elapsed() < Duration::from_secs(1), "generation {} is still held", number + 1);
            thread::sleep(Duration::from_millis(1));
        }
        slowest = slowest.max(left.elapsed());
    }
    eprintln!("freed within {slowest:?}");
}

#[test]
fn the_guard_refuses_what_takes_names_away_and_force_takes_it() {
    let of = |validate: bool| {
        format!(
            "reload: {{enabled: false, validate_before_reload: {validate}}}\n{ONE}mib: {{directories: ['{{dir}}/mibs']}}\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("mibs")).unwrap();
    let module = folder.path().join("mibs/ONE-MIB");
    let text = bed::mib("ONE-MIB", 1, &["oneDown"]);
    std::fs::write(&module, &text).unwrap();
    let file = configure(&folder, &of(true));
    let loaded = config::load(&file).unwrap();
    let server = Server::start(Some((file, loaded.inputs)), loaded.settings).unwrap();
    let own = Own { folder, server };
    let to = own.server.listeners()[0].to_string();
    let sent = Command::new(env!("CARGO_BIN_EXE_nereus"))
        .args(["send", "--to", &to, "--rate", "1000", "--count", "100", "1.3.6.1.4.1.99999.1.1"])
        .output()
        .unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    own.wait("they are stored", |own| own.metric("nereus_events_stored_total") == 100);
    std::fs::remove_file(&module).unwrap();
    let reloads = own.server.reload_manager();
    let Err(ReloadError::Rejected(event)) = reloads.trigger_reload(ReloadType::Mib, "test") else {
        panic!("the guard")
    };
    let found = event.rehearsal.unwrap();
    assert!(
        found.samples > 0 && found.unresolved_after == found.samples && found.unresolved_before == 0,
        "{found:?}"
    );
    assert!(event.error.unwrap().contains("--force"));
    assert_eq!(own.server.generation().0, 1);
    assert_eq!(own.metric("nereus_mib_problems"), 0, "what was refused is not what is in force");
    let event = reloads.force_reload(ReloadType::Mib, "test").unwrap();
    assert_eq!(event.rehearsal.unwrap().names, found.samples);
    // Without the rehearsal nothing is asked.
    std::fs::write(&module, &text).unwrap();
    own.reload(ReloadType::All, &of(false));
    std::fs::remove_file(&module).unwrap();
    let event = own.reload(ReloadType::Mib, &of(false));
    assert!(event.rehearsal.is_none() && event.generation.0 == 4);
}
