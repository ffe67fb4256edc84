//! `nereus tail`: events of a running Nereus as they are stored, oldest first.

use clap::Args;
use serde_json::Value;

use super::client::AdminArgs;
use super::failure::{Failure, note};
use super::output::{self, Out, brief};
use super::query;

/// The arguments of `nereus tail`.
#[derive(Args)]
pub(super) struct TailArgs {
    /// Of this device or network
    #[arg(long, value_name = "ADDRESS")]
    source: Option<String>,
    /// Of this notification, by name or OID
    #[arg(long, value_name = "NAME-OR-OID")]
    trap: Option<String>,
    /// Of this severity
    #[arg(long, value_name = "SEVERITY")]
    severity: Option<String>,
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
    let filters =
        [("source", &args.source), ("trap", &args.trap), ("severity", &args.severity), ("rule", &args.rule)];
    let filters = filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    let conditions = args.conditions.iter().map(|condition| ("where", condition.clone()));
    let filters: Vec<_> = filters.chain(conditions).collect();
    let mut left = args.count.unwrap_or(u64::MAX);
    args.admin.client()?.follow("/api/v1/events/stream", &filters, |event| {
        if let Some(missed) = event.get("missed") {
            note(&format!("{missed} events came faster than they are shown; `nereus events` lists all"));
            if args.json {
                out.json(&event)?;
            }
            return Ok(true);
        }
        if args.json {
            out.json(&event)?;
        } else {
            out.line(&line(&event))?;
        }
        // Whoever reads wants it now.
        out.flush()?;
        left -= 1;
        Ok(left > 0)
    })
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
