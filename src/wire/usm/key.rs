//! Keys: from a passphrase (RFC 3414 appendix A.2) to those of one engine (section 2.6), and the two ways of
//! lengthening them for AES-192, AES-256 and 3DES.
//!
//! Every key is overwritten when it is dropped, and prints as nothing but its protocol.

use std::fmt;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::security::{AuthProtocol, PrivacyProtocol, SecurityLevel};

/// The longest key, that of SHA-512.
const MAX_KEY: usize = 64;
/// What a passphrase is repeated to before it is hashed (RFC 3414 appendix A.2).
const EXPANDED: usize = 1 << 20;

/// A key's octets, on the stack, overwritten when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Octets {
    octets: [u8; MAX_KEY],
    length: usize,
}

impl Octets {
    /// The first `length` of `octets`.
    fn of(octets: &[u8], length: usize) -> Option<Self> {
        let mut own = Self { octets: [0; MAX_KEY], length };
        own.octets.get_mut(..length)?.copy_from_slice(octets.get(..length)?);
        Some(own)
    }

    fn get(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

/// Ku: what a passphrase becomes, for any engine.
#[derive(Clone)]
pub struct MasterKey {
    protocol: AuthProtocol,
    key: Octets,
}

/// A user's authentication key, localised to one engine.
#[derive(Clone)]
pub struct AuthKey {
    protocol: AuthProtocol,
    key: Octets,
}

/// A user's privacy key, localised to one engine; for DES and 3DES with the pre-IV behind it.
#[derive(Clone)]
pub struct PrivacyKey {
    protocol: PrivacyProtocol,
    key: Octets,
}

/// What one user needs for one engine. Without an authentication key there is no privacy key.
#[derive(Debug, Clone, Default)]
pub struct LocalizedKeys {
    /// For the digest.
    pub auth: Option<AuthKey>,
    /// For the scoped PDU.
    pub privacy: Option<PrivacyKey>,
}

impl LocalizedKeys {
    /// The strongest level that they serve.
    #[must_use]
    pub fn level(&self) -> SecurityLevel {
        match (&self.auth, &self.privacy) {
            (None, _) => SecurityLevel::NoAuthNoPriv,
            (Some(_), None) => SecurityLevel::AuthNoPriv,
            (Some(_), Some(_)) => SecurityLevel::AuthPriv,
        }
    }
}

impl MasterKey {
    /// Hashes `passphrase`, repeated to 1 MiB. Costs milliseconds: never for a packet. An empty passphrase is
    /// taken as one zero octet; settings let none below eight octets through (RFC 3414 section 11.2).
    #[must_use]
    pub fn from_passphrase(protocol: AuthProtocol, passphrase: &[u8]) -> Self {
        Self { protocol, key: expanded(protocol, passphrase) }
    }

    /// The authentication key for `engine_id`: one hash of some hundred octets (RFC 3414 section 2.6).
    #[must_use]
    pub fn localize(&self, engine_id: &[u8]) -> AuthKey {
        AuthKey { protocol: self.protocol, key: localized(self.protocol, self.key.get(), engine_id) }
    }

    /// The privacy key for `engine_id`: as [`localize`](Self::localize), and where the protocol needs a longer
    /// key, lengthened. That costs some hashes more with Blumenthal's way, and a hash of 1 MiB with Reeder's
    /// (`3des`, `aes192c`, `aes256c`), which is milliseconds: only once the sender is authenticated.
    #[must_use]
    pub fn localize_privacy(&self, protocol: PrivacyProtocol, engine_id: &[u8]) -> PrivacyKey {
        let hash = self.protocol;
        let first = localized(hash, self.key.get(), engine_id);
        let wanted = protocol.key_octets();
        let mut octets = Zeroizing::new(Vec::with_capacity(2 * MAX_KEY));
        octets.extend_from_slice(first.get());
        let reeder = matches!(
            protocol,
            PrivacyProtocol::TripleDes | PrivacyProtocol::Aes192C | PrivacyProtocol::Aes256C
        );
        let mut last = first;
        while octets.len() < wanted {
            last = if reeder {
                localized(hash, expanded(hash, last.get()).get(), engine_id)
            } else {
                hashed(hash, &[&octets])
            };
            octets.extend_from_slice(last.get());
        }
        let key = Octets::of(&octets, wanted).unwrap_or(last);
        PrivacyKey { protocol, key }
    }
}

impl AuthKey {
    /// A key that was localised elsewhere; `None` where it has not the octets of `protocol`'s keys.
    #[must_use]
    pub fn from_octets(protocol: AuthProtocol, octets: &[u8]) -> Option<Self> {
        let length = protocol.key_octets();
        (octets.len() == length).then(|| Octets::of(octets, length))?.map(|key| Self { protocol, key })
    }

    /// The protocol that it is for.
    #[must_use]
    pub fn protocol(&self) -> AuthProtocol {
        self.protocol
    }

    /// The octets; never to be printed.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.key.get()
    }
}

impl PrivacyKey {
    /// A key that was localised elsewhere; `None` where it has not the octets of `protocol`'s keys.
    #[must_use]
    pub fn from_octets(protocol: PrivacyProtocol, octets: &[u8]) -> Option<Self> {
        let length = protocol.key_octets();
        (octets.len() == length).then(|| Octets::of(octets, length))?.map(|key| Self { protocol, key })
    }

    /// The protocol that it is for.
    #[must_use]
    pub fn protocol(&self) -> PrivacyProtocol {
        self.protocol
    }

    /// The octets; never to be printed.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.key.get()
    }
}

macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({}, [redacted])", stringify!($name), self.protocol)
            }
        }
    )*};
}

redacted!(MasterKey, AuthKey, PrivacyKey);

fn localized(hash: AuthProtocol, key: &[u8], engine_id: &[u8]) -> Octets {
    hashed(hash, &[key, engine_id, key])
}

fn hashed(hash: AuthProtocol, parts: &[&[u8]]) -> Octets {
    fn run<D: Digest>(parts: &[&[u8]]) -> Octets {
        let mut digest = D::new();
        parts.iter().for_each(|part| digest.update(part));
        finish(digest)
    }
    match hash {
        AuthProtocol::Md5 => run::<Md5>(parts),
        AuthProtocol::Sha1 => run::<Sha1>(parts),
        AuthProtocol::Sha224 => run::<Sha224>(parts),
        AuthProtocol::Sha256 => run::<Sha256>(parts),
        AuthProtocol::Sha384 => run::<Sha384>(parts),
        AuthProtocol::Sha512 => run::<Sha512>(parts),
    }
}

fn expanded(hash: AuthProtocol, passphrase: &[u8]) -> Octets {
    fn run<D: Digest>(passphrase: &[u8]) -> Octets {
        // Whole repetitions in pieces of some kilobytes, so that the hash gets many blocks a call.
        let passphrase = if passphrase.is_empty() { &[0] } else { passphrase };
        let piece = Zeroizing::new(passphrase.repeat(4096_usize.div_ceil(passphrase.len())));
        let mut digest = D::new();
        let mut left = EXPANDED;
        while left > 0 {
            let take = left.min(piece.len());
            digest.update(&piece[..take]);
            left -= take;
        }
        finish(digest)
    }
    #[cfg(test)]
    DERIVED.with(|derived| derived.set(derived.get() + 1));
    match hash {
        AuthProtocol::Md5 => run::<Md5>(passphrase),
        AuthProtocol::Sha1 => run::<Sha1>(passphrase),
        AuthProtocol::Sha224 => run::<Sha224>(passphrase),
        AuthProtocol::Sha256 => run::<Sha256>(passphrase),
        AuthProtocol::Sha384 => run::<Sha384>(passphrase),
        AuthProtocol::Sha512 => run::<Sha512>(passphrase),
    }
}

#[cfg(test)]
thread_local! {
    static DERIVED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// How many hashes of 1 MiB this thread has made: what no forged packet may cost.
#[cfg(test)]
pub(crate) fn derived() -> u32 {
    DERIVED.with(std::cell::Cell::get)
}

fn finish(digest: impl Digest) -> Octets {
    let mut out = digest.finalize();
    let mut own = Octets { octets: [0; MAX_KEY], length: out.len().min(MAX_KEY) };
    own.octets[..own.length].copy_from_slice(&out[..own.length]);
    out.as_mut_slice().zeroize();
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn the_vectors_of_rfc_3414_appendix_a() {
        for (protocol, passphrase, ku, kul) in [
            (
                AuthProtocol::Md5,
                "maplesyrup",
                "9faf3283884e92834ebc9847d8edd963",
                "526f5eed9fcce26f8964c2930787d82b",
            ),
            (
                AuthProtocol::Sha1,
                "maplesyrup",
                "9fb5cc0381497b3793528939ff788d5d79145211",
                "6695febc9288e36282235fc7151f128497b38f3f",
            ),
            (AuthProtocol::Sha1, "newsyrup", "", "78e2dcce79d59403b58c1bbaa5bff46391f1cd25"),
        ] {
            let master = MasterKey::from_passphrase(protocol, passphrase.as_bytes());
            assert!(ku.is_empty() || hex(master.key.get()) == ku);
            assert_eq!(hex(master.localize(&ENGINE).expose()), kul);
        }
    }

    #[test]
    fn both_ways_of_lengthening() {
        let master = MasterKey::from_passphrase(AuthProtocol::Md5, b"maplesyrup");
        let key = |protocol| hex(master.localize_privacy(protocol, &ENGINE).expose());
        assert_eq!(
            key(PrivacyProtocol::Aes256),
            "526f5eed9fcce26f8964c2930787d82bfa24a92467426c2f4b09192be10dfaec"
        );
        assert_eq!(
            key(PrivacyProtocol::Aes256C),
            "526f5eed9fcce26f8964c2930787d82b79eff44a90650ee0a3a40abfac5acc12"
        );
        assert_eq!(key(PrivacyProtocol::Des), "526f5eed9fcce26f8964c2930787d82b");
    }

    #[test]
    fn no_key_is_shown() {
        let master = MasterKey::from_passphrase(AuthProtocol::Md5, b"maplesyrup");
        assert_eq!(format!("{master:?}"), "MasterKey(md5, [redacted])");
        assert_eq!(format!("{:?}", master.localize(&ENGINE)), "AuthKey(md5, [redacted])");
        let privacy = master.localize_privacy(PrivacyProtocol::Aes256, &ENGINE);
        assert_eq!(format!("{privacy:?}"), "PrivacyKey(aes256, [redacted])");
    }

    #[test]
    fn a_key_from_elsewhere_has_the_protocols_length() {
        for protocol in AuthProtocol::ALL {
            let octets = vec![7; protocol.key_octets()];
            assert_eq!(AuthKey::from_octets(protocol, &octets).unwrap().expose(), octets);
            assert!(AuthKey::from_octets(protocol, &octets[1..]).is_none());
            assert!(AuthKey::from_octets(protocol, &[7; 65]).is_none());
        }
        for protocol in PrivacyProtocol::ALL {
            assert!(PrivacyKey::from_octets(protocol, &vec![7; protocol.key_octets()]).is_some());
            assert!(PrivacyKey::from_octets(protocol, &vec![7; protocol.key_octets() + 1]).is_none());
        }
    }
}
