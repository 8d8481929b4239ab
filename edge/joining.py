"""How an edge joins: the shell of the exchange in `farcast.proto.joining.records`.

Two connections: the first one is to anybody, sends nothing, and learns the certificate of the authority,
whose SHA-256 the token names. The second one is verified by that authority as TLS does it, and only there the
token is shown. The key is made here and never leaves; it lies in the state directory before it is first used,
so that an edge whose answer was lost can ask again.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import trio

from farcast.certificates import (
    CONTROL_DOMAIN,
    Identity,
    cluster_name,
    control_name,
    edge_name,
)
from farcast.edge.enrolment import PENDING_KEY, PRIVATE, Joined, keep
from farcast.edge.plan_file import prepare_folder
from farcast.errors import UserError
from farcast.files import write_files
from farcast.proto.control.codec import BadMessage, Framer
from farcast.proto.joining.records import (
    ALPN,
    MESSAGE_BYTES_MAX,
    JoinAnswer,
    JoinRequest,
    decode_answer,
    decode_greeting,
    encode_joining,
    joining_framer,
)
from farcast.proto.joining.tokens import JoinToken
from farcast.proto.urls import split_host_port
from farcast.signing import FreshKey, is_certificate_of, make_key, request_of

log: structlog.stdlib.BoundLogger = structlog.get_logger()

CONNECT_SECONDS_MAX: Final = 5.0
EXCHANGE_SECONDS_MAX: Final = 10.0
ROUNDS_MAX: Final = 3
ROUND_PAUSE_SECONDS: Final = 1.0


class JoinRefused(UserError):
    """The control plane answered, and will not let this edge in."""


class _Unreachable(Exception):
    """Nobody who could answer is at this address; one sentence."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the edge brings along: its token, and the node id it would like (empty: any)."""

    token: JoinToken
    node_id: str


async def join(wanted: Wanted, folder: Path) -> Joined:
    """Get a certificate and keep it in ``folder``; `UserError` says in one line why that did not work."""
    prepare_folder(folder)
    key = _key_in(folder)
    faults: dict[str, str] = {}
    for round_number in range(ROUNDS_MAX):
        if round_number:
            await trio.sleep(ROUND_PAUSE_SECONDS)
        for address in wanted.token.addresses:
            try:
                return await _join_at(address, wanted, key, folder)
            except _Unreachable as error:
                faults[address] = str(error)
    told = "; ".join(f"{address}: {fault}" for address, fault in faults.items())
    raise UserError(f"--join: no control plane answers ({told}); it serves joins with --ca-dir only")


async def _join_at(address: str, wanted: Wanted, key: FreshKey, folder: Path) -> Joined:
    token = wanted.token
    authority = await _authority(address, token)
    answer = await _ask(address, wanted, key, authority)
    if answer.refusal:
        raise JoinRefused(f"--join: refused by the control plane: {answer.refusal}")
    names = edge_name(answer.certificate)
    if not is_certificate_of(answer.certificate, key.key, (authority,)) or names is None:
        raise JoinRefused(f"--join: the control plane at {address} sent a certificate that is not for us")
    identity = Identity((answer.certificate,), key.key)
    joined = Joined(names[1], names[0], token.addresses, token.token_id)
    keep(folder, joined, identity, authority)
    log.info("joined", node_id=joined.node_id, region=joined.region, control=address, state_dir=str(folder))
    return joined


def _key_in(folder: Path) -> FreshKey:
    """The key that waits for its certificate, made if there is none."""
    file = folder / PENDING_KEY
    try:
        return request_of(file.read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError):
        log.warning("key is damaged; another one is made", file=str(file))
    key = make_key()
    write_files(folder, {PENDING_KEY: (Identity((), key.key).key_pem(), PRIVATE)}, force=True)
    return key


# ---- Connections ------------------------------------------------------------------------------------


async def _authority(address: str, token: JoinToken) -> bytes:
    """The certificate (DER) of the authority that the token names, as whoever answers there tells it."""
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _errors_are_unreachable():
        async with _tls(address, context) as stream:
            greeting = decode_greeting(await _receive(stream, joining_framer()))
    found = hashlib.sha256(greeting.authority).hexdigest()
    if found != token.authority_sha256.hex():
        raise JoinRefused(
            f"--join: {address} belongs to another authority (SHA-256 {found[:16]}…) than the join token "
            f"({token.authority_sha256.hex()[:16]}…): nothing was sent; is the token of this cluster?"
        )
    return greeting.authority


async def _ask(address: str, wanted: Wanted, key: FreshKey, authority: bytes) -> JoinAnswer:
    """Show the token to a control plane of the authority."""
    context = _context()
    try:
        context.load_verify_locations(cadata=authority)
    except ssl.SSLError as error:
        raise JoinRefused(f"--join: the authority's certificate at {address} cannot be used") from error
    token = wanted.token
    with _errors_are_unreachable():
        async with _tls(address, context) as stream:
            named = control_name(stream.getpeercert(binary_form=True) or b"")
            if named is None or named[0] != cluster_name(authority):
                raise JoinRefused(f"--join: {address} is no control plane, by its certificate")
            request = JoinRequest(
                token_id=token.token_id,
                secret=token.secret,
                request=key.request,
                node_id=wanted.node_id or None,
            )
            framer = joining_framer()
            await _receive(stream, framer)
            await stream.send_all(encode_joining(request))
            return decode_answer(await _receive(stream, framer))


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    return context


@contextlib.asynccontextmanager
async def _tls(address: str, context: ssl.SSLContext) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    """A TLS connection for the time of the block, which is bounded."""
    host, port = split_host_port(address)
    with trio.fail_after(CONNECT_SECONDS_MAX + EXCHANGE_SECONDS_MAX):
        tcp = await trio.open_tcp_stream(host, port)
        stream = trio.SSLStream(tcp, context, server_hostname=CONTROL_DOMAIN, https_compatible=True)
        try:
            await stream.do_handshake()
            yield stream
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(tcp)


async def _receive(stream: trio.SSLStream[trio.SocketStream], framer: Framer) -> bytes:
    while (body := framer.next()) is None:
        data = await stream.receive_some(MESSAGE_BYTES_MAX)
        if not data:
            raise BadMessage("it hung up")
        framer.push(bytes(data))
    return body


@contextlib.contextmanager
def _errors_are_unreachable() -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise _Unreachable(f"its certificate is not good: {error.verify_message}") from error
    except BadMessage as bad:
        raise _Unreachable(f"is no control plane: {bad.reason}") from bad
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise _Unreachable(f"its certificate is not good: {cause.verify_message}") from error
        raise _Unreachable("it broke the connection off") from error
    except trio.TooSlowError as error:
        raise _Unreachable("it does not answer") from error
    except OSError as error:
        raise _Unreachable(f"cannot be reached: {error.strerror or error}") from error
