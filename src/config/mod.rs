//! Configuration: from a file's text to validated [`Settings`], every problem told with its place.

pub mod settings;

pub use settings::Settings;
