//! `nereus events`, `alerts`, `status`: what a running Nereus has seen, and how it is.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::Value;

use super::client::AdminArgs;
use super::failure::{Failure, note};
use super::output::{self, Out, brief};
use crate::severity::Severity;

/// The most that the admin API gives at once.
const PAGE: u64 = 10_000;

/// The arguments of `nereus events`.
#[derive(Args)]
pub(super) struct EventsArgs {
    /// Received at or after this time: 2026-01-31T12:00:00Z, or 1h for an hour ago
    #[arg(long, value_name = "TIME", value_parser = super::time::point)]
    since: Option<String>,
    /// Received before this time
    #[arg(long, value_name = "TIME", value_parser = super::time::point)]
    until: Option<String>,
    /// Of this device
    #[arg(long, value_name = "ADDRESS")]
    source: Option<String>,
    /// Of this notification, by name or OID
    #[arg(long, value_name = "NAME-OR-OID")]
    trap: Option<String>,
    /// Of this severity: critical, major, minor, warning, info
    #[arg(long, value_parser = severity)]
    severity: Option<Severity>,
    /// Matched by this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// With a varbind that reads so: ifOperStatus=down. Several must all hold
    #[arg(long = "where", value_name = "NAME=VALUE")]
    conditions: Vec<String>,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// In place of events: what was refused and why. A sample of the newest; the counters know how many there were
    #[arg(long, conflicts_with_all = ["since", "until", "source", "trap", "severity", "rule", "conditions", "all", "csv"])]
    refused: bool,
    /// Every one; with --json or --csv, which print as they read
    #[arg(long, conflicts_with = "limit", requires = "lines")]
    all: bool,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object a line
    #[arg(long, group = "lines")]
    json: bool,
    /// Comma-separated values with a header (RFC 4180)
    #[arg(long, group = "lines")]
    csv: bool,
}

/// The arguments of `nereus alerts`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct AlertsArgs {
    #[command(subcommand)]
    command: Option<AlertsCommand>,
    /// Resolved ones too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// What can be done with alerts.
#[derive(Subcommand)]
enum AlertsCommand {
    /// Say that somebody has taken open alerts: they stay open
    Ack(OperateArgs),
    /// End open alerts; the next event of their kind opens new ones
    Close(OperateArgs),
}

/// The arguments of `nereus alerts ack` and `close`.
#[derive(Args)]
struct OperateArgs {
    /// Numbers of alerts, as `nereus alerts` lists them
    #[arg(required = true, value_name = "ID")]
    alerts: Vec<u64>,
    /// Who asks [default: the variable USER, else cli]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// The arguments of `nereus status`.
#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn severity(text: &str) -> Result<Severity, String> {
    text.parse().map_err(|()| "the severities are critical, major, minor, warning, info".to_owned())
}

/// Prints the events that the filters choose.
///
/// # Errors
/// What the client says.
pub(super) fn events(args: &EventsArgs, out: &mut Out) -> Result<(), Failure> {
    if args.refused {
        return super::refused::refused(args.limit, args.json, &args.admin.client()?, out);
    }
    let filters = [
        ("since", args.since.clone()),
        ("until", args.until.clone()),
        ("source", args.source.clone()),
        ("trap", args.trap.clone()),
        ("severity", args.severity.map(|severity| severity.to_string())),
        ("rule", args.rule.clone()),
    ];
    let conditions = args.conditions.iter().map(|condition| ("where", Some(condition.clone())));
    let filters = filters.into_iter().chain(conditions);
    let filters: Vec<_> = filters.filter_map(|(name, value)| Some((name, value?))).collect();
    let client = args.admin.client()?;
    let mut left = if args.all { u64::MAX } else { args.limit };
    if args.csv {
        out.line(&CSV_COLUMNS.join(","))?;
    }
    let mut older = None;
    let mut reached = u64::MAX;
    let mut table = output::table(&["TIME", "ID", "SOURCE", "NOTIFICATION", "SEVERITY", "ALERT", "VARBINDS"]);
    loop {
        let mut page = filters.clone();
        page.push(("limit", left.min(PAGE).to_string()));
        page.extend(older.take().map(|before| ("before", before)));
        let mut answer = client.get("/api/v1/events", &page)?;
        let events = items(&mut answer, "events")?;
        for event in &events {
            if args.json {
                out.json(event)?;
            } else if args.csv {
                out.line(&csv_row(event))?;
            } else {
                table.add_row(event_row(event));
            }
        }
        if let Some(damaged @ 1..) = answer["damaged"].as_u64() {
            note(&format!("{damaged} events are damaged on disk and left out"));
        }
        left = left.saturating_sub(events.len() as u64);
        // A page may be short, even empty: the server bounds its time, not only its rows. Each reaches further back.
        let next = answer["next"].as_u64().filter(|next| *next < reached);
        reached = next.unwrap_or(0);
        older = next.map(|next| next.to_string());
        if older.is_none() || left == 0 {
            break;
        }
    }
    if !table.is_empty() {
        out.table(&table)?;
    } else if !args.json && !args.csv {
        note("no events");
    }
    if older.is_some() {
        note("there are older ones; --limit asks for more");
    }
    Ok(())
}

fn event_row(event: &Value) -> [Cell; 7] {
    let text = |name| brief(event.get(name));
    let name = if event["trap_name"].is_null() { text("trap_oid") } else { text("trap_name") };
    [
        output::cell(&text("time")),
        output::cell(&text("id")),
        output::cell(&text("source")),
        output::cell(&name),
        output::severity(&text("severity")),
        output::cell(&text("alert")),
        output::cell(&varbinds(&event["varbinds"])),
    ]
}

/// The columns of `--csv`: those of the JSON, with the varbinds as the table shows them.
const CSV_COLUMNS: [&str; 13] = [
    "id",
    "time",
    "generation",
    "source",
    "peer",
    "version",
    "trap_oid",
    "trap_name",
    "rule",
    "severity",
    "alert",
    "alert_id",
    "varbinds",
];

/// One line of RFC 4180. Control characters are written out, so that a record is a line.
fn csv_row(event: &Value) -> String {
    let mut row = String::new();
    for (at, column) in CSV_COLUMNS.into_iter().enumerate() {
        let text = match &event[column] {
            Value::Null => String::new(),
            list @ Value::Array(_) => varbinds(list),
            value => brief(Some(value)),
        };
        let text = output::printable(&text);
        row.push_str(if at > 0 { "," } else { "" });
        if text.contains(['"', ',']) {
            row.push('"');
            row.push_str(&text.replace('"', "\"\""));
            row.push('"');
        } else {
            row.push_str(&text);
        }
    }
    row
}

/// `ifIndex.3=3, ifOperStatus.3=down`
pub(super) fn varbinds(varbinds: &Value) -> String {
    let Value::Array(varbinds) = varbinds else {
        return "-".to_owned();
    };
    let texts = varbinds.iter().map(|varbind| {
        let name = if varbind["name"].is_null() { &varbind["oid"] } else { &varbind["name"] };
        let index = &varbind["index"];
        let dot = if index.is_null() || index == "" { "" } else { "." };
        let index = if dot.is_empty() { String::new() } else { brief(Some(index)) };
        let name = brief(Some(name));
        // The module is the notification's as a rule; it stands in the JSON.
        let name = name.rsplit("::").next().unwrap_or(&name).to_owned();
        let text = if varbind["text"].is_null() { &varbind["value"] } else { &varbind["text"] };
        if dot.is_empty() || name.ends_with(&format!(".{index}")) {
            format!("{name}={}", brief(Some(text)))
        } else {
            format!("{name}.{index}={}", brief(Some(text)))
        }
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// Prints the open alerts, or all.
///
/// # Errors
/// What the client says.
pub(super) fn alerts(args: &AlertsArgs, out: &mut Out) -> Result<(), Failure> {
    match &args.command {
        Some(AlertsCommand::Ack(args)) => operate("ack", args, out),
        Some(AlertsCommand::Close(args)) => operate("close", args, out),
        None => list_alerts(args, out),
    }
}

/// Who asks.
pub(super) fn user(named: Option<&str>) -> String {
    let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    named.map(str::to_owned).or_else(user).unwrap_or_else(|| "cli".to_owned())
}

/// Each alert by a request of its own: one that has ended does not hold the others.
fn operate(deed: &str, args: &OperateArgs, out: &mut Out) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let by = user(args.by.as_deref());
    let mut table = output::table(&["ID", "STATE", "NOTE"]);
    let mut all = true;
    for id in &args.alerts {
        let (done, answer) = client.post(&format!("/api/v1/alerts/{id}/{deed}"), &[("by", by.clone())])?;
        all &= done;
        if args.json {
            out.json(&answer)?;
            continue;
        }
        let remark = match (&answer["error"], &answer["changed"]) {
            (Value::String(error), _) => error.clone(),
            (_, Value::Bool(false)) => "it was before".to_owned(),
            _ => String::new(),
        };
        table.add_row([id.to_string(), brief(answer.get("state")), remark].map(|text| output::cell(&text)));
    }
    if !args.json {
        out.table(&table)?;
    }
    if all { Ok(()) } else { Err(Failure::Bad) }
}

fn list_alerts(args: &AlertsArgs, out: &mut Out) -> Result<(), Failure> {
    let mut filters = vec![("limit", PAGE.to_string())];
    filters.extend(args.all.then(|| ("all", "true".to_owned())));
    let mut answer = args.admin.client()?.get("/api/v1/alerts", &filters)?;
    let alerts = items(&mut answer, "alerts")?;
    if args.json {
        alerts.iter().try_for_each(|alert| out.json(alert))?;
    } else if alerts.is_empty() {
        note("no alerts");
    } else {
        let header =
            ["ID", "SEVERITY", "STATE", "ALERT", "LABELS", "COUNT", "FIRST SEEN", "LAST SEEN", "SUMMARY"];
        let mut table = output::table(&header);
        for alert in &alerts {
            table.add_row(alert_row(alert));
        }
        out.table(&table)?;
    }
    if alerts.len() as u64 == PAGE {
        note(&format!("these are the newest {PAGE}; there may be more"));
    }
    Ok(())
}

fn alert_row(alert: &Value) -> [Cell; 9] {
    let text = |name| brief(alert.get(name));
    let mut labels = alert["labels"].clone();
    if let Value::Object(labels) = &mut labels {
        // These have columns of their own.
        labels.retain(|name, _| name != "alertname" && name != "severity");
    }
    [
        output::cell(&text("id")),
        output::severity(&text("severity")),
        output::cell(&state(alert)),
        output::cell(&text("alert")),
        output::cell(&brief(Some(&labels))),
        output::cell(&text("count")),
        output::cell(&text("first_seen")),
        output::cell(&text("last_seen")),
        output::cell(&brief(alert["annotations"].get("summary"))),
    ]
}

/// The state, with who brought it there.
fn state(alert: &Value) -> String {
    let by = match alert["state"].as_str() {
        Some("acknowledged") => &alert["acknowledged_by"],
        Some("resolved") if alert["closed_by"].is_string() => &alert["closed_by"],
        Some("resolved") => &alert["resolved_by"],
        _ => &Value::Null,
    };
    let mut state = brief(alert.get("state"));
    if let Some(by) = by.as_str() {
        state = format!("{state} by {by}");
    }
    if !alert["flapping_since"].is_null() {
        state += ", flapping";
    }
    if !alert["muted_by"].is_null() {
        state = format!("{state}, muted by {}", brief(alert.get("muted_by")));
    }
    state
}

/// Prints how Nereus is.
///
/// # Errors
/// What the client says.
pub(super) fn status(args: &StatusArgs, out: &mut Out) -> Result<(), Failure> {
    let answer = args.admin.client()?.get("/api/v1/status", &[])?;
    if args.json {
        return out.json(&answer);
    }
    let Value::Object(fields) = answer else {
        return Err(unexpected("status"));
    };
    let mut table = output::table(&["WHAT", "VALUE"]);
    for (name, value) in &fields {
        match value {
            Value::Object(parts) => {
                for (part, value) in parts {
                    table.add_row([
                        output::cell(&format!("{name}.{part}")),
                        output::cell(&brief(Some(value))),
                    ]);
                }
            }
            value => {
                table.add_row([output::cell(name), output::cell(&brief(Some(value)))]);
            }
        }
    }
    out.table(&table)
}

/// The list below `name` of an answer.
pub(super) fn items(answer: &mut Value, name: &str) -> Result<Vec<Value>, Failure> {
    match answer.get_mut(name).map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(unexpected(name)),
    }
}

fn unexpected(what: &str) -> Failure {
    Failure::Unable(format!("the answer holds no {what}; is this a Nereus, and of this version?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn varbinds_read_well() {
        let list = json!([
            {"oid": "1.3.6.1.2.1.2.2.1.8.3", "name": "IF-MIB::ifOperStatus", "index": "3", "value": 2, "text": "down"},
            {"oid": "1.3.6.1.2.1.2.2.1.2.3", "name": "IF-MIB::ifDescr.3", "index": "3", "text": "eth0"},
            {"oid": "1.3.6.1.4.1.5.1", "name": null, "index": null, "value": 7, "text": null},
        ]);
        assert_eq!(varbinds(&list), "ifOperStatus.3=down, ifDescr.3=eth0, 1.3.6.1.4.1.5.1=7");
        assert_eq!(varbinds(&Value::Null), "-");
    }

    #[test]
    fn a_record_is_one_line_of_csv() {
        let event = json!({
            "id": 7, "time": "2026-01-31T12:00:00Z", "generation": 1, "source": "10.0.0.1", "peer": "10.0.0.1:162",
            "version": "v2c", "trap_oid": "1.3.6.1.6.3.1.1.5.3", "trap_name": "IF-MIB::linkDown", "rule": null,
            "severity": "major", "alert": "say \"no\"", "alert_id": null,
            "varbinds": [
                {"oid": "1.3", "name": "IF-MIB::ifDescr", "index": "3", "text": "a\nb"},
                {"oid": "1.3", "name": "IF-MIB::ifIndex", "index": "3", "value": 3, "text": null},
            ],
        });
        assert_eq!(
            csv_row(&event),
            "7,2026-01-31T12:00:00Z,1,10.0.0.1,10.0.0.1:162,v2c,1.3.6.1.6.3.1.1.5.3,IF-MIB::linkDown,,major,\
             \"say \"\"no\"\"\",,\"ifDescr.3=a\\nb, ifIndex.3=3\""
        );
        assert_eq!(csv_row(&event).matches('\n').count(), 0);
    }
}
