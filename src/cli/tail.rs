//! `nereus tail`: events of a running Nereus as they are stored, oldest first.

use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::AdminArgs;
use super::failure::{Failure, note};
use super::output::{self, Out, brief};
use super::query;

/// Between two questions.
const PACE: Duration = Duration::from_millis(500);
/// The most of one question; of what comes faster, the newest are shown and the rest is said.
const MOST: usize = 2_000;

/// The arguments of `nereus tail`.
#[derive(Args)]
pub(super) struct TailArgs {
    /// Of this device or network
    #[arg(long, value_name = "ADDRESS")]
    source: Option<String>,
    /// Of this notification, by name or OID
    #[arg(long, value_name = "NAME-OR-OID")]
    trap: Option<String>,
    /// Matched by this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// With a varbind that reads so: ifOperStatus=down. Several must all hold
    #[arg(long = "where", value_name = "NAME=VALUE")]
    conditions: Vec<String>,
    /// End after so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Prints events as they are stored, until `--count` of them, a signal, or the reader has enough.
///
/// # Errors
/// What the client says; a Nereus that stops is told so.
pub(super) fn tail(args: &TailArgs, out: &mut Out) -> Result<(), Failure> {
    let filters = [("source", &args.source), ("trap", &args.trap), ("rule", &args.rule)];
    let mut filters: Vec<_> =
        filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    let client = args.admin.client()?;
    // From what is newest now, whatever the filters: the cursor is a number, not a time.
    let mut newest = client.get("/api/v1/events", &[("limit", "1".to_owned())])?;
    let mut seen = query::items(&mut newest, "events")?.first().and_then(number).unwrap_or(0);
    filters.extend(args.conditions.iter().map(|condition| ("where", condition.clone())));
    let mut left = args.count.unwrap_or(u64::MAX);
    loop {
        let (mut events, complete) = since(&client, &filters, seen)?;
        if !complete {
            note("events come faster than they are shown; these are the newest, `nereus events` lists all");
        }
        events.reverse();
        for event in &events {
            seen = seen.max(number(event).unwrap_or(0));
            if args.json {
                out.json(event)?;
            } else {
                out.line(&line(event))?;
            }
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
        out.flush()?;
        thread::sleep(PACE);
    }
}

/// Events behind `seen`, newest first, and whether these are all.
fn since(
    client: &super::client::Client,
    filters: &[(&'static str, String)],
    seen: u64,
) -> Result<(Vec<Value>, bool), Failure> {
    let mut events = Vec::new();
    let mut before = None;
    loop {
        let mut asked = filters.to_vec();
        asked.push(("after", seen.to_string()));
        asked.push(("limit", MOST.saturating_sub(events.len()).to_string()));
        asked.extend(before.map(|before: u64| ("before", before.to_string())));
        let mut answer = client.get("/api/v1/events", &asked)?;
        events.append(&mut query::items(&mut answer, "events")?);
        let next = answer["next"].as_u64().filter(|next| before.is_none_or(|before| *next < before));
        if next.is_none() || events.len() >= MOST {
            return Ok((events, next.is_none()));
        }
        before = next;
    }
}

fn number(event: &Value) -> Option<u64> {
    event["id"].as_u64()
}

fn line(event: &Value) -> String {
    let text = |name| brief(event.get(name));
    let name = if event["trap_name"].is_null() { text("trap_oid") } else { text("trap_name") };
    let parts = [
        text("time"),
        text("id"),
        text("source"),
        name,
        text("severity"),
        text("alert"),
        query::varbinds(&event["varbinds"]),
    ];
    output::printable(&parts.join("  ")).into_owned()
}
