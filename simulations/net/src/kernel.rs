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
use crate::error::WorldError;
use crate::host::{Host, Input};
use crate::link::{Link, LinkStats, Verdict, wire_bytes};
use crate::link_config::LinkConfig;
use crate::queue::{Datagram, Due, Queue};
use crate::record::Recorded;
use crate::rng::derive_seed;
use crate::trace::TraceHash;
use bytes::BytesMut;
use farcast_core::command::Command;
use farcast_core::config::DatapathConfig;
use farcast_core::datapath::{Datapath, Transmit};
use farcast_core::event::Event;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Datagrams, timers, transmits and events that may happen at one instant before the kernel takes the world
/// for one that stands still.
pub const STEPS_PER_INSTANT_MAX: u32 = 1_000_000;
/// Events that one `run_until` returns; the rest follows with the next call, at the same instant.
pub const EVENTS_PER_BATCH_MAX: usize = 4_096;
/// Datagrams, timers and scheduled commands that may be under way in the whole world.
pub const ENTRIES_MAX: usize = 4_000_000;

/// A host of a [`World`], numbered from 0 in the order of adding.
pub type HostId = usize;

/// Counters of a whole world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorldStats {
    /// Datagrams that hosts sent, whatever became of them.
    pub datagrams: u64,
    /// Their UDP payload bytes.
    pub bytes: u64,
    /// Datagrams to an address or over a link that does not exist.
    pub datagrams_no_route: u64,
    /// Datagrams that arrived at a host that was stopped or had moved.
    pub datagrams_host_down: u64,
    /// Datagrams that arrived at a paused host whose socket was full.
    pub datagrams_socket_full: u64,
    /// Objects beyond what a host's records hold.
    pub records_dropped: u64,
    /// Objects beyond what an object trace holds.
    pub traces_dropped: u64,
}

/// Hosts and links on one virtual clock.
pub struct World<E: Engine = Datapath> {
    epoch: Instant,
    seed: u64,
    now_us: u64,
    pub(crate) hosts: Vec<Host<E>>,
    pub(crate) addresses: BTreeMap<SocketAddr, HostId>,
    links: BTreeMap<(HostId, HostId), Link>,
    queue: Queue,
    steps_at_instant: u32,
    /// Events not yet returned, all of the current instant.
    events: Vec<(u64, HostId, Event)>,
    trace: TraceHash,
    pub(crate) stats: WorldStats,
    buffer: Vec<u8>,
    touched: Vec<HostId>,
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
            queue: Queue::default(),
            steps_at_instant: 0,
            events: Vec::new(),
            trace: TraceHash::new(),
            stats: WorldStats::default(),
            buffer: Vec::new(),
            touched: Vec::new(),
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

    /// What everything random comes from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The engine of a host; `None` where there is no host, or it is stopped.
    pub fn engine(&self, host: HostId) -> Option<&E> {
        self.hosts.get(host)?.engine.as_ref()
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

    /// How long what waits before a link will take to leave.
    pub fn link_backlog_us(&self, from: HostId, to: HostId) -> Result<u64, WorldError> {
        let link = self.links.get(&(from, to));
        let backlog = link.map(|link| link.backlog_us(self.now_us));
        backlog.ok_or(WorldError::NoLink(from, to))
    }

    /// Add a host with an engine made by the caller.
    pub fn add_engine(&mut self, address: SocketAddr, engine: E) -> Result<HostId, WorldError> {
        if self.addresses.contains_key(&address) {
            return Err(WorldError::DuplicateAddress(address));
        }
        let host = self.hosts.len();
        self.addresses.insert(address, host);
        self.hosts.push(Host::new(address, engine));
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

    /// Take a link out. What is under way still arrives.
    pub fn remove_link(&mut self, from: HostId, to: HostId) -> Result<(), WorldError> {
        let removed = self.links.remove(&(from, to));
        removed.map(drop).ok_or(WorldError::NoLink(from, to))
    }

    fn link_mut(&mut self, from: HostId, to: HostId) -> Result<&mut Link, WorldError> {
        let link = self.links.get_mut(&(from, to));
        link.ok_or(WorldError::NoLink(from, to))
    }

    /// Carry out commands at a host, at the current instant, and let it send.
    pub fn execute(&mut self, host: HostId, commands: Vec<Command>) -> Result<(), WorldError> {
        self.host_mut(host)?;
        for command in commands {
            self.carry_out(host, command)?;
        }
        self.flush(host)
    }

    /// Carry out commands at a host at later times; those of one instant in the order given. A time that
    /// has passed is now.
    pub fn schedule(
        &mut self,
        host: HostId,
        commands: Vec<(u64, Command)>,
    ) -> Result<(), WorldError> {
        let incarnation = self.host_mut(host)?.incarnation;
        for (at_us, command) in commands {
            let command = Box::new(command);
            let due = Due::Command {
                incarnation,
                command,
            };
            self.push(at_us, host, due)?;
        }
        Ok(())
    }

    /// Run until events appear or until `until_us`, whichever is first; the clock then stands at that
    /// instant. Events are given with their time and host, in order. A time that has passed runs only
    /// what is due now.
    pub fn run_until(&mut self, until_us: u64) -> Result<Vec<(u64, HostId, Event)>, WorldError> {
        let until_us = until_us.max(self.now_us);
        while self.events.is_empty() {
            let Some(at_us) = self.queue.next_us().filter(|&at_us| at_us <= until_us) else {
                self.move_clock(until_us);
                break;
            };
            self.move_clock(at_us);
            self.run_instant()?;
        }
        let count = self.events.len().min(EVENTS_PER_BATCH_MAX);
        Ok(self.events.drain(..count).collect())
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
        let mut touched = std::mem::take(&mut self.touched);
        while self.queue.next_us() == Some(self.now_us) {
            while let Some((host, due)) = self.queue.pop_at(self.now_us) {
                self.count_step(host)?;
                if self.hand_over(host, due)? && !self.hosts[host].is_touched {
                    self.hosts[host].is_touched = true;
                    touched.push(host);
                }
            }
            touched.sort_unstable();
            for host in touched.drain(..) {
                self.hosts[host].is_touched = false;
                self.flush(host)?;
            }
        }
        self.touched = touched;
        Ok(())
    }

    /// Whether the host is to be flushed.
    fn hand_over(&mut self, host: HostId, due: Due) -> Result<bool, WorldError> {
        match due {
            Due::Datagram(datagram) => self.arrive(host, datagram),
            Due::Timer if self.hosts[host].timer_us != Some(self.now_us) => return Ok(false),
            Due::Timer => self.fire_timer(host),
            Due::Command {
                incarnation,
                command,
            } => {
                if self.hosts[host].incarnation == incarnation {
                    self.carry_out(host, *command)?;
                }
            }
            Due::Resume => self.resume(host)?,
        }
        Ok(self.hosts[host].engine.is_some() && !self.hosts[host].is_paused())
    }

    fn arrive(&mut self, host: HostId, datagram: Datagram) {
        let now = self.now();
        let host = &mut self.hosts[host];
        if host.engine.is_none() || host.moves != datagram.moves {
            self.stats.datagrams_host_down += 1;
        } else if host.is_paused() {
            let had_room = host.wait(Input::Datagram(datagram));
            self.stats.datagrams_socket_full += u64::from(!had_room);
        } else if let Some(engine) = &mut host.engine {
            engine.handle_datagram(now, datagram.source, None, datagram.ecn, datagram.data);
        }
    }

    fn carry_out(&mut self, host: HostId, command: Command) -> Result<(), WorldError> {
        let (now, now_us) = (self.now(), self.now_us);
        let host = &mut self.hosts[host];
        if host.is_paused() {
            let had_room = host.wait(Input::Command(Box::new(command)));
            return had_room
                .then_some(())
                .ok_or(WorldError::TooMuchUnderWay { now_us });
        }
        if let Some(engine) = &mut host.engine {
            engine.execute(now, command);
        }
        Ok(())
    }

    fn fire_timer(&mut self, host: HostId) {
        let now = self.now();
        let host = &mut self.hosts[host];
        host.timer_us = None;
        if host.is_paused() {
            return;
        }
        if let Some(engine) = &mut host.engine
            && engine.poll_timeout().is_some_and(|at| at <= now)
        {
            engine.handle_timeout(now);
        }
    }

    /// Everything that waited at once, then the timers.
    fn resume(&mut self, host: HostId) -> Result<(), WorldError> {
        if !self.hosts[host].resumes_at(self.now_us) {
            return Ok(());
        }
        for input in self.hosts[host].resume() {
            match input {
                Input::Datagram(datagram) => self.arrive(host, datagram),
                Input::Command(command) => self.carry_out(host, *command)?,
            }
        }
        self.fire_timer(host);
        Ok(())
    }

    /// Let a host send all it wants to, collect its events, arm its timer.
    pub(crate) fn flush(&mut self, host: HostId) -> Result<(), WorldError> {
        if self.hosts[host].is_paused() {
            return Ok(());
        }
        let now = self.now();
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(engine) = &mut self.hosts[host].engine {
            buffer.clear();
            let transmit = engine.poll_transmit(now, TRAIN_DATAGRAMS_MAX, &mut buffer);
            self.count_step(host)?;
            let Some(transmit) = transmit else { break };
            self.send_train(host, &transmit, &buffer)?;
        }
        self.buffer = buffer;
        self.collect_events(host)?;
        self.arm_timer(host)
    }

    fn collect_events(&mut self, host: HostId) -> Result<(), WorldError> {
        loop {
            let Host {
                engine: Some(engine),
                recorder,
                ..
            } = &mut self.hosts[host]
            else {
                return Ok(());
            };
            let Some(event) = engine.poll_event() else {
                return Ok(());
            };
            match recorder.handle(event) {
                Recorded::No(event) => self.events.push((self.now_us, host, event)),
                Recorded::Yes => {}
                Recorded::Dropped => self.stats.records_dropped += 1,
            }
            self.count_step(host)?;
        }
    }

    /// The events of an engine that is gone.
    pub(crate) fn forget_events(&mut self, host: HostId) {
        self.events.retain(|(_, of, _)| *of != host);
    }

    fn send_train(
        &mut self,
        from: HostId,
        transmit: &Transmit,
        buffer: &[u8],
    ) -> Result<(), WorldError> {
        let train = &buffer[..transmit.size.min(buffer.len())];
        let segment = transmit.segment_size.unwrap_or(train.len()).max(1);
        let to = self.addresses.get(&transmit.destination).copied();
        // One allocation for all: QUIC keeps slices of what arrived anyway.
        let mut under_way = BytesMut::from(train);
        for length in train.chunks(segment).map(<[u8]>::len) {
            let datagram = under_way.split_to(length);
            self.count_step(from)?;
            self.stats.datagrams += 1;
            self.stats.bytes += datagram.len() as u64;
            self.trace.add(self.now_us, datagram.len(), from, to);
            let link = to.and_then(|to| Some((to, self.links.get_mut(&(from, to))?)));
            let Some((to, link)) = link else {
                self.stats.datagrams_no_route += 1;
                continue;
            };
            let bytes = wire_bytes(datagram.len(), transmit.destination);
            match link.send(self.now_us, bytes) {
                Verdict::Deliver(at_us) => {
                    self.put_under_way(at_us, from, to, transmit, datagram)?
                }
                Verdict::DeliverTwice(first_us, second_us) => {
                    self.put_under_way(first_us, from, to, transmit, datagram.clone())?;
                    self.put_under_way(second_us, from, to, transmit, datagram)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn put_under_way(
        &mut self,
        at_us: u64,
        from: HostId,
        to: HostId,
        transmit: &Transmit,
        data: BytesMut,
    ) -> Result<(), WorldError> {
        let datagram = Datagram {
            source: self.hosts[from].address,
            ecn: transmit.ecn,
            moves: self.hosts[to].moves,
            data,
        };
        self.push(at_us, to, Due::Datagram(datagram))
    }

    /// A timer entry is added only where none is due in time: an engine moves its deadline out with
    /// nearly every packet.
    fn arm_timer(&mut self, host: HostId) -> Result<(), WorldError> {
        let engine = self.hosts[host].engine.as_mut();
        let Some(deadline) = engine.and_then(Engine::poll_timeout) else {
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
        self.push(at_us, host, Due::Timer)
    }

    pub(crate) fn schedule_resume(&mut self, at_us: u64, host: HostId) -> Result<(), WorldError> {
        self.push(at_us, host, Due::Resume)
    }

    fn push(&mut self, at_us: u64, host: HostId, due: Due) -> Result<(), WorldError> {
        if self.queue.len() >= ENTRIES_MAX {
            return Err(WorldError::TooMuchUnderWay {
                now_us: self.now_us,
            });
        }
        self.queue.push(at_us.max(self.now_us), host, due);
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
