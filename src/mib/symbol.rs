//! Interned words: a word is stored once, and known by a number from then on.
//!
//! Used per file while parsing (where the keywords of the SMI hold the first numbers, so that telling a
//! keyword is comparing a number) and once over all files while linking.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// The number of a word in its [`Symbols`].
pub(crate) type Symbol = u32;

/// In place of a symbol, an index or a number: there is none.
pub(crate) const NONE: u32 = u32::MAX;

/// A set of words, numbered in the order of their first appearance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Symbols {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Open addressing, a power of two long: half of the hash, and the symbol. Empty where words are only read.
    #[serde(skip)]
    slots: Vec<(u32, Symbol)>,
    #[serde(skip)]
    seed: u64,
}

impl Symbols {
    /// An empty set with room for about `words`.
    pub(crate) fn with_capacity(words: usize) -> Self {
        let seed = seed();
        let slots = (words.max(8) * 2).next_power_of_two();
        Self { bytes: Vec::new(), ends: Vec::with_capacity(words), slots: vec![(0, NONE); slots], seed }
    }

    /// The symbol of `word`, new or known. Amortised constant in the number of words.
    pub(crate) fn intern(&mut self, word: &[u8]) -> Symbol {
        if self.slots.is_empty() {
            self.grow();
        }
        let hash = hash(word, self.seed);
        let tag = (hash >> 32) as u32;
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let (known, symbol) = self.slots[at];
            if symbol == NONE {
                break;
            }
            if known == tag && self.bytes_of(symbol) == word {
                return symbol;
            }
            at = (at + 1) & mask;
        }
        let symbol = self.ends.len() as Symbol;
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len() as u32);
        self.slots[at] = (tag, symbol);
        if self.ends.len() * 2 > self.slots.len() {
            self.grow();
        }
        symbol
    }

    fn grow(&mut self) {
        let size = (self.ends.len().max(8) * 4).next_power_of_two();
        let mut slots = vec![(0, NONE); size];
        for symbol in 0..self.ends.len() as Symbol {
            let hash = hash(self.bytes_of(symbol), self.seed);
            let mut at = hash as usize & (size - 1);
            while slots[at].1 != NONE {
                at = (at + 1) & (size - 1);
            }
            slots[at] = ((hash >> 32) as u32, symbol);
        }
        self.slots = slots;
    }

    /// How many words there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The word behind a symbol of this set; empty for [`NONE`].
    pub(crate) fn bytes_of(&self, symbol: Symbol) -> &[u8] {
        let at = symbol as usize;
        let Some(&end) = self.ends.get(at) else {
            return &[];
        };
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start as usize..end as usize]
    }

    /// The word behind a symbol. Words are interned as UTF-8, so this loses nothing.
    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        std::str::from_utf8(self.bytes_of(symbol)).unwrap_or_default()
    }

    /// Gives up the table that only interning needs, and surplus capacity.
    pub(crate) fn freeze(&mut self) {
        self.slots = Vec::new();
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// Whether every word lies within what is stored, as text.
    pub(crate) fn holds(&self) -> bool {
        let within =
            self.ends.is_sorted() && self.ends.last().map_or(0, |&end| end as usize) == self.bytes.len();
        within
            && std::str::from_utf8(&self.bytes)
                .is_ok_and(|text| self.ends.iter().all(|&end| text.is_char_boundary(end as usize)))
    }

    /// What it takes in memory, in octets.
    pub(crate) fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4 + self.slots.capacity() * 8
    }
}

/// Random for each process, so that no file can be made that drives every word into one slot.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| RandomState::new().build_hasher().finish())
}

/// A map whose keys are small numbers: hashing one is two multiplications.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Folds numbers with the seed of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberHasher(u64);

impl Default for NumberHasher {
    fn default() -> Self {
        Self(seed())
    }
}

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(bytes, self.0);
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = fold(self.0 ^ number, 0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        fold(self.0, 0xd6e8_feb8_6659_fd93)
    }
}

/// Folded multiplication over eight octets at a time. Equal on every machine for an equal seed.
pub(crate) fn hash(word: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = seed ^ (word.len() as u64).wrapping_mul(FACTOR);
    let mut chunks = word.chunks_exact(8);
    for chunk in &mut chunks {
        let mut octets = [0; 8];
        octets.copy_from_slice(chunk);
        state = fold(state ^ u64::from_le_bytes(octets), FACTOR);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut octets = [0; 8];
        octets[..rest.len()].copy_from_slice(rest);
        state = fold(state ^ u64::from_le_bytes(octets), FACTOR);
    }
    fold(state, 0xd6e8_feb8_6659_fd93)
}

/// Multiplies, and folds the halves of the product over each other.
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_stored_once_and_found_again() {
        let mut symbols = Symbols::with_capacity(1);
        let numbers: Vec<Symbol> =
            (0..10_000).map(|n| symbols.intern(format!("word{n}").as_bytes())).collect();
        assert_eq!(numbers, (0..10_000).collect::<Vec<_>>());
        for n in 0..10_000 {
            let word = format!("word{n}");
            assert_eq!(symbols.intern(word.as_bytes()), n);
            assert_eq!(symbols.text(n), word);
        }
        assert_eq!(symbols.text(NONE), "");
    }
}
