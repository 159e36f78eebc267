//! `erase`: erase what is stored about a person.

use std::io::IsTerminal;

use clap::ArgMatches;
use cognigy_core::{Administration, Clock, Person, TokioClock};
use serde_json::json;

use super::{desk::Remote, print_json, purge::confirmed};
use crate::{
    audit::{COMMAND_LINE, Target, audit_command},
    deployment::Deployment,
    error::StartError,
    output::{printable, say},
    store::{self, Access},
    view::ErasureLine,
};

pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let given = |name: &str| arguments.get_one::<String>(name).filter(|id| !id.is_empty()).cloned();
    let person = match (given("external_id"), given("user")) {
        (Some(id), None) => Person::ExternalId(id),
        (None, Some(id)) => Person::UserId(id),
        _ => {
            let problem = "name the person with --external-id or --user";
            return Err(StartError::Usage(problem.to_owned()));
        }
    };
    let is_asked = !arguments.get_flag("yes") && std::io::stdin().is_terminal();
    if is_asked && !confirmed("Erase the content of all events of this person for good?")? {
        say!("nothing was erased")?;
        return Ok(false);
    }
    let receipt = match Remote::named(arguments, deployment)? {
        Some(server) => {
            let body = match &person {
                Person::ExternalId(id) => json!({ "external_id": id }),
                Person::UserId(id) => json!({ "user_id": id }),
            };
            server.have_done(&["admin", "erasures"], &body).await?
        }
        None => {
            let store = store::open(deployment, Access::Write, None).await?;
            let erasure = store.erase(&person, COMMAND_LINE, TokioClock::new().now()).await?;
            let (receipt, count) = (erasure.id.to_string(), Some(erasure.events));
            // By the number of its receipt: the person's id is gone, here too.
            let target = Target::Named(&receipt);
            audit_command(&*store, "erase", target, None, count, "erased").await;
            ErasureLine::from(erasure)
        }
    };
    if arguments.get_flag("json") {
        print_json(&receipt)?;
        return Ok(true);
    }
    if receipt.events + receipt.quarantined + receipt.dead_letters == 0 {
        say!(
            "Nothing is stored about this person: look whether the id is right, and whether it is an externalId or a userId."
        )?;
    }
    say!("receipt      {}", receipt.id)?;
    say!("events       {}", receipt.events)?;
    say!("quarantined  {}", receipt.quarantined)?;
    say!("dead letters {}", receipt.dead_letters)?;
    if !receipt.sent_dead_letters.is_empty() {
        say!(
            "The dead letters of these events were sent. Where there is a queue, delete them there:"
        )?;
        for id in &receipt.sent_dead_letters {
            say!("  {}", printable(id))?;
        }
    }
    Ok(true)
}
