//! `replay`: run events again, in this process or by the workers of a server.

use std::collections::BTreeMap;

use clap::ArgMatches;
use cognigy_core::{EventFilter, EventKey, ReplayOutcome, SourceName};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    Progress,
    events::{key_of, pairs_of, selection_of, source_of},
    follow::follow,
    hand_over,
    interrupt::Interrupt,
    operator_api::OperatorApi,
    print_json,
};
use crate::{
    app::App,
    audit::{COMMAND_LINE, Target, audit_command, audit_each},
    deployment::Deployment,
    error::StartError,
    find,
    output::{printable, say},
    presence::Presence,
    store::Access,
};

/// Runs the command. The exit status is 1 if a run of an event failed or did not begin.
pub(super) async fn replay(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    if arguments.get_flag("rehearse") {
        return super::rehearse::run(arguments, deployment).await;
    }
    let (filter, ids) = selection_of(arguments, &deployment.settings)?;
    if let Some(server) = OperatorApi::named(arguments, deployment)? {
        let as_json = arguments.get_flag("json");
        return match ids.is_empty() {
            true => replay_matching_at(&server, arguments, as_json).await,
            false => {
                let account = Account::new(ids.len(), as_json);
                replay_at(&server, &ids, source_of(arguments)?, account).await
            }
        };
    }
    let interrupt = Interrupt::listen()?;
    if arguments.get_flag("dry-run") {
        let app = App::build(deployment, Access::Read, None).await?;
        let keys = matching(&app, &filter).await?;
        let sample: Vec<_> = keys.iter().take(10).map(|key| key.id.as_str()).collect();
        print_chosen(
            &json!({ "count": keys.len(), "sample": sample }),
            arguments.get_flag("json"),
        )?;
        return Ok(true);
    }
    let app = App::build(deployment, Access::Write, None).await?;
    let mut keys = Vec::new();
    if ids.is_empty() {
        keys = matching(&app, &filter).await?;
        // The earliest event of a contact comes first.
        keys.reverse();
    }
    let source = source_of(arguments)?;
    for id in &ids {
        keys.push(key_of(id, source.as_ref(), &*app.store, &deployment.settings).await?);
    }
    let hands_over = arguments.get_flag("hand-over")
        || arguments.get_flag("no-wait")
        || !arguments.get_flag("here")
            && ids.is_empty()
            && Presence::is_announced(deployment).await?;
    if hands_over && !Presence::is_announced(deployment).await? {
        crate::output::complain(
            "no server with workers is seen on this database: the events wait for one",
        );
    }
    let account = Account::new(keys.len(), arguments.get_flag("json"));
    let ended = match hands_over {
        true => {
            let waits = !arguments.get_flag("no-wait");
            // The command expects a server to stay only if it saw one, not if `--hand-over` claims
            // one.
            let expects = !arguments.get_flag("hand-over") && waits;
            let expected = expects.then_some(deployment);
            hand_over::run(&app, keys, waits, expected, &interrupt, account).await?
        }
        false => run_here(&app, keys, &interrupt, account).await?,
    };
    match ids.is_empty() {
        false => {
            for (key, outcome) in &ended.outcomes {
                audit_command(&*app.store, "replay", Target::Event(key), None, Some(1), outcome)
                    .await;
            }
        }
        true => {
            let (filter, count) = (json!(pairs_of(arguments)), Some(ended.recorded()));
            let (store, outcome) = (&*app.store, ended.told());
            let is_run = |outcome| matches!(outcome, "replayed" | "failed" | "handed_over");
            let run = ended.outcomes.iter().filter(|(_, outcome)| is_run(outcome));
            audit_each(store, COMMAND_LINE, "replay", &run.cloned().collect::<Vec<_>>()).await;
            audit_command(store, "replay", Target::Selected, Some(&filter), count, &outcome).await;
        }
    }
    ended.close()
}

/// Has a running server run events, one after the other.
async fn replay_at(
    server: &OperatorApi,
    ids: &[&String],
    source: Option<SourceName>,
    mut account: Account,
) -> Result<bool, StartError> {
    let mut query = BTreeMap::new();
    query.extend(source.as_ref().map(|source| ("source".to_owned(), source.to_string())));
    for id in ids {
        let key = |problem| StartError::Usage(format!("{id:?}: {problem}"));
        let key =
            EventKey { source: source.clone().unwrap_or_default(), id: id.parse().map_err(key)? };
        let (status, answer) = server.post(&["webhooks", "replay", id], &query, None).await?;
        let detail = answer["detail"].as_str().map(str::to_owned);
        let reason = detail.as_deref().and_then(|it| it.strip_prefix("Replay failed: "));
        let (status, detail) = match status {
            200 if answer["status"] == "replayed" => (Status::Replayed, None),
            200 => return Err(server.is_another()),
            404 => (Status::NotFound, None),
            410 => (Status::Forgotten, None),
            409 if detail.as_deref().is_some_and(|it| it.starts_with("Another run")) => {
                (Status::Busy, None)
            }
            409 => (Status::NotConfigured, detail),
            500 if reason.is_some() => (Status::Failed, reason.map(str::to_owned)),
            _ => return Err(server.refused(status, answer.to_string().as_bytes())),
        };
        account.record(&key, status, detail);
    }
    account.close()
}

/// Has a running server run all events that match, and waits until it has.
async fn replay_matching_at(
    server: &OperatorApi,
    arguments: &ArgMatches,
    as_json: bool,
) -> Result<bool, StartError> {
    let interrupt = Interrupt::listen()?;
    let mut body = json!(pairs_of(arguments));
    if let Some(rate) = arguments.get_one::<f64>("rate") {
        body["rate"] = json!(rate);
    }
    let path = ["admin", "replays"];
    body["dry_run"] = json!(true);
    let chosen: Value = server.have_done(&path, &body).await?;
    let chosen = server.known(chosen, "count")?;
    if arguments.get_flag("dry-run") || chosen["count"] == 0 {
        print_chosen(&chosen, as_json)?;
        return Ok(true);
    }
    body["dry_run"] = json!(false);
    let begun: Value = server.have_begun(&path, &body).await?;
    let id = begun["id"].as_str().unwrap_or_default();
    if arguments.get_flag("no-wait") {
        match as_json {
            true => print_json(&begun)?,
            false => say!("{} events, as replay {} of the server", begun["total"], printable(id))?,
        }
        return Ok(true);
    }
    if !as_json {
        say!(
            "{} events, as replay {} of the server; waiting for it",
            begun["total"],
            printable(id)
        )?;
    }
    let ended = follow(server, id, &interrupt).await?;
    match as_json {
        true => print_json(&ended)?,
        false => {
            let state = ended["state"].as_str().unwrap_or_default();
            say!("{state}: {} replayed, {} not", ended["succeeded"], ended["failed"])?;
        }
    }
    Ok(ended["state"] == "done" && ended["failed"] == 0)
}

/// Prints what would be run.
fn print_chosen(chosen: &Value, as_json: bool) -> Result<(), StartError> {
    if as_json {
        return print_json(chosen);
    }
    if chosen["count"] == 0 {
        return say!("no event matches");
    }
    say!("{} events would be run", chosen["count"])?;
    for id in chosen["sample"].as_array().into_iter().flatten() {
        say!("  {}", printable(id.as_str().unwrap_or_default()))?;
    }
    Ok(())
}

/// All events that match, newest first.
pub(super) async fn matching(app: &App, filter: &EventFilter) -> Result<Vec<EventKey>, StartError> {
    Ok(find::newest(&*app.store, filter, usize::MAX).await?.0)
}

/// What became of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Replayed,
    HandedOver,
    Failed,
    NotFound,
    Forgotten,
    Busy,
    NotConfigured,
    GivenBack,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::HandedOver => "handed_over",
            Self::Failed => "failed",
            Self::NotFound => "not_found",
            Self::Forgotten => "forgotten",
            Self::Busy => "busy",
            Self::NotConfigured => "not_configured",
            Self::GivenBack => "given_back",
        }
    }
}

/// What became of each event. Each is printed as soon as it is known.
pub(super) struct Account {
    total: usize,
    as_json: bool,
    progress: Option<Progress>,
    pub(super) replayed: u64,
    pub(super) handed_over: u64,
    pub(super) given_back: u64,
    /// Events with any other outcome.
    pub(super) not: u64,
    /// The outcome of each event.
    outcomes: Vec<(EventKey, &'static str)>,
    /// The error that ends the command before its work is done.
    pub(super) broke_off: Option<StartError>,
}

impl Account {
    fn new(total: usize, as_json: bool) -> Self {
        let (replayed, handed_over, given_back, not) = (0, 0, 0, 0);
        let progress = Some(Progress::new());
        let (outcomes, broke_off) = (Vec::new(), None);
        Self {
            total,
            as_json,
            progress,
            replayed,
            handed_over,
            given_back,
            not,
            outcomes,
            broke_off,
        }
    }

    /// How many events have an outcome.
    fn recorded(&self) -> u64 {
        self.replayed + self.handed_over + self.given_back + self.not
    }

    /// What the events came to, for the record of what operators did: failures as well as successes.
    fn told(&self) -> String {
        let mut told = String::from(if self.broke_off.is_some() { "broke_off" } else { "done" });
        for (count, what) in [
            (self.replayed, "replayed"),
            (self.handed_over, "handed over"),
            (self.given_back, "given back"),
            (self.not, "not"),
        ] {
            if count > 0 {
                let sign = if told.contains(':') { ',' } else { ':' };
                told.push_str(&format!("{sign} {count} {what}"));
            }
        }
        told
    }

    pub(super) fn show_progress(&self) {
        if let Some(progress) = &self.progress {
            progress.count(self.recorded(), self.total as u64, "");
        }
    }

    /// Prints one line for people, beside the lines of the events.
    pub(super) fn say(&mut self, text: &str) {
        if !self.as_json && self.broke_off.is_none() {
            self.clear_progress();
            self.broke_off = say!("{text}").err();
        }
    }

    /// Counts an event and prints a line for it.
    pub(super) fn record(&mut self, key: &EventKey, status: Status, detail: Option<String>) {
        *match status {
            Status::Replayed => &mut self.replayed,
            Status::HandedOver => &mut self.handed_over,
            Status::GivenBack => &mut self.given_back,
            _ => &mut self.not,
        } += 1;
        self.outcomes.push((key.clone(), status.as_str()));
        if self.broke_off.is_some() {
            return;
        }
        self.clear_progress();
        let printed = self.print(key, status.as_str(), detail);
        self.broke_off = printed.err();
        self.show_progress();
    }

    fn print(
        &self,
        key: &EventKey,
        status: &str,
        detail: Option<String>,
    ) -> Result<(), StartError> {
        let id = key.id.as_str();
        if self.as_json {
            let mut line = json!({ "event_id": id, "status": status, "detail": detail });
            if !key.source.is_default() {
                line["source"] = Value::from(key.source.as_str());
            }
            return print_json(&line);
        }
        let id = printable(id);
        match detail {
            Some(detail) => say!("{id}: {status}: {}", printable(&detail)),
            None => say!("{id}: {status}"),
        }
    }

    fn clear_progress(&self) {
        if let Some(progress) = &self.progress {
            progress.show("");
        }
    }

    /// Prints the last line. Yields whether every event had a good outcome.
    fn close(mut self) -> Result<bool, StartError> {
        drop(self.progress.take());
        if let Some(error) = self.broke_off {
            return Err(error);
        }
        if !self.as_json {
            match self.handed_over {
                0 if self.total == 0 => say!("no event matches")?,
                0 => say!("{} replayed, {} not", self.replayed, self.not)?,
                count => say!("{count} handed over, {} not", self.not)?,
            }
        }
        Ok(self.not == 0)
    }
}

/// Runs events in this process: of each source as many at a time as its CRM's limit allows.
async fn run_here(
    app: &App,
    mut keys: Vec<EventKey>,
    interrupt: &Interrupt,
    mut account: Account,
) -> Result<Account, StartError> {
    for source in app.pipelines.iter() {
        // Each failure is printed, so the log need not contain it.
        source.telemetry.leave_attempts_unlogged();
    }
    let mut not_begun = 0;
    account.show_progress();
    // If the store keeps the order, one event of a contact runs at a time. Events that come too
    // early are tried again when the others are done.
    while !keys.is_empty() {
        let count = keys.len();
        let mut busy = Vec::new();
        let mut runs = stream::select_all(by_source(keys).into_iter().map(|(source, keys)| {
            let at_once = app.pipelines.get(&source).map_or(1, |source| source.concurrency);
            let run = move |key: EventKey| async move {
                let outcome = run_one(app, &key, interrupt).await;
                (key, outcome)
            };
            Box::pin(stream::iter(keys).map(run).buffer_unordered(at_once))
        }));
        while let Some((key, outcome)) = runs.next().await {
            match outcome {
                Ok(Some((Status::Busy, _))) => busy.push(key),
                Ok(Some((status, detail))) => account.record(&key, status, detail),
                Ok(None) => not_begun += 1,
                Err(error) => account.broke_off = account.broke_off.or(Some(error)),
            }
            if account.broke_off.is_some() {
                interrupt.request();
            }
        }
        if busy.len() == count || interrupt.is_requested() {
            busy.iter().for_each(|key| account.record(key, Status::Busy, None));
            busy.clear();
        }
        keys = busy;
    }
    if account.broke_off.is_none() && interrupt.is_requested() {
        let Account { replayed, not, given_back, .. } = account;
        account.broke_off = Some(StartError::Interrupted(format!(
            "{replayed} replayed, {not} not; {given_back} were under way and are given back to the \
             workers, {not_begun} not begun"
        )));
    }
    Ok(account)
}

/// Runs one event. Yields None if the command was asked to end before the run began.
async fn run_one(
    app: &App,
    key: &EventKey,
    interrupt: &Interrupt,
) -> Result<Option<(Status, Option<String>)>, StartError> {
    if interrupt.is_requested() {
        return Ok(None);
    }
    let Some(source) = app.pipelines.get(&key.source) else {
        return Ok(Some(not_configured(key)));
    };
    let outcome = source.pipeline.replay_until(key, &app.clock, interrupt.requested()).await;
    Ok(Some(match outcome.map_err(|error| StartError::failed("replay", &error))? {
        ReplayOutcome::Replayed(_) => (Status::Replayed, None),
        ReplayOutcome::Failed(reason) => (Status::Failed, Some(reason)),
        ReplayOutcome::NotFound => (Status::NotFound, None),
        ReplayOutcome::Forgotten => (Status::Forgotten, None),
        ReplayOutcome::Busy => (Status::Busy, None),
        ReplayOutcome::Stopped => (Status::GivenBack, None),
    }))
}

/// The outcome of an event whose source is not configured here.
pub(super) fn not_configured(key: &EventKey) -> (Status, Option<String>) {
    (Status::NotConfigured, Some(format!("there is no source {}", key.source)))
}

/// The keys of each source, in the order given.
pub(super) fn by_source(keys: Vec<EventKey>) -> BTreeMap<SourceName, Vec<EventKey>> {
    let mut by_source: BTreeMap<SourceName, Vec<EventKey>> = BTreeMap::new();
    for key in keys {
        by_source.entry(key.source.clone()).or_default().push(key);
    }
    by_source
}
