//! The contract of the quarantine.

use super::{at, sample};
use crate::{
    event::{DeliveryContext, SourceName},
    store::{
        EXCERPT_BYTES, PageRequest, PurgeRequest, QuarantineEntry, QuarantineLimits,
        QuarantineReason, Store,
    },
};

fn entry(body: &str, reason: QuarantineReason) -> QuarantineEntry {
    let source = sample::key("x").source;
    let (event_id, detail) = (Some("x".to_owned()), "payload is required".to_owned());
    QuarantineEntry {
        source,
        reason,
        event_id,
        detail,
        body: body.to_owned().into(),
        context: DeliveryContext::default(),
    }
}

async fn keep(store: &dyn Store, entry: QuarantineEntry, seconds: i64) {
    let limits = QuarantineLimits::default();
    assert_eq!(store.quarantine(entry, limits, at(seconds)).await.unwrap(), 0, "there is room");
}

async fn bodies(store: &dyn Store) -> Vec<String> {
    let page = store.quarantined(PageRequest { limit: 20, after: None }).await.unwrap();
    let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    page.items.iter().map(|item| text(&item.excerpt)).collect()
}

/// A body is kept once per reason.
pub async fn a_quarantined_body_is_kept_once(store: &dyn Store) {
    for seconds in 0..3 {
        keep(store, entry("{}", QuarantineReason::Invalid), seconds).await;
    }
    keep(store, entry("{}", QuarantineReason::Conflict), 3).await;
    keep(store, entry("{ }", QuarantineReason::Invalid), 4).await;
    assert_eq!(bodies(store).await, ["{ }", "{}", "{}"]);
    assert_eq!(store.counts().await.unwrap().quarantined, 3);
    // What was kept with a body is a part of what was received.
    let context = sample::context(&[("ce-id", "1")]);
    for seconds in 5..7 {
        let entry = entry("{}", QuarantineReason::Invalid);
        keep(store, QuarantineEntry { context: context.clone(), ..entry }, seconds).await;
    }
    let page = store.quarantined(PageRequest { limit: 10, after: None }).await.unwrap();
    assert_eq!(page.items.len(), 4);
    let found = store.quarantined_item(page.items[0].id).await.unwrap().unwrap();
    assert_eq!((found.body.as_ref(), found.context), (&b"{}"[..], context));
}

/// Bodies are listed newest first, page by page; a discharged body is gone.
pub async fn quarantine_pages_and_discharges(store: &dyn Store) {
    for number in 0..3 {
        let entry = entry(&number.to_string(), QuarantineReason::Invalid);
        keep(store, entry, number).await;
    }
    let first = store.quarantined(PageRequest { limit: 2, after: None }).await.unwrap();
    assert_eq!(first.items.len(), 2);
    let second = store.quarantined(PageRequest { limit: 2, after: first.next }).await.unwrap();
    assert_eq!((second.items.len(), second.next), (1, None));
    let item = &second.items[0];
    assert_eq!(item.excerpt.as_ref(), b"0");
    assert!(item.is_whole());
    assert_eq!((item.reason, item.received_at), (QuarantineReason::Invalid, at(0)));
    assert_eq!(item.event_id.as_deref(), Some("x"));
    assert_eq!(item.detail, "payload is required");

    let found = store.quarantined_item(item.id).await.unwrap().unwrap();
    assert_eq!(found.body, item.excerpt);
    assert_eq!(found.summary(), *item);
    assert!(store.discharge(item.id).await.unwrap());
    assert!(!store.discharge(item.id).await.unwrap());
    assert!(store.quarantined_item(item.id).await.unwrap().is_none());
    assert_eq!(bodies(store).await, ["2", "1"]);
}

/// Retention applies to the quarantine too.
pub async fn old_quarantine_is_purged(store: &dyn Store) {
    keep(store, entry("old", QuarantineReason::Invalid), 0).await;
    keep(store, entry("conflict", QuarantineReason::Conflict), 0).await;
    keep(store, entry("young", QuarantineReason::Invalid), 10).await;
    let step = store.purge(PurgeRequest::all_before(at(0), 10)).await.unwrap();
    assert!(step.purged.is_empty());
    assert_eq!(bodies(store).await, ["young", "conflict", "old"], "none came before that");
    let request = PurgeRequest { unresolved_before: None, ..PurgeRequest::all_before(at(5), 10) };
    let expected = [(QuarantineReason::Invalid, 1)].into();
    assert_eq!(store.purgeable(request).await.unwrap().quarantined, expected);
    let purged = store.purge(request).await.unwrap().purged;
    assert_eq!((purged.total_events(), purged.quarantined), (0, expected));
    assert_eq!(bodies(store).await, ["young", "conflict"], "its sender believes it was taken");
    let request = PurgeRequest { unresolved_before: Some(at(5)), ..request };
    let purged = store.purge(request).await.unwrap().purged.quarantined;
    assert_eq!(purged, [(QuarantineReason::Conflict, 1)].into());
    assert_eq!(bodies(store).await, ["young"]);
}

/// A source that floods the quarantine loses its own oldest invalid bodies, by number and by bytes,
/// and nothing else.
pub async fn limits_evict_only_a_source_s_own_invalid_bodies(store: &dyn Store) {
    let shop: SourceName = "shop".parse().unwrap();
    keep(store, entry("conflict", QuarantineReason::Conflict), 0).await;
    let of_shop =
        QuarantineEntry { source: shop, ..entry("another source's", QuarantineReason::Invalid) };
    keep(store, of_shop, 0).await;
    let evicted = async |body: &str, items: usize, bytes: u64| -> u64 {
        let limits = QuarantineLimits { items, bytes };
        store.quarantine(entry(body, QuarantineReason::Invalid), limits, at(1)).await.unwrap()
    };
    for (body, gone) in [("a", 0), ("b", 0), ("c", 1), ("c", 0), ("d", 1)] {
        assert_eq!(evicted(body, 2, 1000).await, gone, "{body}");
    }
    assert_eq!(bodies(store).await, ["d", "c", "another source's", "conflict"]);
    assert_eq!(evicted("ten bytes!", 9, 11).await, 1, "nothing fits beside it but one byte");
    assert_eq!(bodies(store).await, ["ten bytes!", "d", "another source's", "conflict"]);
    assert_eq!(evicted("larger than the limit", 9, 11).await, 2);
    let left = ["larger than the limit", "another source's", "conflict"];
    assert_eq!(bodies(store).await, left, "the newest is kept");
    for number in 0..10 {
        assert_eq!(evicted(&format!("body {number}"), usize::MAX, u64::MAX).await, 0);
    }
    assert_eq!(bodies(store).await.len(), 13, "without limits nothing goes");
}

/// A list shows the beginning of a body; reading the single item returns all of it.
pub async fn a_long_body_is_listed_by_its_beginning(store: &dyn Store) {
    let body = "x".repeat(EXCERPT_BYTES + 1);
    keep(store, entry(&body, QuarantineReason::Invalid), 0).await;
    let page = store.quarantined(PageRequest { limit: 10, after: None }).await.unwrap();
    let item = &page.items[0];
    assert_eq!(item.excerpt, &body.as_bytes()[..EXCERPT_BYTES]);
    assert_eq!((item.length, item.is_whole()), (body.len() as u64, false));
    let found = store.quarantined_item(item.id).await.unwrap().unwrap();
    assert_eq!(found.body, body.as_bytes());

    keep(store, entry("", QuarantineReason::Invalid), 1).await;
    let page = store.quarantined(PageRequest { limit: 10, after: None }).await.unwrap();
    assert_eq!((page.items[0].length, page.items[0].is_whole()), (0, true));
}
