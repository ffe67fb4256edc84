//! The localised keys that a receiver remembers.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use super::engines::Engine;
use crate::security::EngineId;
use crate::snapshot::Users;
use crate::wire::usm::{AuthKey, PrivacyKey};

/// How many users at engines one receiver remembers, at some 300 octets each.
pub(super) const MOST: usize = 65_536;

/// A user's keys, by their number, at one engine.
pub(super) type Place = (u64, EngineId);

/// What is remembered of a place. Only authenticated messages put something here.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    pub(super) auth: AuthKey,
    /// Made when the first encrypted message has been authenticated.
    pub(super) privacy: Option<PrivacyKey>,
    /// The engine's entry in the shared table; none for this collector's own.
    pub(super) engine: Option<Arc<Engine>>,
}

/// Localised keys, the least recently used ones forgotten: in two halves, of which the older is dropped whole
/// once the younger is full, and a hit moves what it finds to the younger. Dropped keys are overwritten.
#[derive(Debug, Default)]
pub(super) struct LocalizedCache {
    young: HashMap<Place, Remembered>,
    old: HashMap<Place, Remembered>,
    users: usize,
}

impl LocalizedCache {
    /// Forgets the keys of users that are no more. Costs a comparison while the users are the same ones.
    pub(super) fn follow(&mut self, users: &Arc<Users>) {
        let now = Arc::as_ptr(users) as usize;
        if self.users == now {
            return;
        }
        self.users = now;
        let used: HashSet<u64> = users.key_ids().collect();
        self.young.retain(|(id, _), _| used.contains(id));
        self.old.retain(|(id, _), _| used.contains(id));
    }

    pub(super) fn get(&mut self, place: &Place) -> Option<&mut Remembered> {
        if !self.old.is_empty()
            && let Some(found) = self.old.remove(place)
        {
            self.insert(*place, found);
        }
        self.young.get_mut(place)
    }

    pub(super) fn insert(&mut self, place: Place, remembered: Remembered) {
        if self.young.len() >= MOST / 2 {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(place, remembered);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::AuthProtocol;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let auth = AuthKey::from_octets(AuthProtocol::Md5, &[1; 16]).unwrap();
        let remembered = Remembered { auth, privacy: None, engine: None };
        let place = |number: u32| (1, EngineId::new(&[&[0x80], &number.to_be_bytes()[..]].concat()).unwrap());
        let mut cache = LocalizedCache::default();
        for number in 0..3 * MOST as u32 {
            cache.insert(place(number), remembered.clone());
            assert!(cache.len() <= MOST);
            assert!(cache.get(&place(0)).is_some(), "used all the time, gone at {number}");
        }
        assert!(cache.get(&place(1)).is_none());
        assert!(cache.get(&place(3 * MOST as u32 - 1)).is_some());
    }
}
