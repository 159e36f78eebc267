//! What the crash tests share: a child process that puts load on a store and keeps a ledger of the
//! answers it received, and an audit of a database against such a ledger.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub(crate) mod audit;
pub(crate) mod calls;
pub(crate) mod ledger;
pub(crate) mod load;

use std::{env, path::Path, process::Command};

use tempfile::TempDir;

/// The same test program again, to run the one test named `name`, which plays the child.
pub(crate) fn child(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([name, "--exact", "--ignored", "--nocapture"]);
    // libtest captures the output; this child prints only when it fails.
    command.stdout(std::process::Stdio::null());
    command
}

/// How many rounds or cases: `COGNIGY_CRASH_ROUNDS`, where the long form was asked for.
pub(crate) fn rounds(usual: usize) -> usize {
    match env::var("COGNIGY_CRASH_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("COGNIGY_CRASH_ROUNDS is a number"),
        Err(_) => usual,
    }
}

/// The seed of the random choices: `COGNIGY_CRASH_SEED`, to repeat a run that failed or to try
/// others.
pub(crate) fn seed() -> u64 {
    match env::var("COGNIGY_CRASH_SEED") {
        Ok(seed) => seed.parse().expect("COGNIGY_CRASH_SEED is a number"),
        Err(_) => 1,
    }
}

/// A folder for files that are thrown away: syncing them would only take time.
pub(crate) fn workplace() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}
