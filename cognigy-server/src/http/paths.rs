//! Paths are compared as they are spelt, so that a rule of a proxy in front of the server holds.

use crate::console;

/// The paths that end in the id of an event or of a contact. The id may contain any character, so it may
/// be percent-encoded.
const BEFORE_IDS: [&str; 3] = ["/admin/contacts/", "/admin/events/", "/webhooks/replay/"];

/// Whether a request's path, as sent, is spelt as the routes are. The router decodes a path before
/// it compares: without this check `/%61dmin` would be `/admin`. Doubled slashes and dots the
/// router does not match anyway.
pub(super) fn is_plain(path: &str) -> bool {
    BEFORE_IDS.iter().any(|before| path.starts_with(before)) || !path.contains('%')
}

/// Whether an answer at this path is for operators only. That is so for all paths but those of
/// deliveries and of the console's files.
pub(super) fn is_private(path: &str) -> bool {
    path != "/webhooks/cognigy"
        && !path.starts_with("/webhooks/cognigy/")
        && !path.starts_with(console::FOLDER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_of_an_event_or_a_contact_may_be_encoded() {
        for path in [
            "/admin/events",
            "/admin/events/a%2Fb",
            "/admin/contacts/%C3%A4",
            "/webhooks/replay/%61",
            "/metrics",
        ] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "/%61dmin/stats",
            "/%6detrics",
            "/admin/replays/%31",
            "/admin%2fevents/x",
            "/admin/event%73/x",
            "/webhooks/cogn%69gy",
            "/webhooks/replay%2Fx",
            "/%",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
