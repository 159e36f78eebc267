//! `errors`: what fails, and how often.

use std::collections::BTreeMap;

use clap::ArgMatches;
use cognigy_core::{Clock, TokioClock, error_groups};
use serde::Deserialize;

use super::{desk::Remote, print_json};
use crate::{
    deployment::Deployment,
    error::StartError,
    filter::{self, Types},
    output::{printable, say},
    store::{self, Access},
    view::ErrorLine,
};

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
    let groups = match Remote::named(arguments, deployment)? {
        Some(server) => {
            let answer: Option<Groups> = server.get(&["admin", "errors"], &pairs).await?;
            answer.map(|answer| answer.groups).unwrap_or_default()
        }
        None => {
            let store = store::open(deployment, Access::Read, None).await?;
            let groups = error_groups(&*store, filter.source, filter.from, filter.to).await?;
            groups.into_iter().map(ErrorLine::from).collect()
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
    Ok(true)
}
