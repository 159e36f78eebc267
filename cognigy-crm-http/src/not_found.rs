//! Which answers mean that the CRM has no contact with a key.

use std::{fmt, str::FromStr};

/// Which answers mean that the CRM has no contact with the key. Written as in the setting
/// `CRM_NOT_FOUND`: `404`, `empty`, or `404,empty`, which is the default.
///
/// ```
/// use cognigy_crm_http::NotFoundRule;
///
/// let rule: NotFoundRule = "empty".parse()?;
/// assert!(rule.empty && !rule.status_404);
/// assert_eq!(NotFoundRule::default().to_string(), "404,empty");
/// assert!("never".parse::<NotFoundRule>().is_err());
/// # Ok::<_, cognigy_crm_http::NotFoundRuleError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotFoundRule {
    /// `404`: the status 404. Many CRMs answer a wrong path the same way; see
    /// [`HttpCrm::only_not_found`](crate::HttpCrm::only_not_found). Without it, a 404 is a
    /// permanent failure.
    pub status_404: bool,
    /// `empty`: a 2xx whose body is an empty list, an empty object, `null`, or nothing at all (204
    /// among them). Without it, `[]`, `{}` and `null` are contacts like any other JSON, and a body
    /// of nothing is a permanent failure, because an empty body is not JSON.
    pub empty: bool,
}

impl Default for NotFoundRule {
    fn default() -> Self {
        Self { status_404: true, empty: true }
    }
}

/// The text is not a [`NotFoundRule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `404`, `empty` or `404,empty`")]
pub struct NotFoundRuleError;

impl FromStr for NotFoundRule {
    type Err = NotFoundRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rule = Self { status_404: false, empty: false };
        for word in text.split(',') {
            match word.trim() {
                "404" => rule.status_404 = true,
                "empty" => rule.empty = true,
                _ => return Err(NotFoundRuleError),
            }
        }
        Ok(rule)
    }
}

impl fmt::Display for NotFoundRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.status_404, self.empty) {
            (true, true) => "404,empty",
            (true, false) => "404",
            (false, true) => "empty",
            (false, false) => "",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        for text in ["404", "empty", "404,empty"] {
            assert_eq!(text.parse().map(|rule: NotFoundRule| rule.to_string()), Ok(text.into()));
        }
        assert_eq!(" empty , 404 ".parse(), Ok(NotFoundRule::default()));
        for text in ["", ",", "404,", "405", "Empty", "404 empty", "404;empty", "none"] {
            assert_eq!(text.parse::<NotFoundRule>(), Err(NotFoundRuleError), "{text:?}");
        }
    }
}
