//! Object identifiers: owned, borrowed, and as they stand on the wire.
//!
//! * [`Oid`] owns its arcs and always holds 1 to [`MAX_ARCS`] of them.
//! * [`OidRef`] borrows arcs, which is what the trie and the rule index compare.
//! * [`EncodedOid`] borrows the contents octets of a BER OBJECT IDENTIFIER that
//!   were validated once, so that walking them later cannot fail.
//!
//! Order is lexicographic by arc, as RFC 3416 section 4.2.2 orders MIB variables.

use std::fmt;
use std::str::FromStr;

/// The most arcs an OID may have (RFC 2578 section 3.5).
pub const MAX_ARCS: usize = 128;

/// Why a text or an encoding is no OID. Copy, so that it costs nothing to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OidError {
    /// Nothing between the delimiters, or no octets at all.
    Empty,
    /// A component is no decimal number, or a sub-identifier passes 2^32-1.
    Arc,
    /// More than [`MAX_ARCS`] arcs.
    TooLong,
    /// The last octet of the encoding announces another one (X.690 section 8.19.2).
    Unterminated,
}

impl fmt::Display for OidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an OID needs at least one arc",
            Self::Arc => "an OID's arc is a number from 0 to 4294967295",
            Self::TooLong => "an OID has at most 128 arcs",
            Self::Unterminated => "the OID's last octet announces another one",
        })
    }
}

impl std::error::Error for OidError {}

/// An owned OID of 1 to [`MAX_ARCS`] arcs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(Box<[u32]>);

impl Oid {
    /// Takes over `arcs`.
    ///
    /// # Errors
    /// [`OidError::Empty`] and [`OidError::TooLong`].
    pub fn new(arcs: impl Into<Box<[u32]>>) -> Result<Self, OidError> {
        let arcs = arcs.into();
        match arcs.len() {
            0 => Err(OidError::Empty),
            1..=MAX_ARCS => Ok(Self(arcs)),
            _ => Err(OidError::TooLong),
        }
    }

    /// The arcs, first to last.
    #[must_use]
    pub fn arcs(&self) -> &[u32] {
        &self.0
    }

    /// A borrow of the whole OID.
    #[must_use]
    pub fn borrow(&self) -> OidRef<'_> {
        OidRef(&self.0)
    }

    /// Whether `self` equals `prefix` or lies below it.
    #[must_use]
    pub fn starts_with(&self, prefix: &[u32]) -> bool {
        self.0.starts_with(prefix)
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.borrow().fmt(f)
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.borrow().fmt(f)
    }
}

impl FromStr for Oid {
    type Err = OidError;

    /// Dotted decimal, with or without the leading dot that net-snmp prints.
    fn from_str(text: &str) -> Result<Self, OidError> {
        let text = text.strip_prefix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(OidError::Empty);
        }
        let mut arcs = Vec::new();
        for part in text.split('.') {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(OidError::Arc);
            }
            if arcs.len() == MAX_ARCS {
                return Err(OidError::TooLong);
            }
            arcs.push(part.parse().map_err(|_| OidError::Arc)?);
        }
        Self::new(arcs)
    }
}

/// A borrow of arcs; prints as dotted decimal without a leading dot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OidRef<'a>(pub &'a [u32]);

impl OidRef<'_> {
    /// An owned copy; `None` where the borrow is empty or longer than [`MAX_ARCS`].
    #[must_use]
    pub fn to_oid(self) -> Option<Oid> {
        Oid::new(self.0).ok()
    }
}

impl fmt::Display for OidRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, arc) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            write!(f, "{arc}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for OidRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An OID decoded into a fixed place on the stack: no allocation, at most [`MAX_ARCS`] arcs.
#[derive(Clone, Copy)]
pub struct OidArray {
    len: u8,
    arcs: [u32; MAX_ARCS],
}

impl Default for OidArray {
    fn default() -> Self {
        Self { len: 0, arcs: [0; MAX_ARCS] }
    }
}

impl OidArray {
    /// Empties it and keeps the place.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends one arc.
    ///
    /// # Errors
    /// [`OidError::TooLong`], with nothing changed.
    pub fn push(&mut self, arc: u32) -> Result<(), OidError> {
        let slot = self.arcs.get_mut(usize::from(self.len)).ok_or(OidError::TooLong)?;
        *slot = arc;
        self.len += 1;
        Ok(())
    }

    /// Appends all of `arcs`.
    ///
    /// # Errors
    /// [`OidError::TooLong`]; what fitted stays.
    pub fn extend(&mut self, arcs: impl IntoIterator<Item = u32>) -> Result<(), OidError> {
        arcs.into_iter().try_for_each(|arc| self.push(arc))
    }

    /// The arcs that were pushed.
    #[must_use]
    pub fn arcs(&self) -> &[u32] {
        &self.arcs[..usize::from(self.len)]
    }
}

impl fmt::Debug for OidArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OidRef(self.arcs()).fmt(f)
    }
}

/// The contents octets of a BER OBJECT IDENTIFIER (X.690 section 8.19), checked on construction:
/// not empty, terminated, every sub-identifier within 32 bits and in its shortest form, at most
/// [`MAX_ARCS`] arcs. So two of them hold the same octets exactly when they hold the same arcs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncodedOid<'a>(&'a [u8]);

impl<'a> EncodedOid<'a> {
    /// Checks `contents` in one pass: 3 ns for a usual name, 1 ns an octet where arcs pass 127.
    ///
    /// # Errors
    /// Every [`OidError`]; a padded sub-identifier (X.690 section 8.19.2) is [`OidError::Arc`].
    #[inline]
    pub fn new(contents: &'a [u8]) -> Result<Self, OidError> {
        if contents.is_empty() {
            return Err(OidError::Empty);
        }
        // Nearly every arc is below 128; then each octet is an arc, and nothing else can be wrong.
        let arcs = if any_continued(contents) { count_arcs(contents)? } else { contents.len() + 1 };
        if arcs > MAX_ARCS {
            return Err(OidError::TooLong);
        }
        Ok(Self(contents))
    }

    /// The contents octets.
    #[must_use]
    pub fn octets(self) -> &'a [u8] {
        self.0
    }

    /// The arcs, first to last. Cannot fail: the octets were checked.
    pub fn arcs(self) -> impl Iterator<Item = u32> + Clone + 'a {
        Arcs { octets: self.0, pending: None, first: true }
    }

    /// Decodes into `into`, which is emptied before.
    pub fn decode_into(self, into: &mut OidArray) {
        into.clear();
        // Checked in `new`: never more than MAX_ARCS.
        let _ = into.extend(self.arcs());
    }

    /// An owned copy.
    #[must_use]
    pub fn to_oid(self) -> Oid {
        Oid(self.arcs().collect())
    }
}

/// Whether any octet has the bit that announces another one.
#[inline]
fn any_continued(octets: &[u8]) -> bool {
    let Some(tail) = octets.last_chunk::<8>() else {
        return octets.iter().fold(0, |seen, &octet| seen | octet) & 0x80 != 0;
    };
    // Whole words, and the last eight octets again for what is left of the last word.
    let words = octets.as_chunks::<8>().0.iter();
    let seen = words.fold(u64::from_ne_bytes(*tail), |seen, word| seen | u64::from_ne_bytes(*word));
    seen & 0x8080_8080_8080_8080 != 0
}

/// How many arcs are encoded, each sub-identifier checked.
fn count_arcs(octets: &[u8]) -> Result<usize, OidError> {
    // The first sub-identifier carries two arcs, and may hold 80 more than one: 2.(2^32-1) is 2^32+79.
    let mut limit = u64::from(u32::MAX) + 80;
    let mut arcs = 1;
    let mut value = 0u64;
    let mut inside = false;
    for &octet in octets {
        if octet == 0x80 && !inside {
            return Err(OidError::Arc);
        }
        value = value << 7 | u64::from(octet & 0x7f);
        if value > limit {
            return Err(OidError::Arc);
        }
        inside = octet & 0x80 != 0;
        if !inside {
            arcs += 1;
            value = 0;
            limit = u32::MAX.into();
        }
    }
    if inside { Err(OidError::Unterminated) } else { Ok(arcs) }
}

impl fmt::Display for EncodedOid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, arc) in self.arcs().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            write!(f, "{arc}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for EncodedOid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone)]
struct Arcs<'a> {
    octets: &'a [u8],
    pending: Option<u32>,
    first: bool,
}

impl Iterator for Arcs<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if let Some(arc) = self.pending.take() {
            return Some(arc);
        }
        let mut value = 0u64;
        let mut used = 0;
        for &octet in self.octets {
            used += 1;
            value = value << 7 | u64::from(octet & 0x7f);
            if octet & 0x80 == 0 {
                break;
            }
        }
        if used == 0 {
            return None;
        }
        self.octets = &self.octets[used..];
        if !self.first {
            return Some(value as u32);
        }
        self.first = false;
        let root = (value / 40).min(2);
        self.pending = Some((value - root * 40) as u32);
        Some(root as u32)
    }
}

/// Appends the contents octets of `arcs` to `out`. The inverse of [`EncodedOid::arcs`].
///
/// # Errors
/// [`OidError::Empty`] for fewer than two arcs, [`OidError::Arc`] where the first two cannot be
/// encoded (X.690 section 8.19.4), [`OidError::TooLong`].
pub fn encode(arcs: &[u32], out: &mut Vec<u8>) -> Result<(), OidError> {
    let [first, second, rest @ ..] = arcs else {
        return Err(OidError::Empty);
    };
    if arcs.len() > MAX_ARCS {
        return Err(OidError::TooLong);
    }
    if *first > 2 || (*first < 2 && *second > 39) {
        return Err(OidError::Arc);
    }
    push_base128(u64::from(*first) * 40 + u64::from(*second), out);
    for &arc in rest {
        push_base128(u64::from(arc), out);
    }
    Ok(())
}

fn push_base128(value: u64, out: &mut Vec<u8>) {
    let groups = (64 - value.max(1).leading_zeros()).div_ceil(7);
    for group in (0..groups).rev() {
        let more = if group > 0 { 0x80 } else { 0 };
        out.push((value >> (7 * group)) as u8 & 0x7f | more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_round_trips_and_a_leading_dot_is_welcome() {
        let oid: Oid = ".1.3.6.1.6.3.1.1.5.3".parse().unwrap();
        assert_eq!(oid.to_string(), "1.3.6.1.6.3.1.1.5.3");
        assert!(oid.starts_with(&[1, 3, 6, 1]));
    }

    #[test]
    fn bad_texts_are_refused() {
        for (text, error) in [
            ("", OidError::Empty),
            (".", OidError::Empty),
            ("1..3", OidError::Arc),
            ("1.3.", OidError::Arc),
            ("1.+3", OidError::Arc),
            ("1.4294967296", OidError::Arc),
            ("1.3.x", OidError::Arc),
        ] {
            assert_eq!(text.parse::<Oid>(), Err(error), "{text:?}");
        }
        assert_eq!(vec!["1"; 129].join(".").parse::<Oid>(), Err(OidError::TooLong));
        assert!(vec!["1"; 128].join(".").parse::<Oid>().is_ok());
    }

    #[test]
    fn encodings_are_checked_once() {
        assert_eq!(EncodedOid::new(&[]), Err(OidError::Empty));
        assert_eq!(EncodedOid::new(&[0x2b, 0x86]), Err(OidError::Unterminated));
        // 2^32 as a sub-identifier.
        assert_eq!(EncodedOid::new(&[0x2b, 0x90, 0x80, 0x80, 0x80, 0x00]), Err(OidError::Arc));
        // 2.(2^32-1) is the largest first sub-identifier.
        assert!(EncodedOid::new(&[0x90, 0x80, 0x80, 0x80, 0x4f]).is_ok());
        assert_eq!(EncodedOid::new(&[0x90, 0x80, 0x80, 0x80, 0x50]), Err(OidError::Arc));
        // Padded: the same arcs in other octets.
        assert_eq!(EncodedOid::new(&[0x80, 0x2b, 0x06]), Err(OidError::Arc));
        assert_eq!(EncodedOid::new(&[0x2b, 0x80, 0x80, 0x06]), Err(OidError::Arc));
        assert!(EncodedOid::new(&[0x2b, 0x81, 0x80, 0x06]).is_ok());
        assert!(EncodedOid::new(&[0x2b, 0x8f, 0xff, 0xff, 0xff, 0x7f]).is_ok());
        assert_eq!(EncodedOid::new(&[1; 128]), Err(OidError::TooLong));
        assert!(EncodedOid::new(&[1; 127]).is_ok());
    }

    proptest! {
        #[test]
        fn encode_and_decode_are_inverse(
            root in 0u32..3, second in any::<u32>(), rest in prop::collection::vec(any::<u32>(), 0..126)
        ) {
            let second = if root < 2 { second % 40 } else { second };
            let arcs: Vec<u32> = [root, second].into_iter().chain(rest).collect();
            let mut octets = Vec::new();
            encode(&arcs, &mut octets).unwrap();
            let back: Vec<u32> = EncodedOid::new(&octets).unwrap().arcs().collect();
            prop_assert_eq!(back, arcs);
        }

        #[test]
        fn any_octets_are_refused_or_walked(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(oid) = EncodedOid::new(&octets) {
                let count = oid.arcs().count();
                prop_assert!((2..=MAX_ARCS).contains(&count));
                let mut again = Vec::new();
                encode(oid.to_oid().arcs(), &mut again).unwrap();
                prop_assert_eq!(again, octets);
            }
        }
    }
}
