//! What operators do with a running Nereus, by its command line: search, export and follow events, acknowledge and
//! close alerts.

#[path = "common/nereus.rs"]
mod program;
#[path = "common/sink.rs"]
mod sink;
#[path = "common/trap.rs"]
mod trap;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use program::Nereus;
use serde_json::Value;
use sink::Sink;

const RULES: &str = "
access: {communities: [public]}
rules:
  - name: link
    match: {trap: IF-MIB::linkDown}
    alert: InterfaceDown
    severity: major
    key: [source, ifIndex]
    cleared_by: IF-MIB::linkUp
    deduplicate: 5m
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

fn send(nereus: &Nereus, interfaces: impl IntoIterator<Item = u32>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for interface in interfaces {
        socket.send_to(&trap::link_down(interface, "public"), nereus.traps).unwrap();
    }
}

fn wait_for_events(nereus: &Nereus, number: usize) {
    nereus.wait(&format!("{number} events"), |nereus| {
        let events = nereus.json("/api/v1/events?limit=10000");
        (events["events"].as_array().unwrap().len() >= number).then_some(())
    });
}

#[test]
fn events_are_found_by_varbinds_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), RULES);
    send(&nereus, [1, 2, 3, 2]);
    wait_for_events(&nereus, 4);

    let (code, out, err) = ask(&nereus, &["events", "--where", "ifIndex=2", "--json"]);
    assert_eq!(code, 0, "{err}");
    let found: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), 2);
    assert!(found[0]["id"].as_u64() > found[1]["id"].as_u64(), "the newest first");
    let is_two = |event: &Value| {
        let varbinds = event["varbinds"].as_array().unwrap();
        varbinds.iter().any(|varbind| varbind["name"] == "IF-MIB::ifIndex" && varbind["value"] == 2)
    };
    assert!(found.iter().all(is_two), "{found:?}");

    // By OID, with the instance; several conditions must all hold.
    let instance = "1.3.6.1.2.1.2.2.1.1.3=3";
    let (_, out, _) = ask(&nereus, &["events", "--where", instance, "--where", "ifIndex=3", "--json"]);
    assert_eq!(out.lines().count(), 1);
    let (_, out, _) = ask(&nereus, &["events", "--where", instance, "--where", "ifIndex=1", "--json"]);
    assert_eq!(out, "");

    let (code, out, err) = ask(&nereus, &["events", "--all", "--csv", "--trap", "IF-MIB::linkDown"]);
    assert_eq!(code, 0, "{err}");
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with("id,time,generation,source,"), "{out}");
    assert_eq!(lines.len(), 5, "{out}");
    assert!(
        lines[1..].iter().all(|line| line.contains("IF-MIB::linkDown,link,major,InterfaceDown")),
        "{out}"
    );

    for (wrong, says) in [("ifIndex", "write it as"), ("noSuchName=1", "noSuchName")] {
        let (code, _, err) = ask(&nereus, &["events", "--where", wrong]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(says), "{err}");
    }
    assert_eq!(ask(&nereus, &["events", "--all"]).0, 2, "a table holds all of its rows");
    assert_eq!(nereus.get("/api/v1/events?limit=1&limit=2").0, 400, "no parameter is silently lost");
}

/// The one alert of `interface` that is open, or of all with `all`.
fn alert(nereus: &Nereus, interface: &str, all: bool) -> Option<Value> {
    let alerts = nereus.json(&format!("/api/v1/alerts?all={all}"));
    let found = alerts["alerts"].as_array().unwrap().iter().find(|alert| {
        let labels = &alert["labels"];
        labels["ifIndex"] == interface
    });
    found.cloned()
}

#[test]
fn what_operators_do_is_durable_shown_and_delivered() {
    let (alertmanager, events) = (Sink::start(), Sink::start());
    let webhooks = format!(
        "webhooks:
  - {{name: am, url: '{}', format: alertmanager, batch: {{wait: 10ms}}}}
  - {{name: log, url: '{}', format: json, batch: {{wait: 10ms}}}}
",
        alertmanager.url(),
        events.url()
    );
    let settings = format!("{RULES}{webhooks}reload: {{enabled: false}}\n");
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), &settings);
    send(&nereus, [1, 2]);
    let (one, two) = nereus.wait("two alerts", |nereus| {
        Some((alert(nereus, "1", false)?["id"].to_string(), alert(nereus, "2", false)?["id"].to_string()))
    });

    let (code, out, err) = ask(&nereus, &["alerts", "ack", &one, "--by", "ann\u{1b}e"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("acknowledged"), "{out}");
    assert_eq!(nereus.metric("nereus_alerts_acknowledged_total"), 1.0);
    // It is on the disk: nothing that comes after can take it back. The first one stands.
    nereus.kill();
    let nereus = Nereus::start(folder.path(), &settings);
    let shown = alert(&nereus, "1", false).unwrap();
    assert_eq!((&shown["state"], &shown["acknowledged_by"]), (&"acknowledged".into(), &"anne".into()));
    assert!(shown["acknowledged_at"].is_string(), "{shown}");
    let (code, out, _) = ask(&nereus, &["alerts", "ack", &one, "--by", "bob", "--json"]);
    assert_eq!((code, out.contains("\"changed\":false")), (0, true), "{out}");
    assert_eq!(alert(&nereus, "1", false).unwrap()["acknowledged_by"], "anne");
    let (_, out, _) = ask(&nereus, &["alerts"]);
    assert!(out.contains("acknowledged by anne"), "{out}");
    // A repeat leaves it as it is; so does a reload that renames the rule and one that gives the key another name.
    send(&nereus, [1]);
    nereus.wait("the repeat", |nereus| {
        (nereus.json("/api/v1/events")["events"].as_array().unwrap().len() == 3).then_some(())
    });
    let renamed = settings.replace("name: link", "name: links");
    Nereus::configure(folder.path(), &renamed);
    assert_eq!(program::http(nereus.admin, "POST", "/reload", "").0, 200);
    nereus
        .wait("the rename", |nereus| (alert(nereus, "1", false)?["acknowledged_by"] == "anne").then_some(()));
    let labelled = renamed.replace("deduplicate: 5m", "deduplicate: 5m\n    labels: {team: noc}");
    Nereus::configure(folder.path(), &labelled);
    assert_eq!(program::http(nereus.admin, "POST", "/reload", "").0, 200);
    let moved = nereus.wait("the alert under its new labels", |nereus| {
        alert(nereus, "1", false).filter(|alert| alert["labels"]["team"] == "noc")
    });
    assert_eq!((&moved["state"], &moved["acknowledged_by"]), (&"acknowledged".into(), &"anne".into()));

    // Closing: the number of before the move is an ended alert, one of nowhere is unknown, both together with
    // one that is open.
    let two = nereus.wait("the other one", |nereus| {
        alert(nereus, "2", false).filter(|alert| alert["labels"]["team"] == "noc" && alert["id"] != two)
    })["id"]
        .to_string();
    let (code, out, _) = ask(&nereus, &["alerts", "close", &one, "7", &two, "--by", "bob"]);
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("has ended already") && out.contains("no alert 7") && out.contains("resolved"),
        "{out}"
    );
    nereus.kill();
    let nereus = Nereus::start(folder.path(), &labelled);
    assert!(alert(&nereus, "2", false).is_none());
    let closed = alert(&nereus, "2", true).unwrap();
    assert_eq!((&closed["resolved_by"], &closed["closed_by"]), (&"operator".into(), &"bob".into()));
    assert_eq!(alert(&nereus, "1", false).unwrap()["state"], "acknowledged", "it goes on");

    // Alertmanager: the closed one is ended, the acknowledged one is not.
    let mut newest = std::collections::BTreeMap::new();
    let ended = |newest: &std::collections::BTreeMap<String, bool>, interface: &str| {
        newest.get(&format!("{interface} noc")).copied()
    };
    while ended(&newest, "2") != Some(true) || ended(&newest, "1").is_none() {
        for posted in alertmanager.next_json().as_array().unwrap() {
            let label = |name: &str| posted["labels"][name].as_str().unwrap_or("-").to_owned();
            let ends: jiff::Timestamp = posted["endsAt"].as_str().unwrap().parse().unwrap();
            newest.insert(format!("{} {}", label("ifIndex"), label("team")), ends <= jiff::Timestamp::now());
        }
    }
    assert_eq!(ended(&newest, "1"), Some(false));
    // Event webhooks hear of both.
    let mut told = Vec::new();
    while !(told.contains(&"acknowledged".to_owned()) && told.contains(&"operator".to_owned())) {
        for posted in events.next_json()["alerts"].as_array().unwrap() {
            let by = posted["resolved_by"].as_str().unwrap_or(posted["state"].as_str().unwrap());
            told.push(by.to_owned());
        }
    }

    // The next event of the closed one's kind opens another.
    send(&nereus, [2]);
    let again = nereus.wait("a new alert", |nereus| alert(nereus, "2", false));
    assert_ne!(again["id"], closed["id"]);
    assert_eq!((&again["state"], &again["acknowledged_by"]), (&"firing".into(), &Value::Null));
    for (path, status) in [("x/ack", 400), ("7/ack", 404), ("7/ack?who=me", 400), ("7/open", 404)] {
        let (answered, body) = program::http(nereus.admin, "POST", &format!("/api/v1/alerts/{path}"), "");
        assert_eq!(answered, status, "{path}: {body}");
    }
}

#[test]
fn repeats_that_are_not_stored_are_counted_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let settings = RULES.replace("deduplicate: 5m", "deduplicate: 5m\n    history: first");
    let nereus = Nereus::start(folder.path(), &settings);
    // From one port: its datagrams are decided in their order.
    send(&nereus, [1, 1, 1, 2]);
    nereus.wait("two repeats", |nereus| {
        let decided =
            nereus.metric("nereus_events_deduplicated_total") + nereus.metric("nereus_events_stored_total");
        (decided == 4.0).then_some(())
    });
    assert_eq!(nereus.metric("nereus_events_deduplicated_total"), 2.0);
    assert_eq!(nereus.json("/api/v1/events")["events"].as_array().unwrap().len(), 2);
    assert!(nereus.stop().success());
    let nereus = Nereus::start(folder.path(), &settings);
    assert_eq!(alert(&nereus, "1", false).unwrap()["count"], 3);
    assert_eq!(alert(&nereus, "2", false).unwrap()["count"], 1);
}

#[test]
fn the_stream_pushes_what_is_asked_for_as_it_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), RULES);
    send(&nereus, [2]);
    wait_for_events(&nereus, 1);
    for wrong in ["since=1h", "limit=5", "severity=bad", "nothing=1"] {
        assert_eq!(nereus.get(&format!("/api/v1/events/stream?{wrong}")).0, 400, "{wrong}");
    }
    let mut stream = TcpStream::connect(nereus.admin).unwrap();
    stream.set_read_timeout(Some(program::PATIENCE)).unwrap();
    let path = "/api/v1/events/stream?severity=major&source=127.0.0.0/8&where=ifIndex%3D2";
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/x-ndjson"), "{head}");
    // Chunks are of whole lines: sizes and line ends between them are no JSON.
    let mut next = || {
        loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the stream has ended");
            if line.starts_with('{') {
                return serde_json::from_str::<Value>(&line).unwrap();
            }
        }
    };
    send(&nereus, [3, 2]);
    // While the connection stays open.
    let first = next();
    send(&nereus, [2]);
    let second = next();
    wait_for_events(&nereus, 4);
    let stored = nereus.json("/api/v1/events?where=ifIndex%3D2");
    // The first trap came before the stream.
    assert_eq!([&stored["events"][0], &stored["events"][1]], [&second, &first]);
    assert_eq!(stored["events"].as_array().unwrap().len(), 3);
    assert!(nereus.stop().success(), "it holds no stop up");
}

#[test]
fn tail_shows_what_comes_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), RULES);
    send(&nereus, [1]);
    wait_for_events(&nereus, 1);
    let mut tail = Command::new(env!("CARGO_BIN_EXE_nereus"))
        .args(["tail", "--json", "--count", "2", "--where", "ifIndex=3"])
        .args(["--admin", &format!("http://{}", nereus.admin)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It begins somewhere between these: until it has ended, more of the same kind come.
    let mut sent = 1;
    nereus.wait("the end of the tail", |nereus| {
        send(nereus, [3, 2]);
        sent += 2;
        wait_for_events(nereus, sent);
        tail.try_wait().unwrap()
    });
    let output = tail.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2, "{text}");
    assert!(events[0]["id"].as_u64() < events[1]["id"].as_u64(), "the oldest first");
    // Nothing between them is left out.
    let all = nereus.json("/api/v1/events?limit=10000&where=ifIndex%3D3");
    let ids: Vec<u64> = all["events"].as_array().unwrap().iter().map(|e| e["id"].as_u64().unwrap()).collect();
    let at = ids.iter().position(|id| Some(*id) == events[1]["id"].as_u64()).unwrap();
    assert_eq!(Some(ids[at + 1]), events[0]["id"].as_u64());
    // `after` ends where it says.
    let after = nereus.json(&format!("/api/v1/events?limit=1&after={}", ids[at + 1]));
    assert!(after["events"][0]["id"].as_u64() > Some(ids[at + 1]));
    let none = nereus.json(&format!("/api/v1/events?after={}", u64::MAX >> 1));
    assert_eq!((none["events"].as_array().unwrap().len(), &none["next"]), (0, &Value::Null));
}
