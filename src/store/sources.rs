//! Which sources the stretches of the live journal file hold: it has no index on the source, and a question for one
//! device is answered from the few stretches that may hold events of it.

use std::hash::{DefaultHasher, Hasher};

use parking_lot::Mutex;

/// Events of a stretch.
const STRETCH: usize = 256;
/// Octets of its filter: with as many sources as events, one of thirty others is taken to be among them.
const WORDS: usize = 32;
/// At most so many neighbouring stretches are read at once: a long read holds up the file's checkpoints.
const ABREAST: usize = 64;

/// The stretches of one file. Costs 272 octets for each 256 events while the file has no index.
#[derive(Debug)]
pub(super) struct Sources(Mutex<Stretches>);

#[derive(Debug)]
struct Stretches {
    /// In the order of their events.
    list: Vec<Stretch>,
    /// Events in the last one.
    events: usize,
    /// Every event of the file from this number on, up to the last stretch's last, lies in a stretch; `None` while
    /// nothing is known.
    from: Option<u64>,
}

/// Some events that follow each other, and a Bloom filter of their sources.
#[derive(Debug)]
pub(super) struct Stretch {
    first: u64,
    last: u64,
    filter: [u64; WORDS],
}

/// Where events of a source can be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whereabouts {
    /// Nothing is known of events before this one.
    pub(super) from: u64,
    /// Nor of those behind this one.
    pub(super) to: u64,
    /// From and to, both included, the newest first: between `from` and `to` it has no other events than in these.
    pub(super) ranges: Vec<(u64, u64)>,
}

/// What a source, as it stands in its column, is known by here.
pub(super) fn hash(source: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(source);
    hasher.finish()
}

impl Stretch {
    fn new(event: u64) -> Self {
        Self { first: event, last: event, filter: [0; WORDS] }
    }

    fn bits(hash: u64) -> impl Iterator<Item = (usize, u64)> {
        [hash, hash >> 16, hash >> 32].into_iter().map(|part| {
            let bit = part as usize % (64 * WORDS);
            (bit / 64, 1 << (bit % 64))
        })
    }

    fn add(&mut self, hash: u64) {
        Self::bits(hash).for_each(|(word, bit)| self.filter[word] |= bit);
    }

    fn may_hold(&self, hash: u64) -> bool {
        Self::bits(hash).all(|(word, bit)| self.filter[word] & bit != 0)
    }
}

impl Default for Sources {
    fn default() -> Self {
        Self(Mutex::new(Stretches { list: Vec::new(), events: 0, from: None }))
    }
}

impl Sources {
    /// From `event` on, every event of the file is told of by [`Sources::add`].
    pub(super) fn begin(&self, event: u64) {
        *self.0.lock() = Stretches { list: Vec::new(), events: 0, from: Some(event) };
    }

    /// Events that were committed, with the hashes of their sources, in their order.
    pub(super) fn add(&self, events: &[(u64, u64)]) {
        let mut inner = self.0.lock();
        if inner.from.is_none() {
            return;
        }
        for (event, hash) in events {
            inner.one(*event, *hash);
        }
    }

    /// Every event before those that are known: `older` are their stretches.
    pub(super) fn complete(&self, mut older: Vec<Stretch>) {
        let mut inner = self.0.lock();
        if inner.from.is_none() {
            return;
        }
        older.append(&mut inner.list);
        (inner.list, inner.from) = (older, Some(0));
    }

    /// Before which event [`Sources::complete`] is wanted; `None` if it is not.
    pub(super) fn lacks(&self) -> Option<u64> {
        self.0.lock().from.filter(|from| *from > 0)
    }

    /// The file has an index.
    pub(super) fn forget(&self) {
        *self.0.lock() = Stretches { list: Vec::new(), events: 0, from: None };
    }

    /// Where events of the source with this hash can be, before `before`.
    pub(super) fn of(&self, hash: u64, before: u64) -> Option<Whereabouts> {
        let inner = self.0.lock();
        let from = inner.from?;
        let to = inner.list.last().map_or(from.saturating_sub(1), |stretch| stretch.last);
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        // Where the newest stretch of the last range stands, and how many it has.
        let mut run = (0, 0);
        for (at, stretch) in inner.list.iter().enumerate().rev() {
            if stretch.first >= before || !stretch.may_hold(hash) {
                continue;
            }
            match ranges.last_mut() {
                Some(range) if at + run.1 == run.0 && run.1 < ABREAST => {
                    range.0 = stretch.first;
                    run.1 += 1;
                }
                _ => {
                    ranges.push((stretch.first, stretch.last));
                    run = (at, 1);
                }
            }
        }
        Some(Whereabouts { from, to, ranges })
    }
}

impl Stretches {
    fn one(&mut self, event: u64, hash: u64) {
        let known = self.list.last().map(|stretch| stretch.last);
        if known.is_some_and(|last| event <= last) {
            // It was committed by a try that is said to have failed.
            let at = self.list.partition_point(|stretch| stretch.last < event);
            self.list[at].add(hash);
            self.list[at].first = self.list[at].first.min(event);
            return;
        }
        if self.events.is_multiple_of(STRETCH) {
            self.list.push(Stretch::new(event));
            self.events = 0;
        }
        self.events += 1;
        if let Some(stretch) = self.list.last_mut() {
            stretch.last = event;
            stretch.add(hash);
        }
    }
}

/// Stretches of events that are read from the file, in their order.
#[derive(Debug)]
pub(super) struct Survey(Stretches);

impl Survey {
    pub(super) fn new() -> Self {
        Self(Stretches { list: Vec::new(), events: 0, from: Some(0) })
    }

    pub(super) fn add(&mut self, event: u64, source: &[u8]) {
        self.0.one(event, hash(source));
    }

    pub(super) fn stretches(self) -> Vec<Stretch> {
        self.0.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(number: u64) -> u64 {
        hash(&number.to_be_bytes())
    }

    #[test]
    fn stretches_without_the_source_are_passed_over() {
        let sources = Sources::default();
        sources.add(&[(1, source(1))]);
        assert_eq!(sources.of(source(1), u64::MAX), None, "nothing is known of the file");
        sources.begin(0);
        let events: Vec<_> =
            (1..=10_000).map(|event| (event, source(if event == 5000 { 7 } else { 1 }))).collect();
        events.chunks(300).for_each(|events| sources.add(events));
        let found = sources.of(source(7), u64::MAX).unwrap();
        assert_eq!((found.from, found.to), (0, 10_000));
        assert_eq!(found.ranges, [(4865, 5120)], "the one stretch of 256 that has it");
        assert_eq!(sources.of(source(7), 4865).unwrap().ranges, []);
        let all = sources.of(source(1), u64::MAX).unwrap().ranges;
        assert_eq!((all.len(), all[0].1), (1, 10_000), "neighbours are read at once");
        sources.forget();
        assert_eq!(sources.of(source(7), u64::MAX), None);
    }

    #[test]
    fn what_was_there_before_is_surveyed() {
        let sources = Sources::default();
        sources.begin(1001);
        sources.add(&[(1001, source(2))]);
        assert_eq!(sources.lacks(), Some(1001));
        assert_eq!(
            sources.of(source(1), u64::MAX),
            Some(Whereabouts { from: 1001, to: 1001, ranges: vec![] })
        );
        let mut survey = Survey::new();
        (1..=1000_u64).for_each(|event| survey.add(event, &1_u64.to_be_bytes()));
        sources.complete(survey.stretches());
        assert_eq!(sources.lacks(), None);
        sources.add(&[(1002, source(1))]);
        let found = sources.of(source(1), u64::MAX).unwrap();
        assert_eq!((found.from, found.to, found.ranges), (0, 1002, vec![(1, 1002)]));
    }

    proptest! {
        #[test]
        fn no_event_of_a_source_is_passed_over(
            events in proptest::collection::vec((1_u64..4, 0_u64..6), 0..2000),
            chunk in 1_usize..700, begin in 0_u64..800, asked in 0_u64..6, before in 1_u64..6000,
        ) {
            let mut number = 0;
            let events: Vec<_> = events.iter().map(|(step, from)| { number += step; (number, *from) }).collect();
            let sources = Sources::default();
            sources.begin(begin);
            let mut survey = Survey::new();
            let (old, new): (Vec<_>, Vec<_>) = events.iter().partition(|(event, _)| *event < begin);
            old.iter().for_each(|(event, from)| survey.add(*event, &from.to_be_bytes()));
            for chunk in new.chunks(chunk) {
                let chunk: Vec<_> = chunk.iter().map(|(event, from)| (*event, source(*from))).collect();
                sources.add(&chunk);
            }
            if begin.is_multiple_of(2) { sources.complete(survey.stretches()); }
            let found = sources.of(source(asked), before).unwrap();
            prop_assert!(found.ranges.is_sorted_by(|later, earlier| later.0 > earlier.1), "{:?}", found.ranges);
            for (event, from) in &events {
                if *from == asked && *event < before && (found.from..=found.to).contains(event) {
                    prop_assert!(found.ranges.iter().any(|(low, high)| (low..=high).contains(&event)), "{event}");
                }
            }
            let last = events.last().map_or(0, |(event, _)| *event);
            prop_assert!(found.to == last || new.is_empty() && found.to < begin.max(1), "{} of {last}", found.to);
        }
    }
}
