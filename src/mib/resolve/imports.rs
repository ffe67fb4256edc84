//! Tells what imports ask for in vain: a module that is nowhere, a name that its module lacks.

use std::collections::BTreeMap;

use super::Link;
use crate::diagnostic::Level;
use crate::mib::lexer;
use crate::mib::symbol::Symbol;

/// How many of those who need a missing module are named.
const NAMED: usize = 3;

/// Modules that hold nothing but macros and base types, which are known without them, or whose contents
/// the built-in names cover.
fn is_known_without(module: &str) -> bool {
    matches!(
        module,
        "SNMPv2-CONF"
            | "RFC-1212"
            | "RFC-1215"
            | "RFC1155-SMI"
            | "RFC1065-SMI"
            | "RFC-1155-SMI"
            | "RFC1212"
            | "RFC1215"
    )
}

#[derive(Default)]
struct Missing {
    /// The file and the place of the first who needs it.
    place: Option<(u32, u32)>,
    needed_by: Vec<Symbol>,
    /// The last who needs it, and how many do.
    last: Option<u32>,
    count: usize,
    /// A name that is asked of it is defined nowhere.
    in_vain: bool,
}

pub(super) fn check(link: &mut Link<'_>) {
    let mut missing: BTreeMap<Symbol, Missing> = BTreeMap::new();
    for number in 0..link.modules.len() as u32 {
        let module = link.modules[number as usize];
        if module.anew || link.inputs[module.file as usize].builtin || !link.is_linked(module.file) {
            continue;
        }
        let record = link.record(module.file);
        for import in record.modules[module.index as usize].imports.of(&record.imports) {
            // Keywords (the macros and the base types) are known without any import.
            let keyword = lexer::is_keyword(import.name);
            let name = link.word(module.file, import.name);
            let from = link.word(module.file, import.module);
            let somewhere = |link: &Link<'_>| keyword || link.is_defined_anywhere(name);
            let exporter = link.versions.meant_by(&module, from).filter(|&exporter| {
                // What is built in holds only a part of its module.
                !link.inputs[link.modules[exporter as usize].file as usize].builtin
            });
            let Some(exporter) = exporter else {
                let somewhere = somewhere(link);
                if somewhere
                    && (link.versions.chosen(from).is_some() || is_known_without(link.names.text(from)))
                {
                    continue;
                }
                let missing = missing.entry(from).or_default();
                missing.place.get_or_insert((module.file, import.at));
                missing.in_vain |= !somewhere;
                if missing.last.replace(number) != Some(number) {
                    missing.count += 1;
                    if missing.needed_by.len() < NAMED {
                        missing.needed_by.push(module.name);
                    }
                }
                continue;
            };
            if keyword || link.defines(exporter, name) {
                continue;
            }
            let message = format!("{} does not define {}", link.names.text(from), link.names.text(name));
            let place = (import.at, link.names.text(from).len());
            let (level, help) = if somewhere(link) {
                (Level::Note, "another module's definition of that name is taken")
            } else {
                (Level::Warning, "no module defines that name")
            };
            link.problem(module.file, level, "mib-import-lacking", place, message, Some(help));
        }
    }
    for (from, missing) in missing {
        link.missing.push(from);
        let Some((file, at)) = missing.place else {
            continue;
        };
        let name = link.names.text(from);
        let width = name.len();
        let by: Vec<&str> = missing.needed_by.iter().map(|&module| link.names.text(module)).collect();
        let mut message = format!("module {name} is in no directory, and {} imports from it", by.join(", "));
        if missing.count > 1 {
            message = format!(
                "module {name} is in no directory, and {} modules import from it: {}{}",
                missing.count,
                by.join(", "),
                if missing.count > by.len() { ", …" } else { "" }
            );
        }
        let (level, help) = if missing.in_vain {
            (Level::Warning, "add the file that defines it to a MIB directory")
        } else {
            (Level::Note, "what is imported from it was found in other modules")
        };
        link.problem(file, level, "mib-missing-module", (at, width), message, Some(help));
    }
}

/// One note for each module that uses names without importing them.
pub(super) fn tell_unimported(link: &mut Link<'_>) {
    let mut unimported = std::mem::take(&mut link.unimported);
    // The roots are known to ASN.1.
    unimported.retain(|&(_, name)| !matches!(link.names.text(name), "iso" | "ccitt" | "joint-iso-ccitt"));
    unimported
        .sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| link.names.text(a.1).cmp(link.names.text(b.1))));
    // As a type and as a value.
    unimported.dedup();
    for names in unimported.chunk_by(|a, b| a.0 == b.0) {
        let module = link.modules[names[0].0 as usize];
        if module.anew || !link.is_linked(module.file) {
            continue;
        }
        let listed: Vec<&str> = names.iter().take(NAMED).map(|&(_, name)| link.names.text(name)).collect();
        let more = if names.len() > listed.len() { ", …" } else { "" };
        let name = link.names.text(module.name);
        let names = if names.len() == 1 { "a name".to_owned() } else { format!("{} names", names.len()) };
        let message = format!("{name} uses {names} without importing: {}{more}", listed.join(", "));
        let place = (link.record(module.file).modules[module.index as usize].at, name.len());
        let help = Some("what other modules define by that name is taken");
        link.problem(module.file, Level::Note, "mib-not-imported", place, message, help);
    }
}
