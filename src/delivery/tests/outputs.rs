//! Outputs that are no webhooks: files and syslog.

use std::io::BufReader;

use super::network::{Authority, BOTH, acceptor};
use super::*;
use crate::config::settings::{FileOutput, Output, SyslogOutput, SyslogTransport};

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
