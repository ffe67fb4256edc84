//! Where words of the configuration stand in the file, for problems that were found without it at hand: when
//! rules met the MIBs, or when a directory was not there.

use std::path::Path;

use super::decode::Context;
use super::file::{self, System};
use super::include;
use super::source::{Sources, Span};
use super::tree::{Data, Node};
use crate::diagnostic::{Diagnostic, Part};

/// Gives problems that concern a part of the configuration their place in the file at `path` and what it includes. One
/// whose rule is not there any more keeps none. Reads the files again, which a refusal alone is worth.
pub fn locate(path: &Path, problems: &mut [Diagnostic]) {
    if problems.iter().all(|problem| problem.part.is_none() || problem.place.is_some()) {
        return;
    }
    let Ok(octets) = file::read_configuration(path) else { return };
    let Ok(opened) = file::open(path, &octets) else { return };
    let mut root = opened.tree.root;
    let mut cx = Context::new(Sources::new(opened.source), &System, &[]);
    include::resolve(&mut cx, &mut root, path);
    let rules: &[Node] = match below(&root, "rules").map(|rules| &rules.data) {
        Some(Data::List(rules)) => rules,
        _ => &[],
    };
    for problem in problems {
        if let (Some(part), None) = (&problem.part, &problem.place)
            && let Some(span) = match &part.rule {
                Some(_) => rules.iter().find_map(|rule| span_of(rule, part, &cx.sources)),
                None => span_of(&root, part, &cx.sources),
            }
        {
            problem.place = Some(cx.sources.place(&span));
        }
    }
}

fn below<'t>(node: &'t Node, key: &str) -> Option<&'t Node> {
    let Data::Map(entries) = &node.data else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}

fn text(node: &Node) -> Option<&str> {
    match &node.data {
        Data::Text(text) | Data::Integer(_, text) | Data::Float(_, text) => Some(text),
        _ => None,
    }
}

/// Where a part of `within`, a rule or all, stands: as deep as the file says it, since a default has no place of
/// its own.
fn span_of(within: &Node, part: &Part, sources: &Sources) -> Option<Span> {
    let name = below(within, "name");
    if let Some(rule) = &part.rule
        && name.and_then(text) != Some(rule)
    {
        return None;
    }
    let mut node = within;
    for key in part.key.split('.') {
        match below(node, key) {
            Some(found) => node = found,
            None => break,
        }
    }
    if std::ptr::eq(node, within) {
        return name.map(|name| name.span.clone());
    }
    Some(word(node, &part.word, sources).unwrap_or_else(|| node.shown()))
}

/// The octets of `wanted` in a value, a key or within a text. Recursion is bounded by the tree's depth.
fn word(node: &Node, wanted: &str, sources: &Sources) -> Option<Span> {
    match &node.data {
        Data::List(items) => items.iter().find_map(|item| word(item, wanted, sources)),
        Data::Map(entries) => entries.iter().find_map(|entry| {
            let own = (entry.key == wanted).then(|| entry.key_span.clone());
            own.or_else(|| word(&entry.value, wanted, sources))
        }),
        _ if text(node)? == wanted => Some(node.span.clone()),
        _ => {
            let at = sources.raw(&node.span)?.find(wanted)?;
            (!wanted.is_empty()).then(|| node.span.start + at..node.span.start + at + wanted.len())
        }
    }
}
