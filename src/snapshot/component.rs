//! What takes part in a change: prepare (may fail, changes nothing), then commit (cannot fail).

use std::time::SystemTime;

use parking_lot::Mutex;

use super::Snapshot;

/// A part of the program that owns something outside the Snapshot (sockets, workers, a log file) and
/// brings it in line when a Snapshot is published. The counterpart of the founding document's
/// `ComponentReloader`.
pub trait ComponentReloader: Send + Sync {
    /// Opens whatever `new` needs and `old` did not, without touching what runs. `None`: nothing that
    /// concerns this component has changed. `new` has its number already, and nobody reads it yet.
    ///
    /// Dropping what is returned undoes it.
    ///
    /// # Errors
    /// What cannot be had; the whole reload is then rejected.
    fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Result<Option<Box<dyn Prepared>>, PrepareError>;

    /// How often and when it took part.
    fn reload_stats(&self) -> ReloadStats;
}

/// Why a component cannot follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareError {
    /// A sentence for the operator, with the remedy.
    pub message: String,
    /// Whether it may work in a moment, as with an address that is just being let go.
    pub transient: bool,
}

impl PrepareError {
    /// One that does not go away by itself.
    #[must_use]
    pub fn lasting(message: impl Into<String>) -> Self {
        Self { message: message.into(), transient: false }
    }
}

/// What a component has made ready. Dropped without [`Prepared::commit`], it has never happened.
pub trait Prepared: Send {
    /// The new Snapshot is published next, whatever happens: for what must be said before anybody reads it.
    /// Infallible.
    fn about_to_publish(&mut self) {}

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
