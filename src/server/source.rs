//! What webhooks' workers read: the store, with names from the running generation's MIBs.

use serde_json::Value;

use crate::delivery::{OutboxRow, Source, SourceError};
use crate::event::{AlertId, AlertRecord, EventId, Timestamp};
use crate::snapshot::{SnapshotHandle, view};
use crate::store::Reader;

/// The committed state, as [`crate::delivery`] wants it.
pub(super) struct StoredSource {
    reader: Reader,
    snapshot: SnapshotHandle,
}

impl StoredSource {
    pub(super) fn new(reader: Reader, snapshot: SnapshotHandle) -> Self {
        Self { reader, snapshot }
    }
}

impl Source for StoredSource {
    fn alerts_changed_after(&self, change: u64, limit: usize) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(self.reader.alerts_changed_after(change, limit)?)
    }

    fn alerts_to_resend(
        &self,
        resolved_since: Timestamp,
        after: AlertId,
        limit: usize,
    ) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(self.reader.alerts_to_resend(resolved_since, after, limit)?)
    }

    fn progress(&self, webhook: &str) -> Result<u64, SourceError> {
        Ok(self.reader.progress(webhook)?)
    }

    fn outbox(&self, webhook: &str, after: u64, limit: usize) -> Result<Vec<OutboxRow>, SourceError> {
        let rows = self.reader.outbox(webhook, after, limit)?;
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
        Ok(self.reader.outbox_depth(webhook)?)
    }

    fn event_json(&self, event: EventId) -> Result<Option<Value>, SourceError> {
        let event = self.reader.event(event)?;
        Ok(event.map(|event| view::event_json(self.snapshot.current().mib(), &event)))
    }
}
