//! The MIBs of a command: the built-in names, and the folders that the command line or a configuration names.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::failure::{Failure, note};
use crate::diagnostic::Level;
use crate::mib::{LookupError, Mib, Target, read_directories};

/// Where names come from.
#[derive(Args)]
pub(super) struct NameArgs {
    /// A folder of MIB files, read recursively; may be given more than once
    #[arg(long, value_name = "DIR")]
    mibs: Vec<PathBuf>,
    /// A configuration file, for the folders that its `mib.directories` names
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl NameArgs {
    /// The built-in names alone, or the folders' over them.
    ///
    /// # Errors
    /// [`Failure::Unable`] where a folder cannot be read, [`Failure::Undone`] where the configuration has errors.
    pub(super) fn load(&self) -> Result<Arc<Mib>, Failure> {
        let mut folders = self.mibs.clone();
        if let Some(path) = &self.config {
            folders.extend_from_slice(&super::run::settings(path)?.mib.directories);
        }
        if folders.is_empty() {
            return Ok(Mib::builtin());
        }
        for folder in &folders {
            std::fs::read_dir(folder).map_err(|error| {
                Failure::Unable(format!("cannot read the folder {}: {error}", folder.display()))
            })?;
        }
        let (files, mut problems) = read_directories(&folders);
        let compiled = Mib::compile(&files);
        problems.extend(compiled.diagnostics);
        let errors = problems.iter().filter(|problem| problem.level == Level::Error).count();
        if errors > 0 {
            note(&format!(
                "{errors} definitions of the MIB files are not in force; their names are missing here"
            ));
        }
        Ok(Arc::new(compiled.mib))
    }
}

/// What `name` stands for; else one sentence that says why not and what to write instead.
pub(super) fn resolve(mib: &Mib, name: &str) -> Result<Target, String> {
    mib.resolve(name).map_err(|error| explain(mib, name, &error))
}

/// Why `name` stands for nothing, with the candidates.
pub(super) fn explain(mib: &Mib, name: &str, error: &LookupError) -> String {
    match error {
        LookupError::Ambiguous(_) => {
            format!("{name}: several MIBs define this name; write {}", suggestions(mib, error).join(" or "))
        }
        _ => format!("{name}: {error}"),
    }
}

/// The names that may have been meant.
pub(super) fn suggestions(mib: &Mib, error: &LookupError) -> Vec<String> {
    /// More than these help nobody.
    const ENOUGH: usize = 5;
    match error {
        LookupError::NotFound { suggestions } => suggestions.clone(),
        LookupError::Ambiguous(nodes) => {
            nodes.iter().take(ENOUGH).map(|&node| mib.node(node).qualified_name()).collect()
        }
        LookupError::BadSyntax => Vec::new(),
    }
}
