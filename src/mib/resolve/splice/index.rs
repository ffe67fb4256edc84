//! The table of an image from names to nodes.

use std::collections::BTreeMap;

use zerocopy::little_endian::U32;

use super::Splice;
use crate::mib::Mib;
use crate::mib::format::{slot_of, slots_for};
use crate::mib::image::name_hash;
use crate::mib::symbol::NONE;

impl Splice<'_, '_, '_> {
    /// The table from names to nodes, as [`assemble`] makes it.
    pub(super) fn index_names(&mut self, before: &Mib) {
        let mut chains: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
        let mut fresh: Vec<(u32, u32)> =
            self.fresh.iter().map(|fresh| fresh.number).zip(self.old.nodes.len() as u32..).collect();
        fresh.sort_unstable();
        let entry_of = |number: u32| self.link.definitions[number as usize];
        let words = fresh.iter().map(|&(number, _)| self.names.symbol(entry_of(number).name));
        let mut touched = std::mem::take(&mut self.vertices.left);
        touched.extend(words);
        // The first nodes of before of the names that have other nodes now.
        let mut left = vec![false; self.old.nodes.len()];
        let mut gone = 0;
        for word in touched {
            let chain = chains.entry(word).or_default();
            let name = std::str::from_utf8(self.names.bytes(word)).unwrap_or_default();
            if let Some(first) = before.named(name).next() {
                left[first.0 as usize] = true;
                gone += 1;
                self.chain_of(first.0, chain);
            }
        }
        // In the order of their definitions, which is that of the rank of their modules.
        for (number, source) in fresh {
            let entry = self.link.definitions[number as usize];
            let chain = chains.entry(self.names.symbol(entry.name)).or_default();
            chain.push((self.modules.rank[entry.module as usize], self.now[source as usize]));
        }
        let mut heads: Vec<(u64, u32, u32)> = Vec::new();
        for (word, mut chain) in chains {
            chain.sort_by_key(|&(rank, _)| rank);
            let mut next = NONE;
            for &(_, node) in chain.iter().rev() {
                self.out.nodes.get_mut()[node as usize].next = next.into();
                next = node;
            }
            if next != NONE {
                heads.push((hash_of(self.names.bytes(word)), word, next));
            }
        }
        let bytes = |word: u32| self.names.bytes(word);
        heads.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| bytes(a.1).cmp(bytes(b.1))));
        let old_names = self.old.slots.iter().filter(|slot| slot.get() != NONE).count();
        let names = old_names - gone + heads.len();
        self.fill_slots(&left, &heads, names, old_names);
    }

    /// Those of before in their order, without those that are `left`, and `heads` between them.
    fn fill_slots(&mut self, left: &[bool], heads: &[(u64, u32, u32)], names: usize, old_names: usize) {
        let (old, now) = (&self.old, &self.now);
        let word_of = |node: u32| old.word(old.nodes[node as usize].name.get());
        let (slots, used) = self.out.name_slots.room();
        slots.fill(U32::new(NONE));
        let beginnings = slots_for(names);
        let as_before = beginnings == slots_for(old_names);
        let mut heads = heads.iter().peekable();
        // The first free slot, now and before.
        let (mut next, mut next_before) = (0, 0);
        for (slot, node) in old.slots.iter().enumerate() {
            let node = node.get();
            if node == NONE {
                continue;
            }
            while let Some(&&(hash, word, head)) =
                heads.peek().filter(|head| !as_before || slot_of(beginnings, head.0) <= slot)
            {
                let text = word_of(node);
                let this = hash_of(text);
                if (hash, self.names.bytes(word)) >= (this, text) {
                    break;
                }
                let at = slot_of(beginnings, hash).max(next);
                slots[at] = head.into();
                next = at + 1;
                heads.next();
            }
            let undisturbed = as_before && (slot > next_before || next == next_before);
            next_before = slot + 1;
            if left[node as usize] {
                continue;
            }
            let beginning = if undisturbed { slot } else { slot_of(beginnings, hash_of(word_of(node))) };
            let at = beginning.max(next);
            slots[at] = now[node as usize].into();
            next = at + 1;
        }
        for &(hash, _, head) in heads {
            let at = slot_of(beginnings, hash).max(next);
            slots[at] = head.into();
            next = at + 1;
        }
        *used = beginnings.max(next) + 1;
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

fn hash_of(name: &[u8]) -> u64 {
    name_hash(std::str::from_utf8(name).unwrap_or_default())
}
