//! Gives memory back to the system once a burst is over.
//!
//! Receivers allocate events that the writer frees. glibc keeps what was freed for the arena that it came
//! from, so that a flood which filled the queues once leaves their size resident for ever. Measured: a
//! million traps as fast as they could be sent left 94 MiB, and with this 19 to 21 (docs/performance-load.md).

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::pipeline::{bound_kept_memory, give_back_memory};

/// How often it is looked.
const PACE: Duration = Duration::from_secs(2);
/// So much more than after the last trim is worth one.
const WORTH: u64 = 4 << 20;

/// So many trims follow growth. One is not enough: what the writer has taken from its queue is in use at the
/// first, and what is freed afterwards makes nothing grow.
const TRIMS: u32 = 3;
/// More than this in the queues is a burst that goes on.
pub(super) const BUSY: usize = 1 << 20;

/// Looks every two seconds whether memory grew while nothing waits in the queues, and gives it back then.
/// Ends with `runtime`. `busy` says whether a burst is still going on.
pub(super) fn watch(runtime: &Runtime, busy: impl Fn() -> bool + Send + 'static) {
    bound_kept_memory();
    runtime.spawn(async move {
        let mut growth = Growth { least: anonymous().unwrap_or(0), due: 0 };
        loop {
            tokio::time::sleep(PACE).await;
            let Some(now) = anonymous() else { return };
            if growth.is_due(now, busy()) {
                // Not on a worker: a trim of a large heap takes tens of milliseconds.
                let _ = tokio::task::spawn_blocking(give_back_memory).await;
                growth.least = anonymous().unwrap_or(now);
            }
        }
    });
}

/// When memory is given back.
struct Growth {
    /// What was resident after the last trim, or less.
    least: u64,
    /// How many trims are still to come.
    due: u32,
}

impl Growth {
    fn is_due(&mut self, now: u64, busy: bool) -> bool {
        if now >= self.least.saturating_add(WORTH) {
            self.due = TRIMS;
        }
        self.least = self.least.min(now);
        if busy || self.due == 0 {
            return false;
        }
        self.due -= 1;
        true
    }
}

/// The resident memory that no file backs, in octets. `None` where there is no `/proc`.
fn anonymous() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: u64 = field.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn growth_is_followed_by_a_few_trims_once_it_is_quiet() {
        let mut growth = Growth { least: 10 << 20, due: 0 };
        assert!(!growth.is_due(13 << 20, false), "not worth it");
        assert!(!growth.is_due(50 << 20, true), "the burst goes on");
        assert!(!growth.is_due(60 << 20, true));
        let quiet: Vec<_> = (0..5)
            .map(|_| {
                let due = growth.is_due(30 << 20, false);
                if due {
                    growth.least = 30 << 20;
                }
                due
            })
            .collect();
        assert_eq!(quiet, [true, true, true, false, false]);
        assert!(!growth.is_due(5 << 20, false));
        assert!(growth.is_due(9 << 20, false), "growth from where it had fallen to");
    }

    #[test]
    fn what_other_threads_freed_among_what_stays_goes_back() {
        // As events and alerts: many small ones freed elsewhere, a few in between that stay.
        let made = std::thread::spawn(|| {
            (0..400_000u32).map(|number| vec![number as u8; 200].into_boxed_slice()).collect::<Vec<_>>()
        });
        let mut all = made.join().unwrap();
        let full = anonymous().unwrap();
        let mut number = 0;
        all.retain(|_| {
            number += 1;
            number % 1000 == 0
        });
        all.shrink_to_fit();
        give_back_memory();
        let after = anonymous().unwrap();
        assert!(full - after > 40 << 20, "{full} before, {after} after, with {} left", all.len());
    }
}
