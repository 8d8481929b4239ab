//! A UDP proxy that makes loopback behave like a long bad path: no root, no kernel configuration.
//!
//! Each client gets an upstream socket of its own, so that the target sees different clients as
//! different addresses. All share one link each way, as they would share a cable. A link keeps order
//! but for what it reorders, so what is under way is a queue. Datagrams are never joined or split (no
//! offload), and keep their ECN bits.

use crate::clock;
use crate::receive::{Datagram, Receiver};
use crate::send::{Message, SEND_BATCH, send_batch};
use crate::socket::{SocketOptions, UdpSocket};
use crate::sys::{EventFd, PollFd, poll, set_precise_timers};
use crate::thread;
use farcast_net::link::{Link, LinkStats, Verdict, wire_bytes};
use farcast_net::rng::derive_seed;
use farcast_net::{LinkConfig, LinkError};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients at one time; datagrams of further ones are refused.
pub const CLIENTS_MAX: usize = 256;
/// A client that is silent, both ways, this long makes room for another.
pub const CLIENT_IDLE_US: u64 = 60_000_000;
/// Payload bytes that may be under way in one direction.
pub const UNDER_WAY_BYTES_MAX: usize = 64 << 20;
/// Datagrams passed on in one turn of the thread, each way.
const DELIVERIES_PER_TURN_MAX: usize = 512;
const SOCKET_OPTIONS: SocketOptions = SocketOptions {
    gro: false,
    receive_buffer_bytes: 4 << 20,
    send_buffer_bytes: 4 << 20,
};

/// Counters of a [`UdpShaper`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShaperStats {
    /// Client to target.
    pub forward: LinkStats,
    /// Target to client.
    pub backward: LinkStats,
    /// Clients known now.
    pub clients: usize,
    /// Datagrams of clients beyond the limit.
    pub datagrams_refused: u64,
    /// Datagrams that could not be sent on, or found too much under way.
    pub datagrams_dropped: u64,
}

/// What one direction is to be like from now on.
#[derive(Clone, Debug)]
struct Wanted {
    config: LinkConfig,
    up: bool,
}

struct Shared {
    stop: EventFd,
    /// Set when `wanted` changed.
    change: EventFd,
    /// Client to target, and back.
    wanted: Mutex<[Wanted; 2]>,
    stats: Mutex<ShaperStats>,
}

/// A running proxy. Dropping it closes it.
pub struct UdpShaper {
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl UdpShaper {
    /// Bind `listen` and pass datagrams to and from `target`, through one link each way that all
    /// clients share. A busy port is an error of kind `AddrInUse`, a link that cannot be one of kind
    /// `InvalidInput`.
    pub fn start(
        listen: SocketAddr,
        target: SocketAddr,
        forward: LinkConfig,
        backward: LinkConfig,
        seed: u64,
    ) -> io::Result<UdpShaper> {
        let refuse = |way: &str, error: LinkError| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{way} {error}"))
        };
        let wanted = [&forward, &backward].map(|config| Wanted {
            config: config.clone(),
            up: true,
        });
        let forward = Link::new(forward, derive_seed(seed, 0)).map_err(|e| refuse("forward", e))?;
        let backward =
            Link::new(backward, derive_seed(seed, 1)).map_err(|e| refuse("backward", e))?;
        let socket = UdpSocket::bind(listen, &SOCKET_OPTIONS)?;
        let local_addr = socket.local_addr()?;
        let shared = Arc::new(Shared {
            stop: EventFd::new()?,
            change: EventFd::new()?,
            wanted: Mutex::new(wanted),
            stats: Mutex::default(),
        });
        let proxy = Proxy::new(socket, target, forward, backward, Arc::clone(&shared));
        let thread = thread::spawn("farcast-shaper", move || proxy.run())?;
        Ok(UdpShaper {
            local_addr,
            shared,
            thread: Some(thread),
        })
    }

    /// The bound address: where clients send to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Counters, as of the end of the thread's last turn.
    pub fn stats(&self) -> ShaperStats {
        *self
            .shared
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Change what both directions are like; datagrams under way keep their times. An error of kind
    /// `InvalidInput` if a link cannot be like that, and then nothing changes.
    pub fn set_links(&self, forward: LinkConfig, backward: LinkConfig) -> io::Result<()> {
        for (way, config) in [("forward", &forward), ("backward", &backward)] {
            let invalid = |e| io::Error::new(io::ErrorKind::InvalidInput, format!("{way} {e}"));
            config.validate().map_err(invalid)?;
        }
        self.change(|wanted| {
            wanted[0].config = forward;
            wanted[1].config = backward;
        });
        Ok(())
    }

    /// Cut or mend each direction. Datagrams under way still arrive.
    pub fn set_up(&self, forward: bool, backward: bool) {
        self.change(|wanted| {
            wanted[0].up = forward;
            wanted[1].up = backward;
        });
    }

    fn change(&self, edit: impl FnOnce(&mut [Wanted; 2])) {
        edit(
            &mut self
                .shared
                .wanted
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.shared.change.set();
    }

    /// Stop; datagrams under way are lost. Idempotent.
    pub fn close(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.stop.set();
            // A thread that panics has ended the process.
            let _ = thread.join();
        }
    }
}

impl Drop for UdpShaper {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the thread runs.
struct Proxy {
    epoch: Instant,
    socket: UdpSocket,
    receiver: Receiver,
    clients: Clients,
    forward: Way,
    backward: Way,
    shared: Arc<Shared>,
}

/// Which sockets have datagrams.
struct Ready {
    change: bool,
    socket: bool,
    clients: Vec<SocketAddr>,
}

impl Proxy {
    fn new(
        socket: UdpSocket,
        target: SocketAddr,
        forward: Link,
        backward: Link,
        shared: Arc<Shared>,
    ) -> Proxy {
        Proxy {
            epoch: clock::now(),
            socket,
            receiver: Receiver::new(),
            clients: Clients {
                target,
                by_address: BTreeMap::new(),
                datagrams_refused: 0,
            },
            forward: Way::new(forward),
            backward: Way::new(backward),
            shared,
        }
    }

    fn run(mut self) -> io::Result<()> {
        set_precise_timers()?;
        while let Some(ready) = self.wait()? {
            if ready.change {
                self.take_change();
            }
            if ready.socket {
                self.receive_from_clients()?;
            }
            for address in ready.clients {
                self.receive_from_target(address)?;
            }
            self.deliver_forward();
            self.deliver_backward();
            self.publish_stats();
        }
        Ok(())
    }

    fn now_us(&self) -> u64 {
        clock::micros_since(self.epoch, clock::now())
    }

    /// Sleep until something is to be done; `None` for the end.
    fn wait(&self) -> io::Result<Option<Ready>> {
        let next_us = [self.forward.next_us(), self.backward.next_us()];
        let timeout = next_us.into_iter().flatten().min().map(|at_us| {
            let at = self.epoch + Duration::from_micros(at_us);
            at.saturating_duration_since(clock::now())
        });
        let fixed = [
            self.shared.stop.raw(),
            self.shared.change.raw(),
            self.socket.raw(),
        ];
        let upstream = self
            .clients
            .by_address
            .values()
            .map(|client| client.socket.raw());
        let fds = fixed.into_iter().chain(upstream);
        let mut fds: Vec<PollFd> = fds.map(|fd| PollFd::new(fd, false)).collect();
        poll(&mut fds, timeout)?;
        let clients = self.clients.by_address.keys().zip(&fds[3..]);
        let ready = Ready {
            change: fds[1].is_readable(),
            socket: fds[2].is_readable(),
            clients: clients
                .filter(|(_, fd)| fd.is_readable())
                .map(|(a, _)| *a)
                .collect(),
        };
        Ok((!fds[0].is_readable()).then_some(ready))
    }

    fn take_change(&mut self) {
        self.shared.change.clear();
        let wanted = self
            .shared
            .wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (way, wanted) in [&mut self.forward, &mut self.backward]
            .into_iter()
            .zip(wanted)
        {
            // Checked when it was asked for.
            let _ = way.link.set_config(wanted.config);
            way.link.set_up(wanted.up);
        }
    }

    fn receive_from_clients(&mut self) -> io::Result<()> {
        let now_us = self.now_us();
        let (clients, way) = (&mut self.clients, &mut self.forward);
        let target = clients.target;
        self.receiver.receive(&self.socket, |datagram| {
            if clients.admit(&datagram, now_us) {
                way.offer(now_us, datagram.remote, target, &datagram);
            }
        })?;
        Ok(())
    }

    fn receive_from_target(&mut self, address: SocketAddr) -> io::Result<()> {
        let now_us = self.now_us();
        let way = &mut self.backward;
        let Some(client) = self.clients.by_address.get_mut(&address) else {
            return Ok(()); // made room for another in this very turn
        };
        client.last_us = now_us;
        self.receiver.receive(&client.socket, |datagram| {
            way.offer(now_us, address, address, &datagram);
        })?;
        Ok(())
    }

    fn deliver_forward(&mut self) {
        let due = self.forward.take_due(self.now_us());
        for run in due.chunk_by(|a, b| a.client == b.client) {
            let Some(client) = self.clients.by_address.get(&run[0].client) else {
                self.forward.datagrams_dropped += run.len() as u64;
                continue;
            };
            let messages = run.iter().map(|datagram| datagram.message(None, None));
            let messages: Vec<Message<'_>> = messages.collect();
            self.forward.datagrams_dropped += send_all(&client.socket, &messages);
        }
    }

    fn deliver_backward(&mut self) {
        let due = self.backward.take_due(self.now_us());
        let messages = due.iter().map(|datagram| {
            let client = self.clients.by_address.get(&datagram.client);
            let source = client.and_then(|client| client.local_ip);
            datagram.message(Some(datagram.client), source)
        });
        let messages: Vec<Message<'_>> = messages.collect();
        self.backward.datagrams_dropped += send_all(&self.socket, &messages);
    }

    fn publish_stats(&self) {
        let stats = ShaperStats {
            forward: *self.forward.link.stats(),
            backward: *self.backward.link.stats(),
            clients: self.clients.by_address.len(),
            datagrams_refused: self.clients.datagrams_refused,
            datagrams_dropped: self.forward.datagrams_dropped + self.backward.datagrams_dropped,
        };
        *self
            .shared
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = stats;
    }
}

/// Send what the kernel takes; gives how many it did not.
fn send_all(socket: &UdpSocket, mut messages: &[Message<'_>]) -> u64 {
    let mut dropped = 0;
    while !messages.is_empty() {
        let batch = &messages[..messages.len().min(SEND_BATCH)];
        let done = send_batch(socket, batch).unwrap_or_else(|_| {
            dropped += 1;
            1
        });
        messages = &messages[done.max(1)..];
    }
    dropped
}

/// Clients and their upstream sockets.
struct Clients {
    target: SocketAddr,
    by_address: BTreeMap<SocketAddr, Client>,
    datagrams_refused: u64,
}

struct Client {
    socket: UdpSocket,
    /// Address of ours that it sends to, where there are several.
    local_ip: Option<IpAddr>,
    last_us: u64,
}

impl Clients {
    /// Whether the sender is a client, old or new.
    fn admit(&mut self, datagram: &Datagram<'_>, now_us: u64) -> bool {
        if let Some(client) = self.by_address.get_mut(&datagram.remote) {
            client.last_us = now_us;
            client.local_ip = datagram.local_ip;
            return true;
        }
        self.by_address
            .retain(|_, client| client.last_us + CLIENT_IDLE_US > now_us);
        let is_full = self.by_address.len() >= CLIENTS_MAX;
        let socket = (!is_full).then(|| UdpSocket::connect(self.target, &SOCKET_OPTIONS));
        let Some(Ok(socket)) = socket else {
            self.datagrams_refused += 1;
            return false;
        };
        let client = Client {
            socket,
            local_ip: datagram.local_ip,
            last_us: now_us,
        };
        self.by_address.insert(datagram.remote, client);
        true
    }
}

/// One direction: its link and what is under way on it.
struct Way {
    link: Link,
    /// In order of arrival, which is the order of sending.
    under_way: VecDeque<UnderWay>,
    under_way_bytes: usize,
    datagrams_dropped: u64,
}

struct UnderWay {
    at_us: u64,
    client: SocketAddr,
    ecn: u8,
    data: Vec<u8>,
}

impl UnderWay {
    fn message(&self, destination: Option<SocketAddr>, source: Option<IpAddr>) -> Message<'_> {
        Message {
            destination,
            source,
            ecn: self.ecn,
            segment_size: None,
            data: &self.data,
        }
    }
}

impl Way {
    fn new(link: Link) -> Way {
        Way {
            link,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            datagrams_dropped: 0,
        }
    }

    /// A datagram of, or for, `client` enters the link.
    fn offer(&mut self, now_us: u64, client: SocketAddr, to: SocketAddr, datagram: &Datagram<'_>) {
        let bytes = datagram.data.len();
        if self.under_way_bytes + bytes > UNDER_WAY_BYTES_MAX {
            self.datagrams_dropped += 1;
            return;
        }
        match self.link.send(now_us, wire_bytes(bytes, to)) {
            Verdict::Deliver(at_us) => self.put_under_way(at_us, client, datagram),
            Verdict::DeliverTwice(first_us, second_us) => {
                self.put_under_way(first_us, client, datagram);
                self.put_under_way(second_us, client, datagram);
            }
            _ => {}
        }
    }

    /// At the end, unless the link held earlier ones back to be overtaken.
    fn put_under_way(&mut self, at_us: u64, client: SocketAddr, datagram: &Datagram<'_>) {
        self.under_way_bytes += datagram.data.len();
        let overtaken = self.under_way.iter().rev();
        let overtaken = overtaken.take_while(|other| other.at_us > at_us).count();
        let entry = UnderWay {
            at_us,
            client,
            ecn: datagram.ecn,
            data: datagram.data.to_vec(),
        };
        let place = self.under_way.len() - overtaken;
        self.under_way.insert(place, entry);
    }

    fn next_us(&self) -> Option<u64> {
        self.under_way.front().map(|datagram| datagram.at_us)
    }

    /// What has arrived by now, up to the bound of a turn.
    fn take_due(&mut self, now_us: u64) -> Vec<UnderWay> {
        let due = self.under_way.iter().take(DELIVERIES_PER_TURN_MAX);
        let count = due.take_while(|datagram| datagram.at_us <= now_us).count();
        let due: Vec<UnderWay> = self.under_way.drain(..count).collect();
        self.under_way_bytes -= due
            .iter()
            .map(|datagram| datagram.data.len())
            .sum::<usize>();
        due
    }
}
