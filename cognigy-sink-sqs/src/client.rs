//! The SDK's client: its settings, its HTTP client and its endpoint.

use std::panic::AssertUnwindSafe;

use aws_config::{
    BehaviorVersion, environment::EnvironmentVariableRegionProvider,
    meta::region::RegionProviderChain, profile::ProfileFileRegionProvider,
};
use aws_sdk_sqs::{
    Client,
    config::{Builder, Region, SharedHttpClient, timeout::TimeoutConfig},
};
use aws_smithy_http_client::{
    Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};

use futures_util::FutureExt;

use crate::{
    ConnectError, SqsOptions,
    queue_url::{QueueUrl, http_url},
};

/// A request has to be signed for some region. This region is used where neither the queue URL nor
/// the settings name one, which happens only with emulators. It is their own default.
const EMULATOR_REGION: &str = "us-east-1";

/// Makes the client. Reads the environment and profile files, but sends no request.
pub(crate) async fn client(queue: &QueueUrl, options: &SqsOptions) -> Result<Client, ConnectError> {
    if let Some(endpoint) = &options.endpoint {
        http_url(endpoint).map_err(|reason| ConnectError::Endpoint { reason })?;
    }
    let url_region = queue.region().map(|region| Region::new(region.to_owned()));
    let emulator_region = Region::from_static(EMULATOR_REGION);
    let shared = match &options.sdk_config {
        Some(config) => config.clone(),
        None => {
            // Not the SDK's own chain, which ends by asking the instance metadata service and takes
            // seconds to find that there is none.
            let region = RegionProviderChain::first_try(url_region.clone())
                .or_else(EnvironmentVariableRegionProvider::new())
                .or_else(ProfileFileRegionProvider::new())
                .or_else(emulator_region.clone());
            let loader = aws_config::defaults(BehaviorVersion::latest());
            let loader = loader.region(region).http_client(http_client(options.proxy_from_env));
            // The SDK panics on a retry mode or a number of attempts that it does not know.
            let loaded = AssertUnwindSafe(loader.load()).catch_unwind().await;
            loaded.map_err(|_panic| ConnectError::Settings)?
        }
    };

    // Set as the shared default, so that AWS_ENDPOINT_URL_SQS still overrides it.
    let shared = match queue.own_endpoint() {
        Some(origin) if shared.endpoint_url().is_none() => {
            shared.into_builder().endpoint_url(origin).build()
        }
        _ => shared,
    };
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(options.attempt_timeout)
        .operation_timeout(options.operation_timeout)
        .build();
    let mut config = Builder::from(&shared).timeout_config(timeouts);
    if shared.http_client().is_none() {
        config = config.http_client(http_client(options.proxy_from_env));
    }
    if shared.region().is_none() {
        config = config.region(url_region.unwrap_or(emulator_region));
    }
    if shared.behavior_version().is_none() {
        config = config.behavior_version(BehaviorVersion::latest());
    }
    if let Some(endpoint) = &options.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(config.build()))
}

/// HTTP over rustls with ring, the project's one TLS stack; the SDK's default brings another.
fn http_client(proxy_from_env: bool) -> SharedHttpClient {
    // The SDK panics in debug builds on a machine without root certificates, which an emulator over
    // plain HTTP does not need. An empty store refuses TLS connections instead.
    let has_roots = !rustls_native_certs::load_native_certs().certs.is_empty();
    let trust = TrustStore::empty().with_native_roots(has_roots);
    let tls = TlsContext::builder().with_trust_store(trust).build().unwrap_or_default();
    aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(tls.clone())
            .proxy_config(match proxy_from_env {
                true => ProxyConfig::from_env(),
                false => ProxyConfig::disabled(),
            });
        if let Some(settings) = settings {
            connector = connector.connector_settings(settings.clone());
        }
        if let Some(sleep) = components.and_then(|components| components.sleep_impl()) {
            connector = connector.sleep_impl(sleep);
        }
        connector.build()
    })
}
