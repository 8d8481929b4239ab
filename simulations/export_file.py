"""Links as real edges measured them, in one JSON file: what ``farcast sim import`` reads.

    {
      "format": "farcast-links", "version": 1,
      "source": "links of live.example, 2026-11-24, 24 h",
      "edges": [
        {"node_id": "sin-1", "region": "sin", "country": "SG", "provider": "a",
         "lat": 1.35, "lon": 103.82, "capacity_bps": 0}
      ],
      "links": [
        {"src": "sin-1", "dst": "fra-1",
         "rtt_us": {"p50": 161200, "p90": 165200},
         "loss": {"share": 0.002, "burst_packets": 2.4},
         "loss_windows": {"windows": [[1500000, 70000, 0.4]], "repeat_us": 60000000},
         "capacity_bps": 200000000, "queue_ms": 100}
      ]
    }

A link is one direction, as its source sees it: the round trip with p50 and p90 (further quantiles may stand
beside them and are kept for readers), the share of packets lost with the mean length of a run of losses, and
where they were recorded the windows in which they were lost, which then stand instead of ``loss``. Everything
but ``src``, ``dst`` and ``rtt_us`` may be left out. Unknown keys are errors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.backbone import fit_round_trip, queue_bytes
from farcast.simulations.links import BurstLoss, LinkModel, LossModel, WindowLoss
from farcast.simulations.world_spec import EdgePath, EdgeSite

EXPORT_VERSION: Final = 1
BYTES_MAX: Final = 64 * 1024 * 1024
EDGES_MAX: Final = 500
"""Real edges whose every link is described."""

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Positive = Annotated[float, Meta(gt=0)]


class ExportEdge(Struct, frozen=True, forbid_unknown_fields=True):
    """One edge; degrees."""

    node_id: Name
    region: Name
    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]
    country: str = ""
    provider: str = ""
    capacity_bps: Count = 0


class ExportRtt(Struct, frozen=True, forbid_unknown_fields=True):
    """Quantiles of the round trip."""

    p50: Positive
    p90: Positive
    p10: Positive | None = None
    p99: Positive | None = None


class ExportLoss(Struct, frozen=True, forbid_unknown_fields=True):
    """Share of packets lost, in runs of so many on average."""

    share: Share
    burst_packets: Annotated[float, Meta(ge=1)] = 1.0


class ExportWindows(Struct, frozen=True, forbid_unknown_fields=True):
    """``(start_us, length_us, share)`` in order of time, again every ``repeat_us``."""

    windows: tuple[tuple[Count, Annotated[int, Meta(gt=0)], Share], ...]
    repeat_us: Annotated[int, Meta(gt=0)]


class ExportLink(Struct, frozen=True, forbid_unknown_fields=True):
    """One direction."""

    src: Name
    dst: Name
    rtt_us: ExportRtt
    loss: ExportLoss | None = None
    loss_windows: ExportWindows | None = None
    capacity_bps: Annotated[int, Meta(gt=0)] | None = None
    queue_ms: Positive = 100.0

    def model(self) -> LinkModel:
        """As the simulator takes it. ``ValueError`` if no link can be like that."""
        fit = fit_round_trip(self.rtt_us.p50 / 1_000, self.rtt_us.p90 / 1_000)
        losses: tuple[LossModel, ...] = ()
        if self.loss_windows is not None:
            losses = (WindowLoss(self.loss_windows.windows, self.loss_windows.repeat_us),)
        elif self.loss is not None and self.loss.share > 0:
            losses = (BurstLoss(self.loss.share, self.loss.burst_packets),)
        return LinkModel(
            delay_us=fit.delay_us,
            delay_log_median_us=fit.median_us,
            delay_log_sigma=fit.sigma,
            rate_bps=self.capacity_bps,
            queue_bytes=queue_bytes(self.capacity_bps or 0, self.queue_ms),
            losses=losses,
        )


class Export(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file."""

    format: Literal["farcast-links"]
    version: int
    source: str
    edges: Annotated[tuple[ExportEdge, ...], Meta(min_length=1, max_length=EDGES_MAX)]
    links: tuple[ExportLink, ...]

    def sites(self) -> tuple[EdgeSite, ...]:
        """Its edges; the control plane is taken to be at the first of them."""
        return tuple(
            EdgeSite(
                node_id=edge.node_id,
                region=edge.region,
                country=edge.country,
                provider=edge.provider,
                lat=edge.lat,
                lon=edge.lon,
                capacity_bps=edge.capacity_bps,
                control=LinkModel(delay_us=self._control_us(edge)),
            )
            for edge in self.edges
        )

    def paths(self) -> tuple[EdgePath, ...]:
        """Its links."""
        return tuple(
            EdgePath(src=link.src, dst=link.dst, model=link.model(), rtt_ms=link.rtt_us.p50 / 1_000)
            for link in self.links
        )

    def _control_us(self, edge: ExportEdge) -> int:
        home = self.edges[0].node_id
        for link in self.links:
            if link.src == edge.node_id and link.dst == home:
                return round(link.rtt_us.p50 / 2)
        return 500


def read_export(file: Path) -> Export:
    """Read and check a file; `UserError` names file, place and fault."""
    try:
        if file.stat().st_size > BYTES_MAX:
            raise UserError(f"{file}: larger than {BYTES_MAX} bytes", EXIT_USAGE)
        export = msgspec.json.decode(file.read_bytes(), type=Export)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}", EXIT_USAGE) from error
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: is no export of links: {error}", EXIT_USAGE) from error
    faults = list(_faults(export))
    if faults:
        raise UserError("\n".join(f"{file}: {fault}" for fault in faults), EXIT_USAGE)
    return export


def _faults(export: Export) -> Iterator[str]:
    if export.version != EXPORT_VERSION:
        yield f"version {export.version}, this build reads {EXPORT_VERSION}"
    nodes = [edge.node_id for edge in export.edges]
    yield from (
        f"edges: {name!r} is there twice" for name in sorted(n for n, k in Counter(nodes).items() if k > 1)
    )
    seen: set[tuple[str, str]] = set()
    for number, link in enumerate(export.links):
        where = f"links[{number}]"
        for key, end in (("src", link.src), ("dst", link.dst)):
            if end not in nodes:
                near = get_close_matches(end, nodes, n=1)
                yield f"{where}.{key}: no edge {end!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        if link.src == link.dst:
            yield f"{where}: from {link.src!r} to itself"
        if (link.src, link.dst) in seen:
            yield f"{where}: {link.src} to {link.dst} is there twice"
        seen.add((link.src, link.dst))
        if link.rtt_us.p90 < link.rtt_us.p50:
            yield f"{where}.rtt_us: p90 is below p50"
        try:
            link.model().config  # noqa: B018
        except (ValueError, OverflowError) as error:
            yield f"{where}: no link can be like that: {error}"
    yield from (
        f"links: {a} to {b} is there, {b} to {a} is not" for a, b in sorted(seen) if (b, a) not in seen
    )


def write_export(export: Export) -> bytes:
    """The bytes of a file."""
    return msgspec.json.format(msgspec.json.encode(export), indent=2) + b"\n"
