//! `when`: typed conditions over varbinds.

use super::super::keys::TESTS;
use super::super::settings::{Condition, Scalar, Test};
use super::super::tree::{Data, Entry, Node};
use super::scalars::{check_varbind, column_name};
use super::{Context, suggest};

// Recursion here is bounded by the depth of the tree.
impl Context<'_> {
    /// `{name: test, …}`, `{all: […]}`, `{any: […]}`; several entries must all hold. A list is `all`.
    pub(super) fn condition(&mut self, node: &Node) -> Option<Condition> {
        match &node.data {
            Data::Map(entries) if entries.is_empty() => {
                self.error(
                    "config-value",
                    &node.span,
                    "this condition says nothing",
                    Some("leave `when` out".into()),
                );
                None
            }
            Data::Map(entries) => {
                let parts = entries.iter().filter_map(|entry| self.part(entry)).collect::<Vec<_>>();
                if parts.len() < entries.len() { None } else { Some(all_of(parts)) }
            }
            Data::List(_) => Some(all_of(self.conditions(node)?)),
            _ => {
                self.wrong_type(node, "a condition as `{ifAdminStatus: up}`");
                None
            }
        }
    }

    fn conditions(&mut self, node: &Node) -> Option<Vec<Condition>> {
        let items = self.items(node, false, "conditions")?;
        if items.is_empty() {
            self.error("config-value", &node.span, "this list holds no condition", None);
            return None;
        }
        let conditions: Vec<_> = items.iter().filter_map(|item| self.condition(item)).collect();
        (conditions.len() == items.len()).then_some(conditions)
    }

    fn part(&mut self, entry: &Entry) -> Option<Condition> {
        match &*entry.key {
            "all" => self.conditions(&entry.value).map(all_of),
            "any" => self.conditions(&entry.value).map(Condition::Any),
            name => {
                let test = self.test(&entry.value);
                if let Some((lookup, column)) = column_name(name) {
                    if !self.column(lookup, column, &entry.key_span) {
                        return None;
                    }
                } else if let Err(help) = check_varbind(name) {
                    self.error("config-varbind", &entry.key_span, "this names no varbind", Some(help));
                    return None;
                }
                Some(Condition::Field {
                    name: name.strip_prefix('.').unwrap_or(name).to_owned(),
                    test: test?,
                })
            }
        }
    }

    fn test(&mut self, node: &Node) -> Option<Test> {
        match &node.data {
            Data::List(_) => self.one_of(node),
            Data::Map(entries) if entries.is_empty() => {
                self.error("config-value", &node.span, "this test says nothing", None);
                None
            }
            Data::Map(entries) => {
                let mut tests: Vec<_> = entries.iter().filter_map(|entry| self.operator(entry)).collect();
                if tests.len() < entries.len() {
                    return None;
                }
                if tests.len() == 1 { tests.pop() } else { Some(Test::All(tests)) }
            }
            _ => self.scalar(node).map(Test::Equals),
        }
    }

    fn one_of(&mut self, node: &Node) -> Option<Test> {
        let items = self.items(node, false, "values")?;
        if items.is_empty() {
            self.error("config-value", &node.span, "no value is in an empty list", None);
            return None;
        }
        let scalars: Vec<_> = items.iter().filter_map(|item| self.scalar(item)).collect();
        (scalars.len() == items.len()).then_some(Test::In(scalars))
    }

    fn operator(&mut self, entry: &Entry) -> Option<Test> {
        let node = &entry.value;
        match &*entry.key {
            "equals" => self.scalar(node).map(Test::Equals),
            "in" => self.one_of(node),
            "not" => self.test(node).map(|test| Test::Not(Box::new(test))),
            "matches" => self.regex(node).map(Test::Matches),
            "above" => self.number(node).map(Test::Above),
            "below" => self.number(node).map(Test::Below),
            "contains" => self.text(node).map(|text| Test::Contains(text.to_owned())),
            "exists" => self.flag(node).map(Test::Exists),
            other => {
                let names = || TESTS.iter().map(|(name, _)| *name);
                let help = match suggest(other, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known tests: {}", names().collect::<Vec<_>>().join(", ")),
                };
                self.error("config-unknown-key", &entry.key_span, "unknown test of a varbind", Some(help));
                None
            }
        }
    }

    fn scalar(&mut self, node: &Node) -> Option<Scalar> {
        match &node.data {
            Data::Integer(number, _) => Some(Scalar::Number(*number)),
            // TruthValue's labels.
            Data::Bool(value) => Some(Scalar::Text(value.to_string())),
            Data::Text(text) => Some(Scalar::Text(text.clone())),
            Data::Float(..) => {
                let message = format!("{} is no whole number, and no text without quotes", self.quoted(node));
                let help =
                    self.quote(node).map(|text| format!("an OID or a version needs quotes: \"{text}\""));
                self.error("config-oid-number", &node.span, message, help);
                None
            }
            _ => {
                self.wrong_type(node, "a number or a text");
                None
            }
        }
    }

    fn number(&mut self, node: &Node) -> Option<f64> {
        match &node.data {
            // Exact up to 2^53, which is finer than a threshold is meant.
            Data::Integer(number, _) => Some(*number as f64),
            Data::Float(number, _) if number.is_finite() => Some(*number),
            _ => {
                self.wrong_type(node, "a number");
                None
            }
        }
    }

    fn regex(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        match crate::config::regex(text) {
            Ok(_) => Some(text.to_owned()),
            Err(regex::Error::CompiledTooBig(_)) => {
                let message = "this regular expression becomes too large";
                self.error("config-regex", &node.span, message, Some("repeat less".into()));
                None
            }
            Err(error) => {
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
                let message = format!("invalid regular expression: {why}");
                self.error("config-regex", &node.span, message, None);
                None
            }
        }
    }
}

fn all_of(mut parts: Vec<Condition>) -> Condition {
    match parts.len() {
        1 => parts.remove(0),
        _ => Condition::All(parts),
    }
}
