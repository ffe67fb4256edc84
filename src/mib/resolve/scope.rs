//! Makes names findable: in their own module, through its imports, and then anywhere.

use std::collections::HashMap;

use super::{DefinitionEntry, Link};
use crate::diagnostic::Level;
use crate::mib::symbol::{NONE, Symbol};

/// How many definitions of one name are looked at when it was not imported.
const CANDIDATES: usize = 64;
/// How many modules are followed when one imports what it is asked for.
const HOPS: usize = 8;

/// Types and values are told apart by their spelling, which vendors mix up: they have spaces of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Value = 0,
    Type = 1,
}

const IMPORT: u64 = 2;
/// Added to a space: what was found outside the module for its sake.
const FOUND: u64 = 3;

#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Module, space and name, to a definition or (for imports) to the module's name.
    table: HashMap<u64, u32>,
    /// For each module name the chosen module, or [`NONE`].
    modules: Vec<u32>,
    /// For each name its best definition, and for each definition the next best of the same name.
    first: Vec<u32>,
    next: Vec<u32>,
    /// For each file the number of its folder.
    folders: Vec<u32>,
}

fn key(module: u32, space: u64, name: Symbol) -> u64 {
    u64::from(module) << 35 | space << 32 | u64::from(name)
}

pub(super) fn build(link: &mut Link<'_>) {
    let mut scope = Scope {
        table: HashMap::with_capacity(link.definitions.len() * 5 / 4),
        modules: vec![NONE; link.names.len()],
        first: Vec::new(),
        next: Vec::new(),
        folders: folders(link),
    };
    let mut kept = Vec::with_capacity(link.definitions.len());
    for (number, module) in link.modules.iter().enumerate() {
        if module.chosen == number as u32 {
            scope.modules[module.name as usize] = number as u32;
        }
    }
    let mut twice = Vec::new();
    // In the order of rank, so that a chosen version comes before the others of its name.
    for &entry in &link.definitions {
        let chosen = link.modules[entry.module as usize].chosen;
        let space = space_of(link, entry);
        let slot = scope.table.entry(key(chosen, space as u64, entry.name));
        match slot {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(kept.len() as u32);
                kept.push(entry);
            }
            std::collections::hash_map::Entry::Occupied(occupied) => {
                let first: DefinitionEntry = kept[*occupied.get() as usize];
                if first.module == entry.module {
                    twice.push((first, entry));
                    if space == Space::Value {
                        kept.push(entry);
                    }
                }
            }
        }
    }
    for &number in &link.ranked {
        let module = link.modules[number as usize];
        let record = link.record(module.file);
        for import in super::slice(&record.imports, record.modules[module.index as usize].imports) {
            let name = link.word(module.file, import.name);
            let from = link.word(module.file, import.module);
            scope.table.entry(key(module.chosen, IMPORT, name)).or_insert(from);
        }
    }
    scope.first = vec![NONE; link.names.len()];
    scope.next = vec![NONE; kept.len()];
    for (number, entry) in kept.iter().enumerate().rev() {
        scope.next[number] = std::mem::replace(&mut scope.first[entry.name as usize], number as u32);
    }
    link.definitions = kept;
    link.scope = scope;
    for (first, entry) in twice {
        let name = link.names.text(entry.name).to_owned();
        let line = link.definition(first).line;
        let message = format!("{name} is defined in this module already, at line {line}");
        let at = (link.definition(entry).at, name.len());
        let help = Some("the first is meant where the name is used; both OIDs are named");
        link.problem(entry.file, Level::Warning, "mib-defined-twice", at, message, help);
    }
}

fn space_of(link: &Link<'_>, entry: DefinitionEntry) -> Space {
    if link.definition(entry).kind.is_type() { Space::Type } else { Space::Value }
}

fn folders(link: &Link<'_>) -> Vec<u32> {
    let mut numbers = HashMap::new();
    link.inputs
        .iter()
        .map(|input| {
            let folder = input.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let next = numbers.len() as u32;
            *numbers.entry(folder).or_insert(next)
        })
        .collect()
}

impl Link<'_> {
    /// The chosen module of a name.
    pub(super) fn module_named(&self, name: Symbol) -> Option<u32> {
        self.scope.modules.get(name as usize).copied().filter(|&module| module != NONE)
    }

    /// What `name` means in `module`, and whether it had to be looked for beyond the imports.
    ///
    /// First the module itself, then the module that it is imported from (and, while that one imports it
    /// too, on from there), then any definition of that name: of the core, else of the same folder, else
    /// of the best module.
    pub(super) fn find(&mut self, module: u32, space: Space, name: Symbol) -> Option<(u32, bool)> {
        let chosen = self.modules[module as usize].chosen;
        let table = &self.scope.table;
        if let Some(&found) = table.get(&key(chosen, space as u64, name)) {
            return Some((found, false));
        }
        if let Some(&found) = table.get(&key(chosen, FOUND + space as u64, name)) {
            return (found != NONE).then_some((found, true));
        }
        let mut at = chosen;
        for _ in 0..HOPS {
            let Some(&from) = table.get(&key(at, IMPORT, name)) else {
                break;
            };
            let Some(exporter) = self.module_named(from) else {
                break;
            };
            if let Some(&found) = table.get(&key(exporter, space as u64, name)) {
                return Some((found, false));
            }
            at = exporter;
        }
        let found = self.find_anywhere(chosen, space, name);
        self.scope.table.insert(key(chosen, FOUND + space as u64, name), found.unwrap_or(NONE));
        found.map(|found| (found, true))
    }

    fn find_anywhere(&self, module: u32, space: Space, name: Symbol) -> Option<u32> {
        let folder = self.scope.folders[self.modules[module as usize].file as usize];
        let mut best = None;
        let mut at = *self.scope.first.get(name as usize)?;
        for _ in 0..CANDIDATES {
            if at == NONE {
                break;
            }
            let entry = self.definitions[at as usize];
            if space_of(self, entry) == space {
                // The chain is in the order of rank: the core comes first.
                if self.modules[entry.module as usize].core
                    || self.scope.folders[entry.file as usize] == folder
                {
                    return Some(at);
                }
                best = best.or(Some(at));
            }
            at = self.scope.next[at as usize];
        }
        best
    }

    /// Whether any module defines `name`.
    pub(super) fn is_defined_anywhere(&self, name: Symbol) -> bool {
        self.scope.first.get(name as usize).is_some_and(|&first| first != NONE)
    }

    /// Whether `module` itself defines `name`.
    pub(super) fn defines(&self, module: u32, name: Symbol) -> bool {
        let defined = |space: Space| self.scope.table.contains_key(&key(module, space as u64, name));
        defined(Space::Value) || defined(Space::Type)
    }
}
