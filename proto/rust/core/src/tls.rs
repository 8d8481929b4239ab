//! TLS settings as the datapath needs them, made from DER bytes; files and PEM are the shell's.

use std::sync::Arc;

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
#[derive(Debug)]
pub struct ServerTls {
    _private: (),
}

/// TLS of outgoing connections.
#[derive(Debug)]
pub struct ClientTls {
    _private: (),
}

impl ServerTls {
    /// `hop`: our hop identity and the roots (DER) that a hop's peer must chain to.
    pub fn new(
        public: &Identity,
        hop: Option<(&Identity, &[Vec<u8>])>,
    ) -> Result<Arc<ServerTls>, TlsError> {
        let _ = (public, hop);
        unimplemented!()
    }
}

impl ClientTls {
    /// `identity`: the client certificate to show (hops).
    pub fn new(trust: &Trust, identity: Option<&Identity>) -> Result<Arc<ClientTls>, TlsError> {
        let _ = (trust, identity);
        unimplemented!()
    }
}
