//! `nereus config init` and `nereus config schema`: a configuration to begin with, and what may stand in one.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::failure::{Failure, note};
use super::output::Out;
use crate::config;

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the complete configuration with its defaults, each key explained
    Init(InitArgs),
    /// Print the JSON Schema (draft 2020-12) of the configuration, for editors and CUE
    Schema,
}

#[derive(Args)]
pub(super) struct InitArgs {
    /// TOML in place of YAML
    #[arg(long)]
    toml: bool,
    /// Write it to this file, which must not be there yet; .toml writes TOML
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Answers either.
///
/// # Errors
/// [`Failure::Usage`] where the file's extension is another language, [`Failure::Unable`] where the file is
/// there already or cannot be written.
pub(super) fn config(command: &ConfigCommand, out: &mut Out) -> Result<(), Failure> {
    match command {
        ConfigCommand::Init(args) => init(args, out),
        ConfigCommand::Schema => out.line(&format!("{:#}", config::schema())),
    }
}

fn init(args: &InitArgs, out: &mut Out) -> Result<(), Failure> {
    let toml = match args.output.as_deref().map(language) {
        Some(Some(toml)) if args.toml && !toml => {
            return Err(Failure::Usage("`--toml` writes no .yaml file: name it .toml".into()));
        }
        Some(Some(toml)) => toml,
        Some(None) => {
            return Err(Failure::Usage(
                "the file's extension says its language: .yaml, .yml or .toml".into(),
            ));
        }
        None => args.toml,
    };
    let sample = if toml { config::sample_toml() } else { config::sample_yaml() };
    let Some(path) = &args.output else { return out.raw(sample.as_bytes()) };
    let shown = path.display();
    write_new(path, sample.as_bytes()).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::Unable(format!("`{shown}` is there already, and nothing is overwritten"))
        }
        _ => Failure::Unable(format!("cannot write `{shown}`: {error}")),
    })?;
    note(&format!("`{shown}` is written; `nereus check -c {shown}` tells every problem"));
    Ok(())
}

/// Whether the file is TOML by its extension; `None` for neither language.
fn language(path: &Path) -> Option<bool> {
    match &*path.extension()?.to_str()?.to_ascii_lowercase() {
        "toml" => Some(true),
        "yaml" | "yml" => Some(false),
        _ => None,
    }
}

/// Readable by its owner and group alone, since secrets will stand in it.
fn write_new(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    file.write_all(octets)?;
    file.sync_all()
}
