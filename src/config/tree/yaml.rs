//! YAML 1.2 (core schema) into the tree, from parser events, without recursion.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError};

use super::{Data, Entry, MAX_DEPTH, MAX_NODES, Node, Problem};
use crate::config::source::Span;

struct Open {
    span: Span,
    anchor: usize,
    /// Values below and including this one.
    nodes: usize,
    /// Levels below this one.
    height: usize,
    data: Data,
    key: Option<(String, Span)>,
}

struct Anchored {
    node: Node,
    nodes: usize,
    height: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    root: Option<Node>,
    total: usize,
}

/// The tree, and whether the text has anchors.
pub(super) fn read(text: &str) -> Result<(Node, bool), Problem> {
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| syntax(&error, text))?;
        let span = span.byte_range().unwrap_or(0..0);
        builder.event(event, span)?;
    }
    match builder.root {
        Some(Node { data: Data::Null, span }) if span.is_empty() => {
            Err(super::super::file::says_nothing(span))
        }
        Some(root) => Ok((root, !builder.anchors.is_empty())),
        None => Err(super::super::file::says_nothing(0..0)),
    }
}

fn syntax(error: &ScanError, text: &str) -> Problem {
    let at = floor(text, error.marker().byte_offset().unwrap_or(text.len()));
    let kind = error.kind();
    let problem = |at: usize| Problem::new("config-syntax", at..at + 1, format!("this is no YAML: {kind}"));
    if let Some(tab) = indenting_tab(text, at) {
        return problem(tab).help("YAML does not take tabs for indentation: use blanks");
    }
    let help = match kind {
        ErrorKind::UnclosedQuotedScalar => "the quote that opens this text is not closed",
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::BlockSequenceEntryNotAllowed => {
            "what belongs to one section or one list stands in one column"
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            "a key is followed by a colon and a blank; a text that holds `: ` needs quotes"
        }
        ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnclosedFlowCollection { .. } => {
            "a `{` or `[` above is not closed, or a comma is missing"
        }
        _ => return problem(at),
    };
    problem(at).help(help)
}

/// A tab in the indentation of the line of `at` or of the next one, where a scanner may have stopped.
fn indenting_tab(text: &str, at: usize) -> Option<usize> {
    let mut start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    for _ in 0..2 {
        let line = text[start..].split('\n').next()?;
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line[..indentation].find('\t') {
            return Some(start + tab);
        }
        start += line.len() + 1;
        if start > text.len() {
            break;
        }
    }
    None
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Problem::new("config-documents", span, "a second document begins here")
                    .help("a configuration is one document: remove the `---`, or what follows it"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = match &tag {
                    None => style == ScalarStyle::Plain,
                    Some(tag) if tag.is_yaml_core_schema_tag("str") => false,
                    Some(tag) => {
                        check_tag(tag, &span)?;
                        style == ScalarStyle::Plain
                    }
                };
                let data = if plain { resolve(&text) } else { Data::Text(text.into_owned()) };
                let weight = 1 + weight(&data);
                self.close(Node { span, data }, anchor, weight, 0)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(Data::List(Vec::new()), span, anchor, tag.as_deref())
            }
            Event::MappingStart(_, anchor, tag) => {
                self.open(Data::Map(Vec::new()), span, anchor, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let node = Node { span: open.span, data: open.data };
                self.close(node, open.anchor, open.nodes, open.height)
            }
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor) else {
                    return Err(Problem::new(
                        "config-alias",
                        span,
                        "this alias stands inside of what it names",
                    ));
                };
                let (nodes, height) = (target.nodes, target.height);
                self.grow(nodes, height, &span)?;
                let node = self.anchors[&anchor].node.clone();
                self.attach(node, 0, nodes, height)
            }
            Event::UnresolvedAlias(_) => {
                Err(Problem::new("config-alias", span, "no anchor of this name stands above this alias")
                    .help("a text that begins with `*` needs quotes"))
            }
            _ => Ok(()),
        }
    }

    fn open(
        &mut self,
        data: Data,
        span: Span,
        anchor: usize,
        tag: Option<&granit_parser::Tag>,
    ) -> Result<(), Problem> {
        if let Some(tag) = tag {
            check_tag(tag, &span)?;
        }
        if let Some(Open { data: Data::Map(_), key: None, .. }) = self.open.last() {
            return Err(not_a_key(span));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.open.push(Open { span, anchor, nodes: 1, height: 0, data, key: None });
        Ok(())
    }

    /// Counts values before they are made, so that a small text cannot become a large tree.
    fn grow(&mut self, nodes: usize, height: usize, span: &Span) -> Result<(), Problem> {
        if self.open.len() + height > MAX_DEPTH {
            return Err(too_deep(span.clone()));
        }
        self.total = self.total.saturating_add(nodes);
        if self.total > MAX_NODES {
            let message = format!("aliases and anchors expand to more than {MAX_NODES} values");
            return Err(Problem::new("config-alias", span.clone(), message));
        }
        Ok(())
    }

    fn close(&mut self, node: Node, anchor: usize, nodes: usize, height: usize) -> Result<(), Problem> {
        // What is anchored is kept once more.
        let own = 1 + weight(&node.data);
        self.grow(if anchor == 0 { own } else { own + nodes }, 0, &node.span)?;
        self.attach(node, anchor, nodes, height)
    }

    fn attach(&mut self, node: Node, anchor: usize, nodes: usize, height: usize) -> Result<(), Problem> {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, height });
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(above) => {
                above.nodes = above.nodes.saturating_add(nodes);
                above.height = above.height.max(height + 1);
                match &mut above.data {
                    Data::Map(entries) => match above.key.take() {
                        None => {
                            let Some(key) = key_text(&node) else { return Err(not_a_key(node.span)) };
                            above.key = Some((key, node.span));
                        }
                        Some((key, key_span)) => entries.push(Entry { key, key_span, value: node }),
                    },
                    Data::List(items) => items.push(node),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// What the octets of a text count.
fn weight(data: &Data) -> usize {
    if let Data::Text(text) = data { text.len() / 32 } else { 0 }
}

fn key_text(node: &Node) -> Option<String> {
    match &node.data {
        Data::Text(text) | Data::Integer(_, text) | Data::Float(_, text) => Some(text.clone()),
        Data::Bool(value) => Some(value.to_string()),
        Data::Null => Some(String::new()),
        Data::List(_) | Data::Map(_) => None,
    }
}

fn not_a_key(span: Span) -> Problem {
    Problem::new("config-key", span, "a list or a section cannot be a key")
        .help("a text that begins with `{` or `[` needs quotes: \"{{ ifDescr }}\"")
}

fn too_deep(span: Span) -> Problem {
    Problem::new("config-depth", span, format!("nested more than {MAX_DEPTH} levels deep"))
}

fn check_tag(tag: &granit_parser::Tag, span: &Span) -> Result<(), Problem> {
    if tag.is_yaml_core_schema() {
        return Ok(());
    }
    Err(Problem::new("config-tag", span.clone(), "a configuration has no tags")
        .help("a text that begins with `!` needs quotes"))
}

/// A plain scalar by YAML's core schema (YAML 1.2.2 section 10.3.2).
fn resolve(text: &str) -> Data {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Data::Null,
        "true" | "True" | "TRUE" => return Data::Bool(true),
        "false" | "False" | "FALSE" => return Data::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let radix = |digits: &str, radix| i64::from_str_radix(digits, radix).ok();
    let integer = if let Some(octal) = text.strip_prefix("0o") {
        octal.bytes().all(|b| b.is_ascii_digit()).then(|| radix(octal, 8)).flatten()
    } else if let Some(hex) = text.strip_prefix("0x") {
        hex.bytes().all(|b| b.is_ascii_hexdigit()).then(|| radix(hex, 16)).flatten()
    } else if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    };
    if let Some(integer) = integer {
        return Data::Integer(integer, text.to_owned());
    }
    let special = matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    let digits = unsigned.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'.')
        && unsigned.bytes().any(|b| b.is_ascii_digit())
        && unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse::<f64>() {
        Ok(number) if digits => Data::Float(number, text.to_owned()),
        _ if special => Data::Float(f64::NAN, text.to_owned()),
        _ => Data::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        assert!(matches!(resolve("1.3"), Data::Float(..)));
        assert!(matches!(resolve("1.3.6"), Data::Text(_)));
        assert!(matches!(resolve("0x1F"), Data::Integer(31, _)));
        assert!(matches!(resolve("-7"), Data::Integer(-7, _)));
        assert!(matches!(resolve("1e3"), Data::Float(..)));
        assert!(matches!(resolve("e3"), Data::Text(_)));
        assert!(matches!(resolve("on"), Data::Text(_)));
        assert!(matches!(resolve("~"), Data::Null));
        assert!(matches!(resolve("99999999999999999999"), Data::Float(..)));
    }
}
