//! The thread carries datagrams, commands, events and time between an engine and the world.

use bytes::{Bytes, BytesMut};
use farcast_core::command::Command;
use farcast_core::datapath::Transmit;
use farcast_core::event::{ClosedBy, Event, SinkObject};
use farcast_io::{Runtime, RuntimeOptions};
use farcast_net::Engine;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command as Process;
use std::time::{Duration, Instant};

/// Nothing here takes longer than this unless it is broken.
const WAIT_MS: i32 = 5_000;

/// Steered by commands, because that is all that reaches it:
/// `Snapshot` sends a train of `token` datagrams to its peer; `RemoveTrack` sets a timer that far
/// ahead, in microseconds; `UnbindUpstream` makes `alias` objects; `FinishDownstream` opens a session
/// of that id; `Close` sends one datagram of one byte, and for 4 another session opens, 6; `RemoveDownstream`
/// panics.
/// A datagram that begins with 0 is answered by the same beginning with 1; one that begins with 1 is
/// reported. A timer that fires is reported.
struct Echo {
    epoch: Instant,
    peer: SocketAddr,
    out: VecDeque<(Transmit, Vec<u8>)>,
    events: VecDeque<Event>,
    deadline: Option<Instant>,
}

impl Echo {
    fn new(epoch: Instant, peer: SocketAddr) -> Echo {
        Echo {
            epoch,
            peer,
            out: VecDeque::new(),
            events: VecDeque::new(),
            deadline: None,
        }
    }

    fn send(&mut self, data: Vec<u8>, segment_size: Option<usize>) {
        self.send_to(self.peer, None, data, segment_size);
    }

    fn send_to(
        &mut self,
        destination: SocketAddr,
        src_ip: Option<IpAddr>,
        data: Vec<u8>,
        segment_size: Option<usize>,
    ) {
        let transmit = Transmit {
            destination,
            ecn: 2,
            size: data.len(),
            segment_size,
            src_ip,
        };
        self.out.push_back((transmit, data));
    }

    fn send_train(&mut self, count: usize) {
        let mut data = vec![0; count * 1_000 - 1];
        for (i, datagram) in data.chunks_mut(1_000).enumerate() {
            datagram[1] = i as u8;
        }
        self.send(data, (count > 1).then_some(1_000));
    }
}

impl Engine for Echo {
    fn handle_datagram(
        &mut self,
        _now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: u8,
        mut data: BytesMut,
    ) {
        if data[0] == 0 {
            data[0] = 1;
            return self.send_to(remote, local_ip, data.to_vec(), None);
        }
        self.events.push_back(Event::TrackMalformed {
            session: u64::from(data[1]),
            alias: data.len() as u64,
            track: u64::from(ecn),
            reason: local_ip.map_or("-".to_owned(), |ip| ip.to_string()),
        });
    }

    fn handle_timeout(&mut self, now: Instant) {
        let after = now.duration_since(self.epoch).as_micros() as u64;
        self.deadline = None;
        self.events.push_back(Event::DownstreamEnded {
            downstream: 0,
            streams: after,
        });
    }

    fn execute(&mut self, now: Instant, command: Command) {
        match command {
            Command::Snapshot { token } => self.send_train(token as usize),
            Command::RemoveTrack { track } => {
                self.deadline = Some(now + Duration::from_micros(track));
            }
            Command::UnbindUpstream { alias, .. } => self.events.extend((0..alias).map(object)),
            Command::FinishDownstream { downstream } => self.events.push_back(opened(downstream)),
            Command::Close { session, .. } => {
                self.send(vec![session as u8], None);
                self.events.extend((session == 4).then(|| opened(6)));
            }
            other => panic!("asked to: {other:?}"),
        }
    }

    fn poll_transmit(
        &mut self,
        _now: Instant,
        _max_datagrams: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        assert!(buf.is_empty(), "the caller clears it");
        let (transmit, data) = self.out.pop_front()?;
        buf.extend_from_slice(&data);
        Some(transmit)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.deadline
    }
}

fn object(object: u64) -> Event {
    Event::Object(SinkObject {
        downstream: 1,
        group: 0,
        subgroup: 0,
        object,
        priority: 0,
        status: 0,
        properties: Bytes::new(),
        payload: Bytes::from_static(b"picture").into(),
        first_byte_us: 0,
        complete_us: 0,
    })
}

fn opened(session: u64) -> Event {
    use farcast_core::command::Draft;
    use farcast_core::event::{SessionInfo, Transport};
    Event::SessionOpened {
        session,
        info: SessionInfo {
            transport: Transport::Quic,
            draft: Draft::D18,
            incoming: true,
            remote: address("192.0.2.1:1"),
            offered: vec![],
            authority: String::new(),
            path: String::new(),
            peer_certificates: vec![],
        },
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn start(listen: &str, peer: SocketAddr, options: RuntimeOptions) -> Runtime {
    Runtime::start_with(address(listen), options, move |epoch| {
        Ok(Echo::new(epoch, peer))
    })
    .expect("loopback binds")
}

fn start_plain(peer: SocketAddr) -> Runtime {
    start("127.0.0.1:0", peer, RuntimeOptions::default())
}

fn execute(runtime: &Runtime, command: Command) {
    runtime.execute(vec![command]).expect("room for a command");
}

/// Whether events wait, or come within the time.
fn events_come(runtime: &Runtime, within_ms: i32) -> bool {
    let mut fd = libc::pollfd {
        fd: runtime.event_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one descriptor, on this stack.
    unsafe { libc::poll(&mut fd, 1, within_ms) == 1 }
}

fn wait_events(runtime: &Runtime, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count && events_come(runtime, WAIT_MS) {
        events.append(&mut runtime.drain_events(count - events.len()));
    }
    events
}

/// Number, length, ECN bits and local address of the reported datagrams.
fn datagrams(events: Vec<Event>) -> Vec<(u64, u64, u64, String)> {
    let fields = |event| match event {
        Event::TrackMalformed {
            session,
            alias,
            track,
            reason,
        } => (session, alias, track, reason),
        other => panic!("{other:?}"),
    };
    events.into_iter().map(fields).collect()
}

#[test]
fn trains_go_out_and_come_back_with_offload_and_without() {
    for offload in [true, false] {
        let options = RuntimeOptions {
            gso: offload,
            gro: offload,
            ..RuntimeOptions::default()
        };
        let server = start("127.0.0.1:0", address("127.0.0.1:9"), options);
        let client = start("127.0.0.1:0", server.local_addr(), options);
        execute(&client, Command::Snapshot { token: 30 });
        let got = datagrams(wait_events(&client, 30));
        let length = |i| if i == 29 { 999 } else { 1_000 };
        let want = (0..30).map(|i| (i, length(i), 2, "-".to_owned()));
        assert_eq!(got, want.collect::<Vec<_>>(), "offload {offload}");
        let stats = client.stats();
        assert_eq!((stats.datagrams_out, stats.bytes_out), (30, 29_999));
        assert_eq!((stats.datagrams_in, stats.bytes_in), (30, 29_999));
        assert_eq!((stats.gso, stats.gro), (offload, offload));
        assert!(stats.receive_buffer_bytes > 0 && stats.send_buffer_bytes > 0);
        assert!(stats.send_calls <= 2, "{}", stats.send_calls);
    }
}

#[test]
fn an_idle_thread_does_not_wake_up() {
    let mut runtime = start_plain(address("127.0.0.1:9"));
    execute(&runtime, Command::FinishDownstream { downstream: 0 });
    assert_eq!(wait_events(&runtime, 1).len(), 1);
    let event = Command::FinishDownstream { downstream: 2 };
    execute(&runtime, event.clone());
    assert_eq!(wait_events(&runtime, 1).len(), 1);
    assert!(!events_come(&runtime, 200));
    // One to take the first command, one for the second, and at most one more because a command may
    // come while the thread takes others.
    let wakeups = runtime.stats().wakeups;
    assert!(wakeups <= 3, "{wakeups}");
    runtime.close();
}

#[test]
fn a_deadline_is_kept_and_not_met_early() {
    let runtime = start_plain(address("127.0.0.1:9"));
    let set_us = runtime.now_us();
    execute(&runtime, Command::RemoveTrack { track: 30_000 });
    let events = wait_events(&runtime, 1);
    let Some(Event::DownstreamEnded { streams, .. }) = events.first() else {
        panic!("{events:?}");
    };
    assert!(*streams >= set_us + 30_000, "{streams} {set_us}");
    assert!(*streams <= runtime.now_us());
}

#[test]
fn a_busy_port_is_named() {
    let first = start_plain(address("127.0.0.1:9"));
    let busy = first.local_addr();
    let second = Runtime::start_with(busy, RuntimeOptions::default(), move |epoch| {
        Ok(Echo::new(epoch, busy))
    });
    let error = second.err().expect("the port is busy");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(error.to_string(), format!("address already in use: {busy}"));
}

#[test]
fn an_address_of_another_machine_is_named() {
    let listen = address("192.0.2.1:4433");
    let started = Runtime::start_with(listen, RuntimeOptions::default(), move |epoch| {
        Ok(Echo::new(epoch, listen))
    });
    let error = started.err().expect("not ours");
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    assert!(error.to_string().ends_with("192.0.2.1:4433"), "{error}");
}

#[test]
fn a_wildcard_socket_reports_the_local_address_and_serves_both_families() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return; // a machine without IPv6
    }
    for (listen, peer) in [
        ("0.0.0.0:0", "127.0.0.2"),
        ("[::]:0", "127.0.0.2"),
        ("[::]:0", "[::1]"),
    ] {
        let any = start(listen, address("127.0.0.1:9"), RuntimeOptions::default());
        let port = any.local_addr().port();
        let client = if peer == "[::1]" {
            "[::1]:0"
        } else {
            "127.0.0.1:0"
        };
        let client = UdpSocket::bind(client).expect("loopback binds");
        let timeout = Some(Duration::from_millis(WAIT_MS as u64));
        client.set_read_timeout(timeout).expect("a timeout");
        client.connect(format!("{peer}:{port}")).expect("a route");
        client.send(&[1, 7]).expect("sent");
        let ip = peer.trim_matches(['[', ']']).to_owned();
        let want = [(7, 2, 0, ip)];
        assert_eq!(datagrams(wait_events(&any, 1)), want, "{listen} {peer}");
        // The answer comes from the address that was asked, or the connected socket drops it.
        client.send(&[0, 8]).expect("sent");
        let mut answer = [0; 10];
        assert_eq!(client.recv(&mut answer).expect("an answer"), 2);
        assert_eq!(answer[..2], [1, 8]);
    }
}

#[test]
fn objects_that_nobody_takes_are_dropped_and_counted_but_no_other_event_is() {
    let options = RuntimeOptions {
        events_max: 10,
        ..RuntimeOptions::default()
    };
    let runtime = start("127.0.0.1:0", address("127.0.0.1:9"), options);
    let flood = Command::UnbindUpstream {
        session: 1,
        alias: 1_000,
    };
    let close = |session| Command::FinishDownstream {
        downstream: session,
    };
    runtime
        .execute(vec![flood, close(2), close(4)])
        .expect("room for commands");
    let events = wait_events(&runtime, 12);
    assert_eq!(events.len(), 12);
    let objects = events.iter().filter(|e| matches!(e, Event::Object(_)));
    assert_eq!(objects.count(), 10);
    assert_eq!(runtime.stats().objects_dropped, 990);
}

#[test]
fn the_end_closes_open_sessions_and_sends_what_tells_their_peers() {
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback binds");
    let timeout = Some(Duration::from_millis(WAIT_MS as u64));
    peer.set_read_timeout(timeout).expect("a timeout");
    let mut runtime = start_plain(peer.local_addr().expect("bound"));
    for session in [2, 4] {
        execute(
            &runtime,
            Command::FinishDownstream {
                downstream: session,
            },
        );
    }
    assert_eq!(wait_events(&runtime, 2).len(), 2);
    runtime.close();
    runtime.close();
    let mut said = [0; 3];
    for byte in &mut said {
        assert_eq!(peer.recv(std::slice::from_mut(byte)).expect("a goodbye"), 1);
    }
    assert_eq!(said, [2, 4, 6], "also to who comes while it ends");
}

#[test]
fn the_port_is_free_again_after_the_end() {
    let mut runtime = start_plain(address("127.0.0.1:9"));
    let address = runtime.local_addr();
    runtime.close();
    UdpSocket::bind(address).expect("free again");
}

/// In a process of its own, because it must not survive.
#[test]
fn a_panic_in_the_thread_ends_the_process_with_a_message() {
    const ASKED: &str = "FARCAST_TEST_PANIC";
    if std::env::var_os(ASKED).is_some() {
        let runtime = start_plain(address("127.0.0.1:9"));
        let panic = Command::RemoveDownstream {
            downstream: 0,
            code: 0,
        };
        execute(&runtime, panic);
        events_come(&runtime, WAIT_MS);
        return;
    }
    let name = "a_panic_in_the_thread_ends_the_process_with_a_message";
    let output = Process::new(std::env::current_exe().expect("this test"))
        .args(["--exact", name, "--nocapture"])
        .env(ASKED, "1")
        .output()
        .expect("runs");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(message.contains("asked to"), "{message}");
    let last = "farcast: thread farcast-datapath failed, ending the process: panic, see above";
    assert!(message.contains(last), "{message}");
}

#[test]
fn a_closed_session_is_not_closed_again_at_the_end() {
    let closed = Event::SessionClosed {
        session: 2,
        by: ClosedBy::Peer,
        code: 0,
        reason: String::new(),
    };
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback binds");
    let to = peer.local_addr().expect("bound");
    let mut runtime = Runtime::start_with(
        address("127.0.0.1:0"),
        RuntimeOptions::default(),
        move |epoch| {
            let mut echo = Echo::new(epoch, to);
            echo.events.extend([opened(2), closed]);
            Ok(echo)
        },
    )
    .expect("loopback binds");
    assert_eq!(wait_events(&runtime, 2).len(), 2);
    runtime.close();
    peer.set_nonblocking(true).expect("non-blocking");
    let nothing = peer.recv(&mut [0]).expect_err("nothing was sent");
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
}
