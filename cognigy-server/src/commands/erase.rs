//! `erase`: erase what is stored about a person.

use std::{io::IsTerminal, sync::Arc};

use clap::ArgMatches;
use cognigy_core::{Clock, Person, SourceName, Store, TokioClock};
use serde_json::{Value, json};

use super::{operator_api::OperatorApi, print_json, purge::confirmed};
use crate::{
    audit::{COMMAND_LINE, Target, audit_command},
    deployment::Deployment,
    erasing::{self, Planned},
    error::StartError,
    output::{printable, say},
    store::{self, Access},
    view::ErasureLine,
};

/// Where the person is erased: by a server, or in the database.
enum Place<'a> {
    Server(OperatorApi),
    Database(Arc<dyn Store>, &'a Deployment),
}

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
    let (dry_run, as_json) = (arguments.get_flag("dry-run"), arguments.get_flag("json"));
    let place = match OperatorApi::named(arguments, deployment)? {
        Some(server) => Place::Server(server),
        None => {
            let access = if dry_run { Access::Read } else { Access::Write };
            Place::Database(store::open(deployment, access, None).await?, deployment)
        }
    };
    if dry_run {
        let planned = place.planned(&person).await?;
        match as_json {
            true => print_json(&planned)?,
            false => say!("{}", told(&planned))?,
        }
        return Ok(true);
    }
    if !arguments.get_flag("yes") && std::io::stdin().is_terminal() {
        let planned = told(&place.planned(&person).await?);
        if !confirmed(&format!("{planned}. Erase their content for good?"))? {
            say!("nothing was erased")?;
            return Ok(false);
        }
    }
    let receipt = place.erase(&person).await?;
    match as_json {
        true => print_json(&receipt)?,
        false => print(&receipt)?,
    }
    Ok(true)
}

impl Place<'_> {
    async fn planned(&self, person: &Person) -> Result<Planned, StartError> {
        match self {
            Self::Server(server) => {
                let mut body = named(person);
                body["dry_run"] = json!(true);
                server.have_done(&["admin", "erasures"], &body).await
            }
            Self::Database(store, _) => Ok(erasing::planned(&**store, person).await?),
        }
    }

    async fn erase(&self, person: &Person) -> Result<ErasureLine, StartError> {
        let (store, deployment) = match self {
            Self::Server(server) => {
                return server.have_done(&["admin", "erasures"], &named(person)).await;
            }
            Self::Database(store, deployment) => (store, deployment),
        };
        let erasure = store.erase(person, COMMAND_LINE, TokioClock::new().now()).await?;
        let (receipt, count) = (erasure.id.to_string(), Some(erasure.events));
        // By the number of its receipt: the person's id is gone, here too.
        let target = Target::Named(&receipt);
        audit_command(&**store, "erase", target, None, count, "erased").await;
        Ok(erasing::receipt(erasure, |source| sends(deployment, source)))
    }
}

/// Whether the dead letters of a source are sent. Of a source that is not configured any more they may have
/// been.
fn sends(deployment: &Deployment, source: &SourceName) -> bool {
    match (&deployment.adapters.dead_letters, deployment.settings.source(source)) {
        (Some(sink), _) => !sink.keeps_in_store(),
        (None, Some(source)) => source.sqs_dlq_url.is_some(),
        (None, None) => true,
    }
}

/// The person in a request.
fn named(person: &Person) -> Value {
    match person {
        Person::ExternalId(id) => json!({ "external_id": id }),
        Person::UserId(id) => json!({ "user_id": id }),
    }
}

/// `2 events, 1 quarantined body and 0 dead letters of this person would be erased`
fn told(planned: &Planned) -> String {
    let counted = |count: u64, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    format!(
        "{}, {} and {} of this person would be erased",
        counted(planned.events, "event", "events"),
        counted(planned.quarantined, "quarantined body", "quarantined bodies"),
        counted(planned.dead_letters, "dead letter", "dead letters"),
    )
}

fn print(receipt: &ErasureLine) -> Result<(), StartError> {
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
            "The dead letters of these events were sent to the queue. Delete their messages there:"
        )?;
        for id in &receipt.sent_dead_letters {
            say!("  {}", printable(id))?;
        }
    }
    Ok(())
}
