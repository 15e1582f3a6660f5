//! The server's DTLS certificate.

use std::{fmt, sync::Arc};

use str0m::{
    config::{CryptoProvider, DtlsCert},
    crypto::from_feature_flags,
};

/// The self-signed certificate that DTLS connections of the process are made with; the answer carries its
/// fingerprint (RFC 8122). Making one costs some hundred microseconds, a clone nothing.
#[derive(Clone)]
pub struct Certificate {
    pub(super) certificate: DtlsCert,
    pub(super) crypto: Arc<CryptoProvider>,
}

/// The certificate could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no DTLS certificate could be made")]
pub struct CertificateError;

impl Certificate {
    /// Makes a key pair and its certificate.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self, CertificateError> {
        let crypto = Arc::new(from_feature_flags());
        let certificate = crypto.dtls_provider.generate_certificate().ok_or(CertificateError)?;
        Ok(Self { certificate, crypto })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}
