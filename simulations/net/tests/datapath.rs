//! Real datapaths in a world: the same seed, the same run.

use bytes::Bytes;
use farcast_core::command::{
    CacheLimits, Command, Draft, GroupOrder, NewObject, QueueLimits, Target,
};
use farcast_core::config::DatapathConfig;
use farcast_core::event::Event;
use farcast_core::location::{LargestCell, Location};
use farcast_core::tls::{ClientTls, Identity, ServerTls, Trust};
use farcast_net::{LinkConfig, Loss, World};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

const TRACK: u64 = 1;
const ALIAS: u64 = 7;
const SERVER: usize = 0;
const VIEWER: usize = 1;
const FRAMES: u64 = 100;

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 4433))
}

fn world(seed: u64) -> World {
    #[allow(clippy::disallowed_methods)] // any instant serves as the epoch
    let mut world = World::new(Instant::now(), seed);
    let identity = Identity {
        chain: vec![include_bytes!("../../../proto/rust/core/tests/data/edge.der").to_vec()],
        key: include_bytes!("../../../proto/rust/core/tests/data/edge.key.der").to_vec(),
    };
    let config = DatapathConfig {
        server: Some(ServerTls::new(&identity, None).expect("a sound identity")),
        ..DatapathConfig::default()
    };
    let link = LinkConfig {
        delay_us: 40_000,
        jitter_us: 2_000,
        rate_bps: Some(20_000_000),
        loss: Loss::GilbertElliott {
            loss: 0.03,
            burst: 3.0,
        },
        ..LinkConfig::default()
    };
    for (host, config) in [(1, config), (2, DatapathConfig::default())] {
        world
            .add_host(address(host), config)
            .expect("a free address");
    }
    for (from, to) in [(SERVER, VIEWER), (VIEWER, SERVER)] {
        world.add_link(from, to, link.clone()).expect("a new link");
    }
    world
}

fn connect() -> Command {
    let roots = vec![include_bytes!("../../../proto/rust/core/tests/data/ca.der").to_vec()];
    Command::Connect {
        session: 1,
        remote: address(1),
        server_name: "localhost".to_owned(),
        target: Target::Quic {
            drafts: vec![Draft::D18],
        },
        tls: ClientTls::new(&Trust::Roots(roots), None).expect("a sound root"),
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
        limits: QueueLimits::default(),
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

fn frame(object: u64) -> Command {
    Command::Publish {
        track: TRACK,
        object: NewObject {
            group: 0,
            subgroup: 0,
            object,
            priority: 100,
            status: 0,
            properties: Bytes::new(),
            payload: vec![object as u8; 4_000].into(),
            end_of_subgroup: object + 1 == FRAMES,
            end_of_group: object + 1 == FRAMES,
        },
    }
}

/// A session is opened, then a frame sent every 33 ms; gives hash, datagrams, and when which object
/// was there.
fn run(seed: u64) -> (u64, u64, Vec<(u64, u64)>) {
    let mut world = world(seed);
    world.execute(VIEWER, vec![connect()]).expect("a host");
    let mut objects = Vec::new();
    let (mut published, mut begin_us) = (0, None);
    while objects.len() < FRAMES as usize && world.now_us() < 60_000_000 {
        let next_us = begin_us.map_or(u64::MAX, |begin_us| begin_us + published * 33_000);
        let until_us = if published < FRAMES {
            next_us
        } else {
            u64::MAX
        };
        for (at_us, host, event) in world.run_until(until_us.min(60_000_000)).expect("it runs") {
            match event {
                Event::SessionOpened { session, .. } if host == SERVER => {
                    let commands = vec![add_track(), send_to(session)];
                    world.execute(SERVER, commands).expect("a host");
                    begin_us = Some(at_us + 100_000);
                }
                Event::SessionOpened { .. } => world.execute(VIEWER, watch()).expect("a host"),
                Event::Object(object) => {
                    assert_eq!(object.payload, vec![object.object as u8; 4_000]);
                    objects.push((at_us, object.object));
                }
                _ => {}
            }
        }
        if world.now_us() == next_us && published < FRAMES {
            world
                .execute(SERVER, vec![frame(published)])
                .expect("a host");
            published += 1;
        }
    }
    (world.trace_hash(), world.stats().datagrams, objects)
}

#[test]
fn every_object_arrives_once_in_order_and_a_seed_names_the_run() {
    let (first, again, other) = (run(11), run(11), run(12));
    let ids: Vec<u64> = first.2.iter().map(|(_, object)| *object).collect();
    assert_eq!(ids, (0..FRAMES).collect::<Vec<_>>());
    assert_eq!(first, again);
    assert_ne!(first.0, other.0);
}
