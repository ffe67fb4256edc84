//! TOML into the tree, from the toml crate's spanned document.

use ::toml::de::{DeTable, DeValue};

use super::{Data, Entry, MAX_DEPTH, MAX_NODES, Node, Problem};
use crate::config::source::Span;

/// The toml crate refuses texts nested more than 80 levels deep itself, so that walking what it gives is bounded.
pub(super) fn read(text: &str) -> Result<Node, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problems = errors.into_iter().map(|error| {
            let message = match error.message().split_once(", expected nothing") {
                Some((message, _)) => message.to_owned(),
                None => error.message().to_owned(),
            };
            Problem::new("config-syntax", error.span().unwrap_or(0..0), format!("this is no TOML: {message}"))
        });
        return Err(problems.collect());
    }
    if table.get_ref().is_empty() {
        return Err(vec![super::super::file::says_nothing(0..0)]);
    }
    let mut total = 0;
    convert_table(table.get_ref(), table.span(), 0, &mut total).map_err(|problem| vec![problem])
}

fn convert_table(table: &DeTable<'_>, span: Span, depth: usize, total: &mut usize) -> Result<Node, Problem> {
    if depth >= MAX_DEPTH {
        return Err(Problem::new("config-depth", span, format!("nested more than {MAX_DEPTH} levels deep")));
    }
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table.iter() {
        let value = convert(value.get_ref(), value.span(), depth + 1, total)?;
        entries.push(Entry { key: key.get_ref().to_string(), key_span: key.span(), value });
    }
    entries.sort_by_key(|entry: &Entry| entry.key_span.start);
    Ok(Node { span, data: Data::Map(entries) })
}

fn convert(value: &DeValue<'_>, span: Span, depth: usize, total: &mut usize) -> Result<Node, Problem> {
    *total += 1;
    if *total > MAX_NODES {
        return Err(Problem::new("config-depth", span, format!("more than {MAX_NODES} values")));
    }
    let data = match value {
        DeValue::String(text) => Data::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(integer) => Data::Integer(integer, number.to_string()),
            Err(_) => Data::Float(f64::NAN, number.to_string()),
        },
        DeValue::Float(number) => {
            Data::Float(number.as_str().parse().unwrap_or(f64::NAN), number.as_str().to_owned())
        }
        DeValue::Boolean(value) => Data::Bool(*value),
        DeValue::Datetime(time) => Data::Text(time.to_string()),
        DeValue::Table(table) => return convert_table(table, span, depth, total),
        DeValue::Array(items) => {
            if depth >= MAX_DEPTH {
                return Err(Problem::new(
                    "config-depth",
                    span,
                    format!("nested more than {MAX_DEPTH} levels deep"),
                ));
            }
            let items = items.iter().map(|item| convert(item.get_ref(), item.span(), depth + 1, total));
            Data::List(items.collect::<Result<_, _>>()?)
        }
    };
    Ok(Node { span, data })
}
