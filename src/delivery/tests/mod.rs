//! Workers against a server on a port of this process: what a test needs, and the tests by concern.

mod flow;
mod formats;
mod hostile;
mod network;
mod outputs;
mod queue;
mod starved;
mod state;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Deliveries, Events, OutboxRow, Source, SourceError, Timing};
use crate::config::settings::{
    BatchSettings, BreakerSettings, RateLimit, RetrySettings, Secret, WebhookFormat, WebhookSettings,
    WebhookUrl,
};
use crate::event::{
    AlertId, AlertRecord, AlertState, Command, Delivered, EventId, EventRecord, Queue, Timestamp,
};
use crate::metrics::Metrics;
use crate::severity::Severity;

/// An open alert with labels of its own.
pub(super) fn record(id: u64, change: u64) -> AlertRecord {
    let now = Timestamp::now();
    AlertRecord {
        id: AlertId(id),
        change,
        alert: "Test".into(),
        rule: "rule".into(),
        severity: Severity::Major,
        state: AlertState::Firing,
        key: format!("Test\u{1f}{id}").into(),
        labels: vec![("alertname".into(), "Test".into()), ("number".into(), id.to_string())],
        annotations: vec![("summary".into(), format!("alert {id}"))],
        count: 1,
        first_seen: now,
        last_seen: now,
        last_event: EventId(id),
        resolved_at: None,
        resolved_by: None,
        quiet_until: None,
        expires_at: None,
        notify: None,
        by_hand: None,
        muted: None,
        flap: None,
        origin: crate::event::AlertOrigin::Rule,
    }
}

fn resolved(mut record: AlertRecord, change: u64) -> AlertRecord {
    record.change = change;
    record.state = AlertState::Resolved;
    record.resolved_at = Some(Timestamp::now());
    record.resolved_by = Some("trap".into());
    record
}

/// A dead letter: the outbox row, the alert, why.
type Dead = (Option<u64>, AlertRecord, String);

/// The committed state, as the store keeps it.
#[derive(Debug, Default)]
struct Tables {
    alerts: HashMap<AlertId, AlertRecord>,
    events: BTreeMap<EventId, EventRecord>,
    events_lost: u64,
    outbox: Vec<OutboxRow>,
    last_row: u64,
    progress: HashMap<Arc<str>, u64>,
    dead: Vec<Dead>,
    retries: Vec<(u64, u32, Timestamp)>,
}

#[derive(Debug, Default)]
struct Store(Mutex<Tables>, watch::Sender<u64>);

impl Source for Store {
    fn alerts_changed_after(&self, change: u64, limit: usize) -> Result<Vec<AlertRecord>, SourceError> {
        let mut list: Vec<_> =
            self.0.lock().alerts.values().filter(|record| record.change > change).cloned().collect();
        list.sort_by_key(|record| record.change);
        list.truncate(limit);
        Ok(list)
    }

    fn open_alerts_after(&self, after: AlertId, limit: usize) -> Result<Vec<AlertRecord>, SourceError> {
        let tables = self.0.lock();
        let open = |record: &&AlertRecord| record.state != AlertState::Resolved && record.id > after;
        let mut list: Vec<_> = tables.alerts.values().filter(open).cloned().collect();
        list.sort_by_key(|record| record.id);
        list.truncate(limit);
        Ok(list)
    }

    fn alerts_resolved_after(
        &self,
        after: (Timestamp, AlertId),
        limit: usize,
    ) -> Result<Vec<AlertRecord>, SourceError> {
        let tables = self.0.lock();
        let place = |record: &AlertRecord| (record.resolved_at.unwrap_or_default(), record.id);
        let ended = |record: &&AlertRecord| record.state == AlertState::Resolved && place(record) > after;
        let mut list: Vec<_> = tables.alerts.values().filter(ended).cloned().collect();
        list.sort_by_key(place);
        list.truncate(limit);
        Ok(list)
    }

    fn progress(&self, webhook: &str) -> Result<u64, SourceError> {
        Ok(self.0.lock().progress.get(webhook).copied().unwrap_or(0))
    }

    fn outbox(&self, _: &str, after: u64, limit: usize) -> Result<Vec<OutboxRow>, SourceError> {
        Ok(self.0.lock().outbox.iter().filter(|row| row.row > after).take(limit).cloned().collect())
    }

    fn outbox_depth(&self, _: &str) -> Result<(u64, Option<Timestamp>), SourceError> {
        let tables = self.0.lock();
        Ok((tables.outbox.len() as u64, tables.outbox.first().map(|row| row.record.last_seen)))
    }

    fn event_json(&self, event: EventId) -> Result<Option<Box<RawValue>>, SourceError> {
        Ok(Some(to_raw_value(&json!({ "id": event }))?))
    }

    fn event(&self, event: EventId) -> Result<Option<EventRecord>, SourceError> {
        Ok(self.0.lock().events.get(&event).cloned())
    }

    fn events_after(&self, _: &str, after: EventId, limit: usize) -> Result<Events, SourceError> {
        let mut tables = self.0.lock();
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let events: Vec<_> =
            tables.events.range(behind).take(limit).map(|(_, event)| event.clone()).collect();
        let upto = events.last().map_or(after, |event| event.id);
        Ok(Events { events, upto, lost: std::mem::take(&mut tables.events_lost) })
    }

    fn events_waiting(&self, after: EventId) -> Result<(u64, Option<Timestamp>), SourceError> {
        let tables = self.0.lock();
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let mut events = tables.events.range(behind).map(|(_, event)| event.time);
        let oldest = events.next();
        Ok((u64::from(oldest.is_some()) + events.count() as u64, oldest))
    }

    fn stored(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }

    fn newest_event(&self) -> Result<EventId, SourceError> {
        Ok(self.0.lock().events.keys().next_back().copied().unwrap_or_default())
    }
}

impl Store {
    fn take(&self, news: Delivered) {
        let mut tables = self.0.lock();
        match news {
            Delivered::UpTo { webhook, change } => {
                let known = tables.progress.insert(webhook, change).unwrap_or(0);
                assert!(known < change, "progress never goes back");
            }
            Delivered::Rows(rows) => tables.outbox.retain(|row| !rows.contains(&row.row)),
            Delivered::Retry { rows } => {
                for (row, attempts, not_before) in &rows {
                    if let Some(known) = tables.outbox.iter_mut().find(|known| known.row == *row) {
                        (known.attempts, known.not_before) = (*attempts, *not_before);
                    }
                }
                tables.retries.extend(rows);
            }
            Delivered::Dead { row, record, reason, .. } => {
                tables.outbox.retain(|known| Some(known.row) != row);
                tables.dead.push((row, *record, reason));
            }
        }
    }
}

/// Deliveries with a store, a writer and everything to look at.
struct Bench {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    deliveries: Deliveries,
    queue: Arc<Queue<Command>>,
    applied: watch::Sender<u64>,
    /// Held, it stops the writer before the next it takes.
    gate: Arc<tokio::sync::Mutex<()>>,
    writer: Option<JoinHandle<()>>,
}

impl Bench {
    fn new() -> Self {
        Self::with_timing(Timing { gauges: Duration::from_millis(20), ..Timing::default() })
    }

    fn with_timing(timing: Timing) -> Self {
        let store = Arc::new(Store::default());
        let metrics = Arc::new(Metrics::new());
        let queue = Arc::new(Queue::new(1 << 20));
        let (applied, receiver) = watch::channel(0);
        let (from, into) = (Arc::clone(&queue), Arc::clone(&store));
        let gate = Arc::<tokio::sync::Mutex<()>>::default();
        let passes = Arc::clone(&gate);
        let writer = std::thread::spawn(move || {
            let mut batch = Vec::new();
            while from.take_all(&mut batch, Duration::from_secs(1)) {
                drop(passes.blocking_lock());
                for command in batch.drain(..) {
                    let Command::Delivered(news) = command else {
                        panic!("only progress comes from delivery")
                    };
                    into.take(news);
                }
            }
        });
        let deliveries = Deliveries::with_timing(
            tokio::runtime::Handle::current(),
            Arc::clone(&store) as Arc<dyn Source>,
            Arc::clone(&queue),
            receiver,
            Arc::clone(&metrics),
            (super::connect::Network::default(), timing),
        );
        Self { store, metrics, deliveries, queue, applied, gate, writer: Some(writer) }
    }

    fn apply(&self, webhooks: &[WebhookSettings]) {
        let webhooks: Vec<_> = webhooks.iter().cloned().map(Arc::new).collect();
        self.deliveries.apply(&webhooks);
    }

    /// Commits the state of alerts, and says so.
    fn commit(&self, records: impl IntoIterator<Item = AlertRecord>) {
        self.store.0.lock().alerts.extend(records.into_iter().map(|record| (record.id, record)));
        self.applied.send_modify(|number| *number += 1);
    }

    /// Commits outbox rows, and says so.
    fn enqueue(&self, records: impl IntoIterator<Item = AlertRecord>) {
        let mut tables = self.store.0.lock();
        for record in records {
            tables.last_row += 1;
            let row = tables.last_row;
            tables.outbox.push(OutboxRow { row, record, attempts: 0, not_before: Timestamp(0) });
        }
        drop(tables);
        self.applied.send_modify(|number| *number += 1);
    }

    fn queued(&self) -> usize {
        self.store.0.lock().outbox.len()
    }

    fn progress(&self) -> u64 {
        self.store.progress("hook").unwrap()
    }

    fn dead(&self) -> Vec<Dead> {
        self.store.0.lock().dead.clone()
    }

    fn counted(&self, line: &str) -> f64 {
        let text = self.metrics.render().unwrap();
        let value = text.lines().find_map(|known| known.strip_prefix(line));
        value.map_or(f64::NAN, |value| value.trim().parse().unwrap())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.queue.close();
        let failed = self.writer.take().is_some_and(|writer| writer.join().is_err());
        assert!(!failed || std::thread::panicking(), "the writer failed");
    }
}

/// What an endpoint was sent.
#[derive(Debug, Clone)]
struct Post {
    headers: HeaderMap,
    path: String,
    body: Value,
    at: Instant,
}

impl Post {
    /// The alerts' numbers: the label `number`, in both formats.
    fn numbers(&self) -> Vec<u64> {
        let list = self.body.as_array().or_else(|| self.body["alerts"].as_array()).unwrap();
        list.iter().map(|alert| alert["labels"]["number"].as_str().unwrap().parse().unwrap()).collect()
    }

    fn id(&self) -> &str {
        self.headers["webhook-id"].to_str().unwrap()
    }
}

type Behaviour = Box<dyn Fn(&Post, usize) -> Response + Send + Sync>;

struct Endpoint {
    posts: Mutex<Vec<Post>>,
    number: AtomicUsize,
    behaviour: Behaviour,
    /// Never answered: the hanging kind.
    hangs: bool,
}

/// A server that notes what it is sent; it ends with the test's runtime.
struct Sink {
    address: SocketAddr,
    endpoint: Arc<Endpoint>,
}

impl Sink {
    /// Takes everything.
    async fn new() -> Self {
        Self::answering(|_, _| StatusCode::OK.into_response()).await
    }

    /// `behaviour` gets the post and how many came before it.
    async fn answering(behaviour: impl Fn(&Post, usize) -> Response + Send + Sync + 'static) -> Self {
        Self::bound("127.0.0.1:0".parse().unwrap(), Box::new(behaviour), false).await
    }

    async fn hanging() -> Self {
        Self::bound("127.0.0.1:0".parse().unwrap(), Box::new(|_, _| StatusCode::OK.into_response()), true)
            .await
    }

    async fn bound(address: SocketAddr, behaviour: Behaviour, hangs: bool) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint =
            Arc::new(Endpoint { posts: Mutex::default(), number: AtomicUsize::new(0), behaviour, hangs });
        let router = Router::new().fallback(take_post).with_state(Arc::clone(&endpoint));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, endpoint }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn posts(&self) -> Vec<Post> {
        self.endpoint.posts.lock().clone()
    }

    /// All numbers in the order in which they came.
    fn numbers(&self) -> Vec<u64> {
        self.endpoint.posts.lock().iter().flat_map(Post::numbers).collect()
    }
}

async fn take_post(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let post = Post {
        path: head.uri.to_string(),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        at: Instant::now(),
    };
    let answer = (endpoint.behaviour)(&post, endpoint.number.fetch_add(1, Ordering::SeqCst));
    endpoint.posts.lock().push(post);
    if endpoint.hangs {
        std::future::pending::<()>().await;
    }
    answer
}

fn webhook(name: &str, format: WebhookFormat, urls: &[String]) -> WebhookSettings {
    WebhookSettings {
        name: name.into(),
        urls: urls.iter().map(|url| WebhookUrl(url.as_str().into())).collect(),
        format,
        retry: RetrySettings {
            attempts: 10,
            initial: Duration::from_millis(2),
            max: Duration::from_millis(20),
        },
        breaker: BreakerSettings { failures: 5, pause: Duration::from_millis(20) },
        batch: BatchSettings { max: 100, wait: Duration::from_millis(5) },
        headers: vec![("X-Token".into(), Secret::new(b"planted-secret".to_vec()))],
        ..WebhookSettings::default()
    }
}

fn json_hook(sink: &Sink) -> WebhookSettings {
    webhook("hook", WebhookFormat::Json, &[sink.url()])
}

fn state_hook(sinks: &[&Sink]) -> WebhookSettings {
    let urls: Vec<_> = sinks.iter().map(|sink| sink.url()).collect();
    webhook("hook", WebhookFormat::Alertmanager, &urls)
}

/// Waits for `condition`, and fails the test by `what` if it does not come.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < patience, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn status(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}
