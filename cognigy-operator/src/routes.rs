//! The routes: which request is for what, what it may say, and which roles may send it.

use cognigy_core::Reply;

use crate::{request::decoded, selection::MAX_SELECTION};

/// How long a request to erase may be, in bytes. Ids of contacts are shorter, though a sender may give one
/// of a body's size: such a person is erased from a command line.
const MAX_ERASURE: usize = 256 * 1024;

/// How long a request to purge may be, in bytes.
const MAX_PURGE: usize = 1024;

/// What a list of events is filtered by, and which page of it is shown.
const FILTER: [&str; 13] = [
    "status",
    "type",
    "user",
    "external_id",
    "from",
    "to",
    "source",
    "conversation",
    "correlation",
    "error",
    "q",
    "limit",
    "cursor",
];

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Replay,
    ListEvents,
    ShowEvent,
    ListQuarantine,
    ShowQuarantined,
    DiscardQuarantined,
    RetryQuarantined,
    Pause,
    Resume,
    ListAudit,
    ListErrors,
    ShowContact,
    Discard,
    Erase,
    Purge,
    Rehearse,
    ListReplays,
    BeginReplay,
    ShowReplay,
    CancelReplay,
    BeginRecorrelation,
    ShowStats,
}

/// A route of the operator API.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    method: &'static str,
    path: &'static str,
    query: &'static [&'static str],
    changes: bool,
    longest_body: usize,
    pub(crate) action: Action,
}

impl Route {
    /// Its method.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Its path, such as `/admin/events/{event_id}`.
    #[must_use]
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// The names of the parameters that its query may have.
    #[must_use]
    pub fn query(&self) -> &'static [&'static str] {
        self.query
    }

    /// Whether it changes anything or asks the CRM, so that only an [`Operator`](crate::Role::Operator) may send it.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.changes
    }

    /// How long its body may be, in bytes; 0 if it takes none.
    #[must_use]
    pub fn longest_body(&self) -> usize {
        self.longest_body
    }
}

const fn read(path: &'static str, query: &'static [&'static str], action: Action) -> Route {
    Route { method: "GET", path, query, changes: false, longest_body: 0, action }
}

const fn change(
    method: &'static str,
    path: &'static str,
    longest_body: usize,
    action: Action,
) -> Route {
    Route { method, path, query: &[], changes: true, longest_body, action }
}

const REPLAY: Route = Route {
    query: &["source"],
    ..change("POST", "/webhooks/replay/{event_id}", 0, Action::Replay)
};

const PAGE: &[&str] = &["limit", "cursor"];

/// All routes; those of one path in the order in which `Allow` names their methods.
const ROUTES: [Route; 23] = [
    // As older scripts ask for it.
    Route { method: "GET", ..REPLAY },
    REPLAY,
    read("/admin/events", &FILTER, Action::ListEvents),
    read("/admin/events/{event_id}", &["source"], Action::ShowEvent),
    read("/admin/replays", &[], Action::ListReplays),
    change("POST", "/admin/replays", MAX_SELECTION, Action::BeginReplay),
    read("/admin/replays/{id}", &[], Action::ShowReplay),
    change("DELETE", "/admin/replays/{id}", 0, Action::CancelReplay),
    read("/admin/quarantine", PAGE, Action::ListQuarantine),
    read("/admin/quarantine/{id}", &[], Action::ShowQuarantined),
    change("DELETE", "/admin/quarantine/{id}", 0, Action::DiscardQuarantined),
    change("POST", "/admin/quarantine/{id}/retry", 0, Action::RetryQuarantined),
    change("POST", "/admin/sources/{source}/pause", 0, Action::Pause),
    change("POST", "/admin/sources/{source}/resume", 0, Action::Resume),
    read("/admin/audit", PAGE, Action::ListAudit),
    read("/admin/errors", &["source", "from", "to"], Action::ListErrors),
    read("/admin/contacts/{key}", &[], Action::ShowContact),
    change("POST", "/admin/discards", MAX_SELECTION, Action::Discard),
    change("POST", "/admin/erasures", MAX_ERASURE, Action::Erase),
    change("POST", "/admin/purges", MAX_PURGE, Action::Purge),
    change("POST", "/admin/rehearsals", MAX_SELECTION, Action::Rehearse),
    change("POST", "/admin/recorrelations", MAX_SELECTION, Action::BeginRecorrelation),
    read("/admin/stats", &[], Action::ShowStats),
];

/// The routes of the operator API.
#[must_use]
pub fn routes() -> &'static [Route] {
    &ROUTES
}

/// The parameters that take the rest of a path: ids of events and of contacts, which may contain any
/// character. All other parts are compared as they are spelt, so that a rule of a proxy in front holds.
const RESTS: [&str; 2] = ["{event_id}", "{key}"];

/// The route of a request, and what stands at the place of its path's parameter.
pub(crate) fn find(method: &str, path: &str) -> Result<(&'static Route, String), Reply> {
    let mut allowed = Vec::new();
    for route in &ROUTES {
        let Some(parameter) = matched(route.path, path) else { continue };
        if route.method == method {
            return Ok((route, parameter));
        }
        allowed.push(route.method);
    }
    Err(match allowed.is_empty() {
        true => cognigy_service::not_found(),
        false => cognigy_service::method_not_allowed(&allowed.join(", ")),
    })
}

/// What stands at the place of the pattern's parameter; nothing if it has none.
fn matched(pattern: &str, path: &str) -> Option<String> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return (pattern == path).then(String::new);
    };
    let found = path.strip_prefix(before)?;
    if RESTS.iter().any(|name| name[1..] == *rest) {
        return Some(decoded(found)).filter(|found| !found.is_empty());
    }
    let after = rest.split_once('}')?.1;
    let found = found.strip_suffix(after)?;
    let is_one = !found.is_empty() && !found.contains(['/', '%']);
    is_one.then(|| found.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Result<(Action, String), u16> {
        let found = find(method, path);
        found.map(|(route, text)| (route.action, text)).map_err(|reply| reply.status())
    }

    #[test]
    fn an_id_may_contain_anything_and_all_else_is_compared_as_spelt() {
        let event = |id: &str| Ok((Action::ShowEvent, id.to_owned()));
        assert_eq!(found("GET", "/admin/events"), Ok((Action::ListEvents, String::new())));
        assert_eq!(found("GET", "/admin/events/a"), event("a"));
        assert_eq!(found("GET", "/admin/events/a%2Fb%20c%25"), event("a/b c%"));
        assert_eq!(found("GET", "/admin/events/a/b+"), event("a/b+"));
        let item = |id: &str| Ok((Action::RetryQuarantined, id.to_owned()));
        assert_eq!(found("POST", "/admin/quarantine/7/retry"), item("7"));
        for path in [
            "",
            "/",
            "/admin",
            "/admin/",
            "/admin/events/",
            "/%61dmin/events",
            "//admin/events",
            "/admin/stats/",
            "/admin/quarantine/%37",
            "/admin/quarantine/7/8",
            "/admin/quarantine//retry",
            "/admin/Events",
            "/nested/admin/events",
        ] {
            assert_eq!(found("GET", path), Err(404), "{path}");
        }
    }

    #[test]
    fn another_method_is_told_which_there_are() {
        for (method, path, allowed) in [
            ("POST", "/admin/events", "GET"),
            ("HEAD", "/admin/events/a", "GET"),
            ("DELETE", "/webhooks/replay/a", "GET, POST"),
            ("POST", "/admin/quarantine/7", "GET, DELETE"),
            ("get", "/admin/stats", "GET"),
        ] {
            let reply = find(method, path).unwrap_err();
            let told = reply.headers().find(|(name, _)| *name == "Allow");
            assert_eq!((reply.status(), told.unwrap().1.as_str()), (405, allowed), "{path}");
        }
    }
}
