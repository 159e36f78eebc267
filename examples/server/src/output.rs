//! What the commands write to stdout.

use std::{
    fmt::Arguments,
    io::{ErrorKind, Write, stdout},
};

use crate::app::StartError;

/// `println!` for a pipe whose reader may leave (`list | head`): an error to return, where
/// `println!` panics.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::output::line(format_args!($($text)*))
    };
}
pub(crate) use say;

/// Writes one line.
pub(crate) fn line(text: Arguments<'_>) -> Result<(), StartError> {
    let mut out = stdout().lock();
    writeln!(out, "{text}").map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => StartError::Unread,
        _ => StartError::failed("stdout", &error),
    })
}
