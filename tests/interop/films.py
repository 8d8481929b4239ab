"""Films that peers publish, and what of a film arrived: the numbers burnt into its pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext

from farcast.clients.media.framecode import read_frame_number
from farcast.clients.media.testfilm import FilmOptions, write_test_film

from .results import expect

FRAGMENT_MS = 100
FILM_SECONDS = 30.0


def write_fragmented_film(path: Path) -> None:
    """The test film in fragments of `FRAGMENT_MS`, as a live encoder writes them."""
    whole = path.with_suffix(".whole.mp4")
    write_test_film(whole, FilmOptions(duration_s=FILM_SECONDS, gop_s=1.0, b_frames=0))
    flags = {"movflags": "empty_moov+default_base_moof", "frag_duration": str(FRAGMENT_MS * 1000)}
    with av.open(str(whole)) as source, av.open(str(path), "w", format="mp4", options=flags) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    whole.unlink()


def numbers_in_file(path: Path) -> list[int | None]:
    """The number in each picture of a film, in order of presentation."""
    with av.open(str(path)) as film:
        return [read_frame_number(picture.to_ndarray(format="gray8")) for picture in film.decode(video=0)]


def numbers_in_frames(description: bytes, frames: Sequence[bytes]) -> list[int | None]:
    """The number in each picture of H.264 frames with length prefixes; ``description`` is their avcC."""
    decoder = VideoCodecContext.create("h264", "r")
    decoder.extradata = description
    packets = [*(av.Packet(frame) for frame in frames), None]
    pictures = [picture for packet in packets for picture in decoder.decode(packet)]
    return [read_frame_number(picture.to_ndarray(format="gray8")) for picture in pictures]


def number_in_png(data: bytes) -> int | None:
    """The number in a PNG of exactly the picture."""
    with av.open(io.BytesIO(data), "r", format="png_pipe") as container:
        picture = next(container.decode(video=0))
    return read_frame_number(picture.to_ndarray(format="rgb24"))


def expect_consecutive(numbers: Sequence[int | None], count_min: int) -> str:
    """`Unmet` unless these are so many pictures, each the one after the last; a remark on them."""
    expect(len(numbers) >= count_min, f"only {len(numbers)} pictures, not {count_min}")
    first = numbers[0]
    expect(first is not None, "the first picture cannot be read")
    assert first is not None
    wanted = list(range(first, first + len(numbers)))
    wrong = [at for at, number in enumerate(numbers) if number != wanted[at]]
    expect(not wrong, f"pictures {wrong[:5]} of {len(numbers)} are not the next ones")
    return f"{len(numbers)} pictures, {first} to {numbers[-1]}"


def expect_moving(path: Path, count_min: int) -> str:
    """`Unmet` unless a film without numbers has so many pictures and they differ; a remark on it."""
    with av.open(str(path)) as film:
        pictures = [picture.to_ndarray(format="gray8").tobytes() for picture in film.decode(video=0)]
        size = f"{film.streams.video[0].width}x{film.streams.video[0].height}"
    with av.open(str(path)) as film:
        samples = sum(sound.samples for sound in film.decode(audio=0))
    expect(len(pictures) >= count_min, f"only {len(pictures)} pictures, not {count_min}")
    expect(len(set(pictures)) > count_min // 2, "the picture stands still")
    expect(samples > 0, "there is no sound")
    return f"{len(pictures)} pictures of {size}, {samples} samples of sound"
