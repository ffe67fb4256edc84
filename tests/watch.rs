//! Storm control and heartbeats of a running Nereus, through kills and reloads.

#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::net::UdpSocket;

use program::Nereus;
use serde_json::Value;

const STORM: &str = "
access: {communities: [public]}
reload: {enabled: false}
storm: {alerts: 5, per: 1h, hold: 1d, labels: {team: noc}}
";

fn alerts(nereus: &Nereus, name: &str) -> Vec<Value> {
    let alerts = nereus.json("/api/v1/alerts?all=true&limit=10000");
    alerts["alerts"].as_array().unwrap().iter().filter(|alert| alert["alert"] == name).cloned().collect()
}

fn send(nereus: &Nereus, interfaces: impl IntoIterator<Item = u32>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for interface in interfaces {
        socket.send_to(&trap::link_down(interface, "public"), nereus.traps).unwrap();
    }
}

fn wait_for_events(nereus: &Nereus, number: usize) -> Vec<Value> {
    nereus.wait(&format!("{number} events"), |nereus| {
        let events = nereus.json("/api/v1/events?limit=10000")["events"].as_array().unwrap().clone();
        (events.len() >= number).then_some(events)
    })
}

#[test]
fn a_storm_is_one_alert_through_a_kill_and_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), STORM);
    send(&nereus, 1..=20);
    let events = wait_for_events(&nereus, 20);
    let storm = alerts(&nereus, "AlertStorm").remove(0);
    assert_eq!((&storm["state"], &storm["labels"]["team"]), (&"firing".into(), &"noc".into()));
    assert_eq!(alerts(&nereus, "InterfaceDown").len(), 5);
    let held_back = events.iter().filter(|event| event["alert_id"] == storm["id"]).count();
    assert_eq!(held_back, 15, "they are stored, and say where they went");
    nereus.kill();
    let nereus = Nereus::start(folder.path(), STORM);
    let after = alerts(&nereus, "AlertStorm").remove(0);
    assert_eq!(
        (&after["id"], &after["count"], &after["state"]),
        (&storm["id"], &15.into(), &"firing".into())
    );
    send(&nereus, [30]);
    wait_for_events(&nereus, 21);
    assert_eq!(alerts(&nereus, "InterfaceDown").len(), 5, "it goes on");
    // A rule of its name changes nothing; without the section it is over.
    let rule = "rules: [{name: storm, alert: Other, match: {trap: coldStart}}]\n";
    Nereus::configure(folder.path(), &format!("{STORM}{rule}"));
    assert_eq!(program::http(nereus.admin, "POST", "/reload", "").0, 200);
    let without: String =
        STORM.lines().filter(|line| !line.starts_with("storm")).collect::<Vec<_>>().join("\n");
    assert_eq!(alerts(&nereus, "AlertStorm")[0]["state"], "firing");
    Nereus::configure(folder.path(), &format!("{without}\n"));
    assert_eq!(program::http(nereus.admin, "POST", "/reload", "").0, 200);
    nereus.wait("the end of the storm", |nereus| {
        (alerts(nereus, "AlertStorm")[0]["resolved_by"] == "reload").then_some(())
    });
    send(&nereus, [31]);
    nereus.wait("an alert of its own", |nereus| (alerts(nereus, "InterfaceDown").len() == 6).then_some(()));
}

#[test]
fn a_silent_device_is_told_until_it_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "
reload: {enabled: false}
heartbeats:
  - {name: lab, source: [127.0.0.1, 192.0.2.1], within: 1s, alert: LabSilent, severity: minor}
";
    let nereus = Nereus::start(folder.path(), settings);
    let silent = |nereus: &Nereus| {
        nereus.wait("silence", |nereus| {
            let alerts = alerts(nereus, "LabSilent");
            let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
            let sources: std::collections::BTreeSet<_> =
                firing.map(|alert| alert["labels"]["source"].as_str().unwrap().to_owned()).collect();
            (sources.len() == 2).then_some(())
        });
    };
    silent(&nereus);
    nereus.kill();
    let nereus = Nereus::start(folder.path(), settings);
    assert_eq!(alerts(&nereus, "LabSilent").len(), 2, "still open, and no others");
    send(&nereus, [1]);
    let heard = nereus.wait("its end", |nereus| {
        alerts(nereus, "LabSilent").into_iter().find(|alert| alert["resolved_by"] == "heartbeat")
    });
    assert_eq!(
        (&heard["labels"]["source"], &heard["labels"]["heartbeat"]),
        (&"127.0.0.1".into(), &"lab".into())
    );
    silent(&nereus);
}
