//! Contacts found a short while ago. The cache reads no clock: the caller passes the time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use cognigy_core::Contact;
use tokio::time::Instant;

/// The most that the cache keeps; beyond it, the oldest answers are removed first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) contacts: usize,
    /// Of keys and answers together.
    pub(crate) bytes: usize,
}

impl Bounds {
    /// A contact is asked for again while its dialogue lasts, and one process has hardly more than
    /// a few thousand dialogues at a time; at a few KiB each they make some 10 MiB. An answer may
    /// be a hundred times as long, and 16 MiB stay small beside the 64 MiB that a busy server is to
    /// get by with.
    pub(crate) const DEFAULT: Self = Self { contacts: 4096, bytes: 16 * 1024 * 1024 };
}

/// A look-up, as the cache needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookUp {
    /// Higher for one that began later.
    pub(crate) number: u64,
    /// The CRM may have read its answer as early as this, so the answer's age counts from here.
    pub(crate) began: Instant,
}

/// Answers by contact key.
#[derive(Debug)]
pub(crate) struct Cache {
    span: Duration,
    bounds: Bounds,
    answers: HashMap<Arc<str>, Answer>,
    /// The keys of `answers`, by the number of the look-up: oldest first.
    by_age: BTreeMap<u64, Arc<str>>,
    bytes: usize,
}

#[derive(Debug)]
struct Answer {
    look_up: LookUp,
    contact: Contact,
}

impl Cache {
    /// A cache that uses answers for `span`; with a span of zero it keeps nothing.
    pub(crate) fn new(span: Duration, bounds: Bounds) -> Self {
        let (answers, by_age) = (HashMap::new(), BTreeMap::new());
        Self { span, bounds, answers, by_age, bytes: 0 }
    }

    pub(crate) fn span(&self) -> Duration {
        self.span
    }

    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    pub(crate) fn get(&mut self, key: &str, now: Instant) -> Option<Contact> {
        let answer = self.answers.get(key)?;
        if self.is_over(answer.look_up, now) {
            self.forget(key);
            return None;
        }
        Some(answer.contact.clone())
    }

    pub(crate) fn put(&mut self, key: &Arc<str>, look_up: LookUp, contact: Contact, now: Instant) {
        self.forget(key);
        let size = size(key, &contact);
        if self.is_over(look_up, now) || size > self.bounds.bytes {
            return;
        }
        self.bytes += size;
        self.by_age.insert(look_up.number, Arc::clone(key));
        self.answers.insert(Arc::clone(key), Answer { look_up, contact });
        while let Some(oldest) = self.oldest_to_go(now) {
            self.forget(&oldest);
        }
    }

    pub(crate) fn forget(&mut self, key: &str) {
        if let Some((key, answer)) = self.answers.remove_entry(key) {
            self.by_age.remove(&answer.look_up.number);
            self.bytes -= size(&key, &answer.contact);
        }
    }

    fn is_over(&self, look_up: LookUp, now: Instant) -> bool {
        now.duration_since(look_up.began) >= self.span
    }

    /// The oldest answer's key, if it is too old or if the cache is too full.
    fn oldest_to_go(&self, now: Instant) -> Option<Arc<str>> {
        let (_, key) = self.by_age.first_key_value()?;
        let too_much = self.answers.len() > self.bounds.contacts || self.bytes > self.bounds.bytes;
        let too_old = || self.answers.get(key).is_some_and(|it| self.is_over(it.look_up, now));
        (too_much || too_old()).then(|| Arc::clone(key))
    }
}

fn size(key: &str, contact: &Contact) -> usize {
    key.len() + contact.as_json().len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A cache that keeps three contacts of forty bytes together for ten seconds.
    struct Scene {
        cache: Cache,
        now: Instant,
        number: u64,
    }

    impl Scene {
        fn new() -> Self {
            let bounds = Bounds { contacts: 3, bytes: 40 };
            Self { cache: Cache::new(10 * SECOND, bounds), now: Instant::now(), number: 0 }
        }

        fn found(&mut self, key: &str, json: &str) {
            self.found_after(Duration::ZERO, key, json);
        }

        fn found_after(&mut self, time: Duration, key: &str, json: &str) {
            self.number += 1;
            let look_up = LookUp { number: self.number, began: self.now };
            self.now += time;
            self.cache.put(&key.into(), look_up, Contact::from_json(json).unwrap(), self.now);
        }

        fn known(&mut self) -> String {
            let known = |key: &&str| self.cache.get(key, self.now).is_some();
            ["a", "b", "c", "d"].into_iter().filter(known).collect()
        }

        fn is_empty(&self) -> bool {
            let Cache { answers, by_age, bytes, .. } = &self.cache;
            answers.is_empty() && by_age.is_empty() && *bytes == 0
        }
    }

    #[test]
    fn an_answer_is_as_old_as_its_question() {
        let mut scene = Scene::new();
        scene.found_after(4 * SECOND, "a", "1");
        scene.now += 6 * SECOND - Duration::from_millis(1);
        assert_eq!(scene.known(), "a");
        scene.now += Duration::from_millis(1);
        assert_eq!(scene.known(), "");
        assert!(scene.is_empty(), "what is over is not kept");
        scene.found_after(10 * SECOND, "b", "1");
        assert!(scene.is_empty(), "nor taken in");
    }

    #[test]
    fn beyond_the_bounds_the_oldest_go_first() {
        let mut scene = Scene::new();
        for key in ["a", "b", "c"] {
            scene.found(key, "1");
        }
        scene.found("a", "2");
        scene.found("d", "1");
        assert_eq!(scene.known(), "acd", "too many");
        scene.found("b", "\"twenty-nine bytes ----------\"");
        assert_eq!(scene.known(), "abd");
        scene.found("c", "\"12345\"");
        assert_eq!(scene.known(), "bc", "too many, and then too long together");
        scene.found("b", "\"longer than everything together may be\"");
        assert_eq!(scene.known(), "c", "too long alone, and the older answer is no longer right");
    }

    #[test]
    fn a_new_answer_sweeps_out_what_is_over() {
        let mut scene = Scene::new();
        scene.found("a", "1");
        scene.found("b", "1");
        scene.now += 10 * SECOND;
        scene.found("c", "1");
        assert_eq!((scene.cache.answers.len(), scene.cache.by_age.len()), (1, 1));
        scene.cache.forget("c");
        scene.cache.forget("c");
        assert!(scene.is_empty());
    }

    #[test]
    fn no_span_remembers_nothing() {
        let mut scene = Scene::new();
        scene.cache.span = Duration::ZERO;
        scene.found("a", "1");
        assert!(scene.is_empty());
    }
}
