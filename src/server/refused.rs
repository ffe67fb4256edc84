//! What was refused, in the log: a line a reason with an example, at most one in so long. Off the way of a trap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::metrics::Metrics;
use crate::pipeline::{Refusal, Refusals};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(5);

/// Looks for refusals until the runtime ends.
pub(super) fn watch(runtime: &Runtime, refusals: Arc<Refusals>, metrics: Arc<Metrics>) {
    runtime.spawn(async move {
        let mut told = 0;
        let mut counted: BTreeMap<&'static str, u64> = BTreeMap::new();
        loop {
            tokio::time::sleep(PERIOD).await;
            let new = refusals.since(told);
            let Some(last) = new.last() else { continue };
            told = last.number;
            // The newest of each reason is the example.
            let examples: BTreeMap<&'static str, &Refusal> =
                new.iter().map(|refusal| (refusal.reason.as_str(), refusal)).collect();
            for (reason, example) in examples {
                let total = metrics.traps_dropped.with_label_values(&[reason]).get();
                let refused = total - counted.insert(reason, total).unwrap_or(0);
                tell(reason, refused, example);
            }
        }
    });
}

fn tell(reason: &str, refused: u64, example: &Refusal) {
    let (peer, listener) = (example.peer, example.listener);
    match &example.claimed {
        Some(claimed) => {
            let engine = claimed.engine_id.map(|id| id.to_string()).unwrap_or_default();
            tracing::warn!(
                component = "listener", reason, refused, %peer, %listener, user = claimed.user, engine_id = engine,
                level = claimed.level.as_str(), "Messages were refused; the last one is shown"
            );
        }
        None => tracing::warn!(
            component = "listener", reason, refused, %peer, %listener,
            "Messages were refused; the last one is shown"
        ),
    }
}
