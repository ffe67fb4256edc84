//! A problem with its place: one shape and one rendering for configuration, MIBs and tables.

use std::fmt;
use std::sync::Arc;

/// How much a problem matters. Ordered: a note is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
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
}

impl Diagnostic {
    /// An error with neither place nor help yet.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Error, code, message: message.into(), place: None, help: None }
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
#[must_use]
pub fn render(diagnostic: &Diagnostic) -> String {
    let mut out = format!("{}[{}]: {}\n", diagnostic.level, diagnostic.code, diagnostic.message);
    if let Some(place) = &diagnostic.place {
        let number = place.line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs become one blank each, so that the caret stands below its character.
        let source = place.source.replace(['\t', '\r'], " ");
        out += &format!("{gutter}--> {}:{}:{}\n", place.file, place.line, place.column);
        out += &format!("{gutter} |\n{number} | {source}\n");
        let blank = " ".repeat(place.column.saturating_sub(1) as usize);
        out += &format!("{gutter} | {blank}{}\n", "^".repeat(place.width as usize));
    }
    if let Some(help) = &diagnostic.help {
        out += &format!("  = help: {help}\n");
    }
    out
}
