"""What the simulator adds to the network's time between light and light, and how its players wait.

None of it is simulated: camera, encoder, decoder and screen are stated times, the same in every scenario and
for every way of delivery, so they shift figures and do not decide comparisons.

Calibrated on 2026-11-25 on two virtual cores (x86-64) that others used, too, at a load of 8 to 9:

- ``python bench/player_times.py``: from capture to encoded frame, p50 12.0 ms at 1280x720 (painting the
  synthetic picture included) and 1.8 ms at 640x360; to the decoded picture, whose burnt-in number was read,
  another 3.0 ms and 0.4 ms.
- ``farcast dev --demo --seconds 30 --loss 0 --loss-far 0 --json``, real processes and sockets: capture to
  arrival p50 123.4 ms over a path of 120.5 ms (Jakarta to Virginia) and 59.1 ms over 56.0 ms (Jakarta to
  Dubai). Of the 3 ms more, 1.8 ms are the encoding of its 640x360 film; 1.2 ms are two edges, two shells and
  four sockets, which the simulator has at no cost.
"""

from __future__ import annotations

from typing import Final

CAPTURE_US: Final = 17_000
"""From light to the time stamp of a picture: half an exposure of 1/60 s (8.3 ms, the middle of what is seen)
and a rolling shutter's read-out of about as long, for a camera at 30 pictures a second."""

ENCODE_VIDEO_US: Final = 12_000
"""From the time stamp to the encoded picture of 720 lines: the measured p50 of our own encoder (libx264,
``ultrafast``, ``zerolatency``: no look-ahead, no B-frames). In the simulation the publisher's engine gets a
frame that much later than it was captured, so it is part of ``object_latency``."""

ENCODE_AUDIO_US: Final = 22_500
"""Opus in 20 ms frames at low delay: the frame has to be full before it can be encoded (20 ms), and looks
ahead 2.5 ms (RFC 6716, section 2.1.4)."""

DECODE_VIDEO_US: Final = 5_000
"""One picture through a decoder, somewhat above the 3.0 ms measured in software at 720 lines; also how fast a
viewer who joins late gets through the pictures before the one that is on now."""

DECODE_AUDIO_US: Final = 1_000
"""One frame of sound through a decoder."""

REFRESH_US: Final = 16_667
"""A screen of 60 Hz shows one picture in that time."""

RENDER_US: Final = 25_000
"""From the decoded picture to its light on a screen of 60 Hz: half a refresh on average until the next one
begins (8.3 ms) and one in the compositor (16.7 ms). The response of the panel is left out."""

MICROPHONE_US: Final = 10_000
"""From the air to the time stamp of a frame of sound: one period of a system's shared audio engine,
which hands over what it has recorded every 10 ms (WASAPI's shared mode, and the frames of WebRTC)."""

SPEAKER_US: Final = 20_000
"""From a decoded sample's turn to the air: two such periods, one that is being played and one that is filled.
Drivers, effects and anything wireless come on top, in this world as nowhere."""

# ---- Our own viewers: an adaptive jitter buffer, see playout.py

BUFFER_SAMPLE_US: Final = 500_000
"""A buffer looks at the latest frame of each half second, as NetEq does (``resample_interval_ms``)."""

BUFFER_QUANTILE: Final = 0.95
"""Share of half seconds, by weight, without any late frame that the buffer aims at; NetEq's
(``quantile``)."""

BUFFER_FORGET: Final = 0.96
"""What a half second's weight keeps with every further one: a time constant of twelve seconds. NetEq keeps
0.983 (29 s), but of delays relative to the fastest of the last two seconds; ours are relative to the fastest
so far, so that a longer route is learned once and not twice, and have to be forgotten sooner. One bad half
second weighs 4 % and is an accident; what comes back within seven seconds weighs more than 5 % and is waited
for (NetEq: within eight)."""

BUFFER_SAMPLES_MAX: Final = 128
"""Half seconds that are remembered; the weight of the oldest is below 1 % of the newest's."""

BUFFER_MARGIN_US: Final = 10_000
"""Added for the scheduling of the viewer's machine, as WebRTC's video jitter estimator does
(``OPERATING_SYSTEM_JITTER``)."""

BUFFER_START_US: Final = 80_000
"""Waited for at the start, while nothing is known; NetEq's ``kStartDelayMs``."""

BUFFER_START_SAMPLES: Final = 3
"""Half seconds at the start from which nothing is learned: what happens then is about joining. NetEq forgets
them within some seconds instead (``start_forget_weight``)."""

BUFFER_MAX_US: Final = 1_000_000
"""More than this above the fastest frame is never waited for: then live is preferred to complete. What comes
later than that comes after an outage, and says nothing about jitter."""

OUTAGE_US: Final = 400_000
"""Nothing at all for so long, neither sound nor picture, is an outage, and what was captured in it says
nothing about jitter either. Clients look for another edge after 600 ms of it."""

LATE_MAX_US: Final = 500_000
"""Pictures later than this are not shown while others wait behind them; WebRTC's
(``kOldRenderTimestampMS``)."""

RATE_CHANGE_MAX: Final = 0.05
"""How much faster or slower than life a player plays to change its delay: 5 %, which nobody hears once the
pitch is kept, against NetEq's time-stretching (up to a pitch period at a time) and WebRTC video's 100 ms a
second (``kDelayMaxChangeMsPerS``)."""

CATCH_UP_RATE_MAX: Final = 0.10
"""The same after a join behind a backlog, for as long as the player is far behind (``CATCH_UP_US``): what
Shaka's live catch-up plays at (``maxPlaybackRate`` 1.1)."""

CATCH_UP_US: Final = 100_000
"""More than this above what a player aims at is far behind."""

START_WAIT_US: Final = 1_000_000
"""Sound waits so long at a join for the first live picture."""

START_BEHIND_MAX_US: Final = 300_000
"""And so much for pictures that are behind: with more, live would be late for seconds."""

# ---- Stock viewers: @moq/watch, see playout.py

STOCK_BUFFER_US: Final = 100_000
"""The jitter buffer of @moq/watch where it knows no round trip (``FALLBACK_JITTER``): PROBE, from which it
would learn one, is in moq-lite, not in the drafts of MoQT that edges speak."""

STOCK_RETRY_MS: Final = 1_000
"""What @moq/net waits after an attempt to connect that failed, or a connection that ended; it doubles each
time (``Reload.delay.initial`` and ``multiplier``: moq-dev/moq, js/net/src/connection/reload.ts at fb3b1443).
Ours is spread over 50 to 100 % of that, as our engine does it."""

STOCK_RETRY_MS_MAX: Final = 30_000
"""The longest such wait (``Reload.delay.max``)."""

STOCK_CONNECT_MS_MAX: Final = 300_000
"""After so long without a first connection it gives up (``Reload.delay.timeout``). An attempt ends after
10 s, as one of Chromium does (``kMaxTimeForCryptoHandshakeSecs``) and one of our datapath."""

# ---- What is counted

LIVE_TAIL_US: Final = 2_000_000
"""Frames captured in the last two seconds of a viewer's time may still be under way: not missed yet."""

PICTURE_GRACE_US: Final = 5_000_000
"""A viewer that leaves within five seconds without a picture says nothing about the first picture."""

FIRST_FREEZE_US: Final = 1_000_000
"""A first picture that stands for a second without another one is frozen. W3C's rule needs an average of
pictures before it; a player that shows its first picture at once may wait a buffer's length for the next."""

HD_HEIGHT: Final = 720
"""Lines from which on a picture is HD."""

RESUME_WINDOW_US: Final = 30_000_000
"""How long after a fault a gap can be its consequence, unless another fault comes before."""

RESUME_BEGINS_US: Final = 2_000_000
"""A gap that begins later than this after a fault is not its work: what was under way has long come."""

RESUME_GAP_US: Final = 100_000
"""A gap in the pictures' arrival from which on a viewer counts as hit by a fault: three frames at 30 a
second, and what a change of path costs anyway between continents."""

SKEW_WINDOW_US: Final = 1_000_000
"""A/V skew is the mean of a second. The tolerance of ITU-R BT.1359 is about sound that is off for a while; a
single picture that came late is a matter for stalls."""
