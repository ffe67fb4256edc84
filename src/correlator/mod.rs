//! Alerts: one thread owns every open alert and decides on each event.
//!
//! [`Correlator`] is a pure core (no I/O, no clock): events and times in, [`crate::event::Command`]s for the
//! writer out. [`run`] is the thread around it. State lives here and outlives every Snapshot: an event brings
//! along what its rules say ([`crate::event::Effect`]), and of the running generation only the names of the
//! webhooks are needed ([`Routes`]).
//!
//! | file | lives there |
//! |---|---|
//! | `state` | the life cycle: open, repeat, change, end |
//! | `alert` | one open alert, and what may end it |
//! | `identity` | the label set |
//! | `deduplicate` | the window in which repeats are silent |
//! | `table` | open alerts by key and by time of expiry |
//! | `number` | numbers of events, alerts and changes |
//! | `operator` | acknowledging and closing |
//! | `route` | who hears of a change |
//! | `fence` | which generation every receiver has read |
//! | `reload` | changed rules, applied to open alerts once the fence is passed |
//! | `rekey` | what a changed rule makes of one alert |
//! | `run` | the thread |
//!
//! Still to come, each as a file beside these and a step in `state`: `flapping` (counters of changes a key, in
//! `raise` and `clear`, released in `tick`), storm control (before `begin`), mutes (in `route`, when a change
//! is queued) and heartbeats (timers beside the table's).

mod alert;
mod deduplicate;
mod fence;
mod identity;
mod number;
mod operator;
mod rekey;
mod reload;
mod route;
mod run;
mod state;
mod table;

#[cfg(test)]
mod tests;

pub use route::{Route, RouteKind, Routes};
pub use run::{Ended, run};
pub use state::{Correlator, Limits, Restored};
