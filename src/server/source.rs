//! What webhooks' workers read: the store, with names from the running generation's MIBs.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::watch;

use crate::config::Settings;
use crate::config::settings::RuleActionSettings;
use crate::delivery::{Events, OutboxRow, Source, SourceError};
use crate::event::{AlertId, AlertRecord, EventId, EventRecord, Generation, Timestamp};
use crate::snapshot::{SnapshotHandle, view};
use crate::store::Reader;

/// Questions that are answered at the same time; each reader has connections of its own, with their caches.
const READERS: usize = 4;

/// The committed state, as [`crate::delivery`] wants it.
pub(super) struct StoredSource {
    readers: [Mutex<Reader>; READERS],
    next: AtomicUsize,
    snapshot: SnapshotHandle,
    /// Rules that leave an output out, by its name, and of which generation.
    silent: Mutex<Vec<(Arc<str>, Generation, Arc<HashSet<Arc<str>>>)>>,
}

impl StoredSource {
    pub(super) fn new(reader: &Reader, snapshot: SnapshotHandle) -> Self {
        let readers = std::array::from_fn(|_| Mutex::new(reader.clone()));
        Self { readers, next: AtomicUsize::new(0), snapshot, silent: Mutex::default() }
    }

    /// A reader that nobody uses, or the one that is waited for next: a long question holds no other up.
    fn reader(&self) -> MutexGuard<'_, Reader> {
        match self.readers.iter().find_map(Mutex::try_lock) {
            Some(free) => free,
            None => self.readers[self.next.fetch_add(1, Ordering::Relaxed) % READERS].lock(),
        }
    }

    /// The rules whose `notify` does not name `output`. Walks the rules once a generation.
    fn silent(&self, output: &str) -> Arc<HashSet<Arc<str>>> {
        let snapshot = self.snapshot.current();
        let generation = snapshot.generation();
        let mut known = self.silent.lock();
        if let Some((_, _, rules)) = known.iter().find(|(name, of, _)| **name == *output && *of == generation)
        {
            return Arc::clone(rules);
        }
        known.retain(|(_, of, _)| *of == generation);
        let rules = Arc::new(silent(snapshot.settings(), output));
        known.push((output.into(), generation, Arc::clone(&rules)));
        rules
    }
}

fn silent(settings: &Settings, output: &str) -> HashSet<Arc<str>> {
    let leaves_out = |action: &RuleActionSettings| match action {
        RuleActionSettings::Alert(alert) => {
            alert.notify.as_ref().is_some_and(|names| names.iter().all(|name| **name != *output))
        }
        _ => false,
    };
    let rules = settings.rules.iter().filter(|rule| leaves_out(&rule.action));
    rules.map(|rule| Arc::clone(&rule.name)).collect()
}

impl Source for StoredSource {
    fn alerts_changed_after(&self, change: u64, limit: usize) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(self.reader().alerts_changed_after(change, limit)?)
    }

    fn open_alerts_after(&self, after: AlertId, limit: usize) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(self.reader().open_alerts_after(after, limit)?)
    }

    fn alerts_resolved_after(
        &self,
        after: (Timestamp, AlertId),
        limit: usize,
    ) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(self.reader().alerts_resolved_after(after, limit)?)
    }

    fn progress(&self, webhook: &str) -> Result<u64, SourceError> {
        Ok(self.reader().progress(webhook)?)
    }

    fn outbox(&self, webhook: &str, after: u64, limit: usize) -> Result<Vec<OutboxRow>, SourceError> {
        let rows = self.reader().outbox(webhook, after, limit)?;
        Ok(rows
            .into_iter()
            .map(|row| OutboxRow {
                row: row.row,
                record: row.record,
                attempts: row.attempts,
                not_before: row.not_before,
            })
            .collect())
    }

    fn outbox_depth(&self, webhook: &str) -> Result<(u64, Option<Timestamp>), SourceError> {
        Ok(self.reader().outbox_depth(webhook)?)
    }

    fn event_json(&self, event: EventId) -> Result<Option<Box<RawValue>>, SourceError> {
        let Some(event) = self.event(event)? else { return Ok(None) };
        Ok(Some(to_raw_value(&view::event_json(self.snapshot.current().mib(), &event))?))
    }

    fn event(&self, event: EventId) -> Result<Option<EventRecord>, SourceError> {
        Ok(self.reader().event(event)?)
    }

    fn events_after(&self, output: &str, after: EventId, limit: usize) -> Result<Events, SourceError> {
        let stretch = self.reader().events_after(after, limit)?;
        let silent = self.silent(output);
        let wants = |event: &EventRecord| event.rule.as_deref().is_none_or(|rule| !silent.contains(rule));
        let events = stretch.events.into_iter().filter(wants).collect();
        Ok(Events { events, upto: stretch.upto, lost: self.reader().events_lost(output) })
    }

    fn events_waiting(&self, after: EventId) -> Result<(u64, Option<Timestamp>), SourceError> {
        Ok(self.reader().events_waiting(after)?)
    }

    fn stored(&self) -> watch::Receiver<u64> {
        self.reader().stored()
    }

    fn newest_event(&self) -> Result<EventId, SourceError> {
        Ok(self.reader().newest_event()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::StorageSettings;
    use crate::config::{self, System};
    use crate::metrics::Metrics;
    use crate::mib::Mib;
    use crate::snapshot::{self, Publisher};
    use crate::store::Store;

    fn source(settings: &str, folder: &tempfile::TempDir) -> (StoredSource, Publisher, Store) {
        let loaded = config::parse("a.yaml", settings.as_bytes(), &System).unwrap();
        let candidate = snapshot::build(loaded.settings, Mib::builtin(), None).unwrap();
        let publisher = Publisher::new(candidate, 1).unwrap();
        let storage = StorageSettings { path: folder.path().join("data"), ..StorageSettings::default() };
        let store = Store::open(&storage, Arc::new(Metrics::new())).unwrap().store;
        (StoredSource::new(&store.reader(), publisher.handle()), publisher, store)
    }

    #[test]
    fn a_long_question_holds_no_other_up() {
        let folder = tempfile::tempdir().unwrap();
        let (source, _publisher, _store) = source("{}", &folder);
        let long: Vec<_> = (0..READERS - 1).map(|_| source.reader()).collect();
        assert_eq!(source.progress("hook").unwrap(), 0);
        assert_eq!(source.outbox_depth("hook").unwrap(), (0, None));
        // The one after the last waits for its turn.
        let last = source.reader();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| source.progress("hook").unwrap());
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!waits.is_finished());
            drop((last, long));
            assert_eq!(waits.join().unwrap(), 0);
        });
    }

    #[test]
    fn rules_that_leave_an_output_out_are_known_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = "outputs: [{name: a, file: {path: x}}, {name: b, file: {path: y}}]\n";
        let rules = "rules: [{name: both, alert: A}, {name: one, alert: A, notify: [a]}, {name: none, alert: A, notify: []}, {name: stored}]";
        let (source, _publisher, _store) = source(&format!("{outputs}{rules}"), &folder);
        let silent = |output: &str| {
            let mut names: Vec<_> = source.silent(output).iter().map(ToString::to_string).collect();
            names.sort();
            names
        };
        for _ in 0..2 {
            assert_eq!(silent("a"), ["none"]);
            assert_eq!(silent("b"), ["none", "one"]);
        }
        assert_eq!(source.silent.lock().len(), 2);
    }
}
