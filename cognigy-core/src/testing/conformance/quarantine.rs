//! What the quarantine promises.

use super::{at, sample};
use crate::{PageRequest, QuarantineEntry, QuarantineReason, Store};

fn entry(body: &str, reason: QuarantineReason) -> QuarantineEntry {
    let source = sample::key("x").source;
    let (event_id, detail) = (Some("x".to_owned()), "payload is required".to_owned());
    QuarantineEntry { source, reason, event_id, detail, body: body.to_owned().into() }
}

async fn bodies(store: &dyn Store) -> Vec<String> {
    let page = store.quarantined(PageRequest { limit: 10, after: None }).await.unwrap();
    let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    page.items.iter().map(|item| text(&item.body)).collect()
}

/// Once per body and reason.
pub async fn a_quarantined_body_is_kept_once(store: &dyn Store) {
    for seconds in 0..3 {
        store.quarantine(entry("{}", QuarantineReason::Invalid), at(seconds)).await.unwrap();
    }
    store.quarantine(entry("{}", QuarantineReason::Conflict), at(3)).await.unwrap();
    store.quarantine(entry("{ }", QuarantineReason::Invalid), at(4)).await.unwrap();
    assert_eq!(bodies(store).await, ["{ }", "{}", "{}"]);
    assert_eq!(store.counts().await.unwrap().quarantined, 3);
}

/// Newest first, whole, page by page; what is discharged is gone.
pub async fn quarantine_pages_and_discharges(store: &dyn Store) {
    for number in 0..3 {
        let entry = entry(&number.to_string(), QuarantineReason::Invalid);
        store.quarantine(entry, at(number)).await.unwrap();
    }
    let first = store.quarantined(PageRequest { limit: 2, after: None }).await.unwrap();
    assert_eq!(first.items.len(), 2);
    let second = store.quarantined(PageRequest { limit: 2, after: first.next }).await.unwrap();
    assert_eq!((second.items.len(), second.next), (1, None));
    let item = &second.items[0];
    assert_eq!(item.body.as_ref(), b"0");
    assert_eq!((item.reason, item.received_at), (QuarantineReason::Invalid, at(0)));
    assert_eq!(item.event_id.as_deref(), Some("x"));
    assert_eq!(item.detail, "payload is required");

    let found = store.quarantined_item(item.id).await.unwrap().unwrap();
    assert_eq!(found.body, item.body);
    assert!(store.discharge(item.id).await.unwrap());
    assert!(!store.discharge(item.id).await.unwrap());
    assert!(store.quarantined_item(item.id).await.unwrap().is_none());
    assert_eq!(bodies(store).await, ["2", "1"]);
}

/// Retention holds for the quarantine too.
pub async fn old_quarantine_is_purged(store: &dyn Store) {
    store.quarantine(entry("old", QuarantineReason::Invalid), at(0)).await.unwrap();
    store.quarantine(entry("young", QuarantineReason::Invalid), at(10)).await.unwrap();
    store.purge(at(0), 10).await.unwrap();
    assert_eq!(bodies(store).await, ["young", "old"], "none came before that");
    assert_eq!(store.purge(at(5), 10).await.unwrap(), 0);
    assert_eq!(bodies(store).await, ["young"]);
}
