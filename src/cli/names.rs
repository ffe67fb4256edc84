//! The MIBs of a command: the built-in names, and the folders that the command line or a configuration names.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::failure::{Failure, note};
use super::progress;
use crate::diagnostic::{Diagnostic, Level};
use crate::mib::{
    Cancelled, Collection, CompileStats, LookupError, Making, Mib, Progress, Scan, SourceFile, Target,
    read_directories,
};

/// Where names come from.
#[derive(Args)]
pub(super) struct NameArgs {
    /// A folder of MIB files, read recursively; may be given more than once
    #[arg(long, value_name = "DIR")]
    mibs: Vec<PathBuf>,
    /// Take the folders that this configuration file names
    #[arg(short, long, value_name = "FILE", conflicts_with = "mibs")]
    config: Option<PathBuf>,
}

/// The compiled MIBs with all that is known of them.
pub(super) struct Loaded {
    pub(super) mib: Arc<Mib>,
    pub(super) problems: Arc<[Diagnostic]>,
    pub(super) stats: CompileStats,
    /// All octets of the files.
    pub(super) octets: u64,
}

impl NameArgs {
    /// The built-in names alone, or the folders' over them.
    ///
    /// # Errors
    /// [`Failure::Unable`] where a folder cannot be read, or the configuration is invalid.
    pub(super) fn load(&self) -> Result<Arc<Mib>, Failure> {
        let loaded = self.load_all()?;
        let errors = loaded.problems.iter().filter(|problem| problem.level == Level::Error).count();
        if errors > 0 {
            note(&format!(
                "{errors} definitions of the MIB files are not in force; their names are missing here (see \
                 `nereus mib lint`)"
            ));
        }
        Ok(loaded.mib)
    }

    /// As [`load`](Self::load), with the problems.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(super) fn load_all(&self) -> Result<Loaded, Failure> {
        let scan = Scan::of(&self.folders()?);
        if scan.files.is_empty() {
            let mib = Mib::builtin();
            let stats = CompileStats { nodes: mib.nodes().len(), ..CompileStats::default() };
            return Ok(Loaded { mib, problems: scan.problems.into(), stats, octets: 0 });
        }
        let collection = collect(scan)?;
        Ok(Loaded {
            mib: Arc::clone(collection.mib()),
            problems: Arc::clone(collection.diagnostics()),
            stats: collection.stats(),
            octets: collection.octets(),
        })
    }

    /// The folders with what they compile to, of which there must be any.
    ///
    /// # Errors
    /// As [`load`](Self::load), and where no folder is named.
    pub(super) fn collection(&self) -> Result<(Vec<PathBuf>, Collection), Failure> {
        let folders = self.folders()?;
        if folders.is_empty() {
            return Err(Failure::Unable("no folder is named: give --mibs DIR or -c FILE".to_owned()));
        }
        let collection = collect(Scan::of(&folders))?;
        Ok((folders, collection))
    }

    /// The files of the folders.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(super) fn files(&self) -> Result<(Vec<SourceFile>, Vec<Diagnostic>), Failure> {
        Ok(read_directories(&self.folders()?))
    }

    /// The folders, all of which can be read.
    fn folders(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut folders = self.mibs.clone();
        if let Some(path) = &self.config {
            folders.extend_from_slice(&super::run::settings(path)?.mib.directories);
        }
        for folder in &folders {
            std::fs::read_dir(folder).map_err(|error| {
                Failure::Unable(format!("cannot read the folder {}: {error}", folder.display()))
            })?;
        }
        Ok(folders)
    }
}

fn collect(scan: Scan) -> Result<Collection, Failure> {
    let never = AtomicBool::new(false);
    let make = |progress: &Progress| {
        Collection::make_with(scan, None, false, &Making { cancel: &never, progress, cache: None })
    };
    match progress::shown("compiling MIB files", make) {
        Ok((collection, _)) => Ok(collection),
        Err(Cancelled) => Err(Failure::Unable("the compile was cancelled".to_owned())),
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
