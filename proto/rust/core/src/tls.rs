//! TLS settings as the datapath needs them, made from DER bytes; files and PEM are the shell's.
//!
//! A listener has two server configurations: the public one (`moqt-NN`, `h3`), which asks for no
//! client certificate, and the hop one (`farcast-hop/1`, `farcast-control/1`), which demands one. Which
//! of them answers is decided per incoming connection from the ALPN list of the ClientHello.

use crate::command::{ALPN_CONTROL, ALPN_H3, ALPN_HOP, Draft, Target};
use noq_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::{Arc, PoisonError, RwLock};

/// Why TLS settings could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(pub String);

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// A certificate chain (leaf first) and its PKCS#8 key, all DER.
#[derive(Clone)]
pub struct Identity {
    /// DER certificates, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 private key, DER.
    pub key: Vec<u8>,
}

/// How an outgoing connection decides whom to trust.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Certificates that chain to one of these roots (DER).
    Roots(Vec<Vec<u8>>),
    /// The leaf's SHA-256 is one of these (as WebTransport's `serverCertificateHashes`).
    Fingerprints(Vec<[u8; 32]>),
    /// Anybody. Development only.
    Insecure,
}

/// TLS of a listener: the public side, and the hop side if this edge takes part in hops.
pub struct ServerTls {
    public: rustls::ServerConfig,
    hop: Option<Hop>,
}

struct Hop {
    config: rustls::ServerConfig,
    shown: Arc<Renewable>,
}

/// The certificate that a listener shows; another one may take its place while it listens. Connections that
/// stand are not concerned.
#[derive(Debug)]
struct Renewable(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Renewable {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.0
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

/// TLS of outgoing connections.
pub struct ClientTls {
    base: rustls::ClientConfig,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("hop", &self.hop.is_some())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// `hop`: our hop identity and the roots (DER) that a hop's peer must chain to.
    pub fn new(
        public: &Identity,
        hop: Option<(&Identity, &[Vec<u8>])>,
    ) -> Result<Arc<ServerTls>, TlsError> {
        let public = server_config(public, None)?;
        let hop = hop
            .map(|(identity, roots)| Hop::new(identity, roots))
            .transpose()?;
        Ok(Arc::new(ServerTls { public, hop }))
    }

    /// Show this identity to edges from the next handshake on; those that stand go on. The roots stay.
    pub fn renew_hop(&self, identity: &Identity) -> Result<(), TlsError> {
        let hop = self
            .hop
            .as_ref()
            .ok_or_else(|| TlsError("there is no hop identity to renew".into()))?;
        let renewed = certified(identity)?;
        *hop.shown.0.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// The public server side, offering HTTP/3 and the given drafts in that order of preference.
    pub(crate) fn public(&self, drafts: &[Draft]) -> Result<Arc<QuicServerConfig>, TlsError> {
        let mut config = self.public.clone();
        config.alpn_protocols = drafts.iter().map(|d| d.protocol().into()).collect();
        config.alpn_protocols.push(ALPN_H3.into());
        quic_server(config)
    }

    /// The hop server side, if there is one.
    pub(crate) fn hop(&self) -> Result<Option<Arc<QuicServerConfig>>, TlsError> {
        self.mutual(ALPN_HOP)
    }

    /// The side that the control sessions of edges see: the hop's identity and trust.
    pub(crate) fn control(&self) -> Result<Option<Arc<QuicServerConfig>>, TlsError> {
        self.mutual(ALPN_CONTROL)
    }

    fn mutual(&self, alpn: &str) -> Result<Option<Arc<QuicServerConfig>>, TlsError> {
        let Some(hop) = &self.hop else {
            return Ok(None);
        };
        let mut config = hop.config.clone();
        config.alpn_protocols = vec![alpn.into()];
        quic_server(config).map(Some)
    }
}

impl ClientTls {
    /// `identity`: the client certificate to show (hops).
    pub fn new(trust: &Trust, identity: Option<&Identity>) -> Result<Arc<ClientTls>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(describe)?;
        let builder = match trust {
            Trust::Roots(roots) => builder.with_root_certificates(root_store(roots)?),
            Trust::Fingerprints(hashes) => builder
                .dangerous()
                .with_custom_certificate_verifier(Pinned::new(&provider, Some(hashes.clone()))),
            Trust::Insecure => builder
                .dangerous()
                .with_custom_certificate_verifier(Pinned::new(&provider, None)),
        };
        let mut base = match identity {
            Some(identity) => {
                let (chain, key) = chain_and_key(identity);
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(describe)?
            }
            None => builder.with_no_client_auth(),
        };
        base.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(ClientTls { base }))
    }

    /// The client side for one target.
    pub(crate) fn for_target(&self, target: &Target) -> Result<Arc<QuicClientConfig>, TlsError> {
        let mut config = self.base.clone();
        config.alpn_protocols = match target {
            Target::Quic { drafts } => drafts.iter().map(|d| d.protocol().into()).collect(),
            Target::WebTransport { .. } => vec![ALPN_H3.into()],
            Target::Hop => vec![ALPN_HOP.into()],
            Target::Control => vec![ALPN_CONTROL.into()],
        };
        QuicClientConfig::try_from(config)
            .map(Arc::new)
            .map_err(describe)
    }
}

impl Hop {
    fn new(identity: &Identity, roots: &[Vec<u8>]) -> Result<Hop, TlsError> {
        let mut config = server_config(identity, Some(roots))?;
        let shown = Arc::new(Renewable(RwLock::new(certified(identity)?)));
        config.cert_resolver = shown.clone();
        Ok(Hop { config, shown })
    }
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = chain_and_key(identity);
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map(Arc::new)
        .map_err(describe)
}

fn server_config(
    identity: &Identity,
    client_roots: Option<&[Vec<u8>]>,
) -> Result<rustls::ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(describe)?;
    let builder = match client_roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(root_store(roots)?), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(describe)?)
        }
    };
    let (chain, key) = chain_and_key(identity);
    let mut config = builder.with_single_cert(chain, key).map_err(describe)?;
    // No 0-RTT: nothing of MoQT that changes state may be replayed.
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn quic_server(config: rustls::ServerConfig) -> Result<Arc<QuicServerConfig>, TlsError> {
    QuicServerConfig::try_from(config)
        .map(Arc::new)
        .map_err(describe)
}

fn chain_and_key(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = identity
        .chain
        .iter()
        .cloned()
        .map(CertificateDer::from)
        .collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.clone()));
    (chain, key)
}

fn root_store(roots: &[Vec<u8>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store
            .add(CertificateDer::from(root.clone()))
            .map_err(describe)?;
    }
    Ok(store)
}

fn describe(error: impl std::fmt::Display) -> TlsError {
    TlsError(error.to_string())
}

/// Trusts certificates by the SHA-256 of the leaf, or (development) any at all. The handshake's
/// signature is verified either way: the peer must hold the certificate's key.
struct Pinned {
    algorithms: WebPkiSupportedAlgorithms,
    sha256: &'static dyn rustls::crypto::hash::Hash,
    hashes: Option<Vec<[u8; 32]>>,
}

impl Pinned {
    fn new(provider: &CryptoProvider, hashes: Option<Vec<[u8; 32]>>) -> Arc<Pinned> {
        Arc::new(Pinned {
            algorithms: provider.signature_verification_algorithms,
            sha256: sha256(),
            hashes,
        })
    }
}

impl std::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pinned")
            .field("hashes", &self.hashes)
            .finish_non_exhaustive()
    }
}

/// SHA-256 of the TLS provider, so that no second implementation is linked.
fn sha256() -> &'static dyn rustls::crypto::hash::Hash {
    match ring::cipher_suite::TLS13_AES_128_GCM_SHA256 {
        rustls::SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
        #[allow(unreachable_patterns)]
        _ => unreachable!("TLS13_AES_128_GCM_SHA256 is a TLS 1.3 suite"),
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(hashes) = &self.hashes else {
            return Ok(ServerCertVerified::assertion());
        };
        let found = self.sha256.hash(leaf);
        if hashes.iter().any(|hash| hash == found.as_ref()) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(
            rustls::CertificateError::ApplicationVerificationFailure,
        ))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has no TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
