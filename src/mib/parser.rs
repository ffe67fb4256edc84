//! From tokens to a file's record. Tolerant: what cannot be read is skipped up to the next definition and
//! told, and nothing stops the parser.
//!
//! This file finds modules, imports and definitions; `parser/clauses.rs` reads what a definition says,
//! `parser/syntax.rs` types. There is no recursion: nested braces are counted.

mod clauses;
mod syntax;

use super::ast::{Definition, DefinitionKind, FileRecord, Import, Module, Problem, Span};
use super::lexer::{self, Complaint, Token, TokenKind, keyword};
use super::source::{LARGEST_FILE, Lines, normalise};
use super::symbol::{NONE, Symbol};
use crate::diagnostic::Level;

/// How many problems of one file are kept; the others are counted.
const MOST_PROBLEMS: usize = 1000;

/// Parses files, one after the other, and keeps the room for tokens between them.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    tokens: Vec<Token>,
}

impl Parser {
    /// What a file says. Time and memory are linear in its size.
    pub(crate) fn parse(&mut self, bytes: &[u8]) -> FileRecord {
        if bytes.len() as u64 > LARGEST_FILE {
            let mut record = FileRecord::new(lexer::keyword_symbols(0));
            let message = format!("this file is larger than {} MiB", LARGEST_FILE >> 20);
            let (level, code) = (Level::Error, "mib-too-large");
            record.problems.push(Problem {
                level,
                code,
                start: 0,
                end: 0,
                message,
                help: Some("it is left out"),
            });
            return record;
        }
        let text = normalise(bytes);
        let mut symbols = lexer::keyword_symbols(text.len() / 128);
        let complaints = lexer::lex(&text, &mut symbols, &mut self.tokens);
        // Offsets are u32: the bound on a file keeps them so.
        let mut file = File {
            text: &text,
            tokens: &self.tokens,
            at: 0,
            record: FileRecord::new(symbols),
            lines: Lines::new(&text),
            language: Language::default(),
            scratch: Vec::new(),
        };
        file.encoding(bytes);
        let extents = file.modules();
        file.complain(&complaints, &extents);
        let mut record = file.record;
        record.problems.sort_by_key(|problem| problem.start);
        record.shrink();
        record
    }
}

struct File<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
    at: usize,
    record: FileRecord,
    lines: Lines<'a>,
    language: Language,
    /// For the labels of one type at a time.
    scratch: Vec<(i64, Symbol)>,
}

/// What of either version of the SMI the module at hand has.
#[derive(Default)]
struct Language {
    /// The module defines macros by right: it is one of the SMI's own.
    of_smi: bool,
    identities: usize,
    /// The first of each.
    access: Option<Token>,
    max_access: Option<Token>,
    trap: Option<Token>,
}

/// The modules that define the SMI's macros.
const SMI: [&str; 8] =
    ["RFC-1212", "RFC-1215", "RFC1155-SMI", "RFC1212", "RFC1215", "SNMPv2-CONF", "SNMPv2-SMI", "SNMPv2-TC"];
/// The longest name by RFC 2578 section 3.1.
const LONGEST_NAME: usize = 64;

/// The macro that a keyword names.
fn macro_kind(symbol: Symbol) -> Option<DefinitionKind> {
    Some(match symbol {
        keyword::OBJECT_TYPE => DefinitionKind::ObjectType,
        keyword::OBJECT_IDENTITY => DefinitionKind::ObjectIdentity,
        keyword::MODULE_IDENTITY => DefinitionKind::ModuleIdentity,
        keyword::NOTIFICATION_TYPE => DefinitionKind::Notification,
        keyword::TRAP_TYPE => DefinitionKind::Trap,
        keyword::OBJECT_GROUP | keyword::NOTIFICATION_GROUP => DefinitionKind::Group,
        keyword::MODULE_COMPLIANCE => DefinitionKind::Compliance,
        keyword::AGENT_CAPABILITIES => DefinitionKind::Capabilities,
        _ => return None,
    })
}

/// Whether a keyword begins a clause of some macro.
fn begins_clause(symbol: Symbol) -> bool {
    matches!(
        symbol,
        keyword::ACCESS
            | keyword::AUGMENTS
            | keyword::CONTACT_INFO
            | keyword::DEFVAL
            | keyword::DESCRIPTION
            | keyword::DISPLAY_HINT
            | keyword::ENTERPRISE
            | keyword::INDEX
            | keyword::LAST_UPDATED
            | keyword::MAX_ACCESS
            | keyword::MIN_ACCESS
            | keyword::MODULE
            | keyword::NOTIFICATIONS
            | keyword::OBJECTS
            | keyword::ORGANIZATION
            | keyword::PRODUCT_RELEASE
            | keyword::REFERENCE
            | keyword::REVISION
            | keyword::STATUS
            | keyword::SYNTAX
            | keyword::UNITS
            | keyword::VARIABLES
    )
}

const OPEN: TokenKind = TokenKind::Mark(b'{');
const CLOSE: TokenKind = TokenKind::Mark(b'}');

impl File<'_> {
    fn token(&self, at: usize) -> Token {
        let end = self.text.len() as u32;
        self.tokens.get(at).copied().unwrap_or(Token { kind: TokenKind::End, symbol: NONE, start: end, end })
    }

    fn peek(&self) -> Token {
        self.token(self.at)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn symbol(&self, at: usize) -> Symbol {
        self.token(at).symbol
    }

    fn eat(&mut self, kind: TokenKind) -> bool {
        let eaten = self.peek().kind == kind;
        self.at += usize::from(eaten);
        eaten
    }

    fn slice(&self, token: Token) -> &[u8] {
        &self.text[token.start as usize..token.end as usize]
    }

    fn problem(
        &mut self,
        level: Level,
        code: &'static str,
        token: Token,
        message: String,
        help: Option<&'static str>,
    ) {
        self.problem_at(level, code, (token.start, token.end), message, help);
    }

    fn problem_at(
        &mut self,
        level: Level,
        code: &'static str,
        (start, end): (u32, u32),
        message: String,
        help: Option<&'static str>,
    ) {
        if self.record.problems.len() < MOST_PROBLEMS {
            self.record.problems.push(Problem { level, code, start, end, message, help });
        } else {
            self.record.problems_left_out += 1;
        }
    }

    /// All modules; returns where each begins and ends.
    fn modules(&mut self) -> Vec<(u32, u32)> {
        let mut extents = Vec::new();
        let mut outside = None;
        while self.peek().kind != TokenKind::End {
            if let Some(body) = self.header(self.at) {
                let start = self.peek().start;
                self.module(body);
                extents.push((start, self.token(self.at.saturating_sub(1)).end));
            } else {
                // A lone mark, as a full stop behind END, is not worth a word.
                if matches!(self.peek().kind, TokenKind::Word | TokenKind::Text) {
                    outside.get_or_insert(self.peek());
                }
                self.at += 1;
            }
        }
        if let Some(first) = outside.filter(|_| !extents.is_empty()) {
            let message = "text stands outside of any module".to_owned();
            self.problem(Level::Note, "mib-outside-text", first, message, Some("it is passed over"));
        }
        if extents.is_empty() {
            let message = "there is no module in this file".to_owned();
            let help = Some("a module begins with: NAME DEFINITIONS ::= BEGIN");
            let first = self.token(0);
            self.problem(Level::Note, "mib-no-module", first, message, help);
        }
        extents
    }

    /// Whether a module begins at token `at`: where its body begins. `NAME [{ oid }] DEFINITIONS [… TAGS] ::= BEGIN`
    fn header(&self, at: usize) -> Option<usize> {
        const LONGEST_OID: usize = 64;
        if self.token(at).kind != TokenKind::Word {
            return None;
        }
        let mut next = at + 1;
        if self.token(next).kind == OPEN {
            let close = (next..next + LONGEST_OID).find(|&at| self.token(at).kind == CLOSE)?;
            next = close + 1;
        }
        if self.symbol(next) != keyword::DEFINITIONS {
            return None;
        }
        next += 1;
        // IMPLICIT TAGS, EXPLICIT TAGS, AUTOMATIC TAGS.
        if self.symbol(next + 1) == keyword::TAGS {
            next += 2;
        }
        let assigned = self.token(next).kind == TokenKind::Assign;
        next += usize::from(assigned);
        let begun = self.symbol(next) == keyword::BEGIN;
        (assigned || begun).then_some(next + usize::from(begun))
    }

    /// What the octets are, where they are not plain UTF-8.
    fn encoding(&mut self, bytes: &[u8]) {
        let (at, message) = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => (0, "this file is UTF-16"),
            [0xef, 0xbb, 0xbf, ..] => (0, "this file begins with a byte order mark"),
            _ => match std::str::from_utf8(self.text) {
                Ok(_) => return,
                Err(error) => (error.valid_up_to() as u32, "this file is not UTF-8"),
            },
        };
        let help = Some("it is read; SMI modules are ASCII");
        self.problem_at(Level::Note, "mib-encoding", (at, at + 1), message.to_owned(), help);
    }

    /// A header with more or less than `NAME DEFINITIONS ::= BEGIN`.
    fn check_header(&mut self, name: Token, body: usize) {
        if body != self.at + 4 || self.symbol(self.at + 1) != keyword::DEFINITIONS {
            let message = "a module of the SMI begins with: NAME DEFINITIONS ::= BEGIN".to_owned();
            let last = self.token(body - 1);
            let help = Some("an OID and TAGS mean nothing here; what is missing is taken as said");
            self.problem_at(Level::Note, "mib-header", (name.start, last.end), message, help);
        }
    }

    /// Words of one version of the SMI in a module of the other: once for each word.
    fn tell_mixture(&mut self) {
        let second = self.language.identities > 0;
        let told = [
            (self.language.access.filter(|_| second), "ACCESS is of SMIv1, and MODULE-IDENTITY of SMIv2"),
            (self.language.trap.filter(|_| second), "TRAP-TYPE is of SMIv1, and MODULE-IDENTITY of SMIv2"),
            (
                self.language.max_access.filter(|_| !second),
                "MAX-ACCESS is of SMIv2, and this module has no MODULE-IDENTITY",
            ),
        ];
        for (token, message) in told {
            if let Some(token) = token {
                let help = Some("both versions are understood in every module");
                self.problem(Level::Note, "mib-smi-mixture", token, message.to_owned(), help);
            }
        }
    }

    fn module(&mut self, body: usize) {
        let name = self.peek();
        self.check_header(name, body);
        self.language =
            Language { of_smi: SMI.contains(&self.record.symbols.text(name.symbol)), ..Language::default() };
        let line = self.lines.locate(name.start as usize).0;
        let definitions = self.record.definitions.len();
        let imports = self.record.imports.len();
        self.record.modules.push(Module {
            name: name.symbol,
            at: name.start,
            line,
            last_updated: 0,
            definitions: Span::default(),
            imports: Span::default(),
        });
        self.at = body;
        self.body(name);
        self.tell_mixture();
        let definitions = Span::new(definitions, self.record.definitions.len());
        let imports = Span::new(imports, self.record.imports.len());
        if let Some(module) = self.record.modules.last_mut() {
            module.definitions = definitions;
            module.imports = imports;
        }
    }

    fn body(&mut self, name: Token) {
        // What is skipped between definitions is one problem.
        let mut skipped: Option<(Token, Token)> = None;
        loop {
            let token = self.peek();
            let before = self.at;
            match token.symbol {
                _ if token.kind == TokenKind::End => break,
                keyword::END if !self.begins_definition(self.at + 1) => break,
                _ if self.header(self.at).is_some() => break,
                keyword::IMPORTS => self.imports(),
                keyword::EXPORTS => self.exports(),
                _ => {
                    self.definition();
                }
            }
            if self.at == before {
                self.at += 1;
                let first = skipped.map_or(token, |(first, _)| first);
                skipped = Some((first, token));
            } else if let Some((first, last)) = skipped.take() {
                self.tell_skipped(first, last);
            }
        }
        if let Some((first, last)) = skipped {
            self.tell_skipped(first, last);
        }
        if self.symbol(self.at) == keyword::END {
            self.at += 1;
        } else {
            let module = self.record.symbols.text(name.symbol);
            let message = format!("the module {module} has no END");
            let help = Some("it is taken to reach to here");
            let last = self.token(self.at.saturating_sub(1));
            self.problem(Level::Warning, "mib-no-end", last, message, help);
        }
    }

    fn tell_skipped(&mut self, first: Token, last: Token) {
        // A surplus comma, semicolon or brace is not worth a word.
        if first.start == last.start && !matches!(first.kind, TokenKind::Word | TokenKind::Text) {
            return;
        }
        let message = "this belongs to no definition".to_owned();
        let help = Some("it is skipped");
        self.problem_at(Level::Warning, "mib-stray-text", (first.start, last.end), message, help);
    }

    /// `IMPORTS a, b FROM X c FROM Y ;`, with or without any of the commas and the semicolon.
    fn imports(&mut self) {
        let open = self.next();
        let mut pending: Vec<Token> = Vec::new();
        // Where a comma is missing or too much, the first time.
        let mut odd: Option<Token> = None;
        let mut after_comma = false;
        loop {
            let token = self.peek();
            match token.kind {
                TokenKind::Mark(b';') => {
                    self.at += 1;
                    break;
                }
                TokenKind::End => break,
                TokenKind::Word if token.symbol == keyword::FROM => {
                    if std::mem::take(&mut after_comma) {
                        odd.get_or_insert(token);
                    }
                    self.at += 1;
                    let module = self.peek();
                    if module.kind == TokenKind::Word {
                        self.at += 1;
                        let imports = pending.drain(..).map(|name| Import {
                            name: name.symbol,
                            module: module.symbol,
                            at: module.start,
                        });
                        self.record.imports.extend(imports);
                        if self.peek().kind == OPEN {
                            self.skip_braces();
                        }
                    }
                }
                TokenKind::Word
                    if token.symbol == keyword::END
                        || self.begins_definition(self.at)
                        || self.header(self.at).is_some() =>
                {
                    let message = "IMPORTS is not closed by a semicolon".to_owned();
                    let help = Some("it is taken to end before the first definition");
                    self.problem(Level::Warning, "mib-imports-open", open, message, help);
                    break;
                }
                TokenKind::Word => {
                    if !std::mem::take(&mut after_comma) && !pending.is_empty() {
                        odd.get_or_insert(token);
                    }
                    pending.push(token);
                    self.at += 1;
                }
                TokenKind::Mark(b',') => {
                    if after_comma || pending.is_empty() {
                        odd.get_or_insert(token);
                    }
                    after_comma = true;
                    self.at += 1;
                }
                _ => {
                    odd.get_or_insert(token);
                    self.at += 1;
                }
            }
        }
        if let Some(token) = odd {
            let message = "a comma is missing or too much in IMPORTS".to_owned();
            self.problem(
                Level::Note,
                "mib-imports-commas",
                token,
                message,
                Some("the names tell what is meant"),
            );
        }
        if let (Some(&first), Some(&last)) = (pending.first(), pending.last()) {
            let message = "these imports do not say FROM which module".to_owned();
            let help = Some("they are looked for in all modules");
            self.problem_at(Level::Warning, "mib-import-from", (first.start, last.end), message, help);
        }
    }

    fn exports(&mut self) {
        let message = "modules of the SMI have no EXPORTS: all that they define can be imported".to_owned();
        self.problem(Level::Note, "mib-exports", self.peek(), message, Some("it is passed over"));
        self.at += 1;
        while self.peek().kind != TokenKind::End
            && self.symbol(self.at) != keyword::IMPORTS
            && !self.begins_definition(self.at)
        {
            if self.next().kind == TokenKind::Mark(b';') {
                break;
            }
        }
    }

    /// Whether a definition begins at token `at`, beyond doubt: so that one that was left open ends there.
    fn begins_definition(&self, at: usize) -> bool {
        let token = self.token(at);
        if token.kind != TokenKind::Word {
            return false;
        }
        let [next, then] = [self.token(at + 1), self.token(at + 2)];
        if next.symbol == keyword::MACRO {
            return then.kind == TokenKind::Assign;
        }
        if lexer::is_keyword(token.symbol) {
            return false;
        }
        if macro_kind(next.symbol).is_some() {
            return begins_clause(then.symbol);
        }
        if next.symbol == keyword::OBJECT {
            return then.symbol == keyword::IDENTIFIER && self.token(at + 3).kind == TokenKind::Assign;
        }
        next.kind == TokenKind::Assign
            && matches!(
                then.symbol,
                keyword::TEXTUAL_CONVENTION
                    | keyword::SEQUENCE
                    | keyword::CHOICE
                    | keyword::INTEGER
                    | keyword::OCTET
                    | keyword::OBJECT
                    | keyword::BITS
            )
    }

    /// Reads the definition at hand; leaves the place as it is where there is none.
    fn definition(&mut self) {
        let name = self.peek();
        if name.kind != TokenKind::Word {
            return;
        }
        let [next, then] = [self.token(self.at + 1), self.token(self.at + 2)];
        let known = lexer::is_keyword(name.symbol);
        if next.symbol == keyword::MACRO {
            if !self.language.of_smi {
                let message = "only the SMI's own modules define macros".to_owned();
                self.problem(Level::Note, "mib-macro", name, message, Some("it is passed over"));
            }
            self.skip_macro();
        } else if next.kind == TokenKind::Assign {
            self.at += 2;
            if then.kind == OPEN && !known {
                // `name ::= { parent 1 }`: OBJECT IDENTIFIER was forgotten.
                self.value(name, Definition::new(name.symbol, DefinitionKind::ObjectIdentifier));
            } else {
                self.type_assignment(name);
            }
        } else if known {
            // A clause out of place.
        } else if let Some(kind) = macro_kind(next.symbol) {
            self.at += 2;
            self.macro_use(name, kind);
        } else if next.symbol == keyword::OBJECT && then.symbol == keyword::IDENTIFIER {
            if matches!(self.token(self.at + 3).kind, TokenKind::Assign | OPEN) {
                self.at += 3;
                self.eat(TokenKind::Assign);
                self.value(name, Definition::new(name.symbol, DefinitionKind::ObjectIdentifier));
            }
        } else if next.kind == TokenKind::Word && then.kind == TokenKind::Assign {
            // `name Type ::= value`: of interest only where it is an OID.
            self.at += 3;
            if self.peek().kind == OPEN {
                self.value(name, Definition::new(name.symbol, DefinitionKind::Other));
            } else {
                self.at += 1;
            }
        } else if self.is_macro_name(next) && begins_clause(then.symbol) {
            let message = format!("{} is no macro of the SMI", self.record.symbols.text(next.symbol));
            let help = Some("what it defines is known by its name and its OID");
            self.problem(Level::Note, "mib-unknown-macro", next, message, help);
            self.at += 2;
            self.macro_use(name, DefinitionKind::Other);
        }
    }

    /// Whether a word looks like the name of a vendor's macro.
    fn is_macro_name(&self, token: Token) -> bool {
        token.kind == TokenKind::Word
            && !lexer::is_keyword(token.symbol)
            && self.slice(token).iter().all(|&octet| octet.is_ascii_uppercase() || octet == b'-')
    }

    /// `NAME MACRO ::= BEGIN … END`
    fn skip_macro(&mut self) {
        while !matches!(self.symbol(self.at), keyword::END) && self.peek().kind != TokenKind::End {
            self.at += 1;
        }
        self.at += 1;
    }

    /// From `{` to the `}` that closes it, or to where something else surely begins.
    fn skip_braces(&mut self) {
        let mut depth = 0usize;
        loop {
            let token = self.peek();
            match token.kind {
                OPEN => depth += 1,
                CLOSE => depth = depth.saturating_sub(1),
                TokenKind::End => return,
                TokenKind::Word if self.begins_definition(self.at) => return,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    fn push(&mut self, name: Token, mut definition: Definition) {
        self.check_name(name, definition.kind.is_type());
        definition.at = name.start;
        definition.line = self.lines.locate(name.start as usize).0;
        self.record.definitions.push(definition);
    }

    /// RFC 2578 section 3.1: letters, digits and single hyphens between them; types begin with a capital, values
    /// with a small letter.
    fn check_name(&mut self, name: Token, is_type: bool) {
        let word = self.slice(name);
        let odd = word.contains(&b'_')
            || word.ends_with(b"-")
            || word[0].is_ascii_uppercase() != is_type
            || word[0].is_ascii_digit();
        let too_long = word.len() > LONGEST_NAME;
        if odd {
            let kind = if is_type { "type" } else { "value" };
            let message =
                format!("{} is not how the name of a {kind} is written", String::from_utf8_lossy(word));
            self.problem(Level::Note, "mib-odd-name", name, message, Some("it is taken as it stands"));
        }
        if too_long {
            let message = format!("this name is longer than {LONGEST_NAME} characters");
            self.problem(Level::Note, "mib-long-name", name, message, Some("it is taken as it stands"));
        }
    }

    /// What the lexer met inside of modules; around them anything may stand.
    fn complain(&mut self, complaints: &[Complaint], extents: &[(u32, u32)]) {
        let mut extents = extents.iter().peekable();
        for complaint in complaints {
            let (start, end) = complaint.extent();
            while extents.next_if(|(_, last)| *last <= start).is_some() {}
            if extents.peek().is_none_or(|(first, _)| *first > start) {
                continue;
            }
            let (level, code, message, help) = match complaint {
                Complaint::Illegal { .. } => (
                    Level::Warning,
                    "mib-illegal-character",
                    "these characters do not belong here",
                    "they are skipped",
                ),
                Complaint::Unterminated { .. } => (
                    Level::Warning,
                    "mib-open-text",
                    "this text has no closing quote",
                    "it is taken to end before the next clause",
                ),
                Complaint::Control { .. } => (
                    Level::Note,
                    "mib-control-character",
                    "a control character stands here",
                    "it is taken as a blank",
                ),
                Complaint::CommentTail { .. } => (
                    Level::Note,
                    "mib-comment-tail",
                    "the second -- closed the comment before this",
                    "it does not read as code, and is taken as comment",
                ),
            };
            self.problem_at(level, code, (start, end), message.to_owned(), Some(help));
        }
    }
}
