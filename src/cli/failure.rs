//! How a command ends when it does not end well: the exit code and what is said.

use std::io::Write as _;
use std::process::ExitCode;

/// Exit code of a wrong command line; clap's own errors have it too.
pub(super) const USAGE: u8 = 2;

/// Why a command failed, by the exit code that it becomes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The thing asked about is bad, and the answer has said so: 1.
    Bad,
    /// The command line asks for what makes no sense: 2.
    Usage(String),
    /// It could not be done: 3.
    Unable(String),
    /// As [`Failure::Unable`], and the answer has said so.
    Undone,
    /// Who read the output has read enough: 0, and nothing is said.
    ClosedPipe,
}

impl Failure {
    /// Says what is to be said, and returns the exit code.
    pub(super) fn tell(&self) -> ExitCode {
        let code = match self {
            Self::ClosedPipe => 0,
            Self::Bad => 1,
            Self::Usage(message) => {
                error(message);
                USAGE
            }
            Self::Unable(message) => {
                error(message);
                3
            }
            Self::Undone => 3,
        };
        ExitCode::from(code)
    }
}

/// One line for the person at the terminal, on standard error.
pub(super) fn error(message: &str) {
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(anstream::stderr(), "\x1b[1;31merror:\x1b[0m {message}");
}

/// As [`error`], of something that keeps the command from nothing.
pub(super) fn note(message: &str) {
    let _ = writeln!(anstream::stderr(), "\x1b[1;36mnote:\x1b[0m {message}");
}
