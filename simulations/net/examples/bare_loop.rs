//! The floor that the simulator is measured against: QUIC alone, in virtual time, on the same kernel and links.
//!
//! Publisher → relay → relay → N viewers, each a host of its own. 3 Mbit/s of video at 30 frames a second
//! and sound 50 times a second, each object a unidirectional stream; relays pass bytes on as they come and
//! know nothing of tracks, caches, repairs or agents. What the simulator costs beyond this is what the
//! shipped code costs.
//!
//! `bare_loop VIEWERS SECONDS` prints one line of JSON: processor seconds of the media phase (of this one
//! thread), datagrams and objects in it, and the memory of the process.

mod support;

use bytes::{Bytes, BytesMut};
use farcast_core::command::{Command, NewObject, Target};
use farcast_core::datapath::Transmit;
use farcast_core::event::Event as AgentEvent;
use farcast_core::tls::{ClientTls, Trust};
use farcast_net::{Engine, HostId, LinkConfig, World};
use noq_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint,
    EndpointConfig, Event, FourTuple, IdleTimeout, Incoming, ReadError, StreamEvent, StreamId,
    TransportConfig, VarInt,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{client_config, server_config};

const VIDEO_BYTES: usize = 12_500;
const AUDIO_BYTES: usize = 160;
const VIDEO_US: u64 = 1_000_000 / 30;
const AUDIO_US: u64 = 1_000_000 / 50;
const ACCESS_US: u64 = 10_000;
const HOP_US: u64 = 40_000;
/// By then all are connected.
const BEGIN_US: u64 = 2_000_000;
const SCHEDULE_AHEAD_US: u64 = 1_000_000;
const READ_BYTES: usize = 256 << 10;

/// One endpoint: a publisher, a relay or a viewer, by whether it passes on what it gets.
struct Node {
    endpoint: Endpoint,
    client: ClientConfig,
    is_relay: bool,
    conns: Vec<Option<Conn>>,
    dirty: VecDeque<usize>,
    /// An entry counts if the connection is still armed for that time.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    responses: VecDeque<(noq_proto::Transmit, Vec<u8>)>,
    scratch: Vec<u8>,
    objects: u64,
}

struct Conn {
    quic: Connection,
    is_dirty: bool,
    armed: Option<Instant>,
    /// Where an incoming stream is passed on to: connection and stream there.
    copies: BTreeMap<StreamId, Vec<(usize, StreamId)>>,
    /// What QUIC did not take yet, and whether the stream ends with it.
    pending: BTreeMap<StreamId, (VecDeque<Bytes>, bool)>,
}

impl Node {
    fn new(is_relay: bool) -> Node {
        let server = is_relay.then(|| Arc::new(server_config(transport())));
        Node {
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), server, true),
            client: client_config(transport()),
            is_relay,
            conns: Vec::new(),
            dirty: VecDeque::new(),
            timers: BinaryHeap::new(),
            responses: VecDeque::new(),
            scratch: Vec::new(),
            objects: 0,
        }
    }

    fn insert(&mut self, handle: ConnectionHandle, quic: Connection) {
        if self.conns.len() <= handle.0 {
            self.conns.resize_with(handle.0 + 1, || None);
        }
        self.conns[handle.0] = Some(Conn {
            quic,
            is_dirty: false,
            armed: None,
            copies: BTreeMap::new(),
            pending: BTreeMap::new(),
        });
        self.mark(handle.0);
    }

    fn mark(&mut self, index: usize) {
        if let Some(conn) = self.conns.get_mut(index).and_then(Option::as_mut)
            && !std::mem::replace(&mut conn.is_dirty, true)
        {
            self.dirty.push_back(index);
        }
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) {
        self.scratch.clear();
        let accepted = self
            .endpoint
            .accept(incoming, now, &mut self.scratch, None)
            .expect("a sound client");
        self.insert(accepted.0, accepted.1);
    }

    /// Work on what a connection has to say.
    fn drive(&mut self, now: Instant, index: usize) {
        while let Some(conn) = self.conns[index].as_mut() {
            if let Some(event) = conn.quic.poll_endpoint_events() {
                if let Some(answer) = self.endpoint.handle_event(ConnectionHandle(index), event) {
                    conn.quic.handle_event(answer);
                }
                continue;
            }
            let Some(event) = conn.quic.poll() else { break };
            match event {
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => self.accept_streams(index),
                Event::Stream(StreamEvent::Readable { id }) => self.read(index, id),
                Event::Stream(StreamEvent::Writable { id }) => self.write(index, id),
                Event::ConnectionLost { reason } => panic!("{now:?}: {reason}"),
                _ => {}
            }
        }
    }

    fn accept_streams(&mut self, index: usize) {
        loop {
            let conn = self.conns[index].as_mut().expect("it exists");
            let Some(id) = conn.quic.streams().accept(Dir::Uni) else {
                return;
            };
            if self.is_relay {
                let mut copies = Vec::new();
                for (other, conn) in self.conns.iter_mut().enumerate() {
                    let Some(conn) = conn.as_mut().filter(|_| other != index) else {
                        continue;
                    };
                    let opened = conn.quic.streams().open(Dir::Uni);
                    copies.push((other, opened.expect("few streams are open at once")));
                }
                let conn = self.conns[index].as_mut().expect("it exists");
                conn.copies.insert(id, copies);
            }
            self.read(index, id);
        }
    }

    fn read(&mut self, index: usize, id: StreamId) {
        let conn = self.conns[index].as_mut().expect("it exists");
        let copies = conn.copies.remove(&id).unwrap_or_default();
        let mut stream = conn.quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else {
            return;
        };
        let (mut got, mut ended) = (Vec::new(), false);
        loop {
            match chunks.next(READ_BYTES) {
                Ok(Some(chunk)) => got.push(chunk.bytes),
                Ok(None) => {
                    ended = true;
                    break;
                }
                Err(ReadError::Blocked) => break,
                Err(error) => panic!("{error}"),
            }
        }
        // This connection is being worked on, and is asked to send at the end of it.
        let _ = chunks.finalize();
        for &(other, copy) in &copies {
            let conn = self.conns[other].as_mut().expect("it exists");
            let pending = conn.pending.entry(copy).or_default();
            pending.0.extend(got.iter().cloned());
            pending.1 = ended;
            self.write(other, copy);
            self.mark(other);
        }
        if ended {
            self.objects += 1;
        } else if !copies.is_empty() {
            let conn = self.conns[index].as_mut().expect("it exists");
            conn.copies.insert(id, copies);
        }
    }

    fn write(&mut self, index: usize, id: StreamId) {
        let conn = self.conns[index].as_mut().expect("it exists");
        let Some((queue, ended)) = conn.pending.get_mut(&id) else {
            return;
        };
        let mut stream = conn.quic.send_stream(id);
        while !queue.is_empty() {
            let total = queue.len();
            let mut left = queue.make_contiguous();
            if stream.write_chunks(&mut left).is_err() {
                return;
            }
            let written = total - left.len();
            queue.drain(..written);
        }
        if *ended {
            stream.finish().expect("it is open");
            conn.pending.remove(&id);
        }
    }
}

impl Engine for Node {
    fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: u8,
        data: BytesMut,
    ) {
        let path = FourTuple::new(remote, local_ip);
        let ecn = EcnCodepoint::from_bits(ecn & 3);
        self.scratch.clear();
        match self
            .endpoint
            .handle(now, path, ecn, data, &mut self.scratch)
        {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let conn = self.conns[handle.0].as_mut().expect("it exists");
                conn.quic.handle_event(event);
                self.mark(handle.0);
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.accept(now, incoming),
            Some(DatagramEvent::Response(transmit)) => {
                let bytes = self.scratch[..transmit.size].to_vec();
                self.responses.push_back((transmit, bytes));
            }
            None => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(&Reverse((at, index))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(conn) = self.conns[index].as_mut().filter(|c| c.armed == Some(at)) else {
                continue;
            };
            conn.armed = None;
            conn.quic.handle_timeout(now);
            self.mark(index);
        }
    }

    fn execute(&mut self, now: Instant, command: Command) {
        match command {
            Command::Connect { remote, .. } => {
                let client = self.client.clone();
                let connected = self.endpoint.connect(now, client, remote, "localhost");
                let (handle, quic) = connected.expect("a sound configuration");
                self.insert(handle, quic);
            }
            Command::Publish { object, .. } => {
                let conn = self.conns[0].as_mut().expect("it has one connection");
                let id = conn.quic.streams().open(Dir::Uni);
                let id = id.expect("few streams are open at once");
                conn.pending.insert(id, ([object.payload].into(), true));
                self.write(0, id);
                self.mark(0);
            }
            other => panic!("{other:?}"),
        }
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        max_datagrams: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let transmit = |t: noq_proto::Transmit| Transmit {
            destination: t.destination,
            ecn: t.ecn.map_or(0, |ecn| ecn as u8),
            size: t.size,
            segment_size: t.segment_size,
            src_ip: t.src_ip,
        };
        if let Some((response, bytes)) = self.responses.pop_front() {
            buf.extend_from_slice(&bytes);
            return Some(transmit(response));
        }
        let max = NonZeroUsize::new(max_datagrams)?;
        while let Some(&index) = self.dirty.front() {
            self.drive(now, index);
            let conn = self.conns[index].as_mut()?;
            if let Some(sent) = conn.quic.poll_transmit(now, max, buf) {
                return Some(transmit(sent));
            }
            conn.is_dirty = false;
            let wanted = conn.quic.poll_timeout();
            if wanted != conn.armed {
                conn.armed = wanted;
                self.timers.extend(wanted.map(|at| Reverse((at, index))));
            }
            self.dirty.pop_front();
        }
        None
    }

    fn poll_event(&mut self) -> Option<AgentEvent> {
        None
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        while let Some(&Reverse((at, index))) = self.timers.peek() {
            let conn = self.conns[index].as_ref();
            if conn.is_some_and(|conn| conn.armed == Some(at)) {
                return Some(at);
            }
            self.timers.pop();
        }
        None
    }
}

/// As the datapath's public connections.
fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(1_024))
        .stream_receive_window(VarInt::from_u32(2 << 20))
        .receive_window(VarInt::from_u32(16 << 20))
        .send_window(1 << 20)
        .send_fairness(false)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(30_000))))
        .keep_alive_interval(Some(Duration::from_secs(5)));
    Arc::new(transport)
}

fn address(host: HostId) -> SocketAddr {
    SocketAddr::from(([10, 0, (host >> 8) as u8, host as u8], 4_433))
}

/// Publisher 0, relays 1 and 2, viewers from 3.
fn build(viewers: usize) -> World<Node> {
    #[allow(clippy::disallowed_methods)] // any instant serves as the epoch
    let mut world = World::new(Instant::now(), 1);
    for host in 0..3 + viewers {
        let node = Node::new(host == 1 || host == 2);
        world
            .add_engine(address(host), node)
            .expect("a free address");
    }
    let link = |delay_us| LinkConfig {
        delay_us,
        ..LinkConfig::default()
    };
    let mut connect = |from, to, delay_us| {
        for (a, b) in [(from, to), (to, from)] {
            world.add_link(a, b, link(delay_us)).expect("a new link");
        }
        let command = Command::Connect {
            session: 1,
            remote: address(to),
            server_name: String::new(),
            target: Target::Hop,
            tls: ClientTls::new(&Trust::Insecure, None).expect("no files"),
        };
        world.execute(from, vec![command]).expect("a host");
    };
    connect(0, 1, ACCESS_US);
    connect(2, 1, HOP_US);
    for viewer in 0..viewers {
        connect(3 + viewer, 2, ACCESS_US);
    }
    world
}

fn publish(payload: &Bytes) -> Command {
    Command::Publish {
        track: 0,
        object: NewObject {
            group: 0,
            subgroup: 0,
            object: 0,
            priority: 0,
            status: 0,
            properties: Bytes::new(),
            payload: payload.clone(),
            end_of_subgroup: true,
            end_of_group: true,
        },
    }
}

/// Frames of one stretch, ahead of time.
fn frames(from_us: u64, until_us: u64) -> Vec<(u64, Command)> {
    let kinds = [(VIDEO_US, VIDEO_BYTES), (AUDIO_US, AUDIO_BYTES)];
    let mut commands = Vec::new();
    for (every_us, bytes) in kinds {
        let payload = Bytes::from(vec![7u8; bytes]);
        let first = (from_us - BEGIN_US).div_ceil(every_us);
        let times = (first..).map(|n| BEGIN_US + n * every_us);
        let times = times.take_while(|&at_us| at_us < until_us);
        commands.extend(times.map(|at_us| (at_us, publish(&payload))));
    }
    commands
}

/// Processor time of this thread.
fn processor_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let ns = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
    ns.expect("nanoseconds on the processor") as f64 / 1e9
}

fn rss_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.expect("resident memory")
}

fn viewer_objects(world: &World<Node>, viewers: usize) -> u64 {
    let engines = (0..viewers).filter_map(|viewer| world.engine(3 + viewer));
    engines.map(|node| node.objects).sum()
}

#[allow(clippy::print_stdout)] // the result of the program
fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let (Some(Ok(viewers)), Some(Ok(seconds))) = (arguments.next(), arguments.next()) else {
        panic!("usage: bare_loop VIEWERS SECONDS");
    };
    let mut world = build(viewers);
    let run = |world: &mut World<Node>, until_us| {
        let events = world.run_until(until_us).expect("it runs");
        assert!(events.is_empty());
    };
    run(&mut world, BEGIN_US);
    let (begin_s, datagrams) = (processor_s(), world.stats().datagrams);
    let mut now_us = BEGIN_US;
    let end_us = BEGIN_US + seconds as u64 * 1_000_000;
    while now_us < end_us {
        let until_us = (now_us + SCHEDULE_AHEAD_US).min(end_us);
        let commands = frames(now_us, until_us);
        world.schedule(0, commands).expect("a host");
        run(&mut world, until_us);
        now_us = until_us;
    }
    let processor_s = processor_s() - begin_s;
    let datagrams = world.stats().datagrams - datagrams;
    let objects = viewer_objects(&world, viewers);
    println!(
        "{{\"viewers\":{viewers},\"seconds\":{seconds},\"processor_s\":{processor_s},\"datagrams\":{datagrams},\"objects\":{objects},\"rss_kib\":{}}}",
        rss_kib()
    );
}
