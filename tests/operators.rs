//! What operators do with a running Nereus, by its command line: search and export events.

#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::net::UdpSocket;
use std::process::{Command, Stdio};

use program::Nereus;
use serde_json::Value;

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
