//! `nereus webhooks` and `nereus dead-letters`: how the webhooks are, and what they refused.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{AdminArgs, Client};
use super::failure::{Failure, error};
use super::output::{self, Out, brief};
use super::query::items;

/// The most that the admin API gives or takes at once.
const PAGE: u64 = 10_000;

/// The arguments of `nereus webhooks`.
#[derive(Args)]
pub(super) struct WebhooksArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// The arguments of `nereus dead-letters`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    command: Option<DeadLettersCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Subcommand)]
enum DeadLettersCommand {
    /// List them, the newest first
    List(ListArgs),
    /// Show one as it was posted
    Show(ShowArgs),
    /// Queue them again, behind what waits for their webhook
    Resend(ActArgs),
    /// Forget them
    Purge(ActArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Of this webhook
    #[arg(long, value_name = "NAME")]
    webhook: Option<String>,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ShowArgs {
    /// Its number, as `nereus dead-letters` lists it
    id: u64,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(id = "which", required = true, multiple = true)]
struct Which {
    /// Numbers, as `nereus dead-letters` lists them
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    /// All of this webhook
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    webhook: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["ids", "webhook"])]
    all: bool,
}

#[derive(Args)]
struct ActArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Lists the webhooks with their endpoints.
///
/// # Errors
/// What the client says.
pub(super) fn webhooks(args: &WebhooksArgs, out: &mut Out) -> Result<(), Failure> {
    let mut answer = args.admin.client()?.get("/api/v1/webhooks", &[])?;
    let webhooks = items(&mut answer, "webhooks")?;
    if args.json {
        return webhooks.iter().try_for_each(|webhook| out.json(webhook));
    }
    let mut table = output::table(&[
        "WEBHOOK",
        "FORMAT",
        "QUEUED",
        "OLDEST",
        "DEAD",
        "ENDPOINT",
        "BREAKER",
        "NEXT",
        "LAST SUCCESS",
        "LAST ERROR",
    ]);
    for webhook in &webhooks {
        let cell = |name: &str| output::cell(&brief(webhook.get(name)));
        for endpoint in webhook.get("endpoints").and_then(Value::as_array).into_iter().flatten() {
            let of = |name: &str| output::cell(&brief(endpoint.get(name)));
            table.add_row([
                cell("name"),
                cell("format"),
                cell("queued"),
                cell("oldest"),
                cell("dead_letters"),
                of("url"),
                of("breaker"),
                of("next_attempt"),
                of("last_success"),
                of("last_error"),
            ]);
        }
    }
    out.table(&table)
}

/// Lists, shows, resends or purges dead letters.
///
/// # Errors
/// What the client says; [`Failure::Bad`] where Nereus refused, and the reason has been said.
pub(super) fn dead_letters(args: &DeadLettersArgs, out: &mut Out) -> Result<(), Failure> {
    match &args.command {
        None => list(&args.list, out),
        Some(DeadLettersCommand::List(args)) => list(args, out),
        Some(DeadLettersCommand::Show(args)) => show(args, out),
        Some(DeadLettersCommand::Resend(args)) => act(args, "resend", out),
        Some(DeadLettersCommand::Purge(args)) => act(args, "purge", out),
    }
}

fn list(args: &ListArgs, out: &mut Out) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let mut table = output::table(&["ID", "TIME", "WEBHOOK", "ALERT", "STATE", "KEY", "REASON"]);
    let mut left = args.limit;
    let mut before = None;
    loop {
        let mut query = vec![("limit", left.min(PAGE).to_string())];
        query.extend(args.webhook.clone().map(|webhook| ("webhook", webhook)));
        query.extend(before.take().map(|before: u64| ("before", before.to_string())));
        let mut answer = client.get("/api/v1/dead-letters", &query)?;
        let letters = items(&mut answer, "dead_letters")?;
        for letter in &letters {
            if args.json {
                out.json(letter)?;
                continue;
            }
            let cell = |name: &str| output::cell(&brief(letter.get(name)));
            let of = |name: &str| output::cell(&brief(letter.pointer(&format!("/alert/{name}"))));
            table.add_row([
                cell("id"),
                cell("time"),
                cell("webhook"),
                of("alert"),
                of("state"),
                of("key"),
                cell("reason"),
            ]);
        }
        left = left.saturating_sub(letters.len() as u64);
        before = answer.get("next").and_then(Value::as_u64);
        if left == 0 || before.is_none() {
            break;
        }
    }
    if args.json { Ok(()) } else { out.table(&table) }
}

fn show(args: &ShowArgs, out: &mut Out) -> Result<(), Failure> {
    let letter = args.admin.client()?.get(&format!("/api/v1/dead-letters/{}", args.id), &[])?;
    if args.json {
        return out.json(&letter);
    }
    let mut table = output::table(&["WHAT", "VALUE"]);
    for name in ["id", "webhook", "time", "reason"] {
        table.add_row([output::cell(name), output::cell(&brief(letter.get(name)))]);
    }
    for (name, value) in letter.get("alert").and_then(Value::as_object).into_iter().flatten() {
        let text = match value {
            Value::Object(parts) => {
                let parts: Vec<_> =
                    parts.iter().map(|(name, value)| format!("{name}={}", brief(Some(value)))).collect();
                parts.join("\n")
            }
            value => brief(Some(value)).to_string(),
        };
        table.add_row([output::cell(&format!("alert.{name}")), output::cell(&text)]);
    }
    out.table(&table)
}

fn act(args: &ActArgs, deed: &str, out: &mut Out) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let mut done = 0;
    let chunks: Vec<Vec<(&str, String)>> = if args.which.ids.is_empty() {
        vec![match &args.which.webhook {
            Some(webhook) => vec![("webhook", webhook.clone())],
            None => vec![("all", "true".to_owned())],
        }]
    } else {
        let text = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        args.which.ids.chunks(1000).map(|ids| vec![("id", text(ids))]).collect()
    };
    for query in chunks {
        match act_once(&client, deed, &query)? {
            Ok(number) => done += number,
            Err(refusal) => {
                error(&refusal);
                return Err(Failure::Bad);
            }
        }
    }
    if args.json {
        out.json(&serde_json::json!({ "done": done }))?;
    } else {
        let what = if deed == "resend" { "queued again" } else { "purged" };
        out.line(&format!("{done} dead letters {what}"))?;
    }
    Ok(())
}

/// One request after another until nothing is left; the inner error is Nereus' refusal.
fn act_once(client: &Client, deed: &str, query: &[(&str, String)]) -> Result<Result<u64, String>, Failure> {
    let mut sum = 0;
    loop {
        let (accepted, answer) = client.post(&format!("/api/v1/dead-letters/{deed}"), query)?;
        if !accepted {
            let why = answer.get("error").and_then(Value::as_str).unwrap_or("it was refused");
            return Ok(Err(why.to_owned()));
        }
        let done = answer.get("done").and_then(Value::as_u64).unwrap_or(0);
        sum += done;
        if done == 0 || answer.get("more") != Some(&Value::Bool(true)) {
            return Ok(Ok(sum));
        }
    }
}
