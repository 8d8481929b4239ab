//! One end against bytes made by hand: a browser's, and those of peers that break the rules.

use super::session_tests::{End, closed, control, frame_of, open_pair, put};
use super::*;
use proptest::prelude::*;

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

/// Its name, what arrives on which streams, and the code that it deserves.
type Breach = (&'static str, Vec<(u64, Vec<u8>)>, u64);

#[test]
fn breaches_of_http3_close_the_connection_with_the_right_code() {
    let after_settings = |frame: &[u8]| vec![(2, control(frame))];
    let cases: [Breach; 13] = [
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
