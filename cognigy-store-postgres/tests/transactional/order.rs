//! Handlers' transactions where the order of contacts is kept: the end of one event makes the next
//! one due in the same commit.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use cognigy_core::{AfterDeadLetter, Contact, Event, EventOrder, EventStore, testing::sample};
use cognigy_store_postgres::{PostgresOptions, Rollback, Transaction, TransactionalHandler};

use crate::{
    bank::{self, Bank},
    common::{Place, now},
};

/// Writes down which event runs. The first attempt at each event fails after that.
#[derive(Default)]
struct Turns(AtomicU32);

#[async_trait]
impl TransactionalHandler for Turns {
    async fn handle(
        &self,
        transaction: &mut Transaction<'_>,
        event: Arc<Event>,
        _contact: Option<Contact>,
    ) -> Result<(), Rollback> {
        let (contact, id) = (event.contact_key().unwrap().to_owned(), event.id().to_owned());
        let sql = "INSERT INTO turns (contact, event_id) VALUES ($1, $2)";
        transaction.execute(sql, &[&contact, &id]).await?;
        if self.0.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(Rollback::transient("not yet"));
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_s_transactions_are_committed_in_its_order() {
    let place = Place::new();
    let order = EventOrder::PerContact(AfterDeadLetter::Continue);
    let options = PostgresOptions { order: Some(order), ..PostgresOptions::default() };
    let store = place.open_with(options).await;
    let bank = Bank::found(place, store);
    bank.place.sql(
        "CREATE TABLE turns (turn bigint GENERATED ALWAYS AS IDENTITY, contact text, event_id text)",
    );
    for number in 1..=10 {
        for contact in ["ann", "bob"] {
            let body = sample::body_from(contact, &format!("{contact}{number}"));
            bank.store.record(sample::incoming(body), now()).await.unwrap();
        }
    }
    let waiting = "SELECT count(*) FROM cognigy_queue WHERE due_at IS NULL";
    assert_eq!(bank.place.sql(waiting), "18", "one of each contact is due");

    let handler = bank.store.transactional(Turns::default()).unwrap();
    bank.finish_with(bank::pipeline(&bank.store, |one| one.settling_handler(handler))).await;
    for contact in ["ann", "bob"] {
        let turns = format!(
            "SELECT string_agg(event_id, ' ' ORDER BY turn) FROM turns WHERE contact = '{contact}'"
        );
        let all: Vec<_> = (1..=10).map(|number| format!("{contact}{number}")).collect();
        assert_eq!(bank.place.sql(&turns), all.join(" "));
    }
    assert_eq!(
        bank.place.sql("SELECT count(*) FROM cognigy_lanes"),
        "0",
        "no contact queue is left behind"
    );
}
