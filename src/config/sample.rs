//! The commented sample of `config init`, in YAML and TOML, made from the table of keys.
//!
//! What has a default stands there with it, so that the sample means the same as no file at all. A line
//! that begins with `#` at once is an example: taking the `#` away makes it count. Explanations begin with
//! `# `.

use std::fmt::Write;

use super::keys::{self, Key, Kind, Section};
use super::tree::{self, Data, Language, Node};

/// Keys that stand in another one's place, so that only one of the two is shown as a line.
/// Also those that need files which are not there.
const ALTERNATIVES: &[&str] = &[
    "access.users[].auth.key",
    "access.users[].privacy.key",
    "webhooks[].url",
    "webhooks[].auth",
    "webhooks[].signing",
    "webhooks[].tls",
    "webhooks[].template",
    "webhooks[].content_type",
    "outputs[].syslog",
    "outputs[].forward",
];
/// Sections whose defaults are an example and no default.
const EXAMPLES: &[&str] = &["access.users", "lookups", "rules", "storm", "heartbeats", "webhooks", "outputs"];

/// The commented sample as YAML.
#[must_use]
pub fn sample_yaml() -> String {
    let mut out = head("yaml");
    for key in keys::ROOT.keys {
        out.push('\n');
        yaml_key(&mut out, &keys::ROOT, key, Indent { mark: "", blanks: 0 }, false);
    }
    out
}

/// The commented sample as TOML.
#[must_use]
pub fn sample_toml() -> String {
    let mut out = head("toml");
    out.push('\n');
    toml_section(&mut out, &keys::ROOT, "", false);
    out
}

fn head(extension: &str) -> String {
    format!(
        "# Nereus: the whole configuration, with its defaults.\n\
         # A line that begins with `#` and no blank is an example: take the `#` away to use it.\n\
         # `nereus check -c nereus.{extension}` tells every problem; secrets are \"…\", {{env: NAME}} or {{file: PATH}}.\n\
         # Durations are 500ms, 2s, 5m, 24h, 30d; sizes 32MiB, 10GiB.\n"
    )
}

#[derive(Clone, Copy)]
struct Indent {
    /// `#` where all of it is an example.
    mark: &'static str,
    blanks: usize,
}

impl Indent {
    fn deeper(self, by: usize) -> Self {
        Self { blanks: self.blanks + by, ..self }
    }

    fn comment(self, out: &mut String, text: &str) {
        let _ = writeln!(out, "{}# {text}", " ".repeat(self.blanks));
    }

    fn line(self, out: &mut String, mark: &'static str, text: &str) {
        let mark = if self.mark.is_empty() { mark } else { self.mark };
        // The mark stands before the text, so that taking it away leaves the indentation right.
        let _ = writeln!(out, "{}{mark}{text}", " ".repeat(self.blanks));
    }
}

/// JSON is YAML, and the tree keeps the order of keys.
fn json(text: &str) -> Node {
    tree::read(Language::Yaml, text).map_or(Node { span: 0..0, data: Data::Null }, |tree| tree.root)
}

/// What to show of a key: its value, and whether it counts.
fn shown(key: &Key, example: bool) -> Option<(Node, bool)> {
    match (key.default, key.example) {
        (_, Some(text)) if example => Some((json(text), true)),
        (Some(text), _) => Some((json(text), true)),
        (None, Some(text)) => Some((json(text), false)),
        (None, None) => None,
    }
}

/// Whether the sample has a key of this section that is no example.
fn counts(section: &'static Section) -> bool {
    section.keys.iter().any(|key| match &key.kind {
        Kind::Section(inner) => counts(inner),
        _ => shown(key, false).is_some_and(|(_, counts)| counts),
    })
}

fn explain(
    out: &mut String,
    section: &Section,
    key: &Key,
    indent: Indent,
    example: bool,
    flow: fn(&Node) -> String,
) {
    indent.comment(out, key.doc);
    if let Some(text) = key.also {
        indent.comment(out, &format!("or {}", flow(&json(text))));
    }
    if let (Some(_), Some(text), false) = (key.default, key.example, example) {
        indent.comment(out, &format!("for example {}", flow(&json(text))));
    }
    if keys::RESTART_ONLY.contains(&&*section.path_of(key.name)) {
        debug_assert!(key.doc.contains("restart"), "{}", key.name);
    }
}

fn yaml_key(out: &mut String, section: &'static Section, key: &'static Key, indent: Indent, example: bool) {
    let example = example || EXAMPLES.contains(&&*section.path_of(key.name));
    explain(out, section, key, indent, example, yaml_flow);
    if ALTERNATIVES.contains(&&*section.path_of(key.name)) {
        let value = json(key.example.unwrap_or_default());
        return indent.comment(out, &format!("{}: {}", key.name, yaml_flow(&value)));
    }
    let mark = if example { "#" } else { "" };
    match (&key.kind, shown(key, example)) {
        (Kind::Section(inner), _) => {
            // A section without a key that counts would be a key without a value.
            let mark = if counts(inner) { mark } else { "#" };
            indent.line(out, mark, &format!("{}:", key.name));
            inner.keys.iter().for_each(|key| yaml_key(out, inner, key, indent.deeper(2), example));
        }
        (Kind::List(Kind::Section(inner)) | Kind::Many(Kind::Section(inner)), _) => {
            indent.line(out, mark, &format!("{}:", key.name));
            let mut text = String::new();
            inner.keys.iter().for_each(|key| yaml_key(&mut text, inner, key, indent.deeper(4), example));
            out.push_str(&dashed(&text, indent.blanks + 4));
        }
        (_, Some((value, counts))) => {
            let line = format!("{}: {}", key.name, yaml_flow(&value));
            indent.line(out, if counts { mark } else { "#" }, &line);
        }
        (_, None) => {}
    }
}

/// Puts the dash of a list item before its first key.
fn dashed(text: &str, blanks: usize) -> String {
    let mut out = String::new();
    let mut done = false;
    for line in text.lines() {
        let body = line.trim_start();
        let (mark, rest) = match body.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => ("#", rest),
            Some(_) => ("# ", ""),
            None => ("", body),
        };
        if done || mark == "# " {
            let _ = writeln!(out, "{line}");
        } else {
            let _ = writeln!(out, "{}{mark}- {rest}", " ".repeat(blanks - 2));
            done = true;
        }
    }
    out
}

/// A key with a value that is given as JSON, as the language writes it.
pub(super) fn line(name: &str, value: &str, toml: bool) -> String {
    let value = json(value);
    if toml { format!("{name} = {}", toml_inline(&value)) } else { format!("{name}: {}", yaml_flow(&value)) }
}

fn plain(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b':' | b'-' | b'%');
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/'))
        && text.bytes().all(word)
        && !text.ends_with(':')
        && text.parse::<f64>().is_err()
        && !matches!(text, "true" | "false" | "null")
}

fn yaml_flow(node: &Node) -> String {
    match &node.data {
        Data::Text(text) if plain(text) => text.clone(),
        Data::List(items) => format!("[{}]", items.iter().map(yaml_flow).collect::<Vec<_>>().join(", ")),
        Data::Map(entries) => {
            let entries = entries.iter().map(|entry| format!("{}: {}", entry.key, yaml_flow(&entry.value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        single => scalar(single),
    }
}

/// A value as both languages write it.
fn scalar(data: &Data) -> String {
    match data {
        Data::Bool(value) => value.to_string(),
        Data::Integer(_, text) | Data::Float(_, text) => text.clone(),
        Data::Text(text) => serde_json::Value::from(&**text).to_string(),
        Data::Null | Data::List(_) | Data::Map(_) => "null".to_owned(),
    }
}

fn toml_section(out: &mut String, section: &'static Section, path: &str, example: bool) {
    let indent = Indent { mark: "", blanks: 0 };
    let is_table = |key: &Key| {
        !ALTERNATIVES.contains(&&*section.path_of(key.name))
            && matches!(
                key.kind,
                Kind::Section(_) | Kind::List(Kind::Section(_)) | Kind::Many(Kind::Section(_))
            )
    };
    for key in section.keys.iter().filter(|key| !is_table(key)) {
        explain(out, section, key, indent, example, toml_inline);
        if ALTERNATIVES.contains(&&*section.path_of(key.name)) {
            let value = json(key.example.unwrap_or_default());
            indent.comment(out, &format!("{} = {}", key.name, toml_inline(&value)));
        } else if let Some((value, counts)) = shown(key, example) {
            let mark = if example || !counts { "#" } else { "" };
            indent.line(out, mark, &format!("{} = {}", key.name, toml_inline(&value)));
        }
    }
    for key in section.keys.iter().filter(|key| is_table(key)) {
        let example = example || EXAMPLES.contains(&&*section.path_of(key.name));
        let mark = if example { "#" } else { "" };
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        out.push('\n');
        explain(out, section, key, indent, example, toml_inline);
        match &key.kind {
            Kind::Section(inner) => {
                let mark = if counts(inner) { mark } else { "#" };
                indent.line(out, mark, &format!("[{path}]"));
                toml_section(out, inner, &path, example);
            }
            Kind::List(Kind::Section(inner)) | Kind::Many(Kind::Section(inner)) => {
                indent.line(out, mark, &format!("[[{path}]]"));
                toml_section(out, inner, &path, example);
            }
            _ => {}
        }
    }
}

fn toml_inline(node: &Node) -> String {
    match &node.data {
        Data::List(items) => format!("[{}]", items.iter().map(toml_inline).collect::<Vec<_>>().join(", ")),
        Data::Map(entries) if entries.is_empty() => "{}".to_owned(),
        Data::Map(entries) => {
            let entries =
                entries.iter().map(|entry| format!("{} = {}", entry.key, toml_inline(&entry.value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        single => scalar(single),
    }
}
