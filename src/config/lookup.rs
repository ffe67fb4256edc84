//! Lookup tables: what a CSV file says about devices, read once, compact, found without an allocation.
//!
//! Keys are addresses and networks where the table is asked by `source` or `peer`: the longest prefix wins, and
//! an address alone is the prefix of itself. They are of the realm `default`, or of the one that stands before them
//! (`branch/10.0.0.0/8`). Asked by a varbind, keys are texts and must be equal.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::file::{self, ContentHash};
use super::source::MAX_LINE;
use crate::device::split_realm;
use crate::diagnostic::{Diagnostic, Level, Place};

/// The most rows of a table.
pub const MAX_ROWS: usize = 1_000_000;
/// The most octets of all tables together.
pub const MAX_OCTETS: u64 = 256 << 20;
/// The most columns of a table.
const MAX_COLUMNS: usize = 256;
/// The most problems of one table that are shown.
const MAX_SHOWN: usize = 20;

/// A table that was read, immutable. Its texts lie in one piece; a row costs them, four octets a cell, and its
/// key.
#[derive(Clone)]
pub struct LookupTable {
    name: Arc<str>,
    by: Arc<str>,
    key: Arc<str>,
    hash: ContentHash,
    columns: Box<[Box<str>]>,
    text: Box<str>,
    /// Where each cell ends in `text`, row by row.
    ends: Box<[u32]>,
    index: Index,
}

#[derive(Clone)]
enum Index {
    /// By realm; the empty name is `default`.
    Networks(Box<[(Box<str>, Realm)]>),
    /// Rows in the order of their keys.
    Texts { column: usize, rows: Box<[u32]> },
}

/// The networks of one realm.
#[derive(Clone)]
struct Realm {
    v4: Box<[Prefixes<u32>]>,
    v6: Box<[Prefixes<u128>]>,
}

/// Networks, ascending, each with its row.
type Networks<A> = Box<[(A, u32)]>;

/// The networks of one prefix length. Tables hold few lengths, so that a search is one bisection for each.
#[derive(Clone)]
struct Prefixes<A> {
    mask: A,
    networks: Networks<A>,
}

/// A row that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row(u32);

impl LookupTable {
    /// What rules call it: the part before the dot in `device.site`.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What is looked up: `source`, `peer`, or a varbind's name.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }

    /// Whether the table is asked by an address.
    #[must_use]
    pub fn is_by_address(&self) -> bool {
        by_address(&self.by)
    }

    /// The columns' names, in their order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|name| &**name)
    }

    /// A column's place.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|own| **own == *name)
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len() / self.columns.len().max(1)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The row of the longest prefix in `realm` (`None` is `default`) that holds `address`; an IPv4-mapped IPv6 address
    /// counts as IPv4. One bisection for each prefix length of the table, without an allocation.
    #[must_use]
    pub fn find_address(&self, realm: Option<&str>, address: IpAddr) -> Option<Row> {
        let Index::Networks(realms) = &self.index else { return None };
        let realm = realm.unwrap_or_default();
        let (_, Realm { v4, v6 }) = realms.iter().find(|(name, _)| **name == *realm)?;
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let bits = address.to_bits();
                v4.iter().find_map(|prefixes| prefixes.find(bits & prefixes.mask))
            }
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                v6.iter().find_map(|prefixes| prefixes.find(bits & prefixes.mask))
            }
        }
    }

    /// The row whose key is `text`. One bisection, without an allocation.
    #[must_use]
    pub fn find_text(&self, text: &str) -> Option<Row> {
        let Index::Texts { column, rows } = &self.index else { return None };
        let key = |row: &u32| self.cell(Row(*row), *column);
        rows.binary_search_by(|row| key(row).cmp(text)).ok().map(|at| Row(rows[at]))
    }

    /// A cell's text; the empty one also beyond the table.
    #[must_use]
    pub fn cell(&self, Row(row): Row, column: usize) -> &str {
        let at = row as usize * self.columns.len() + column;
        let end = self.ends.get(at).map_or(0, |end| *end as usize);
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        self.text.get(start..end).unwrap_or_default()
    }

    /// The texts of a column, row by row.
    pub(super) fn cells(&self, column: usize) -> impl Iterator<Item = &str> {
        (0..self.len() as u32).map(move |row| self.cell(Row(row), column))
    }

    /// Whether reading `octets` by the same words would give this table again.
    pub(super) fn is_of(&self, name: &str, by: &str, key: &str, hash: ContentHash) -> bool {
        *self.name == *name && *self.by == *by && *self.key == *key && self.hash == hash
    }
}

impl<A: Ord + Copy> Prefixes<A> {
    fn find(&self, network: A) -> Option<Row> {
        let at = self.networks.binary_search_by(|(own, _)| own.cmp(&network)).ok()?;
        Some(Row(self.networks[at].1))
    }
}

impl PartialEq for LookupTable {
    /// By the file's contents and how they are read.
    fn eq(&self, other: &Self) -> bool {
        self.is_of(&other.name, &other.by, &other.key, other.hash)
    }
}

impl Eq for LookupTable {}

impl fmt::Debug for LookupTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("LookupTable");
        shown.field("name", &self.name).field("by", &self.by).field("columns", &self.columns);
        shown.field("rows", &self.len()).finish_non_exhaustive()
    }
}

pub(super) fn by_address(by: &str) -> bool {
    matches!(by, "source" | "peer")
}

/// Whether rules and templates can say `text` as the name of a table or a column.
pub(super) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// How a table is to be read.
pub(super) struct Words<'a> {
    pub(super) name: &'a str,
    pub(super) by: &'a str,
    pub(super) key: &'a str,
}

/// Reads a CSV text (RFC 4180; the first line names the columns). Gives the table if no error is among the
/// problems.
pub(super) fn read(words: &Words<'_>, file: &str, octets: &[u8]) -> (Option<LookupTable>, Vec<Diagnostic>) {
    let text = match file::text(file, octets) {
        Ok(text) => text,
        Err(problem) => return (None, vec![*problem]),
    };
    let mut reading = Reading { file: file.into(), text: &text, problems: Vec::new(), more: 0 };
    let table = reading.table(words, ContentHash::of(octets));
    let problems = reading.finish();
    let failed = problems.iter().any(|problem| problem.level == Level::Error);
    (table.filter(|_| !failed), problems)
}

struct Reading<'a> {
    file: Arc<str>,
    text: &'a str,
    /// Octets of the text, and what is wrong with them.
    problems: Vec<(usize, usize, Diagnostic)>,
    more: usize,
}

impl Reading<'_> {
    fn tell(&mut self, start: usize, end: usize, problem: Diagnostic) {
        if self.problems.len() < MAX_SHOWN {
            self.problems.push((start, end, problem));
        } else {
            self.more += usize::from(problem.level == Level::Error);
        }
    }

    fn table(&mut self, words: &Words<'_>, hash: ContentHash) -> Option<LookupTable> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(self.text.as_bytes());
        let mut record = csv::StringRecord::new();
        // The text is UTF-8 already, and memory gives no other error.
        if !matches!(reader.read_record(&mut record), Ok(true)) {
            let problem = Diagnostic::error("config-empty", "the table is empty")
                .help("the first line names the columns, as `source,name,site`");
            self.tell(0, 0, problem);
            return None;
        }
        let columns: Box<[Box<str>]> = record.iter().map(Box::from).collect();
        let header = self.start_of(&record);
        let key = self.header(&columns, header, words)?;
        let by_address = by_address(words.by);
        let (mut text, mut ends, mut starts) = (String::new(), Vec::new(), Vec::new());
        let mut realms: BTreeMap<Box<str>, (Vec<(u8, u32, u32)>, Vec<(u8, u128, u32)>)> = BTreeMap::new();
        let mut texts = Vec::new();
        while matches!(reader.read_record(&mut record), Ok(true)) {
            let start = self.start_of(&record);
            if starts.len() == MAX_ROWS {
                let problem =
                    Diagnostic::error("lookup-rows", format!("a table has at most {MAX_ROWS} rows"));
                self.tell(start, start, problem);
                break;
            }
            if record.len() != columns.len() {
                let (fields, wanted) = (count(record.len(), "field"), columns.len());
                let message = format!("this row has {fields}, the first line names {wanted}");
                let problem = Diagnostic::error("lookup-fields", message)
                    .help("a text that holds a comma or a quote stands in quotes, a quote in it twice");
                self.tell(start, self.line_end(start), problem);
                continue;
            }
            let own = record.get(key).unwrap_or_default();
            let row = starts.len() as u32;
            if own.is_empty() {
                let problem =
                    Diagnostic::warning("lookup-key", "this row has no key, so that nothing finds it");
                let (from, to) = self.field(start, key);
                self.tell(from, to, problem);
                continue;
            }
            if by_address {
                let (realm, own) = split_realm(own);
                let network = self.network(own, start, key, words);
                let (v4, v6) = realms.entry(realm.unwrap_or_default().into()).or_default();
                match network {
                    Some(IpNet::V4(network)) => {
                        v4.push((network.prefix_len(), network.network().to_bits(), row));
                    }
                    Some(IpNet::V6(network)) => {
                        v6.push((network.prefix_len(), network.network().to_bits(), row));
                    }
                    None => continue,
                }
            } else {
                texts.push(row);
            }
            starts.push(start as u32);
            for cell in &record {
                // One line of text, whatever the file holds, so that it may go into a label.
                text.extend(cell.chars().map(|c| if c.is_control() { ' ' } else { c }));
                ends.push(text.len() as u32);
            }
        }
        if starts.is_empty() && self.problems.is_empty() {
            let problem = Diagnostic::warning("lookup-empty", "the table has no row");
            self.tell(header, self.line_end(header), problem);
        }
        let mut table = LookupTable {
            name: words.name.into(),
            by: words.by.into(),
            key: words.key.into(),
            hash,
            columns,
            text: text.into(),
            ends: ends.into(),
            index: Index::Texts { column: key, rows: Box::default() },
        };
        let mut twice = Vec::new();
        table.index = if by_address {
            let by_length = |(name, (v4, v6))| {
                let (v4, v6) = (prefixes(v4, &mut twice), prefixes(v6, &mut twice));
                let v4 = v4.into_iter().map(|(length, networks)| Prefixes {
                    mask: u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0),
                    networks,
                });
                let v6 = v6.into_iter().map(|(length, networks)| Prefixes {
                    mask: u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0),
                    networks,
                });
                (name, Realm { v4: v4.collect(), v6: v6.collect() })
            };
            Index::Networks(realms.into_iter().map(by_length).collect())
        } else {
            // Stable, so that of equal keys the first row stands first.
            texts.sort_by(|a, b| table.cell(Row(*a), key).cmp(table.cell(Row(*b), key)));
            for pair in texts.windows(2) {
                if table.cell(Row(pair[0]), key) == table.cell(Row(pair[1]), key) {
                    twice.push((pair[0], pair[1]));
                }
            }
            Index::Texts { column: key, rows: texts.into() }
        };
        self.duplicates(twice, &starts, key, &table);
        Some(table)
    }

    /// The key's column.
    fn header(&mut self, columns: &[Box<str>], start: usize, words: &Words<'_>) -> Option<usize> {
        if columns.len() > MAX_COLUMNS {
            let message = format!("a table has at most {MAX_COLUMNS} columns");
            self.tell(start, self.line_end(start), Diagnostic::error("lookup-column", message));
            return None;
        }
        for (at, name) in columns.iter().enumerate() {
            if columns[..at].contains(name) {
                let (from, to) = self.field(start, at);
                self.tell(
                    from,
                    to,
                    Diagnostic::error("lookup-column", format!("two columns are called `{name}`")),
                );
            }
        }
        let key = columns.iter().position(|name| **name == *words.key);
        if key.is_none() {
            let help = match columns {
                [only] if only.contains([';', '\t']) => "columns are separated by commas".to_owned(),
                _ => match super::decode::suggest(words.key, columns.iter().map(|name| &**name)) {
                    Some(near) => format!("did you mean `key: {near}`?"),
                    None => format!("the columns are {}", super::decode::some_of(columns)),
                },
            };
            let message = format!("no column is called `{}`, which is to hold the key", words.key);
            self.tell(start, self.line_end(start), Diagnostic::error("lookup-column", message).help(help));
        }
        key
    }

    fn network(&mut self, own: &str, start: usize, key: usize, words: &Words<'_>) -> Option<IpNet> {
        if let Ok(address) = own.parse::<IpAddr>() {
            return Some(address.to_canonical().into());
        }
        match own.parse::<IpNet>() {
            Ok(network) => {
                if network.trunc() != network {
                    let message =
                        format!("`{own}` has bits beyond its prefix; `{}` is in force", network.trunc());
                    let (from, to) = self.field(start, key);
                    self.tell(from, to, Diagnostic::warning("lookup-key", message));
                }
                Some(network.trunc())
            }
            Err(_) => {
                let message =
                    format!("`{}` is neither an address nor a network", super::decode::shortened(own));
                let help = format!(
                    "the table is asked by `{}`; `by: VARBIND` beside `key` asks by a varbind's text",
                    words.by
                );
                let (from, to) = self.field(start, key);
                self.tell(from, to, Diagnostic::error("lookup-key", message).help(help));
                None
            }
        }
    }

    fn duplicates(&mut self, mut twice: Vec<(u32, u32)>, starts: &[u32], key: usize, table: &LookupTable) {
        twice.sort_unstable_by_key(|(_, second)| *second);
        for (first, second) in twice {
            let own = super::decode::shortened(table.cell(Row(second), key));
            let (Some(&earlier), Some(&start)) = (starts.get(first as usize), starts.get(second as usize))
            else {
                continue;
            };
            let mut problem = Diagnostic::error("lookup-duplicate", format!("the key `{own}` stands twice"));
            if self.problems.len() < MAX_SHOWN {
                let line = 1 + newlines(&self.text[..earlier as usize]);
                problem = problem.help(format!("it stands on line {line} already; keep one of them"));
            }
            let (from, to) = self.field(start as usize, key);
            self.tell(from, to, problem);
        }
    }

    /// Where a record begins: its position may count the line end before it.
    fn start_of(&self, record: &csv::StringRecord) -> usize {
        let at = record.position().map_or(0, |position| position.byte() as usize).min(self.text.len());
        let rest = &self.text.as_bytes()[at..];
        at + rest.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()
    }

    fn line_end(&self, start: usize) -> usize {
        self.text[start..].find(['\r', '\n']).map_or(self.text.len(), |end| start + end)
    }

    /// The octets of a record's field.
    fn field(&self, start: usize, number: usize) -> (usize, usize) {
        let (mut at, mut quoted, mut from) = (0, false, start);
        for (offset, octet) in self.text.as_bytes()[start..].iter().enumerate() {
            match octet {
                b'"' => quoted = !quoted,
                b',' if !quoted && at == number => return (from, start + offset),
                b',' if !quoted => {
                    at += 1;
                    from = start + offset + 1;
                }
                b'\r' | b'\n' if !quoted => return (from, start + offset),
                _ => {}
            }
        }
        (from, self.text.len())
    }

    /// The problems in the order of the file. One pass over the text finds their lines.
    fn finish(mut self) -> Vec<Diagnostic> {
        self.problems.sort_by_key(|(start, _, _)| *start);
        let (mut line, mut counted) = (1, 0);
        let mut told = Vec::with_capacity(self.problems.len() + 1);
        for (start, end, problem) in std::mem::take(&mut self.problems) {
            line += newlines(&self.text[counted..start]);
            counted = start;
            let from = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
            let to = self.line_end(start);
            let end = end.clamp(start, to);
            let shown = self.text[start..end].trim_start();
            let start = end - shown.len();
            let width = shown.trim_end().chars().count();
            told.push(problem.at(Place {
                file: Arc::clone(&self.file),
                line: u32::try_from(line).unwrap_or(u32::MAX),
                column: 1 + u32::try_from(self.text[from..start].chars().count()).unwrap_or(u32::MAX - 1),
                width: u32::try_from(width).unwrap_or(u32::MAX).max(1),
                source: if to - from > MAX_LINE { "".into() } else { self.text[from..to].into() },
            }));
        }
        if self.more > 0 {
            let message = format!("{} further problems of `{}` are not shown", self.more, self.file);
            told.push(Diagnostic::error("config-more", message));
        }
        told
    }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

fn count(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

/// Networks with their rows by prefix length, longest first. Pairs of rows with one network go to `twice`.
fn prefixes<A: Ord + Copy>(
    mut networks: Vec<(u8, A, u32)>,
    twice: &mut Vec<(u32, u32)>,
) -> Vec<(u8, Networks<A>)> {
    networks.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    let same_length = networks.chunk_by(|a, b| a.0 == b.0);
    let lengths = same_length.map(|chunk| {
        let pairs = chunk.windows(2).filter(|pair| pair[0].1 == pair[1].1);
        twice.extend(pairs.map(|pair| (pair[0].2, pair[1].2)));
        (chunk[0].0, chunk.iter().map(|&(_, network, row)| (network, row)).collect())
    });
    lengths.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(by: &'static str, key: &'static str) -> Words<'static> {
        Words { name: "device", by, key }
    }

    fn told(by: &'static str, key: &'static str, text: &str) -> (Option<LookupTable>, Vec<String>) {
        let (table, problems) = read(&words(by, key), "devices.csv", text.as_bytes());
        (table, problems.iter().map(ToString::to_string).collect())
    }

    fn table(by: &'static str, key: &'static str, text: &str) -> LookupTable {
        let (table, problems) = told(by, key, text);
        table.unwrap_or_else(|| panic!("{problems:?}"))
    }

    #[test]
    fn the_longest_prefix_wins() {
        let table = table(
            "source",
            "net",
            "\u{feff}site,net\r\n\"Any, where\",0.0.0.0/0\r\nBerlin,10.0.0.0/8\r\n\r\ncore,10.1.2.3\r\nsix,2001:db8::/32\r\n",
        );
        let site = table.column("site").unwrap();
        let found = |address: &str| {
            let (realm, address) = split_realm(address);
            table.find_address(realm, address.parse().unwrap()).map(|row| table.cell(row, site).to_owned())
        };
        assert_eq!(found("10.1.2.3").as_deref(), Some("core"));
        assert_eq!(found("::ffff:10.1.2.3").as_deref(), Some("core"));
        assert_eq!(found("10.1.2.4").as_deref(), Some("Berlin"));
        assert_eq!(found("192.0.2.1").as_deref(), Some("Any, where"));
        assert_eq!(found("2001:db8::1").as_deref(), Some("six"));
        assert_eq!(found("2001:db9::1"), None);
        assert_eq!((table.len(), table.columns().count()), (4, 2));
    }

    #[test]
    fn texts_are_found_exactly() {
        let table = table("ifAlias", "circuit", "circuit,customer\nB-2,two\nA-1,\"o\"\"ne\"\n");
        let found = |text: &str| table.find_text(text).map(|row| table.cell(row, 1));
        assert_eq!(
            (found("A-1"), found("B-2"), found("a-1"), found("")),
            (Some("o\"ne"), Some("two"), None, None)
        );
    }

    #[test]
    fn bad_rows_are_told_with_line_and_column() {
        let (table, problems) = told(
            "source",
            "source",
            "source,name\n10.0.0.1,a\nfoo,b\n10.0.0.2,c,d\n  10.0.0.1 ,e\n,f\n10.0.0.9/8,g\n\"1\n0\",h\n",
        );
        assert!(table.is_none());
        let places: Vec<_> = problems.iter().map(|problem| problem.split(']').next().unwrap()).collect();
        assert_eq!(
            places,
            [
                "devices.csv:3:1: error[lookup-key",
                "devices.csv:4:1: error[lookup-fields",
                "devices.csv:5:3: error[lookup-duplicate",
                "devices.csv:6:1: warning[lookup-key",
                "devices.csv:7:1: warning[lookup-key",
                "devices.csv:8:1: error[lookup-key",
            ],
            "{problems:#?}"
        );
        assert!(problems[2].contains("line 2 already"), "{}", problems[2]);
    }

    #[test]
    fn a_header_that_does_not_fit_is_told() {
        for (text, part) in [
            ("", "config-empty"),
            ("source;name\n1;2\n", "separated by commas"),
            ("Source,name\n", "did you mean `key: Source`?"),
            ("a,b\n", "the columns are a, b"),
            ("source,a,a\n", "two columns are called `a`"),
        ] {
            let (table, problems) = told("source", "source", text);
            assert!(table.is_none() && problems[0].contains(part), "{text:?}: {problems:?}");
        }
        let (table, problems) = told("source", "source", "source,name\n");
        assert!(table.unwrap().is_empty() && problems[0].contains("no row"));
    }

    #[test]
    fn many_problems_are_counted() {
        let text: String = (0..500).map(|n| format!("x{n},1\n")).collect();
        let (_, problems) = told("source", "source", &format!("source,a\n{text}"));
        assert_eq!(problems.len(), MAX_SHOWN + 1);
        assert!(problems[MAX_SHOWN].contains("480 further"), "{}", problems[MAX_SHOWN]);
    }

    proptest! {
        /// Bisection by prefix length finds what asking every network finds.
        #[test]
        fn finds_what_a_walk_finds(
            networks in prop::collection::btree_set((any::<u32>(), 0u8..=32), 0..40),
            asked in any::<u32>(),
            near in any::<prop::sample::Index>(),
        ) {
            let networks: std::collections::BTreeSet<IpNet> = networks
                .into_iter()
                .map(|(bits, length)| IpNet::new(std::net::Ipv4Addr::from_bits(bits).into(), length).unwrap().trunc())
                .collect();
            let text: String = networks.iter().map(|network| format!("{network},{network}\n")).collect();
            let table = table("source", "net", &format!("net,own\n{text}"));
            let mut addresses = vec![IpAddr::from(asked.to_be_bytes())];
            if !networks.is_empty() {
                addresses.push(near.get(&networks.iter().collect::<Vec<_>>()).addr());
            }
            for address in addresses {
                let walked = networks.iter().filter(|network| network.contains(&address))
                    .max_by_key(|network| network.prefix_len()).map(ToString::to_string);
                let found = table.find_address(None, address).map(|row| table.cell(row, 1).to_owned());
                prop_assert_eq!(found, walked);
            }
        }

        #[test]
        fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&words("source", "a"), "a.csv", &octets);
            let _ = read(&words("x", "a"), "a.csv", &[b"a,b\n", &octets[..]].concat());
        }

        #[test]
        fn no_table_panics(text in "([ab1,\"\r\né;]|10\\.0\\.0\\.){0,60}") {
            let _ = read(&words("source", "a"), "a.csv", format!("a,b\n{text}").as_bytes());
            let _ = read(&words("x", "a"), "a.csv", format!("a,b\n{text}").as_bytes());
        }
    }
}
