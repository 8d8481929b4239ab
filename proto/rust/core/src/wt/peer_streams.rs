//! Streams that the peer opens: control, QPACK, requests, and those of the session.

use super::codes::{H3Error, h3};
use super::connect::{Connect, Phase};
use super::control::{self, ControlItem, ControlReader};
use super::request::{self, MessageItem, MessageReader, Refusal};
use super::session::{Side, WebTransport};
use super::settings::PeerSettings;
use super::{Action, OwnStream, REQUESTS_MAX, StreamFate, WtEvent};
use bytes::Bytes;

const UNI_PUSH: u64 = 0x01;
const UNI_QPACK_ENCODER: u64 = 0x02;
const UNI_QPACK_DECODER: u64 = 0x03;

impl WebTransport {
    pub(super) fn session_stream(&mut self, session: u64, rest: Bytes) -> StreamFate {
        if !session.is_multiple_of(4) {
            return self.fail(H3Error::new(
                h3::ID_ERROR,
                "session id is not that of a request",
            ));
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

    pub(super) fn uni_of_kind(&mut self, id: u64, kind: u64, rest: Bytes, fin: bool) -> StreamFate {
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
            control::STREAM_TYPE | UNI_QPACK_ENCODER | UNI_QPACK_DECODER => self.fail(
                H3Error::new(h3::STREAM_CREATION_ERROR, "second stream of a single kind"),
            ),
            UNI_PUSH => {
                let code = match self.side {
                    Side::Server => h3::STREAM_CREATION_ERROR,
                    Side::Client { .. } => h3::ID_ERROR,
                };
                self.fail(H3Error::new(code, "push stream that nobody allowed"))
            }
            _ => StreamFate::Refused {
                code: h3::STREAM_CREATION_ERROR,
            },
        }
    }

    /// A stream that must stay open as long as the connection; its content, if any, is dealt with.
    pub(super) fn critical(&mut self, ended: bool) -> StreamFate {
        if ended {
            self.fail(H3Error::new(
                h3::CLOSED_CRITICAL_STREAM,
                "critical stream ended",
            ));
        }
        StreamFate::Mine
    }

    pub(super) fn control_bytes(&mut self, data: Bytes, fin: bool) -> StreamFate {
        if let Some((_, reader)) = &mut self.peer_control {
            reader.push(data);
        }
        while let Some((_, reader)) = &mut self.peer_control {
            match reader.poll() {
                Ok(Some(ControlItem::Settings(settings))) => self.on_settings(settings),
                Ok(Some(ControlItem::GoAway)) => self.on_goaway(),
                Ok(None) => break,
                Err(error) => {
                    return self.fail(error);
                }
            }
        }
        self.critical(fin)
    }

    pub(super) fn on_settings(&mut self, settings: PeerSettings) {
        match (&self.side, &mut self.connect) {
            (Side::Server, Some(connect)) => {
                match std::mem::replace(&mut connect.phase, Phase::Requested) {
                    Phase::AwaitingSettings(request) => self.events.push_back(request),
                    other => connect.phase = other,
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
    pub(super) fn on_goaway(&mut self) {
        if matches!(self.side, Side::Client { .. }) {
            self.drain();
        }
    }

    pub(super) fn new_request(&mut self, id: u64, kind: u64, rest: Bytes, fin: bool) -> StreamFate {
        if matches!(self.side, Side::Client { .. }) {
            return self.fail(H3Error::new(
                h3::STREAM_CREATION_ERROR,
                "request from a server",
            ));
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

    pub(super) fn request_bytes(
        &mut self,
        id: u64,
        mut messages: MessageReader,
        fin: bool,
    ) -> StreamFate {
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

    pub(super) fn on_request(
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
    pub(super) fn answer(&mut self, id: u64, status: u16) -> StreamFate {
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
