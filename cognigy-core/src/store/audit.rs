//! The record of what operators did.

use async_trait::async_trait;

use super::{Cursor, PageRequest};
use crate::{
    event::{EventKey, SourceName, Timestamp},
    ports::StoreError,
};

/// One thing that an operator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it ended.
    pub at: Timestamp,
    /// The operator's name.
    pub by: String,
    /// What was done, such as `replay` or `pause`.
    pub action: String,
    /// What it was done to, such as an event's id; `None` where a filter says so.
    pub target: Option<String>,
    /// The source of the event that `target` names; `None` where the target is not an event.
    pub source: Option<SourceName>,
    /// Which events were chosen, as JSON. None also where it named a person who was erased.
    pub filter: Option<String>,
    /// How many events or other things it was done to, where that is known. `None` for an event that was one
    /// of many: see [`is_part`](Self::is_part).
    pub count: Option<u64>,
    /// What it came to, in a few words.
    pub outcome: String,
}

impl AuditEntry {
    /// Whether the entry says that one event was among those of an operation on many, which has an entry of
    /// its own: it names an event, and has no count.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.source.is_some() && self.count.is_none()
    }

    /// Whether the entry is about that event.
    #[must_use]
    pub fn is_about(&self, event: &EventKey) -> bool {
        self.source.as_ref() == Some(&event.source)
            && self.target.as_deref() == Some(event.id.as_str())
    }
}

/// A page of the record, newest entry first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

/// The record of what operators did. Nothing in it is changed, but an erasure takes those filters that name
/// the person.
///
/// ```
/// use cognigy_core::{AuditEntry, AuditLog, PageRequest, memory::MemoryStore, testing::sample};
///
/// # fn main() -> Result<(), cognigy_core::StoreError> {
/// # futures_executor::block_on(async {
/// let store = MemoryStore::new();
/// let event = sample::key("e1");
/// let entry = AuditEntry {
///     at: sample::start(),
///     by: "ada".into(),
///     action: "replay".into(),
///     target: Some(event.id.to_string()),
///     source: Some(event.source.clone()),
///     filter: None,
///     count: Some(1),
///     outcome: "replayed".into(),
/// };
/// store.append_audit(entry.clone()).await?;
/// let page = store.audited(Some(&event), PageRequest { limit: 10, after: None }).await?;
/// assert_eq!(page.entries, [entry]);
/// # Ok(())
/// # })
/// # }
/// ```
#[async_trait]
pub trait AuditLog: Send + Sync + 'static {
    /// Adds an entry.
    ///
    /// ## Contract
    /// * Durable like [`EventStore::record`](crate::EventStore::record).
    ///
    /// # Errors
    /// The store could not keep the entry, or cannot say whether it did. Adding it again may give two entries.
    async fn append_audit(&self, entry: AuditEntry) -> Result<(), StoreError>;

    /// The entries, newest first: all of them but those that are parts of others
    /// ([`AuditEntry::is_part`]), or all those about one event.
    ///
    /// ## Contract
    /// * Following `next` from page to page yields every entry that was there at the start exactly once,
    ///   whatever is added meanwhile.
    ///
    /// # Errors
    /// The store could not be asked. The same page can be asked for again.
    async fn audited(
        &self,
        about: Option<&EventKey>,
        page: PageRequest,
    ) -> Result<AuditPage, StoreError>;
}
