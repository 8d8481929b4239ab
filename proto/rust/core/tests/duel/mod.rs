//! A datapath with one raw QUIC client on it, which speaks QUIC well and everything above it as a test likes.
#![allow(dead_code)] // not every test uses all of it
#![allow(clippy::unwrap_used)] // a test fails by panicking

use bytes::BytesMut;
use farcast_core::command::{CacheLimits, Command, Draft};
use farcast_core::config::DatapathConfig;
use farcast_core::datapath::Datapath;
use farcast_core::event::{ClosedBy, Event};
use farcast_core::location::LargestCell;
use farcast_core::tls::{Identity, ServerTls};
use noq_proto::crypto::rustls::QuicClientConfig;
use noq_proto::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use noq_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint,
    EndpointConfig, FourTuple, StreamEvent, StreamId, rustls,
};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const TRACK: u64 = 1;
pub const ALIAS: u64 = 5;
pub const PROTOCOL_VIOLATION: u64 = 0x3;

fn edge_identity() -> Identity {
    Identity {
        chain: vec![include_bytes!("../data/edge.der").to_vec()],
        key: include_bytes!("../data/edge.key.der").to_vec(),
    }
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// A datapath with one raw QUIC client on it.
pub struct Duel {
    pub now: Instant,
    pub edge: Datapath,
    pub events: Vec<Event>,
    pub endpoint: Endpoint,
    pub handle: ConnectionHandle,
    pub peer: Connection,
    pub lost: Option<ConnectionError>,
    pub stopped: Vec<(StreamId, u64)>,
}

impl Duel {
    pub fn new(alpn: &str) -> Duel {
        #[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
        let now = Instant::now();
        let ca = include_bytes!("../data/ca.der").to_vec();
        let identity = edge_identity();
        let tls = ServerTls::new(&identity, Some((&identity, std::slice::from_ref(&ca)))).unwrap();
        let config = DatapathConfig {
            server: Some(tls),
            control: true,
            ..DatapathConfig::default()
        };
        let edge = Datapath::new(config, now).unwrap();
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true);
        let client = client_config(alpn, &ca);
        let (handle, peer) = endpoint.connect(now, client, addr(1), "localhost").unwrap();
        let mut duel = Duel {
            now,
            edge,
            events: Vec::new(),
            endpoint,
            handle,
            peer,
            lost: None,
            stopped: Vec::new(),
        };
        duel.run(Duration::from_millis(200));
        assert!(!duel.peer.is_handshaking(), "{:?}", duel.lost);
        duel
    }

    /// A session whose alias 5 feeds a track.
    pub fn with_track(draft: Draft) -> Duel {
        let mut duel = Duel::new(draft.protocol());
        let session = duel.session();
        let largest = Arc::new(LargestCell::default());
        let cache = CacheLimits::default();
        duel.edge.execute(
            duel.now,
            Command::AddTrack {
                track: TRACK,
                cache,
                largest,
            },
        );
        let bind = Command::BindUpstream {
            session,
            alias: ALIAS,
            track: TRACK,
            default_priority: 128,
            restart_allowed: false,
        };
        duel.edge.execute(duel.now, bind);
        duel
    }

    pub fn session(&self) -> u64 {
        let opened = self.events.iter().find_map(|event| match event {
            Event::SessionOpened { session, .. } => Some(*session),
            _ => None,
        });
        opened.expect("the session opened")
    }

    pub fn closed(&self) -> Option<(ClosedBy, u64)> {
        self.events.iter().find_map(|event| match event {
            Event::SessionClosed { by, code, .. } => Some((*by, *code)),
            _ => None,
        })
    }

    pub fn send(&mut self, dir: Dir, bytes: &[u8], fin: bool) -> Option<StreamId> {
        let id = self.peer.streams().open(dir)?;
        self.write(id, bytes, fin);
        Some(id)
    }

    pub fn write(&mut self, id: StreamId, bytes: &[u8], fin: bool) {
        let _ = self.peer.send_stream(id).write(bytes);
        if fin {
            let _ = self.peer.send_stream(id).finish();
        }
        self.run(Duration::from_millis(50));
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now <= end {
            for _ in 0..64 {
                if !self.exchange() {
                    break;
                }
            }
            self.now += Duration::from_millis(5);
            self.peer.handle_timeout(self.now);
            self.edge.handle_timeout(self.now);
        }
    }

    /// Carry everything that either side has to say; whether there was anything.
    fn exchange(&mut self) -> bool {
        let mut any = false;
        let mut buf = Vec::new();
        while let Some(sent) = self
            .peer
            .poll_transmit(self.now, NonZeroUsize::MIN, &mut buf)
        {
            any = true;
            let data = BytesMut::from(&buf[..sent.size]);
            self.edge.handle_datagram(self.now, addr(2), None, 0, data);
            buf.clear();
        }
        buf.clear();
        while let Some(sent) = self.edge.poll_transmit(self.now, 1, &mut buf) {
            any = true;
            let data = BytesMut::from(&buf[..sent.size]);
            let path = FourTuple::from_remote(addr(1));
            let event = self
                .endpoint
                .handle(self.now, path, None, data, &mut Vec::new());
            if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
                self.peer.handle_event(event);
            }
            buf.clear();
        }
        while let Some(event) = self.peer.poll_endpoint_events() {
            if let Some(answer) = self.endpoint.handle_event(self.handle, event) {
                self.peer.handle_event(answer);
            }
        }
        while let Some(event) = self.peer.poll() {
            match event {
                noq_proto::Event::ConnectionLost { reason } => self.lost = Some(reason),
                noq_proto::Event::Stream(StreamEvent::Stopped { id, error_code }) => {
                    self.stopped.push((id, error_code.into_inner()));
                }
                _ => {}
            }
        }
        while let Some(event) = self.edge.poll_event() {
            self.events.push(event);
        }
        any
    }

    pub fn lost_code(&self) -> Option<u64> {
        match &self.lost {
            Some(ConnectionError::ApplicationClosed(close)) => Some(close.error_code.into_inner()),
            _ => None,
        }
    }
}

fn client_config(alpn: &str, ca: &[u8]) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(ca.to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let identity = edge_identity();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key));
    let chain = identity
        .chain
        .into_iter()
        .map(CertificateDer::from)
        .collect();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

impl Duel {
    /// A hop client that shows no certificate.
    pub fn new_without_certificate() -> Duel {
        let mut duel = Duel::new("moqt-18");
        let ca = include_bytes!("../data/ca.der").to_vec();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(ca)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"farcast-hop/1".to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let (handle, peer) = duel
            .endpoint
            .connect(duel.now, config, addr(1), "localhost")
            .unwrap();
        duel.handle = handle;
        duel.peer = peer;
        duel.events.clear();
        duel.run(Duration::from_millis(300));
        duel
    }
}
