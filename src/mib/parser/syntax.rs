//! Types: SYNTAX, type assignments, TEXTUAL-CONVENTION.

use super::{CLOSE, File, OPEN, begins_clause};
use crate::diagnostic::Level;
use crate::mib::ast::{Definition, DefinitionKind, Label, Shape, Span, Type};
use crate::mib::lexer::{self, Token, TokenKind, keyword};
use crate::mib::symbol::{NONE, Symbol};

const PARENTHESIS: TokenKind = TokenKind::Mark(b'(');
const SHUT: TokenKind = TokenKind::Mark(b')');

impl File<'_> {
    /// From behind `Name ::=`. Names of the SMI's own types are read and passed over.
    pub(super) fn type_assignment(&mut self, name: Token) {
        let known = lexer::is_keyword(name.symbol);
        let mut definition = Definition::new(name.symbol, DefinitionKind::Type);
        if self.symbol(self.at) == keyword::TEXTUAL_CONVENTION {
            self.at += 1;
            definition.kind = DefinitionKind::TextualConvention;
            self.convention(name, &mut definition);
        } else {
            definition.syntax = self.syntax();
        }
        if known {
            return;
        }
        if definition.syntax == NONE {
            let message = format!("the type {} is not said", self.record.symbols.text(name.symbol));
            let help = Some("values of it are shown as they come");
            self.problem(Level::Warning, "mib-no-syntax", name, message, help);
        }
        self.push(name, definition);
    }

    /// The clauses of TEXTUAL-CONVENTION, of which SYNTAX should be the last.
    fn convention(&mut self, name: Token, definition: &mut Definition) {
        let mut hint = NONE;
        let mut has_status = false;
        loop {
            has_status |= self.peek().symbol == keyword::STATUS;
            match self.peek().symbol {
                keyword::DISPLAY_HINT => {
                    self.at += 1;
                    hint = self.hint();
                }
                keyword::SYNTAX if definition.syntax != NONE => break,
                keyword::STATUS | keyword::DESCRIPTION | keyword::REFERENCE | keyword::SYNTAX => {
                    self.clause(definition);
                }
                // Something stray, before SYNTAX came.
                _ if definition.syntax == NONE && !self.ends_convention() => self.at += 1,
                _ => break,
            }
        }
        if let Some(syntax) = self.record.types.get_mut(definition.syntax as usize) {
            syntax.hint = hint;
        }
        if !has_status {
            let word = self.record.symbols.text(name.symbol);
            self.missing_clause(name, format!("{word} has no STATUS"));
        }
    }

    fn ends_convention(&self) -> bool {
        let token = self.peek();
        matches!(token.kind, TokenKind::End | TokenKind::Assign)
            || token.symbol == keyword::END
            || self.token(self.at + 1).kind == TokenKind::Assign
            || self.begins_definition(self.at)
    }

    /// A type, into the record's types; [`NONE`], and nothing taken, where none stands here.
    pub(super) fn syntax(&mut self) -> u32 {
        while let TokenKind::Mark(b'[') = self.peek().kind {
            self.skip_tag();
        }
        while matches!(self.symbol(self.at), keyword::IMPLICIT | keyword::EXPLICIT) {
            self.at += 1;
        }
        let token = self.peek();
        if token.kind != TokenKind::Word {
            return self.labels_alone();
        }
        let mut own = match token.symbol {
            keyword::INTEGER => Type::new(Shape::Integer),
            keyword::OCTET | keyword::STRING => {
                if self.symbol(self.at + 1) == keyword::STRING {
                    self.at += 1;
                }
                Type::new(Shape::Octets)
            }
            keyword::OBJECT => {
                if self.symbol(self.at + 1) == keyword::IDENTIFIER {
                    self.at += 1;
                }
                Type::new(Shape::ObjectIdentifier)
            }
            keyword::BITS => Type::new(Shape::Bits),
            keyword::CHOICE => Type::new(Shape::Choice),
            keyword::SEQUENCE if self.symbol(self.at + 1) == keyword::OF => {
                self.at += 1;
                // The row's type.
                self.at += usize::from(self.token(self.at + 1).kind == TokenKind::Word);
                Type::new(Shape::SequenceOf)
            }
            keyword::SEQUENCE => Type::new(Shape::Sequence),
            symbol if is_type_name(symbol) && !self.begins_definition(self.at) => {
                let mut name = symbol;
                let qualified = self.token(self.at + 1).kind == TokenKind::Mark(b'.')
                    && self.token(self.at + 2).kind == TokenKind::Word;
                if qualified {
                    self.at += 2;
                    name = self.symbol(self.at);
                }
                Type { name, ..Type::new(Shape::Named) }
            }
            _ => return NONE,
        };
        self.at += 1;
        self.refine(&mut own);
        self.record.types.push(own);
        self.record.types.len() as u32 - 1
    }

    /// `{ up(1), down(2) }` where INTEGER was forgotten.
    fn labels_alone(&mut self) -> u32 {
        let looks_so = self.peek().kind == OPEN && self.token(self.at + 2).kind == PARENTHESIS;
        if !looks_so {
            return NONE;
        }
        let mut own = Type::new(Shape::Integer);
        self.refine(&mut own);
        self.record.types.push(own);
        self.record.types.len() as u32 - 1
    }

    fn skip_tag(&mut self) {
        const LONGEST: usize = 8;
        for _ in 0..LONGEST {
            if self.next().kind == TokenKind::Mark(b']') {
                break;
            }
        }
    }

    /// What may follow the name of a type: labels, SIZE, ranges, the members of SEQUENCE and CHOICE.
    fn refine(&mut self, own: &mut Type) {
        loop {
            match self.peek().kind {
                OPEN if matches!(own.shape, Shape::Sequence | Shape::Choice) => self.skip_braces(),
                OPEN if own.labels.len == 0 => own.labels = self.labels(),
                PARENTHESIS => self.constraint(own, false),
                TokenKind::Word if self.symbol(self.at) == keyword::SIZE => {
                    let message = "SIZE stands in parentheses of its own".to_owned();
                    self.problem(
                        Level::Note,
                        "mib-size-form",
                        self.peek(),
                        message,
                        Some("it is understood"),
                    );
                    self.at += 1;
                    self.constraint(own, true);
                }
                _ => return,
            }
        }
    }

    /// `(SIZE (0..255))`, `(0..10 | 20)`: of sizes the bounds are kept.
    fn constraint(&mut self, own: &mut Type, is_size: bool) {
        let mut is_size = is_size;
        let mut depth = 0usize;
        loop {
            let token = self.peek();
            match token.kind {
                PARENTHESIS => depth += 1,
                SHUT => depth = depth.saturating_sub(1),
                TokenKind::Number if is_size => {
                    let number =
                        std::str::from_utf8(self.slice(token)).ok().and_then(|digits| digits.parse().ok());
                    if let Some(number) = number {
                        let (least, greatest) = own.size.unwrap_or((number, number));
                        own.size = Some((least.min(number), greatest.max(number)));
                    }
                }
                TokenKind::Word if token.symbol == keyword::SIZE => is_size = true,
                // MAX in a range, or the name of a constant.
                TokenKind::Word if !lexer::is_keyword(token.symbol) && !self.begins_definition(self.at) => {}
                TokenKind::Number
                | TokenKind::Quoted
                | TokenKind::Range
                | TokenKind::Mark(b'|' | b'.' | b',') => {}
                _ => return,
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// `{ up(1), down(2) }`, into the record's labels, however the marks between them stand.
    fn labels(&mut self) -> Span {
        let start = self.record.labels.len();
        let open = self.next();
        // The octets of the label that is being read, and its symbol where it is one plain word.
        let mut label: Option<(u32, u32, Symbol)> = None;
        // A label is whole, and a comma or the end is due.
        let mut labelled = false;
        loop {
            let token = self.peek();
            match token.kind {
                CLOSE => {
                    self.at += 1;
                    break;
                }
                TokenKind::End | TokenKind::Assign => {
                    self.open_labels(open);
                    break;
                }
                TokenKind::Word if begins_clause(token.symbol) || self.begins_definition(self.at) => {
                    self.open_labels(open);
                    break;
                }
                TokenKind::Mark(b'(') => {
                    self.at += 1;
                    let value = self.peek();
                    if let (Some(label), Some(number)) = (label.take(), number(self.slice(value))) {
                        if value.kind != TokenKind::Number {
                            self.label_number(value);
                        }
                        self.at += 1;
                        self.push_label(label, number);
                        self.eat(SHUT);
                        labelled = true;
                    }
                }
                TokenKind::Mark(b',' | b')') => {
                    let last = self.token(self.at + 1).kind == CLOSE;
                    if token.kind == TokenKind::Mark(b',') && (!labelled || last) {
                        let message = "this comma is too much".to_owned();
                        self.problem(Level::Note, "mib-surplus-comma", token, message, None);
                    }
                    label = None;
                    labelled = false;
                    self.at += 1;
                }
                // A number without parentheses around it.
                TokenKind::Number if label.is_some_and(|(_, end, _)| end < token.start) => {
                    self.label_number(token);
                    self.at += 1;
                    if let (Some(label), Some(number)) = (label.take(), number(self.slice(token))) {
                        self.push_label(label, number);
                        labelled = true;
                    }
                }
                _ => {
                    if labelled {
                        let message = "there is no comma before this label".to_owned();
                        self.problem(Level::Note, "mib-missing-comma", token, message, None);
                    }
                    labelled = false;
                    // What touches the token before belongs to the label, as in `packet/attack(1)`.
                    label = match label {
                        Some((start, end, _)) if self.touches(end, token.start) => {
                            Some((start, token.end, NONE))
                        }
                        _ => Some((token.start, token.end, token.symbol)),
                    };
                    self.at += 1;
                }
            }
        }
        self.labels_twice(open, start);
        Span::new(start, self.record.labels.len())
    }

    fn label_number(&mut self, token: Token) {
        let message = "the number of a label is decimal, in parentheses".to_owned();
        self.problem(Level::Note, "mib-label-number", token, message, Some("it is understood"));
    }

    /// Two labels of one number, or two numbers of one label.
    fn labels_twice(&mut self, open: Token, start: usize) {
        let labels = &self.record.labels[start..];
        self.scratch.clear();
        self.scratch.extend(labels.iter().map(|label| (label.number, label.name)));
        if !labels.is_sorted_by(|a, b| a.number < b.number) {
            self.scratch.sort_unstable_by_key(|&(number, _)| number);
        }
        let number = self.scratch.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1);
        self.scratch.sort_unstable_by_key(|&(_, name)| name);
        let name = self.scratch.windows(2).find(|pair| pair[0].1 == pair[1].1).map(|pair| pair[1].1);
        if let Some(label) = number.or(name) {
            let word = self.record.symbols.text(label);
            let message = format!("{word} is a label that is here twice, by its name or by its number");
            let help = Some("a number is shown by its first label");
            self.problem(Level::Note, "mib-label-twice", open, message, help);
        }
    }

    /// RFC 2578 section 7.1.1: letters, digits and single hyphens, the first one a small letter.
    fn check_label(&mut self, (start, end): (u32, u32)) {
        let word = &self.text[start as usize..end as usize];
        let is_plain = word[0].is_ascii_lowercase()
            && !word.ends_with(b"-")
            && word.iter().all(|&octet| octet.is_ascii_alphanumeric() || octet == b'-');
        if !is_plain {
            let message =
                format!("{} is not how a label is written", String::from_utf8_lossy(word).escape_debug());
            let help = Some("it is taken as it stands");
            self.problem_at(Level::Note, "mib-odd-label", (start, end), message, help);
        }
    }

    fn touches(&self, end: u32, start: u32) -> bool {
        !self.text[end as usize..start as usize].iter().any(u8::is_ascii_whitespace)
    }

    fn push_label(&mut self, (start, end, symbol): (u32, u32, Symbol), number: i64) {
        self.check_label((start, end));
        let mut name = symbol;
        if name == NONE {
            let text = String::from_utf8_lossy(&self.text[start as usize..end as usize]);
            name = self.record.symbols.intern(text.as_bytes());
        }
        self.record.labels.push(Label { name, number });
    }

    fn open_labels(&mut self, open: Token) {
        let message = "these labels have no closing brace".to_owned();
        let help = Some("they are taken to end before the next clause");
        self.problem(Level::Warning, "mib-open-labels", open, message, help);
    }
}

/// Whether a word can name a type: any but those keywords that are none.
fn is_type_name(symbol: Symbol) -> bool {
    !lexer::is_keyword(symbol)
        || matches!(
            symbol,
            keyword::COUNTER
                | keyword::COUNTER32
                | keyword::COUNTER64
                | keyword::GAUGE
                | keyword::GAUGE32
                | keyword::INTEGER32
                | keyword::IP_ADDRESS
                | keyword::NETWORK_ADDRESS
                | keyword::NULL
                | keyword::OPAQUE
                | keyword::TIME_TICKS
                | keyword::U_INTEGER32
                | keyword::UNSIGNED32
        )
}

/// `5`, `-5`, `'1F'H`, `'101'B`, and `0x1F`.
fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(quoted) = text.strip_prefix('\'') {
        let (digits, base) = quoted.split_once('\'')?;
        let radix = if base.eq_ignore_ascii_case("b") { 2 } else { 16 };
        return i64::from_str_radix(digits.trim(), radix).ok();
    }
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
