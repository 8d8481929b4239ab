//! Bare QUIC handshakes per second of noq-proto over loopback: the floor of `make bench-joins`.
//!
//! `handshakes CERT_DER KEY_DER SECONDS CONCURRENCY`: a server and a client, a thread and a socket each, one
//! system call a datagram. The client keeps so many handshakes under way, and closes each connection as
//! soon as it is connected. The last line is JSON, with the processor time of either thread.

#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use bytes::BytesMut;
use noq_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use noq_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, Event,
    FourTuple, ServerConfig, Transmit, VarInt,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ALPN: &[u8] = b"moqt-18";
const DATAGRAM_BYTES_MAX: usize = 1 << 16;
const WAIT_MS_MAX: i32 = 20;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cert, key, seconds, concurrency] = arguments.as_slice() else {
        return Err("usage: handshakes CERT_DER KEY_DER SECONDS CONCURRENCY".into());
    };
    let (cert, key) = (std::fs::read(cert)?, std::fs::read(key)?);
    let concurrency: usize = concurrency.parse()?;
    let until = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let mut server = Peer::new(Some(Arc::new(server_config(cert.clone(), key)?)))?;
    let address = server.socket.local_addr()?;
    let over = Arc::new(AtomicBool::new(false));
    let is_over = over.clone();
    let serving = std::thread::spawn(move || -> Fallible<f64> {
        while !is_over.load(Ordering::Relaxed) {
            server.turn()?;
        }
        Ok(thread_seconds())
    });
    let started = Instant::now();
    let mut client = Peer::new(None)?;
    let config = client_config(cert)?;
    while Instant::now() < until {
        while client.under_way < concurrency {
            client.connect(config.clone(), address)?;
        }
        client.turn()?;
    }
    let elapsed = started.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let server_cpu = serving.join().map_err(|_| "the server panicked")??;
    println!(
        "{{\"handshakes\": {}, \"seconds\": {elapsed:.3}, \"server_cpu_s\": {server_cpu:.3}, \"client_cpu_s\": {:.3}}}",
        client.connected,
        thread_seconds()
    );
    Ok(())
}

/// One endpoint on one socket.
struct Peer {
    socket: UdpSocket,
    endpoint: Endpoint,
    connections: HashMap<ConnectionHandle, Connection>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    is_server: bool,
    under_way: usize,
    connected: u64,
    received: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Peer {
    fn new(server: Option<Arc<ServerConfig>>) -> Fallible<Peer> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        let is_server = server.is_some();
        Ok(Peer {
            socket,
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), server, true),
            connections: HashMap::new(),
            timers: BinaryHeap::new(),
            is_server,
            under_way: 0,
            connected: 0,
            received: vec![0; DATAGRAM_BYTES_MAX],
            outgoing: Vec::new(),
        })
    }

    fn connect(&mut self, config: ClientConfig, to: SocketAddr) -> Fallible<()> {
        let now = Instant::now();
        let (handle, connection) = self.endpoint.connect(now, config, to, "localhost")?;
        self.connections.insert(handle, connection);
        self.under_way += 1;
        self.pump(now, handle)
    }

    /// Wait a little, take what has come, and let timers run.
    fn turn(&mut self) -> Fallible<()> {
        self.wait();
        loop {
            match self.socket.recv_from(&mut self.received) {
                Ok((size, from)) => self.take(size, from)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let now = Instant::now();
        while let Some(Reverse((at, index))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            let handle = ConnectionHandle(index);
            if let Some(connection) = self.connections.get_mut(&handle)
                && connection.poll_timeout().is_some_and(|due| due <= now)
            {
                connection.handle_timeout(now);
                self.pump(now, handle)?;
            }
        }
        Ok(())
    }

    fn wait(&self) {
        let next = self.timers.peek().map(|Reverse((at, _))| *at);
        let until = next.map_or(WAIT_MS_MAX as u128, |at| {
            at.saturating_duration_since(Instant::now()).as_millis()
        });
        let mut poll = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let wait_ms = i32::try_from(until).unwrap_or(WAIT_MS_MAX).min(WAIT_MS_MAX);
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&mut poll, 1, wait_ms) };
    }

    fn take(&mut self, size: usize, from: SocketAddr) -> Fallible<()> {
        let now = Instant::now();
        let data = BytesMut::from(&self.received[..size]);
        self.outgoing.clear();
        let path = FourTuple::new(from, None);
        match self
            .endpoint
            .handle(now, path, None, data, &mut self.outgoing)
        {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(connection) = self.connections.get_mut(&handle) {
                    connection.handle_event(event);
                }
                self.pump(now, handle)
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.outgoing.clear();
                let accepted = self
                    .endpoint
                    .accept(incoming, now, &mut self.outgoing, None);
                let Ok((handle, connection)) = accepted else {
                    return Ok(());
                };
                self.connections.insert(handle, connection);
                self.pump(now, handle)
            }
            Some(DatagramEvent::Response(transmit)) => {
                let sent = send(&self.socket, &transmit, &self.outgoing);
                sent.map_err(Into::into)
            }
            None => Ok(()),
        }
    }

    /// Let a connection say and send what it has.
    fn pump(&mut self, now: Instant, handle: ConnectionHandle) -> Fallible<()> {
        let Some(connection) = self.connections.get_mut(&handle) else {
            return Ok(());
        };
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected if !self.is_server => {
                    self.connected += 1;
                    self.under_way -= 1;
                    connection.close(now, VarInt::from_u32(0), bytes::Bytes::new());
                }
                Event::ConnectionLost { reason } if !self.is_server => {
                    return Err(format!("a handshake failed: {reason}").into());
                }
                _ => {}
            }
        }
        loop {
            self.outgoing.clear();
            let Some(transmit) =
                connection.poll_transmit(now, NonZeroUsize::MIN, &mut self.outgoing)
            else {
                break;
            };
            send(&self.socket, &transmit, &self.outgoing)?;
        }
        let mut drained = false;
        while let Some(event) = connection.poll_endpoint_events() {
            drained |= event.is_drained();
            if let Some(answer) = self.endpoint.handle_event(handle, event) {
                connection.handle_event(answer);
            }
        }
        if drained {
            self.connections.remove(&handle);
        } else if let Some(at) = connection.poll_timeout() {
            self.timers.push(Reverse((at, handle.0)));
        }
        Ok(())
    }
}

fn send(socket: &UdpSocket, transmit: &Transmit, data: &[u8]) -> std::io::Result<()> {
    match socket.send_to(&data[..transmit.size], transmit.destination) {
        // What the kernel has no room for is lost, as on any network.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        sent => sent.map(|_| ()),
    }
}

fn server_config(cert: Vec<u8>, key: Vec<u8>) -> Fallible<ServerConfig> {
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(cert)],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)),
        )?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    Ok(ServerConfig::with_crypto(Arc::new(
        QuicServerConfig::try_from(tls)?,
    )))
}

fn client_config(cert: Vec<u8>) -> Fallible<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(cert))?;
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(
        tls,
    )?)))
}

/// Processor time of this thread.
fn thread_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
