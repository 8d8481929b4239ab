"""Films for tests: the synthetic picture and tone as a file, the same bytes every time.

H.264 with B-frames and closed GOPs, and AAC; the frame number is in the pixels (:mod:`framecode`). FFmpeg
writes the file, so any container it knows will do: MP4, fragmented MP4, MPEG-TS, Matroska.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags

from farcast.clients.media.codecs import OPUS_RATE
from farcast.clients.media.picture import Painter
from farcast.clients.media.testsrc import make_tone

_AAC_FRAME_SAMPLES = 1024


@dataclass(frozen=True, slots=True)
class FilmOptions:
    """What the film is like. Without ``video`` or ``audio`` it has one track only."""

    duration_s: float = 60.0
    width: int = 512
    height: int = 288
    framerate: int = 30
    gop_s: float = 2.0
    b_frames: int = 2
    bitrate: int = 400_000
    video: bool = True
    audio: bool = True
    video_codec: str = "libx264"
    audio_codec: str = "aac"


def write_test_film(
    path: str | Path,
    options: FilmOptions | None = None,
    *,
    fragmented: bool = False,
    container: str | None = None,
) -> None:
    """Write a film. ``container`` is FFmpeg's name of the format, by default after the path's ending."""
    options = options or FilmOptions()
    flags = {"movflags": "empty_moov+default_base_moof+frag_keyframe"} if fragmented else {}
    with av.open(str(path), "w", format=container, options={"fflags": "bitexact", **flags}) as output:
        video = _add_video(output, options) if options.video else None
        audio = _add_audio(output, options) if options.audio else None
        painter = Painter(options.width, options.height)
        tone, samples = make_tone(), 0
        for number in range(int(options.duration_s * options.framerate)):
            if video is not None:
                output.mux(video.encode(_picture(painter, number, options)))
            while audio is not None and samples * options.framerate < (number + 1) * OPUS_RATE:
                output.mux(audio.encode(_sound(tone, samples)))
                samples += _AAC_FRAME_SAMPLES
        for stream in (video, audio):
            if stream is not None:
                output.mux(stream.encode(None))


def _add_video(output: Any, options: FilmOptions) -> Any:
    stream = output.add_stream(options.video_codec, rate=options.framerate)
    stream.width, stream.height, stream.pix_fmt = options.width, options.height, "yuv420p"
    stream.codec_context.flags |= Flags.bitexact
    stream.bit_rate = options.bitrate
    gop = max(round(options.gop_s * options.framerate), 1)
    stream.gop_size = gop
    if options.video_codec == "libx264":
        params = f"keyint={gop}:min-keyint={gop}:scenecut=0:threads=1:b-adapt=0:open-gop=0"
        stream.options = {"preset": "ultrafast", "bf": str(options.b_frames), "x264-params": params}
    return stream


def _add_audio(output: Any, options: FilmOptions) -> Any:
    stream = output.add_stream(options.audio_codec, rate=OPUS_RATE)
    stream.layout = "stereo"
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _picture(painter: Painter, number: int, options: FilmOptions) -> av.VideoFrame:
    image = painter.paint(number, number * 1_000_000 // options.framerate)
    image.pts, image.time_base = number, Fraction(1, options.framerate)
    return image


def _sound(tone: np.ndarray[Any, np.dtype[Any]], start: int) -> av.AudioFrame:
    at = np.arange(start, start + _AAC_FRAME_SAMPLES) % OPUS_RATE
    mono = tone[0, at * 2].astype(np.float32) / 32768
    frame = av.AudioFrame.from_ndarray(np.stack([mono, mono]), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = OPUS_RATE, start, Fraction(1, OPUS_RATE)
    return frame
