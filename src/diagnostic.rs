//! A problem with its place: one shape and one rendering for configuration, MIBs and tables.

use std::fmt;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Origin, Renderer, Snippet};

/// How much a problem matters. Ordered: a note is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing; nothing is wrong.
    Note,
    /// Taken as it was probably meant.
    Warning,
    /// What it concerns is not in force.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Where in which file. Lines and columns count from 1; the column counts characters.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// The path as the user knows it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// How many characters the carets underline, at least 1.
    pub width: u32,
    /// The line itself, without its end.
    pub source: Box<str>,
}

impl Place {
    /// The place of the octets `start..end` of `text`, clamped to what is there. Costs one pass over `text`.
    #[must_use]
    pub fn in_text(file: &Arc<str>, text: &str, start: usize, end: usize) -> Self {
        let mut start = start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let mut end = end.clamp(start, line_end);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            file: Arc::clone(file),
            line: 1 + before.bytes().filter(|&b| b == b'\n').count() as u32,
            column: 1 + text[line_start..start].chars().count() as u32,
            width: (text[start..end].chars().count() as u32).max(1),
            source: text[line_start..line_end].trim_end_matches('\r').into(),
        }
    }
}

/// One problem: what, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// How much it matters.
    pub level: Level,
    /// A stable code to search for, as `mib-no-end` or `config-unknown-key`.
    pub code: &'static str,
    /// One sentence that says what is wrong, in lower case, without a full stop.
    pub message: String,
    /// Where, if it has a place.
    pub place: Option<Place>,
    /// What to do about it.
    pub help: Option<String>,
    /// What of the configuration it concerns, where it was found without the file at hand; see
    /// [`crate::config::locate`].
    #[serde(skip)]
    pub part: Option<Box<Part>>,
}

/// Words of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The name of the rule that they stand in, if they do.
    pub rule: Option<Arc<str>>,
    /// The key that they stand under, as `match.when` in a rule or `mib.directories`.
    pub key: Box<str>,
    /// The words.
    pub word: Box<str>,
}

impl Diagnostic {
    /// An error with neither place nor help yet.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Error, code, message: message.into(), place: None, help: None, part: None }
    }

    /// A warning with neither place nor help yet.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(code, message) }
    }

    /// With its place.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// With its remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `file:line:column: level: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file, place.line, place.column)?;
        }
        write!(f, "{}[{}]: {}", self.level, self.code, self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// Several lines for a person: message, place, source line, caret, help. Ends with a line feed.
///
/// Control characters of the source are replaced, so that no file can write to the terminal.
#[must_use]
pub fn render(diagnostic: &Diagnostic) -> String {
    render_with(diagnostic, &Renderer::plain())
}

/// As [`render`], with the colours of a terminal.
#[must_use]
pub fn render_coloured(diagnostic: &Diagnostic) -> String {
    render_with(diagnostic, &Renderer::styled())
}

fn render_with(diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let level = match diagnostic.level {
        Level::Note => annotate_snippets::Level::NOTE,
        Level::Warning => annotate_snippets::Level::WARNING,
        Level::Error => annotate_snippets::Level::ERROR,
    };
    let title = level.primary_title(printable(&diagnostic.message)).id(diagnostic.code);
    let mut group = match &diagnostic.place {
        None => Group::with_title(title),
        Some(place) if place.source.is_empty() => {
            let origin = Origin::path(printable(&place.file)).line(place.line as usize);
            title.element(origin.char_column(place.column as usize))
        }
        Some(place) => {
            let source = printable(&place.source);
            let octet = |column: usize| source.char_indices().nth(column).map_or(source.len(), |(at, _)| at);
            let start = place.column.saturating_sub(1) as usize;
            let span = octet(start)..octet(start.saturating_add(place.width as usize));
            let snippet = Snippet::source(source).line_start(place.line as usize);
            title.element(snippet.path(printable(&place.file)).annotation(AnnotationKind::Primary.span(span)))
        }
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(annotate_snippets::Level::HELP.message(printable(help)));
    }
    let mut text = renderer.render(&[group]);
    text.push('\n');
    text
}

/// One character for each, so that columns stay.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(shown).collect()
}

/// How many there are: `3 errors, 1 warning`, or `no problems`.
#[must_use]
pub fn summary(diagnostics: &[Diagnostic]) -> String {
    let parts: Vec<_> = [Level::Error, Level::Warning, Level::Note]
        .into_iter()
        .filter_map(|level| match diagnostics.iter().filter(|diagnostic| diagnostic.level == level).count() {
            0 => None,
            1 => Some(format!("1 {level}")),
            count => Some(format!("{count} {level}s")),
        })
        .collect();
    if parts.is_empty() { "no problems".into() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(source: &str, column: u32, width: u32) -> Diagnostic {
        Diagnostic::error("config-unknown-key", "unknown key `severty`")
            .at(Place { file: "nereus.yaml".into(), line: 12, column, width, source: source.into() })
            .help("did you mean `severity`?")
    }

    #[test]
    fn the_caret_stands_below_what_is_meant() {
        let shown = render(&sample("    severty: major", 5, 7));
        let expected = "error[config-unknown-key]: unknown key `severty`\n  --> nereus.yaml:12:5\n   |\n12 |     severty: major\n   |     ^^^^^^^\n   |\n   = help: did you mean `severity`?\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_place_without_its_line_is_a_place_still() {
        let shown = render(&Diagnostic::error("c", "no text").at(Place {
            file: "a.yaml".into(),
            line: 3,
            column: 9,
            width: 1,
            source: "".into(),
        }));
        assert!(shown.contains("a.yaml:3:9"), "{shown}");
        assert_eq!(render(&Diagnostic::warning("c", "no place")), "warning[c]: no place\n");
    }

    #[test]
    fn no_file_writes_to_the_terminal() {
        let shown = render(&sample("a\u{1b}[2J\u{7}b", 1, 100));
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown:?}");
        assert!(render_coloured(&sample("a", 1, 1)).contains('\u{1b}'));
    }

    #[test]
    fn any_column_is_rendered() {
        for (column, width) in [(0, 0), (1, 0), (4, 1), (u32::MAX, u32::MAX), (2, 1)] {
            assert!(!render(&sample("aü\tb", column, width)).is_empty());
        }
        let long = render(&sample(&"x".repeat(100_000), 50_000, 3));
        assert!(long.len() < 2_000, "{}", long.len());
    }

    #[test]
    fn problems_are_counted() {
        let problems = [Diagnostic::error("a", ""), Diagnostic::warning("b", ""), Diagnostic::error("c", "")];
        assert_eq!(summary(&problems), "2 errors, 1 warning");
        assert_eq!(summary(&[]), "no problems");
    }
}
