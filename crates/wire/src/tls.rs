//! TLS for clients: a market is known by the fingerprint of its certificate, or by the public
//! authorities where none is given.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::{Arc, PoisonError, RwLock};
use sublet_model::identity::Sha256Digest;

/// The one provider of the program, where one is to be named.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The one provider of the program. Called once in `main` and by tests; a second call is harmless.
pub fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The fingerprint of the one certificate that is trusted; another one later, where a long life
/// needs that. None is trusted before the first is set.
#[derive(Debug, Clone, Default)]
pub struct Pin(Arc<RwLock<Option<Sha256Digest>>>);

impl Pin {
    /// This one from now on.
    pub fn set(&self, fingerprint: Sha256Digest) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
    }

    fn is(&self, certificate: &[u8]) -> bool {
        *self.0.read().unwrap_or_else(PoisonError::into_inner) == Some(Sha256Digest::of(certificate))
    }

    /// What checks certificates against it.
    pub fn verifier(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::new(Pinned { pin: self.clone(), provider: provider() })
    }
}

/// Accepts exactly one certificate, whatever name it bears.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pin.is(certificate) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("the market's certificate is not the one whose fingerprint is known".into()))
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

/// A client configuration that trusts the certificate with this fingerprint and no other.
pub fn pinned(fingerprint: Sha256Digest) -> Result<rustls::ClientConfig, rustls::Error> {
    let pin = Pin::default();
    pin.set(fingerprint);
    let config = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(config.dangerous().with_custom_certificate_verifier(pin.verifier()).with_no_client_auth())
}
