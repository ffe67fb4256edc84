//! Which rules may match a notification: an index over notification OIDs.
//!
//! A look-up costs one hash for the exact OID and one for each length that a subtree pattern has
//! (usually none to three), whatever the number of rules; then it walks only the rules that name this
//! OID, a subtree above it, or no OID at all.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::oid::Oid;

/// Rule numbers, ascending.
type Numbers = Vec<u32>;

type ByOid = HashMap<Box<[u32]>, Numbers>;

/// From a notification's OID to the rules that may match it.
#[derive(Debug, Default)]
pub(super) struct TrapIndex {
    exact: ByOid,
    /// By the prefix' length, longest first; each with its prefixes.
    subtrees: Vec<(usize, ByOid)>,
    any: Numbers,
}

/// What a rule says of notifications, with its names bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// This OID.
    Exact(Oid),
    /// This OID and what lies below.
    Subtree(Oid),
}

impl Pattern {
    pub(super) fn matches(&self, oid: &[u32]) -> bool {
        match self {
            Self::Exact(own) => own.arcs() == oid,
            Self::Subtree(own) => oid.starts_with(own.arcs()),
        }
    }

    pub(super) fn oid(&self) -> &Oid {
        match self {
            Self::Exact(oid) | Self::Subtree(oid) => oid,
        }
    }
}

impl TrapIndex {
    /// Adds rule `number`, which must be higher than those before; no patterns is every notification.
    pub(super) fn add(&mut self, number: u32, patterns: &[Pattern]) {
        let push = |numbers: &mut Numbers| {
            // A rule that names an OID twice stands there once.
            if numbers.last() != Some(&number) {
                numbers.push(number);
            }
        };
        if patterns.is_empty() {
            push(&mut self.any);
        }
        for pattern in patterns {
            match pattern {
                Pattern::Exact(oid) => push(self.exact.entry(oid.arcs().into()).or_default()),
                Pattern::Subtree(oid) => {
                    let length = oid.arcs().len();
                    let place = match self.subtrees.binary_search_by(|(other, _)| length.cmp(other)) {
                        Ok(at) => at,
                        Err(at) => {
                            self.subtrees.insert(at, (length, HashMap::new()));
                            at
                        }
                    };
                    push(self.subtrees[place].1.entry(oid.arcs().into()).or_default());
                }
            }
        }
    }

    /// The rules that may match `oid`, ascending, each once. Allocates nothing unless more than seven
    /// subtree patterns of different lengths hold the OID.
    pub(super) fn candidates<'a>(&'a self, oid: &[u32]) -> Candidates<'a> {
        let mut lists = SmallVec::new();
        if let Some(numbers) = self.exact.get(oid) {
            lists.push(numbers.as_slice());
        }
        for (length, prefixes) in &self.subtrees {
            if let Some(numbers) = oid.get(..*length).and_then(|prefix| prefixes.get(prefix)) {
                lists.push(numbers.as_slice());
            }
        }
        if !self.any.is_empty() {
            lists.push(self.any.as_slice());
        }
        Candidates { lists }
    }
}

/// Merges ascending lists.
pub(super) struct Candidates<'a> {
    lists: SmallVec<[&'a [u32]; 8]>,
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let least = self.lists.iter().filter_map(|list| list.first()).min().copied()?;
        for list in &mut self.lists {
            if let Some((&first, rest)) = list.split_first()
                && first == least
            {
                *list = rest;
            }
        }
        Some(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern() -> impl Strategy<Value = Pattern> {
        (prop::collection::vec(0u32..3, 1..5), any::<bool>()).prop_map(|(arcs, exact)| {
            let oid = Oid::new(arcs).unwrap();
            if exact { Pattern::Exact(oid) } else { Pattern::Subtree(oid) }
        })
    }

    proptest! {
        /// The index finds what asking every rule in turn finds.
        #[test]
        fn candidates_equal_the_naive_walk(
            rules in prop::collection::vec(prop::collection::vec(pattern(), 0..4), 0..12),
            oid in prop::collection::vec(0u32..3, 1..6),
        ) {
            let mut index = TrapIndex::default();
            for (number, patterns) in rules.iter().enumerate() {
                index.add(number as u32, patterns);
            }
            let naive: Vec<u32> = rules
                .iter()
                .enumerate()
                .filter(|(_, patterns)| patterns.is_empty() || patterns.iter().any(|p| p.matches(&oid)))
                .map(|(number, _)| number as u32)
                .collect();
            prop_assert_eq!(index.candidates(&oid).collect::<Vec<_>>(), naive);
        }
    }
}
