//! The two hosts: a sender with a connection for each flow, and the receiver of them all.
//!
//! All flows go from one host to the other, so that they share the link between them. Each has an endpoint of
//! its own at the sender, found by the first byte of connection ids, and may be farther away than the others:
//! what comes back is held for so long.

use crate::receiver::{Received, Streams};
use crate::source::{Kind, Source};
use crate::support::{client_config, server_config};
use bytes::BytesMut;
use farcast_core::command::Command;
use farcast_core::congestion::{CongestionConfig, figures, send_window};
use farcast_core::datapath::Transmit;
use farcast_core::event::Event as AgentEvent;
use farcast_net::Engine;
use noq_proto::{
    Connection, ConnectionHandle, ConnectionId, ConnectionIdGenerator, DatagramEvent, Dir,
    EcnCodepoint, Endpoint, EndpointConfig, Event, FourTuple, IdleTimeout, PathId, StreamEvent,
    TransportConfig, VarInt,
};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an edge lets QUIC take of a film beyond what is under way.
const SEND_QUEUE: Duration = Duration::from_millis(150);
const SEND_WINDOW_BYTES: u64 = 8 << 20;

/// One flow as the caller wants it.
#[derive(Clone, Copy, Debug)]
pub struct FlowSpec {
    pub congestion: CongestionConfig,
    pub kind: Kind,
    pub start_us: u64,
    pub end_us: u64,
    /// What its round trip is longer than the link's.
    pub extra_us: u64,
}

/// One end.
pub enum Node {
    Sender(Sender),
    Receiver(Box<Receiver>),
}

/// All flows' sender.
pub struct Sender {
    epoch: Instant,
    remote: SocketAddr,
    flows: Vec<Flow>,
    turn: usize,
}

struct Flow {
    spec: FlowSpec,
    endpoint: Endpoint,
    conn: Option<(ConnectionHandle, Connection)>,
    is_connected: bool,
    is_over: bool,
    source: Source,
    held: VecDeque<(Instant, BytesMut)>,
}

/// What comes of them.
pub struct Receiver {
    epoch: Instant,
    endpoint: Endpoint,
    conns: Vec<Option<(Connection, Streams)>>,
    received: Vec<Received>,
    dirty: VecDeque<usize>,
    responses: VecDeque<(noq_proto::Transmit, Vec<u8>)>,
}

/// Connection ids that say whose they are.
struct Numbered {
    flow: u8,
    next: u32,
}

impl ConnectionIdGenerator for Numbered {
    fn generate_cid(&mut self) -> ConnectionId {
        self.next += 1;
        let [a, b, c, d] = self.next.to_be_bytes();
        ConnectionId::new(&[self.flow, a, b, c, d, 7, 7, 7])
    }
    fn cid_len(&self) -> usize {
        8
    }
    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn endpoint_config(flow: u8, seed: u64) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    let mut bytes = [flow; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    config.rng_seed(Some(bytes));
    config.cid_generator(Arc::new(move || Box::new(Numbered { flow, next: 0 })));
    config
}

/// As the datapath's public connections.
fn transport(congestion: &CongestionConfig) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(1_024))
        .stream_receive_window(VarInt::from_u32(2 << 20))
        .receive_window(VarInt::from_u32(16 << 20))
        .send_window(SEND_WINDOW_BYTES)
        .send_fairness(false)
        .initial_rtt(Duration::from_millis(100))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(60_000))))
        .keep_alive_interval(Some(Duration::from_secs(5)))
        .congestion_controller_factory(congestion.factory());
    Arc::new(transport)
}

impl Node {
    pub fn sender(epoch: Instant, remote: SocketAddr, specs: &[FlowSpec], seed: u64) -> Node {
        let flow = |(number, spec): (usize, &FlowSpec)| Flow {
            spec: *spec,
            endpoint: Endpoint::new(Arc::new(endpoint_config(number as u8, seed)), None, true),
            conn: None,
            is_connected: false,
            is_over: false,
            source: Source::new(spec.kind, number as u8),
            held: VecDeque::new(),
        };
        Node::Sender(Sender {
            epoch,
            remote,
            flows: specs.iter().enumerate().map(flow).collect(),
            turn: 0,
        })
    }

    pub fn receiver(epoch: Instant, flows: usize, seed: u64) -> Node {
        let server = server_config(transport(&CongestionConfig::default()));
        let config = Arc::new(endpoint_config(u8::MAX, seed));
        Node::Receiver(Box::new(Receiver {
            epoch,
            endpoint: Endpoint::new(config, Some(Arc::new(server)), true),
            conns: Vec::new(),
            received: vec![Received::default(); flows],
            dirty: VecDeque::new(),
            responses: VecDeque::new(),
        }))
    }

    /// What came of each flow; empty at the sender.
    pub fn received(&self) -> &[Received] {
        match self {
            Node::Sender(_) => &[],
            Node::Receiver(receiver) => &receiver.received,
        }
    }

    /// Frames that each flow's film had, and gave up; empty at the receiver.
    pub fn frames(&self) -> Vec<(u64, u64)> {
        match self {
            Node::Sender(sender) => {
                let of = |flow: &Flow| (flow.source.frames, flow.source.skipped);
                sender.flows.iter().map(of).collect()
            }
            Node::Receiver(_) => Vec::new(),
        }
    }
}

fn micros(epoch: Instant, now: Instant) -> u64 {
    now.saturating_duration_since(epoch).as_micros() as u64
}

impl Flow {
    fn drive(&mut self, epoch: Instant, now: Instant, remote: SocketAddr) {
        let now_us = micros(epoch, now);
        if self.conn.is_none() && !self.is_over && now_us >= self.spec.start_us {
            let client = client_config(transport(&self.spec.congestion));
            let connected = self.endpoint.connect(now, client, remote, "localhost");
            self.conn = Some(connected.expect("a sound configuration"));
        }
        self.release(now);
        let Some((handle, quic)) = &mut self.conn else {
            return;
        };
        while let Some(event) = quic.poll_endpoint_events() {
            if let Some(answer) = self.endpoint.handle_event(*handle, event) {
                quic.handle_event(answer);
            }
        }
        while let Some(event) = quic.poll() {
            match event {
                Event::Connected => {
                    self.is_connected = true;
                    self.source.begin(now_us, self.spec.end_us);
                }
                Event::ConnectionLost { .. } => self.is_over = true,
                _ => {}
            }
        }
        if self.is_over || !self.is_connected {
            return;
        }
        if now_us >= self.spec.end_us {
            self.is_over = true;
            return quic.close(now, VarInt::from_u32(0), bytes::Bytes::new());
        }
        let allowed_bps = match self.spec.kind {
            Kind::Encoder { .. } => figures(quic).1.usable.saturating_mul(8),
            _ => 0,
        };
        if self.source.is_film() {
            let rtt = quic.rtt(PathId::ZERO).unwrap_or_default();
            if let Some(controller) = quic.congestion_state(PathId::ZERO) {
                let window = send_window(controller, rtt, SEND_QUEUE);
                quic.set_send_window(window.min(SEND_WINDOW_BYTES));
            }
        }
        self.source.supply(now_us, quic, allowed_bps);
    }

    /// What has come far enough.
    fn release(&mut self, now: Instant) {
        while self.held.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, data)) = self.held.pop_front() {
                self.take(now, data);
            }
        }
    }

    fn take(&mut self, now: Instant, data: BytesMut) {
        let path = FourTuple::new(SocketAddr::from(([10, 0, 0, 2], 4_433)), None);
        let mut scratch = Vec::new();
        let event = self
            .endpoint
            .handle(now, path, Some(EcnCodepoint::Ect0), data, &mut scratch);
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event
            && let Some((_, quic)) = &mut self.conn
        {
            quic.handle_event(event);
        }
    }

    fn timeout(&mut self, epoch: Instant) -> Option<Instant> {
        if self.conn.is_none() {
            return (!self.is_over).then(|| epoch + Duration::from_micros(self.spec.start_us));
        }
        let at = |us| epoch + Duration::from_micros(us);
        let is_live = self.is_connected && !self.is_over;
        let (_, quic) = self.conn.as_mut()?;
        let own = [
            quic.poll_timeout(),
            is_live.then(|| self.source.next_us().map(at)).flatten(),
            is_live.then(|| at(self.spec.end_us)),
            self.held.front().map(|(at, _)| *at),
        ];
        own.into_iter().flatten().min()
    }
}

impl Receiver {
    fn drive(&mut self, now: Instant, index: usize) {
        let now_us = micros(self.epoch, now);
        while let Some((quic, streams)) = &mut self.conns[index] {
            if let Some(event) = quic.poll_endpoint_events() {
                if let Some(answer) = self.endpoint.handle_event(ConnectionHandle(index), event) {
                    quic.handle_event(answer);
                }
                continue;
            }
            match quic.poll() {
                Some(Event::Stream(StreamEvent::Opened { dir: Dir::Uni })) => {
                    while let Some(id) = quic.streams().accept(Dir::Uni) {
                        streams.begin(id);
                        streams.read(now_us, quic, id, &mut self.received);
                    }
                }
                Some(Event::Stream(StreamEvent::Readable { id })) => {
                    streams.read(now_us, quic, id, &mut self.received);
                }
                Some(_) => {}
                None => break,
            }
        }
    }

    fn take(&mut self, now: Instant, remote: SocketAddr, ecn: u8, data: BytesMut) {
        let path = FourTuple::new(remote, None);
        let mut scratch = Vec::new();
        let ecn = EcnCodepoint::from_bits(ecn & 3);
        match self.endpoint.handle(now, path, ecn, data, &mut scratch) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some((quic, _)) = self.conns.get_mut(handle.0).and_then(Option::as_mut) {
                    quic.handle_event(event);
                    self.dirty.push_back(handle.0);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, now, &mut scratch, None);
                let (handle, quic) = accepted.expect("a sound client");
                if self.conns.len() <= handle.0 {
                    self.conns.resize_with(handle.0 + 1, || None);
                }
                self.conns[handle.0] = Some((quic, Streams::default()));
                self.dirty.push_back(handle.0);
            }
            Some(DatagramEvent::Response(transmit)) => {
                let bytes = scratch[..transmit.size].to_vec();
                self.responses.push_back((transmit, bytes));
            }
            None => {}
        }
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        max: NonZeroUsize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if let Some((response, bytes)) = self.responses.pop_front() {
            buf.extend_from_slice(&bytes);
            return Some(sent(response));
        }
        while let Some(&index) = self.dirty.front() {
            self.drive(now, index);
            let (quic, _) = self.conns[index].as_mut()?;
            if let Some(transmit) = quic.poll_transmit(now, max, buf) {
                return Some(sent(transmit));
            }
            self.dirty.pop_front();
        }
        None
    }
}

fn sent(transmit: noq_proto::Transmit) -> Transmit {
    Transmit {
        destination: transmit.destination,
        ecn: transmit.ecn.map_or(0, |ecn| ecn as u8),
        size: transmit.size,
        segment_size: transmit.segment_size,
        src_ip: transmit.src_ip,
    }
}

impl Engine for Node {
    fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        _local_ip: Option<IpAddr>,
        ecn: u8,
        data: BytesMut,
    ) {
        match self {
            Node::Receiver(receiver) => receiver.take(now, remote, ecn, data),
            Node::Sender(sender) => {
                // A long header has version and a length before the id.
                let at = if data.first().is_some_and(|byte| byte & 0x80 != 0) {
                    6
                } else {
                    1
                };
                let number = data.get(at).map(|byte| usize::from(*byte));
                if let Some(flow) = number.and_then(|number| sender.flows.get_mut(number)) {
                    let at = now + Duration::from_micros(flow.spec.extra_us);
                    flow.held.push_back((at, data));
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Node::Sender(sender) => {
                for flow in &mut sender.flows {
                    if let Some((_, quic)) = &mut flow.conn
                        && quic.poll_timeout().is_some_and(|at| at <= now)
                    {
                        quic.handle_timeout(now);
                    }
                }
            }
            Node::Receiver(receiver) => {
                for (index, conn) in receiver.conns.iter_mut().enumerate() {
                    if let Some((quic, _)) = conn
                        && quic.poll_timeout().is_some_and(|at| at <= now)
                    {
                        quic.handle_timeout(now);
                        receiver.dirty.push_back(index);
                    }
                }
            }
        }
    }

    fn execute(&mut self, _now: Instant, command: Command) {
        panic!("{command:?}");
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        max_datagrams: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let max = NonZeroUsize::new(max_datagrams)?;
        let sender = match self {
            Node::Receiver(receiver) => return receiver.poll_transmit(now, max, buf),
            Node::Sender(sender) => sender,
        };
        let count = sender.flows.len();
        for _ in 0..count {
            let flow = &mut sender.flows[sender.turn % count];
            sender.turn += 1;
            flow.drive(sender.epoch, now, sender.remote);
            if let Some((_, quic)) = &mut flow.conn
                && let Some(transmit) = quic.poll_transmit(now, max, buf)
            {
                return Some(sent(transmit));
            }
        }
        None
    }

    fn poll_event(&mut self) -> Option<AgentEvent> {
        None
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        match self {
            Node::Sender(sender) => {
                let epoch = sender.epoch;
                let times = sender
                    .flows
                    .iter_mut()
                    .filter_map(|flow| flow.timeout(epoch));
                times.min()
            }
            Node::Receiver(receiver) => {
                let conns = receiver.conns.iter_mut().flatten();
                conns.filter_map(|(quic, _)| quic.poll_timeout()).min()
            }
        }
    }
}
