//! `nereus run` and `nereus check`: from a configuration file to the composition root.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::failure::{Failure, note};
use super::output::Out;
use super::privileges;
use crate::config::settings::AdminSettings;
use crate::config::{self, Problems, Settings};
use crate::diagnostic::{Diagnostic, Level, render, render_coloured, summary};
use crate::pipeline::Inherited;
use crate::reload::FirstPlan;
use crate::server::{Server, Signals, StartError, Surroundings};
use crate::snapshot::Candidate;

/// Collects until it is told to stop: SIGTERM or SIGINT. The one place where the command line meets
/// [`crate::server`].
///
/// # Errors
/// [`Failure::Bad`] for a configuration with errors, which are shown as `check` shows them, before
/// anything is bound; [`Failure::Unable`] where an address, a directory or a file cannot be had.
pub(super) fn run(file: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let (origin, settings) = match file.or_else(config::find) {
        Some(path) => {
            let (settings, inputs) = load(&path)?;
            (Some((path, inputs)), settings)
        }
        None => (None, Settings::default()),
    };
    // A core dump would hold communities and tokens.
    let limit = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, limit);
    let signals = Signals::take().map_err(|error| Failure::Unable(error.to_string()))?;
    let inherited = Inherited::take()
        .map_err(|error| Failure::Unable(format!("the sockets of LISTEN_FDS cannot be taken: {error}")))?;
    let surroundings = Surroundings { inherited, bound: Some(Box::new(privileges::give_up)) };
    match Server::start_in(surroundings, origin, settings) {
        Ok(server) => {
            server.run_until_signal(signals);
            Ok(ExitCode::SUCCESS)
        }
        Err(StartError::Settings(problems)) => {
            tell(&problems);
            Err(Failure::Bad)
        }
        Err(error @ StartError::Environment(_)) => Err(Failure::Unable(error.to_string())),
    }
}

#[derive(Args)]
pub(super) struct CheckArgs {
    /// The configuration file; without it the one that `nereus run` would take
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON object for each problem
    #[arg(long)]
    json: bool,
}

/// The validation that a reload runs: settings, MIBs, rules. Every problem is shown.
///
/// # Errors
/// [`Failure::Bad`] where there is an error.
pub(super) fn check(args: &CheckArgs, out: &mut Out) -> Result<(), Failure> {
    let Some(path) = args.config.clone().or_else(config::find) else {
        out.line("no configuration file: the embedded default is valid")?;
        return Ok(());
    };
    let (problems, mib_problems) = match config::load(&path) {
        Ok(loaded) => {
            let mut problems = loaded.diagnostics;
            let (built, mib_problems) = FirstPlan::make(Some(path.clone()), loaded.inputs, loaded.settings);
            match built {
                Ok(first) => problems.extend(first.refused_by_a_reload()),
                Err(more) => problems.extend(more),
            }
            (problems, mib_problems)
        }
        Err(problems) => (problems.diagnostics, Arc::default()),
    };
    let failed = problems.iter().any(|problem| problem.level == Level::Error);
    if args.json {
        for problem in &problems {
            out.line(&json!(problem).to_string())?;
        }
    } else {
        for problem in &problems {
            out.line(&render(problem))?;
        }
        let place = path.display();
        match (failed, problems.is_empty()) {
            (true, _) => out.line(&format!("{place}: {}", summary(&problems)))?,
            (false, true) => out.line(&format!("{place}: valid"))?,
            (false, false) => out.line(&format!("{place}: valid, with {}", summary(&problems)))?,
        }
        if !mib_problems.is_empty() {
            out.line(&format!(
                "MIB files: {} (none of them keeps Nereus from starting)",
                summary(&mib_problems)
            ))?;
        }
    }
    if failed { Err(Failure::Bad) } else { Ok(()) }
}

/// The settings of a file that another question needs. Its warnings are not told: they are no answer to it.
///
/// # Errors
/// [`Failure::Undone`], with every problem told.
pub(super) fn settings(path: &Path) -> Result<Settings, Failure> {
    config::load(path).map(|loaded| loaded.settings).map_err(|problems| {
        tell(&problems.diagnostics);
        Failure::Undone
    })
}

/// What a Nereus with this file would publish first; without one, the embedded default. Warnings are not told.
///
/// # Errors
/// [`Failure::Undone`], with every problem told.
pub(super) fn candidate(path: Option<&Path>) -> Result<Candidate, Failure> {
    let Some(path) = path else { return Ok(Candidate::embedded_default()) };
    let told = |problems: &[Diagnostic]| {
        tell(problems);
        Failure::Undone
    };
    let loaded = config::load(path).map_err(|problems| told(&problems.diagnostics))?;
    let (built, _) = FirstPlan::make(Some(path.to_owned()), loaded.inputs, loaded.settings);
    built.map(|first| first.into_candidate().clone()).map_err(|problems| told(&problems))
}

/// Where a running Nereus of this file is asked. A file that was broken since it was started does for that, as
/// long as its `admin` section can be read.
///
/// # Errors
/// [`Failure::Undone`], with every problem told.
pub(super) fn admin(path: &Path) -> Result<Arc<AdminSettings>, Failure> {
    match config::load(path) {
        Ok(loaded) => Ok(loaded.settings.admin),
        Err(Problems { admin: Some(admin), .. }) => {
            note(&format!("{} has errors; `nereus check` shows them", path.display()));
            Ok(admin)
        }
        Err(problems) => {
            tell(&problems.diagnostics);
            Err(Failure::Undone)
        }
    }
}

/// The settings of a file; its warnings are told.
fn load(path: &Path) -> Result<(Settings, Vec<config::Input>), Failure> {
    match config::load(path) {
        Ok(loaded) => {
            tell(&loaded.diagnostics);
            Ok((loaded.settings, loaded.inputs))
        }
        Err(problems) => {
            tell(&problems.diagnostics);
            Err(Failure::Bad)
        }
    }
}

/// Every problem, on standard error.
pub(super) fn tell(problems: &[Diagnostic]) {
    if problems.is_empty() {
        return;
    }
    let mut stderr = anstream::AutoStream::auto(io::stderr());
    for problem in problems {
        let _ = writeln!(stderr, "{}", render_coloured(problem));
    }
    let _ = writeln!(stderr, "{}", summary(problems));
}
