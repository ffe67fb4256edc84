//! From the tree to [`Settings`](super::Settings) by the table of keys, collecting every problem.
//!
//! What is wrong is told and replaced by its default, so that one pass finds all; the settings are handed
//! out only if no error was found.

mod access;
mod conditions;
mod lookups;
mod mask;
mod outputs;
mod rules;
mod scalars;
mod secret;
mod sections;
mod units;
mod watch;
mod webhooks;

pub(super) use scalars::pick;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

pub(super) use mask::{comments, secret_spans};
pub(super) use sections::{realm_names, rules_again, settings};

use super::file::{ContentHash, Input, Inputs};
use super::keys::{self, Key, Kind, Section};
use super::lookup::LookupTable;
use super::sample;
use super::source::{Sources, Span};
use super::tree::{Data, Entry, Node};
use crate::diagnostic::{Diagnostic, Level};

/// More problems than a person reads at once; the rest is counted.
const MAX_PROBLEMS: usize = 200;

/// What is collected on the way.
pub(super) struct Context<'a> {
    pub(super) sources: Sources,
    pub(super) inputs: &'a dyn Inputs,
    /// Each with the octet that it is sorted by.
    problems: Vec<(usize, Diagnostic)>,
    more: usize,
    /// The files that were read besides the first.
    read: Vec<Input>,
    /// A part of the configuration could not be read, so that what refers to nothing may refer to it.
    pub(super) incomplete: bool,
    lookups: Vec<Lookup>,
    /// Tables that were read before, so that equal files are not parsed again.
    known: &'a [Arc<LookupTable>],
    /// How many octets of tables were read.
    table_octets: u64,
    #[cfg(test)]
    asked: std::cell::RefCell<std::collections::BTreeSet<String>>,
}

/// A lookup that the configuration names.
struct Lookup {
    name: Arc<str>,
    /// `None` where the table is not usable, which is told by itself.
    table: Option<Arc<LookupTable>>,
}

/// What [`Context::finish`] hands out.
pub(super) struct Collected {
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) inputs: Vec<Input>,
}

impl<'a> Context<'a> {
    pub(super) fn new(sources: Sources, inputs: &'a dyn Inputs, known: &'a [Arc<LookupTable>]) -> Self {
        Self {
            sources,
            inputs,
            problems: Vec::new(),
            more: 0,
            read: Vec::new(),
            incomplete: false,
            lookups: Vec::new(),
            known,
            table_octets: 0,
            #[cfg(test)]
            asked: Default::default(),
        }
    }

    /// Every problem in the order of the files, and the files that were read.
    pub(super) fn finish(mut self) -> Collected {
        self.problems.sort_by_key(|(at, _)| *at);
        let mut diagnostics: Vec<_> = self.problems.into_iter().map(|(_, problem)| problem).collect();
        if self.more > 0 {
            let message = format!("{} further problems are not shown", self.more);
            diagnostics.push(Diagnostic::error("config-more", message));
        }
        Collected { diagnostics, inputs: self.read }
    }

    fn tell(&mut self, mut diagnostic: Diagnostic, span: &Span, help: Option<String>) {
        if self.incomplete && diagnostic.code == "config-dangling" {
            return;
        }
        diagnostic.help = help;
        if !self.is_full() {
            diagnostic.place = Some(self.sources.place(span));
        }
        self.tell_at(span.start, diagnostic);
    }

    /// Tells what has its place already; `at` is where it stands among the others.
    pub(super) fn tell_at(&mut self, at: usize, diagnostic: Diagnostic) {
        if self.is_full() {
            self.more += usize::from(diagnostic.level == Level::Error);
        } else {
            self.problems.push((at, diagnostic));
        }
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

    pub(super) fn warning(
        &mut self,
        code: &'static str,
        span: &Span,
        message: impl Into<String>,
        help: Option<String>,
    ) {
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
        if self.is_full() { None } else { self.sources.quote(&node.span) }
    }

    fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    pub(super) fn wrong_type(&mut self, node: &Node, expected: &str) {
        let help = match &node.data {
            Data::Null => Some("remove the key, or give it a value".to_owned()),
            _ => None,
        };
        self.error("config-type", &node.shown(), format!("expected {expected}, found {}", node.what()), help);
    }

    /// Opens a section: its unknown and missing keys are told here.
    fn section<'t>(&mut self, node: &'t Node, section: &'static Section) -> Option<Fields<'t>> {
        let Data::Map(entries) = &node.data else {
            let keys: Vec<_> = section.keys.iter().map(|key| key.name).collect();
            let expected = format!("a section with keys ({})", some_of(&keys));
            self.wrong_type(node, &expected);
            return None;
        };
        // Keys that stand twice are told with the tree; the first one counts. Only a section with a wrong key
        // can have more keys than the table.
        let many = entries.len() > section.keys.len();
        let mut seen = HashSet::new();
        // A key that is misspelt is not missing besides.
        let mut meant = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let again = if many {
                !seen.insert(&*entry.key)
            } else {
                entries[..at].iter().any(|earlier| earlier.key == entry.key)
            };
            match section.key(&entry.key) {
                _ if again => {}
                Some(_) => {}
                None => meant.extend(self.unknown_key(section, entry)),
            }
        }
        for key in section.keys.iter().filter(|key| key.required) {
            if !entries.iter().any(|entry| entry.key == key.name) && !meant.contains(&key.name) {
                let message = format!("`{}` is missing", section.path_of(key.name));
                let toml = self.sources.file(&node.span).ends_with(".toml");
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
        let names: Vec<_> = section.keys.iter().map(|key| key.name).collect();
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
        let name = self.sources.quote(&entry.key_span).filter(|name| !name.contains('*'));
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

    /// Adds a file to what the configuration was made from; with `None` it could not be read. A file that
    /// others may read or change though it should not be so is told at `span`.
    pub(super) fn remember(
        &mut self,
        path: &Path,
        hash: Option<ContentHash>,
        secret: Option<bool>,
        span: &Span,
    ) {
        if self.read.iter().any(|input| input.path == path) {
            return;
        }
        self.read.push(Input { path: path.to_owned(), hash, secret: secret == Some(true) });
        // A table or a directory is nobody's secret.
        if secret.is_some()
            && let Some(problem) = super::file::permissions(path, self.inputs.mode(path))
        {
            self.tell(Diagnostic { help: None, ..problem.clone() }, span, problem.help);
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
    /// A key's value and kind, if it stands there.
    #[cfg_attr(not(test), expect(unused_variables, reason = "tests alone ask which keys are decoded"))]
    fn get(&self, cx: &Context<'_>, name: &str) -> Option<(&'t Node, &'static Kind)> {
        #[cfg(test)]
        cx.asked.borrow_mut().insert(self.section.path_of(name));
        let Some(Key { kind, .. }) = self.section.key(name) else {
            debug_assert!(false, "{} is not in the table of keys", self.section.path_of(name));
            return None;
        };
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
        self.get(cx, name).and_then(|(node, kind)| cx.choice(node, kind))
    }

    fn networks(&self, cx: &mut Context<'_>, name: &str) -> Option<Vec<ipnet::IpNet>> {
        let (node, _) = self.get(cx, name)?;
        let items = cx.items(node, true, "networks")?;
        Some(items.iter().filter_map(|item| cx.network(item)).collect())
    }
}

/// The candidate that `word` is probably meant to be; none for a word that is longer than any name.
pub(super) fn suggest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
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
        for key in section.keys.iter() {
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

pub(super) fn some_of(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 6;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| shortened(name.as_ref())).collect();
    format!("{}{}", shown.join(", "), if names.len() > SHOWN { ", …" } else { "" })
}

/// What a message may quote of a text of any length.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
