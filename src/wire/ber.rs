//! A bounded, borrowing reader of BER (X.690), as far as SNMP uses it (RFC 3417 section 8).
//!
//! No allocation and no recursion: SNMP's nesting is fixed, so that each level is one call at the
//! place that knows it. Accepted: definite lengths of up to four length octets, minimal or not.
//! Refused: indefinite lengths, tags of several octets, anything past what encloses it.
//!
//! `inline(always)` was measured: left to itself, the compiler passes elements through memory, and
//! a linkDown takes 230 ns instead of 110.

use super::error::{DecodeError, DecodeErrorKind as Kind};
use crate::oid::EncodedOid;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const IP_ADDRESS: u8 = 0x40;
pub(crate) const COUNTER32: u8 = 0x41;
pub(crate) const GAUGE32: u8 = 0x42;
pub(crate) const TIME_TICKS: u8 = 0x43;
pub(crate) const OPAQUE: u8 = 0x44;
pub(crate) const NSAP_ADDRESS: u8 = 0x45;
pub(crate) const COUNTER64: u8 = 0x46;
pub(crate) const UINTEGER32: u8 = 0x47;
pub(crate) const NO_SUCH_OBJECT: u8 = 0x80;
pub(crate) const NO_SUCH_INSTANCE: u8 = 0x81;
pub(crate) const END_OF_MIB_VIEW: u8 = 0x82;

/// The PDU tags of RFC 1157 section 4.1 and RFC 3416 section 3.
pub(crate) mod pdu {
    pub(crate) const GET: u8 = 0xa0;
    pub(crate) const GET_NEXT: u8 = 0xa1;
    pub(crate) const RESPONSE: u8 = 0xa2;
    pub(crate) const SET: u8 = 0xa3;
    pub(crate) const TRAP_V1: u8 = 0xa4;
    pub(crate) const GET_BULK: u8 = 0xa5;
    pub(crate) const INFORM: u8 = 0xa6;
    pub(crate) const TRAP_V2: u8 = 0xa7;
    pub(crate) const REPORT: u8 = 0xa8;
}

/// The widest signed encoding: sign octets may pad 32 bits up to this, beyond it nobody means well.
const MAX_SIGNED_OCTETS: usize = 8;
/// 64 bits and the zero octet that keeps them positive.
const MAX_UNSIGNED_OCTETS: usize = 9;

/// One element: its tag, its contents, and where they stand in the input.
#[derive(Clone, Copy)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: u8,
    pub(crate) contents: &'a [u8],
    /// The octet of the input at which the element's tag stands.
    pub(crate) start: u32,
    /// The octet of the input behind the contents.
    pub(crate) end: u32,
}

impl<'a> Tlv<'a> {
    /// A reader of what is inside.
    #[inline(always)]
    pub(crate) fn reader(self) -> Reader<'a> {
        Reader { rest: self.contents, end: self.end }
    }

    #[inline(always)]
    pub(crate) fn fail(self, kind: Kind) -> DecodeError {
        DecodeError::new(kind, self.start)
    }

    /// A two's complement integer within 32 bits. Sign octets may pad it, up to eight octets in all.
    #[inline(always)]
    pub(crate) fn signed(self) -> Result<i32, DecodeError> {
        let value = match self.contents {
            [] => return Err(self.fail(Kind::BadInteger)),
            [one] => return Ok(i32::from(*one as i8)),
            octets if octets.len() <= MAX_SIGNED_OCTETS => {
                let sign = if octets[0] & 0x80 == 0 { 0 } else { -1i64 };
                octets.iter().fold(sign, |value, &octet| value << 8 | i64::from(octet))
            }
            _ => return Err(self.fail(Kind::BadInteger)),
        };
        i32::try_from(value).map_err(|_| self.fail(Kind::BadInteger))
    }

    /// An unsigned integer within 64 bits: the octets are its magnitude, zero octets may lead, nine
    /// octets in all. A first octet over 127 is not taken as a sign: these types have no negative
    /// values, and devices exist that leave the leading zero out.
    #[inline(always)]
    pub(crate) fn unsigned64(self) -> Result<u64, DecodeError> {
        let octets = match self.contents {
            [] => return Err(self.fail(Kind::BadInteger)),
            [0, rest @ ..] if self.contents.len() == MAX_UNSIGNED_OCTETS => rest,
            octets if octets.len() < MAX_UNSIGNED_OCTETS => octets,
            _ => return Err(self.fail(Kind::BadInteger)),
        };
        Ok(octets.iter().fold(0, |value, &octet| value << 8 | u64::from(octet)))
    }

    /// As [`Self::unsigned64`], within 32 bits.
    #[inline(always)]
    pub(crate) fn unsigned32(self) -> Result<u32, DecodeError> {
        u32::try_from(self.unsigned64()?).map_err(|_| self.fail(Kind::BadInteger))
    }

    #[inline(always)]
    pub(crate) fn oid(self) -> Result<EncodedOid<'a>, DecodeError> {
        EncodedOid::new(self.contents).map_err(|_| self.fail(Kind::BadOid))
    }

    #[inline(always)]
    pub(crate) fn address(self) -> Result<[u8; 4], DecodeError> {
        self.contents.try_into().map_err(|_| self.fail(Kind::BadAddress))
    }
}

/// Reads elements one after the other, and knows where in the input it stands.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// The octet of the input behind `rest`; the place is what `rest` has still before it.
    end: u32,
}

impl<'a> Reader<'a> {
    /// A reader of the whole input.
    ///
    /// # Errors
    /// [`Kind::MessageTooLong`], which is why no offset ever passes 32 bits.
    pub(crate) fn new(input: &'a [u8]) -> Result<Self, DecodeError> {
        if input.len() > super::MAX_MESSAGE_SIZE {
            return Err(DecodeError::new(Kind::MessageTooLong, 0));
        }
        Ok(Self { rest: input, end: input.len() as u32 })
    }

    /// A reader of `octets` that were decoded before: for walking them again, where places do not matter.
    #[inline(always)]
    pub(crate) fn over(octets: &'a [u8]) -> Self {
        Self { rest: octets, end: octets.len() as u32 }
    }

    #[inline(always)]
    pub(crate) fn offset(&self) -> u32 {
        // `end - rest.len()` never goes below zero: `rest` ends at `end` of an input that begins at 0.
        self.end.wrapping_sub(self.rest.len() as u32)
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline(always)]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline(always)]
    fn fail(&self, kind: Kind) -> DecodeError {
        DecodeError::new(kind, self.offset())
    }

    /// The next element, whatever it is.
    #[inline(always)]
    pub(crate) fn read(&mut self) -> Result<Tlv<'a>, DecodeError> {
        let start = self.offset();
        let (tag, length, body) = match *self.rest {
            // A low-tag-number form and a short length: nearly every element of nearly every trap.
            [tag, length, ref body @ ..] if length < 0x80 && tag & 0x1f != 0x1f => {
                (tag, usize::from(length), body)
            }
            [tag, first, ref after @ ..] => {
                if tag & 0x1f == 0x1f {
                    return Err(self.fail(Kind::UnexpectedTag));
                }
                let (length, body) = long_length(first, after).map_err(|kind| self.fail(kind))?;
                (tag, length, body)
            }
            _ => return Err(self.fail(Kind::Truncated)),
        };
        let Some((contents, rest)) = body.split_at_checked(length) else {
            return Err(self.fail(Kind::Truncated));
        };
        self.rest = rest;
        Ok(Tlv { tag, contents, start, end: self.offset() })
    }

    /// The next element, which has to have `tag`.
    #[inline(always)]
    pub(crate) fn read_as(&mut self, tag: u8) -> Result<Tlv<'a>, DecodeError> {
        // The tag first: where another type stands, its length says nothing of interest.
        match self.rest.first() {
            Some(&found) if found != tag => Err(self.fail(Kind::UnexpectedTag)),
            _ => self.read(),
        }
    }

    /// The next element as an INTEGER of 32 bits.
    #[inline(always)]
    pub(crate) fn integer(&mut self) -> Result<i32, DecodeError> {
        self.read_as(INTEGER)?.signed()
    }

    /// That nothing is left.
    #[inline(always)]
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.fail(Kind::TrailingOctets)) }
    }
}

/// The length whose first octet is `first`, and what stands behind its octets.
fn long_length(first: u8, after: &[u8]) -> Result<(usize, &[u8]), Kind> {
    let count = match first {
        0..=0x7f => return Ok((first.into(), after)),
        0x81..=0x84 => usize::from(first & 0x7f),
        // 0x80 is indefinite, 0xff reserved; more than four octets cannot be the length of a datagram.
        _ => return Err(Kind::BadLength),
    };
    let (octets, body) = after.split_at_checked(count).ok_or(Kind::Truncated)?;
    let length = octets.iter().fold(0u32, |length, &octet| length << 8 | u32::from(octet));
    // A length over the largest message is no cut-off datagram but a hostile one.
    match usize::try_from(length) {
        Ok(length) if length <= super::MAX_MESSAGE_SIZE => Ok((length, body)),
        _ => Err(Kind::BadLength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(octets: &[u8]) -> Result<(u8, Vec<u8>), Kind> {
        let mut reader = Reader::new(octets).unwrap();
        reader.read().map(|tlv| (tlv.tag, tlv.contents.to_vec())).map_err(|error| error.kind)
    }

    fn tlv(contents: &[u8]) -> Tlv<'_> {
        Tlv { tag: INTEGER, contents, start: 0, end: contents.len() as u32 }
    }

    #[test]
    fn every_legal_form_of_a_length_is_read() {
        for header in [&[4, 2][..], &[4, 0x81, 2], &[4, 0x82, 0, 2], &[4, 0x84, 0, 0, 0, 2]] {
            assert_eq!(read(&[header, &[7, 9]].concat()), Ok((4, vec![7, 9])), "{header:x?}");
        }
    }

    #[test]
    fn illegal_lengths_are_refused_by_kind() {
        for (octets, kind) in [
            (&[][..], Kind::Truncated),
            (&[4], Kind::Truncated),
            (&[4, 1], Kind::Truncated),
            (&[4, 0x82, 1], Kind::Truncated),
            (&[4, 0x82, 1, 0, 0], Kind::Truncated),
            (&[0x30, 0x80, 0, 0], Kind::BadLength),
            (&[4, 0xff, 0, 0], Kind::BadLength),
            (&[4, 0x84, 0xff, 0xff, 0xff, 0xff], Kind::BadLength),
            (&[4, 0x85, 0, 0, 0, 0, 1, 0], Kind::BadLength),
            (&[0x9f, 0x78, 4, 0, 0, 0, 0], Kind::UnexpectedTag),
            (&[0x1f, 0x80, 4, 0], Kind::UnexpectedTag),
        ] {
            assert_eq!(read(octets), Err(kind), "{octets:x?}");
        }
    }

    #[test]
    fn an_element_never_passes_what_encloses_it() {
        // The inner length reaches into the octets behind the SEQUENCE.
        let mut outer = Reader::new(&[0x30, 3, 4, 2, 7, 9, 9]).unwrap();
        let mut inner = outer.read().unwrap().reader();
        let error = inner.read().err().unwrap();
        assert_eq!((error.kind, error.offset), (Kind::Truncated, 2));
    }

    #[test]
    fn offsets_count_from_the_start_of_the_input() {
        let mut outer = Reader::new(&[0x30, 6, 2, 1, 5, 4, 1, 9]).unwrap();
        let mut inner = outer.read().unwrap().reader();
        assert_eq!(inner.offset(), 2);
        assert_eq!(inner.integer(), Ok(5));
        assert_eq!(inner.integer(), Err(DecodeError::new(Kind::UnexpectedTag, 5)));
        assert_eq!(inner.finish(), Err(DecodeError::new(Kind::TrailingOctets, 5)));
    }

    #[test]
    fn signed_integers_hold_32_bits_and_eight_octets() {
        for (octets, value) in [
            (&[0][..], 0),
            (&[0xff], -1),
            (&[0, 0xff], 255),
            (&[0x7f, 0xff, 0xff, 0xff], i32::MAX),
            (&[0x80, 0, 0, 0], i32::MIN),
            (&[0, 0, 0, 0, 0, 0, 0, 3], 3),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], -2),
        ] {
            assert_eq!(tlv(octets).signed(), Ok(value), "{octets:x?}");
        }
        for octets in [
            &[][..],
            &[0, 0x80, 0, 0, 0],
            &[0xff, 0x7f, 0xff, 0xff, 0xff],
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0; 9],
        ] {
            assert_eq!(tlv(octets).signed().unwrap_err().kind, Kind::BadInteger, "{octets:x?}");
        }
    }

    #[test]
    fn unsigned_integers_are_magnitudes() {
        for (octets, value) in [
            (&[0][..], 0),
            (&[0xff], 255),
            (&[0, 0xff, 0xff, 0xff, 0xff], u64::from(u32::MAX)),
            (&[0xff; 8], u64::MAX),
            (&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], u64::MAX),
        ] {
            assert_eq!(tlv(octets).unsigned64(), Ok(value), "{octets:x?}");
        }
        assert!(tlv(&[]).unsigned64().is_err());
        assert!(tlv(&[1, 0, 0, 0, 0, 0, 0, 0, 0]).unsigned64().is_err());
        assert!(tlv(&[0; 10]).unsigned64().is_err());
        assert_eq!(tlv(&[0xff; 4]).unsigned32(), Ok(u32::MAX));
        assert!(tlv(&[1, 0, 0, 0, 0]).unsigned32().is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_read_lies_within_the_input(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = Reader::new(&octets).unwrap();
            while let Ok(tlv) = reader.read() {
                prop_assert!(tlv.start < tlv.end && tlv.end as usize <= octets.len());
                prop_assert_eq!(&octets[tlv.end as usize - tlv.contents.len()..tlv.end as usize], tlv.contents);
                prop_assert_eq!(reader.offset(), tlv.end);
            }
        }
    }
}
