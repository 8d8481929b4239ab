//! The state machine of one WebTransport connection.

use super::capsule::encode_close;
use super::codes::{H3Error, h3};
use super::connect::{Connect, Phase};
use super::control::ControlReader;
use super::frame;
use super::prefix::{Prefix, PrefixReader};
use super::request::{self, MessageReader};
use super::settings::{PeerSettings, control_stream_start, put};
use super::{Action, InvalidTarget, OwnStream, Role, StreamFate, WtEvent};
use crate::varint::VarIntKind;
use bytes::{Buf, Bytes};
use std::collections::{BTreeMap, VecDeque};

const UNI_WEBTRANSPORT: u64 = 0x54;
/// Largest quarter stream id (RFC 9297 §2.1).
const QUARTER_STREAM_ID_MAX: u64 = (1 << 60) - 1;

/// One end of one WebTransport connection.
#[derive(Debug)]
pub struct WebTransport {
    pub(super) side: Side,
    pub(super) own_control: Option<u64>,
    pub(super) peer_control: Option<(u64, ControlReader)>,
    /// The peer's QPACK streams, by type; what they carry is of no use without a dynamic table.
    pub(super) qpack: BTreeMap<u64, u64>,
    pub(super) settings: Option<PeerSettings>,
    pub(super) unknown_uni: BTreeMap<u64, PrefixReader>,
    pub(super) unknown_bidi: BTreeMap<u64, PrefixReader>,
    pub(super) requests: BTreeMap<u64, MessageReader>,
    pub(super) connect: Option<Connect>,
    /// Server: the session that streams may name before its CONNECT request has arrived.
    pub(super) early_session: Option<u64>,
    pub(super) draining: bool,
    pub(super) failed: bool,
    pub(super) actions: VecDeque<Action>,
    pub(super) events: VecDeque<WtEvent>,
}

#[derive(Debug)]
pub(super) enum Side {
    Server,
    Client {
        request: Bytes,
        offered: Vec<String>,
    },
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

/// What the parts share.
impl WebTransport {
    pub(super) fn requested(&mut self) -> Option<&mut Connect> {
        self.connect
            .as_mut()
            .filter(|connect| matches!(connect.phase, Phase::Requested))
    }

    pub(super) fn is_over(&self) -> bool {
        self.connect
            .as_ref()
            .is_none_or(|connect| matches!(connect.phase, Phase::Over))
    }

    pub(super) fn write(&mut self, stream: u64, data: Bytes, fin: bool) {
        self.actions.push_back(Action::Write { stream, data, fin });
    }

    pub(super) fn fail(&mut self, error: H3Error) -> StreamFate {
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
