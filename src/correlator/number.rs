//! Numbers that rise over restarts: events, alerts and changes are numbered alike.

use crate::event::Timestamp;

/// Hands out numbers: each is the larger of the clock's microseconds and one more than the number before.
///
/// So a number tells roughly when, two never are equal, and a clock that steps back only makes them dense
/// until it has caught up. A restart goes on after the largest number that the disk knows.
#[derive(Debug)]
pub(super) struct Numbers {
    last: u64,
}

impl Numbers {
    /// The next number will be larger than `last`. What is read from the disk is an `i64`, and the clock's
    /// microseconds are, so that the end of `u64` is never reached.
    pub(super) fn after(last: u64) -> Self {
        Self { last }
    }

    /// The next one.
    pub(super) fn next(&mut self, now: Timestamp) -> u64 {
        let clock = u64::try_from(now.0).unwrap_or(0);
        self.last = clock.max(self.last.saturating_add(1));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_whatever_the_clock_does() {
        let mut numbers = Numbers::after(100);
        let clock = [50, 101, 101, 5_000, 4_000, -7, 5_001, 6_000];
        let made: Vec<_> = clock.map(|now| numbers.next(Timestamp(now))).into();
        assert_eq!(made, [101, 102, 103, 5_000, 5_001, 5_002, 5_003, 6_000]);
    }
}
