"""Films that several tests read; made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from farcast.clients.media.sources import open_source
from farcast.clients.media.testfilm import FilmOptions, write_test_film
from farcast.clients.media.tracks import Frame, TrackInfo

FilmMaker = Callable[..., Path]
FilmReader = Callable[[Path], tuple[tuple[TrackInfo, ...], list[Frame]]]


@pytest.fixture(scope="session")
def make_film(tmp_path_factory: pytest.TempPathFactory) -> FilmMaker:
    """Makes a short film with a given file name and options; the same one only once."""
    folder = tmp_path_factory.mktemp("films")
    made: dict[object, Path] = {}

    def make(name: str = "film.mp4", *, fragmented: bool = False, **options: object) -> Path:
        key = (name, fragmented, tuple(sorted(options.items())))
        if key not in made:
            made[key] = folder / f"{len(made)}-{name}"
            film = FilmOptions(**{"duration_s": 4.0, "gop_s": 1.0, **options})  # type: ignore[arg-type]
            write_test_film(made[key], film, fragmented=fragmented)
        return made[key]

    return make


@pytest.fixture(scope="session")
def read_film() -> FilmReader:
    """Reads a film through :func:`open_source`: its tracks and all its frames."""

    def read(path: Path) -> tuple[tuple[TrackInfo, ...], list[Frame]]:
        source = open_source(str(path), clock_us=lambda: 0)
        try:
            return source.tracks, list(source)
        finally:
            source.close()

    return read
