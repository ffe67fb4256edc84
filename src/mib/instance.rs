//! Instances as text: what stands behind an object's OID, written by the INDEX of its row and read back.
//!
//! | part | is written | as |
//! |---|---|---|
//! | a number | its label, where the type is an enumeration; else decimal | `ipv4`, `3` |
//! | octets of text, their length before them | in double quotes | `"eth0"` |
//! | octets of text, of fixed length or IMPLIED | in single quotes | `'eth0'` |
//! | octets that DISPLAY-HINT shows as `1x:` | pairs of hexadecimal digits | `00:1a:2b:03:04:05` |
//! | InetAddress | as the InetAddressType before it says, in quotes | `"fe80::1%3"` |
//! | IpAddress | dotted | `10.0.0.1` |
//! | an OID, and any other octets | as their arcs, the length among them | `3.1.3.6` |
//!
//! In quotes, `\` stands before a quote and before another `\`. An instance that does not fit its INDEX is
//! written as its arcs. [`Mib::resolve`] reads all of these, and arcs in place of any part.

use super::address::{self, ADDRESS, ADDRESS_TYPE};
use super::display::push_number;
use super::image::{ANONYMOUS, BaseType, IMPLIED, Mib, NodeId};
use super::index::{IndexKind, write_arcs};
use super::view::Syntax;
use crate::oid::MAX_ARCS;

/// One part of an INDEX, as the row that has it says.
#[derive(Clone, Copy)]
struct Part<'a> {
    kind: IndexKind,
    /// `None` for a part that INDEX names by a type.
    syntax: Option<Syntax<'a>>,
}

impl<'a> Part<'a> {
    fn is(self, convention: &str) -> bool {
        self.syntax.is_some_and(|syntax| syntax.convention() == convention)
    }

    fn is_octets(self) -> bool {
        matches!(self.kind, IndexKind::Octets | IndexKind::FixedOctets(_) | IndexKind::ImpliedOctets)
    }

    /// The label of a number, where the label alone tells the number again.
    fn label(self, number: u32) -> Option<&'a str> {
        let syntax = self.syntax.filter(|syntax| syntax.base() == BaseType::Integer)?;
        let label = syntax.only_label(i64::from(number))?;
        let is_word = label.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet));
        (is_word && !label.bytes().all(|octet| octet.is_ascii_digit())).then_some(label)
    }
}

/// The octets of a part.
struct Octets {
    octets: [u8; MAX_ARCS],
    len: usize,
}

impl Octets {
    fn of(arcs: &[u32]) -> Self {
        let mut own = Self { octets: [0; MAX_ARCS], len: arcs.len().min(MAX_ARCS) };
        for (octet, &arc) in own.octets.iter_mut().zip(arcs) {
            *octet = arc as u8;
        }
        own
    }

    fn all(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    /// As text that can stand in quotes: no character that is not seen.
    fn text(&self) -> Option<&str> {
        let text = std::str::from_utf8(self.all()).ok()?;
        let is_seen = |c: char| matches!(c, ' '..='~') || (!c.is_ascii() && c.is_alphanumeric());
        text.chars().all(is_seen).then_some(text)
    }
}

impl Mib {
    /// Appends `.part.part…` for the instance of a column: `.7`, `.4."east"`, `.ipv4."10.0.0.1"`, as the module
    /// `instance` tells. [`resolve`](Self::resolve) reads it back. Appends nothing for no instance. No
    /// allocation but for `out`.
    pub fn write_instance(&self, node: NodeId, instance: &[u32], out: &mut String) {
        if instance.is_empty() {
            return;
        }
        let start = out.len();
        if !self.write_parts(node, instance, out) {
            out.truncate(start);
            out.push('.');
            write_arcs(instance, out);
        }
    }

    /// `false`, with rubbish appended, where the parts of the INDEX do not take up `instance` whole.
    fn write_parts(&self, node: NodeId, instance: &[u32], out: &mut String) -> bool {
        let mut rest = instance;
        let mut address_type = None;
        for part in self.index_layout(node) {
            let Some((part, (head, len))) = part.and_then(|part| Some((part, part.kind.extent(rest)?)))
            else {
                return false;
            };
            let (arcs, after) = rest.split_at(head + len);
            // An IMPLIED part with nothing in it.
            if arcs.is_empty() {
                continue;
            }
            out.push('.');
            write_part(part, arcs, head, address_type, out);
            if part.is(ADDRESS_TYPE) {
                address_type = arcs.first().copied();
            }
            rest = after;
        }
        rest.is_empty()
    }

    /// The parts of the INDEX; `None` for one that nobody defines rightly.
    fn index_layout(&self, node: NodeId) -> impl Iterator<Item = Option<Part<'_>>> {
        self.index_references(node).map(|reference| {
            let kind = self.index_kind(reference)?;
            let object = reference & !IMPLIED;
            let syntax = if object == ANONYMOUS { None } else { self.node(NodeId(object)).syntax() };
            Some(Part { kind, syntax })
        })
    }

    /// The type that stands in an instance: the last InetAddressType of the INDEX.
    pub(super) fn address_type_in(&self, node: NodeId, instance: &[u32]) -> Option<u32> {
        let mut rest = instance;
        let mut found = None;
        for part in self.index_layout(node) {
            let part = part?;
            let (head, len) = part.kind.extent(rest)?;
            if part.is(ADDRESS_TYPE) {
                found = rest.first().copied();
            }
            rest = &rest[head + len..];
        }
        found
    }

    /// The part that begins behind the arcs of `instance`, and the InetAddressType among those. `None` where
    /// they end within a part, or where the INDEX ends.
    fn next_part(&self, node: NodeId, instance: &[u32]) -> Option<(Part<'_>, Option<u32>)> {
        let mut rest = instance;
        let mut address_type = None;
        for part in self.index_layout(node) {
            let part = part?;
            if rest.is_empty() {
                return Some((part, address_type));
            }
            let (head, len) = part.kind.extent(rest)?;
            if part.is(ADDRESS_TYPE) {
                address_type = rest.first().copied();
            }
            rest = &rest[head + len..];
        }
        None
    }

    /// Appends the arcs of a word in an instance (a label, hexadecimal pairs) behind the first `matched` of
    /// `arcs`; `false`, and nothing appended, where it is none.
    pub(super) fn read_word(&self, node: NodeId, word: &str, matched: usize, arcs: &mut Vec<u32>) -> bool {
        let Some((part, _)) = self.next_part(node, &arcs[matched..]) else {
            return false;
        };
        if part.is_octets() {
            let pairs = word.split(':').map(|pair| {
                let is_hexadecimal =
                    matches!(pair.len(), 1 | 2) && pair.bytes().all(|o| o.is_ascii_hexdigit());
                is_hexadecimal.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
            });
            return match pairs.collect::<Option<Vec<u8>>>() {
                Some(octets) if octets.len() > 1 => push_octets(part.kind, &octets, arcs),
                _ => false,
            };
        }
        let number = part.syntax.filter(|_| part.kind == IndexKind::Integer).and_then(|s| s.number(word));
        match number.and_then(|number| u32::try_from(number).ok()) {
            Some(arc) => {
                arcs.push(arc);
                true
            }
            None => false,
        }
    }

    /// Appends the arcs of a text in quotes. Where the INDEX does not say what stands here, `"` has its length
    /// before it and `'` has not.
    pub(super) fn read_quoted(
        &self,
        node: NodeId,
        (quote, text): (char, &str),
        matched: usize,
        arcs: &mut Vec<u32>,
    ) -> bool {
        match self.next_part(node, &arcs[matched..]) {
            Some((part, kind)) if part.is_octets() => {
                let address = kind.filter(|_| part.is(ADDRESS)).and_then(|kind| address::parse(kind, text));
                push_octets(part.kind, address.as_deref().unwrap_or(text.as_bytes()), arcs)
            }
            _ if quote == '"' => push_octets(IndexKind::Octets, text.as_bytes(), arcs),
            _ => push_octets(IndexKind::ImpliedOctets, text.as_bytes(), arcs),
        }
    }
}

fn push_octets(kind: IndexKind, octets: &[u8], arcs: &mut Vec<u32>) -> bool {
    match kind {
        IndexKind::Octets => arcs.push(octets.len() as u32),
        IndexKind::FixedOctets(len) if len as usize != octets.len() => return false,
        _ => {}
    }
    arcs.extend(octets.iter().map(|&octet| u32::from(octet)));
    true
}

/// Appends one part: `head` of its arcs are its length.
fn write_part(part: Part<'_>, arcs: &[u32], head: usize, address_type: Option<u32>, out: &mut String) {
    if let (IndexKind::Integer, &[arc]) = (part.kind, arcs) {
        match part.label(arc) {
            Some(label) => out.push_str(label),
            None => push_number(u64::from(arc), out),
        }
        return;
    }
    if part.is_octets() {
        let octets = Octets::of(&arcs[head..]);
        let quote = if head > 0 { '"' } else { '\'' };
        if write_octets(part, &octets, quote, address_type, out) {
            return;
        }
    }
    write_arcs(arcs, out);
}

/// `false`, with nothing appended, for octets that have no form but their arcs.
fn write_octets(
    part: Part<'_>,
    octets: &Octets,
    quote: char,
    address_type: Option<u32>,
    out: &mut String,
) -> bool {
    let (base, hint) = part.syntax.map_or((BaseType::Octets, ""), |syntax| (syntax.base(), syntax.hint()));
    let address_type = address_type.filter(|_| part.is(ADDRESS));
    if let Some(kind) = address_type {
        let start = out.len();
        out.push(quote);
        if address::write(kind, octets.all(), out) && !out[start + 1..].contains(['"', '\'', '\\']) {
            out.push(quote);
            return true;
        }
        out.truncate(start);
    }
    if matches!(hint, "1x:" | "1x-") && octets.len > 1 {
        for (at, octet) in octets.all().iter().enumerate() {
            out.push_str(if at > 0 { ":" } else { "" });
            super::display::push_pair(*octet, b"0123456789abcdef", out);
        }
        return true;
    }
    let is_text = base == BaseType::Octets
        && (hint.is_empty() || hint.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(['a', 't']));
    let Some(text) = octets.text().filter(|_| is_text) else {
        return false;
    };
    // In quotes it would be read as an address.
    if address_type.is_some_and(|kind| address::parse(kind, text).is_some()) {
        return false;
    }
    out.push(quote);
    for character in text.chars() {
        if character == quote || character == '\\' {
            out.push('\\');
        }
        out.push(character);
    }
    out.push(quote);
    true
}

/// One piece of a name as a person writes it, between dots.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    Number(u32),
    Word(&'t str),
    /// The quote and what stands between two of them, without the escapes.
    Quoted(char, String),
}

/// Takes the next piece, and the dot behind it, off `text`. `None` where there is none: two dots side by side,
/// a quote that is not closed, a number past an arc.
pub(super) fn piece<'t>(text: &mut &'t str) -> Option<Piece<'t>> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (piece, rest) = match quote {
        Some(quote) => {
            let mut inner = String::new();
            let mut escaped = false;
            let end = text.char_indices().skip(1).find_map(|(at, c)| {
                if !escaped && c == quote {
                    return Some(at);
                }
                escaped = !escaped && c == '\\';
                if !escaped {
                    inner.push(c);
                }
                None
            })?;
            (Piece::Quoted(quote, inner), &text[end + 1..])
        }
        None => {
            let end = text.find('.').unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            if word.is_empty() {
                return None;
            }
            if word.bytes().all(|octet| octet.is_ascii_digit()) {
                (Piece::Number(word.parse().ok()?), rest)
            } else {
                (Piece::Word(word), rest)
            }
        }
    };
    *text = match rest.strip_prefix('.') {
        Some("") => return None,
        Some(next) => next,
        None if rest.is_empty() => rest,
        None => return None,
    };
    Some(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stand_between_dots_and_quotes_hide_them() {
        let mut text = r#"ifDescr.3."a.\"b\\".'x"'.00:1a"#;
        let mut pieces = Vec::new();
        while !text.is_empty() {
            pieces.push(piece(&mut text).unwrap());
        }
        assert_eq!(
            pieces,
            [
                Piece::Word("ifDescr"),
                Piece::Number(3),
                Piece::Quoted('"', "a.\"b\\".to_owned()),
                Piece::Quoted('\'', "x\"".to_owned()),
                Piece::Word("00:1a"),
            ]
        );
        for wrong in ["", ".", "a.", "\"a", "\"a\"b", "'", "4294967296", "\"a\\\""] {
            let mut text = wrong;
            assert_eq!(piece(&mut text), None, "{wrong}");
        }
    }
}
