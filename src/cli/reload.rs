//! `nereus reload`, `rollback`, `generations`: changes of a running Nereus.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::client::AdminArgs;
use super::failure::Failure;
use super::output::{self, Out, brief, printable};
use crate::reload::ReloadType;

/// Who asks, in the event and the log.
const SOURCE: &str = "cli";

/// The arguments of `nereus reload`.
#[derive(Args)]
pub(super) struct ReloadArgs {
    /// What to reload: config, mib, webhook or all
    #[arg(long = "type", value_name = "TYPE", default_value = "all", value_parser = str::parse::<ReloadType>)]
    kind: ReloadType,
    /// Without the guard
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    admin: AdminArgs,
    /// The whole event as JSON
    #[arg(long)]
    json: bool,
}

/// The arguments of `nereus rollback`.
#[derive(Args)]
pub(super) struct RollbackArgs {
    /// The generation whose parts to publish again; without it the one before the current
    generation: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
    /// The whole event as JSON
    #[arg(long)]
    json: bool,
}

/// The arguments of `nereus generations`.
#[derive(Args)]
pub(super) struct GenerationsArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Asks for a reload and shows its outcome; exit code 1 for a rejected one.
///
/// # Errors
/// [`Failure::Unable`] where Nereus cannot be asked.
pub(super) fn reload(args: &ReloadArgs, out: &mut Out) -> Result<ExitCode, Failure> {
    let mut query = vec![("type", args.kind.to_string()), ("source", SOURCE.to_owned())];
    if args.force {
        query.push(("force", "true".to_owned()));
    }
    let answer = args.admin.client()?.post("/debug/reload/trigger", &query)?;
    show(&answer, args.json, out)
}

/// Asks for a rollback and shows its outcome; exit code 1 for a rejected one.
///
/// # Errors
/// [`Failure::Unable`] where Nereus cannot be asked.
pub(super) fn rollback(args: &RollbackArgs, out: &mut Out) -> Result<ExitCode, Failure> {
    let mut query = vec![("source", SOURCE.to_owned())];
    query.extend(args.generation.map(|generation| ("generation", generation.to_string())));
    let answer = args.admin.client()?.post("/debug/reload/rollback", &query)?;
    show(&answer, args.json, out)
}

fn show((done, event): &(bool, Value), json: bool, out: &mut Out) -> Result<ExitCode, Failure> {
    let code = ExitCode::from(u8::from(!done));
    if json {
        out.json(event)?;
        return Ok(code);
    }
    let text = |name: &str| brief(event.get(name));
    let list = |name: &str| -> Vec<String> {
        let items = event.get(name).and_then(Value::as_array).into_iter().flatten();
        items.map(|item| printable(&brief(Some(item))).into_owned()).collect()
    };
    let head = match event.get("outcome").and_then(Value::as_str) {
        Some("published") => format!(
            "generation {} is in force (before: {}), after {}",
            text("generation"),
            text("previous_generation"),
            text("duration")
        ),
        Some("unchanged") => format!("nothing has changed: generation {} goes on", text("generation")),
        _ => format!("rejected: {}\ngeneration {} goes on", printable(&text("error")), text("generation")),
    };
    out.line(&head)?;
    for (name, title) in
        [("changes", "changed"), ("components", "followed"), ("pending", "pending, not asked for")]
    {
        let items = list(name);
        if !items.is_empty() {
            out.line(&format!("{title}: {}", items.join(", ")))?;
        }
    }
    if let Some(receipt) = event.get("receipt").filter(|receipt| receipt.is_object()) {
        let number = |name: &str| brief(receipt.get(name));
        out.line(&format!(
            "traps meanwhile: {}, dropped by the kernel: {}",
            number("traps_during_reload"),
            number("kernel_drops")
        ))?;
    }
    for problem in event.get("diagnostics").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| brief(problem.get(name));
        let place = problem.get("place").filter(|place| place.is_object()).map(|place| {
            let part = |name: &str| brief(place.get(name));
            format!("{}:{}:{}: ", part("file"), part("line"), part("column"))
        });
        let line =
            format!("{}{}[{}]: {}", place.unwrap_or_default(), part("level"), part("code"), part("message"));
        out.line(&printable(&line))?;
    }
    Ok(code)
}

/// Lists the generations that can be rolled back to.
///
/// # Errors
/// [`Failure::Unable`] where Nereus cannot be asked.
pub(super) fn generations(args: &GenerationsArgs, out: &mut Out) -> Result<(), Failure> {
    let answer = args.admin.client()?.get("/debug/reload/generations", &[])?;
    let generations = answer.get("generations").and_then(Value::as_array).cloned().unwrap_or_default();
    if args.json {
        return generations.iter().try_for_each(|generation| out.json(generation));
    }
    let mut table = output::table(&[
        "GENERATION",
        "IN FORCE",
        "PUBLISHED",
        "BY",
        "TRAPS",
        "RULES",
        "WEBHOOKS",
        "MIB NODES",
    ]);
    for generation in &generations {
        let text = |name: &str| brief(generation.get(name));
        let current = generation.get("current").and_then(Value::as_bool) == Some(true);
        table.add_row([
            output::cell(&text("generation")),
            output::cell(if current { "yes" } else { "" }),
            output::cell(&text("published")),
            output::cell(&format!("{} {}", text("type"), text("source"))),
            output::cell(&text("traps")),
            output::cell(&text("rules")),
            output::cell(&text("webhooks")),
            output::cell(&text("mib_nodes")),
        ]);
    }
    out.table(&table)
}
