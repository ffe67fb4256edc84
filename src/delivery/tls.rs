//! TLS of a webhook: what is trusted, whom we show, from which version on.

use std::io;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::settings::{TlsIdentity, TlsSettings, TlsVersion};

/// A client as `settings` want it; `None`, and whatever they do not say, is the system's certificate store
/// (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), no certificate of ours, TLS 1.2 or 1.3. HTTP/2 is offered.
/// Reads the system's files.
///
/// # Errors
/// No usable certificate, or an identity that is none.
pub(super) fn client(settings: Option<&Arc<TlsSettings>>) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let newest = settings.is_some_and(|settings| settings.minimum_version == TlsVersion::V13);
    let versions: &[_] =
        if newest { &[&rustls::version::TLS13] } else { &[&rustls::version::TLS12, &rustls::version::TLS13] };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(io::Error::other)?;
    let builder = match settings.and_then(|settings| settings.ca.as_ref()) {
        None => builder.with_native_roots()?,
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let mut config = match settings.and_then(|settings| settings.identity.as_ref()) {
        None => builder.with_no_client_auth(),
        Some(TlsIdentity { certificate, key }) => {
            let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
            let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(io::Error::other)?;
            builder.with_client_auth_cert(chain.map_err(io::Error::other)?, key).map_err(io::Error::other)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
