//! What examples that run bare QUIC on the kernel share: a certificate and the two ends' TLS.

use noq_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use noq_proto::{ClientConfig, ServerConfig, TransportConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

const CA: &[u8] = include_bytes!("../../../../proto/rust/core/tests/data/ca.der");
const CHAIN: &[u8] = include_bytes!("../../../../proto/rust/core/tests/data/edge.der");
const KEY: &[u8] = include_bytes!("../../../../proto/rust/core/tests/data/edge.key.der");

/// A server with the tests' certificate, for `localhost`.
pub fn server_config(transport: Arc<TransportConfig>) -> ServerConfig {
    let key = PrivateKeyDer::try_from(KEY).expect("a PKCS#8 key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(CHAIN)], key)
        .expect("a sound identity");
    let tls = QuicServerConfig::try_from(tls).expect("a QUIC suite");
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(transport);
    config
}

/// A client that trusts it.
pub fn client_config(transport: Arc<TransportConfig>) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(CA)).expect("a sound root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = QuicClientConfig::try_from(tls).expect("a QUIC suite");
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(transport);
    config
}
