//! `tail`: print each event as it arrives.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use clap::ArgMatches;

use super::{
    database_or_server::{DatabaseOrServer, Line, PAGE, read},
    events::{filter_of, pairs_of, print_line},
    interrupt::Interrupt,
    number,
    screen::Screen,
};
use crate::{deployment::Deployment, error::StartError, output::complain};

/// How often new events are looked for.
const INTERVAL: Duration = Duration::from_millis(500);
/// How many events are remembered as printed. Events that arrive at the same time may be stored in
/// another order, so that the newest one alone does not say which are new.
const REMEMBERED: usize = 10_000;
/// How many pages are read at most before the rest is left out: more arrives than anyone reads.
const MOST_PAGES: usize = 20;

pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    filter_of(arguments, &deployment.settings)?;
    let (place, filter) =
        (DatabaseOrServer::open(arguments, deployment).await?, pairs_of(arguments));
    // Listened for from now on: what came while a page was read is not forgotten.
    let interrupt = Interrupt::listen()?;
    let (screen, as_json) = (Screen::of(arguments), arguments.get_flag("json"));
    if let Some(screen) = screen {
        screen.head()?;
    }
    let mut printed = Printed::default();
    let newest = place.events(&filter, PAGE, None).await?.items;
    let first = newest.len().min(number(arguments, "lines") as usize);
    newest.iter().rev().for_each(|event| printed.add(event));
    for event in newest[..first].iter().rev() {
        print_line(event, screen, as_json)?;
    }
    while !interrupt.is_requested() {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            // Ctrl-C is how following is ended.
            () = interrupt.requested() => return Ok(true),
        }
        for event in arrived(&place, &filter, &mut printed).await?.iter().rev() {
            print_line(event, screen, as_json)?;
        }
    }
    Ok(true)
}

/// The events that are not printed yet, newest first.
async fn arrived(
    place: &DatabaseOrServer,
    filter: &BTreeMap<String, String>,
    printed: &mut Printed,
) -> Result<Vec<Line>, StartError> {
    let (mut arrived, mut cursor) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let page = place.events(filter, PAGE, cursor).await?;
        let count = page.items.len();
        let new: Vec<_> = page.items.into_iter().filter(|event| printed.is_new(event)).collect();
        // A page with an event that is known reaches back to what was there before.
        let reaches_back = new.len() < count;
        arrived.extend(new);
        cursor = page.next;
        if reaches_back || cursor.is_none() {
            arrived.iter().rev().for_each(|event| printed.add(event));
            return Ok(arrived);
        }
    }
    complain("events arrive faster than they can be shown: some are left out");
    arrived.iter().rev().for_each(|event| printed.add(event));
    Ok(arrived)
}

/// The events that were printed lately.
#[derive(Default)]
struct Printed {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Printed {
    fn key(event: &Line) -> String {
        let event = read(event);
        format!("{} {}", event["source"], event["event_id"])
    }

    fn is_new(&self, event: &Line) -> bool {
        !self.known.contains(&Self::key(event))
    }

    fn add(&mut self, event: &Line) {
        let key = Self::key(event);
        if self.known.insert(key.clone()) {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
