//! The types of an image: those of before, and the new ones.

use std::collections::{HashMap, HashSet};

use zerocopy::IntoBytes as _;

use super::super::Link;
use super::super::assemble::{self, SyntaxHead};
use super::names::Names;
use super::{Fresh, Old};
use crate::mib::format::{LabelRecord, SyntaxRecord, checksum};
use crate::mib::symbol::NONE;

/// The types of the new nodes, and those of them that were not there before.
pub(super) struct SyntaxesNow {
    /// For each new node its type.
    pub(super) of_fresh: Vec<u32>,
    pub(super) extra: Vec<(SyntaxRecord, Vec<LabelRecord>)>,
}

impl SyntaxesNow {
    pub(super) fn of(link: &Link<'_>, old: &Old<'_>, words: &Names<'_>, fresh: &[Fresh]) -> Self {
        let mut extra: Vec<(SyntaxRecord, Vec<LabelRecord>)> = Vec::new();
        let mut known: HashMap<(SyntaxHead, u64), u32> = HashMap::new();
        let mut heads: HashSet<SyntaxHead> = HashSet::new();
        let first = old.syntaxes.len() as u32;
        let of_fresh = fresh
            .iter()
            .map(|fresh| {
                let Some(resolved) = fresh.resolved else {
                    return NONE;
                };
                let entry = link.definitions[fresh.number as usize];
                let units = link.word(entry.file, link.definition(entry).units);
                let [convention, hint, units] =
                    [resolved.convention, resolved.hint, units].map(|symbol| words.symbol(symbol));
                let labels: Vec<LabelRecord> = assemble::labels(link, resolved)
                    .into_iter()
                    .map(|(number, name)| LabelRecord {
                        number: number.into(),
                        name: words.symbol(name).into(),
                    })
                    .collect();
                let record = assemble::syntax_record(resolved, [convention, hint, units], [0, labels.len()]);
                let head = assemble::syntax_head(&record);
                heads.insert(head);
                let next = first + extra.len() as u32;
                let found = *known.entry((head, checksum(labels.as_bytes()))).or_insert(next);
                if found == next {
                    extra.push((record, labels));
                }
                found
            })
            .collect::<Vec<_>>();
        // Where a type of before is equal, that one is meant.
        let mut instead: HashMap<u32, u32> = HashMap::new();
        for (record, number) in old.syntaxes.iter().zip(0..) {
            let head = assemble::syntax_head(record);
            if heads.contains(&head)
                && let Some(&found) = known.get(&(head, checksum(old.labels_of(record).as_bytes())))
            {
                instead.insert(found, number);
            }
        }
        let of_fresh = of_fresh.into_iter().map(|found| instead.get(&found).copied().unwrap_or(found));
        Self { of_fresh: of_fresh.collect(), extra }
    }

    /// A type of before or a new one, with its labels.
    pub(super) fn get<'a>(&'a self, old: &Old<'a>, syntax: u32) -> (&'a SyntaxRecord, &'a [LabelRecord]) {
        match (syntax as usize).checked_sub(old.syntaxes.len()) {
            None => (&old.syntaxes[syntax as usize], old.labels_of(&old.syntaxes[syntax as usize])),
            Some(extra) => (&self.extra[extra].0, &self.extra[extra].1),
        }
    }
}
