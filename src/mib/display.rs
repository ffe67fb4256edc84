//! Values for people: labels, BITS, DISPLAY-HINT (RFC 2579 section 3.1), addresses, times.

use std::fmt::Write as _;
use std::sync::OnceLock;

use super::address::{self, ADDRESS};
use super::image::{BaseType, Mib, NodeId};
use super::index::write_arcs;
use super::view::Syntax;
use crate::oid::{EncodedOid, OidArray};
use crate::value::Value;

/// The type of an object's values, standing alone: it holds nothing of the [`Mib`], so that a compiled rule
/// can keep it. Share it as an `Arc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renderer {
    base: BaseType,
    convention: Box<str>,
    hint: Box<str>,
    units: Box<str>,
    /// Sorted by number.
    labels: Box<[(i64, Box<str>)]>,
}

impl Renderer {
    /// Shows any value as it comes.
    #[must_use]
    pub fn plain() -> &'static Self {
        static PLAIN: OnceLock<Renderer> = OnceLock::new();
        PLAIN.get_or_init(|| Self {
            base: BaseType::Unknown,
            convention: "".into(),
            hint: "".into(),
            units: "".into(),
            labels: Box::default(),
        })
    }

    fn of(syntax: Syntax<'_>) -> Self {
        Self {
            base: syntax.base(),
            convention: syntax.convention().into(),
            hint: syntax.hint().into(),
            units: syntax.units().into(),
            labels: syntax.labels().map(|(number, name)| (number, name.into())).collect(),
        }
    }

    /// The type that the SYNTAX comes to.
    #[must_use]
    pub fn base(&self) -> BaseType {
        self.base
    }

    /// UNITS, or empty.
    #[must_use]
    pub fn units(&self) -> &str {
        &self.units
    }

    /// Whether there are labels: an enumeration or BITS.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// The labels with their numbers, by number.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (i64, &str)> {
        self.labels.iter().map(|(number, name)| (*number, &**name))
    }

    /// The number of an enumeration's label, or of a bit.
    #[must_use]
    pub fn enum_number(&self, label: &str) -> Option<i64> {
        self.labels.iter().find(|(_, name)| **name == *label).map(|&(number, _)| number)
    }

    /// The label of a number. Bisects.
    #[must_use]
    pub fn label(&self, number: i64) -> Option<&str> {
        let at = self.labels.binary_search_by_key(&number, |&(number, _)| number).ok()?;
        Some(&self.labels[at].1)
    }

    /// Appends `value` as [`Mib::write_value`] does, but OIDs in numbers.
    pub fn write(&self, value: &Value<'_>, out: &mut String) {
        let label = |number| self.label(number);
        let kind = Style { base: self.base, convention: &self.convention, hint: &self.hint };
        write(kind, label, None, value, out);
    }
}

impl Mib {
    /// The type of a node's values, detached from this [`Mib`]. `None` for what has no values. Allocates.
    #[must_use]
    pub fn renderer(&self, node: NodeId) -> Option<Renderer> {
        self.node(node).syntax().map(Renderer::of)
    }

    /// Appends `value` as text, by what is known of `node`'s type:
    ///
    /// * an enumeration's label, else the number; the labels of BITS, separated by `, `;
    /// * by DISPLAY-HINT, DateAndTime as RFC 3339 writes it, addresses in their usual form;
    /// * octets as text when they are UTF-8 without control characters, else as hexadecimal pairs;
    /// * OIDs by name, TimeTicks as days, hours, minutes, seconds, an Opaque float as a number.
    ///
    /// A value that does not fit its type is shown by what it is. Never fails, whatever the hint says.
    /// [`write_varbind`](Self::write_varbind) knows the other varbinds too.
    pub fn write_value(&self, node: Option<NodeId>, value: &Value<'_>, out: &mut String) {
        match node.and_then(|node| self.node(node).syntax()) {
            Some(syntax) => {
                let style =
                    Style { base: syntax.base(), convention: syntax.convention(), hint: syntax.hint() };
                write(style, |number| syntax.label(number), Some(self), value, out);
            }
            None => {
                let style = Style { base: BaseType::Unknown, convention: "", hint: "" };
                write(style, |_| None, Some(self), value, out);
            }
        }
    }
}

/// Appends octets as a type with this DISPLAY-HINT shows them. For the fuzzer, which has no MIB at hand.
#[doc(hidden)]
pub fn show_by_hint(hint: &str, octets: &[u8], out: &mut String) {
    let style = Style { base: BaseType::Octets, convention: "", hint };
    write(style, |_| None, None, &Value::Octets(octets), out);
}

/// As [`show_by_hint`], a number.
#[doc(hidden)]
pub fn show_number_by_hint(hint: &str, number: i32, out: &mut String) {
    let style = Style { base: BaseType::Integer, convention: "", hint };
    write(style, |_| None, None, &Value::Integer(number), out);
}

#[derive(Clone, Copy)]
struct Style<'a> {
    base: BaseType,
    convention: &'a str,
    hint: &'a str,
}

fn write<'l>(
    style: Style<'_>,
    label: impl Fn(i64) -> Option<&'l str>,
    names: Option<&Mib>,
    value: &Value<'_>,
    out: &mut String,
) {
    // Writing to a String does not fail: the results of write! are dropped throughout.
    match *value {
        Value::Integer(number) => integer(style, &label, i64::from(number), out),
        Value::Counter32(number) | Value::Unsigned32(number) => {
            integer(style, &label, i64::from(number), out);
        }
        Value::Counter64(number) => {
            let _ = write!(out, "{number}");
        }
        Value::TimeTicks(ticks) => time_ticks(ticks, out),
        Value::Octets(octets) => match style.base {
            BaseType::Bits => bits(octets, label, out),
            _ => self::octets(style, octets, out),
        },
        Value::Oid(oid) => write_oid(oid, names, out),
        Value::IpAddress([a, b, c, d]) => {
            let _ = write!(out, "{a}.{b}.{c}.{d}");
        }
        Value::Opaque(octets) => opaque(octets, out),
        Value::Null | Value::NoSuchObject | Value::NoSuchInstance | Value::EndOfMibView => {
            out.push_str(value.type_name());
        }
    }
}

fn write_oid(oid: EncodedOid<'_>, names: Option<&Mib>, out: &mut String) {
    let mut arcs = OidArray::default();
    oid.decode_into(&mut arcs);
    match names {
        Some(mib) => mib.write_name(arcs.arcs(), out),
        None => write_arcs(arcs.arcs(), out),
    }
}

fn integer<'l>(style: Style<'_>, label: impl Fn(i64) -> Option<&'l str>, number: i64, out: &mut String) {
    if let Some(label) = label(number) {
        out.push_str(label);
        return;
    }
    let mut hint = style.hint.bytes();
    let magnitude = number.unsigned_abs();
    let sign = if number < 0 { "-" } else { "" };
    let _ = match (hint.next(), hint.next()) {
        (Some(b'x'), None) => write!(out, "{sign}{magnitude:x}"),
        (Some(b'o'), None) => write!(out, "{sign}{magnitude:o}"),
        (Some(b'b'), None) => write!(out, "{sign}{magnitude:b}"),
        (Some(b'd'), Some(b'-')) => {
            // An i64 has 19 digits: more decimals would only be zeros.
            match style.hint[2..].parse::<usize>() {
                Ok(decimals @ 1..=19) => {
                    let unit = 10u128.pow(decimals as u32);
                    let (whole, fraction) = (u128::from(magnitude) / unit, u128::from(magnitude) % unit);
                    write!(out, "{sign}{whole}.{fraction:0decimals$}")
                }
                _ => write!(out, "{number}"),
            }
        }
        _ => {
            out.push_str(sign);
            push_number(magnitude, out);
            Ok(())
        }
    };
}

/// Appends a number in decimal; several times as fast as by its Display.
pub(super) fn push_number(mut number: u64, out: &mut String) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    // Digits are ASCII.
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Appends an octet as two hexadecimal digits.
pub(super) fn push_pair(octet: u8, digits: &[u8; 16], out: &mut String) {
    out.push(char::from(digits[usize::from(octet >> 4)]));
    out.push(char::from(digits[usize::from(octet & 15)]));
}

fn bits<'l>(octets: &[u8], label: impl Fn(i64) -> Option<&'l str>, out: &mut String) {
    let start = out.len();
    for (at, &octet) in octets.iter().enumerate() {
        for bit in (0..8).filter(|bit| octet & (0x80 >> bit) != 0) {
            if out.len() > start {
                out.push_str(", ");
            }
            let number = at as i64 * 8 + bit;
            match label(number) {
                Some(label) => out.push_str(label),
                None => push_number(number as u64, out),
            }
        }
    }
}

fn octets(style: Style<'_>, octets: &[u8], out: &mut String) {
    let start = out.len();
    let known = match style.convention {
        "DateAndTime" => date_and_time(octets, out),
        ADDRESS | "InetAddressIPv4" | "InetAddressIPv6" => address::write_by_length(octets, out),
        _ => false,
    };
    if known || (!style.hint.is_empty() && by_hint(style.hint.as_bytes(), octets, out)) {
        return;
    }
    out.truncate(start);
    text_or_hexadecimal(octets, out);
}

/// Whether octets can be shown as text: UTF-8 without control characters but for tab and line ends.
fn as_text(octets: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(octets).ok()?;
    if octets.iter().all(|octet| matches!(octet, b' '..=b'~')) {
        return Some(text);
    }
    text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r')).then_some(text)
}

fn text_or_hexadecimal(octets: &[u8], out: &mut String) {
    // Agents written in C send the terminator along.
    let len = octets.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
    let text = if len == 0 { octets } else { &octets[..len] };
    match as_text(text) {
        Some(text) => out.push_str(text),
        None => hexadecimal(octets, out),
    }
}

fn hexadecimal(octets: &[u8], out: &mut String) {
    for (at, octet) in octets.iter().enumerate() {
        out.push_str(if at > 0 { " " } else { "" });
        push_pair(*octet, b"0123456789ABCDEF", out);
    }
}

fn time_ticks(ticks: u32, out: &mut String) {
    let (seconds, hundredths) = (ticks / 100, ticks % 100);
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    let _ = match days {
        0 => Ok(()),
        1 => write!(out, "1 day, "),
        _ => write!(out, "{days} days, "),
    };
    let _ = write!(out, "{hours}:{minutes:02}:{seconds:02}.{hundredths:02}");
}

/// RFC 2579: year, month, day, hour, minute, second, tenths, then `+` or `-`, hours, minutes from UTC.
fn date_and_time(octets: &[u8], out: &mut String) -> bool {
    let Some((&[high, low, month, day, hour, minute, second, tenths], zone)) =
        octets.split_first_chunk::<8>()
    else {
        return false;
    };
    let fits = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60
        && tenths <= 9;
    if !fits || !matches!(zone, [] | [b'+' | b'-', 0..=14, 0..=59]) {
        return false;
    }
    let year = u16::from_be_bytes([high, low]);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{tenths}");
    if let &[sign, hours, minutes] = zone {
        let _ = write!(out, "{}{hours:02}:{minutes:02}", char::from(sign));
    }
    true
}

/// The floats that agents wrap as Opaque (tags 9f 78 and 9f 79), else hexadecimal.
fn opaque(octets: &[u8], out: &mut String) {
    let _ = match *octets {
        [0x9f, 0x78, 4, a, b, c, d] => write!(out, "{}", f32::from_be_bytes([a, b, c, d])),
        [0x9f, 0x79, 8, a, b, c, d, e, f, g, h] => {
            write!(out, "{}", f64::from_be_bytes([a, b, c, d, e, f, g, h]))
        }
        _ => {
            hexadecimal(octets, out);
            Ok(())
        }
    };
}

/// One octet-format specification of a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Specification {
    repeat: bool,
    length: usize,
    format: u8,
    separator: Option<u8>,
    terminator: Option<u8>,
}

/// Takes the next specification off `hint`; `None` at its end and where it is malformed. What it puts between
/// numbers goes to terminals: it must be printable.
fn specification(hint: &mut &[u8]) -> Option<Specification> {
    let repeat = hint.first() == Some(&b'*');
    if repeat {
        *hint = &hint[1..];
    }
    let digits = hint.iter().take_while(|octet| octet.is_ascii_digit()).count();
    // A length past any datagram is that of a datagram.
    let length =
        hint[..digits].iter().fold(0usize, |sum, digit| (sum * 10 + usize::from(digit - b'0')).min(1 << 16));
    let format = *hint.get(digits)?;
    if digits == 0 || !matches!(format, b'd' | b'x' | b'o' | b'a' | b't') {
        return None;
    }
    *hint = &hint[digits + 1..];
    let mut delimiter = || match *hint {
        [octet @ b' '..=b'~', rest @ ..] if !octet.is_ascii_digit() && *octet != b'*' => {
            *hint = rest;
            Some(*octet)
        }
        _ => None,
    };
    let separator = delimiter();
    let terminator = if repeat && separator.is_some() { delimiter() } else { None };
    Some(Specification { repeat, length, format, separator, terminator })
}

/// Appends `octets` as `hint` says. `false`, with rubbish appended, where the hint is malformed or the octets
/// are no text where it wants text. Time is linear in the octets.
fn by_hint(hint: &[u8], octets: &[u8], out: &mut String) -> bool {
    let mut rest = octets;
    let mut left = hint;
    let mut last = None;
    while !rest.is_empty() {
        // The last specification serves again until the octets are used up.
        let fresh = !left.is_empty();
        let specification = if fresh {
            match specification(&mut left) {
                Some(next) => next,
                None => return false,
            }
        } else {
            match last {
                Some(last) => last,
                None => return false,
            }
        };
        last = Some(specification);
        let before = rest.len();
        if !apply(specification, &mut rest, out) {
            return false;
        }
        if !fresh && rest.len() == before {
            // It takes nothing, and would for ever.
            return false;
        }
    }
    !hint.is_empty()
}

/// Whether `hint` is one of RFC 2579 section 3.1: for integers or for octets.
pub(crate) fn is_hint(hint: &str) -> bool {
    let decimals = hint.strip_prefix("d-").and_then(|digits| digits.parse::<u16>().ok());
    if matches!(hint, "d" | "x" | "o" | "b") || decimals.is_some() {
        return true;
    }
    let mut left = hint.as_bytes();
    while !left.is_empty() {
        if specification(&mut left).is_none() {
            return false;
        }
    }
    !hint.is_empty()
}

fn apply(specification: Specification, rest: &mut &[u8], out: &mut String) -> bool {
    let mut count = 1;
    if specification.repeat {
        let Some((&first, others)) = rest.split_first() else {
            return true;
        };
        count = usize::from(first);
        *rest = others;
    }
    for turn in 0..count {
        let taken = specification.length.min(rest.len());
        let (chunk, others) = rest.split_at(taken);
        *rest = others;
        if !chunk.is_empty() && !chunk_by_format(specification.format, chunk, out) {
            return false;
        }
        let terminated = turn + 1 == count && specification.terminator.is_some();
        // Before a terminator the separator is left out, and so are both at the very end.
        if !rest.is_empty() && !terminated {
            out.extend(specification.separator.map(char::from));
        }
        if rest.is_empty() || specification.length == 0 {
            break;
        }
    }
    if !rest.is_empty() {
        out.extend(specification.terminator.map(char::from));
    }
    true
}

fn chunk_by_format(format: u8, chunk: &[u8], out: &mut String) -> bool {
    if matches!(format, b'a' | b't') {
        let len = chunk.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
        return as_text(&chunk[..len]).map(|text| out.push_str(text)).is_some();
    }
    if format == b'x' {
        for octet in chunk {
            push_pair(*octet, b"0123456789abcdef", out);
        }
        return true;
    }
    // A number of more octets than any counter has is no number to read.
    if chunk.len() > 8 {
        hexadecimal(chunk, out);
        return true;
    }
    let number = chunk.iter().fold(0u64, |sum, &octet| sum << 8 | u64::from(octet));
    let _ = if format == b'd' { write!(out, "{number}") } else { write!(out, "{number:o}") };
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(base: BaseType, convention: &str, hint: &str, value: Value<'_>) -> String {
        let mut out = String::new();
        write(Style { base, convention, hint }, |_| None, None, &value, &mut out);
        out
    }

    fn octets_by(hint: &str, octets: &[u8]) -> String {
        shown(BaseType::Octets, "", hint, Value::Octets(octets))
    }

    #[test]
    fn hints_for_octets_follow_the_rfc() {
        assert_eq!(octets_by("255a", b"eth0"), "eth0");
        assert_eq!(octets_by("1x:", &[0, 0x1a, 0x2b]), "00:1a:2b");
        assert_eq!(
            octets_by("2d-1d-1d,1d:1d:1d.1d,1a1d:1d", &[7, 0xe8, 1, 5, 3, 4, 5, 0]),
            "2024-1-5,3:4:5.0"
        );
        assert_eq!(octets_by("1d.1d.1d.1d/2d", &[10, 0, 0, 1, 0, 162]), "10.0.0.1/162");
        assert_eq!(octets_by("*1x:/1x:", &[3, 0xaa, 0xbb, 0xcc, 0xdd]), "aa:bb:cc/dd");
        assert_eq!(octets_by("0a[2x:2x]0a:2d", &[0xfe, 0x80, 0, 1, 0, 162]), "[fe80:0001]:162");
        assert_eq!(octets_by("1o ", &[8, 9]), "10 11");
        assert_eq!(octets_by("255t", "Zürich".as_bytes()), "Zürich");
    }

    #[test]
    fn what_is_no_text_is_hexadecimal() {
        assert_eq!(octets_by("255a", &[0xff, 0xfe]), "FF FE");
        assert_eq!(octets_by("", b"a\x1b[31m"), "61 1B 5B 33 31 6D");
        assert_eq!(octets_by("", b"eth0\0"), "eth0");
        assert_eq!(octets_by("", &[0, 0]), "00 00");
        assert_eq!(octets_by("%$", b"ok"), "ok");
        assert_eq!(octets_by("255a", b""), "");
    }

    #[test]
    fn hints_for_integers() {
        let by = |hint, number| shown(BaseType::Integer, "", hint, Value::Integer(number));
        assert_eq!(by("d", 5), "5");
        assert_eq!(by("d-2", 1234), "12.34");
        assert_eq!(by("d-2", -5), "-0.05");
        assert_eq!(by("d-19", i32::MIN), "-0.0000000002147483648");
        assert_eq!(by("x", 255), "ff");
        assert_eq!(by("o", 8), "10");
        assert_eq!(by("b", 5), "101");
        assert_eq!(by("d%", 5), "5");
        assert_eq!(by("d-", 5), "5");
        assert_eq!(by("d-99999999999999999999", 5), "5");
    }

    #[test]
    fn times_addresses_floats() {
        let plain = |value| shown(BaseType::Unknown, "", "", value);
        assert_eq!(plain(Value::TimeTicks(123)), "0:00:01.23");
        assert_eq!(plain(Value::TimeTicks(u32::MAX)), "497 days, 2:27:52.95");
        assert_eq!(plain(Value::Opaque(&[0x9f, 0x78, 4, 0x3f, 0x80, 0, 0])), "1");
        assert_eq!(plain(Value::Opaque(&[1, 2])), "01 02");
        let date = [7, 0xe8, 1, 5, 3, 4, 5, 0, b'+', 1, 0];
        assert_eq!(
            shown(BaseType::Octets, "DateAndTime", "2d-1d-1d,1d:1d:1d.1d,1a1d:1d", Value::Octets(&date)),
            "2024-01-05T03:04:05.0+01:00"
        );
        assert_eq!(shown(BaseType::Octets, "InetAddress", "", Value::Octets(&[10, 0, 0, 1])), "10.0.0.1");
    }

    #[test]
    fn bits_by_label_and_number() {
        let mut out = String::new();
        let label = |number| (number == 0).then_some("first");
        write(
            Style { base: BaseType::Bits, convention: "", hint: "" },
            label,
            None,
            &Value::Octets(&[0x81]),
            &mut out,
        );
        assert_eq!(out, "first, 7");
    }

    proptest! {
        /// Any hint on any octets ends, with text bounded by the octets.
        #[test]
        fn no_hint_does_harm(hint in "[0-9*dxoat:.\\-\\[ ]{0,12}", octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = octets_by(&hint, &octets);
            prop_assert!(text.len() <= 16 + octets.len() * 24 + hint.len() * 4, "{}", text.len());
            let _ = shown(BaseType::Integer, "", &hint, Value::Integer(-7));
        }

        #[test]
        fn no_text_is_a_hint_that_does_harm(hint in ".{0,20}", octets in prop::collection::vec(any::<u8>(), 0..50)) {
            let _ = octets_by(&hint, &octets);
            let _ = shown(BaseType::Integer, "", &hint, Value::Integer(i32::MIN));
        }
    }
}
