//! Both ends against each other over streams in memory.

use super::*;
use crate::varint::VarIntKind;
use std::collections::BTreeMap;

/// One end and what a shell around it remembers.
pub(super) struct End {
    pub(super) wt: WebTransport,
    pub(super) next_uni: u64,
    pub(super) next_bidi: u64,
    pub(super) outbox: Vec<(u64, Bytes, bool)>,
    pub(super) events: Vec<WtEvent>,
    pub(super) fates: BTreeMap<u64, StreamFate>,
    pub(super) stopped: Vec<(u64, u64)>,
    pub(super) reset: Vec<(u64, u64)>,
    pub(super) closed: Option<H3Error>,
}

impl End {
    pub(super) fn new(role: Role) -> End {
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

    pub(super) fn server() -> End {
        End::new(Role::Server)
    }

    pub(super) fn client(protocols: &[&str]) -> End {
        End::new(Role::Client {
            authority: "edge.example:4433".to_owned(),
            path: "/live?token=x".to_owned(),
            protocols: protocols.iter().map(|p| (*p).to_owned()).collect(),
            origin: None,
        })
    }

    /// Carry out actions and collect events.
    pub(super) fn settle(&mut self) {
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

    pub(super) fn open(&mut self, bidi: bool) -> u64 {
        let next = if bidi {
            &mut self.next_bidi
        } else {
            &mut self.next_uni
        };
        std::mem::replace(next, *next + 4)
    }

    /// Bytes of a stream arrive, as a shell passes them on.
    pub(super) fn receive(&mut self, id: u64, data: Bytes, fin: bool) {
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

    pub(super) fn receive_all(&mut self, id: u64, data: &[u8], fin: bool, split: usize) {
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
    pub(super) fn sent(&self, id: u64) -> Vec<u8> {
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

pub(super) fn closed(code: u32, reason: &str) -> WtEvent {
    WtEvent::Closed {
        code,
        reason: reason.to_owned(),
    }
}

/// Two ends with an open session, and no events left.
pub(super) fn open_pair() -> (End, End) {
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

pub(super) fn put(values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        VarIntKind::Quic.encode(*value, &mut out).unwrap();
    }
    out
}

pub(super) fn frame_of(kind: u64, payload: &[u8]) -> Vec<u8> {
    [&put(&[kind, payload.len() as u64]), payload].concat()
}

/// A control stream with WebTransport's settings, and more frames after them.
pub(super) fn control(more: &[u8]) -> Vec<u8> {
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
    let orphan = server.wt.handle_uni(6, Bytes::from(put(&[0x54, 0])), false);
    assert!(matches!(orphan, StreamFate::Refused { .. }));
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
            assert!(a.outbox.iter().all(|(id, _, fin)| *id == 0 && *fin));
            for (id, data, fin) in std::mem::take(&mut a.outbox) {
                b.receive_all(id, &data, fin, split);
            }
            assert_eq!(b.outbox, [(0, Bytes::new(), true)]);
            b.outbox.clear();
            a.receive(0, Bytes::new(), true);
            assert_eq!(a.outbox, []);
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
