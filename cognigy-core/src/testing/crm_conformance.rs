//! The contract of a [`CrmClient`], one test for each sentence.

use async_trait::async_trait;

use crate::{
    event::Correlation,
    ports::{ContactQuery, CrmClient, FailureKind},
};

/// A CRM client under test, and a hand on the CRM that it asks.
#[async_trait]
pub trait CrmFixture: Send + Sync {
    /// The client.
    fn client(&self) -> &dyn CrmClient;

    /// From now on the CRM knows a person by `contact_key`. The answer has `marker` somewhere in it.
    async fn knows(&self, contact_key: &str, marker: &str);

    /// From now on the CRM cannot be reached, or answers with an error of its own.
    async fn goes_down(&self);

    /// From now on it answers again.
    async fn comes_back(&self);
}

/// Runs the suite against a CRM client: one test for each promise.
///
/// Takes the attribute that makes an async test, and an async function that returns a
/// [`CrmFixture`](crate::testing::crm_conformance::CrmFixture) whose CRM knows no person.
///
/// ```
/// use async_trait::async_trait;
/// use cognigy_core::{
///     Contact, ContactQuery, CrmClient, Failure,
///     testing::crm_conformance::CrmFixture,
/// };
/// use std::{collections::HashMap, sync::Mutex};
///
/// /// A CRM in memory, which is its own client. None: it is down.
/// struct Crm(Mutex<(bool, HashMap<String, String>)>);
///
/// #[async_trait]
/// impl CrmClient for Crm {
///     async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
///         let crm = self.0.lock().unwrap();
///         if crm.0 {
///             return Err(Failure::transient("the CRM is down"));
///         }
///         let found = crm.1.get(&query.contact_key);
///         found.map(|json| Contact::from_json(json).map_err(Failure::from)).transpose()
///     }
/// }
///
/// #[async_trait]
/// impl CrmFixture for Crm {
///     fn client(&self) -> &dyn CrmClient {
///         self
///     }
///
///     async fn knows(&self, contact_key: &str, marker: &str) {
///         let json = serde_json::json!({ "name": marker }).to_string();
///         self.0.lock().unwrap().1.insert(contact_key.into(), json);
///     }
///
///     async fn goes_down(&self) {
///         self.0.lock().unwrap().0 = true;
///     }
///
///     async fn comes_back(&self) {
///         self.0.lock().unwrap().0 = false;
///     }
/// }
///
/// async fn empty_crm() -> Crm {
///     Crm(Mutex::default())
/// }
///
/// cognigy_core::crm_conformance!(#[tokio::test], empty_crm);
/// ```
#[macro_export]
macro_rules! crm_conformance {
    (#[$attribute:meta], $fresh:path) => {
        $crate::crm_conformance! { @cases #[$attribute], $fresh:
            a_person_who_is_known_is_found
            a_person_who_is_not_known_is_no_error
            a_crm_that_is_down_is_a_transient_failure_and_then_answers_again
            a_hostile_key_finds_its_own_person_and_no_other
            a_look_up_that_is_dropped_harms_no_later_one
            look_ups_at_the_same_time_get_their_own_answers
        }
    };
    (@cases #[$attribute:meta], $fresh:path: $($case:ident)+) => {
        $(
            #[$attribute]
            async fn $case() {
                $crate::testing::crm_conformance::$case(&$fresh().await).await;
            }
        )+
    };
}

/// Asks for `contact_key`. Each call is of an event of its own.
#[must_use]
pub fn query(contact_key: &str) -> ContactQuery {
    ContactQuery {
        contact_key: contact_key.to_owned(),
        idempotency_key: format!("cognigy/{contact_key}/1"),
        fresh: true,
        traceparent: None,
    }
}

/// Whether the client finds a person by `contact_key`, whose answer holds `marker`.
async fn finds(fixture: &dyn CrmFixture, contact_key: &str, marker: &str) -> bool {
    let answer = fixture.client().find_contact(&query(contact_key)).await;
    let contact = answer.unwrap_or_else(|failure| panic!("{contact_key:?}: {failure:?}"));
    contact.is_some_and(|contact| contact.as_json().contains(marker))
}

async fn finds_none(fixture: &dyn CrmFixture, contact_key: &str) -> bool {
    let answer = fixture.client().find_contact(&query(contact_key)).await;
    answer.unwrap_or_else(|failure| panic!("{contact_key:?}: {failure:?}")).is_none()
}

/// A person that the CRM knows is found, each time.
pub async fn a_person_who_is_known_is_found(fixture: &dyn CrmFixture) {
    fixture.knows("c-1", "marker-1").await;
    fixture.knows("c-2", "marker-2").await;
    for _ in 0..2 {
        assert!(finds(fixture, "c-1", "marker-1").await && finds(fixture, "c-2", "marker-2").await);
    }
}

/// `Ok(None)`: an answer, not an error ([`Correlation::None`]).
pub async fn a_person_who_is_not_known_is_no_error(fixture: &dyn CrmFixture) {
    assert!(finds_none(fixture, "c-1").await, "{}", Correlation::None.as_str());
    fixture.knows("c-1", "marker-1").await;
    assert!(finds_none(fixture, "c-2").await);
    assert!(finds_none(fixture, "c-").await, "a part of a key is another key");
    assert!(finds_none(fixture, "c-11").await, "and so is a longer one");
    assert!(finds(fixture, "c-1", "marker-1").await, "what was not found before may be found now");
}

/// What may pass by itself is `Transient`, and passes.
pub async fn a_crm_that_is_down_is_a_transient_failure_and_then_answers_again(
    fixture: &dyn CrmFixture,
) {
    fixture.knows("c-1", "marker-1").await;
    fixture.goes_down().await;
    let answer = fixture.client().find_contact(&query("c-1")).await;
    let failure = answer.expect_err("a CRM that is down cannot answer");
    assert!(matches!(failure.kind(), FailureKind::Transient { .. }), "{failure:?}");
    fixture.comes_back().await;
    assert!(finds(fixture, "c-1", "marker-1").await);
}

/// A key is any non-empty text: it is asked for as it is, or refused, and never taken for another.
pub async fn a_hostile_key_finds_its_own_person_and_no_other(fixture: &dyn CrmFixture) {
    fixture.knows("c-1", "marker-1").await;
    let keys =
        ["*", "%", "c-%", "c-1' OR '1'='1", "c-1&external_id=c-2", "../c-1", "c-1/", "c-1#", "ä ☃"];
    for key in keys {
        // A CRM that cannot express a key may decline it for good.
        match fixture.client().find_contact(&query(key)).await {
            Ok(found) => assert_eq!(found, None, "{key:?} is a person of its own"),
            Err(failure) => assert_eq!(failure.kind(), FailureKind::Permanent, "{key:?}"),
        }
    }
    assert!(finds(fixture, "c-1", "marker-1").await);
}

/// A look-up may be dropped at any time.
pub async fn a_look_up_that_is_dropped_harms_no_later_one(fixture: &dyn CrmFixture) {
    use futures_util::FutureExt;
    fixture.knows("c-1", "marker-1").await;
    for _ in 0..3 {
        // Polled once, and dropped wherever it then waits.
        let _ = fixture.client().find_contact(&query("c-1")).now_or_never();
    }
    assert!(finds(fixture, "c-1", "marker-1").await);
}

/// Answers are not mixed up.
pub async fn look_ups_at_the_same_time_get_their_own_answers(fixture: &dyn CrmFixture) {
    let number = |n: usize| (format!("c-{n}"), format!("marker-{n}-"));
    for n in 0..16 {
        let (key, marker) = number(n);
        fixture.knows(&key, &marker).await;
    }
    let asked = (0..64).map(|n| async move {
        let (key, marker) = number(n % 16);
        assert!(finds(fixture, &key, &marker).await, "{key}");
    });
    futures_util::future::join_all(asked).await;
}
