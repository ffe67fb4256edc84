//! A bounded sample of what was refused, so that a wrong passphrase or an unknown community is no silence. In memory
//! alone; every refusal is counted, whether or not it is sampled. No community, digest or payload is in it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use parking_lot::Mutex;

use crate::config::settings::Endpoint;
use crate::event::Timestamp;
use crate::metrics::DropReason;
use crate::security::{EngineId, SecurityLevel};
use crate::version::Version;
use crate::wire::{self, Message};

/// How many are held.
const MOST: usize = 1_024;
/// How many of one reason a receiver samples in a second.
const PER_SECOND: u32 = 8;

/// One message that was refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Rises by one with each that was sampled.
    pub number: u64,
    /// When it was received.
    pub time: Timestamp,
    /// Who sent it.
    pub peer: SocketAddr,
    /// Where it came in.
    pub listener: Endpoint,
    /// Why it became no event.
    pub reason: DropReason,
    /// Its version, as far as it could be told.
    pub version: Option<Version>,
    /// Its length.
    pub octets: usize,
    /// What an SNMPv3 message says of its sender; nothing of it is proven.
    pub claimed: Option<Claimed>,
}

/// What an SNMPv3 message says of its sender.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// msgUserName, with what is no ASCII escaped.
    pub user: String,
    /// msgAuthoritativeEngineID; none asks for it.
    pub engine_id: Option<EngineId>,
    /// msgAuthoritativeEngineBoots.
    pub boots: u32,
    /// msgAuthoritativeEngineTime.
    pub time: u32,
    /// What its flags say.
    pub level: SecurityLevel,
}

/// The sample, shared by all receivers. They never wait for it.
#[derive(Debug, Default)]
pub struct Refusals {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    refusals: VecDeque<Refusal>,
    next: u64,
}

impl Refusals {
    /// The newest `most`, newest first.
    #[must_use]
    pub fn newest(&self, most: usize) -> Vec<Refusal> {
        self.ring.lock().refusals.iter().rev().take(most).cloned().collect()
    }

    /// Those behind number `after`, oldest first.
    #[must_use]
    pub fn since(&self, after: u64) -> Vec<Refusal> {
        self.ring.lock().refusals.iter().filter(|refusal| refusal.number > after).cloned().collect()
    }

    /// Keeps one in place of the oldest, unless somebody reads just now.
    fn offer(&self, mut refusal: Refusal) {
        let Some(mut ring) = self.ring.try_lock() else { return };
        ring.next += 1;
        refusal.number = ring.next;
        if ring.refusals.len() >= MOST {
            ring.refusals.pop_front();
        }
        ring.refusals.push_back(refusal);
    }
}

/// Which refusals of one receiver are sampled: the first few of each reason in each second.
#[derive(Debug)]
pub(super) struct Sampler {
    second: i64,
    taken: [u32; DropReason::ALL.len()],
}

impl Default for Sampler {
    fn default() -> Self {
        Self { second: 0, taken: [0; DropReason::ALL.len()] }
    }
}

impl Sampler {
    /// Looks at one refusal. Costs a comparison for almost all of a flood.
    pub(super) fn meet(
        &mut self,
        refusals: &Refusals,
        listener: Endpoint,
        peer: SocketAddr,
        time: Timestamp,
        reason: DropReason,
        octets: &[u8],
    ) {
        // What operators want dropped is no refusal, and a question was answered.
        if matches!(reason, DropReason::Rule | DropReason::Unmatched | DropReason::Discovery) {
            return;
        }
        let second = time.0.div_euclid(1_000_000);
        if second != self.second {
            *self = Self { second, ..Self::default() };
        }
        let taken = &mut self.taken[reason as usize];
        if *taken >= PER_SECOND {
            return;
        }
        *taken += 1;
        let message = wire::decode(octets).ok();
        let claimed = message.as_ref().and_then(|message| match message {
            Message::Community(_) => None,
            Message::V3(message) => Some(Claimed {
                user: message.security.user.escape_ascii().to_string(),
                engine_id: EngineId::new(message.security.engine_id),
                boots: message.security.boots,
                time: message.security.time,
                level: message.flags.level(),
            }),
        });
        let version = message.map(|message| message.version());
        refusals.offer(Refusal {
            number: 0,
            time,
            peer,
            listener,
            reason,
            version,
            octets: octets.len(),
            claimed,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Transport;

    #[test]
    fn a_flood_is_sampled_and_the_newest_stay() {
        let refusals = Refusals::default();
        let mut sampler = Sampler::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let listener = Endpoint { transport: Transport::Udp, address };
        let mut meet = |second: i64, reason| {
            sampler.meet(
                &refusals,
                listener,
                address,
                Timestamp(second * 1_000_000),
                reason,
                b"\x30\x03secret",
            );
        };
        for second in 1..=300 {
            for _ in 0..100 {
                meet(second, DropReason::Truncated);
                meet(second, DropReason::Rule);
            }
            meet(second, DropReason::BadCommunity);
        }
        let all = refusals.newest(usize::MAX);
        assert_eq!(all.len(), MOST);
        assert!(all.iter().all(|refusal| refusal.reason != DropReason::Rule));
        assert_eq!((all[0].number, all[0].reason), (300 * 9, DropReason::BadCommunity));
        assert_eq!(
            refusals.since(300 * 9 - 2).iter().map(|one| one.number).collect::<Vec<_>>(),
            [2_699, 2_700]
        );
        assert!(!format!("{all:?}").contains("secret"));
    }
}
