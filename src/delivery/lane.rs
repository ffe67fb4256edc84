//! One URL of a webhook: what both kinds of delivery need of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::board::Board;
use super::retry::{self, Jitter};
use super::webhook::{Endpoint, Outcome};
use super::worker::{Context, Duty, Order};
use crate::config::settings::{WebhookSettings, WebhookUrl};
use crate::event::AlertRecord;

/// While an endpoint fails, the log says so again after so long.
const REMINDER: Duration = Duration::from_secs(600);
/// Between two lines about dead letters of one lane.
const DEAD_LETTER_LINES: Duration = Duration::from_secs(10);
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
    pub(super) fn new(
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
