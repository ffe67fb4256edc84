//! Linking: from what each file says to what all of them together mean.
//!
//! The phases run one after the other over all records, collect problems, and never fail:
//!
//! | phase | does |
//! |---|---|
//! | [`modules`] | gathers the modules, chooses between several versions of one |
//! | [`scope`] | makes names findable: in their module, through imports, then anywhere |
//! | [`imports`] | tells what imports ask for in vain |
//! | [`oids`] | gives every definition its place in the OID tree |
//! | [`types`] | follows SYNTAX to a base type, with labels and hints met on the way |
//! | [`assemble`] | makes the parts of the flat [`Mib`](super::Mib) |
//!
//! After a change [`partial`] runs them over the files that it reaches alone, and [`splice`] puts their nodes into a
//! copy of the image of before.
//!
//! Nothing here recurses: chains of parents and of types are followed in loops with bounds.

mod assemble;
mod imports;
mod modules;
mod oids;
pub(crate) mod partial;
mod scope;
mod splice;
mod types;

use std::sync::Arc;

use super::ast::{Definition, FileRecord, Problem};
use super::format::Parts;
use super::symbol::{NONE, Symbol, Symbols};
use crate::diagnostic::Level;

/// One record to link.
pub(crate) struct Input<'a> {
    pub(crate) record: &'a FileRecord,
    pub(crate) path: Arc<str>,
    /// The number of the directory that it was found in, or [`NONE`], and where in `path` what is below begins.
    pub(crate) directory: u32,
    pub(crate) relative: u32,
    /// The built-in names: any loaded module of the same name goes before.
    pub(crate) builtin: bool,
}

/// What linking yields.
pub(crate) struct Linked {
    /// What the image is made of.
    pub(crate) parts: Parts,
    /// The paths of the files.
    pub(crate) files: Vec<Arc<str>>,
    /// With the number of the input that each belongs to.
    pub(crate) problems: Vec<(u32, Problem)>,
}

/// Links the records. Time and memory are linear in their size, but for sorting.
pub(crate) fn link(inputs: &[Input<'_>]) -> Linked {
    let mut link = Link::new(inputs);
    modules::collect(&mut link);
    scope::build(&mut link);
    imports::check(&mut link);
    oids::resolve(&mut link);
    let parts = assemble::parts(&mut link);
    let files = inputs.iter().map(|input| Arc::clone(&input.path)).collect();
    Linked { parts, files, problems: link.problems }
}

/// One version of a module.
#[derive(Debug, Clone, Copy)]
struct ModuleEntry {
    file: u32,
    /// Into the record's modules.
    index: u32,
    name: Symbol,
    last_updated: u64,
    /// The version that was chosen for this name; itself where it is that one. The others are linked too, and
    /// name the OIDs that the chosen one does not name.
    chosen: u32,
    /// Of the SMI or of the IETF's base modules, whose names go before a vendor's equal ones.
    core: bool,
    /// A second entry of a chosen module, in which imports mean the chosen versions and never those of the
    /// same folder.
    anew: bool,
}

/// One definition of one of the modules.
#[derive(Debug, Clone, Copy)]
struct DefinitionEntry {
    file: u32,
    /// Into the record's definitions.
    index: u32,
    module: u32,
    name: Symbol,
}

struct Link<'a> {
    inputs: &'a [Input<'a>],
    /// The words of all files.
    names: Symbols,
    /// For each file, the symbol among all words for each of its own.
    symbols: Vec<Vec<Symbol>>,
    modules: Vec<ModuleEntry>,
    /// The modules, the best first: the core, then by LAST-UPDATED, then by name.
    ranked: Vec<u32>,
    definitions: Vec<DefinitionEntry>,
    versions: modules::Versions,
    scope: scope::Scope,
    vertices: oids::Vertices,
    /// For each definition its vertex, or a mark of [`oids`].
    places: Vec<u32>,
    failures: oids::Failures,
    /// Of [`oids::place`], kept for its room.
    stack: Vec<u32>,
    /// Names that modules use, and that were found though they do not import them.
    unimported: Vec<(u32, Symbol)>,
    /// Modules that are imported from and are nowhere.
    missing: Vec<Symbol>,
    problems: Vec<(u32, Problem)>,
    /// Where only some of the files are linked: which, and what that takes.
    part: Option<partial::Part<'a>>,
}

impl<'a> Link<'a> {
    fn new(inputs: &'a [Input<'a>]) -> Self {
        let words = inputs.iter().map(|input| input.record.symbols.len()).sum::<usize>();
        let mut names = Symbols::with_capacity(words / 2);
        let symbols = inputs
            .iter()
            .map(|input| {
                let own = &input.record.symbols;
                (0..own.len() as Symbol).map(|symbol| names.intern(own.bytes_of(symbol))).collect()
            })
            .collect();
        Self {
            inputs,
            names,
            symbols,
            modules: Vec::new(),
            ranked: Vec::new(),
            definitions: Vec::new(),
            versions: modules::Versions::default(),
            scope: scope::Scope::default(),
            vertices: oids::Vertices::new(),
            places: Vec::new(),
            failures: oids::Failures::default(),
            stack: Vec::new(),
            unimported: Vec::new(),
            missing: Vec::new(),
            problems: Vec::new(),
            part: None,
        }
    }

    /// Whether the record of a file is at hand.
    fn is_loaded(&self, file: u32) -> bool {
        self.part.as_ref().is_none_or(|part| part.is_loaded(file))
    }

    /// Whether a file is linked, and not only looked at for the sake of others.
    fn is_linked(&self, file: u32) -> bool {
        self.part.as_ref().is_none_or(|part| part.is_linked(file))
    }

    fn record(&self, file: u32) -> &'a FileRecord {
        self.inputs[file as usize].record
    }

    /// The word among all for one of a file's own; [`NONE`] stays.
    fn word(&self, file: u32, symbol: Symbol) -> Symbol {
        self.symbols[file as usize].get(symbol as usize).copied().unwrap_or(NONE)
    }

    fn definition(&self, entry: DefinitionEntry) -> &'a Definition {
        &self.record(entry.file).definitions[entry.index as usize]
    }

    fn module_name(&self, module: u32) -> &str {
        self.names.text(self.modules[module as usize].name)
    }

    /// A problem with the name at `at` in `file`; of the built-in names there are none to tell.
    fn problem(
        &mut self,
        file: u32,
        level: Level,
        code: &'static str,
        (at, len): (u32, usize),
        message: String,
        help: Option<&'static str>,
    ) {
        if !self.inputs[file as usize].builtin && self.is_linked(file) {
            let end = at + len as u32;
            self.problems.push((file, Problem { level, code, start: at, end, message, help }));
        }
    }
}
