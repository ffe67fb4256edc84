//! The rooms' layers, read from the sources: a room imports only strictly lower layers, rooms on one layer
//! never import each other, ArcSwap is named in one file, and unsafe code stands in two.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Room and layer, as `docs/architecture.md` has them.
const LAYERS: &[(&str, u8)] = &[
    ("oid", 0),
    ("value", 0),
    ("version", 0),
    ("severity", 0),
    ("security", 0),
    ("device", 0),
    ("metrics", 0),
    ("diagnostic", 0),
    ("template", 0),
    ("wire", 1),
    ("mib", 1),
    ("config", 1),
    ("event", 1),
    ("snapshot", 2),
    ("store", 2),
    ("pipeline", 3),
    ("correlator", 3),
    ("delivery", 3),
    ("reload", 4),
    ("admin", 5),
    ("server", 6),
    ("cli", 7),
];

/// Leaf rooms that other leaves may use: plain types without any import of their own.
const LEAVES_OF_LEAVES: &[&str] = &["oid", "severity", "diagnostic"];

fn layer(room: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == room).map(|(_, layer)| *layer)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file: comments and the contents of strings are left out, so that only paths count.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.find("*/").map_or("", |end| &comment[end + 2..]);
        } else if c == '"' {
            let mut end = 1;
            let bytes = rest.as_bytes();
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            out.push_str("\"\"");
            rest = rest.get(end + 1..).unwrap_or("");
        } else if rest.starts_with("'\"'") {
            rest = &rest[3..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// The first segments of every path below `from` (`crate::` or a chain of `super::`), groups opened:
/// `crate::{a::b, c}` gives a and c.
fn heads(code: &str, from: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(from) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + from.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut word = String::new();
            let mut at_head = true;
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if depth == 1 && c == ',' {
                    at_head = true;
                } else if at_head && (c.is_alphanumeric() || c == '_') {
                    word.push(c);
                    continue;
                } else if !c.is_whitespace() {
                    at_head = false;
                }
                if !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
            }
            found.extend((!word.is_empty()).then_some(word));
        } else {
            let head: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push(head);
        }
    }
    found
}

/// Room and folders below it of a file: `src/mib/resolve/oids.rs` is in `mib` at depth 2.
fn room_of(root: &Path, path: &Path) -> Option<(String, usize)> {
    let inside = path.strip_prefix(root).unwrap().with_extension("");
    let mut parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    let room = parts.first()?.clone();
    (room != "lib" && room != "main").then_some((room, parts.len()))
}

#[test]
fn rooms_import_only_lower_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut breaches = Vec::new();
    let mut seen = BTreeMap::new();
    for path in &files {
        let Some((room, depth)) = room_of(&root, path) else { continue };
        let own = layer(&room).unwrap_or_else(|| panic!("{} belongs to no known room", path.display()));
        *seen.entry(room.clone()).or_insert(0) += 1;
        let code = code(&fs::read_to_string(path).unwrap());
        let mut targets = heads(&code, "crate::");
        // From a file at depth n, n times `super::` reaches the crate's root. Test modules lie deeper.
        for ups in depth..depth + 2 {
            targets.extend(heads(&code, &"super::".repeat(ups)).into_iter().filter(|head| head != "super"));
        }
        for target in targets {
            let Some(other) = layer(&target).filter(|_| target != room) else { continue };
            let leaf = other == 0 && LEAVES_OF_LEAVES.contains(&target.as_str());
            if other >= own && !leaf {
                breaches
                    .push(format!("{}: {room} (layer {own}) uses {target} (layer {other})", path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    let missing: Vec<_> = LAYERS.iter().filter(|(room, _)| !seen.contains_key(*room)).collect();
    assert!(missing.is_empty(), "no sources for {missing:?}: the map and the folders differ");
}

#[test]
fn arc_swap_and_unsafe_stay_where_they_belong() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let holders = |needle: &str| -> Vec<String> {
        let mut found: Vec<_> = files
            .iter()
            .filter(|path| code(&fs::read_to_string(path).unwrap()).contains(needle))
            .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
            .collect();
        found.sort();
        found
    };
    assert_eq!(holders("arc_swap"), ["snapshot/publish.rs"]);
    let unsafe_code: Vec<_> = holders("unsafe ").into_iter().filter(|file| file != "mib/image.rs").collect();
    assert_eq!(unsafe_code, ["pipeline/batch.rs"]);
}

#[test]
fn the_reader_of_paths_finds_what_it_should() {
    let text = "use crate::{mib::Mib, wire, oid::{self, Oid}}; // crate::cli\nfn f() { crate::store::x(\"crate::admin\") }";
    assert_eq!(heads(&code(text), "crate::"), ["mib", "wire", "oid", "store"]);
    assert_eq!(heads("super::super::delivery::x", "super::super::"), ["delivery"]);
    assert_eq!(heads("pub(crate) fn", "crate::"), Vec::<String>::new());
}
