//! MIBs: from vendors' files to names, types and rendered values.
//!
//! # The way of a file
//! [`read_directories`] reads them, or a [`Collection`], which reads again only what has changed. Each file is parsed on its own into a compact record (`lexer`,
//! `parser`, `ast`); nothing in it stops the parser, problems are collected. All records are linked
//! (`resolve`) into one flat, immutable [`Mib`] (`image`, `trie`).
//!
//! # What a [`Mib`] answers
//! * OID to name: [`Mib::lookup`], [`Mib::write_name`];
//! * name to OID: [`Mib::resolve`], and for rules [`Mib::resolve_object`];
//! * values and instances: [`Mib::write_value`], [`Mib::write_varbind`], [`Mib::write_instance`],
//!   [`Mib::index_parts`], and detached from the [`Mib`] [`Renderer`] and [`IndexDecoder`].
//!
//! The built-in names (`prelude`) lie under everything: [`Mib::builtin`] is a `Mib` of them alone.

mod address;
mod ast;
mod cache;
mod collection;
mod display;
mod edit;
mod format;
mod image;
mod index;
mod instance;
mod lexer;
mod names;
mod parser;
mod prelude;
mod record;
mod relink;
mod resolve;
mod room;
mod source;
mod symbol;
mod trie;
mod view;
mod workers;

use std::sync::{Arc, OnceLock};

pub use cache::CacheError;
pub use collection::{Cancelled, Collected, Collection, Making, Progress};
pub use display::Renderer;
#[doc(hidden)]
pub use display::{show_by_hint, show_number_by_hint};
pub use image::{Access, BaseType, ImageError, Kind, Match, Mib, ModuleId, NodeId, Status};
pub use index::{IndexDecoder, IndexKind, IndexPart};
pub use names::{Bound, LookupError, Target};
pub use view::{Module, Node, Syntax};
pub(crate) use workers::standing_back;

pub use source::{FoundFile, LARGEST_FILE, Scan, SourceFile, Stamp, read_directories};

use crate::diagnostic::{Diagnostic, Level};

/// Where built-in names say they come from.
const BUILT_IN: &str = "built-in";

/// What a compile yields: always a [`Mib`], however bad the files.
#[derive(Debug)]
pub struct Compiled {
    /// The names of all files over the built-in ones.
    pub mib: Mib,
    /// Every problem, by file in the order given, then by place.
    pub diagnostics: Vec<Diagnostic>,
    /// What was seen.
    pub stats: CompileStats,
}

/// Counts of one compile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompileStats {
    /// Files given.
    pub files: usize,
    /// Modules in them; several versions of one count each.
    pub modules: usize,
    /// Nodes of the [`Mib`], built-in ones included.
    pub nodes: usize,
    /// Diagnostics that are warnings or errors.
    pub problems: usize,
}

impl Mib {
    /// The built-in names alone: the SMI's roots, SNMPv2-MIB, IF-MIB, the usual textual conventions. Linked
    /// once and shared.
    #[must_use]
    pub fn builtin() -> Arc<Self> {
        static BUILTIN: OnceLock<Arc<Mib>> = OnceLock::new();
        let make = || {
            let linked = resolve::link(&[builtin_input()]);
            Arc::new(Self::made(&linked.parts, linked.files))
        };
        Arc::clone(BUILTIN.get_or_init(make))
    }

    /// Lexes and parses `files` and drops what they say: how many definitions there are. What
    /// [`compile`](Self::compile) does first, apart, so that it can be measured.
    #[doc(hidden)]
    #[must_use]
    pub fn parse_only(files: &[SourceFile]) -> usize {
        let mut parser = parser::Parser::default();
        files.iter().map(|file| parser.parse(&file.bytes).definitions.len()).sum()
    }

    /// Compiles `files` over the built-in names; a module of theirs goes before the built-in one of its name.
    /// Never fails: what is meaningless is left out with a diagnostic. Time and memory are linear in the files.
    #[must_use]
    pub fn compile(files: &[SourceFile]) -> Compiled {
        let mut parser = parser::Parser::default();
        let records: Vec<ast::FileRecord> = files.iter().map(|file| parser.parse(&file.bytes)).collect();
        let mut inputs: Vec<resolve::Input<'_>> =
            records.iter().zip(files).map(|(record, file)| input(record, &file.path)).collect();
        inputs.push(builtin_input());
        let linked = resolve::link(&inputs);
        let mib = Self::made(&linked.parts, linked.files);
        let mut by_file: Vec<Vec<ast::Problem>> = source::problems_by_file(files.len(), linked.problems);
        for (problems, record) in by_file.iter_mut().zip(&records) {
            source::add_parsing(problems, record);
        }
        let told = by_file.iter().zip(files).zip(&records).flat_map(|((problems, file), record)| {
            source::diagnostics(&file.path, &file.bytes, problems, record.problems_left_out)
        });
        let diagnostics: Vec<Diagnostic> = told.collect();
        let stats = CompileStats {
            files: files.len(),
            modules: records.iter().map(|record| record.modules.len()).sum(),
            nodes: mib.nodes().len(),
            problems: diagnostics.iter().filter(|problem| problem.level > Level::Note).count(),
        };
        Compiled { mib, diagnostics, stats }
    }
}

fn builtin_input() -> resolve::Input<'static> {
    resolve::Input { builtin: true, ..input(prelude::record(), &BUILT_IN.into()) }
}

/// A file in no directory.
fn input<'a>(record: &'a ast::FileRecord, path: &Arc<str>) -> resolve::Input<'a> {
    let (directory, relative) = (symbol::NONE, 0);
    resolve::Input { record, path: Arc::clone(path), directory, relative, builtin: false }
}

#[cfg(test)]
mod tests;
