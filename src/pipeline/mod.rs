//! The hot path: sockets, receiver threads, and the pure processing of one datagram.
//!
//! [`Listeners::bind`] opens every address before anything else is read, and [`Listeners::hold`] keeps what comes in
//! until there is a Snapshot; [`Listeners::start`] lets one
//! thread a socket run [`process`] on what comes in. Sockets and threads outlive generations.

mod batch;
mod explain;
mod hold;
mod inform;
mod inherited;
mod intake;
mod listeners;
mod process;
mod receiver;
mod refused;
mod reply;
mod samples;
mod seldom;
mod tcp;
mod usm;

pub(crate) use batch::{bound_kept_memory, give_back_memory};
pub use explain::{ExplainedDatagram, ExplainedEvent, explain_datagram, explain_event};
pub use inherited::Inherited;
pub use listeners::{BindError, ListenerStatus, Listeners, Wiring};
pub use process::{Datagram, Scratch, process};
pub use refused::{Claimed, Refusal, Refusals};
pub use reply::{Reply, ReplyKind};
pub use samples::{Sample, Samples};
pub use usm::{Engines, EnginesWriter, LocalEngine, MAX_ENGINES, Stat, Usm, settle};
