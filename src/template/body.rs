//! Templates of whole bodies, as webhooks post them: values as deep as JSON, strict about what is absent.
//!
//! The same engine as for labels, with the same bounds on steps and depth, but an unknown variable is an error
//! (`default("…")` says what stands in its place), and `tojson` writes any value so that it is JSON.

use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::{BLOCKS, FUEL, MAX_SOURCE, RECURSION, TemplateError, codes, words};

/// The longest rendering, in octets.
pub const MAX_BODY: usize = 4 << 20;
/// Instructions of one rendering, for each alert in it.
const FUEL_EACH: u64 = FUEL;

/// A template of a body. Cloning shares it; two of the same text are equal.
#[derive(Clone)]
pub struct BodyTemplate {
    text: std::sync::Arc<str>,
    environment: std::sync::Arc<Environment<'static>>,
}

impl BodyTemplate {
    /// Compiles `text`.
    ///
    /// # Errors
    /// [`TemplateError`], with the octets to blame where they are known.
    pub fn compile(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_SOURCE {
            return Err(TemplateError::new(format!("it is longer than {MAX_SOURCE} octets"), None));
        }
        // Without `set` and macros nothing in it can grow from one step to the next.
        for (at, block, code) in codes(text) {
            let word = words(code).first().map_or("", |(_, word)| *word);
            if block && !BLOCKS.contains(&word) {
                let message = format!("a template has no block `{word}`, only `if` and `for`");
                return Err(TemplateError::new(message, Some(at..at + code.len())));
            }
        }
        let mut environment = environment();
        let added = environment.add_template_owned("body", text.to_owned());
        added.map_err(|error| TemplateError::of(&error))?;
        Ok(Self { text: text.into(), environment: environment.into() })
    }

    /// Renders with the members of `context`, which holds `alerts` alerts.
    ///
    /// # Errors
    /// A variable that is not there, too many steps, more than [`MAX_BODY`] octets.
    pub fn render(&self, context: &serde_json::Value, alerts: usize) -> Result<String, TemplateError> {
        let mut environment = Environment::clone(&self.environment);
        environment.set_fuel(Some(FUEL_EACH.saturating_mul(alerts.max(1) as u64)));
        let template = environment.get_template("body").map_err(|error| TemplateError::of(&error))?;
        let mut output = Bounded(Vec::with_capacity(1024));
        template.render_captured_to(Value::from(minijinja::value::Serde(context)), &mut output).map_err(
            |error| match error.kind() {
                ErrorKind::WriteFailure => {
                    TemplateError::new(format!("it renders to more than {MAX_BODY} octets"), None)
                }
                _ => TemplateError::of(&error),
            },
        )?;
        String::from_utf8(output.0).map_err(|_| TemplateError::new("the output is not UTF-8", None))
    }
}

impl PartialEq for BodyTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for BodyTemplate {}

impl std::fmt::Debug for BodyTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BodyTemplate").finish_non_exhaustive()
    }
}

struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + octets.len() > MAX_BODY {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn environment() -> Environment<'static> {
    use minijinja::{filters, functions, tests};
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_recursion_limit(RECURSION);
    super::add_common(&mut environment);
    environment.add_filter("first", filters::first);
    environment.add_filter("items", filters::items);
    environment.add_filter("join", filters::join);
    environment.add_filter("last", filters::last);
    environment.add_filter("tojson", tojson);
    environment.add_test("none", tests::is_none);
    environment.add_function("dict", functions::dict);
    environment
}

/// Any value as JSON: a text with its quotes and everything in it escaped.
fn tojson(value: Value, rest: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    named.assert_all_used()?;
    if !rest.is_empty() {
        return Err(ErrorKind::TooManyArguments.into());
    }
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "an absent value is no JSON; give it a `default`"));
    }
    serde_json::to_string(&value)
        .map(Value::from_safe_string)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(text: &str) -> Result<String, String> {
        let context = json!({
            "webhook": "w",
            "alerts": [{"alert": "A \"quoted\"\n</x>", "labels": {"site": "Bonn"}, "event": null}],
        });
        let template = BodyTemplate::compile(text).map_err(|error| error.to_string())?;
        template.render(&context, 1).map_err(|error| error.to_string())
    }

    #[test]
    fn any_value_becomes_json() {
        let text =
            render("{\"text\": {{ alerts[0].alert | tojson }}, \"all\": {{ alerts | tojson }}}").unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["text"], "A \"quoted\"\n</x>");
        assert_eq!(value["all"][0]["labels"]["site"], "Bonn");
    }

    #[test]
    fn what_is_absent_is_an_error_unless_it_has_a_default() {
        assert!(render("{{ nothing }}").is_err());
        assert!(render("{{ alerts[0].labels.nothing }}").is_err());
        assert!(render("{{ alerts[0].labels.nothing | tojson }}").is_err());
        assert_eq!(render("{{ alerts[0].labels.nothing | default('-') }}").unwrap(), "-");
        assert_eq!(render("{% if alerts[0].event is none %}no{% endif %}").unwrap(), "no");
    }

    #[test]
    fn work_and_output_are_bounded_and_no_file_is_read() {
        let nested = "{% for a in [1,2,3,4,5,6,7,8,9] %}".repeat(8) + "x" + &"{% endfor %}".repeat(8);
        assert!(render(&nested).unwrap_err().contains("steps"));
        assert!(render("{{ 'xxxxxxxxxxxxxxxx' * 400000 }}").is_err());
        for block in ["include '/etc/passwd'", "set x = 'a' ~ 'a'", "macro a()", "import 'x' as y"] {
            assert!(render(&format!("{{% {block} %}}")).unwrap_err().contains("no block"), "{block}");
        }
        assert!(BodyTemplate::compile("{{ a").is_err());
        assert!(
            BodyTemplate::compile("{{ a | nofilter }}").and_then(|t| t.render(&json!({"a": 1}), 1)).is_err()
        );
    }
}
