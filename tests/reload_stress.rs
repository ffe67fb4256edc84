//! Traps at a rate while reloads of every type are asked for, a third of them invalid: each trap is stored
//! exactly once, each under one generation, and nothing invalid comes into force. The long run:
//! `NEREUS_STRESS_RATE=20000 NEREUS_STRESS_SECONDS=60 cargo test --release --test reload_stress`.
#![allow(clippy::print_stderr, reason = "what is measured is said")]

#[path = "common/bed.rs"]
mod bed;
#[path = "common/nereus.rs"]
mod program;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use program::{Nereus, http, metric_sum};
use serde_json::Value;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Every generation has a rule of its own name, so that an event shows under which one it was decided.
fn configuration(rule: u64, webhook: u64) -> String {
    format!(
        "listener: [{{address: '127.0.0.1:0', receivers: 1, receive_buffer: 64MiB}}]
reload: {{enabled: false, max_reload_attempts: 1}}
unmatched: drop
mib: {{directories: [./mibs]}}
rules:
  - {{name: r{rule}, match: {{trap: 'IF-MIB::linkDown'}}}}
webhooks:
  - {{name: w, format: json, url: 'http://127.0.0.1:9/', timeout: {}s}}
",
        webhook % 60 + 1
    )
}

#[derive(Default)]
struct Told {
    asked: u64,
    published: u64,
    refused: u64,
    slowest: f64,
    kernel_drops: u64,
    /// The rule of each generation.
    rules: BTreeMap<u64, u64>,
}

/// One request after the other until `done`.
fn reload(nereus: &Nereus, folder: &Path, mut done: impl FnMut() -> bool) -> Told {
    let mut told = Told { rules: BTreeMap::from([(1, 0)]), ..Told::default() };
    let (mut running, mut file, mut round) = (0, 0, 0);
    while !done() {
        round += 1;
        let invalid = round % 3 == 0;
        let (path, rule) = match (round / 3) % 5 {
            _ if invalid => {
                let text = match round % 4 {
                    0 => "rules: [".to_owned(),
                    1 => configuration(round, round).replace("unmatched: drop", "unmatched: dorp"),
                    2 => configuration(round, round).replace("IF-MIB::linkDown", "NO-MIB::poison"),
                    _ => configuration(round, round) + "storage: {path: ./poison}\n",
                };
                Nereus::configure(folder, &text);
                let kind = ["config", "all"][(round % 2) as usize];
                (format!("/debug/reload/trigger?type={kind}"), running)
            }
            0 => {
                file = round;
                ("/debug/reload/trigger?type=config".to_owned(), file)
            }
            1 => ("/debug/reload/trigger?type=webhook".to_owned(), running),
            2 => {
                let text = bed::mib("ONE-MIB", 1, &[&format!("one{round}")]);
                std::fs::write(folder.join("mibs/ONE-MIB"), text).unwrap();
                ("/debug/reload/trigger?type=mib".to_owned(), running)
            }
            3 => {
                file = round;
                ("/reload".to_owned(), file)
            }
            _ => ("/debug/reload/rollback".to_owned(), u64::MAX),
        };
        if !invalid {
            Nereus::configure(folder, &configuration(file, round));
        }
        let (status, body) = http(nereus.admin, "POST", &path, "");
        let event: Value = serde_json::from_str(&body).unwrap();
        told.asked += 1;
        told.slowest = told.slowest.max(event["duration_seconds"].as_f64().unwrap());
        told.kernel_drops += event["receipt"]["kernel_drops"].as_u64().unwrap();
        let before = event["previous_generation"].as_u64().unwrap();
        let generation = event["generation"].as_u64().unwrap();
        if invalid {
            assert_eq!((status, before, &event["outcome"]), (422, generation, &"rejected".into()), "{event}");
            told.refused += 1;
            continue;
        }
        assert_eq!(status, 200, "{event}");
        if event["outcome"] == "published" {
            assert_eq!(generation, before + 1, "{event}");
            told.published += 1;
            // A rollback goes to the generation before the one in force.
            running = if rule == u64::MAX { told.rules[&(before - 1)] } else { rule };
            told.rules.insert(generation, running);
        }
    }
    told
}

/// The buckets of `nereus_trap_processing_duration_seconds`: upper bound and number below it.
fn processing(nereus: &Nereus) -> Vec<(f64, f64)> {
    let (_, text) = nereus.get("/metrics");
    let buckets = text.lines().filter_map(|line| {
        let (bound, number) =
            line.strip_prefix("nereus_trap_processing_duration_seconds_bucket{le=\"")?.split_once("\"} ")?;
        Some((bound.parse().unwrap_or(f64::INFINITY), number.parse().ok()?))
    });
    buckets.collect()
}

/// As Prometheus' `histogram_quantile`: linear within a bucket.
fn quantile(buckets: &[(f64, f64)], quantile: f64) -> f64 {
    let wanted = quantile * buckets.last().map_or(0.0, |last| last.1);
    let mut below = (0.0, 0.0);
    for &(bound, number) in buckets {
        if number >= wanted && number > below.1 {
            return below.0 + (bound - below.0) * (wanted - below.1) / (number - below.1);
        }
        below = (bound, number);
    }
    below.0
}

/// Resident memory in KiB.
fn resident(nereus: &Nereus) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", nereus.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn every_trap_is_stored_once_under_one_generation_whatever_is_reloaded() {
    let (rate, seconds) = (number("NEREUS_STRESS_RATE", 5_000), number("NEREUS_STRESS_SECONDS", 6));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("mibs")).unwrap();
    std::fs::write(folder.path().join("mibs/ONE-MIB"), bed::mib("ONE-MIB", 1, &["one"])).unwrap();
    let nereus = Nereus::start(folder.path(), &configuration(0, 0));
    let send = |seconds: u64, interfaces: &str| {
        Command::new(env!("CARGO_BIN_EXE_nereus"))
            .args(["send", "--to", &nereus.traps.to_string(), "--json", "--rate", &rate.to_string()])
            .args(["--duration", &format!("{seconds}s"), "--vary", &format!("ifIndex={interfaces}")])
            .args(["linkDown", "ifIndex.1=1", "ifAdminStatus.1=up", "ifOperStatus.1=down"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let sent_by = |sender: Child| {
        let output = sender.wait_with_output().unwrap();
        assert!(output.status.success());
        let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
        sent["sent"].as_u64().unwrap()
    };
    // The long run tells how long a trap takes while nothing is reloaded, and while all this goes on.
    let long = seconds > 30;
    let idle_sent = if long { sent_by(send(20, "2000001..3000000")) } else { 0 };
    let idle = processing(&nereus);
    let mut sender = send(seconds, "1..2000000");
    let told = reload(&nereus, folder.path(), || sender.try_wait().unwrap().is_some());
    let sent = sent_by(sender) + idle_sent;
    if long {
        let busy: Vec<(f64, f64)> =
            processing(&nereus).iter().zip(&idle).map(|(now, before)| (now.0, now.1 - before.1)).collect();
        eprintln!(
            "a datagram to its handoff, p99: {:.2} us idle, {:.2} us with reloads",
            quantile(&idle, 0.99) * 1e6,
            quantile(&busy, 0.99) * 1e6
        );
    }
    let ended = Instant::now();
    let sum = |text: &str, name: &str| metric_sum(text, name) as u64;
    let (stored, kernel) = nereus.wait("each is stored or was dropped by the kernel", |nereus| {
        let (_, text) = nereus.get("/metrics");
        let (stored, kernel) =
            (sum(&text, "nereus_events_stored_total"), sum(&text, "nereus_kernel_drops_total"));
        assert_eq!(sum(&text, "nereus_traps_dropped_total"), 0, "nothing invalid decides");
        assert!(stored + kernel <= sent);
        (stored + kernel == sent).then_some((stored, kernel))
    });
    eprintln!(
        "{sent} traps in {seconds} s, {} reloads ({} published, {} refused), the slowest {:.1} ms; kernel drops {kernel} \
         ({} of them told by receipts); drained {:?} after the last",
        told.asked,
        told.published,
        told.refused,
        told.slowest * 1e3,
        told.kernel_drops,
        ended.elapsed()
    );
    assert!(told.kernel_drops <= kernel);
    assert!(told.published >= 10 && told.refused >= 5, "{} and {}", told.published, told.refused);

    // Newest first: generations only fall, each event has the rule of its generation, no interface comes twice.
    let (mut interfaces, mut generation, mut before) = (vec![false; 3_000_001], u64::MAX, String::new());
    let mut seen = BTreeMap::<u64, u64>::new();
    let mut total = 0;
    loop {
        let page = nereus.json(&format!("/api/v1/events?limit=10000{before}"));
        for event in page["events"].as_array().unwrap() {
            let interface = event["varbinds"][0]["value"].as_u64().unwrap() as usize;
            assert!(!std::mem::replace(&mut interfaces[interface], true), "{interface} is stored twice");
            let now = event["generation"].as_u64().unwrap();
            assert!(now <= generation, "generation {now} before {generation} on one receiver");
            generation = now;
            let rule = told.rules.get(&now).unwrap_or_else(|| panic!("generation {now} was never published"));
            assert_eq!(event["rule"], format!("r{rule}"), "{event}");
            *seen.entry(now).or_default() += 1;
            total += 1;
        }
        match page["next"].as_u64() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(total, stored);
    assert!(
        seen.len() as u64 > told.published / 2,
        "{} of {} generations have decided",
        seen.len(),
        told.published
    );
    assert_eq!(
        nereus.json("/debug/reload/generations")["generations"].as_array().unwrap().len().min(8),
        (told.published as usize + 1).min(8)
    );
}

#[test]
fn a_hundred_reloads_cost_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("mibs")).unwrap();
    std::fs::write(folder.path().join("mibs/ONE-MIB"), bed::mib("ONE-MIB", 1, &["one"])).unwrap();
    let nereus = Nereus::start(folder.path(), &configuration(0, 0));
    let mut turns = 0;
    let mut turn = |most| {
        turns = 0;
        let told = reload(&nereus, folder.path(), || {
            turns += 1;
            turns > most
        });
        (told.asked, resident(&nereus))
    };
    // The ring and the events fill up first.
    turn(150);
    let (_, before) = turn(1);
    let (asked, _) = turn(100);
    // What falls out of the ring is freed in the background.
    let until = Instant::now() + Duration::from_secs(20);
    let mut after = resident(&nereus);
    while after > before + 2048 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
        after = resident(&nereus);
    }
    eprintln!("resident before {before} KiB, after {asked} more reloads {after} KiB");
    assert!(after <= before + 2048, "{before} KiB became {after} KiB");
}
