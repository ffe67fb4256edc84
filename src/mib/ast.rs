//! What one file says, as compact records: flat vectors that point into each other by number.
//!
//! A [`FileRecord`] stands for itself: its symbols are its own, so that files are parsed independently,
//! in any order, and a record can be kept while its file does not change. Names are not resolved here.

use serde::{Deserialize, Serialize};

use super::symbol::{NONE, Symbol, Symbols};
use crate::diagnostic::Level;

/// A stretch of one of the record's vectors, or of the file's octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, len: end.saturating_sub(start) as u32 }
    }

    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }

    pub(crate) fn of<T>(self, all: &[T]) -> &[T] {
        all.get(self.range()).unwrap_or_default()
    }
}

/// One file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    pub(crate) symbols: Symbols,
    pub(crate) modules: Vec<Module>,
    pub(crate) definitions: Vec<Definition>,
    pub(crate) imports: Vec<Import>,
    pub(crate) parts: Vec<Part>,
    pub(crate) types: Vec<Type>,
    pub(crate) labels: Vec<Label>,
    pub(crate) items: Vec<Item>,
    pub(crate) problems: Vec<Problem>,
    /// How many problems were found past the bound on `problems`.
    pub(crate) problems_left_out: u32,
}

impl FileRecord {
    pub(crate) fn new(symbols: Symbols) -> Self {
        Self {
            symbols,
            modules: Vec::new(),
            definitions: Vec::new(),
            imports: Vec::new(),
            parts: Vec::new(),
            types: Vec::new(),
            labels: Vec::new(),
            items: Vec::new(),
            problems: Vec::new(),
            problems_left_out: 0,
        }
    }

    /// What it takes in memory, in octets.
    pub(crate) fn size(&self) -> usize {
        self.symbols.size()
            + self.modules.capacity() * size_of::<Module>()
            + self.definitions.capacity() * size_of::<Definition>()
            + self.imports.capacity() * size_of::<Import>()
            + self.parts.capacity() * size_of::<Part>()
            + self.types.capacity() * size_of::<Type>()
            + self.labels.capacity() * size_of::<Label>()
            + self.items.capacity() * size_of::<Item>()
            + self.problems.iter().map(|problem| size_of::<Problem>() + problem.message.len()).sum::<usize>()
    }

    /// Gives back what growing took too much.
    pub(crate) fn shrink(&mut self) {
        self.symbols.freeze();
        self.modules.shrink_to_fit();
        self.imports.shrink_to_fit();
        self.problems.shrink_to_fit();
        self.definitions.shrink_to_fit();
        self.parts.shrink_to_fit();
        self.types.shrink_to_fit();
        self.labels.shrink_to_fit();
        self.items.shrink_to_fit();
    }
}

/// One module: `NAME DEFINITIONS ::= BEGIN … END`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Module {
    pub(crate) name: Symbol,
    /// The offset of its name.
    pub(crate) at: u32,
    pub(crate) line: u32,
    /// The newest of LAST-UPDATED, as the decimal number YYYYMMDDhhmm; 0 without.
    pub(crate) last_updated: u64,
    pub(crate) definitions: Span,
    pub(crate) imports: Span,
}

/// `symbol FROM module`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Import {
    pub(crate) name: Symbol,
    pub(crate) module: Symbol,
    /// The offset of the module's name.
    pub(crate) at: u32,
}

/// What a definition is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DefinitionKind {
    ObjectIdentifier,
    ObjectIdentity,
    ModuleIdentity,
    ObjectType,
    Notification,
    /// TRAP-TYPE (RFC 1215): `oid` is its ENTERPRISE, `number` its value.
    Trap,
    /// A type assignment without TEXTUAL-CONVENTION.
    Type,
    TextualConvention,
    Group,
    Compliance,
    Capabilities,
    /// A macro that the vendor made up, with an OID for a value.
    Other,
    /// `name(number)` inside of another one's value: names that OID where nobody defines the name.
    Passing,
}

impl DefinitionKind {
    pub(crate) fn is_type(self) -> bool {
        matches!(self, Self::Type | Self::TextualConvention)
    }
}

/// STATUS of RFC 2578 and RFC 1212.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// `current`, and SMIv1's `mandatory` and `optional`; also what an absent or misspelt clause counts as.
    Current,
    /// `deprecated`.
    Deprecated,
    /// `obsolete`.
    Obsolete,
}

impl Status {
    pub(super) fn from_octet(octet: u8) -> Self {
        match octet {
            1 => Self::Deprecated,
            2 => Self::Obsolete,
            _ => Self::Current,
        }
    }
}

/// MAX-ACCESS of RFC 2578 and ACCESS of RFC 1212.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// The clause is absent, or says something unknown.
    Unstated,
    /// `not-accessible`.
    NotAccessible,
    /// `accessible-for-notify`.
    ForNotify,
    /// `read-only`.
    ReadOnly,
    /// `read-write` and `write-only`.
    ReadWrite,
    /// `read-create`.
    ReadCreate,
}

impl Access {
    pub(super) fn from_octet(octet: u8) -> Self {
        match octet {
            1 => Self::NotAccessible,
            2 => Self::ForNotify,
            3 => Self::ReadOnly,
            4 => Self::ReadWrite,
            5 => Self::ReadCreate,
            _ => Self::Unstated,
        }
    }
}

/// One definition.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub(crate) name: Symbol,
    pub(crate) kind: DefinitionKind,
    pub(crate) status: Status,
    pub(crate) access: Access,
    /// `items` is the one row of AUGMENTS, not the INDEX.
    pub(crate) augments: bool,
    /// The offset of its name.
    pub(crate) at: u32,
    pub(crate) line: u32,
    /// Into `parts`: the value in braces.
    pub(crate) oid: Span,
    /// Into `types`, or [`NONE`].
    pub(crate) syntax: u32,
    /// Into `items`: INDEX, OBJECTS or VARIABLES.
    pub(crate) items: Span,
    pub(crate) units: Symbol,
    /// The octets of the file between the quotes of DESCRIPTION.
    pub(crate) description: Span,
    /// The value of a TRAP-TYPE.
    pub(crate) number: u32,
}

impl Definition {
    pub(crate) fn new(name: Symbol, kind: DefinitionKind) -> Self {
        Self {
            name,
            kind,
            status: Status::Current,
            access: Access::Unstated,
            augments: false,
            at: 0,
            line: 0,
            oid: Span::default(),
            syntax: NONE,
            items: Span::default(),
            units: NONE,
            description: Span::default(),
            number: 0,
        }
    }
}

/// One component of an OID value: a name, a number, or `name(number)`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: Symbol,
    pub(crate) number: Option<u32>,
}

/// One name of INDEX, OBJECTS, VARIABLES or AUGMENTS.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) name: Symbol,
    pub(crate) implied: bool,
    pub(crate) at: u32,
}

/// One `label(number)` of an enumeration or of BITS.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) name: Symbol,
    pub(crate) number: i64,
}

/// How a type is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Shape {
    /// By the name of another type.
    Named,
    Integer,
    Octets,
    ObjectIdentifier,
    Bits,
    SequenceOf,
    Sequence,
    Choice,
}

/// A SYNTAX clause or the right side of a type assignment.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Type {
    pub(crate) shape: Shape,
    /// The name for [`Shape::Named`], else [`NONE`].
    pub(crate) name: Symbol,
    pub(crate) labels: Span,
    /// The bounds of SIZE where it is given.
    pub(crate) size: Option<(u32, u32)>,
    /// DISPLAY-HINT, or [`NONE`].
    pub(crate) hint: Symbol,
}

impl Type {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, name: NONE, labels: Span::default(), size: None, hint: NONE }
    }
}

/// A text of the program itself. (By a name of its own, since serde would borrow a plain reference.)
pub(crate) type FixedText = &'static str;

/// A problem with its place as offsets; made into a diagnostic when the text is at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) level: Level,
    #[serde(with = "super::record::fixed")]
    pub(crate) code: FixedText,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) message: String,
    #[serde(with = "super::record::fixed_option")]
    pub(crate) help: Option<FixedText>,
}
