//! Delivery: from the committed state to the webhooks, at least once.
//!
//! Each webhook has a worker, found by its name, that outlives generations: [`Deliveries::apply`] gives it new
//! settings, and nothing that is queued or in flight is lost. A worker has a lane for each of its URLs,
//! so that neither a webhook nor a member of a cluster that hangs delays another.
//!
//! There are three kinds of delivery:
//! - **state** (`alertmanager`): a lane posts what each alert is now. It follows the alerts' change
//!   numbers, and sends open alerts again and again. It is never given up: what an endpoint fails to take is
//!   sent when it works again. One bad alert is found by bisection and set aside until it changes.
//! - **queued events** (every other format): a lane posts every change of every alert, those of one alert in
//!   their order, a bounded number of times; what is refused goes to the dead letters.
//! - **the journal** (`forward`): a lane sends every stored notification on. The journal is its queue: what is kept is
//!   the number of the last event that was sent.
//!
//! | file | lives there |
//! |---|---|
//! | `worker.rs`, `board.rs` | a webhook's worker, which keeps its lanes; the progress over all of them |
//! | `lane.rs` | what both kinds of lane have in common |
//! | `state.rs`, `queue.rs`, `journal.rs` | the three kinds of lane |
//! | `format.rs` | what is posted (pure) |
//! | `webhook.rs`, `connect.rs`, `tls.rs` | one HTTP post; its connection, with the address filter, proxies and TLS |
//! | `output.rs`, `output/` | what takes the place of HTTP: files, syslog, SNMP receivers |
//! | `retry.rs`, `breaker.rs`, `limit.rs` | backoff with jitter, `Retry-After`; the circuit breaker; the rate limit |
//! | `status.rs` | what people may see of it |

mod board;
mod breaker;
mod connect;
mod flights;
pub mod format;
mod journal;
mod lane;
mod limit;
mod output;
mod queue;
mod retry;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod tls;
mod webhook;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::settings::{DeliveryKind, WebhookSettings, WhenRemoved};
use crate::event::{AlertId, AlertRecord, Command, EventId, EventRecord, Queue, Timestamp};
use crate::metrics::Metrics;
pub use status::{EndpointStatus, WebhookStatus};
use worker::{Context, Counters, Duty, Order};

/// Why a [`Source`] could not answer; it is logged and asked again.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// What workers read: the committed state. Calls may block; they are made on blocking threads, never
/// on an async one, and several at a time.
pub trait Source: Send + Sync + 'static {
    /// The alerts, as they are now, whose last change is later than `change`, in the order of their
    /// changes; at most `limit`. Resolved ones stay in it for at least half an hour.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn alerts_changed_after(&self, change: u64, limit: usize) -> Result<Vec<AlertRecord>, SourceError>;

    /// How many alerts have changed after `change`, and when the first of them did. This one pages
    /// through [`Source::alerts_changed_after`]; a store that can count does better.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn changes_after(&self, change: u64) -> Result<(u64, Option<Timestamp>), SourceError> {
        let (mut number, mut oldest, mut at) = (0, None, change);
        loop {
            let page = self.alerts_changed_after(at, 1000)?;
            number += page.len() as u64;
            if oldest.is_none() {
                oldest = page.first().map(|record| record.resolved_at.unwrap_or(record.last_seen));
            }
            match page.last() {
                Some(last) if last.change > at => at = last.change,
                _ => return Ok((number, oldest)),
            }
        }
    }

    /// The open alerts with numbers above `after`, in the order of their numbers; at most `limit`.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn open_alerts_after(&self, after: AlertId, limit: usize) -> Result<Vec<AlertRecord>, SourceError>;

    /// The alerts that ended behind `after`, a time and a number, in the order of their ends and numbers; at most
    /// `limit`. Each has its end in `resolved_at`.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn alerts_resolved_after(
        &self,
        after: (Timestamp, AlertId),
        limit: usize,
    ) -> Result<Vec<AlertRecord>, SourceError>;

    /// The change up to which `webhook` has been told; 0 for one that never was.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn progress(&self, webhook: &str) -> Result<u64, SourceError>;

    /// The rows of `webhook`'s outbox above `after`, in their order, whether due or not; at most `limit`.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn outbox(&self, webhook: &str, after: u64, limit: usize) -> Result<Vec<OutboxRow>, SourceError>;

    /// How many rows wait in `webhook`'s outbox, and since when the oldest does.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn outbox_depth(&self, webhook: &str) -> Result<(u64, Option<Timestamp>), SourceError>;

    /// The event as `events --json` shows it; `None` if it is gone.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn event_json(&self, event: EventId) -> Result<Option<Box<RawValue>>, SourceError>;

    /// The event, whole; `None` if it is gone.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn event(&self, event: EventId) -> Result<Option<EventRecord>, SourceError>;

    /// The events after `after` that `output` is to be sent, in their order; at most `limit` are looked at.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn events_after(&self, output: &str, after: EventId, limit: usize) -> Result<Events, SourceError>;

    /// How many events there are after `after`, and since when the first of them waits.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn events_waiting(&self, after: EventId) -> Result<(u64, Option<Timestamp>), SourceError>;

    /// Changes whenever events have been committed.
    fn stored(&self) -> watch::Receiver<u64>;

    /// The newest event.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    fn newest_event(&self) -> Result<EventId, SourceError>;
}

/// A stretch of the journal for one output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Events {
    /// What it is to be sent.
    pub events: Vec<EventRecord>,
    /// Everything up to here was looked at.
    pub upto: EventId,
    /// How many are gone that it has not been sent, since the last answer. Those that a rule keeps from it count too: who
    /// raised them is gone with them.
    pub lost: u64,
}

/// One change that waits for a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its number: rising over the outbox, never used again.
    pub row: u64,
    /// The alert as it was at that change.
    pub record: AlertRecord,
    /// How often it was posted in vain.
    pub attempts: u32,
    /// It is not posted before this time.
    pub not_before: Timestamp,
}

/// The spans that product.md fixes; tests shorten them.
#[derive(Debug, Clone)]
struct Timing {
    /// Open alerts are sent again so often.
    resend: Duration,
    /// Resolved ones are sent again for so long.
    resolved_for: Duration,
    /// Alertmanager holds an open alert for so long after the last post.
    hold: Duration,
    /// A lane looks for work so often even if no signal comes.
    poll: Duration,
    /// The gauges are set so often.
    gauges: Duration,
    /// The store is asked again so long after it failed.
    source: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            resend: Duration::from_secs(60),
            resolved_for: Duration::from_secs(15 * 60),
            hold: Duration::from_secs(30 * 60),
            poll: Duration::from_secs(30),
            gauges: Duration::from_secs(5),
            source: Duration::from_secs(1),
        }
    }
}

/// All webhook workers.
#[derive(Debug)]
pub struct Deliveries {
    handle: Handle,
    parts: Parts,
    workers: Mutex<Workers>,
}

/// Workers by the names of their webhooks.
#[derive(Debug, Default)]
struct Workers {
    running: BTreeMap<Arc<str>, Worker>,
    /// Removed, and still delivering what was queued.
    draining: BTreeMap<Arc<str>, Worker>,
    /// Removed, and still waiting for the answer to their last post.
    leaving: BTreeMap<Arc<str>, JoinHandle<()>>,
}

/// What every worker gets.
struct Parts {
    source: Arc<dyn Source>,
    writer: Arc<Queue<Command>>,
    applied: watch::Receiver<u64>,
    metrics: Arc<Metrics>,
    network: Arc<connect::Network>,
    timing: Timing,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("timing", &self.timing).finish_non_exhaustive()
    }
}

struct Worker {
    orders: watch::Sender<Order>,
    kind: DeliveryKind,
    context: Arc<Context>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("orders", &self.orders).finish_non_exhaustive()
    }
}

impl Deliveries {
    /// Ready to take webhooks, with none yet. Workers run on `handle`, read from `source` whenever
    /// `applied` changes (the store sets it once a commit is applied), and report to `writer`.
    #[must_use]
    pub fn start(
        handle: Handle,
        source: Arc<dyn Source>,
        writer: Arc<Queue<Command>>,
        applied: watch::Receiver<u64>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let network = connect::Network::from_environment();
        Self::with_timing(handle, source, writer, applied, metrics, (network, Timing::default()))
    }

    fn with_timing(
        handle: Handle,
        source: Arc<dyn Source>,
        writer: Arc<Queue<Command>>,
        applied: watch::Receiver<u64>,
        metrics: Arc<Metrics>,
        (network, timing): (connect::Network, Timing),
    ) -> Self {
        let network = Arc::new(network);
        let parts = Parts { source, writer, applied, metrics, network, timing };
        Self { handle, parts, workers: Mutex::default() }
    }

    /// Makes `webhooks` the running ones: starts the new, gives the changed their settings (they post
    /// with them from the next post on, at once if they were waiting to retry), and stops the removed
    /// once their posts in flight have ended, or once their queue is empty if they are to drain it. What a removed
    /// webhook leaves in its outbox stays in the store until a webhook of that name comes back. Never blocks,
    /// cannot fail.
    pub fn apply(&self, webhooks: &[Arc<WebhookSettings>]) {
        let mut workers = self.workers.lock();
        let Workers { running, draining, leaving } = &mut *workers;
        leaving.retain(|_, task| !task.is_finished());
        draining.retain(|_, worker| !worker.task.is_finished());
        let stays = |name: &Arc<str>, kind: DeliveryKind| {
            webhooks.iter().any(|webhook| webhook.name == *name && webhook.delivery() == kind)
        };
        for (name, worker) in running.extract_if(.., |name, worker| !stays(name, worker.kind)) {
            let taken = webhooks.iter().any(|webhook| webhook.name == name);
            let drains = !taken && worker.orders.borrow().settings.when_removed == WhenRemoved::Drain;
            worker.orders.send_modify(|order| order.duty = if drains { Duty::Drain } else { Duty::Removed });
            if drains {
                draining.insert(name, worker);
            } else {
                Counters::remove(&self.parts.metrics, &name);
                leaving.insert(name, worker.task);
            }
        }
        // One that comes back while it drains goes on under its new settings.
        for (name, worker) in
            draining.extract_if(.., |name, _| webhooks.iter().any(|webhook| webhook.name == *name))
        {
            worker.orders.send_modify(|order| order.duty = Duty::Removed);
            leaving.insert(name, worker.task);
        }
        for settings in webhooks {
            if let Some(worker) = running.get(&settings.name) {
                worker.orders.send_if_modified(|order| {
                    let changed = order.settings != *settings;
                    if changed {
                        order.settings = Arc::clone(settings);
                    }
                    changed
                });
                continue;
            }
            // A webhook of that name may still be answering its last post: nothing is posted twice for it.
            let predecessor = leaving.remove(&settings.name);
            running.insert(Arc::clone(&settings.name), self.worker(settings, predecessor));
        }
    }

    fn worker(&self, settings: &Arc<WebhookSettings>, predecessor: Option<JoinHandle<()>>) -> Worker {
        let (orders, receiver) =
            watch::channel(Order { settings: Arc::clone(settings), duty: Duty::Run, again: 0 });
        let context = Context::new(Arc::clone(&settings.name), &self.parts);
        let applied = self.parts.applied.clone();
        let task = self.handle.spawn(worker::run(Arc::clone(&context), receiver, applied, predecessor));
        Worker { orders, kind: settings.delivery(), context, task }
    }

    /// The webhooks of state.
    #[must_use]
    pub fn states(&self) -> Vec<Arc<str>> {
        let workers = self.workers.lock();
        let states = workers.running.iter().filter(|(_, worker)| worker.kind == DeliveryKind::State);
        states.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Has these webhooks of state forget what was refused, and tells them of all open alerts at once.
    pub fn tell_again(&self, webhooks: &[Arc<str>]) {
        let workers = self.workers.lock();
        for worker in webhooks.iter().filter_map(|name| workers.running.get(name)) {
            worker.orders.send_modify(|order| order.again += 1);
        }
    }

    /// The webhooks of which an endpoint is left alone by its breaker, or only tried.
    #[must_use]
    pub fn failing(&self) -> Vec<Arc<str>> {
        let workers = self.workers.lock();
        let all = workers.running.iter().chain(&workers.draining);
        all.filter(|(_, worker)| worker.context.is_failing(&worker.orders.borrow().settings))
            .map(|(name, _)| Arc::clone(name))
            .collect()
    }

    /// How each webhook is, by name; those that drain last. Asks the store about each.
    pub async fn status(&self) -> Vec<WebhookStatus> {
        let asked: Vec<_> = {
            let workers = self.workers.lock();
            let all = workers.running.values().chain(workers.draining.values());
            all.filter(|worker| !worker.task.is_finished())
                .map(|worker| (Arc::clone(&worker.context), worker.orders.borrow().clone()))
                .collect()
        };
        let mut all = Vec::with_capacity(asked.len());
        for (context, order) in asked {
            all.push(context.status(&order).await);
        }
        all
    }

    /// Ends all workers: idle and waiting ones at once, the others once their post in flight has been
    /// answered and reported, but within `patience`. What was not delivered is in the store.
    pub async fn stop(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let Workers { mut running, draining, leaving } = std::mem::take(&mut *self.workers.lock());
        running.extend(draining);
        for worker in running.values() {
            worker.orders.send_modify(|order| order.duty = Duty::Shutdown);
        }
        // The senders live until the workers have ended: a worker without one would take it for an order.
        let (orders, tasks): (Vec<_>, Vec<_>) =
            running.into_iter().map(|(name, worker)| (worker.orders, (name, worker.task))).unzip();
        for (name, mut task) in tasks.into_iter().chain(leaving) {
            if tokio::time::timeout_at(until, &mut task).await.is_err() {
                task.abort();
                tracing::warn!(component = "notifier", webhook = %name, "Webhook stopped with a post in flight");
            }
        }
        drop(orders);
    }
}
