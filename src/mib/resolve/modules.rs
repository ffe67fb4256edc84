//! Gathers the modules and chooses between several versions of one name.
//!
//! Vendors ship one tree of modules for each system of theirs, with modules of the same names and other OIDs.
//! So a module means the versions of its own folder by the names that it imports from. Where those are not
//! the chosen ones, it is linked once more against the chosen ones: that names what is left without a name.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::{DefinitionEntry, Link, ModuleEntry};
use crate::diagnostic::Level;
use crate::mib::symbol::{NONE, Symbol};

/// Modules whose names go before equal names of others, when a name was not imported.
const CORE: [&str; 14] = [
    "IANAifType-MIB",
    "IF-MIB",
    "INET-ADDRESS-MIB",
    "RFC-1212",
    "RFC-1215",
    "RFC1155-SMI",
    "RFC1158-MIB",
    "RFC1213-MIB",
    "SNMP-COMMUNITY-MIB",
    "SNMP-FRAMEWORK-MIB",
    "SNMPv2-CONF",
    "SNMPv2-MIB",
    "SNMPv2-SMI",
    "SNMPv2-TC",
];

pub(super) fn collect(link: &mut Link<'_>) {
    for (file, input) in link.inputs.iter().enumerate() {
        for (index, module) in input.record.modules.iter().enumerate() {
            let file = file as u32;
            let name = link.word(file, module.name);
            add(link, (file, index as u32), name, module.last_updated);
        }
    }
    choose(link);
    link.versions = Versions::of(link);
    let places =
        places(link.modules.iter().map(|module| (link.names.text(module.name), module.last_updated)));
    link_anew(link);
    rank(link, &places);
    list_definitions(link);
}

/// Adds a module, for now as the only one of its name.
pub(super) fn add(link: &mut Link<'_>, (file, index): (u32, u32), name: Symbol, last_updated: u64) {
    let (core, last_updated) = standing(link.names.text(name), last_updated);
    let chosen = link.modules.len() as u32;
    link.modules.push(ModuleEntry { file, index, name, last_updated, chosen, core, anew: false });
}

/// Whether a module of that name is of the core, and what counts as its LAST-UPDATED.
fn standing(name: &str, last_updated: u64) -> (bool, u64) {
    // The modules of the SMI carry no LAST-UPDATED; they are as old as RFC 2578 to 2580.
    let smi = matches!(name, "SNMPv2-SMI" | "SNMPv2-TC" | "SNMPv2-CONF");
    (CORE.binary_search(&name).is_ok(), if smi { last_updated.max(199_904_010_000) } else { last_updated })
}

/// All definitions, by the rank of their modules.
pub(super) fn list_definitions(link: &mut Link<'_>) {
    for &number in &link.ranked {
        let module = link.modules[number as usize];
        if !link.is_loaded(module.file) {
            continue;
        }
        let record = link.record(module.file);
        let span = record.modules[module.index as usize].definitions;
        for index in span.range() {
            let name = link.word(module.file, record.definitions[index].name);
            link.definitions.push(DefinitionEntry {
                file: module.file,
                index: index as u32,
                module: number,
                name,
            });
        }
    }
}

/// Sets `chosen`: loaded before built in, then by LAST-UPDATED, then by the number of definitions, then
/// by the order of the files.
pub(super) fn choose(link: &mut Link<'_>) {
    let size = |module: &ModuleEntry| {
        link.inputs[module.file as usize].record.modules[module.index as usize].definitions.len
    };
    let linked = |&number: &u32| link.is_linked(link.modules[number as usize].file);
    let mut order: Vec<u32> = (0..link.modules.len() as u32).filter(linked).collect();
    order.sort_by_key(|&number| {
        let module = &link.modules[number as usize];
        let builtin = link.inputs[module.file as usize].builtin;
        (module.name, builtin, Reverse(module.last_updated), Reverse(size(module)), number)
    });
    let mut told = Vec::new();
    for pair in order.windows(2) {
        let [before, this] = [pair[0] as usize, pair[1] as usize];
        if link.modules[before].name != link.modules[this].name {
            continue;
        }
        let chosen = link.modules[before].chosen;
        let best = link.modules[chosen as usize];
        link.modules[this].chosen = chosen;
        let other = link.modules[this];
        let reason = if best.last_updated != other.last_updated {
            "its LAST-UPDATED is newer"
        } else if size(&best) != size(&other) {
            "it defines more"
        } else {
            "its path comes first"
        };
        told.push((other, best, reason));
    }
    for (other, best, reason) in told {
        let name = link.names.text(other.name).to_owned();
        let message = format!(
            "{name} is defined by {} too, which was chosen because {reason}",
            link.inputs[best.file as usize].path
        );
        let at = link.record(other.file).modules[other.index as usize].at;
        let help = Some("names that only this version has are still known");
        link.problem(other.file, Level::Note, "mib-several-versions", (at, name.len()), message, help);
    }
}

/// Which version a module means by the name of another one.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// For each file the number of its folder.
    pub(super) folders: Vec<u32>,
    /// For each module name the chosen version, or [`NONE`].
    chosen: Vec<u32>,
    /// Of modules with several versions: by name and folder the best that lies there.
    near: HashMap<(Symbol, u32), u32>,
    /// For chosen modules that were linked anew, the entry of that.
    pub(super) anew: HashMap<u32, u32>,
}

impl Versions {
    pub(super) fn of(link: &Link<'_>) -> Self {
        let mut numbers = HashMap::new();
        let folders = link.inputs.iter().map(|input| {
            let folder = input.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let next = numbers.len() as u32;
            *numbers.entry(folder).or_insert(next)
        });
        let mut versions =
            Self { folders: folders.collect(), chosen: vec![NONE; link.names.len()], ..Self::default() };
        for (number, module) in link.modules.iter().enumerate() {
            versions.chosen[module.name as usize] = module.chosen;
            if module.chosen != number as u32 {
                // The chosen one goes before any other of its folder.
                for version in [module.chosen, number as u32] {
                    let folder = versions.folders[link.modules[version as usize].file as usize];
                    versions.near.entry((module.name, folder)).or_insert(version);
                }
            }
        }
        versions
    }

    /// The chosen version of a name.
    pub(super) fn chosen(&self, name: Symbol) -> Option<u32> {
        self.chosen.get(name as usize).copied().filter(|&module| module != NONE)
    }

    /// The version that `module` means: that of its own folder, else the chosen one.
    pub(super) fn meant_by(&self, module: &ModuleEntry, name: Symbol) -> Option<u32> {
        let chosen = self.chosen(name)?;
        if module.anew {
            return Some(self.anew.get(&chosen).copied().unwrap_or(chosen));
        }
        let folder = self.folders[module.file as usize];
        Some(self.near.get(&(name, folder)).copied().unwrap_or(chosen))
    }
}

/// Adds an entry for each chosen module that does not mean the chosen version of another, and for each chosen
/// module that imports from such a one.
fn link_anew(link: &mut Link<'_>) {
    if link.versions.near.is_empty() {
        return;
    }
    let mut importers: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut pending = Vec::new();
    for (number, module) in
        link.modules.iter().enumerate().filter(|(number, module)| module.chosen == *number as u32)
    {
        let record = link.record(module.file);
        let imports = record.modules[module.index as usize].imports.of(&record.imports);
        let mut last = NONE;
        for import in
            imports.iter().filter(|import| std::mem::replace(&mut last, import.module) != import.module)
        {
            let from = link.word(module.file, import.module);
            let Some(meant) = link.versions.meant_by(module, from) else {
                continue;
            };
            if link.modules[meant as usize].chosen == meant {
                importers.entry(meant).or_default().push(number as u32);
            } else {
                pending.push(number as u32);
            }
        }
    }
    let mut anew = BTreeSet::new();
    while let Some(number) = pending.pop() {
        if anew.insert(number) {
            pending.extend(importers.remove(&number).unwrap_or_default());
        }
    }
    // In the order of the modules, whichever way they were met.
    for number in anew {
        link.versions.anew.insert(number, link.modules.len() as u32);
        link.modules.push(ModuleEntry { anew: true, ..link.modules[number as usize] });
    }
}

/// For each of some modules, by name and LAST-UPDATED, its place in the rank as far as these alone tell; the same for
/// those that are equal in both.
pub(super) fn places<'a>(modules: impl Iterator<Item = (&'a str, u64)>) -> Vec<u32> {
    let key = |(name, last_updated): (&'a str, u64)| {
        let (core, last_updated) = standing(name, last_updated);
        (!core, Reverse(last_updated), name)
    };
    let mut order: Vec<_> = modules.map(key).zip(0usize..).collect();
    order.sort_unstable();
    let mut places = vec![0; order.len()];
    let mut place = 0;
    for (at, &(key, module)) in order.iter().enumerate() {
        if at > 0 && order[at - 1].0 != key {
            place += 1;
        }
        places[module] = place;
    }
    places
}

/// Sorts the modules, of which [`places`] has told the places of those that are not linked anew.
pub(super) fn rank(link: &mut Link<'_>, places: &[u32]) {
    let mut ranked: Vec<u32> = (0..link.modules.len() as u32).collect();
    ranked.sort_unstable_by_key(|&number| {
        let module = &link.modules[number as usize];
        // An entry that is linked anew stands for the chosen one.
        let of = if module.anew { module.chosen } else { number };
        (module.chosen != number, places[of as usize], number)
    });
    link.ranked = ranked;
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_core_is_sorted_for_bisection() {
        assert!(super::CORE.is_sorted());
    }

    #[test]
    fn places_go_by_core_date_and_name() {
        let modules =
            [("B-MIB", 5), ("A-MIB", 5), ("IF-MIB", 1), ("B-MIB", 9), ("A-MIB", 5), ("SNMPv2-SMI", 0)];
        assert_eq!(super::places(modules.into_iter()), [4, 3, 1, 2, 3, 0]);
    }
}
