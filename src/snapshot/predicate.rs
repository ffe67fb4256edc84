//! The typed conditions of `when`, bound to OIDs: evaluated on the hot path without an allocation once
//! the scratch text has grown.

use std::sync::Arc;

use regex::Regex;

use super::field::{Field, Names, Subject, Unbound, is_number};
use crate::config;
use crate::config::settings::{Condition, Scalar, Test};
use crate::mib::{Mib, NodeId};

/// A bound condition.
#[derive(Debug)]
pub(super) enum Predicate {
    All(Box<[Self]>),
    Any(Box<[Self]>),
    Field { field: Field, test: BoundTest },
}

#[derive(Debug)]
pub(super) enum BoundTest {
    Equals(Constant),
    In(Box<[Constant]>),
    Not(Box<Self>),
    Matches(Arc<Regex>),
    Above(f64),
    Below(f64),
    Contains(Box<str>),
    Exists(bool),
    All(Box<[Self]>),
}

/// A constant, with its number where the field's syntax gives its text one.
#[derive(Debug)]
pub(super) struct Constant {
    number: Option<i64>,
    text: Option<Box<str>>,
}

/// Why a condition cannot be bound.
#[derive(Debug)]
pub(super) enum BindError {
    /// A name that the MIBs do not have, or have twice, or no lookup's column.
    Name(String, Unbound),
    /// A regular expression that does not compile.
    Regex(String, Box<regex::Error>),
}

impl Predicate {
    /// Binds `condition` for a rule that matches `notifications`.
    pub(super) fn bind(
        condition: &Condition,
        notifications: &[NodeId],
        names: &Names<'_>,
    ) -> Result<Self, BindError> {
        let list = |list: &[Condition]| -> Result<Box<[Self]>, BindError> {
            list.iter().map(|condition| Self::bind(condition, notifications, names)).collect()
        };
        Ok(match condition {
            Condition::All(conditions) => Self::All(list(conditions)?),
            Condition::Any(conditions) => Self::Any(list(conditions)?),
            Condition::Field { name, test } => {
                let field = Field::bind(name, notifications, names)
                    .map_err(|error| BindError::Name(name.clone(), error))?;
                let test = BoundTest::bind(test, &field, names.mib)?;
                Self::Field { field, test }
            }
        })
    }

    /// Whether it holds. `text` is scratch.
    pub(super) fn holds(&self, subject: &Subject<'_>, mib: &Mib, text: &mut String) -> bool {
        match self {
            Self::All(list) => list.iter().all(|predicate| predicate.holds(subject, mib, text)),
            Self::Any(list) => list.iter().any(|predicate| predicate.holds(subject, mib, text)),
            Self::Field { field, test } => test.holds(field, subject, mib, text),
        }
    }
}

impl BoundTest {
    fn bind(test: &Test, field: &Field, mib: &Mib) -> Result<Self, BindError> {
        let list = |list: &[Test]| -> Result<Box<[Self]>, BindError> {
            list.iter().map(|test| Self::bind(test, field, mib)).collect()
        };
        Ok(match test {
            Test::Equals(scalar) => Self::Equals(Constant::bind(scalar, field, mib)),
            Test::In(scalars) => {
                Self::In(scalars.iter().map(|scalar| Constant::bind(scalar, field, mib)).collect())
            }
            Test::Not(test) => Self::Not(Box::new(Self::bind(test, field, mib)?)),
            Test::Matches(pattern) => Self::Matches(
                config::regex(pattern).map_err(|error| BindError::Regex(pattern.clone(), Box::new(error)))?,
            ),
            Test::Above(limit) => Self::Above(*limit),
            Test::Below(limit) => Self::Below(*limit),
            Test::Contains(text) => Self::Contains(text.as_str().into()),
            Test::Exists(wanted) => Self::Exists(*wanted),
            Test::All(tests) => Self::All(list(tests)?),
        })
    }

    fn holds(&self, field: &Field, subject: &Subject<'_>, mib: &Mib, text: &mut String) -> bool {
        match self {
            Self::Equals(constant) => constant.equals(field, subject, mib, text),
            Self::In(list) => list.iter().any(|constant| constant.equals(field, subject, mib, text)),
            Self::Not(test) => !test.holds(field, subject, mib, text),
            Self::Matches(pattern) => render(field, subject, mib, text) && pattern.is_match(text),
            Self::Contains(part) => render(field, subject, mib, text) && text.contains(&**part),
            // Counter64 loses its last digits as a float; a limit that needs them can be an `equals`.
            Self::Above(limit) => number(field, subject, mib, text).is_some_and(|value| value > *limit),
            Self::Below(limit) => number(field, subject, mib, text).is_some_and(|value| value < *limit),
            Self::Exists(wanted) => render(field, subject, mib, text) == *wanted,
            Self::All(tests) => tests.iter().all(|test| test.holds(field, subject, mib, text)),
        }
    }
}

fn render(field: &Field, subject: &Subject<'_>, mib: &Mib, text: &mut String) -> bool {
    text.clear();
    field.write(subject, mib, text)
}

/// The number behind a field: of the varbind itself, else of an index part's text.
fn number(field: &Field, subject: &Subject<'_>, mib: &Mib, text: &mut String) -> Option<f64> {
    if let Some((varbind, _)) = field.varbind(subject) {
        return varbind.value.as_i128().map(|value| value as f64);
    }
    render(field, subject, mib, text).then(|| text.parse().ok()).flatten()
}

impl Constant {
    /// A text that is an enum label of the field also matches by its number, so that it does not matter
    /// whether the rendering would show the label.
    fn bind(scalar: &Scalar, field: &Field, mib: &Mib) -> Self {
        match scalar {
            Scalar::Number(number) => Self { number: Some(*number), text: None },
            Scalar::Text(text) => Self {
                number: field.nodes().find_map(|node| mib.node(node).syntax()?.number(text)),
                text: Some(text.as_str().into()),
            },
        }
    }

    fn equals(&self, field: &Field, subject: &Subject<'_>, mib: &Mib, text: &mut String) -> bool {
        if let (Some(number), Some((varbind, _))) = (self.number, field.varbind(subject))
            && is_number(&varbind.value, number)
        {
            return true;
        }
        if !render(field, subject, mib, text) {
            return false;
        }
        match (&self.text, self.number) {
            (Some(wanted), _) => **wanted == **text,
            // An index part has only its text.
            (None, Some(number)) => text.parse() == Ok(number),
            (None, None) => false,
        }
    }
}
