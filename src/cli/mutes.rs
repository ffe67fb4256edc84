//! `nereus mutes`: what a running Nereus keeps quiet.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::AdminArgs;
use super::failure::{Failure, note};
use super::output::{self, Out, brief};
use super::query::{items, severity, user};
use crate::severity::Severity;

/// The arguments of `nereus mutes`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct MutesArgs {
    #[command(subcommand)]
    command: Option<MutesCommand>,
    #[command(flatten)]
    list: ListArgs,
}

/// What can be done with mutes.
#[derive(Subcommand)]
enum MutesCommand {
    /// List mutes
    List(ListArgs),
    /// Mute the alerts that match: webhooks hear nothing of them
    Add(Box<AddArgs>),
    /// End mutes before their time
    End(EndArgs),
}

/// The arguments of `nereus mutes list`.
#[derive(Args)]
struct ListArgs {
    /// Those that are over too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// The arguments of `nereus mutes add`.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("matchers").multiple(true).required(true)
    .args(["rule", "alert", "source", "severity", "label"]))]
#[command(group = clap::ArgGroup::new("end").required(true).args(["until", "lasts"]))]
struct AddArgs {
    /// Alerts of this rule. Of several that stand there one must fit, here as below
    #[arg(long, value_name = "NAME")]
    rule: Vec<String>,
    /// Alerts of this name
    #[arg(long, value_name = "NAME")]
    alert: Vec<String>,
    /// Of this device or network, or of the device with this name
    #[arg(long, value_name = "ADDRESS")]
    source: Vec<String>,
    /// Of this severity: critical, major, minor, warning, info
    #[arg(long, value_parser = severity)]
    severity: Vec<Severity>,
    /// With this label; several must all be there
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// From this time on: 2026-01-31T12:00:00Z, or 1h from now [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Until this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// For so long
    #[arg(long = "for", value_name = "SPAN")]
    lasts: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Who asks [default: the variable USER, else cli]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// The arguments of `nereus mutes end`.
#[derive(Args)]
struct EndArgs {
    /// Numbers of mutes, as `nereus mutes` lists them
    #[arg(required = true, value_name = "ID")]
    mutes: Vec<u64>,
    /// Who asks [default: the variable USER, else cli]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Lists, adds or ends mutes.
///
/// # Errors
/// What the client says; [`Failure::Bad`] where one could not be added or ended.
pub(super) fn mutes(args: &MutesArgs, out: &mut Out) -> Result<(), Failure> {
    match &args.command {
        None => list(&args.list, out),
        Some(MutesCommand::List(args)) => list(args, out),
        Some(MutesCommand::Add(args)) => add(args, out),
        Some(MutesCommand::End(args)) => end(args, out),
    }
}

fn list(args: &ListArgs, out: &mut Out) -> Result<(), Failure> {
    let filters: Vec<_> = args.all.then(|| ("all", "true".to_owned())).into_iter().collect();
    let mut answer = args.admin.client()?.get("/api/v1/mutes", &filters)?;
    let mutes = items(&mut answer, "mutes")?;
    if !args.json && mutes.is_empty() {
        note("no mutes");
        return Ok(());
    }
    show(&mutes, args.json, out)
}

fn add(args: &AddArgs, out: &mut Out) -> Result<(), Failure> {
    let mut query = Vec::new();
    let lists =
        [("rule", &args.rule), ("alert", &args.alert), ("source", &args.source), ("label", &args.label)];
    for (name, values) in lists {
        query.extend(values.iter().map(|value| (name, value.clone())));
    }
    query.extend(args.severity.iter().map(|severity| ("severity", severity.to_string())));
    let single = [
        ("from", args.from.clone()),
        ("until", args.until.clone()),
        ("for", args.lasts.clone()),
        ("comment", args.comment.clone()),
        ("by", Some(user(args.by.as_deref()))),
    ];
    query.extend(single.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let (done, answer) = args.admin.client()?.post("/api/v1/mutes", &query)?;
    if !done {
        super::failure::error(&output::printable(&brief(answer.get("error"))));
        return Err(Failure::Bad);
    }
    show(&[answer], args.json, out)
}

/// Each by a request of its own: one that is over does not hold the others.
fn end(args: &EndArgs, out: &mut Out) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let by = user(args.by.as_deref());
    let mut table = output::table(&["ID", "STATE", "NOTE"]);
    let mut all = true;
    for id in &args.mutes {
        let (done, answer) = client.post(&format!("/api/v1/mutes/{id}/end"), &[("by", by.clone())])?;
        all &= done;
        if args.json {
            out.json(&answer)?;
        } else {
            let remark = answer["error"].as_str().unwrap_or_default().to_owned();
            let state = brief(answer.get("state"));
            table.add_row([id.to_string(), state, remark].map(|text| output::cell(&text)));
        }
    }
    if !args.json {
        out.table(&table)?;
    }
    if all { Ok(()) } else { Err(Failure::Bad) }
}

fn show(mutes: &[Value], json: bool, out: &mut Out) -> Result<(), Failure> {
    if json {
        return mutes.iter().try_for_each(|mute| out.json(mute));
    }
    let mut table = output::table(&["ID", "STATE", "MUTES", "FROM", "UNTIL", "BY", "COMMENT"]);
    for mute in mutes {
        let text = |name| brief(mute.get(name));
        let cells = [
            text("id"),
            text("state"),
            matchers(&mute["matchers"]),
            text("from"),
            text("until"),
            text("by"),
            text("comment"),
        ];
        table.add_row(cells.map(|text| output::cell(&text)));
    }
    out.table(&table)
}

/// `alert=InterfaceDown source=10.0.0.0/8`; alternatives by `|`.
fn matchers(matchers: &Value) -> String {
    let mut parts = Vec::new();
    for name in ["rule", "alert", "source", "severity"] {
        let values = matchers[name].as_array().map(Vec::as_slice).unwrap_or_default();
        if !values.is_empty() {
            let values: Vec<_> = values.iter().map(|value| brief(Some(value))).collect();
            parts.push(format!("{name}={}", values.join("|")));
        }
    }
    for (name, value) in matchers["labels"].as_object().into_iter().flatten() {
        parts.push(format!("{name}={}", brief(Some(value))));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_read_well() {
        let given = serde_json::json!({
            "rule": [], "alert": ["Down", "Up"], "source": ["10.0.0.0/8"], "severity": [], "labels": {"team": "noc"}
        });
        assert_eq!(matchers(&given), "alert=Down|Up source=10.0.0.0/8 team=noc");
    }
}
