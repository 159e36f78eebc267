//! The record of what operators did.

use super::{at, sample};
use crate::store::{AuditEntry, PageRequest, Store};

/// Entries come back as they were added, newest first, and those about an event by themselves.
pub async fn what_operators_did_is_recorded_in_order(store: &dyn Store) {
    let all = PageRequest { limit: 10, after: None };
    assert_eq!(store.audited(None, all).await.unwrap().entries, []);
    let mut expected = Vec::new();
    for number in 0..5_i64 {
        let key = sample::key(&format!("e{}", number % 2));
        let is_event = number < 4;
        let entry = AuditEntry {
            at: at(number),
            by: "anna".to_owned(),
            action: "replay".to_owned(),
            target: Some(key.id.as_str().to_owned()),
            source: is_event.then_some(key.source),
            filter: (number == 1).then(|| r#"{"user":"a\u0000'\\"}"#.to_owned()),
            count: u64::try_from(number).ok().filter(|_| is_event),
            outcome: "a \\ and a \0 in an outcome".to_owned(),
        };
        store.append_audit(entry.clone()).await.unwrap();
        expected.insert(0, entry);
    }
    assert_eq!(store.audited(None, all).await.unwrap().entries, expected);
    let mut page = PageRequest { limit: 2, after: None };
    let mut seen = Vec::new();
    loop {
        let found = store.audited(None, page).await.unwrap();
        assert!(found.entries.len() <= 2);
        seen.extend(found.entries);
        // What is added meanwhile is on no later page.
        store.append_audit(AuditEntry { at: at(9), ..expected[0].clone() }).await.unwrap();
        page.after = found.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
    let key = sample::key("e1");
    // One of many events: it is in the event's history, and not between what was done to the many.
    let part = AuditEntry { at: at(10), count: None, ..expected[1].clone() };
    assert_eq!(part.source.as_ref(), Some(&key.source));
    store.append_audit(part.clone()).await.unwrap();
    expected.insert(0, part);
    let about = store.audited(Some(&key), all).await.unwrap();
    let of_event: Vec<_> = expected.iter().filter(|entry| entry.is_about(&key)).cloned().collect();
    assert_eq!((about.entries, of_event.len()), (of_event, 3));
    let newest = store.audited(None, PageRequest { limit: 1, after: None }).await.unwrap().entries;
    assert!(!newest[0].is_part(), "{newest:?}");
}
