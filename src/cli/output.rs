//! Standard output: tables and JSON lines, buffered, without colour where nobody wants any.
//!
//! What is printed came from the network: names and values of packets. Control characters in it would be
//! commands to the terminal, so that none passes.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, StdoutLock, Write};

use anstream::AutoStream;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

use super::failure::Failure;

/// Where answers go.
pub(super) struct Out {
    writer: BufWriter<AutoStream<StdoutLock<'static>>>,
}

impl Out {
    /// Standard output; locked for as long as this lives.
    pub(super) fn stdout() -> Self {
        Self { writer: BufWriter::new(AutoStream::auto(io::stdout().lock())) }
    }

    /// One line. `text` must hold no control characters: see [`printable`].
    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.writer, "{text}").map_err(closed)
    }

    /// One object on a line of its own.
    pub(super) fn json(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(object).map_err(|error| Failure::Unable(error.to_string()))?;
        self.line(&escape_controls(&text))
    }

    /// A table, on a terminal as wide as that.
    pub(super) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Octets as they are, of our own making.
    pub(super) fn raw(&mut self, octets: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(octets).map_err(closed)
    }

    /// Everything so far, to the reader.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(closed)
    }
}

fn closed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::ClosedPipe
    } else {
        Failure::Unable(format!("writing the answer failed: {error}"))
    }
}

/// An empty table with `header`.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    // Always styled: the writer takes the colours out where they are not wanted, NO_COLOR and pipes alike.
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .enforce_styling();
    table.set_header(header.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    // Columns stand two blanks apart, and the first one at the edge.
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A cell of text from anywhere.
pub(super) fn cell(text: &str) -> Cell {
    Cell::new(printable(text))
}

/// A cell with a severity in its colour.
pub(super) fn severity(text: &str) -> Cell {
    let cell = cell(text);
    match text {
        "critical" => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        "major" => cell.fg(Color::Red),
        "minor" => cell.fg(Color::Yellow),
        "warning" => cell.fg(Color::Cyan),
        _ => cell,
    }
}

/// A JSON value on one line for a person: texts without quotes, objects as `name=value`, nothing as `-`.
pub(super) fn brief(value: Option<&Value>) -> String {
    let mut out = String::new();
    write_brief(value.unwrap_or(&Value::Null), 0, &mut out);
    if out.is_empty() {
        out.push('-');
    }
    out
}

fn write_brief(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Null => {}
        Value::String(text) => out.push_str(text),
        // serde_json itself refuses to read more than 128 levels; nobody reads more than two.
        Value::Array(_) | Value::Object(_) if depth == 2 => out.push('…'),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_brief(item, depth + 1, out);
            }
        }
        Value::Object(fields) => {
            for (at, (name, field)) in fields.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                out.push_str(name);
                out.push('=');
                write_brief(field, depth + 1, out);
            }
        }
        // Writing to a String does not fail.
        Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

/// `text` with its control characters written out, as `\n` or `\u{1b}`.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// `json` with the control characters escaped that JSON allows as they are (U+007F to U+009F). In valid JSON
/// they stand within strings alone.
fn escape_controls(json: &str) -> Cow<'_, str> {
    let bad = |c: char| ('\u{7f}'..='\u{9f}').contains(&c);
    if !json.contains(bad) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if bad(character) {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_control_character_reaches_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{9b}"), "a\\u{1b}[2Jb\\nc\\u{9b}");
        let text = serde_json::to_string(&json!({"text": "\x1b\u{9b}\u{7f}"})).unwrap();
        let escaped = escape_controls(&text);
        assert!(!escaped.contains(char::is_control));
        let back: Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(back["text"], "\x1b\u{9b}\u{7f}");
    }

    #[test]
    fn values_are_brief() {
        assert_eq!(brief(None), "-");
        assert_eq!(brief(Some(&json!(""))), "-");
        assert_eq!(brief(Some(&json!({"source": "10.0.0.1", "ifIndex": 3}))), "ifIndex=3, source=10.0.0.1");
        assert_eq!(brief(Some(&json!([1, [2, [3]]]))), "1, 2, …");
    }
}
