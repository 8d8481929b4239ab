//! Control sessions between an edge and the control plane: mutual TLS, and plain bytes on bidirectional
//! streams in both directions. Host 0 is the control plane here, host 1 the edge.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod net;

use bytes::Bytes;
use farcast_core::command::{Command, Draft, LOCAL_STREAM_BIT};
use farcast_core::config::DatapathConfig;
use farcast_core::datapath::Datapath;
use farcast_core::event::{ClosedBy, Event, StreamKind, Transport};
use net::{Ends, LinkSpec, Net, Via};
use std::time::Duration;

const SERVER: usize = 0;
const EDGE: usize = 1;
const STREAM: u64 = LOCAL_STREAM_BIT | 1;
/// The first bidirectional stream of the peer as the server knows it.
const PEER_STREAM: u64 = 0;
const EXCESSIVE_LOAD: u64 = 0x9;
const MIB: usize = 1 << 20;

fn pair() -> Net {
    let mut net = Net::new(7);
    net.add_control_host();
    net.add_host(vec![Draft::D18]);
    net.set_links(SERVER, EDGE, LinkSpec::delay_ms(20));
    net
}

/// An edge whose request stream has reached the server.
fn connected(net: &mut Net) -> Ends {
    let ends = net.connect(EDGE, SERVER, Via::Control);
    let (session, stream) = (ends.near, STREAM);
    let open = Command::OpenStream {
        session,
        stream,
        bidi: true,
    };
    net.execute_all(EDGE, [open, write(session, stream, b"hello".to_vec())]);
    net.run_for(Duration::from_millis(200));
    ends
}

fn write(session: u64, stream: u64, data: Vec<u8>) -> Command {
    Command::Write {
        session,
        stream,
        data: Bytes::from(data),
        fin: false,
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// All bytes of a stream, which are a request's.
fn received(events: &[Event], wanted: u64) -> Vec<u8> {
    let mut all = Vec::new();
    for event in events {
        if let Event::StreamData {
            stream, kind, data, ..
        } = event
        {
            assert_eq!((*stream, *kind), (wanted, StreamKind::Request));
            all.extend_from_slice(data);
        }
    }
    all
}

fn closed(events: &[Event]) -> Option<(ClosedBy, u64)> {
    events.iter().find_map(|event| match event {
        Event::SessionClosed { by, code, .. } => Some((*by, *code)),
        _ => None,
    })
}

#[test]
fn a_control_session_opens_with_the_certificate_of_the_edge() {
    let mut net = pair();
    net.begin_connect(EDGE, SERVER, Via::Control);
    net.run_for(Duration::from_secs(1));
    let events = net.take_events(SERVER);
    let opened: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::SessionOpened { info, .. } => Some(info),
            _ => None,
        })
        .collect();
    let [info] = opened[..] else {
        panic!("{events:?}")
    };
    assert_eq!(info.transport, Transport::Control);
    assert!(info.incoming);
    let edge = include_bytes!("data/edge.der");
    assert_eq!(info.peer_certificates[0], edge[..]);
    let sessions = net.snapshot(SERVER).sessions;
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].transport, Transport::Control);
    assert!(sessions[0].hop.is_none());
}

#[test]
fn an_edge_without_a_certificate_is_refused() {
    let mut net = pair();
    net.begin_connect_as(EDGE, SERVER, Via::Control, None);
    net.run_for(Duration::from_secs(1));
    let opened = |event: &Event| matches!(event, Event::SessionOpened { .. });
    assert!(!net.take_events(SERVER).iter().any(opened));
    let (by, _) = closed(&net.take_events(EDGE)).unwrap();
    assert_eq!(by, ClosedBy::Tls);
}

#[test]
fn reports_and_whole_plans_go_both_ways() {
    let mut net = pair();
    let ends = connected(&mut net);
    assert_eq!(received(&net.take_events(SERVER), PEER_STREAM), b"hello");
    let report = pattern(MIB);
    net.execute(EDGE, write(ends.near, STREAM, report.clone()));
    let plan = pattern(16 * MIB);
    net.execute(SERVER, write(ends.far, PEER_STREAM, plan.clone()));
    net.run_for(Duration::from_secs(20));
    assert!(received(&net.take_events(SERVER), PEER_STREAM) == report);
    assert!(received(&net.take_events(EDGE), STREAM) == plan);
}

#[test]
fn a_unidirectional_stream_of_the_edge_is_stopped_and_nothing_else() {
    let mut net = pair();
    let ends = connected(&mut net);
    net.take_events(SERVER);
    let (session, stream) = (ends.near, STREAM + 1);
    // More than the edge may have open at once: a stopped one gives its credit back.
    for stream in stream..stream + 50 {
        let open = Command::OpenStream {
            session,
            stream,
            bidi: false,
        };
        net.execute_all(EDGE, [open, write(session, stream, pattern(3000))]);
    }
    net.run_for(Duration::from_secs(5));
    assert!(net.take_events(SERVER).is_empty());
    assert_eq!(net.snapshot(SERVER).totals.streams_rejected, 50);
    let stopped = net.take_events(EDGE).into_iter();
    let stopped = stopped.filter(|event| matches!(event, Event::StreamStopped { .. }));
    assert_eq!(stopped.count(), 50);
    net.execute(EDGE, write(session, STREAM, b"still here".to_vec()));
    net.run_for(Duration::from_secs(1));
    assert_eq!(
        received(&net.take_events(SERVER), PEER_STREAM),
        b"still here"
    );
}

#[test]
fn an_edge_that_does_not_read_may_have_two_plans_waiting_and_no_more() {
    let mut net = pair();
    let ends = connected(&mut net);
    net.hold_control(EDGE, true);
    let plan = || write(ends.far, PEER_STREAM, pattern(16 * MIB));
    net.execute_all(SERVER, [plan(), plan()]);
    net.run_for(Duration::from_secs(5));
    assert_eq!(closed(&net.take_events(SERVER)), None);
    net.execute(SERVER, plan());
    let closed = closed(&net.take_events(SERVER));
    assert_eq!(closed, Some((ClosedBy::Local, EXCESSIVE_LOAD)));
}

#[test]
fn a_datapath_that_is_not_to_have_control_sessions_refuses_them() {
    let mut net = pair();
    let host = net.add_host(vec![Draft::D18]);
    net.set_links(host, EDGE, LinkSpec::delay_ms(20));
    net.begin_connect(EDGE, host, Via::Control);
    net.run_for(Duration::from_secs(1));
    assert!(
        net.take_events(host)
            .iter()
            .all(|event| !matches!(event, Event::SessionOpened { .. }))
    );
    let (by, _) = closed(&net.take_events(EDGE)).unwrap();
    assert_eq!(by, ClosedBy::Tls);
}

#[test]
fn control_sessions_without_a_hop_certificate_are_an_error_at_once() {
    #[allow(clippy::disallowed_methods)] // any moment serves as the epoch of a test
    let now = std::time::Instant::now();
    let config = DatapathConfig {
        control: true,
        ..DatapathConfig::default()
    };
    let error = Datapath::new(config, now).err().unwrap();
    assert!(error.to_string().contains("hop certificate"), "{error}");
}
