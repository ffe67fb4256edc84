//! Mutes and flapping alerts of a running Nereus, by its command line, through kills and reloads.

#[path = "common/nereus.rs"]
mod program;
#[path = "common/sink.rs"]
mod sink;
#[path = "common/trap.rs"]
mod trap;

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

use program::Nereus;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;
use sink::Sink;

const RULES: &str = "
access: {communities: [public]}
reload: {enabled: false}
rules:
  - name: link
    match: {trap: IF-MIB::linkDown}
    alert: InterfaceDown
    severity: major
    key: [source, ifIndex]
    cleared_by: IF-MIB::linkUp
    deduplicate: 5m
    flapping: {count: 3, window: 1h, hold: 1s}
";

/// Runs the command line against `nereus`: exit code, standard output, standard error.
fn ask(nereus: &Nereus, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_nereus"))
        .args(arguments)
        .args(["--admin", &format!("http://{}", nereus.admin)])
        .env_remove("NEREUS_ADMIN_TOKEN")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn settings(alertmanager: &Sink, events: &Sink) -> String {
    format!(
        "{RULES}webhooks:
  - {{name: am, url: '{}', format: alertmanager, batch: {{wait: 10ms}}}}
  - {{name: log, url: '{}', format: json, batch: {{wait: 10ms}}}}
",
        alertmanager.url(),
        events.url()
    )
}

fn down(nereus: &Nereus, interface: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&trap::link_down(interface, "public"), nereus.traps).unwrap();
}

fn up(nereus: &Nereus, interface: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&trap::link_up(interface, "public"), nereus.traps).unwrap();
}

/// The newest alert of `interface`.
fn alert(nereus: &Nereus, interface: &str) -> Option<Value> {
    let alerts = nereus.json("/api/v1/alerts?all=true");
    alerts["alerts"].as_array().unwrap().iter().find(|alert| alert["labels"]["ifIndex"] == interface).cloned()
}

fn wait_for(nereus: &Nereus, interface: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    nereus.wait(what, |nereus| alert(nereus, interface).filter(&holds))
}

/// Interfaces and states that the endpoint is posted, up to the first of `until`.
fn posted(sink: &Sink, until: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while !seen.iter().any(|seen| seen == until) {
        let body = sink.next_json();
        let list = body["alerts"].as_array().or(body.as_array()).unwrap().clone();
        for alert in list {
            let state = alert["state"].as_str().map(str::to_owned).unwrap_or_else(|| {
                let ends: jiff::Timestamp = alert["endsAt"].as_str().unwrap().parse().unwrap();
                if ends <= jiff::Timestamp::now() { "resolved" } else { "firing" }.to_owned()
            });
            seen.push(format!("{} {state}", alert["labels"]["ifIndex"].as_str().unwrap()));
        }
    }
    seen
}

#[test]
fn nobody_hears_of_what_is_muted_until_it_no_longer_is() {
    let (alertmanager, events) = (Sink::start(), Sink::start());
    let settings = settings(&alertmanager, &events);
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), &settings);
    down(&nereus, 1);
    wait_for(&nereus, "1", "the first alert", |_| true);
    assert_eq!(posted(&events, "1 firing").len(), 1);
    posted(&alertmanager, "1 firing");

    let add = ["mutes", "add", "--source", "127.0.0.0/8", "--alert", "InterfaceDown", "--for", "2h"];
    let (code, out, err) =
        ask(&nereus, &[&add[..], &["--comment", "works", "--by", "ann", "--json"]].concat());
    assert_eq!(code, 0, "{err}");
    let made: Value = serde_json::from_str(&out).unwrap();
    let id = made["id"].to_string();
    assert_eq!(
        (&made["state"], &made["by"], &made["comment"]),
        (&"active".into(), &"ann".into(), &"works".into())
    );
    // It holds once it was answered, over a kill.
    down(&nereus, 2);
    wait_for(&nereus, "2", "the muted alert", |alert| alert["muted_by"] == made["id"]);
    nereus.kill();
    let nereus = Nereus::start(folder.path(), &settings);
    let (_, out, _) = ask(&nereus, &["mutes"]);
    assert!(out.contains("alert=InterfaceDown source=127.0.0.0/8") && out.contains("works"), "{out}");
    down(&nereus, 3);
    wait_for(&nereus, "3", "another one", |alert| alert["muted_by"] == made["id"]);
    wait_for(&nereus, "1", "the mute of the first", |alert| alert["muted_by"] == made["id"]);
    nereus.wait("the count", |nereus| (nereus.metric("nereus_alerts_muted") == 3.0).then_some(()));
    // A reload leaves it. What is shown says so.
    let relabelled = settings.replace("deduplicate: 5m", "deduplicate: 6m");
    Nereus::configure(folder.path(), &relabelled);
    assert_eq!(program::http(nereus.admin, "POST", "/reload", "").0, 200);
    let (_, out, _) = ask(&nereus, &["alerts"]);
    assert_eq!(out.matches(&format!("muted by {id}")).count(), 3, "{out}");
    // One that was never heard of ends unheard.
    up(&nereus, 3);
    wait_for(&nereus, "3", "the end of the third", |alert| alert["state"] == "resolved");
    // One that was heard of ends audibly.
    up(&nereus, 1);
    let unheard = |told: &[String]| told.iter().all(|told| told.starts_with('1'));
    let told = posted(&events, "1 resolved");
    assert!(unheard(&told), "{told:?}");

    let (code, out, err) = ask(&nereus, &["mutes", "end", &id, "7", "--by", "bob"]);
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("ended") && out.contains("no such mute"), "{out}");
    let told = posted(&events, "2 firing");
    assert!(unheard(&told[..told.len() - 1]), "{told:?}");
    let told = posted(&alertmanager, "2 firing");
    assert!(told.contains(&"1 resolved".to_owned()), "{told:?}");
    assert!(told.iter().all(|told| !told.starts_with('3')), "{told:?}");
    assert_eq!(ask(&nereus, &["mutes", "end", &id]).0, 1, "it is over");
    let (_, out, _) = ask(&nereus, &["mutes", "list", "--all", "--json"]);
    assert!(out.contains("\"ended_by\":\"bob\""), "{out}");
    assert!(ask(&nereus, &["mutes", "--json"]).1.is_empty());
    assert_eq!(alert(&nereus, "2").unwrap()["muted_by"], Value::Null);

    for (arguments, says) in [
        (&["mutes", "add", "--for", "2h"][..], "--rule"),
        (&["mutes", "add", "--rule", "link"], "--until"),
        (&["mutes", "add", "--rule", "link", "--for", "soon"], "as 2h"),
        (&["mutes", "add", "--severity", "bad", "--for", "2h"], "severities"),
    ] {
        let (code, _, err) = ask(&nereus, arguments);
        assert!(code == 2 && err.contains(says), "{arguments:?}: {code} {err}");
    }
    for (path, status) in [("?for=2h", 400), ("/x/end", 400), ("/7/end", 404), ("?rule=a&for=2h&who=me", 400)]
    {
        let (answered, body) = program::http(nereus.admin, "POST", &format!("/api/v1/mutes{path}"), "");
        assert_eq!(answered, status, "{path}: {body}");
    }
}

#[test]
fn the_list_of_mutes_waits_for_the_disk_and_holds_up_nobody() {
    const PAUSE: Duration = Duration::from_millis(200);
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), RULES);
    // A disk that hangs: whoever opens a pipe to write waits until somebody reads.
    let next = folder.path().join("data/mutes.json.next");
    mknodat(CWD, &next, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let list = || program::http(nereus.admin, "GET", "/api/v1/mutes", "").0;
    std::thread::scope(|scope| {
        let path = "/api/v1/mutes?rule=link&for=1h&comment=x&by=test";
        let add = scope.spawn(|| program::http(nereus.admin, "POST", path, "").0);
        let first = nereus.wait("a list that waits for the disk", |_| {
            let list = scope.spawn(list);
            std::thread::sleep(PAUSE);
            (!list.is_finished()).then_some(list)
        });
        // More of them than there are threads for HTTP.
        let lists: Vec<_> = std::iter::once(first).chain((0..3).map(|_| scope.spawn(list))).collect();
        std::thread::sleep(PAUSE);
        assert_eq!(program::http(nereus.admin, "GET", "/health", "").0, 200);
        assert!(!add.is_finished() && lists.iter().all(|list| !list.is_finished()));
        let reader = std::fs::File::open(&next).unwrap();
        assert_eq!(lists.into_iter().map(|list| list.join().unwrap()).collect::<Vec<_>>(), [200; 4]);
        assert!(add.join().unwrap() >= 500, "a pipe cannot be synced: nothing was added");
        drop(reader);
    });
}

#[test]
fn an_alert_that_flaps_is_held_through_a_kill_and_let_go_when_it_is_quiet() {
    let (alertmanager, events) = (Sink::start(), Sink::start());
    let folder = tempfile::tempdir().unwrap();
    let slow = settings(&alertmanager, &events).replace("hold: 1s", "hold: 1h");
    let nereus = Nereus::start(folder.path(), &slow);
    down(&nereus, 1);
    wait_for(&nereus, "1", "its beginning", |alert| alert["state"] == "firing");
    up(&nereus, 1);
    wait_for(&nereus, "1", "its end", |alert| alert["state"] == "resolved");
    nereus.kill();
    // What was counted is on the disk: the third change holds it.
    let nereus = Nereus::start(folder.path(), &slow);
    down(&nereus, 1);
    let held = wait_for(&nereus, "1", "its flapping", |alert| !alert["flapping_since"].is_null());
    up(&nereus, 1);
    wait_for(&nereus, "1", "one more change", |alert| alert["change"] != held["change"]);
    let still = alert(&nereus, "1").unwrap();
    assert_eq!((&still["id"], &still["state"]), (&held["id"], &"firing".into()));
    assert!(ask(&nereus, &["alerts"]).1.contains("firing, flapping"));
    nereus.kill();
    // A shorter hold counts for changes from now on.
    let nereus = Nereus::start(folder.path(), &slow.replace("hold: 1h", "hold: 1s"));
    assert_eq!(alert(&nereus, "1").unwrap()["flapping_since"], held["flapping_since"]);
    // From one port: decided in their order, and within the hold.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for datagram in [trap::link_down(1, "public"), trap::link_up(1, "public")] {
        socket.send_to(&datagram, nereus.traps).unwrap();
    }
    let released = wait_for(&nereus, "1", "its release", |alert| alert["resolved_by"] == "flapping");
    assert_eq!(released["id"], held["id"]);
    // A post may come twice after a kill; a change has one number.
    let mut told = std::collections::BTreeMap::new();
    while !told.contains_key(&released["change"].as_u64()) {
        for alert in events.next_json()["alerts"].as_array().unwrap() {
            told.insert(alert["change"].as_u64(), alert["state"].as_str().unwrap().to_owned());
        }
    }
    let told: Vec<_> = told.into_values().collect();
    assert_eq!(told, ["firing", "resolved", "firing", "resolved"], "nothing is told of what is held");
    assert_eq!(nereus.metric("nereus_alerts_open"), 0.0);
}
