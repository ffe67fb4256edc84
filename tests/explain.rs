//! `nereus explain`, of events and datagrams, by a running Nereus and by a configuration.

#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};

use program::Nereus;
use serde_json::Value;

const RULES: &str = "
access: {communities: [{name: core, community: hunter2}]}
reload: {enabled: false}
rules:
  - name: admin-down
    match: {trap: IF-MIB::linkDown, when: {ifAdminStatus: down}}
    drop: true
  - name: link
    match: {trap: IF-MIB::linkDown, community: core}
    alert: InterfaceDown
    severity: major
    key: [source, ifIndex]
    cleared_by: IF-MIB::linkUp
    notify: [log]
  - name: fans
    match: {trap: 1.3.6.1.4.1.9.9.13.*}
    drop: true
webhooks:
  - {name: log, url: 'http://127.0.0.1:9/', format: json}
  - {name: am, url: 'http://127.0.0.1:9/', format: alertmanager}
";

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_nereus"))
        .args(arguments)
        .env_remove("NEREUS_ADMIN_TOKEN")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}:")).collect()
}

#[test]
fn an_event_is_explained_by_the_generation_that_decided_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), RULES);
    let admin = format!("http://{}", nereus.admin);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&trap::link_down(7, "hunter2"), nereus.traps).unwrap();
    let id = nereus.wait("the event", |nereus| {
        nereus.json("/api/v1/events")["events"].get(0).map(|event| event["id"].to_string())
    });
    // What it was decided by is not what runs now.
    Nereus::configure(folder.path(), &RULES.replace("severity: major", "severity: minor"));
    assert_eq!(program::http(nereus.admin, "POST", "/reload", "").0, 200);

    let (code, out, err) = run(&["explain", &id, "--admin", &admin, "--json"]);
    assert_eq!(code, 0, "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["generation"], &told["explained_with"]), (&1.into(), &1.into()));
    assert_eq!(told["event"]["id"].to_string(), id);
    assert_eq!(told["alert"]["state"], "firing");
    let rules = told["rules"]["rules"].as_array().unwrap();
    assert_eq!(rules[0]["why"], "`when`: ifAdminStatus is `up` (1); the rule wants `down`");
    assert_eq!((&rules[1]["rule"], &rules[1]["outcome"]), (&"link".into(), &"matched".into()));
    let file = folder.path().join("nereus.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = 1 + text.lines().position(|line| line.contains("name: link")).unwrap();
    assert_eq!(rules[1]["defined"], format!("{}:{line}", file.display()));
    let effect = &told["rules"]["effects"][0];
    assert_eq!((&effect["severity"], &effect["key"][2]), (&"major".into(), &"7".into()));
    assert_eq!(effect["webhooks"], serde_json::json!([{"name": "log", "told": "events"}]));
    assert_eq!(told["rules"]["definitions"][0]["name"], "IF-MIB::linkDown");
    assert!(!out.contains("hunter2"));

    let (code, out, _) = run(&["explain", &id, "--admin", &admin]);
    assert_eq!(code, 0);
    for part in [
        "IF-MIB::linkDown from 127.0.0.1",
        "decided on by generation 1",
        "1. admin-down",
        "passed over",
        "2. link",
        "effect: raise as major, by link: InterfaceDown 127.0.0.1 7",
        "told to log (events)",
        "is firing now",
        "IF-MIB::ifIndex",
    ] {
        assert!(out.contains(part), "{part} in {out}");
    }
    let (code, _, err) = run(&["explain", "7", "--admin", &admin]);
    assert!(code == 1 && err.contains("no event 7"), "{code} {err}");
}

fn explain_hex(octets: &[u8], with: &[&str]) -> (i32, Value) {
    let hex = hex(octets);
    let (code, out, err) = run(&[&["explain", "--json", "--hex", &hex][..], with].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}")))
}

#[test]
fn a_datagram_is_explained_by_what_runs_and_by_a_file_alike() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), RULES);
    let admin = format!("http://{}", nereus.admin);
    let file = folder.path().join("nereus.yaml");
    let file: &Path = &file;
    let ways = [["--admin", &admin], ["--with", file.to_str().unwrap()]];
    let cut = &trap::link_down(1, "hunter2")[..20];
    for (octets, code, verdict) in [
        (&trap::link_down(1, "hunter2")[..], 0, "accepted"),
        (&trap::link_down(1, "hunter3"), 1, "bad_community"),
        (cut, 1, "truncated"),
    ] {
        let [running, offline] = ways.map(|way| explain_hex(octets, &way));
        assert_eq!((running.0, running.1["verdict"].as_str()), (code, Some(verdict)), "{}", running.1);
        assert_eq!(running, offline);
        assert!(!running.1.to_string().contains("hunter"), "{}", running.1);
    }
    let (_, told) = explain_hex(cut, &ways[0]);
    let step = told["steps"][1].as_str().unwrap();
    assert!(step.starts_with("refused: ") && step.contains("at octet"), "{told}");
    let (code, _) = explain_hex(
        &trap::link_down(1, "hunter2"),
        &["--with", file.to_str().unwrap(), "--peer", "10.9.9.9"],
    );
    assert_eq!(code, 0);
    for wrong in [&["explain"][..], &["explain", "--hex", "3"], &["explain", "7", "--hex", "30"]] {
        assert_eq!(run(&[wrong, &["--admin", &admin]].concat()).0, 2, "{wrong:?}");
    }
    for (query, status) in [("", 400), ("?hex=3", 400), ("?hex=30&who=me", 400), ("?hex=30", 200)] {
        assert_eq!(nereus.get(&format!("/api/v1/explain{query}")).0, status, "{query}");
    }
    assert_eq!(nereus.get("/api/v1/events/x/explain").0, 400);
}
