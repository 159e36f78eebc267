//! The ids by which a FIFO queue keeps order and recognises repeated messages.

use cognigy_core::EventKey;
use sha2::{Digest, Sha256};

/// The one message group: dead letters keep the order in which they were given up.
pub(crate) const MESSAGE_GROUP: &str = "cognigy-events";

/// The longest deduplication id (Amazon SQS API Reference, `SendMessage`).
const MAX_CHARS: usize = 128;

/// The `MessageDeduplicationId` of a run's dead letter: the event id for an event's first run.
///
/// SQS drops a message whose id it has seen within five minutes, so that sending again after an
/// unknown outcome is harmless. A later run is a message of its own, so its id must differ from the
/// first run's; so must the id of an event with the same event id from another source. Their ids
/// are hashes over source, run and event id, separated by line feeds. No event id holds a line
/// feed. So no two of these ids are hashes of the same text, and none equals the hash of an event
/// id that is hashed only because SQS would refuse it.
pub(crate) fn deduplication_id(key: &EventKey, run: u32) -> String {
    let id = key.id.as_str();
    match (key.source.is_default() && run == 1, is_allowed(id)) {
        (true, true) => id.to_owned(),
        (true, false) => sha256_hex(id),
        (false, _) => sha256_hex(&format!("{}\n{run}\n{id}", key.source)),
    }
}

/// SQS accepts only ASCII letters, digits and punctuation, and no space.
fn is_allowed(id: &str) -> bool {
    id.len() <= MAX_CHARS && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn sha256_hex(text: &str) -> String {
    base16ct::lower::encode_string(&Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;

    fn key(source: &str, id: &str) -> EventKey {
        EventKey { source: source.parse().unwrap(), id: id.parse().unwrap() }
    }

    #[test]
    fn the_first_run_goes_by_the_event_id() {
        for id in
            ["e1", "00000000-0000-4000-8000-000000000000", "a!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"]
        {
            assert_eq!(deduplication_id(&key("cognigy", id), 1), id);
        }
        let longest = "x".repeat(128);
        assert_eq!(deduplication_id(&key("cognigy", &longest), 1), longest);
    }

    #[test]
    fn what_sqs_would_refuse_is_hashed() {
        // sha256 of "a b", as any other tool computes it.
        assert_eq!(
            deduplication_id(&key("cognigy", "a b"), 1),
            "c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c2034ae8c38e6fcc6d65"
        );
        for id in ["é", "日本", &"x".repeat(129), "\u{fffe}"] {
            let hashed = deduplication_id(&key("cognigy", id), 1);
            assert!(hashed.len() == 64 && is_allowed(&hashed), "{id}: {hashed}");
        }
    }

    #[test]
    fn runs_sources_and_look_alikes_never_share_an_id() {
        let dead_letters = [
            ("cognigy", "e1", 1),
            ("cognigy", "e1", 2),
            ("cognigy", "e1", 3),
            ("cognigy", "e1-run-2", 1),
            ("cognigy", "e1 2", 1),
            ("cognigy", "1", 2),
            ("genesys", "e1", 1),
            ("genesys", "e1", 2),
            ("genesys-2", "e1", 1),
        ];
        let ids: HashSet<_> = dead_letters
            .iter()
            .map(|(source, id, run)| deduplication_id(&key(source, id), *run))
            .collect();
        assert_eq!(ids.len(), dead_letters.len());
        assert_eq!(
            deduplication_id(&key("cognigy", "e1"), 2),
            deduplication_id(&key("cognigy", "e1"), 2),
            "the same run sent again is recognised"
        );
    }
}
