//! When a failed post is tried again: exponential backoff with full jitter, and `Retry-After`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::config::settings::RetrySettings;
use crate::event::Timestamp;

/// The longest wait that an endpoint may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// The least pause, so that no setting makes a busy loop.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// The number of the post that failed, from 1, decides the ceiling: `initial` doubled each time, at most `max`.
pub(super) fn ceiling(settings: &RetrySettings, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    settings.initial.saturating_mul(1 << doublings).min(settings.max.max(settings.initial))
}

/// The pause after the `failures`th failure in a row: anywhere between nothing and the ceiling (full
/// jitter, so that many clients of one endpoint spread out), or what the endpoint asked for and up to
/// one `initial` on top.
pub(super) fn pause(
    settings: &RetrySettings,
    failures: u32,
    asked: Option<Duration>,
    jitter: &mut Jitter,
) -> Duration {
    match asked {
        Some(asked) => asked.min(LONGEST_RETRY_AFTER).saturating_add(jitter.upto(settings.initial)),
        None => jitter.upto(ceiling(settings, failures)),
    }
    .max(LEAST_PAUSE)
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds or a date, at most an hour from `now`. `None` if it is neither.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let span = if !value.is_empty() && value.bytes().all(|octet| octet.is_ascii_digit()) {
        // A number too large for u64 is still a number of seconds.
        value.parse().map_or(LONGEST_RETRY_AFTER, Duration::from_secs)
    } else {
        let date = jiff::fmt::rfc2822::parse(value).ok()?;
        Timestamp(date.timestamp().as_microsecond()).since(now)
    };
    Some(span.min(LONGEST_RETRY_AFTER))
}

/// Random numbers for spreading retries: SplitMix64, seeded by the system. Not for secrets.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    /// Seeded differently each time.
    pub(super) fn seeded() -> Self {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_i64(Timestamp::now().0);
        Self(hasher.finish())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly between zero and `span`, to the microsecond.
    fn upto(&mut self, span: Duration) -> Duration {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX - 1).min(u64::MAX - 1);
        Duration::from_micros(self.next() % (micros + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> RetrySettings {
        RetrySettings { attempts: 10, initial: Duration::from_millis(500), max: Duration::from_secs(60) }
    }

    #[test]
    fn the_ceiling_doubles_up_to_its_bound() {
        let seconds: Vec<_> = (1..=9).map(|n| ceiling(&settings(), n).as_secs_f64()).collect();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert_eq!(ceiling(&settings(), u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn jitter_is_full() {
        let mut jitter = Jitter::seeded();
        let pauses: Vec<_> =
            (0..1000).map(|_| pause(&settings(), 5, None, &mut jitter).as_secs_f64()).collect();
        assert!(pauses.iter().all(|pause| *pause <= 8.0));
        let mean = pauses.iter().sum::<f64>() / 1000.0;
        assert!((3.5..4.5).contains(&mean), "even over the whole span, mean {mean}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = Timestamp(784_111_777_000_000); // Sun, 06 Nov 1994 08:49:37 GMT, RFC 9110's example
        let seconds = |text| retry_after(text, now).map(|span| span.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("99999999999999999999999"), Some(3600));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(seconds("Mon, 07 Nov 1994 08:00:00 GMT"), Some(3600));
        assert_eq!((seconds(""), seconds("soon"), seconds("-1")), (None, None, None));
    }

    proptest! {
        #[test]
        fn any_settings_give_a_bounded_pause(
            initial in 0u64..u64::MAX, max in 0u64..u64::MAX, failures: u32, asked: Option<u32>,
        ) {
            let settings = RetrySettings {
                attempts: 1, initial: Duration::from_millis(initial), max: Duration::from_millis(max),
            };
            let asked = asked.map(|seconds| Duration::from_secs(seconds.into()));
            let pause = pause(&settings, failures, asked, &mut Jitter::seeded());
            prop_assert!(pause >= LEAST_PAUSE);
            prop_assert!(pause <= settings.initial.max(settings.max).saturating_add(LONGEST_RETRY_AFTER));
        }
    }
}
