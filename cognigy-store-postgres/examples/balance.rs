//! Moves money between accounts that are kept in the same database as the events, exactly once for
//! each event:
//!
//! ```sh
//! DATABASE_URL=postgres://user@host/database \
//!     cargo run -p cognigy-store-postgres --example balance
//! ```
//!
//! It wants a database of its own, makes the tables `accounts` and `transfers` beside the events',
//! takes in a few signed orders, one of them twice and one that asks for more than there is, and
//! shows how the accounts stand. The tests kill it everywhere (`tests/transactional`).

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use cognigy_core::{
    Clock, Contact, Event, Pipeline, RawDelivery, Secret, SignatureScheme, SignatureVerifier,
    State, TokioClock, Worker, sign,
};
use cognigy_store_postgres::{
    GenericClient, PostgresStore, Rollback, Transaction, TransactionalHandler,
    tokio_postgres::{self, NoTls},
};

/// The user's own tables. Nothing in `transfers` keeps an event from being entered twice.
pub(crate) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS accounts (
    name text PRIMARY KEY,
    cents bigint NOT NULL CHECK (cents >= 0)
);
CREATE TABLE IF NOT EXISTS transfers (
    event_id text NOT NULL,
    run integer NOT NULL,
    payer text NOT NULL REFERENCES accounts (name),
    payee text NOT NULL REFERENCES accounts (name),
    cents bigint NOT NULL
)";

/// What an event asks for, in its payload.
#[derive(serde::Deserialize)]
pub(crate) struct Order {
    pub(crate) payer: String,
    pub(crate) payee: String,
    pub(crate) cents: i64,
}

/// Carries out orders.
pub(crate) struct Transfers;

#[async_trait]
impl TransactionalHandler for Transfers {
    async fn handle(
        &self,
        transaction: &mut Transaction<'_>,
        event: Arc<Event>,
        _contact: Option<Contact>,
    ) -> Result<(), Rollback> {
        let order = event.payload::<Order>();
        let order = order.map_err(|_| Rollback::permanent("the payload is not an order"))?;
        carry_out(transaction, &event, &order).await
    }
}

/// Moves the amount and enters the transfer.
pub(crate) async fn carry_out(
    transaction: &impl GenericClient,
    event: &Event,
    Order { payer, payee, cents }: &Order,
) -> Result<(), Rollback> {
    // Locked in the order of names, so that two transfers in opposite directions do not deadlock.
    let lock = transaction
        .prepare_cached(
            "SELECT name, cents FROM accounts WHERE name IN ($1, $2) ORDER BY name FOR UPDATE",
        )
        .await?;
    let accounts = transaction.query(&lock, &[payer, payee]).await?;
    let balance = |name: &str| {
        let account = accounts.iter().find(|account| account.get::<_, &str>("name") == name);
        account.map(|account| account.get::<_, i64>("cents"))
    };
    match (balance(payer), balance(payee)) {
        (Some(balance), Some(_)) if *cents > 0 && balance >= *cents => {}
        (Some(_), Some(_)) => return Err(Rollback::permanent("the balance does not suffice")),
        _ => return Err(Rollback::permanent("there is no such account")),
    }
    let change = transaction
        .prepare_cached("UPDATE accounts SET cents = cents + $2 WHERE name = $1")
        .await?;
    transaction.execute(&change, &[payer, &-cents]).await?;
    transaction.execute(&change, &[payee, cents]).await?;
    let enter =
        transaction.prepare_cached("INSERT INTO transfers VALUES ($1, $2, $3, $4, $5)").await?;
    let run = i32::try_from(event.run()).unwrap_or(i32::MAX);
    transaction.execute(&enter, &[&event.id(), &run, payer, payee, cents]).await?;
    Ok(())
}

/// An order as a sender would post it.
pub(crate) fn order(id: &str, payer: &str, payee: &str, cents: i64) -> String {
    let body = serde_json::json!({
        "eventId": id,
        "timestamp": "2026-03-01T12:00:00Z",
        "type": "USER_INPUT_RECEIVED",
        "payload": { "input": "pay", "payer": payer, "payee": payee, "cents": cents },
    });
    body.to_string()
}

/// Takes in orders, carries them out, and tells how the accounts stand.
pub(crate) async fn run(url: &str) -> Result<Vec<(String, i64)>, Box<dyn Error + Send + Sync>> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute(TABLES).await?;
    let open = "INSERT INTO accounts VALUES ('ada', 10000), ('bob', 10000)
                ON CONFLICT (name) DO UPDATE SET cents = 10000";
    client.batch_execute(open).await?;

    let secret = Secret::new("a secret of thirty-two characters")?;
    let store = PostgresStore::open(url).await?;
    let transfers = store.transactional(Transfers)?;
    let pipeline = Pipeline::builder(SignatureVerifier::new(&secret))
        .store(store)
        .settling_handler(transfers)
        .build()?;
    let clock = TokioClock::new();
    let worker = Worker::spawn(pipeline.clone(), clock);

    // Ids of their own for each time this is run: events are remembered.
    let now = clock.now().timestamp_micros();
    let orders =
        [("1", "ada", "bob", 2500), ("2", "bob", "ada", 500), ("3", "ada", "bob", 999_999)];
    for (id, payer, payee, cents) in orders.into_iter().chain([orders[0]]) {
        let id = format!("{now}-{id}");
        let body = order(&id, payer, payee, cents);
        let signature = sign(&secret, SignatureScheme::Base64, body.as_bytes());
        let headers = [("X-Cognigy-Signature", signature.as_str())];
        let reply = pipeline.ingest(RawDelivery::new(headers, body), clock.now()).await;
        println!("order {id}: {} {}", reply.status(), String::from_utf8_lossy(reply.body()));
    }
    loop {
        let counts = pipeline.store().counts().await?;
        let left = State::ALL.into_iter().filter(|state| !state.is_final());
        if left.map(|state| counts.of(state)).sum::<u64>() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.shutdown().await;

    let rows = client.query("SELECT name, cents FROM accounts ORDER BY name", &[]).await?;
    drop(client);
    connection.await??;
    Ok(rows.iter().map(|row| (row.get("name"), row.get("cents"))).collect())
}

#[tokio::main]
#[allow(dead_code)]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let url = std::env::var("DATABASE_URL")
        .map_err(|_| "DATABASE_URL is not set: postgres://user@host/database")?;
    for (name, cents) in run(&url).await? {
        println!("{name}: {}.{:02}", cents / 100, cents % 100);
    }
    Ok(())
}
