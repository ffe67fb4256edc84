//! A file that was loaded before, loaded again: what an edit does not touch is neither parsed nor decoded again.
//!
//! Reading YAML with places is what a load costs. An operator's edit touches one rule or one webhook, so that
//! there are two short ways beside the whole one:
//!
//! * **Rules**: the edit lies within items of the top-level list `rules`. These items alone are read; all other
//!   rules and sections are those of before.
//! * **The rest**: the edit lies before or behind `rules`. The rest alone is read; the rules are those of
//!   before, as long as what they refer to has the same names.
//!
//! # Why a short way says what the whole one would
//! A line of a block list's item is indented deeper than the item's dash, so that an item whose own text is
//! complete ends where the next one begins, whatever stands around it. [`Layout`] is only made of texts in
//! which that is so, and without anchors, which would reach across. Whatever is unusual (an edit across
//! sections, an `include`, a problem or a warning of any kind, a rule that would hide those behind it) goes the
//! whole way, which alone tells problems with their places. A test compares both ways over random edits.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::decode::{self, Context};
use super::file::{self, Input, Inputs, Loaded, Problems, System};
use super::settings::{RuleSettings, Settings};
use super::source::{Source, Sources, Span};
use super::tree::{self, Data, Language, Node, Tree};

/// What a load leaves for the next one of the same file.
pub struct Memory {
    loaded: Loaded,
    /// The permission bits of the inputs, in their order: what was warned of may have been mended.
    modes: Vec<Option<u32>>,
    /// The file's text, which may hold secrets.
    text: Zeroizing<String>,
    layout: Option<Layout>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("layout", &self.layout.is_some()).finish_non_exhaustive()
    }
}

impl Memory {
    /// What was loaded.
    #[must_use]
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    fn new(loaded: Loaded, text: String, layout: Option<Layout>) -> Self {
        let modes = modes(&loaded.inputs);
        Self { loaded, modes, text: Zeroizing::new(text), layout }
    }

    /// Whether every input but the file itself is as it was.
    fn others_are_unchanged(&self) -> bool {
        self.loaded.inputs.iter().skip(1).all(Input::is_on_disk) && self.modes == modes(&self.loaded.inputs)
    }
}

fn modes(inputs: &[Input]) -> Vec<Option<u32>> {
    inputs.iter().map(|input| System.mode(&input.path)).collect()
}

/// As [`load`](super::load), with what the load before left: the very same [`Memory`] comes back if nothing has
/// changed. `known` are tables that may be taken over where there is no memory.
///
/// Costs reading and hashing of all inputs, and what the edit touches; see the module's words.
///
/// # Errors
/// As [`load`](super::load).
pub fn load_again(
    path: &Path,
    memory: Option<&Arc<Memory>>,
    known: &[Arc<super::lookup::LookupTable>],
) -> Result<Arc<Memory>, Problems> {
    let octets = file::read_configuration(path)?;
    if let Some(memory) = memory
        && memory.loaded.inputs.first().is_some_and(|own| own.path == path)
        && memory.others_are_unchanged()
        && let Ok(text) = std::str::from_utf8(&octets)
    {
        if text == memory.text.as_str() {
            return Ok(Arc::clone(memory));
        }
        if let Some(again) = edited(path, memory, text) {
            return Ok(Arc::new(again));
        }
    }
    let known = memory.map_or(known, |memory| &memory.loaded.settings.lookups);
    let mut layout = None;
    let loaded = file::load_octets(path, &octets, known, &mut layout)?;
    // The layout counts from behind a byte order mark.
    let text = std::str::from_utf8(&octets).unwrap_or_default().to_owned();
    let layout = layout.filter(|_| !text.starts_with('\u{feff}'));
    Ok(Arc::new(Memory::new(loaded, text, layout)))
}

/// The short ways. `None` where only the whole one can say what `text` means.
fn edited(path: &Path, memory: &Memory, text: &str) -> Option<Memory> {
    let layout = memory.layout.as_ref()?;
    // That the file is readable by others has no place in it, and is told again below.
    let told = memory.loaded.diagnostics.iter();
    if text.contains('\0')
        || !told.clone().all(|problem| problem.code == "config-permissions" && problem.place.is_none())
    {
        return None;
    }
    let edit = Edit::between(&memory.text, text);
    let known = &memory.loaded.settings;
    if known.rules.len() != layout.items.len() {
        return None;
    }
    let (settings, others, layout) = edited_rules(path, known, layout, &edit, text)
        .map(|(settings, layout)| (settings, None, layout))
        .or_else(|| {
            edited_rest(path, known, layout, &edit, text)
                .map(|(settings, others, layout)| (settings, Some(others), layout))
        })?;
    let own = Input { hash: Some(file::ContentHash::of(text.as_bytes())), ..memory.loaded.inputs[0].clone() };
    let others = others.unwrap_or_else(|| memory.loaded.inputs[1..].to_vec());
    let inputs = std::iter::once(own).chain(others).collect();
    let diagnostics = file::permissions(path, System.mode(path)).into_iter().collect();
    let loaded = Loaded { settings, inputs, diagnostics };
    Some(Memory::new(loaded, text.to_owned(), Some(layout)))
}

/// Where two texts differ: octets `from..old` of the first became `from..new` of the second.
struct Edit {
    from: usize,
    old: usize,
    new: usize,
}

impl Edit {
    fn between(old: &str, new: &str) -> Self {
        let (a, b) = (old.as_bytes(), new.as_bytes());
        let from = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let tail = a[from..].iter().rev().zip(b[from..].iter().rev()).take_while(|(a, b)| a == b).count();
        Self { from, old: a.len() - tail, new: b.len() - tail }
    }

    /// Where an octet behind the edit has gone.
    fn moved(&self, at: usize) -> usize {
        at - self.old + self.new
    }
}

/// Where the items of `rules` stand in a text in which each can be read apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// From the line of the key to behind the last line of the last item: what only separates it from the next
    /// section belongs to the rest.
    rules: Span,
    /// Where the line of each item's dash begins, ascending; at least one.
    items: Vec<usize>,
    /// How far the dashes are indented.
    indent: usize,
}

impl Layout {
    /// `None` for what is not a block list of block items without anchors, or where `include` adds to it.
    pub(super) fn of(text: &str, tree: &Tree) -> Option<Self> {
        let Data::Map(entries) = &tree.root.data else { return None };
        let at_line_start = |at: usize| at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n');
        if tree.anchored
            || !tree.twice.is_empty()
            || entries.iter().any(|entry| entry.key == "include" || !at_line_start(entry.key_span.start))
        {
            return None;
        }
        let rules = entries.iter().find(|entry| entry.key == "rules")?;
        let from = rules.key_span.start;
        let to = entries.iter().map(|entry| entry.key_span.start).filter(|at| *at > from).min();
        let span = from..to.unwrap_or(text.len());
        let Data::List(nodes) = &rules.value.data else { return None };
        let mut items = Vec::with_capacity(nodes.len());
        for node in nodes {
            let at = text.get(..node.span.start)?.rfind('\n')? + 1;
            if at <= items.last().copied().unwrap_or(from) {
                return None;
            }
            items.push(at);
        }
        let first = text.get(*items.first()?..)?;
        let indent = first.len() - first.trim_start_matches(' ').len();
        let span = span.start..at_rest(text.get(..span.end)?, indent);
        let layout = Self { rules: span, items, indent };
        // The key, the dashes and the lines between them are as they are everywhere.
        let head = text.get(from..layout.items[0])?;
        let key = head.lines().next()?.strip_prefix("rules:")?.trim_start();
        let plain = (key.is_empty() || key.starts_with('#')) && head.lines().skip(1).all(is_idle);
        let body = text.get(layout.items[0]..layout.rules.end)?;
        (plain && !keeps_line_ends(body) && dashes(body, indent)? == nodes.len()).then_some(layout)
    }

    fn end_of(&self, item: usize) -> usize {
        self.items.get(item + 1).copied().unwrap_or(self.rules.end)
    }
}

/// Nothing but a comment, or nothing.
fn is_idle(line: &str) -> bool {
    let line = line.trim_start_matches(' ').trim_end_matches('\r');
    line.is_empty() || line.starts_with('#')
}

/// Where `text` ends without the empty lines, and the comments that are no part of an item, at its end.
fn at_rest(text: &str, indent: usize) -> usize {
    let mut end = text.len();
    for line in text.split_inclusive('\n').rev() {
        let blanks = line.len() - line.trim_start_matches(' ').len();
        if !is_idle(line.trim_end_matches('\n')) || (!line.trim().is_empty() && blanks > indent) {
            break;
        }
        end -= line.len();
    }
    end
}

/// Whether a block scalar may keep the empty lines behind it (`|+`), which are taken for nothing's else.
fn keeps_line_ends(text: &str) -> bool {
    text.match_indices('+').any(|(at, _)| {
        let before = text[..at].trim_end_matches(|c: char| c.is_ascii_digit());
        before.ends_with(['|', '>'])
    })
}

/// How many items begin in `text`, of which every other line is indented deeper than the dashes.
fn dashes(text: &str, indent: usize) -> Option<usize> {
    let mut number = 0;
    for line in text.split('\n').filter(|line| !is_idle(line)) {
        let blanks = line.len() - line.trim_start_matches(' ').len();
        if blanks == indent && line[blanks..].starts_with("- ") {
            number += 1;
        } else if blanks <= indent {
            return None;
        }
    }
    Some(number)
}

/// A text of its own, read. `None` with a problem or an anchor.
fn read_apart(text: &str) -> Option<Node> {
    let tree = tree::read(Language::Yaml, text).ok()?;
    (!tree.anchored && tree.twice.is_empty()).then_some(tree.root)
}

/// The line of the key.
const RULES: &str = "rules:\n";

fn edited_rules(
    path: &Path,
    known: &Settings,
    layout: &Layout,
    edit: &Edit,
    text: &str,
) -> Option<(Settings, Layout)> {
    // The item whose dash stands before the edit.
    let first = layout.items.partition_point(|at| at + layout.indent < edit.from).checked_sub(1)?;
    if edit.old > layout.rules.end {
        return None;
    }
    let last = layout.items.partition_point(|at| *at < edit.old).checked_sub(1)?.max(first);
    let (from, to) = (layout.items[first], edit.moved(layout.end_of(last)));
    let region = text.get(from..to)?;
    let number = dashes(region, layout.indent)?;
    if keeps_line_ends(region) {
        return None;
    }
    // What follows begins a line of its own.
    if to < text.len() && !region.ends_with('\n') {
        return None;
    }
    let mut rules = known.rules[..first].to_vec();
    let mut items = layout.items[..first].to_vec();
    if number > 0 {
        // Under its key, as deep as it stands.
        let apart = format!("{RULES}{region}");
        let Data::Map(mut entries) = read_apart(&apart)?.data else { return None };
        let (Some(entry), true) = (entries.pop(), entries.is_empty()) else { return None };
        let Data::List(nodes) = &entry.value.data else { return None };
        if nodes.len() != number {
            return None;
        }
        for node in nodes {
            items.push(from + apart[..node.span.start].rfind('\n')? + 1 - RULES.len());
        }
        let source = Source::new(path, apart);
        let mut cx = Context::new(Sources::new(source), &System, &[]);
        rules.extend(decode::rules_again(&mut cx, &entry.value, known));
        if !cx.finish().diagnostics.is_empty() {
            return None;
        }
    }
    rules.extend_from_slice(&known.rules[last + 1..]);
    items.extend(layout.items[last + 1..].iter().map(|at| edit.moved(*at)));
    if items.is_empty() || items.len() != rules.len() || !are_at_peace(&rules) {
        return None;
    }
    let end = at_rest(&text[..edit.moved(layout.rules.end)], layout.indent);
    let layout = Layout { rules: layout.rules.start..end, items, indent: layout.indent };
    Some((Settings { rules, ..known.clone() }, layout))
}

/// Whether no two have one name and none hides those behind it.
fn are_at_peace(rules: &[Arc<RuleSettings>]) -> bool {
    let mut names = HashSet::with_capacity(rules.len());
    let hides = |rule: &RuleSettings| {
        rule.trap.is_empty()
            && rule.except.is_empty()
            && rule.source.is_empty()
            && rule.realm.is_empty()
            && rule.community.is_empty()
            && rule.when.is_none()
            && !rule.continue_
    };
    let before_the_last = rules.len().saturating_sub(1);
    rules.iter().all(|rule| names.insert(&*rule.name))
        && !rules[..before_the_last].iter().any(|rule| hides(rule))
}

fn edited_rest(
    path: &Path,
    known: &Settings,
    layout: &Layout,
    edit: &Edit,
    text: &str,
) -> Option<(Settings, Vec<Input>, Layout)> {
    let rules = if edit.old <= layout.rules.start {
        edit.moved(layout.rules.start)..edit.moved(layout.rules.end)
    } else if edit.from >= layout.rules.end {
        layout.rules.clone()
    } else {
        return None;
    };
    let (before, after) = (text.get(..rules.start)?, text.get(rules.end..)?);
    if !(before.is_empty() || before.ends_with('\n'))
        || !(after.is_empty() || text[..rules.end].ends_with('\n'))
    {
        return None;
    }
    let mut entries = Vec::new();
    for (part, base) in [(before, 0), (after, rules.end)] {
        if part.lines().all(is_idle) {
            continue;
        }
        let mut node = read_apart(part)?;
        node.shift(base);
        let Data::Map(own) = node.data else { return None };
        entries.extend(own);
    }
    let at_line_start = |at: usize| at == 0 || text.as_bytes()[at - 1] == b'\n';
    let names: HashSet<&str> = entries.iter().map(|entry| &*entry.key).collect();
    if names.len() < entries.len()
        || names.contains("rules")
        || names.contains("include")
        || !entries.iter().all(|entry| at_line_start(entry.key_span.start))
    {
        return None;
    }
    // What stands behind the rules now may be part of the last one.
    let next = entries.iter().map(|entry| entry.key_span.start).find(|at| *at >= rules.end);
    if at_rest(&text[..next.unwrap_or(text.len())], layout.indent) != rules.end {
        return None;
    }
    let root = Node { span: 0..text.len(), data: Data::Map(entries) };
    let sources = Sources::new(Source::new(path, text.to_owned()));
    let mut cx = Context::new(sources, &System, &known.lookups);
    let settings = decode::settings(&mut cx, &root);
    let collected = cx.finish();
    if !collected.diagnostics.is_empty() || !same_names(known, &settings) {
        return None;
    }
    let offset = |at: usize| at - layout.rules.start + rules.start;
    let items = layout.items.iter().copied().map(offset).collect();
    let layout = Layout { rules, items, indent: layout.indent };
    Some((Settings { rules: known.rules.clone(), ..settings }, collected.inputs, layout))
}

/// Whether a rule that was right with `old` is right with `new`: what it may refer to is there.
fn same_names(old: &Settings, new: &Settings) -> bool {
    let communities = |settings: &Settings| -> Vec<Option<Arc<str>>> {
        settings.access.communities.iter().flatten().map(|community| community.name.clone()).collect()
    };
    let tables = |settings: &Settings| -> Vec<(Arc<str>, Vec<String>)> {
        let table = |table: &Arc<super::lookup::LookupTable>| {
            (Arc::clone(table.name()), table.columns().map(str::to_owned).collect())
        };
        settings.lookups.iter().map(table).collect()
    };
    old.webhooks.iter().map(|webhook| &webhook.name).eq(new.webhooks.iter().map(|webhook| &webhook.name))
        && communities(old) == communities(new)
        && decode::realm_names(&old.listeners) == decode::realm_names(&new.listeners)
        && tables(old) == tables(new)
}

#[cfg(test)]
mod tests;
