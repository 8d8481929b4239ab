//! HTTP messages: reading HEADERS and DATA in pieces, and the CONNECT request and response in them.

use super::codes::{H3Error, h3};
use super::frame::{self, FrameReader, FrameStart};
use super::settings::put;
use super::{HEADERS_BYTES_MAX, InvalidTarget, WtEvent};
use bytes::Bytes;
use url::Url;
use web_transport_proto::http::{HeaderName, HeaderValue, StatusCode};
use web_transport_proto::{ConnectError, ConnectRequest, ConnectResponse};

/// The next thing in a request or response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MessageItem {
    /// A whole HEADERS frame, type and length included.
    Headers(Bytes),
    /// A HEADERS frame beyond [`HEADERS_BYTES_MAX`]; its payload is being skipped.
    HeadersTooLong,
    /// A piece of content.
    Data(Bytes),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Between,
    Headers { length: u64 },
    Data { missing: u64 },
    Skip { missing: u64 },
}

/// Reads one direction of a request stream.
#[derive(Debug)]
pub(super) struct MessageReader {
    frames: FrameReader,
    state: State,
    headers_seen: bool,
}

impl MessageReader {
    pub(super) fn new() -> Self {
        Self::with(FrameReader::default())
    }

    /// A stream of which the first frame's type has been read already.
    pub(super) fn after_kind(kind: u64) -> Self {
        Self::with(FrameReader::after_kind(kind))
    }

    fn with(frames: FrameReader) -> Self {
        MessageReader {
            frames,
            state: State::Between,
            headers_seen: false,
        }
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.frames.push(chunk);
    }

    #[cfg(test)]
    pub(super) fn buffered_bytes(&self) -> usize {
        self.frames.buffered_bytes()
    }

    pub(super) fn poll(&mut self) -> Result<Option<MessageItem>, H3Error> {
        loop {
            match self.state {
                State::Between => match self.frames.start()? {
                    Some(start) => {
                        if let Some(item) = self.on_start(start)? {
                            return Ok(Some(item));
                        }
                    }
                    None => return Ok(None),
                },
                State::Headers { length } => {
                    let Some(payload) = self.frames.take_whole(length) else {
                        return Ok(None);
                    };
                    self.state = State::Between;
                    return Ok(Some(MessageItem::Headers(headers_frame(&payload))));
                }
                State::Data { missing: 0 } => self.state = State::Between,
                State::Data { missing } => {
                    let Some(piece) = self.frames.take_some(missing) else {
                        return Ok(None);
                    };
                    self.state = State::Data {
                        missing: missing - piece.len() as u64,
                    };
                    return Ok(Some(MessageItem::Data(piece)));
                }
                State::Skip { missing } => match self.frames.skip(missing) {
                    0 => self.state = State::Between,
                    missing => {
                        self.state = State::Skip { missing };
                        return Ok(None);
                    }
                },
            }
        }
    }

    /// The stream ended and `poll` has answered `None`.
    pub(super) fn finish(&self) -> Result<(), H3Error> {
        match self.state {
            State::Between if self.frames.is_between_frames() => Ok(()),
            State::Data { missing: 0 } => Ok(()),
            _ => Err(H3Error::new(h3::FRAME_ERROR, "stream ended inside a frame")),
        }
    }

    fn on_start(&mut self, start: FrameStart) -> Result<Option<MessageItem>, H3Error> {
        let length = start.length;
        match start.kind {
            frame::HEADERS => {
                self.headers_seen = true;
                if length > HEADERS_BYTES_MAX {
                    self.state = State::Skip { missing: length };
                    return Ok(Some(MessageItem::HeadersTooLong));
                }
                self.state = State::Headers { length };
            }
            frame::DATA if self.headers_seen => self.state = State::Data { missing: length },
            frame::WEBTRANSPORT_STREAM => {
                let reason = "WebTransport signal inside a message";
                return Err(H3Error::new(h3::FRAME_ERROR, reason));
            }
            frame::DATA
            | frame::CANCEL_PUSH
            | frame::SETTINGS
            | frame::PUSH_PROMISE
            | frame::GOAWAY
            | frame::MAX_PUSH_ID => {
                let reason = "frame does not belong there in a message";
                return Err(H3Error::new(h3::FRAME_UNEXPECTED, reason));
            }
            _ => self.state = State::Skip { missing: length },
        }
        Ok(None)
    }
}

fn headers_frame(payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 8);
    put(frame::HEADERS, &mut out);
    put(payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out.into()
}

/// What to answer to a request that is no request for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// An HTTP status.
    Status(u16),
    /// The end of the connection.
    Connection(H3Error),
}

/// A client's HEADERS frame as the event that asks for a session.
pub(super) fn decode_request(headers: &Bytes) -> Result<WtEvent, Refusal> {
    let request = ConnectRequest::decode(&mut headers.as_ref()).map_err(|e| refusal_for(&e))?;
    let origin = request
        .headers
        .get("origin")
        .and_then(|value| value.to_str().ok());
    let path = match request.url.query() {
        Some(query) => format!("{}?{query}", request.url.path()),
        None => request.url.path().to_owned(),
    };
    Ok(WtEvent::Requested {
        authority: request.url.authority().to_owned(),
        path,
        origin: origin.map(str::to_owned),
        protocols: request.protocols,
    })
}

fn refusal_for(error: &ConnectError) -> Refusal {
    match error {
        ConnectError::QpackError(_) => Refusal::Connection(QPACK_FAILED),
        ConnectError::WrongMethod(Some(_)) => Refusal::Status(405),
        ConnectError::WrongProtocol(_) => Refusal::Status(501),
        ConnectError::FieldSectionTooLarge | ConnectError::FrameTooLarge => Refusal::Status(431),
        _ => Refusal::Status(400),
    }
}

const QPACK_FAILED: H3Error = H3Error::new(
    h3::QPACK_DECOMPRESSION_FAILED,
    "header fields cannot be decompressed",
);

/// The CONNECT request of a client as a HEADERS frame.
pub(super) fn encode_request(
    authority: &str,
    path: &str,
    protocols: &[String],
    origin: Option<&str>,
) -> Result<Bytes, InvalidTarget> {
    if !path.starts_with('/') {
        return Err(InvalidTarget(format!(
            "path {path:?} does not start with a slash"
        )));
    }
    if authority.is_empty() || authority.contains(['/', '?', '#', '@', '\\']) {
        return Err(InvalidTarget(format!("{authority:?} is no host and port")));
    }
    let url = Url::parse(&format!("https://{authority}{path}"))
        .map_err(|error| InvalidTarget(format!("{authority}{path}: {error}")))?;
    let mut request = ConnectRequest::new(url).with_protocols(protocols.iter().cloned());
    if let Some(origin) = origin {
        let value = HeaderValue::from_str(origin)
            .map_err(|error| InvalidTarget(format!("origin {origin:?}: {error}")))?;
        request = request.with_header(HeaderName::from_static("origin"), value);
    }
    let mut out = Vec::new();
    request
        .encode(&mut out)
        .map_err(|error| InvalidTarget(error.to_string()))?;
    Ok(out.into())
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// 1xx: the answer is still to come.
    Informational,
    /// 2xx.
    Accepted { protocol: Option<String> },
    /// Any other status, or none that can be read.
    Refused {
        status: Option<u16>,
        reason: &'static str,
    },
}

/// A server's HEADERS frame. Error: the end of the connection.
pub(super) fn decode_response(headers: &Bytes) -> Result<Response, H3Error> {
    let refused = |status: Option<u16>, reason| Ok(Response::Refused { status, reason });
    match ConnectResponse::decode(&mut headers.as_ref()) {
        Ok(response) => Ok(Response::Accepted {
            protocol: response.protocol,
        }),
        Err(ConnectError::WrongStatus(Some(status))) if status.is_informational() => {
            Ok(Response::Informational)
        }
        Err(ConnectError::WrongStatus(Some(status))) => {
            refused(Some(status.as_u16()), "the server refused the session")
        }
        Err(ConnectError::QpackError(_)) => Err(QPACK_FAILED),
        Err(_) => refused(None, "the server's response is malformed"),
    }
}

/// A response as a HEADERS frame; `None` if status or protocol cannot be written.
pub(super) fn encode_response(status: u16, protocol: Option<&str>) -> Option<Bytes> {
    let mut response = ConnectResponse::new(StatusCode::from_u16(status).ok()?);
    if let Some(protocol) = protocol {
        response = response.with_protocol(protocol);
    }
    let mut out = Vec::new();
    response.encode(&mut out).ok()?;
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Field<'a> = (&'a str, &'a str);

    /// A HEADERS frame of literal field lines (RFC 9204 §4.5.6), for short names.
    fn headers_of(fields: &[Field<'_>]) -> Bytes {
        let mut block = vec![0, 0];
        for (name, value) in fields {
            if name.len() < 7 {
                block.push(0x20 | name.len() as u8);
            } else {
                block.extend([0x27, name.len() as u8 - 7]);
            }
            block.extend_from_slice(name.as_bytes());
            assert!(value.len() < 127);
            block.push(value.len() as u8);
            block.extend_from_slice(value.as_bytes());
        }
        headers_frame(&block)
    }

    const CONNECT: [Field<'static>; 5] = [
        (":method", "CONNECT"),
        (":protocol", "webtransport"),
        (":scheme", "https"),
        (":authority", "edge.example:4433"),
        (":path", "/live?token=x"),
    ];

    fn with(changed: Field<'static>) -> Vec<Field<'static>> {
        let others = CONNECT.into_iter().filter(|field| field.0 != changed.0);
        others.chain([changed]).collect()
    }

    #[test]
    fn a_connect_request_is_read_with_origin_and_protocols() {
        let more = [
            ("origin", "http://127.0.0.1:8080"),
            ("wt-available-protocols", r#""moqt-16", "moqt-18";q=1"#),
        ];
        let fields: Vec<Field<'_>> = CONNECT.into_iter().chain(more).collect();
        let expected = WtEvent::Requested {
            authority: "edge.example:4433".to_owned(),
            path: "/live?token=x".to_owned(),
            origin: Some("http://127.0.0.1:8080".to_owned()),
            protocols: vec!["moqt-16".to_owned(), "moqt-18".to_owned()],
        };
        assert_eq!(decode_request(&headers_of(&fields)), Ok(expected));
    }

    #[test]
    fn other_requests_get_the_status_that_says_why() {
        let status = |fields: &[Field<'_>]| match decode_request(&headers_of(fields)) {
            Err(Refusal::Status(status)) => status,
            other => panic!("{other:?}"),
        };
        assert_eq!(status(&with((":method", "GET"))), 405);
        assert_eq!(status(&with((":protocol", "websocket"))), 501);
        assert_eq!(status(&with((":scheme", "http"))), 400);
        assert_eq!(status(&with(("wt-available-protocols", "moqt-16,"))), 400);
        assert_eq!(status(&CONNECT[..4]), 400);
        let many = vec![(":path", "/"); 500];
        assert_eq!(status(&many), 431);
    }

    #[test]
    fn a_reference_to_the_dynamic_table_ends_the_connection() {
        let result = decode_request(&headers_frame(&[0, 0, 0x80]));
        assert_eq!(result, Err(Refusal::Connection(QPACK_FAILED)));
    }

    #[test]
    fn our_request_and_response_read_back() {
        let protocols = vec!["moqt-18".to_owned(), "moqt-16".to_owned()];
        let wire = encode_request("[::1]:4433", "/a?b=c", &protocols, Some("https://x")).unwrap();
        let expected = WtEvent::Requested {
            authority: "[::1]:4433".to_owned(),
            path: "/a?b=c".to_owned(),
            origin: Some("https://x".to_owned()),
            protocols,
        };
        assert_eq!(decode_request(&wire), Ok(expected));
        let accepted = decode_response(&encode_response(200, Some("moqt-16")).unwrap());
        let protocol = Some("moqt-16".to_owned());
        assert_eq!(accepted, Ok(Response::Accepted { protocol }));
        let refused = decode_response(&encode_response(404, None).unwrap());
        assert!(matches!(
            refused,
            Ok(Response::Refused {
                status: Some(404),
                ..
            })
        ));
        let early = decode_response(&headers_of(&[(":status", "103")]));
        assert_eq!(early, Ok(Response::Informational));
    }

    #[test]
    fn the_order_of_header_fields_is_left_to_chance_but_not_their_size() {
        let protocols = vec!["moqt-18".to_owned()];
        let size = || {
            encode_request("e:1", "/", &protocols, Some("https://x"))
                .unwrap()
                .len()
        };
        assert!((0..16).all(|_| size() == size()));
    }

    #[test]
    fn targets_that_are_no_urls_are_refused() {
        let targets = [
            ("", "/a"),
            ("host:99999", "/"),
            ("host", "x"),
            ("a b", "/"),
            ("a/b", "/"),
        ];
        for (authority, path) in targets {
            assert!(
                encode_request(authority, path, &[], None).is_err(),
                "{authority}{path}"
            );
        }
        let newline = vec!["moqt\n".to_owned()];
        assert!(encode_request("host", "/", &newline, None).is_err());
        assert!(encode_request("host", "/", &[], Some("a\nb")).is_err());
    }

    fn items(chunks: impl IntoIterator<Item = Bytes>) -> (Vec<u8>, Result<(), H3Error>) {
        let mut reader = MessageReader::new();
        let mut log = Vec::new();
        for chunk in chunks {
            reader.push(chunk);
            loop {
                match reader.poll() {
                    Ok(Some(MessageItem::Headers(frame))) => log.extend_from_slice(&frame),
                    Ok(Some(MessageItem::HeadersTooLong)) => log.extend_from_slice(b"<long>"),
                    Ok(Some(MessageItem::Data(piece))) => log.extend_from_slice(&piece),
                    Ok(None) => break,
                    Err(error) => return (log, Err(error)),
                }
            }
            assert!(reader.buffered_bytes() as u64 <= HEADERS_BYTES_MAX);
        }
        (log, reader.finish())
    }

    #[test]
    fn unknown_frames_are_skipped_and_misplaced_ones_are_errors() {
        let good = Bytes::from_static(b"\x21\x02xx\x01\x03abc\x21\x00\x00\x02hi\x00\x00");
        assert_eq!(items([good]), (b"\x01\x03abchi".to_vec(), Ok(())));
        let code = |wire: &'static [u8]| items([Bytes::from_static(wire)]).1.unwrap_err().code;
        assert_eq!(code(b"\x00\x01a"), h3::FRAME_UNEXPECTED);
        assert_eq!(code(b"\x04\x00"), h3::FRAME_UNEXPECTED);
        assert_eq!(code(b"\x08\x00"), h3::FRAME_UNEXPECTED);
        assert_eq!(code(b"\x01\x00\x40\x41\x00"), h3::FRAME_ERROR);
        assert_eq!(code(b"\x01\x03ab"), h3::FRAME_ERROR);
        assert_eq!(code(b"\x01"), h3::FRAME_ERROR);
    }

    #[test]
    fn over_long_headers_are_skipped_without_being_held() {
        let start = Bytes::from_static(b"\x01\x80\x00\x40\x01");
        let payload = Bytes::from(vec![7; 0x4001]);
        let end = Bytes::from_static(b"\x00\x01z");
        assert_eq!(items([start, payload, end]), (b"<long>z".to_vec(), Ok(())));
    }

    proptest! {
        #[test]
        fn garbage_gives_the_same_at_any_split(
            wire in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..80),
            size in 1usize..9,
        ) {
            let whole = items([Bytes::from(wire.clone())]);
            prop_assert_eq!(whole, items(wire.chunks(size).map(Bytes::copy_from_slice)));
        }

        #[test]
        fn garbage_headers_never_panic(block in proptest::collection::vec(any::<u8>(), 0..120)) {
            let frame = headers_frame(&block);
            let _ = (decode_request(&frame), decode_response(&frame));
        }
    }
}
