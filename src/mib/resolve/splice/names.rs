//! The words of an image: those of before, and the new ones.

use std::collections::{BTreeSet, HashMap};

use super::super::{Link, assemble};
use super::{Fresh, Old};
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
    pub(super) fn of(link: &Link<'_>, old: &Old<'a>, fresh: &[Fresh]) -> Self {
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
        used.extend(link.modules.iter().map(|module| module.name));
        used.remove(&NONE);
        let mut by_text: HashMap<&[u8], Symbol> = HashMap::new();
        let mut may_be = vec![false; 1 << 16];
        for &symbol in &used {
            let text = link.names.bytes_of(symbol);
            by_text.insert(text, symbol);
            may_be[outline(text)] = true;
        }
        // The first words are the paths of the files, which are no names.
        const PIECE: usize = 1 << 15;
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
                    let text = old.text.get(start..end).unwrap_or_default();
                    start = end;
                    if may_be[outline(text)]
                        && let Some(&symbol) = by_text.get(text)
                    {
                        found.push((symbol, word as u32));
                    }
                }
                found
            },
        );
        let mut of_symbol: NumberMap<Symbol, u32> = found.into_iter().flatten().collect();
        let mut extra: Vec<Box<[u8]>> = Vec::new();
        for symbol in used {
            of_symbol.entry(symbol).or_insert_with(|| {
                extra.push(link.names.bytes_of(symbol).into());
                (old.ends.len() + extra.len() - 1) as u32
            });
        }
        Self { old: *old, extra, of_symbol }
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
