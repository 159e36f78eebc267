//! The tokens of one credential, as a store keeps them.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::{AccessToken, answer::TokenAnswer};
use crate::{auth::StoredToken, secret::SecretText};

/// Refresh token and access token. Times are seconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    refresh_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replace_at: Option<u64>,
    /// Until then, another process is fetching a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_until: Option<u64>,
    /// Changes each time, so that no two claims are the same text.
    #[serde(default)]
    version: u64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.refresh_token.zeroize();
        self.access_token.zeroize();
    }
}

impl Kept {
    pub(super) fn new(refresh_token: &str) -> Self {
        let refresh_token = refresh_token.to_owned();
        Self {
            refresh_token,
            access_token: None,
            replace_at: None,
            claimed_until: None,
            version: 0,
        }
    }

    /// `None` where the text is of another form.
    pub(super) fn read(stored: &StoredToken) -> Option<Self> {
        serde_json::from_str(stored.expose()).ok()
    }

    pub(super) fn text(&self) -> StoredToken {
        StoredToken::new(serde_json::to_string(self).unwrap_or_default())
    }

    pub(super) fn refresh_token(&self) -> &str {
        &self.refresh_token
    }

    pub(super) fn token(&self, scheme: &str) -> Option<AccessToken> {
        let answer = TokenAnswer {
            access_token: SecretText::new(self.access_token.clone()?),
            refresh_token: None,
            replace_at: self.replace_at.map(time),
        };
        answer.token(scheme).ok()
    }

    pub(super) fn is_claimed(&self, now: SystemTime) -> bool {
        self.claimed_until.is_some_and(|until| now < time(until))
    }

    pub(super) fn claimed(&self, until: SystemTime) -> Self {
        let (claimed_until, version) = (Some(seconds(until)), self.version + 1);
        let mut claimed = self.clone();
        (claimed.claimed_until, claimed.version) = (claimed_until, version);
        claimed
    }

    /// With the tokens of `answer`. A refresh token stays valid where the answer has no new one.
    pub(super) fn renewed(&self, answer: &TokenAnswer) -> Self {
        let refresh_token = answer.refresh_token.as_ref();
        let refresh_token = refresh_token.map_or(self.refresh_token.as_str(), SecretText::expose);
        Self {
            refresh_token: refresh_token.to_owned(),
            access_token: Some(answer.access_token.expose().to_owned()),
            replace_at: answer.replace_at.map(seconds),
            claimed_until: None,
            version: self.version + 2,
        }
    }
}

fn time(seconds: u64) -> SystemTime {
    // A year far away instead of an overflow: the text may come from anywhere.
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(100_000_000_000))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
