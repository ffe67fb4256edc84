//! `nereus events --refused`: a sample of what became no event, and why.

use serde_json::Value;

use super::client::Client;
use super::failure::{Failure, note};
use super::output::{self, Out, brief};
use super::query::items;

/// Prints the newest `limit` of what is held.
///
/// # Errors
/// What the client says.
pub(super) fn refused(limit: u64, json: bool, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let mut answer = client.get("/api/v1/refused", &[("limit", limit.to_string())])?;
    let refused = items(&mut answer, "refused")?;
    if json {
        return refused.iter().try_for_each(|refusal| out.json(refusal));
    }
    if refused.is_empty() {
        note("nothing was refused since the start");
        return Ok(());
    }
    let mut table = output::table(&["TIME", "PEER", "REASON", "VERSION", "USER", "ENGINE ID", "LEVEL"]);
    for refusal in &refused {
        let columns = ["time", "peer", "reason", "version", "user", "engine_id", "level"];
        table.add_row(
            columns.map(|column| output::cell(&brief(refusal.get(column).filter(|v| **v != Value::Null)))),
        );
    }
    out.table(&table)
}
