//! Makes names findable: in their own module, through its imports, and then anywhere.

use super::{DefinitionEntry, Link};
use crate::diagnostic::Level;
use crate::mib::ast::DefinitionKind;
use crate::mib::symbol::{NONE, NumberMap, Symbol};

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

/// How many answers are at hand: a power of two, and 16 KiB.
const RECENT: usize = 1024;

const IMPORT: u64 = 2;
/// Added to a space: what was found outside the module for its sake.
const FOUND: u64 = 3;

#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Module, space and name, to a definition or (for imports) to the module's name.
    table: NumberMap<u64, u32>,
    /// What was found last, by name: a table's columns all ask for the same row, a module's objects for the same few
    /// types, and the table of all is too large for any cache of the processor.
    recent: Vec<(u64, u32)>,
    /// For each name its best definition, and for each definition the next best of the same name.
    first: Vec<u32>,
    next: Vec<u32>,
}

fn key(module: u32, space: u64, name: Symbol) -> u64 {
    u64::from(module) << 35 | space << 32 | u64::from(name)
}

pub(super) fn build(link: &mut Link<'_>) {
    let mut scope = Scope {
        table: NumberMap::with_capacity_and_hasher(link.definitions.len() * 5 / 4, Default::default()),
        recent: vec![(u64::MAX, NONE); RECENT],
        first: Vec::new(),
        next: Vec::new(),
    };
    let mut kept = Vec::with_capacity(link.definitions.len());
    let mut twice = Vec::new();
    let mut passing = Vec::new();
    for &entry in &link.definitions {
        if link.definition(entry).kind == DefinitionKind::Passing {
            passing.push(entry);
            continue;
        }
        let space = space_of(link, entry);
        let slot = scope.table.entry(key(entry.module, space as u64, entry.name));
        match slot {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(kept.len() as u32);
                kept.push(entry);
            }
            std::collections::hash_map::Entry::Occupied(occupied) => {
                let first: DefinitionEntry = kept[*occupied.get() as usize];
                twice.push((first, entry));
                if space == Space::Value {
                    kept.push(entry);
                }
            }
        }
    }
    for &number in &link.ranked {
        let module = link.modules[number as usize];
        if !link.is_loaded(module.file) {
            continue;
        }
        let record = link.record(module.file);
        for import in record.modules[module.index as usize].imports.of(&record.imports) {
            let name = link.word(module.file, import.name);
            let from = link.word(module.file, import.module);
            scope.table.entry(key(number, IMPORT, name)).or_insert(from);
        }
    }
    scope.first = vec![NONE; link.names.len()];
    scope.next = vec![NONE; kept.len()];
    for (number, entry) in kept.iter().enumerate().rev() {
        scope.next[number] = std::mem::replace(&mut scope.first[entry.name as usize], number as u32);
    }
    // What is only named by the way counts where nobody defines the name, and once.
    for entry in passing {
        let first = &mut scope.first[entry.name as usize];
        if *first == NONE {
            *first = kept.len() as u32;
            scope.table.insert(key(entry.module, Space::Value as u64, entry.name), kept.len() as u32);
            scope.next.push(NONE);
            kept.push(entry);
        }
    }
    link.definitions = kept;
    link.scope = scope;
    link.ask_of_passing();
    for (first, entry) in twice {
        let name = link.names.text(entry.name).to_owned();
        let line = link.definition(first).line;
        let message = format!("{name} is defined in this module already, at line {line}");
        let at = (link.definition(entry).at, name.len());
        let help = Some(match space_of(link, entry) {
            Space::Value => "the first is meant where the name is used; both OIDs are named",
            Space::Type => "the first is meant where the name is used",
        });
        link.problem(entry.file, Level::Warning, "mib-defined-twice", at, message, help);
    }
}

fn space_of(link: &Link<'_>, entry: DefinitionEntry) -> Space {
    if link.definition(entry).kind.is_type() { Space::Type } else { Space::Value }
}

impl Link<'_> {
    /// What `name` means in `module`.
    ///
    /// First the module itself, then the module that it is imported from, in the version of the same folder,
    /// the chosen one, or any other (and, while that one imports it too, on from there), then any definition
    /// of that name: of the core, else of the same folder, else of the best module.
    pub(super) fn find(&mut self, module: u32, space: Space, name: Symbol) -> Option<u32> {
        let (asked, at) = (key(module, space as u64, name), (name as usize * 2 + space as usize) % RECENT);
        if let Some(&(known, found)) = self.scope.recent.get(at)
            && known == asked
        {
            return (found != NONE).then_some(found);
        }
        let found = self.find_in_all(module, space, name);
        if let Some(recent) = self.scope.recent.get_mut(at) {
            *recent = (asked, found.unwrap_or(NONE));
        }
        found
    }

    fn find_in_all(&mut self, module: u32, space: Space, name: Symbol) -> Option<u32> {
        let table = &self.scope.table;
        if let Some(&found) = table.get(&key(module, space as u64, name)) {
            self.ask_if_passing(found);
            return Some(found);
        }
        if let Some(&found) = table.get(&key(module, FOUND + space as u64, name)) {
            return (found != NONE).then_some(found);
        }
        let imported = self.find_imported(module, space, name);
        let found = imported.or_else(|| self.find_anywhere(module, space, name));
        let is_import = self.scope.table.contains_key(&key(module, IMPORT, name));
        if imported.is_none() && found.is_some() && !is_import {
            self.unimported.push((module, name));
        }
        self.scope.table.insert(key(module, FOUND + space as u64, name), found.unwrap_or(NONE));
        found
    }

    fn find_imported(&self, module: u32, space: Space, name: Symbol) -> Option<u32> {
        let table = &self.scope.table;
        let asking = &self.modules[module as usize];
        let mut at = module;
        for _ in 0..HOPS {
            let from = *table.get(&key(at, IMPORT, name))?;
            let version = self.versions.meant_by(asking, from)?;
            let chosen = self.modules[version as usize].chosen;
            for exporter in [version, chosen] {
                self.ask_for_module(exporter);
                if let Some(&found) = table.get(&key(exporter, space as u64, name)) {
                    self.ask_if_passing(found);
                    return Some(found);
                }
            }
            self.ask_for_name(name);
            // A version that was not chosen may have what the chosen one lacks.
            let of_module = |&entry: &u32| {
                self.modules[self.definitions[entry as usize].module as usize].chosen == chosen
            };
            if let Some(found) = self.candidates(space, name).find(of_module) {
                return Some(found);
            }
            at = version;
        }
        None
    }

    /// Definitions of a name, the best first, as many as are looked at.
    fn candidates(&self, space: Space, name: Symbol) -> impl Iterator<Item = u32> {
        let next = |&at: &u32| Some(self.scope.next[at as usize]).filter(|&at| at != NONE);
        std::iter::successors(self.scope.first.get(name as usize).copied().filter(|&at| at != NONE), next)
            .take(CANDIDATES)
            .filter(move |&at| space_of(self, self.definitions[at as usize]) == space)
    }

    fn find_anywhere(&self, module: u32, space: Space, name: Symbol) -> Option<u32> {
        self.ask_for_name(name);
        let folder = self.versions.folders[self.modules[module as usize].file as usize];
        let near = |&at: &u32| {
            let entry = self.definitions[at as usize];
            self.modules[entry.module as usize].core || self.versions.folders[entry.file as usize] == folder
        };
        // The candidates are in the order of rank: the core comes first.
        self.candidates(space, name).find(near).or_else(|| self.candidates(space, name).next())
    }

    /// Whether any module defines `name`.
    pub(super) fn is_defined_anywhere(&self, name: Symbol) -> bool {
        let defined = self.first_of(name).is_some();
        if !defined {
            self.ask_for_name(name);
        }
        defined
    }

    /// The best definition of a name, of those that are at hand.
    pub(super) fn first_of(&self, name: Symbol) -> Option<u32> {
        self.scope.first.get(name as usize).copied().filter(|&first| first != NONE)
    }

    /// Whether `module` itself defines `name`.
    pub(super) fn defines(&self, module: u32, name: Symbol) -> bool {
        self.ask_for_module(module);
        let defined = |space: Space| self.scope.table.get(&key(module, space as u64, name)).copied();
        let found = defined(Space::Value).or_else(|| defined(Space::Type));
        if let Some(found) = found {
            self.ask_if_passing(found);
        }
        found.is_some()
    }
}
