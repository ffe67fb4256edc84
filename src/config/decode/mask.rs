//! Which octets of the file are secret, by the table of keys.

use super::super::keys::{self, Kind, Section};
use super::super::source::{Source, Span, tells_secret};
use super::super::tree::{Data, Node};
use super::pick;

/// The spans that no diagnostic may show: values of secrets, what follows the host of a URL, and
/// everything that stands where a secret is expected or under a key that looks like a misspelt one.
pub(in crate::config) fn secret_spans(root: &Node, source: &Source) -> Vec<Span> {
    let mut spans = Vec::new();
    section(root, &keys::ROOT, source, &mut spans);
    spans
}

// Recursion here is bounded by the depth of the tree.

fn section(node: &Node, table: &'static Section, source: &Source, spans: &mut Vec<Span>) {
    let Data::Map(entries) = &node.data else {
        if table.keys.iter().any(|key| key.kind.holds_secrets()) {
            all(node, spans);
        }
        return;
    };
    let holds = table.keys.iter().any(|key| key.kind.holds_secrets());
    // In this section a community may have been written where its name belongs.
    let private = table.path == "access.communities[]";
    for entry in entries {
        match table.key(&entry.key) {
            Some(key) => kind(&entry.value, &key.kind, source, spans),
            None => {
                let nested = matches!(entry.value.data, Data::List(_) | Data::Map(_));
                if holds || nested || tells_secret(&entry.key) {
                    all(&entry.value, spans);
                }
                let near = || table.keys.iter().any(|key| alike(key.name, &entry.key) > 0.8);
                let suspect = (private || holds && matches!(entry.value.data, Data::Null)) && !near();
                if entry.key != "<<" && !is_word(&entry.key) || suspect {
                    spans.push(entry.key_span.clone());
                }
            }
        }
    }
}

fn kind(node: &Node, of: &'static Kind, source: &Source, spans: &mut Vec<Span>) {
    match (of, &node.data) {
        (Kind::List(of) | Kind::Many(of), Data::List(items)) => {
            items.iter().for_each(|item| kind(item, of, source, spans));
        }
        (Kind::List(of) | Kind::Many(of), _) => kind(node, of, source, spans),
        (Kind::Map(of), Data::Map(entries)) => {
            for entry in entries {
                let suspect = !is_word(&entry.key) || matches!(entry.value.data, Data::Null);
                if of.holds_secrets() && suspect {
                    spans.push(entry.key_span.clone());
                }
                kind(&entry.value, of, source, spans);
            }
        }
        (Kind::Section(table), _) => section(node, table, source, spans),
        (Kind::Either(kinds), _) => kind(node, pick(kinds, node), source, spans),
        (Kind::Secret, Data::Map(entries)) => {
            for entry in entries {
                // A path or a variable's name is shown; anything else could be the secret itself.
                if !matches!(&*entry.key, "env" | "file") {
                    if alike(&entry.key, "file").max(alike(&entry.key, "env")) < 0.7 {
                        spans.push(entry.key_span.clone());
                    }
                    all(&entry.value, spans);
                }
            }
        }
        (Kind::Url, Data::Text(_)) => url(node, source, spans),
        (Kind::Condition, _) => {}
        (Kind::Alias | Kind::Any, _) => all(node, spans),
        // Of the others a single value may be shown; a list or a section there is misplaced.
        (of, Data::List(_) | Data::Map(_)) if !of.holds_secrets() => all(node, spans),
        (of, _) if !of.holds_secrets() => {}
        _ => all(node, spans),
    }
}

fn alike(one: &str, other: &str) -> f64 {
    if one.len().max(other.len()) > 64 { 0.0 } else { strsim::jaro_winkler(one, other) }
}

/// A separator that was forgotten makes one key of a key and its secret, which is no word.
fn is_word(key: &str) -> bool {
    key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Where comments stand: each `#` that is in no key and no single value, up to the line's end. A secret
/// that begins with `#` is a comment to YAML.
pub(in crate::config) fn comments(root: &Node, text: &str) -> Vec<Span> {
    fn texts(node: &Node, spans: &mut Vec<Span>) {
        match &node.data {
            Data::List(items) => items.iter().for_each(|item| texts(item, spans)),
            Data::Map(entries) => {
                for entry in entries {
                    spans.push(entry.key_span.clone());
                    texts(&entry.value, spans);
                }
            }
            _ => spans.push(node.span.clone()),
        }
    }
    let mut spans = Vec::new();
    texts(root, &mut spans);
    spans.sort_by_key(|span| span.start);
    let mut spans = spans.into_iter().peekable();
    let (mut covered, mut at) = (0, 0);
    let mut comments = Vec::new();
    while let Some(found) = text[at..].find('#') {
        let start = at + found;
        while let Some(span) = spans.next_if(|span| span.start <= start) {
            covered = covered.max(span.end);
        }
        if start < covered {
            at = start + 1;
            continue;
        }
        let end = text[start..].find('\n').map_or(text.len(), |end| start + end);
        comments.push(start..end);
        at = end;
    }
    comments
}

/// Every key and value below.
fn all(node: &Node, spans: &mut Vec<Span>) {
    match &node.data {
        Data::List(items) => items.iter().for_each(|item| all(item, spans)),
        Data::Map(entries) => {
            for entry in entries {
                spans.push(entry.key_span.clone());
                all(&entry.value, spans);
            }
        }
        _ => spans.push(node.span.clone()),
    }
}

/// User information, path and query: tokens live there.
fn url(node: &Node, source: &Source, spans: &mut Vec<Span>) {
    let raw = source.text.get(node.span.clone()).unwrap_or_default();
    let Some(scheme) = raw.find("://").filter(|_| !raw.contains('\n')) else {
        // `127.0.0.1:9093/…` lacks its scheme alone; anything else without one may be a secret whole.
        let head = raw.trim_start_matches(['"', '\'']);
        let end = head.find('/').unwrap_or(head.len());
        let port = head[..end].rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        let shown = if matches!(port, Some(Ok(_))) { raw.len() - head.len() + end } else { 0 };
        spans.push((node.span.start + shown).min(node.span.end)..node.span.end);
        return;
    };
    let host = scheme + 3;
    let path = raw[host..].find(['/', '?', '#', '\\']).map_or(raw.len(), |at| host + at + 1);
    if let Some(at) = raw[host..].rfind('@') {
        spans.push(node.span.start + host..node.span.start + host + at);
    }
    spans.push((node.span.start + path).min(node.span.end)..node.span.end);
    // A scheme is letters; anything else before `://` is not known to be one.
    if !raw[..scheme].bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'"' | b'\'')) {
        spans.push(node.span.start..node.span.start + host);
    }
}
