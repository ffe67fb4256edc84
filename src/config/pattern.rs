//! Regular expressions of conditions: one limit, and equal texts are compiled once.

use std::sync::Arc;

use regex::{Error, Regex, RegexBuilder};

use crate::template::Shared;

/// An expression whose compiled form passes this is refused.
const SIZE: usize = 1 << 20;

/// Compiles `text`, or gives what an equal text became while a rule still holds it: a reload compiles what
/// changed.
///
/// # Errors
/// What is wrong with the expression, or that it becomes too large.
pub(crate) fn regex(text: &str) -> Result<Arc<Regex>, Error> {
    static COMPILED: Shared<Regex> = Shared::new();
    COMPILED.get_or_make(text, || RegexBuilder::new(text).size_limit(SIZE).build())
}
