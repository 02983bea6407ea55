//! The market's TLS certificate: made once, self-signed, known to others by its fingerprint. An
//! operator may put a certificate of a public authority in its place.

use crate::keys::{KeysError, private_dir, private_file, read_private};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sublet_model::identity::Sha256Digest;

const FOLDER: &str = "tls";
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The files can't be had.
    #[error(transparent)]
    Files(#[from] KeysError),
    /// No certificate can be made for these names.
    #[error("failed to make a certificate for {names}")]
    Making {
        /// For which names.
        names: String,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// Not what belongs there.
    #[error("{path} can't be used: {reason}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A certificate, ready to serve.
#[derive(Debug, Clone)]
pub struct Identity {
    /// For the server.
    pub config: Arc<ServerConfig>,
    /// SHA-256 of the certificate, by which join tokens know the market.
    pub fingerprint: Sha256Digest,
}

/// Makes a certificate for these names and addresses, below `dir`.
pub fn create(dir: &Path, names: &[String]) -> Result<(), TlsError> {
    let making = |source| TlsError::Making { names: names.join(", "), source };
    let mut params = rcgen::CertificateParams::new(names).map_err(making)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "sublet market");
    let key = rcgen::KeyPair::generate().map_err(making)?;
    let certificate = params.self_signed(&key).map_err(making)?;
    let folder = dir.join(FOLDER);
    private_dir(&folder)?;
    private_file(&folder.join(KEY), key.serialize_pem().as_bytes())?;
    private_file(&folder.join(CERTIFICATE), certificate.pem().as_bytes())?;
    Ok(())
}

/// Reads the certificate below `dir`.
pub fn load(dir: &Path) -> Result<Identity, TlsError> {
    let (certificate, key) = (dir.join(FOLDER).join(CERTIFICATE), dir.join(FOLDER).join(KEY));
    let unusable = |path: &Path, reason: String| TlsError::Unusable { path: path.into(), reason };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect)
        .map_err(|e| unusable(&certificate, e.to_string()))?;
    let first = chain.first().ok_or_else(|| unusable(&certificate, "there is no certificate in it".into()))?;
    let fingerprint = Sha256Digest::of(first);
    let secret =
        PrivateKeyDer::from_pem_slice(read_private(&key)?.as_bytes()).map_err(|e| unusable(&key, e.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, secret))
        .map_err(|e| unusable(&certificate, e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity { config: Arc::new(config), fingerprint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), &["localhost".into(), "127.0.0.1".into()]).unwrap();
        let first = load(dir.path()).unwrap();
        assert_eq!(first.fingerprint, load(dir.path()).unwrap().fingerprint);
        assert!(create(dir.path(), &["localhost".into()]).is_err(), "never written over");
        std::fs::write(dir.path().join("tls/cert.pem"), "nonsense").unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("cert.pem"));
    }
}
