//! Pacing: how many datagrams are due at a time. Pure, with time as a parameter.

use std::time::Duration;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Send up to so many, at least one.
    Send(u64),
    /// Nothing is due for so long.
    Wait(Duration),
    /// All are sent, or the time is over.
    Done,
}

/// The schedule: the datagram with the number `n` is due at `n / rate` seconds.
///
/// Whoever falls behind by more than [`Pace::DEBT`] does not make it up: a burst would measure the receiver's
/// buffers. The schedule moves back instead, and the achieved rate tells.
#[derive(Debug)]
pub(super) struct Pace {
    rate: u64,
    total: u64,
    deadline: Option<Duration>,
    sent: u64,
    late: Duration,
}

impl Pace {
    /// The most that is made up at once…
    const DEBT: Duration = Duration::from_millis(10);
    /// …or so many datagrams, which any receive buffer holds.
    const HARMLESS: u64 = 100;
    /// Waits are at least so long: sleeping less costs more than it gains.
    const TICK: Duration = Duration::from_millis(1);

    /// `rate` a second, until `count` are sent or `duration` is over, whichever comes first.
    pub(super) fn new(rate: u64, count: Option<u64>, duration: Option<Duration>) -> Self {
        let rate = rate.max(1);
        let fitting = duration.map_or(u64::MAX, |duration| {
            u64::try_from(duration.as_nanos() * u128::from(rate) / NANOS).unwrap_or(u64::MAX)
        });
        Self {
            rate,
            total: count.unwrap_or(u64::MAX).min(fitting),
            deadline: duration,
            sent: 0,
            late: Duration::ZERO,
        }
    }

    /// How many were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// One was sent.
    pub(super) fn count(&mut self) {
        self.sent += 1;
    }

    /// What to do at `elapsed` since the start.
    pub(super) fn turn(&mut self, elapsed: Duration) -> Turn {
        let over = self.deadline.is_some_and(|deadline| elapsed >= deadline);
        let now = self.deadline.map_or(elapsed, |deadline| elapsed.min(deadline));
        let most = self.due(Self::DEBT).max(Self::HARMLESS);
        let mut due = self.due(now.saturating_sub(self.late)).min(self.total);
        if due.saturating_sub(self.sent) > most {
            if over {
                return Turn::Done;
            }
            due = self.sent + most;
            self.late = now.saturating_sub(self.time_of(due - 1));
        }
        if due > self.sent {
            return Turn::Send(due - self.sent);
        }
        if over || self.sent >= self.total {
            return Turn::Done;
        }
        let next = (self.time_of(self.sent) + self.late).saturating_sub(elapsed).max(Self::TICK);
        Turn::Wait(self.deadline.map_or(next, |deadline| next.min(deadline - elapsed)))
    }

    /// How many are due after `elapsed`.
    fn due(&self, elapsed: Duration) -> u64 {
        u64::try_from(elapsed.as_nanos() * u128::from(self.rate) / NANOS)
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    /// When the datagram with this number is due.
    fn time_of(&self, number: u64) -> Duration {
        let nanos = (u128::from(number) * NANOS).div_ceil(u128::from(self.rate));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs the schedule on a clock that stops `stall` at each wait and takes `cost` for each datagram.
    fn run(mut pace: Pace, cost: Duration, stall: Duration) -> (u64, Duration) {
        let mut now = Duration::ZERO;
        loop {
            match pace.turn(now) {
                Turn::Done => return (pace.sent(), now),
                Turn::Wait(wait) => now += wait + stall,
                Turn::Send(many) => {
                    assert!(many > 0);
                    for _ in 0..many.min(64) {
                        pace.count();
                        now += cost;
                    }
                }
            }
        }
    }

    #[test]
    fn a_rate_is_kept_to_the_end() {
        let second = Some(Duration::from_secs(2));
        for rate in [1, 3, 999, 20_000, 200_000] {
            let (sent, time) =
                run(Pace::new(rate, None, second), Duration::from_micros(2), Duration::from_micros(80));
            assert_eq!(sent, rate * 2, "at {rate}/s");
            assert!(time <= Duration::from_millis(2_002), "{time:?} at {rate}/s");
        }
    }

    #[test]
    fn a_slow_sender_ends_in_time_and_without_a_burst() {
        let (sent, time) = run(
            Pace::new(1_000_000, None, Some(Duration::from_secs(1))),
            Duration::from_micros(10),
            Duration::ZERO,
        );
        assert!((99_000..=101_000).contains(&sent), "{sent}");
        assert!(time < Duration::from_millis(1_110), "{time:?}");
        let mut pace = Pace::new(20_000, Some(1_000_000), None);
        assert_eq!(pace.turn(Duration::from_secs(5)), Turn::Send(201));
    }

    proptest! {
        #[test]
        fn a_count_is_exact(rate in 1u64..1_000_000, count in 0u64..3_000, cost in 0u64..2_000, stall in 0u64..50_000) {
            let pace = Pace::new(rate, Some(count), None);
            let (sent, _) = run(pace, Duration::from_micros(cost), Duration::from_micros(stall));
            prop_assert_eq!(sent, count);
        }

        #[test]
        fn never_faster_than_asked(rate in 1u64..100_000, seconds in 1u64..4, stall in 0u64..50_000) {
            let pace = Pace::new(rate, None, Some(Duration::from_secs(seconds)));
            let (sent, _) = run(pace, Duration::ZERO, Duration::from_micros(stall));
            prop_assert!(sent <= rate * seconds);
        }
    }
}
