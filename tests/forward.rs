//! Sending notifications on, from outside: net-snmp's `snmptrap` sends, Nereus stands between, net-snmp's `snmptrapd`
//! receives.
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

#[path = "common/peers.rs"]
mod peers;
#[path = "common/nereus.rs"]
mod program;

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use program::{Nereus, PATIENCE, http};
use serde_json::Value;

/// net-snmp's receiver, a line for each notification. Killed when dropped.
struct SnmpTrapd {
    child: Child,
    lines: Receiver<String>,
}

impl SnmpTrapd {
    fn start(program: &Path, folder: &Path, address: SocketAddr) -> Self {
        let format = "%P | %W.%q | %A | %N | %v\\n";
        let mut child = Command::new(program)
            .args(["-f", "-Lo", "-n", "-C", "-On", "-m", "", "-M", "", "--disableAuthorization=yes"])
            .args(["-F", format])
            .arg(format!("-p{}", folder.join("pid").display()))
            .arg(format!("udp:{address}"))
            .env("SNMP_PERSISTENT_DIR", folder)
            .env("SNMPCONFPATH", folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The next `number` notifications, sorted.
    fn notifications(&self, number: usize) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        let mut found = Vec::new();
        while found.len() < number {
            let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("{} of {number}: {found:#?}", found.len()));
            if line.contains("community") {
                found.push(line);
            }
        }
        found.sort();
        found
    }

    /// Nothing more has come.
    fn is_silent(&self, span: Duration) -> bool {
        let until = Instant::now() + span;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if line.contains("community") {
                eprintln!("{line}");
                return false;
            }
        }
        true
    }
}

impl Drop for SnmpTrapd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn snmp(program: &Path, arguments: &[&str]) {
    let output = Command::new(program)
        .args(["-m", "", "-M", ""])
        .args(arguments)
        .env("SNMPCONFPATH", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn webhook(nereus: &Nereus, name: &str) -> Value {
    let webhooks = nereus.json("/api/v1/webhooks");
    webhooks["webhooks"].as_array().unwrap().iter().find(|hook| hook["name"] == name).unwrap().clone()
}

fn settings(receiver: SocketAddr) -> String {
    format!(
        "
access:
  communities: [theirs]
  users:
    - {{name: ops, auth: {{protocol: sha256, passphrase: '12345678'}}, privacy: {{protocol: aes128, passphrase: '87654321'}}}}
outputs:
  - name: noc
    forward: {{address: 'udp://{receiver}', community: noc}}
    retry: {{initial: 50ms, max: 200ms}}
    breaker: {{failures: 3, pause: 200ms}}
  - name: raw
    forward: {{address: 'udp://{receiver}', as: received, community: raw}}
    retry: {{initial: 50ms, max: 200ms}}
    breaker: {{failures: 3, pause: 200ms}}
rules:
  - name: not-for-raw
    match: {{trap: 1.3.6.1.4.1.9.9.43.2.0.1}}
    alert: Changed
    key: [source]
    notify: [noc]
"
    )
}

#[test]
fn every_version_reaches_a_real_snmptrapd_in_the_form_that_was_asked_for() {
    let (Some(trapd), Some(trap), Some(inform)) =
        (peers::find(&["snmptrapd"]), peers::find(&["snmptrap"]), peers::find(&["snmpinform"]))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let work = tempfile::tempdir().unwrap();
    // Nobody listens there until the port is snmptrapd's.
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nereus = Nereus::start(folder.path(), &settings(receiver));
    let to = format!("udp:{}", nereus.traps);
    let v3 = [
        "-v3",
        "-u",
        "ops",
        "-l",
        "authPriv",
        "-a",
        "SHA-256",
        "-A",
        "12345678",
        "-x",
        "AES",
        "-X",
        "87654321",
        "-e",
        "0x80001f8880e9630000d61ff449",
    ];
    let object = ["1.3.6.1.4.1.9.1.7", "i", "7"];
    let v1 = ["-v1", "-c", "theirs", &to, "1.3.6.1.4.1.8072.3.2.10", "10.1.2.3", "6", "17", "4711"];
    snmp(&trap, &[&v1[..], &object].concat());
    snmp(&trap, &[&["-v2c", "-c", "theirs", &to, "99", "1.3.6.1.6.3.1.1.5.3"][..], &object].concat());
    snmp(&inform, &[&["-v2c", "-c", "theirs", &to, "99", "1.3.6.1.6.3.1.1.5.1"][..], &object].concat());
    snmp(&trap, &[&v3[..], &[&to, "99", "1.3.6.1.6.3.1.1.5.2"], &object].concat());
    snmp(&trap, &[&["-v2c", "-c", "theirs", &to, "99", "1.3.6.1.4.1.9.9.43.2.0.1"][..], &object].concat());

    nereus.wait("both say that nobody listens", |nereus| {
        let hooks = ["noc", "raw"].map(|name| webhook(nereus, name));
        let said = |hook: &Value| {
            hook["endpoints"][0]["last_error"].as_str().is_some_and(|error| error.contains("nobody listens"))
        };
        (hooks.iter().all(said) && hooks[0]["queued"] == 5).then_some(())
    });
    assert_eq!(webhook(&nereus, "noc")["format"], "forward");

    let receiving = SnmpTrapd::start(&trapd, work.path(), receiver);
    let came = receiving.notifications(8);
    let of = |community: &str, with: &str| {
        let found: Vec<_> =
            came.iter().filter(|line| line.contains(community) && line.contains(with)).collect();
        assert_eq!(found.len(), 1, "{community} {with}: {came:#?}");
        found[0].clone()
    };
    // Translated: SNMPv2c, named after RFC 3584, with the device's address.
    let translated = of("TRAP2, SNMP v2c, community noc", ".1.3.6.1.4.1.8072.3.2.10.0.17");
    for part in [
        ".1.3.6.1.2.1.1.3.0 = Timeticks: (4711)",
        ".1.3.6.1.4.1.9.1.7 = INTEGER: 7",
        ".1.3.6.1.6.3.18.1.3.0 = IpAddress: 10.1.2.3",
        ".1.3.6.1.6.3.18.1.4.0 = STRING: \"noc\"",
        ".1.3.6.1.6.3.1.1.4.3.0 = OID: .1.3.6.1.4.1.8072.3.2.10",
    ] {
        assert!(translated.contains(part), "{part}: {translated}");
    }
    for trap in
        [".1.3.6.1.6.3.1.1.5.1", ".1.3.6.1.6.3.1.1.5.2", ".1.3.6.1.6.3.1.1.5.3", ".1.3.6.1.4.1.9.9.43.2.0.1"]
    {
        let line = of("TRAP2, SNMP v2c, community noc", &format!("= OID: {trap}"));
        assert!(line.contains(".1.3.6.1.6.3.18.1.3.0 = IpAddress: 127.0.0.1"), "{line}");
    }
    // As received: a v1 trap stays one, and what no v3 message can say is not there; nor is what a rule keeps from it.
    let received = of("TRAP, SNMP v1, community raw", "Specific..17");
    assert!(received.contains("10.1.2.3") && received.contains(".1.3.6.1.4.1.8072.3.2.10"), "{received}");
    let plain = of("TRAP2, SNMP v2c, community raw", "= OID: .1.3.6.1.6.3.1.1.5.3");
    assert!(!plain.contains(".1.3.6.1.6.3.18.1.3.0"), "{plain}");
    of("TRAP2, SNMP v2c, community raw", "= OID: .1.3.6.1.6.3.1.1.5.1");

    // The v3 notification is told, and told again when it is sent again.
    let letters =
        |nereus: &Nereus| nereus.json("/api/v1/dead-letters")["dead_letters"].as_array().unwrap().clone();
    let first = nereus.wait("a dead letter", |nereus| letters(nereus).pop());
    assert_eq!(
        (&first["webhook"], &first["alert"]["alert"]),
        (&Value::from("raw"), &Value::from("SNMPv2-MIB::warmStart"))
    );
    assert!(
        first["reason"].as_str().unwrap().starts_with("an SNMPv3 notification cannot be sent on"),
        "{first}"
    );
    assert_eq!(first["alert"]["labels"]["version"], "v3");
    let id = first["id"].as_u64().unwrap();
    let (status, body) = http(nereus.admin, "POST", &format!("/api/v1/dead-letters/resend?id={id}"), "");
    assert_eq!(status, 200, "{body}");
    nereus.wait("another one", |nereus| letters(nereus).pop().filter(|letter| letter["id"] != id));
    // Under other settings it can be sent.
    let file = folder.path().join("nereus.yaml");
    let text = std::fs::read_to_string(&file).unwrap().replace("as: received", "as: v2c");
    std::fs::write(&file, text).unwrap();
    let (status, body) = http(nereus.admin, "POST", "/debug/reload/trigger", "");
    assert_eq!(status, 200, "{body}");
    let (status, body) = http(nereus.admin, "POST", "/api/v1/dead-letters/resend?webhook=raw", "");
    assert_eq!(status, 200, "{body}");
    let again = receiving.notifications(1).remove(0);
    assert!(
        again.contains("TRAP2, SNMP v2c, community raw") && again.contains(".1.3.6.1.6.3.1.1.5.2"),
        "{again}"
    );
    nereus.wait("no dead letter is left", |nereus| letters(nereus).is_empty().then_some(()));

    nereus.wait("all are counted", |nereus| {
        let text = nereus.get("/metrics").1;
        let delivered = |name: &str, number: u32| {
            text.contains(&format!("nereus_webhooks_delivered_total{{webhook=\"{name}\"}} {number}\n"))
        };
        (delivered("noc", 5) && delivered("raw", 4)).then_some(())
    });
    for name in ["noc", "raw"] {
        nereus
            .wait("its place is on the disk", |nereus| (webhook(nereus, name)["queued"] == 0).then_some(()));
    }
    nereus.kill();

    // After a crash each goes on where it was: nothing twice, nothing missing.
    let nereus = Nereus::run(folder.path(), &["-c".into(), file.display().to_string()]);
    assert!(receiving.is_silent(Duration::from_millis(300)));
    let to = format!("udp:{}", nereus.traps);
    snmp(&trap, &[&["-v2c", "-c", "theirs", &to, "99", "1.3.6.1.6.3.1.1.5.5"][..], &object].concat());
    assert!(receiving.notifications(2).iter().all(|line| line.contains("= OID: .1.3.6.1.6.3.1.1.5.5")));
}

#[test]
fn a_new_output_begins_with_the_next_event() {
    let Some(trap) = peers::find(&["snmptrap"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = receiver.local_addr().unwrap();
    let send = |nereus: &Nereus, number: u32| {
        let (to, value) = (format!("udp:{}", nereus.traps), number.to_string());
        snmp(
            &trap,
            &["-v2c", "-c", "public", &to, "99", "1.3.6.1.6.3.1.1.5.1", "1.3.6.1.4.1.9.1.7", "u", &value],
        );
    };
    let nereus = Nereus::start(folder.path(), "");
    send(&nereus, 1);
    nereus.wait("it is stored", |nereus| {
        (!nereus.json("/api/v1/events")["events"].as_array()?.is_empty()).then_some(())
    });
    nereus.stop();
    let output = format!("outputs: [{{name: noc, forward: {{address: 'udp://{address}'}}}}]");
    let nereus = Nereus::start(folder.path(), &output);
    nereus.wait("it has its place", |nereus| (webhook(nereus, "noc")["queued"] == 0).then_some(()));
    send(&nereus, 2);
    let mut datagram = [0; 2000];
    let length = receiver.recv(&mut datagram).unwrap();
    assert!(
        datagram[..length].windows(3).any(|octets| octets == [0x42, 1, 2]),
        "the second is the first to come"
    );
}
