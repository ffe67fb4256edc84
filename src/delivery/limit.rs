//! The rate limit: GCRA (the generic cell rate algorithm, ITU-T I.371), with time as a parameter.

use tokio::time::Instant;

use crate::config::settings::RateLimit;

/// Lets through one post each `per / requests`, up to `burst` of them at once after a rest. Within any span of
/// `per` that is at most `requests + burst`. Two fields whatever the rate.
#[derive(Debug)]
pub(super) struct Gcra {
    settings: RateLimit,
    /// The theoretical arrival time of the next post.
    arrival: Option<Instant>,
}

impl Gcra {
    pub(super) fn new(settings: RateLimit) -> Self {
        Self { settings, arrival: None }
    }

    pub(super) fn settings(&self) -> &RateLimit {
        &self.settings
    }

    /// Lets a post through at `now`, or says when it may come.
    ///
    /// # Errors
    /// The time before which none is let through.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let interval = self.settings.per / self.settings.requests.max(1);
        let tolerance = interval.saturating_mul(self.settings.burst.max(1) - 1);
        let arrival = self.arrival.map_or(now, |arrival| arrival.max(now));
        if let Some(from) = arrival.checked_sub(tolerance)
            && from > now
        {
            return Err(from);
        }
        self.arrival = Some(arrival + interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    fn limit(requests: u32, milliseconds: u64, burst: u32) -> Gcra {
        Gcra::new(RateLimit { requests, per: Duration::from_millis(milliseconds), burst })
    }

    #[test]
    fn posts_are_spread_and_a_burst_is_let_through() {
        let start = Instant::now();
        let mut even = limit(10, 1000, 1);
        assert_eq!(even.take(start), Ok(()));
        assert_eq!(even.take(start), Err(start + Duration::from_millis(100)));
        assert_eq!(even.take(start + Duration::from_millis(100)), Ok(()));
        let mut burst = limit(10, 1000, 3);
        let at_once = (0..10).filter(|_| burst.take(start).is_ok()).count();
        assert_eq!(at_once, 3);
        let rested = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| burst.take(rested).is_ok()).count(), 3, "a rest saves up no more");
    }

    proptest! {
        /// Whoever asks whenever: no span of `per` sees more than `requests + burst`, and who waits as told passes.
        #[test]
        fn no_span_sees_more(
            requests in 1u32..50, per in 10u64..5000, burst in 1u32..20, asks in proptest::collection::vec(0u64..300, 1..300),
        ) {
            let mut gcra = limit(requests, per, burst);
            let mut now = Instant::now();
            let mut passed = Vec::new();
            for wait in asks {
                now += Duration::from_millis(wait);
                match gcra.take(now) {
                    Ok(()) => passed.push(now),
                    Err(at) => {
                        prop_assert!(at > now);
                        now = at;
                        prop_assert_eq!(gcra.take(now), Ok(()));
                        passed.push(now);
                    }
                }
            }
            let span = Duration::from_millis(per);
            for (at, first) in passed.iter().enumerate() {
                let within = passed[at..].iter().take_while(|time| **time - *first < span).count();
                prop_assert!(within <= (requests + burst) as usize, "{within} in {per} ms");
            }
        }
    }
}
