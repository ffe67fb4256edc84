//! A webhook's worker: it keeps a lane for each URL, tells the writer how far all of them are, and sets the
//! gauges.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info};

use super::board::Board;
use super::breaker::BreakerState;
use super::connect::Network;
use super::journal::JournalLane;
use super::lane::{Lane, Shown};
use super::queue::QueueLane;
use super::state::StateLane;
use super::status::{EndpointStatus, WebhookStatus};
use super::{Parts, Source, SourceError, Timing};
use crate::config::settings::{DeliveryKind, Output, WebhookSettings, WebhookUrl};
use crate::event::{Command, Delivered, EventId, Queue, Timestamp};
use crate::metrics::Metrics;

/// What a worker is to do.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) settings: Arc<WebhookSettings>,
    pub(super) duty: Duty,
    /// How often everything was asked to be told again.
    pub(super) again: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    Run,
    /// End once nothing is left: the settings no longer have this webhook.
    Drain,
    /// End: the settings no longer have this webhook.
    Removed,
    /// End: the program does.
    Shutdown,
}

/// The metrics' children of one webhook. They are held here, so that counting after their removal
/// does not make them again.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) delivered: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) retries: IntCounter,
    pub(super) rate_limited: IntCounter,
    pub(super) events_lost: IntCounter,
    breaker: IntGauge,
    queue_length: IntGauge,
    oldest: Gauge,
    pub(super) duration: Histogram,
}

impl Counters {
    fn new(metrics: &Metrics, webhook: &str) -> Self {
        let label = &[webhook];
        // The writer counts in it; it is there from the beginning, so that a rise is one.
        metrics.webhook_dropped.with_label_values(label);
        Self {
            delivered: metrics.webhooks_delivered.with_label_values(label),
            failed: metrics.webhooks_failed.with_label_values(label),
            retries: metrics.webhook_retries.with_label_values(label),
            rate_limited: metrics.webhook_rate_limited.with_label_values(label),
            events_lost: metrics.webhook_events_lost.with_label_values(label),
            breaker: metrics.webhook_breaker_state.with_label_values(label),
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
        let _ = metrics.webhook_rate_limited.remove_label_values(label);
        let _ = metrics.webhook_dropped.remove_label_values(label);
        let _ = metrics.webhook_events_lost.remove_label_values(label);
        let _ = metrics.webhook_breaker_state.remove_label_values(label);
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
    metrics: Arc<Metrics>,
    pub(super) counters: Counters,
    pub(super) network: Arc<Network>,
    shown: Mutex<Vec<(WebhookUrl, Arc<Mutex<Shown>>)>>,
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
            metrics: Arc::clone(&parts.metrics),
            network: Arc::clone(&parts.network),
            shown: Mutex::default(),
            telling: tokio::sync::Mutex::new(()),
        })
    }

    /// Asks the source, on a blocking thread.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Source) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        match self.asking(question).await {
            Ok(answer) => answer,
            Err(failure) => Err(failure.into()),
        }
    }

    /// Asks the source, on a blocking thread; the answer can be waited for later.
    pub(super) fn asking<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Source) -> Result<T, SourceError> + Send + 'static,
    ) -> JoinHandle<Result<T, SourceError>> {
        let source = Arc::clone(&self.source);
        tokio::task::spawn_blocking(move || question(&*source))
    }

    /// Changes whenever events have been committed.
    pub(super) fn stored(&self) -> watch::Receiver<u64> {
        self.source.stored()
    }

    /// Hands `news` to the writer, waiting for room in its queue on a blocking thread if there is none.
    async fn tell(&self, news: Vec<Delivered>) {
        if news.is_empty() {
            return;
        }
        let mut news: Vec<_> = news.into_iter().map(Command::Delivered).collect();
        // There is room nearly always: then no other thread is needed.
        self.writer.offer(&mut news);
        if news.is_empty() {
            return;
        }
        let writer = Arc::clone(&self.writer);
        let pushed =
            tokio::task::spawn_blocking(move || news.into_iter().all(|news| writer.push(news).is_ok()));
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

    /// A place for what the lane of `url` shows.
    pub(super) fn show(&self, url: &WebhookUrl) -> Arc<Mutex<Shown>> {
        let shown = Arc::default();
        self.shown.lock().push((url.clone(), Arc::clone(&shown)));
        shown
    }

    /// Takes the place away.
    pub(super) fn hide(&self, url: &WebhookUrl, gone: &Arc<Mutex<Shown>>) {
        self.shown.lock().retain(|(known, shown)| known != url || !Arc::ptr_eq(shown, gone));
    }

    /// Sets the gauge: the worst of the endpoints.
    pub(super) fn show_breakers(&self, settings: &WebhookSettings) {
        self.counters.breaker.set(self.worst(settings) as i64);
    }

    /// Whether an endpoint's breaker is not closed.
    pub(super) fn is_failing(&self, settings: &WebhookSettings) -> bool {
        self.worst(settings) != BreakerState::Closed
    }

    fn worst(&self, settings: &WebhookSettings) -> BreakerState {
        let shown = self.shown.lock();
        let worst = shown.iter().map(|(_, shown)| shown.lock().breaker(settings)).max();
        worst.unwrap_or(BreakerState::Closed)
    }

    /// How the webhook is. Asks the store.
    pub(super) async fn status(&self, order: &Order) -> WebhookStatus {
        let settings = &order.settings;
        let (queued, oldest) = match self.depth(settings.delivery(), None).await {
            Ok((queued, oldest)) => (Some(queued), oldest),
            Err(_) => (None, None),
        };
        let shown = self.shown.lock();
        let endpoint = |url: &WebhookUrl| -> EndpointStatus {
            let known = shown.iter().find(|(known, _)| known == url);
            known.map_or_else(
                || Shown::default().status(url, settings),
                |(_, shown)| shown.lock().status(url, settings),
            )
        };
        WebhookStatus {
            name: self.name.to_string(),
            format: settings.output.as_ref().map_or(settings.format.as_str(), Output::as_str),
            queued,
            oldest,
            duty: if order.duty == Duty::Drain { "drain" } else { "run" },
            endpoints: settings.urls.iter().map(endpoint).collect(),
        }
    }

    /// How much waits and since when; `told` is how far one without an outbox is, the store's word otherwise.
    async fn depth(
        &self,
        kind: DeliveryKind,
        told: Option<u64>,
    ) -> Result<(u64, Option<Timestamp>), SourceError> {
        let name = Arc::clone(&self.name);
        self.ask(move |source| {
            let told = |source: &dyn Source| told.map_or_else(|| source.progress(&name), Ok);
            match kind {
                DeliveryKind::Queued => source.outbox_depth(&name),
                DeliveryKind::State => source.changes_after(told(source)?),
                DeliveryKind::Journal => {
                    let (waiting, oldest) = source.events_waiting(EventId(told(source)?))?;
                    // Dead letters that are sent again.
                    let (rows, queued) = source.outbox_depth(&name)?;
                    Ok((waiting + rows, [oldest, queued].into_iter().flatten().min()))
                }
            }
        })
        .await
    }

    async fn set_gauges(&self, board: &Board, settings: &WebhookSettings) {
        self.show_breakers(settings);
        match self.depth(settings.delivery(), Some(board.told())).await {
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
    let kind = orders.borrow().settings.delivery();
    let Some(told) = first_position(&context, kind, &mut orders).await else { return };
    let board = Arc::new(Board::new(kind != DeliveryKind::Queued, told));
    // Ended with this task, however it ends.
    let mut lanes = JoinSet::new();
    let mut running = HashMap::new();
    let mut gauges = interval(context.timing.gauges);
    gauges.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut resumes, mut began) = (true, false);
    let duty = loop {
        let order = orders.borrow_and_update().clone();
        if !matches!(order.duty, Duty::Run | Duty::Drain) {
            break order.duty;
        }
        board.set_lanes(&order.settings.urls);
        context.settle(&board).await;
        // What is to drain before it began has its lanes once too; one that has ended then has nothing left.
        let starts = order.duty == Duty::Run || !began;
        began = true;
        for url in order.settings.urls.iter().filter(|_| starts) {
            if running.values().any(|known| known == url) {
                continue;
            }
            let lane = Lane::new(&context, &board, url, &orders, &applied);
            let task = match kind {
                DeliveryKind::State => lanes.spawn(StateLane::new(lane).run()),
                DeliveryKind::Queued => lanes.spawn(QueueLane::new(lane, resumes).run()),
                DeliveryKind::Journal => lanes.spawn(JournalLane::new(lane).run()),
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
                if running.is_empty() && orders.borrow().duty == Duty::Drain {
                    break Duty::Drain;
                }
            }
            _ = gauges.tick() => context.set_gauges(&board, &order.settings).await,
        }
    };
    while lanes.join_next().await.is_some() {}
    context.settle(&board).await;
    if duty == Duty::Drain {
        // Held meanwhile, so that no successor of that name makes them anew just now.
        let order = orders.borrow();
        if order.duty == Duty::Drain {
            Counters::remove(&context.metrics, &context.name);
        }
        drop(order);
        info!(component = "notifier", webhook = %context.name, "Removed webhook has delivered what was queued for it");
    }
    if duty == Duty::Removed {
        let name = Arc::clone(&context.name);
        let parked = context.ask(move |source| source.outbox_depth(&name)).await.map_or(0, |(rows, _)| rows);
        info!(component = "notifier", webhook = %context.name, parked, "Webhook removed; what was queued for it stays in the store");
    }
}

/// Where the webhook stands: the stored change or event, or before the first row. What is sent events, and never was
/// sent one, begins with the next one to come: the past is not news.
async fn first_position(
    context: &Context,
    kind: DeliveryKind,
    orders: &mut watch::Receiver<Order>,
) -> Option<u64> {
    if kind == DeliveryKind::Queued {
        return Some(0);
    }
    loop {
        let name = Arc::clone(&context.name);
        let stands = context.ask(move |source| match source.progress(&name)? {
            0 if kind == DeliveryKind::Journal => Ok((source.newest_event()?.0, true)),
            stored => Ok((stored, false)),
        });
        match stands.await {
            Ok((position, new)) => {
                if new && position > 0 {
                    let webhook = Arc::clone(&context.name);
                    context.report(Delivered::UpTo { webhook, change: position }).await;
                }
                return Some(position);
            }
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
        if !matches!(orders.borrow().duty, Duty::Run | Duty::Drain) {
            return None;
        }
    }
}
