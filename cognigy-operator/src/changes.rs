//! Changes that are under way: each is a task of its own, so that it is made and recorded as a whole.
//!
//! A web framework drops what answers a request when the client hangs up. A change that ended there might be made
//! in part, or be in no record.

use std::sync::Arc;

use tokio::sync::watch;

use crate::problem::Problem;

/// How many changes are under way.
#[derive(Debug, Clone)]
pub(crate) struct Changes(Arc<watch::Sender<usize>>);

impl Default for Changes {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

/// Counts a change until it is dropped.
struct UnderWay(Changes);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

impl Changes {
    /// Makes a change to its end, also if the caller does not wait for it.
    pub(crate) async fn make<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        self.0.send_modify(|count| *count += 1);
        let under_way = UnderWay(self.clone());
        let made = tokio::spawn(async move {
            let _under_way = under_way;
            change.await
        });
        let detail = "The change broke off: look whether it was made";
        made.await.map_err(|_| Problem::new(500, "Internal Server Error", detail))?
    }

    /// Waits until none is under way.
    pub(crate) async fn end(&self) {
        // The sender is held by `self`, so that this cannot fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}
