//! The composition root.
mod logging;
