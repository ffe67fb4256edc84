//! Delivery of a running Nereus: dead letters by command line, kill -9 with posts in flight, hostile endpoints
//! beside a good one, and no secret anywhere.

#[path = "common/hostile.rs"]
mod hostile;
#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hostile::{Behaviour, Endpoint};
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

fn webhook(name: &str, url: &str, more: &str) -> String {
    format!(
        "  - name: {name}\n    url: {url}\n    format: json\n    timeout: 1s\n    batch: {{max: 1, wait: 0s}}\n    \
         retry: {{attempts: 1000, initial: 10ms, max: 50ms}}\n    breaker: {{failures: 1000, pause: 10ms}}\n{more}"
    )
}

fn letters(nereus: &Nereus) -> Vec<Value> {
    let answer = nereus.json("/api/v1/dead-letters?limit=10000");
    answer["dead_letters"].as_array().unwrap().clone()
}

#[test]
fn dead_letters_are_listed_shown_sent_again_and_purged_and_survive() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(Behaviour::Status(404));
    let settings = |url: &str| format!("{RULES}webhooks:\n{}", webhook("tickets", url, ""));
    let nereus = Nereus::start(folder.path(), &settings(&endpoint.url()));
    send(&nereus, 1..=5);
    nereus.wait("five dead letters", |nereus| (letters(nereus).len() == 5).then_some(()));
    assert_eq!(nereus.metric("nereus_dead_letters"), 5.0);

    // They survive a kill, a restart and a reload.
    nereus.kill();
    let file = Nereus::configure(folder.path(), &settings(&endpoint.url()));
    let nereus = Nereus::run(folder.path(), &["-c".to_owned(), file.display().to_string()]);
    assert_eq!(letters(&nereus).len(), 5);
    Nereus::configure(folder.path(), &settings(&format!("{}again", endpoint.url())));
    let (code, _, err) = ask(&nereus, &["reload", "--type", "webhook"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(letters(&nereus).len(), 5);

    let (code, out, err) = ask(&nereus, &["dead-letters", "--json"]);
    assert_eq!(code, 0, "{err}");
    let listed: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), 5);
    assert!(
        listed.iter().all(|letter| letter["reason"] == "404 Not Found" && letter["webhook"] == "tickets")
    );
    let id = listed[0]["id"].to_string();
    let (code, out, _) = ask(&nereus, &["dead-letters", "show", &id]);
    assert_eq!(code, 0);
    assert!(out.contains("InterfaceDown") && out.contains("404 Not Found"), "{out}");
    let (code, _, err) = ask(&nereus, &["dead-letters", "show", "999999"]);
    assert_eq!(code, 3);
    assert!(err.contains("there is no dead letter 999999"), "{err}");
    assert_eq!(ask(&nereus, &["dead-letters", "resend"]).0, 2, "which?");

    // The endpoint is repaired: one alone, then the rest.
    endpoint.behave(Behaviour::Status(200));
    endpoint.forget();
    let (code, out, err) = ask(&nereus, &["dead-letters", "resend", &id]);
    assert_eq!((code, out.trim()), (0, "1 dead letters queued again"), "{err}");
    nereus.wait("it is posted", |_| (endpoint.alerts().len() == 1).then_some(()));
    assert_eq!(endpoint.alerts()[0]["id"], listed[0]["alert"]["id"], "under the same number");
    let (_, out, _) = ask(&nereus, &["dead-letters", "purge", &listed[1]["id"].to_string(), "--json"]);
    assert_eq!(out.trim(), r#"{"done":1}"#);
    let (code, out, _) = ask(&nereus, &["dead-letters", "resend", "--webhook", "tickets"]);
    assert_eq!((code, out.trim()), (0, "3 dead letters queued again"));
    nereus.wait("the rest is posted", |_| (endpoint.alerts().len() == 4).then_some(()));
    assert!(letters(&nereus).is_empty());
    assert_eq!(nereus.metric("nereus_dead_letters"), 0.0);

    // Of a webhook that is gone they can be purged, not sent.
    endpoint.behave(Behaviour::Status(404));
    send(&nereus, 6..=6);
    nereus.wait("one more", |nereus| (letters(nereus).len() == 1).then_some(()));
    Nereus::configure(folder.path(), RULES);
    assert_eq!(ask(&nereus, &["reload"]).0, 0);
    let (code, _, err) = ask(&nereus, &["dead-letters", "resend", "--all"]);
    assert_eq!(code, 1);
    assert!(err.contains("no webhook `tickets`"), "{err}");
    assert_eq!(ask(&nereus, &["dead-letters", "purge", "--all"]).0, 0);
    assert!(letters(&nereus).is_empty());
    assert_eq!(nereus.get("/api/v1/dead-letters/purge").0, 405, "a change is POST alone");
}

#[test]
fn what_is_committed_is_delivered_though_nereus_is_killed_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    // Every third post fails, so that retries are in flight whenever it is killed.
    let endpoint = Endpoint::start(Behaviour::EveryThirdFails);
    let more = "    concurrency: 4\n";
    let settings = format!("{RULES}webhooks:\n{}", webhook("hook", &endpoint.url(), more));
    let mut next = 0;
    for round in 0_u64..4 {
        let nereus = Nereus::start(folder.path(), &settings);
        for burst in 0..4 {
            send(&nereus, next + 1..=next + 25);
            next += 25;
            std::thread::sleep(Duration::from_millis(20 + (round * 37 + burst * 11) % 60));
        }
        nereus.kill();
    }
    let nereus = Nereus::start(folder.path(), &settings);
    let committed = || -> BTreeSet<u64> {
        let alerts = nereus.json("/api/v1/alerts?limit=10000");
        alerts["alerts"].as_array().unwrap().iter().map(|alert| alert["id"].as_u64().unwrap()).collect()
    };
    nereus.wait("everything committed is delivered", |_| {
        let told: BTreeSet<u64> =
            endpoint.alerts().iter().map(|alert| alert["id"].as_u64().unwrap()).collect();
        committed().is_subset(&told).then_some(())
    });
    nereus.wait("the queue is empty", |nereus| (nereus.json("/api/v1/status")["outbox"] == 0).then_some(()));
    assert!(committed().len() >= 100, "{} alerts were committed", committed().len());
    // What came twice came as the same: number, change and contents.
    let mut first: BTreeMap<(u64, u64), Value> = BTreeMap::new();
    for alert in endpoint.alerts() {
        let key = (alert["id"].as_u64().unwrap(), alert["change"].as_u64().unwrap());
        let known = first.entry(key).or_insert_with(|| alert.clone());
        assert_eq!((&known["labels"], &known["state"]), (&alert["labels"], &alert["state"]));
    }
    assert!(letters(&nereus).is_empty(), "{:?}", letters(&nereus));
}

#[test]
fn hostile_endpoints_delay_no_other_and_secrets_stay_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let good = Endpoint::start(Behaviour::Status(200));
    let refusing = format!("http://{}/planted-path", hostile::nobody());
    let hostile: Vec<_> = [
        Behaviour::Hang,
        Behaviour::OneOctetASecond,
        Behaviour::Status(500),
        Behaviour::TooManyRequests,
        Behaviour::Status(400),
        Behaviour::Redirect(good.url()),
        Behaviour::CutBody,
        Behaviour::EndlessBody,
        Behaviour::Echo,
    ]
    .map(Endpoint::start)
    .into();
    let secrets = "    headers: {X-Key: planted-header}\n    auth: {user: planted-user, password: planted-password}\n    \
                   signing: {secret: planted-signing}\n";
    let token = "?token=planted-query";
    let mut settings = format!("{RULES}webhooks:\n{}", webhook("good", &good.url(), ""));
    for (number, endpoint) in hostile.iter().enumerate() {
        settings +=
            &webhook(&format!("bad-{number}"), &format!("{}planted-path{token}", endpoint.url()), secrets);
    }
    settings += &webhook("refuses", &refusing, secrets);
    // TLS to one that speaks none.
    settings += &webhook("no-tls", &hostile[2].url().replace("http:", "https:"), secrets);
    let mut nereus = Nereus::start(folder.path(), &settings);
    for interface in 1..=60 {
        send(&nereus, [interface]);
        nereus.wait("the good one has it", |_| (good.alerts().len() as u32 >= interface).then_some(()));
    }
    assert!(hostile.iter().filter(|endpoint| endpoint.posts.load(Ordering::SeqCst) > 0).count() >= 8);
    // Redirects were not followed: the good one has each alert once.
    assert_eq!(good.alerts().len(), 60);
    nereus.wait("dead letters of 400, 3xx and the echo", |nereus| {
        let of: BTreeSet<String> =
            letters(nereus).iter().map(|letter| letter["webhook"].to_string()).collect();
        (of.len() >= 3).then_some(())
    });
    let (_, webhooks, _) = ask(&nereus, &["webhooks", "--json"]);
    assert_eq!(webhooks.lines().count(), 12);
    let mut everything = webhooks;
    for path in [
        "/metrics",
        "/api/v1/webhooks",
        "/api/v1/dead-letters?limit=10000",
        "/api/v1/status",
        "/api/v1/alerts",
        "/debug/reload/events",
    ] {
        everything += &nereus.get(path).1;
    }
    for command in [["webhooks"], ["dead-letters"], ["status"]] {
        let (_, out, err) = ask(&nereus, &command);
        everything += &out;
        everything += &err;
    }
    nereus.read_log();
    everything += &nereus.log.join("\n");
    // Base64 of the Basic pair, too.
    for secret in [
        "planted-path",
        "planted-query",
        "planted-header",
        "planted-password",
        "planted-signing",
        "cGxhbnRlZC",
    ] {
        assert!(!everything.contains(secret), "{secret} is shown");
    }
    // The end is bounded though posts hang.
    assert!(nereus.stop().success());
}

#[test]
fn prometheus_takes_the_rules_about_nereus() {
    let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus/nereus.rules.yaml");
    let checked = Command::new("promtool").args(["check", "rules"]).arg(&rules).output();
    let checked = match checked {
        Ok(checked) => checked,
        Err(error) => {
            assert!(std::env::var_os("NEREUS_REQUIRE_PEERS").is_none(), "promtool: {error}");
            return;
        }
    };
    let said =
        String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.contains("SUCCESS"), "{said}");
    // Every metric that they name is there.
    let text = std::fs::read_to_string(rules).unwrap();
    let metrics = nereus::metrics::Metrics::new();
    metrics.webhook_oldest_seconds.with_label_values(&["a"]);
    metrics.webhook_breaker_state.with_label_values(&["a"]);
    metrics.dead_letters.with_label_values(&["a"]);
    metrics.webhook_dropped.with_label_values(&["a"]);
    metrics.webhook_events_lost.with_label_values(&["a"]);
    metrics.kernel_drops.with_label_values(&["a"]);
    let known = metrics.render().unwrap();
    let mut named = 0;
    for line in text.lines().filter(|line| line.trim_start().starts_with("expr:")) {
        for word in
            line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("nereus_"))
        {
            assert!(known.contains(&format!("# TYPE {word} ")), "{word} is no metric");
            named += 1;
        }
    }
    assert!(named >= 10);
}
