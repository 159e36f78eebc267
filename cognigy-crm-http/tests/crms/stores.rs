//! Processes that share one credential, played by clients that share a token store.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use cognigy_core::BoxError;
use cognigy_crm_http::{
    AuthKind, CrmPreset::Zoho, MAX_STORED_TOKEN_BYTES, MemoryTokenStore, StoredToken, TemplateCrm,
    TokenStore,
};
use futures_util::future::join_all;

use crate::{
    KEY, Told, builder, find, record,
    stand_in::{StandIn, json},
};

/// A store that tells what it was asked, and can fail.
#[derive(Default)]
struct Watched {
    store: MemoryTokenStore,
    fails: AtomicBool,
    names: Mutex<Vec<String>>,
}

#[async_trait]
impl TokenStore for Watched {
    async fn load(&self, name: &str) -> Result<Option<StoredToken>, BoxError> {
        self.names.lock().unwrap().push(name.to_owned());
        self.store.load(name).await
    }

    async fn replace(
        &self,
        name: &str,
        expected: Option<&StoredToken>,
        new: &StoredToken,
    ) -> Result<bool, BoxError> {
        assert!(name.len() <= 64 && new.expose().len() <= MAX_STORED_TOKEN_BYTES);
        if self.fails.load(SeqCst) && new.expose().contains("access-marker") {
            return Err("the disk is full".into());
        }
        self.store.replace(name, expected, new).await
    }
}

/// A token server whose refresh tokens work once, and a CRM that takes the latest token of it.
async fn rotating() -> (StandIn, Arc<AtomicUsize>) {
    rotating_until(Arc::default()).await
}

/// The same. The CRM takes no token up to the number in `ended`.
async fn rotating_until(ended: Arc<AtomicUsize>) -> (StandIn, Arc<AtomicUsize>) {
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&issued);
    let (_, body) = record(Zoho, KEY);
    let server = StandIn::start(move |_, seen| {
        if seen.target() != "/token" {
            let n = counter.load(SeqCst);
            let latest = format!("Zoho-oauthtoken access-marker-{n}");
            let is_latest = seen.header("authorization") == Some(&latest);
            return match is_latest && n > ended.load(SeqCst) {
                true => json("200 OK", &body),
                false => json("401 Unauthorized", r#"{"code":"INVALID_OAUTHTOKEN"}"#),
            };
        }
        let n = counter.load(SeqCst);
        if !seen.text().contains(&format!("refresh_token=refresh-marker-{n}&")) {
            return json("400 Bad Request", r#"{"error":"invalid_grant"}"#);
        }
        let n = counter.fetch_add(1, SeqCst) + 1;
        let tokens =
            format!(r#""access_token":"access-marker-{n}","refresh_token":"refresh-marker-{n}""#);
        json("200 OK", &format!("{{{tokens},\"expires_in\":3600}}"))
    })
    .await;
    (server, issued)
}

fn process(server: &StandIn, store: &Arc<Watched>) -> TemplateCrm {
    configured(server, store, "refresh-marker-0")
}

fn configured(server: &StandIn, store: &Arc<Watched>, refresh_token: &str) -> TemplateCrm {
    builder(Zoho, &server.url())
        .auth(AuthKind::OAuthRefreshToken)
        .token_url("/token")
        .client_id("id")
        .client_secret("secret-marker")
        .refresh_token(refresh_token)
        .token_store(Arc::clone(store) as Arc<dyn TokenStore>)
        .build()
        .unwrap()
}

#[tokio::test]
async fn several_processes_share_one_token() {
    let (server, issued) = rotating().await;
    let store = Arc::new(Watched::default());
    let processes: Vec<_> = (0..5).map(|_| process(&server, &store)).collect();
    let found = join_all(processes.iter().map(find)).await;
    assert!(found.iter().all(|told| matches!(told, Told::Contact(_))), "{found:?}");
    assert_eq!(issued.load(SeqCst), 1);
    let names = store.names.lock().unwrap();
    assert!(names.iter().all(|name| *name == names[0]));
}

#[tokio::test]
async fn a_process_that_starts_again_goes_on_with_the_token_that_was_kept() {
    let (server, issued) = rotating().await;
    let store = Arc::new(Watched::default());
    for _ in 0..2 {
        assert!(matches!(find(&process(&server, &store)).await, Told::Contact(_)));
    }
    assert_eq!(issued.load(SeqCst), 1);
    // Without the store, the configured refresh token would be used once more, and refused.
    let told = find(&process(&server, &Arc::default())).await;
    assert!(told.is_of_service() && told.message().contains("invalid_grant"), "{told:?}");
}

#[tokio::test]
async fn a_token_that_another_process_has_renewed_is_taken_from_the_store() {
    let (server, issued) = rotating().await;
    let store = Arc::new(Watched::default());
    let [one, other] = [(); 2].map(|()| process(&server, &store));
    assert!(matches!(find(&one).await, Told::Contact(_)));
    assert!(matches!(find(&other).await, Told::Contact(_)));
    // The CRM ends the first token; `one` renews it, `other` finds the new one.
    let ended = r#"{"refresh_token":"refresh-marker-1","access_token":"ended"}"#;
    let name = store.names.lock().unwrap()[0].clone();
    let kept = store.load(&name).await.unwrap();
    assert!(store.replace(&name, kept.as_ref(), &StoredToken::new(ended)).await.unwrap());
    let fresh = process(&server, &store);
    assert!(matches!(find(&fresh).await, Told::Contact(_)));
    assert_eq!(issued.load(SeqCst), 2);
    assert!(matches!(find(&one).await, Told::Contact(_)));
    assert!(matches!(find(&other).await, Told::Contact(_)));
    assert_eq!(issued.load(SeqCst), 2);
}

#[tokio::test]
async fn another_configured_refresh_token_begins_anew() {
    let (server, issued) = rotating().await;
    let store = Arc::new(Watched::default());
    assert!(find(&configured(&server, &store, "refresh-marker-9")).await.is_of_service());
    assert!(matches!(
        find(&configured(&server, &store, "refresh-marker-0")).await,
        Told::Contact(_)
    ));
    assert_eq!(issued.load(SeqCst), 1);
}

#[tokio::test]
async fn a_refused_refresh_token_does_not_block_the_other_processes() {
    let (server, _) = rotating().await;
    let store = Arc::new(Watched::default());
    let [one, other] = [(); 2].map(|()| configured(&server, &store, "refresh-marker-9"));
    let began = std::time::Instant::now();
    assert!(find(&one).await.is_of_service());
    assert!(find(&other).await.is_of_service());
    assert!(began.elapsed().as_secs() < 5, "the claim of the first one was given back");
}

#[tokio::test]
async fn a_process_that_died_while_it_fetched_is_not_waited_for_forever() {
    let (server, issued) = rotating().await;
    let store = Arc::new(Watched::default());
    _ = find(&process(&server, &store)).await;
    let name = store.names.lock().unwrap()[0].clone();
    for (claim, taken) in [("1", true), ("99999999999", false)] {
        let kept = store.load(&name).await.unwrap();
        let n = issued.load(SeqCst);
        let dead = format!(r#"{{"refresh_token":"refresh-marker-{n}","claimed_until":{claim}}}"#);
        assert!(store.replace(&name, kept.as_ref(), &StoredToken::new(dead)).await.unwrap());
        let crm = process(&server, &store);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(600), find(&crm)).await;
        assert_eq!(matches!(waited, Ok(Told::Contact(_))), taken);
    }
}

#[tokio::test]
async fn a_token_that_could_not_be_stored_is_used_and_stored_later() {
    let ended = Arc::new(AtomicUsize::new(0));
    let (server, issued) = rotating_until(Arc::clone(&ended)).await;
    let store = Arc::new(Watched::default());
    store.fails.store(true, SeqCst);
    let crm = process(&server, &store);
    assert!(matches!(find(&crm).await, Told::Contact(_)));
    let name = store.names.lock().unwrap()[0].clone();
    let kept = async || store.load(&name).await.unwrap().unwrap();
    assert!(kept().await.expose().contains("refresh-marker-0"));
    // The CRM ends the token. The refresh token that came with it was kept, or there were no other.
    ended.store(1, SeqCst);
    let told = find(&crm).await;
    assert!(told.is_of_service() && told.message().contains("the disk is full"), "{told:?}");
    store.fails.store(false, SeqCst);
    assert!(matches!(find(&crm).await, Told::Contact(_)));
    assert_eq!(issued.load(SeqCst), 2);
    assert!(kept().await.expose().contains("refresh-marker-2"));
}

#[tokio::test]
async fn a_claim_of_another_process_does_not_lose_the_only_valid_token() {
    let ended = Arc::new(AtomicUsize::new(0));
    let (server, issued) = rotating_until(Arc::clone(&ended)).await;
    let store = Arc::new(Watched::default());
    store.fails.store(true, SeqCst);
    let crm = process(&server, &store);
    assert!(matches!(find(&crm).await, Told::Contact(_)));
    // The claim ends, and another process claims the refresh token, which has ended.
    let name = store.names.lock().unwrap()[0].clone();
    let kept = store.load(&name).await.unwrap();
    let other = r#"{"refresh_token":"refresh-marker-0","claimed_until":99999999999,"version":7}"#;
    assert!(store.replace(&name, kept.as_ref(), &StoredToken::new(other)).await.unwrap());
    store.fails.store(false, SeqCst);
    ended.store(1, SeqCst);
    assert!(matches!(find(&crm).await, Told::Contact(_)));
    assert_eq!(issued.load(SeqCst), 2);
    assert!(store.load(&name).await.unwrap().unwrap().expose().contains("refresh-marker-2"));
}
