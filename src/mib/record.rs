//! What one file's contents are, and where that is kept: in memory until it is in the cache, and from then on there.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use parking_lot::Mutex;

use super::ast::{DefinitionKind, FileRecord, Module, Span};
use super::format::checksum;
use super::lexer;
use super::symbol::{Symbol, hash};

/// What one file's contents are, wherever the file lies.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) content: [u8; 32],
    pub(super) words: Words,
    record: Mutex<Held>,
}

/// The words of one file as numbers, which tell whether it may say a word without a look at its record.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// For each word but the SMI's own its hash, and whether it is [`DEFINED`](Self::DEFINED) and
    /// [`USED`](Self::USED). Two words of one hash are told apart only by the record.
    pub(super) all: Box<[u32]>,
    /// Whether the file has several modules, so that what one of them defines the other one may use.
    pub(super) several: bool,
}

/// How a file uses a word as a name.
#[derive(Debug, Clone, Copy, Default)]
struct Uses {
    value: bool,
    kind: bool,
    defined_value: bool,
    defined_type: bool,
    imported: bool,
    named: bool,
}

impl Words {
    /// The file defines that word, and does not only name it by the way.
    pub(super) const DEFINED: u32 = 1;
    /// The file uses what others define by that word, as far as that is known without knowing them.
    pub(super) const USED: u32 = 2;

    fn of(record: &FileRecord) -> Self {
        let symbols = &record.symbols;
        let mut uses = vec![Uses::default(); symbols.len()];
        let mut note = |symbol: Symbol, note: fn(&mut Uses)| {
            if let Some(uses) = uses.get_mut(symbol as usize) {
                uses.named = true;
                note(uses);
            }
        };
        for definition in &record.definitions {
            note(
                definition.name,
                match definition.kind {
                    DefinitionKind::Passing => |_| {},
                    kind if kind.is_type() => |uses| uses.defined_type = true,
                    _ => |uses| uses.defined_value = true,
                },
            );
        }
        record.parts.iter().for_each(|part| note(part.name, |uses| uses.value = true));
        record.items.iter().for_each(|item| note(item.name, |uses| uses.value = true));
        record.types.iter().for_each(|syntax| note(syntax.name, |uses| uses.kind = true));
        record.imports.iter().for_each(|import| note(import.name, |uses| uses.imported = true));
        let all = (0..symbols.len() as Symbol).filter_map(|symbol| {
            let uses = uses[symbol as usize];
            // The words of the SMI are among those of every file; they count where they are used as names.
            if lexer::is_keyword(symbol) && !uses.named {
                return None;
            }
            let defined = uses.defined_value || uses.defined_type;
            let used = !defined
                || uses.imported
                || (uses.value && !uses.defined_value)
                || (uses.kind && !uses.defined_type);
            let flag = |set: bool, flag: u32| if set { flag } else { 0 };
            Some(Self::hash(symbols.bytes_of(symbol)) | flag(defined, Self::DEFINED) | flag(used, Self::USED))
        });
        Self { all: all.collect(), several: record.modules.len() > 1 }
    }

    /// The same on every machine.
    pub(super) fn hash(word: &[u8]) -> u32 {
        (hash(word, 0x776f_7264) >> 32) as u32 & !(Self::DEFINED | Self::USED)
    }
}

/// Where a record is.
#[derive(Debug, Clone)]
enum Held {
    Memory(Arc<FileRecord>),
    Stored(Stored),
}

/// A record in a file that nothing changes.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) file: Arc<File>,
    pub(super) at: Range<u64>,
    pub(super) checksum: u64,
}

impl Stored {
    /// The octets of the record; `None` where they are not what was written, or cannot be read.
    fn octets(&self) -> Option<Vec<u8>> {
        let len = usize::try_from(self.at.end.checked_sub(self.at.start)?).ok()?;
        // Damage may claim any length.
        let there = self.file.metadata().ok()?.len();
        if self.at.end > there {
            return None;
        }
        let mut octets = vec![0; len];
        self.file.read_exact_at(&mut octets, self.at.start).ok()?;
        (checksum(&octets) == self.checksum).then_some(octets)
    }
}

impl Parsed {
    pub(super) fn new(content: [u8; 32], record: impl Into<Arc<FileRecord>>) -> Self {
        let record = record.into();
        let words = Words::of(&record);
        Self { content, words, record: Mutex::new(Held::Memory(record)) }
    }

    pub(super) fn stored(content: [u8; 32], words: Words, stored: Stored) -> Self {
        Self { content, words, record: Mutex::new(Held::Stored(stored)) }
    }

    /// The record, read from where it is. `None` where that is damaged: then the file has to be parsed again.
    pub(super) fn record(&self) -> Option<Arc<FileRecord>> {
        let held = self.record.lock().clone();
        match held {
            Held::Memory(record) => Some(record),
            Held::Stored(stored) => decode(&stored.octets()?).map(Arc::new),
        }
    }

    /// The record as it is stored.
    pub(super) fn encoded(&self) -> io::Result<Vec<u8>> {
        let held = self.record.lock().clone();
        match held {
            Held::Memory(record) => encode(&record),
            Held::Stored(stored) => stored.octets().ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "a record in the cache of before is damaged")
            }),
        }
    }

    /// From now on it is read from there, and takes no memory.
    pub(super) fn put_away(&self, stored: Stored) {
        *self.record.lock() = Held::Stored(stored);
    }

    /// What it takes in memory, in octets.
    pub(super) fn size(&self) -> usize {
        let record = match &*self.record.lock() {
            Held::Memory(record) => record.size(),
            Held::Stored(_) => 0,
        };
        record + size_of_val(&*self.words.all)
    }
}

fn encode(record: &FileRecord) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(record).map_err(io::Error::other)
}

/// `None` for what this version would not have written.
fn decode(octets: &[u8]) -> Option<FileRecord> {
    let (record, rest) = postcard::take_from_bytes::<FileRecord>(octets).ok()?;
    (rest.is_empty() && holds(&record)).then_some(record)
}

/// Whether every stretch lies within what it points into, and all that is defined has a name. Other symbols need not:
/// those that are none read as nothing.
fn holds(record: &FileRecord) -> bool {
    let named = |name: Symbol| (name as usize) < record.symbols.len();
    let within = |span: Span, all: usize| {
        (span.start as usize).checked_add(span.len as usize).is_some_and(|end| end <= all)
    };
    let module = |module: &Module| {
        named(module.name)
            && within(module.definitions, record.definitions.len())
            && within(module.imports, record.imports.len())
    };
    record.symbols.holds()
        && record.modules.iter().all(module)
        && record.definitions.iter().all(|definition| {
            named(definition.name)
                && within(definition.oid, record.parts.len())
                && within(definition.items, record.items.len())
        })
        && record.types.iter().all(|syntax| within(syntax.labels, record.labels.len()))
}

/// Texts of the program itself, which live for ever and are few: each is kept once, for the life of the process.
#[derive(Default)]
pub(super) struct Fixed(HashSet<&'static str>);

impl Fixed {
    /// `None` for more of them, or longer ones, than there are.
    pub(super) fn get(&mut self, text: &str) -> Option<&'static str> {
        if let Some(&known) = self.0.get(text) {
            return Some(known);
        }
        let known = keep(text)?;
        self.0.insert(known);
        Some(known)
    }
}

fn keep(text: &str) -> Option<&'static str> {
    const MOST: usize = 512;
    const LONGEST: usize = 256;
    static KNOWN: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut known = KNOWN.lock();
    let known = known.get_or_insert_default();
    match known.get(text) {
        Some(&text) => Some(text),
        None if known.len() < MOST && text.len() <= LONGEST => {
            let text: &'static str = Box::leak(text.into());
            known.insert(text);
            Some(text)
        }
        None => None,
    }
}

/// Serialises a text of the program.
pub(super) mod fixed {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::mib) fn serialize<S: Serializer>(text: &&'static str, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(in crate::mib) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<&'static str, D::Error> {
        let text = <&str>::deserialize(from)?;
        super::keep(text).ok_or_else(|| D::Error::custom("a text that no version writes"))
    }
}

/// Serialises a text of the program that may be absent.
pub(super) mod fixed_option {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(in crate::mib) fn serialize<S: Serializer>(
        text: &Option<&'static str>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        text.serialize(to)
    }

    pub(in crate::mib) fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<Option<&'static str>, D::Error> {
        let text = <Option<&str>>::deserialize(from)?;
        let fixed = |text| super::keep(text).ok_or_else(|| D::Error::custom("a text that no version writes"));
        text.map(fixed).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mib::parser::Parser;
    use proptest::prelude::*;

    const TEXT: &[u8] = b"A-MIB DEFINITIONS ::= BEGIN IMPORTS enterprises FROM SNMPv2-SMI; \
        a OBJECT IDENTIFIER ::= { enterprises x(1) 2 } L ::= INTEGER { up(1), down(-2) } \
        t OBJECT-TYPE SYNTAX L UNITS \"s\" INDEX { IMPLIED a } DESCRIPTION \"d\" ::= { a 1 } oops ::= } END";

    #[test]
    fn a_record_comes_back_from_the_file_as_it_was() {
        let record = Parser::default().parse(TEXT);
        assert!(!record.problems.is_empty() && holds(&record));
        let parsed = Parsed::new([7; 32], record);
        let (before, octets) = (format!("{:?}", contents(&parsed)), parsed.encoded().unwrap());
        let words = size_of_val(&*parsed.words.all);
        assert!(parsed.size() > words);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&octets, 100).unwrap();
        let at = 100..100 + octets.len() as u64;
        parsed.put_away(Stored { file: Arc::new(file), at, checksum: checksum(&octets) });
        assert_eq!(parsed.size(), words);
        assert_eq!(format!("{:?}", contents(&parsed)), before);
        assert_eq!(parsed.encoded().unwrap(), octets);
    }

    /// All but the table that interning needs.
    fn contents(parsed: &Parsed) -> FileRecord {
        decode(&encode(&parsed.record().unwrap()).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn whatever_is_read_in_its_place_is_refused_or_harmless(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut octets = encode(&Parser::default().parse(TEXT)).unwrap();
            for (at, with) in flips {
                let at = at.index(octets.len());
                octets[at] = with;
            }
            if let Some(record) = decode(&octets) {
                let input = crate::mib::input(&record, &"a".into());
                let _ = crate::mib::resolve::link(&[input, crate::mib::builtin_input()]);
            }
        }
    }
}
