//! Waits until a server has carried out a bulk replay, and shows how far it has come.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{Progress, interrupt::Interrupt, operator_api::OperatorApi};
use crate::error::StartError;

/// How often the server is asked how far it has come.
const INTERVAL: Duration = Duration::from_millis(500);

/// Follows the replay `id` to its end, and yields how it ended. An interrupt leaves it to the server.
pub(super) async fn follow(
    server: &OperatorApi,
    id: &str,
    interrupt: &Interrupt,
) -> Result<Value, StartError> {
    let progress = Progress::new();
    loop {
        let now: Option<Value> = server.get(&["admin", "replays", id], &BTreeMap::new()).await?;
        let now = server.known(now.unwrap_or_default(), "state")?;
        if now["state"] != "running" {
            return Ok(now);
        }
        let number = |name: &str| now[name].as_u64().unwrap_or_default();
        progress.count(number("done"), number("total"), "");
        if interrupt.is_requested() {
            drop(progress);
            let left = format!(
                "the server goes on with replay {id}: replays show {id} tells how far it is, and replays \
                 cancel {id} ends it"
            );
            return Err(StartError::Interrupted(left));
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = interrupt.requested() => {}
        }
    }
}
