//! Who an operator is, and what an operator may do.

use std::sync::Arc;

use crate::problem::Problem;

/// The longest name of an operator, in characters.
const MAX_NAME: usize = 128;

/// The operator who sends a request, as the authentication of the embedding program knows it.
///
/// There is no operator by default: each one is made by [`new`](Self::new), after the program has found out
/// who sends the request. The name stands in the record of what operators did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    name: Arc<str>,
    role: Role,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads, without what people wrote: no body, no contact, no kept header, and no search for words.
    Reader,
    /// Reads everything.
    ReaderOfBodies,
    /// Reads and changes everything.
    Operator,
}

impl Operator {
    /// The operator with this name and role. Of the name, control characters are left out, and what is longer than
    /// 128 characters: it stands in the record of each change.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, role: Role) -> Self {
        let name = name.into();
        let is_fit = name.len() <= MAX_NAME && !name.chars().any(char::is_control);
        let fitted = || name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect::<String>();
        Self { name: if is_fit { Arc::clone(&name) } else { fitted().into() }, role }
    }

    /// The name in the record of what operators did.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the operator may do.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Refuses an operator who only reads.
    ///
    /// # Errors
    ///
    /// A 403: the role changes nothing.
    pub fn may_change(&self) -> Result<(), Problem> {
        if self.role.may_change() {
            return Ok(());
        }
        let (name, role) = (&self.name, self.role.as_str());
        let detail = format!("The operator {name} has the role {role} and changes nothing");
        Err(Problem::forbidden(&detail))
    }
}

impl Role {
    /// All roles, the weakest first.
    pub const ALL: [Self; 3] = [Self::Reader, Self::ReaderOfBodies, Self::Operator];

    /// As settings write it: `reader`, `reader,bodies` or `operator`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::ReaderOfBodies => "reader,bodies",
            Self::Operator => "operator",
        }
    }

    /// Whether the operator may change anything.
    #[must_use]
    pub fn may_change(self) -> bool {
        self == Self::Operator
    }

    /// Whether the operator sees bodies, and the contacts that belong to them.
    #[must_use]
    pub fn sees_bodies(self) -> bool {
        self != Self::Reader
    }
}

#[cfg(test)]
mod tests {
    use super::{Operator, Role};

    #[test]
    fn a_name_fits_into_a_record() {
        let name = |text: &str| Operator::new(text, Role::Reader).name().to_owned();
        assert_eq!(
            (name("Anna Österlund"), name("a\nb\0")),
            ("Anna Österlund".into(), "ab".into())
        );
        assert_eq!(name(&"ö".repeat(1000)), "ö".repeat(128));
    }
}
