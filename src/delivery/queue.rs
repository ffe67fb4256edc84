//! Delivery of queued events: a lane posts the rows of the outbox.
//!
//! Up to `concurrency` posts are in flight at once. The changes of an alert never overtake each other: while one
//! is in flight or waits to be posted again, later ones of the same alert wait behind it. After a failure one
//! post at a time goes out and holds half as many rows, down to one, and after a success twice as many: one
//! row that breaks its endpoint uses up its attempts alone. What is refused because of its contents is narrowed
//! down by halves. What is refused, or has failed `retry.attempts` times, becomes a dead letter. A post for which
//! no connection could be made is no attempt: nobody has refused anything.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{error, warn};

use super::board::Lost;
use super::lane::{Fresh, InFlight, Lane};
use super::output::Target;
use super::webhook::Outcome;
use super::{OutboxRow, SourceError, format};
use crate::config::settings::WebhookSettings;
use crate::event::{AlertId, Delivered, EventId, Timestamp};

/// The longest that a stored `not_before` is believed, whatever the clock did in between.
const LONGEST_STORED_PAUSE: Duration = Duration::from_secs(3600);
/// At most so many rows are in memory, unless one post holds more.
const WINDOW: usize = 4096;
/// At least so many rows are asked for, and the events of so many are read beforehand.
const LEAST: usize = 256;

/// A lane that delivers queued events.
pub(super) struct QueueLane {
    lane: Lane,
    window: Window,
    /// At most so many rows in the next post.
    width: usize,
    posts: JoinSet<(Outcome, Instant)>,
    /// The rows of the posts in flight.
    flying: BTreeMap<Id, Vec<u64>>,
    /// Whether the attempts that the store has are this lane's own, from before a restart. They are read
    /// once: later ones are in memory, and other lanes store theirs in the same rows.
    resumes: bool,
    /// A post that is not full waits for more until then.
    gathers: Option<Instant>,
    /// Whether the store had as many rows as were asked for.
    more: bool,
    /// Whether it waits for a slower lane.
    waits: bool,
}

type Landed = Result<(Id, (Outcome, Instant)), JoinError>;

/// What the lane waits for next.
enum Next {
    /// News from the store, or this time.
    Work(Instant),
    /// This time, whatever the store says.
    Time(Instant),
    /// A post in flight.
    Answer,
}

/// Rows that were read and are not behind the lane yet, in their order.
#[derive(Default)]
struct Window {
    rows: BTreeMap<u64, Waiting>,
    /// All up to this row were read.
    read: u64,
}

struct Waiting {
    row: Arc<OutboxRow>,
    /// Posts in vain.
    attempts: u32,
    /// At most so many rows in a post with this one, since a larger one was refused.
    narrow: usize,
    flying: bool,
    /// Its event, once it was read; within, `None` is one that is gone.
    event: Option<Option<Arc<Value>>>,
}

impl Window {
    fn resting(&self) -> usize {
        self.rows.values().filter(|waiting| !waiting.flying).count()
    }

    /// The rows of the next post, at most `most`: in order, none whose alert has an earlier row that is not done.
    fn choose(&self, most: usize) -> Vec<u64> {
        let (mut chosen, mut most) = (Vec::new(), most.max(1));
        let mut blocked: HashSet<AlertId> = HashSet::new();
        for (number, waiting) in &self.rows {
            let alert = waiting.row.record.id;
            if waiting.flying || blocked.contains(&alert) {
                blocked.insert(alert);
                continue;
            }
            most = most.min(waiting.narrow.max(chosen.len()));
            if chosen.len() >= most {
                break;
            }
            chosen.push(*number);
        }
        chosen
    }

    /// The rows among `chosen` and those that come next whose events are to be read: none if `chosen` have theirs, else
    /// enough that many small posts share a question.
    fn unread(&self, chosen: &[u64]) -> Vec<(u64, EventId)> {
        let needs = |number: &u64| self.rows.get(number).is_some_and(|waiting| waiting.event.is_none());
        let Some(first) = chosen.iter().copied().find(needs) else { return Vec::new() };
        let most = LEAST.max(chosen.len());
        let next = self.rows.range(first..).filter(|(_, waiting)| !waiting.flying && waiting.event.is_none());
        let last = chosen.last().copied().unwrap_or(first);
        // All that were chosen, though others stand between them.
        let wanted = next.enumerate().take_while(|(at, (number, _))| *at < most || **number <= last);
        wanted.map(|(_, (number, waiting))| (*number, waiting.row.record.last_event)).collect()
    }

    /// Everything up to here is behind the lane.
    fn position(&self) -> u64 {
        self.rows.keys().next().map_or(self.read, |first| first - 1)
    }
}

impl QueueLane {
    /// `resumes`: whether it goes on with what was queued before a restart.
    pub(super) fn new(lane: Lane, resumes: bool) -> Self {
        let window = Window { read: lane.position, ..Window::default() };
        Self {
            lane,
            window,
            width: usize::MAX,
            posts: JoinSet::new(),
            flying: BTreeMap::new(),
            resumes,
            gathers: None,
            more: false,
            waits: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.lane.refresh() {
                Fresh::Over => break,
                Fresh::Changed => {
                    for waiting in self.window.rows.values_mut() {
                        (waiting.attempts, waiting.narrow) = (0, usize::MAX);
                        // Other names may be known now.
                        waiting.event = None;
                    }
                    self.resumes = false;
                    self.width = usize::MAX;
                    self.gathers = None;
                }
                Fresh::Same => {}
            }
            while let Some(landed) = self.posts.try_join_next_with_id() {
                self.land(landed).await;
            }
            let next = match self.fly().await {
                Ok(next) => next,
                Err(error) => {
                    self.lane.context.source_failed(&error);
                    Next::Time(Instant::now() + self.lane.context.timing.source)
                }
            };
            if matches!(next, Next::Work(_)) && self.lane.drains() && self.window.rows.is_empty() {
                break;
            }
            // A post that never ends is bounded by its timeout.
            let never = Instant::now() + Duration::from_secs(3600);
            let (until, news) = match next {
                Next::Work(until) => (until, true),
                Next::Time(until) => (until, false),
                Next::Answer => (never, false),
            };
            let (lane, posts) = (&mut self.lane, &mut self.posts);
            let rest = async { if news { lane.wait(until).await } else { lane.rest_until(until).await } };
            let landed = tokio::select! {
                landed = posts.join_next_with_id(), if !posts.is_empty() => landed,
                () = rest => None,
            };
            if let Some(landed) = landed {
                self.land(landed).await;
            }
        }
        // What is in flight has its answer reported.
        while let Some(landed) = self.posts.join_next_with_id().await {
            self.land(landed).await;
        }
    }

    /// Sends what may be sent now.
    async fn fly(&mut self) -> Result<Next, SourceError> {
        loop {
            if let Some(resume) = self.lane.resumes() {
                return Ok(Next::Time(resume));
            }
            let abreast = if self.lane.fails() { 1 } else { self.lane.settings.concurrency.max(1) };
            let max = self.lane.settings.batch.max.max(1);
            let most = max.min(self.width);
            if self.posts.len() >= abreast {
                // What comes next is read meanwhile, where more is known to wait.
                if self.more {
                    self.fill(max).await?;
                }
                let next = self.window.choose(most);
                self.read_events(&next).await?;
                return Ok(Next::Answer);
            }
            let full = self.lane.board.is_full(&self.lane.url);
            if full && !self.waits {
                warn!(
                    component = "notifier", webhook = %self.lane.context.name, endpoint = %self.lane.url,
                    "This endpoint waits for a slower one of the same webhook",
                );
            }
            self.waits = full;
            if full {
                return Ok(Next::Time(Instant::now() + self.lane.context.timing.source));
            }
            self.fill(max).await?;
            if std::mem::take(&mut self.resumes) {
                self.resume();
                continue;
            }
            let chosen = self.window.choose(most);
            if chosen.is_empty() {
                self.gathers = None;
                return Ok(Next::Work(Instant::now() + self.lane.context.timing.poll));
            }
            let wait = self.lane.settings.batch.wait;
            if chosen.len() < most && !wait.is_zero() && !self.lane.fails() {
                let now = Instant::now();
                let until = *self.gathers.get_or_insert(now + wait);
                if now < until {
                    return Ok(Next::Time(until));
                }
            }
            self.read_events(&chosen).await?;
            if let Err(turn) = self.lane.turn() {
                return Ok(Next::Time(turn));
            }
            self.gathers = None;
            self.send(chosen).await;
        }
    }

    /// Reads more rows if fewer than a post's wait.
    async fn fill(&mut self, max: usize) -> Result<(), SourceError> {
        // Small posts share a question to the store.
        let room = (max * self.lane.settings.concurrency.max(1)).clamp(LEAST, WINDOW).max(max);
        if self.window.resting() >= max || self.window.rows.len() >= 2 * room {
            return Ok(());
        }
        let (name, read) = (Arc::clone(&self.lane.context.name), self.window.read);
        let rows = self.lane.context.ask(move |source| source.outbox(&name, read, room)).await?;
        self.more = rows.len() >= room;
        for row in rows.into_iter().filter(|row| row.row > read) {
            self.window.read = self.window.read.max(row.row);
            // A lane that failed and starts again may have passed some of what it reads.
            if self.lane.board.has_passed(&self.lane.url, row.row) {
                continue;
            }
            let attempts = if self.resumes { row.attempts } else { 0 };
            let number = row.row;
            let waiting =
                Waiting { row: Arc::new(row), attempts, narrow: usize::MAX, flying: false, event: None };
            self.window.rows.insert(number, waiting);
        }
        Ok(())
    }

    /// Goes on where a restart left off.
    fn resume(&mut self) {
        let Some(first) = self.window.rows.values().next() else { return };
        let pause = first.row.not_before.since(Timestamp::now()).min(LONGEST_STORED_PAUSE);
        self.lane.resume(first.attempts, pause);
    }

    /// Reads the events of `chosen`, with those of the next rows, while earlier posts are in flight.
    async fn read_events(&mut self, chosen: &[u64]) -> Result<(), SourceError> {
        let unread = self.window.unread(chosen);
        if unread.is_empty() {
            return Ok(());
        }
        let read = self.lane.context.ask(move |source| {
            let read = unread.into_iter().map(|(number, event)| Ok((number, source.event_json(event)?)));
            read.collect::<Result<Vec<_>, SourceError>>()
        });
        for (number, event) in read.await? {
            if let Some(waiting) = self.window.rows.get_mut(&number) {
                waiting.event = Some(event.map(Arc::new));
            }
        }
        Ok(())
    }

    async fn send(&mut self, chosen: Vec<u64>) {
        let mut rows = Vec::with_capacity(chosen.len());
        for number in &chosen {
            if let Some(waiting) = self.window.rows.get_mut(number) {
                waiting.flying = true;
                rows.push((Arc::clone(&waiting.row), waiting.event.clone().flatten()));
            }
        }
        let began = Instant::now();
        let flight = self.lane.begins();
        let endpoint = self.lane.endpoint().await;
        let settings = Arc::clone(&self.lane.settings);
        let post = self.posts.spawn(async move { (post(settings, endpoint, rows, flight).await, began) });
        self.flying.insert(post.id(), chosen);
    }

    async fn land(&mut self, landed: Landed) {
        let (id, posted) = match landed {
            Ok((id, posted)) => (id, Some(posted)),
            Err(failure) => (failure.id(), None),
        };
        let Some(rows) = self.flying.remove(&id) else { return };
        for number in &rows {
            if let Some(waiting) = self.window.rows.get_mut(number) {
                waiting.flying = false;
            }
        }
        let outcome = match posted {
            Some((outcome, began)) => {
                self.lane.judge(&outcome, began, rows.len());
                outcome
            }
            None => {
                error!(component = "notifier", webhook = %self.lane.context.name, "A post has panicked; it is tried again");
                self.lane.rest(self.lane.context.timing.source).await;
                return;
            }
        };
        match outcome {
            Outcome::Taken => {
                self.width = self.width.saturating_mul(2);
                self.pass(&rows, None).await;
            }
            Outcome::Content { .. } if rows.len() > 1 => {
                for number in &rows {
                    if let Some(waiting) = self.window.rows.get_mut(number) {
                        waiting.narrow = rows.len() / 2;
                    }
                }
            }
            Outcome::Content { reason } | Outcome::Refused { reason } => {
                self.pass(&rows, Some(&reason)).await
            }
            Outcome::Again { reason, reached, .. } => self.again(rows, &reason, reached).await,
        }
    }

    /// After a post that may pass later: gives up the rows whose attempts are used up, keeps the others for after the pause.
    async fn again(&mut self, rows: Vec<u64>, reason: &str, reached: bool) {
        self.width = (rows.len() / 2).max(1);
        let now = Instant::now();
        let not_before = self.lane.resumes().map_or(now, |resume| resume) - now;
        let not_before = Timestamp::now().after(not_before);
        let most = self.lane.settings.retry.attempts.max(1);
        let (mut given_up, mut kept) = (Vec::new(), Vec::new());
        for number in rows {
            let Some(waiting) = self.window.rows.get_mut(&number) else { continue };
            waiting.attempts = waiting.attempts.saturating_add(u32::from(reached));
            if waiting.attempts >= most && reached {
                given_up.push(number);
            } else {
                kept.push((number, waiting.attempts, not_before));
            }
        }
        if !given_up.is_empty() {
            let reason = format!("{reason} (after {most} attempts)");
            self.pass(&given_up, Some(&reason)).await;
        }
        if !kept.is_empty() {
            self.lane.context.report(Delivered::Retry { rows: kept }).await;
        }
    }

    /// These rows are behind this lane: taken, or refused for `reason`.
    async fn pass(&mut self, rows: &[u64], reason: Option<&str>) {
        let mut passed = Vec::with_capacity(rows.len());
        for number in rows {
            let Some(waiting) = self.window.rows.remove(number) else { continue };
            let record = &waiting.row.record;
            let lost = reason.map(|reason| {
                self.lane.say_dead(record, reason);
                Lost { record: Box::new(record.clone()), reason: reason.to_owned() }
            });
            passed.push((*number, lost));
        }
        self.lane.position = self.window.position();
        self.lane.board.passed(&self.lane.url, self.lane.position, passed);
        self.lane.context.settle(&self.lane.board).await;
    }
}

/// One post: the body is made, the answer is waited for.
async fn post(
    settings: Arc<WebhookSettings>,
    endpoint: Result<Arc<Target>, String>,
    rows: Vec<(Arc<OutboxRow>, Option<Arc<Value>>)>,
    flight: InFlight,
) -> Outcome {
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(reason) => return Outcome::unreached(reason),
    };
    let alerts: Vec<_> = rows.iter().map(|(row, event)| (&row.record, event.clone())).collect();
    let outcome = match format::queued(&settings, &alerts) {
        Ok(message) => endpoint.post(message).await,
        Err(reason) => Outcome::Content { reason },
    };
    drop(flight);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::record;

    fn window(rows: &[(u64, u64, usize, bool)]) -> Window {
        let rows = rows.iter().map(|(number, alert, narrow, flying)| {
            let row = OutboxRow {
                row: *number,
                record: record(*alert, *number),
                attempts: 0,
                not_before: Timestamp(0),
            };
            (
                *number,
                Waiting { row: Arc::new(row), attempts: 0, narrow: *narrow, flying: *flying, event: None },
            )
        });
        let rows: BTreeMap<_, _> = rows.collect();
        Window { read: rows.keys().last().copied().unwrap_or(0), rows }
    }

    const ANY: usize = usize::MAX;

    #[test]
    fn no_change_overtakes_an_earlier_one_of_its_alert() {
        let window = window(&[
            (1, 7, ANY, true),
            (2, 8, ANY, false),
            (3, 7, ANY, false),
            (4, 8, ANY, false),
            (5, 9, ANY, false),
            (6, 7, ANY, false),
        ]);
        assert_eq!(window.choose(10), [2, 4, 5]);
        assert_eq!(window.choose(2), [2, 4]);
        assert_eq!(window.position(), 0);
    }

    #[test]
    fn events_are_read_for_many_posts_at_once() {
        let rows: Vec<_> = (1..=1000).map(|number| (number, number, ANY, number == 2)).collect();
        let mut window = window(&rows);
        let unread = |window: &Window, chosen: &[u64]| -> Vec<u64> {
            window.unread(chosen).into_iter().map(|(number, _)| number).collect()
        };
        let first = unread(&window, &[1]);
        assert_eq!((first.len(), first[0], first[1], first[255]), (256, 1, 3, 257));
        for number in &first {
            window.rows.get_mut(number).unwrap().event = Some(None);
        }
        assert!(unread(&window, &[3]).is_empty(), "an event that is gone was read too");
        assert_eq!(unread(&window, &[257, 258])[0], 258);
        let far = unread(&window, &[258, 900]);
        assert_eq!((far[0], *far.last().unwrap()), (258, 900), "all that were chosen");
    }

    #[test]
    fn what_was_refused_together_is_posted_by_halves() {
        let of = |rows: &[(u64, u64, usize, bool)]| window(rows).choose(10);
        assert_eq!(of(&[(1, 1, 2, false), (2, 2, 2, false), (3, 3, 2, false)]), [1, 2]);
        assert_eq!(of(&[(1, 1, ANY, false), (2, 2, 1, false), (3, 3, 1, false)]), [1]);
        assert_eq!(of(&[(2, 2, 1, false), (3, 3, 1, false)]), [2]);
        assert_eq!(
            of(&[(1, 1, ANY, false), (2, 2, 3, false), (3, 3, ANY, false), (4, 4, ANY, false)]),
            [1, 2, 3]
        );
    }
}
