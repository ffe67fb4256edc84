//! `nereus run`: hands over to the composition root.

use std::path::PathBuf;
use std::process::ExitCode;

use super::failure::Failure;

/// Collects until it is told to stop. The one place where the command line meets [`crate::server`].
///
/// # Errors
/// [`Failure::Unable`]: the composition root is not wired yet.
pub(super) fn run(config: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let _ = config;
    Err(Failure::Unable(
        "this build cannot collect: the server is not wired to the command line yet".to_owned(),
    ))
}
