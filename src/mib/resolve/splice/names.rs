//! The words of an image: those of before, and the new ones.

use std::collections::{BTreeSet, HashMap};

use zerocopy::little_endian::U32;

use super::super::{Link, assemble};
use super::tree::Left;
use super::{Fresh, ModulesNow, Old};
use crate::mib::Mib;
use crate::mib::symbol::{NONE, NumberMap, Symbol};
use crate::mib::workers;

/// The words of before and new ones.
pub(super) struct Names<'a> {
    pub(super) old: Old<'a>,
    /// Words that were not there before.
    pub(super) extra: Vec<Box<[u8]>>,
    /// For the symbols of the link that are used.
    pub(super) of_symbol: NumberMap<Symbol, u32>,
}

impl<'a> Names<'a> {
    pub(super) fn of(
        link: &Link<'_>,
        before: &Mib,
        old: &Old<'a>,
        (modules, left): (&ModulesNow, &Left),
        fresh: &[Fresh],
    ) -> Self {
        let mut used: BTreeSet<Symbol> = BTreeSet::new();
        for fresh in fresh {
            let entry = link.definitions[fresh.number as usize];
            used.insert(entry.name);
            if let Some(resolved) = fresh.resolved {
                used.extend([resolved.convention, resolved.hint]);
                used.insert(link.word(entry.file, link.definition(entry).units));
                used.extend(assemble::labels(link, resolved).into_iter().map(|(_, name)| name));
            }
        }
        let mut of_symbol: NumberMap<Symbol, u32> = NumberMap::default();
        for (record, &now) in old.modules.iter().zip(&modules.same) {
            if let Some(module) = link.modules.get(now as usize) {
                of_symbol.insert(module.name, record.name.get());
            }
        }
        used.extend(link.modules.iter().map(|module| module.name));
        used.retain(|&symbol| symbol != NONE && !of_symbol.contains_key(&symbol));
        // Nearly all of them were in the same files before; only for what is new all words are looked through.
        let mut by_text: HashMap<&[u8], Symbol> =
            used.iter().map(|&symbol| (link.names.bytes_of(symbol), symbol)).collect();
        let mut types = BTreeSet::new();
        let mut find = |word: U32| {
            if let Some(symbol) = by_text.remove(old.word(word.get())) {
                of_symbol.insert(symbol, word.get());
            }
        };
        for &node in &left.nodes {
            let record = &old.nodes[node as usize];
            find(record.name);
            if let Some(syntax) = old.syntaxes.get(record.syntax.get() as usize)
                && types.insert(record.syntax)
            {
                [syntax.convention, syntax.hint, syntax.units].into_iter().for_each(&mut find);
                old.labels_of(syntax).iter().for_each(|label| find(label.name));
            }
        }
        by_text.retain(|text, symbol| {
            let named = std::str::from_utf8(text).ok().and_then(|name| before.named(name).next());
            let record = named.and_then(|node| old.nodes.get(node.0 as usize));
            record.is_none_or(|record| {
                of_symbol.insert(*symbol, record.name.get());
                false
            })
        });
        of_symbol.extend(Self::looked_through(old, &by_text));
        let mut extra: Vec<Box<[u8]>> = Vec::new();
        for symbol in used {
            of_symbol.entry(symbol).or_insert_with(|| {
                extra.push(link.names.bytes_of(symbol).into());
                (old.ends.len() + extra.len() - 1) as u32
            });
        }
        Self { old: *old, extra, of_symbol }
    }

    /// Those of the texts that are among the words of before.
    fn looked_through(old: &Old<'_>, by_text: &HashMap<&[u8], Symbol>) -> Vec<(Symbol, u32)> {
        const PIECE: usize = 1 << 13;
        if by_text.is_empty() {
            return Vec::new();
        }
        let mut lengths = [false; 256];
        let mut may_be = vec![false; 1 << 16];
        for text in by_text.keys() {
            lengths[text.len() & 255] = true;
            may_be[outline(text)] = true;
        }
        // The first words are the paths of the files, which are no names.
        let pieces = (old.ends.len() - old.files).div_ceil(PIECE);
        let found = workers::in_parallel(
            pieces,
            || (),
            |(), piece| {
                let first = old.files + piece * PIECE;
                let mut found = Vec::new();
                let mut start = first.checked_sub(1).map_or(0, |last| old.ends[last].get() as usize);
                for (word, end) in old.ends.iter().enumerate().skip(first).take(PIECE) {
                    let end = end.get() as usize;
                    let range = std::mem::replace(&mut start, end)..end;
                    if !lengths[range.len() & 255] {
                        continue;
                    }
                    let text = old.text.get(range).unwrap_or_default();
                    if may_be[outline(text)]
                        && let Some(&symbol) = by_text.get(text)
                    {
                        found.push((symbol, word as u32));
                    }
                }
                found
            },
        );
        found.into_iter().flatten().collect()
    }

    pub(super) fn symbol(&self, symbol: Symbol) -> u32 {
        self.of_symbol.get(&symbol).copied().unwrap_or(NONE)
    }

    pub(super) fn bytes(&self, word: u32) -> &[u8] {
        match (word as usize).checked_sub(self.old.ends.len()) {
            Some(extra) => self.extra.get(extra).map_or(&[][..], |word| word),
            None => self.old.word(word),
        }
    }
}

/// Tells most words apart by their lengths and some of their letters.
fn outline(word: &[u8]) -> usize {
    let letter = |at: usize| usize::from(word.get(at).copied().unwrap_or_default() & 31);
    let behind = word.len().wrapping_sub(1);
    (word.len() & 31) << 11
        ^ letter(behind) << 6
        ^ letter(behind.wrapping_sub(1)) << 3
        ^ letter(word.len() / 2)
}
