//! From octets to tokens. No token owns anything: words are symbols, the rest is offsets.
//!
//! Tolerant: what is not of the language is skipped and told once a stretch, line ends may be LF, CR LF or
//! CR, and a name may have what vendors put into names (`_`, a digit in front, a `-` at the end).

use super::symbol::{NONE, Symbol, Symbols};

macro_rules! keywords {
    ($($name:ident $text:literal)*) => {
        /// The words of the SMI, which hold the first symbols of every file in this order.
        #[expect(non_camel_case_types, reason = "each stands for the word as the SMI spells it")]
        #[expect(clippy::upper_case_acronyms, reason = "each stands for the word as the SMI spells it")]
        #[derive(Clone, Copy)]
        enum Keyword { $($name),* }
        const WORDS: &[&str] = &[$($text),*];
        /// The symbols of the keywords.
        pub(crate) mod keyword {
            $(pub(crate) const $name: u32 = super::Keyword::$name as u32;)*
        }
    };
}

keywords! {
    ACCESS "ACCESS" AGENT_CAPABILITIES "AGENT-CAPABILITIES" AUGMENTS "AUGMENTS"
    BEGIN "BEGIN" BITS "BITS" CHOICE "CHOICE" CONTACT_INFO "CONTACT-INFO" CREATION_REQUIRES "CREATION-REQUIRES"
    COUNTER "Counter" COUNTER32 "Counter32" COUNTER64 "Counter64" DEFINITIONS "DEFINITIONS" DEFVAL "DEFVAL"
    DESCRIPTION "DESCRIPTION" DISPLAY_HINT "DISPLAY-HINT" END "END" ENTERPRISE "ENTERPRISE" EXPLICIT "EXPLICIT"
    EXPORTS "EXPORTS" FROM "FROM" GAUGE "Gauge" GAUGE32 "Gauge32" IDENTIFIER "IDENTIFIER"
    IMPLICIT "IMPLICIT" IMPLIED "IMPLIED" IMPORTS "IMPORTS" INCLUDES "INCLUDES" INDEX "INDEX" INTEGER "INTEGER"
    INTEGER32 "Integer32" IP_ADDRESS "IpAddress" LAST_UPDATED "LAST-UPDATED" MACRO "MACRO"
    MANDATORY_GROUPS "MANDATORY-GROUPS" MAX_ACCESS "MAX-ACCESS" MIN_ACCESS "MIN-ACCESS" MODULE "MODULE"
    MODULE_COMPLIANCE "MODULE-COMPLIANCE" MODULE_IDENTITY "MODULE-IDENTITY" NETWORK_ADDRESS "NetworkAddress"
    NOTIFICATION_GROUP "NOTIFICATION-GROUP" NOTIFICATION_TYPE "NOTIFICATION-TYPE" NOTIFICATIONS "NOTIFICATIONS"
    NULL "NULL" OBJECT "OBJECT" OBJECT_GROUP "OBJECT-GROUP" OBJECT_IDENTITY "OBJECT-IDENTITY"
    OBJECT_TYPE "OBJECT-TYPE" OBJECTS "OBJECTS" OCTET "OCTET" OF "OF" OPAQUE "Opaque" ORGANIZATION "ORGANIZATION"
    PRODUCT_RELEASE "PRODUCT-RELEASE" REFERENCE "REFERENCE" REVISION "REVISION" SEQUENCE "SEQUENCE" SIZE "SIZE"
    STATUS "STATUS" STRING "STRING" SYNTAX "SYNTAX" TAGS "TAGS"
    TEXTUAL_CONVENTION "TEXTUAL-CONVENTION" TIME_TICKS "TimeTicks" TRAP_TYPE "TRAP-TYPE" U_INTEGER32 "UInteger32" UNITS "UNITS"
    UNSIGNED32 "Unsigned32" VARIABLES "VARIABLES"
    WRITE_SYNTAX "WRITE-SYNTAX"
}

// Sets of clauses are kept as bits of a u128.
const _: () = assert!(WORDS.len() <= 128);

/// Whether a symbol of a file is a word of the SMI.
pub(crate) fn is_keyword(symbol: Symbol) -> bool {
    (symbol as usize) < WORDS.len()
}

/// A file's symbols before its first word: the keywords.
pub(crate) fn keyword_symbols(words: usize) -> Symbols {
    let mut symbols = Symbols::with_capacity(WORDS.len() + words);
    for word in WORDS {
        symbols.intern(word.as_bytes());
    }
    symbols
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A name that begins with a small letter, `_` or a digit; or a keyword or name with a capital.
    Word,
    /// Digits, maybe after a `-`.
    Number,
    /// `'…'H` or `'…'B`.
    Quoted,
    /// `"…"`, quotes included.
    Text,
    /// `::=`.
    Assign,
    /// `..`.
    Range,
    /// Any of `{ } ( ) [ ] , ; . | : < >`.
    Mark(u8),
    /// After the last one, for ever.
    End,
}

/// One token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    /// For a word.
    pub(crate) symbol: Symbol,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// What the lexer has to complain about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// Octets outside of texts and comments that the language does not have.
    Illegal { start: u32, end: u32 },
    /// The quote at this offset is never closed; the text was ended at a likely place.
    Unterminated { start: u32, end: u32 },
    /// NUL or ^Z.
    Control { start: u32, end: u32 },
    /// Text behind the `--` that closes a comment, taken as comment too.
    CommentTail { start: u32, end: u32 },
}

impl Complaint {
    /// The stretch that it is about.
    pub(crate) fn extent(self) -> (u32, u32) {
        match self {
            Self::Illegal { start, end }
            | Self::Unterminated { start, end }
            | Self::Control { start, end }
            | Self::CommentTail { start, end } => (start, end),
        }
    }
}

/// All tokens of `text`, appended to `tokens` (emptied before). Time is linear in the octets.
pub(crate) fn lex(text: &[u8], symbols: &mut Symbols, tokens: &mut Vec<Token>) -> Vec<Complaint> {
    let mut lexer = Lexer { text, at: 0, symbols, tokens, complaints: Vec::new(), distrust: false };
    lexer.tokens.clear();
    if !lexer.run() {
        // Some quote is missing, and from there on text and code have changed places. Once more, with an eye
        // on what follows each closing quote.
        lexer.at = 0;
        lexer.tokens.clear();
        lexer.complaints.clear();
        lexer.distrust = true;
        lexer.run();
    }
    lexer.complaints
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    symbols: &'a mut Symbols,
    tokens: &'a mut Vec<Token>,
    complaints: Vec<Complaint>,
    /// Whether closing quotes may be opening ones.
    distrust: bool,
}

fn is_word(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_'
}

/// The first octet that is `wanted`. Whole blocks are looked at without a branch in them, which the compiler
/// turns into vector instructions: most of a MIB file is descriptions and comments.
fn find(text: &[u8], wanted: impl Fn(u8) -> bool) -> Option<usize> {
    const BLOCK: usize = 64;
    let mut at = 0;
    for block in text.chunks_exact(BLOCK) {
        if block.iter().fold(false, |any, &octet| any | wanted(octet)) {
            break;
        }
        at += BLOCK;
    }
    text[at..].iter().position(|&octet| wanted(octet)).map(|found| at + found)
}

/// Whether what stands behind a closing `--` is of the language: a mark, a label with its number, `name … ::=`,
/// or a clause.
fn reads_as_code(text: &[u8]) -> bool {
    const CLAUSES: [&[u8]; 10] = [
        b"SYNTAX",
        b"ACCESS",
        b"MAX-ACCESS",
        b"STATUS",
        b"DESCRIPTION",
        b"OBJECT IDENTIFIER",
        b"OBJECT-TYPE",
        b"INTEGER",
        b"OCTET STRING",
        b"FROM",
    ];
    let word = text.iter().take_while(|&&octet| is_word(octet)).count();
    let (word, behind) = text.split_at(word);
    let behind = behind.trim_ascii_start();
    match (word, behind) {
        ([], [b'{' | b'}' | b'(' | b')' | b',' | b';', ..] | [b':', b':', b'=', ..]) => true,
        ([], _) => false,
        (_, [b'(', digit, ..]) if digit.is_ascii_digit() => true,
        _ => {
            let clause = CLAUSES.iter().any(|clause| {
                text.starts_with(clause) && !text.get(clause.len()).is_some_and(|&octet| is_word(octet))
            });
            clause || behind.windows(3).any(|three| three == b"::=") || behind.starts_with(b"OBJECT-TYPE")
        }
    }
}

impl Lexer<'_> {
    /// To the end; `false` when a text was still open there.
    fn run(&mut self) -> bool {
        let mut whole = true;
        while let Some(&octet) = self.text.get(self.at) {
            match octet {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                0 | 0x1a => self.control(),
                b'"' => whole &= self.text_token(),
                b'-' if self.text.get(self.at + 1) == Some(&b'-') => self.comment(),
                b'-' if self.text.get(self.at + 1).is_some_and(u8::is_ascii_digit) => self.number(),
                b'0'..=b'9' => self.number(),
                b'A'..=b'Z' | b'a'..=b'z' | b'_' => self.word(),
                b':' => self.assign(),
                b'.' if self.text.get(self.at + 1) == Some(&b'.') => {
                    let start = self.at;
                    // `...`, as some write it, is a range too.
                    while self.text.get(self.at) == Some(&b'.') {
                        self.at += 1;
                    }
                    self.push(TokenKind::Range, NONE, start);
                }
                b'{' | b'}' | b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' | b'|' | b'<' | b'>' => {
                    self.at += 1;
                    self.push(TokenKind::Mark(octet), NONE, self.at - 1);
                }
                b'\'' if self.quoted() => {}
                _ => self.illegal(),
            }
        }
        whole
    }

    fn push(&mut self, kind: TokenKind, symbol: Symbol, start: usize) {
        self.tokens.push(Token { kind, symbol, start: start as u32, end: self.at as u32 });
    }

    fn word(&mut self) {
        let start = self.at;
        let rest = &self.text[start..];
        let mut len = 0;
        while let Some(&octet) = rest.get(len) {
            // A comment may follow a name without a blank.
            if !is_word(octet) || (octet == b'-' && rest.get(len + 1) == Some(&b'-')) {
                break;
            }
            len += 1;
        }
        self.at += len;
        let symbol = self.symbols.intern(&rest[..len]);
        self.push(TokenKind::Word, symbol, start);
    }

    /// A number, or a name that begins with a digit.
    fn number(&mut self) {
        let start = self.at;
        self.at += 1;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        let next = self.text.get(self.at).copied().unwrap_or(b' ');
        if self.text[start] != b'-' && (next.is_ascii_alphabetic() || next == b'_') {
            self.at = start;
            self.word();
        } else {
            self.push(TokenKind::Number, NONE, start);
        }
    }

    /// `::=`, and what is meant as such: `:=`, `: :=`, `:: =`.
    fn assign(&mut self) {
        let start = self.at;
        let mut at = start;
        let mut colons = 0;
        while let Some(&octet) = self.text.get(at) {
            match octet {
                b':' if colons < 2 => colons += 1,
                b' ' => {}
                b'=' => {
                    self.at = at + 1;
                    self.push(TokenKind::Assign, NONE, start);
                    return;
                }
                _ => break,
            }
            at += 1;
        }
        self.at = start + 1;
        self.push(TokenKind::Mark(b':'), NONE, start);
    }

    /// To the end of the line, or to a closing `--` that code follows.
    ///
    /// RFC 2578 section 3 lets the next `--` end a comment. Vendors write rows of dashes, and a second `--` as a mark
    /// within the comment, more often than code behind one: so what follows decides.
    fn comment(&mut self) {
        let rest = &self.text[self.at..];
        let len = find(rest, |octet| octet == b'\n' || octet == b'\r').unwrap_or(rest.len());
        let line = &rest[..len];
        let dashes = |text: &[u8]| text.iter().take_while(|&&octet| octet == b'-').count();
        let opening = dashes(line);
        let closing = if opening == 2 { line[2..].windows(2).position(|pair| pair == b"--") } else { None };
        if let Some(close) = closing {
            let close = opening + close;
            let tail = close + dashes(&line[close..]);
            let blank = line[tail..].iter().take_while(|octet| octet.is_ascii_whitespace()).count();
            let tail = tail + blank;
            if reads_as_code(&line[tail..]) {
                self.at += tail;
                return;
            }
            if tail < len {
                let (start, end) = ((self.at + tail) as u32, (self.at + len) as u32);
                self.complaints.push(Complaint::CommentTail { start, end });
            }
        }
        self.at += len;
    }

    /// A stretch of NUL or ^Z, which separates as a blank does.
    fn control(&mut self) {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|octet| matches!(octet, 0 | 0x1a)) {
            self.at += 1;
        }
        self.complaints.push(Complaint::Control { start: start as u32, end: self.at as u32 });
    }

    /// `'…'H` or `'…'B` on one line; `false` when it is nothing of the kind.
    fn quoted(&mut self) -> bool {
        const LONGEST: usize = 4096;
        let start = self.at;
        let rest = &self.text[start + 1..self.text.len().min(start + LONGEST)];
        let end = rest.iter().position(|&octet| octet == b'\'' || octet == b'\n' || octet == b'\r');
        let Some(end) = end.filter(|&end| rest[end] == b'\'') else {
            return false;
        };
        self.at = start + end + 2;
        if self.text.get(self.at).is_some_and(|octet| matches!(octet, b'H' | b'h' | b'B' | b'b')) {
            self.at += 1;
        }
        self.push(TokenKind::Quoted, NONE, start);
        true
    }

    fn illegal(&mut self) {
        let start = self.at;
        let is_legal = |octet: u8| {
            octet.is_ascii_alphanumeric() || b" \t\n\r\x0b\x0c\0\x1a\"-_:.{}()[],;|<>".contains(&octet)
        };
        // At least one octet: a lone quote mark or a `-` that begins nothing stands here too.
        self.at += 1;
        while self.text.get(self.at).is_some_and(|&octet| !is_legal(octet)) {
            self.at += 1;
        }
        // Stretches on one line are one complaint.
        let (start, end) = (start as u32, self.at as u32);
        match self.complaints.last_mut() {
            Some(Complaint::Illegal { end: last, .. })
                if start - *last < 256
                    && !self.text[*last as usize..start as usize]
                        .iter()
                        .any(|&octet| octet == b'\n' || octet == b'\r') =>
            {
                *last = end;
            }
            _ => self.complaints.push(Complaint::Illegal { start, end }),
        }
    }

    /// `"…"`; `false` when it is still open at the end of the file.
    fn text_token(&mut self) -> bool {
        let start = self.at;
        let body = start + 1;
        let close = find(&self.text[body..], |octet| octet == b'"').map(|close| body + close);
        let believed = match close {
            Some(close) => !self.distrust || self.may_follow_text(close + 1),
            None => false,
        };
        if let (Some(close), true) = (close, believed) {
            self.at = close + 1;
            self.push(TokenKind::Text, NONE, start);
            return true;
        }
        if close.is_none() && !self.distrust {
            self.at = self.text.len();
            self.push(TokenKind::Text, NONE, start);
            return false;
        }
        let limit = close.unwrap_or(self.text.len());
        match self.likely_end(body, limit) {
            Some(end) => {
                self.at = end;
                self.complaints.push(Complaint::Unterminated { start: start as u32, end: end as u32 });
            }
            None => {
                self.at = close.map_or(limit, |close| close + 1);
                if close.is_none() {
                    self.complaints
                        .push(Complaint::Unterminated { start: start as u32, end: self.at as u32 });
                }
            }
        }
        self.push(TokenKind::Text, NONE, start);
        true
    }

    /// Whether what stands at `at` can come after a text: a mark, `::=`, a comment, a word in capitals.
    fn may_follow_text(&self, at: usize) -> bool {
        let rest = &self.text[at.min(self.text.len())..];
        let blank = rest.iter().take_while(|octet| octet.is_ascii_whitespace()).count();
        let rest = &rest[blank..];
        match rest {
            [] => true,
            [b':', b':' | b'=', ..] | [b'}' | b')' | b',' | b'{' | b';', ..] | [b'-', b'-', ..] => true,
            _ => {
                let word = rest.iter().take_while(|&&octet| is_word(octet)).count();
                word >= 3 && rest[..word].iter().all(|&octet| octet.is_ascii_uppercase() || octet == b'-')
            }
        }
    }

    /// Inside an unclosed text: the start of the first line that reads as code.
    fn likely_end(&self, from: usize, to: usize) -> Option<usize> {
        const CLAUSES: [&[u8]; 12] = [
            b"::=",
            b"STATUS",
            b"DESCRIPTION",
            b"ACCESS",
            b"MAX-ACCESS",
            b"SYNTAX",
            b"REFERENCE",
            b"INDEX",
            b"DEFVAL",
            b"REVISION",
            b"CONTACT-INFO",
            b"ORGANIZATION",
        ];
        let body = &self.text[from..to];
        let mut line = 0;
        while let Some(end) = body[line..].iter().position(|&octet| octet == b'\n' || octet == b'\r') {
            line += end + 1;
            let blank = body[line..].iter().take_while(|&&octet| octet == b' ' || octet == b'\t').count();
            let code = &body[line + blank..];
            let is_clause = CLAUSES.iter().any(|clause| {
                code.starts_with(clause) && !code.get(clause.len()).is_some_and(|&octet| is_word(octet))
            });
            if is_clause {
                return Some(from + line);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        let (tokens, _) = lexed(text);
        tokens
    }

    fn lexed(text: &str) -> (Vec<String>, Vec<Complaint>) {
        let mut symbols = keyword_symbols(0);
        let mut tokens = Vec::new();
        let complaints = lex(text.as_bytes(), &mut symbols, &mut tokens);
        (tokens.iter().map(|t| text[t.start as usize..t.end as usize].to_owned()).collect(), complaints)
    }

    #[test]
    fn keywords_hold_their_symbols() {
        let symbols = keyword_symbols(0);
        assert_eq!(symbols.text(keyword::OBJECT_TYPE), "OBJECT-TYPE");
        assert_eq!(symbols.text(keyword::WRITE_SYNTAX), "WRITE-SYNTAX");
        assert_eq!(symbols.len(), WORDS.len());
        assert!(is_keyword(keyword::WRITE_SYNTAX) && !is_keyword(symbols.len() as u32));
    }

    #[test]
    fn names_of_vendors_are_names() {
        assert_eq!(
            tokens("a_b a- 3com 10GigE x--y\n-5 a-1"),
            ["a_b", "a-", "3com", "10GigE", "x", "-5", "a-1"]
        );
    }

    #[test]
    fn marks_stand_without_blanks() {
        assert_eq!(
            tokens("a::={b.1 2..3}:= '0F'H"),
            ["a", "::=", "{", "b", ".", "1", "2", "..", "3", "}", ":=", "'0F'H"]
        );
    }

    #[test]
    fn rows_of_dashes_are_comments() {
        assert_eq!(tokens("-----------\na\r--- text ---\rb"), ["a", "b"]);
    }

    #[test]
    fn a_comment_ends_at_its_second_dashes_where_code_follows() {
        for (text, expected) in [
            ("a -- x -- OBJECT IDENTIFIER", &["a", "OBJECT", "IDENTIFIER"][..]),
            ("a -- x -- ::= b", &["a", "::=", "b"]),
            ("{ one(1), -- first -- two(2) }", &["{", "one", "(", "1", ")", ",", "two", "(", "2", ")", "}"]),
            ("a -- x -- , b -- y --, c", &["a", ",", "b", ",", "c"]),
            ("a -- x -- b OBJECT-TYPE", &["a", "b", "OBJECT-TYPE"]),
            ("---- x -- y ----\na", &["a"]),
        ] {
            assert_eq!(
                lexed(text),
                (expected.iter().map(|&word| word.to_owned()).collect(), Vec::new()),
                "{text}"
            );
        }
        let (tokens, complaints) = lexed("a -- x -- so it is\n-- TODO -- later\nb");
        assert_eq!(tokens, ["a", "b"]);
        assert!(
            matches!(complaints[..], [Complaint::CommentTail { start: 10, end: 18 }, _]),
            "{complaints:?}"
        );
    }

    #[test]
    fn what_is_illegal_is_skipped_and_told_once_a_line() {
        let (tokens, complaints) = lexed("a @ # $ b\n\u{a0}c");
        assert_eq!(tokens, ["a", "b", "c"]);
        assert_eq!(complaints.len(), 2);
    }

    #[test]
    fn an_open_text_ends_before_the_next_clause() {
        let (tokens, complaints) =
            lexed("a DESCRIPTION \"open\n ::= { b 1 }\nc DESCRIPTION \"shut\" ::= { b 2 }");
        assert_eq!(tokens.len(), 16, "{tokens:?}");
        assert!(matches!(complaints[..], [Complaint::Unterminated { .. }]));
    }
}
