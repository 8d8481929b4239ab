"""From what a run left behind to the figures that promises are about (`output_names` says what each one
means)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from farcast.simulations.constants import (
    CAPTURE_US,
    FIRST_FREEZE_US,
    HD_HEIGHT,
    LIVE_TAIL_US,
    MICROPHONE_US,
    PICTURE_GRACE_US,
    RENDER_US,
    SKEW_WINDOW_US,
    SPEAKER_US,
)
from farcast.simulations.measured import WORLD, Floats, Measured, Ratios, Samples, ViewerInfo
from farcast.simulations.playout import NEVER, Freezes, Times, audio_delay, freezes
from farcast.simulations.raw import RawResult
from farcast.simulations.results import InvariantFailure, MapLink, TimelineEntry
from farcast.simulations.resumes import resumes
from farcast.simulations.views import FrameIndex, View, views_of
from farcast.simulations.warmth import stays, warm_views

Figure = tuple[str, Floats]
Share = tuple[str, float, float]


class _Table:
    """Collects figures of one viewer after the other."""

    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[Floats, int]]] = defaultdict(list)
        self._ratios: dict[str, list[tuple[float, float, int]]] = defaultdict(list)

    def add(self, viewer: int, figures: Iterable[Figure]) -> None:
        for name, values in figures:
            if values.size:
                self._samples[name].append((values, viewer))

    def share(self, viewer: int, shares: Iterable[Share]) -> None:
        for name, part, whole in shares:
            if whole > 0:
                self._ratios[name].append((part, whole, viewer))

    def samples(self) -> dict[str, Samples]:
        return {
            name: Samples(
                np.concatenate([values for values, _ in parts]),
                np.repeat([viewer for _, viewer in parts], [values.size for values, _ in parts]).astype(
                    np.int32
                ),
            )
            for name, parts in self._samples.items()
        }

    def ratios(self) -> dict[str, Ratios]:
        return {
            name: Ratios(
                np.array([part for part, _, _ in rows], np.float64),
                np.array([whole for _, whole, _ in rows], np.float64),
                np.array([viewer for _, _, viewer in rows], np.int32),
            )
            for name, rows in self._ratios.items()
        }


def measure(raw: RawResult) -> Measured:
    """Every output of one run, and what belongs on its timeline."""
    index = FrameIndex(raw)
    regions = {client.client: client.region for client in raw.clients}
    table, viewers, timeline = _Table(), [], list(_world_timeline(raw))
    views = [
        view for client in raw.clients if client.kind == "viewer" for view in views_of(raw, client, index)
    ]
    warm = warm_views(raw, views)
    for number, view in enumerate(views):
        viewers.append(_info(view, regions.get(view.publisher, ""), "warm" if warm[number] else "cold"))
        frozen = _frozen(view)
        table.add(number, _figures(view, frozen))
        table.share(number, _shares(view, frozen))
        timeline += _view_timeline(raw.seed, view, frozen)
    for number, values in resumes(raw, views):
        table.add(number, [("resume", values)])
    table.share(WORLD, _bytes_over_direct(raw, index))
    return Measured(
        seed=raw.seed,
        trace_hash=raw.trace_hash,
        virtual_s=(raw.ended_us - raw.began_us) / 1e6,
        viewers=tuple(viewers),
        samples=table.samples(),
        ratios=table.ratios(),
        timeline=tuple(sorted(timeline, key=lambda entry: (entry.at_us, entry.kind, entry.who or ""))),
        links=tuple(_links(raw)),
        invariant_failures=tuple(
            InvariantFailure(seed=raw.seed, at_us=found.at_us, invariant=found.invariant, what=found.text)
            for found in raw.violations
        ),
    )


def _info(view: View, from_region: str, track: str) -> ViewerInfo:
    client = view.client
    return ViewerInfo(
        name=client.client,
        stack=client.stack,
        market=client.market,
        region=client.region,
        from_region=from_region,
        room=client.room,
        transport=client.transport,
        access_rtt_ms=client.access_rtt_ms,
        access_rate_mbps=client.access_rate_bps / 1e6,
        track=track,
    )


def _shown_before(view: View) -> Times:
    return view.playout.shown_us[view.playout.shown_us < view.until_us]


def _frozen(view: View) -> Freezes:
    """When the picture stood still; all the time for who had none and waited long enough to tell."""
    shown_us = _shown_before(view)
    if shown_us.size or not view.is_patient:
        return freezes(shown_us, view.until_us, FIRST_FREEZE_US)
    return Freezes(np.array([view.base_us]), np.array([view.until_us - view.base_us]))


def _dark_from_us(view: View, frozen: Freezes) -> int:
    """From when on there was no picture, to the end: never one at all, or lost for good."""
    if not frozen.length_us.size or frozen.length_us[-1] < PICTURE_GRACE_US:
        return NEVER
    ends_us = int(frozen.begin_us[-1] + frozen.length_us[-1])
    return int(frozen.begin_us[-1]) if ends_us >= view.until_us else NEVER


def _figures(view: View, frozen: Freezes) -> Iterator[Figure]:
    client, playout = view.client, view.playout
    captured = view.video.capture_us[playout.shown]
    live = captured >= playout.live_from_us
    latency = _ms(playout.shown_us - captured + CAPTURE_US + view.encode_us)[live]
    yield "glass_to_glass", np.append(latency, _never_seen(view, frozen))
    arrived = view.video.arrival_us[playout.shown]
    yield "player_delay", _ms(playout.shown_us - RENDER_US - arrived)[live]
    yield "object_latency", _ms(_latencies(view))
    yield "first_picture", _waited(view, int(playout.shown_us.min(initial=NEVER)), view.base_us)
    if _shown_before(view).size or frozen.length_us.size:
        yield "stalls", np.array([float(frozen.length_us.size)])
        yield "stall_length", _ms(frozen.length_us)
        quality = view.video.quality[playout.shown]
        yield "rendition_switches", np.array([float(np.count_nonzero(np.diff(quality)))])
    yield "av_skew", _skews(view)
    if view.is_first:
        connected_us = NEVER if client.connected_us is None else client.connected_us
        yield "connect", _waited(view, connected_us, client.tapped_us)
        yield "moves", np.array([float(len(client.moves))])
        yield "errors", np.array([float(len(client.errors))])


def _waited(view: View, happened_us: int, from_us: int) -> Floats:
    """How long a viewer waited; infinite if in vain, nothing if it left before that means anything."""
    if happened_us < NEVER:
        return _ms(np.array([happened_us - from_us]))
    patient = view.until_us - from_us >= PICTURE_GRACE_US
    return np.array([np.inf] if patient else [])


def _never_seen(view: View, frozen: Freezes) -> Floats:
    """An infinite latency for each picture that was captured while a viewer had lost its picture for good,
    or never got one. (One that was left out while others were shown is no latency: `unshown_frames`.)"""
    captured = np.unique(view.video.capture_us)
    dark = (captured >= _dark_from_us(view, frozen)) & (captured < view.until_us - LIVE_TAIL_US)
    return np.full(int(dark.sum()), np.inf)


def _latencies(view: View) -> Times:
    """Capture to arrival of pictures that were captured after the first one came."""
    arrival, captured = view.video.arrival_us, view.video.capture_us
    live = (arrival < view.until_us) & (captured >= arrival.min(initial=NEVER))
    latencies: Times = (arrival - captured)[live]
    return latencies


def _skews(view: View) -> Floats:
    """The mean of each second in which pictures were shown while sound was heard: from light to light less
    from air to air, with the devices of both in it, as eyes and ears have it."""
    playout = view.playout
    captured = view.video.capture_us[playout.shown]
    heard = audio_delay(playout, view.audio, playout.shown_us - SPEAKER_US) + MICROPHONE_US + SPEAKER_US
    skew = (playout.shown_us - captured + CAPTURE_US) - heard
    known = np.isfinite(skew) & (captured >= playout.live_from_us)
    if not known.any():
        return np.empty(0)
    window = playout.shown_us[known] // SKEW_WINDOW_US
    _, place, counts = np.unique(window, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(place, skew[known]) / counts / 1e3, np.float64)


def _shares(view: View, frozen: Freezes) -> Iterator[Share]:
    playout, until_us = view.playout, view.until_us
    yield "missing_frames", view.missing, view.expected
    yield "audio_gaps", *_silent(view)
    shown_us = _shown_before(view)
    if not shown_us.size and not view.is_patient:
        return
    began_us = int(shown_us[0]) if shown_us.size else view.base_us
    yield "stall_ratio", int(frozen.length_us.sum()), until_us - began_us
    yield "unshown_frames", *_unshown(view, began_us)
    if view.offers_hd_height >= HD_HEIGHT:
        lengths = np.diff(np.append(shown_us, until_us))
        quality = view.video.quality[playout.shown[: shown_us.size]]
        moving = ~np.isin(shown_us, frozen.begin_us)
        yield "hd_share", int(lengths[moving & (quality >= HD_HEIGHT)].sum()), until_us - began_us


def _silent(view: View) -> tuple[int, int]:
    """Frames of sound that were concealed, and all that were due; none came of who got nothing in time."""
    playout, audio = view.playout, view.audio
    if not playout.audio_played.any():
        if not view.is_patient:
            return 0, 0
        wanted = (audio.capture_us >= view.base_us) & (audio.capture_us < view.until_us - LIVE_TAIL_US)
        return int(wanted.sum()), int(wanted.sum())
    from_us = playout.live_from_us
    if from_us >= NEVER:
        from_us = int(audio.capture_us[playout.audio_played][0])
    live = (audio.capture_us >= from_us) & (playout.audio_due_us < view.until_us)
    return int((~playout.audio_played & live).sum()), int(live.sum())


def _unshown(view: View, began_us: int) -> tuple[int, int]:
    """Pictures (whatever their rendition) that were captured while playing live, and those never shown."""
    captured = np.unique(view.video.capture_us)
    shown = view.video.capture_us[view.playout.shown]
    from_us = max(view.playout.live_from_us, int(shown[0])) if shown.size else began_us
    published = captured[(captured >= from_us) & (captured < view.until_us - LIVE_TAIL_US)]
    return int((~np.isin(published, shown)).sum()), int(published.size)


def _bytes_over_direct(raw: RawResult, index: FrameIndex) -> Iterator[Share]:
    """Bytes between edges, by the payload that goes once from each origin's edge to each edge that is
    watched."""
    sent = sum(link.bytes for link in raw.links if link.kind == "hop")
    publishers = {client.client: client for client in raw.clients}
    wanted: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for client in raw.clients:
        for edge, from_us, until_us in stays(client, raw.ended_us):
            for watched in client.watched:
                end_us = min(until_us, raw.ended_us if watched.until_us is None else watched.until_us)
                wanted[edge, watched.track].append((max(from_us, watched.at_us), end_us))
    direct = 0
    for (edge, track), times in sorted(wanted.items()):
        origin = publishers.get(raw.tracks[track].publisher)
        if origin is None or edge in {name for _, name in origin.edges}:
            continue
        frames = index.of(track)
        captured = frames["capture_us"]
        needed = np.zeros(frames.size, np.bool_)
        for from_us, until_us in times:
            needed |= (captured >= from_us) & (captured < until_us)
        direct += int(frames["bytes"][needed].sum(dtype=np.int64))
    if sent:
        yield "bytes_over_direct", float(sent), float(direct)


def _world_timeline(raw: RawResult) -> Iterator[TimelineEntry]:
    for fault in raw.faults:
        length_us = None if fault.until_us is None else fault.until_us - fault.at_us
        yield TimelineEntry(
            seed=raw.seed, at_us=fault.at_us, kind="fault", what=fault.text, length_us=length_us
        )
    for change in raw.route_changes:
        what = f"{change.before or 'none'} to {change.after or 'none'} ({change.cause})"
        yield TimelineEntry(
            seed=raw.seed,
            at_us=change.at_us,
            kind="route",
            what=what,
            who=change.edge,
            length_us=change.gap_us,
        )


def _view_timeline(seed: int, view: View, frozen: Freezes) -> Iterator[TimelineEntry]:
    who = view.client.client
    for at_us, length_us in zip(frozen.begin_us.tolist(), frozen.length_us.tolist(), strict=True):
        yield TimelineEntry(
            seed=seed, at_us=at_us, kind="stall", what=view.publisher, who=who, length_us=length_us
        )
    for move in view.client.moves if view.is_first else ():
        what = f"{move.before} to {move.after} ({move.cause})"
        yield TimelineEntry(seed=seed, at_us=move.at_us, kind="move", what=what, who=who)


def _links(raw: RawResult) -> Iterator[MapLink]:
    for link in raw.links:
        if link.packets:
            dropped = link.packets_dropped_queue + link.packets_dropped_policer
            lost = link.packets_lost + dropped + link.packets_dropped_mtu + link.packets_dropped_down
            yield MapLink(
                src=link.src,
                dst=link.dst,
                rtt_ms=link.rtt_ms,
                bytes=link.bytes,
                loss=lost / (link.packets + lost),
            )


def _ms(times_us: Times) -> Floats:
    return np.asarray(times_us / 1e3, np.float64)
