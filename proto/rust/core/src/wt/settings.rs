//! SETTINGS: what we announce, and what we need from the peer (RFC 9114 §7.2.4).

use super::HEADERS_BYTES_MAX;
use super::codes::{H3Error, h3};
use super::frame;
use crate::varint::VarIntKind;
use bytes::Bytes;
use std::collections::BTreeMap;

const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
const H3_DATAGRAM: u64 = 0x33;
/// H3_DATAGRAM before its RFC; browsers want it together with the oldest WebTransport.
const H3_DATAGRAM_DRAFT_04: u64 = 0xff_d277;
/// draft-ietf-webtrans-http3-02.
const ENABLE_WEBTRANSPORT: u64 = 0x2b60_3742;
/// Server's limit beside ENABLE_WEBTRANSPORT.
const WEBTRANSPORT_MAX_SESSIONS_OLD: u64 = 0x2b60_3743;
/// draft-ietf-webtrans-http3-07.
const WEBTRANSPORT_MAX_SESSIONS: u64 = 0xc671_706a;
/// draft-ietf-webtrans-http3-13 and later; understood, not announced: a peer that sees it may expect
/// transport parameters that we do not send.
const WT_MAX_SESSIONS_DRAFT_13: u64 = 0x14e9_cd29;
const WT_ENABLED_DRAFT_15: u64 = 0x2c7c_f000;

/// Everything that we announce, in this order.
const OURS: [(u64, u64); 7] = [
    (MAX_FIELD_SECTION_SIZE, HEADERS_BYTES_MAX),
    (ENABLE_CONNECT_PROTOCOL, 1),
    (H3_DATAGRAM, 1),
    (H3_DATAGRAM_DRAFT_04, 1),
    (ENABLE_WEBTRANSPORT, 1),
    (WEBTRANSPORT_MAX_SESSIONS_OLD, 1),
    (WEBTRANSPORT_MAX_SESSIONS, 1),
];

/// Settings that are either 0 or 1 (RFC 9220 §3, RFC 9297 §2.1.1).
const FLAGS: [u64; 2] = [ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM];

/// The start of our control stream: its type and the SETTINGS frame.
pub(super) fn control_stream_start() -> Bytes {
    let mut payload = Vec::new();
    for (id, value) in OURS {
        put(id, &mut payload);
        put(value, &mut payload);
    }
    let mut out = Vec::new();
    put(super::control::STREAM_TYPE, &mut out);
    put(frame::SETTINGS, &mut out);
    put(payload.len() as u64, &mut out);
    out.extend_from_slice(&payload);
    out.into()
}

/// Append an integer that is known to be small enough.
pub(super) fn put(value: u64, out: &mut Vec<u8>) {
    let encoded = VarIntKind::Quic.encode(value, out);
    debug_assert!(encoded.is_ok());
}

/// What the peer announced.
#[derive(Debug, Default)]
pub(super) struct PeerSettings(BTreeMap<u64, u64>);

impl PeerSettings {
    /// The payload of a SETTINGS frame.
    pub(super) fn decode(mut payload: &[u8]) -> Result<Self, H3Error> {
        let mut settings = BTreeMap::new();
        while !payload.is_empty() {
            let id = take(&mut payload)?;
            let value = take(&mut payload)?;
            check(id, value)?;
            if settings.insert(id, value).is_some() {
                return Err(H3Error::new(h3::SETTINGS_ERROR, "a setting twice"));
            }
        }
        Ok(PeerSettings(settings))
    }

    /// Whether the peer takes WebTransport sessions, in any draft.
    pub(super) fn supports_webtransport(&self) -> bool {
        let on = |id: &u64| self.0.get(id).is_some_and(|value| *value > 0);
        let datagrams = [H3_DATAGRAM, H3_DATAGRAM_DRAFT_04].iter().any(on);
        let sessions = [
            WEBTRANSPORT_MAX_SESSIONS,
            WT_MAX_SESSIONS_DRAFT_13,
            WT_ENABLED_DRAFT_15,
            ENABLE_WEBTRANSPORT,
        ];
        datagrams && sessions.iter().any(on)
    }
}

fn take(payload: &mut &[u8]) -> Result<u64, H3Error> {
    let decoded = VarIntKind::Quic.decode(payload);
    let (value, length) = decoded.ok_or(H3Error::new(
        h3::FRAME_ERROR,
        "SETTINGS end inside a setting",
    ))?;
    *payload = &payload[length..];
    Ok(value)
}

fn check(id: u64, value: u64) -> Result<(), H3Error> {
    if (0x2..=0x5).contains(&id) {
        return Err(H3Error::new(h3::SETTINGS_ERROR, "setting of HTTP/2"));
    }
    if FLAGS.contains(&id) && value > 1 {
        return Err(H3Error::new(
            h3::SETTINGS_ERROR,
            "setting is neither 0 nor 1",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(settings: &[(u64, u64)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (id, value) in settings {
            put(*id, &mut out);
            put(*value, &mut out);
        }
        out
    }

    fn supported(settings: &[(u64, u64)]) -> bool {
        PeerSettings::decode(&payload(settings))
            .unwrap()
            .supports_webtransport()
    }

    #[test]
    fn other_implementations_see_webtransport_in_our_settings() {
        let start = control_stream_start();
        let theirs = web_transport_proto::Settings::decode(&mut start.as_ref()).unwrap();
        assert_eq!(theirs.supports_webtransport(), 1);
        assert_eq!(theirs.len(), OURS.len());
    }

    #[test]
    fn every_generation_of_webtransport_settings_is_understood() {
        assert!(supported(&[(0xff_d277, 1), (0x2b60_3742, 1)]));
        assert!(supported(&[(0x33, 1), (0xc671_706a, 4)]));
        assert!(supported(&[(0x33, 1), (0x14e9_cd29, 1)]));
        assert!(supported(&[(0x33, 1), (0x2c7c_f000, 1)]));
        assert!(!supported(&[(0x33, 1), (0xc671_706a, 0)]));
        assert!(!supported(&[(0xc671_706a, 1)]));
        assert!(!supported(&[(0x33, 1), (0x8, 1)]));
    }

    #[test]
    fn grease_is_ignored_and_nonsense_is_an_error() {
        assert!(supported(&[
            (0x33, 1),
            (0x21 + 0x1f * 7, 99),
            (0xc671_706a, 1)
        ]));
        for wrong in [
            &[(0x2, 0)][..],
            &[(0x5, 1)],
            &[(0x33, 2)],
            &[(0x8, 2)],
            &[(6, 1), (6, 1)],
        ] {
            let error = PeerSettings::decode(&payload(wrong)).unwrap_err();
            assert_eq!(error.code, h3::SETTINGS_ERROR);
        }
        let error = PeerSettings::decode(b"\x33").unwrap_err();
        assert_eq!(error.code, h3::FRAME_ERROR);
    }
}
