"""``farcast dev``: a network on one machine to try things on."""

from __future__ import annotations

from typing import Annotated, Any

import trio
from cyclopts import Parameter

from farcast.cli.demo import Demo
from farcast.cli.dev_network import DevNetwork, LinkConditions, dev_network
from farcast.cli.options import Flag, Json, check_seconds, interruptible, parse_namespace
from farcast.cli.output import notes, print_json, print_table
from farcast.clients.media.playback import PlaybackReport
from farcast.edge.logs import configure_logs
from farcast.errors import EXIT_OK, EXIT_PROMISE_BROKEN, EXIT_USAGE, UserError


def dev(
    *,
    demo: Flag = False,
    seconds: Annotated[float | None, Parameter(env_var="DEMO_SECONDS")] = None,
    loss: float = 3.0,
    burst: float = 3.0,
    delay: float = 40.0,
    jitter: float = 0.0,
    port: int = 4433,
    namespace: str = "live/demo",
    json: Json = False,
) -> int:
    """Run two edges on this machine with a bad link between them. Insecure: for trials only.

    Parameters
    ----------
    demo
        Publish a synthetic film at the first edge, watch it at the second, and show figures. The exit
        code is 0 only if every frame arrived intact, else 99.
    seconds
        End after so long.
    loss
        Packets that the link loses, per cent, each way.
    burst
        Mean length of a burst of losses, packets.
    delay
        Delay of the link each way, milliseconds.
    jitter
        Up to so many milliseconds more, at random.
    port
        Port of the first edge; the second has the tenth after it. 0 takes free ones.
    namespace
        Namespace of the demo's film.
    """
    check_seconds("--seconds", seconds)
    if not 0 <= loss <= 100:
        raise UserError(f"--loss {loss:g}: must be from 0 to 100 per cent", EXIT_USAGE)
    if not 0 <= port <= 65000:
        raise UserError(f"--port {port}: must be from 0 to 65000", EXIT_USAGE)
    if delay < 0 or jitter < 0:
        raise UserError("--delay and --jitter: must be 0 milliseconds or more", EXIT_USAGE)
    check_seconds("--seconds", seconds)
    conditions = LinkConditions(loss / 100, burst, delay, jitter)
    film = parse_namespace(namespace)
    configure_logs("error" if demo else "warning")

    async def main() -> int:
        async with dev_network(conditions, port) as network:
            _banner(network, conditions, film.path())
            if demo:
                return await _demo(Demo(network, film), seconds, json=json)
            if json:
                print_json(_ready(network))
            return await _wait(seconds)

    return trio.run(main)


async def _wait(seconds: float | None) -> int:
    until = trio.CancelScope() if seconds is None else trio.move_on_after(seconds)
    async with interruptible(until.cancel) as interruption:
        with until:
            await trio.sleep_forever()
    return interruption.exit_code


async def _demo(demo: Demo, seconds: float | None, *, json: bool) -> int:
    async with interruptible(demo.stop):
        report = await demo.run(seconds)
    if json:
        print_json(demo.figures(report))
    else:
        _print_figures(demo.figures(report), report)
    return EXIT_OK if demo.ledger.is_intact else EXIT_PROMISE_BROKEN


def _ready(network: DevNetwork) -> dict[str, object]:
    return {
        "event": "ready",
        "origin": str(network.origin.listen),
        "origin_ops": str(network.origin.ops),
        "egress": str(network.egress.listen),
        "egress_ops": str(network.egress.ops),
        "cert_sha256": network.public.sha256.hex(),
    }


def _banner(network: DevNetwork, conditions: LinkConditions, namespace: str) -> None:
    console = notes()
    digest = network.public.sha256.hex()
    console.print(
        f"Two edges on this machine; their link loses {conditions.loss:.1%} in bursts of "
        f"{conditions.loss_burst:g} and delays by {conditions.delay_ms:g} ms, each way."
    )
    console.print("INSECURE: throw-away certificates, anybody may publish and watch.", style="bold red")
    for name, node in (("publish at", network.origin), ("watch at", network.egress)):
        console.print(
            f"{name:<12} moqt://{node.listen}  https://{node.listen}/  ops http://{node.ops}/status.json"
        )
    console.print(f"{'namespace':<12} {namespace}")
    console.print(f"{'certificate':<12} {digest}")
    console.print("Next:")
    common = f"--namespace {namespace} --cert-sha256 {digest}"
    console.print(f"  farcast publish testsrc moqt://{network.origin.listen} {common}")
    console.print(f"  farcast watch moqt://{network.egress.listen} {common} --seconds 10")


def _print_figures(figures: dict[str, Any], report: PlaybackReport) -> None:
    verdict = "every frame arrived intact" if figures["passed"] else "NOT every frame arrived intact"
    faults = ", ".join(
        f"{figures[key]} {key.removeprefix('frames_')}"
        for key in figures
        if key.startswith("frames_") and figures[key]
    )
    p50, p99 = figures["glass_to_glass_p50_ms"], figures["glass_to_glass_p99_ms"]
    print_table(
        ("demo", ""),
        [
            ("result", verdict + (f": {faults}" if faults else "")),
            ("frames", f"{figures['frames']} in {figures['seconds']:.1f} s"),
            ("glass to glass", "-" if p50 is None else f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"),
            (
                "first picture",
                "-" if report.first_picture_ms is None else f"{report.first_picture_ms:.0f} ms",
            ),
            ("hop", f"{figures['hop_chunks_sent']} chunks, {figures['hop_chunks_repaired']} repaired"),
            ("stalls", f"{figures['stalls']}, {figures['stalled_seconds']:.2f} s"),
            ("bit rate", f"{(figures['bitrate'] or 0) / 1e6:.2f} Mbit/s"),
        ],
    )
