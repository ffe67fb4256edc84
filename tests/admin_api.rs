//! The admin address against those who should not use it: nothing they do changes anything, is told a secret,
//! or is in the way of traps and of other requests.
#![allow(clippy::print_stderr, reason = "what is measured is said")]

#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use program::{Nereus, PATIENCE, http, metric_sum};
use serde_json::Value;

/// Every route, and whether it changes something.
const ROUTES: &[(&str, bool)] = &[
    ("/metrics", false),
    ("/health", false),
    ("/ready", false),
    ("/api/v1/status", false),
    ("/api/v1/events", false),
    ("/api/v1/alerts", false),
    ("/debug/reload/events", false),
    ("/debug/reload/components", false),
    ("/debug/reload/generations", false),
    ("/api/v1/alerts/7/ack", true),
    ("/api/v1/alerts/7/close?by=me", true),
    ("/api/v1/mutes/7/end", true),
    ("/api/v1/explain?hex=30", false),
    ("/reload", true),
    ("/debug/reload/trigger?type=config", true),
    ("/debug/reload/trigger?type=all&force=true", true),
    ("/debug/reload/rollback", true),
    ("/debug/reload/rollback?generation=1", true),
];

/// One request with exactly these header lines: its status and all of its answer.
fn ask(admin: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    // A refusal may reset the connection under a body that nobody reads.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

/// What a refused request must not move: the generation and the number of reloads, by the metrics.
fn state(nereus: &Nereus, authorization: &str) -> (u64, u64) {
    let (status, text) =
        ask(nereus.admin, "GET", "/metrics", &format!("Host: localhost\r\n{authorization}"), "");
    assert_eq!(status, 200, "{text}");
    (
        metric_sum(&text, "nereus_snapshot_generation") as u64,
        metric_sum(&text, "nereus_reload_events_total") as u64,
    )
}

/// Whatever is let through would be seen: two generations are kept, and the file holds a third.
fn tempting(folder: &std::path::Path, settings: &str, authorization: &str) -> Nereus {
    let nereus = Nereus::start(folder, &format!("reload: {{enabled: false}}\n{settings}"));
    for unmatched in ["store", "drop"] {
        Nereus::configure(folder, &format!("reload: {{enabled: false}}\nunmatched: {unmatched}\n{settings}"));
        if unmatched == "store" {
            let (status, answer) =
                ask(nereus.admin, "POST", "/reload", &format!("Host: localhost\r\n{authorization}"), "");
            assert_eq!(status, 200, "{answer}");
        }
    }
    nereus
}

#[test]
fn no_page_and_no_foreign_name_reaches_a_route() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = tempting(folder.path(), "", "");
    let before = state(&nereus, "");
    assert_eq!(before, (2, 1));
    let foreign = [
        "Host: 127.0.0.1.evil.com\r\n",
        "Host: evil.com\r\n",
        "Host: localhost.evil.com:9090\r\n",
        "Host: localhost\r\nHost: evil.com\r\n",
        "Host: 0.0.0.0\r\n",
        "",
        "Host: localhost\r\nOrigin: http://evil.com\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nOrigin: http://localhost.evil.com\r\n",
        "Host: localhost\r\nOrigin: http://localhost:1\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        "Host: localhost\r\nSec-Fetch-Site: same-site\r\n",
    ];
    for (path, _) in ROUTES {
        for headers in foreign {
            for method in ["GET", "POST", "HEAD", "OPTIONS"] {
                let (status, answer) = ask(nereus.admin, method, path, headers, "");
                assert!((400..500).contains(&status), "{method} {path} {headers:?}: {answer}");
            }
        }
    }
    assert_eq!(state(&nereus, ""), before);
}

#[test]
fn no_form_and_no_other_method_changes_anything() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = tempting(folder.path(), "", "");
    let before = state(&nereus, "");
    for (path, _) in ROUTES {
        for kind in [
            "text/plain",
            "text/plain;charset=UTF-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=b",
        ] {
            let headers = format!("Host: localhost\r\nContent-Type: {kind}\r\n");
            let (status, answer) = ask(nereus.admin, "POST", path, &headers, "type=all");
            assert_eq!(status, 415, "{path} {kind}: {answer}");
        }
    }
    for (path, changes) in ROUTES {
        let others: &[&str] = if *changes {
            &["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]
        } else {
            &["POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        };
        for method in others {
            let (status, answer) = ask(nereus.admin, method, path, "Host: localhost\r\n", "");
            assert_eq!(status, 405, "{method} {path}: {answer}");
        }
    }
    for wrong in ["/reload/", "/RELOAD", "//reload", "/debug/reload/trigger/config", "/debug/reload"] {
        assert_eq!(ask(nereus.admin, "POST", wrong, "Host: localhost\r\n", "").0, 404, "{wrong}");
    }
    for wrong in ["?type=al", "?tpye=all", "?type=all&force=maybe", "?type=all&type=%ff"] {
        let path = format!("/debug/reload/trigger{wrong}");
        assert_eq!(ask(nereus.admin, "POST", &path, "Host: localhost\r\n", "").0, 400, "{wrong}");
    }
    for wrong in ["?generation=-1", "?generation=x", "?generation=99999999999999999999999", "?generations=1"]
    {
        let path = format!("/debug/reload/rollback{wrong}");
        assert_eq!(ask(nereus.admin, "POST", &path, "Host: localhost\r\n", "").0, 400, "{wrong}");
    }
    assert_eq!(state(&nereus, ""), before);
    // The same request, rightly made, does change something.
    assert_eq!(http(nereus.admin, "POST", "/reload", "").0, 200);
    assert_eq!(state(&nereus, ""), (3, 2));
}

#[test]
fn a_token_opens_what_it_is_for_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let right = "Authorization: Bearer PLANTED-all\r\n";
    let settings = "admin: {address: '127.0.0.1:0', token: PLANTED-all, read_token: PLANTED-read}\n";
    let nereus = tempting(folder.path(), settings, right);
    let before = state(&nereus, right);
    for (path, changes) in ROUTES {
        let method = if *changes { "POST" } else { "GET" };
        let open = matches!(*path, "/health" | "/ready");
        for wrong in [
            "",
            "Authorization: Bearer PLANTED-al\r\n",
            "Authorization: Bearer PLANTED-all2\r\n",
            "Authorization: Basic PLANTED-all\r\n",
            "Authorization: PLANTED-all\r\n",
            "Authorization: Bearer \r\n",
            "Authorization: Bearer x\r\nAuthorization: Bearer PLANTED-all\r\n",
            "Cookie: token=PLANTED-all\r\n",
        ] {
            let (status, answer) =
                ask(nereus.admin, method, path, &format!("Host: localhost\r\n{wrong}"), "");
            assert_eq!(status, if open { 200 } else { 401 }, "{path} {wrong:?}: {answer}");
            assert!(!answer.contains("PLANTED"), "{answer}");
        }
        let (status, answer) =
            ask(nereus.admin, method, path, "Host: localhost\r\nAuthorization: Bearer PLANTED-read\r\n", "");
        assert_eq!(status, if *changes { 403 } else { 200 }, "{path}: {answer}");
        // The right token under a foreign name or from a page is refused all the same.
        for foreign in ["Host: evil.com\r\n", "Host: localhost\r\nOrigin: http://evil.com\r\n"] {
            let (status, answer) = ask(nereus.admin, method, path, &format!("{foreign}{right}"), "");
            assert!((400..500).contains(&status), "{answer}");
        }
    }
    assert_eq!(state(&nereus, right), before);
}

#[test]
fn slow_clients_are_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), "reload: {enabled: false}\nunmatched: store\n");
    let mut slow: Vec<TcpStream> = Vec::new();
    for number in 0..500 {
        let mut stream = TcpStream::connect(nereus.admin).unwrap();
        // Some say nothing, some half a head, some ask and never read.
        let _ = match number % 3 {
            0 => Ok(()),
            1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: local"),
            _ => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        };
        slow.push(stream);
    }
    let (socket, mut slowest) = (UdpSocket::bind("127.0.0.1:0").unwrap(), Duration::ZERO);
    for round in 0..10 {
        for interface in 0..100 {
            socket.send_to(&trap::link_down(round * 100 + interface, "public"), nereus.traps).unwrap();
        }
        let begun = Instant::now();
        let (status, _) =
            if round % 2 == 0 { nereus.get("/metrics") } else { http(nereus.admin, "POST", "/reload", "") };
        assert_eq!(status, 200);
        slowest = slowest.max(begun.elapsed());
    }
    // A slow client is given ten seconds for its head: nobody waits for that.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    nereus.wait("every trap is stored", |nereus| {
        (nereus.metric("nereus_events_stored_total") == 1000.0).then_some(())
    });
    eprintln!("the slowest request beside 500 slow clients took {slowest:?}");
    drop(slow);
    assert_eq!(nereus.get("/health").0, 200);
}

#[test]
fn planted_secrets_appear_in_no_answer_log_or_metric() {
    const PLANTED: &str = "PLANTED";
    let folder = tempfile::tempdir().unwrap();
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(folder.path().join("header"), "PLANTED-header-file\n").unwrap();
    let settings = format!(
        "admin: {{address: '127.0.0.1:0', token: PLANTED-token, read_token: PLANTED-read}}
logging: {{level: debug}}
reload: {{enabled: false}}
access: {{communities: [PLANTED-community, {{name: core, community: PLANTED-core}}]}}
rules:
  - {{name: all, alert: Any, severity: info, key: [source, ifIndex]}}
webhooks:
  - name: w
    format: json
    url: 'http://{nowhere}/PLANTED-path?token=PLANTED-query'
    retry: {{attempts: 2, initial: 100ms, max: 100ms}}
    headers: {{Authorization: PLANTED-header, X-Token: {{file: '{}/header'}}}}
",
        folder.path().display()
    );
    let mut nereus = Nereus::start(folder.path(), &settings);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for community in ["PLANTED-community", "PLANTED-core", "PLANTED-wrong"] {
        socket.send_to(&trap::link_down(1, community), nereus.traps).unwrap();
    }
    let headers = "Host: localhost\r\nAuthorization: Bearer PLANTED-token\r\n";
    let metric =
        |nereus: &Nereus, name: &str| metric_sum(&ask(nereus.admin, "GET", "/metrics", headers, "").1, name);
    nereus.wait("the webhook has failed", |nereus| {
        (metric(nereus, "nereus_webhooks_failed_total") >= 2.0).then_some(())
    });
    let mut answers = Vec::new();
    // Changed, refused at places beside and inside of secrets, broken in their midst.
    for (from, to) in [
        ("PLANTED-header,", "PLANTED-header2,"),
        ("PLANTED-query", "PLANTED-query2"),
        ("PLANTED-community,", "PLANTED-community2,"),
        ("token: PLANTED-token,", "tokn: PLANTED-token,"),
        ("headers: {", "headers: {\"PLANTED bad\": PLANTED-x, "),
        ("[PLANTED-community,", "[PLANTED-community: PLANTED-y,"),
        ("PLANTED-header,", "\"PLANTED-open,"),
        ("'http://", "'ftp://"),
        ("{file: '", "{file: '/PLANTED-no-such-"),
    ] {
        Nereus::configure(folder.path(), &settings.replacen(from, to, 1));
        for path in ["/reload", "/debug/reload/trigger?type=webhook"] {
            answers.push(ask(nereus.admin, "POST", path, headers, "").1);
        }
    }
    for (path, changes) in ROUTES.iter().chain(&[("/api/v1/alerts?all=true", false)]) {
        answers.push(ask(nereus.admin, if *changes { "POST" } else { "GET" }, path, headers, "").1);
    }
    assert!(answers.iter().any(|answer| answer.contains("config-unknown-key")), "a misspelt key was told");
    nereus.read_log();
    // A path is no secret: the one to a missing secret file is told.
    let shown = |text: &String| text.replace("/PLANTED-no-such-", "").contains(PLANTED);
    let leaks: Vec<&String> = answers.iter().chain(&nereus.log).filter(|text| shown(text)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    assert!(nereus.log.len() > 10, "the log was looked at");
    let events: Value =
        serde_json::from_str(&http_body(&ask(nereus.admin, "GET", "/api/v1/events", headers, "").1)).unwrap();
    assert_eq!(events["events"].as_array().unwrap().len(), 2, "what was planted was used");
}

fn http_body(answer: &str) -> String {
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}
