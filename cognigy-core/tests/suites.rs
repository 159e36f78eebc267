//! The suites for CRM clients, sinks and authenticators, on the implementations of this crate.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, sync::Mutex};

use async_trait::async_trait;
use cognigy_core::{
    Authenticator, Contact, ContactQuery, CredentialPlace, CredentialVerifier, CrmClient,
    DeadLetterSink, Failure, KeyEncoding, Secret, SignatureScheme, SigningScheme, SigningVerifier,
    Timestamp, ToSign, sign,
    testing::{
        ScriptedSink,
        authenticator_conformance::{self, AuthenticatorFixture},
        crm_conformance::CrmFixture,
        sample,
        sink_conformance::SinkFixture,
    },
};

mod scripted_sink {
    use super::*;

    struct Fixture(ScriptedSink);

    #[async_trait]
    impl SinkFixture for Fixture {
        fn sink(&self) -> &dyn DeadLetterSink {
            &self.0
        }

        async fn messages(&self) -> Vec<String> {
            self.0.received().iter().map(|entry| entry.to_message(false)).collect()
        }
    }

    async fn fresh() -> Fixture {
        Fixture(ScriptedSink::new())
    }

    cognigy_core::sink_conformance!(#[tokio::test], fresh);
}

mod crm_in_memory {
    use super::*;

    #[derive(Default)]
    struct Crm {
        people: Mutex<BTreeMap<String, String>>,
        down: Mutex<bool>,
    }

    #[async_trait]
    impl CrmClient for Crm {
        async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
            if *self.down.lock().unwrap() {
                return Err(Failure::transient("the CRM is down"));
            }
            let people = self.people.lock().unwrap();
            let json = people.get(&query.contact_key).map(|marker| format!("\"{marker}\""));
            Ok(json.as_deref().map(Contact::from_json).transpose()?)
        }
    }

    #[async_trait]
    impl CrmFixture for Crm {
        fn client(&self) -> &dyn CrmClient {
            self
        }

        async fn knows(&self, contact_key: &str, marker: &str) {
            self.people.lock().unwrap().insert(contact_key.to_owned(), marker.to_owned());
        }

        async fn goes_down(&self) {
            *self.down.lock().unwrap() = true;
        }

        async fn comes_back(&self) {
            *self.down.lock().unwrap() = false;
        }
    }

    async fn fresh() -> Crm {
        Crm::default()
    }

    cognigy_core::crm_conformance!(#[tokio::test], fresh);
}

type Sign = Box<dyn Fn(&[u8], Timestamp) -> Vec<(String, String)>>;

struct Sender {
    authenticator: Box<dyn Authenticator>,
    headers: Sign,
    covers_the_body: bool,
}

impl AuthenticatorFixture for Sender {
    fn authenticator(&self) -> &dyn Authenticator {
        &*self.authenticator
    }

    fn headers(&self, body: &[u8], now: Timestamp) -> Vec<(String, String)> {
        (self.headers)(body, now)
    }

    fn covers_the_body(&self) -> bool {
        self.covers_the_body
    }
}

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

mod signature_of_the_contract {
    use super::*;

    fn fresh() -> Sender {
        let headers: Sign = Box::new(|body, _| {
            let signature = sign(&sample::secret(), SignatureScheme::Base64, body);
            vec![pair("X-Cognigy-Signature", signature)]
        });
        Sender { authenticator: Box::new(sample::verifier()), headers, covers_the_body: true }
    }

    cognigy_core::authenticator_conformance!(fresh);
}

mod credential_in_a_header {
    use super::*;

    fn fresh() -> Sender {
        in_place(CredentialPlace::Header("X-API-Key".to_owned()))
    }

    cognigy_core::authenticator_conformance!(fresh);
}

mod bearer_token {
    use super::*;

    fn fresh() -> Sender {
        in_place(CredentialPlace::Bearer)
    }

    cognigy_core::authenticator_conformance!(fresh);
}

mod basic_authentication {
    use super::*;

    fn fresh() -> Sender {
        in_place(CredentialPlace::Basic)
    }

    cognigy_core::authenticator_conformance!(fresh);
}

fn in_place(place: CredentialPlace) -> Sender {
    let secret = Secret::new("user:a-password-for-tests").unwrap();
    let authenticator = Box::new(CredentialVerifier::new(place.clone(), &secret));
    let headers: Sign = Box::new(move |_, _| vec![place.header_for(&secret).unwrap()]);
    Sender { authenticator, headers, covers_the_body: false }
}

#[test]
fn every_signing_scheme_with_a_name_keeps_the_contract() {
    const URL: &str = "https://example.com/hooks?a=1";
    for name in SigningScheme::names() {
        let scheme = SigningScheme::named(name).unwrap();
        let secret = match scheme.key {
            KeyEncoding::Whsec => Secret::new("whsec_bG9jYWwtdGVzdC1zZWNyZXQ="),
            KeyEncoding::Base64 => Secret::new("bG9jYWwtdGVzdC1zZWNyZXQ="),
            KeyEncoding::Raw => Secret::new("local-test-secret"),
        };
        let secret = secret.unwrap();
        let verifier = SigningVerifier::new(scheme.clone(), &secret).unwrap().public_url(URL);
        let headers: Sign = Box::new(move |body, at| {
            let delivery = ToSign { body, id: "msg_1", at, method: "POST", url: URL };
            scheme.sign(&secret, &delivery).unwrap()
        });
        let sender = Sender { authenticator: Box::new(verifier), headers, covers_the_body: true };
        for keeps_it in authenticator_conformance::ALL {
            keeps_it(&sender);
        }
    }
}
