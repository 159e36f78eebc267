//! TLS: rustls on ring, as everywhere in this project, and which servers to trust.

use std::{fmt, path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::PostgresError;

/// Which servers are trusted.
#[derive(Debug)]
pub(crate) enum Trust {
    /// Any server, without encryption.
    NoTls,
    /// Any server, encrypted if it offers encryption.
    AnyoneIfOffered,
    /// Any server, encrypted.
    Anyone,
    /// A server with a certificate from these roots, under any name.
    Issued(Roots),
    /// A server with a certificate from these roots for the host name that was dialled.
    Named(Roots),
}

/// Which root certificates count.
#[derive(Debug)]
pub(crate) enum Roots {
    /// The ones that the system trusts, or that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    System,
    /// The ones in a PEM file.
    File(PathBuf),
}

impl Trust {
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect, PostgresError> {
        let provider = Arc::new(ring::default_provider());
        let failed = |error: &dyn fmt::Display| PostgresError::Tls(error.to_string());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?;
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::NoTls | Self::AnyoneIfOffered | Self::Anyone => {
                Arc::new(AnyName { issued: None, provider })
            }
            Self::Issued(roots) | Self::Named(roots) => {
                let roots = Arc::new(roots.load()?);
                let strict =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                        .build()
                        .map_err(|error| failed(&error))?;
                match self {
                    Self::Named(_) => strict,
                    _ => Arc::new(AnyName { issued: Some(strict), provider }),
                }
            }
        };
        let config =
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

impl Roots {
    fn load(&self) -> Result<RootCertStore, PostgresError> {
        let mut roots = RootCertStore::empty();
        let certificates = match self {
            // Some systems ship a few certificates that no modern parser accepts.
            Self::System => rustls_native_certs::load_native_certs().certs,
            Self::File(path) => {
                let unusable =
                    |error| PostgresError::Tls(format!("sslrootcert {}: {error}", path.display()));
                let found = CertificateDer::pem_file_iter(path)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>);
                found.map_err(unusable)?
            }
        };
        roots.add_parsable_certificates(certificates);
        if roots.is_empty() {
            return Err(PostgresError::Tls("no trusted root certificate was found".to_owned()));
        }
        Ok(roots)
    }
}

/// Accepts a certificate under any name, but demands proof that the server holds its key.
#[derive(Debug)]
struct AnyName {
    /// Checks where the certificate comes from. None: it may come from anywhere.
    issued: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(issued) = &self.issued else { return Ok(ServerCertVerified::assertion()) };
        match issued.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            // rustls checks the name last, so everything else is right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
