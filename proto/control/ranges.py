"""What a field of a control message may hold: the one table of ranges, enforced while decoding.

Each name is a type for annotations in `farcast.proto.control.messages`; msgspec checks it in C for every
message that comes in, and says where in the message the fault is. A bound is either that of a rule that
stands elsewhere (MoQT names, identities in certificates) or generous against any network that could exist:
it is there to keep nonsense out of arithmetic and memory, not to judge.

NaN fails every bound, so no `float` here can be one. Numbers above 2^53 are refused, because some of what
reads our JSON (browsers, `jq`) would round them.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from farcast.proto.moqt.names import NAMESPACE_FIELDS_MAX
from farcast.proto.moqt.parameters import HOP_PATH_NODES_MAX

INTEGER_MAX: Final = 2**53 - 1
"""Largest integer anywhere."""

RTT_US_MAX: Final = 60_000_000
"""A longer round trip is a pause, not a link."""

INTERVAL_US_MAX: Final = 86_400_000_000
"""A day: an edge that slept longer says a day."""

DRAIN_MS_MAX: Final = 86_400_000
"""A day for the last viewers to go."""

BPS_MAX: Final = 10**15
"""A petabit per second."""

NODES_MAX: Final = 1_024
"""Edges of one cluster; also links of one edge and routes of one plan."""

NAMESPACES_MAX: Final = 65_536
"""Namespaces of one plan's directory; also those of one report."""

UPSTREAMS_MAX: Final = 16
"""Parent and backups for one origin."""

SKETCH_BUCKETS_MAX: Final = 1_024
"""Buckets of a sketch: values from 1 to beyond 2^53 at 2 % (`farcast.proto.telemetry.sketch`)."""

TEXT_CHARACTERS_MAX: Final = 1_024
"""Reasons, URLs and what else is for people."""

EDGE_LIST_CHARACTERS_MAX: Final = 2 << 20
"""The signed edge list."""

SIGNING_REQUEST_BYTES_MAX: Final = 4_096
"""A request for a certificate; one for P-256 has some 200."""

CERTIFICATE_BYTES_MAX: Final = 8_192
"""A certificate; one of ours has some 600."""

_NODE_ID = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z"
_TOKEN = r"^[A-Za-z0-9_.-]{1,64}\Z"
_ADDRESS = r"^(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}\Z"
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z"

NodeId: TypeAlias = Annotated[str, Meta(pattern=_NODE_ID)]
"""Of nodes and of regions: lower-case letters, digits, hyphens inside; 1 to 63 characters (a DNS label)."""

KnownNodeId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=63)]
"""A node of which the reader knows that it is one, or else leaves out what is said of it. Its form is not
looked at: a search by a pattern for each link is much of what decoding a report costs."""

Token: TypeAlias = Annotated[str, Meta(pattern=_TOKEN)]
"""Boot ids and names of clusters."""

Address: TypeAlias = Annotated[str, Meta(pattern=_ADDRESS)]
"""``host:port`` or ``[ipv6]:port``; `check_message` looks at the port's number."""

Text: TypeAlias = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX, pattern=_PRINTABLE)]
"""For people; no control characters, so that it can stand in a log line."""

EdgeList: TypeAlias = Annotated[str, Meta(max_length=EDGE_LIST_CHARACTERS_MAX, pattern=r"^[A-Za-z0-9_.-]*\Z")]
"""A compact JWS."""

Count: TypeAlias = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
"""Counts, bytes, sequence numbers and times on a clock, microseconds."""

Rtt: TypeAlias = Annotated[int, Meta(ge=0, le=RTT_US_MAX)]
"""Round trips and their variation, microseconds; 0 is not measured."""

Interval: TypeAlias = Annotated[int, Meta(ge=1, le=INTERVAL_US_MAX)]
"""A time between two things, microseconds."""

Bps: TypeAlias = Annotated[int, Meta(ge=0, le=BPS_MAX)]
"""Bits per second."""

Share: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0)]
"""A part of a whole."""

RecordVersion: TypeAlias = Annotated[int, Meta(ge=1, le=65_535)]
"""A version of the records themselves."""

Bucket: TypeAlias = Annotated[int, Meta(ge=0, le=SKETCH_BUCKETS_MAX - 1)]
"""Index of a sketch's bucket."""

NamespaceField: TypeAlias = Annotated[bytes, Meta(min_length=1)]
NamespaceFields: TypeAlias = Annotated[tuple[NamespaceField, ...], Meta(max_length=NAMESPACE_FIELDS_MAX)]
"""The fields of a `TrackNamespace`; `check_message` adds up their bytes."""

Path: TypeAlias = Annotated[tuple[NodeId, ...], Meta(max_length=HOP_PATH_NODES_MAX)]
"""Node ids from the origin to where it is told."""

UpstreamIds: TypeAlias = Annotated[tuple[NodeId, ...], Meta(max_length=UPSTREAMS_MAX)]
NodeIds: TypeAlias = Annotated[tuple[NodeId, ...], Meta(max_length=NODES_MAX)]

_NODE_ID_RE = re.compile(_NODE_ID)
_NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def is_node_id(text: str) -> bool:
    """Whether ``text`` can name a node or a region."""
    return _NODE_ID_RE.search(text) is not None


def as_text(text: str) -> str:
    """``text`` as a `Text`: control characters become spaces, and what is too long is cut."""
    return _NOT_PRINTABLE.sub(" ", text)[:TEXT_CHARACTERS_MAX]
