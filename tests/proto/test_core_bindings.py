"""The boundary between Python and the Rust datapath: what the stub says is what the module does."""

from __future__ import annotations

import ast
import errno
import inspect
import re
import selectors
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

import farcast
from farcast.proto import _core
from farcast.proto._core import (
    CacheLimits,
    ClientTls,
    Command,
    CoreError,
    DatapathConfig,
    Event,
    HopPolicy,
    LargestCell,
    LinkConfig,
    QueueLimits,
    Runtime,
    SecondPathPolicy,
    ServerTls,
    UdpShaper,
    World,
)

# ---- The stub against the module ---------------------------------------------------------------

STUB = ast.parse(Path(farcast.__file__).with_name("proto").joinpath("_core.pyi").read_text())


def stub_classes(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class of the stub that exists at run time, with its dotted name."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not is_typing_only(node):
            yield prefix + node.name, node
            yield from stub_classes(node.body, f"{prefix}{node.name}.")


def is_typing_only(node: ast.ClassDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "type_check_only" for d in node.decorator_list)


def runtime_class(dotted: str) -> Any:
    found: Any = _core
    for name in dotted.split("."):
        found = getattr(found, name)
    return found


def functions(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}


def stub_parameters(function: ast.FunctionDef) -> dict[str, Any]:
    """Parameters without ``self``, in order, each with its default or ``inspect.Parameter.empty``."""
    positional = function.args.args if is_static(function) else function.args.args[1:]
    missing = len(positional) - len(function.args.defaults)
    defaults = [inspect.Parameter.empty] * missing + [literal(d) for d in function.args.defaults]
    parameters = {arg.arg: default for arg, default in zip(positional, defaults, strict=True)}
    for arg, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        parameters[arg.arg] = literal(default)
    if function.args.kwarg is not None:
        parameters[function.args.kwarg.arg] = inspect.Parameter.empty
    return parameters


def is_static(function: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)


def literal(node: ast.expr | None) -> Any:
    return inspect.Parameter.empty if node is None else ast.literal_eval(node)


def runtime_parameters(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in ("self", "cls")}


CLASSES = dict(stub_classes(STUB.body))
VARIANTS = [name for name in CLASSES if "." in name]


def test_stub_and_module_have_the_same_names() -> None:
    in_stub = {name for name in CLASSES if "." not in name}
    in_stub |= {
        n.target.id for n in STUB.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    in_module = {name for name in vars(_core) if not name.startswith("_")}

    assert {name for name in in_stub if not name.startswith("_")} == in_module


@pytest.mark.parametrize("dotted", CLASSES)
def test_stub_and_module_have_the_same_members(dotted: str) -> None:
    node, cls = CLASSES[dotted], runtime_class(dotted)
    nested = {item.name for item in node.body if isinstance(item, ast.ClassDef)}

    in_stub = {name for name in functions(node) if name != "__new__"} | nested

    assert {name for name in vars(cls) if not name.startswith("_")} == in_stub


@pytest.mark.parametrize("dotted", CLASSES)
def test_stub_and_module_have_the_same_signatures(dotted: str) -> None:
    for name, function in functions(CLASSES[dotted]).items():
        if function.decorator_list and not is_static(function):
            continue  # a property
        cls = runtime_class(dotted)
        actual = runtime_parameters(cls if name == "__new__" else getattr(cls, name))
        expected = stub_parameters(function)
        assert list(actual) == list(expected), name
        for parameter, default in actual.items():
            if default is not ...:  # a default that Rust cannot print is compared by its effect, below
                assert default == expected[parameter], f"{name}({parameter})"


# ---- Every command and event -------------------------------------------------------------------

# A value for every parameter without a default, by name; all differ from one another where they can.
SAMPLES: dict[str, Any] = {
    "policy": HopPolicy(
        [(1_000_000, 0, 0, 0, False, 9_000, 0, 0, False, 1, list(range(1, 17)), list(range(1, 17)))]
    ),
    "table": SecondPathPolicy(
        [(1_000_000, 0, 0, "keep", "on")],
        small_bps_max=1,
        tracks_max=2,
        percent_max=3,
        bps_max=4,
        clear_ms=500,
        runs_min=6,
    ),
    "session": 3,
    "on": True,
    "stream": _core.LOCAL_STREAM_BIT | 5,
    "alias": 7,
    "track": 11,
    "downstream": 13,
    "token": 2**64 - 1,
    "group": 17,
    "subgroup": 19,
    "object": 23,
    "start": (29, 31),
    "streams": 37,
    "code": 41,
    "from_session": 59,
    "from_alias": 61,
    "cause": "delay",
    "silent_us": 67,
    "gap_us": 71,
    "remote": "[2001:db8::1]:4433",
    "server_name": "edge.example",
    "target": "webtransport",
    "transport": "hop",
    "draft": 16,
    "kind": "request",
    "by": "timeout",
    "data": b"\x00data",
    "payload": b"\xffpayload",
    "reason": "because",
    "bidi": True,
    "incoming": True,
    "end_of_group": True,
    "reset": True,
    "silent": True,
    "starved": True,
    "downstreams": [43, 47],
    "snapshot": {"now_us": 53},
    "largest": LargestCell(),
}


def required(dotted: str) -> dict[str, Any]:
    """Arguments for the parameters of a variant that have no default."""
    parameters = stub_parameters(functions(CLASSES[dotted])["__new__"])
    names = [name for name, default in parameters.items() if default is inspect.Parameter.empty]
    return {name: ClientTls(insecure=True) if name == "tls" else SAMPLES[name] for name in names}


@pytest.mark.parametrize("dotted", VARIANTS)
def test_fields_read_back_as_given(dotted: str) -> None:
    given = required(dotted)

    record = runtime_class(dotted)(**given)

    assert {name: getattr(record, name) for name in given} == given


@pytest.mark.parametrize("dotted", VARIANTS)
def test_fields_not_given_have_the_defaults_of_the_stub(dotted: str) -> None:
    record = runtime_class(dotted)(**required(dotted))

    for name, default in stub_parameters(functions(CLASSES[dotted])["__new__"]).items():
        if default not in (inspect.Parameter.empty, ...):
            actual = getattr(record, name)
            assert (tuple(actual) if isinstance(actual, list) else actual) == default, name


@pytest.mark.parametrize("dotted", VARIANTS)
def test_a_variant_is_an_instance_of_its_family_and_matches_by_position(dotted: str) -> None:
    cls = runtime_class(dotted)
    record = cls(**required(dotted))

    assert type(record) is cls
    assert cls.__mro__[1] is (Command if dotted.startswith("Command.") else Event)
    assert cls.__match_args__ == tuple(stub_parameters(functions(CLASSES[dotted])["__new__"]))


@pytest.mark.parametrize("dotted", VARIANTS)
def test_variants_compare_by_value_and_name_their_fields(dotted: str) -> None:
    cls, given = runtime_class(dotted), required(dotted)
    record = cls(**given)

    assert record == cls(**given)
    assert record == mock.ANY
    assert record != SAMPLES
    assert repr(record).startswith(f"{dotted}({next(iter(given))}=")


def test_equality_looks_at_every_field() -> None:
    assert Command.Write(1, 2, b"x") != Command.Write(1, 2, b"x", fin=True)
    reset: Event = Event.StreamReset(1, 2, 3)
    assert reset != Event.StreamStopped(1, 2, 3)


def test_patterns_match_by_class_and_field() -> None:
    match Event.StreamData(4, 8, "control", b"setup", fin=True):
        case Event.StreamData(session=4, kind="control", data=data, fin=True):
            assert data == b"setup"
        case other:
            pytest.fail(f"not matched: {other}")


def test_long_payloads_are_cut_in_readable_forms() -> None:
    command = Command.Publish(track=1, group=0, subgroup=0, object=0, payload=b"\xaa" * 50_000)

    assert "<50000 bytes: " in repr(command)
    assert len(repr(command)) < 400


@pytest.mark.parametrize("record", [Command.Close(1), Event.HopSilent(1, True), LinkConfig(), CacheLimits()])
def test_records_are_immutable(record: Any) -> None:
    with pytest.raises(AttributeError):
        setattr(record, type(record).__match_args__[0], 9)
    with pytest.raises(TypeError, match="unhashable"):
        hash(record)


def test_bytes_keep_their_identity_inside_a_record() -> None:
    payload = b"\x01" * 10_000

    assert Command.Write(1, 2, payload).data is payload


def test_shared_values_keep_their_identity_inside_a_command() -> None:
    cell = LargestCell()

    assert Command.AddTrack(1, cell).largest is cell


# ---- Values that are refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "allowed"),
    [
        (
            lambda: Event.SessionOpened(0, "tcp", 16, True, "127.0.0.1:1"),  # type: ignore[arg-type]
            "'quic', 'webtransport', 'hop', 'control'",
        ),
        (lambda: Event.StreamData(0, 0, "data", b""), "'control', 'request'"),  # type: ignore[arg-type]
        (lambda: Event.SessionClosed(0, "us"), "'local', 'peer', 'timeout', 'tls', 'transport'"),  # type: ignore[arg-type]
        (
            lambda: Command.AddDownstream(1, 1, 1, 1, (0, 0), group_order="random"),  # type: ignore[arg-type]
            "'ascending', 'descending'",
        ),
        (lambda: DatapathConfig(drafts=[18, 17]), "16, 18"),
        (
            lambda: Event.UpstreamSwitched(1, 2, 3, 4, 5, "moon", 6),  # type: ignore[arg-type]
            "'silent', 'closed', 'loss', 'delay', 'starved', 'command'",
        ),
    ],
    ids=["transport", "kind", "by", "group_order", "drafts", "cause"],
)
def test_a_word_outside_the_vocabulary_is_refused_with_the_allowed_ones(make: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"is none of {allowed}"):
        make()


def test_an_address_that_is_none_is_refused_by_its_text() -> None:
    with pytest.raises(ValueError, match="'localhost' is no address"):
        Event.SessionOpened(0, "quic", 16, True, "localhost")
    with pytest.raises(ValueError, match=r"'127\.0\.0\.1' is no address"):
        Runtime("127.0.0.1", DatapathConfig())


@pytest.mark.parametrize("session", [-1, 2**64])
def test_an_id_outside_64_bits_is_refused(session: int) -> None:
    with pytest.raises(OverflowError):
        Command.Close(session)


def test_text_is_no_payload() -> None:
    with pytest.raises(TypeError, match="data"):
        Command.Write(1, 2, "text")  # type: ignore[arg-type]


# ---- Settings ----------------------------------------------------------------------------------


def test_core_and_package_are_of_one_version() -> None:
    assert farcast.__version__ == _core.CORE_VERSION


def test_local_stream_bit_is_bit_62() -> None:
    assert _core.LOCAL_STREAM_BIT == 1 << 62


@pytest.mark.parametrize("cls", [CacheLimits, QueueLimits, LinkConfig])
def test_small_settings_have_the_defaults_of_the_stub(cls: Any) -> None:
    made = cls()

    for name, default in stub_parameters(functions(CLASSES[cls.__name__])["__new__"]).items():
        assert getattr(made, name) == default, name


def test_config_without_arguments_has_usable_limits() -> None:
    config = DatapathConfig()

    assert (config.server, config.drafts, config.seed) == (None, [18, 16], None)
    limits = [
        name for name in functions(CLASSES["DatapathConfig"]) if name.endswith(("_max", "_ms", "_bytes"))
    ]
    assert limits
    assert config.silence_ms == 0, "only clients watch for silence"
    assert all(getattr(config, name) > 0 for name in limits if name != "silence_ms")


def test_config_takes_each_limit_by_its_name() -> None:
    config = DatapathConfig(drafts=[16], seed=5, idle_timeout_ms=1234, object_bytes_max=99)

    assert (config.drafts, config.seed, config.idle_timeout_ms, config.object_bytes_max) == (
        [16],
        5,
        1234,
        99,
    )
    assert config.sessions_max == DatapathConfig().sessions_max


def test_largest_cell_starts_empty_and_can_be_emptied() -> None:
    cell = LargestCell()
    assert cell.get() is None

    cell.set((2**62 - 1, 7))
    assert cell.get() == (2**62 - 1, 7)

    cell.set(None)
    assert cell.get() is None


def test_link_keeps_its_figures() -> None:
    link = LinkConfig(40_000, 5_000, 20_000_000, 100_000, 0.03, 4.0)

    assert link == LinkConfig(
        delay_us=40_000, jitter_us=5_000, rate_bps=20_000_000, queue_bytes=100_000, loss=0.03, loss_burst=4.0
    )
    assert repr(link).endswith("loss=0.03, loss_burst=4.0)")


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("delay_us", {"delay_us": 10**12}),
        ("rate_bps", {"rate_bps": 0}),
        ("queue_bytes", {"queue_bytes": 0}),
        ("loss", {"loss": 1.5}),
        ("loss", {"loss": float("nan")}),
        ("loss.burst", {"loss": 0.1, "loss_burst": 0.5}),
    ],
)
def test_an_impossible_link_is_refused_by_the_name_of_its_field(
    field: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=re.escape(field)):
        LinkConfig(**arguments)


# ---- TLS ---------------------------------------------------------------------------------------


class Identity:
    """A certificate of a throw-away authority, as DER."""

    def __init__(self, name: str) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert(name)
        key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        self.chain = [to_der(pem.bytes()) for pem in leaf.cert_chain_pems]
        self.key = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        self.root = to_der(authority.cert_pem.bytes())


def to_der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity("edge.example")


def test_tls_refuses_what_does_not_go_together(identity: Identity) -> None:
    with pytest.raises(ValueError, match="exactly one of roots, fingerprints and insecure"):
        ClientTls()
    with pytest.raises(ValueError, match="exactly one of roots, fingerprints and insecure"):
        ClientTls(roots=[identity.root], insecure=True)
    with pytest.raises(ValueError, match="chain and key go together"):
        ClientTls(insecure=True, chain=identity.chain)
    with pytest.raises(ValueError, match="hop_chain, hop_key and hop_roots go together"):
        ServerTls(identity.chain, identity.key, hop_roots=[identity.root])


def test_a_fingerprint_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 20"):
        ClientTls(fingerprints=[b"\x00" * 20])


def test_tls_takes_der_certificates_and_keys(identity: Identity) -> None:
    server = ServerTls(identity.chain, identity.key, identity.chain, identity.key, [identity.root])
    ClientTls(roots=[identity.root], chain=identity.chain, key=identity.key)
    ClientTls(fingerprints=[b"\x00" * 32])

    assert DatapathConfig(server=server).server is server


def test_tls_refuses_garbage_with_a_core_error(identity: Identity) -> None:
    assert issubclass(CoreError, ValueError)
    with pytest.raises(CoreError):
        ServerTls([b"no certificate"], identity.key)
    with pytest.raises(CoreError):
        ServerTls(identity.chain, b"no key")
    with pytest.raises(CoreError):
        ClientTls(roots=[b"no certificate"])


def test_a_hop_identity_is_renewed_by_what_can_be_used_and_only_where_there_is_one(
    identity: Identity,
) -> None:
    server = ServerTls(identity.chain, identity.key, identity.chain, identity.key, [identity.root])
    server.renew_hop(identity.chain, identity.key)
    with pytest.raises(CoreError):
        server.renew_hop(identity.chain, b"no key")
    with pytest.raises(CoreError, match="no hop identity"):
        ServerTls(identity.chain, identity.key).renew_hop(identity.chain, identity.key)


# ---- Shells ------------------------------------------------------------------------------------


def test_an_empty_world_runs_to_its_time_at_once() -> None:
    world = World(seed=1)

    assert world.run_until(60_000_000) == []
    assert world.now_us() == 60_000_000
    assert re.fullmatch("[0-9a-f]{16}", world.trace_hash())


def test_a_world_refuses_hosts_that_it_does_not_have() -> None:
    world = World(seed=1)

    with pytest.raises(ValueError, match="no host 3"):
        world.execute(3, [])
    with pytest.raises(ValueError, match="no link from 0 to 1"):
        world.link_stats(0, 1)
    with pytest.raises(ValueError, match="no host 0"):
        world.add_link(0, 1, LinkConfig())


def test_a_world_numbers_hosts_and_links_them() -> None:
    world = World(seed=1)
    hosts = [world.add_host(f"10.0.0.{n}:4433", DatapathConfig()) for n in (1, 2)]
    world.add_link(0, 1, LinkConfig(delay_us=1_000))
    world.set_link(0, 1, LinkConfig(delay_us=2_000))
    world.set_link_up(0, 1, False)

    assert hosts == [0, 1]
    assert set(world.link_stats(0, 1)) == typed_dict_keys("LinkStatsDict")
    with pytest.raises(ValueError, match="already"):
        world.add_host("10.0.0.1:4433", DatapathConfig())


def test_a_snapshot_is_a_dictionary_of_the_stubs_shape() -> None:
    world = World(seed=1)
    world.add_host("10.0.0.1:4433", DatapathConfig())
    world.execute(0, [Command.Snapshot(token=7)])

    ((at_us, host, event),) = world.run_until(1_000)

    assert isinstance(event, Event.Snapshot)
    assert (at_us, host, event.token) == (0, 0, 7)
    assert set(event.snapshot) == typed_dict_keys("SnapshotDict")
    assert set(event.snapshot["totals"]) == typed_dict_keys("TotalsDict")
    assert (event.snapshot["sessions"], event.snapshot["downstreams"]) == ([], [])


def typed_dict_keys(name: str) -> set[str]:
    node = next(n for n in STUB.body if isinstance(n, ast.ClassDef) and n.name == name)
    return {i.target.id for i in node.body if isinstance(i, ast.AnnAssign) and isinstance(i.target, ast.Name)}


def test_a_runtime_answers_a_command_with_an_event_and_closes_twice() -> None:
    runtime = Runtime("127.0.0.1:0", DatapathConfig())
    try:
        runtime.execute([Command.Snapshot(token=7)])
        events = wait_for_events(runtime)
        assert [type(event) for event in events] == [Event.Snapshot]
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", runtime.local_addr)
        assert set(runtime.stats()) == typed_dict_keys("IoStatsDict")
        assert runtime.now_us() > 0
    finally:
        runtime.close()
    runtime.close()


def wait_for_events(runtime: Runtime) -> list[Event]:
    with selectors.DefaultSelector() as selector:
        selector.register(runtime.event_fd, selectors.EVENT_READ)
        assert selector.select(timeout=10), "no event within 10 s"
    return runtime.drain_events(100)


def test_a_busy_port_is_an_os_error_with_its_number() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=re.escape(address)) as raised:
            Runtime(address, DatapathConfig())

    assert raised.value.errno == errno.EADDRINUSE


def test_a_shaper_binds_and_counts() -> None:
    shaper = UdpShaper("127.0.0.1:0", "127.0.0.1:9", LinkConfig(), LinkConfig(delay_us=40_000))
    try:
        stats = shaper.stats()
        assert set(stats) == typed_dict_keys("ShaperStatsDict")
        assert set(stats["forward"]) == typed_dict_keys("LinkStatsDict")
    finally:
        shaper.close()
    shaper.close()
