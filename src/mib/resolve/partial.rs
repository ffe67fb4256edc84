//! Linking some of the files alone, to what linking all of them would come to for these.
//!
//! Of the others only those are looked at whose definitions the linked ones ask for. Which these are turns out while
//! linking: whatever could have been answered otherwise by a file that is not at hand is asked for ([`Outcome::Load`]),
//! and linking begins anew with it. What does not stay among the linked files is told as well ([`Outcome::Relink`]),
//! and where that cannot be told, all files have to be linked ([`Outcome::Whole`]).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use memmap2::Mmap;

use super::oids::Failure;
use super::splice::{self, Fresh};
use super::{Input, Link, assemble, imports, modules, oids, scope, types};
use crate::mib::Mib;
use crate::mib::ast::{DefinitionKind, FileRecord, Problem};
use crate::mib::room::Ahead;
use crate::mib::symbol::{NONE, Symbol};

/// What a file is linked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its record is not at hand.
    Away,
    /// What it defines is found, and stays as it is.
    Context,
    Linked,
}

/// How much of what says a name is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Every file that defines it.
    Definitions,
    /// Every file that has it at all.
    Mentions,
}

/// Names of which more is known than by chance.
pub(crate) type Known = HashMap<Box<[u8]>, Reach>;

/// A module, known without its record. In the order of the files, and in one file of its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModuleFact<'a> {
    pub(crate) file: u32,
    pub(crate) index: u32,
    pub(crate) name: &'a str,
    pub(crate) last_updated: u64,
    /// The number of the version that was chosen for the name; of linked files that is found out.
    pub(crate) chosen: u32,
    /// Whether it is linked a second time.
    pub(crate) anew: bool,
    /// Whether a version of its name has come or gone: then all who say the name are linked.
    pub(crate) doubtful: bool,
}

/// What linking a part has to be given.
pub(crate) struct Given<'a> {
    /// All files; those that are away with an empty record.
    pub(crate) inputs: &'a [Input<'a>],
    pub(crate) roles: &'a [Role],
    pub(crate) modules: &'a [ModuleFact<'a>],
    /// What [`places`] says of them.
    pub(crate) places: &'a [u32],
    /// Whether they are the modules of before, the same ones chosen.
    pub(crate) same_modules: bool,
    /// Files with other contents than before.
    pub(crate) changed: &'a BTreeSet<u32>,
    pub(crate) known: &'a Known,
    /// Names of which all who say them are linked.
    pub(crate) pulled: &'a BTreeSet<Box<[u8]>>,
    /// The room for the image, or nothing.
    pub(crate) room: &'a Cell<Option<Ahead>>,
    /// The records of before of the files that are linked or gone.
    pub(crate) left: &'a [Arc<FileRecord>],
    /// What all files came to before.
    pub(crate) before: &'a Mib,
    /// For each file of before its number now, or [`NONE`].
    pub(crate) now: &'a [u32],
}

/// What all files come to.
pub(crate) struct Done {
    /// The image is the first so many octets of the pages.
    pub(crate) image: (Mmap, usize),
    pub(crate) files: Vec<Arc<str>>,
    /// Of the linked files.
    pub(crate) problems: Vec<(u32, Problem)>,
}

/// What linking a part comes to.
pub(crate) enum Outcome {
    Done(Done),
    /// Once more with these files at hand, and with those that say the names.
    Load {
        files: BTreeSet<u32>,
        names: BTreeMap<Box<[u8]>, Reach>,
    },
    /// Once more with these files linked as well, and all that have the names.
    Relink {
        files: BTreeSet<u32>,
        names: BTreeSet<Box<[u8]>>,
    },
    /// For this reason all files have to be linked.
    Whole(&'static str),
}

/// Of a [`Link`]: what is linked, and what was missed.
pub(super) struct Part<'a> {
    roles: &'a [Role],
    known: &'a Known,
    missed_files: RefCell<BTreeSet<u32>>,
    missed_names: RefCell<BTreeMap<Box<[u8]>, Reach>>,
}

impl Part<'_> {
    pub(super) fn is_loaded(&self, file: u32) -> bool {
        self.roles[file as usize] != Role::Away
    }

    pub(super) fn is_linked(&self, file: u32) -> bool {
        self.roles[file as usize] == Role::Linked
    }
}

impl Link<'_> {
    /// What follows depends on what this module has.
    pub(super) fn ask_for_module(&self, module: u32) {
        if let Some(part) = &self.part {
            let file = self.modules[module as usize].file;
            if !part.is_loaded(file) {
                part.missed_files.borrow_mut().insert(file);
            }
        }
    }

    /// What follows depends on who defines this name.
    pub(super) fn ask_for_name(&self, name: Symbol) {
        let Some(part) = &self.part else {
            return;
        };
        let defined = self.first_of(name).is_some_and(|first| !self.is_passing(first));
        let word = self.names.bytes_of(name);
        let next = match part.known.get(word) {
            None => Reach::Definitions,
            // Nobody defines it, so that naming it by the way counts.
            Some(Reach::Definitions) if !defined => Reach::Mentions,
            Some(_) => return,
        };
        part.missed_names.borrow_mut().insert(word.into(), next);
    }

    /// What is named by the way counts only where nobody defines it.
    pub(super) fn ask_if_passing(&self, definition: u32) {
        if self.part.is_some() && self.is_passing(definition) {
            self.ask_for_name(self.definitions[definition as usize].name);
        }
    }

    /// As [`ask_if_passing`](Self::ask_if_passing), for all that is linked.
    pub(super) fn ask_of_passing(&self) {
        if self.part.is_some() {
            for number in 0..self.definitions.len() as u32 {
                if self.is_linked(self.definitions[number as usize].file) {
                    self.ask_if_passing(number);
                }
            }
        }
    }

    fn is_passing(&self, definition: u32) -> bool {
        self.definition(self.definitions[definition as usize]).kind == DefinitionKind::Passing
    }
}

/// The order of modules by name and LAST-UPDATED, which takes sorting them and is the same in every round.
pub(crate) fn places<'a>(modules: impl Iterator<Item = (&'a str, u64)>) -> Vec<u32> {
    modules::places(modules)
}

/// Links the files of a part.
pub(crate) fn link(given: &Given<'_>) -> Outcome {
    let mut link = Link::new(given.inputs);
    link.part = Some(Part {
        roles: given.roles,
        known: given.known,
        missed_files: RefCell::default(),
        missed_names: RefCell::default(),
    });
    if let Err(reason) = take_over_modules(&mut link, given) {
        return Outcome::Whole(reason);
    }
    scope::build(&mut link);
    imports::check(&mut link);
    oids::resolve(&mut link);
    let fresh = fresh(&mut link);
    imports::tell_unimported(&mut link);
    if let Some(part) = &link.part {
        let (files, names) = (part.missed_files.take(), part.missed_names.take());
        if !files.is_empty() || !names.is_empty() {
            return Outcome::Load { files, names };
        }
    }
    let Some((files, mut names)) = failures(&link) else {
        return Outcome::Whole("OIDs run in a circle");
    };
    names.extend(link.missing.iter().map(|&name| link.names.bytes_of(name).into()));
    names.retain(|name| !given.pulled.contains(name));
    if !files.is_empty() || !names.is_empty() {
        return Outcome::Relink { files, names };
    }
    match splice::image(&mut link, given, &fresh) {
        Ok(image) => {
            let files = given.inputs.iter().map(|input| input.path.clone()).collect();
            Outcome::Done(Done { image, files, problems: link.problems })
        }
        Err(splice::Failure::Relink(files)) => Outcome::Relink { files, names: BTreeSet::new() },
        Err(splice::Failure::Whole(reason)) => Outcome::Whole(reason),
    }
}

/// The modules of all files, their versions and their rank.
fn take_over_modules(link: &mut Link<'_>, given: &Given<'_>) -> Result<(), &'static str> {
    for fact in given.modules {
        let name = link.names.intern(fact.name.as_bytes());
        modules::add(link, (fact.file, fact.index), name, fact.last_updated);
        if !link.is_linked(fact.file)
            && let Some(module) = link.modules.last_mut()
        {
            module.chosen = fact.chosen;
        }
    }
    modules::choose(link);
    if given.modules.iter().zip(&link.modules).any(|(a, b)| !a.doubtful && a.chosen != b.chosen) {
        return Err("another version of a module is chosen");
    }
    link.versions = modules::Versions::of(link);
    for (number, fact) in (0..).zip(given.modules) {
        if fact.anew {
            link.versions.anew.insert(number, link.modules.len() as u32);
            let chosen = link.modules[number as usize];
            link.modules.push(super::ModuleEntry { anew: true, ..chosen });
        }
    }
    for (number, fact) in (0..).zip(given.modules) {
        if link.is_linked(fact.file) {
            check_anew(link, number, fact.anew, given)?;
        }
    }
    modules::rank(link, given.places);
    modules::list_definitions(link);
    Ok(())
}

/// Whether a module is still linked a second time, or still not. See [`modules`].
fn check_anew(link: &Link<'_>, number: u32, anew: bool, given: &Given<'_>) -> Result<(), &'static str> {
    let module = &link.modules[number as usize];
    let record = link.record(module.file);
    let (mut by_itself, mut by_others) = (false, false);
    if module.chosen == number {
        for import in record.modules[module.index as usize].imports.of(&record.imports) {
            let from = link.word(module.file, import.module);
            if let Some(meant) = link.versions.meant_by(module, from) {
                if link.modules[meant as usize].chosen == meant {
                    by_others |= link.versions.anew.contains_key(&meant);
                } else {
                    by_itself = true;
                }
            }
        }
    }
    let settled = given.same_modules && !given.changed.contains(&module.file);
    // Modules that import from each other could be linked twice each for the sake of the other.
    if anew != (by_itself || by_others) || (anew && !by_itself && !settled) {
        return Err("modules mean other versions than before");
    }
    Ok(())
}

/// The nodes of the linked files.
fn fresh(link: &mut Link<'_>) -> Vec<Fresh> {
    let (order, node_of) = assemble::order(link, |vertex| vertex);
    let mut fresh: Vec<Fresh> = Vec::with_capacity(order.len());
    for &number in &order {
        let entry = link.definitions[number as usize];
        let definition = link.definition(entry);
        let resolved = (definition.kind == DefinitionKind::ObjectType)
            .then(|| types::resolve(link, entry.file, entry.module, definition))
            .flatten();
        fresh.push(Fresh { number, resolved, references: Vec::new() });
    }
    for fresh in &mut fresh {
        if link.definition(link.definitions[fresh.number as usize]).items.len > 0 {
            assemble::refer(link, fresh.number, &mut fresh.references);
        }
    }
    // What stands for a definition of a version that was not chosen.
    for fresh in &mut fresh {
        for reference in &mut fresh.references {
            if let assemble::Reference::Definition { number, .. } = reference
                && let Some(&node) = node_of.get(*number as usize).filter(|&&node| node != NONE)
            {
                *number = order[node as usize];
            }
        }
    }
    fresh
}

/// What fails in a file may count in the message of another one. `None` where which one has it cannot be told.
fn failures(link: &Link<'_>) -> Option<(BTreeSet<u32>, BTreeSet<Box<[u8]>>)> {
    let (mut files, mut names) = (BTreeSet::new(), BTreeSet::new());
    let file_of = |number: u32| link.definitions[number as usize].file;
    for (&number, (failure, _)) in &link.failures.own {
        if link.is_linked(file_of(number)) {
            if matches!(failure, Failure::Cycle) {
                return None;
            }
            names.insert(link.names.bytes_of(link.definitions[number as usize].name).into());
        }
    }
    for (&number, &root) in &link.failures.roots {
        if link.is_linked(file_of(number)) {
            names.insert(link.names.bytes_of(link.definitions[number as usize].name).into());
            if !link.is_linked(file_of(root)) {
                files.insert(file_of(root));
            }
        }
    }
    Some((files, names))
}
