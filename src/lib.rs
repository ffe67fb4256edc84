//! Nereus: an SNMP trap collector whose whole runtime state is one immutable, atomically published
//! [`snapshot::Snapshot`].
//!
//! # The way of a trap
//! A receiver thread ([`pipeline`]) reads a batch of datagrams, loads the current Snapshot once, and
//! gives each datagram to [`pipeline::process`], which is pure. What it accepts goes through the
//! bounded handoff of [`event`] to the one thread that owns the alerts ([`correlator`]), from there
//! to the one thread that commits ([`store`]), and from the committed state to the webhooks
//! ([`delivery`]).
//!
//! # The way of a change
//! [`reload`] reads the inputs, [`config`] and [`mib`] turn them into settings and names with every
//! problem told, [`snapshot::build`] makes a candidate, and the one
//! [`snapshot::Publisher`] swaps it in.
//!
//! # Layers
//! A room imports only rooms of lower layers; `tests/layers.rs` reads the sources and fails on a
//! breach. The modules below stand in the order of their layers.

// Layer 0: leaf types.
pub mod device;
pub mod diagnostic;
pub mod metrics;
pub mod oid;
pub mod security;
pub mod severity;
pub mod template;
pub mod value;
pub mod version;

// Layer 1: the codec, the MIB compiler, the settings, the owned event.
pub mod config;
pub mod event;
pub mod mib;
pub mod wire;

// Layer 2: what is published, and what is stored.
pub mod snapshot;
pub mod store;

// Layer 3: the ways of a trap.
pub mod correlator;
pub mod delivery;
pub mod pipeline;

// Layer 4 to 7: the way of a change, HTTP, the composition root, the command line.
pub mod admin;
pub mod cli;
pub mod reload;
pub mod server;
