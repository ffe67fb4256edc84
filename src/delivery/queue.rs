//! Delivery of queued events: a lane posts the rows of the outbox.
//!
//! Up to `concurrency` posts are in flight at once. The changes of an alert never overtake each other: while one
//! is in flight or waits to be posted again, later ones of the same alert wait behind it. After a failure one
//! post at a time goes out and holds half as many rows, down to one, and after a success twice as many: one
//! row that breaks its endpoint uses up its attempts alone. What is refused because of its contents is narrowed
//! down by halves. What is refused, or has failed `retry.attempts` times, becomes a dead letter. A post for which
//! no connection could be made is no attempt: nobody has refused anything.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tracing::{error, warn};

use super::board::Lost;
use super::flights::Flights;
use super::format::{self, Prepared};
use super::lane::{Fresh, Lane};
use super::webhook::Outcome;
use super::{OutboxRow, Source, SourceError};
use crate::config::settings::WebhookSettings;
use crate::event::{AlertId, Delivered, Timestamp};

/// The longest that a stored `not_before` is believed, whatever the clock did in between.
const LONGEST_STORED_PAUSE: Duration = Duration::from_secs(3600);
/// At most so many rows are asked for at once, unless one post holds more. At most twice as many are in memory, and
/// those in flight.
const WINDOW: usize = 4096;
/// At least so many rows are asked for: small posts share a question to the store.
const LEAST: usize = 256;

/// A lane that delivers queued events.
pub(super) struct QueueLane {
    lane: Lane,
    window: Window,
    /// At most so many rows in the next post.
    width: usize,
    posts: Flights<Landed>,
    /// The question to the store that waits for its answer.
    reading: Option<JoinHandle<Result<Vec<Waiting>, SourceError>>>,
    /// How many rows it asked for.
    asked: usize,
    /// The store had no more rows than it was asked for, and nothing has been committed since.
    exhausted: bool,
    /// The store has failed; it is not asked before then.
    unread_until: Option<Instant>,
    /// Rises with each change of the settings: what was made for earlier ones is read anew.
    edition: u64,
    /// Whether the attempts that the store has are this lane's own, from before a restart. They are read
    /// once: later ones are in memory, and other lanes store theirs in the same rows.
    resumes: bool,
    /// A post that is not full waits for more until then.
    gathers: Option<Instant>,
    /// Whether it waits for a slower lane.
    waits: bool,
    /// Whether something was passed that the writer has not been told.
    untold: bool,
}

/// A post whose outcome is known; `None` if it has panicked.
struct Landed {
    rows: Vec<Waiting>,
    outcome: Option<Outcome>,
    began: Instant,
    edition: u64,
}

/// What the lane waits for next, besides the posts in flight and the store's answer.
enum Next {
    /// News from the store, or this time.
    Work(Instant),
    /// This time, whatever the store says.
    Time(Instant),
    /// Nothing else.
    Answer,
}

/// Rows that were read and are not behind the lane yet.
#[derive(Default)]
struct Window {
    /// Those that may be posted, in their order. Some may have an alert in flight: they go aside once they are met, so that
    /// no post costs a walk over all that wait.
    rows: BTreeMap<u64, Waiting>,
    /// Those whose alert was in flight when they were met.
    aside: BTreeMap<u64, Waiting>,
    /// The alerts in flight, each in one post, and which rows stand aside for it.
    alerts: HashMap<AlertId, Vec<u64>>,
    /// The rows of each post in flight, in their order, by the first of them.
    flying: BTreeMap<u64, Vec<u64>>,
    /// All up to this row were read.
    read: u64,
}

struct Waiting {
    /// The row's number.
    row: u64,
    alert: Prepared,
    /// What the store has of an earlier pause.
    not_before: Timestamp,
    /// Posts in vain.
    attempts: u32,
    /// At most so many rows in a post with this one, since a larger one was refused.
    narrow: usize,
}

impl Window {
    /// Takes the rows of the next post, at most `most`: in order, none whose alert has an earlier row that is not done.
    fn take(&mut self, most: usize) -> Vec<Waiting> {
        let mut most = most.max(1);
        let mut chosen: Vec<Waiting> = Vec::with_capacity(most.min(self.rows.len()));
        while let Some(first) = self.rows.first_entry() {
            if let Some(behind) = self.alerts.get_mut(&first.get().alert.id) {
                behind.push(*first.key());
                let (number, waiting) = first.remove_entry();
                self.aside.insert(number, waiting);
                continue;
            }
            most = most.min(first.get().narrow.max(chosen.len()));
            if chosen.len() >= most {
                break;
            }
            chosen.push(first.remove());
        }
        chosen
    }

    /// Whether [`Window::take`] would have `most` rows, if none of them were refused before. Costs a walk over so many.
    fn holds(&self, most: usize) -> bool {
        let free = self.rows.values().filter(|waiting| !self.alerts.contains_key(&waiting.alert.id));
        self.rows.len() >= most && free.take(most).count() >= most
    }

    /// How many rows wait.
    fn len(&self) -> usize {
        self.rows.len() + self.aside.len()
    }

    fn put_back(&mut self, rows: impl IntoIterator<Item = Waiting>) {
        self.rows.extend(rows.into_iter().map(|waiting| (waiting.row, waiting)));
    }

    /// Forgets those that wait from `first` on.
    fn forget(&mut self, first: u64) {
        self.rows.split_off(&first);
        self.aside.split_off(&first);
        self.read = self.read.min(first.saturating_sub(1));
    }

    /// `rows` are in flight.
    fn depart(&mut self, rows: &[Waiting]) {
        let Some(first) = rows.first() else { return };
        self.flying.insert(first.row, rows.iter().map(|waiting| waiting.row).collect());
        for waiting in rows {
            self.alerts.entry(waiting.alert.id).or_default();
        }
    }

    /// They no longer are.
    fn arrive(&mut self, rows: &[Waiting]) {
        let Some(first) = rows.first() else { return };
        self.flying.remove(&first.row);
        for behind in rows.iter().filter_map(|waiting| self.alerts.remove(&waiting.alert.id)) {
            // One that was forgotten meanwhile is no longer there.
            self.rows.extend(behind.iter().filter_map(|number| self.aside.remove_entry(number)));
        }
    }

    fn has(&self, row: u64) -> bool {
        self.rows.contains_key(&row)
            || self.aside.contains_key(&row)
            || self.flying.values().any(|rows| rows.binary_search(&row).is_ok())
    }

    /// The first row that waits.
    fn first(&self) -> Option<u64> {
        let firsts = [self.rows.keys().next(), self.aside.keys().next()];
        firsts.into_iter().flatten().min().copied()
    }

    /// Everything up to here is behind the lane.
    fn position(&self) -> u64 {
        let first = self.first().into_iter().chain(self.flying.keys().next().copied()).min();
        first.map_or(self.read, |first| self.read.min(first.saturating_sub(1)))
    }
}

impl QueueLane {
    /// `resumes`: whether it goes on with what was queued before a restart.
    pub(super) fn new(mut lane: Lane, resumes: bool) -> Self {
        let window = Window { read: lane.position, ..Window::default() };
        let posts;
        (posts, lane.hands) = Flights::new();
        Self {
            lane,
            window,
            width: usize::MAX,
            posts,
            reading: None,
            asked: 0,
            exhausted: false,
            unread_until: None,
            edition: 0,
            resumes,
            gathers: None,
            waits: false,
            untold: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.lane.refresh() {
                Fresh::Over => break,
                Fresh::Changed => self.begin_anew(),
                Fresh::Same => {}
            }
            while let Some(landed) = self.posts.landed() {
                self.land(landed).await;
            }
            self.tell().await;
            let next = self.fly().await;
            if matches!(next, Next::Work(_))
                && self.lane.drains()
                && self.window.len() == 0
                && self.posts.len() == 0
            {
                break;
            }
            // A post that never ends is bounded by its timeout.
            let never = Instant::now() + Duration::from_secs(3600);
            let (until, news) = match next {
                Next::Work(until) => (until, true),
                Next::Time(until) => (until, false),
                Next::Answer => (never, false),
            };
            let (lane, posts, reading) = (&mut self.lane, &mut self.posts, &mut self.reading);
            let rest = async { if news { lane.wait(until).await } else { lane.rest_until(until).await } };
            let answer = async {
                match reading.as_mut() {
                    Some(reading) => reading.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                landed = posts.next() => self.land(landed).await,
                answer = answer => self.take_in(answer),
                () = rest => self.exhausted &= !news,
            }
        }
        // What is in flight has its answer reported.
        while self.posts.len() > 0 {
            let landed = self.posts.next().await;
            self.land(landed).await;
        }
        self.tell().await;
        // Connections end as their protocols want it, as far as nothing is to be waited for.
        self.lane.disconnect();
        drop(self.posts.landed());
    }

    /// Other settings: what was read for earlier ones is read again, since another body is to be made of it, and attempts
    /// count anew.
    fn begin_anew(&mut self) {
        self.edition += 1;
        self.reading = None;
        if let Some(first) = self.window.first() {
            self.read_again(first);
        }
        self.exhausted = false;
        self.resumes = false;
        self.width = usize::MAX;
        self.gathers = None;
    }

    /// The store is asked again for the rows from `first` on, of which those in flight are passed over. Later ones do not
    /// stay either: none may overtake what is to be read.
    fn read_again(&mut self, first: u64) {
        self.reading = None;
        self.window.forget(first);
        self.exhausted = false;
    }

    /// Sends what may be sent now.
    async fn fly(&mut self) -> Next {
        loop {
            if let Some(resume) = self.lane.resumes() {
                return Next::Time(resume);
            }
            let max = self.lane.settings.batch.max.max(1);
            let most = max.min(self.width);
            let pause = self.read(max);
            let abreast = if self.lane.fails() { 1 } else { self.lane.settings.concurrency.max(1) };
            if self.posts.len() >= abreast {
                return Next::Answer;
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
                return Next::Time(Instant::now() + self.lane.context.timing.source);
            }
            if let Some(pause) = pause.filter(|_| self.resumes) {
                return Next::Time(pause);
            }
            let whole = self.window.holds(most);
            if self.reading.is_some() && (self.resumes || !whole) {
                return Next::Answer;
            }
            if std::mem::take(&mut self.resumes) {
                self.resume();
                continue;
            }
            let wait = self.lane.settings.batch.wait;
            if !whole && !wait.is_zero() && !self.lane.fails() && self.window.holds(1) {
                let now = Instant::now();
                let until = *self.gathers.get_or_insert(now + wait);
                if now < until {
                    return Next::Time(until);
                }
            }
            let waiting = self.window.rows.len();
            let rows = self.window.take(most);
            if rows.is_empty() && waiting > 0 {
                // All of them wait for posts in flight; the store may have others.
                continue;
            }
            if rows.is_empty() {
                self.gathers = None;
                return pause
                    .map_or_else(|| Next::Work(Instant::now() + self.lane.context.timing.poll), Next::Time);
            }
            if let Err(turn) = self.lane.turn() {
                self.window.put_back(rows);
                return Next::Time(turn);
            }
            self.gathers = None;
            self.send(rows).await;
        }
    }

    /// Asks for more rows if fewer than a post's wait and there may be some. Returns until when the store is left alone
    /// after it has failed.
    fn read(&mut self, max: usize) -> Option<Instant> {
        if self.reading.is_some() {
            return None;
        }
        self.exhausted &= !self.lane.has_news();
        // While posts are out, the rows of the next are read.
        let abreast = max.saturating_mul(self.lane.settings.concurrency.max(1)).min(WINDOW).max(max);
        let room = abreast.max(LEAST);
        let enough = self.window.rows.len() >= room || self.window.len() >= 2 * room;
        if self.exhausted || enough {
            return None;
        }
        let pause = self.unread_until.filter(|until| *until > Instant::now());
        if pause.is_some() {
            return pause;
        }
        let (name, read) = (Arc::clone(&self.lane.context.name), self.window.read);
        let (settings, resumes) = (Arc::clone(&self.lane.settings), self.resumes);
        self.asked = room;
        self.reading =
            Some(self.lane.context.asking(move |source| {
                prepared(source, &settings, source.outbox(&name, read, room)?, resumes)
            }));
        None
    }

    /// The store has answered.
    fn take_in(&mut self, answer: Result<Result<Vec<Waiting>, SourceError>, JoinError>) {
        self.reading = None;
        match answer.unwrap_or_else(|failure| Err(failure.into())) {
            Ok(rows) => {
                self.unread_until = None;
                self.exhausted = rows.len() < self.asked;
                for waiting in rows {
                    let number = waiting.row;
                    self.window.read = self.window.read.max(number);
                    // A lane that failed and starts again may have passed some of what it reads.
                    if !self.window.has(number) && !self.lane.board.has_passed(&self.lane.url, number) {
                        self.window.rows.insert(number, waiting);
                    }
                }
            }
            Err(error) => {
                self.lane.context.source_failed(&error);
                self.unread_until = Some(Instant::now() + self.lane.context.timing.source);
            }
        }
    }

    /// Goes on where a restart left off.
    fn resume(&mut self) {
        let Some(first) = self.window.rows.values().next() else { return };
        let pause = first.not_before.since(Timestamp::now()).min(LONGEST_STORED_PAUSE);
        self.lane.resume(first.attempts, pause);
    }

    async fn send(&mut self, rows: Vec<Waiting>) {
        let began = Instant::now();
        let flight = self.lane.begins();
        let endpoint = self.posts.meanwhile(self.lane.endpoint()).await;
        self.window.depart(&rows);
        let (settings, edition) = (Arc::clone(&self.lane.settings), self.edition);
        self.posts.begin(Box::pin(async move {
            let post = async {
                let endpoint = match endpoint {
                    Ok(endpoint) => endpoint,
                    Err(reason) => return Outcome::unreached(reason),
                };
                match format::queued(&settings, rows.iter().map(|waiting| &waiting.alert)) {
                    Ok(message) => endpoint.post(message).await,
                    Err(reason) => Outcome::Content { reason },
                }
            };
            let outcome = AssertUnwindSafe(post).catch_unwind().await.ok();
            drop(flight);
            Landed { rows, outcome, began, edition }
        }));
    }

    async fn land(&mut self, landed: Landed) {
        let Landed { mut rows, outcome, began, edition } = landed;
        self.window.arrive(&rows);
        if let Some(outcome) = &outcome {
            self.lane.judge(outcome, began, rows.len());
        }
        match outcome {
            Some(Outcome::Taken) => {
                self.width = self.width.saturating_mul(2);
                self.pass(&rows);
            }
            None => {
                error!(component = "notifier", webhook = %self.lane.context.name, "A post has panicked; it is tried again");
                self.window.put_back(rows);
                self.rest().await;
            }
            // Under other settings it may have another end.
            Some(_) if edition != self.edition => {
                if let Some(first) = rows.first() {
                    self.read_again(first.row);
                }
            }
            Some(Outcome::Content { .. }) if rows.len() > 1 => {
                let narrow = rows.len() / 2;
                rows.iter_mut().for_each(|waiting| waiting.narrow = narrow);
                self.window.put_back(rows);
            }
            Some(Outcome::Content { reason } | Outcome::Refused { reason }) => {
                self.give_up(rows, &reason).await;
            }
            Some(Outcome::Again { reason, reached, .. }) => self.again(rows, &reason, reached).await,
        }
    }

    /// After a post that may pass later: gives up the rows whose attempts are used up, keeps the others for after the pause.
    async fn again(&mut self, rows: Vec<Waiting>, reason: &str, reached: bool) {
        self.width = (rows.len() / 2).max(1);
        let now = Instant::now();
        let not_before = self.lane.resumes().map_or(now, |resume| resume) - now;
        let not_before = Timestamp::now().after(not_before);
        let most = self.lane.settings.retry.attempts.max(1);
        let (mut given_up, mut kept) = (Vec::new(), Vec::new());
        for mut waiting in rows {
            waiting.attempts = waiting.attempts.saturating_add(u32::from(reached));
            if waiting.attempts >= most && reached {
                given_up.push(waiting);
            } else {
                kept.push(waiting);
            }
        }
        if !given_up.is_empty() {
            let reason = format!("{reason} (after {most} attempts)");
            self.give_up(given_up, &reason).await;
        }
        if !kept.is_empty() {
            let rows = kept.iter().map(|waiting| (waiting.row, waiting.attempts, not_before)).collect();
            self.window.put_back(kept);
            self.tell().await;
            self.posts.meanwhile(self.lane.context.report(Delivered::Retry { rows })).await;
        }
    }

    /// These rows were taken. The writer is told by [`QueueLane::tell`].
    fn pass(&mut self, rows: &[Waiting]) {
        self.passed(rows.iter().map(|waiting| (waiting.row, None)).collect());
    }

    /// These rows were refused for `reason`: they become dead letters as the store has them.
    async fn give_up(&mut self, rows: Vec<Waiting>, reason: &str) {
        let (name, numbers) = (Arc::clone(&self.lane.context.name), rows.iter().map(|waiting| waiting.row));
        let numbers: Vec<_> = numbers.collect();
        let read = self.lane.context.ask(move |source| {
            let read = numbers.into_iter().map(|number| {
                let row = source.outbox(&name, number.saturating_sub(1), 1)?.pop();
                Ok((number, row.filter(|row| row.row == number)))
            });
            read.collect::<Result<Vec<_>, SourceError>>()
        });
        match self.posts.meanwhile(read).await {
            Ok(read) => {
                let mut passed = Vec::with_capacity(read.len());
                for (number, row) in read {
                    // One that the store no longer has was given up there.
                    let lost = row.map(|row| {
                        self.lane.say_dead(&row.record, reason);
                        Lost { record: Box::new(row.record), reason: reason.to_owned() }
                    });
                    passed.push((number, lost));
                }
                self.passed(passed);
            }
            Err(error) => {
                self.lane.context.source_failed(&error);
                self.window.put_back(rows);
                self.rest().await;
            }
        }
    }

    /// Leaves whatever has failed alone for a while.
    async fn rest(&mut self) {
        let span = self.lane.context.timing.source;
        self.posts.meanwhile(self.lane.rest(span)).await;
    }

    fn passed(&mut self, rows: Vec<(u64, Option<Lost>)>) {
        self.lane.position = self.window.position();
        self.lane.board.passed(&self.lane.url, self.lane.position, rows);
        self.untold = true;
    }

    /// Tells the writer what was passed since the last call: posts that end together share a word.
    async fn tell(&mut self) {
        if std::mem::take(&mut self.untold) {
            self.posts.meanwhile(self.lane.context.settle(&self.lane.board)).await;
        }
    }
}

/// `rows`, ready for posts of `settings`, which may ask for their events.
fn prepared(
    source: &dyn Source,
    settings: &WebhookSettings,
    rows: Vec<OutboxRow>,
    resumes: bool,
) -> Result<Vec<Waiting>, SourceError> {
    let shows_events = format::shows_events(settings);
    let mut heads = Vec::with_capacity(rows.len());
    let records = rows.into_iter().map(|row| {
        let attempts = if resumes { row.attempts } else { 0 };
        heads.push((row.row, row.not_before, attempts));
        let event = if shows_events { source.event_json(row.record.last_event)? } else { None };
        Ok::<_, SourceError>((row.record, event))
    });
    let alerts = Prepared::all(settings, records)?;
    let waiting = heads.into_iter().zip(alerts).map(|((row, not_before, attempts), alert)| Waiting {
        row,
        alert,
        not_before,
        attempts,
        narrow: usize::MAX,
    });
    Ok(waiting.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::record;

    /// Rows: number, alert, how narrow.
    fn rows_of(rows: &[(u64, u64, usize)]) -> Vec<Waiting> {
        let row = |(row, alert, narrow): &(u64, u64, usize)| {
            let alert = std::iter::once(Ok::<_, ()>((record(*alert, *row), None)));
            let alert = Prepared::all(&WebhookSettings::default(), alert).unwrap().remove(0);
            Waiting { row: *row, alert, not_before: Timestamp(0), attempts: 0, narrow: *narrow }
        };
        rows.iter().map(row).collect()
    }

    /// Rows: number, alert, how narrow, whether in flight.
    fn window(rows: &[(u64, u64, usize, bool)]) -> Window {
        let mut window = Window { read: rows.last().map_or(0, |(number, ..)| *number), ..Window::default() };
        for (number, alert, narrow, flying) in rows {
            let waiting = rows_of(&[(*number, *alert, *narrow)]);
            match flying {
                true => window.depart(&waiting),
                false => window.put_back(waiting),
            }
        }
        window
    }

    fn taken(window: &mut Window, most: usize) -> Vec<u64> {
        window.take(most).iter().map(|waiting| waiting.row).collect()
    }

    const ANY: usize = usize::MAX;

    #[test]
    fn no_change_overtakes_an_earlier_one_of_its_alert() {
        let rows = [
            (1, 7, ANY, true),
            (2, 8, ANY, false),
            (3, 7, ANY, false),
            (4, 8, ANY, false),
            (5, 9, ANY, false),
            (6, 7, ANY, false),
        ];
        let mut waiting = window(&rows);
        assert_eq!(waiting.position(), 0);
        assert!(waiting.holds(3) && !waiting.holds(4), "those behind what is in flight do not count");
        assert!(waiting.has(1) && waiting.has(6) && !waiting.has(7));
        assert_eq!(taken(&mut window(&rows), 2), [2, 4]);
        let rows = waiting.take(10);
        waiting.depart(&rows);
        assert_eq!(rows.iter().map(|waiting| waiting.row).collect::<Vec<_>>(), [2, 4, 5]);
        assert!(taken(&mut waiting, 10).is_empty());
        assert_eq!((waiting.len(), waiting.position()), (2, 0), "3 and 6 stand aside");
        waiting.arrive(&rows);
        assert!(waiting.holds(0) && !waiting.holds(1), "alert 7 is in flight still");
        waiting.put_back(rows);
        assert_eq!(taken(&mut waiting, 10), [2, 4, 5]);
        assert_eq!(waiting.alerts, HashMap::from([(AlertId(7), vec![3, 6])]));
        assert_eq!((waiting.first(), waiting.position(), waiting.has(6)), (Some(3), 0, true));
        // What is forgotten and read again stands behind its alert as before.
        waiting.forget(6);
        assert_eq!((waiting.len(), waiting.read, waiting.has(6)), (1, 5, false));
        let again = rows_of(&[(6, 7, ANY)]);
        waiting.put_back(again);
        assert!(taken(&mut waiting, 10).is_empty());
        waiting.arrive(&rows_of(&[(1, 7, ANY)]));
        assert_eq!(taken(&mut waiting, 10), [3, 6]);
        assert_eq!((waiting.len(), waiting.first()), (0, None));
    }

    #[test]
    fn what_was_refused_together_is_posted_by_halves() {
        let of = |rows: &[(u64, u64, usize, bool)]| taken(&mut window(rows), 10);
        assert_eq!(of(&[(1, 1, 2, false), (2, 2, 2, false), (3, 3, 2, false)]), [1, 2]);
        assert_eq!(of(&[(1, 1, ANY, false), (2, 2, 1, false), (3, 3, 1, false)]), [1]);
        assert_eq!(of(&[(2, 2, 1, false), (3, 3, 1, false)]), [2]);
        assert_eq!(
            of(&[(1, 1, ANY, false), (2, 2, 3, false), (3, 3, ANY, false), (4, 4, ANY, false)]),
            [1, 2, 3]
        );
    }
}
