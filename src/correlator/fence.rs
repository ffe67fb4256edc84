//! How far the receivers have come: the place where a reload learns that no event of an older
//! generation can still arrive, so that alerts may be re-keyed.

use std::collections::BTreeMap;

use crate::event::Generation;

/// The newest generation that each receiver has read.
#[derive(Debug, Default)]
pub(super) struct Fence {
    seen: BTreeMap<u32, Generation>,
}

impl Fence {
    /// None of `receivers` has said anything yet: each stands at generation 0.
    pub(super) fn new(receivers: &[u32]) -> Self {
        Self { seen: receivers.iter().map(|&receiver| (receiver, Generation::default())).collect() }
    }

    /// `receiver` has read `generation`; one that was not known is of a listener that a reload has added.
    pub(super) fn mark(&mut self, receiver: u32, generation: Generation) {
        let seen = self.seen.entry(receiver).or_default();
        *seen = generation.max(*seen);
    }

    /// `receiver` has ended.
    pub(super) fn leave(&mut self, receiver: u32) {
        self.seen.remove(&receiver);
    }

    /// Every receiver has read this generation or a newer one: where there is none, any.
    pub(super) fn lowest(&self) -> Generation {
        self.seen.values().copied().min().unwrap_or(Generation(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_receiver_decides() {
        let mut fence = Fence::new(&[0, 1]);
        assert_eq!(fence.lowest(), Generation(0));
        fence.mark(0, Generation(3));
        assert_eq!(fence.lowest(), Generation(0), "the second receiver has not spoken");
        fence.mark(1, Generation(2));
        assert_eq!(fence.lowest(), Generation(2));
        fence.mark(1, Generation(1));
        assert_eq!(fence.lowest(), Generation(2), "a generation never goes back");
        fence.mark(2, Generation(3));
        assert_eq!(fence.lowest(), Generation(2));
        fence.mark(1, Generation(3));
        assert_eq!(fence.lowest(), Generation(3));
        fence.mark(3, Generation(2));
        fence.leave(3);
        assert_eq!(fence.lowest(), Generation(3), "who has left holds nothing up");
        (0..3).for_each(|receiver| fence.leave(receiver));
        assert_eq!(fence.lowest(), Generation(u64::MAX), "nobody is left who could hand over anything");
    }
}
