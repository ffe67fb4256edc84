//! The words of SNMPv3 security: levels, protocols, engine IDs. A leaf, since codec, settings, events and
//! the command line all speak of them. No cryptography here: that is `wire::usm`.

use std::fmt;
use std::str::FromStr;

/// How a message is protected (RFC 3411 section 3.4.3), in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecurityLevel {
    /// Neither authenticated nor encrypted.
    NoAuthNoPriv,
    /// Authenticated.
    AuthNoPriv,
    /// Authenticated and encrypted.
    AuthPriv,
}

impl SecurityLevel {
    /// All of them, in rising order.
    pub const ALL: [Self; 3] = [Self::NoAuthNoPriv, Self::AuthNoPriv, Self::AuthPriv];

    /// As configuration, JSON and the command line write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoAuthNoPriv => "no_auth_no_priv",
            Self::AuthNoPriv => "auth_no_priv",
            Self::AuthPriv => "auth_priv",
        }
    }
}

/// An authentication protocol of the user-based security model: HMAC over one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthProtocol {
    /// HMAC-MD5-96 (RFC 3414 section 6). Broken as a hash; devices exist that know no other.
    Md5,
    /// HMAC-SHA-96 (RFC 3414 section 7).
    Sha1,
    /// HMAC-SHA-224, 128 bits (RFC 7860).
    Sha224,
    /// HMAC-SHA-256, 192 bits (RFC 7860).
    Sha256,
    /// HMAC-SHA-384, 256 bits (RFC 7860).
    Sha384,
    /// HMAC-SHA-512, 384 bits (RFC 7860).
    Sha512,
}

impl AuthProtocol {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Md5, Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// As configuration and the command line write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The octets of a key, which are those of the hash.
    #[must_use]
    pub const fn key_octets(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The octets of msgAuthenticationParameters: the truncated digest.
    #[must_use]
    pub const fn digest_octets(self) -> usize {
        match self {
            Self::Md5 | Self::Sha1 => 12,
            Self::Sha224 => 16,
            Self::Sha256 => 24,
            Self::Sha384 => 32,
            Self::Sha512 => 48,
        }
    }
}

/// A privacy protocol of the user-based security model. AES beyond 128 bits has no RFC: two ways to lengthen
/// a key are in use, which no message tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrivacyProtocol {
    /// CBC-DES (RFC 3414 section 8). 56 bits: no protection against anybody who means it.
    Des,
    /// CBC-3DES-EDE (draft-reeder-snmpv3-usm-3desede).
    TripleDes,
    /// CFB128-AES-128 (RFC 3826).
    Aes128,
    /// CFB128-AES-192 with keys lengthened as draft-blumenthal-aes-usm has it.
    Aes192,
    /// CFB128-AES-256 with keys lengthened as draft-blumenthal-aes-usm has it.
    Aes256,
    /// CFB128-AES-192 with keys lengthened as draft-reeder-snmpv3-usm-3desede has it: Cisco's.
    Aes192C,
    /// CFB128-AES-256 with keys lengthened as draft-reeder-snmpv3-usm-3desede has it: Cisco's.
    Aes256C,
}

impl PrivacyProtocol {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Des, Self::TripleDes, Self::Aes128, Self::Aes192, Self::Aes256, Self::Aes192C, Self::Aes256C];

    /// As configuration and the command line write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Des => "des",
            Self::TripleDes => "3des",
            Self::Aes128 => "aes128",
            Self::Aes192 => "aes192",
            Self::Aes256 => "aes256",
            Self::Aes192C => "aes192c",
            Self::Aes256C => "aes256c",
        }
    }

    /// The octets of a localised key: for DES and 3DES the pre-IV of eight octets included.
    #[must_use]
    pub const fn key_octets(self) -> usize {
        match self {
            Self::Des | Self::Aes128 => 16,
            Self::Aes192 | Self::Aes192C => 24,
            Self::TripleDes | Self::Aes256 | Self::Aes256C => 32,
        }
    }
}

/// SnmpEngineID (RFC 3411 section 5): 5 to 32 octets. Prints as hexadecimal digits.
#[derive(Clone, Copy)]
pub struct EngineId {
    octets: [u8; Self::MAX],
    length: u8,
}

impl EngineId {
    /// The fewest octets.
    pub const MIN: usize = 5;
    /// The most octets.
    pub const MAX: usize = 32;

    /// Takes `octets`; `None` where there are too few or too many.
    #[must_use]
    pub fn new(octets: &[u8]) -> Option<Self> {
        if !(Self::MIN..=Self::MAX).contains(&octets.len()) {
            return None;
        }
        let mut own = [0; Self::MAX];
        own[..octets.len()].copy_from_slice(octets);
        Some(Self { octets: own, length: octets.len() as u8 })
    }

    /// The octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

impl PartialEq for EngineId {
    fn eq(&self, other: &Self) -> bool {
        self.octets() == other.octets()
    }
}

impl Eq for EngineId {}

impl std::hash::Hash for EngineId {
    /// As the octets alone, so that a table is asked by a slice.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.octets().hash(state);
    }
}

impl std::borrow::Borrow<[u8]> for EngineId {
    fn borrow(&self) -> &[u8] {
        self.octets()
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.octets().iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EngineId {
    type Err = &'static str;

    /// Reads hexadecimal digits, with or without `0x` and with colons or blanks between octets.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octets =
            octets_of_hex(text).ok_or("an engine ID is written in hexadecimal digits, two an octet")?;
        let id = Self::new(&octets).ok_or("an engine ID has 5 to 32 octets")?;
        // RFC 3411 section 5: neither all zeros nor all ones.
        if octets.iter().all(|&octet| octet == 0) || octets.iter().all(|&octet| octet == 0xff) {
            return Err("an engine ID is neither all zeros nor all ones");
        }
        Ok(id)
    }
}

/// The octets that hexadecimal digits say, two an octet: `0x` may lead; colons, hyphens and blanks may stand
/// between octets.
#[must_use]
pub fn octets_of_hex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let mut octets = Vec::with_capacity(text.len() / 2);
    for group in text.split([':', ' ', '-']) {
        if !group.len().is_multiple_of(2) || !group.is_ascii() {
            return None;
        }
        for at in (0..group.len()).step_by(2) {
            let pair = &group[at..at + 2];
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            octets.push(u8::from_str_radix(pair, 16).ok()?);
        }
    }
    Some(octets)
}

macro_rules! words {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                Self::ALL.into_iter().find(|own| own.as_str() == text).ok_or(())
            }
        }
    )*};
}

words!(SecurityLevel, AuthProtocol, PrivacyProtocol);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_ids_are_read_and_shown() {
        for text in
            ["0x8000000001020304", "8000000001020304", "80:00:00:00:01:02:03:04", "80 00 00 00 01 02 03 04"]
        {
            let id: EngineId = text.parse().unwrap();
            assert_eq!(id.octets(), [0x80, 0, 0, 0, 1, 2, 3, 4], "{text}");
            assert_eq!(id.to_string(), "8000000001020304");
        }
        for text in ["", "80", "8000000", "80000000010203xy", "0000000000", "ffffffffff", "8000000001é"] {
            assert!(text.parse::<EngineId>().is_err(), "{text}");
        }
        assert!("01".repeat(32).parse::<EngineId>().is_ok());
        assert!("01".repeat(33).parse::<EngineId>().is_err());
    }

    #[test]
    fn words_are_read_back() {
        for protocol in PrivacyProtocol::ALL {
            assert_eq!(protocol.as_str().parse(), Ok(protocol));
        }
        for protocol in AuthProtocol::ALL {
            assert_eq!(protocol.as_str().parse(), Ok(protocol));
            assert!(protocol.digest_octets() <= protocol.key_octets());
        }
        assert!(SecurityLevel::ALL.is_sorted());
    }
}
