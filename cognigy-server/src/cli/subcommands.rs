//! The commands with their arguments and the help of each.

use clap::{Arg, ArgAction, Command, value_parser};

use crate::{filter, papers};

/// All commands.
pub(super) fn subcommands() -> Vec<Command> {
    let named = |name: &'static str, about: &'static str, example: &str| {
        Command::new(name).about(about).after_help(format!("Example:\n  {example}"))
    };
    let id = || Arg::new("id").value_name("ID");
    vec![
        named(
            "serve",
            "Receive webhooks and process them until stopped",
            "COGNIGY_WEBHOOK_SECRET=… cognigy-server serve --listen 0.0.0.0:8000",
        ),
        named(
            "demo",
            "Show the whole journey with real signed HTTP traffic, in one process, in under a minute",
            "cognigy-server demo",
        )
        .arg(
            number("events", "300", "Distinct events to send, 4 to 100000")
                .value_parser(value_parser!(u32).range(4..=100_000)),
        ),
        named(
            "send",
            "Sign events and post them",
            "cognigy-server send events.ndjson --to http://127.0.0.1:8000/webhooks/cognigy\n  \
             cognigy-server send --type DIALOG_STARTED --external-id customer-7 --count 10 --rate 2",
        )
        .arg(Arg::new("file").value_name("FILE").help("One JSON object, or one a line; - for standard input"))
        .arg(number("generate", "0", "Make up this many events instead").visible_alias("count").conflicts_with("file"))
        .arg(Arg::new("type").long("type").value_name("TYPE").conflicts_with("file").help("Made-up events are of this type (default: the four types in turn)"))
        .arg(Arg::new("external_id").long("external-id").value_name("ID").conflicts_with("file").help("Made-up events are of this contact (default: a thousand in turn)"))
        .arg(Arg::new("rate").long("rate").value_name("N").value_parser(a_rate).help("Send at most this many events a second"))
        .arg(Arg::new("url").long("url").visible_alias("to").value_name("URL").help("The URL to post to (default: the source's path at the address that is set to listen on)"))
        .arg(source("Sign with this source's secret and scheme (default: the plain path's)"))
        .arg(at_least_one(number("concurrency", "8", "Requests in flight")))
        .arg(json()),
        with_filter(named(
            "list",
            "List stored events, newest first",
            "cognigy-server list --status dead_lettered --limit 20",
        ))
        .arg(at_least_one(number("limit", "50", "At most this many")))
        .arg(utc())
        .arg(server())
        .arg(json()),
        named("show", "Show an event, its body and its history", "cognigy-server show evt-42")
            .arg(id().required(true).help("The event's id"))
            .arg(source("The event's source (default: the only source that has such an event)"))
            .arg(server())
            .arg(json()),
        with_filter(named(
            "replay",
            "Run events again now: by id, or all that match a filter",
            "cognigy-server replay evt-42 evt-43\n  cognigy-server replay --status dead_lettered --from 2h",
        ))
        .long_about(
            "Run events again now: by id, or all that match a filter.\n\nEvents named by id run in this \
             process, once each. All that match a filter are handed to the workers of the server \
             that works on the database, with the full number of attempts, and are waited for; \
             without such a server they run in this process, once each, as many at a time as \
             CRM_CONCURRENCY says. An interrupt gives back what has not ended. With --server the server runs \
             them, goes on if the command is interrupted, and keeps to --rate.",
        )
        .arg(id().num_args(0..).help("The events' ids"))
        .arg(flag("rehearse", "Run nothing: ask the CRM, and say how the newest 100 of the events would end").conflicts_with_all(["here", "hand-over", "no-wait"]))
        .arg(flag("dry-run", "Only count the events that match a filter").conflicts_with_all(["id", "rehearse"]))
        .arg(Arg::new("rate").long("rate").value_name("N").value_parser(a_rate).requires("server").conflicts_with_all(["id", "rehearse"]).help("With --server and a filter: run at most this many events a second"))
        .arg(flag("here", "Run the events in this process, whether or not a server is seen").conflicts_with("hand-over"))
        .arg(flag("hand-over", "Hand the events to a server's workers, whether or not one is seen"))
        .arg(flag("no-wait", "Do not wait for events that are handed over").conflicts_with("here"))
        .arg(server().conflicts_with_all(["here", "hand-over"]))
        .arg(json()),
        named(
            "replays",
            "List the bulk replays that servers carry out; show or cancel one",
            "cognigy-server replays\n  cognigy-server replays cancel 7",
        )
        .arg(server().global(true))
        .arg(json().global(true))
        .subcommand(
            named("show", "Show a replay and how far it has come", "cognigy-server replays show 7")
                .arg(id().required(true).help("The replay's id")),
        )
        .subcommand(
            named(
                "cancel",
                "Run no more events of a replay; those under way come to their end",
                "cognigy-server replays cancel 7",
            )
            .arg(id().required(true).help("The replay's id")),
        ),
        with_filter(named(
            "recorrelate",
            "Ask the CRM again for events whose contact was not found then; the handler is not run",
            "cognigy-server recorrelate --from 1d",
        ))
        .arg(flag("run", "Run the events again whose contact is known now, and those that were given up"))
        .arg(server())
        .arg(json()),
        named(
            "redrive",
            "Bring dead letters back from the SQS queue; workers run their events again",
            "SQS_DLQ_URL=… cognigy-server redrive --max 100",
        )
        .arg(number("max", "0", "Stop after this many messages; 0: all there are"))
        .arg(source("From this source's queue (default: the plain path's)"))
        .arg(server())
        .arg(json()),
        named(
            "errors",
            "Group the events that are dead-lettered or being retried by their last error",
            "cognigy-server errors --from 24h",
        )
        .arg(source("Of this source only"))
        .arg(Arg::new("from").long("from").value_name("TIME").help("Received at or after this time, or so long ago, such as 24h"))
        .arg(Arg::new("to").long("to").value_name("TIME").help("Received before this time"))
        .arg(server())
        .arg(json()),
        with_filter(named(
            "discard",
            "Drop dead letters: by id, or all that match a filter; their events stay as discarded",
            "cognigy-server discard evt-42\n  cognigy-server discard --error crm-answered-404-c1bdd4c5 --dry-run",
        ))
        .arg(id().num_args(0..).help("The events' ids"))
        .arg(flag("dry-run", "Only count what would be discarded"))
        .arg(server())
        .arg(flag("yes", "Do not ask on a terminal"))
        .arg(json()),
        named(
            "erase",
            "Erase what is stored about a person: bodies, contact ids, the CRM's answers, errors, dead letters",
            "cognigy-server erase --external-id c-17 --yes",
        )
        .arg(Arg::new("external_id").long("external-id").value_name("ID").help("The person's externalId"))
        .arg(Arg::new("user").long("user").value_name("ID").conflicts_with("external_id").help("The person's userId"))
        .arg(flag("dry-run", "Only count what would be erased"))
        .arg(server())
        .arg(flag("yes", "Do not ask on a terminal"))
        .arg(json()),
        named(
            "register",
            "Register a webhook at Cognigy",
            "cognigy-server register https://hooks.example.com/webhooks/cognigy",
        )
        .arg(Arg::new("url").value_name("URL").required(true).help("The URL that Cognigy is to post to"))
        .arg(Arg::new("name").long("name").value_name("NAME").default_value("cognigy-server").help("Name of the webhook"))
        .arg(source("Have Cognigy sign with this source's secret (default: the plain path's)"))
        .arg(Arg::new("events").long("events").value_name("TYPES").help("Comma-separated types (default: all four)"))
        .arg(json()),
        named(
            "quarantine",
            "List bodies that were signed but could not be taken, or try one again",
            "cognigy-server quarantine --retry 7",
        )
        .arg(at_least_one(number("limit", "50", "At most this many")))
        .arg(Arg::new("retry").long("retry").value_name("ID").value_parser(value_parser!(i64)).help("Parse the body with this number again"))
        .arg(Arg::new("show").long("show").value_name("ID").value_parser(value_parser!(i64)).conflicts_with_all(["retry", "discard"]).help("Show the body with this number in full"))
        .arg(
            Arg::new("discard").long("discard").value_name("ID").value_parser(value_parser!(i64))
                .conflicts_with("retry").help("Remove the body with this number"),
        )
        .arg(server())
        .arg(json()),
        named(
            "purge",
            "Forget at once the finished events that are older than the retention",
            "cognigy-server purge --dry-run\n  cognigy-server purge --retention 7d --yes",
        )
        .arg(flag("dry-run", "Only count what would be forgotten"))
        .arg(server())
        .arg(flag("yes", "Do not ask on a terminal"))
        .arg(json()),
        named(
            "stats",
            "Show how many events there are, by status and type, and what waits",
            "cognigy-server stats --server https://hooks.example.com",
        )
        .arg(server())
        .arg(json()),
        named(
            "why",
            "Tell in plain words what became of an event, or of a contact's latest events",
            "cognigy-server why evt-42\n  cognigy-server why customer-17",
        )
        .arg(Arg::new("key").value_name("KEY|ID").required(true).help("An event's id, or a contact's externalId or userId"))
        .arg(source("Of this source (default: the only source that has such an event, or all)"))
        .arg(server())
        .arg(json()),
        with_filter(named(
            "tail",
            "Print each event as it arrives, until interrupted",
            "cognigy-server tail --source shop",
        ))
        .arg(number("lines", "10", "Print this many earlier events first"))
        .arg(utc())
        .arg(server())
        .arg(json()),
        named(
            "pause",
            "Have the workers of a source claim no more; deliveries are still taken in",
            "cognigy-server pause shop",
        )
        .arg(source_argument())
        .arg(server())
        .arg(json()),
        named("resume", "Have the workers of a paused source go on", "cognigy-server resume shop")
            .arg(source_argument())
            .arg(server())
            .arg(json()),
        named(
            "webhooks",
            "List, change or delete the webhooks that Cognigy has",
            "cognigy-server webhooks list\n  cognigy-server webhooks update w-1 --active off",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(named("list", "List the webhooks", "cognigy-server webhooks list").arg(json()))
        .subcommand(
            named(
                "update",
                "Change a webhook; what is not named stays as it is",
                "cognigy-server webhooks update w-1 --url https://hooks.example.com/webhooks/cognigy",
            )
            .arg(id().required(true).help("The webhook's id"))
            .arg(Arg::new("name").long("name").value_name("NAME").help("Its name"))
            .arg(Arg::new("url").long("url").value_name("URL").help("The URL that Cognigy is to post to"))
            .arg(Arg::new("events").long("events").value_name("TYPES").help("Comma-separated types"))
            .arg(Arg::new("active").long("active").value_name("SWITCH").value_parser(["on", "off"]).help("Whether it sends events"))
            .arg(flag("secret", "Have Cognigy sign with the source's secret, as it is set here"))
            .arg(source("The source whose secret it is (default: the plain path's)"))
            .arg(json()),
        )
        .subcommand(
            named("delete", "Delete a webhook", "cognigy-server webhooks delete w-1")
                .arg(id().required(true).help("The webhook's id"))
                .arg(json()),
        ),
        named(
            "doctor",
            "Look at everything that a server needs, and say how to mend what is wrong",
            "cognigy-server doctor",
        )
        .arg(json()),
        named(
            "verify",
            "Look at every stored event and body, and say whether each is where it may be",
            "cognigy-server verify --json > report.json",
        )
        .long_about(
            "Look at every stored event, and say whether each is where it may be.\n\nEvery event has to be in a \
             status that its attempts, its dead letter and its times agree with, its body has to be there and \
             be its own, none may be stuck for longer than the bound, and the numbers that the store keeps \
             have to be those of what is there. Servers go on meanwhile.",
        )
        .arg(Arg::new("bound").long("bound").value_name("DURATION").default_value("15m").help("How long nothing may happen to an event that is not paused, once it is due"))
        .arg(server())
        .arg(json()),
        named(
            "backup",
            "Copy the database to a new file, while servers go on",
            "cognigy-server backup /backups/webhooks-$(date +%F).db",
        )
        .arg(
            Arg::new("file").value_name("FILE").required(true).value_parser(value_parser!(std::path::PathBuf))
                .help("The file to write, which must not exist; only its owner can read it"),
        ),
        named(
            "import-python",
            "Take over the database of the Python page that this server replaces",
            "cognigy-server import-python /srv/old/webhooks.db --dry-run",
        )
        .long_about(
            "Take over the database of the Python page that this server replaces.\n\nEach row of its table \
             webhook_events becomes an event of the source: processed ones as processed, without running \
             anything; pending ones as pending; failed ones, and those of any other status, as dead-lettered. \
             Rows that hold no valid event are named and left out. Importing twice imports nothing twice. No \
             server with workers may run on the database meanwhile.",
        )
        .arg(
            Arg::new("file").value_name("FILE").required(true).value_parser(value_parser!(std::path::PathBuf))
                .help("The page's database; it is only read"),
        )
        .arg(source("Import into this source (default: the plain path's)"))
        .arg(flag("dry-run", "Import nothing: only say what would be"))
        .arg(json()),
        papers::completions(named(
            "completions",
            "Print the completions for a shell",
            "cognigy-server completions bash > /etc/bash_completion.d/cognigy-server",
        )),
        papers::man(named(
            "man",
            "Print the manual page, of the program or of a command",
            "cognigy-server man | man -l -",
        )),
    ]
}

fn server() -> Arg {
    Arg::new("server")
        .long("server")
        .value_name("URL")
        .help("Ask this running server, with COGNIGY_ADMIN_TOKEN, instead of the database")
}

fn source_argument() -> Arg {
    Arg::new("source")
        .value_name("SOURCE")
        .required(true)
        .help("The source; that of the plain path is cognigy")
}

fn with_filter(mut command: Command) -> Command {
    for (name, help) in filter::NAMES {
        let argument = Arg::new(name).long(name.replace('_', "-")).value_name("VALUE").help(help);
        command = command.arg(argument);
    }
    command
}

fn source(help: &'static str) -> Arg {
    Arg::new("source").long("source").value_name("NAME").help(help)
}

fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("N")
        .default_value(default)
        .value_parser(value_parser!(u32))
        .help(help)
}

/// A positive number of events a second.
fn a_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && rate.is_finite());
    rate.ok_or_else(|| "expected a positive number of events a second".to_owned())
}

fn at_least_one(number: Arg) -> Arg {
    number.value_parser(value_parser!(u32).range(1..))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn utc() -> Arg {
    flag("utc", "On a terminal, print times in UTC instead of how long ago they were")
}

fn json() -> Arg {
    flag("json", "Print JSON, one object a line")
}
