//! `include`: more files, found by name, whose sections join those of the file that names them.
//!
//! Patterns count from the folder of the file that they stand in; the files of one pattern come in the order of
//! their names. Lists are appended, sections merged, and what has one value has it once. An included file
//! includes no further, so that what belongs to a configuration is read off one file.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::decode::Context;
use super::file::{self, ContentHash, MAX_FILE};
use super::keys::{self, Kind, Section};
use super::source::Span;
use super::tree::{Data, Entry, Node};

/// The most files.
const MAX_FILES: usize = 1_000;
/// The most octets of all included files together.
const MAX_OCTETS: u64 = 64 << 20;
/// The most directories that are listed.
const MAX_LISTED: usize = 1_000;

/// Reads what `root` includes and merges it in. `own` is the file that `root` was read from.
pub(super) fn resolve(cx: &mut Context<'_>, root: &mut Node, own: &Path) {
    let Data::Map(entries) = &root.data else { return };
    let Some(entry) = entries.iter().find(|entry| entry.key == "include") else { return };
    let patterns: Vec<(String, Span)> = match &entry.value.data {
        Data::List(items) => items.iter().filter_map(|item| pattern(cx, item)).collect(),
        Data::Text(_) => pattern(cx, &entry.value).into_iter().collect(),
        _ => {
            cx.wrong_type(&entry.value, "a list of file names");
            return;
        }
    };
    let mut reading = Reading { seen: HashSet::from([own.to_owned()]), octets: 0, listed: 0 };
    for (pattern, span) in patterns {
        for path in reading.expand(cx, &pattern, &span) {
            if !reading.seen.insert(path.clone()) {
                continue;
            }
            if reading.seen.len() > MAX_FILES {
                let message = format!("more than {MAX_FILES} files are included");
                cx.error("config-range", &span, message, None);
                cx.incomplete = true;
                return;
            }
            if let Some(included) = reading.read(cx, &path, &span) {
                join(cx, root, included);
            }
        }
    }
}

fn pattern(cx: &mut Context<'_>, node: &Node) -> Option<(String, Span)> {
    let text = cx.text(node)?;
    if text.contains('\0') || text.split('/').any(|part| part.contains("**")) {
        let help = "`*` stands for any part of one name: `conf.d/*.yaml`, `sites/*/rules.yaml`";
        cx.error("config-value", &node.span, "this names no files", Some(help.into()));
        return None;
    }
    Some((text.to_owned(), node.span.clone()))
}

struct Reading {
    seen: HashSet<PathBuf>,
    octets: u64,
    listed: usize,
}

impl Reading {
    /// The files of a pattern. Each directory that had to be listed is an input: a new name in it is a change.
    fn expand(&mut self, cx: &mut Context<'_>, pattern: &str, span: &Span) -> Vec<PathBuf> {
        let mut paths = vec![cx.sources.folder(span).to_owned()];
        let mut wild = false;
        for component in Path::new(pattern).components() {
            let name = match component {
                Component::Normal(name) => name.to_string_lossy(),
                // An absolute pattern begins anew; `..` is kept as it is written.
                other => {
                    paths.iter_mut().for_each(|path| path.push(other));
                    continue;
                }
            };
            let literal = !name.contains(['*', '?', '[']);
            if literal && !wild {
                paths.iter_mut().for_each(|path| path.push(component));
                continue;
            }
            // Behind a `*` a name is one that may be there.
            let mut found = Vec::new();
            for folder in &paths {
                let Some(names) = self.list(cx, folder, wild, span) else { continue };
                let fits = |own: &OsString| {
                    if literal {
                        own == component.as_os_str()
                    } else {
                        matches(&name, &own.to_string_lossy())
                    }
                };
                found.extend(names.iter().filter(|own| fits(own)).map(|own| folder.join(own)));
            }
            wild = true;
            paths = found;
        }
        if wild && paths.is_empty() && !cx.incomplete {
            cx.warning("config-include", span, "no file has such a name", None);
        }
        paths
    }

    /// The names in a folder, sorted, without hidden ones.
    fn list(
        &mut self,
        cx: &mut Context<'_>,
        folder: &Path,
        wild: bool,
        span: &Span,
    ) -> Option<Vec<OsString>> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        self.listed += 1;
        if self.listed > MAX_LISTED {
            let message = format!("more than {MAX_LISTED} directories would be searched");
            cx.error("config-range", span, message, Some("name them".into()));
            cx.incomplete = true;
            return None;
        }
        match cx.inputs.list(folder) {
            Ok(mut names) => {
                names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
                names.sort_unstable();
                let mut all = Vec::new();
                for name in &names {
                    all.extend_from_slice(name.as_encoded_bytes());
                    all.push(0);
                }
                cx.remember(folder, Some(ContentHash::of(&all)), None, span);
                Some(names)
            }
            // A name that fits a `*` in the middle of a pattern may well be a file.
            Err(error) if wild && error.kind() == io::ErrorKind::NotADirectory => None,
            Err(error) => {
                cx.remember(folder, None, None, span);
                unreadable(cx, folder, &error, span);
                None
            }
        }
    }

    /// One file's tree, its spans moved to where its text stands; what is wrong with it is told.
    fn read(&mut self, cx: &mut Context<'_>, path: &Path, span: &Span) -> Option<Node> {
        let octets = match cx.inputs.read_part(path, MAX_FILE.min(MAX_OCTETS - self.octets)) {
            Ok(octets) => octets,
            Err(error) => {
                cx.remember(path, None, Some(false), span);
                unreadable(cx, path, &error, span);
                return None;
            }
        };
        self.octets += octets.len() as u64;
        cx.remember(path, Some(ContentHash::of(&octets)), Some(false), span);
        match file::open(path, &octets) {
            Ok(mut opened) => {
                let base = cx.sources.add(opened.source);
                opened.tree.root.shift(base);
                for problem in opened.tree.twice {
                    let span = problem.span.start + base..problem.span.end + base;
                    cx.error(problem.code, &span, problem.message, problem.help);
                }
                Some(opened.tree.root)
            }
            Err(diagnostics) => {
                cx.incomplete = true;
                let at = cx.sources.end();
                diagnostics.into_iter().for_each(|problem| cx.tell_at(at, problem));
                None
            }
        }
    }
}

fn unreadable(cx: &mut Context<'_>, path: &Path, error: &io::Error, span: &Span) {
    cx.incomplete = true;
    let message = format!("cannot read `{}`: {error}", path.display());
    let help = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "let the user that Nereus runs as read the file and enter its directories"
        }
        _ => "a relative path counts from the folder of the file that it stands in",
    };
    cx.error("config-read", span, message, Some(help.into()));
}

fn join(cx: &mut Context<'_>, root: &mut Node, included: Node) {
    let Data::Map(mut entries) = included.data else {
        return cx.wrong_type(&included, "sections, as in the file that includes it");
    };
    if let Some(at) = entries.iter().position(|entry| entry.key == "include") {
        let entry = entries.remove(at);
        let help = "name the files in the file that includes this one";
        cx.error(
            "config-include",
            &entry.key_span,
            "an included file includes no further",
            Some(help.into()),
        );
    }
    if let Data::Map(own) = &mut root.data {
        merge(cx, own, entries, &keys::ROOT);
    }
}

/// Adds `more` to a section. Recursion is bounded by the table of keys.
fn merge(cx: &mut Context<'_>, own: &mut Vec<Entry>, more: Vec<Entry>, section: &'static Section) {
    for entry in more {
        let key = section.key(&entry.key);
        let (Some(key), Some(first)) = (key, own.iter_mut().find(|first| first.key == entry.key)) else {
            own.push(entry);
            continue;
        };
        match (&key.kind, &mut first.value.data, entry.value.data) {
            (Kind::Section(inner), Data::Map(own), Data::Map(more)) => merge(cx, own, more, inner),
            (Kind::Map(_), Data::Map(own), Data::Map(more)) => {
                for entry in more {
                    match own.iter().find(|first| first.key == entry.key) {
                        Some(first) => {
                            let first = first.key_span.clone();
                            let name = format!("{}.{}", section.path_of(key.name), entry.key);
                            twice(cx, Some(&name), &first, &entry.key_span);
                        }
                        None => own.push(entry),
                    }
                }
            }
            (Kind::List(_), Data::List(own), Data::List(more)) => own.extend(more),
            (Kind::Many(_), _, data) => {
                let more = items(Node { span: entry.value.span, data });
                let own = std::mem::replace(&mut first.value.data, Data::Null);
                let mut all = items(Node { span: first.value.span.clone(), data: own });
                all.extend(more);
                first.value.data = Data::List(all);
            }
            // Of two kinds, at least one is wrong; the one that stays is told by the decoder.
            (Kind::Section(_) | Kind::Map(_) | Kind::List(_), _, data) => {
                let what = if matches!(key.kind, Kind::List(_)) { "a list" } else { "a section" };
                cx.wrong_type(&Node { span: entry.value.span, data }, what);
            }
            _ => {
                let first = first.key_span.clone();
                twice(cx, Some(&section.path_of(key.name)), &first, &entry.key_span);
            }
        }
    }
}

/// One value is a list of itself.
fn items(node: Node) -> Vec<Node> {
    match node.data {
        Data::List(items) => items,
        _ => vec![node],
    }
}

fn twice(cx: &mut Context<'_>, name: Option<&str>, first: &Span, second: &Span) {
    let place = cx.sources.place(first);
    let name = name.filter(|_| cx.sources.quote(second).is_some_and(|shown| !shown.contains('*')));
    let message = match name {
        Some(name) => format!("`{name}` is given twice"),
        None => "this is given twice".to_owned(),
    };
    let help =
        format!("it stands in {}:{}:{} already; keep one of them", place.file, place.line, place.column);
    cx.error("config-duplicate-key", second, message, Some(help));
}

/// Whether a name fits a pattern with `*`, `?` and `[…]`. Work is bounded by the product of both lengths.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // The last `*`, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[p..], name[n]),
            Some(own) => (*own == name[n]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|own| *own == '*')
}

/// The length of the class that begins `pattern`, if `character` is in it. One without an end is a `[`.
fn class(pattern: &[char], character: char) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    // A `]` that stands first is one of the characters.
    let Some(end) = pattern.iter().skip(first + 1).position(|own| *own == ']') else {
        return (character == '[').then_some(1);
    };
    let mut set = &pattern[first..first + 1 + end];
    let mut found = false;
    loop {
        match set {
            [from, '-', to, rest @ ..] => {
                found |= (*from..=*to).contains(&character);
                set = rest;
            }
            [own, rest @ ..] => {
                found |= *own == character;
                set = rest;
            }
            [] => break,
        }
    }
    (found != negated).then_some(first + end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_as_shells_do() {
        for (pattern, name, expected) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", ".yaml", true),
            ("*.yaml", "a.yml", false),
            ("*a*b", "xaxxab", true),
            ("*a*b", "xaxxa", false),
            ("??-*.yaml", "10-a.yaml", true),
            ("??-*.yaml", "1-a.yaml", false),
            ("[0-9]*", "7x", true),
            ("[!0-9]*", "7x", false),
            ("[]a]", "]", true),
            ("[", "[", true),
            ("[a", "a", false),
            ("é?", "éü", true),
            ("***", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_star_matches_anything(pattern in "[ab*?\\[\\]!-]{0,12}", name in "[ab\\[-]{0,12}") {
            let _ = matches(&pattern, &name);
            let (around, longer) = (format!("*{name}*"), format!("x{name}y"));
            proptest::prop_assert!(name.contains('[') || matches(&around, &longer));
        }
    }
}
