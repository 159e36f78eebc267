//! `errors`: what fails, and how often.

use std::collections::BTreeMap;

use clap::ArgMatches;
use cognigy_core::{Clock, TokioClock, error_groups};
use serde::Deserialize;

use super::{operator_api::OperatorApi, print_json};
use crate::{
    breakers::{self, Breakers, OpenBreaker},
    deployment::Deployment,
    error::StartError,
    filter::{self, Types},
    output::{printable, say},
    store::{self, Access},
    view::ErrorLine,
};

/// What is read of a server's statistics. An earlier version tells of no breakers.
#[derive(Deserialize)]
struct Stats {
    #[serde(default)]
    breakers: Breakers,
}

/// The answer of a server.
#[derive(Deserialize)]
struct Groups {
    groups: Vec<ErrorLine>,
}

pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let given = |name: &str| {
        arguments.get_one::<String>(name).map(|value| (name.to_owned(), value.clone()))
    };
    let pairs: BTreeMap<_, _> = ["source", "from", "to"].into_iter().filter_map(given).collect();
    let filter = filter::from_pairs(&pairs, TokioClock::new().now(), Types::Any)
        .map_err(|problem| StartError::Usage(format!("--{problem}")))?;
    let (groups, mut breakers) = match OperatorApi::named(arguments, deployment)? {
        Some(server) => {
            let answer: Option<Groups> = server.get(&["admin", "errors"], &pairs).await?;
            let stats: Option<Stats> = server.get(&["admin", "stats"], &BTreeMap::new()).await?;
            let breakers = stats.map(|stats| stats.breakers).unwrap_or_default();
            (answer.ok_or_else(|| server.is_another())?.groups, breakers)
        }
        None => {
            let store = store::open(deployment, Access::Read, None).await?;
            let source = filter.source.clone();
            let groups = error_groups(&*store, source, filter.from, filter.to).await?;
            let breakers = breakers::open(&*store, TokioClock::new().now()).await?;
            (groups.into_iter().map(ErrorLine::from).collect(), breakers)
        }
    };
    if groups.is_empty() && !arguments.get_flag("json") {
        say!("no event is dead-lettered or being retried")?;
    }
    for group in groups {
        if arguments.get_flag("json") {
            print_json(&group)?;
            continue;
        }
        say!("{:>7}  {}", group.count, printable(&group.message))?;
        say!("         class {}", group.class)?;
        say!("         from {} to {}", group.first, group.last)?;
        let sample: Vec<_> = group.sample.iter().map(|id| printable(id)).collect();
        say!("         such as {}", sample.join(", "))?;
    }
    // Attempts that a breaker puts off have failed in no class.
    breakers.retain(|name, _| filter.source.as_ref().is_none_or(|source| source.as_str() == name));
    for (source, open) in breakers.iter().filter(|_| !arguments.get_flag("json")) {
        let OpenBreaker { since, error } = open;
        let (source, error) = (printable(source), printable(error));
        say!("look-ups of the source {source} are held back since {since}: {error}")?;
    }
    Ok(true)
}
