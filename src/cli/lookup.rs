//! `nereus mib lookup`: from names to OIDs and back.

use std::io::{BufRead as _, BufReader, Read as _};

use clap::Args;
use serde::Serialize;

use super::failure::{self, Failure};
use super::names::{self, NameArgs};
use super::output::{self, Out};
use crate::mib::Mib;

/// The arguments of `nereus mib lookup`.
#[derive(Args)]
pub(super) struct LookupArgs {
    /// A name as `IF-MIB::ifDescr.3` or `linkDown`, an OID as `1.3.6.1.6.3.1.1.5.3`, or `-` for a question
    /// on each line of standard input
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
}

/// The answer to a question that has none.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct NoAnswer<'m> {
    query: &'m str,
    error: String,
    suggestions: Vec<String>,
}

/// Answers the questions in their order.
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
        let answer = ask(&mib, question);
        found_all &= answer.is_ok();
        if args.json {
            print_json(&answer, out)?;
            continue;
        }
        match answer {
            Ok(answer) => {
                let cells = [&*answer.text, &*answer.oid, answer.kind, &*answer.place()].map(output::cell);
                table.add_row(cells);
            }
            Err(none) => failure::error(&output::printable(&none.error)),
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
        let answer = ask(mib, text.trim());
        found_all &= answer.is_ok();
        if json {
            print_json(&answer, out)?;
            continue;
        }
        match answer {
            Ok(answer) => {
                let place = answer.place();
                out.line(&format!("{}  {}  {}  {place}", answer.text, answer.oid, answer.kind))?;
            }
            Err(none) => failure::error(&output::printable(&none.error)),
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

fn ask<'m>(mib: &'m Mib, query: &'m str) -> Result<Answer<'m>, NoAnswer<'m>> {
    let target = mib.resolve(query).map_err(|error| NoAnswer {
        query,
        error: names::explain(mib, query, &error),
        suggestions: names::suggestions(mib, &error),
    })?;
    let Some(node) = target.node.map(|node| mib.node(node)) else {
        let error = format!("{query}: no MIB defines this OID or any OID above it");
        return Err(NoAnswer { query, error, suggestions: Vec::new() });
    };
    let mut text = node.qualified_name();
    mib.write_instance(node.id(), target.instance(), &mut text);
    Ok(Answer {
        query,
        text,
        module: node.module().name(),
        name: node.name(),
        oid: target.oid.to_string(),
        kind: node.kind().name(),
        file: node.file(),
        line: node.line(),
    })
}
