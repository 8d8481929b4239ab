//! The state machine of one WebTransport connection.

use super::capsule::{Capsule, CapsuleReader, encode_close};
use super::codes::{H3Error, h3};
use super::control::{self, ControlItem, ControlReader};
use super::frame;
use super::prefix::{Prefix, PrefixReader};
use super::request::{self, MessageItem, MessageReader, Refusal, Response};
use super::settings::{PeerSettings, control_stream_start, put};
use super::{Action, InvalidTarget, OwnStream, REQUESTS_MAX, Role, StreamFate, WtEvent};
use crate::varint::VarIntKind;
use bytes::{Buf, Bytes};
use std::collections::{BTreeMap, VecDeque};

const UNI_PUSH: u64 = 0x01;
const UNI_QPACK_ENCODER: u64 = 0x02;
const UNI_QPACK_DECODER: u64 = 0x03;
const UNI_WEBTRANSPORT: u64 = 0x54;
/// Largest quarter stream id (RFC 9297 §2.1).
const QUARTER_STREAM_ID_MAX: u64 = (1 << 60) - 1;

/// One end of one WebTransport connection.
#[derive(Debug)]
pub struct WebTransport {
    side: Side,
    own_control: Option<u64>,
    peer_control: Option<(u64, ControlReader)>,
    /// The peer's QPACK streams, by type; what they carry is of no use without a dynamic table.
    qpack: BTreeMap<u64, u64>,
    settings: Option<PeerSettings>,
    unknown_uni: BTreeMap<u64, PrefixReader>,
    unknown_bidi: BTreeMap<u64, PrefixReader>,
    requests: BTreeMap<u64, MessageReader>,
    connect: Option<Connect>,
    /// Server: the session that streams may name before its CONNECT request has arrived.
    early_session: Option<u64>,
    draining: bool,
    failed: bool,
    actions: VecDeque<Action>,
    events: VecDeque<WtEvent>,
}

#[derive(Debug)]
enum Side {
    Server,
    Client {
        request: Bytes,
        offered: Vec<String>,
    },
}

/// The stream that the session lives on.
#[derive(Debug)]
struct Connect {
    id: u64,
    messages: MessageReader,
    capsules: CapsuleReader,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Server: requests are not to be acted on before the peer's SETTINGS are known.
    AwaitingSettings(WtEvent),
    /// Server: the application has not answered.
    Requested,
    /// Client: the server has not answered.
    AwaitingResponse,
    Open,
    /// We ended the session, and the peer has not confirmed it.
    Closing,
    Over,
}

impl Connect {
    fn new(id: u64, messages: MessageReader, phase: Phase) -> Self {
        Connect {
            id,
            messages,
            capsules: CapsuleReader::new(),
            phase,
        }
    }
}

impl WebTransport {
    /// A connection whose QUIC handshake is done. The first action is there at once.
    pub fn new(role: Role) -> Result<Self, InvalidTarget> {
        let side = match role {
            Role::Server => Side::Server,
            Role::Client {
                authority,
                path,
                protocols,
                origin,
            } => Side::Client {
                request: request::encode_request(&authority, &path, &protocols, origin.as_deref())?,
                offered: protocols,
            },
        };
        Ok(WebTransport {
            early_session: matches!(side, Side::Server).then_some(0),
            side,
            own_control: None,
            peer_control: None,
            qpack: BTreeMap::new(),
            settings: None,
            unknown_uni: BTreeMap::new(),
            unknown_bidi: BTreeMap::new(),
            requests: BTreeMap::new(),
            connect: None,
            draining: false,
            failed: false,
            actions: VecDeque::from([Action::Open(OwnStream::Control)]),
            events: VecDeque::new(),
        })
    }

    // Getters.

    /// The id of the CONNECT stream, once there is one.
    pub fn session_id(&self) -> Option<u64> {
        self.connect.as_ref().map(|connect| connect.id)
    }

    /// Whether the session is open at both ends.
    pub fn is_established(&self) -> bool {
        self.connect
            .as_ref()
            .is_some_and(|connect| matches!(connect.phase, Phase::Open))
    }

    /// What a unidirectional stream of the session starts with.
    pub fn uni_prefix(&self) -> Option<Bytes> {
        self.session_id()
            .map(|id| integers(&[UNI_WEBTRANSPORT, id]))
    }

    /// What a bidirectional stream of the session that we open starts with.
    pub fn bidi_prefix(&self) -> Option<Bytes> {
        self.session_id()
            .map(|id| integers(&[frame::WEBTRANSPORT_STREAM, id]))
    }

    /// What a datagram of the session starts with.
    pub fn datagram_prefix(&self) -> Option<Bytes> {
        self.session_id().map(|id| integers(&[id / 4]))
    }

    // Input.

    /// The shell has opened a stream that an action asked for.
    pub fn handle_opened(&mut self, stream: OwnStream, id: u64) {
        match (stream, &self.side) {
            (OwnStream::Control, _) => {
                self.own_control = Some(id);
                self.write(id, control_stream_start(), false);
            }
            (OwnStream::Connect, Side::Client { request, .. }) => {
                let request = request.clone();
                let messages = MessageReader::new();
                self.connect = Some(Connect::new(id, messages, Phase::AwaitingResponse));
                self.write(id, request, false);
            }
            (OwnStream::Connect, Side::Server) => {}
        }
    }

    /// The next bytes of a unidirectional stream that the peer opened.
    pub fn handle_uni(&mut self, id: u64, data: Bytes, fin: bool) -> StreamFate {
        if self.failed {
            return StreamFate::Over;
        }
        if self
            .peer_control
            .as_ref()
            .is_some_and(|(control, _)| *control == id)
        {
            return self.control_bytes(data, fin);
        }
        if self.qpack.values().any(|stream| *stream == id) {
            return self.critical(fin);
        }
        let reader = self.unknown_uni.remove(&id);
        let mut reader = reader.unwrap_or_else(|| PrefixReader::new(UNI_WEBTRANSPORT));
        match reader.feed(data) {
            Some((Prefix::Session(session), rest)) => self.session_stream(session, rest),
            Some((Prefix::Other(kind), rest)) => self.uni_of_kind(id, kind, rest, fin),
            None if fin => StreamFate::Over,
            None => {
                self.unknown_uni.insert(id, reader);
                StreamFate::NeedMore
            }
        }
    }

    /// The next bytes of a bidirectional stream that the peer opened.
    pub fn handle_bidi(&mut self, id: u64, data: Bytes, fin: bool) -> StreamFate {
        if self.failed {
            return StreamFate::Over;
        }
        if self.session_id() == Some(id) {
            return self.connect_bytes(data, fin);
        }
        if let Some(mut messages) = self.requests.remove(&id) {
            messages.push(data);
            return self.request_bytes(id, messages, fin);
        }
        let reader = self.unknown_bidi.remove(&id);
        let mut reader = reader.unwrap_or_else(|| PrefixReader::new(frame::WEBTRANSPORT_STREAM));
        match reader.feed(data) {
            Some((Prefix::Session(session), rest)) => self.session_stream(session, rest),
            Some((Prefix::Other(kind), rest)) => self.new_request(id, kind, rest, fin),
            None if fin => StreamFate::Refused {
                code: h3::REQUEST_INCOMPLETE,
            },
            None => {
                self.unknown_bidi.insert(id, reader);
                StreamFate::NeedMore
            }
        }
    }

    /// The next bytes of the stream that was opened as [`OwnStream::Connect`].
    pub fn handle_own(&mut self, id: u64, data: Bytes, fin: bool) {
        if !self.failed && self.session_id() == Some(id) {
            self.connect_bytes(data, fin);
        }
    }

    /// The peer reset its side of a stream that is `NeedMore`, `Mine` or [`OwnStream::Connect`].
    pub fn handle_reset(&mut self, id: u64) {
        let is_control = self
            .peer_control
            .as_ref()
            .is_some_and(|(control, _)| *control == id);
        if is_control || self.qpack.values().any(|stream| *stream == id) {
            self.critical(true);
        } else if self.session_id() == Some(id) {
            self.session_aborted("the peer reset the session's stream");
        }
        self.unknown_uni.remove(&id);
        self.unknown_bidi.remove(&id);
        self.requests.remove(&id);
    }

    /// The peer does not read a stream any more that an action wrote to.
    pub fn handle_stopped(&mut self, id: u64) {
        if self.own_control == Some(id) {
            self.critical(true);
        } else if self.session_id() == Some(id) {
            self.session_aborted("the peer stopped the session's stream");
        }
    }

    /// The content of a datagram, if it belongs to the session.
    pub fn handle_datagram(&mut self, mut data: Bytes) -> Option<Bytes> {
        let Some((quarter, length)) = VarIntKind::Quic.decode(&data) else {
            self.fail(H3Error::new(
                h3::DATAGRAM_ERROR,
                "datagram without a stream id",
            ));
            return None;
        };
        if quarter > QUARTER_STREAM_ID_MAX {
            self.fail(H3Error::new(
                h3::DATAGRAM_ERROR,
                "datagram of an impossible stream",
            ));
            return None;
        }
        data.advance(length);
        (self.is_established() && self.session_id() == Some(quarter * 4)).then_some(data)
    }

    // Commands.

    /// Server: open the session that was requested, with one of the protocols that were offered.
    /// A protocol that cannot be put in a header (not ASCII) is answered like `reject(500)`.
    pub fn accept(&mut self, protocol: Option<&str>) {
        let Some(connect) = self.requested() else {
            return;
        };
        let Some(response) = request::encode_response(200, protocol) else {
            return self.reject(500);
        };
        connect.phase = Phase::Open;
        let id = connect.id;
        self.write(id, response, false);
        self.events.push_back(WtEvent::Established {
            protocol: protocol.map(str::to_owned),
        });
    }

    /// Server: refuse the session that was requested, with an HTTP status. The client may ask again.
    pub fn reject(&mut self, status: u16) {
        let Some(id) = self.requested().map(|connect| connect.id) else {
            return;
        };
        self.connect = None;
        self.early_session = None;
        self.answer(id, status);
    }

    /// End the open session. True: wait for `Closed`, but not for ever, before closing the connection,
    /// or the peer may miss the reason. False: there is no open session, so nothing to wait for.
    pub fn close(&mut self, code: u32, reason: &str) -> bool {
        let Some(connect) = self.connect.as_mut() else {
            return false;
        };
        if !matches!(connect.phase, Phase::Open) {
            return false;
        }
        connect.phase = Phase::Closing;
        let id = connect.id;
        self.write(id, encode_close(code, reason), true);
        true
    }

    // Output.

    /// What to do next on the QUIC connection.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<WtEvent> {
        self.events.pop_front()
    }

    /// Bytes of unfinished fields held.
    #[cfg(test)]
    pub(super) fn buffered_bytes(&self) -> usize {
        let connect = self.connect.iter();
        let requests = self.requests.values().map(MessageReader::buffered_bytes);
        connect
            .map(|c| c.messages.buffered_bytes() + c.capsules.buffered_bytes())
            .chain(requests)
            .chain(
                self.peer_control
                    .iter()
                    .map(|(_, reader)| reader.buffered_bytes()),
            )
            .sum()
    }
}

/// Streams that the peer opens.
impl WebTransport {
    fn session_stream(&mut self, session: u64, rest: Bytes) -> StreamFate {
        if !session.is_multiple_of(4) {
            self.fail(H3Error::new(
                h3::ID_ERROR,
                "session id is not that of a request",
            ));
            return StreamFate::Over;
        }
        let gone = match &self.connect {
            Some(connect) => matches!(connect.phase, Phase::Closing | Phase::Over),
            None => false,
        };
        if self.session_id().or(self.early_session) != Some(session) {
            StreamFate::Refused {
                code: h3::BUFFERED_STREAM_REJECTED,
            }
        } else if gone {
            StreamFate::Refused {
                code: h3::SESSION_GONE,
            }
        } else {
            StreamFate::Session { rest }
        }
    }

    fn uni_of_kind(&mut self, id: u64, kind: u64, rest: Bytes, fin: bool) -> StreamFate {
        match kind {
            control::STREAM_TYPE if self.peer_control.is_none() => {
                let from_client = matches!(self.side, Side::Server);
                self.peer_control = Some((id, ControlReader::new(from_client)));
                self.control_bytes(rest, fin)
            }
            UNI_QPACK_ENCODER | UNI_QPACK_DECODER if !self.qpack.contains_key(&kind) => {
                self.qpack.insert(kind, id);
                self.critical(fin)
            }
            control::STREAM_TYPE | UNI_QPACK_ENCODER | UNI_QPACK_DECODER => {
                self.fail(H3Error::new(
                    h3::STREAM_CREATION_ERROR,
                    "second stream of a single kind",
                ));
                StreamFate::Over
            }
            UNI_PUSH => {
                let code = match self.side {
                    Side::Server => h3::STREAM_CREATION_ERROR,
                    Side::Client { .. } => h3::ID_ERROR,
                };
                self.fail(H3Error::new(code, "push stream that nobody allowed"));
                StreamFate::Over
            }
            _ => StreamFate::Refused {
                code: h3::STREAM_CREATION_ERROR,
            },
        }
    }

    /// A stream that must stay open as long as the connection; its content, if any, is dealt with.
    fn critical(&mut self, ended: bool) -> StreamFate {
        if ended {
            self.fail(H3Error::new(
                h3::CLOSED_CRITICAL_STREAM,
                "critical stream ended",
            ));
            return StreamFate::Over;
        }
        StreamFate::Mine
    }

    fn control_bytes(&mut self, data: Bytes, fin: bool) -> StreamFate {
        if let Some((_, reader)) = &mut self.peer_control {
            reader.push(data);
        }
        while let Some((_, reader)) = &mut self.peer_control {
            match reader.poll() {
                Ok(Some(ControlItem::Settings(settings))) => self.on_settings(settings),
                Ok(Some(ControlItem::GoAway)) => self.on_goaway(),
                Ok(None) => break,
                Err(error) => {
                    self.fail(error);
                    return StreamFate::Over;
                }
            }
        }
        self.critical(fin)
    }

    fn on_settings(&mut self, settings: PeerSettings) {
        match (&self.side, &mut self.connect) {
            (Side::Server, Some(connect)) => {
                if let Phase::AwaitingSettings(_) = connect.phase
                    && let Phase::AwaitingSettings(request) =
                        std::mem::replace(&mut connect.phase, Phase::Requested)
                {
                    self.events.push_back(request);
                }
            }
            (Side::Client { .. }, None) if settings.supports_webtransport() => {
                self.actions.push_back(Action::Open(OwnStream::Connect));
            }
            (Side::Client { .. }, None) => self.events.push_back(WtEvent::Refused {
                status: None,
                reason: "the server does not offer WebTransport",
            }),
            _ => {}
        }
        self.settings = Some(settings);
    }

    /// From a client it only says that pushes are over, which never were.
    fn on_goaway(&mut self) {
        if matches!(self.side, Side::Client { .. }) {
            self.drain();
        }
    }

    fn new_request(&mut self, id: u64, kind: u64, rest: Bytes, fin: bool) -> StreamFate {
        if matches!(self.side, Side::Client { .. }) {
            self.fail(H3Error::new(
                h3::STREAM_CREATION_ERROR,
                "request from a server",
            ));
            return StreamFate::Over;
        }
        if self.requests.len() >= REQUESTS_MAX {
            return StreamFate::Refused {
                code: h3::REQUEST_REJECTED,
            };
        }
        let mut messages = MessageReader::after_kind(kind);
        messages.push(rest);
        self.request_bytes(id, messages, fin)
    }

    fn request_bytes(&mut self, id: u64, mut messages: MessageReader, fin: bool) -> StreamFate {
        match messages.poll() {
            Ok(Some(MessageItem::Headers(headers))) => self.on_request(id, &headers, messages, fin),
            Ok(Some(MessageItem::HeadersTooLong | MessageItem::Data(_))) => self.answer(id, 431),
            Ok(None) if fin => match messages.finish() {
                Ok(()) => StreamFate::Refused {
                    code: h3::REQUEST_INCOMPLETE,
                },
                Err(error) => self.fail(error),
            },
            Ok(None) => {
                self.requests.insert(id, messages);
                StreamFate::NeedMore
            }
            Err(error) => self.fail(error),
        }
    }

    fn on_request(
        &mut self,
        id: u64,
        headers: &Bytes,
        messages: MessageReader,
        fin: bool,
    ) -> StreamFate {
        if self.connect.is_some() {
            return StreamFate::Refused {
                code: h3::REQUEST_REJECTED,
            };
        }
        let request = match request::decode_request(headers) {
            Ok(request) => request,
            Err(Refusal::Status(status)) => return self.answer(id, status),
            Err(Refusal::Connection(error)) => return self.fail(error),
        };
        let phase = if self.settings.is_some() {
            self.events.push_back(request);
            Phase::Requested
        } else {
            Phase::AwaitingSettings(request)
        };
        self.connect = Some(Connect::new(id, messages, phase));
        self.connect_bytes(Bytes::new(), fin)
    }

    /// Answer a request with nothing but a status.
    fn answer(&mut self, id: u64, status: u16) -> StreamFate {
        match request::encode_response(status, None) {
            Some(response) => self.write(id, response, true),
            None => self.actions.push_back(Action::Reset {
                stream: id,
                code: h3::REQUEST_REJECTED,
            }),
        }
        self.actions.push_back(Action::Stop {
            stream: id,
            code: h3::NO_ERROR,
        });
        StreamFate::Over
    }
}

/// The CONNECT stream.
impl WebTransport {
    fn connect_bytes(&mut self, data: Bytes, fin: bool) -> StreamFate {
        if let Some(connect) = &mut self.connect {
            connect.messages.push(data);
        }
        while let Some(connect) = &mut self.connect {
            let result = match connect.messages.poll() {
                Ok(Some(MessageItem::Headers(headers))) => self.on_connect_headers(&headers),
                Ok(Some(MessageItem::HeadersTooLong)) => {
                    Err(H3Error::new(h3::EXCESSIVE_LOAD, "header fields too long"))
                }
                Ok(Some(MessageItem::Data(piece))) => {
                    self.on_connect_data(piece);
                    Ok(())
                }
                Ok(None) if fin => connect.messages.finish().map(|()| self.on_connect_end()),
                Ok(None) => return StreamFate::Mine,
                Err(error) => Err(error),
            };
            match result {
                Err(error) => return self.fail(error),
                Ok(()) if fin && self.is_over() => return StreamFate::Over,
                Ok(()) => {}
            }
        }
        StreamFate::Over
    }

    fn on_connect_headers(&mut self, headers: &Bytes) -> Result<(), H3Error> {
        let Some(connect) = &mut self.connect else {
            return Ok(());
        };
        let (Phase::AwaitingResponse, Side::Client { offered, .. }) = (&connect.phase, &self.side)
        else {
            return Err(H3Error::new(h3::FRAME_UNEXPECTED, "HEADERS twice"));
        };
        match request::decode_response(headers)? {
            Response::Informational => {}
            Response::Accepted { protocol } => {
                if protocol
                    .as_ref()
                    .is_some_and(|chosen| !offered.contains(chosen))
                {
                    self.abandon(h3::ALPN_ERROR);
                    self.events.push_back(WtEvent::Refused {
                        status: Some(200),
                        reason: "the server chose a protocol that was not offered",
                    });
                    return Ok(());
                }
                connect.phase = Phase::Open;
                self.events.push_back(WtEvent::Established { protocol });
            }
            Response::Refused { status, reason } => {
                connect.phase = Phase::Over;
                self.events.push_back(WtEvent::Refused { status, reason });
            }
        }
        Ok(())
    }

    fn on_connect_data(&mut self, piece: Bytes) {
        if let Some(connect) = &mut self.connect {
            connect.capsules.push(piece);
        }
        while let Some(connect) = &mut self.connect {
            match connect.capsules.poll() {
                Ok(Some(Capsule::Close { code, reason })) => self.session_ended(code, reason),
                Ok(Some(Capsule::Drain)) => self.drain(),
                Ok(None) => return,
                Err(_) => {
                    if !self.is_over() {
                        self.abandon(h3::MESSAGE_ERROR);
                        self.events.push_back(WtEvent::Closed {
                            code: 0,
                            reason: "malformed capsule".to_owned(),
                        });
                    }
                    return;
                }
            }
        }
    }

    fn on_connect_end(&mut self) {
        match self.connect.as_ref().map(|connect| &connect.phase) {
            Some(Phase::AwaitingResponse) => {
                self.session_aborted("the server ended the request without a response");
            }
            _ => self.session_ended(0, String::new()),
        }
    }

    /// The peer ended the session in order, or confirmed that we did.
    fn session_ended(&mut self, code: u32, reason: String) {
        let Some(connect) = &mut self.connect else {
            return;
        };
        let id = connect.id;
        match std::mem::replace(&mut connect.phase, Phase::Over) {
            Phase::Over => return,
            Phase::Closing => {}
            Phase::Open | Phase::AwaitingResponse => self.write(id, Bytes::new(), true),
            Phase::Requested | Phase::AwaitingSettings(_) => {
                self.actions.push_back(Action::Reset {
                    stream: id,
                    code: h3::REQUEST_REJECTED,
                });
            }
        }
        self.events.push_back(WtEvent::Closed { code, reason });
    }

    fn session_aborted(&mut self, reason: &'static str) {
        let Some(connect) = &self.connect else {
            return;
        };
        let event = match connect.phase {
            Phase::Over => return,
            Phase::AwaitingResponse => WtEvent::Refused {
                status: None,
                reason,
            },
            _ => WtEvent::Closed {
                code: 0,
                reason: reason.to_owned(),
            },
        };
        self.abandon(h3::NO_ERROR);
        self.events.push_back(event);
    }

    /// Give up both directions of the CONNECT stream.
    fn abandon(&mut self, code: u64) {
        if let Some(connect) = &mut self.connect {
            connect.phase = Phase::Over;
            let stream = connect.id;
            self.actions.push_back(Action::Stop { stream, code });
            self.actions.push_back(Action::Reset { stream, code });
        }
    }

    fn drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) {
            self.events.push_back(WtEvent::Draining);
        }
    }

    fn requested(&mut self) -> Option<&mut Connect> {
        self.connect
            .as_mut()
            .filter(|connect| matches!(connect.phase, Phase::Requested))
    }

    fn is_over(&self) -> bool {
        self.connect
            .as_ref()
            .is_none_or(|connect| matches!(connect.phase, Phase::Over))
    }

    fn write(&mut self, stream: u64, data: Bytes, fin: bool) {
        self.actions.push_back(Action::Write { stream, data, fin });
    }

    fn fail(&mut self, error: H3Error) -> StreamFate {
        if !std::mem::replace(&mut self.failed, true) {
            self.actions.push_back(Action::CloseConnection(error));
        }
        StreamFate::Over
    }
}

fn integers(values: &[u64]) -> Bytes {
    let mut out = Vec::new();
    for value in values {
        put(*value, &mut out);
    }
    out.into()
}
