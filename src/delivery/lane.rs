//! One URL of a webhook: what both kinds of delivery need of it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::board::Board;
use super::breaker::{Breaker, BreakerState};
use super::flights::Hands;
use super::limit::Gcra;
use super::output::Target;
use super::retry::{self, Jitter};
use super::status::EndpointStatus;
use super::webhook::{Message, Outcome};
use super::worker::{Context, Duty, Order};
use crate::config::settings::{WebhookSettings, WebhookUrl};
use crate::event::{AlertRecord, Timestamp};

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
    breaker: Breaker,
    limiter: Option<Gcra>,
    pub(super) again: u64,
    orders: watch::Receiver<Order>,
    applied: watch::Receiver<u64>,
    /// Whether `applied` still has a sender.
    signals: bool,
    endpoint: Option<Arc<Target>>,
    /// Who polls the endpoint's connections.
    pub(super) hands: Hands,
    jitter: Jitter,
    failing: Option<Failing>,
    dead_letters: DeadLetters,
    shown: Arc<Mutex<Shown>>,
}

/// What others may see of a lane.
#[derive(Debug, Default)]
pub(super) struct Shown {
    breaker: Breaker,
    /// It waits for its rate limit until then.
    limited: Option<Instant>,
    in_flight: usize,
    success: Option<Timestamp>,
    failure: Option<(Timestamp, String)>,
}

impl Shown {
    pub(super) fn breaker(&self, settings: &WebhookSettings) -> BreakerState {
        self.breaker.state(&settings.breaker, Instant::now())
    }

    pub(super) fn status(&self, url: &WebhookUrl, settings: &WebhookSettings) -> EndpointStatus {
        let now = Instant::now();
        let limited = self.limited.filter(|until| *until > now);
        let next = self.breaker.resumes(now).max(limited);
        EndpointStatus {
            url: url.to_string(),
            breaker: self.breaker(settings).as_str(),
            failures: self.breaker.failures(),
            next_attempt: next.map(|at| Timestamp::now().after(at - now)),
            rate_limited: limited.is_some(),
            in_flight: self.in_flight,
            last_success: self.success,
            last_failure: self.failure.as_ref().map(|(time, _)| *time),
            last_error: self.failure.as_ref().map(|(_, reason)| reason.clone()),
        }
    }
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

/// A post on its way: counted while it lives.
pub(super) struct InFlight(Arc<Mutex<Shown>>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

impl Lane {
    pub(super) fn new(
        context: &Arc<Context>,
        board: &Arc<Board>,
        url: &WebhookUrl,
        orders: &watch::Receiver<Order>,
        applied: &watch::Receiver<u64>,
    ) -> Self {
        let settings = Arc::clone(&orders.borrow().settings);
        Self {
            context: Arc::clone(context),
            board: Arc::clone(board),
            url: url.clone(),
            position: board.position(url),
            breaker: Breaker::default(),
            limiter: settings.rate_limit.clone().map(Gcra::new),
            settings,
            again: orders.borrow().again,
            orders: orders.clone(),
            applied: applied.clone(),
            signals: true,
            endpoint: None,
            hands: Hands::Tasks,
            jitter: Jitter::seeded(),
            failing: None,
            dead_letters: DeadLetters::default(),
            shown: context.show(url),
        }
    }

    /// Takes the newest order.
    pub(super) fn refresh(&mut self) -> Fresh {
        // An order that comes while this one is read is seen by the next call or wakes the next wait.
        if self.orders.has_changed().is_err() || self.is_over() {
            return Fresh::Over;
        }
        let (settings, again) = {
            let order = self.orders.borrow_and_update();
            (Arc::clone(&order.settings), order.again)
        };
        if Arc::ptr_eq(&settings, &self.settings) && again == self.again {
            return Fresh::Same;
        }
        (self.settings, self.again) = (settings, again);
        self.endpoint = None;
        self.breaker = Breaker::default();
        if self.limiter.as_ref().map(Gcra::settings) != self.settings.rate_limit.as_ref() {
            self.limiter = self.settings.rate_limit.clone().map(Gcra::new);
        }
        let mut shown = self.shown.lock();
        *shown = Shown { in_flight: shown.in_flight, ..Shown::default() };
        drop(shown);
        Fresh::Changed
    }

    /// Whether the newest order ends this lane.
    pub(super) fn is_over(&self) -> bool {
        let order = self.orders.borrow();
        !matches!(order.duty, Duty::Run | Duty::Drain) || !order.settings.urls.contains(&self.url)
    }

    /// Whether it ends once nothing is left to deliver.
    pub(super) fn drains(&self) -> bool {
        self.orders.borrow().duty == Duty::Drain
    }

    /// Waits for a commit, an order, or `until`.
    pub(super) async fn wait(&mut self, until: Instant) {
        tokio::select! {
            _ = self.orders.changed() => {}
            applied = self.applied.changed(), if self.signals => self.signals = applied.is_ok(),
            () = sleep_until(until) => {}
        }
    }

    /// Whether something was committed since the last call or the last wait for it.
    pub(super) fn has_news(&mut self) -> bool {
        let news = self.applied.has_changed().unwrap_or(false);
        if news {
            self.applied.mark_unchanged();
        }
        news
    }

    /// Waits for an order or for `span`, whatever is committed.
    pub(super) async fn rest(&mut self, span: Duration) {
        self.rest_until(Instant::now() + span).await;
    }

    /// Waits for an order or until `until`, whatever is committed.
    pub(super) async fn rest_until(&mut self, until: Instant) {
        tokio::select! {
            _ = self.orders.changed() => {}
            () = sleep_until(until) => {}
        }
    }

    /// Goes on after a restart.
    pub(super) fn resume(&mut self, failures: u32, pause: Duration) {
        let resume = (!pause.is_zero()).then(|| Instant::now() + pause);
        self.breaker = Breaker::resumed(failures, resume);
        self.shown.lock().breaker = self.breaker.clone();
    }

    /// Whether the endpoint fails: one post at a time goes out then.
    pub(super) fn fails(&self) -> bool {
        self.breaker.failures() > 0
    }

    /// When the next post may go out if the breaker and the backoff say so; `None` is now.
    pub(super) fn resumes(&self) -> Option<Instant> {
        self.breaker.resumes(Instant::now())
    }

    /// Takes a turn of the rate limit.
    ///
    /// # Errors
    /// When there is one.
    pub(super) fn turn(&mut self) -> Result<(), Instant> {
        let now = Instant::now();
        let Some(limiter) = &mut self.limiter else { return Ok(()) };
        let taken = limiter.take(now);
        let mut shown = self.shown.lock();
        if taken.is_err() && shown.limited.is_none_or(|until| until <= now) {
            self.context.counters.rate_limited.inc();
        }
        shown.limited = taken.err();
        taken
    }

    /// The endpoint, made when it is first needed.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(super) async fn endpoint(&mut self) -> Result<Arc<Target>, String> {
        if let Some(endpoint) = &self.endpoint {
            return Ok(Arc::clone(endpoint));
        }
        let endpoint = Arc::new(
            Target::new(&self.settings, &self.url, &self.context.network, self.hands.clone()).await?,
        );
        Ok(Arc::clone(self.endpoint.insert(endpoint)))
    }

    /// Lets go of the endpoint and its connections.
    pub(super) fn disconnect(&mut self) {
        self.endpoint = None;
    }

    /// Says that a post begins.
    pub(super) fn begins(&self) -> InFlight {
        if self.fails() {
            self.context.counters.retries.inc();
        }
        self.shown.lock().in_flight += 1;
        InFlight(Arc::clone(&self.shown))
    }

    /// Posts `message`, counts, and says in the log when the endpoint's health changes.
    pub(super) async fn post(&mut self, message: Message, alerts: usize) -> Outcome {
        let began = Instant::now();
        let flight = self.begins();
        let outcome = match self.endpoint().await {
            Ok(endpoint) => endpoint.post(message).await,
            Err(reason) => Outcome::unreached(reason),
        };
        drop(flight);
        self.judge(&outcome, began, alerts);
        outcome
    }

    /// Counts what became of a post that began at `began`, and says in the log when the endpoint's health changes.
    pub(super) fn judge(&mut self, outcome: &Outcome, began: Instant, alerts: usize) {
        let counters = &self.context.counters;
        counters.duration.observe(began.elapsed().as_secs_f64());
        if *outcome == Outcome::Taken {
            counters.delivered.inc_by(alerts as u64);
        } else {
            counters.failed.inc();
        }
        let reason = match outcome {
            Outcome::Taken => None,
            Outcome::Again { reason, .. } | Outcome::Content { reason } | Outcome::Refused { reason } => {
                Some(reason)
            }
        };
        let well = match outcome {
            // An endpoint that reads what it is sent works; so does one that has spoken its last word on it.
            Outcome::Taken | Outcome::Content { .. } => true,
            Outcome::Refused { .. } => !self.board.state,
            Outcome::Again { .. } => false,
        };
        if matches!(outcome, Outcome::Again { answered: false, .. }) {
            // Whatever else it keeps open may be as dead as this one: the next post connects anew.
            self.endpoint = None;
        }
        if well {
            self.breaker.succeeded();
        } else {
            let asked = match outcome {
                Outcome::Again { after, .. } => *after,
                _ => None,
            };
            let (settings, jitter) = (&self.settings, &mut self.jitter);
            self.breaker.failed(&settings.breaker, began, Instant::now(), asked, |failures| {
                retry::pause(&settings.retry, failures, asked, jitter)
            });
        }
        {
            let mut shown = self.shown.lock();
            shown.breaker = self.breaker.clone();
            match reason {
                None => shown.success = Some(Timestamp::now()),
                Some(reason) => shown.failure = Some((Timestamp::now(), reason.clone())),
            }
        }
        self.context.show_breakers(&self.settings);
        match (outcome, reason) {
            (Outcome::Taken, _) => self.well(),
            (Outcome::Again { .. } | Outcome::Refused { .. }, Some(reason)) => self.ill(reason),
            _ => {}
        }
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
            let breaker = self.breaker.state(&self.settings.breaker, now).as_str();
            warn!(
                component = "notifier", webhook = %self.context.name, endpoint = %self.url, error = reason,
                failed_posts = failing.posts, breaker, "Webhook delivery fails",
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

impl Drop for Lane {
    fn drop(&mut self) {
        self.context.hide(&self.url, &self.shown);
    }
}
