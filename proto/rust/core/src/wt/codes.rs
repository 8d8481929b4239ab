//! HTTP/3 error codes, and how WebTransport's own are mapped into them.

use std::fmt;

/// Codes of RFC 9114 §8.1, RFC 9204 §6, RFC 9297 §5.2 and draft-ietf-webtrans-http3 §9.5.
pub mod h3 {
    /// H3_DATAGRAM_ERROR.
    pub const DATAGRAM_ERROR: u64 = 0x33;
    /// H3_NO_ERROR.
    pub const NO_ERROR: u64 = 0x100;
    /// H3_STREAM_CREATION_ERROR.
    pub const STREAM_CREATION_ERROR: u64 = 0x103;
    /// H3_CLOSED_CRITICAL_STREAM.
    pub const CLOSED_CRITICAL_STREAM: u64 = 0x104;
    /// H3_FRAME_UNEXPECTED.
    pub const FRAME_UNEXPECTED: u64 = 0x105;
    /// H3_FRAME_ERROR.
    pub const FRAME_ERROR: u64 = 0x106;
    /// H3_EXCESSIVE_LOAD.
    pub const EXCESSIVE_LOAD: u64 = 0x107;
    /// H3_ID_ERROR.
    pub const ID_ERROR: u64 = 0x108;
    /// H3_SETTINGS_ERROR.
    pub const SETTINGS_ERROR: u64 = 0x109;
    /// H3_MISSING_SETTINGS.
    pub const MISSING_SETTINGS: u64 = 0x10a;
    /// H3_REQUEST_REJECTED.
    pub const REQUEST_REJECTED: u64 = 0x10b;
    /// H3_REQUEST_INCOMPLETE.
    pub const REQUEST_INCOMPLETE: u64 = 0x10d;
    /// H3_MESSAGE_ERROR.
    pub const MESSAGE_ERROR: u64 = 0x10e;
    /// QPACK_DECOMPRESSION_FAILED.
    pub const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
    /// WEBTRANSPORT_SESSION_GONE: for streams that are left when the session ends.
    pub const SESSION_GONE: u64 = 0x170d_7b68;
    /// WEBTRANSPORT_BUFFERED_STREAM_REJECTED: for streams of a session that does not exist.
    pub const BUFFERED_STREAM_REJECTED: u64 = 0x3994_bd84;
    /// WT_ALPN_ERROR: the server chose a protocol that was not offered.
    pub const ALPN_ERROR: u64 = 0x0817_b3dd;
}

/// The peer broke HTTP/3; the connection is to be closed with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H3Error {
    /// One of [`h3`].
    pub code: u64,
    /// For people.
    pub reason: &'static str,
}

impl H3Error {
    pub(super) const fn new(code: u64, reason: &'static str) -> Self {
        H3Error { code, reason }
    }
}

impl fmt::Display for H3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (HTTP/3 error {:#x})", self.reason, self.code)
    }
}

impl std::error::Error for H3Error {}

const APP_ERROR_FIRST: u64 = 0x52e4_a40f_a8db;
const APP_ERROR_LAST: u64 = 0x52e5_ac98_3162;

/// The HTTP/3 code of an application's stream error (draft-ietf-webtrans-http3 §4.3): for RESET_STREAM
/// and STOP_SENDING on streams of the session. Every 31st HTTP/3 code is reserved and left out.
pub const fn app_error_to_http3(code: u32) -> u64 {
    APP_ERROR_FIRST + code as u64 + code as u64 / 0x1e
}

/// The application's stream error in an HTTP/3 code, if it holds one.
pub const fn app_error_from_http3(code: u64) -> Option<u32> {
    if code < APP_ERROR_FIRST || code > APP_ERROR_LAST || (code - 0x21).is_multiple_of(0x1f) {
        return None;
    }
    let shifted = code - APP_ERROR_FIRST;
    Some((shifted - shifted / 0x1f) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ends_of_the_range_map_to_each_other() {
        assert_eq!(app_error_to_http3(0), APP_ERROR_FIRST);
        assert_eq!(app_error_to_http3(u32::MAX), APP_ERROR_LAST);
        assert_eq!(app_error_from_http3(APP_ERROR_FIRST - 1), None);
        assert_eq!(app_error_from_http3(APP_ERROR_LAST + 1), None);
    }

    #[test]
    fn reserved_codes_of_http3_hold_no_application_error() {
        let reserved = APP_ERROR_FIRST + 0x1e;
        assert_eq!((reserved - 0x21) % 0x1f, 0);
        assert_eq!(app_error_from_http3(reserved), None);
        assert_eq!(app_error_to_http3(0x1d), reserved - 1);
        assert_eq!(app_error_to_http3(0x1e), reserved + 1);
    }

    proptest! {
        #[test]
        fn every_application_error_survives_and_agrees_with_the_crate(code: u32) {
            let mapped = app_error_to_http3(code);
            prop_assert_eq!(mapped, web_transport_proto::error_to_http3(code));
            prop_assert_eq!(app_error_from_http3(mapped), Some(code));
        }
    }
}
