//! What takes part in a change: prepare (may fail, changes nothing), then commit (cannot fail).

use std::time::SystemTime;

use parking_lot::Mutex;

use super::Snapshot;

/// A part of the program that owns something outside the Snapshot (sockets, workers, a log file) and
/// brings it in line when a Snapshot is published. The counterpart of the founding document's
/// `ComponentReloader`.
pub trait ComponentReloader: Send + Sync {
    /// The name under which it is registered: `listener`, `notifier`, `storage`…
    fn name(&self) -> &'static str;

    /// Opens whatever `new` needs and `old` did not, without touching what runs.
    /// Dropping the result undoes it.
    ///
    /// # Errors
    /// What cannot be had, as a sentence for the operator; the whole reload is then rejected.
    fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Result<Box<dyn Prepared>, String>;

    /// How often and when it took part.
    fn reload_stats(&self) -> ReloadStats;
}

/// What a component has made ready. Dropped without [`Prepared::commit`], it has never happened.
pub trait Prepared: Send {
    /// Puts it in force. Called after the publication; infallible.
    fn commit(self: Box<Self>);
}

/// A component's part in reloads so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReloadStats {
    /// How many it committed.
    pub reload_count: u64,
    /// When the last one was.
    pub last_reload: Option<SystemTime>,
    /// The generation that it follows.
    pub config_version: u64,
}

/// Counts a component's reloads.
#[derive(Debug, Default)]
pub struct ReloadCounter(Mutex<ReloadStats>);

impl ReloadCounter {
    /// The component now follows generation `version`.
    pub fn record(&self, version: u64) {
        let mut stats = self.0.lock();
        stats.reload_count += 1;
        stats.last_reload = Some(SystemTime::now());
        stats.config_version = version;
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> ReloadStats {
        *self.0.lock()
    }
}
