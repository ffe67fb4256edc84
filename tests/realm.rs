//! Two networks with the same addresses, at the built program: a listener for each, and nothing of one is taken for the
//! other's.

#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::net::{SocketAddr, UdpSocket};

use program::Nereus;
use serde_json::Value;

const SETTINGS: &str = "
listener: [{address: '127.0.0.1:0', receivers: 1}, {address: '127.0.0.2:0', receivers: 1, realm: branch}]
rules:
  - {name: link, match: {trap: linkDown}, alert: Down, key: [source, ifIndex], cleared_by: linkUp, labels: {realm: '{{ realm }}'}}
";

fn open(nereus: &Nereus) -> Vec<String> {
    let alerts = nereus.json("/api/v1/alerts");
    let mut open: Vec<String> = alerts["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| {
            let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", label("source"), label("realm"), alert["state"].as_str().unwrap())
        })
        .collect();
    open.sort();
    open
}

fn sources(nereus: &Nereus, query: &str) -> Vec<String> {
    let events = nereus.json(&format!("/api/v1/events?{query}"));
    let events = events["events"].as_array().unwrap();
    events.iter().map(|event: &Value| event["source"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_one_network_sends_neither_ends_nor_repeats_what_the_other_has() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), SETTINGS);
    let status = nereus.json("/api/v1/status");
    let listeners: Vec<SocketAddr> = status["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| listener.as_str().unwrap().parse().unwrap())
        .collect();
    // One address for both: as where each network is behind a tunnel of its own.
    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |listener: usize, octets: &[u8]| {
        device.send_to(octets, listeners[listener]).unwrap();
    };
    let until = |nereus: &Nereus, expected: &[&str]| {
        nereus.wait(&format!("{expected:?}"), |nereus| (open(nereus) == expected).then_some(()));
    };
    send(0, &trap::link_down(1, "public"));
    send(1, &trap::link_down(1, "public"));
    until(&nereus, &["127.0.0.1 default firing", "branch/127.0.0.1 branch firing"]);
    send(0, &trap::link_up(1, "public"));
    until(&nereus, &["branch/127.0.0.1 branch firing"]);

    // Questions and mutes mean one of them.
    assert_eq!(sources(&nereus, "source=127.0.0.1"), ["127.0.0.1", "127.0.0.1"]);
    assert_eq!(sources(&nereus, "source=branch/127.0.0.0/8"), ["branch/127.0.0.1"]);
    assert_eq!(sources(&nereus, "limit=10").len(), 3);
    let mute = |source: &str| {
        let path = format!("/api/v1/mutes?source={source}&for=1h&comment=x&by=test");
        let (status, body) = program::http(nereus.admin, "POST", &path, "");
        assert_eq!(status, 200, "{body}");
    };
    let muted = |nereus: &Nereus| {
        let alerts = nereus.json("/api/v1/alerts");
        let alerts = alerts["alerts"].as_array().unwrap().clone();
        alerts.iter().filter(|alert| !alert["muted_by"].is_null()).count()
    };
    mute("127.0.0.0/8");
    assert_eq!(muted(&nereus), 0);
    mute("branch/127.0.0.0/8");
    nereus.wait("it is muted", |nereus| (muted(nereus) == 1).then_some(()));

    // What is open is known again after a restart, and ends by its own device alone.
    assert!(nereus.stop().success());
    let nereus = Nereus::start(folder.path(), SETTINGS);
    let status = nereus.json("/api/v1/status");
    let listener =
        |place: usize| -> SocketAddr { status["listeners"][place].as_str().unwrap().parse().unwrap() };
    device.send_to(&trap::link_up(1, "public"), listener(0)).unwrap();
    nereus.wait("it is stored", |nereus| (sources(nereus, "limit=10").len() == 4).then_some(()));
    until(&nereus, &["branch/127.0.0.1 branch firing"]);
    device.send_to(&trap::link_up(1, "public"), listener(1)).unwrap();
    until(&nereus, &[]);
    assert!(nereus.stop().success());
}
