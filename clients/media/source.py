"""What every source of frames offers to the shell that publishes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from farcast.clients.media.tracks import Frame, TrackInfo


class Source(Protocol):
    """Tracks, and their frames in the order in which they are due.

    A shell paces like this: wait until its own start plus :meth:`next_time_us`, then take the frame. A live
    source draws a frame only when it is taken, so its capture time is the moment it was due.
    """

    tracks: tuple[TrackInfo, ...]
    """The tracks that are carried."""
    skipped: tuple[str, ...]
    """A line for each stream of the input that is not carried, saying why."""
    encoded_bps: int
    """Rate of the pictures that are encoded here, in all renditions, which can follow the uplink; else 0."""

    def next_time_us(self) -> int | None:
        """When the next frame is due, in microseconds of media time from the first one; None at the end."""

    def __iter__(self) -> Iterator[Frame]:
        """The source itself."""

    def __next__(self) -> Frame:
        """The next frame. Raises :class:`MediaError` where the input broke off, after all that came."""

    def set_rate_share(self, share: float) -> None:
        """Encode pictures at this share of the rates that were asked for, from the next one on; may be called
        from another thread. Without effect where nothing is encoded."""

    def close(self) -> None:
        """Free files and codecs; taking frames afterwards is an error."""
