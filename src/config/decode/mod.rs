//! From the tree to [`Settings`](super::Settings) by the table of keys, collecting every problem.
//!
//! What is wrong is told and replaced by its default, so that one pass finds all; the settings are handed
//! out only if no error was found.

mod conditions;
mod mask;
mod rules;
mod scalars;
mod secret;
mod sections;
mod units;

pub(super) use scalars::pick;

use std::collections::HashSet;
use std::path::PathBuf;

pub(super) use mask::{comments, secret_spans};
pub(super) use sections::settings;

use super::file::{ContentHash, Input, Inputs};
use super::keys::{self, Key, Kind, Section};
use super::sample;
use super::source::{Source, Span};
use super::tree::{Data, Entry, Node};
use crate::diagnostic::{Diagnostic, Level};

/// More problems than a person reads at once; the rest is counted.
const MAX_PROBLEMS: usize = 200;

/// What is collected on the way.
pub(super) struct Context<'a> {
    source: &'a Source,
    inputs: &'a dyn Inputs,
    not_yet: &'static [&'static str],
    problems: Vec<Diagnostic>,
    more: usize,
    /// The files that secrets came from.
    read: Vec<Input>,
    #[cfg(test)]
    asked: std::cell::RefCell<std::collections::BTreeSet<String>>,
}

/// What [`Context::finish`] hands out.
pub(super) struct Collected {
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) inputs: Vec<Input>,
}

impl<'a> Context<'a> {
    pub(super) fn new(source: &'a Source, inputs: &'a dyn Inputs) -> Self {
        Self {
            source,
            inputs,
            not_yet: keys::NOT_YET,
            problems: Vec::new(),
            more: 0,
            read: Vec::new(),
            #[cfg(test)]
            asked: Default::default(),
        }
    }

    /// Every problem in the order of the file, and the files that were read.
    pub(super) fn finish(mut self) -> Collected {
        let place = |d: &Diagnostic| d.place.as_ref().map(|place| (place.line, place.column));
        self.problems.sort_by_key(place);
        if self.more > 0 {
            let message = format!("{} further problems are not shown", self.more);
            self.problems.push(Diagnostic::error("config-more", message));
        }
        Collected { diagnostics: self.problems, inputs: self.read }
    }

    fn tell(&mut self, mut diagnostic: Diagnostic, span: &Span, help: Option<String>) {
        if self.is_full() {
            self.more += usize::from(diagnostic.level == Level::Error);
            return;
        }
        diagnostic.place = Some(self.source.place(span));
        diagnostic.help = help;
        self.problems.push(diagnostic);
    }

    pub(super) fn error(
        &mut self,
        code: &'static str,
        span: &Span,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.tell(Diagnostic::error(code, message), span, help);
    }

    fn warning(&mut self, code: &'static str, span: &Span, message: impl Into<String>, help: Option<String>) {
        self.tell(Diagnostic::warning(code, message), span, help);
    }

    /// The value as a message may quote it: in back quotes, or "this value" if it is long or a secret.
    fn quoted(&self, node: &Node) -> String {
        match self.quote(node) {
            Some(text) if !matches!(node.data, Data::List(_) | Data::Map(_)) => format!("`{text}`"),
            _ => "this value".into(),
        }
    }

    /// The value as it may be shown. Nothing once the list is full: finding a column costs its line.
    fn quote(&self, node: &Node) -> Option<String> {
        if self.is_full() { None } else { self.source.quote(&node.span) }
    }

    fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    fn wrong_type(&mut self, node: &Node, expected: &str) {
        let help = match &node.data {
            Data::Null => Some("remove the key, or give it a value".to_owned()),
            _ => None,
        };
        self.error("config-type", &node.shown(), format!("expected {expected}, found {}", node.what()), help);
    }

    /// Opens a section: its unknown keys, keys of a later version and missing keys are told here.
    fn section<'t>(&mut self, node: &'t Node, section: &'static Section) -> Option<Fields<'t>> {
        let Data::Map(entries) = &node.data else {
            let keys: Vec<_> = section.known().map(|key| key.name).collect();
            let expected = format!("a section with keys ({})", some_of(&keys));
            self.wrong_type(node, &expected);
            return None;
        };
        let mut seen = HashSet::new();
        // A key that is misspelt is not missing besides.
        let mut meant = Vec::new();
        for entry in entries {
            match section.key(&entry.key) {
                _ if !seen.insert(&*entry.key) => {}
                Some(key) if section.listed(key.name, self.not_yet) => {
                    let message = format!("`{}` is not in this version", section.path_of(key.name));
                    self.error("config-not-yet", &entry.key_span, message, Some("remove it".into()));
                }
                Some(_) => {}
                None => meant.extend(self.unknown_key(section, entry)),
            }
        }
        for key in section.keys.iter().filter(|key| key.required && !section.listed(key.name, self.not_yet)) {
            if !seen.contains(key.name) && !meant.contains(&key.name) {
                let message = format!("`{}` is missing", section.path_of(key.name));
                let toml = self.source.file.ends_with(".toml");
                let example =
                    key.example.map(|json| format!("for example `{}`", sample::line(key.name, json, toml)));
                self.error("config-missing-key", &node.shown(), message, example);
            }
        }
        Some(Fields { section, entries, node })
    }

    /// Gives the key that is probably meant.
    fn unknown_key(&mut self, section: &'static Section, entry: &Entry) -> Option<&'static str> {
        if self.is_full() {
            self.more += 1;
            return None;
        }
        let names: Vec<_> = section.known().map(|key| key.name).collect();
        let near = suggest(&entry.key, names.iter().copied());
        let within =
            if section.path.is_empty() { "here".to_owned() } else { format!("in `{}`", section.path) };
        let help = match near {
            _ if entry.key == "<<" => {
                Some("merge keys are not taken: repeat the keys, or alias a whole value".into())
            }
            Some(near) => Some(format!("did you mean `{near}`?")),
            None => match elsewhere(&entry.key) {
                Some(path) => Some(format!("`{}` is a key of `{path}`", entry.key)),
                None => Some(format!("known keys: {}", names.join(", "))),
            },
        };
        let name = self.source.quote(&entry.key_span).filter(|name| !name.contains('*'));
        let message = match name {
            Some(name) => format!("unknown key `{name}` {within}"),
            None => format!("unknown key {within}"),
        };
        self.error("config-unknown-key", &entry.key_span, message, help);
        near
    }

    /// The items of a list; with `many` one value is a list of itself.
    fn items<'t>(&mut self, node: &'t Node, many: bool, of: &str) -> Option<&'t [Node]> {
        match &node.data {
            Data::List(items) => Some(items),
            Data::Null => {
                self.wrong_type(node, &format!("a list of {of}"));
                None
            }
            _ if many => Some(std::slice::from_ref(node)),
            _ => {
                self.wrong_type(node, &format!("a list of {of}"));
                None
            }
        }
    }

    fn remember(&mut self, path: PathBuf, octets: &[u8]) {
        if !self.read.iter().any(|input| input.path == path) {
            self.read.push(Input { path, hash: Some(ContentHash::of(octets)), secret: true });
        }
    }

    fn remember_unreadable(&mut self, path: PathBuf) {
        if !self.read.iter().any(|input| input.path == path) {
            self.read.push(Input { path, hash: None, secret: true });
        }
    }
}

/// The keys of a section that was opened.
struct Fields<'t> {
    section: &'static Section,
    entries: &'t [Entry],
    node: &'t Node,
}

impl<'t> Fields<'t> {
    /// A key's value and kind, if it stands there and this version takes it.
    fn get(&self, cx: &Context<'_>, name: &str) -> Option<(&'t Node, &'static Kind)> {
        #[cfg(test)]
        cx.asked.borrow_mut().insert(self.section.path_of(name));
        let Some(Key { kind, .. }) = self.section.key(name) else {
            debug_assert!(false, "{} is not in the table of keys", self.section.path_of(name));
            return None;
        };
        if self.section.listed(name, cx.not_yet) {
            return None;
        }
        self.entries.iter().find(|entry| entry.key == name).map(|entry| (&entry.value, kind))
    }

    fn entry(&self, name: &str) -> Option<&'t Entry> {
        self.entries.iter().find(|entry| entry.key == name)
    }

    fn flag(&self, cx: &mut Context<'_>, name: &str) -> Option<bool> {
        self.get(cx, name).and_then(|(node, _)| cx.flag(node))
    }

    fn integer(&self, cx: &mut Context<'_>, name: &str) -> Option<i64> {
        self.get(cx, name).and_then(|(node, kind)| cx.integer(node, kind))
    }

    fn duration(&self, cx: &mut Context<'_>, name: &str) -> Option<std::time::Duration> {
        self.get(cx, name).and_then(|(node, kind)| cx.duration(node, kind))
    }

    fn size(&self, cx: &mut Context<'_>, name: &str) -> Option<u64> {
        self.get(cx, name).and_then(|(node, kind)| cx.size(node, kind))
    }

    fn choice(&self, cx: &mut Context<'_>, name: &str) -> Option<&'static str> {
        let path = self.section.path_of(name);
        self.get(cx, name).and_then(|(node, kind)| cx.choice(node, kind, &path))
    }

    fn networks(&self, cx: &mut Context<'_>, name: &str) -> Option<Vec<ipnet::IpNet>> {
        let (node, _) = self.get(cx, name)?;
        let items = cx.items(node, true, "networks")?;
        Some(items.iter().filter_map(|item| cx.network(item)).collect())
    }
}

/// The candidate that `word` is probably meant to be; none for a word that is longer than any name.
fn suggest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 1.max(candidate.len().max(word.len()) / 3)
                || (word.len() > 3 && candidate.starts_with(&lower))
        })
        .filter(|(distance, candidate)| *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The section that a key belongs to, if it belongs to exactly one.
fn elsewhere(name: &str) -> Option<&'static str> {
    fn search(section: &'static Section, name: &str, found: &mut Vec<&'static str>) {
        fn below(kind: &'static Kind, name: &str, found: &mut Vec<&'static str>) {
            match kind {
                Kind::List(kind) | Kind::Many(kind) | Kind::Map(kind) => below(kind, name, found),
                Kind::Either(kinds) => kinds.iter().for_each(|kind| below(kind, name, found)),
                Kind::Section(section) => search(section, name, found),
                _ => {}
            }
        }
        for key in section.known() {
            if key.name == name && !section.path.is_empty() {
                found.push(section.path);
            }
            below(&key.kind, name, found);
        }
    }
    let mut found = Vec::new();
    search(&keys::ROOT, name, &mut found);
    match found[..] {
        [only] => Some(only),
        _ => None,
    }
}

fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

#[cfg(test)]
mod tests;
