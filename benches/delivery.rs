//! Posts to a sink in this process, beside a bare hyper client that posts the same octets to the same sink in the same
//! run; and what a million queued changes take.
//!
//! `cargo bench --bench delivery` prints a table (`-- 100 1` its row of batches of 100, one post at once); `cargo bench --bench delivery -- memory` fills an outbox behind a dead
//! endpoint (some minutes of writing); `-- isolation` measures what one webhook's changes wait while another one's endpoint
//! hangs. The sink has a runtime of its own, but the machine's cores are shared.

#![allow(clippy::print_stdout, reason = "its output is the table")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nereus::config::settings::{BatchSettings, StorageSettings, WebhookSettings, WebhookUrl};
use nereus::delivery::format::alert_json;
use nereus::delivery::{Deliveries, Events, OutboxRow, Source, SourceError};
use nereus::event::{
    AlertChange, AlertId, AlertOrigin, AlertRecord, AlertState, Command, Delivered, EventId, EventRecord,
    Queue, Timestamp,
};
use nereus::metrics::Metrics;
use nereus::severity::Severity;
use nereus::store::{Store, spawn_writer};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Posts of one measurement.
const POSTS: u64 = 20_000;
/// Whoever takes the place of the store's writer looks so often what was delivered.
const PACE: Duration = Duration::from_millis(1);

fn main() {
    let asked = |word: &str| std::env::args().any(|argument| argument == word);
    if asked("memory") {
        measure_memory();
    } else if asked("isolation") {
        measure_isolation();
    } else {
        measure_posts();
    }
}

fn record(number: u64) -> AlertRecord {
    let time = Timestamp(1_785_024_000_000_000 + i64::try_from(number).unwrap_or(0));
    let pair = |name: &str, value: String| (Arc::<str>::from(name), value);
    AlertRecord {
        id: AlertId(1_785_024_000_000_000 + number),
        change: 1_785_024_000_000_000 + number,
        alert: "InterfaceDown".into(),
        rule: "link".into(),
        severity: Severity::Major,
        state: AlertState::Firing,
        key: format!("InterfaceDown\u{1f}10.0.0.1\u{1f}{number}").into(),
        labels: vec![
            pair("alertname", "InterfaceDown".into()),
            pair("ifIndex", number.to_string()),
            pair("severity", "major".into()),
            pair("source", "10.0.0.1".into()),
        ],
        annotations: vec![pair("summary", format!("10.0.0.1: interface {number} is down"))],
        count: 1,
        first_seen: time,
        last_seen: time,
        last_event: EventId(1_785_024_000_000_000 + number),
        resolved_at: None,
        resolved_by: None,
        quiet_until: None,
        expires_at: None,
        notify: None,
        by_hand: None,
        muted: None,
        flap: None,
        origin: AlertOrigin::Rule,
    }
}

/// An outbox in memory: what the store takes has a mode of its own.
#[derive(Debug)]
struct Made {
    /// The last row that is committed.
    rows: AtomicU64,
    /// Rows that were made before the clock starts, as the bare client's trees are; each is read once. Others are made as
    /// they are read.
    beforehand: Mutex<Vec<Option<AlertRecord>>>,
}

impl Made {
    /// With so many rows, all made and committed.
    fn beforehand(rows: u64) -> Self {
        let made = (1..=rows).map(|number| Some(record(number))).collect();
        Self { rows: AtomicU64::new(rows), beforehand: Mutex::new(made) }
    }
}

impl Source for Made {
    fn alerts_changed_after(&self, _: u64, _: usize) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(Vec::new())
    }

    fn open_alerts_after(&self, _: AlertId, _: usize) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(Vec::new())
    }

    fn alerts_resolved_after(
        &self,
        _: (Timestamp, AlertId),
        _: usize,
    ) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(Vec::new())
    }

    fn progress(&self, _: &str) -> Result<u64, SourceError> {
        Ok(0)
    }

    fn outbox(&self, _: &str, after: u64, limit: usize) -> Result<Vec<OutboxRow>, SourceError> {
        let last = self.rows.load(Ordering::Acquire).min(after.saturating_add(limit as u64));
        let mut beforehand = self.beforehand.lock();
        let mut taken = |row: u64| beforehand.get_mut(row as usize - 1).and_then(Option::take);
        let rows = (after + 1..=last).map(|row| OutboxRow {
            row,
            record: taken(row).unwrap_or_else(|| record(row)),
            attempts: 0,
            not_before: Timestamp(0),
        });
        Ok(rows.collect())
    }

    fn outbox_depth(&self, _: &str) -> Result<(u64, Option<Timestamp>), SourceError> {
        Ok((0, None))
    }

    fn event_json(&self, event: EventId) -> Result<Option<Box<RawValue>>, SourceError> {
        Ok(Some(RawValue::from_string(format!("{{\"id\":{event}}}"))?))
    }

    fn event(&self, _: EventId) -> Result<Option<EventRecord>, SourceError> {
        Ok(None)
    }

    fn events_after(&self, _: &str, after: EventId, _: usize) -> Result<Events, SourceError> {
        Ok(Events { upto: after, ..Events::default() })
    }

    fn events_waiting(&self, _: EventId) -> Result<(u64, Option<Timestamp>), SourceError> {
        Ok((0, None))
    }

    fn stored(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    fn newest_event(&self) -> Result<EventId, SourceError> {
        Ok(EventId(0))
    }
}

/// Answers 200 to every post and counts its octets, on a runtime of its own.
struct Sink {
    address: SocketAddr,
    octets: Arc<AtomicU64>,
    _runtime: Runtime,
}

fn runtime(threads: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime")
}

impl Sink {
    fn start() -> Self {
        let runtime = runtime(1);
        let octets = Arc::new(AtomicU64::new(0));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let count = Arc::clone(&octets);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let count = Arc::clone(&count);
                let take = move |request: Request<Incoming>| {
                    let count = Arc::clone(&count);
                    async move {
                        let body = request.into_body().collect().await.map(|body| body.to_bytes().len());
                        count.fetch_add(body.unwrap_or(0) as u64, Ordering::Relaxed);
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                    }
                };
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(take)),
                );
            }
        });
        Self { address, octets, _runtime: runtime }
    }
}

fn measure_posts() {
    let sink = Sink::start();
    println!("batch concurrency  bare hyper/s  encoding/s  nereus/s  of bare  of encoding  alerts/s");
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let rows = [(1, 1), (1, 8), (100, 1), (100, 8)];
    for (batch, concurrency) in rows.into_iter().filter(|row| numbers.is_empty() || numbers == [row.0, row.1])
    {
        let posts = if batch == 1 { POSTS } else { POSTS / 10 };
        let bare = [false, true].map(|encodes| bare(&sink, batch, concurrency, posts, encodes));
        let own = nereus(&sink, batch, concurrency, posts);
        println!(
            "{batch:>5} {concurrency:>11}  {:>12.0}  {:>10.0}  {own:>8.0}  {:>7.2}  {:>11.2}  {:>8.0}",
            bare[0],
            bare[1],
            own / bare[0],
            own / bare[1],
            own * batch as f64
        );
    }
    assert!(sink.octets.load(Ordering::Relaxed) > 0);
}

/// The same bodies by hyper's pooled client: one that was made beforehand, or one that serde_json encodes for each post
/// from trees that were made beforehand, which is the least that a client with something new to say does. On a runtime
/// like Nereus' own, of two threads.
fn bare(sink: &Sink, batch: usize, concurrency: usize, posts: u64, encodes: bool) -> f64 {
    let alerts: Vec<_> = (1..=batch as u64)
        .map(|number| {
            let mut alert = alert_json(&record(number));
            alert.insert("event".into(), json!({"id": number}));
            alert
        })
        .collect();
    let tree = Arc::new(json!({"version": 1, "webhook": "bench", "alerts": alerts}));
    let encode = |tree: &Value| Bytes::from(serde_json::to_vec(tree).expect("JSON"));
    let body = encode(&tree);
    let uri: hyper::Uri = format!("http://{}/", sink.address).parse().expect("a URL");
    let runtime = runtime(2);
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let started = Instant::now();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..concurrency {
            let (client, uri, body, tree) = (client.clone(), uri.clone(), body.clone(), Arc::clone(&tree));
            tasks.spawn(async move {
                for _ in 0..posts / concurrency as u64 {
                    let body = if encodes { encode(&tree) } else { body.clone() };
                    let request = Request::post(&uri)
                        .header("content-type", "application/json")
                        .body(Full::new(body))
                        .expect("a request");
                    let answer = client.request(request).await.expect("an answer");
                    let _ = answer.into_body().collect().await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    });
    posts as f64 / started.elapsed().as_secs_f64()
}

/// The delivery as it runs: rows are read, bodies made, posts judged, progress reported.
fn nereus(sink: &Sink, batch: usize, concurrency: usize, posts: u64) -> f64 {
    let rows = posts * batch as u64;
    let runtime = runtime(2);
    let queue: Arc<Queue<Command>> = Arc::new(Queue::new(32 << 20));
    let (_applied, receiver) = watch::channel(0);
    let deliveries = Deliveries::start(
        runtime.handle().clone(),
        Arc::new(Made::beforehand(rows)),
        Arc::clone(&queue),
        receiver,
        Arc::new(Metrics::new()),
    );
    let settings = WebhookSettings {
        name: "bench".into(),
        urls: vec![WebhookUrl(format!("http://{}/", sink.address).into())],
        batch: BatchSettings { max: batch, wait: Duration::ZERO },
        concurrency,
        ..WebhookSettings::default()
    };
    let started = Instant::now();
    deliveries.apply(&[Arc::new(settings)]);
    let (mut done, mut commands) = (0, Vec::new());
    while done < rows {
        assert!(queue.take_all(&mut commands, Duration::from_secs(10)), "delivery has stopped");
        for command in commands.drain(..) {
            if let Command::Delivered(Delivered::Rows(rows)) = command {
                done += rows.len() as u64;
            }
        }
        // The store's writer lets twenty times as long pass between two commits.
        queue.rest(PACE, usize::MAX);
    }
    let rate = posts as f64 / started.elapsed().as_secs_f64();
    runtime.block_on(deliveries.stop(Duration::from_secs(5)));
    rate
}

/// A change every two milliseconds for a webhook, alone and beside eight others whose endpoints take connections and never
/// answer, in turn: what its changes wait until they are posted and told. Of one run p99 moves by a third, so that those of
/// all runs are put together.
fn measure_isolation() {
    const ROUNDS: usize = 10;
    let sink = Sink::start();
    println!("hanging webhooks  changes  p50 ms  p99 ms  max ms");
    let mut all = [0, 8].map(|hanging| (hanging, Vec::new()));
    for _ in 0..ROUNDS {
        for (hanging, all) in &mut all {
            let waits = isolated(&sink, *hanging);
            tell(*hanging, &waits);
            all.extend(waits);
        }
    }
    println!("all {ROUNDS} rounds");
    let [alone, beside] = all.map(|(hanging, waits)| tell(hanging, &waits));
    println!("p99 beside those that hang is {:.2} of that alone", beside / alone);
}

/// Prints a row of the table; p99 in milliseconds.
fn tell(hanging: usize, waits: &[Duration]) -> f64 {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    let at = |part: usize| waits[(waits.len() - 1) * part / 100].as_secs_f64() * 1e3;
    let (p50, p99, max, number) = (at(50), at(99), at(100), waits.len());
    println!("{hanging:>16}  {number:>7}  {p50:>6.2}  {p99:>6.2}  {max:>6.2}");
    p99
}

fn isolated(sink: &Sink, hanging: usize) -> Vec<Duration> {
    const CHANGES: usize = 3000;
    /// Until then all webhooks have begun, and those that hang have as many posts out as they may.
    const BEGINNING: usize = 100;
    let runtime = runtime(2);
    let queue: Arc<Queue<Command>> = Arc::new(Queue::new(32 << 20));
    let (applied, receiver) = watch::channel(0);
    let source = Arc::new(Made::beforehand(0));
    let given: Arc<dyn Source> = source.clone();
    let metrics = Arc::new(Metrics::new());
    let deliveries =
        Deliveries::start(runtime.handle().clone(), given, Arc::clone(&queue), receiver, metrics);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let stuck = silent.local_addr().expect("an address");
    let hook = |name: String, to: SocketAddr, concurrency| {
        Arc::new(WebhookSettings {
            name: name.into(),
            urls: vec![WebhookUrl(format!("http://{to}/").into())],
            batch: BatchSettings { max: 100, wait: Duration::ZERO },
            concurrency,
            timeout: Duration::from_secs(600),
            headers_timeout: Duration::from_secs(600),
            ..WebhookSettings::default()
        })
    };
    let mut hooks = vec![hook("well".to_owned(), sink.address, 1)];
    hooks.extend((0..hanging).map(|number| hook(format!("stuck-{number}"), stuck, 8)));
    deliveries.apply(&hooks);
    let committed = Arc::new(std::sync::Mutex::new(Vec::with_capacity(CHANGES)));
    let commits = Arc::clone(&committed);
    let paced = std::thread::spawn(move || {
        for row in 1..=CHANGES as u64 {
            commits.lock().expect("nobody has panicked").push(Instant::now());
            source.rows.store(row, Ordering::Release);
            applied.send_replace(row);
            std::thread::sleep(Duration::from_millis(2));
        }
        applied
    });
    let (mut waits, mut commands) = (Vec::with_capacity(CHANGES), Vec::new());
    while waits.len() < CHANGES {
        assert!(queue.take_all(&mut commands, Duration::from_secs(10)), "delivery has stopped");
        let now = Instant::now();
        for command in commands.drain(..) {
            let Command::Delivered(Delivered::Rows(rows)) = command else { continue };
            let committed = committed.lock().expect("nobody has panicked");
            waits.extend(rows.iter().map(|row| now - committed[*row as usize - 1]));
        }
    }
    let _ = paced.join();
    runtime.block_on(deliveries.stop(Duration::from_millis(10)));
    waits.split_off(BEGINNING)
}

/// A million changes in a real outbox behind an endpoint where nobody listens: resident memory before and after.
fn measure_memory() {
    const QUEUED: u64 = 1_000_000;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let settings = StorageSettings { path: folder.path().join("data"), ..StorageSettings::default() };
    let metrics = Arc::new(Metrics::new());
    let opened = Store::open(&settings, Arc::clone(&metrics)).expect("a store");
    let reader = opened.store.reader();
    let queue: Arc<Queue<Command>> = Arc::new(Queue::new(32 << 20));
    let (applied, receiver) = watch::channel(0);
    let writer =
        spawn_writer(opened.store, Arc::clone(&queue), applied, Arc::clone(&metrics)).expect("a thread");
    let runtime = runtime(2);
    let source = Arc::new(Stored(reader));
    let deliveries =
        Deliveries::start(runtime.handle().clone(), source, Arc::clone(&queue), receiver, metrics);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    deliveries.apply(&[Arc::new(WebhookSettings {
        name: "bench".into(),
        urls: vec![WebhookUrl(format!("http://{nobody}/").into())],
        concurrency: 8,
        ..WebhookSettings::default()
    })]);
    std::thread::sleep(Duration::from_secs(1));
    let idle = resident();
    let to: Arc<str> = "bench".into();
    for first in (1..=QUEUED).step_by(100) {
        let change =
            |number| AlertChange { record: Arc::new(record(number)), queue_for: vec![Arc::clone(&to)] };
        assert!(queue.push(Command::Changes((first..first + 100).map(change).collect())).is_ok());
    }
    let (told, written) = std::sync::mpsc::sync_channel(1);
    assert!(queue.push(Command::Flush(told)).is_ok());
    written.recv().expect("it is written");
    std::thread::sleep(Duration::from_secs(35));
    let full = resident();
    println!(
        "idle {:.1} MiB, with {QUEUED} queued {:.1} MiB: {:.1} MiB more",
        mib(idle),
        mib(full),
        mib(full) - mib(idle)
    );
    runtime.block_on(deliveries.stop(Duration::from_secs(5)));
    let _ = queue.push(Command::Stop);
    let _ = writer.join();
}

fn mib(octets: u64) -> f64 {
    octets as f64 / f64::from(1 << 20)
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

struct Stored(nereus::store::Reader);

impl Source for Stored {
    fn alerts_changed_after(&self, change: u64, limit: usize) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(self.0.alerts_changed_after(change, limit)?)
    }

    fn open_alerts_after(&self, after: AlertId, limit: usize) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(self.0.open_alerts_after(after, limit)?)
    }

    fn alerts_resolved_after(
        &self,
        after: (Timestamp, AlertId),
        limit: usize,
    ) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(self.0.alerts_resolved_after(after, limit)?)
    }

    fn progress(&self, webhook: &str) -> Result<u64, SourceError> {
        Ok(self.0.progress(webhook)?)
    }

    fn outbox(&self, webhook: &str, after: u64, limit: usize) -> Result<Vec<OutboxRow>, SourceError> {
        let rows = self.0.outbox(webhook, after, limit)?.into_iter();
        let row = |row: nereus::store::OutboxRow| OutboxRow {
            row: row.row,
            record: row.record,
            attempts: row.attempts,
            not_before: row.not_before,
        };
        Ok(rows.map(row).collect())
    }

    fn outbox_depth(&self, webhook: &str) -> Result<(u64, Option<Timestamp>), SourceError> {
        Ok(self.0.outbox_depth(webhook)?)
    }

    fn event_json(&self, _: EventId) -> Result<Option<Box<RawValue>>, SourceError> {
        Ok(None)
    }

    fn event(&self, _: EventId) -> Result<Option<EventRecord>, SourceError> {
        Ok(None)
    }

    fn events_after(&self, _: &str, after: EventId, _: usize) -> Result<Events, SourceError> {
        Ok(Events { upto: after, ..Events::default() })
    }

    fn events_waiting(&self, _: EventId) -> Result<(u64, Option<Timestamp>), SourceError> {
        Ok((0, None))
    }

    fn stored(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    fn newest_event(&self) -> Result<EventId, SourceError> {
        Ok(EventId(0))
    }
}
