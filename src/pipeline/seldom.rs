//! What goes wrong many times a second is told a few times a minute.

use std::time::{Duration, Instant};

/// So much time lies between two lines of one kind.
const APART: Duration = Duration::from_secs(10);

/// Whether one kind of line may be written.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    told: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// How many were withheld since the last line, if another may be written now. Costs a comparison otherwise.
    pub(super) fn may_tell(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < APART) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_stands_for_many() {
        let mut seldom = Seldom::default();
        let start = Instant::now();
        let told: Vec<u64> =
            (0..2_500).filter_map(|step| seldom.may_tell(start + Duration::from_millis(10 * step))).collect();
        assert_eq!(told, [0, 999, 999]);
    }
}
