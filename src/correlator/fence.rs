//! How far the receivers have come: the place where a reload learns that no event of an older
//! generation can still arrive, so that alerts may be re-keyed.

use crate::event::Generation;

/// The newest generation that each receiver has read.
#[derive(Debug, Default)]
pub(super) struct Fence {
    seen: Vec<Generation>,
}

impl Fence {
    /// None of `receivers` has said anything yet: each stands at generation 0.
    pub(super) fn new(receivers: usize) -> Self {
        Self { seen: vec![Generation::default(); receivers] }
    }

    /// `receiver` has read `generation`. Receivers are numbered densely from 0 by this program, so that one
    /// beyond the known number is a listener that a reload has added.
    pub(super) fn mark(&mut self, receiver: u32, generation: Generation) {
        let place = receiver as usize;
        if place >= self.seen.len() {
            self.seen.resize(place + 1, Generation::default());
        }
        let seen = &mut self.seen[place];
        *seen = generation.max(*seen);
    }

    /// Every receiver has read this generation or a newer one.
    pub(super) fn lowest(&self) -> Generation {
        self.seen.iter().copied().min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_receiver_decides() {
        let mut fence = Fence::new(2);
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
    }
}
