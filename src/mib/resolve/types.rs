//! Follows SYNTAX to a base type, with the labels, the hint and the size met on the way.

use super::Link;
use super::scope::Space;
use crate::diagnostic::Level;
use crate::mib::ast::{Definition, DefinitionKind, Shape, Span};
use crate::mib::image::BaseType;
use crate::mib::lexer::keyword;
use crate::mib::symbol::{NONE, Symbol};

/// How many types may stand between a SYNTAX and its base type.
const LONGEST_CHAIN: usize = 64;

/// What a SYNTAX comes to. The symbols are among all words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolved {
    pub(super) base: BaseType,
    /// The first type by name on the way, as `DisplayString`, or [`NONE`].
    pub(super) convention: Symbol,
    pub(super) hint: Symbol,
    /// Where the labels stand.
    pub(super) labels: (u32, Span),
    pub(super) size: Option<(u32, u32)>,
    /// The definition of `convention`, where the SYNTAX is nothing but that name; else [`NONE`].
    pub(super) plain: u32,
    pub(super) is_table: bool,
}

/// The base type that a keyword stands for wherever it is used: those of the SMI are not redefined.
pub(super) fn base_named(keyword: Symbol) -> Option<BaseType> {
    Some(match keyword {
        keyword::INTEGER32 | keyword::INTEGER => BaseType::Integer,
        keyword::COUNTER | keyword::COUNTER32 => BaseType::Counter32,
        keyword::GAUGE | keyword::GAUGE32 | keyword::UNSIGNED32 | keyword::U_INTEGER32 => {
            BaseType::Unsigned32
        }
        keyword::TIME_TICKS => BaseType::TimeTicks,
        keyword::IP_ADDRESS | keyword::NETWORK_ADDRESS => BaseType::IpAddress,
        keyword::OPAQUE => BaseType::Opaque,
        keyword::COUNTER64 => BaseType::Counter64,
        keyword::BITS => BaseType::Bits,
        keyword::NULL => BaseType::Unknown,
        _ => return None,
    })
}

pub(super) fn resolve(
    link: &mut Link<'_>,
    file: u32,
    module: u32,
    definition: &Definition,
) -> Option<Resolved> {
    let syntax = link.record(file).types.get(definition.syntax as usize)?;
    let mut resolved = Resolved {
        base: BaseType::Unknown,
        convention: NONE,
        hint: NONE,
        labels: (0, Span::default()),
        size: None,
        plain: NONE,
        is_table: false,
    };
    let origin = file;
    let own = syntax.labels.len > 0 || syntax.size.is_some() || syntax.hint != NONE;
    let (mut file, mut module, mut syntax) = (file, module, *syntax);
    for _ in 0..LONGEST_CHAIN {
        if resolved.labels.1.len == 0 {
            resolved.labels = (file, syntax.labels);
        }
        resolved.size = resolved.size.or(syntax.size);
        if resolved.hint == NONE {
            resolved.hint = link.word(file, syntax.hint);
        }
        resolved.base = match syntax.shape {
            Shape::Integer => BaseType::Integer,
            Shape::Octets => BaseType::Octets,
            Shape::ObjectIdentifier => BaseType::ObjectIdentifier,
            Shape::Bits => BaseType::Bits,
            Shape::Sequence => BaseType::Sequence,
            Shape::SequenceOf => {
                resolved.is_table = true;
                BaseType::Sequence
            }
            Shape::Choice => BaseType::Unknown,
            Shape::Named => {
                if let Some(base) = base_named(syntax.name) {
                    resolved.base = base;
                    return Some(resolved);
                }
                let name = link.word(file, syntax.name);
                let Some(found) = link.find(module, Space::Type, name) else {
                    unknown(link, origin, definition, name);
                    return Some(resolved);
                };
                let entry = link.definitions[found as usize];
                let next = link.definition(entry);
                if resolved.convention == NONE {
                    resolved.convention = name;
                    resolved.plain = if own { NONE } else { found };
                }
                let Some(&below) = link.record(entry.file).types.get(next.syntax as usize) else {
                    return Some(resolved);
                };
                (file, module, syntax) = (entry.file, entry.module, below);
                continue;
            }
        };
        return Some(resolved);
    }
    Some(resolved)
}

fn unknown(link: &mut Link<'_>, file: u32, definition: &Definition, name: Symbol) {
    let user = link.record(file).symbols.text(definition.name).to_owned();
    if definition.kind == DefinitionKind::ObjectType {
        let message = format!("the type {} of {user} is defined nowhere", link.names.text(name));
        let help = Some("its values are shown as they come");
        link.problem(file, Level::Warning, "mib-unknown-type", (definition.at, user.len()), message, help);
    }
}
