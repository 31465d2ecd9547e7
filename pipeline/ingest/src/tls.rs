//! TLS and mutual TLS with rustls on ring: from PEM files to an acceptor.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// Certificates or a key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM of the expected kind.
    #[error("cannot read {what} from {}", path.display())]
    Read {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it could not be read.
        #[source]
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("no certificate in {}: expected PEM blocks `BEGIN CERTIFICATE`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The authorities for client certificates cannot be used.
    #[error("cannot verify client certificates against {}", path.display())]
    ClientAuthority {
        /// The file.
        path: PathBuf,
        /// Why it was refused.
        #[source]
        source: VerifierBuilderError,
    },
    /// Certificate and key are not usable together.
    #[error("certificate {} and key {} cannot be used together", cert.display(), key.display())]
    Pair {
        /// Certificate file.
        cert: PathBuf,
        /// Key file.
        key: PathBuf,
        /// Why they were refused.
        #[source]
        source: rustls::Error,
    },
}

/// Reads the files once; a change of certificates takes a restart.
pub(crate) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, TlsError> {
    let pair = |source| TlsError::Pair { cert: tls.cert.clone(), key: tls.key.clone(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().map_err(pair)?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let refused = |source| TlsError::ClientAuthority { path: path.clone(), source };
            roots.add_parsable_certificates(certificates(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(refused)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key =
        PrivateKeyDer::from_pem_file(&tls.key).map_err(|source| TlsError::Read { what: "a private key", path: tls.key.clone(), source })?;
    let mut config = builder.with_single_cert(certificates(&tls.cert)?, key).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Read { what: "certificates", path: path.to_owned(), source };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if certificates.is_empty() { Err(TlsError::Empty { path: path.to_owned() }) } else { Ok(certificates) }
}
