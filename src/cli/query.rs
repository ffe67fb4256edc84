//! `nereus events`, `alerts`, `status`: what a running Nereus has seen, and how it is.

use clap::Args;
use serde_json::Value;

use super::client::AdminArgs;
use super::failure::Failure;
use super::output::{self, Out, brief};
use crate::severity::Severity;

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
    /// The newest so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// The arguments of `nereus alerts`.
#[derive(Args)]
pub(super) struct AlertsArgs {
    /// Resolved ones too
    #[arg(long)]
    all: bool,
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

fn severity(text: &str) -> Result<Severity, String> {
    text.parse().map_err(|()| "the severities are critical, major, minor, warning, info".to_owned())
}

/// Prints the events that the filters choose.
///
/// # Errors
/// What the client says.
pub(super) fn events(args: &EventsArgs, out: &mut Out) -> Result<(), Failure> {
    let filters = [
        ("since", args.since.clone()),
        ("until", args.until.clone()),
        ("source", args.source.clone()),
        ("trap", args.trap.clone()),
        ("severity", args.severity.map(|severity| severity.to_string())),
        ("rule", args.rule.clone()),
        ("limit", args.limit.map(|limit| limit.to_string())),
    ];
    let filters: Vec<_> = filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let answer = args.admin.client()?.get("/api/v1/events", &filters)?;
    let header = ["TIME", "ID", "SOURCE", "NOTIFICATION", "SEVERITY", "ALERT", "VARBINDS"];
    list(answer, "events", &header, args.json, out, |event| {
        let text = |name| brief(event.get(name));
        let name = if event["trap_name"].is_null() { text("trap_oid") } else { text("trap_name") };
        vec![
            output::cell(&text("time")),
            output::cell(&text("id")),
            output::cell(&text("source")),
            output::cell(&name),
            output::severity(&text("severity")),
            output::cell(&text("alert")),
            output::cell(&varbinds(&event["varbinds"])),
        ]
    })
}

/// `ifIndex.3=3, ifOperStatus.3=down`
fn varbinds(varbinds: &Value) -> String {
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
    let filters = if args.all { vec![("all", "true".to_owned())] } else { Vec::new() };
    let answer = args.admin.client()?.get("/api/v1/alerts", &filters)?;
    let header = ["ID", "SEVERITY", "STATE", "ALERT", "KEY", "COUNT", "FIRST SEEN", "LAST SEEN", "SUMMARY"];
    list(answer, "alerts", &header, args.json, out, |alert| {
        let text = |name| brief(alert.get(name));
        vec![
            output::cell(&text("id")),
            output::severity(&text("severity")),
            output::cell(&text("state")),
            output::cell(&text("alert")),
            output::cell(&text("key")),
            output::cell(&text("count")),
            output::cell(&text("first_seen")),
            output::cell(&text("last_seen")),
            output::cell(&brief(alert["annotations"].get("summary"))),
        ]
    })
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

/// The items below `name` of an answer: a line each, or a row each.
fn list(
    mut answer: Value,
    name: &str,
    header: &[&str],
    json: bool,
    out: &mut Out,
    row: impl Fn(&Value) -> Vec<comfy_table::Cell>,
) -> Result<(), Failure> {
    let Some(Value::Array(items)) = answer.get_mut(name).map(Value::take) else {
        return Err(unexpected(name));
    };
    if json {
        return items.iter().try_for_each(|item| out.json(item));
    }
    if items.is_empty() {
        super::failure::note(&format!("no {name}"));
        return Ok(());
    }
    let mut table = output::table(header);
    for item in &items {
        table.add_row(row(item));
    }
    out.table(&table)
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
}
