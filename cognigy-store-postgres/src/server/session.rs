//! A connection that a handler has used goes back to its pool only when it is known to be in no
//! transaction. Otherwise it is closed, and its running statement is cancelled.

use std::time::Duration;

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::{CancelToken, IsolationLevel, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::PostgresError;

/// A cancel request that takes longer is useless: the server ends the statement itself.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Session {
    connection: Option<Object>,
    cancel: CancelToken,
    tls: MakeRustlsConnect,
    /// The transaction is being committed. A commit is not cancelled: one that waits for a standby
    /// would be committed here and not there.
    is_committing: bool,
}

impl Session {
    pub(crate) fn new(connection: Object, tls: MakeRustlsConnect) -> Self {
        let cancel = connection.cancel_token();
        Self { connection: Some(connection), cancel, tls, is_committing: false }
    }

    /// Begins a transaction. The caller sets the flag before it commits.
    pub(crate) async fn begin(
        &mut self,
        isolation: IsolationLevel,
    ) -> Result<(Transaction<'_>, &mut bool), PostgresError> {
        let connection = self.connection.as_mut().ok_or(PostgresError::Stopped)?;
        let transaction = connection.build_transaction().isolation_level(isolation);
        Ok((transaction.start().await?, &mut self.is_committing))
    }

    /// The server has confirmed the end of the transaction: returns the connection to the pool.
    pub(crate) fn give_back(mut self) {
        drop(self.connection.take());
    }

    /// The same after a failure, unless the server may be the cause: after a failover it may be one
    /// that cannot write any more.
    pub(crate) async fn give_back_if_it_writes(self) {
        let Some(connection) = &self.connection else { return };
        let answer =
            connection.simple_query("SHOW transaction_read_only").await.unwrap_or_default();
        let writes = answer.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0) == Some("off"),
            _ => false,
        });
        if writes {
            self.give_back();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // Taken out of the pool, which closes it. The server rolls the transaction back when it
        // notices, which it does between statements.
        drop(Object::take(connection));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.is_committing {
            let (cancel, tls) = (self.cancel.clone(), self.tls.clone());
            runtime.spawn(async move {
                // If the request does not arrive, the statement's own time limit ends it.
                let _ = tokio::time::timeout(CANCEL_PATIENCE, cancel.cancel_query(tls)).await;
            });
        }
    }
}
