//! Runs seeds, and tells the story of one that fails.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use cognigy_simulation::{Bug, Campaign, Fault, Plan, Report, run, shrink, tell};

fn main() -> ExitCode {
    let arguments = command().get_matches();
    let planted = arguments.get_one::<String>("planted");
    let bug = match planted.map(|name| Bug::from_name(name).ok_or(name)) {
        None => None,
        Some(Ok(bug)) => Some(bug),
        Some(Err(name)) => {
            let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
            eprintln!("no planted bug is called {name}; there are: {}", names.join(", "));
            return ExitCode::from(2);
        }
    };
    match arguments.get_one::<u64>("seed") {
        Some(seed) => one(*seed, bug, arguments.get_flag("whole")),
        None => many(&arguments, bug),
    }
}

fn command() -> Command {
    let number = |name: &'static str| Arg::new(name).long(name).value_parser(value_parser!(u64));
    Command::new("simulate")
        .about("Runs the core deterministically under faults and checks what came of it")
        .arg(number("seeds").default_value("1000").help("How many seeds to run"))
        .arg(number("from").default_value("0").help("The first seed"))
        .arg(number("minutes").help("Run seeds for so many minutes instead"))
        .arg(number("seed").help("Run this seed and tell its story"))
        .arg(Arg::new("planted").long("planted").help("Plant this bug"))
        .arg(
            Arg::new("whole")
                .long("whole")
                .action(ArgAction::SetTrue)
                .help("With --seed: tell the whole story, not the smallest that fails the same way"),
        )
        .arg(
            Arg::new("keep-going")
                .long("keep-going")
                .action(ArgAction::SetTrue)
                .help("Do not stop at the first failure; list the broken promises"),
        )
        .after_help("Example: simulate --seeds 10000\nExit status: 0 all held, 1 a promise was broken, 2 wrong use")
}

fn one(seed: u64, bug: Option<Bug>, whole: bool) -> ExitCode {
    let outcome = run(Plan::draw(seed), bug);
    let failed = !outcome.violations.is_empty();
    let told = if failed && !whole { shrink(outcome, bug) } else { outcome };
    println!("{}", tell(&told, bug));
    if failed {
        return ExitCode::FAILURE;
    }
    println!("Seed {seed}: every promise held.");
    ExitCode::SUCCESS
}

fn many(arguments: &ArgMatches, bug: Option<Bug>) -> ExitCode {
    let number = |name| arguments.get_one::<u64>(name).copied();
    let end = number("minutes").map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let seeds = match end {
        Some(_) => u64::MAX,
        None => number("seeds").unwrap_or(0),
    };
    let from = number("from").unwrap_or(0);
    let keep_going = arguments.get_flag("keep-going");
    let campaign = Campaign { from, seeds, bug, stop_at_failure: !keep_going };
    let began = Instant::now();
    let is_over = || end.is_some_and(|end| Instant::now() >= end);
    let report = campaign.run(is_over, |done| {
        if done % 100_000 == 0 {
            eprintln!("{done} seeds after {:.0?}", began.elapsed());
        }
    });
    print(&report, began.elapsed());
    if keep_going {
        list(&report);
    }
    if let Some((seed, _)) = report.failures.first() {
        println!();
        let outcome = shrink(run(Plan::draw(*seed), bug), bug);
        println!("Seed {seed} failed.\n\n{}", tell(&outcome, bug));
        return ExitCode::FAILURE;
    }
    if !report.unrepeatable.is_empty() {
        println!("\nThese seeds made two different runs: {:?}", report.unrepeatable);
        return ExitCode::FAILURE;
    }
    // Ten thousand seeds meet every fault; a few seeds cannot.
    let never = report.never();
    if report.seeds >= 10_000 && !never.is_empty() {
        let names: Vec<_> = never.iter().map(|fault| fault.label()).collect();
        println!("\nNever happened, so nothing is proved about: {}", names.join("; "));
        return ExitCode::FAILURE;
    }
    println!(
        "\nNo promise was broken in {} seeds: at 95 % confidence fewer than {:.1e} of seeds fail.",
        report.seeds,
        report.highest_likely_rate()
    );
    ExitCode::SUCCESS
}

fn print(report: &Report, took: Duration) {
    println!(
        "{} seeds in {took:.1?}: {} events, {} history entries, {} polls, {} virtual hours\n",
        report.seeds,
        report.events,
        report.entries,
        report.polls,
        report.virtual_seconds / 3600
    );
    println!("{:>10} {:>8}  ", "times", "seeds");
    for fault in Fault::ALL {
        let times = report.fired.get(fault).copied().unwrap_or(0);
        let seeds = report.seeds_with.get(fault).copied().unwrap_or(0);
        println!("{times:>10} {seeds:>8}  {}", fault.label());
    }
}

/// The promises that were broken, how often, and by which seeds.
fn list(report: &Report) {
    let mut broken: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (seed, violation) in &report.failures {
        broken.entry(violation.promise).or_default().push(*seed);
    }
    for (promise, seeds) in broken {
        println!("\n{} seeds: {promise}\n    {:?}", seeds.len(), &seeds[..seeds.len().min(12)]);
    }
}
