//! Values to send: from the text of the command line, by the object's syntax or by a type letter.

use std::net::{IpAddr, Ipv4Addr};

use crate::cli::names;
use crate::mib::{BaseType, Mib, Syntax};
use crate::oid::{self, EncodedOid};
use crate::value::Value;

/// A value that owns its octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owned {
    Integer(i32),
    Octets(Vec<u8>),
    Oid(EncodedBox),
    IpAddress([u8; 4]),
    Counter32(u32),
    Unsigned32(u32),
    TimeTicks(u32),
    Opaque(Vec<u8>),
    Counter64(u64),
    Null,
}

/// The contents octets of an OID, made by [`oid::encode`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EncodedBox(Vec<u8>);

impl EncodedBox {
    /// # Errors
    /// One sentence, where the arcs have no encoding.
    pub(super) fn new(arcs: &[u32]) -> Result<Self, String> {
        let mut octets = Vec::new();
        oid::encode(arcs, &mut octets).map_err(|error| match error {
            oid::OidError::Empty => "an OID on the wire has at least two arcs".to_owned(),
            oid::OidError::Arc => {
                "an OID's first arc is 0 to 2, and its second below 40 after 0 and 1".to_owned()
            }
            error => error.to_string(),
        })?;
        Ok(Self(octets))
    }

    pub(super) fn borrow(&self) -> EncodedOid<'_> {
        EncodedOid::new(&self.0).expect("oid::encode made these octets")
    }
}

impl Owned {
    /// The value as the codec takes it.
    pub(super) fn borrow(&self) -> Value<'_> {
        match self {
            Self::Integer(number) => Value::Integer(*number),
            Self::Octets(octets) => Value::Octets(octets),
            Self::Oid(oid) => Value::Oid(oid.borrow()),
            Self::IpAddress(address) => Value::IpAddress(*address),
            Self::Counter32(number) => Value::Counter32(*number),
            Self::Unsigned32(number) => Value::Unsigned32(*number),
            Self::TimeTicks(number) => Value::TimeTicks(*number),
            Self::Opaque(octets) => Value::Opaque(octets),
            Self::Counter64(number) => Value::Counter64(*number),
            Self::Null => Value::Null,
        }
    }

    /// What `--vary` counts: numbers, and addresses as numbers. `None` for any other type.
    pub(super) fn number(&self) -> Option<i128> {
        match self {
            Self::IpAddress(address) => Some(u32::from_be_bytes(*address).into()),
            other => other.borrow().as_i128(),
        }
    }

    /// The value of the same type with `number`, which must lie between two numbers of that type.
    pub(super) fn set_number(&mut self, number: i128) {
        // No cast cuts anything off: the caller stays between two values that were parsed as this type.
        match self {
            Self::Integer(value) => *value = number as i32,
            Self::Counter32(value) | Self::Unsigned32(value) | Self::TimeTicks(value) => {
                *value = number as u32
            }
            Self::Counter64(value) => *value = number as u64,
            Self::IpAddress(value) => *value = (number as u32).to_be_bytes(),
            Self::Octets(_) | Self::Oid(_) | Self::Opaque(_) | Self::Null => {}
        }
    }
}

/// The type letters of `NAME:TYPE=VALUE`, and what each takes. As `snmptrap` has them, `c` and `C` apart.
pub(super) const TYPE_LETTERS: &str = "i INTEGER, u Unsigned32, c Counter32, C Counter64, t TimeTicks, a IpAddress, \
     o OBJECT IDENTIFIER, s text, x hexadecimal octets, n NULL";

/// `text` as the type that `letter` stands for.
///
/// # Errors
/// One sentence that says what the type takes.
pub(super) fn by_letter(mib: &Mib, letter: char, text: &str) -> Result<Owned, String> {
    match letter {
        'i' => integer(text),
        'u' => unsigned(text).map(Owned::Unsigned32),
        'c' => unsigned(text).map(Owned::Counter32),
        'C' => counter64(text),
        't' => unsigned(text).map(Owned::TimeTicks),
        'a' => ip_address(text),
        'o' => object_identifier(mib, text),
        's' => Ok(Owned::Octets(text.as_bytes().to_vec())),
        'x' => hexadecimal(text.strip_prefix("0x").unwrap_or(text)).map(Owned::Octets),
        'n' if text.is_empty() => Ok(Owned::Null),
        'n' => Err("NULL has no value; write nothing behind the equals sign".to_owned()),
        _ => Err(format!("there is no type {letter}; the types are {TYPE_LETTERS}")),
    }
}

/// `text` as a value of `syntax`: labels of enumerations and BITS, OIDs by name, octets as text or as `0x…`.
///
/// # Errors
/// One sentence that says what the syntax takes.
pub(super) fn by_syntax(mib: &Mib, syntax: Syntax<'_>, text: &str) -> Result<Owned, String> {
    match syntax.base() {
        BaseType::Integer => match labelled(syntax, text)? {
            Some(number) => i32::try_from(number).map(Owned::Integer).map_err(|_| out_of_range(text)),
            None => integer(text),
        },
        BaseType::Octets => octets(syntax, text),
        BaseType::ObjectIdentifier => object_identifier(mib, text),
        BaseType::Bits => bits(syntax, text),
        BaseType::IpAddress => ip_address(text),
        BaseType::Counter32 => unsigned(text).map(Owned::Counter32),
        BaseType::Unsigned32 => unsigned(text).map(Owned::Unsigned32),
        BaseType::TimeTicks => unsigned(text).map(Owned::TimeTicks),
        BaseType::Counter64 => counter64(text),
        BaseType::Opaque => match text.strip_prefix("0x") {
            Some(digits) => hexadecimal(digits).map(Owned::Opaque),
            None => Err("Opaque takes octets as 0x9f7804…".to_owned()),
        },
        BaseType::Unknown | BaseType::Sequence => {
            Err(format!("its type is not known; name one: {TYPE_LETTERS}"))
        }
    }
}

fn out_of_range(text: &str) -> String {
    format!("{text} does not fit its type")
}

fn integer(text: &str) -> Result<Owned, String> {
    text.parse()
        .map(Owned::Integer)
        .map_err(|_| format!("INTEGER takes a whole number of 32 bits, not {text:?}"))
}

fn unsigned(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("this type takes a number from 0 to 4294967295, not {text:?}"))
}

fn counter64(text: &str) -> Result<Owned, String> {
    let number = text.parse().map(Owned::Counter64);
    number.map_err(|_| format!("Counter64 takes a number from 0 to 18446744073709551615, not {text:?}"))
}

fn ip_address(text: &str) -> Result<Owned, String> {
    let address: Ipv4Addr =
        text.parse().map_err(|_| format!("IpAddress takes an address as 192.0.2.1, not {text:?}"))?;
    Ok(Owned::IpAddress(address.octets()))
}

fn object_identifier(mib: &Mib, text: &str) -> Result<Owned, String> {
    EncodedBox::new(names::resolve(mib, text)?.oid.arcs()).map(Owned::Oid)
}

/// The number of a label; `None` where `text` is a number, which needs no label.
fn labelled(syntax: Syntax<'_>, text: &str) -> Result<Option<i64>, String> {
    if let Some(number) = syntax.number(text) {
        return Ok(Some(number));
    }
    if syntax.labels().len() == 0 || text.parse::<i64>().is_ok() {
        return Ok(None);
    }
    Err(no_label(syntax, text))
}

fn no_label(syntax: Syntax<'_>, text: &str) -> String {
    /// An ifType has hundreds.
    const ENOUGH: usize = 12;
    let labels: Vec<&str> = syntax.labels().map(|(_, label)| label).take(ENOUGH).collect();
    let more = if syntax.labels().len() > ENOUGH { ", …" } else { "" };
    format!("{text:?} is none of its labels: {}{more}", labels.join(", "))
}

/// Octets: `0x…`, an address or a time where the textual convention says so, else the text itself.
fn octets(syntax: Syntax<'_>, text: &str) -> Result<Owned, String> {
    if let Some(digits) = text.strip_prefix("0x") {
        return hexadecimal(digits).map(Owned::Octets);
    }
    let octets = match syntax.convention() {
        "MacAddress" | "PhysAddress" => hexadecimal(text),
        "InetAddress" | "InetAddressIPv4" | "InetAddressIPv6" => match text.parse() {
            Ok(IpAddr::V4(v4)) => Ok(v4.octets().to_vec()),
            Ok(IpAddr::V6(v6)) => Ok(v6.octets().to_vec()),
            // An InetAddress may be a DNS name.
            Err(_) if syntax.convention() == "InetAddress" => Ok(text.as_bytes().to_vec()),
            Err(_) => Err(format!("{} takes an IP address, not {text:?}", syntax.convention())),
        },
        "DateAndTime" => date_and_time(text),
        _ => Ok(text.as_bytes().to_vec()),
    };
    octets.map(Owned::Octets)
}

/// RFC 2579's DateAndTime in UTC.
fn date_and_time(text: &str) -> Result<Vec<u8>, String> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("DateAndTime takes a time as 2026-01-31T12:00:00Z, not {text:?}"))?;
    let utc = jiff::tz::Offset::UTC.to_datetime(time);
    let year =
        u16::try_from(utc.year()).map_err(|_| "DateAndTime has no years before 0".to_owned())?.to_be_bytes();
    // Civil fields are never negative: a month is 1 to 12, tenths 0 to 9.
    let fields = [utc.month(), utc.day(), utc.hour(), utc.minute(), utc.second()].map(i8::cast_unsigned);
    let tenths = (utc.subsec_nanosecond() / 100_000_000) as u8;
    Ok([&year[..], &fields, &[tenths, b'+', 0, 0]].concat())
}

/// `00:1b:2c`, `00-1b-2c`, `00 1b 2c`, `001b2c`.
fn hexadecimal(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("octets are pairs of hexadecimal digits, as 0x001b2c or 00:1b:2c, not {text:?}");
    let mut octets = Vec::with_capacity(text.len() / 2);
    for group in text.split([':', '-', ' ']).filter(|group| !group.is_empty()) {
        // Between separators a single digit is an octet as well: 0:1b:2c.
        if group.len() == 1 && group.len() < text.len() {
            octets.push(u8::from_str_radix(group, 16).map_err(|_| wrong())?);
            continue;
        }
        let digits = group.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return Err(wrong());
        }
        for pair in digits.chunks_exact(2) {
            let digit = |octet: u8| char::from(octet).to_digit(16).ok_or_else(wrong);
            octets.push((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
        }
    }
    Ok(octets)
}

/// Labels or bit numbers with commas between them, or `0x…`.
fn bits(syntax: Syntax<'_>, text: &str) -> Result<Owned, String> {
    if let Some(digits) = text.strip_prefix("0x") {
        return hexadecimal(digits).map(Owned::Octets);
    }
    /// Bits of the longest BITS that anyone defines, with room.
    const MOST: i64 = 1024;
    let mut octets = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let number = match syntax.number(part) {
            Some(number) => number,
            None => part.parse().map_err(|_| no_label(syntax, part))?,
        };
        if !(0..MOST).contains(&number) {
            return Err(out_of_range(part));
        }
        let at = number as usize / 8;
        if octets.len() <= at {
            octets.resize(at + 1, 0u8);
        }
        octets[at] |= 0x80 >> (number % 8);
    }
    Ok(Owned::Octets(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(name: &str, text: &str) -> Result<Owned, String> {
        let mib = Mib::builtin();
        let node = mib.resolve(name).unwrap().node.unwrap();
        by_syntax(&mib, mib.node(node).syntax().unwrap(), text)
    }

    #[test]
    fn an_objects_syntax_types_its_value() {
        assert_eq!(typed("ifAdminStatus", "up"), Ok(Owned::Integer(1)));
        assert_eq!(typed("ifAdminStatus", "3"), Ok(Owned::Integer(3)));
        assert_eq!(typed("ifIndex", "-1"), Ok(Owned::Integer(-1)));
        assert_eq!(typed("ifDescr", "Gi0/1"), Ok(Owned::Octets(b"Gi0/1".to_vec())));
        assert_eq!(typed("ifDescr", "0x00ff"), Ok(Owned::Octets(vec![0, 255])));
        assert_eq!(typed("ifPhysAddress", "0:1b:2C"), Ok(Owned::Octets(vec![0, 0x1b, 0x2c])));
        assert_eq!(typed("ifSpeed", "4294967295"), Ok(Owned::Unsigned32(u32::MAX)));
        assert_eq!(typed("ifInOctets", "7"), Ok(Owned::Counter32(7)));
        assert_eq!(typed("ifHCInOctets", "18446744073709551615"), Ok(Owned::Counter64(u64::MAX)));
        assert_eq!(typed("ifLastChange", "100"), Ok(Owned::TimeTicks(100)));
        assert_eq!(typed("snmpTrapAddress", "192.0.2.1"), Ok(Owned::IpAddress([192, 0, 2, 1])));
        let oid = EncodedBox::new(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 3]).map(Owned::Oid);
        assert_eq!(typed("sysObjectID", "IF-MIB::linkDown"), oid);
        assert_eq!(typed("sysObjectID", "1.3.6.1.6.3.1.1.5.3"), oid);
    }

    #[test]
    fn what_does_not_fit_says_what_would() {
        for (name, text, hint) in [
            ("ifAdminStatus", "sideways", "up, down, testing"),
            ("ifIndex", "2147483648", "32 bits"),
            ("ifSpeed", "-1", "0 to 4294967295"),
            ("ifPhysAddress", "xyz", "pairs"),
            ("ifPhysAddress", "001", "pairs"),
            ("snmpTrapAddress", "::1", "192.0.2.1"),
            ("sysObjectID", "IF-MIB::linkDwon", "linkDown"),
            ("sysObjectID", "3.1", "first arc"),
        ] {
            let error = typed(name, text).expect_err(text);
            assert!(error.contains(hint), "{name}={text}: {error}");
        }
    }

    #[test]
    fn letters_type_what_no_mib_knows() {
        let mib = Mib::builtin();
        let parsed = |letter, text| by_letter(&mib, letter, text);
        assert_eq!(parsed('s', "0x00"), Ok(Owned::Octets(b"0x00".to_vec())));
        assert_eq!(parsed('x', "00 ff"), Ok(Owned::Octets(vec![0, 255])));
        assert_eq!(parsed('x', ""), Ok(Owned::Octets(Vec::new())));
        assert_eq!(parsed('c', "1"), Ok(Owned::Counter32(1)));
        assert_eq!(parsed('C', "1"), Ok(Owned::Counter64(1)));
        assert_eq!(parsed('n', ""), Ok(Owned::Null));
        assert!(parsed('n', "1").is_err());
        assert!(parsed('z', "1").unwrap_err().contains("Counter64"));
    }

    #[test]
    fn times_and_numbers_convert() {
        assert_eq!(
            date_and_time("2026-01-31T12:00:00.5+01:00"),
            Ok(vec![7, 234, 1, 31, 11, 0, 0, 5, b'+', 0, 0])
        );
        let mut value = Owned::IpAddress([10, 0, 0, 255]);
        value.set_number(value.number().unwrap() + 1);
        assert_eq!(value, Owned::IpAddress([10, 0, 1, 0]));
        assert_eq!(Owned::Octets(Vec::new()).number(), None);
    }
}
