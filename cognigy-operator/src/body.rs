//! Reading the bodies of operators' requests: how long one may take, and how long it may be.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::sync::Semaphore;

use crate::{problem::Problem, selection::MAX_SELECTION};

/// A body has to be complete within this time, as that of a delivery.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long all bodies together may become that are not complete and are waited for, in KiB.
const UNFINISHED: usize = 16 * 1024;

/// A shorter body counts as so many KiB: at most 64 are waited for at once. Each holds a connection, which deliveries
/// need.
const SHORTEST: u32 = 256;

/// Reads the bodies of requests, each within 10 s. At most 64 that are not complete are waited for at once, and as
/// many as fit into 16 MiB by the longest length of their routes. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(UNFINISHED)))
    }
}

impl Bodies {
    /// Reads the whole body, whose head `announced` that many bytes, of at most `limit`.
    ///
    /// # Errors
    ///
    /// 413: it is longer. 408: it did not come in time. 503: too many others are waited for. 400: it broke off.
    pub async fn read<E>(
        &self,
        body: impl Stream<Item = Result<Bytes, E>>,
        announced: Option<usize>,
        limit: usize,
    ) -> Result<Bytes, Problem> {
        if announced.is_some_and(|length| length > limit) {
            return Err(too_long(limit));
        }
        let mut read = pin!(collect(body, limit));
        // Most bodies arrive with their heads and need no wait.
        if let Some(read) = read.as_mut().now_or_never() {
            return read;
        }
        let room = u32::try_from(limit / 1024).unwrap_or(u32::MAX).max(SHORTEST);
        let Ok(_room) = self.0.try_acquire_many(room) else {
            let detail = "Too many bodies are waited for: send the body together with its head";
            return Err(Problem::unavailable(detail));
        };
        let timed_out = |_| Problem::timed_out("The body was not complete within 10 s");
        tokio::time::timeout(DEADLINE, read).await.map_err(timed_out)?
    }
}

async fn collect<E>(
    body: impl Stream<Item = Result<Bytes, E>>,
    limit: usize,
) -> Result<Bytes, Problem> {
    let mut body = pin!(body);
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| Problem::bad_request("The body cannot be read"))?;
        // Counted as it arrives: a chunked body has no announced length.
        if whole.len() + chunk.len() > limit {
            return Err(too_long(limit));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The refusal of a body of more than `limit` bytes.
fn too_long(limit: usize) -> Problem {
    let may_be_shorter = limit == MAX_SELECTION;
    let hint = if may_be_shorter { "; a selection may be a filter" } else { "" };
    let detail = format!("The body is longer than {limit} bytes{hint}");
    Problem::new(413, "Content Too Large", &detail)
}
