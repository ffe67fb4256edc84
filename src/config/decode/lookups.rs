//! `lookups`: reading the tables, and what refers to their columns.

use std::sync::Arc;

use super::super::file::ContentHash;
use super::super::keys::Section;
use super::super::lookup::{self, LookupTable, MAX_OCTETS, Words, by_address, is_identifier};
use super::super::source::Span;
use super::super::tree::Node;
use super::sections::path;
use super::{Context, Fields, Lookup, suggest};
use crate::diagnostic::Diagnostic;

/// The most tables.
const MAX_TABLES: usize = 100;
/// What stands for something else in templates and conditions.
const TAKEN: [&str; 13] = [
    "source",
    "realm",
    "peer",
    "version",
    "community",
    "trap",
    "trap_oid",
    "varbinds",
    "severity",
    "alert",
    "rule",
    "all",
    "any",
];

impl Context<'_> {
    /// Knows `tables` without reading them.
    pub(super) fn take_over(&mut self, tables: &[Arc<LookupTable>]) {
        let known = tables.iter();
        self.lookups.extend(
            known.map(|table| Lookup { name: Arc::clone(table.name()), table: Some(Arc::clone(table)) }),
        );
    }

    /// Reads the tables; each file is an input.
    pub(super) fn lookups(&mut self, node: &Node, section: &'static Section) -> Vec<Arc<LookupTable>> {
        let items = self.items(node, false, "lookups").unwrap_or_default();
        if let Some(beyond) = items.get(MAX_TABLES) {
            self.error(
                "config-range",
                &beyond.shown(),
                format!("at most {MAX_TABLES} tables are read"),
                None,
            );
        }
        for item in items.iter().take(MAX_TABLES) {
            let Some(fields) = self.section(item, section) else { continue };
            let name = self.lookup_name(&fields);
            let table = self.lookup(&fields, name.as_deref().unwrap_or_default());
            if let Some(name) = name {
                self.lookups.push(Lookup { name, table });
            }
        }
        self.lookups.iter().filter_map(|lookup| lookup.table.clone()).collect()
    }

    fn lookup_name(&mut self, fields: &Fields<'_>) -> Option<Arc<str>> {
        let (node, _) = fields.get(self, "name")?;
        let name = self.name(node)?;
        let problem = if !is_identifier(name) {
            Some(("config-value", "a lookup's name is letters, digits and underscores, no digit first"))
        } else if TAKEN.contains(&name) {
            Some(("config-value", "this name stands for something else in rules"))
        } else if self.lookups.iter().any(|other| *other.name == *name) {
            Some(("config-duplicate-name", "two lookups have this name"))
        } else {
            None
        };
        if let Some((code, message)) = problem {
            let help = "give each lookup a name of its own, as `device` or `site`";
            self.error(code, &node.span, message, Some(help.into()));
            return None;
        }
        Some(name.into())
    }

    fn lookup(&mut self, fields: &Fields<'_>, name: &str) -> Option<Arc<LookupTable>> {
        let by = match fields.get(self, "by") {
            Some((node, _)) => {
                let by = self.varbind(node);
                if by
                    .as_deref()
                    .is_some_and(|by| by.contains('.') && !by.starts_with(|c: char| c.is_ascii_digit()))
                {
                    let message = "a lookup is not asked by another lookup";
                    self.error("config-conflict", &node.span, message, None);
                    return None;
                }
                by
            }
            None => Some("source".to_owned()),
        };
        let key = fields.get(self, "key").and_then(|(node, _)| self.name(node));
        let (node, _) = fields.get(self, "file")?;
        let path = path(self, node)?;
        let path = self.sources.folder(&node.span).join(path);
        let limit = MAX_OCTETS - self.table_octets;
        let octets = match self.inputs.read_part(&path, limit) {
            Ok(octets) => octets,
            Err(error) => {
                self.remember(&path, None, None, &node.span);
                let message = format!("cannot read the lookup's file `{}`: {error}", path.display());
                let help = if error.kind() == std::io::ErrorKind::FileTooLarge {
                    format!("all tables together have at most {} MiB", MAX_OCTETS >> 20)
                } else {
                    "a relative path counts from the folder of the file that it stands in".to_owned()
                };
                self.error("config-read", &node.span, message, Some(help));
                return None;
            }
        };
        self.table_octets += octets.len() as u64;
        let hash = ContentHash::of(&octets);
        self.remember(&path, Some(hash), None, &node.span);
        let (by, key) = (by?, key?);
        if let Some(known) = self.known.iter().find(|known| known.is_of(name, &by, key, hash)) {
            return Some(Arc::clone(known));
        }
        let words = Words { name, by: &by, key };
        let (table, problems) = lookup::read(&words, &path.to_string_lossy(), &octets);
        for problem in problems {
            self.tell_at(node.span.start, problem);
        }
        let table = table?;
        debug_assert!(table.is_by_address() == by_address(&by));
        Some(Arc::new(table))
    }

    /// The table that is called `name`; that there is none, and not why it could not be read, is told.
    pub(super) fn table(&mut self, name: &str, span: &Span) -> Option<Arc<LookupTable>> {
        if let Some(lookup) = self.lookups.iter().find(|lookup| *lookup.name == *name) {
            return lookup.table.clone();
        }
        let help = match suggest(name, self.lookups.iter().map(|lookup| &*lookup.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.lookups.is_empty() => {
                format!("add it: `lookups: [{{name: {name}, file: {name}s.csv, key: source}}]`")
            }
            None => {
                let known: Vec<_> = self.lookups.iter().map(|lookup| &*lookup.name).collect();
                format!("known are {}", super::some_of(&known))
            }
        };
        self.error("config-dangling", span, format!("no lookup is called `{name}`"), Some(help));
        None
    }

    /// Whether a lookup has the column; told if not. One whose table could not be read has any.
    pub(super) fn column(&mut self, lookup: &str, column: &str, span: &Span) -> bool {
        let Some(table) = self.table(lookup, span) else {
            return self.lookups.iter().any(|own| *own.name == *lookup);
        };
        if table.column(column).is_some() {
            return true;
        }
        let columns: Vec<_> = table.columns().collect();
        let help = match suggest(column, columns.iter().copied()) {
            Some(near) => format!("did you mean `{lookup}.{near}`?"),
            None => format!("its columns are {}", super::some_of(&columns)),
        };
        let message = format!("the lookup `{lookup}` has no column `{}`", super::shortened(column));
        self.error("config-dangling", span, message, Some(help));
        false
    }

    /// Whether a template's variable may be bound; a varbind's name is judged with the MIBs.
    pub(super) fn variable(&mut self, name: &str, node: &Node) -> bool {
        let span = || {
            let raw = self.sources.raw(&node.span);
            match raw.and_then(|raw| raw.find(name)) {
                Some(at) => node.span.start + at..node.span.start + at + name.len(),
                None => node.span.clone(),
            }
        };
        if let Some((lookup, column)) = name.split_once('.') {
            return self.column(lookup, column, &span());
        }
        let Some(lookup) = self.lookups.iter().find(|lookup| *lookup.name == *name) else { return true };
        let column =
            lookup.table.as_ref().and_then(|table| table.columns().find(|column| is_identifier(column)));
        let help = format!("write `{name}.{}`", column.unwrap_or("COLUMN"));
        let message = format!("`{name}` is a lookup: a text needs one of its columns");
        let problem = Diagnostic::error("config-dangling", message);
        self.tell(problem, &span(), Some(help));
        false
    }
}
