//! Endpoints that hang, never end, echo secrets, or end in the middle.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::super::connect::Network;
use super::super::flights::Hands;
use super::super::webhook::{Endpoint as Target, Message, Outcome};
use super::*;

/// Answers each connection with `script`, on a thread; returns its URL.
fn raw(script: impl Fn(&mut std::net::TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/path-token?query-token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut octet = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut octet).is_ok_and(|read| read == 1) {
                head.push(octet[0]);
            }
            script(&mut stream);
        }
    });
    url
}

fn message(body: &'static str) -> Message {
    Message { id: "msg_1".into(), content_type: "application/json".into(), body: body.into() }
}

async fn post_within(url: &str, timeout: Duration) -> Outcome {
    let mut settings = webhook("hook", WebhookFormat::Json, &[url.to_owned()]);
    settings.timeout = timeout;
    settings.headers_timeout = timeout;
    match Target::new(&settings, &settings.urls[0], &Arc::new(Network::default()), Hands::Tasks).await {
        Ok(target) => target.post(message("[]")).await,
        Err(reason) => Outcome::unreached(reason),
    }
}

async fn post(url: &str) -> Outcome {
    post_within(url, Duration::from_secs(10)).await
}

fn again(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Again { reason, .. } => reason,
        other => panic!("to be retried: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_endpoint_delays_no_other_webhook() {
    let bench = Bench::new();
    let (hanging, sink) = (Sink::hanging().await, Sink::new().await);
    let mut stuck = webhook("stuck", WebhookFormat::Alertmanager, &[hanging.url()]);
    stuck.timeout = Duration::from_secs(600);
    stuck.headers_timeout = stuck.timeout;
    bench.apply(&[stuck, state_hook(&[&sink])]);
    bench.commit([record(1, 1)]);
    until("the hanging one has its post", || hanging.posts().len() == 1).await;
    let started = Instant::now();
    for n in 2..=50 {
        bench.commit([record(n, n)]);
        until("the other goes on", || bench.progress() == n).await;
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(bench.store.progress("stuck").unwrap(), 0);
    // The end is bounded too, whatever the post in flight does.
    let started = Instant::now();
    bench.deliveries.stop(Duration::from_millis(100)).await;
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_waits_for_the_post_in_flight_and_its_report() {
    let bench = Bench::new();
    let sink = Sink::answering(|_, _| {
        std::thread::sleep(Duration::from_millis(100));
        status(200)
    })
    .await;
    bench.enqueue([record(1, 1)]);
    bench.apply(&[json_hook(&sink)]);
    until("the post is in flight", || sink.endpoint.number.load(Ordering::SeqCst) == 1).await;
    bench.deliveries.stop(Duration::from_secs(30)).await;
    until("it is reported", || bench.queued() == 0).await;
    assert_eq!(sink.posts().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_body_is_read_to_a_bound() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let ended = Arc::new(AtomicUsize::new(0));
    let end = Arc::clone(&ended);
    let url = raw(move |stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 99999999999\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {
            count.fetch_add(4096, Ordering::SeqCst);
        }
        end.store(1, Ordering::SeqCst);
    });
    let outcome = post_within(&url, Duration::from_secs(600)).await;
    let Outcome::Content { reason } = outcome else { panic!("{outcome:?}") };
    assert!(reason.len() < 400 && reason.starts_with("400 Bad Request: xxx"), "{reason}");
    until("the connection is closed", || ended.load(Ordering::SeqCst) == 1).await;
    // The kernel's buffers on both sides hold some megabytes at most.
    assert!(written.load(Ordering::SeqCst) < 32 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_an_end_is_read_to_a_bound() {
    let url = raw(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let outcome = post_within(&url, Duration::from_secs(600)).await;
    assert!(!again(&outcome).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_octet_at_a_time_runs_into_the_timeout() {
    let url = raw(|stream| {
        for octet in b"HTTP/1.1 200 OK\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
            if stream.write_all(&[*octet]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let outcome = post_within(&url, Duration::from_millis(200)).await;
    assert_eq!(again(&outcome), "no answer within 0.2 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_answers_are_judged_by_what_came() {
    let cut_body = raw(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    });
    assert_eq!(post(&cut_body).await, Outcome::Taken);
    let cut_refusal = raw(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 100\r\n\r\nhalf");
    });
    assert_eq!(post(&cut_refusal).await, Outcome::Refused { reason: "403 Forbidden: half".into() });
    for nonsense in ["", "HTTP/1.1 200", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 9999 x\r\n\r\n"] {
        let url = raw(move |stream| {
            let _ = stream.write_all(nonsense.as_bytes());
        });
        assert!(!again(&post(&url).await).contains("token"), "{nonsense:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_reach_the_endpoint_and_no_reason() {
    let sink = Sink::answering(|post, number| {
        let echo = match number {
            0 => format!("you sent {:?}", post.headers["x-token"]),
            1 => format!("you sent {}", post.headers["authorization"].to_str().unwrap()),
            2 => format!("no such page {}", post.path),
            _ => "unknown team".to_owned(),
        };
        (StatusCode::FORBIDDEN, echo).into_response()
    })
    .await;
    let url = format!("http://ops:p%40ssword@{}/services/T000/planted?key=planted", sink.address);
    let mut reasons = Vec::new();
    for _ in 0..4 {
        let Outcome::Refused { reason } = post(&url).await else { panic!("403 is no retry") };
        reasons.push(reason);
    }
    let withheld = "403 Forbidden: (the answer repeats a secret)";
    assert_eq!(reasons, [withheld, withheld, withheld, "403 Forbidden: unknown team"]);
    let posts = sink.posts();
    assert_eq!(posts[0].headers["authorization"], "Basic b3BzOnBAc3N3b3Jk", "ops:p@ssword");
    assert_eq!(posts[0].path, "/services/T000/planted?key=planted");
    assert_eq!(posts[0].headers["host"], sink.address.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_gives_a_reason_without_the_url() {
    for (url, expected) in [
        (format!("http://{}/path-token", nobody()), "refused"),
        ("http://169.254.169.254/path-token".to_owned(), "link-local"),
        ("http://name-token.invalid/path-token".to_owned(), ""),
        // TLS to a server that speaks none: a handshake error, or no certificates on this machine.
        (raw(|stream| drop(stream.write_all(b"no TLS here"))).replace("http:", "https:"), ""),
    ] {
        let outcome = post_within(&url, Duration::from_secs(5)).await;
        let reason = again(&outcome);
        assert!(reason.contains(expected) && !reason.contains("token"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_http_cannot_carry_is_named_without_its_value() {
    let mut settings = webhook("hook", WebhookFormat::Json, &["http://127.0.0.1/".to_owned()]);
    settings.headers = vec![("X-Bad".into(), Secret::new(b"planted\r\nsecret".to_vec()))];
    let refused = Target::new(&settings, &settings.urls[0], &Arc::default(), Hands::Tasks).await;
    assert_eq!(refused.err().as_deref(), Some("the header \"X-Bad\" is not legal"));
    settings.headers = vec![("Content-Length".into(), Secret::new(b"1".to_vec()))];
    assert!(Target::new(&settings, &settings.urls[0], &Arc::default(), Hands::Tasks).await.is_err());
}

/// A log that a test can read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// One thread, since the log is that thread's.
#[tokio::test]
async fn the_log_tells_of_changes_not_of_each_failure_and_of_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let bench = Bench::new();
    let sink = Sink::answering(|post, number| match number {
        0..30 => (StatusCode::SERVICE_UNAVAILABLE, format!("{:?}", post.headers)).into_response(),
        _ if post.numbers()[0] > 1 => (StatusCode::FORBIDDEN, post.path.clone()).into_response(),
        _ => status(200),
    })
    .await;
    let url = format!("http://ops:planted-password@{}/services/planted-path", sink.address);
    let mut hook = webhook("hook", WebhookFormat::Json, &[url]);
    hook.retry = RetrySettings { attempts: u32::MAX, ..hook.retry };
    hook.batch.max = 1;
    bench.enqueue((1..=40).map(|n| record(n, n)));
    bench.apply(&[hook]);
    until("all are done", || bench.queued() == 0).await;
    let text = String::from_utf8(log.0.lock().clone()).unwrap();
    let lines = |message: &str| text.lines().filter(|line| line.contains(message)).count();
    assert_eq!(lines("Webhook delivery works again"), 1);
    assert_eq!(lines("Webhook delivery fails"), 2, "503 once, and 403 once");
    assert!((1..=2).contains(&lines("among the dead letters")), "39 dead letters share a line");
    let own = text.lines().filter(|line| line.contains("\"component\":\"notifier\"")).collect::<Vec<_>>();
    assert!(own.len() <= 6, "{own:#?}");
    let secrets = ["planted-secret", "planted-password", "planted-path", "cGxhbnRlZ"];
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} in the log");
        assert!(!bench.dead().iter().any(|(_, _, reason)| reason.contains(secret)));
        assert!(!bench.metrics.render().unwrap().contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_connection_is_not_followed_by_another_from_the_pool() {
    // The first two connections answer once, together, and never again: their machine is gone.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let together = Arc::new(std::sync::Barrier::new(2));
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (number, together) = (counted.fetch_add(1, Ordering::SeqCst), Arc::clone(&together));
            std::thread::spawn(move || {
                let mut stream = stream;
                let (mut seen, mut octets, mut posts) = (Vec::new(), [0; 4096], 0);
                while let Ok(read @ 1..) = stream.read(&mut octets) {
                    seen.extend_from_slice(&octets[..read]);
                    let text = String::from_utf8_lossy(&seen).to_lowercase();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
                    if body.len() < length.parse().unwrap() {
                        continue;
                    }
                    seen.clear();
                    posts += 1;
                    if number < 2 && posts > 1 {
                        continue;
                    }
                    if number < 2 {
                        together.wait();
                    }
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            });
        }
    });
    let bench = Bench::new();
    let mut hook = webhook("hook", WebhookFormat::Json, &[url]);
    hook.batch = BatchSettings { max: 1, wait: Duration::ZERO };
    hook.concurrency = 2;
    hook.headers_timeout = Duration::from_millis(300);
    bench.enqueue([record(1, 1), record(2, 2)]);
    bench.apply(&[hook]);
    until("both connections have answered", || bench.queued() == 0).await;
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    bench.enqueue([record(3, 3)]);
    until("the third is done", || bench.queued() == 0).await;
    assert_eq!(bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}"), 1.0);
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_for_the_head_begins_with_the_connection() {
    // A backlog that is full: connecting takes longer than the head may, and then as long as it may itself.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let fills: Vec<_> =
        (0..4).map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100))).collect();
    assert!(fills.iter().any(Result::is_err), "the backlog is full");
    let mut settings = webhook("hook", WebhookFormat::Json, &[format!("http://{address}/")]);
    settings.headers_timeout = Duration::from_millis(50);
    settings.connect_timeout = Duration::from_millis(300);
    let target = Target::new(&settings, &settings.urls[0], &Arc::new(Network::default()), Hands::Tasks)
        .await
        .ok()
        .unwrap();
    let outcome = target.post(message("[]")).await;
    assert!(matches!(outcome, Outcome::Again { reached: false, .. }), "nobody has seen it: {outcome:?}");
    assert!(again(&outcome).contains("connecting took too long"), "{outcome:?}");
}
