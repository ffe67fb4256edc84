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
//! | `mute` | which mute matches which alert |
//! | `storm` | sources that begin too many alerts |
//! | `heartbeat` | sources that must send |
//! | `flapping` | alerts that come and go, counted and held |
//! | `route` | who hears of a change |
//! | `fence` | which generation every receiver has read |
//! | `reload` | changed rules, applied to open alerts once the fence is passed |
//! | `rekey` | what a changed rule makes of one alert |
//! | `restore` | open alerts as a start reads them |
//! | `run` | the thread |

mod alert;
mod deduplicate;
mod fence;
mod flapping;
mod heartbeat;
mod identity;
mod mute;
mod number;
mod operator;
mod rekey;
mod reload;
mod restore;
mod route;
mod run;
mod state;
mod storm;
mod table;

#[cfg(test)]
mod tests;

pub use restore::{RestoredAlert, Restorer};
pub use route::{Route, RouteKind, Routes};
pub use run::{Ended, run};
pub use state::{Correlator, Limits, Restored};
