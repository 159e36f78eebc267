//! Connections that are lost at every message of a transaction, the commit's answer included.

use std::time::Duration;

use cognigy_core::{State, TokioClock, Worker};
use cognigy_store_postgres::PostgresStore;

use crate::{
    bank::{Bank, Ear, pipeline, transfers},
    common::{eventually, impatient},
    wire::{Blow, Moment, Wire},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_be_lost_at_every_message() {
    let bank = Bank::open().await;
    let wire = Wire::start(bank.place.cluster.port()).await;
    let store = PostgresStore::open(&wire.url(&bank.place.database)).await.unwrap();
    let mut struck = Vec::new();
    let mut ordered = 0;
    let moments: [fn(u32) -> Moment; 2] = [Moment::Request, Moment::Answer];
    for at in moments {
        for number in 1.. {
            assert!(number < 100, "it comes to an end");
            ordered += 1;
            let id = format!("e{ordered}");
            bank.order(&id).await;
            wire.strike(at(number), Blow::Cut);
            // A new pool each time, so that every message is sent, including those that a session
            // sends only once.
            let ear = Ear::default();
            let pipeline = pipeline(&store, |pipeline| {
                pipeline.settling_handler(transfers(&store)).observer(ear.clone())
            });
            bank.finish_with(pipeline).await;
            assert_eq!((bank.moved(), bank.state(&id).await), (ordered, State::Processed));
            bank.books_are_right();
            let Some(words) = wire.struck() else { break };
            if words == "after COMMIT" {
                assert_eq!(ear.heard(), ["succeeded"], "it was looked up");
            } else {
                assert_eq!(ear.heard(), ["failed_transient", "succeeded"], "{words}");
            }
            struck.push(words);
        }
    }
    for words in ["before COMMIT", "after COMMIT", "before INSERT INTO transfers VALUES ($1,"] {
        assert!(struck.iter().any(|struck| struck == words), "{words} in {struck:#?}");
    }
}

/// The commit was not answered, and for a while no connection can ask about it.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_cannot_be_looked_up_is_a_failure_that_fencing_makes_void() {
    let bank = Bank::open().await;
    let wire = Wire::start(bank.place.cluster.port()).await;
    let url = wire.url(&bank.place.database);
    let store = PostgresStore::open_with(&url, impatient()).await.unwrap();
    let moments: [fn(u32) -> Moment; 2] = [Moment::Request, Moment::Answer];
    for (place, at) in moments.into_iter().enumerate() {
        let id = format!("e{place}");
        // The commit is the last message that is struck.
        let mut commit = 0;
        for number in 1.. {
            wire.strike(at(number), Blow::Cut);
            bank.order(&format!("{id}-{number}")).await;
            bank.finish_with(pipeline(&store, |it| it.settling_handler(transfers(&store)))).await;
            let Some(words) = wire.struck() else { break };
            if words.ends_with("COMMIT") {
                commit = number;
            }
        }
        assert!(commit > 0);
        let before = bank.moved();
        bank.order(&id).await;
        wire.strike(at(commit), Blow::CutAll);
        let ear = Ear::default();
        let pipeline = pipeline(&store, |pipeline| {
            pipeline.settling_handler(transfers(&store)).observer(ear.clone())
        });
        let refused = wire.refused();
        let worker = Worker::spawn(pipeline, TokioClock::new());
        eventually("it is cut off", async || (wire.refused() > refused + 2).then_some(())).await;
        assert!(wire.struck().unwrap().ends_with("COMMIT"), "{:?}", wire.struck());
        tokio::time::sleep(Duration::from_millis(100)).await;
        let has_taken_effect = matches!(at(1), Moment::Answer(_));
        bank.quiet().await;
        assert_eq!(bank.moved(), before + usize::from(has_taken_effect));
        bank.books_are_right();
        wire.mend();
        bank.at_rest().await;
        if has_taken_effect {
            eventually("it is told", async || {
                (ear.heard().last().is_some_and(|word| word == "lease_lost")).then_some(())
            })
            .await;
        }
        worker.shutdown().await;
        assert_eq!((bank.moved(), bank.state(&id).await), (before + 1, State::Processed));
        bank.books_are_right();
    }
}
