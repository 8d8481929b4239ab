//! The virtual-time packet kernel: hosts, links between them, one clock, one heap of what comes next.
//!
//! Every host is one engine with one address. Nothing sleeps: the kernel takes the earliest entry of
//! its heap, moves the clock there, hands over everything that happens at that instant, and lets the
//! hosts concerned send. It returns to its caller at each instant at which events for an agent
//! appeared, so that the agent reacts at that same virtual time.
//!
//! The same seed, hosts, links and commands give the same datagrams: order at one instant is the order
//! of sending, hosts are flushed by number, and links have generators of their own, seeded by the
//! world's seed and their ends.

use crate::engine::{Engine, TRAIN_DATAGRAMS_MAX};
use crate::link::{Link, LinkStats, Verdict, wire_bytes};
use crate::link_config::{LinkConfig, LinkError};
use crate::rng::derive_seed;
use crate::trace::TraceHash;
use bytes::BytesMut;
use farcast_core::command::Command;
use farcast_core::config::DatapathConfig;
use farcast_core::datapath::{Datapath, Transmit};
use farcast_core::event::Event;
use farcast_core::tls::TlsError;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Datagrams, timers, transmits and events that may happen at one instant before the kernel takes the world
/// for one that stands still.
pub const STEPS_PER_INSTANT_MAX: u32 = 1_000_000;
/// Events that one `run_until` returns; the rest follows with the next call, at the same instant.
pub const EVENTS_PER_BATCH_MAX: usize = 4_096;
/// Datagrams and timers that may be under way in the whole world.
pub const ENTRIES_MAX: usize = 4_000_000;

/// A host of a [`World`], numbered from 0 in the order of adding.
pub type HostId = usize;

/// Why a world could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorldError {
    /// No host has this number.
    NoHost(HostId),
    /// There is no link from the first host to the second.
    NoLink(HostId, HostId),
    /// The link exists already.
    DuplicateLink(HostId, HostId),
    /// Another host has the address.
    DuplicateAddress(SocketAddr),
    /// The link's configuration is refused.
    Link(LinkError),
    /// The host's TLS settings are refused.
    Tls(TlsError),
    /// More than [`STEPS_PER_INSTANT_MAX`] steps without the clock moving on.
    Standstill {
        /// The instant.
        now_us: u64,
        /// The host that took the last step.
        host: HostId,
    },
    /// More than [`ENTRIES_MAX`] datagrams and timers under way.
    TooMuchUnderWay {
        /// The instant.
        now_us: u64,
    },
}

impl fmt::Display for WorldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorldError::NoHost(host) => write!(f, "world has no host {host}"),
            WorldError::NoLink(from, to) => write!(f, "world has no link from {from} to {to}"),
            WorldError::DuplicateLink(from, to) => {
                write!(f, "world already has a link from {from} to {to}")
            }
            WorldError::DuplicateAddress(address) => {
                write!(f, "world already has a host at {address}")
            }
            WorldError::Link(error) => error.fmt(f),
            WorldError::Tls(error) => error.fmt(f),
            WorldError::Standstill { now_us, host } => write!(
                f,
                "world stands still at {now_us} us: over {STEPS_PER_INSTANT_MAX} steps, the last by host {host}"
            ),
            WorldError::TooMuchUnderWay { now_us } => {
                write!(
                    f,
                    "over {ENTRIES_MAX} datagrams and timers under way at {now_us} us"
                )
            }
        }
    }
}

impl Error for WorldError {}

impl From<LinkError> for WorldError {
    fn from(error: LinkError) -> Self {
        WorldError::Link(error)
    }
}

/// Counters of a whole world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorldStats {
    /// Datagrams that hosts sent, whatever became of them.
    pub datagrams: u64,
    /// Their UDP payload bytes.
    pub bytes: u64,
    /// Datagrams to an address or over a link that does not exist.
    pub datagrams_no_route: u64,
}

struct Host<E> {
    address: SocketAddr,
    engine: E,
    /// Time of the one timer entry of the heap that counts; older entries are stale.
    timer_us: Option<u64>,
}

/// What is due at one time; ordered by time, then by when it was scheduled.
struct Entry {
    at_us: u64,
    sequence: u64,
    host: HostId,
    what: What,
}

enum What {
    Datagram {
        source: SocketAddr,
        ecn: u8,
        data: BytesMut,
    },
    Timer,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.sequence).cmp(&(other.at_us, other.sequence))
    }
}

/// Hosts and links on one virtual clock.
pub struct World<E: Engine = Datapath> {
    epoch: Instant,
    seed: u64,
    now_us: u64,
    hosts: Vec<Host<E>>,
    addresses: BTreeMap<SocketAddr, HostId>,
    links: BTreeMap<(HostId, HostId), Link>,
    heap: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
    steps_at_instant: u32,
    /// Events not yet returned, all of the current instant.
    events: Vec<(u64, HostId, Event)>,
    trace: TraceHash,
    stats: WorldStats,
    buffer: Vec<u8>,
}

impl World<Datapath> {
    /// Add a datapath at an address. Without a seed of its own it gets one from the world's.
    pub fn add_host(
        &mut self,
        address: SocketAddr,
        mut config: DatapathConfig,
    ) -> Result<HostId, WorldError> {
        let part = self.hosts.len() as u64;
        config.seed.get_or_insert(derive_seed(self.seed, part));
        let engine = Datapath::new(config, self.epoch).map_err(WorldError::Tls)?;
        self.add_engine(address, engine)
    }
}

impl<E: Engine> World<E> {
    /// An empty world at time 0, which is the instant `epoch` of its engines.
    pub fn new(epoch: Instant, seed: u64) -> World<E> {
        World {
            epoch,
            seed,
            now_us: 0,
            hosts: Vec::new(),
            addresses: BTreeMap::new(),
            links: BTreeMap::new(),
            heap: BinaryHeap::new(),
            sequence: 0,
            steps_at_instant: 0,
            events: Vec::new(),
            trace: TraceHash::new(),
            stats: WorldStats::default(),
            buffer: Vec::new(),
        }
    }

    /// Virtual time, microseconds since the epoch.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Virtual time as the engines see it.
    pub fn now(&self) -> Instant {
        self.epoch + Duration::from_micros(self.now_us)
    }

    /// The instant at which the clock shows 0.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// The engine of a host.
    pub fn engine(&self, host: HostId) -> Option<&E> {
        self.hosts.get(host).map(|h| &h.engine)
    }

    /// Hash over time, size, source and destination of every datagram sent so far, in order.
    pub fn trace_hash(&self) -> u64 {
        self.trace.value()
    }

    /// Counters of the world.
    pub fn stats(&self) -> &WorldStats {
        &self.stats
    }

    /// Counters of the link from one host to another.
    pub fn link_stats(&self, from: HostId, to: HostId) -> Result<&LinkStats, WorldError> {
        let link = self.links.get(&(from, to));
        link.map(Link::stats).ok_or(WorldError::NoLink(from, to))
    }

    /// Add a host with an engine made by the caller.
    pub fn add_engine(&mut self, address: SocketAddr, engine: E) -> Result<HostId, WorldError> {
        if self.addresses.contains_key(&address) {
            return Err(WorldError::DuplicateAddress(address));
        }
        let host = self.hosts.len();
        self.addresses.insert(address, host);
        self.hosts.push(Host {
            address,
            engine,
            timer_us: None,
        });
        Ok(host)
    }

    /// Add a directed link. The way back is a link of its own.
    pub fn add_link(
        &mut self,
        from: HostId,
        to: HostId,
        config: LinkConfig,
    ) -> Result<(), WorldError> {
        for host in [from, to] {
            self.hosts.get(host).ok_or(WorldError::NoHost(host))?;
        }
        if self.links.contains_key(&(from, to)) {
            return Err(WorldError::DuplicateLink(from, to));
        }
        let seed = derive_seed(derive_seed(self.seed, 1 << 32 | from as u64), to as u64);
        self.links.insert((from, to), Link::new(config, seed)?);
        Ok(())
    }

    /// Change what a link is like, from now on.
    pub fn set_link(
        &mut self,
        from: HostId,
        to: HostId,
        config: LinkConfig,
    ) -> Result<(), WorldError> {
        Ok(self.link_mut(from, to)?.set_config(config)?)
    }

    /// Cut or mend a link.
    pub fn set_link_up(&mut self, from: HostId, to: HostId, up: bool) -> Result<(), WorldError> {
        self.link_mut(from, to)?.set_up(up);
        Ok(())
    }

    fn link_mut(&mut self, from: HostId, to: HostId) -> Result<&mut Link, WorldError> {
        let link = self.links.get_mut(&(from, to));
        link.ok_or(WorldError::NoLink(from, to))
    }

    /// Carry out commands at a host, at the current instant, and let it send.
    pub fn execute(&mut self, host: HostId, commands: Vec<Command>) -> Result<(), WorldError> {
        let now = self.now();
        let engine = &mut self
            .hosts
            .get_mut(host)
            .ok_or(WorldError::NoHost(host))?
            .engine;
        for command in commands {
            engine.execute(now, command);
        }
        self.flush(host)
    }

    /// Run until events appear or until `until_us`, whichever is first; the clock then stands at that
    /// instant. Events are given with their time and host, in order. A time that has passed runs only
    /// what is due now.
    pub fn run_until(&mut self, until_us: u64) -> Result<Vec<(u64, HostId, Event)>, WorldError> {
        let until_us = until_us.max(self.now_us);
        while self.events.is_empty() {
            let Some(at_us) = self.next_entry_us().filter(|&at_us| at_us <= until_us) else {
                self.move_clock(until_us);
                break;
            };
            self.move_clock(at_us);
            self.run_instant()?;
        }
        let count = self.events.len().min(EVENTS_PER_BATCH_MAX);
        Ok(self.events.drain(..count).collect())
    }

    fn next_entry_us(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| entry.at_us)
    }

    fn move_clock(&mut self, to_us: u64) {
        if to_us > self.now_us {
            self.now_us = to_us;
            self.steps_at_instant = 0;
        }
    }

    /// Hand over everything that is due now, then let the hosts concerned send; repeat while that
    /// makes more due now.
    fn run_instant(&mut self) -> Result<(), WorldError> {
        let mut touched = BTreeSet::new();
        while self.next_entry_us() == Some(self.now_us) {
            while let Some(entry) = self.pop_due() {
                self.count_step(entry.host)?;
                if self.hand_over(entry.host, entry.what) {
                    touched.insert(entry.host);
                }
            }
            while let Some(host) = touched.pop_first() {
                self.flush(host)?;
            }
        }
        Ok(())
    }

    fn pop_due(&mut self) -> Option<Entry> {
        let due = self.next_entry_us() == Some(self.now_us);
        due.then(|| self.heap.pop())
            .flatten()
            .map(|Reverse(entry)| entry)
    }

    /// Whether the host is to be flushed.
    fn hand_over(&mut self, host: HostId, what: What) -> bool {
        let now = self.now();
        let host = &mut self.hosts[host];
        match what {
            What::Datagram { source, ecn, data } => {
                host.engine.handle_datagram(now, source, None, ecn, data);
            }
            What::Timer if host.timer_us != Some(self.now_us) => return false,
            What::Timer => {
                host.timer_us = None;
                if host.engine.poll_timeout().is_some_and(|at| at <= now) {
                    host.engine.handle_timeout(now);
                }
            }
        }
        true
    }

    /// Let a host send all it wants to, collect its events, arm its timer.
    fn flush(&mut self, host: HostId) -> Result<(), WorldError> {
        let now = self.now();
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            self.count_step(host)?;
            buffer.clear();
            let engine = &mut self.hosts[host].engine;
            let Some(transmit) = engine.poll_transmit(now, TRAIN_DATAGRAMS_MAX, &mut buffer) else {
                break;
            };
            self.send_train(host, &transmit, &buffer)?;
        }
        self.buffer = buffer;
        while let Some(event) = self.hosts[host].engine.poll_event() {
            self.count_step(host)?;
            self.events.push((self.now_us, host, event));
        }
        self.arm_timer(host)
    }

    fn send_train(
        &mut self,
        from: HostId,
        transmit: &Transmit,
        buffer: &[u8],
    ) -> Result<(), WorldError> {
        let train = &buffer[..transmit.size.min(buffer.len())];
        let segment = transmit.segment_size.unwrap_or(train.len()).max(1);
        for datagram in train.chunks(segment) {
            self.count_step(from)?;
            self.send_datagram(from, transmit, datagram)?;
        }
        Ok(())
    }

    fn send_datagram(
        &mut self,
        from: HostId,
        transmit: &Transmit,
        payload: &[u8],
    ) -> Result<(), WorldError> {
        let to = self.addresses.get(&transmit.destination).copied();
        self.stats.datagrams += 1;
        self.stats.bytes += payload.len() as u64;
        self.trace.add(self.now_us, payload.len(), from, to);
        let link = to.and_then(|to| Some((to, self.links.get_mut(&(from, to))?)));
        let Some((to, link)) = link else {
            self.stats.datagrams_no_route += 1;
            return Ok(());
        };
        let bytes = wire_bytes(payload.len(), transmit.destination);
        let Verdict::Deliver(at_us) = link.send(self.now_us, bytes) else {
            return Ok(());
        };
        let what = What::Datagram {
            source: self.hosts[from].address,
            ecn: transmit.ecn,
            data: BytesMut::from(payload),
        };
        self.schedule(at_us, to, what)
    }

    /// A timer entry is added only where none is due in time: an engine moves its deadline out with
    /// nearly every packet.
    fn arm_timer(&mut self, host: HostId) -> Result<(), WorldError> {
        let Some(deadline) = self.hosts[host].engine.poll_timeout() else {
            return Ok(());
        };
        let after_epoch = deadline.saturating_duration_since(self.epoch);
        let at_us = u64::try_from(after_epoch.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        let at_us = at_us.max(self.now_us);
        if self.hosts[host]
            .timer_us
            .is_some_and(|armed_us| armed_us <= at_us)
        {
            return Ok(());
        }
        self.hosts[host].timer_us = Some(at_us);
        self.schedule(at_us, host, What::Timer)
    }

    fn schedule(&mut self, at_us: u64, host: HostId, what: What) -> Result<(), WorldError> {
        if self.heap.len() >= ENTRIES_MAX {
            return Err(WorldError::TooMuchUnderWay {
                now_us: self.now_us,
            });
        }
        self.sequence += 1;
        self.heap.push(Reverse(Entry {
            at_us,
            sequence: self.sequence,
            host,
            what,
        }));
        Ok(())
    }

    fn count_step(&mut self, host: HostId) -> Result<(), WorldError> {
        self.steps_at_instant += 1;
        if self.steps_at_instant > STEPS_PER_INSTANT_MAX {
            return Err(WorldError::Standstill {
                now_us: self.now_us,
                host,
            });
        }
        Ok(())
    }
}
