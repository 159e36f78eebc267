//! Several servers start at the same moment on a database that does not exist yet. Each of them
//! serves, or says why it does not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use cognigy_test_postgres::Cluster;
use common::Site;

/// The number of rounds on each store; `ROUNDS=50` for the long form.
fn rounds() -> usize {
    std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4)
}

const SERVERS: usize = 4;

/// What a server wrote until it listened or ended.
fn story(child: &mut Child) -> (bool, String) {
    let mut story = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        story.push_str(&line);
        story.push('\n');
        if line.contains("\"listening\"") {
            return (true, story);
        }
    }
    (false, story)
}

fn start_four_at_once(site: &Site) {
    let began = Instant::now();
    let mut servers: Vec<Child> = (0..SERVERS)
        .map(|_| {
            let mut command = site.command(&["serve"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let stories: Vec<_> = servers.iter_mut().map(story).collect();
    let ended: Vec<_> = servers.iter_mut().map(|server| server.try_wait().unwrap()).collect();
    for server in &mut servers {
        let _ = server.kill();
        let _ = server.wait();
    }
    for (index, (listens, story)) in stories.iter().enumerate() {
        assert!(listens, "number {index}, {:?}: {story:?}", ended[index]);
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn four_servers_make_one_database_file() {
    for _ in 0..rounds() {
        start_four_at_once(&Site::on_file());
    }
}

#[test]
fn four_servers_make_one_schema() {
    let cluster = Cluster::shared();
    for _ in 0..rounds() {
        start_four_at_once(&Site::on_postgres(cluster));
    }
}
