//! TLS settings.

use crate::error::{tls_error, value_error};
use farcast_core::tls::{self, Identity, Trust};
use pyo3::prelude::*;
use std::sync::Arc;

/// TLS of a listener: the public side, and the hop side if it takes part in hops.
#[pyclass(frozen, module = "farcast.proto._core")]
pub struct ServerTls(pub Arc<tls::ServerTls>);

#[pymethods]
impl ServerTls {
    #[new]
    #[pyo3(signature = (public_chain, public_key, hop_chain=None, hop_key=None, hop_roots=None))]
    fn new(
        public_chain: Vec<Vec<u8>>,
        public_key: Vec<u8>,
        hop_chain: Option<Vec<Vec<u8>>>,
        hop_key: Option<Vec<u8>>,
        hop_roots: Option<Vec<Vec<u8>>>,
    ) -> PyResult<Self> {
        let public = Identity {
            chain: public_chain,
            key: public_key,
        };
        let hop = match (hop_chain, hop_key, hop_roots) {
            (Some(chain), Some(key), Some(roots)) => Some((Identity { chain, key }, roots)),
            (None, None, None) => None,
            _ => {
                let message = "hop_chain, hop_key and hop_roots go together";
                return Err(value_error(message));
            }
        };
        let hop = hop
            .as_ref()
            .map(|(identity, roots)| (identity, roots.as_slice()));
        Ok(ServerTls(
            tls::ServerTls::new(&public, hop).map_err(|e| tls_error(&e))?,
        ))
    }

    fn renew_hop(&self, chain: Vec<Vec<u8>>, key: Vec<u8>) -> PyResult<()> {
        let renewed = self.0.renew_hop(&Identity { chain, key });
        renewed.map_err(|e| tls_error(&e))
    }
}

/// TLS of outgoing connections: whom to trust, and which certificate to show.
#[pyclass(frozen, module = "farcast.proto._core")]
pub struct ClientTls(pub Arc<tls::ClientTls>);

#[pymethods]
impl ClientTls {
    #[new]
    #[pyo3(signature = (roots=None, fingerprints=None, insecure=false, chain=None, key=None))]
    fn new(
        roots: Option<Vec<Vec<u8>>>,
        fingerprints: Option<Vec<Vec<u8>>>,
        insecure: bool,
        chain: Option<Vec<Vec<u8>>>,
        key: Option<Vec<u8>>,
    ) -> PyResult<Self> {
        let trust = trust(roots, fingerprints, insecure)?;
        let identity = match (chain, key) {
            (Some(chain), Some(key)) => Some(Identity { chain, key }),
            (None, None) => None,
            _ => return Err(value_error("chain and key go together")),
        };
        let tls = tls::ClientTls::new(&trust, identity.as_ref()).map_err(|e| tls_error(&e))?;
        Ok(ClientTls(tls))
    }
}

fn trust(
    roots: Option<Vec<Vec<u8>>>,
    fingerprints: Option<Vec<Vec<u8>>>,
    insecure: bool,
) -> PyResult<Trust> {
    match (roots, fingerprints, insecure) {
        (Some(roots), None, false) => Ok(Trust::Roots(roots)),
        (None, Some(fingerprints), false) => {
            let fingerprints: PyResult<_> = fingerprints.into_iter().map(fingerprint).collect();
            Ok(Trust::Fingerprints(fingerprints?))
        }
        (None, None, true) => Ok(Trust::Insecure),
        _ => Err(value_error(
            "exactly one of roots, fingerprints and insecure=True is wanted",
        )),
    }
}

fn fingerprint(digest: Vec<u8>) -> PyResult<[u8; 32]> {
    <[u8; 32]>::try_from(digest).map_err(|digest| {
        let bytes = digest.len();
        value_error(format!(
            "a fingerprint is a SHA-256 of 32 bytes, not {bytes}"
        ))
    })
}
