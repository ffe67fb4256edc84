//! What a definition says: its clauses, in any order, and its value.

use super::{CLOSE, File, OPEN, begins_clause};
use crate::diagnostic::Level;
use crate::mib::ast::{Access, Definition, DefinitionKind, Item, Part, Span, Status};
use crate::mib::display::is_hint;
use crate::mib::lexer::{self, Token, TokenKind, keyword};
use crate::mib::symbol::NONE;
use crate::oid::MAX_ARCS;

/// The clauses of one definition, as they come.
#[derive(Default)]
struct Clauses {
    /// A bit for each keyword; ACCESS counts as MAX-ACCESS.
    seen: u128,
    /// The place of the last one in the order of its macro.
    last: usize,
    disorder: Option<Token>,
    /// The first word or text that is in no clause.
    stray: Option<Token>,
    revisions: usize,
    descriptions: usize,
}

impl Clauses {
    fn meet(&mut self, kind: DefinitionKind, token: Token) {
        let clause = if token.symbol == keyword::ACCESS { keyword::MAX_ACCESS } else { token.symbol };
        if !lexer::is_keyword(clause) {
            return;
        }
        self.seen |= 1 << clause;
        self.revisions += usize::from(clause == keyword::REVISION);
        self.descriptions += usize::from(clause == keyword::DESCRIPTION);
        let place = order(kind).and_then(|order| order.iter().position(|&other| other == clause));
        // REVISION and its DESCRIPTION come again and again.
        if let Some(place) = place.filter(|_| self.revisions == 0) {
            if place < self.last {
                self.disorder.get_or_insert(token);
            }
            self.last = self.last.max(place);
        }
    }
}

/// The clauses of a macro in their order (RFC 2578, RFC 1212, RFC 1215); `None` for macros with inner lists.
fn order(kind: DefinitionKind) -> Option<&'static [u32]> {
    use keyword::*;
    Some(match kind {
        DefinitionKind::ObjectType => {
            &[SYNTAX, UNITS, MAX_ACCESS, STATUS, DESCRIPTION, REFERENCE, INDEX, AUGMENTS, DEFVAL]
        }
        DefinitionKind::Notification => &[OBJECTS, STATUS, DESCRIPTION, REFERENCE],
        DefinitionKind::Trap => &[ENTERPRISE, VARIABLES, DESCRIPTION, REFERENCE],
        DefinitionKind::ModuleIdentity => &[LAST_UPDATED, ORGANIZATION, CONTACT_INFO, DESCRIPTION, REVISION],
        DefinitionKind::ObjectIdentity => &[STATUS, DESCRIPTION, REFERENCE],
        _ => return None,
    })
}

impl File<'_> {
    /// From behind the macro's name to the end of the value.
    pub(super) fn macro_use(&mut self, name: Token, kind: DefinitionKind) {
        let mut definition = Definition::new(name.symbol, kind);
        let mut has_enterprise = false;
        let mut clauses = Clauses::default();
        self.meet(name, kind);
        loop {
            let token = self.peek();
            match token.kind {
                TokenKind::Assign => {
                    self.at += 1;
                    break;
                }
                TokenKind::End => return self.no_value(name),
                TokenKind::Word => {
                    if token.symbol == keyword::END || self.begins_definition(self.at) {
                        return self.no_value(name);
                    }
                    clauses.meet(kind, token);
                    if token.symbol == keyword::ENTERPRISE {
                        self.at += 1;
                        has_enterprise = true;
                        if self.peek().kind == OPEN {
                            self.trap_form(self.peek(), "ENTERPRISE is written without braces");
                        }
                        definition.oid = self.oid_parts(false);
                    } else if !self.clause(&mut definition) {
                        clauses.stray.get_or_insert(token);
                        self.at += 1;
                    } else if kind == DefinitionKind::Trap && token.symbol == keyword::STATUS {
                        self.trap_form(token, "TRAP-TYPE has no STATUS");
                    }
                }
                TokenKind::Text => {
                    clauses.stray.get_or_insert(token);
                    self.at += 1;
                }
                // An OID without ::= before it.
                OPEN if self.is_last_group() => break,
                OPEN => self.skip_braces(),
                _ => self.at += 1,
            }
        }
        self.check_clauses(name, kind, &clauses);
        let numbered = self.peek().kind == TokenKind::Number;
        if matches!(kind, DefinitionKind::Trap | DefinitionKind::Notification) && (numbered || has_enterprise)
        {
            self.trap_value(name, definition);
        } else {
            self.value(name, definition);
        }
    }

    /// What a definition tells of its module.
    fn meet(&mut self, name: Token, kind: DefinitionKind) {
        if kind == DefinitionKind::Trap {
            self.language.trap.get_or_insert(name);
        }
        if kind != DefinitionKind::ModuleIdentity {
            return;
        }
        self.language.identities += 1;
        let first = self.record.modules.last().map_or(0, |module| module.definitions.start as usize);
        let others = self.record.definitions.len() > first;
        let message = match (self.language.identities, others) {
            (1, false) => return,
            (1, true) => "MODULE-IDENTITY is not the first definition",
            _ => "this module has a MODULE-IDENTITY already",
        };
        let help = Some("it is taken as it stands; of several dates the newest counts");
        self.problem(Level::Note, "mib-module-identity", name, message.to_owned(), help);
    }

    fn trap_form(&mut self, token: Token, message: &'static str) {
        let help = Some("it is understood; RFC 1215 section 2.1 tells the form");
        self.problem(Level::Note, "mib-trap-form", token, message.to_owned(), help);
    }

    /// Tells what the clauses of a definition lack, have too much, and have in another order.
    fn check_clauses(&mut self, name: Token, kind: DefinitionKind, clauses: &Clauses) {
        if let Some(token) = clauses.stray.filter(|_| order(kind).is_some()) {
            let message = "this belongs to no clause".to_owned();
            self.problem(Level::Warning, "mib-stray-text", token, message, Some("it is skipped"));
        }
        if let Some(token) = clauses.disorder {
            let message = "this clause comes too late: another one should follow it".to_owned();
            self.problem(
                Level::Note,
                "mib-clause-order",
                token,
                message,
                Some("the order does not matter here"),
            );
        }
        let second = self.language.identities > 0;
        let wanted: &[(u32, &str)] = match kind {
            DefinitionKind::ObjectType if second => &[
                (keyword::MAX_ACCESS, "MAX-ACCESS"),
                (keyword::STATUS, "STATUS"),
                (keyword::DESCRIPTION, "DESCRIPTION"),
            ],
            DefinitionKind::ObjectType => &[(keyword::MAX_ACCESS, "ACCESS"), (keyword::STATUS, "STATUS")],
            DefinitionKind::Notification | DefinitionKind::ObjectIdentity => {
                &[(keyword::STATUS, "STATUS"), (keyword::DESCRIPTION, "DESCRIPTION")]
            }
            DefinitionKind::ModuleIdentity => &[
                (keyword::LAST_UPDATED, "LAST-UPDATED"),
                (keyword::ORGANIZATION, "ORGANIZATION"),
                (keyword::CONTACT_INFO, "CONTACT-INFO"),
                (keyword::DESCRIPTION, "DESCRIPTION"),
            ],
            _ => &[],
        };
        let has = |clause: u32| clauses.seen & (1 << clause) != 0;
        let lacking: Vec<&str> =
            wanted.iter().filter(|(clause, _)| !has(*clause)).map(|(_, name)| *name).collect();
        if !lacking.is_empty() {
            let word = self.record.symbols.text(name.symbol);
            self.missing_clause(name, format!("{word} has no {}", lacking.join(", ")));
        }
        if clauses.revisions > 0 && clauses.descriptions <= clauses.revisions {
            let message = "a REVISION has no DESCRIPTION".to_owned();
            self.missing_clause(name, message);
        }
    }

    pub(super) fn missing_clause(&mut self, name: Token, message: String) {
        let help = Some("it is known all the same");
        self.problem(Level::Note, "mib-missing-clause", name, message, help);
    }

    /// Whether the group at hand ends the definition: behind its `}` another one begins, or nothing.
    fn is_last_group(&self) -> bool {
        const LONGEST: usize = 16;
        let close = (self.at..self.at + LONGEST).find(|&at| self.token(at).kind == CLOSE);
        close.is_some_and(|close| {
            let next = self.token(close + 1);
            next.kind == TokenKind::End || next.symbol == keyword::END || self.begins_definition(close + 1)
        })
    }

    fn no_value(&mut self, name: Token) {
        let word = self.record.symbols.text(name.symbol);
        let message = format!("{word} has no value: no ::= comes before the next definition");
        let help = Some("this definition is left out");
        self.problem(Level::Error, "mib-no-value", name, message, help);
    }

    /// One clause, into `definition`; `false`, and the place as it was, where none begins here.
    pub(super) fn clause(&mut self, definition: &mut Definition) -> bool {
        let groups = matches!(
            definition.kind,
            DefinitionKind::Compliance | DefinitionKind::Capabilities | DefinitionKind::Group
        );
        let word = self.peek().symbol;
        match word {
            keyword::SYNTAX | keyword::WRITE_SYNTAX => {
                self.at += 1;
                let (types, labels) = (self.record.types.len(), self.record.labels.len());
                let syntax = self.syntax();
                if definition.syntax == NONE && !groups {
                    definition.syntax = syntax;
                } else {
                    self.record.types.truncate(types);
                    self.record.labels.truncate(labels);
                }
            }
            keyword::ACCESS | keyword::MAX_ACCESS | keyword::MIN_ACCESS => {
                let token = self.next();
                if definition.kind == DefinitionKind::ObjectType {
                    let language = &mut self.language;
                    let first =
                        if word == keyword::ACCESS { &mut language.access } else { &mut language.max_access };
                    first.get_or_insert(token);
                }
                self.access(definition);
            }
            keyword::STATUS => {
                self.at += 1;
                self.status(definition);
            }
            keyword::DESCRIPTION => {
                self.at += 1;
                let text = self.text_span();
                if definition.description.len == 0 {
                    definition.description = text;
                }
            }
            keyword::UNITS => {
                self.at += 1;
                definition.units = self.text_symbol();
            }
            keyword::DISPLAY_HINT => {
                self.at += 1;
                let hint = self.hint();
                if let Some(syntax) = self.record.types.get_mut(definition.syntax as usize) {
                    syntax.hint = hint;
                }
            }
            keyword::LAST_UPDATED | keyword::REVISION => {
                self.at += 1;
                self.date(word == keyword::LAST_UPDATED);
            }
            keyword::INDEX | keyword::AUGMENTS | keyword::OBJECTS | keyword::VARIABLES => {
                self.at += 1;
                if groups {
                    self.skip_list();
                } else {
                    definition.augments = word == keyword::AUGMENTS;
                    let open = self.peek();
                    definition.items = self.items();
                    if definition.items.len == 0 {
                        let message = "this list is empty".to_owned();
                        let help = Some("the clause can be left out");
                        self.problem(Level::Note, "mib-empty-list", open, message, help);
                    }
                }
            }
            keyword::DEFVAL
            | keyword::NOTIFICATIONS
            | keyword::CREATION_REQUIRES
            | keyword::INCLUDES
            | keyword::MANDATORY_GROUPS => {
                self.at += 1;
                self.skip_list();
            }
            keyword::REFERENCE | keyword::ORGANIZATION | keyword::CONTACT_INFO | keyword::PRODUCT_RELEASE => {
                self.at += 1;
                self.text_span();
            }
            _ => return false,
        }
        true
    }

    fn skip_list(&mut self) {
        if self.peek().kind == OPEN {
            self.skip_braces();
        }
    }

    /// The octets between the quotes, or nothing where no text stands.
    fn text_span(&mut self) -> Span {
        let token = self.peek();
        if token.kind != TokenKind::Text {
            return Span::default();
        }
        self.at += 1;
        let closed = token.end > token.start + 1 && self.text[token.end as usize - 1] == b'"';
        Span::new(token.start as usize + 1, token.end as usize - usize::from(closed))
    }

    /// A short text as a symbol: a hint, units. Empty counts as none.
    pub(super) fn text_symbol(&mut self) -> u32 {
        const LONGEST: usize = 1024;
        let span = self.text_span();
        if span.len == 0 || span.len as usize > LONGEST {
            return NONE;
        }
        let text = String::from_utf8_lossy(&self.text[span.range()]);
        let text = text.trim();
        if text.is_empty() { NONE } else { self.record.symbols.intern(text.as_bytes()) }
    }

    /// The text of DISPLAY-HINT, told where no value can be shown by it.
    pub(super) fn hint(&mut self) -> u32 {
        let token = self.peek();
        let hint = self.text_symbol();
        if hint != NONE && !is_hint(self.record.symbols.text(hint)) {
            let message = "this is no DISPLAY-HINT".to_owned();
            let help = Some("values are shown without it; RFC 2579 section 3.1 tells the form");
            self.problem(Level::Note, "mib-bad-hint", token, message, help);
        }
        hint
    }

    /// The word of STATUS or ACCESS; `None` where another clause follows at once.
    fn clause_word(&mut self) -> Option<Token> {
        let token = self.peek();
        let is_word = token.kind == TokenKind::Word && !begins_clause(token.symbol);
        (is_word && !self.begins_definition(self.at)).then(|| {
            self.at += 1;
            token
        })
    }

    fn status(&mut self, definition: &mut Definition) {
        let Some(token) = self.clause_word() else {
            return;
        };
        definition.status = match self.slice(token) {
            b"current" | b"mandatory" | b"optional" => Status::Current,
            b"deprecated" => Status::Deprecated,
            b"obsolete" => Status::Obsolete,
            _ => {
                let message = format!("{} is no STATUS", self.record.symbols.text(token.symbol));
                let help = Some("it is taken as current");
                self.problem(Level::Note, "mib-bad-status", token, message, help);
                Status::Current
            }
        };
    }

    fn access(&mut self, definition: &mut Definition) {
        let Some(token) = self.clause_word() else {
            return;
        };
        definition.access = match self.slice(token) {
            b"not-accessible" => Access::NotAccessible,
            b"accessible-for-notify" => Access::ForNotify,
            b"read-only" => Access::ReadOnly,
            b"read-write" | b"write-only" => Access::ReadWrite,
            b"read-create" => Access::ReadCreate,
            // Of AGENT-CAPABILITIES.
            b"not-implemented" => Access::NotAccessible,
            _ => {
                let message = format!("{} is no access", self.record.symbols.text(token.symbol));
                self.problem(Level::Note, "mib-bad-access", token, message, Some("it is passed over"));
                Access::Unstated
            }
        };
    }

    /// LAST-UPDATED counts for the module; REVISION only while no LAST-UPDATED was readable.
    fn date(&mut self, is_last_updated: bool) {
        let token = self.peek();
        let span = self.text_span();
        if token.kind != TokenKind::Text {
            return;
        }
        let date = date(&self.text[span.range()]);
        let Some(module) = self.record.modules.last_mut() else {
            return;
        };
        match date {
            Some(date) if is_last_updated || module.last_updated == 0 => {
                module.last_updated = module.last_updated.max(date);
            }
            Some(_) => {}
            None if is_last_updated => {
                let message = "this is no date as YYYYMMDDhhmmZ".to_owned();
                let help = Some("the module counts as older than any with a date");
                self.problem(Level::Note, "mib-bad-date", token, message, help);
            }
            None => {}
        }
    }

    /// `{ a, IMPLIED b }`, into the record's items.
    fn items(&mut self) -> Span {
        let start = self.record.items.len();
        let braced = self.eat(OPEN);
        let mut implied = false;
        loop {
            let token = self.peek();
            match token.kind {
                CLOSE => {
                    self.at += 1;
                    break;
                }
                TokenKind::End | TokenKind::Assign => break,
                TokenKind::Word if token.symbol == keyword::IMPLIED => {
                    implied = true;
                    self.at += 1;
                }
                TokenKind::Word => {
                    if begins_clause(token.symbol)
                        || token.symbol == keyword::END
                        || self.begins_definition(self.at)
                    {
                        break;
                    }
                    self.at += 1;
                    // `MODULE.name`, and the second word of OCTET STRING.
                    let qualifier = self.peek().kind == TokenKind::Mark(b'.');
                    if !qualifier && !matches!(token.symbol, keyword::STRING | keyword::IDENTIFIER) {
                        if lexer::is_keyword(token.symbol) {
                            let message = "a type stands here in place of an object".to_owned();
                            let help = Some("a number is taken for one arc of the instance");
                            self.problem(Level::Note, "mib-index-type", token, message, help);
                        }
                        self.record.items.push(Item { name: token.symbol, implied, at: token.start });
                    }
                    implied = false;
                    if !braced && self.peek().kind != TokenKind::Mark(b',') {
                        break;
                    }
                }
                _ => self.at += 1,
            }
        }
        Span::new(start, self.record.items.len())
    }

    /// An OID's value, braced or a name alone. Ends the definition.
    pub(super) fn value(&mut self, name: Token, mut definition: Definition) {
        if definition.kind == DefinitionKind::ObjectType && definition.syntax == NONE {
            let message = format!("{} has no SYNTAX", self.record.symbols.text(name.symbol));
            let help = Some("its values are shown as they come");
            self.problem(Level::Warning, "mib-no-syntax", name, message, help);
        }
        let told = self.record.problems.len();
        definition.oid = self.oid_value();
        if definition.kind == DefinitionKind::Trap {
            definition.kind = DefinitionKind::Notification;
        }
        if definition.oid.len > 0 {
            self.push(name, definition);
        } else if self.record.problems.len() == told {
            let word = self.record.symbols.text(name.symbol);
            let message = format!("the value of {word} is no OID");
            let help = Some("this definition is left out");
            self.problem(Level::Error, "mib-bad-oid", name, message, help);
        }
    }

    /// The value of a TRAP-TYPE: a number. With an OID in its place it is read as a NOTIFICATION-TYPE.
    fn trap_value(&mut self, name: Token, mut definition: Definition) {
        definition.kind = DefinitionKind::Trap;
        let token = self.peek();
        if token.kind == TokenKind::Number {
            self.at += 1;
            match arc(self.slice(token)) {
                Some(number) => {
                    definition.number = number;
                    self.push(name, definition);
                }
                None => self.no_arc(token),
            }
            return;
        }
        self.trap_form(token, "the value of a TRAP-TYPE is a number");
        let oid = self.oid_value();
        match oid.of(&self.record.parts) {
            &[Part { name: NONE, number: Some(number) }] => definition.number = number,
            [] => {
                self.no_value(name);
                return;
            }
            _ => {
                definition.kind = DefinitionKind::Notification;
                definition.oid = oid;
            }
        }
        self.push(name, definition);
    }

    fn no_arc(&mut self, token: Token) {
        let message = "this is no number from 0 to 4294967295".to_owned();
        let help = Some("the definition is left out");
        self.problem(Level::Error, "mib-bad-arc", token, message, help);
    }

    /// `{ a b(2) 3 }`, `{ a.3 }` or `a`, into the record's parts; empty where it is none or has a bad number.
    fn oid_value(&mut self) -> Span {
        self.oid_parts(true)
    }

    /// As [`oid_value`](Self::oid_value); a name alone is a note where it is `strict`.
    fn oid_parts(&mut self, strict: bool) -> Span {
        let start = self.record.parts.len();
        if !self.eat(OPEN) {
            self.bare_oid(strict);
            return Span::new(start, self.record.parts.len());
        }
        let mut sound = true;
        let mut passing = Vec::new();
        if self.peek().kind == TokenKind::Number {
            self.oid_form(self.peek(), "this OID begins with a number, not with a name");
        }
        let mut mark = None;
        loop {
            let token = self.peek();
            match token.kind {
                CLOSE => {
                    self.at += 1;
                    break;
                }
                TokenKind::Word => {
                    let closes = begins_clause(token.symbol) || token.symbol == keyword::END;
                    if closes || self.begins_definition(self.at) {
                        break;
                    }
                    self.at += 1;
                    if self.record.parts.len() == start && self.qualifies(token) {
                        // `MODULE.name` (X.680 clause 14.6): names are found whatever module has them.
                        self.at += 1;
                        continue;
                    }
                    let number = self.number_in_parentheses(&mut sound);
                    self.record.parts.push(Part { name: token.symbol, number });
                    let inner = self.peek().kind != CLOSE && self.record.parts.len() > start + 1;
                    if number.is_some() && inner {
                        passing.push(token);
                    }
                }
                TokenKind::Number => {
                    self.at += 1;
                    let number = arc(self.slice(token));
                    if number.is_none() {
                        self.no_arc(token);
                        sound = false;
                    }
                    self.record.parts.push(Part { name: NONE, number });
                }
                TokenKind::End | TokenKind::Assign | OPEN => break,
                _ => {
                    mark.get_or_insert(token);
                    self.at += 1;
                }
            }
        }
        if let Some(mark) = mark {
            self.oid_form(mark, "no mark stands between the components of an OID");
        }
        if !sound {
            self.record.parts.truncate(start);
        } else if self.record.parts.len() <= start + MAX_ARCS {
            self.passing(start, &passing);
        }
        Span::new(start, self.record.parts.len())
    }

    /// An OID without braces: a name, or components with dots between them.
    fn bare_oid(&mut self, strict: bool) {
        let start = self.record.parts.len();
        let first = self.peek();
        loop {
            let token = self.peek();
            let part = match token.kind {
                TokenKind::Word if lexer::is_keyword(token.symbol) => break,
                TokenKind::Word => Part { name: token.symbol, number: None },
                TokenKind::Number => match arc(self.slice(token)) {
                    // A number alone stands below nothing.
                    Some(_) if self.record.parts.len() == start && !self.is_dot(self.at + 1) => break,
                    Some(number) => Part { name: NONE, number: Some(number) },
                    None => {
                        self.no_arc(token);
                        self.record.parts.truncate(start);
                        break;
                    }
                },
                _ => break,
            };
            self.at += 1;
            if !(self.record.parts.len() == start && self.qualifies(token)) {
                self.record.parts.push(part);
            }
            if !self.is_dot(self.at) {
                break;
            }
            self.at += 1;
        }
        let dotted = self.record.parts.len() > start + 1;
        if (strict || dotted) && self.record.parts.len() > start {
            self.oid_form(first, "an OID is written in braces, below a parent");
        }
    }

    fn is_dot(&self, at: usize) -> bool {
        self.token(at).kind == TokenKind::Mark(b'.')
    }

    /// Whether `token`, which is passed, is a module's name before that of one of its values.
    fn qualifies(&self, token: Token) -> bool {
        self.is_dot(self.at)
            && self.token(self.at + 1).kind == TokenKind::Word
            && self.slice(token).first().is_some_and(u8::is_ascii_uppercase)
    }

    fn oid_form(&mut self, token: Token, message: &'static str) {
        self.problem(Level::Note, "mib-oid-form", token, message.to_owned(), Some("it is understood"));
    }

    /// The inner components that were named by the way.
    fn passing(&mut self, start: usize, names: &[Token]) {
        let mut at = start;
        for token in names {
            while self.record.parts.get(at).is_some_and(|part| part.name != token.symbol) {
                at += 1;
            }
            let mut definition = Definition::new(token.symbol, DefinitionKind::Passing);
            definition.oid = Span::new(start, at + 1);
            definition.at = token.start;
            definition.line = self.lines.locate(token.start as usize).0;
            self.record.definitions.push(definition);
            at += 1;
        }
    }

    fn number_in_parentheses(&mut self, sound: &mut bool) -> Option<u32> {
        if self.peek().kind != TokenKind::Mark(b'(') || self.token(self.at + 1).kind != TokenKind::Number {
            return None;
        }
        self.at += 1;
        let token = self.next();
        self.eat(TokenKind::Mark(b')'));
        let number = arc(self.slice(token));
        if number.is_none() {
            self.no_arc(token);
            *sound = false;
        }
        number
    }
}

fn arc(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `YYYYMMDDhhmmZ` or `YYMMDDhhmmZ` (RFC 2578 section 2) as YYYYMMDDhhmm; also with seconds, or without the time.
fn date(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let digits = text.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let number: u64 = std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()?;
    let date = match digits {
        14 => number / 100,
        12 => number,
        10 => number + 190_000_000_000,
        8 => number * 10_000,
        _ => return None,
    };
    let (month, day) = (date / 1_000_000 % 100, date / 10_000 % 100);
    ((1..=12).contains(&month) && (1..=31).contains(&day)).then_some(date)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_read_in_the_forms_that_vendors_write() {
        assert_eq!(super::date(b"200006140000Z"), Some(200_006_140_000));
        assert_eq!(super::date(b"9605221200Z"), Some(199_605_221_200));
        assert_eq!(super::date(b"20200102030405Z"), Some(202_001_020_304));
        assert_eq!(super::date(b"20200102"), Some(202_001_020_000));
        assert_eq!(super::date(b"202013010000Z"), None);
        assert_eq!(super::date(b"yesterday"), None);
        assert_eq!(super::date(b""), None);
    }
}
