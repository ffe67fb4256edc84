//! One tree for YAML and TOML: every value with the octets it was read from.
//!
//! Bounded for any text: at most [`MAX_DEPTH`] levels, and at most [`MAX_NODES`] values once aliases are
//! expanded, so that no later walk needs a limit of its own.

mod toml;
mod yaml;

use super::source::Span;

/// The deepest nesting that is taken.
pub(super) const MAX_DEPTH: usize = 48;
/// The most values that a file may hold, aliases expanded; a long text counts as one more for each 32 octets.
pub(super) const MAX_NODES: usize = 2_000_000;

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) data: Data,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Nothing: `key:` or `~`.
    Null,
    Bool(bool),
    /// A number as it was written; too large for `i64` is no integer.
    Integer(i64, String),
    Float(f64, String),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file. Of equal keys the first one counts; the later ones are [`Problem`]s.
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) value: Node,
}

impl Node {
    /// The value's type, as messages say it.
    pub(super) fn what(&self) -> &'static str {
        match &self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "true or false",
            Data::Integer(..) | Data::Float(..) => "a number",
            Data::Text(_) => "a text",
            Data::List(_) => "a list",
            Data::Map(_) => "a section",
        }
    }

    /// Moves every span by `octets`. Recursion is bounded by [`MAX_DEPTH`].
    pub(super) fn shift(&mut self, octets: usize) {
        let shift = |span: &mut Span| *span = span.start + octets..span.end + octets;
        shift(&mut self.span);
        match &mut self.data {
            Data::List(items) => items.iter_mut().for_each(|item| item.shift(octets)),
            Data::Map(entries) => {
                for entry in entries {
                    shift(&mut entry.key_span);
                    entry.value.shift(octets);
                }
            }
            _ => {}
        }
    }

    /// The octets to underline: of a section its first key, since its own span is where it begins.
    pub(super) fn shown(&self) -> Span {
        match &self.data {
            Data::Map(entries) if self.span.len() <= 1 => {
                entries.first().map_or_else(|| self.span.clone(), |e| e.key_span.clone())
            }
            _ => self.span.clone(),
        }
    }
}

/// Something wrong with the text itself.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Problem {
    fn new(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { code, span, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The languages that a file's extension names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Yaml,
    Toml,
}

/// What a text is read as.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: Node,
    /// The keys that stand twice.
    pub(super) twice: Vec<Problem>,
    /// Whether parts of the text may stand for others, by anchors.
    pub(super) anchored: bool,
}

/// Reads `text`, or tells why there is no tree.
pub(super) fn read(language: Language, text: &str) -> Result<Tree, Vec<Problem>> {
    let (root, anchored) = match language {
        Language::Yaml => yaml::read(text).map_err(|problem| vec![problem])?,
        Language::Toml => (toml::read(text)?, false),
    };
    let ends = std::cell::OnceCell::new();
    let line_of = |start: usize| {
        let ends: &Vec<usize> = ends.get_or_init(|| {
            text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect()
        });
        1 + ends.partition_point(|&end| end < start)
    };
    let mut twice = Vec::new();
    duplicates(&root, &line_of, &mut twice);
    Ok(Tree { root, twice, anchored })
}

/// So many keys are compared one by one; more are hashed.
const FEW: usize = 16;

/// Recursion is bounded by [`MAX_DEPTH`].
fn duplicates(node: &Node, line_of: &dyn Fn(usize) -> usize, problems: &mut Vec<Problem>) {
    match &node.data {
        Data::List(items) => items.iter().for_each(|item| duplicates(item, line_of, problems)),
        Data::Map(entries) => {
            let mut first = std::collections::HashMap::new();
            for (at, entry) in entries.iter().enumerate() {
                duplicates(&entry.value, line_of, problems);
                let start = if entries.len() <= FEW {
                    let earlier = entries[..at].iter().find(|earlier| earlier.key == entry.key);
                    earlier.map_or(entry.key_span.start, |earlier| earlier.key_span.start)
                } else {
                    *first.entry(&*entry.key).or_insert(entry.key_span.start)
                };
                if start != entry.key_span.start {
                    let line = line_of(start);
                    problems.push(
                        Problem::new("config-duplicate-key", entry.key_span.clone(), "this key stands twice")
                            .help(format!("it stands on line {line} already; keep one of them")),
                    );
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(language: Language, text: &str) -> &'static str {
        match read(language, text) {
            Ok(tree) => tree.twice.first().map_or("fine", |problem| problem.code),
            Err(problems) => problems[0].code,
        }
    }

    #[test]
    fn broken_texts_have_codes() {
        for (text, expected) in [
            ("a: 1\n", "fine"),
            ("a: 1\na: 2\n", "config-duplicate-key"),
            ("a: 1\n---\nb: 2\n", "config-documents"),
            ("---\na: 1\n...\n", "fine"),
            ("a:\n\tb: 1\n", "config-syntax"),
            ("a: *b\n", "config-alias"),
            ("a: &a [*a]\n", "config-alias"),
            ("a: &a 1\nb: *a\n", "fine"),
            ("a: !foo 1\n", "config-tag"),
            ("? [a]\n: b\n", "config-key"),
            ("", "config-empty"),
            ("# nothing\n", "config-empty"),
            ("a: [1, 2", "config-syntax"),
        ] {
            assert_eq!(code(Language::Yaml, text), expected, "{text:?}");
        }
        for (text, expected) in [
            ("a = 1\n", "fine"),
            ("a = 1\na = 2\n", "config-syntax"),
            ("a = \n", "config-syntax"),
            ("", "config-empty"),
        ] {
            assert_eq!(code(Language::Toml, text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_tab_is_told_where_it_stands() {
        let text = "listener:\n  - address: 0.0.0.0:162\n\tallow: x\n";
        let problems = read(Language::Yaml, text).unwrap_err();
        assert_eq!(problems[0].span.start, text.find('\t').unwrap());
        assert!(problems[0].help.as_ref().unwrap().contains("tabs"));
    }

    #[test]
    fn depth_and_aliases_are_bounded() {
        for open in ["[", "{a: "] {
            let code = code(Language::Yaml, &format!("a: {}", open.repeat(100_000)));
            assert!(matches!(code, "config-depth" | "config-syntax"), "{code}");
        }
        assert_eq!(code(Language::Yaml, &format!("a: {}{}", "[".repeat(60), "]".repeat(60))), "config-depth");
        assert_eq!(
            code(Language::Toml, &format!("a = {}{}", "[".repeat(60), "]".repeat(60))),
            "config-depth"
        );
        assert_eq!(code(Language::Toml, &format!("a = {}", "[".repeat(100_000))), "config-syntax");
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let below = format!("*a{}", level - 1);
            laughs += &format!("a{level}: &a{level} [{}]\n", [&*below; 10].join(", "));
        }
        assert_eq!(code(Language::Yaml, &laughs), "config-alias");
    }
}
