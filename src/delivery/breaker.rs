//! When an endpoint may be posted to: backoff after each failure, and a circuit breaker after several.
//!
//! Closed, it lets every post through once the pause after the last failure is over. After so many failures in
//! a row it is open: nothing is posted until its pause is over. Then it is half-open: one post at a time tries,
//! and a success closes it. Time is a parameter.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::settings::BreakerSettings;

/// Where a breaker stands. The number is the metric's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BreakerState {
    /// Posts go through.
    Closed = 0,
    /// One post tries.
    HalfOpen = 1,
    /// No post goes out.
    Open = 2,
}

impl BreakerState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// The health of one endpoint, as its posts show it.
#[derive(Debug, Clone, Default)]
pub(super) struct Breaker {
    failures: u32,
    resume: Option<Instant>,
    failed: Option<Instant>,
}

impl Breaker {
    /// Goes on after a restart with `failures` in a row, and nothing before `resume`.
    pub(super) fn resumed(failures: u32, resume: Option<Instant>) -> Self {
        Self { failures, resume, failed: None }
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next post may go out, if that is later than `now`.
    pub(super) fn resumes(&self, now: Instant) -> Option<Instant> {
        self.resume.filter(|resume| *resume > now)
    }

    pub(super) fn state(&self, settings: &BreakerSettings, now: Instant) -> BreakerState {
        if self.failures < settings.failures.max(1) {
            BreakerState::Closed
        } else if self.resumes(now).is_some() {
            BreakerState::Open
        } else {
            BreakerState::HalfOpen
        }
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A post that began at `began` failed. Posts that were in flight together fail together: what began before
    /// the failure counted last is the same failure. `pause` gives the backoff after so many failures; an open
    /// breaker waits for its own pause, or for what the endpoint `asked` for if that is longer.
    pub(super) fn failed(
        &mut self,
        settings: &BreakerSettings,
        began: Instant,
        now: Instant,
        asked: Option<Duration>,
        pause: impl FnOnce(u32) -> Duration,
    ) -> Instant {
        if self.failed.is_some_and(|failed| began < failed)
            && let Some(resume) = self.resume
        {
            return resume;
        }
        self.failures = self.failures.saturating_add(1);
        self.failed = Some(now);
        let backoff = pause(self.failures);
        let span = if self.failures >= settings.failures.max(1) {
            asked.map_or(settings.pause, |_| settings.pause.max(backoff))
        } else {
            backoff
        };
        // A clock that ends before the pause does ends the pause.
        let resume = now.checked_add(span).unwrap_or(now + Duration::from_secs(3600));
        self.resume = Some(resume);
        resume
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings = BreakerSettings { failures: 3, pause: Duration::from_secs(30) };

    fn fails(breaker: &mut Breaker, at: Instant) -> Duration {
        breaker.failed(&SETTINGS, at, at, None, |failures| Duration::from_secs(failures.into())) - at
    }

    #[test]
    fn it_opens_tries_and_closes() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        for (failure, seconds, state) in [
            (1, 1, BreakerState::Closed),
            (2, 2, BreakerState::Closed),
            (3, 30, BreakerState::Open),
            (4, 30, BreakerState::Open),
        ] {
            let pause = fails(&mut breaker, now);
            assert_eq!((breaker.failures(), pause.as_secs()), (failure, seconds));
            assert_eq!(breaker.state(&SETTINGS, now), state);
            assert!(breaker.resumes(now).is_some());
            now += pause;
            assert!(breaker.resumes(now).is_none());
        }
        assert_eq!(breaker.state(&SETTINGS, now), BreakerState::HalfOpen);
        breaker.succeeded();
        assert_eq!(breaker.state(&SETTINGS, now), BreakerState::Closed);
        assert_eq!(fails(&mut breaker, now).as_secs(), 1, "it begins anew");
    }

    #[test]
    fn posts_in_flight_together_fail_once() {
        let mut breaker = Breaker::default();
        let began = Instant::now();
        let later = began + Duration::from_millis(5);
        let first = breaker.failed(&SETTINGS, began, later, None, |_| Duration::from_secs(1));
        for _ in 0..10 {
            let again = breaker
                .failed(&SETTINGS, began, later + Duration::from_secs(3), None, |_| Duration::from_secs(9));
            assert_eq!(again, first);
        }
        assert_eq!(breaker.failures(), 1);
    }

    #[test]
    fn an_endpoint_may_ask_for_longer() {
        let mut breaker = Breaker::resumed(2, None);
        let now = Instant::now();
        let asked = Some(Duration::from_secs(120));
        let resume = breaker.failed(&SETTINGS, now, now, asked, |_| Duration::from_secs(120));
        assert_eq!((resume - now).as_secs(), 120);
        assert_eq!(breaker.state(&SETTINGS, now), BreakerState::Open);
    }
}
