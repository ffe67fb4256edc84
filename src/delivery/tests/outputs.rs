//! Outputs that are no webhooks: files and syslog.

use std::io::BufReader;

use super::network::{Authority, BOTH, acceptor};
use super::*;
use crate::config::settings::{
    FileOutput, ForwardForm, ForwardOutput, Output, SyslogOutput, SyslogTransport, WhenRemoved,
};
use crate::event::Generation;
use crate::oid::OidRef;
use crate::value::Value as Snmp;
use crate::version::Version;
use crate::wire::{self, V2Notification};

fn file_output(path: std::path::PathBuf) -> WebhookSettings {
    let output = Output::File(FileOutput { path, rotate_size: 1 << 20, rotate_age: None, keep: 3 });
    let hook = webhook("hook", WebhookFormat::Json, &["file://x".to_owned()]);
    WebhookSettings { output: Some(output), headers: Vec::new(), ..hook }
}

fn syslog_output(transport: SyslogTransport, port: u16) -> WebhookSettings {
    let output = Output::Syslog(SyslogOutput {
        transport,
        host: "127.0.0.1".into(),
        port,
        facility: 16,
        app_name: "nereus".into(),
    });
    let hook = webhook("hook", WebhookFormat::Json, &[format!("tcp://127.0.0.1:{port}")]);
    WebhookSettings { output: Some(output), headers: Vec::new(), ..hook }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_gets_a_line_for_each_change_once_its_folder_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later/alerts.jsonl");
    let bench = Bench::new();
    let mut hook = file_output(path.clone());
    hook.retry.attempts = 1;
    bench.enqueue((1..=250).map(|n| record(n % 7 + 1, n)));
    bench.apply(&[hook]);
    until("it fails", || bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}") >= 3.0).await;
    let status = bench.deliveries.status().await.remove(0);
    assert_eq!(status.format, "file");
    assert!(status.endpoints[0].last_error.as_deref().unwrap().contains("alerts.jsonl"));
    std::fs::create_dir(folder.path().join("later")).unwrap();
    until("all are done", || bench.queued() == 0).await;
    assert!(bench.dead().is_empty(), "a folder that is not there refuses nothing");
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let changes: Vec<_> = lines.iter().map(|line| line["change"].as_u64().unwrap()).collect();
    assert_eq!(changes, (1..=250).collect::<Vec<_>>());
    assert_eq!(lines[0]["event"], json!({"id": 2}));
}

/// One message with octet counting.
fn framed(reader: &mut impl std::io::BufRead) -> Option<String> {
    let mut length = Vec::new();
    reader.read_until(b' ', &mut length).ok()?;
    let length: usize = String::from_utf8(length).ok()?.trim().parse().ok()?;
    let mut message = vec![0; length];
    reader.read_exact(&mut message).ok()?;
    String::from_utf8(message).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syslog_over_tcp_counts_octets_and_connects_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let messages = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&messages);
    std::thread::spawn(move || {
        // The first connection is closed after three messages, as a receiver that restarts closes it.
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let mut reader = BufReader::new(stream);
            for _ in 0..if number == 0 { 3 } else { 1000 } {
                let Some(message) = framed(&mut reader) else { break };
                taken.lock().push(message);
            }
        }
    });
    let bench = Bench::new();
    bench.enqueue((1..=3).map(|n| record(n, n)));
    bench.apply(&[syslog_output(SyslogTransport::Tcp, port)]);
    until("the first are there", || messages.lock().len() == 3 && bench.queued() == 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    bench.enqueue([resolved(record(1, 1), 4)]);
    until("and the one after the break", || messages.lock().len() == 4 && bench.queued() == 0).await;
    let messages = messages.lock().clone();
    assert!(
        messages[0].starts_with("<131>1 ") && messages[0].contains(" id=\"1\" change=\"1\""),
        "{}",
        messages[0]
    );
    assert!(
        messages[3].starts_with("<133>1 ") && messages[3].ends_with("Test resolved: alert 1"),
        "{}",
        messages[3]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syslog_over_udp_is_a_datagram_each() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let bench = Bench::new();
    bench.enqueue((1..=5).map(|n| record(n, n)));
    bench.apply(&[syslog_output(SyslogTransport::Udp, socket.local_addr().unwrap().port())]);
    for number in 1..=5 {
        let mut datagram = [0; 9000];
        let length = socket.recv(&mut datagram).unwrap();
        let message = std::str::from_utf8(&datagram[..length]).unwrap();
        assert!(message.contains(&format!(" id=\"{number}\"")), "{message}");
    }
    until("all are done", || bench.queued() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syslog_over_tls_trusts_what_it_is_told_to() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority, None, &BOTH);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let message = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let mut reader = blocking(stream);
            return tokio::task::spawn_blocking(move || framed(&mut reader).unwrap()).await.unwrap();
        }
    });
    let bench = Bench::new();
    bench.enqueue([record(1, 1)]);
    let mut hook = syslog_output(SyslogTransport::Tls, port);
    hook.tls = Some(Arc::new(Authority::new().trusted()));
    bench.apply(std::slice::from_ref(&hook));
    until("a stranger is refused", || bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}") >= 1.0)
        .await;
    assert_eq!(bench.queued(), 1);
    hook.tls = Some(Arc::new(authority.trusted()));
    bench.apply(&[hook]);
    assert!(message.await.unwrap().contains(" id=\"1\""));
    until("it is done", || bench.queued() == 0).await;
}

/// A blocking reader of an asynchronous stream.
fn blocking(stream: impl tokio::io::AsyncRead + Send + Unpin + 'static) -> impl std::io::BufRead + Send {
    struct Blocking<S>(S, tokio::runtime::Handle);
    impl<S: tokio::io::AsyncRead + Unpin> std::io::Read for Blocking<S> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1.block_on(tokio::io::AsyncReadExt::read(&mut self.0, buffer))
        }
    }
    BufReader::new(Blocking(stream, tokio::runtime::Handle::current()))
}

fn forward_output(form: ForwardForm, port: u16) -> WebhookSettings {
    let output = Output::Forward(ForwardOutput {
        host: "127.0.0.1".into(),
        port,
        community: Secret::new(b"noc".to_vec()),
        form,
    });
    let hook = webhook("hook", WebhookFormat::Json, &[format!("udp://127.0.0.1:{port}")]);
    WebhookSettings { output: Some(output), headers: Vec::new(), ..hook }
}

/// A stored linkDown that says its number.
fn event(number: u64, version: Version) -> EventRecord {
    let trap = OidRef(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 3]);
    let varbinds = [(OidRef(&[1, 3, 6, 1, 2, 1, 2, 2, 1, 1, 1]), Snmp::Counter64(number))];
    let sent = V2Notification {
        community: b"theirs",
        kind: wire::Kind::Trap,
        request_id: 1,
        uptime: 1,
        trap_oid: trap,
        varbinds: &varbinds,
    };
    let mut message = Vec::new();
    wire::encode_v2c(&sent, &mut message).unwrap();
    let Ok(wire::Message::Community(read)) = wire::decode(&message) else { panic!("it is a message") };
    EventRecord {
        id: EventId(number),
        time: Timestamp::now(),
        generation: Generation(1),
        source: "192.0.2.1".parse().unwrap(),
        peer: "192.0.2.1:162".parse().unwrap(),
        version,
        trap_oid: "1.3.6.1.6.3.1.1.5.3".parse().unwrap(),
        trap_name: Some("IF-MIB::linkDown".into()),
        rule: None,
        alert: None,
        severity: None,
        alert_id: None,
        pdu: read.pdu.to_vec(),
    }
}

impl Bench {
    /// Commits events, and says so.
    fn journal(&self, events: impl IntoIterator<Item = EventRecord>) {
        self.store.0.lock().events.extend(events.into_iter().map(|event| (event.id, event)));
        self.store.1.send_modify(|number| *number += 1);
    }
}

/// The number that a datagram says.
fn number(datagram: &[u8]) -> u64 {
    let Ok(wire::Message::Community(read)) = wire::decode(datagram) else { panic!("it is a message") };
    assert_eq!(read.community, b"noc");
    match read.notification.varbinds.iter().next().unwrap().value {
        Snmp::Counter64(number) => number,
        other => panic!("{other:?}"),
    }
}

fn received(socket: &std::net::UdpSocket, many: u64) -> Vec<u64> {
    let mut datagram = [0; 2000];
    let next = |_| {
        let length = socket.recv(&mut datagram).unwrap();
        number(&datagram[..length])
    };
    (0..many).map(next).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_sent_on_from_the_next_one_and_kept_while_nobody_listens() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let bench = Bench::new();
    bench.journal((1..=10).map(|n| event(n, Version::V2c)));
    bench.apply(&[forward_output(ForwardForm::V2c, address.port())]);
    until("it has its place", || bench.progress() == 10).await;
    bench.journal((11..=260).map(|n| event(n, Version::V2c)));
    until("nobody listens", || bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}") >= 3.0).await;
    assert_eq!(bench.progress(), 10);
    let status = bench.deliveries.status().await.remove(0);
    assert_eq!((status.format, status.queued), ("forward", Some(250)));
    let socket = std::net::UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(received(&socket, 250), (11..=260).collect::<Vec<_>>());
    until("all are done", || bench.progress() == 260).await;
    assert!(bench.dead().is_empty());
    assert_eq!(bench.counted("nereus_webhooks_delivered_total{webhook=\"hook\"}"), 250.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_on_is_a_dead_letter_and_holds_up_nothing() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let bench = Bench::new();
    bench.journal([event(1, Version::V2c)]);
    bench.apply(&[forward_output(ForwardForm::Received, socket.local_addr().unwrap().port())]);
    until("it has its place", || bench.progress() == 1).await;
    bench.journal([event(2, Version::V2c), event(3, Version::V3), event(4, Version::V2c)]);
    assert_eq!(received(&socket, 2), [2, 4]);
    until("the place moves over it", || bench.progress() == 4).await;
    let (row, letter, reason) = bench.dead().remove(0);
    assert_eq!((row, letter.last_event, &*letter.alert), (None, EventId(3), "IF-MIB::linkDown"));
    assert!(reason.contains("as: v2c"), "{reason}");
    // Sent again, it comes by the outbox, and with it one whose event is gone.
    let mut gone = letter.clone();
    gone.last_event = EventId(99);
    bench.enqueue([letter, gone]);
    until("both are dead again", || bench.dead().len() == 3 && bench.queued() == 0).await;
    assert_eq!(bench.dead()[2].2, "the event is no longer in the journal");
    // Under other settings it can be sent.
    bench.apply(&[forward_output(ForwardForm::V2c, socket.local_addr().unwrap().port())]);
    bench.enqueue([bench.dead()[1].1.clone()]);
    assert_eq!(received(&socket, 1), [3]);
    until("its row is done", || bench.queued() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_retention_took_away_unsent_are_counted() {
    let lost = "nereus_webhook_events_lost_total{webhook=\"hook\"}";
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let bench = Bench::new();
    bench.journal([event(1, Version::V2c)]);
    bench.apply(&[forward_output(ForwardForm::V2c, socket.local_addr().unwrap().port())]);
    until("it has its place", || bench.progress() == 1).await;
    assert_eq!(bench.counted(lost), 0.0, "there from the start: a rise is one");
    // Whether anything is left to send or not.
    bench.store.0.lock().events_lost = 30;
    bench.journal([]);
    until("they are counted", || bench.counted(lost) == 30.0).await;
    bench.store.0.lock().events_lost = 5;
    bench.journal([event(40, Version::V2c)]);
    assert_eq!(received(&socket, 1), [40]);
    until("and the others too", || bench.counted(lost) == 35.0).await;
    bench.apply(&[]);
    until("it is gone with the output", || bench.counted(lost).is_nan()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_forward_drains_what_there_was_and_no_more() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let bench = Bench::new();
    let hook = WebhookSettings {
        when_removed: WhenRemoved::Drain,
        ..forward_output(ForwardForm::V2c, address.port())
    };
    bench.journal([event(1, Version::V2c)]);
    bench.apply(&[hook]);
    until("it has its place", || bench.progress() == 1).await;
    bench.journal((2..=5).map(|n| event(n, Version::V2c)));
    until("nobody listens", || bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}") >= 1.0).await;
    bench.apply(&[]);
    until("it drains", || bench.deliveries.workers.lock().draining.len() == 1).await;
    let socket = std::net::UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(received(&socket, 4), [2, 3, 4, 5]);
    until("it has ended", || {
        bench.deliveries.workers.lock().draining.values().all(|worker| worker.task.is_finished())
    })
    .await;
    assert_eq!(bench.progress(), 5);
}
