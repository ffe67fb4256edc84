//! A webhook's worker: it keeps a lane for each URL, tells the writer how far all of them are, and sets the
//! gauges. What both kinds of lane have in common stands here too.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, error, info, warn};

use super::connect::Tls;
use super::queue::QueueLane;
use super::retry::{self, Jitter};
use super::state::StateLane;
use super::webhook::{Endpoint, Outcome};
use super::{Parts, Source, SourceError, Timing, is_state};
use crate::config::settings::{WebhookSettings, WebhookUrl};
use crate::event::{AlertId, AlertRecord, Command, Delivered, Queue, Timestamp};
use crate::metrics::Metrics;

/// While an endpoint fails, the log says so again after so long.
const REMINDER: Duration = Duration::from_secs(600);
/// Between two lines about dead letters of one lane.
const DEAD_LETTER_LINES: Duration = Duration::from_secs(10);
/// How many refused alerts a lane remembers; the oldest is forgotten, that is, posted and refused again.
const REFUSALS: usize = 65_536;
/// How many queued changes a lane may be ahead of the slowest lane of its webhook.
const AHEAD: usize = 100_000;

/// What a worker is to do.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) settings: Arc<WebhookSettings>,
    pub(super) duty: Duty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    Run,
    /// End: the settings no longer have this webhook.
    Removed,
    /// End: the program does.
    Shutdown,
}

/// The metrics' children of one webhook. They are held here, so that counting after their removal
/// does not make them again.
#[derive(Debug)]
pub(super) struct Counters {
    delivered: IntCounter,
    failed: IntCounter,
    retries: IntCounter,
    queue_length: IntGauge,
    oldest: Gauge,
    duration: Histogram,
}

impl Counters {
    fn new(metrics: &Metrics, webhook: &str) -> Self {
        let label = &[webhook];
        Self {
            delivered: metrics.webhooks_delivered.with_label_values(label),
            failed: metrics.webhooks_failed.with_label_values(label),
            retries: metrics.webhook_retries.with_label_values(label),
            queue_length: metrics.webhook_queue_length.with_label_values(label),
            oldest: metrics.webhook_oldest_seconds.with_label_values(label),
            duration: metrics.webhook_delivery_duration.with_label_values(label),
        }
    }

    /// Takes the children of `webhook` out of `metrics`. An error means that there was none.
    pub(super) fn remove(metrics: &Metrics, webhook: &str) {
        let label = &[webhook];
        let _ = metrics.webhooks_delivered.remove_label_values(label);
        let _ = metrics.webhooks_failed.remove_label_values(label);
        let _ = metrics.webhook_retries.remove_label_values(label);
        let _ = metrics.webhook_queue_length.remove_label_values(label);
        let _ = metrics.webhook_oldest_seconds.remove_label_values(label);
        let _ = metrics.webhook_delivery_duration.remove_label_values(label);
    }
}

/// What a worker and its lanes share.
pub(super) struct Context {
    pub(super) name: Arc<str>,
    pub(super) timing: Timing,
    source: Arc<dyn Source>,
    writer: Arc<Queue<Command>>,
    counters: Counters,
    tls: Arc<Tls>,
    /// Held while something is told, so that the writer hears of progress in its order.
    telling: tokio::sync::Mutex<()>,
}

impl Context {
    pub(super) fn new(name: Arc<str>, parts: &Parts) -> Arc<Self> {
        Arc::new(Self {
            counters: Counters::new(&parts.metrics, &name),
            name,
            timing: parts.timing.clone(),
            source: Arc::clone(&parts.source),
            writer: Arc::clone(&parts.writer),
            tls: Arc::clone(&parts.tls),
            telling: tokio::sync::Mutex::new(()),
        })
    }

    /// Asks the source, on a blocking thread.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Source) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let source = Arc::clone(&self.source);
        match tokio::task::spawn_blocking(move || question(&*source)).await {
            Ok(answer) => answer,
            Err(failure) => Err(failure.into()),
        }
    }

    /// Hands `news` to the writer, waiting for room in its queue on a blocking thread.
    async fn tell(&self, news: Vec<Delivered>) {
        if news.is_empty() {
            return;
        }
        let writer = Arc::clone(&self.writer);
        let pushed = tokio::task::spawn_blocking(move || {
            news.into_iter().all(|news| writer.push(Command::Delivered(news)).is_ok())
        });
        if !pushed.await.unwrap_or(false) {
            debug!(component = "notifier", webhook = %self.name, "The writer has ended; progress is not stored");
        }
    }

    /// Tells at once, whatever the other lanes have done.
    pub(super) async fn report(&self, news: Delivered) {
        let _telling = self.telling.lock().await;
        self.tell(vec![news]).await;
    }

    /// Tells what all lanes have passed since the last call.
    pub(super) async fn settle(&self, board: &Board) {
        let _telling = self.telling.lock().await;
        let news = board.settled(&self.name);
        self.tell(news).await;
    }

    async fn set_gauges(&self, board: &Board) {
        let (name, state, told) = (Arc::clone(&self.name), board.state, board.told());
        let depth = self
            .ask(move |source| if state { source.changes_after(told) } else { source.outbox_depth(&name) })
            .await;
        match depth {
            Ok((number, oldest)) => {
                self.counters.queue_length.set(i64::try_from(number).unwrap_or(i64::MAX));
                let age = oldest.map_or(0.0, |oldest| Timestamp::now().since(oldest).as_secs_f64());
                self.counters.oldest.set(age);
            }
            Err(error) => self.source_failed(&error),
        }
    }

    pub(super) fn source_failed(&self, error: &SourceError) {
        // The store counts and logs its own failures; this line is for those who look at one webhook.
        debug!(component = "notifier", webhook = %self.name, error = %error, "The store does not answer");
    }
}

/// Which alerts were refused at which change. Bounded.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    known: HashMap<AlertId, u64>,
    order: VecDeque<AlertId>,
}

impl Refusals {
    pub(super) fn contains(&self, record: &AlertRecord) -> bool {
        self.known.get(&record.id) == Some(&record.change)
    }

    /// Whether it is news.
    pub(super) fn insert(&mut self, record: &AlertRecord) -> bool {
        match self.known.insert(record.id, record.change) {
            Some(change) => change != record.change,
            None => {
                self.order.push_back(record.id);
                if self.order.len() > REFUSALS
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.known.remove(&oldest);
                }
                true
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A queued change that an endpoint refused.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) record: Box<AlertRecord>,
    pub(super) reason: String,
}

/// How far the lanes are: by change numbers (state) or by rows (queue).
#[derive(Debug)]
pub(super) struct Board {
    state: bool,
    inner: Mutex<Positions>,
}

#[derive(Debug)]
struct Positions {
    lanes: Vec<(WebhookUrl, u64)>,
    /// What the writer knows.
    told: u64,
    /// Rows that some lane has passed and the writer does not know of.
    rows: BTreeMap<u64, Option<Lost>>,
    reported: Refusals,
}

impl Board {
    fn new(state: bool, told: u64) -> Self {
        let inner =
            Positions { lanes: Vec::new(), told, rows: BTreeMap::new(), reported: Refusals::default() };
        Self { state, inner: Mutex::new(inner) }
    }

    fn told(&self) -> u64 {
        self.inner.lock().told
    }

    /// Lanes for `urls` and no others. A new one starts where the slowest is.
    fn set_lanes(&self, urls: &[WebhookUrl]) {
        let mut inner = self.inner.lock();
        let start = inner.slowest();
        inner.lanes.retain(|(url, _)| urls.contains(url));
        for url in urls {
            if !inner.lanes.iter().any(|(known, _)| known == url) {
                inner.lanes.push((url.clone(), start));
            }
        }
    }

    fn position(&self, url: &WebhookUrl) -> u64 {
        let inner = self.inner.lock();
        inner.lanes.iter().find(|(known, _)| known == url).map_or(inner.told, |(_, position)| *position)
    }

    /// The lane of `url` has passed everything up to `position`, among it these `rows`.
    pub(super) fn passed(&self, url: &WebhookUrl, position: u64, rows: Vec<(u64, Option<Lost>)>) {
        let mut inner = self.inner.lock();
        let Some(at) = inner.lanes.iter().position(|(known, _)| known == url) else { return };
        inner.lanes[at].1 = inner.lanes[at].1.max(position);
        let told = inner.told;
        for (row, lost) in rows.into_iter().filter(|(row, _)| *row > told) {
            let known = inner.rows.entry(row).or_default();
            if known.is_none() {
                *known = lost;
            }
        }
    }

    /// Whether a lane is so far ahead of another that it has to wait.
    pub(super) fn is_full(&self, url: &WebhookUrl) -> bool {
        let inner = self.inner.lock();
        let ahead = inner.lanes.iter().any(|(known, at)| known == url && *at > inner.slowest());
        ahead && inner.rows.len() >= AHEAD
    }

    /// Whether no lane of this webhook has reported this refusal before.
    pub(super) fn is_news(&self, record: &AlertRecord) -> bool {
        self.inner.lock().reported.insert(record)
    }

    fn settled(&self, webhook: &Arc<str>) -> Vec<Delivered> {
        let mut inner = self.inner.lock();
        let slowest = inner.slowest();
        if slowest <= inner.told {
            return Vec::new();
        }
        inner.told = slowest;
        if self.state {
            return vec![Delivered::UpTo { webhook: Arc::clone(webhook), change: slowest }];
        }
        let later = inner.rows.split_off(&(slowest + 1));
        let (mut done, mut news) = (Vec::new(), Vec::new());
        for (row, lost) in std::mem::replace(&mut inner.rows, later) {
            match lost {
                None => done.push(row),
                Some(Lost { record, reason }) => {
                    news.push(Delivered::Dead {
                        webhook: Arc::clone(webhook),
                        row: Some(row),
                        record,
                        reason,
                    });
                }
            }
        }
        if !done.is_empty() {
            news.push(Delivered::Rows(done));
        }
        news
    }
}

impl Positions {
    fn slowest(&self) -> u64 {
        self.lanes.iter().map(|(_, position)| *position).min().unwrap_or(self.told)
    }
}

/// A worker's life, from its first order to its last.
pub(super) async fn run(
    context: Arc<Context>,
    mut orders: watch::Receiver<Order>,
    applied: watch::Receiver<u64>,
    predecessor: Option<JoinHandle<()>>,
) {
    if let Some(predecessor) = predecessor {
        let _ = predecessor.await;
    }
    let state = is_state(orders.borrow().settings.format);
    let Some(told) = first_position(&context, state, &mut orders).await else { return };
    let board = Arc::new(Board::new(state, told));
    // Ended with this task, however it ends.
    let mut lanes = JoinSet::new();
    let mut running = HashMap::new();
    let mut gauges = interval(context.timing.gauges);
    gauges.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut resumes = true;
    let duty = loop {
        let order = orders.borrow_and_update().clone();
        if order.duty != Duty::Run {
            break order.duty;
        }
        board.set_lanes(&order.settings.urls);
        context.settle(&board).await;
        for url in &order.settings.urls {
            if running.values().any(|known| known == url) {
                continue;
            }
            let lane = Lane::new(&context, &board, url, &orders, &applied);
            let task = match state {
                true => lanes.spawn(StateLane::new(lane).run()),
                false => lanes.spawn(QueueLane::new(lane, resumes).run()),
            };
            running.insert(task.id(), url.clone());
        }
        resumes = false;
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    break Duty::Shutdown;
                }
            }
            Some(ended) = lanes.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(failure) => {
                        error!(component = "notifier", webhook = %context.name, error = %failure, "A lane failed; it starts again");
                        tokio::time::sleep(context.timing.source).await;
                        failure.id()
                    }
                };
                running.remove(&id);
            }
            _ = gauges.tick() => context.set_gauges(&board).await,
        }
    };
    while lanes.join_next().await.is_some() {}
    if duty == Duty::Removed {
        let name = Arc::clone(&context.name);
        let parked = context.ask(move |source| source.outbox_depth(&name)).await.map_or(0, |(rows, _)| rows);
        info!(component = "notifier", webhook = %context.name, parked, "Webhook removed; what was queued for it stays in the store");
    }
}

/// Where the webhook stands: the stored change, or before the first row.
async fn first_position(context: &Context, state: bool, orders: &mut watch::Receiver<Order>) -> Option<u64> {
    if !state {
        return Some(0);
    }
    loop {
        let name = Arc::clone(&context.name);
        match context.ask(move |source| source.progress(&name)).await {
            Ok(change) => return Some(change),
            Err(error) => context.source_failed(&error),
        }
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    return None;
                }
            }
            () = tokio::time::sleep(context.timing.source) => {}
        }
        if orders.borrow().duty != Duty::Run {
            return None;
        }
    }
}

/// What refreshing a lane found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fresh {
    /// The settings are what they were.
    Same,
    /// They are others: the endpoint is made anew, failures are forgotten.
    Changed,
    /// The lane ends.
    Over,
}

/// One URL of a webhook: what both kinds of delivery need.
pub(super) struct Lane {
    pub(super) context: Arc<Context>,
    pub(super) board: Arc<Board>,
    pub(super) url: WebhookUrl,
    pub(super) settings: Arc<WebhookSettings>,
    pub(super) position: u64,
    /// Failed posts since the last that was answered well.
    pub(super) failures: u32,
    orders: watch::Receiver<Order>,
    applied: watch::Receiver<u64>,
    /// Whether `applied` still has a sender.
    signals: bool,
    endpoint: Option<Endpoint>,
    jitter: Jitter,
    failing: Option<Failing>,
    dead_letters: DeadLetters,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    said: Instant,
    posts: u64,
}

#[derive(Debug, Default)]
struct DeadLetters {
    said: Option<Instant>,
    unsaid: u64,
}

impl Lane {
    fn new(
        context: &Arc<Context>,
        board: &Arc<Board>,
        url: &WebhookUrl,
        orders: &watch::Receiver<Order>,
        applied: &watch::Receiver<u64>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            board: Arc::clone(board),
            url: url.clone(),
            settings: Arc::clone(&orders.borrow().settings),
            position: board.position(url),
            failures: 0,
            orders: orders.clone(),
            applied: applied.clone(),
            signals: true,
            endpoint: None,
            jitter: Jitter::seeded(),
            failing: None,
            dead_letters: DeadLetters::default(),
        }
    }

    /// Takes the newest order.
    pub(super) fn refresh(&mut self) -> Fresh {
        // An order that comes while this one is read is seen by the next call or wakes the next wait.
        if self.orders.has_changed().is_err() || self.is_over() {
            return Fresh::Over;
        }
        let settings = Arc::clone(&self.orders.borrow_and_update().settings);
        if Arc::ptr_eq(&settings, &self.settings) {
            return Fresh::Same;
        }
        self.settings = settings;
        self.endpoint = None;
        self.failures = 0;
        Fresh::Changed
    }

    /// Whether the newest order ends this lane.
    pub(super) fn is_over(&self) -> bool {
        let order = self.orders.borrow();
        order.duty != Duty::Run || !order.settings.urls.contains(&self.url)
    }

    /// Waits for a commit, an order, or `until`.
    pub(super) async fn wait(&mut self, until: Instant) {
        tokio::select! {
            _ = self.orders.changed() => {}
            applied = self.applied.changed(), if self.signals => self.signals = applied.is_ok(),
            () = sleep_until(until) => {}
        }
    }

    /// Waits for an order or for `span`, whatever is committed.
    pub(super) async fn rest(&mut self, span: Duration) {
        tokio::select! {
            _ = self.orders.changed() => {}
            () = tokio::time::sleep(span) => {}
        }
    }

    /// The pause that is due now.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        retry::pause(&self.settings.retry, self.failures, asked, &mut self.jitter)
    }

    /// Posts `body`, counts, and says in the log when the endpoint's health changes.
    pub(super) async fn post(&mut self, body: Vec<u8>, id: &str, alerts: usize) -> Outcome {
        let counters = &self.context.counters;
        if self.failures > 0 {
            counters.retries.inc();
        }
        let started = Instant::now();
        let endpoint = match self.endpoint.take() {
            Some(endpoint) => Ok(endpoint),
            None => Endpoint::new(&self.settings, &self.url, &self.context.tls).await,
        };
        let outcome = match endpoint {
            Ok(endpoint) => self.endpoint.insert(endpoint).post(body.into(), id).await,
            Err(reason) => Outcome::Again { reason, after: None },
        };
        self.context.counters.duration.observe(started.elapsed().as_secs_f64());
        match &outcome {
            Outcome::Taken => {
                self.context.counters.delivered.inc_by(alerts as u64);
                self.failures = 0;
                self.well();
            }
            // An endpoint that reads what it is sent works.
            Outcome::Content { .. } => {
                self.context.counters.failed.inc();
                self.failures = 0;
            }
            Outcome::Again { reason, .. } | Outcome::Refused { reason } => {
                self.context.counters.failed.inc();
                self.failures = self.failures.saturating_add(1);
                let reason = reason.clone();
                self.ill(&reason);
            }
        }
        outcome
    }

    fn well(&mut self) {
        if let Some(failing) = self.failing.take() {
            info!(
                component = "notifier", webhook = %self.context.name, endpoint = %self.url,
                failed_posts = failing.posts, seconds = failing.since.elapsed().as_secs(),
                "Webhook delivery works again",
            );
        }
    }

    fn ill(&mut self, reason: &str) {
        let now = Instant::now();
        let first = self.failing.is_none();
        let failing = self.failing.get_or_insert(Failing { since: now, said: now, posts: 0 });
        failing.posts += 1;
        if first || now - failing.said >= REMINDER {
            failing.said = now;
            warn!(
                component = "notifier", webhook = %self.context.name, endpoint = %self.url, error = reason,
                failed_posts = failing.posts, "Webhook delivery fails",
            );
        }
    }

    /// Says that `record` went to the dead letters; many of them share a line.
    pub(super) fn say_dead(&mut self, record: &AlertRecord, reason: &str) {
        let now = Instant::now();
        let lines = &mut self.dead_letters;
        if lines.said.is_some_and(|said| now - said < DEAD_LETTER_LINES) {
            lines.unsaid += 1;
            return;
        }
        lines.said = Some(now);
        warn!(
            component = "notifier", webhook = %self.context.name, endpoint = %self.url, alert = &*record.alert,
            alert_id = record.id.0, error = reason, others = std::mem::take(&mut lines.unsaid),
            "Alert refused for good; it is among the dead letters",
        );
    }
}
