"""The exchange by which an edge gets its first certificate: three records over TLS, framed as on the control
channel.

    edge                                     control plane
      | -- TLS, ALPN farcast-join/1, not verified --> |
      | <- - - - - - - Greeting: authority - - - - -  |   its SHA-256 must be the token's; closes
      | -- TLS again, verified by that authority ---> |
      | <- - - - - - - Greeting - - - - - - - - - - - |
      | -- JoinRequest: token, signing request -----> |
      | <- - - - - - - JoinAnswer - - - - - - - - - - |   certificate, or why not

It runs over TCP, on the port number of the control channel, because the control channel itself cannot be
spoken without a certificate, and because the HTTP API is for operators and need not be reachable from edges.
Renewals go over the control channel (`CertificateWanted`).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from farcast.proto.control.codec import BadMessage, Framer, decode_record
from farcast.proto.control.messages import Record
from farcast.proto.control.ranges import CERTIFICATE_BYTES_MAX, SIGNING_REQUEST_BYTES_MAX, NodeId, Text

ALPN: Final = "farcast-join/1"

MESSAGE_BYTES_MAX: Final = 16_384
"""Longest message of either end."""

LENGTH_BYTES: Final = 4

SigningRequest = Annotated[bytes, Meta(min_length=1, max_length=SIGNING_REQUEST_BYTES_MAX)]
"""PKCS#10 (RFC 2986), DER: the key, and a proof of having it. The names in it are not looked at."""

Certificate = Annotated[bytes, Meta(max_length=CERTIFICATE_BYTES_MAX)]
"""X.509, DER."""


class Greeting(Record, frozen=True, kw_only=True, tag="greeting"):
    """First words of the control plane: the certificate of the cluster's authority."""

    authority: Certificate


class JoinRequest(Record, frozen=True, kw_only=True, tag="join"):
    """The edge shows its token. ``node_id``: the name that it would like."""

    token_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    secret: Annotated[bytes, Meta(max_length=64)]
    request: SigningRequest
    node_id: NodeId | None = None

    def __repr__(self) -> str:
        return f"JoinRequest({self.token_id})"


class JoinAnswer(Record, frozen=True, kw_only=True, tag="joined"):
    """The certificate of the edge that is called so, or (``refusal``) why there is none."""

    certificate: Certificate = b""
    region: NodeId | None = None
    node_id: NodeId | None = None
    refusal: Text = ""


_GREETING = msgspec.msgpack.Decoder(Greeting)
_REQUEST = msgspec.msgpack.Decoder(JoinRequest)
_ANSWER = msgspec.msgpack.Decoder(JoinAnswer)


def encode_joining(message: Greeting | JoinRequest | JoinAnswer) -> bytes:
    """The message in its frame."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def joining_framer() -> Framer:
    """Cuts the stream of a peer into bodies."""
    return Framer(MESSAGE_BYTES_MAX)


def decode_greeting(body: bytes) -> Greeting:
    """Raises `BadMessage`."""
    return decode_record(_GREETING, body, MESSAGE_BYTES_MAX)


def decode_request(body: bytes) -> JoinRequest:
    """Raises `BadMessage`."""
    return decode_record(_REQUEST, body, MESSAGE_BYTES_MAX)


def decode_answer(body: bytes) -> JoinAnswer:
    """Raises `BadMessage`."""
    answer = decode_record(_ANSWER, body, MESSAGE_BYTES_MAX)
    if not answer.refusal and not (answer.certificate and answer.node_id and answer.region):
        raise BadMessage("an answer with neither certificate nor refusal")
    return answer
