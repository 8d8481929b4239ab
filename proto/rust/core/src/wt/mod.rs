//! Shim.
#![allow(missing_docs, dead_code, unused_variables)]
use bytes::Bytes;
pub enum Role {
    Server,
    Client {
        authority: String,
        path: String,
        protocols: Vec<String>,
        origin: Option<String>,
    },
}
pub enum StreamFate {
    NeedMore,
    Mine,
    Session { rest: Bytes },
    Refused { code: u64 },
}
pub enum Action {
    OpenUni { tag: u64 },
    OpenBidi { tag: u64 },
    Write { stream: u64, data: Bytes, fin: bool },
    Reset { stream: u64, code: u64 },
    Stop { stream: u64, code: u64 },
    CloseConnection { code: u64, reason: String },
}
pub enum WtEvent {
    Requested {
        authority: String,
        path: String,
        origin: Option<String>,
        protocols: Vec<String>,
    },
    Established {
        protocol: Option<String>,
    },
    Refused {
        status: u16,
    },
    Closed {
        code: u32,
        reason: String,
    },
    Draining,
}
pub struct WebTransport;
impl WebTransport {
    pub fn new(role: Role) -> Self {
        WebTransport
    }
    pub fn handle_uni(&mut self, id: u64, data: Bytes, fin: bool) -> StreamFate {
        StreamFate::Mine
    }
    pub fn handle_bidi(&mut self, id: u64, data: Bytes, fin: bool) -> StreamFate {
        StreamFate::Mine
    }
    pub fn handle_own(&mut self, id: u64, data: Bytes, fin: bool) -> StreamFate {
        StreamFate::Mine
    }
    pub fn handle_reset(&mut self, id: u64, code: u64) {}
    pub fn handle_opened(&mut self, tag: u64, id: u64) {}
    pub fn accept(&mut self, p: Option<&str>) {}
    pub fn reject(&mut self, s: u16) {}
    pub fn close(&mut self, c: u32, r: &str) {}
    pub fn poll_action(&mut self) -> Option<Action> {
        None
    }
    pub fn poll_event(&mut self) -> Option<WtEvent> {
        None
    }
    pub fn uni_prefix(&self) -> Bytes {
        Bytes::new()
    }
    pub fn bidi_prefix(&self) -> Bytes {
        Bytes::new()
    }
}
pub fn code_to_http3(c: u32) -> u64 {
    0
}
pub fn code_from_http3(c: u64) -> Option<u32> {
    None
}
