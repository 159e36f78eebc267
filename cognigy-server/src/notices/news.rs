//! What is news: a comparison of what is seen with what was told.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use cognigy_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::view::time;

/// A class of errors that was not seen for so long is news when it comes back.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::hours(24);
/// How many notices are sent in an hour at most. The others wait.
const AN_HOUR: usize = 60;

/// What is the case now.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) errors: Vec<Failing>,
    /// The sources with a breaker, and whether it is open.
    pub(super) breakers: BTreeMap<String, bool>,
    /// The sources that are watched, and when the last event of each came.
    pub(super) sources: BTreeMap<String, Heard>,
    /// All bulk replays that are remembered: whether each runs, and how it is shown.
    pub(super) replays: BTreeMap<u64, (bool, Value)>,
}

/// A class of errors.
#[derive(Debug, Clone)]
pub(super) struct Failing {
    pub(super) class: String,
    pub(super) message: String,
    pub(super) count: u64,
    pub(super) last: Timestamp,
    pub(super) sample: Vec<String>,
}

/// How a source is watched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) last: Timestamp,
    pub(super) is_silent: bool,
}

/// What was told. It is kept in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// Error classes, and when each was last seen, in microseconds since 1970.
    classes: BTreeMap<String, i64>,
    breakers: BTreeSet<String>,
    silent: BTreeSet<String>,
    /// Bulk replays that were running.
    running: BTreeSet<u64>,
    /// The newest bulk replay that was seen.
    newest_replay: u64,
    /// When notices were sent in the last hour, in microseconds.
    sent: Vec<i64>,
    /// Whether anything was looked at yet: what was there before the first look is no news.
    began: bool,
}

/// Something that operators should know.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Notice {
    pub(super) kind: &'static str,
    pub(super) subject: String,
    pub(super) data: Value,
    /// What was told once this one is.
    change: Change,
}

#[derive(Debug, Clone, PartialEq)]
enum Change {
    Class(String, i64),
    BreakerOpen(String),
    BreakerClosed(String),
    Silent(String),
    Heard(String),
    Replay(u64),
}

impl Notice {
    fn new(kind: &'static str, subject: &str, data: Value, change: Change) -> Self {
        Self { kind, subject: subject.to_owned(), data, change }
    }

    /// Its `webhook-id`: the same if it is sent twice, by this node or another.
    pub(super) fn id(&self) -> String {
        let text = json!([self.kind, self.subject, self.data]).to_string();
        let digest = Sha256::digest(text);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("ntc_{hex}")
    }

    pub(super) fn body(&self, now: Timestamp) -> Value {
        json!({ "type": self.kind, "timestamp": time(now), "data": self.data })
    }
}

impl Told {
    /// What is to be told.
    pub(super) fn news(&self, seen: &Seen, now: Timestamp) -> Vec<Notice> {
        let mut news = Vec::new();
        let forgotten = (now - FORGOTTEN_AFTER).timestamp_micros();
        for failing in &seen.errors {
            let known = self.classes.get(&failing.class).is_some_and(|last| *last > forgotten);
            if !known {
                let Failing { class, message, count, last, sample } = failing;
                let data = json!({
                    "class": class, "message": message, "count": count, "last": time(*last),
                    "sample": sample,
                });
                let change = Change::Class(class.clone(), last.timestamp_micros());
                news.push(Notice::new("error.opened", class, data, change));
            }
        }
        for (source, is_open) in &seen.breakers {
            let data = json!({ "source": source });
            match (is_open, self.breakers.contains(source)) {
                (true, false) => {
                    let change = Change::BreakerOpen(source.clone());
                    news.push(Notice::new("breaker.opened", source, data, change));
                }
                (false, true) => {
                    let change = Change::BreakerClosed(source.clone());
                    news.push(Notice::new("breaker.closed", source, data, change));
                }
                _ => {}
            }
        }
        for (source, Heard { last, is_silent }) in &seen.sources {
            let data = json!({ "source": source, "last_event_at": time(*last) });
            match (is_silent, self.silent.contains(source)) {
                (true, false) => {
                    let change = Change::Silent(source.clone());
                    news.push(Notice::new("source.silent", source, data, change));
                }
                (false, true) => {
                    let change = Change::Heard(source.clone());
                    news.push(Notice::new("source.heard", source, data, change));
                }
                _ => {}
            }
        }
        for (id, (runs, shown)) in &seen.replays {
            let is_new = *id > self.newest_replay && self.began;
            if !runs && (self.running.contains(id) || is_new) {
                let notice = Notice::new(
                    "replay.ended",
                    &id.to_string(),
                    shown.clone(),
                    Change::Replay(*id),
                );
                news.push(notice);
            }
        }
        news
    }

    /// How many more notices may be sent now.
    pub(super) fn room(&mut self, now: Timestamp) -> usize {
        let hour_ago = (now - TimeDelta::hours(1)).timestamp_micros();
        self.sent.retain(|at| *at > hour_ago);
        AN_HOUR.saturating_sub(self.sent.len())
    }

    /// The notice was taken.
    pub(super) fn tell(&mut self, notice: Notice, now: Timestamp) {
        self.sent.push(now.timestamp_micros());
        match notice.change {
            Change::Class(class, last) => drop(self.classes.insert(class, last)),
            Change::BreakerOpen(source) => drop(self.breakers.insert(source)),
            Change::BreakerClosed(source) => drop(self.breakers.remove(&source)),
            Change::Silent(source) => drop(self.silent.insert(source)),
            Change::Heard(source) => drop(self.silent.remove(&source)),
            Change::Replay(id) => {
                self.running.remove(&id);
                self.newest_replay = self.newest_replay.max(id);
            }
        }
    }

    /// Remembers what is no news, for the next look. `left` was not told.
    pub(super) fn note(&mut self, seen: &Seen, left: &[Notice], now: Timestamp) {
        let forgotten = (now - FORGOTTEN_AFTER).timestamp_micros();
        for failing in &seen.errors {
            if let Some(last) = self.classes.get_mut(&failing.class) {
                *last = (*last).max(failing.last.timestamp_micros());
            }
        }
        self.classes.retain(|_, last| *last > forgotten);
        for (id, (runs, _)) in &seen.replays {
            let waits = left.iter().any(|notice| notice.change == Change::Replay(*id));
            if *runs || waits {
                self.running.insert(*id);
            }
            self.newest_replay = self.newest_replay.max(*id);
        }
        self.running.retain(|id| seen.replays.contains_key(id));
        self.began = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn failing(class: &str, seconds: i64) -> Failing {
        let (class, message) = (class.to_owned(), "CRM answered 404".to_owned());
        Failing { class, message, count: 1, last: at(seconds), sample: vec!["e1".to_owned()] }
    }

    /// What is told at each look, as `error.opened a`.
    fn look(told: &mut Told, seen: &Seen, seconds: i64) -> Vec<String> {
        let news = told.news(seen, at(seconds));
        let lines = news.iter().map(|it| format!("{} {}", it.kind, it.subject)).collect();
        news.into_iter().for_each(|notice| told.tell(notice, at(seconds)));
        told.note(seen, &[], at(seconds));
        lines
    }

    #[test]
    fn an_error_class_is_told_once_until_it_was_away_for_a_day() {
        let mut told = Told::default();
        let seen = |seconds| Seen { errors: vec![failing("a", seconds)], ..Seen::default() };
        assert_eq!(look(&mut told, &seen(0), 0), ["error.opened a"]);
        assert_eq!(look(&mut told, &seen(5), 10), [""; 0]);
        assert_eq!(look(&mut told, &seen(80_000), 80_000), [""; 0], "it is still there");
        assert_eq!(look(&mut told, &Seen::default(), 80_000 + 86_399), [""; 0]);
        assert_eq!(look(&mut told, &seen(170_000), 170_000), ["error.opened a"]);
    }

    #[test]
    fn breakers_and_silent_sources_are_told_when_they_change() {
        let mut told = Told::default();
        let seen = |open, is_silent| Seen {
            breakers: [("shop".to_owned(), open)].into(),
            sources: [("shop".to_owned(), Heard { last: at(0), is_silent })].into(),
            ..Seen::default()
        };
        for (open, silent, expected) in [
            (false, false, &[][..]),
            (true, false, &["breaker.opened shop"][..]),
            (true, true, &["source.silent shop"]),
            (true, true, &[]),
            (false, false, &["breaker.closed shop", "source.heard shop"]),
            (false, false, &[]),
        ] {
            assert_eq!(look(&mut told, &seen(open, silent), 0), expected);
        }
    }

    #[test]
    fn a_replay_is_told_when_it_has_ended_but_not_those_from_before_the_first_look() {
        let mut told = Told::default();
        let seen = |replays: &[(u64, bool)]| Seen {
            replays: replays.iter().map(|(id, runs)| (*id, (*runs, json!({ "id": id })))).collect(),
            ..Seen::default()
        };
        assert_eq!(look(&mut told, &seen(&[(1, false), (2, true)]), 0), [""; 0]);
        assert_eq!(look(&mut told, &seen(&[(1, false), (2, true)]), 1), [""; 0]);
        assert_eq!(look(&mut told, &seen(&[(1, false), (2, false)]), 2), ["replay.ended 2"]);
        // One that began and ended between two looks.
        let all = seen(&[(1, false), (2, false), (3, false)]);
        assert_eq!(look(&mut told, &all, 3), ["replay.ended 3"]);
        assert_eq!(look(&mut told, &all, 4), [""; 0]);
    }

    #[test]
    fn what_was_not_taken_is_told_at_a_later_look_under_the_same_id() {
        let mut told = Told { began: true, ..Told::default() };
        let seen = Seen {
            errors: vec![failing("a", 0)],
            replays: [(7, (false, json!({ "id": 7 })))].into(),
            ..Seen::default()
        };
        let first = told.news(&seen, at(0));
        told.note(&seen, &first, at(0));
        let second = told.news(&seen, at(10));
        let ids = |news: &[Notice]| news.iter().map(Notice::id).collect::<Vec<_>>();
        assert_eq!((second.len(), ids(&first)), (2, ids(&second)));
    }

    #[test]
    fn an_hour_has_room_for_so_many_notices() {
        let mut told = Told::default();
        for number in 0..70 {
            let class = format!("c{number}");
            let seen = Seen { errors: vec![failing(&class, 0)], ..Seen::default() };
            if told.room(at(number)) > 0 {
                look(&mut told, &seen, number);
            }
        }
        assert_eq!((told.sent.len(), told.room(at(100))), (60, 0));
        assert_eq!(told.room(at(3600)), 1);
        assert_eq!(told.room(at(4000)), 60);
    }
}
