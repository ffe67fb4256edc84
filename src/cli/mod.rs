//! The command line: what `nereus` takes, and which file does it.
//!
//! | command | file |
//! |---|---|
//! | `run` (or nothing at all), `check` | `run.rs` |
//! | `send` | `send/` |
//! | `config init`, `config schema` | `config.rs` |
//! | `mib lookup` | `lookup.rs` |
//! | `mib tree`, `mib lint`, `mib stats`, `mib compile` | `mib.rs` |
//! | `events`, `alerts`, `status` | `query.rs` over `client.rs` |
//! | `mutes` | `mutes.rs` over `client.rs` |
//! | `explain` | `explain.rs`, over `client.rs` or a configuration |
//! | `tail` | `tail.rs` over `client.rs` |
//! | `reload`, `rollback`, `generations` | `reload.rs` over `client.rs` |
//! | `completions` | here |
//!
//! Answers go to standard output, by [`output::Out`]: a table, or with `--json` one object a line. Everything
//! else goes to standard error. Exit codes: 0 done, 1 the thing asked about is bad, 2 wrong usage, 3 could not
//! do it ([`failure::Failure`]).

mod client;
mod config;
mod explain;
mod failure;
mod lookup;
mod mib;
mod mutes;
mod names;
mod output;
mod privileges;
mod progress;
mod query;
mod refused;
mod reload;
mod replay;
mod run;
mod send;
mod tail;
mod time;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use failure::Failure;
use output::Out;

/// Receives SNMP notifications, turns them into alerts, and delivers them to webhooks.
#[derive(Parser)]
#[command(name = "nereus", version, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str = "Without a command, nereus runs as `nereus run` does.\n\
    Exit codes: 0 done, 1 the thing asked about is bad, 2 wrong usage, 3 could not do it.";

#[derive(Subcommand)]
enum Command {
    /// Collect notifications
    Run(RunArgs),
    /// Check a configuration and show every problem
    Check(run::CheckArgs),
    /// Write a configuration to begin with, or its schema
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Send a notification by its MIB name, or many at a rate
    Send(send::SendArgs),
    /// Show what becomes of the notifications in a capture, under one configuration or two
    Replay(replay::ReplayArgs),
    /// Ask the MIBs
    Mib {
        #[command(subcommand)]
        command: MibCommand,
    },
    /// List events of a running Nereus, the newest first
    Events(query::EventsArgs),
    /// Show events of a running Nereus as they are stored
    Tail(tail::TailArgs),
    /// List alerts of a running Nereus, acknowledge or close them
    Alerts(query::AlertsArgs),
    /// Say why an event was treated as it was, or what would become of a datagram
    Explain(explain::ExplainArgs),
    /// List what a running Nereus keeps quiet, mute alerts, or end that
    Mutes(mutes::MutesArgs),
    /// Show how a running Nereus is
    Status(query::StatusArgs),
    /// Have a running Nereus reload, and show what came of it
    Reload(reload::ReloadArgs),
    /// Have a running Nereus go back to a kept generation
    Rollback(reload::RollbackArgs),
    /// List the generations that can be gone back to
    Generations(reload::GenerationsArgs),
    /// Write a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Args, Default)]
struct RunArgs {
    /// The configuration file. Without it: ./nereus.{yaml,yml,toml}, then
    /// /etc/nereus/{nereus,config}.{yaml,yml,toml}, else the embedded default
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum MibCommand {
    /// Say what names and OIDs stand for
    Lookup(lookup::LookupArgs),
    /// Show what lies below a name
    Tree(mib::TreeArgs),
    /// Tell what is wrong with MIB files, and where
    Lint(mib::LintArgs),
    /// Count what the MIBs hold
    Stats(mib::StatsArgs),
    /// Compile the MIBs into a file that `mib.cache` can name
    Compile(mib::CompileArgs),
}

/// Runs the program with the process' arguments. Returns what the process exits with; what went wrong has
/// been said on standard error then.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. Who closes the pipe does not want to read on.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::USAGE } else { 0 });
        }
    };
    let mut out = Out::stdout();
    // Flushed whatever the outcome: what was answered before a failure is worth having.
    let done = dispatch(cli.command.unwrap_or(Command::Run(RunArgs::default())), &mut out);
    match done.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code,
        Err(failure) => {
            let _ = out.flush();
            failure.tell()
        }
    }
}

fn dispatch(command: Command, out: &mut Out) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(args) => return run::run(args.config),
        Command::Check(args) => run::check(&args, out)?,
        Command::Config { command } => config::config(&command, out)?,
        Command::Send(args) => send::send(&args, out)?,
        Command::Replay(args) => replay::replay(&args, out)?,
        Command::Mib { command } => match command {
            MibCommand::Lookup(args) => lookup::lookup(&args, out)?,
            MibCommand::Tree(args) => mib::tree(&args, out)?,
            MibCommand::Lint(args) => mib::lint(&args, out)?,
            MibCommand::Stats(args) => mib::stats(&args, out)?,
            MibCommand::Compile(args) => mib::compile(&args, out)?,
        },
        Command::Events(args) => query::events(&args, out)?,
        Command::Tail(args) => tail::tail(&args, out)?,
        Command::Alerts(args) => query::alerts(&args, out)?,
        Command::Explain(args) => explain::explain(&args, out)?,
        Command::Mutes(args) => mutes::mutes(&args, out)?,
        Command::Status(args) => query::status(&args, out)?,
        Command::Reload(args) => return reload::reload(&args, out),
        Command::Rollback(args) => return reload::rollback(&args, out),
        Command::Generations(args) => reload::generations(&args, out)?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "nereus", &mut script);
            out.raw(&script)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_at_all_is_run() {
        let cli = Cli::try_parse_from(["nereus"]).unwrap_or_else(|error| panic!("{error}"));
        assert!(cli.command.is_none());
    }
}
