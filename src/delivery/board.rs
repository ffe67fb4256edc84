//! How far the lanes of a webhook are, and what they have to tell the writer of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::settings::WebhookUrl;
use crate::event::{AlertId, AlertRecord, Delivered};

/// How many refused alerts a lane remembers; the oldest is forgotten, that is, posted and refused again.
const REFUSALS: usize = 65_536;
/// How many queued changes a lane may be ahead of the slowest lane of its webhook.
const AHEAD: usize = 100_000;

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

    pub(super) fn any(&self) -> bool {
        !self.known.is_empty()
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
    pub(super) state: bool,
    inner: Mutex<Positions>,
}

#[derive(Debug)]
struct Positions {
    lanes: Vec<Progress>,
    /// What the writer knows: of a state.
    told: u64,
    /// Rows that some lane has passed and the writer does not know of.
    rows: BTreeMap<u64, Option<Lost>>,
    /// Rows that every lane has passed, to be told next.
    settled: Vec<(u64, Option<Lost>)>,
    reported: Refusals,
    /// How often everything was asked to be told again when these were reported.
    again: u64,
}

/// What a lane has passed: all up to its position, and some rows beyond.
#[derive(Debug)]
struct Progress {
    url: WebhookUrl,
    position: u64,
    beyond: BTreeSet<u64>,
}

impl Progress {
    fn has(&self, row: u64) -> bool {
        row <= self.position || self.beyond.contains(&row)
    }
}

impl Board {
    pub(super) fn new(state: bool, told: u64) -> Self {
        let inner = Positions {
            lanes: Vec::new(),
            told,
            rows: BTreeMap::new(),
            settled: Vec::new(),
            reported: Refusals::default(),
            again: 0,
        };
        Self { state, inner: Mutex::new(inner) }
    }

    pub(super) fn told(&self) -> u64 {
        self.inner.lock().told
    }

    /// Lanes for `urls` and no others. A new one starts where the slowest is.
    pub(super) fn set_lanes(&self, urls: &[WebhookUrl]) {
        let mut inner = self.inner.lock();
        let start = inner.slowest();
        inner.lanes.retain(|lane| urls.contains(&lane.url));
        for url in urls {
            if !inner.lanes.iter().any(|lane| lane.url == *url) {
                let lane = Progress { url: url.clone(), position: start, beyond: BTreeSet::new() };
                inner.lanes.push(lane);
            }
        }
        // One that is gone may have been the last that some rows waited for.
        let passed = inner.rows.keys().copied().filter(|row| inner.lanes.iter().all(|lane| lane.has(*row)));
        let passed: Vec<_> = passed.collect();
        inner.settle(passed);
    }

    pub(super) fn position(&self, url: &WebhookUrl) -> u64 {
        let inner = self.inner.lock();
        inner.lanes.iter().find(|lane| lane.url == *url).map_or(inner.told, |lane| lane.position)
    }

    /// Whether the lane of `url` has passed `row`.
    pub(super) fn has_passed(&self, url: &WebhookUrl, row: u64) -> bool {
        self.inner.lock().lanes.iter().any(|lane| lane.url == *url && lane.has(row))
    }

    /// The lane of `url` has passed everything up to `position`, and these `rows`.
    pub(super) fn passed(&self, url: &WebhookUrl, position: u64, rows: Vec<(u64, Option<Lost>)>) {
        let mut inner = self.inner.lock();
        let Some(at) = inner.lanes.iter().position(|lane| lane.url == *url) else { return };
        let alone = inner.lanes.len() == 1;
        let lane = &mut inner.lanes[at];
        let new: Vec<_> = rows.into_iter().filter(|(row, _)| !lane.has(*row)).collect();
        lane.position = lane.position.max(position);
        lane.beyond.extend(new.iter().map(|(row, _)| *row).filter(|row| *row > lane.position));
        while lane.beyond.first().is_some_and(|row| *row <= lane.position) {
            lane.beyond.pop_first();
        }
        // One that may still wait for a lane that is gone is settled by way of the table.
        if alone && inner.rows.is_empty() {
            inner.settled.extend(new);
            return;
        }
        let numbers: Vec<_> = new.iter().map(|(row, _)| *row).collect();
        for (row, lost) in new {
            let known = inner.rows.entry(row).or_default();
            if known.is_none() {
                *known = lost;
            }
        }
        inner.settle(numbers);
    }

    /// Whether a lane is so far ahead of another that it has to wait.
    pub(super) fn is_full(&self, url: &WebhookUrl) -> bool {
        let inner = self.inner.lock();
        let ahead = inner.lanes.iter().any(|lane| lane.url == *url && lane.position > inner.slowest());
        ahead && inner.rows.len() >= AHEAD
    }

    /// Whether no lane of this webhook has reported this refusal before, since everything was asked to be told again for
    /// the `again`th time: the dead letters of before are gone then. A lane that has not heard of the newest time
    /// reports nothing; it posts the alert once more.
    pub(super) fn is_news(&self, record: &AlertRecord, again: u64) -> bool {
        let mut inner = self.inner.lock();
        if again > inner.again {
            inner.again = again;
            inner.reported.clear();
        }
        again == inner.again && inner.reported.insert(record)
    }

    pub(super) fn settled(&self, webhook: &Arc<str>) -> Vec<Delivered> {
        let mut inner = self.inner.lock();
        if self.state {
            let slowest = inner.slowest();
            if slowest <= inner.told {
                return Vec::new();
            }
            inner.told = slowest;
            return vec![Delivered::UpTo { webhook: Arc::clone(webhook), change: slowest }];
        }
        let (mut done, mut news) = (Vec::new(), Vec::new());
        for (row, lost) in std::mem::take(&mut inner.settled) {
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
        self.lanes.iter().map(|lane| lane.position).min().unwrap_or(self.told)
    }

    /// Moves those of `rows` that every lane has passed to what is told next.
    fn settle(&mut self, rows: Vec<u64>) {
        for row in rows {
            if self.lanes.iter().all(|lane| lane.has(row))
                && let Some(lost) = self.rows.remove(&row)
            {
                self.settled.push((row, lost));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::record;

    fn url(name: &str) -> WebhookUrl {
        WebhookUrl(format!("http://{name}/").into())
    }

    #[test]
    fn refusals_are_by_change_and_bounded() {
        let mut refusals = Refusals::default();
        for id in 0..REFUSALS as u64 + 10 {
            assert!(refusals.insert(&record(id, 1)));
        }
        assert_eq!((refusals.known.len(), refusals.order.len()), (REFUSALS, REFUSALS));
        assert!(!refusals.contains(&record(0, 1)), "the oldest is forgotten");
        let kept = record(REFUSALS as u64, 1);
        assert!(refusals.contains(&kept) && !refusals.insert(&kept));
        assert!(!refusals.contains(&record(REFUSALS as u64, 2)));
        assert!(refusals.insert(&record(REFUSALS as u64, 2)));
    }

    #[test]
    fn the_slowest_lane_decides_what_is_done() {
        let hook = Arc::from("hook");
        let board = Board::new(false, 0);
        board.set_lanes(&[url("a"), url("b"), url("a")]);
        board.passed(&url("a"), 3, vec![(1, None), (2, None), (3, None)]);
        assert_eq!(board.settled(&hook), []);
        let lost = Lost { record: Box::new(record(2, 2)), reason: "no".into() };
        board.passed(&url("b"), 2, vec![(1, None), (2, Some(lost))]);
        let news = board.settled(&hook);
        assert_eq!(news.len(), 2);
        assert!(matches!(&news[0], Delivered::Dead { row: Some(2), reason, .. } if reason == "no"));
        assert_eq!(news[1], Delivered::Rows(vec![1]));
        assert_eq!(board.settled(&hook), [], "each is told once");
        // A lane that goes no longer holds the others up, and a new one starts where the slowest is.
        board.set_lanes(&[url("a")]);
        assert_eq!(board.settled(&hook), [Delivered::Rows(vec![3])]);
        board.set_lanes(&[url("a"), url("c")]);
        assert_eq!(board.position(&url("c")), 3);
        // What a lane says that is no longer there, or says late, changes nothing.
        board.passed(&url("b"), 9, vec![(9, None)]);
        board.passed(&url("a"), 2, vec![(2, None)]);
        assert_eq!(board.settled(&hook), []);
        assert_eq!(board.inner.lock().rows.len(), 0);
    }

    #[test]
    fn rows_settle_in_any_order_and_once() {
        let hook = Arc::from("hook");
        let board = Board::new(false, 0);
        board.set_lanes(&[url("a"), url("b")]);
        board.passed(&url("a"), 0, vec![(3, None), (5, None)]);
        board.passed(&url("b"), 0, vec![(5, None)]);
        assert_eq!(board.settled(&hook), [Delivered::Rows(vec![5])], "a slow row holds no other up");
        assert!(board.has_passed(&url("a"), 3) && !board.has_passed(&url("a"), 4));
        board.passed(&url("a"), 5, vec![(1, None), (2, None), (3, None), (4, None), (5, None)]);
        board.passed(&url("b"), 5, vec![(1, None), (2, None), (3, None), (4, None)]);
        assert_eq!(board.settled(&hook), [Delivered::Rows(vec![1, 2, 3, 4])]);
        let inner = board.inner.lock();
        assert!(inner.rows.is_empty() && inner.lanes.iter().all(|lane| lane.beyond.is_empty()));
    }

    #[test]
    fn a_refusal_is_news_once_for_each_time_that_all_is_told_again() {
        let board = Board::new(true, 0);
        let alert = record(1, 1);
        assert!(board.is_news(&alert, 0) && !board.is_news(&alert, 0), "one letter for all members");
        assert!(board.is_news(&alert, 1), "its letter is gone");
        assert!(!board.is_news(&alert, 0), "a member that has not heard of it yet");
        assert!(!board.is_news(&alert, 1));
    }

    #[test]
    fn a_lane_may_be_only_so_far_ahead() {
        let board = Board::new(false, 0);
        board.set_lanes(&[url("a"), url("b")]);
        board.passed(&url("a"), AHEAD as u64, (1..=AHEAD as u64).map(|row| (row, None)).collect());
        assert!(board.is_full(&url("a")) && !board.is_full(&url("b")));
        board.passed(&url("b"), AHEAD as u64, Vec::new());
        board.settled(&Arc::from("hook"));
        assert!(!board.is_full(&url("a")));
    }
}
