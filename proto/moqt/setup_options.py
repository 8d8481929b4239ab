"""Options of SETUP (draft 18, section 10.3.1) and the set-up parameters of draft 16 (section 9.3.1).

Both are key-value pairs; draft 16 counts them, later drafts let them fill the message. Unknown options are
kept in ``SetupOptions.extra`` and otherwise ignored, which is what grease checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farcast.proto.moqt.errors import ProtocolError, SessionCode, violation
from farcast.proto.moqt.forms import NODE_TEXT, TOKEN, Form
from farcast.proto.moqt.keyvalue import Pair, Pairs, decode_pair, decode_pairs, encode_pairs
from farcast.proto.moqt.values import NodeInfo, Recovery, SetupOptions
from farcast.proto.moqt.varint import Varint
from farcast.proto.moqt.wire import Reader, Writer

if TYPE_CHECKING:
    from farcast.proto.moqt.profile import Profile

SETUP_OPTIONS_MAX = 64
"""More options than this in one SETUP are a violation."""


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One option: its number and the attribute of :class:`SetupOptions` it fills. ``form`` reads and writes
    the bytes of an odd type; an even type is an integer as it is."""

    number: int
    attribute: str
    form: Form | None = None
    repeatable: bool = False


def read_options(reader: Reader, profile: Profile) -> SetupOptions:
    """Options up to the end of the message. A repeated known option is a violation."""
    values: dict[str, Any] = {}
    extra: list[tuple[int, int | bytes]] = []
    for pair in _read_pairs(reader, profile):
        row = profile.setup_options.get(pair.type)
        if row is None:
            extra.append((pair.type, pair.value))
            continue
        value = _decode(row, pair, reader.varint_kind)
        if row.repeatable:
            values[row.attribute] = (*values.get(row.attribute, ()), value)
        elif row.attribute in values:
            raise violation(f"setup option {pair.type:#x} is repeated")
        else:
            values[row.attribute] = value
    return SetupOptions(**values, extra=tuple(extra))


def write_options(writer: Writer, profile: Profile, options: SetupOptions) -> None:
    """Those of ``options`` that this draft has; ``ValueError`` where ``extra`` holds one that is known."""
    pairs = list(_encode(profile, options, writer.varint_kind))
    for kind, value in options.extra:
        if kind in profile.setup_options:
            raise ValueError(f"setup option {kind:#x} has an attribute of its own")
        pairs.append(Pair(kind, value))
    if profile.setup_options_counted:
        writer.varint(len(pairs))
    writer.raw(encode_pairs(pairs, writer.varint_kind))


def _read_pairs(reader: Reader, profile: Profile) -> Pairs:
    if not profile.setup_options_counted:
        return decode_pairs(reader.rest(), reader.varint_kind, pairs_max=SETUP_OPTIONS_MAX)
    count = reader.varint()
    if count > SETUP_OPTIONS_MAX:
        raise violation(f"{count} setup options, at most {SETUP_OPTIONS_MAX} are allowed")
    data, offset, kind = reader.rest(), 0, 0
    pairs: list[Pair] = []
    for _ in range(count):
        pair, offset = decode_pair(data, offset, kind, reader.varint_kind)
        kind = pair.type
        pairs.append(pair)
    if offset != len(data):
        raise violation("bytes follow the last setup option")
    return tuple(pairs)


def _decode(row: OptionRow, pair: Pair, varint: Varint) -> Any:
    if row.form is None or isinstance(pair.value, int):
        return pair.value
    try:
        return row.form.read(Reader(pair.value, varint))
    except ProtocolError as error:
        reason = f"setup option {row.number:#x}: {error.reason}"
        raise ProtocolError(SessionCode.KEY_VALUE_FORMATTING_ERROR, reason) from None


def _encode(profile: Profile, options: SetupOptions, varint: Varint) -> Iterator[Pair]:
    for row in profile.setup_options.values():
        value = getattr(options, row.attribute)
        for each in value if row.repeatable else (() if value is None else (value,)):
            if row.form is None:
                yield Pair(row.number, each)
            else:
                writer = Writer(varint)
                row.form.write(writer, each)
                yield Pair(row.number, writer.data())


def _read_node(reader: Reader) -> NodeInfo:
    """Node id, region, recovery bits; what newer versions append is ignored."""
    node_id, region = NODE_TEXT.read(reader), NODE_TEXT.read(reader)
    known = reader.varint() & _RECOVERY_KNOWN
    reader.rest()
    return NodeInfo(node_id, region, Recovery(known))


def _write_node(writer: Writer, node: NodeInfo) -> None:
    NODE_TEXT.write(writer, node.node_id)
    NODE_TEXT.write(writer, node.region)
    writer.varint(int(node.recovery))


_RECOVERY_KNOWN = sum(int(bit) for bit in Recovery)

TEXT = Form(
    lambda reader: reader.rest().decode("utf-8", "replace"), lambda writer, text: writer.raw(text.encode())
)
NODE = Form(_read_node, _write_node)

COMMON_OPTIONS = (
    OptionRow(0x01, "path", TEXT),
    OptionRow(0x03, "authorization_tokens", TOKEN, repeatable=True),
    OptionRow(0x04, "max_auth_token_cache_bytes"),
    OptionRow(0x05, "authority", TEXT),
    OptionRow(0x07, "implementation", TEXT),
)
MAX_REQUEST_ID_OPTION = OptionRow(0x02, "max_request_id")
"""Only up to draft 16."""

NODE_OPTION = OptionRow(0x4645, "node", NODE)
"""Ours, on hops: node id and region (each length-prefixed UTF-8), then the recovery bits as a varint."""
