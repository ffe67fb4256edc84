//! Authentication: HMAC over the whole message, with the digest's own octets as zeros (RFC 3414 section 6.3,
//! RFC 7860 section 4.2).

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use super::header::V3Header;
use super::key::AuthKey;
use crate::security::AuthProtocol;

/// The longest truncated digest.
const MAX_DIGEST: usize = 48;
/// The longest digest.
const MAX_FULL: usize = 64;

impl AuthKey {
    /// Whether the digest of `message` is its sender's. Its length has to be exactly the protocol's: a shorter
    /// one would be guessed (CVE-2008-0960). Compares in constant time, and allocates nothing.
    #[must_use]
    pub fn verifies(&self, message: &V3Header<'_>) -> bool {
        let sent = message.security.authentication;
        let length = self.protocol().digest_octets();
        if sent.len() != length {
            return false;
        }
        let at = message.security.authentication_offset as usize;
        let (Some(before), Some(behind)) = (message.message.get(..at), message.message.get(at + length..))
        else {
            return false;
        };
        let own = self.digest(&[before, &[0; MAX_DIGEST][..length], behind]);
        own[..length].ct_eq(sent).into()
    }

    /// Puts the digest of `message` at `at`, where the protocol's number of zeros stands.
    pub(super) fn sign(&self, message: &mut [u8], at: usize) {
        let own = self.digest(&[message]);
        let length = self.protocol().digest_octets();
        if let Some(place) = message.get_mut(at..at + length) {
            debug_assert!(place.iter().all(|&octet| octet == 0));
            place.copy_from_slice(&own[..length]);
        }
    }

    fn digest(&self, parts: &[&[u8]]) -> [u8; MAX_FULL] {
        fn run<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> [u8; MAX_FULL] {
            let mut out = [0; MAX_FULL];
            // HMAC takes keys of any length.
            let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return out };
            parts.iter().for_each(|part| mac.update(part));
            let tag = mac.finalize().into_bytes();
            out[..tag.len()].copy_from_slice(&tag);
            out
        }
        let key = self.expose();
        match self.protocol() {
            AuthProtocol::Md5 => run::<Hmac<Md5>>(key, parts),
            AuthProtocol::Sha1 => run::<Hmac<Sha1>>(key, parts),
            AuthProtocol::Sha224 => run::<Hmac<Sha224>>(key, parts),
            AuthProtocol::Sha256 => run::<Hmac<Sha256>>(key, parts),
            AuthProtocol::Sha384 => run::<Hmac<Sha384>>(key, parts),
            AuthProtocol::Sha512 => run::<Hmac<Sha512>>(key, parts),
        }
    }
}
