//! WebTransport over HTTP/3, one session per QUIC connection, either end, without I/O.
//!
//! A WebTransport connection is an HTTP/3 connection on which hardly any HTTP happens:
//!
//! ```text
//! both ends   uni   0x00, SETTINGS frame, …                       control stream, never ends
//! client      bidi  HEADERS(CONNECT, :protocol = webtransport)    ─┐ the CONNECT stream; its id is
//! server            HEADERS(:status = 200)                        ─┘ the session id
//! both ends         DATA(capsule) …                               CLOSE, DRAIN, on the same stream
//! both ends   uni   0x54, session id, application bytes           ┐ streams of the session
//! both ends   bidi  0x41, session id, application bytes           ┘
//! both ends   datagram  session id / 4, application bytes
//! ```
//!
//! [`WebTransport`] owns the HTTP part. Its shell owns the QUIC connection: it shows every stream that
//! the peer opens to `handle_uni` or `handle_bidi` until the answer is a [`StreamFate`] that settles it,
//! carries out what `poll_action` gives, and prefixes the streams that it opens itself.
//!
//! `web-transport-proto` encodes and decodes the CONNECT request and response (QPACK, structured
//! fields). Reading in pieces, demultiplexing, SETTINGS and capsules are here, bounded by the constants
//! below (and the few bytes of a stream's prefix by the number of streams that QUIC lets the peer open). The bytes that we send are the same on every run, except the order of header fields inside
//! CONNECT, which that crate leaves to chance; their number is the same.
//!
//! Sources: RFC 9114 (HTTP/3), RFC 9204 (QPACK), RFC 9220 (extended CONNECT), RFC 9297 (datagrams and
//! capsules), draft-ietf-webtrans-http3: code points of drafts 02 to 07, which today's browsers and
//! MoQT libraries accept from each other, and the protocol negotiation of draft 14, which they use.

mod capsule;
mod codes;
mod connect;
mod control;
mod frame;
mod peer_streams;
#[cfg(test)]
mod peer_tests;
mod prefix;
mod request;
mod session;
#[cfg(test)]
mod session_tests;
mod settings;

pub use codes::{H3Error, app_error_from_http3, app_error_to_http3, h3};
pub use session::WebTransport;

use bytes::Bytes;

/// Longest SETTINGS frame taken from a peer, bytes.
pub const SETTINGS_BYTES_MAX: u64 = 4 << 10;
/// Longest HEADERS frame taken from a peer, and what our SETTINGS announce, bytes.
pub const HEADERS_BYTES_MAX: u64 = 16 << 10;
/// HTTP requests whose headers are incomplete at one time; more are refused.
pub const REQUESTS_MAX: usize = 8;
/// Longest reason in a CLOSE capsule (draft-ietf-webtrans-http3 §6), bytes.
pub const CLOSE_REASON_BYTES_MAX: usize = 1_024;

/// Which end we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Waits for a request.
    Server,
    /// Makes one as soon as the server's SETTINGS are there.
    Client {
        /// `host` or `host:port`.
        authority: String,
        /// Path and query, starting with a slash.
        path: String,
        /// `wt-available-protocols`, most wanted first; empty: the header is not sent.
        protocols: Vec<String>,
        /// `origin` header.
        origin: Option<String>,
    },
}

/// The target of a client is no valid URL, or a protocol or origin is no valid header value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTarget(
    /// What is wrong, for people.
    pub String,
);

impl std::fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "invalid WebTransport target: {}", self.0)
    }
}

impl std::error::Error for InvalidTarget {}

/// What to do with a stream that the peer opened, after showing us its next bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamFate {
    /// Not known yet: show the next bytes too.
    NeedMore,
    /// A stream of HTTP/3 itself: show all further bytes too, and its end.
    Mine,
    /// A stream of HTTP/3 itself that is dealt with: show nothing of it again. What is to be sent on
    /// it comes as actions.
    Over,
    /// A stream of the session: show nothing of it again. It can come before `Established` (packets
    /// overtake each other): keep it until then, without reading on.
    Session {
        /// The application's first bytes.
        rest: Bytes,
    },
    /// Not wanted: stop it, and reset our side if it has one, with this HTTP/3 code.
    Refused {
        /// HTTP/3 code.
        code: u64,
    },
}

/// A stream that we ask the shell to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnStream {
    /// Unidirectional, highest priority, never finished.
    Control,
    /// Bidirectional; its bytes go to `handle_own`.
    Connect,
}

/// What the shell has to do on the QUIC connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a stream, now or when the peer's limits allow it, and answer with `handle_opened`.
    Open(OwnStream),
    /// Send on a stream.
    Write {
        /// QUIC stream id.
        stream: u64,
        /// What to send.
        data: Bytes,
        /// End our side after it.
        fin: bool,
    },
    /// Ask the peer to stop sending on a stream; its bytes are not to be shown any more.
    Stop {
        /// QUIC stream id.
        stream: u64,
        /// HTTP/3 code.
        code: u64,
    },
    /// Reset our side of a stream.
    Reset {
        /// QUIC stream id.
        stream: u64,
        /// HTTP/3 code.
        code: u64,
    },
    /// The peer broke HTTP/3: close the connection. Nothing else follows.
    CloseConnection(H3Error),
}

/// What happened to the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WtEvent {
    /// Server: a client asks for a session; answer with `accept` or `reject`.
    Requested {
        /// `:authority`, normalised as in a URL.
        authority: String,
        /// `:path` with its query, normalised as in a URL.
        path: String,
        /// `origin` header; browsers always send it.
        origin: Option<String>,
        /// `wt-available-protocols`, most wanted first.
        protocols: Vec<String>,
    },
    /// The session is open at both ends.
    Established {
        /// The protocol agreed on.
        protocol: Option<String>,
    },
    /// Client: no session. Close the connection.
    Refused {
        /// HTTP status, if the server sent one.
        status: Option<u16>,
        /// For people.
        reason: &'static str,
    },
    /// The peer asks to end the session soon (DRAIN capsule, or GOAWAY of a server).
    Draining,
    /// The peer ended the session, or has confirmed that we did. Reset what streams are left with
    /// [`h3::SESSION_GONE`], then close the connection with [`h3::NO_ERROR`]. Can follow `Requested`
    /// directly.
    Closed {
        /// The peer's application error code; 0 if it gave none.
        code: u32,
        /// The peer's reason.
        reason: String,
    },
}
