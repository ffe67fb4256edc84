//! The table of an image from names to nodes.

use std::collections::{BTreeMap, BTreeSet};

use zerocopy::little_endian::U32;

use super::Splice;
use super::tree::Left;
use crate::mib::Mib;
use crate::mib::format::{slot_of, slots_for};
use crate::mib::image::name_hash;
use crate::mib::symbol::NONE;

/// A name with the first of its nodes, where that is another one than before.
struct Head {
    hash: u64,
    word: u32,
    node: u32,
}

/// What the table of names comes to.
pub(super) struct Indexed {
    /// How many slots it takes.
    pub(super) slots: usize,
    /// Nodes whose next one of the same name is another one than before, with that.
    pub(super) next: Vec<(u32, u32)>,
}

impl Splice<'_, '_> {
    /// Fills the table from names to nodes, as [`assemble`](super::super::assemble) makes it. `slots` is as long as
    /// the table can be.
    pub(super) fn index_names(&self, before: &Mib, left: &Left, slots: &mut [U32]) -> Indexed {
        let mut chains: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
        let mut fresh: Vec<(u32, u32)> =
            self.fresh.iter().map(|fresh| fresh.number).zip(self.old.nodes.len() as u32..).collect();
        fresh.sort_unstable();
        let entry_of = |number: u32| self.link.definitions[number as usize];
        let words = fresh.iter().map(|&(number, _)| self.names.symbol(entry_of(number).name));
        let mut touched: BTreeSet<u32> =
            left.nodes.iter().map(|&node| self.old.nodes[node as usize].name.get()).collect();
        touched.extend(words);
        // The first nodes of before of the names that have other nodes now.
        let mut firsts = BTreeSet::new();
        for word in touched {
            let chain = chains.entry(word).or_default();
            let name = std::str::from_utf8(self.names.bytes(word)).unwrap_or_default();
            if let Some(first) = before.named(name).next() {
                firsts.insert(first.0);
                self.chain_of(first.0, chain);
            }
        }
        // In the order of their definitions, which is that of the rank of their modules.
        for (number, source) in fresh {
            let entry = entry_of(number);
            let chain = chains.entry(self.names.symbol(entry.name)).or_default();
            chain.push((self.modules.rank[entry.module as usize], self.now[source as usize]));
        }
        let mut heads: Vec<Head> = Vec::new();
        let mut nexts = Vec::new();
        for (word, mut chain) in chains {
            chain.sort_by_key(|&(rank, _)| rank);
            let mut next = NONE;
            for &(_, node) in chain.iter().rev() {
                nexts.push((node, next));
                next = node;
            }
            if next != NONE {
                heads.push(Head { hash: hash_of(self.names.bytes(word)), word, node: next });
            }
        }
        let bytes = |head: &Head| self.names.bytes(head.word);
        heads.sort_unstable_by(|a, b| a.hash.cmp(&b.hash).then_with(|| bytes(a).cmp(bytes(b))));
        let old_names = self.old.names;
        let names = old_names - firsts.len() + heads.len();
        let slots = self.fill_slots(&firsts, &heads, [old_names, names], slots);
        Indexed { slots, next: nexts }
    }

    /// Those of before in their order, without those of `firsts`, and `heads` between them; `names` tells how many
    /// there were and are. Returns how many slots are used.
    fn fill_slots(
        &self,
        firsts: &BTreeSet<u32>,
        heads: &[Head],
        [old_names, names]: [usize; 2],
        slots: &mut [U32],
    ) -> usize {
        let old = self.old.slots;
        let beginnings = slots_for(names);
        let as_before = beginnings == slots_for(old_names);
        slots.fill(U32::new(NONE));
        // Where something goes or comes. What stands between is taken over.
        let mut events: Vec<usize> = heads.iter().map(|head| slot_of(beginnings, head.hash)).collect();
        for &first in firsts {
            let from = slot_of(slots_for(old_names), hash_of(self.name_of(first)));
            events.extend((from..old.len()).find(|&slot| old[slot].get() == first));
        }
        events.sort_unstable();
        let mut events = events.into_iter().peekable();
        let mut heads = heads.iter().peekable();
        // The first slot behind all that are full, now and before.
        let (mut next, mut next_before) = (0, 0);
        let mut slot = 0;
        while slot < old.len() {
            let waits = |head: &&Head| slot_of(beginnings, head.hash) < slot;
            if as_before && old[slot].get() == NONE && next <= slot && !heads.peek().is_some_and(waits) {
                while events.next_if(|&event| event < slot).is_some() {}
                let event = events.peek().map_or(old.len(), |&event| event.min(old.len()));
                for (now, node) in slots[slot..event].iter_mut().zip(&old[slot..event]) {
                    *now = self.node_now(node.get()).into();
                }
                next = behind_full(&slots[..event]);
                next_before = behind_full(&old[..event]);
                slot = event;
                if slot == old.len() {
                    break;
                }
            }
            let node = old[slot].get();
            let comes = |head: &&Head| {
                if node == NONE {
                    as_before && slot_of(beginnings, head.hash) <= slot
                } else {
                    (!as_before || slot_of(beginnings, head.hash) <= slot) && self.is_before(head, node)
                }
            };
            while let Some(head) = heads.next_if(comes) {
                next = put(slots, slot_of(beginnings, head.hash).max(next), head.node);
            }
            if node != NONE {
                let undisturbed = as_before && (slot > next_before || next == next_before);
                next_before = slot + 1;
                if !firsts.contains(&node) {
                    let beginning =
                        if undisturbed { slot } else { slot_of(beginnings, hash_of(self.name_of(node))) };
                    next = put(slots, beginning.max(next), self.node_now(node));
                }
            }
            slot += 1;
        }
        for head in heads {
            next = put(slots, slot_of(beginnings, head.hash).max(next), head.node);
        }
        beginnings.max(next) + 1
    }

    /// Whether a name comes before that of a node of before.
    fn is_before(&self, head: &Head, node: u32) -> bool {
        let name = self.name_of(node);
        (head.hash, self.names.bytes(head.word)) < (hash_of(name), name)
    }

    fn name_of(&self, node: u32) -> &[u8] {
        self.old.word(self.old.nodes[node as usize].name.get())
    }

    fn node_now(&self, node: u32) -> u32 {
        self.now.get(node as usize).copied().unwrap_or(NONE)
    }

    /// What stays of the nodes of one name, with the rank of their modules.
    fn chain_of(&self, mut node: u32, chain: &mut Vec<(u32, u32)>) {
        while let Some(record) = self.old.nodes.get(node as usize) {
            let module = self.modules.staying[record.module.get() as usize];
            if module != NONE {
                chain.push((self.modules.rank[module as usize], self.now[node as usize]));
            }
            node = record.next.get();
        }
    }
}

/// Puts a node into a slot, and returns the slot behind it.
fn put(slots: &mut [U32], at: usize, node: u32) -> usize {
    slots[at] = node.into();
    at + 1
}

/// The slot behind the last one that is full.
fn behind_full(slots: &[U32]) -> usize {
    slots.iter().rposition(|slot| slot.get() != NONE).map_or(0, |last| last + 1)
}

fn hash_of(name: &[u8]) -> u64 {
    name_hash(std::str::from_utf8(name).unwrap_or_default())
}
