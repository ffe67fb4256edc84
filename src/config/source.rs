//! The text of a configuration file, its lines, and the mask that keeps secrets out of diagnostics.
//!
//! A diagnostic shows the source line. So every place is made here, from a copy of the text in which the
//! characters of secrets are stars. Where the tree is known the mask is exact ([`Source::mask`]); for a
//! syntax error there is no tree, and whole values are masked near words that announce a secret.

use std::cell::OnceCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::keys;
use crate::diagnostic::Place;

/// A line of more octets is not shown, only its number and column.
pub(super) const MAX_LINE: usize = 4 << 10;

/// Octets `start..end` of the text.
pub(super) type Span = Range<usize>;

/// Words that announce a secret, wherever they stand.
const TELLING: &[&str] = &[
    "token",
    "secret",
    "password",
    "passphrase",
    "passwd",
    "community",
    "communities",
    "credential",
    "authorization",
    "headers",
    "url",
    "urls",
    "auth",
    "apikey",
    "api_key",
    "api-key",
    "users",
    "privacy",
];

/// Whether a key of this name, perhaps misspelt, holds a secret.
pub(super) fn tells_secret(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    TELLING.iter().any(|telling| {
        let slips = telling.len() / 4;
        (telling.len() > 4 && word.contains(telling))
            || *telling == word
            // The length first: the distance costs the product of both lengths.
            || (word.len() > 2
                && word.len().abs_diff(telling.len()) <= slips
                && strsim::damerau_levenshtein(telling, &word) <= slips)
    })
}

/// A file's text with its lines.
pub(super) struct Source {
    /// The name that diagnostics show.
    pub(super) file: Arc<str>,
    /// The file itself: the name may have lost what is not UTF-8.
    path: PathBuf,
    /// The text as it was parsed: UTF-8, without a byte order mark.
    pub(super) text: String,
    /// What is secret, ascending.
    secrets: Vec<Span>,
    comments: Vec<Span>,
    /// Made when something is first shown: a configuration without a problem needs none of it.
    shown: OnceCell<Shown>,
    /// By line, whether a secret could stand in it; made when it is first asked for.
    near_secrets: OnceCell<Vec<bool>>,
}

/// A text by lines.
struct Shown {
    /// With stars for secrets; line by line it has as many characters as the text.
    masked: String,
    starts: Vec<usize>,
    masked_starts: Vec<usize>,
}

/// The texts of a configuration: the file itself and those that it includes, one behind the other. A span of a
/// later file is moved by what stands before it ([`Sources::add`]), so that it tells its file.
pub(super) struct Sources {
    /// Where each text begins, ascending.
    files: Vec<(usize, Source)>,
}

impl Sources {
    pub(super) fn new(source: Source) -> Self {
        Self { files: vec![(0, source)] }
    }

    /// Gives how far the spans of `source` must be moved.
    pub(super) fn add(&mut self, source: Source) -> usize {
        let base = self.end();
        self.files.push((base, source));
        base
    }

    /// Behind everything: where the next text would begin.
    pub(super) fn end(&self) -> usize {
        // One octet between two texts: the end of one is not the beginning of the next.
        self.files.last().map_or(0, |(base, source)| base + source.text.len() + 1)
    }

    fn of(&self, span: &Span) -> (&Source, Span) {
        let at = self.files.partition_point(|(base, _)| *base <= span.start).saturating_sub(1);
        let (base, source) = &self.files[at];
        (source, span.start - base..span.end.saturating_sub(*base))
    }

    /// See [`Source::place`].
    pub(super) fn place(&self, span: &Span) -> Place {
        let (source, span) = self.of(span);
        source.place(&span)
    }

    /// See [`Source::quote`].
    pub(super) fn quote(&self, span: &Span) -> Option<String> {
        let (source, span) = self.of(span);
        source.quote(&span)
    }

    /// The text of a span, secrets and all.
    pub(super) fn raw(&self, span: &Span) -> Option<&str> {
        let (source, span) = self.of(span);
        source.text.get(span)
    }

    /// The file of a span, as diagnostics show it.
    pub(super) fn file(&self, span: &Span) -> &str {
        &self.of(span).0.file
    }

    /// The folder that relative paths of a span's file count from.
    pub(super) fn folder(&self, span: &Span) -> &Path {
        self.of(span).0.folder()
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0)
        .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1))
        .collect()
}

impl Source {
    /// Nothing is masked yet.
    pub(super) fn new(path: impl Into<PathBuf>, text: String) -> Self {
        let path = path.into();
        Self {
            file: path.to_string_lossy().into(),
            path,
            text,
            secrets: Vec::new(),
            comments: Vec::new(),
            shown: OnceCell::new(),
            near_secrets: OnceCell::new(),
        }
    }

    /// Puts stars over the characters of `spans`; line ends stay. Comments, in their order, are masked
    /// when they are shown near a secret.
    pub(super) fn mask(&mut self, mut spans: Vec<Span>, comments: Vec<Span>) {
        spans.sort_by_key(|span| span.start);
        self.secrets = spans;
        self.comments = comments;
        self.shown = OnceCell::new();
    }

    fn shown(&self) -> &Shown {
        self.shown.get_or_init(|| {
            let mut spans = self.secrets.iter().peekable();
            let mut hidden_to = 0;
            let mut masked = String::with_capacity(self.text.len());
            for (at, character) in self.text.char_indices() {
                while let Some(span) = spans.next_if(|span| span.start <= at) {
                    hidden_to = hidden_to.max(span.end);
                }
                let hidden = at < hidden_to && !matches!(character, '\n' | '\r');
                masked.push(if hidden { '*' } else { character });
            }
            let (starts, masked_starts) = (line_starts(&self.text), line_starts(&masked));
            Shown { masked, starts, masked_starts }
        })
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn line_of(&self, at: usize) -> usize {
        self.shown().starts.partition_point(|&start| start <= at).saturating_sub(1)
    }

    fn line<'a>(text: &'a str, starts: &[usize], line: usize) -> &'a str {
        let start = starts.get(line).copied().unwrap_or(text.len());
        let end = starts.get(line + 1).copied().unwrap_or(text.len());
        text[start..end].trim_end_matches(['\n', '\r'])
    }

    /// The place of a span, its line as the mask shows it. Costs a search and the line's length.
    pub(super) fn place(&self, span: &Span) -> Place {
        self.place_with(span, |line| self.masked_line(line).into())
    }

    fn masked_line(&self, line: usize) -> String {
        let Shown { masked, starts, masked_starts } = self.shown();
        let shown = Self::line(masked, masked_starts, line);
        let (from, text) = (starts[line], Self::line(&self.text, starts, line));
        let comment = self.comments.partition_point(|comment| comment.start < from);
        match self.comments.get(comment) {
            Some(comment) if comment.start < from + text.len() && self.near_secret(line) => {
                let kept = text[..comment.start - from].chars().count() + 1;
                shown.chars().enumerate().map(|(at, c)| if at < kept { c } else { '*' }).collect()
            }
            _ => shown.to_owned(),
        }
    }

    /// The place of a span of a text that has no tree: values are masked wherever they could be secret.
    pub(super) fn place_unparsed(&self, span: &Span) -> Place {
        self.place_with(span, |line| self.guarded_line(line).into())
    }

    fn place_with(&self, span: &Span, source: impl Fn(usize) -> Box<str>) -> Place {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let starts = &self.shown().starts;
        let mut line = self.line_of(start);
        // What ends with the file is shown at the end of its last line with a text.
        if start == self.text.len() && line > 0 && starts[line] == start {
            line -= 1;
            start = starts[line] + Self::line(&self.text, starts, line).len();
        }
        let from = starts[line];
        let to = from + Self::line(&self.text, starts, line).len();
        let start = start.min(to);
        let mut end = span.end.clamp(start, to);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let characters = |range: Span| u32::try_from(self.text[range].chars().count()).unwrap_or(u32::MAX);
        Place {
            file: Arc::clone(&self.file),
            line: u32::try_from(line + 1).unwrap_or(u32::MAX),
            column: characters(from..start).saturating_add(1),
            width: characters(start..end.max(start)).max(1),
            // A file without line ends would be copied once a problem.
            source: if to - from > MAX_LINE { "".into() } else { source(line) },
        }
    }

    /// What a message may quote of a span: the masked text, if it is short and on one line.
    pub(super) fn quote(&self, span: &Span) -> Option<String> {
        let place = self.place(span);
        let length = self.text.get(span.clone())?.chars().count();
        if length == 0 || length > 80 || self.text[span.clone()].contains('\n') {
            return None;
        }
        let shown: String = place.source.chars().skip(place.column as usize - 1).take(length).collect();
        let shown = shown.trim();
        let unquoted = ['"', '\''].iter().find_map(|quote| shown.strip_prefix(*quote)?.strip_suffix(*quote));
        let shown = unquoted.unwrap_or(shown);
        (!shown.is_empty() && !shown.contains('*'))
            .then(|| shown.to_owned())
            .or_else(|| self.text[span.clone()].contains('*').then(|| shown.to_owned()))
    }

    /// A line whose values are stars if its own words, the lines it is indented under, or the key or
    /// header before it announce a secret.
    fn guarded_line(&self, number: usize) -> String {
        let line = Self::line(&self.text, &self.shown().starts, number);
        if !self.near_secret(number) {
            return line.to_owned();
        }
        // The first word may stay if it is known to be a key; any other could be the secret.
        let body = line.trim_start_matches([' ', '\t', '-', '[', '{']);
        let key = body.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).unwrap_or(body.len());
        let known = keys::is_key(&body[..key]) || tells_secret(&body[..key]);
        let kept = line.len() - body.len() + if known { key } else { 0 };
        line.char_indices()
            .map(|(at, c)| {
                if at < kept || c.is_whitespace() || matches!(c, ':' | '=' | '[' | ']' | '{' | '}' | ',') {
                    c
                } else {
                    '*'
                }
            })
            .collect()
    }

    /// Looks at the line itself and back to the section at the top that it stands in. Indentation counts
    /// for nothing here: it may be what is wrong.
    fn near_secret(&self, number: usize) -> bool {
        let lines = self.near_secrets.get_or_init(|| {
            let word = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'));
            let mut near = false;
            let starts = &self.shown().starts;
            let line = |line| {
                let text = Self::line(&self.text, starts, line);
                let tells = |word: &str| !word.is_empty() && tells_secret(word);
                let telling = text.contains("://") || text.split(word).any(tells);
                let before = near;
                near |= telling;
                let name = text.trim_start_matches('[').split(word).next().unwrap_or_default();
                if let Some(section) = keys::ROOT.key(name) {
                    near = telling || section.kind.holds_secrets();
                }
                before || telling
            };
            (0..starts.len()).map(line).collect()
        });
        lines.get(number).copied().unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_keeps_columns() {
        let mut source = Source::new("a.yaml", "a: grün # b\nc: d\n".into());
        source.mask(std::iter::once(3..8).collect(), Vec::new());
        let place = source.place(&(11..12));
        assert_eq!((place.line, place.column, &*place.source), (1, 11, "a: **** # b"));
        let place = source.place(&(13..14));
        assert_eq!((place.line, place.column, &*place.source), (2, 1, "c: d"));
    }

    #[test]
    fn the_end_of_the_file_is_shown_on_its_last_line() {
        let source = Source::new("a.yaml", "a: [\n".into());
        let place = source.place(&(5..5));
        assert_eq!((place.line, place.column), (1, 5));
    }

    #[test]
    fn a_line_without_a_tree_hides_what_could_be_secret() {
        let lines = |text: &str, line| Source::new("x", text.into()).guarded_line(line);
        assert_eq!(lines("admin:\n  token: \"hunter2\n", 1), "  token: ********");
        assert_eq!(lines("admin:\n  tokn hunter2\n", 1), "  tokn *******");
        assert_eq!(lines("communities:\n- hunter2\n", 1), "- *******");
        assert_eq!(lines("headers:\n  X: hunter2\n", 1), "  *: *******");
        assert_eq!(lines("communities = [\n\"hunter2\n", 1), "********");
        assert_eq!(lines("[webhooks.headers]\nX = hunter2\n", 1), "* = *******");
        assert_eq!(lines("admin:\n  token: a\nrules:\n  - name: link\n", 3), "  - name: link");
        assert_eq!(lines("a: 1\n  ur: https://hooks\n", 1), "  **: *****:*******");
    }

    #[test]
    fn misspelt_words_tell_too() {
        assert!(tells_secret("tokn") && tells_secret("Authorisation") && tells_secret("read_token"));
        assert!(!tells_secret("name") && !tells_secret("severity") && !tells_secret("rules"));
    }
}
