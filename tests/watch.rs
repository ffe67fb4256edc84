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

/// Storm and silence carry the name that `source.canonical` gives the device, so that a mute by name concerns them;
/// what is open goes on under the name that the device gets.
#[test]
fn what_no_rule_raises_is_called_as_its_device() {
    let folder = tempfile::tempdir().unwrap();
    let table = |silent: &str| {
        let text = format!("source,name\n127.0.0.1,core-1\n192.0.2.1,{silent}\n");
        std::fs::write(folder.path().join("devices.csv"), text).unwrap();
    };
    let plain = format!(
        "{STORM}lookups: [{{name: device, file: devices.csv, key: source}}]\n\
         heartbeats: [{{name: lab, source: 192.0.2.1, within: 1s}}]\n"
    );
    let named = format!("{plain}source: {{canonical: {{lookup: device, column: name}}}}\n");
    let reload = |nereus: &Nereus| assert_eq!(program::http(nereus.admin, "POST", "/reload", "").0, 200);
    let firing = |nereus: &Nereus, alert: &str, source: &str| {
        nereus.wait(&format!("{alert} of {source} alone"), |nereus| {
            let mut open = alerts(nereus, alert);
            open.retain(|alert| alert["state"] == "firing");
            (open.len() == 1 && open[0]["labels"]["source"] == source).then(|| open.remove(0))
        })
    };
    table("ups-1");
    let nereus = Nereus::start(folder.path(), &plain);
    send(&nereus, 1..=20);
    wait_for_events(&nereus, 20);
    firing(&nereus, "AlertStorm", "127.0.0.1");
    firing(&nereus, "DeviceSilent", "192.0.2.1");
    Nereus::configure(folder.path(), &named);
    reload(&nereus);
    assert_eq!(firing(&nereus, "AlertStorm", "core-1")["count"], 15);
    let silent = firing(&nereus, "DeviceSilent", "ups-1");
    let summary = silent["annotations"]["summary"].as_str().unwrap();
    assert!(summary.starts_with("ups-1 (192.0.2.1) has sent nothing"), "{summary}");
    for (alert, number) in [("AlertStorm", 2), ("DeviceSilent", 2)] {
        let all = alerts(&nereus, alert);
        let ended = all.iter().filter(|alert| alert["resolved_by"] == "reload").count();
        assert_eq!((all.len(), ended), (number, 1), "{all:?}");
    }
    let mute = program::http(nereus.admin, "POST", "/api/v1/mutes?source=ups-1&for=1h&comment=x&by=test", "");
    assert_eq!(mute.0, 200, "{}", mute.1);
    nereus.wait("the mute", |nereus| {
        firing(nereus, "DeviceSilent", "ups-1")["muted_by"].is_number().then_some(())
    });
    // Another name in the table alone, over a restart and by a reload.
    nereus.kill();
    table("ups-2");
    let nereus = Nereus::start(folder.path(), &named);
    firing(&nereus, "DeviceSilent", "ups-2");
    firing(&nereus, "AlertStorm", "core-1");
    table("ups-3");
    reload(&nereus);
    firing(&nereus, "DeviceSilent", "ups-3");
    // A name that a heartbeat means must be there.
    Nereus::configure(folder.path(), &named.replace("source: 192.0.2.1", "source: [ups-3, 192.0.2.1]"));
    reload(&nereus);
    firing(&nereus, "DeviceSilent", "ups-3");
    table("ups-4");
    let (status, body) = program::http(nereus.admin, "POST", "/reload", "");
    assert!(status == 422 && body.contains("no device is called so in `device.name`"), "{status} {body}");
}
