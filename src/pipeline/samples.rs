//! A bounded sample of recent datagrams, for the rehearsal of a candidate Snapshot.
//!
//! Receivers offer one datagram a batch and never wait: if the ring is taken at that moment, the offer
//! is let go. Held in memory alone, since a datagram holds its community.

use std::collections::VecDeque;
use std::net::SocketAddr;

use parking_lot::Mutex;

use crate::config::settings::Endpoint;

/// The most octets that the ring holds, whatever the number of samples.
const MAX_OCTETS: usize = 4 << 20;

/// One datagram as it came in.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Its octets.
    pub octets: &'a [u8],
    /// Who sent it.
    pub peer: SocketAddr,
    /// The listener's address as the settings had it.
    pub listener: Endpoint,
}

/// The ring. All octets lie in one buffer: thousands of small allocations that live for long would keep the
/// pages of a flood from being given back.
#[derive(Debug, Default)]
pub struct Samples {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    octets: VecDeque<u8>,
    places: VecDeque<Place>,
    limit: usize,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    length: usize,
    peer: SocketAddr,
    listener: Endpoint,
}

/// A copy of what the ring held.
#[derive(Debug)]
pub struct Recent {
    octets: Vec<u8>,
    places: Vec<Place>,
}

impl Recent {
    /// The samples, oldest first; of more than `most` the newest.
    #[must_use]
    pub fn newest(&self, most: usize) -> Vec<Sample<'_>> {
        let mut rest = &*self.octets;
        let samples = self.places.iter().map(|place| {
            let (octets, behind) = rest.split_at(place.length.min(rest.len()));
            rest = behind;
            Sample { octets, peer: place.peer, listener: place.listener }
        });
        samples.skip(self.places.len().saturating_sub(most)).collect()
    }
}

impl Samples {
    /// Holds at most `limit` samples from now on.
    pub fn set_limit(&self, limit: usize) {
        let mut ring = self.ring.lock();
        ring.limit = limit;
        ring.trim(0);
    }

    /// Keeps this datagram in place of the oldest, unless somebody reads the ring just now.
    pub(super) fn offer(&self, octets: &[u8], peer: SocketAddr, listener: Endpoint) {
        let Some(mut ring) = self.ring.try_lock() else { return };
        if ring.limit == 0 {
            return;
        }
        ring.trim(octets.len());
        ring.octets.extend(octets);
        ring.places.push_back(Place { length: octets.len(), peer, listener });
        ring.trim(0);
    }

    /// What is held now. Costs a copy, during which offers are let go.
    #[must_use]
    pub fn recent(&self) -> Recent {
        let ring = self.ring.lock();
        let (front, back) = ring.octets.as_slices();
        Recent { octets: [front, back].concat(), places: ring.places.iter().copied().collect() }
    }
}

impl Ring {
    /// Lets the oldest go until both bounds hold with `more` octets.
    fn trim(&mut self, more: usize) {
        while self.places.len() > self.limit || self.octets.len() + more > MAX_OCTETS {
            let Some(oldest) = self.places.pop_front() else { return };
            self.octets.drain(..oldest.length);
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
        samples.offer(b"x", address, Endpoint::udp(address));
        let all = |samples: &Samples| samples.recent().newest(usize::MAX).len();
        assert_eq!(all(&samples), 0, "no limit was set");
        samples.set_limit(3);
        for octet in 0..5u8 {
            samples.offer(&[octet], address, Endpoint::udp(address));
        }
        let kept = |most| -> Vec<u8> {
            samples.recent().newest(most).iter().flat_map(|sample| sample.octets).copied().collect()
        };
        assert_eq!(kept(100), [2, 3, 4]);
        assert_eq!(kept(2), [3, 4]);
        samples.set_limit(1000);
        for _ in 0..200 {
            samples.offer(&[0; 60_000], address, Endpoint::udp(address));
        }
        let octets: usize =
            samples.recent().newest(usize::MAX).iter().map(|sample| sample.octets.len()).sum();
        assert!(octets <= MAX_OCTETS && octets > MAX_OCTETS - 60_000, "{octets}");
        samples.set_limit(0);
        assert_eq!(all(&samples), 0);
    }
}
