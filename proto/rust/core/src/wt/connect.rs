//! The CONNECT stream: the request's answer, the session's capsules, and its end.

use super::capsule::{Capsule, CapsuleReader};
use super::codes::{H3Error, h3};
use super::request::{self, MessageItem, MessageReader, Response};
use super::session::{Side, WebTransport};
use super::{Action, StreamFate, WtEvent};
use bytes::Bytes;

/// The stream that the session lives on.
#[derive(Debug)]
pub(super) struct Connect {
    pub(super) id: u64,
    pub(super) messages: MessageReader,
    pub(super) capsules: CapsuleReader,
    pub(super) phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
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
    pub(super) fn new(id: u64, messages: MessageReader, phase: Phase) -> Self {
        Connect {
            id,
            messages,
            capsules: CapsuleReader::new(),
            phase,
        }
    }
}

impl WebTransport {
    pub(super) fn connect_bytes(&mut self, data: Bytes, fin: bool) -> StreamFate {
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

    pub(super) fn on_connect_headers(&mut self, headers: &Bytes) -> Result<(), H3Error> {
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

    pub(super) fn on_connect_data(&mut self, piece: Bytes) {
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

    pub(super) fn on_connect_end(&mut self) {
        match self.connect.as_ref().map(|connect| &connect.phase) {
            Some(Phase::AwaitingResponse) => {
                self.session_aborted("the server ended the request without a response");
            }
            _ => self.session_ended(0, String::new()),
        }
    }

    /// The peer ended the session in order, or confirmed that we did.
    pub(super) fn session_ended(&mut self, code: u32, reason: String) {
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

    pub(super) fn session_aborted(&mut self, reason: &'static str) {
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
    pub(super) fn abandon(&mut self, code: u64) {
        if let Some(connect) = &mut self.connect {
            connect.phase = Phase::Over;
            let stream = connect.id;
            self.actions.push_back(Action::Stop { stream, code });
            self.actions.push_back(Action::Reset { stream, code });
        }
    }

    pub(super) fn drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) {
            self.events.push_back(WtEvent::Draining);
        }
    }
}
