"""``farcast dev``: a network on one machine to try things on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import trio
from cyclopts import Parameter

from farcast.cli.cluster import Cluster, ClusterOptions, open_cluster
from farcast.cli.demo import Demo
from farcast.cli.dev_world import (
    BURST,
    EGRESSES,
    LOSS,
    LOSS_FAR,
    ORIGIN,
    PLACES,
    Conditions,
    dev_links,
)
from farcast.cli.options import Flag, Json, check_seconds, interruptible, parse_namespace
from farcast.cli.output import notes, print_json, print_table
from farcast.errors import EXIT_OK, EXIT_PROMISE_BROKEN, EXIT_USAGE, UserError

PORT_MAX = 65_000


def dev(
    *,
    demo: Flag = False,
    seconds: Annotated[float | None, Parameter(env_var="DEMO_SECONDS")] = None,
    loss: float = 100 * LOSS,
    loss_far: float = 100 * LOSS_FAR,
    burst: float = BURST,
    cut_after: float = 8.0,
    port: int = 4433,
    namespace: str = "live/demo",
    json: Json = False,
) -> int:
    """Run a control plane and edges of six regions on this machine, with bad links between them.

    Singapore, Jakarta, Dubai, Frankfurt, London and Virginia, as far apart as they are. Insecure: for trials
    only.

    Example: farcast dev --demo --loss 2

    Parameters
    ----------
    demo
        Publish a synthetic film in Jakarta, watch it in Frankfurt, Dubai and Virginia, show figures, routes
        and why; then cut a link that carries it. The exit code is 0 only if every frame arrived intact,
        else 99.
    seconds
        End after so long.
    loss
        Packets that every link loses, per cent, each way.
    loss_far
        The same for Jakarta's own links to other continents.
    burst
        Mean length of a burst of losses, packets.
    cut_after
        Seconds from the first routes to the cut.
    port
        Port of the first edge; each further one has the tenth after it. 0 takes free ones.
    namespace
        Namespace of the demo's film.
    """
    check_seconds("--seconds", seconds)
    check_seconds("--cut-after", cut_after)
    for option, share in (("--loss", loss), ("--loss-far", loss_far)):
        if not 0 <= share <= 100:
            raise UserError(f"{option} {share:g}: must be from 0 to 100 per cent", EXIT_USAGE)
    if not 0 <= port <= PORT_MAX:
        raise UserError(f"--port {port}: must be from 0 to {PORT_MAX}", EXIT_USAGE)
    links = dev_links(Conditions(loss / 100, loss_far / 100, burst))
    film = parse_namespace(namespace)

    async def main(folder: Path) -> int:
        async with open_cluster(PLACES, links, folder, ClusterOptions(port=port)) as cluster:
            _banner(cluster, film.path())
            if demo:
                return await _demo(Demo(cluster, film, cut_after), seconds, json=json)
            if json:
                print_json(_ready(cluster))
            return await _wait(seconds)

    with tempfile.TemporaryDirectory(prefix="farcast-dev-", ignore_cleanup_errors=True) as folder:
        return trio.run(main, Path(folder))


async def _wait(seconds: float | None) -> int:
    until = trio.CancelScope() if seconds is None else trio.move_on_after(seconds)
    async with interruptible(until.cancel) as interruption:
        with until:
            await trio.sleep_forever()
    return interruption.exit_code


async def _demo(demo: Demo, seconds: float | None, *, json: bool) -> int:
    async with interruptible(demo.stop):
        await demo.run(seconds)
    if json:
        print_json(demo.figures())
    else:
        _print_figures(demo)
    return EXIT_OK if demo.has_passed else EXIT_PROMISE_BROKEN


def _ready(cluster: Cluster) -> dict[str, object]:
    return {
        "event": "ready",
        "state_dir": str(cluster.state_dir),
        "edges": {
            place.node_id: {
                "listen": cluster.listen(place.node_id),
                "ops": cluster.edges[place.node_id].ready["ops"],
                "cert_sha256": cluster.cert_sha256(place.node_id),
            }
            for place in cluster.places
        },
    }


def _banner(cluster: Cluster, namespace: str) -> None:
    console = notes()
    console.print("A control plane and edges of six regions on this machine, with the links between them.")
    console.print("INSECURE: throw-away certificates, anybody may publish and watch.", style="bold red")
    for place in cluster.places:
        listen, ops = cluster.listen(place.node_id), cluster.edges[place.node_id].ready["ops"]
        console.print(
            f"{place.node_id:<8} moqt://{listen}  https://{listen}/  ops http://{ops}/status.json  "
            f"certificate {cluster.cert_sha256(place.node_id)}"
        )
    console.print(f"namespace {namespace}")
    console.print("Next:")
    for verb, node_id, more in (("publish testsrc", ORIGIN, ""), ("watch", EGRESSES[0], " --seconds 10")):
        console.print(
            f"  farcast {verb} moqt://{cluster.listen(node_id)} --namespace {namespace} "
            f"--cert-sha256 {cluster.cert_sha256(node_id)}{more}"
        )
    for verb in ("status", "links", "routes", f"why {ORIGIN} {EGRESSES[0]}"):
        console.print(f"  farcast {verb} --state-dir {cluster.state_dir}")


def _print_figures(demo: Demo) -> None:
    figures = demo.figures()
    verdict = "every frame arrived intact" if demo.is_intact else "NOT every frame arrived intact"
    rows = [
        ("result", verdict if demo.has_passed or not demo.is_intact else f"{verdict}, but NO link was cut")
    ]
    for node_id, seat in figures["viewers"].items():
        rows.append((node_id, _seat_text(seat)))
    rows.append(("hops", f"{demo.hops.chunks_sent} chunks, {demo.hops.chunks_repaired} repaired"))
    for cut in figures["cuts"]:
        gaps = ", ".join(f"{node_id} {gap_ms} ms" for node_id, gap_ms in cut["gap_ms"].items())
        rows.append((f"cut {' - '.join(cut['link'])}", f"longest time without a picture: {gaps}"))
    print_table(("demo", ""), rows)


def _seat_text(seat: dict[str, Any]) -> str:
    faults = [
        f"{seat[key]} {key.removeprefix('frames_')}"
        for key in seat
        if key.startswith("frames_") and seat[key]
    ]
    p50, p99 = seat["glass_to_glass_p50_ms"], seat["glass_to_glass_p99_ms"]
    latency = "-" if p50 is None else f"p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    first = "-" if seat["first_picture_ms"] is None else f"{seat['first_picture_ms']:.0f} ms"
    return "; ".join(
        [
            f"{seat['frames']} frames",
            *faults,
            f"glass to glass {latency}",
            f"first picture {first}",
            f"{seat['stalls']} stalls, {seat['stalled_seconds']:.2f} s",
        ]
    )
