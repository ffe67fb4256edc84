//! What operators do with open alerts.

use std::sync::Arc;

use super::alert::How;
use super::route::Routes;
use super::state::{Correlator, change};
use super::table::Slot;
use crate::event::{AlertChange, AlertState, ByHand, Command, Deed, OperatorRequest, Outcome, Timestamp};

impl Correlator {
    /// Does what an operator asks for, tells the outcome, and has the writer tell when it is on the disk.
    ///
    /// Acknowledging is a change that event webhooks hear of; the alert stays open, repeats and ends as any. The
    /// first one stands. It belongs to this alert: a changed severity or label ends it and begins one that nobody
    /// has acknowledged, a reload that gives it another identity keeps it. Closing ends the alert (`operator`); the
    /// next event of its key opens a new one.
    pub fn operate(
        &mut self,
        request: OperatorRequest,
        now: Timestamp,
        routes: &Routes,
        out: &mut Vec<Command>,
    ) {
        let OperatorRequest { alert, key, deed, by, outcome, committed, place: _place } = request;
        let slot = self.open.find(&key).filter(|&slot| self.open.get(slot).record.id == alert);
        // Who does not wait any more is told nothing.
        let Some(slot) = slot else {
            let _ = outcome.try_send(Outcome::NotOpen);
            return;
        };
        let (made, state) = match deed {
            Deed::Acknowledge => (self.acknowledge(slot, by, now, routes), AlertState::Acknowledged),
            Deed::Close => (Some(self.close(slot, by, now, routes)), AlertState::Resolved),
        };
        let _ = outcome.try_send(Outcome::Done { state, changed: made.is_some() });
        out.extend(made.map(|made| Command::Changes(vec![made])));
        out.push(Command::Flush(committed));
    }

    fn acknowledge(
        &mut self,
        slot: Slot,
        by: Arc<str>,
        now: Timestamp,
        routes: &Routes,
    ) -> Option<AlertChange> {
        if self.open.get(slot).record.state == AlertState::Acknowledged {
            return None;
        }
        let number = self.changes.next(now);
        let record = self.open.get_mut(slot).fold();
        record.change = number;
        record.state = AlertState::Acknowledged;
        record.by_hand =
            Some(Box::new(ByHand { acknowledged_by: Some(by), acknowledged_at: Some(now), closed_by: None }));
        self.open.told(slot);
        self.open.reweigh(slot);
        self.tally.acknowledged += 1;
        Some(change(&self.open.get(slot).record, routes))
    }

    fn close(&mut self, slot: Slot, by: Arc<str>, now: Timestamp, routes: &Routes) -> AlertChange {
        let mut open = self.open.remove(slot);
        open.fold().by_hand.get_or_insert_default().closed_by = Some(by);
        self.resolve(open, How::Operator, now, now, routes)
    }
}
