"""Whatever happens to hops, plans and viewers, in any order: agents and datapaths agree, and it settles."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from .plans import Plans, fed_by, session_to, source_of, standbys_of
from .world import Host, World, events_of

NAMES = ("o", "a", "b", "c")
OTHERS = NAMES[1:]


class Model:
    """Four edges, a publisher at ``o``, and what may happen to them."""

    def __init__(self) -> None:
        self.world = World()
        self.edges = {name: self.world.planned_edge(name) for name in NAMES}
        self.plans = Plans(self.world, *self.edges.values())
        self.world.publisher(self.edges["o"], "live/a", "video")
        self.lists: dict[str, list[str]] = {name: ["o"] for name in OTHERS}
        self.viewers: dict[str, Host] = {}
        self.push("b", ("o", "c"))
        self.push("c", ("o", "b"))
        self.push("a", ("b", "c"))
        self.world.run(100)
        for name in OTHERS:
            self.watch(name)
        self.world.run(500)

    def push(self, name: str, relays: tuple[str, ...]) -> None:
        self.lists[name] = [relay for relay in dict.fromkeys(relays) if relay != name] or ["o"]
        routes = {name: {"o": upstreams} for name, upstreams in self.lists.items()}
        self.plans.push({"live/a": "o"}, routes)

    def watch(self, name: str) -> None:
        if name in self.viewers:
            self.viewers.pop(name).engine.close(self.world.now_us)
        else:
            self.viewers[name] = self.world.viewer(self.edges[name], "live/a", "video")

    def silence(self, name: str, other: str, silent: bool) -> None:
        for session in self.sessions(name, other):
            self.edges[name].reroutes.silence(session, silent)

    def crash(self, name: str, other: str) -> None:
        for session in self.sessions(name, other):
            self.edges[name].reroutes.silent.discard(session)
            self.edges[name].crash(session)

    def media(self, group: int) -> None:
        for edge in self.edges.values():
            for track in edge.tracks:
                edge.media(track, group, 0)

    def sessions(self, name: str, other: str) -> list[int]:
        edge = self.edges[name]
        return [s for s, wire in edge.wires.items() if s % 2 and wire.other(edge).name == other]

    def heal(self) -> None:
        for name in NAMES:
            for other in NAMES:
                if other != name:
                    self.silence(name, other, silent=False)


names = st.sampled_from(OTHERS)
pairs = st.tuples(st.sampled_from(OTHERS), st.sampled_from(NAMES)).filter(lambda pair: pair[0] != pair[1])
steps = st.one_of(
    st.tuples(st.just("watch"), names),
    st.tuples(st.just("push"), names, st.lists(st.sampled_from(NAMES), max_size=3).map(tuple)),
    st.tuples(st.just("silence"), pairs, st.booleans()),
    st.tuples(st.just("crash"), pairs),
    st.tuples(st.just("wait"), st.sampled_from([1, 3, 50, 700, 6_000])),
)


def take(model: Model, step: Any) -> None:
    match step:
        case ("watch", name):
            model.watch(name)
        case ("push", name, relays):
            model.push(name, relays)
        case ("silence", (name, other), silent):
            model.silence(name, other, silent)
        case ("crash", (name, other)):
            model.crash(name, other)
        case ("wait", ms):
            model.world.run(ms)


@settings(max_examples=150)
@given(st.lists(steps, max_size=14))
def test_after_any_history_every_viewer_is_fed_from_the_origin_by_edges_that_agree(
    history: list[Any],
) -> None:
    model = Model()
    for group, step in enumerate(history):
        model.media(group)
        take(model, step)
        model.world.run(2)
    model.heal()
    # Nothing that was put off is put off longer than this.
    model.world.run(400_000)
    assert_settled(model)


def assert_settled(model: Model) -> None:
    for name, edge in model.edges.items():
        tracks = edge.engine.status(model.world.now_us)["tracks"]
        watched = name in model.viewers
        if name == "o" or not tracks:
            assert name == "o" or not watched
            continue
        source = source_of(edge)
        assert source is not None
        assert_leads_to_origin(model, name)
        standbys = standbys_of(edge)
        assert source not in standbys
        ways = [standby["route"] for standby in tracks[0]["standbys"]]
        apart = [way for way in ways if source == "o" or source not in way]
        assert len(apart) <= 1, "one that does not fall with the source is enough"
        if not fed_by(edge):
            assert standbys == [], "nobody is fed"
    for name, viewer in model.viewers.items():
        assert len(model.edges[name].downstreams) >= 1
        events_of(viewer)


def assert_leads_to_origin(model: Model, name: str) -> None:
    way = [name]
    while way[-1] != "o":
        edge = model.edges[way[-1]]
        source = source_of(edge)
        assert source is not None
        assert source not in way, f"circle: {way} {source}"
        assert way[-1] in fed_by(model.edges[source]), f"{source} does not feed {way[-1]}"
        way.append(source)


def test_the_model_does_what_it_says() -> None:
    model = Model()
    assert (source_of(model.edges["a"]), standbys_of(model.edges["a"])) == ("b", ["c"])
    model.silence("a", "b", silent=True)
    model.world.run(200)
    assert source_of(model.edges["a"]) == "c"
    assert session_to(model.edges["a"], model.edges["c"]) in model.edges["a"].wires
    model.heal()
    model.world.run(60_000)
    assert source_of(model.edges["a"]) == "b"
    assert_settled(model)
