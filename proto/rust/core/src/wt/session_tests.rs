//! Both ends against each other over streams in memory, and one end against bytes made by hand.

use super::*;
use crate::varint::VarIntKind;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// One end and what a shell around it remembers.
struct End {
    wt: WebTransport,
    next_uni: u64,
    next_bidi: u64,
    outbox: Vec<(u64, Bytes, bool)>,
    events: Vec<WtEvent>,
    fates: BTreeMap<u64, StreamFate>,
    stopped: Vec<(u64, u64)>,
    reset: Vec<(u64, u64)>,
    closed: Option<H3Error>,
}

impl End {
    fn new(role: Role) -> End {
        let server = role == Role::Server;
        let mut end = End {
            wt: WebTransport::new(role).unwrap(),
            next_uni: if server { 3 } else { 2 },
            next_bidi: if server { 1 } else { 0 },
            outbox: Vec::new(),
            events: Vec::new(),
            fates: BTreeMap::new(),
            stopped: Vec::new(),
            reset: Vec::new(),
            closed: None,
        };
        end.settle();
        end
    }

    fn server() -> End {
        End::new(Role::Server)
    }

    fn client(protocols: &[&str]) -> End {
        End::new(Role::Client {
            authority: "edge.example:4433".to_owned(),
            path: "/live?token=x".to_owned(),
            protocols: protocols.iter().map(|p| (*p).to_owned()).collect(),
            origin: None,
        })
    }

    /// Carry out actions and collect events.
    fn settle(&mut self) {
        while let Some(action) = self.wt.poll_action() {
            match action {
                Action::Open(stream) => {
                    let id = self.open(stream == OwnStream::Connect);
                    self.wt.handle_opened(stream, id);
                }
                Action::Write { stream, data, fin } => self.outbox.push((stream, data, fin)),
                Action::Stop { stream, code } => self.stopped.push((stream, code)),
                Action::Reset { stream, code } => self.reset.push((stream, code)),
                Action::CloseConnection(error) => self.closed = Some(error),
            }
        }
        self.events
            .extend(std::iter::from_fn(|| self.wt.poll_event()));
    }

    fn open(&mut self, bidi: bool) -> u64 {
        let next = if bidi {
            &mut self.next_bidi
        } else {
            &mut self.next_uni
        };
        std::mem::replace(next, *next + 4)
    }

    /// Bytes of a stream arrive, as a shell passes them on.
    fn receive(&mut self, id: u64, data: Bytes, fin: bool) {
        let settled = |fate: &StreamFate| !matches!(fate, StreamFate::NeedMore | StreamFate::Mine);
        let opened_here = (id & 1 == 1) == (self.next_bidi & 1 == 1);
        if opened_here {
            self.wt.handle_own(id, data, fin);
        } else if !self.fates.get(&id).is_some_and(settled) {
            let fate = match id & 2 {
                0 => self.wt.handle_bidi(id, data, fin),
                _ => self.wt.handle_uni(id, data, fin),
            };
            self.fates.insert(id, fate);
        }
        self.settle();
    }

    fn receive_all(&mut self, id: u64, data: &[u8], fin: bool, split: usize) {
        let mut chunks = data.chunks(split).peekable();
        if data.is_empty() {
            self.receive(id, Bytes::new(), fin);
        }
        while let Some(chunk) = chunks.next() {
            let last = chunks.peek().is_none();
            self.receive(id, Bytes::copy_from_slice(chunk), fin && last);
        }
    }

    /// Everything sent on one stream so far.
    fn sent(&self, id: u64) -> Vec<u8> {
        let on_stream = self.outbox.iter().filter(|write| write.0 == id);
        on_stream.flat_map(|write| write.1.to_vec()).collect()
    }
}

/// Let both ends talk until both are silent.
fn exchange(a: &mut End, b: &mut End, split: usize) {
    while !a.outbox.is_empty() || !b.outbox.is_empty() {
        for (id, data, fin) in std::mem::take(&mut a.outbox) {
            b.receive_all(id, &data, fin, split);
        }
        for (id, data, fin) in std::mem::take(&mut b.outbox) {
            a.receive_all(id, &data, fin, split);
        }
    }
}

fn requested(protocols: &[&str]) -> WtEvent {
    WtEvent::Requested {
        authority: "edge.example:4433".to_owned(),
        path: "/live?token=x".to_owned(),
        origin: None,
        protocols: protocols.iter().map(|p| (*p).to_owned()).collect(),
    }
}

fn established(protocol: Option<&str>) -> WtEvent {
    WtEvent::Established {
        protocol: protocol.map(str::to_owned),
    }
}

fn closed(code: u32, reason: &str) -> WtEvent {
    WtEvent::Closed {
        code,
        reason: reason.to_owned(),
    }
}

/// Two ends with an open session, and no events left.
fn open_pair() -> (End, End) {
    let (mut client, mut server) = (End::client(&["moqt-18"]), End::server());
    exchange(&mut client, &mut server, usize::MAX);
    server.wt.accept(Some("moqt-18"));
    server.settle();
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(
        std::mem::take(&mut client.events),
        [established(Some("moqt-18"))]
    );
    server.events.clear();
    (client, server)
}

fn put(values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        VarIntKind::Quic.encode(*value, &mut out).unwrap();
    }
    out
}

fn frame_of(kind: u64, payload: &[u8]) -> Vec<u8> {
    [&put(&[kind, payload.len() as u64]), payload].concat()
}

/// A control stream with WebTransport's settings, and more frames after them.
fn control(more: &[u8]) -> Vec<u8> {
    let settings = put(&[0x33, 1, 0xc671_706a, 1]);
    [&[0][..], &frame_of(4, &settings), more].concat()
}

#[test]
fn a_session_opens_however_the_bytes_are_cut() {
    for split in [1, 2, 3, 7, 64, usize::MAX] {
        let (mut client, mut server) = (End::client(&["moqt-18", "moqt-16"]), End::server());
        exchange(&mut client, &mut server, split);
        assert_eq!(server.events, [requested(&["moqt-18", "moqt-16"])]);
        assert!(!server.wt.is_established() && client.events.is_empty());
        server.wt.accept(Some("moqt-16"));
        server.settle();
        exchange(&mut client, &mut server, split);
        assert_eq!(server.events[1..], [established(Some("moqt-16"))]);
        assert_eq!(client.events, [established(Some("moqt-16"))]);
        assert_eq!(
            (client.wt.session_id(), server.wt.session_id()),
            (Some(0), Some(0))
        );
        assert_eq!((client.closed, server.closed), (None, None));
    }
}

#[test]
fn a_session_opens_without_any_protocol() {
    let (mut client, mut server) = (End::client(&[]), End::server());
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(server.events, [requested(&[])]);
    server.wt.accept(None);
    server.settle();
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(client.events, [established(None)]);
}

#[test]
fn a_rejected_client_learns_the_status_and_another_request_may_follow() {
    let (mut client, mut server) = (End::client(&["moqt-18"]), End::server());
    exchange(&mut client, &mut server, 5);
    server.wt.reject(404);
    server.settle();
    assert_eq!(server.stopped, [(0, h3::NO_ERROR)]);
    exchange(&mut client, &mut server, 5);
    let refused = WtEvent::Refused {
        status: Some(404),
        reason: "the server refused the session",
    };
    assert_eq!(client.events, [refused]);
    let protocols = ["moqt-16".to_owned()];
    let again = super::request::encode_request("edge.example:4433", "/x", &protocols, None);
    server.receive(4, again.unwrap(), false);
    server.wt.accept(Some("moqt-16"));
    server.settle();
    assert_eq!(server.events.last(), Some(&established(Some("moqt-16"))));
    assert_eq!(server.wt.session_id(), Some(4));
}

#[test]
fn a_protocol_that_was_not_offered_is_no_session() {
    let (mut client, mut server) = (End::client(&["moqt-18"]), End::server());
    exchange(&mut client, &mut server, usize::MAX);
    server.wt.accept(Some("other"));
    server.settle();
    exchange(&mut client, &mut server, usize::MAX);
    assert!(matches!(
        client.events[..],
        [WtEvent::Refused {
            status: Some(200),
            ..
        }]
    ));
    assert_eq!(client.reset, [(0, h3::ALPN_ERROR)]);
}

#[test]
fn a_close_reaches_the_other_end_and_is_confirmed() {
    for split in [1, usize::MAX] {
        for by_client in [true, false] {
            let (client, server) = open_pair();
            let (mut a, mut b) = if by_client {
                (client, server)
            } else {
                (server, client)
            };
            assert!(a.wt.close(42, "enough"));
            assert!(!a.wt.close(43, "again"));
            a.settle();
            exchange(&mut a, &mut b, split);
            assert_eq!(b.events, [closed(42, "enough")]);
            assert_eq!(a.events, [closed(0, "")]);
            assert!(!a.wt.is_established() && !b.wt.is_established());
            assert_eq!((a.closed, b.closed), (None, None));
        }
    }
}

#[test]
fn a_session_that_just_ends_is_closed_without_a_reason() {
    let (_, mut server) = open_pair();
    server.receive(0, Bytes::new(), true);
    assert_eq!(server.events, [closed(0, "")]);
    let (_, mut server) = open_pair();
    server.wt.handle_reset(0);
    server.settle();
    assert_eq!(
        server.events,
        [closed(0, "the peer reset the session's stream")]
    );
    let (mut client, _) = open_pair();
    client.wt.handle_stopped(0);
    client.settle();
    assert_eq!(
        client.events,
        [closed(0, "the peer stopped the session's stream")]
    );
}

#[test]
fn streams_and_datagrams_of_the_session_are_told_from_others() {
    let (client, mut server) = open_pair();
    let uni = [&client.wt.uni_prefix().unwrap()[..], b"media"].concat();
    let bidi = [&client.wt.bidi_prefix().unwrap()[..], b"request"].concat();
    for split in [1, usize::MAX] {
        let (uni_id, bidi_id) = (10 + 4 * (split & 1) as u64, 12 + 4 * (split & 1) as u64);
        server.receive_all(uni_id, &uni[..4], false, split);
        server.receive_all(bidi_id, &bidi[..4], false, split);
        assert!(matches!(server.fates[&uni_id], StreamFate::Session { .. }));
        assert!(matches!(server.fates[&bidi_id], StreamFate::Session { .. }));
    }
    let rest = Bytes::from_static(b"media");
    assert_eq!(
        server.wt.handle_uni(22, Bytes::from(uni), false),
        StreamFate::Session { rest }
    );
    let other = Bytes::from(put(&[0x54, 8]));
    let code = h3::BUFFERED_STREAM_REJECTED;
    assert_eq!(
        server.wt.handle_uni(26, other, false),
        StreamFate::Refused { code }
    );

    let datagram = [&client.wt.datagram_prefix().unwrap()[..], b"d"].concat();
    assert_eq!(
        server.wt.handle_datagram(Bytes::from(datagram)).unwrap(),
        "d"
    );
    assert_eq!(
        server.wt.handle_datagram(Bytes::from_static(b"\x02d")),
        None
    );
    assert_eq!(server.wt.handle_datagram(Bytes::new()), None);
    server.settle();
    assert_eq!(
        server.closed.map(|error| error.code),
        Some(h3::DATAGRAM_ERROR)
    );
}

#[test]
fn streams_may_overtake_what_opens_their_session_but_not_outlive_it() {
    let mut server = End::server();
    let early = Bytes::from(put(&[0x54, 0]));
    assert!(matches!(
        server.wt.handle_uni(6, early.clone(), false),
        StreamFate::Session { .. }
    ));
    let (mut client, mut server) = open_pair();
    server.wt.close(0, "");
    server.settle();
    exchange(&mut client, &mut server, usize::MAX);
    let gone = StreamFate::Refused {
        code: h3::SESSION_GONE,
    };
    assert_eq!(server.wt.handle_uni(6, early.clone(), false), gone);
    assert_eq!(client.wt.handle_uni(7, early, false), gone);
}

#[test]
fn a_request_waits_for_the_settings_of_its_client() {
    let mut client = End::client(&["moqt-16"]);
    client.receive(3, Bytes::from(control(b"")), false);
    let request = client.sent(0);
    let mut server = End::server();
    server.receive(0, Bytes::from(request), false);
    assert_eq!(server.events, []);
    server.receive(2, Bytes::from(control(b"")), false);
    assert_eq!(server.events, [requested(&["moqt-16"])]);
}

#[test]
fn a_client_asks_only_servers_that_offer_webtransport() {
    let mut client = End::client(&[]);
    assert_eq!(client.sent(0), b"");
    client.receive(3, Bytes::from_static(b"\x00\x04\x02\x33\x01"), false);
    assert!(matches!(
        client.events[..],
        [WtEvent::Refused { status: None, .. }]
    ));
    assert_eq!(client.sent(0), b"");
}

/// What Chromium sends, put together from the specifications: settings of the old and the new
/// generation with GREASE, PRIORITY_UPDATE, QPACK streams, a GREASE stream, and a CONNECT request with
/// static, literal and Huffman-coded fields.
#[test]
fn a_browser_is_understood_at_any_split() {
    let settings = put(&[
        0x1,
        65_536,
        0x6,
        16_384,
        0x7,
        100,
        0x33,
        1,
        0xff_d277,
        1,
        0x2b60_3742,
        1,
        0xc671_706a,
        1,
        0x1_08fb_2f21,
        454_654_587,
    ]);
    let control = [
        &[0][..],
        &frame_of(4, &settings),
        &frame_of(0x21 + 0x1f * 1_000, b"grease"),
        &frame_of(0xf_0700, b"\x00u=1"),
        &frame_of(0xd, b"\x08"),
    ]
    .concat();
    let mut fields = vec![0, 0, 0xcf, 0xd7, 0xc1];
    fields.extend_from_slice(b"\x50\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff");
    fields.extend_from_slice(b"\x27\x02:protocol\x0cwebtransport");
    fields.extend_from_slice(b"\x27\x17sec-webtransport-http3-draft02\x011");
    fields.extend_from_slice(b"\x5f\x4b\x15http://127.0.0.1:8080");
    fields.extend_from_slice(b"\x27\x0fwt-available-protocols\x09\"moqt-16\"");
    let request = [frame_of(0x21, b""), frame_of(1, &fields)].concat();

    for split in [1, 3, 50, usize::MAX] {
        let mut server = End::server();
        server.receive_all(2, &control, false, split);
        server.receive_all(6, b"\x02\x20", false, split);
        server.receive_all(10, b"\x03", false, split);
        server.receive_all(14, &put(&[0x21 + 0x1f * 77]), false, split);
        server.receive_all(0, &request, false, split);
        let expected = WtEvent::Requested {
            authority: "www.example.com".to_owned(),
            path: "/".to_owned(),
            origin: Some("http://127.0.0.1:8080".to_owned()),
            protocols: vec!["moqt-16".to_owned()],
        };
        assert_eq!(server.events, [expected]);
        assert_eq!(server.closed, None);
        let code = h3::STREAM_CREATION_ERROR;
        assert_eq!(server.fates[&14], StreamFate::Refused { code });
        server.wt.accept(Some("moqt-16"));
        server.settle();
        let response = server.sent(0);
        let response = web_transport_proto::ConnectResponse::decode(&mut &response[..]).unwrap();
        assert_eq!(response.protocol.as_deref(), Some("moqt-16"));
        server.receive_all(0, &frame_of(0, b"\x80\x00\x78\xae\x00"), false, split);
        server.receive_all(
            0,
            &frame_of(0, b"\x68\x43\x07\x00\x00\x00\x05bye"),
            true,
            split,
        );
        assert_eq!(server.events[2..], [WtEvent::Draining, closed(5, "bye")]);
        assert_eq!(server.fates[&0], StreamFate::Over);
    }
}

#[test]
fn breaches_of_http3_close_the_connection_with_the_right_code() {
    let after_settings = |frame: &[u8]| vec![(2, control(frame))];
    let cases: Vec<(&str, Vec<(u64, Vec<u8>)>, u64)> = vec![
        (
            "no SETTINGS",
            vec![(2, b"\x00\x21\x00".to_vec())],
            h3::MISSING_SETTINGS,
        ),
        (
            "long SETTINGS",
            vec![(2, b"\x00\x04\x80\x01\x00\x00".to_vec())],
            h3::EXCESSIVE_LOAD,
        ),
        (
            "SETTINGS twice",
            after_settings(b"\x04\x00"),
            h3::FRAME_UNEXPECTED,
        ),
        (
            "DATA on control",
            after_settings(b"\x00\x00"),
            h3::FRAME_UNEXPECTED,
        ),
        (
            "HTTP/2 frame",
            after_settings(b"\x08\x00"),
            h3::FRAME_UNEXPECTED,
        ),
        ("long GOAWAY", after_settings(b"\x07\x09"), h3::FRAME_ERROR),
        ("empty GOAWAY", after_settings(b"\x07\x00"), h3::FRAME_ERROR),
        (
            "second control",
            vec![(2, vec![0]), (6, vec![0])],
            h3::STREAM_CREATION_ERROR,
        ),
        (
            "second encoder",
            vec![(2, vec![2]), (6, vec![2])],
            h3::STREAM_CREATION_ERROR,
        ),
        (
            "push by client",
            vec![(2, vec![1])],
            h3::STREAM_CREATION_ERROR,
        ),
        (
            "session id of a uni stream",
            vec![(2, put(&[0x54, 2]))],
            h3::ID_ERROR,
        ),
        (
            "DATA before HEADERS",
            vec![(0, b"\x00\x01x".to_vec())],
            h3::FRAME_UNEXPECTED,
        ),
        (
            "dynamic table",
            vec![(0, b"\x01\x03\x00\x00\x80".to_vec())],
            h3::QPACK_DECOMPRESSION_FAILED,
        ),
    ];
    for (name, streams, code) in cases {
        for split in [1, usize::MAX] {
            let mut server = End::server();
            for (id, bytes) in &streams {
                server.receive_all(*id, bytes, false, split);
            }
            assert_eq!(server.closed.map(|error| error.code), Some(code), "{name}");
        }
    }
}

#[test]
fn critical_streams_must_stay_open() {
    for (first, id) in [(control(b""), 2), (vec![2], 6), (vec![3], 10)] {
        for by_reset in [true, false] {
            let mut server = End::server();
            server.receive(id, Bytes::from(first.clone()), false);
            if by_reset {
                server.wt.handle_reset(id);
                server.settle();
            } else {
                server.receive(id, Bytes::new(), true);
            }
            let code = server.closed.map(|error| error.code);
            assert_eq!(code, Some(h3::CLOSED_CRITICAL_STREAM));
        }
    }
    let mut server = End::server();
    server.wt.handle_stopped(3);
    server.settle();
    assert_eq!(
        server.closed.map(|error| error.code),
        Some(h3::CLOSED_CRITICAL_STREAM)
    );
}

#[test]
fn a_request_from_a_server_is_a_breach_but_its_goaway_is_not() {
    let (mut client, _) = open_pair();
    client.receive(3, Bytes::from_static(b"\x07\x01\x00\x07\x01\x00"), false);
    assert_eq!(client.events, [WtEvent::Draining]);
    client.receive(1, Bytes::from_static(b"\x01\x00"), false);
    assert_eq!(
        client.closed.map(|error| error.code),
        Some(h3::STREAM_CREATION_ERROR)
    );
    let (_, mut server) = open_pair();
    server.receive(2, Bytes::from_static(b"\x07\x01\x00"), false);
    assert_eq!(server.events, []);
}

#[test]
fn a_second_session_is_refused() {
    let (client, mut server) = open_pair();
    drop(client);
    let again = super::request::encode_request("edge.example", "/", &[], None).unwrap();
    let code = h3::REQUEST_REJECTED;
    assert_eq!(
        server.wt.handle_bidi(4, again, false),
        StreamFate::Refused { code }
    );
    assert!(server.wt.is_established());
}

#[test]
fn other_requests_are_answered_and_forgotten() {
    let mut server = End::server();
    let get = frame_of(1, b"\x00\x00\xd1\xd7\xc1\x50\x01h");
    server.receive(0, Bytes::from(get), false);
    assert_eq!(server.fates[&0], StreamFate::Over);
    assert_eq!(server.stopped, [(0, h3::NO_ERROR)]);
    let response = server.sent(0);
    let error = web_transport_proto::ConnectResponse::decode(&mut &response[..]).unwrap_err();
    assert_eq!(error.to_string(), "expected 200, got: Some(405)");
    assert_eq!(server.closed, None);
}

#[test]
fn unfinished_requests_are_bounded_in_number() {
    let mut server = End::server();
    let unfinished = Bytes::from_static(b"\x01\x80\x00\x40\x00");
    for n in 0..REQUESTS_MAX as u64 {
        assert_eq!(
            server.wt.handle_bidi(n * 4, unfinished.clone(), false),
            StreamFate::NeedMore
        );
    }
    let one_more = server.wt.handle_bidi(400, unfinished.clone(), false);
    let code = h3::REQUEST_REJECTED;
    assert_eq!(one_more, StreamFate::Refused { code });
    server.wt.handle_reset(0);
    assert_eq!(
        server.wt.handle_bidi(404, unfinished, false),
        StreamFate::NeedMore
    );
}

#[test]
fn a_malformed_capsule_ends_the_session_only() {
    let (_, mut server) = open_pair();
    server.receive(0, Bytes::from(frame_of(0, b"\x68\x43\x01\x00")), false);
    assert_eq!(server.events, [closed(0, "malformed capsule")]);
    assert_eq!(server.reset, [(0, h3::MESSAGE_ERROR)]);
    assert_eq!(server.closed, None);
}

/// Bytes that look like HTTP/3 more often than chance has it.
fn h3_like() -> impl Strategy<Value = Vec<u8>> {
    let small = || prop_oneof![0u64..16, Just(0x21), Just(0x41), Just(0x54), Just(0x2843)];
    let token = prop_oneof![
        small().prop_map(|value| put(&[value])),
        (small(), proptest::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, payload)| frame_of(kind, &payload)),
        Just(control(b"")),
        proptest::collection::vec(any::<u8>(), 0..10),
    ];
    proptest::collection::vec(token, 0..6).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn garbage_never_panics_and_little_is_held(
        opened in any::<bool>(),
        client in any::<bool>(),
        inputs in proptest::collection::vec((0u64..16, h3_like(), 0u8..8), 0..20),
    ) {
        let (fresh_client, fresh_server) = match opened {
            true => open_pair(),
            false => (End::client(&["moqt-18"]), End::server()),
        };
        let mut end = if client { fresh_client } else { fresh_server };
        for (id, bytes, what) in inputs {
            match what {
                0 => end.wt.handle_reset(id),
                1 => end.wt.handle_stopped(id),
                2 => drop(end.wt.handle_datagram(Bytes::from(bytes))),
                _ => end.receive_all(id, &bytes, what == 3, 5),
            }
            end.settle();
            let bytes_max = (REQUESTS_MAX + 1) as u64 * HEADERS_BYTES_MAX + SETTINGS_BYTES_MAX;
            prop_assert!(end.wt.buffered_bytes() as u64 <= bytes_max);
        }
    }
}
