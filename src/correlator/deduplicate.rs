//! The window in which repeats are counted and send nothing.

use std::time::Duration;

use crate::event::Timestamp;

/// Where the window ends that a change at `time` begins; without `deduplicate` there is none, and each
/// repeat is a change.
pub(super) fn quiet_until(time: Timestamp, deduplicate: Option<Duration>) -> Option<Timestamp> {
    deduplicate.filter(|window| !window.is_zero()).map(|window| time.after(window))
}

/// Whether a repeat at `time` falls into the window that ends at `quiet_until`.
///
/// The window is fixed by the change that began it: repeats inside do not lengthen it, so that a problem
/// that goes on is told again once a window. Where the clock was set back (or a reload shortened the
/// window) the end may lie further ahead than two windows; such a window no longer counts, else an alert
/// would stay silent for as long as the clock has lost. One window of tolerance remains, since receivers
/// hand over events slightly out of order.
pub(super) fn is_quiet(
    quiet_until: Option<Timestamp>,
    deduplicate: Option<Duration>,
    time: Timestamp,
) -> bool {
    let (Some(end), Some(window)) = (quiet_until, deduplicate) else {
        return false;
    };
    time < end && end.since(time) <= window.saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_open_at_its_start_and_closed_at_its_end() {
        let window = Some(Duration::from_micros(100));
        let end = quiet_until(Timestamp(1_000), window);
        assert_eq!(end, Some(Timestamp(1_100)));
        for (time, quiet) in [
            (1_000, true),
            (1_099, true),
            (1_100, false),
            (990, true),
            (900, true),
            (899, false),
            (-5, false),
        ] {
            assert_eq!(is_quiet(end, window, Timestamp(time)), quiet, "{time}");
        }
    }

    #[test]
    fn without_a_window_nothing_is_quiet() {
        assert_eq!(quiet_until(Timestamp(5), None), None);
        assert_eq!(quiet_until(Timestamp(5), Some(Duration::ZERO)), None);
        assert!(!is_quiet(None, Some(Duration::MAX), Timestamp(5)));
        assert!(!is_quiet(Some(Timestamp(9)), None, Timestamp(5)), "a reload took the window away");
        assert!(is_quiet(quiet_until(Timestamp(5), Some(Duration::MAX)), Some(Duration::MAX), Timestamp(5)));
    }
}
