"""Every row of the table of hostile tokens against a real edge over real QUIC.

what is refused      the session's first request, by REQUEST_ERROR; the session itself ends 10 s later
what the client sees "token refused: REASON", nothing of the token in it
what is counted      farcast_tokens_refused_total{cause}, farcast_requests_unauthorized_total{action}
what is logged       nothing above debug (anybody can cause it), and nothing of the token at any level

Which attack of the project's reliability reference (3.4) is shown where; rows are those of
`tests/support/hostile_tokens.py`, each shown to the reader too:

a good token                 every test here: it is let in all the while
alg none                     rows "alg none", "alg none, other case", "alg missing"
public key as HMAC secret    rows "public key as HMAC secret", "public key in PEM as ...", "public JWK as ..."
mixed algorithms             rows "signed with RSA", "another algorithm", "as JSON instead of a line"
unknown crit                 row "unknown critical extension"
b64=false                    rows "payload not encoded", "b64 without crit"
expired, no exp              rows "expired", "no end"
nbf in the future            rows "begins later", "issued later"
exp as text, exp 1e308       rows "end as text", "end in 1e308 seconds", "end beyond every float", "NaN"
wrong aud, wrong iss         rows "another cluster", "another issuer", "the other trusted issuer"
payload is a list            row "payload is a list"
flipped bit                  rows "flipped bit", "signature cut off"
1 MB, deep JSON              rows "a megabyte" (to the reader alone: too large for SETUP), "deep JSON"
four parts, not ASCII        rows "four parts", "not ASCII"
kid as a path, too long      rows "key id that is a path", "key id of 300 characters"
names twice in the JSON      rows "header twice says who signed", "a claim twice"
clocks 120 s apart           rows "begins later", "expired";
                             test_an_issuers_clock_may_be_two_minutes_ahead (proto/access/test_tokens.py)
key rotated in mid-session   test_a_key_that_is_rotated_in_mid_session_ends_... (test_access.py)
prefix confusion of scopes   test_a_scope_of_one_room_opens_no_room_whose_name_begins_like_it
replay of a DPoP jti         DPoP is not spoken; a revoked token id is refused at once (test_access.py):
                             test_only_tokens_of_a_trusted_issuer_let_in_until_they_are_revoked
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path

import hostile_tokens
import trio
from access_tokens import CLUSTER, make_token
from edges import Edge, Edges
from hostile_tokens import ROOM, Row

from farcast.clients.roaming import Edges as EdgesFound
from farcast.clients.roaming import connection_to
from farcast.clients.running import running
from farcast.clients.server import Server, open_runtime
from farcast.edge.driver import Driver
from farcast.proto.access.tokens import Cause
from farcast.proto.client import Viewer, ViewerConfig
from farcast.proto.client import events as client
from farcast.proto.urls import parse_url
from farcast.remote import Trust

SECONDS_MAX = 20
AT_ONCE_MAX = 16
CARRIED_BYTES_MAX = 60_000
"""A value in SETUP has 65,535 bytes at most; more ends the session before anybody looks at it."""

TRACK = b"video"


def start_edge(edges: Edges, folder: Path) -> Edge:
    keys = [
        {"kty": "OKP", "crv": "Ed25519", "kid": key.key_id, "x": key.x, "issuer": key.issuer}
        for key in hostile_tokens.KEYS.values()
    ]
    (folder / "issuers.json").write_text(json.dumps({"keys": keys}))
    (folder / "edge.toml").write_text(f'[auth]\ncluster = "{CLUSTER}"\n')
    more = ("--config", str(folder / "edge.toml"), "--auth-keys", str(folder / "issuers.json"))
    return edges.start("edge", *more, "--log-level", "debug", auth="token")


async def answer(edge: Edge, token: bytes, path: str = "", scheme: str = "moqt") -> str:
    """What the edge says to a viewer: why not, or "waiting" where only the publisher is missing."""
    url = parse_url(f"{scheme}://{edge.listen}{path}")
    target = await Server(url, Trust(fingerprints=(bytes.fromhex(edge.cert_sha256),)), (18,)).target()
    config = ViewerConfig(connection_to(EdgesFound(target), token), ROOM)
    driver = Driver(open_runtime(target), Viewer(config))
    said: list[str] = []
    told = trio.Event()

    def poll() -> None:
        while (event := driver.engine.poll_event()) is not None:
            match event:
                case client.Failed(reason) | client.TrackEnded(reason=reason):
                    said.append(reason)
                case client.Waiting():
                    said.append("waiting")
                case _:
                    continue
            told.set()

    driver.on_progress(poll)
    async with running(driver):
        driver.call(lambda engine, now_us: engine.subscribe(TRACK, now_us))
        with trio.fail_after(SECONDS_MAX):
            await told.wait()
    return said[0].removeprefix("track video refused: ")


def answers(edge: Edge, rows: dict[str, Row]) -> dict[str, str]:
    found: dict[str, str] = {}
    limiter = trio.CapacityLimiter(AT_ONCE_MAX)

    async def ask(name: str) -> None:
        async with limiter:
            found[name] = await answer(edge, rows[name].token)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for name in rows:
                nursery.start_soon(ask, name)

    trio.run(main)
    return found


def refused_by_cause(edge: Edge) -> Counter[str]:
    text = edge.get("/metrics").text
    found = re.findall(r'farcast_tokens_refused_total\{cause="(\w+)"\} ([0-9.]+)', text)
    assert {cause for cause, _ in found} == set(Cause), "every cause is there from the start"
    return Counter({cause: int(float(value)) for cause, value in found if float(value)})


def test_every_hostile_token_is_refused_by_a_real_edge_counted_by_cause_and_logged_nowhere(
    edges: Edges, tmp_path: Path
) -> None:
    edge = start_edge(edges, tmp_path)
    table = hostile_tokens.table(int(time.time()))
    rows = {name: row for name, row in table.items() if 0 < len(row.token) <= CARRIED_BYTES_MAX}
    assert len(rows) > 90
    for name, reason in answers(edge, rows).items():
        assert reason.startswith("token refused: "), (name, reason)
        assert rows[name].said in reason, name
    assert refused_by_cause(edge) == Counter(row.cause.value for row in rows.values())
    metrics = edge.get("/metrics").text
    assert f'farcast_requests_unauthorized_total{{action="subscribe"}} {len(rows)}.0' in metrics

    good = hostile_tokens.good(int(time.time()))
    assert trio.run(answer, edge, good) == "waiting", "a good one is let in all the while"
    told = edges.log("edge") + metrics + edge.get("/status.json").text
    logged = [json.loads(line) for line in edges.log("edge").splitlines()]
    assert [line["event"][:23] for line in logged if line["level"] not in ("debug", "info")] == [
        "development certificate"
    ]
    for token in [good, *(row.token for row in rows.values())]:
        for part in re.findall(r"[A-Za-z0-9_-]{30,}", token.decode("utf-8", "replace")):
            assert part not in told


def test_every_row_and_every_test_that_the_list_of_attacks_names_is_there() -> None:
    assert __doc__ is not None
    listed = __doc__.partition("Which attack")[2]
    rows = {name for name in re.findall(r'"([^"]+)"', listed) if not name.endswith("...")}
    assert len(rows) > 25
    assert rows <= hostile_tokens.table(int(time.time())).keys()
    tests = set(re.findall(r"test_[a-z_]{20,}", listed))
    folder = Path(__file__).parent
    reader = folder.parent / "proto" / "access" / "test_tokens.py"
    text = "".join(file.read_text() for file in (Path(__file__), folder / "test_access.py", reader))
    assert {name for name in tests if f"def {name}" not in text} == set()


def test_a_token_in_the_url_counts_as_any_other_and_is_logged_nowhere(edges: Edges, tmp_path: Path) -> None:
    edge = start_edge(edges, tmp_path)
    now = int(time.time())
    good, bad = hostile_tokens.good(now), hostile_tokens.table(now)["expired"].token
    for scheme in ("moqt", "https"):
        assert trio.run(answer, edge, b"", f"/room?jwt={good.decode()}", scheme) == "waiting"
        refused = trio.run(answer, edge, b"", f"/room?jwt={bad.decode()}", scheme)
        assert refused == "token refused: expired (exp)"
        assert trio.run(answer, edge, b"", f"/room?token={good.decode()}", scheme) == "this needs a token"
    told = edges.log("edge") + edge.get("/metrics").text + edge.get("/status.json").text
    for token in (good, bad):
        for part in token.decode().split("."):
            assert part not in told


def test_a_scope_of_one_room_opens_no_room_whose_name_begins_like_it(edges: Edges, tmp_path: Path) -> None:
    edge = start_edge(edges, tmp_path)
    now = int(time.time())
    for namespace in ("live/room", "live/room12", "live/room1/alice", "li", "live1", "room1"):
        token = make_token(namespace, now_unix_s=now, iss=hostile_tokens.ISSUER)
        assert trio.run(answer, edge, token) == "no token allows this", namespace
    for namespace in ("live", "live/room1"):
        token = make_token(namespace, now_unix_s=now, iss=hostile_tokens.ISSUER)
        assert trio.run(answer, edge, token) == "waiting"
