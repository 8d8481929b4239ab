//! Two real datapaths on loopback, with the shaper between them.

use bytes::Bytes;
use farcast_core::command::{
    CacheLimits, Command, Draft, GroupOrder, NewObject, QueueLimits, Target,
};
use farcast_core::config::DatapathConfig;
use farcast_core::event::{ClosedBy, Event, SinkObject};
use farcast_core::location::{LargestCell, Location};
use farcast_core::tls::{ClientTls, Identity, ServerTls, Trust};
use farcast_io::{Runtime, UdpShaper};
use farcast_net::{LinkConfig, Loss};
use std::net::SocketAddr;
use std::sync::Arc;

const WAIT_MS: i32 = 20_000;
const TRACK: u64 = 1;
const ALIAS: u64 = 7;
const GROUPS: u64 = 4;
const OBJECTS: u64 = 20;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn server() -> Runtime {
    let identity = Identity {
        chain: vec![include_bytes!("../../core/tests/data/edge.der").to_vec()],
        key: include_bytes!("../../core/tests/data/edge.key.der").to_vec(),
    };
    let config = DatapathConfig {
        server: Some(ServerTls::new(&identity, None).expect("a sound identity")),
        ..DatapathConfig::default()
    };
    Runtime::start(loopback(), config).expect("loopback binds")
}

fn connect(viewer: &Runtime, remote: SocketAddr) {
    let roots = vec![include_bytes!("../../core/tests/data/ca.der").to_vec()];
    let connect = Command::Connect {
        session: 1,
        remote,
        server_name: "localhost".to_owned(),
        target: Target::Quic {
            drafts: vec![Draft::D18],
        },
        tls: ClientTls::new(&Trust::Roots(roots), None).expect("a sound root"),
    };
    viewer.execute(vec![connect]).expect("room");
}

/// The next events, or none if nothing comes in time.
fn next_events(runtime: &Runtime) -> Vec<Event> {
    let mut fd = libc::pollfd {
        fd: runtime.event_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one descriptor, on this stack.
    unsafe { libc::poll(&mut fd, 1, WAIT_MS) };
    runtime.drain_events(1_000)
}

fn opened(runtime: &Runtime) -> u64 {
    match next_events(runtime).as_slice() {
        [Event::SessionOpened { session, .. }] => *session,
        other => panic!("{other:?}"),
    }
}

fn add_track() -> Command {
    Command::AddTrack {
        track: TRACK,
        cache: CacheLimits::default(),
        largest: Arc::new(LargestCell::default()),
    }
}

fn send_to(session: u64) -> Command {
    Command::AddDownstream {
        downstream: 1,
        session,
        alias: ALIAS,
        track: TRACK,
        start: Location::default(),
        end_group: None,
        subscriber_priority: 128,
        group_order: GroupOrder::Ascending,
        forward: true,
        limits: QueueLimits {
            queue_ms_max: 20_000,
            ..QueueLimits::default()
        },
    }
}

fn watch() -> Vec<Command> {
    let bind = Command::BindUpstream {
        session: 1,
        alias: ALIAS,
        track: TRACK,
        default_priority: 128,
        restart_allowed: false,
    };
    let sink = Command::AddSink {
        downstream: 2,
        track: TRACK,
        start: Location::default(),
    };
    vec![add_track(), bind, sink]
}

fn payload(group: u64, object: u64) -> Bytes {
    let bytes = 100 + (group * 1_543 + object * 7_919) % 12_000;
    (0..bytes)
        .map(|i| (i * 31 + group * 7 + object) as u8)
        .collect()
}

fn film() -> Vec<Command> {
    let frames = (0..GROUPS).flat_map(|group| (0..OBJECTS).map(move |object| (group, object)));
    let publish = |(group, object)| Command::Publish {
        track: TRACK,
        object: NewObject {
            group,
            subgroup: 0,
            object,
            priority: 100,
            status: 0,
            properties: Bytes::new(),
            payload: payload(group, object),
            end_of_subgroup: object + 1 == OBJECTS,
            end_of_group: object + 1 == OBJECTS,
        },
    };
    frames.map(publish).collect()
}

fn objects(runtime: &Runtime, count: usize) -> Vec<SinkObject> {
    let mut objects = Vec::new();
    while objects.len() < count {
        let events = next_events(runtime);
        assert!(
            !events.is_empty(),
            "{} of {count} objects came",
            objects.len()
        );
        objects.extend(events.into_iter().filter_map(|event| match event {
            Event::Object(object) => Some(object),
            _ => None,
        }));
    }
    objects
}

#[test]
fn a_film_crosses_a_lossy_path_whole_and_in_order() {
    let path = LinkConfig {
        delay_us: 10_000,
        loss: Loss::GilbertElliott {
            loss: 0.06,
            burst: 2.0,
        },
        ..LinkConfig::default()
    };
    let server = server();
    let shaper = UdpShaper::start(loopback(), server.local_addr(), path.clone(), path, 5);
    let shaper = shaper.expect("loopback binds");
    let viewer = Runtime::start(loopback(), DatapathConfig::default()).expect("loopback binds");
    connect(&viewer, shaper.local_addr());
    assert_eq!(opened(&viewer), 1);
    let session = opened(&server);
    viewer.execute(watch()).expect("room");
    server
        .execute(vec![add_track(), send_to(session)])
        .expect("room");
    server.execute(film()).expect("room");
    let mut got = objects(&viewer, (GROUPS * OBJECTS) as usize);
    // Groups are streams of their own and may overtake one another; inside one, order is kept.
    got.sort_by_key(|object| object.group);
    let got = got
        .iter()
        .map(|o| (o.group, o.object, o.payload.to_bytes()));
    let film = (0..GROUPS).flat_map(|g| (0..OBJECTS).map(move |o| (g, o, payload(g, o))));
    assert!(got.eq(film), "every object is whole, in order, and once");
    assert!(
        shaper.stats().backward.packets_lost > 0,
        "the path is lossy"
    );
}

#[test]
fn the_end_of_one_side_is_told_to_the_other() {
    let mut server = server();
    let viewer = Runtime::start(loopback(), DatapathConfig::default()).expect("loopback binds");
    connect(&viewer, server.local_addr());
    assert_eq!((opened(&viewer), opened(&server)), (1, 0));
    server.close();
    let events = next_events(&viewer);
    let [
        Event::SessionClosed {
            session, by, code, ..
        },
    ] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert_eq!((*session, *by, *code), (1, ClosedBy::Peer, 0));
}
