//! reload.

pub mod watch;
