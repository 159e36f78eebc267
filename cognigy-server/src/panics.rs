//! Panics, in this crate and in dependencies: one line tells operators where the panic was. It does
//! not contain the panic's message, which may quote a secret or a body.
//!
//! The core decides what becomes of the work that panicked: an attempt or a dead letter fails and
//! is tried again.

use std::{
    panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind},
    sync::{Mutex, PoisonError},
};

/// The location of the latest panic.
static LATEST: Mutex<Option<String>> = Mutex::new(None);

/// From now on a panic is one log line with its location.
pub(crate) fn hide_messages() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), shown);
        if tracing::dispatcher::has_been_set() {
            tracing::error!(place, "a part of the program failed unexpectedly; please report this");
        }
        *LATEST.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }));
}

/// The outcome of `work`. None if it panicked: then one line on stderr says where.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(work)).ok();
    if outcome.is_none() {
        let place = LATEST.lock().unwrap_or_else(PoisonError::into_inner).take();
        let place = place.unwrap_or_default();
        eprintln!("cognigy-server: failed unexpectedly at {place}; please report this");
    }
    outcome
}

/// Shows `aws-smithy-runtime-api-1.20.0/src/http/headers.rs:242`, without the path on the machine
/// that built the program.
fn shown(location: &Location<'_>) -> String {
    let file = location.file();
    let beginnings = ["/registry/src/", "/git/checkouts/", "/rustc/"];
    let inner = beginnings.iter().find_map(|it| file.split_once(it)?.1.split_once('/'));
    format!("{}:{}", inner.map_or(file, |(_, rest)| rest), location.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hook belongs to the whole process, so the test runs itself again in a child process.
    #[test]
    fn a_panic_is_told_by_its_place_and_without_its_words() {
        if std::env::var_os("COGNIGY_TEST_PANICS").is_some() {
            hide_messages();
            assert_eq!(caught(|| 7), Some(7));
            assert_eq!(caught(|| -> u8 { panic!("marked-words") }), None);
            assert_eq!(caught(|| "x".repeat(3).parse::<u8>().unwrap()), None);
            return;
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "panics::tests::a_panic_is_told_by_its_place_and_without_its_words"])
            .arg("--nocapture")
            .env("COGNIGY_TEST_PANICS", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<_> = told.lines().filter(|it| it.starts_with("cognigy-server: ")).collect();
        assert_eq!(lines.len(), 2, "{told}");
        assert!(lines.iter().all(|line| line.contains("panics.rs:")), "{told}");
        assert!(!told.contains("marked") && !told.contains("panicked"), "{told}");
    }
}
