//! A small virtual network of datapaths, for tests of the datapath alone.
#![allow(dead_code)] // not every test uses all of it
#![allow(clippy::unwrap_used)] // a test fails by panicking

pub mod film;
pub mod mesh;

use bytes::BytesMut;
use farcast_core::command::{Command, Draft, Target};
use farcast_core::config::{DatapathConfig, Limits};
use farcast_core::datapath::Datapath;
use farcast_core::event::Event;
use farcast_core::seed::SplitMix;
use farcast_core::stats::Snapshot;
use farcast_core::tls::{ClientTls, Identity, ServerTls, Trust};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How a session is to be opened.
#[derive(Clone, Copy)]
pub enum Via {
    Quic(Draft),
    WebTransport(Draft),
    Hop,
    Control,
}

/// One direction of a link.
#[derive(Clone, Copy)]
pub struct LinkSpec {
    pub delay: Duration,
    /// Share of datagrams lost, in bursts of three on average.
    pub loss: f64,
    pub rate_bps: Option<u64>,
    pub queue_ms: u64,
    /// Nothing gets through.
    pub down: bool,
}

impl LinkSpec {
    pub fn delay_ms(ms: u64) -> LinkSpec {
        LinkSpec {
            delay: Duration::from_millis(ms),
            loss: 0.0,
            rate_bps: None,
            queue_ms: 300,
            down: false,
        }
    }
}

struct Link {
    spec: LinkSpec,
    free_at: Instant,
    in_burst: bool,
}

struct Host {
    datapath: Datapath,
    events: Vec<(u64, Event)>,
    wakeups: u64,
    next_session: u64,
}

/// The two ends' ids of one session.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub near: u64,
    pub far: u64,
}

/// Arrival, tie-break, source, destination, bytes.
type Packet = (Instant, u64, usize, usize, Vec<u8>);

pub struct Net {
    now: Instant,
    seed: u64,
    random: SplitMix,
    hosts: Vec<Host>,
    links: BTreeMap<(usize, usize), Link>,
    heap: BinaryHeap<Reverse<Packet>>,
    sequence: u64,
    hash: u64,
    epoch: Instant,
}

fn addr(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host as u8 + 1], 4433))
}

fn identity() -> Identity {
    Identity {
        chain: vec![include_bytes!("../data/edge.der").to_vec()],
        key: include_bytes!("../data/edge.key.der").to_vec(),
    }
}

fn roots() -> Vec<Vec<u8>> {
    vec![include_bytes!("../data/ca.der").to_vec()]
}

impl Net {
    pub fn new(seed: u64) -> Net {
        #[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
        let now = Instant::now();
        Net {
            now,
            seed,
            random: SplitMix(seed),
            hosts: Vec::new(),
            links: BTreeMap::new(),
            heap: BinaryHeap::new(),
            sequence: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            epoch: now,
        }
    }

    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    pub fn add_host(&mut self, drafts: Vec<Draft>) -> usize {
        self.add_host_with(drafts, Limits::default())
    }

    pub fn add_host_with(&mut self, drafts: Vec<Draft>, limits: Limits) -> usize {
        self.push_host(drafts, limits, false)
    }

    /// One that takes control sessions.
    pub fn add_control_host(&mut self) -> usize {
        self.push_host(vec![Draft::D18], Limits::default(), true)
    }

    fn push_host(&mut self, drafts: Vec<Draft>, limits: Limits, control: bool) -> usize {
        let roots = roots();
        let hop = Some((&identity(), &roots[..])).map(|(i, r)| (i.clone(), r));
        let tls = ServerTls::new(&identity(), hop.as_ref().map(|(i, r)| (i, *r))).unwrap();
        let host = self.hosts.len();
        let config = DatapathConfig {
            server: Some(tls),
            drafts,
            seed: Some(self.seed * 1000 + host as u64),
            limits,
            control,
            ..DatapathConfig::default()
        };
        let datapath = Datapath::new(config, self.epoch).unwrap();
        self.hosts.push(Host {
            datapath,
            events: Vec::new(),
            wakeups: 0,
            next_session: 1,
        });
        host
    }

    pub fn set_links(&mut self, a: usize, b: usize, spec: LinkSpec) {
        for key in [(a, b), (b, a)] {
            self.links.insert(
                key,
                Link {
                    spec,
                    free_at: self.now,
                    in_burst: false,
                },
            );
        }
    }

    /// Change one direction from now on; what is under way arrives.
    pub fn set_link(&mut self, from: usize, to: usize, spec: LinkSpec) {
        if let Some(link) = self.links.get_mut(&(from, to)) {
            link.spec = spec;
        }
    }

    /// Cut or mend one direction.
    pub fn set_down(&mut self, from: usize, to: usize, down: bool) {
        if let Some(link) = self.links.get_mut(&(from, to)) {
            link.spec.down = down;
        }
    }

    /// Virtual time since the beginning.
    pub fn now_us(&self) -> u64 {
        (self.now - self.epoch).as_micros() as u64
    }

    /// Begin to open a session; its id at this end.
    pub fn begin_connect(&mut self, from: usize, to: usize, via: Via) -> u64 {
        self.begin_connect_as(from, to, via, Some(&identity()))
    }

    /// The same with another client certificate, or none.
    pub fn begin_connect_as(
        &mut self,
        from: usize,
        to: usize,
        via: Via,
        client: Option<&Identity>,
    ) -> u64 {
        let session = self.hosts[from].next_session;
        self.hosts[from].next_session += 2;
        let target = match via {
            Via::Quic(draft) => Target::Quic {
                drafts: vec![draft],
            },
            Via::Hop => Target::Hop,
            Via::Control => Target::Control,
            Via::WebTransport(draft) => Target::WebTransport {
                authority: "localhost:4433".into(),
                path: "/".into(),
                drafts: vec![draft],
            },
        };
        let tls = ClientTls::new(&Trust::Roots(roots()), client).unwrap();
        let server_name = "localhost".into();
        self.execute(
            from,
            Command::Connect {
                session,
                remote: addr(to),
                server_name,
                target,
                tls,
            },
        );
        session
    }

    /// Open a session and wait until both ends have it.
    pub fn connect(&mut self, from: usize, to: usize, via: Via) -> Ends {
        self.take_events(to);
        let session = self.begin_connect(from, to, via);
        self.run_for(Duration::from_secs(1));
        let opened = |(_, event): &(u64, Event)| match event {
            Event::SessionOpened { session, .. } => Some(*session),
            _ => None,
        };
        let far = self.hosts[to].events.iter().find_map(opened);
        let near = self.hosts[from].events.iter().rev().find_map(opened);
        let found = near.zip(far);
        let (near, far) = found.unwrap_or_else(|| panic!("{:?}", self.hosts[from].events));
        assert_eq!(near, session);
        self.take_events(to);
        self.take_events(from);
        Ends { near, far }
    }

    pub fn execute(&mut self, host: usize, command: Command) {
        self.execute_all(host, [command]);
    }

    /// Commands that the datapath gets in one go, as from a shell.
    pub fn execute_all(&mut self, host: usize, commands: impl IntoIterator<Item = Command>) {
        let now = self.now;
        for command in commands {
            self.hosts[host].datapath.execute(now, command);
        }
        self.flush(host);
    }

    /// The agent of a host stops or begins to read control and request streams.
    pub fn hold_control(&mut self, host: usize, held: bool) {
        self.hosts[host].datapath.hold_control(held);
        self.flush(host);
    }

    pub fn snapshot(&mut self, host: usize) -> Snapshot {
        let now = self.now;
        self.hosts[host].datapath.snapshot(now)
    }

    pub fn take_events(&mut self, host: usize) -> Vec<Event> {
        let events = self.take_timed_events(host).into_iter();
        events.map(|(_, event)| event).collect()
    }

    /// Events with the virtual time at which each was raised.
    pub fn take_timed_events(&mut self, host: usize) -> Vec<(u64, Event)> {
        std::mem::take(&mut self.hosts[host].events)
    }

    pub fn wakeups(&self, host: usize) -> u64 {
        self.hosts[host].wakeups
    }

    pub fn trace_hash(&self) -> u64 {
        self.hash
    }

    /// A raw datagram from a host's address.
    pub fn inject(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        self.carry(from, to, bytes);
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timer = (0..self.hosts.len())
                .filter_map(|host| {
                    self.hosts[host]
                        .datapath
                        .poll_timeout()
                        .map(|at| (at, host))
                })
                .min();
            let packet = self.heap.peek().map(|Reverse((at, ..))| *at);
            let next = [timer.map(|(at, _)| at), packet]
                .into_iter()
                .flatten()
                .min();
            let Some(at) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            if packet == Some(at) {
                let Some(Reverse((_, _, from, to, bytes))) = self.heap.pop() else {
                    break;
                };
                let (now, data) = (self.now, BytesMut::from(&bytes[..]));
                let host = &mut self.hosts[to];
                host.wakeups += 1;
                host.datapath
                    .handle_datagram(now, addr(from), None, 0, data);
                self.flush(to);
            } else if let Some((_, host)) = timer {
                self.hosts[host].wakeups += 1;
                self.hosts[host].datapath.handle_timeout(self.now);
                self.flush(host);
            }
        }
        self.now = end;
    }

    fn flush(&mut self, host: usize) {
        let mut buf = Vec::new();
        loop {
            buf.clear();
            let sent = self.hosts[host]
                .datapath
                .poll_transmit(self.now, 10, &mut buf);
            let Some(transmit) = sent else { break };
            let to = (0..self.hosts.len()).find(|h| addr(*h) == transmit.destination);
            let Some(to) = to else { continue };
            let size = transmit.segment_size.unwrap_or(transmit.size);
            for datagram in buf[..transmit.size].chunks(size) {
                self.carry(host, to, datagram.to_vec());
            }
        }
        while let Some(event) = self.hosts[host].datapath.poll_event() {
            let at_us = self.now_us();
            self.hosts[host].events.push((at_us, event));
        }
    }

    fn carry(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        self.note(from, to, bytes.len());
        let now = self.now;
        let default = Link {
            spec: LinkSpec::delay_ms(5),
            free_at: now,
            in_burst: false,
        };
        let link = self.links.entry((from, to)).or_insert(default);
        let draw = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        // Gilbert: bursts of three, stationary share `loss`.
        let enter = link.spec.loss / (3.0 * (1.0 - link.spec.loss));
        link.in_burst = if link.in_burst {
            draw >= 1.0 / 3.0
        } else {
            draw < enter
        };
        if link.spec.down || (link.in_burst && link.spec.loss > 0.0) {
            return;
        }
        let mut at = now;
        if let Some(rate) = link.spec.rate_bps {
            let begin = link.free_at.max(now);
            if begin - now > Duration::from_millis(link.spec.queue_ms) {
                return;
            }
            at = begin + Duration::from_nanos(bytes.len() as u64 * 8_000_000_000 / rate);
            link.free_at = at;
        }
        self.sequence += 1;
        self.heap.push(Reverse((
            at + link.spec.delay,
            self.sequence,
            from,
            to,
            bytes,
        )));
    }

    fn note(&mut self, from: usize, to: usize, size: usize) {
        let at = (self.now - self.epoch).as_nanos() as u64;
        for word in [at, from as u64, to as u64, size as u64] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
