//! `redrive`: bring dead letters back from the queue.

use clap::ArgMatches;
use serde_json::json;

use super::{Progress, events::source_of, number, operator_api::OperatorApi, print_json};
use crate::{
    app::App,
    audit::{Target, audit_command},
    deployment::Deployment,
    error::StartError,
    output::{complain, printable, say},
    redriving::{Left, Outcome, redrive},
    store::Access,
};

/// Takes dead letters back from the queue. The exit status is 1 if a message could not be taken
/// back.
pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let max = Some(u64::from(number(arguments, "max"))).filter(|max| *max > 0);
    let server = OperatorApi::named(arguments, deployment)?;
    let outcome = match &server {
        Some(server) => {
            let source = source_of(arguments)?.map(|source| source.to_string());
            let mut request = json!({ "max": max, "source": source });
            if let Some(members) = request.as_object_mut() {
                members.retain(|_, value| !value.is_null());
            }
            server.have_done(&["admin", "redrives"], &request).await?
        }
        None => {
            let of = super::source(arguments, &deployment.settings)?;
            let app = App::build(deployment, Access::Write, None).await?;
            let progress = Progress::new();
            let shown = |seen| progress.show(&format!("{seen} messages"));
            let outcome = redrive(&app, of, max, shown).await?;
            drop(progress);
            let (count, told) = (Some(outcome.requeued + outcome.stored), "done");
            let target = Target::Named(of.name.as_str());
            audit_command(&*app.store, "redrive", target, None, count, told).await;
            outcome
        }
    };
    report(&outcome, arguments.get_flag("json"))?;
    // The queue hides messages that another process has received, so a redrive may see none although some
    // are there. The queue's own count may be a minute old. It is used only if the redrive saw no message.
    let hidden = outcome.seen() == 0 && outcome.left.is_some_and(|left| left > 0);
    if hidden {
        complain(
            "the queue holds messages that were not handed out: another process has received them, \
             or a count is out of date; try again in a minute",
        );
    }
    Ok(outcome.left_messages.is_empty() && outcome.undeleted == 0 && !hidden)
}

fn report(outcome: &Outcome, as_json: bool) -> Result<(), StartError> {
    if as_json {
        return print_json(outcome);
    }
    let Outcome { requeued, stored, busy, again, differs, unusable, undeleted, .. } = outcome;
    say!(
        "{requeued} events run again, {stored} were stored anew; not taken back: {busy} held by \
         a run, {again} of events taken back already, {differs} with another payload than is \
         stored, {unusable} unusable"
    )?;
    for Left { message_id, event_id, source, outcome: _, reason } in &outcome.left_messages {
        let event = event_id.as_ref().map_or_else(String::new, |id| {
            let of = match source.as_deref() {
                None | Some(cognigy_core::DEFAULT_SOURCE) => String::new(),
                Some(source) => format!(" of {}", printable(source)),
            };
            format!(" (event {}{of})", printable(id))
        });
        say!("left: {}{event}: {}", printable(message_id), printable(reason))?;
    }
    if *undeleted > 0 {
        say!(
            "{undeleted} messages could not be deleted after their events were taken back: the queue delivers them again"
        )?;
    }
    let left = outcome.left.map_or("?".to_owned(), |left| left.to_string());
    say!("left in the queue: about {left}")
}
