//! Paths are taken as they are spelt, so that a rule of a proxy in front means what it says.

/// Where an event's id stands in the path, which may hold anything and so may be percent-encoded.
const BEFORE_IDS: [&str; 2] = ["/admin/events/", "/webhooks/replay/"];

/// Whether a request's path, as sent, is spelt as the routes are. The router decodes before it
/// compares, so that without this `/%61dmin` would be `/admin`; doubled slashes, dots and the like it
/// does not know anyhow.
pub(super) fn is_plain(path: &str) -> bool {
    BEFORE_IDS.iter().any(|before| path.starts_with(before)) || !path.contains('%')
}

/// Whether an answer at this path is for operators alone: anything but deliveries'.
pub(super) fn is_private(path: &str) -> bool {
    path != "/webhooks/cognigy" && !path.starts_with("/webhooks/cognigy/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_event_s_id_may_be_encoded() {
        for path in ["/admin/events", "/admin/events/a%2Fb", "/webhooks/replay/%61", "/metrics"] {
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
