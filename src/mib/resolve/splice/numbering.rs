//! The numbers of words and types, which are given as they are met along the nodes.

use zerocopy::little_endian::U32;

use super::super::Link;
use super::names::Names;
use super::plan::{Nodes, Plan, Run};
use super::types::SyntaxesNow;
use super::{Fresh, Old};
use crate::mib::symbol::NONE;

/// Some things that are numbered as they are met.
pub(super) struct Met {
    /// For each one of before and each new one its number, or [`NONE`].
    pub(super) now: Vec<u32>,
    /// In the order of their numbers.
    pub(super) runs: Vec<Run>,
    pub(super) count: u32,
    /// How many there were before; a run has none of before and new ones together.
    old: u32,
}

impl Met {
    fn new(old: usize, extra: usize, count: usize) -> Self {
        Self { now: vec![NONE; old + extra], runs: Vec::new(), count: count as u32, old: old as u32 }
    }

    /// Whether it is met for the first time.
    #[inline]
    fn meet(&mut self, number: u32) -> bool {
        let Some(now) = self.now.get_mut(number as usize).filter(|now| **now == NONE) else {
            return false;
        };
        *now = self.count;
        match self.runs.last_mut() {
            Some(last) if last.old + last.len == number && number != self.old => last.len += 1,
            _ => self.runs.push(Run { old: number, len: 1, now: self.count }),
        }
        self.count += 1;
        true
    }

    pub(super) fn get(&self, number: u32) -> u32 {
        self.now.get(number as usize).copied().unwrap_or(NONE)
    }
}

/// What an image needs to know of its words and types before it is written.
pub(super) struct Numbering {
    pub(super) words: Met,
    /// The octets of the words.
    pub(super) text: usize,
    pub(super) types: Met,
    pub(super) labels: usize,
}

/// What words and types there are.
pub(super) struct Words<'a> {
    pub(super) old: Old<'a>,
    pub(super) types: &'a SyntaxesNow,
    /// The new words one after the other, and where each ends.
    extra_text: Vec<u8>,
    extra_ends: Vec<U32>,
    /// For each new node its name.
    pub(super) of_fresh: Vec<u32>,
    /// For each module its name.
    pub(super) of_modules: Vec<u32>,
}

impl<'a> Words<'a> {
    pub(super) fn of(link: &Link<'_>, names: &Names<'a>, types: &'a SyntaxesNow, fresh: &[Fresh]) -> Self {
        let (mut extra_text, mut extra_ends) = (Vec::new(), Vec::new());
        for word in &names.extra {
            extra_text.extend_from_slice(word);
            extra_ends.push(U32::new(extra_text.len() as u32));
        }
        let of_fresh = fresh.iter().map(|fresh| names.symbol(link.definitions[fresh.number as usize].name));
        let of_modules = link.modules.iter().map(|module| names.symbol(module.name));
        let (of_fresh, of_modules) = (of_fresh.collect(), of_modules.collect());
        Self { old: names.old, types, extra_text, extra_ends, of_fresh, of_modules }
    }

    /// How many words are new, and how many octets they have.
    pub(super) fn extra(&self) -> (usize, usize) {
        (self.extra_ends.len(), self.extra_text.len())
    }

    /// Numbers what the nodes of `plan` and the modules say, after the paths of so many files.
    pub(super) fn number(&self, plan: &Plan, files: usize) -> Numbering {
        let old = &self.old;
        let mut words = Met::new(old.ends.len(), self.extra_ends.len(), files);
        let mut types = Met::new(old.syntaxes.len(), self.types.extra.len(), 0);
        let mut labels = 0;
        let mut meet = |syntax: u32, name: u32| {
            if types.meet(syntax) {
                let (record, own) = self.types.get(old, syntax);
                labels += own.len();
                for label in own {
                    words.meet(label.name.get());
                }
                for word in [record.convention, record.hint, record.units] {
                    words.meet(word.get());
                }
            }
            words.meet(name);
        };
        for piece in &plan.nodes {
            match &piece.what {
                Nodes::Stay { old: stay, .. } => {
                    for node in &old.nodes[stay.start as usize..stay.end as usize] {
                        meet(node.syntax.get(), node.name.get());
                    }
                }
                Nodes::Fresh { fresh, kind, .. } => {
                    let fresh = *fresh as usize;
                    let syntax = if kind.is_object() { self.types.of_fresh[fresh] } else { NONE };
                    meet(syntax, self.of_fresh[fresh]);
                }
            }
        }
        for &name in &self.of_modules {
            words.meet(name);
        }
        let text = words.runs.iter().map(|run| self.text(run).0.len()).sum();
        Numbering { words, text, types, labels }
    }

    /// The octets of some words one after the other, and where each ends, counted from `start` on.
    pub(super) fn text(&self, run: &Run) -> (&[u8], &[U32], u32) {
        let (first, text, ends) = match run.old.checked_sub(self.old.ends.len() as u32) {
            None => (run.old as usize, self.old.text, self.old.ends),
            Some(extra) => (extra as usize, &*self.extra_text, &*self.extra_ends),
        };
        let own = ends.get(first..first + run.len as usize).unwrap_or_default();
        let start = if first == 0 { 0 } else { ends[first - 1].get() };
        let end = own.last().map_or(start, |end| end.get());
        (text.get(start as usize..end as usize).unwrap_or_default(), own, start)
    }
}
