"""The edge's configuration: precedence, and error texts that say what, where and what to do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from farcast.edge.assembly import second_paths
from farcast.edge.config import RATES, ConfigError, ControlConfig, EdgeConfig, changed_fields, load_config
from farcast.edge.settings import CONGESTION_LIMITS, LIMITS_DATAPATH, Address
from farcast.proto._core import CongestionLimits, DatapathConfig
from farcast.proto.agent.config import MediaLimits
from farcast.proto.recovery.second_path import SecondPaths


def write(folder: Path, text: str) -> Path:
    file = folder / "edge.toml"
    file.write_text(text, encoding="utf-8")
    return file


def errors_of(*args: object, **kwargs: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(*args, **kwargs)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    return caught.value.errors


def test_dev_cert_alone_is_a_whole_configuration() -> None:
    flags = {"dev_cert": True, "auth.mode": "open"}
    assert EdgeConfig(dev_cert=True, auth_mode="open") == load_config(flags=flags)


def test_an_edge_that_would_let_nobody_in_is_refused() -> None:
    (error,) = errors_of(None, {}, {"dev_cert": True})
    assert error.startswith("[auth]: nobody could publish or watch here")
    keys = load_config(flags={"dev_cert": True, "auth.keys": __file__, "auth.cluster": "shows"})
    assert (keys.auth_mode, keys.auth_keys, keys.auth_cluster) == ("token", Path(__file__), "shows")
    (error,) = errors_of(None, {}, {"dev_cert": True, "auth.mode": "closed", "auth.keys": __file__})
    assert error == "--auth: mode: 'closed' is not one of token, open"


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        'dev_cert = true\nauth.mode = "open"\nlisten = "127.0.0.1:1"\nops = "127.0.0.1:1"\nregion = "eu"\n',
    )
    environ = {"FARCAST_EDGE_LISTEN": "127.0.0.1:2", "FARCAST_EDGE_OPS": "127.0.0.1:2"}
    config = load_config(file, environ, {"listen": "[::1]:3", "drafts": None})
    assert (Address("::1", 3), Address("127.0.0.1", 2), "eu") == (config.listen, config.ops, config.region)
    assert config.drafts == (18, 16)


def test_every_section_is_read_and_file_names_count_from_the_files_folder(tmp_path: Path) -> None:
    for name in ("a.pem", "a.key", "ca.pem"):
        (tmp_path / name).write_text("")
    file = write(
        tmp_path,
        """
        cert = "a.pem"
        key = "a.key"
        drafts = [16]
        [hop]
        cert = "a.pem"
        key = "a.key"
        ca = "ca.pem"
        [[upstream]]
        prefix = "live/a"
        url = "farcast://10.0.0.1:4433"
        [[upstream]]
        prefix = ""
        url = "https://relay.example/x"
        insecure = true
        [limits]
        sessions_max = 10
        queue_ms_max = 500
        [quirks]
        moq_net_from_group_start = false
        [auth]
        keys = "ca.pem"
        cluster = "shows"
        """,
    )
    config = load_config(file)
    assert (config.auth_mode, config.auth_keys, config.auth_cluster) == (
        "token",
        tmp_path / "ca.pem",
        "shows",
    )
    assert tmp_path / "a.pem" == config.cert
    assert config.hop is not None
    assert tmp_path / "ca.pem" == config.hop.ca
    assert [upstream.prefix.path() for upstream in config.upstreams] == ["live/a", ""]
    assert [upstream.url.target for upstream in config.upstreams] == ["hop", "webtransport"]
    assert config.upstreams[1].insecure
    assert config.limits_datapath == {"sessions_max": 10}
    assert config.limits_track == {"queue_ms_max": 500}
    assert not config.moq_net_from_group_start


def control_files(folder: Path) -> str:
    for name in ("a.pem", "a.key", "ca.pem"):
        (folder / name).write_text("")
    return 'dev_cert = true\nauth.mode = "open"\n[hop]\ncert = "a.pem"\nkey = "a.key"\nca = "ca.pem"\n'


def test_a_network_is_read_from_its_section(tmp_path: Path) -> None:
    text = (
        control_files(tmp_path)
        + """
        loss_max_permille = 80
        rtt_max_ms = 400
        [control]
        addresses = ["c1.example:7443", "[::1]:7443"]
        advertise = "203.0.113.7:443"
        public_url = "https://sin-1.example/live"
        provider = "hetzner"
        egress_bps_max = 10_000_000_000
        state_dir = "state"
        probe_bps = 8000
        [control.peer_addresses]
        fra-1 = "127.0.0.1:5001"
        """
    )
    config = load_config(write(tmp_path, text))
    assert (config.hop_loss_max_permille, config.hop_rtt_max_ms) == (80, 400)
    assert config.control == ControlConfig(
        addresses=("c1.example:7443", "[::1]:7443"),
        advertise="203.0.113.7:443",
        public_url="https://sin-1.example:443/live",
        provider="hetzner",
        egress_bps_max=10_000_000_000,
        state_dir=tmp_path / "state",
        probe_bps=8_000,
        peer_addresses={"fra-1": "127.0.0.1:5001"},
    )


def test_a_network_is_read_from_flags_and_environment(tmp_path: Path) -> None:
    control_files(tmp_path)
    hop = {f"hop.{key}": str(tmp_path / name) for key, name in (("cert", "a.pem"), ("key", "a.key"))}
    flags = {"dev_cert": True, **hop, "hop.ca": str(tmp_path / "ca.pem"), "control.addresses": ["c:1", "d:2"]}
    environ = {
        "FARCAST_EDGE_CONTROL_PEER_ADDRESSES": "fra-1=127.0.0.1:5001 iad-1=[::1]:5002",
        "FARCAST_EDGE_CONTROL_STATE_DIR": "/var/lib/farcast",
        "FARCAST_EDGE_CONTROL_ADDRESSES": "x:9",
    }
    control = load_config(None, environ, flags).control
    assert control is not None
    assert control.addresses == ("c:1", "d:2")
    assert control.peer_addresses == {"fra-1": "127.0.0.1:5001", "iad-1": "[::1]:5002"}
    assert control.state_dir == Path("/var/lib/farcast")
    assert load_config(None, {}, flags).hop_loss_max_permille == 150


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("addresses = []", "edge.toml:8: addresses: must be a list of HOST:PORT, not []"),
        ("addresses = ['c']", "edge.toml:8: addresses: 'c' is not HOST:PORT"),
        ("addresses = ['c:0']", "edge.toml:8: addresses: 'c:0': the port must be"),
        ("probe_bps = 5\naddresses = ['c:1']", "edge.toml:8: probe_bps: must be a whole number from 3000 to"),
        (
            "public_url = 'farcast://x'\naddresses = ['c:1']",
            "public_url: 'farcast://x' is a hop, clients speak",
        ),
        ("adress = 'c:1'", "edge.toml:8: unknown key 'adress' in [control]; did you mean 'addresses'?"),
        ("advertise = 'h:1'", "[control]: addresses is missing: where the control planes are (--control"),
        ("peer_addresses = { A = '1.2.3.4:1' }\naddresses = ['c:1']", "peer_addresses: 'A' is not a name"),
        ("peer_addresses = { a = 'host:1' }\naddresses = ['c:1']", "'host' is not an IP address"),
        ("peer_addresses = 3\naddresses = ['c:1']", "peer_addresses: must be node ids with addresses"),
        ("state_dir = '~nobody-of-this-name/x'\naddresses = ['c:1']", "state_dir: cannot use"),
    ],
)
def test_a_wrong_network_is_named_with_its_fault(tmp_path: Path, text: str, error: str) -> None:
    errors = errors_of(write(tmp_path, control_files(tmp_path) + "[control]\n" + text))
    assert any(error in line for line in errors), errors


def test_a_network_needs_an_identity_and_an_address_that_others_can_be_told() -> None:
    errors = errors_of(None, {}, {"dev_cert": True, "listen": "0.0.0.0:443", "control.addresses": ["c:1"]})
    assert [line.partition(":")[0] for line in errors] == [
        "[control] needs a [hop] section with cert, key and ca",
        "[control]",
    ]
    assert "--advertise HOST:PORT" in errors[1]


def test_upstream_flags_replace_those_of_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        'dev_cert = true\n[auth]\nmode = "open"\n[[upstream]]\nprefix = "a"\nurl = "moqt://h"\n'
        "insecure = true\n",
    )
    config = load_config(file, flags={"upstream": ["b=moqt://i:1", "c=moqt://j:2"]})
    assert [upstream.prefix.path() for upstream in config.upstreams] == ["b", "c"]
    assert not config.upstreams[0].insecure


def test_all_errors_come_at_once_with_line_and_nearest_key(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """lisen = "127.0.0.1:1"
ops = 4434
dev_cert = "yes"
cert = "nowhere.pem"
[limits]
session_max = 3
queue_ms_max = -1
[[upstream]]
url = "ftp://x"
[[upstream]]
prefx = "a"
[auth]
mode = "open"
""",
    )
    errors = errors_of(file, {"FARCAST_EDGE_LISTN": "x", "FARCAST_EDGE_DRAFTS": "17"})
    assert [
        f"{file}:1: unknown key 'lisen'; did you mean 'listen'?",
        f"{file}:6: unknown key 'session_max' in [limits]; did you mean 'sessions_max'?",
        f"{file}:11: unknown key 'prefx' in [upstream.1]; did you mean 'prefix'?",
        "environment FARCAST_EDGE_LISTN: no such setting; did you mean 'FARCAST_EDGE_LISTEN'?",
        f"{file}:2: ops: must be a string, not 4434",
        f"{file}:3: dev_cert: must be true or false, not 'yes'",
        f"{file}:4: cert: cannot read {tmp_path / 'nowhere.pem'}: No such file or directory",
        f"{file}:7: queue_ms_max: must be a whole number from 1 to 4294967295, not -1",
        f"{file}:9: url: 'ftp://x': scheme 'ftp' is not known; use moqt://, https:// or farcast://",
        "environment FARCAST_EDGE_DRAFTS: drafts: must be a list out of 18, 16, most wanted first, not [17]",
        "cert is given but key is not: set both, or dev_cert for a throw-away one",
        "[[upstream]] number 1: prefix is missing",
    ] == list(errors)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("listen = ", "edge.toml: not valid TOML: Invalid value (at end of document)"),
        ("dev_cert = true\nhop = 1", "edge.toml:2: [hop] is a section, not 1"),
        ("dev_cert = true\nupstream = 1", "edge.toml:2: upstreams are sections [[upstream]], not 1"),
        ("dev_cert = true\nca = 1", "edge.toml:2: unknown key 'ca'; 'ca' belongs into [hop]"),
        ("dev_cert = true\ndrafts = [18, 18]", "edge.toml:2: drafts: names a draft twice: [18, 18]"),
        ("dev_cert = true\nnode_id = 'Sin 1'", "edge.toml:2: node_id: 'Sin 1' is not a name"),
        ("dev_cert = true\nlisten = '4433'", "edge.toml:2: listen: '4433' is not HOST:PORT"),
        ("dev_cert = true\nlisten = 'edge.example:4433'", "'edge.example' is not an IP address"),
        ("dev_cert = true\nlisten = '::1:4433'", "write an IPv6 address in brackets"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, text: str, error: str) -> None:
    assert any(error in line for line in errors_of(write(tmp_path, text)))


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ({}, "no certificate: set cert and key"),
        ({"dev_cert": True, "upstream": ["a"]}, "--upstream: 'a' is not PREFIX=URL"),
        ({"dev_cert": True, "upstream": ["a=farcast://h"]}, "a farcast:// upstream needs a [hop] section"),
        ({"dev_cert": True, "listen": "h:99999"}, "--listen: listen: 'h:99999': the port must be"),
        ({"dev_cert": True, "hop.cert": __file__}, "[hop]: key is missing"),
        ({"dev_cert": True, "cert": __file__, "key": __file__}, "cert and dev_cert are both given"),
    ],
)
def test_wrong_flags_are_named_with_their_fault(flags: dict[str, object], error: str) -> None:
    assert any(error in line for line in errors_of(None, {}, flags))


@pytest.mark.parametrize(
    "text",
    [
        'cert = "~nobody-of-this-name/x"',
        'cert = "a\\u0000b"',
        "drafts = [16.0]",
        "limits.cache_ms_max = 4294967296",
        "limits.cache_bytes_max = 9007199254740993",
        "drain_ms_max = 1000000000000000000000",
        "a = " + 2000 * "[" + 2000 * "]",
    ],
)
def test_what_only_a_library_would_refuse_is_a_fault_like_others(tmp_path: Path, text: str) -> None:
    assert errors_of(write(tmp_path, text), {}, {"dev_cert": True})


@pytest.mark.parametrize("name", ["DRAFTS", "LIMITS_SESSIONS_MAX"])
def test_a_digit_that_is_no_number_is_a_fault_like_others(name: str) -> None:
    assert errors_of(None, {f"FARCAST_EDGE_{name}": "\u00b2"}, {"dev_cert": True})


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "none.toml"
    errors = errors_of(file, {}, {"dev_cert": True})
    assert (f"{file}: cannot read the configuration: No such file or directory",) == errors


def test_changed_fields_names_what_a_reload_would_change() -> None:
    old = EdgeConfig(dev_cert=True)
    assert changed_fields(old, EdgeConfig(dev_cert=True, region="eu", log_level="debug")) == [
        "region",
        "log_level",
    ]


def test_the_configuration_that_the_readme_shows_is_accepted_and_shows_the_defaults(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("```toml\n")[2].partition("```")[0]
    for name in ("edge.pem", "edge.key", "hop.pem", "hop.key", "hops-ca.pem", "relay-ca.pem", "issuers.json"):
        (tmp_path / name).write_text("")
    config = load_config(write(tmp_path, shown))
    defaults = DatapathConfig()
    assert config.limits_datapath == {name: getattr(defaults, name) for name in LIMITS_DATAPATH}
    assert config.limits_track == asdict(MediaLimits())
    for field in (
        "drafts",
        "log_level",
        "drain_ms_max",
        "moq_net_draft_16",
        "moq_net_from_group_start",
        "ops",
    ):
        assert getattr(config, field) == getattr(EdgeConfig(), field)


def test_congestion_control_is_configured_and_reaches_the_datapath(tmp_path: Path) -> None:
    config = load_config(
        write(
            tmp_path,
            "dev_cert = true\nauth.mode = 'open'\n"
            "[congestion]\ncontroller = 'media'\nqueue_delay_ms_max = 40\n",
        )
    )
    assert (config.congestion_controller, config.congestion_limits) == ("media", {"queue_delay_ms_max": 40})


def test_defaults_of_congestion_control_are_those_of_the_datapath() -> None:
    limits, datapath = CongestionLimits(), DatapathConfig()
    rates = [getattr(limits, name) for name in RATES]
    assert rates == sorted(rates)
    assert EdgeConfig().congestion_controller == datapath.congestion
    assert EdgeConfig().congestion_send_queue_ms == datapath.send_queue_ms
    for name, kind in CONGESTION_LIMITS.items():
        assert kind.from_toml(getattr(limits, name)) == getattr(limits, name)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("controller = 'vegas'", "controller: 'vegas' is not one of media, cubic, newreno, bbr3"),
        ("queue_delay_ms_max = 4", "queue_delay_ms_max: must be a whole number from 5 to 2000, not 4"),
        ("loss_max_permille = 1000", "loss_max_permille: must be a whole number from 20 to 900, not 1000"),
        ("rate_max_bps = 1000000", "rate_initial_bps = 2000000 is above rate_max_bps = 1000000: set both"),
        (
            "rate_min_bps = 9000000\nrate_initial_bps = 8000000",
            "rate_min_bps = 9000000 is above rate_initial_bps = 8000000: set both",
        ),
        (
            "controller = 'cubic'\noutage_ms = 10",
            "outage_ms is a limit of the controller media, which cubic is not",
        ),
    ],
)
def test_impossible_congestion_control_is_refused_with_the_reason(
    tmp_path: Path, lines: str, fault: str
) -> None:
    errors = errors_of(
        write(tmp_path, f"[congestion]\n{lines}\n"), {}, {"dev_cert": True, "auth.mode": "open"}
    )
    assert len(errors) == 1
    assert fault in errors[0]


def test_second_paths_are_configured_and_reach_the_agent(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    wanted = 'second_paths = "audio"\nsecond_path_audio_loss_permille = 5\nsecond_path_percent_max = 0\n'
    file.write_text(f"dev_cert = true\nauth.mode = 'open'\n[recovery]\n{wanted}", encoding="utf-8")
    assert second_paths(load_config(file)) == SecondPaths(which="audio", audio_loss=0.005, percent_max=0)
    assert (
        second_paths(load_config(write(tmp_path, "dev_cert = true\nauth.mode = 'open'\n"))) == SecondPaths()
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('second_paths = "some"', "off, audio, all, always"),
        ("second_path_clear_ms = 10", "100"),
        ("second_path_percent_max = 101", "100"),
    ],
)
def test_impossible_second_paths_are_refused_with_the_reason(tmp_path: Path, line: str, why: str) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(f"dev_cert = true\nauth.mode = 'open'\n[recovery]\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=why):
        load_config(file)
