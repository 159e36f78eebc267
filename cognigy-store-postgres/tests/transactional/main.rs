//! Effects in the events' own database happen exactly once, wherever the transaction is killed,
//! dropped, cut off or refused. The tests use the handler of `examples/balance.rs`, as users would
//! write it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../examples/balance.rs"]
mod balance;
mod bank;
#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod drops;
mod endings;
mod failover;
mod kills;
mod leases;
mod order;
mod wire;

use common::Place;

#[tokio::test(flavor = "multi_thread")]
async fn the_example_runs_and_runs_again() {
    let place = Place::new();
    let expected = [("ada".to_owned(), 8000), ("bob".to_owned(), 12000)];
    for time in 1..=2 {
        assert_eq!(balance::run(&place.url()).await.unwrap(), expected);
        let ended = "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state)
                     FROM (SELECT state, count(*) AS n FROM cognigy_events GROUP BY state) AS s";
        assert_eq!(place.sql(ended), format!("dead_lettered {time}, processed {}", 2 * time));
        assert_eq!(place.sql("SELECT count(*) FROM transfers"), (2 * time).to_string());
    }
}
