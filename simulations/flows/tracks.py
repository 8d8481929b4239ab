"""What is published, as tracks and frames; who watches which track, as matrices.

A viewer watches, of each publisher in its room, the best rendition that leaves a quarter of its access free
(sound included), and the sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.simulations.flows.network import FlowNetwork
from farcast.simulations.media import FilmModel
from farcast.simulations.raw import Array, TrackInfo
from farcast.simulations.worlds import Client, WorldSpec

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]

ACCESS_SHARE: Final = 0.75
"""Of its access a viewer lets media take."""


@dataclass(frozen=True, slots=True)
class Published:
    """One publisher and its film; ``first`` is its first track's index, ``origin`` where it is connected."""

    client: Client
    film: FilmModel
    first: int
    origin: int


class Tracks:
    """All tracks of a run; ``windows`` are the times whose frames are kept."""

    def __init__(
        self,
        published: Sequence[Published],
        kinds: Sequence[Client],
        windows: Sequence[tuple[int, int]],
        nodes: int,
    ) -> None:
        self.published = tuple(published)
        self.infos: tuple[TrackInfo, ...] = tuple(t.info for each in published for t in each.film.tracks)
        self.origins = tuple(sorted({each.origin for each in published}))
        self.row = np.array([self.origins.index(each.origin) for each in published for _ in each.film.tracks])
        self.rate_bps = np.array([info.bitrate_bps for info in self.infos], np.float64)
        self._kinds, self._windows, self._nodes = kinds, windows, nodes

    @classmethod
    def of(
        cls, spec: WorldSpec, network: FlowNetwork, windows: Sequence[tuple[int, int]], seed: int
    ) -> Tracks:
        """Those of a world; a publisher is at its nearest edge."""
        at = {node: k for k, node in enumerate(network.node_ids)}
        published: list[Published] = []
        first = 0
        for number, client in enumerate(spec.publishers):
            namespace = f"{client.room}/{client.name}"
            film = FilmModel(spec.film(client.film), client.name, namespace, 0, seed + number)
            published.append(Published(client, film, first, at[client.edges[0]]))
            first += len(film.tracks)
        return cls(published, spec.viewers, windows, len(network.sites))

    @cached_property
    def watched(self) -> NDArray[np.bool_]:
        """``[kind, track]``."""
        wanted = np.zeros((len(self._kinds), len(self.infos)), np.bool_)
        for number, kind in enumerate(self._kinds):
            for each in self.published:
                if each.client.room == kind.room:
                    wanted[number, self._chosen(kind, each)] = True
        return wanted

    def _chosen(self, kind: Client, each: Published) -> list[int]:
        infos = [track.info for track in each.film.tracks]
        sound = [k for k, info in enumerate(infos) if info.kind == "audio"]
        pictures = sorted(
            (k for k, info in enumerate(infos) if info.kind == "video"), key=lambda k: -infos[k].bitrate_bps
        )
        room_bps = ACCESS_SHARE * kind.access_rate_bps - sum(infos[k].bitrate_bps for k in sound)
        fitting = [k for k in pictures if not kind.access_rate_bps or infos[k].bitrate_bps <= room_bps]
        return [each.first + k for k in (*(fitting or pictures[-1:])[:1], *sound)]

    @cached_property
    def _patterns(self) -> tuple[Floats, Positions]:
        """What kinds watch, each different choice once ``[choice, track]``; and the choice of each kind."""
        different, of_kind = np.unique(self.watched, axis=0, return_inverse=True)
        return different.astype(np.float64), of_kind.ravel()

    def watching(self, kind: Positions, edge: Positions) -> Floats:
        """Viewers of each track at each node ``[track, node]``; who watches is given one by one."""
        patterns, of_kind = self._patterns
        pairs = np.bincount(of_kind[kind] * self._nodes + edge, minlength=len(patterns) * self._nodes)
        counts: Floats = np.einsum("ct,cn->tn", patterns, pairs.reshape(-1, self._nodes))
        return counts

    def to_viewers_bps(self, counts: Floats) -> Floats:
        """What viewers take ``[tree, node]``."""
        total = np.zeros((len(self.origins), self._nodes))
        np.add.at(total, self.row, counts * self.rate_bps[:, None])
        return total

    # ---- Frames -----------------------------------------------------------------------------------

    @cached_property
    def frames(self) -> Array:
        """Of all windows, by time of capture."""
        parts = [self._frames_of(each, begin, end) for each in self.published for begin, end in self._windows]
        whole = np.concatenate(parts)
        return whole[np.argsort(whole["capture_us"], kind="stable")]

    def _frames_of(self, each: Published, begin_us: int, end_us: int) -> Array:
        """A film is the same from any group on, so a window's part is made as if the film began with it."""
        from_us = max(begin_us, each.client.joins_us)
        until_us = end_us if each.client.leaves_us is None else min(end_us, each.client.leaves_us)
        gop_us = each.film.config.gop_ms * 1_000
        first = -((each.client.joins_us - from_us) // gop_us)
        began_us = each.client.joins_us + first * gop_us
        part = each.film.frames(began_us, max(until_us, began_us), each.first)
        part["group"] += np.uint64(first)
        part["pts_us"] += first * gop_us
        return part

    @cached_property
    def by_track(self) -> list[Array]:
        """Frames of each track, in order."""
        return [self.frames[self.frames["track"] == k] for k in range(len(self.infos))]

    def encode_us(self, track: int) -> int:
        """From capture to the hand-over to the network, so far as the run lets it take time."""
        return self.infos[track].encode_us
