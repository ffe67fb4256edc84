//! A bounded sample of recent datagrams, for the rehearsal of a candidate Snapshot.
//!
//! Receivers offer one datagram a batch and never wait: if the ring is taken at that moment, the offer
//! is let go. Held in memory alone, since a datagram holds its community.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// The most octets that the ring holds, whatever the number of samples.
const MAX_OCTETS: usize = 4 << 20;

/// One datagram as it came in.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its octets.
    pub octets: Arc<[u8]>,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The listener's address as the settings had it.
    pub listener: SocketAddr,
}

/// The ring.
#[derive(Debug, Default)]
pub struct Samples {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    samples: VecDeque<Sample>,
    octets: usize,
    limit: usize,
}

impl Samples {
    /// Holds at most `limit` samples from now on.
    pub fn set_limit(&self, limit: usize) {
        let mut ring = self.ring.lock();
        ring.limit = limit;
        ring.trim();
    }

    /// Keeps this datagram in place of the oldest, unless somebody reads the ring just now.
    pub(super) fn offer(&self, octets: &[u8], peer: SocketAddr, listener: SocketAddr) {
        let Some(mut ring) = self.ring.try_lock() else { return };
        if ring.limit == 0 {
            return;
        }
        ring.octets += octets.len();
        ring.samples.push_back(Sample { octets: octets.into(), peer, listener });
        ring.trim();
    }

    /// What is held now, oldest first. The octets are shared.
    #[must_use]
    pub fn recent(&self) -> Vec<Sample> {
        self.ring.lock().samples.iter().cloned().collect()
    }
}

impl Ring {
    fn trim(&mut self) {
        while self.samples.len() > self.limit || self.octets > MAX_OCTETS {
            let Some(oldest) = self.samples.pop_front() else { return };
            self.octets -= oldest.octets.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_within_both_bounds() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let samples = Samples::default();
        samples.offer(b"x", address, address);
        assert!(samples.recent().is_empty(), "no limit was set");
        samples.set_limit(3);
        for octet in 0..5u8 {
            samples.offer(&[octet], address, address);
        }
        let kept: Vec<u8> = samples.recent().iter().map(|sample| sample.octets[0]).collect();
        assert_eq!(kept, [2, 3, 4]);
        samples.set_limit(1000);
        for _ in 0..200 {
            samples.offer(&[0; 60_000], address, address);
        }
        assert!(samples.recent().iter().map(|sample| sample.octets.len()).sum::<usize>() <= MAX_OCTETS);
        samples.set_limit(0);
        assert!(samples.recent().is_empty());
    }
}
