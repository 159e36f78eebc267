//! What asking the CRM for an event's contact came to.

use std::{fmt, str::FromStr};

/// Whether an event's contact is known, and if not, why.
///
/// ```
/// use cognigy_core::{Correlation, Failure, Handlers, State, UserInput, testing::{CrmAnswer, World}};
///
/// // A handler is called without a contact, too, and can tell why there is none.
/// let handlers = Handlers::new().on(|_: UserInput, cx| async move {
///     match cx.event().correlation() {
///         Correlation::Matched => Ok(()),
///         other => Err(Failure::permanent(format!("the contact is not known: {other}"))),
///     }
/// });
/// let mut world = World::start(handlers);
/// world.crm.set_default(CrmAnswer::Nobody);
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// let stored = world.find("e1");
/// assert_eq!((stored.state, stored.correlation), (State::DeadLettered, Correlation::None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Correlation {
    /// The CRM was not asked: the event has no contact key, or no attempt has been made yet.
    #[default]
    NotAsked,
    /// The CRM knows the contact.
    Matched,
    /// The CRM knows no contact by that key.
    None,
    /// The CRM knows several contacts by that key.
    Ambiguous,
    /// The CRM did not give an answer that can be used, and the run was given up.
    Failed,
}

impl Correlation {
    /// Every correlation.
    pub const ALL: [Self; 5] =
        [Self::NotAsked, Self::Matched, Self::None, Self::Ambiguous, Self::Failed];

    /// The name in stores, APIs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::Matched => "matched",
            Self::None => "none",
            Self::Ambiguous => "ambiguous",
            Self::Failed => "failed",
        }
    }

    /// For stores: what was stored with an event. Events that were settled before correlations were
    /// stored have none; those with a contact were matched.
    #[must_use]
    pub fn of_stored(name: Option<&str>, has_contact: bool) -> Self {
        match name.and_then(|name| name.parse().ok()) {
            Some(stored) => stored,
            None if has_contact => Self::Matched,
            None => Self::NotAsked,
        }
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no [`Correlation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `not_asked`, `matched`, `none`, `ambiguous` or `failed`")]
pub struct UnknownCorrelation;

impl FromStr for Correlation {
    type Err = UnknownCorrelation;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|it| it.as_str() == name).ok_or(UnknownCorrelation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_are_told_by_names_that_stay() {
        let names = ["not_asked", "matched", "none", "ambiguous", "failed"];
        assert_eq!(Correlation::ALL.map(Correlation::as_str), names);
        assert_eq!(names.map(str::parse), Correlation::ALL.map(Ok));
        assert_eq!("Matched".parse::<Correlation>(), Err(UnknownCorrelation));
    }

    #[test]
    fn an_event_of_an_older_version_is_matched_if_it_has_a_contact() {
        assert_eq!(Correlation::of_stored(None, true), Correlation::Matched);
        assert_eq!(Correlation::of_stored(None, false), Correlation::NotAsked);
        assert_eq!(Correlation::of_stored(Some("none"), false), Correlation::None);
    }
}
