//! `nereus explain`: why an event was treated as it was, or what would become of a datagram.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::client::AdminArgs;
use super::failure::{Failure, note};
use super::output::{self, Out, brief};
use super::query;
use crate::pipeline::explain_datagram;
use crate::reload::FirstPlan;
use crate::snapshot::Publisher;

/// The most octets that a running Nereus is asked about: they stand in the request's line.
const MOST_ASKED: usize = 12 << 10;

/// The arguments of `nereus explain`.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["event", "hex"]))]
pub(super) struct ExplainArgs {
    /// An event of a running Nereus, by its number as `nereus events` lists it
    #[arg(value_name = "EVENT-ID")]
    event: Option<u64>,
    /// A datagram in hexadecimal; blanks and colons may stand between the octets
    #[arg(long, value_name = "HEX")]
    hex: Option<String>,
    /// Who is taken to have sent the datagram
    #[arg(long, value_name = "ADDRESS", requires = "hex", default_value = "127.0.0.1")]
    peer: IpAddr,
    /// Ask this configuration in place of a running Nereus
    #[arg(long = "with", value_name = "FILE", requires = "hex", conflicts_with_all = ["admin", "config", "token_file"])]
    with: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Explains an event or a datagram.
///
/// # Errors
/// [`Failure::Bad`] for an event that is not there, or a datagram that would become none; else what the client says.
pub(super) fn explain(args: &ExplainArgs, out: &mut Out) -> Result<(), Failure> {
    let answer = match (&args.hex, args.event) {
        (Some(hex), _) => {
            let octets = octets(hex)?;
            match &args.with {
                Some(path) => offline(path, &octets, args.peer)?,
                None => {
                    if octets.len() > MOST_ASKED {
                        let text = "this datagram is too large to ask a running Nereus; use --with FILE";
                        return Err(Failure::Usage(text.to_owned()));
                    }
                    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
                    let query = [("hex", hex), ("peer", args.peer.to_string())];
                    args.admin.client()?.get("/api/v1/explain", &query)?
                }
            }
        }
        (None, Some(id)) => match args.admin.client()?.find(&format!("/api/v1/events/{id}/explain"))? {
            Ok(answer) => answer,
            Err(refusal) => {
                super::failure::error(&output::printable(&brief(refusal.get("error"))));
                return Err(Failure::Bad);
            }
        },
        // clap wants one of them.
        (None, None) => return Err(Failure::Usage("name an event, or a datagram by --hex".to_owned())),
    };
    if args.json {
        out.json(&answer)?
    } else {
        show(&answer, out)?
    }
    match answer["verdict"].as_str() {
        None | Some("accepted") => Ok(()),
        Some(_) => Err(Failure::Bad),
    }
}

fn octets(hex: &str) -> Result<Vec<u8>, Failure> {
    let wrong = || Failure::Usage("write --hex with two hexadecimal digits for each octet".to_owned());
    let digits: Vec<u8> = hex.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b':').collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || pairs.is_empty() {
        return Err(wrong());
    }
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let octet = |&[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
    pairs.iter().map(octet).collect::<Option<_>>().ok_or_else(wrong)
}

/// Under a configuration file, with its MIB directories.
fn offline(path: &Path, octets: &[u8], peer: IpAddr) -> Result<Value, Failure> {
    let settings = super::run::settings(path)?;
    let (built, _) = FirstPlan::make(Some(path.to_owned()), Vec::new(), settings);
    let first = built.map_err(|problems| {
        super::run::tell(&problems);
        Failure::Undone
    })?;
    let publisher = Publisher::new(first.into_candidate(), 1)
        .map_err(|error| Failure::Unable(format!("no thread: {error}")))?;
    let mut explained = explain_datagram(publisher.current(), octets, SocketAddr::new(peer, 162), None);
    if let Some(rules) = &mut explained.rules {
        crate::reload::locate_rules(path, rules);
    }
    Ok(json!(explained))
}

fn show(answer: &Value, out: &mut Out) -> Result<(), Failure> {
    let mut say = |text: String| out.line(&output::printable(&text));
    let event = &answer["event"];
    if !event.is_null() {
        let name = if event["trap_name"].is_null() { &event["trap_oid"] } else { &event["trap_name"] };
        let [id, time, source] = ["id", "time", "source"].map(|part| brief(event.get(part)));
        say(format!("event {id}: {} from {source} at {time}", brief(Some(name))))?;
        say(format!("  {}", query::varbinds(&event["varbinds"])))?;
        let [generation, with] = ["generation", "explained_with"].map(|part| brief(answer.get(part)));
        say(format!("decided on by generation {generation}; this is what generation {with} says"))?;
    }
    for step in list(&answer["steps"]) {
        say(format!("- {}", brief(Some(step))))?;
    }
    for remark in list(&answer["notes"]) {
        note(&brief(Some(remark)));
    }
    let rules = &answer["rules"];
    for (heading, part) in [("clears", "clears"), ("rules that name it", "rules")] {
        let rows = list(&rules[part]);
        if rows.is_empty() {
            continue;
        }
        say(format!("{heading}:"))?;
        for row in rows {
            let mut line = format!("  {}. {}", brief(row.get("place")), brief(row.get("rule")));
            if let Some(place) = row["defined"].as_str() {
                line += &format!(" ({place})");
            } else if row["builtin"] == true {
                line += " (built in)";
            }
            line += &format!(": {}", brief(row.get("outcome")).replace('_', " "));
            if let Some(why) = row["why"].as_str() {
                line += &format!(", {why}");
            }
            say(line)?;
        }
    }
    if let Some(others @ 1..) = rules["others"].as_u64() {
        say(format!("  {others} rules name other notifications"))?;
    }
    for effect in list(&rules["effects"]) {
        let key = list(&effect["key"]).iter().map(|part| brief(Some(part))).collect::<Vec<_>>().join(" ");
        let severity =
            effect["severity"].as_str().map(|severity| format!(" as {severity}")).unwrap_or_default();
        let [does, rule] = ["does", "rule"].map(|part| brief(effect.get(part)));
        say(format!("effect: {does}{severity}, by {rule}: {key}").trim_end_matches([' ', ':']).to_owned())?;
        let webhooks = list(&effect["webhooks"]).iter();
        let webhooks: Vec<_> = webhooks
            .map(|webhook| format!("{} ({})", brief(webhook.get("name")), brief(webhook.get("told"))))
            .collect();
        if !webhooks.is_empty() {
            say(format!("  told to {}", webhooks.join(", ")))?;
        }
    }
    if let Some(decision) = rules["decision"].as_str() {
        say(format!("decision: {decision}"))?;
    }
    let alert = &answer["alert"];
    if !alert.is_null() {
        let [id, state] = ["id", "state"].map(|part| brief(alert.get(part)));
        let muted = if alert["muted_by"].is_null() { "" } else { ", muted" };
        say(format!("alert {id} is {state} now{muted}"))?;
    }
    if let Some(verdict) = answer["verdict"].as_str() {
        say(format!("verdict: {verdict}"))?;
    }
    let definitions = list(&rules["definitions"]);
    if !definitions.is_empty() {
        let mut table = output::table(&["NAME", "OID", "DEFINED"]);
        for own in definitions {
            let [name, oid, file, line] = ["name", "oid", "file", "line"].map(|part| brief(own.get(part)));
            let place = if line == "0" { file } else { format!("{file}:{line}") };
            table.add_row([name, oid, place].map(|text| output::cell(&text)));
        }
        out.table(&table)?;
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_of_a_dump() {
        assert_eq!(octets("30 2c:02\n01").unwrap(), [0x30, 0x2c, 2, 1]);
        for wrong in ["", "3", "30 2", "3x"] {
            assert!(matches!(octets(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
