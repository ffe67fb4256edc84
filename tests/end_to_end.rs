//! From outside: the built program, net-snmp's `snmptrap` and a real Alertmanager, on free ports.
#![allow(clippy::print_stderr, reason = "what is skipped or measured is said")]

#[path = "common/peers.rs"]
mod peers;
#[path = "common/nereus.rs"]
mod program;
#[path = "common/sink.rs"]
mod sink;
#[path = "common/trap.rs"]
mod trap;

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use peers::Alertmanager;
use program::{Nereus, metric_sum};
use serde_json::Value;
use sink::Sink;

const LINK_RULE: &str = "
access: {communities: [public]}
rules:
  - name: link
    match: {trap: IF-MIB::linkDown, when: {ifAdminStatus: up}}
    alert: InterfaceDown
    severity: major
    key: [source, ifIndex]
    cleared_by: IF-MIB::linkUp
    labels: {team: noc}
    annotations: {summary: '{{ ifDescr }} is {{ ifOperStatus }}'}
";

/// net-snmp's sender. Numeric OIDs and `-m ''`, since no MIB files need to be installed.
struct SnmpTrap(PathBuf);

impl SnmpTrap {
    fn find() -> Option<Self> {
        peers::find(&["snmptrap"]).map(Self)
    }

    fn send(&self, arguments: &[&str]) {
        let output = Command::new(&self.0)
            .args(["-m", "", "-M", "", "-c", "public"])
            .args(arguments)
            .env("SNMPCONFPATH", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn v2c(&self, to: SocketAddr, trap: u32, interface: u32) {
        let [index, admin, oper, descr] = link_objects(interface);
        let (to, trap) = (address(to), format!("1.3.6.1.6.3.1.1.5.{trap}"));
        let [number, name] = [interface.to_string(), format!("Gi0/{interface}")];
        let varbinds = [&index, "i", &number, &admin, "i", "1", &oper, "i", "2", &descr, "s", &name];
        self.send(&[&["-v", "2c", &to, "", &trap], &varbinds[..]].concat());
    }

    /// `generic` is 2 for linkDown and 3 for linkUp.
    fn v1(&self, to: SocketAddr, agent: &str, generic: u32, interface: u32) {
        let [index, admin, oper, descr] = link_objects(interface);
        let (to, generic) = (address(to), generic.to_string());
        let [number, name] = [interface.to_string(), format!("Gi0/{interface}")];
        let varbinds = [&index, "i", &number, &admin, "i", "1", &oper, "i", "2", &descr, "s", &name];
        let head = ["-v", "1", &to, "1.3.6.1.4.1.8072.3.2.10", agent, &generic, "0", ""];
        self.send(&[&head[..], &varbinds[..]].concat());
    }
}

fn link_objects(interface: u32) -> [String; 4] {
    [1, 7, 8, 2].map(|column| format!("1.3.6.1.2.1.2.2.1.{column}.{interface}"))
}

/// As net-snmp writes addresses.
fn address(to: SocketAddr) -> String {
    if to.is_ipv6() { format!("udp6:{to}") } else { format!("udp:{to}") }
}

/// The label `name` of each alert of Alertmanager, in order.
fn labels(alerts: &[Value], name: &str) -> Vec<String> {
    let mut labels: Vec<_> =
        alerts.iter().map(|alert| alert["labels"][name].as_str().unwrap_or_default().to_owned()).collect();
    labels.sort();
    labels
}

fn open_alerts(nereus: &Nereus) -> Vec<Value> {
    nereus.json("/api/v1/alerts")["alerts"].as_array().unwrap().clone()
}

/// Waits until so many events are committed.
fn wait_for_events(nereus: &Nereus, number: usize) -> Vec<Value> {
    nereus.wait(&format!("{number} events"), |nereus| {
        let events = nereus.json("/api/v1/events?limit=10000")["events"].as_array().unwrap().clone();
        assert!(events.len() <= number, "{} events for {number}", events.len());
        (events.len() == number).then_some(events)
    })
}

#[test]
fn link_traps_fire_and_clear_in_alertmanager_across_restarts() {
    let (Some(snmptrap), Some(alertmanager)) = (SnmpTrap::find(), Alertmanager::start()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "{LINK_RULE}webhooks:\n  - {{name: alertmanager, url: '{}', format: alertmanager}}\n",
        alertmanager.url()
    );

    let nereus = Nereus::start(folder.path(), &settings);
    snmptrap.v1(nereus.traps, "127.0.0.1", 2, 1);
    snmptrap.v2c(nereus.traps, 3, 2);
    let firing = alertmanager.until("two interfaces are two alerts", |alerts| alerts.len() == 2);
    assert_eq!(labels(&firing, "ifIndex"), ["1", "2"]);
    for alert in &firing {
        let labels = &alert["labels"];
        assert_eq!(labels["alertname"], "InterfaceDown");
        assert_eq!(labels["severity"], "major");
        assert_eq!(labels["source"], "127.0.0.1");
        assert_eq!(labels["team"], "noc");
        assert_eq!(alert["status"]["state"], "active");
        let summary = format!("Gi0/{} is down", labels["ifIndex"].as_str().unwrap());
        assert_eq!(alert["annotations"]["summary"], summary.as_str());
    }
    // The key is the resource: what SNMPv1 opened SNMPv2c ends.
    snmptrap.v2c(nereus.traps, 4, 1);
    let firing = alertmanager.until("linkUp resolves one", |alerts| alerts.len() == 1);
    assert_eq!(labels(&firing, "ifIndex"), ["2"]);
    snmptrap.v2c(nereus.traps, 3, 3);
    alertmanager.until("a third interface", |alerts| labels(alerts, "ifIndex") == ["2", "3"]);
    let before = open_alerts(&nereus);
    assert!(nereus.stop().success());

    let nereus = Nereus::start(folder.path(), &settings);
    assert_eq!(open_alerts(&nereus), before, "alerts survive SIGTERM as they were");
    snmptrap.v1(nereus.traps, "127.0.0.1", 3, 2);
    alertmanager.until("linkUp after a restart resolves", |alerts| labels(alerts, "ifIndex") == ["3"]);
    snmptrap.v2c(nereus.traps, 3, 4);
    wait_for_events(&nereus, 6);
    // At once after the commit: the derived state may be behind, and is made again from the journal.
    nereus.kill();

    let nereus = Nereus::start(folder.path(), &settings);
    let numbers = labels(&open_alerts(&nereus), "ifIndex");
    assert_eq!(numbers, ["3", "4"], "alerts survive kill -9");
    alertmanager.until("what was committed before kill -9 is delivered", |alerts| {
        labels(alerts, "ifIndex") == ["3", "4"]
    });
    snmptrap.v2c(nereus.traps, 4, 3);
    snmptrap.v2c(nereus.traps, 4, 4);
    alertmanager.until("linkUp after kill -9 resolves", |alerts| alerts.is_empty());
    assert_eq!(wait_for_events(&nereus, 8).len(), 8);
    assert!(nereus.stop().success());
}

#[test]
fn the_embedded_rules_and_a_json_webhook_need_no_rule_and_no_mib() {
    let Some(snmptrap) = SnmpTrap::find() else { return };
    let sink = Sink::start();
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "webhooks:\n  - {{name: log, url: '{}', format: json, batch: {{max: 1, wait: 1ms}}}}\n",
        sink.url()
    );
    let nereus = Nereus::start(folder.path(), &settings);
    snmptrap.v2c(nereus.traps, 3, 7);
    let body = sink.next_json();
    assert_eq!((&body["version"], &body["webhook"]), (&Value::from(1), &Value::from("log")));
    let alert = &body["alerts"][0];
    assert_eq!((&alert["alert"], &alert["state"]), (&Value::from("InterfaceDown"), &Value::from("firing")));
    assert_eq!((&alert["severity"], &alert["count"]), (&Value::from("major"), &Value::from(1)));
    let event = &alert["event"];
    assert_eq!(event["trap_name"], "IF-MIB::linkDown");
    assert_eq!(event["trap_oid"], "1.3.6.1.6.3.1.1.5.3");
    assert_eq!(event["version"], "v2c");
    let varbinds: Vec<_> = event["varbinds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|varbind| {
            format!("{}.{}={}", varbind["name"], varbind["index"], varbind["text"]).replace('"', "")
        })
        .collect();
    assert_eq!(
        varbinds,
        [
            "IF-MIB::ifIndex.7=7",
            "IF-MIB::ifAdminStatus.7=up",
            "IF-MIB::ifOperStatus.7=down",
            "IF-MIB::ifDescr.7=Gi0/7"
        ]
    );

    snmptrap.v1(nereus.traps, "127.0.0.1", 3, 7);
    let body = sink.next_json();
    let resolved = &body["alerts"][0];
    assert_eq!((&resolved["id"], &resolved["state"]), (&alert["id"], &Value::from("resolved")));
    assert_eq!(resolved["event"]["trap_name"], "IF-MIB::linkUp", "the last event of the alert");
    assert_eq!(resolved["event"]["version"], "v1");
    assert!(nereus.stop().success());
}

#[test]
fn both_address_families_receive_side_by_side() {
    let Some(snmptrap) = SnmpTrap::find() else { return };
    if UdpSocket::bind("[::1]:0").is_err() {
        assert!(!required(), "NEREUS_REQUIRE_PEERS=1, and there is no IPv6 loopback");
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let settings = "listener: [{address: '[::1]:0', receivers: 1}, {address: '127.0.0.1:0', receivers: 1}]\n";
    let nereus = Nereus::start(folder.path(), settings);
    assert!(nereus.traps.is_ipv6());
    snmptrap.v2c(nereus.traps, 3, 1);
    let events = wait_for_events(&nereus, 1);
    assert_eq!(events[0]["source"], "::1");
    assert!(events[0]["peer"].as_str().unwrap().starts_with("[::1]:"), "{}", events[0]["peer"]);
    let status = nereus.json("/api/v1/status");
    let v4 = status["listeners"][1].as_str().unwrap().parse().unwrap();
    snmptrap.v1(v4, "192.0.2.1", 2, 2);
    let events = wait_for_events(&nereus, 2);
    assert_eq!(events[0]["source"], "127.0.0.1", "nobody vouches for that agent-addr");
    let labels: Vec<_> = open_alerts(&nereus)
        .iter()
        .map(|alert| alert["labels"]["source"].as_str().unwrap().to_owned())
        .collect();
    assert!(labels.contains(&"::1".to_owned()) && labels.contains(&"127.0.0.1".to_owned()), "{labels:?}");
}

#[test]
fn allow_communities_and_relays_are_seen_in_metrics_and_events() {
    let Some(snmptrap) = SnmpTrap::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = "
listener: [{address: '127.0.0.1:0', receivers: 2, allow: [127.0.0.1/32, 127.0.0.3/32]}]
access: {communities: [{name: core, community: public}]}
source: {trusted_relays: [127.0.0.3]}
";
    let nereus = Nereus::start(folder.path(), settings);
    let to = nereus.traps;
    let dropped = |reason: &str| {
        let (_, text) = nereus.get("/metrics");
        metric_sum(
            &text.replace(&format!("{{reason=\"{reason}\"}}"), &format!("_{reason}")),
            &format!("nereus_traps_dropped_total_{reason}"),
        )
    };

    // A stranger, and a friend with a wrong community.
    let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
    stranger.send_to(&trap::link_down(1, "public"), to).unwrap();
    nereus.wait("a refusal by address", |_| (dropped("not_allowed") == 1.0).then_some(()));
    let friend = UdpSocket::bind("127.0.0.1:0").unwrap();
    friend.send_to(&trap::link_down(1, "planted-community"), to).unwrap();
    nereus.wait("a refusal by community", |_| (dropped("bad_community") == 1.0).then_some(()));
    assert_eq!(nereus.metric("nereus_traps_processed_total"), 0.0);

    // The same agent-addr from somebody who is not trusted, then from the relay.
    snmptrap.v1(to, "192.0.2.7", 2, 1);
    let direct = wait_for_events(&nereus, 1);
    assert_eq!(direct[0]["source"], "127.0.0.1");
    let relay = UdpSocket::bind("127.0.0.3:0").unwrap();
    relay.send_to(&trap::v1_link_down(2, [192, 0, 2, 7]), to).unwrap();
    let relayed = wait_for_events(&nereus, 2);
    assert_eq!(relayed[0]["source"], "192.0.2.7");
    assert!(relayed[0]["peer"].as_str().unwrap().starts_with("127.0.0.3:"), "{}", relayed[0]["peer"]);
    relay.send_to(&trap::link_down_with_address(3, [192, 0, 2, 8]), to).unwrap();
    assert_eq!(
        wait_for_events(&nereus, 3)[0]["source"],
        "192.0.2.8",
        "snmpTrapAddress.0 of a relay is believed"
    );
    // Two devices behind one relay are two resources.
    let sources =
        open_alerts(&nereus).iter().map(|alert| alert["labels"]["source"].clone()).collect::<Vec<_>>();
    assert_eq!(sources.len(), 3, "{sources:?}");

    assert_eq!(nereus.metric("nereus_traps_received_total"), 5.0);
    assert_eq!(nereus.metric("nereus_traps_processed_total"), 3.0);
    assert_eq!(nereus.metric("nereus_traps_dropped_total"), 2.0);
    for path in ["/metrics", "/api/v1/status", "/api/v1/events", "/api/v1/alerts"] {
        let (_, body) = nereus.get(path);
        assert!(!body.contains("planted-community") && !body.contains("public"), "{path} shows a community");
    }
    let mut nereus = nereus;
    nereus.read_log();
    assert!(!nereus.log.iter().any(|line| line.contains("planted-community")), "the log shows a community");
}

/// What the kernel gives a socket of the listener, from the warning about it if there is one.
fn granted_buffer(nereus: &Nereus) -> usize {
    let granted = nereus
        .log
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|line| line["granted"].as_u64());
    usize::try_from(granted.unwrap_or(32 << 20)).unwrap()
}

fn stop_under_load(settings: &str, check: impl Fn(&Nereus, usize)) {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), settings);
    // All of it fits into the socket even if no receiver gets a processor meanwhile (an skb counts with
    // its overhead): what the kernel drops is not what is asked here.
    let number = (granted_buffer(&nereus) / 4096).min(5000);
    assert!(number >= 50);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(nereus.traps).unwrap();
    for interface in 1..=number {
        sender.send(&trap::link_down(u32::try_from(interface).unwrap(), "public")).unwrap();
    }
    assert!(nereus.stop().success());
    let nereus = Nereus::start(folder.path(), settings);
    check(&nereus, number);
}

#[test]
fn a_graceful_stop_loses_no_event() {
    stop_under_load("unmatched: store\n", |nereus, number| {
        let events = nereus.json("/api/v1/events?limit=10000")["events"].as_array().unwrap().clone();
        assert_eq!(events.len(), number);
        let mut interfaces: Vec<_> =
            events.iter().map(|event| event["varbinds"][0]["value"].as_u64().unwrap()).collect();
        interfaces.sort_unstable();
        assert_eq!(interfaces, (1..=number as u64).collect::<Vec<_>>());
    });
}

#[test]
fn a_graceful_stop_loses_no_repeat() {
    let settings = "
rules:
  - {name: all, alert: Any, severity: info, key: [source], deduplicate: 1h}
";
    stop_under_load(settings, |nereus, number| {
        let alerts = open_alerts(nereus);
        assert_eq!(alerts.len(), 1);
        assert_eq!(alerts[0]["count"], number, "each repeat is counted on its alert");
    });
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let Some(promtool) = peers::find(&["promtool"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let settings = format!("webhooks:\n  - {{name: log, url: '{}', format: json}}\n", sink.url());
    let nereus = Nereus::start(folder.path(), &settings);
    // Every family has a child by then: an empty one is not rendered, and so not checked.
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(&trap::link_down(1, "public"), nereus.traps).unwrap();
    sink.next_json();
    nereus.wait("a delivery is counted", |nereus| {
        (nereus.metric("nereus_webhooks_delivered_total") > 0.0).then_some(())
    });
    let (_, text) = nereus.get("/metrics");
    assert!(text.contains("nereus_webhook_events_lost_total{webhook=\"log\"} 0"), "{text}");
    let file = folder.path().join("metrics");
    std::fs::write(&file, &text).unwrap();
    let output = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

fn required() -> bool {
    std::env::var_os("NEREUS_REQUIRE_PEERS").is_some_and(|value| value == "1")
}
