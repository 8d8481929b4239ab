"""Certificates over the control channel: asked for only where they are issued, and answered once."""

from __future__ import annotations

import pytest

from farcast.proto.control import events as e
from farcast.proto.control.codec import encode
from farcast.proto.control.messages import CertificateIssued, CertificateWanted

from .pair import SECOND, Pair
from .records import EPOCH


def joined(*, issues: bool = True) -> Pair:
    pair = Pair()
    pair.server.welcome(EPOCH, issues=issues)
    pair.pump()
    pair.edge_events.clear()
    pair.server_events.clear()
    return pair


def test_a_request_is_answered_with_a_certificate() -> None:
    pair = joined()
    assert pair.edge.can_issue
    assert pair.edge.want_certificate(b"csr") is None
    assert pair.edge.want_certificate(b"csr") == "a certificate is on its way"
    pair.pump()
    assert pair.server_events == [e.CertificateAsked(b"csr")]
    pair.server.answer_certificate(b"der")
    pair.pump()
    assert pair.edge_events == [e.CertificateReceived(b"der", "")]


def test_a_control_plane_that_issues_none_is_not_asked() -> None:
    pair = joined(issues=False)
    assert "--ca-dir" in str(pair.edge.want_certificate(b"csr"))
    pair.pump()
    assert pair.server_events == []
    assert pair.edge.joined


def test_an_edge_that_asks_too_often_is_told_so() -> None:
    pair = joined()
    for _ in range(2):
        pair.server.handle_data(encode(CertificateWanted(request=b"csr")), pair.now_us)
    pair.now_us += SECOND
    pair.server.handle_data(encode(CertificateWanted(request=b"csr")), pair.now_us)
    assert [pair.server.poll_event(), pair.server.poll_event(), pair.server.poll_event()] == [
        e.CertificateAsked(b"csr"),
        e.CertificateAsked(b"csr"),
        None,
    ]


def test_a_certificate_that_nobody_asked_for_breaks_the_channel() -> None:
    pair = joined()
    pair.edge.handle_data(encode(CertificateIssued(certificate=b"der")), 0)
    event = pair.edge.poll_event()
    assert isinstance(event, e.Broken)
    assert "nobody asked for" in event.reason


@pytest.mark.parametrize("request_bytes", [b"", b"x" * 4_097])
def test_a_request_of_nonsense_length_breaks_the_channel(request_bytes: bytes) -> None:
    pair = joined()
    pair.server.handle_data(encode(CertificateWanted(request=request_bytes)), 0)
    assert isinstance(pair.server.poll_event(), e.Broken)
