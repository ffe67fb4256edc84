//! `nereus mib lookup`: from names to OIDs and back, one by one or by pattern.

use std::io::{BufRead as _, BufReader, Read as _};

use clap::Args;
use serde::Serialize;

use super::failure::{self, Failure};
use super::names::{self, NameArgs};
use super::output::{self, Out};
use crate::mib::{Mib, Node};
use crate::oid::Oid;

/// The arguments of `nereus mib lookup`.
#[derive(Args)]
pub(super) struct LookupArgs {
    /// A name as `IF-MIB::ifDescr.3` or `linkDown`, an OID as `1.3.6.1.6.3.1.1.5.3`, a pattern as `if*Descr`
    /// or `IF-MIB::*` (`*` is any text, `?` one character, case does not matter), or `-` for a question on each
    /// line of standard input
    #[arg(required = true, value_name = "NAME-OR-OID")]
    questions: Vec<String>,
    #[command(flatten)]
    names: NameArgs,
    /// Answer each question with one JSON object on a line
    #[arg(long)]
    json: bool,
}

/// One answer, as `--json` prints it.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Answer<'m> {
    query: &'m str,
    /// `MODULE::name.index`.
    text: String,
    module: &'m str,
    name: &'m str,
    oid: String,
    kind: &'m str,
    file: &'m str,
    /// From 1; 0 for what is built in.
    line: u32,
    /// The other names of the same OID, the better first: `text` is the one that events show.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<String>,
}

/// The answer to a question that has none.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct NoAnswer<'m> {
    query: &'m str,
    error: String,
    suggestions: Vec<String>,
}

/// Answers the questions in their order. A pattern is answered with each node that it fits, by OID.
///
/// # Errors
/// [`Failure::Bad`] where one was not found; all others are answered all the same.
pub(super) fn lookup(args: &LookupArgs, out: &mut Out) -> Result<(), Failure> {
    let mib = args.names.load()?;
    let mut found_all = true;
    let mut table = output::table(&["NAME", "OID", "KIND", "DEFINED"]);
    for question in &args.questions {
        if question == "-" {
            found_all &= from_stdin(&mib, args.json, out)?;
            continue;
        }
        for answer in ask(&mib, question) {
            found_all &= answer.is_ok();
            match answer {
                answer if args.json => print_json(&answer, out)?,
                Ok(answer) => {
                    let cells =
                        [&*answer.text, &*answer.oid, answer.kind, &*answer.place()].map(output::cell);
                    table.add_row(cells);
                    for other in &answer.also {
                        table.add_row([&format!("  also {other}"), "", "", ""].map(output::cell));
                    }
                }
                Err(none) => failure::error(&output::printable(&none.error)),
            }
        }
    }
    if !table.is_empty() {
        out.table(&table)?;
    }
    if found_all { Ok(()) } else { Err(Failure::Bad) }
}

/// The longest question on standard input, in octets: an OID of 128 arcs takes 1,407.
const LONGEST_QUESTION: u64 = 64 << 10;

/// Answers each line at once, so that another program can ask and read in turn. Whether all were found.
fn from_stdin(mib: &Mib, json: bool, out: &mut Out) -> Result<bool, Failure> {
    // A reader of our own: it tells what it holds, and standard input's does not.
    let mut input = BufReader::with_capacity(64 << 10, std::io::stdin().lock());
    let mut line = Vec::new();
    let mut found_all = true;
    loop {
        // Whoever waits for an answer has sent no further question yet.
        if input.buffer().is_empty() {
            out.flush()?;
        }
        line.clear();
        let read = (&mut input).take(LONGEST_QUESTION).read_until(b'\n', &mut line);
        let read =
            read.map_err(|error| Failure::Unable(format!("reading standard input failed: {error}")))?;
        if read == 0 {
            return Ok(found_all);
        }
        if read as u64 == LONGEST_QUESTION && line.last() != Some(&b'\n') {
            return Err(Failure::Usage("a line of standard input is longer than 64 KiB".to_owned()));
        }
        let text = String::from_utf8_lossy(&line);
        for answer in ask(mib, text.trim()) {
            found_all &= answer.is_ok();
            match answer {
                answer if json => print_json(&answer, out)?,
                Ok(answer) => {
                    let place = answer.place();
                    out.line(&format!("{}  {}  {}  {place}", answer.text, answer.oid, answer.kind))?;
                    for other in &answer.also {
                        out.line(&format!("  also {other}"))?;
                    }
                }
                Err(none) => failure::error(&output::printable(&none.error)),
            }
        }
    }
}

fn print_json(answer: &Result<Answer<'_>, NoAnswer<'_>>, out: &mut Out) -> Result<(), Failure> {
    match answer {
        Ok(answer) => out.json(answer),
        Err(none) => out.json(none),
    }
}

impl Answer<'_> {
    fn place(&self) -> String {
        if self.line == 0 { self.file.to_owned() } else { format!("{}:{}", self.file, self.line) }
    }
}

/// One answer, or for a pattern as many as fit.
fn ask<'m>(mib: &'m Mib, query: &'m str) -> Vec<Result<Answer<'m>, NoAnswer<'m>>> {
    if is_pattern(query) {
        let mut nodes: Vec<Node<'m>> = mib.nodes().filter(|node| fits(query, *node)).collect();
        nodes.sort_by_cached_key(|node| node.oid());
        if nodes.is_empty() {
            let error = format!("{query}: no name fits this pattern");
            return vec![Err(NoAnswer { query, error, suggestions: Vec::new() })];
        }
        // Each name stands for itself here, so that none is told as another one's alias.
        return nodes.into_iter().map(|node| Ok(answer(mib, query, node, node.oid(), &[], false))).collect();
    }
    vec![ask_one(mib, query)]
}

fn ask_one<'m>(mib: &'m Mib, query: &'m str) -> Result<Answer<'m>, NoAnswer<'m>> {
    let target = mib.resolve(query).map_err(|error| NoAnswer {
        query,
        error: names::explain(mib, query, &error),
        suggestions: names::suggestions(mib, &error),
    })?;
    let Some(node) = target.node.map(|node| mib.node(node)) else {
        let error = format!("{query}: no MIB defines this OID or any OID above it");
        return Err(NoAnswer { query, error, suggestions: Vec::new() });
    };
    Ok(answer(mib, query, node, target.oid.clone(), target.instance(), true))
}

fn answer<'m>(
    mib: &'m Mib,
    query: &'m str,
    node: Node<'m>,
    oid: Oid,
    instance: &[u32],
    with_aliases: bool,
) -> Answer<'m> {
    let mut text = node.qualified_name();
    mib.write_instance(node.id(), instance, &mut text);
    let others = mib.same_oid(node.id()).filter(|&other| with_aliases && other != node.id());
    let also = others.map(|other| mib.node(other).qualified_name()).collect();
    Answer {
        query,
        text,
        module: node.module().name(),
        name: node.name(),
        oid: oid.to_string(),
        kind: node.kind().name(),
        file: node.file(),
        line: node.line(),
        also,
    }
}

/// Whether a question has a wildcard outside of quotes: an index may be any text.
fn is_pattern(query: &str) -> bool {
    let bare = query.split(['"', '\'']).next().unwrap_or_default();
    bare.contains(['*', '?'])
}

/// `MODULE::name` or `name`, each with wildcards.
fn fits(pattern: &str, node: Node<'_>) -> bool {
    match pattern.split_once("::") {
        Some((module, name)) => matches(module, node.module().name()) && matches(name, node.name()),
        None => matches(pattern, node.name()),
    }
}

/// Whether `text` fits `pattern`: `*` is any text, `?` any character. Names are ASCII mostly, so that octets do.
/// At most the product of their lengths in time: the last `*` alone takes more when the rest does not fit.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of + 1, at));
                of += 1;
            }
            Some(&octet) if octet == b'?' || octet.eq_ignore_ascii_case(&text[at]) => {
                at += 1;
                of += 1;
            }
            _ => match &mut star {
                Some((behind, from)) => {
                    *from += 1;
                    (of, at) = (*behind, *from);
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|&octet| octet == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("if*Descr", "ifDescr"),
            ("if*descr", "ifAnyDescr"),
            ("*", ""),
            ("*a*b", "xaxbxab"),
            ("?fDescr", "ifDescr"),
            ("**", "x"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("if*Descr", "ifDescrs"), ("?", ""), ("a*b*c", "abab"), ("", "x")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(!matches("*a*a*a*a*b", &"a".repeat(10_000)));
        assert!(is_pattern("if*") && !is_pattern("x.\"a*\""));
    }
}
