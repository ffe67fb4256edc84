//! Configuration: from a file's text to validated [`Settings`], every problem told with its place.
//!
//! ```text
//! text ─ tree (YAML or TOML, one shape, with spans) ─ include (more trees) ─ decode (by the table of keys) ─▶ Settings
//!                                                        └─ every problem, secrets masked ─▶ Diagnostic
//! ```
//!
//! * `keys` is the one table of what a file may say: the decoder, the JSON Schema and the sample
//!   are made from it.
//! * [`load`] reads a file, [`load_again`] one that was edited, [`parse`] a text; reading environment and files goes through [`Inputs`], so
//!   that validation itself does no I/O.
//! * [`diff`] says what differs between two settings, and what of it needs a restart.

mod again;
mod decode;
pub mod diff;
mod file;
mod include;
mod keys;
mod locate;
pub mod lookup;
mod pattern;
mod sample;
mod schema;
pub mod settings;
mod source;
mod tree;

pub use again::{Memory, load_again};
pub(crate) use file::hash_of;
pub use file::{
    ContentHash, Input, Inputs, Loaded, Problems, System, find, load, load_after, parse, parse_after,
};
pub use locate::locate;
pub(crate) use pattern::regex;
pub use sample::{sample_toml, sample_yaml};
pub use schema::schema;
pub use settings::Settings;
