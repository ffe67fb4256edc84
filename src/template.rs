//! Texts with `{{ … }}`: checked once, rendered with bounded work, memory and output.
//!
//! The engine is minijinja with a chosen set of filters and tests. A template has expressions, `if` and
//! `for`; it has no `set`, no macros and no includes, so that it reads no file, and nothing in it can grow
//! from one iteration to the next. Work is bounded by fuel, output by [`MAX_OUTPUT`].
//!
//! An absent variable renders as nothing, and so does what hangs on it (`device.name`): a varbind that a
//! device left out must not lose an alert. `{{ device.name or source }}` and `default("…")` say what stands
//! in its place.

mod body;

pub use body::{BodyTemplate, MAX_BODY};

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock, Weak};

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use parking_lot::Mutex;

/// The longest template, in octets.
pub const MAX_SOURCE: usize = 64 << 10;
/// The longest rendering, in octets.
pub const MAX_OUTPUT: usize = 64 << 10;
/// Instructions of one rendering; a template with ten expressions takes about a hundred.
const FUEL: u64 = 50_000;
/// Levels of nested expressions and blocks.
const RECURSION: usize = 32;
/// The longest text that a filter makes.
const MAX_FILTERED: usize = MAX_OUTPUT;
/// The blocks that a template may have.
const BLOCKS: [&str; 8] = ["if", "elif", "else", "endif", "for", "endfor", "raw", "endraw"];

/// What a variable holds.
#[derive(Debug, Clone, PartialEq)]
pub enum TemplateValue {
    /// A text.
    Text(String),
    /// A number.
    Integer(i64),
    /// A number that only fits unsigned, as a Counter64.
    Unsigned(u64),
    /// A fraction.
    Float(f64),
}

impl From<TemplateValue> for Value {
    fn from(value: TemplateValue) -> Self {
        match value {
            TemplateValue::Text(text) => Self::from(text),
            TemplateValue::Integer(number) => Self::from(number),
            TemplateValue::Unsigned(number) => Self::from(number),
            TemplateValue::Float(number) => Self::from(number),
        }
    }
}

impl From<&str> for TemplateValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for TemplateValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for TemplateValue {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// What knows the values: a variable's name to its value.
pub type Lookup<'a> = dyn Fn(&str) -> Option<TemplateValue> + 'a;

/// Why a template does not compile or render.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    message: String,
    range: Option<Range<usize>>,
    help: Option<String>,
}

impl TemplateError {
    fn new(message: impl Into<String>, range: Option<Range<usize>>) -> Self {
        Self { message: message.into(), range, help: None }
    }

    fn of(error: &Error) -> Self {
        let message = match (error.kind(), error.detail()) {
            (ErrorKind::OutOfFuel, _) => "it takes too many steps".to_owned(),
            (ErrorKind::WriteFailure, _) => format!("it renders to more than {MAX_OUTPUT} octets"),
            (kind, Some(detail)) => format!("{kind}: {detail}"),
            (kind, None) => kind.to_string(),
        };
        Self::new(message, error.range())
    }

    /// The octets of the template that are to blame, where they are known.
    #[must_use]
    pub fn range(&self) -> Option<Range<usize>> {
        self.range.clone()
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

/// A template that was tried out. Cloning shares it; two of the same text are equal.
#[derive(Clone)]
pub struct Template {
    text: Arc<str>,
    /// `None` is a text without anything to fill in.
    compiled: Option<Arc<Compiled>>,
}

struct Compiled {
    environment: Environment<'static>,
    variables: Vec<String>,
}

/// The one name within a template's own environment.
const NAME: &str = "template";

impl Template {
    /// Compiles `text`; `name` is what errors of rendering call it.
    ///
    /// A text without `{{`, `{%` and `{#` is a constant and costs nothing later. Any other is rendered three
    /// times with made-up values, so that an unknown filter or a wrong number of arguments is told now; while
    /// such a template is held, an equal text costs one look-up.
    ///
    /// # Errors
    /// [`TemplateError`], with the octets to blame where they are known.
    pub fn compile(name: &str, text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_SOURCE {
            return Err(TemplateError::new(format!("`{name}` is longer than {MAX_SOURCE} octets"), None));
        }
        if !["{{", "{%", "{#"].iter().any(|opening| text.contains(opening)) {
            return Ok(Self { text: text.into(), compiled: None });
        }
        static COMPILED: Shared<Compiled> = Shared::new();
        let compiled = COMPILED.get_or_make(text, || Self::made(text))?;
        Ok(Self { text: text.into(), compiled: Some(compiled) })
    }

    fn made(text: &str) -> Result<Compiled, TemplateError> {
        let mut environment = environment().clone();
        environment.add_template_owned(NAME, text.to_owned()).map_err(|error| TemplateError::of(&error))?;
        check_words(text)?;
        let template = environment.get_template(NAME).map_err(|error| TemplateError::of(&error))?;
        let mut variables: Vec<String> = template.undeclared_variables(true).into_iter().collect();
        variables.sort_unstable();
        let compiled = Compiled { environment, variables };
        compiled.rehearse()?;
        Ok(compiled)
    }

    /// The names that it uses, sorted; `device.name` for an attribute. Branches not taken count as well.
    #[must_use]
    pub fn variables(&self) -> &[String] {
        self.compiled.as_ref().map_or(&[], |compiled| &compiled.variables)
    }

    /// The text that it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.text
    }

    /// Renders with what `lookup` knows of [`variables`](Self::variables), each asked once.
    ///
    /// Costs about a microsecond and a few allocations; a constant costs one copy.
    ///
    /// # Errors
    /// What only shows with the values at hand: arithmetic on a text, too many steps, too long a result.
    /// A caller that must not fail takes [`source`](Self::source) in place.
    pub fn render(&self, lookup: &Lookup<'_>) -> Result<String, TemplateError> {
        let Some(compiled) = &self.compiled else { return Ok(self.text.to_string()) };
        compiled.rendered(lookup).map_err(|error| TemplateError::of(&error))
    }
}

impl Compiled {
    fn rendered(&self, lookup: &Lookup<'_>) -> Result<String, Error> {
        let mut context = Branch::default();
        for name in &self.variables {
            if let Some(value) = lookup(name) {
                context.insert(name, value.into());
            }
        }
        let template = self.environment.get_template(NAME)?;
        let mut output = Bounded(Vec::with_capacity(128));
        template.render_captured_to(context.into_value(), &mut output)?;
        String::from_utf8(output.0)
            .map_err(|_| Error::new(ErrorKind::InvalidOperation, "the output is not UTF-8"))
    }

    /// Renders with nothing, with texts and with numbers. Unknown names fail in any; what depends on the
    /// values (`ifIndex + 1`) must pass in one.
    fn rehearse(&self) -> Result<(), TemplateError> {
        let worlds: [&Lookup<'_>; 3] =
            [&|_| None, &|_| Some("text".into()), &|_| Some(TemplateValue::Integer(1))];
        let mut failure = None;
        let mut passed = false;
        for world in worlds {
            match self.rendered(world) {
                Ok(_) => passed = true,
                Err(error) => {
                    let of_any_value = matches!(
                        error.kind(),
                        ErrorKind::UnknownFilter
                            | ErrorKind::UnknownTest
                            | ErrorKind::UnknownFunction
                            | ErrorKind::UnknownMethod
                            | ErrorKind::MissingArgument
                            | ErrorKind::TooManyArguments
                            | ErrorKind::OutOfFuel
                            | ErrorKind::WriteFailure
                    );
                    if of_any_value {
                        return Err(TemplateError::of(&error));
                    }
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(error) if !passed => Err(TemplateError::of(&error)),
            _ => Ok(()),
        }
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.text).finish()
    }
}

/// Values that are made of a text: equal texts share one while somebody holds it. What nobody holds is freed;
/// of such a one the text stays until the next purge, which comes when the map has doubled.
pub(crate) struct Shared<T> {
    made: Mutex<Option<Made<T>>>,
}

struct Made<T> {
    by_text: HashMap<Box<str>, Weak<T>>,
    purge_at: usize,
}

impl<T> Shared<T> {
    /// The map is never smaller than this before a purge.
    const LEAST: usize = 1024;

    pub(crate) const fn new() -> Self {
        Self { made: Mutex::new(None) }
    }

    /// The value of `text`, made by `make` if nobody holds it. Two threads may make the same one; the first
    /// one counts.
    pub(crate) fn get_or_make<E>(
        &self,
        text: &str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let held = |made: &Option<Made<T>>| made.as_ref()?.by_text.get(text)?.upgrade();
        if let Some(value) = held(&self.made.lock()) {
            return Ok(value);
        }
        let value = Arc::new(make()?);
        let mut made = self.made.lock();
        if let Some(value) = held(&made) {
            return Ok(value);
        }
        let made = made.get_or_insert_with(|| Made { by_text: HashMap::new(), purge_at: Self::LEAST });
        if made.by_text.len() >= made.purge_at {
            made.by_text.retain(|_, value| value.strong_count() > 0);
            made.purge_at = Self::LEAST.max(2 * made.by_text.len());
        }
        made.by_text.insert(text.into(), Arc::downgrade(&value));
        Ok(value)
    }
}

/// The values of dotted names, as nested maps.
#[derive(Default)]
struct Branch {
    value: Option<Value>,
    below: BTreeMap<String, Self>,
}

impl Branch {
    fn insert(&mut self, name: &str, value: Value) {
        let mut at = self;
        for part in name.split('.') {
            at = at.below.entry(part.to_owned()).or_default();
        }
        at.value = Some(value);
    }

    /// A name that is both a value and the head of others is the others. The depth is that of a dotted
    /// name that passed the parser.
    fn into_value(self) -> Value {
        match self.value {
            Some(value) if self.below.is_empty() => value,
            _ => self
                .below
                .into_iter()
                .map(|(name, branch)| (name, branch.into_value()))
                .collect::<BTreeMap<_, _>>()
                .into(),
        }
    }
}

/// Takes [`MAX_OUTPUT`] octets and no more.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.0.len() + octets.len() > MAX_OUTPUT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every word after `|` and `is`, and every block, in branches that no rehearsal takes as well.
fn check_words(text: &str) -> Result<(), TemplateError> {
    for (at, block, code) in codes(text) {
        let words = words(code);
        if block {
            let word = words.first().map_or("", |(_, word)| *word);
            if !BLOCKS.contains(&word) {
                let range = Some(at..at + code.len());
                let mut error = TemplateError::new(format!("a template has no block `{word}`"), range);
                error.help = Some("a template has `if` and `for`".into());
                return Err(error);
            }
        }
        for (number, &(start, word)) in words.iter().enumerate().skip(1) {
            let before = |back: usize| number.checked_sub(back).map_or("", |at| words[at].1);
            let filter = before(1) == "|";
            let test = before(1) == "is" && word != "not" || before(1) == "not" && before(2) == "is";
            let known = if filter { FILTERS } else { TESTS };
            if (filter || test) && is_word(word) && !known.contains(&word) {
                let what = if filter { "filter" } else { "test" };
                let range = Some(at + start..at + start + word.len());
                let mut error = TemplateError::new(format!("unknown {what} `{word}`"), range);
                let near = known.iter().map(|name| (strsim::damerau_levenshtein(word, name), *name)).min();
                error.help = Some(match near {
                    Some((distance, near)) if distance <= 2 => format!("did you mean `{near}`?"),
                    _ => format!("known are {}", known.join(", ")),
                });
                return Err(error);
            }
        }
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Where code stands, whether it is a block, and the code. The template was parsed before, so that what
/// opens is closed. Texts within code may hold braces.
fn codes(text: &str) -> Vec<(usize, bool, &str)> {
    let mut codes = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find('{') {
        let open = at + found;
        let close = match text.as_bytes().get(open + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => {
                at = text[open..].find("#}").map_or(text.len(), |end| open + end + 2);
                continue;
            }
            _ => {
                at = open + 1;
                continue;
            }
        };
        let start = open + 2;
        let mut quote = None;
        let mut escaped = false;
        let mut end = text.len();
        for (offset, character) in text[start..].char_indices() {
            match quote {
                Some(_) if escaped => escaped = false,
                Some(_) if character == '\\' => escaped = true,
                Some(open) if character == open => quote = None,
                Some(_) => {}
                None if matches!(character, '"' | '\'') => quote = Some(character),
                None if text[start + offset..].starts_with(close) => {
                    end = start + offset;
                    break;
                }
                None => {}
            }
        }
        let code = &text[start..end];
        codes.push((start, close == "%}", code));
        at = (end + 2).min(text.len());
        if close == "%}" && words(code).first().is_some_and(|(_, word)| *word == "raw") {
            at = text[at..].find("endraw").map_or(text.len(), |end| at + end);
            while !text.is_char_boundary(at) {
                at += 1;
            }
        }
    }
    codes
}

/// Words and `|` of a code, without its texts; attributes (`.name`) are none.
fn words(code: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut characters = code.char_indices().peekable();
    let mut dotted = false;
    while let Some((at, character)) = characters.next() {
        match character {
            '"' | '\'' => {
                let mut escaped = false;
                for (_, inside) in characters.by_ref() {
                    match inside {
                        _ if escaped => escaped = false,
                        '\\' => escaped = true,
                        _ if inside == character => break,
                        _ => {}
                    }
                }
                words.push((at, "\""));
                dotted = false;
            }
            _ if character.is_alphanumeric() || character == '_' => {
                let mut end = at + character.len_utf8();
                while let Some((next, inside)) = characters.next_if(|(_, c)| c.is_alphanumeric() || *c == '_')
                {
                    end = next + inside.len_utf8();
                }
                if !dotted {
                    words.push((at, &code[at..end]));
                }
                dotted = false;
            }
            '.' => dotted = true,
            _ if character.is_whitespace() || matches!(character, '-' | '+') && words.is_empty() => {}
            _ => {
                words.push((at, &code[at..at + character.len_utf8()]));
                dotted = false;
            }
        }
    }
    words
}

const FILTERS: &[&str] = &[
    "abs",
    "capitalize",
    "default",
    "float",
    "int",
    "length",
    "lower",
    "replace",
    "round",
    "title",
    "trim",
    "truncate",
    "upper",
];
const TESTS: &[&str] = &["defined", "number", "string", "undefined"];

/// The environment that each template shares the filters of.
fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        add_common(&mut environment);
        environment
    })
}

/// What every kind of template may use.
fn add_common(environment: &mut Environment<'_>) {
    use minijinja::{filters, tests};
    environment.add_filter("abs", filters::abs);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("default", filters::default);
    environment.add_filter("float", filters::float);
    environment.add_filter("int", filters::int);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("replace", replace);
    environment.add_filter("round", filters::round);
    environment.add_filter("title", filters::title);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("truncate", truncate);
    environment.add_filter("upper", filters::upper);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("number", tests::is_number);
    environment.add_test("string", tests::is_string);
}

/// Unlike minijinja's own it is bounded: replacing in what was replaced grows by a factor each time.
fn replace(text: String, from: String, to: String) -> Result<String, Error> {
    let count = if from.is_empty() { text.chars().count() + 1 } else { text.matches(&*from).count() };
    let grown = count.saturating_mul(to.len()).saturating_add(text.len());
    if grown > MAX_FILTERED.saturating_mul(2) {
        return Err(Error::new(ErrorKind::InvalidOperation, "the text becomes too long"));
    }
    Ok(text.replace(&*from, &to))
}

/// At most so many characters, the last an ellipsis where something was cut off.
fn truncate(text: String, length: Option<usize>) -> String {
    let length = length.unwrap_or(255);
    match text.char_indices().nth(length) {
        None => text,
        Some(_) => text.chars().take(length.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Option<TemplateValue> {
        match name {
            "source" => Some("10.0.0.1".into()),
            "ifDescr" => Some("Gi0/1".into()),
            "ifIndex" => Some(7.into()),
            "device.name" => Some("core-1".into()),
            _ => None,
        }
    }

    fn render(text: &str) -> String {
        Template::compile("t", text).unwrap().render(&known).unwrap()
    }

    #[test]
    fn expressions() {
        assert_eq!(render("{{ device.name or source }} {{ ifDescr }} is down"), "core-1 Gi0/1 is down");
        assert_eq!(render("{{ site.name or source }}"), "10.0.0.1");
        assert_eq!(render("[{{ absent }}{{ absent.deeper.still }}]"), "[]");
        assert_eq!(render("{{ absent | default('none') }}"), "none");
        assert_eq!(render("{% if ifIndex > 5 %}high{% else %}low{% endif %}"), "high");
        assert_eq!(render("{{ ifDescr|upper|replace('/', ' | ') }}"), "GI0 | 1");
        assert_eq!(render("{{ ifIndex + 1 }}"), "8");
        assert_eq!(render("{% raw %}{{ x|y }}{% endraw %} {{ '}} |nofilter' }}"), "{{ x|y }} }} |nofilter");
        assert_eq!(render("{{ '<' }}"), "<");
    }

    #[test]
    fn variables_are_known_in_every_branch() {
        let template = Template::compile("t", "{% if a %}{{ b.c }}{% endif %} plain {{ d }}").unwrap();
        assert_eq!(template.variables(), ["a", "b.c", "d"]);
    }

    #[test]
    fn a_constant_has_no_engine() {
        let template = Template::compile("t", "a { b } | c").unwrap();
        assert!(template.compiled.is_none());
        assert_eq!(template.render(&|_| None).unwrap(), "a { b } | c");
    }

    #[test]
    fn mistakes_are_told_when_compiling() {
        for (text, part) in [
            ("{{ a", "syntax"),
            ("{{ a | uper }}", "unknown filter `uper`"),
            ("{% if false %}{{ a | uper }}{% endif %}", "unknown filter `uper`"),
            ("{% if a is strin %}{% endif %}", "unknown test `strin`"),
            ("{{ nofunction(1) }}", "unknown function"),
            ("{% set a = 1 %}", "no block `set`"),
            ("{%- set a = 1 -%}", "no block `set`"),
            ("{{ a | replace('x') }}", "missing argument"),
        ] {
            let error = Template::compile("t", text).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        let error = Template::compile("t", "ab {{ c | uper }}").unwrap_err();
        assert_eq!((error.range(), error.help()), (Some(10..14), Some("did you mean `upper`?")));
        for text in [
            "{% include '/etc/passwd' %}",
            "{% import 'x' as y %}",
            "{% macro a() %}{% endmacro %}",
            "{% extends 'a' %}",
        ] {
            assert!(Template::compile("t", text).is_err(), "{text}");
        }
    }

    #[test]
    fn work_and_output_are_bounded() {
        let nested = "{% for a in [1,2,3,4,5,6,7,8,9] %}".repeat(8) + "x" + &"{% endfor %}".repeat(8);
        assert!(Template::compile("t", &nested).is_err());
        assert!(Template::compile("t", "{{ 'xxxxxxxx' * 100000 }}").is_err());
        assert!(Template::compile("t", "{{ 'x' * 100000000000 }}").is_err());
        let grown = format!("{{{{ 'a'{} }}}}", "|replace('a', 'aaaaaaaaaa')".repeat(20));
        assert!(Template::compile("t", &grown).is_err());
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(Template::compile("t", &deep).is_err());
        let long = Template::compile("t", "{{ a }}").unwrap();
        let error = long.render(&|_| Some("x".repeat(MAX_OUTPUT + 1).into())).unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
    }

    #[test]
    fn equal_texts_share_while_one_is_held() {
        let made = std::cell::Cell::new(0);
        let shared: Shared<usize> = Shared::new();
        let get = |text: &str| {
            shared.get_or_make(text, || {
                made.set(made.get() + 1);
                if text == "bad" { Err("bad") } else { Ok(made.get()) }
            })
        };
        let first = get("a").unwrap();
        assert!(Arc::ptr_eq(&first, &get("a").unwrap()));
        assert_eq!((get("bad"), made.get()), (Err("bad"), 2));
        drop(first);
        assert_eq!(*get("a").unwrap(), 3, "nobody held it");
        for number in 0..5_000 {
            get(&format!("n{number}")).unwrap();
        }
        assert!(shared.made.lock().as_ref().unwrap().by_text.len() <= Shared::<usize>::LEAST);
    }

    #[test]
    fn equal_texts_are_equal_templates() {
        assert_eq!(Template::compile("a", "{{ x }}"), Template::compile("b", "{{ x }}"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(\\{\\{|\\}\\}|\\{%|%\\}|if|for|in|endif|endfor|raw|endraw|'|\"|[a-z|. ()\\[\\]+*~é-]){0,30}") {
            if let Ok(template) = Template::compile("t", &text) {
                let _ = template.render(&|_| Some("é".into()));
            }
        }
    }
}
