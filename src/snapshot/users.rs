//! Who may send: communities, and SNMPv3 users with the keys that their passphrases become.
//!
//! A passphrase costs milliseconds to turn into its key (RFC 3414 appendix A.2). That happens here, at the
//! build, once for each passphrase and hash, however many users share it; a later generation takes the keys
//! of the one before over where the passphrase is the same.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::config::settings::{Access, KeySource, Secret, UserSettings, any_contains};
use crate::security::AuthProtocol;
use crate::wire::usm::{AuthKey, MasterKey, PrivacyKey};

/// Who may send: what the access settings become.
#[derive(Debug)]
pub struct Users {
    pub(super) access: Arc<Access>,
    users: Vec<User>,
    by_name: HashMap<Arc<str>, Vec<u32>>,
    masters: Masters,
}

/// A user with its keys.
#[derive(Debug, Clone)]
pub struct User {
    /// What the settings say of it.
    pub settings: Arc<UserSettings>,
    /// Where each engine's keys come from.
    pub keys: Arc<UserKeys>,
}

/// Where one user's keys come from. Shared by generations for as long as its secrets are the same.
#[derive(Debug)]
pub struct UserKeys {
    /// Unique in this process: what is remembered of these keys is found by it.
    pub id: u64,
    auth: Option<AuthSource>,
    privacy: Option<PrivacySource>,
}

#[derive(Debug)]
enum AuthSource {
    Master(Arc<MasterKey>),
    Localized(AuthKey),
}

#[derive(Debug)]
enum PrivacySource {
    Master(Arc<MasterKey>, crate::security::PrivacyProtocol),
    Localized(PrivacyKey),
}

impl UserKeys {
    /// The authentication key for `engine_id`: one hash at most.
    #[must_use]
    pub fn auth(&self, engine_id: &[u8]) -> Option<AuthKey> {
        self.auth.as_ref().map(|source| match source {
            AuthSource::Master(master) => master.localize(engine_id),
            AuthSource::Localized(key) => key.clone(),
        })
    }

    /// The privacy key for `engine_id`. With Reeder's lengthening it costs milliseconds
    /// ([`MasterKey::localize_privacy`]): only for who is authenticated.
    #[must_use]
    pub fn privacy(&self, engine_id: &[u8]) -> Option<PrivacyKey> {
        self.privacy.as_ref().map(|source| match source {
            PrivacySource::Master(master, protocol) => master.localize_privacy(*protocol, engine_id),
            PrivacySource::Localized(key) => key.clone(),
        })
    }
}

/// A credential that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

impl Users {
    /// Derives what `previous` has not derived already. Costs 2 to 15 ms for each new passphrase, on all cores.
    pub(super) fn build(access: &Arc<Access>, previous: Option<&Self>) -> Self {
        let mut masters = Masters::default();
        let mut missing = Vec::new();
        for (protocol, secret) in access.users.iter().flat_map(|user| passphrases(user)) {
            let fingerprint = Fingerprint::of(protocol, secret);
            if masters.0.contains_key(&fingerprint) {
                continue;
            }
            match previous.and_then(|previous| previous.masters.0.get(&fingerprint)) {
                Some(known) => drop(masters.0.insert(fingerprint, Arc::clone(known))),
                None if missing.iter().any(|(other, _, _)| *other == fingerprint) => {}
                None => missing.push((fingerprint, protocol, secret)),
            }
        }
        masters.derive(&missing);
        let mut users = Vec::with_capacity(access.users.len());
        let mut by_name: HashMap<Arc<str>, Vec<u32>> = HashMap::new();
        for settings in &access.users {
            let known = previous.and_then(|previous| previous.same_keys(settings));
            let keys = known.unwrap_or_else(|| Arc::new(masters.keys(settings)));
            by_name.entry(Arc::clone(&settings.name)).or_default().push(users.len() as u32);
            users.push(User { settings: Arc::clone(settings), keys });
        }
        Self { access: Arc::clone(access), users, by_name, masters }
    }

    fn same_keys(&self, settings: &UserSettings) -> Option<Arc<UserKeys>> {
        self.named(settings.name.as_bytes())
            .find(|own| own.settings.auth == settings.auth && own.settings.privacy == settings.privacy)
            .map(|own| Arc::clone(&own.keys))
    }

    fn named(&self, name: &[u8]) -> impl Iterator<Item = &User> {
        let name = std::str::from_utf8(name).ok();
        let places = name.and_then(|name| self.by_name.get(name));
        places.into_iter().flatten().filter_map(|&place| self.users.get(place as usize))
    }

    /// Whether `community` is accepted, and under which alias. Compares with every known one in constant time.
    ///
    /// # Errors
    /// `Err` is a refusal: also of any community while there are users and no communities.
    pub fn community(&self, community: &[u8]) -> Result<Option<&Arc<str>>, Refused> {
        let Some(known) = &self.access.communities else {
            return if self.users.is_empty() { Ok(None) } else { Err(Refused) };
        };
        known.iter().find(|own| own.community.matches(community)).map(|own| own.name.as_ref()).ok_or(Refused)
    }

    /// The SNMPv3 user with this name at this engine that sends from this address. Of several, one for that
    /// very engine comes before one for any, then one for the sender's network before one for any, then the
    /// first.
    #[must_use]
    pub fn user(&self, name: &[u8], engine_id: &[u8], peer: IpAddr) -> Option<&User> {
        let mut best: Option<(&User, (bool, bool))> = None;
        for user in self.named(name) {
            let settings = &user.settings;
            let engine = settings.engines.as_ref();
            let fits = engine.is_none_or(|ids| ids.iter().any(|id| id.octets() == engine_id))
                && (settings.sources.is_empty() || any_contains(&settings.sources, peer));
            let rank = (engine.is_some(), !settings.sources.is_empty());
            if fits && best.is_none_or(|(_, known)| rank > known) {
                best = Some((user, rank));
            }
        }
        best.map(|(user, _)| user)
    }

    /// Whether there is any SNMPv3 user at all.
    #[must_use]
    pub fn takes_v3(&self) -> bool {
        !self.users.is_empty()
    }

    /// The numbers of all keys in use ([`UserKeys::id`]).
    pub fn key_ids(&self) -> impl Iterator<Item = u64> {
        self.users.iter().map(|user| user.keys.id)
    }
}

/// The passphrases of a user, each with the hash that it goes through.
fn passphrases(user: &UserSettings) -> impl Iterator<Item = (AuthProtocol, &Secret)> {
    let hash = user.auth.as_ref().map(|auth| auth.protocol);
    let auth = user.auth.as_ref().map(|auth| &auth.secret);
    let privacy = user.privacy.as_ref().map(|privacy| &privacy.secret);
    auth.into_iter().chain(privacy).filter_map(move |source| match source {
        KeySource::Passphrase(secret) => Some((hash?, secret)),
        KeySource::Localized(_) => None,
    })
}

/// Ku of every passphrase in use.
#[derive(Default)]
struct Masters(HashMap<Fingerprint, Arc<MasterKey>>);

impl fmt::Debug for Masters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Masters({} keys)", self.0.len())
    }
}

/// Tells equal secrets without keeping them. As sensitive as they are: overwritten when dropped.
#[derive(Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(protocol: AuthProtocol, secret: &Secret) -> Self {
        let mut hash = Sha256::new();
        hash.update(protocol.as_str());
        hash.update([0]);
        hash.update(secret.expose());
        Self(hash.finalize().into())
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Masters {
    fn derive(&mut self, missing: &[(Fingerprint, AuthProtocol, &Secret)]) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = missing.len().div_ceil(cores).max(1);
        let derived: Vec<Arc<MasterKey>> = std::thread::scope(|scope| {
            let derive = |part: &[(Fingerprint, AuthProtocol, &Secret)]| -> Vec<Arc<MasterKey>> {
                let one = |(_, protocol, secret): &(Fingerprint, AuthProtocol, &Secret)| {
                    Arc::new(MasterKey::from_passphrase(*protocol, secret.expose()))
                };
                part.iter().map(one).collect()
            };
            let mut parts = missing.chunks(share);
            let own = parts.next();
            let others: Vec<_> = parts.map(|part| (part, scope.spawn(move || derive(part)))).collect();
            let mut all = own.map(derive).unwrap_or_default();
            for (part, other) in others {
                // A thread that could not go on leaves its part to this one.
                all.extend(other.join().unwrap_or_else(|_| derive(part)));
            }
            all
        });
        self.0.extend(missing.iter().map(|(fingerprint, ..)| fingerprint.clone()).zip(derived));
    }

    fn keys(&self, user: &UserSettings) -> UserKeys {
        let master = |protocol, secret| self.0.get(&Fingerprint::of(protocol, secret)).map(Arc::clone);
        let auth = user.auth.as_ref().and_then(|auth| match &auth.secret {
            KeySource::Passphrase(secret) => master(auth.protocol, secret).map(AuthSource::Master),
            KeySource::Localized(key) => {
                AuthKey::from_octets(auth.protocol, key.expose()).map(AuthSource::Localized)
            }
        });
        let hash = user.auth.as_ref().map(|auth| auth.protocol);
        let privacy = user.privacy.as_ref().zip(hash).and_then(|(privacy, hash)| match &privacy.secret {
            KeySource::Passphrase(secret) => {
                master(hash, secret).map(|master| PrivacySource::Master(master, privacy.protocol))
            }
            KeySource::Localized(key) => {
                PrivacyKey::from_octets(privacy.protocol, key.expose()).map(PrivacySource::Localized)
            }
        });
        UserKeys { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), auth, privacy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{System, parse};

    fn users(text: &str, previous: Option<&Users>) -> Users {
        let text = format!("access:\n  users:\n{text}");
        let loaded =
            parse("a.yaml", text.as_bytes(), &System).unwrap_or_else(|problems| panic!("{problems}"));
        Users::build(&loaded.settings.access, previous)
    }

    const OPS: &str = "    - {name: ops, auth: {protocol: md5, passphrase: maplesyrup}, privacy: {protocol: des, passphrase: maplesyrup}}\n";
    const ENGINE: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

    #[test]
    fn keys_are_derived_once_for_a_passphrase_and_stay_over_generations() {
        let first = users(OPS, None);
        assert_eq!(first.masters.0.len(), 1, "one passphrase through one hash");
        let ops = first.user(b"ops", ENGINE, PEER).unwrap();
        assert_eq!(ops.keys.auth(ENGINE).unwrap().expose()[..3], [0x52, 0x6f, 0x5e]);
        assert_eq!(ops.keys.privacy(ENGINE).unwrap().expose()[..3], [0x52, 0x6f, 0x5e]);

        let more = users(
            &format!("    - {{name: new, auth: {{protocol: md5, passphrase: maplesyrup}}}}\n{OPS}"),
            Some(&first),
        );
        let same = more.user(b"ops", ENGINE, PEER).unwrap();
        assert!(Arc::ptr_eq(&same.keys, &ops.keys));
        let known = first.masters.0.values().next().unwrap();
        assert!(Arc::ptr_eq(more.masters.0.values().next().unwrap(), known) && more.masters.0.len() == 1);

        let changed = users(&OPS.replace("maplesyrup}}", "another one}}"), Some(&more));
        let other = changed.user(b"ops", ENGINE, PEER).unwrap();
        assert_ne!(other.keys.id, ops.keys.id);
        assert!(changed.masters.0.values().any(|master| Arc::ptr_eq(master, known)), "the first one stays");
        assert_eq!(changed.key_ids().collect::<Vec<_>>(), [other.keys.id]);
    }

    #[test]
    fn the_engine_decides_before_the_source_and_the_source_before_the_order() {
        let users = users(
            "    - {name: a, minimum_level: no_auth_no_priv, lenient_time: true, engines: 0x8000000001}
    - {name: a, sources: 10.0.0.0/8}
    - {name: a}
    - {name: b, engines: 0x8000000002, sources: 192.0.2.0/24}\n",
            None,
        );
        let place = |name: &[u8], engine: &[u8], peer: &str| {
            let found = users.user(name, engine, peer.parse().unwrap())?;
            users.users.iter().position(|user| std::ptr::eq(user, found))
        };
        let (one, two) = (&[0x80, 0, 0, 0, 1], &[0x80, 0, 0, 0, 2]);
        assert_eq!(place(b"a", one, "10.0.0.7"), Some(0));
        assert_eq!(place(b"a", two, "10.0.0.7"), Some(1));
        assert_eq!(place(b"a", two, "::ffff:10.0.0.7"), Some(1));
        assert_eq!(place(b"a", two, "192.0.2.7"), Some(2));
        assert_eq!(place(b"b", two, "192.0.2.7"), Some(3));
        assert_eq!((place(b"b", one, "192.0.2.7"), place(b"b", two, "10.0.0.7")), (None, None));
        assert_eq!((place(b"c", one, "10.0.0.7"), place(b"\xff", one, "10.0.0.7")), (None, None));
        // Without `communities`, users alone may send.
        assert_eq!(users.community(b"public"), Err(Refused));
    }
}
