//! The built-in names: the roots of the SMI, the standard's notifications and interfaces, the usual textual
//! conventions. With these alone a linkDown reads well.
//!
//! Written as a table of facts, a definition a line:
//!
//! ```text
//! @ MODULE YYYYMMDDhhmm
//! % Convention TYPE [label=number …] [hint=…]
//! name parent.arc                          a mere name
//! name parent.arc KIND …                   TABLE, ROW index…, TRAP objects…, ID
//! name parent.arc = TYPE [label=number …]  an object
//! ```
//! where TYPE is a base type, another convention, or `OCTETS(least,greatest)`.

use std::sync::OnceLock;

use super::ast::{Definition, DefinitionKind, FileRecord, Item, Label, Module, Part, Shape, Span, Type};
use super::lexer::{self, keyword};
use super::symbol::NONE;

const TABLE: &str = include_str!("prelude.txt");

/// The record of the built-in names; made once.
pub(crate) fn record() -> &'static FileRecord {
    static RECORD: OnceLock<FileRecord> = OnceLock::new();
    RECORD.get_or_init(|| read(TABLE))
}

fn read(table: &str) -> FileRecord {
    let mut record = FileRecord::new(lexer::keyword_symbols(512));
    for line in table.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            None | Some("#") => {}
            Some("@") => module(&mut record, words),
            Some("%") => convention(&mut record, words),
            Some(name) => definition(&mut record, name, words),
        }
        if let Some(last) = record.modules.last_mut() {
            last.definitions.len = record.definitions.len() as u32 - last.definitions.start;
        }
    }
    record.shrink();
    record
}

fn module<'t>(record: &mut FileRecord, mut words: impl Iterator<Item = &'t str>) {
    let name = record.symbols.intern(words.next().unwrap_or_default().as_bytes());
    let last_updated = words.next().and_then(|date| date.parse().ok()).unwrap_or(0);
    let definitions = Span { start: record.definitions.len() as u32, len: 0 };
    record.modules.push(Module { name, at: 0, line: 0, last_updated, definitions, imports: Span::default() });
}

fn convention<'t>(record: &mut FileRecord, mut words: impl Iterator<Item = &'t str>) {
    let name = record.symbols.intern(words.next().unwrap_or_default().as_bytes());
    let mut definition = Definition::new(name, DefinitionKind::TextualConvention);
    definition.syntax = syntax(record, words);
    record.definitions.push(definition);
}

fn definition<'t>(record: &mut FileRecord, name: &str, mut words: impl Iterator<Item = &'t str>) {
    let name = record.symbols.intern(name.as_bytes());
    let mut definition = Definition::new(name, DefinitionKind::ObjectIdentifier);
    let start = record.parts.len();
    for component in words.next().unwrap_or_default().split('.') {
        let number = component.parse().ok();
        let name = if number.is_some() { NONE } else { record.symbols.intern(component.as_bytes()) };
        record.parts.push(Part { name, number });
    }
    definition.oid = Span::new(start, record.parts.len());
    match words.next() {
        Some("ID") => definition.kind = DefinitionKind::ObjectIdentity,
        Some("TRAP") => {
            definition.kind = DefinitionKind::Notification;
            definition.items = items(record, words);
        }
        Some("TABLE") => {
            definition.kind = DefinitionKind::ObjectType;
            definition.syntax = record.types.len() as u32;
            record.types.push(Type::new(Shape::SequenceOf));
        }
        Some("ROW") => {
            definition.kind = DefinitionKind::ObjectType;
            definition.items = items(record, words);
        }
        Some("AUGMENTS") => {
            definition.kind = DefinitionKind::ObjectType;
            definition.augments = true;
            definition.items = items(record, words);
        }
        Some(_) => {
            definition.kind = DefinitionKind::ObjectType;
            definition.syntax = syntax(record, words);
        }
        None => {}
    }
    record.definitions.push(definition);
}

fn items<'t>(record: &mut FileRecord, words: impl Iterator<Item = &'t str>) -> Span {
    let start = record.items.len();
    for word in words {
        let name = record.symbols.intern(word.as_bytes());
        record.items.push(Item { name, implied: false, at: 0 });
    }
    Span::new(start, record.items.len())
}

fn syntax<'t>(record: &mut FileRecord, mut words: impl Iterator<Item = &'t str>) -> u32 {
    let name = words.next().unwrap_or_default();
    let (name, size) = match name.split_once('(') {
        Some((name, size)) => {
            let (least, greatest) = size.trim_end_matches(')').split_once(',').unwrap_or_default();
            (name, least.parse().ok().zip(greatest.parse().ok()))
        }
        None => (name, None),
    };
    let mut own = match name {
        "INTEGER" => Type::new(Shape::Integer),
        "OCTETS" => Type::new(Shape::Octets),
        "OID" => Type::new(Shape::ObjectIdentifier),
        "BITS" => Type { name: keyword::BITS, ..Type::new(Shape::Bits) },
        name => Type { name: record.symbols.intern(name.as_bytes()), ..Type::new(Shape::Named) },
    };
    own.size = size;
    let start = record.labels.len();
    for word in words {
        match word.split_once('=') {
            Some(("hint", hint)) => own.hint = record.symbols.intern(hint.as_bytes()),
            Some((label, number)) => {
                let name = record.symbols.intern(label.as_bytes());
                record.labels.push(Label { name, number: number.parse().unwrap_or_default() });
            }
            None => {}
        }
    }
    own.labels = Span::new(start, record.labels.len());
    record.types.push(own);
    record.types.len() as u32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_whole() {
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some(&first) = words.first() else {
                continue;
            };
            let labels = match first {
                "@" => {
                    assert!(
                        words.len() == 2 || words[2].len() == 12 && words[2].parse::<u64>().is_ok(),
                        "{line}"
                    );
                    continue;
                }
                "%" => &words[3..],
                _ => {
                    assert!(words[1].rsplit('.').next().unwrap().parse::<u32>().is_ok(), "{line}");
                    match words.get(2) {
                        Some(&"=") => &words[4..],
                        Some(other) => {
                            assert!(["ID", "TRAP", "TABLE", "ROW", "AUGMENTS"].contains(other), "{line}");
                            continue;
                        }
                        None => continue,
                    }
                }
            };
            for label in labels {
                let (name, number) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
                assert!(name == "hint" || number.parse::<i64>().is_ok(), "{line}");
            }
        }
    }
}
