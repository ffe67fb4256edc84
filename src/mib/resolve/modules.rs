//! Gathers the modules and chooses between several versions of one name.

use std::cmp::Reverse;

use super::{DefinitionEntry, Link, ModuleEntry};
use crate::diagnostic::Level;

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
            let core = CORE.binary_search(&link.names.text(name)).is_ok();
            // The modules of the SMI carry no LAST-UPDATED; they are as old as RFC 2578 to 2580.
            let smi = matches!(link.names.text(name), "SNMPv2-SMI" | "SNMPv2-TC" | "SNMPv2-CONF");
            let last_updated =
                if smi { module.last_updated.max(199_904_010_000) } else { module.last_updated };
            let chosen = link.modules.len() as u32;
            link.modules.push(ModuleEntry { file, index: index as u32, name, last_updated, chosen, core });
        }
    }
    choose(link);
    rank(link);
    for &number in &link.ranked {
        let module = link.modules[number as usize];
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
fn choose(link: &mut Link<'_>) {
    let size = |module: &ModuleEntry| {
        link.inputs[module.file as usize].record.modules[module.index as usize].definitions.len
    };
    let mut order: Vec<u32> = (0..link.modules.len() as u32).collect();
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

fn rank(link: &mut Link<'_>) {
    let mut ranked: Vec<u32> = (0..link.modules.len() as u32).collect();
    ranked.sort_by(|&a, &b| {
        let key = |number: u32| {
            let module = &link.modules[number as usize];
            (module.chosen != number, !module.core, Reverse(module.last_updated))
        };
        key(a).cmp(&key(b)).then_with(|| link.module_name(a).cmp(link.module_name(b))).then(a.cmp(&b))
    });
    link.ranked = ranked;
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_core_is_sorted_for_bisection() {
        assert!(super::CORE.is_sorted());
    }
}
