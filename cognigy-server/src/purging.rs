//! How long what is stored is kept, as set.

pub(crate) use cognigy_operator::purging::{Outcome, purge, would};
use cognigy_service::Retention;

use crate::settings::Settings;

/// The retention that is set.
pub(crate) fn retention(settings: &Settings) -> Retention {
    Retention {
        finished: settings.retention,
        dead_letters: settings.dead_letter_retention,
        sensitive: settings.sensitive_retention,
    }
}
