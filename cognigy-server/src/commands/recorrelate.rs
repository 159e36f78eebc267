//! `recorrelate`: ask the CRM again for events whose contact was not found then.

use std::collections::BTreeMap;

use clap::ArgMatches;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Progress,
    events::{filter_of, pairs_of},
    follow::follow,
    interrupt::Interrupt,
    operator_api::OperatorApi,
    print_json,
    replay::matching,
};
use crate::{
    app::App,
    audit::{COMMAND_LINE, Target, audit_command, audit_each},
    deployment::Deployment,
    error::StartError,
    output::{complain, printable, say},
    recorrelation,
    store::Access,
};

/// What asking came to: the same, whether a server asks or this process.
#[derive(Serialize)]
struct Account {
    /// `done`, or why not all were asked for.
    state: String,
    total: u64,
    /// How many events came to each outcome.
    outcomes: BTreeMap<String, u64>,
}

impl Account {
    /// Prints it. Yields whether the CRM was asked for every event, and answered.
    fn close(self, as_json: bool) -> Result<bool, StartError> {
        if as_json {
            print_json(&self)?;
        } else {
            for (outcome, count) in &self.outcomes {
                say!("{:<16}{count:>8}", printable(outcome))?;
            }
            let matched = self.outcomes.get("matched").copied().unwrap_or_default();
            say!("{matched} of {} have a contact now", self.total)?;
            if self.state != "done" {
                say!("not all were asked for: {}", printable(&self.state))?;
            }
        }
        let all_asked = self.outcomes.keys().all(|outcome| recorrelation::was_asked(outcome));
        Ok(self.state == "done" && all_asked)
    }
}

/// Has a running server ask, and waits until it has.
async fn ask_at(
    server: &OperatorApi,
    filter: &BTreeMap<String, String>,
    runs_handler: bool,
) -> Result<Account, StartError> {
    let interrupt = Interrupt::listen()?;
    let mut request = json!(filter);
    request["run"] = json!(runs_handler);
    let begun: Value = server.have_begun(&["admin", "recorrelations"], &request).await?;
    let id = begun["id"].as_str().unwrap_or_default();
    let ended = follow(server, id, &interrupt).await?;
    let outcomes = ended["outcomes"].as_object().into_iter().flatten();
    let counted = |(name, count): (&String, &Value)| Some((name.clone(), count.as_u64()?));
    Ok(Account {
        state: ended["state"].as_str().unwrap_or_default().to_owned(),
        total: begun["total"].as_u64().unwrap_or_default(),
        outcomes: outcomes.filter_map(counted).collect(),
    })
}

/// Runs the command. The exit status is 1 if an event could not be asked for, or the CRM gave no answer that
/// can be used.
pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let filter = filter_of(arguments, &deployment.settings)?;
    let runs_handler = arguments.get_flag("run");
    let as_json = arguments.get_flag("json");
    if let Some(server) = OperatorApi::named(arguments, deployment)? {
        let account = ask_at(&server, &pairs_of(arguments), runs_handler).await?;
        return account.close(as_json);
    }
    let interrupt = Interrupt::listen()?;
    let app = App::build(deployment, Access::Write, None).await?;
    let mut keys = Vec::new();
    for filter in recorrelation::filters(&filter) {
        keys.extend(matching(&app, &filter).await?);
    }
    for source in app.pipelines.iter() {
        source.telemetry.leave_attempts_unlogged();
    }
    let total = keys.len() as u64;
    let progress = Progress::new();
    let (mut outcomes, mut changed) = (BTreeMap::<String, u64>::new(), Vec::new());
    let at_once = app.pipelines.iter().map(|source| source.concurrency).min().unwrap_or(1);
    let mut asked = stream::iter(keys)
        .map(|key| {
            let app = &app;
            let stopped = interrupt.is_requested();
            async move {
                let outcome = if stopped {
                    None
                } else {
                    Some(recorrelation::ask(&app.api, &key, runs_handler).await)
                };
                (key, outcome)
            }
        })
        .buffer_unordered(at_once);
    let mut done = 0_u64;
    while let Some((key, outcome)) = asked.next().await {
        let Some(outcome) = outcome else { continue };
        let recorrelation::Answer { outcome: name, detail, .. } = outcome?;
        *outcomes.entry(name.to_owned()).or_default() += 1;
        if matches!(name, "matched" | "handed_over") {
            changed.push((key.clone(), name));
        }
        done += 1;
        if let Some(detail) = detail.filter(|_| name == recorrelation::FAILED) {
            progress.show("");
            complain(format_args!("{}: {detail}", key.id));
        }
        progress.count(done, total, "");
    }
    drop((asked, progress));
    audit_each(&*app.store, COMMAND_LINE, "recorrelate", &changed).await;
    let (filter, count) = (json!(pairs_of(arguments)), Some(done));
    let told = if interrupt.is_requested() { "broke_off" } else { "done" };
    let target = Target::Selected;
    audit_command(&*app.store, "recorrelate", target, Some(&filter), count, told).await;
    if interrupt.is_requested() {
        return Err(StartError::Interrupted(format!("{done} of {total} events were asked for")));
    }
    Account { state: "done".to_owned(), total, outcomes }.close(as_json)
}
