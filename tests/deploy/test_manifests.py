"""Units, compose file and Kubernetes manifests: valid, hardened, and patient enough for a drain."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from farcast.control_plane.config import SCHEMA
from farcast.control_plane.config import load_config as load_control_config
from farcast.edge.config import EdgeConfig, load_config
from farcast.proto.joining.tokens import JoinToken

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = ("farcast-edge", "farcast-control")
KUBERNETES_VERSION = "1.31"
EXPOSURE_MAX = 2.0
"""Of systemd-analyze security, 0 to 10; below 2 it says "OK"."""


def unit(name: str, suffix: str = ".service") -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / f"{name}{suffix}").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            settings.setdefault(key, []).append(value)
    return settings


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_an_edge_is_given_longer_to_stop_than_it_drains() -> None:
    assert seconds(unit("farcast-edge")["TimeoutStopSec"][0]) * 1_000 > EdgeConfig().drain_ms_max * 2


@pytest.mark.parametrize("name", UNITS)
def test_units_wait_for_ready_and_watch(name: str) -> None:
    settings = unit(name)
    assert settings["Type"] == ["notify"]
    assert settings["WatchdogSec"] == ["30s"]
    assert settings["DynamicUser"] == ["yes"]
    assert settings["StateDirectory"] == [name]
    assert "LimitNOFILE" in settings


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_units_and_finds_them_tight(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.service"
    text = (DEPLOY / "systemd" / file.name).read_text()
    file.write_text(text.replace("/opt/farcast/bin/farcast", "/bin/true"))  # it has to exist
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(file)]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(r"exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert found is not None, judged.stdout + judged.stderr
    assert float(found[1]) < EXPOSURE_MAX


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_drop_in_for_consul_changes_nothing_of_the_unit_but_the_token(tmp_path: Path) -> None:
    folder = tmp_path / "farcast-control.service.d"
    folder.mkdir()
    for name in ("farcast-control.service", "farcast-control.service.d/consul.conf"):
        text = (DEPLOY / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/farcast/bin/farcast", "/bin/true"))
    command = ["systemd-analyze", "verify", str(tmp_path / "farcast-control.service")]
    verified = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    told = verified.stderr.replace("Unit consul.service not found.", "")
    assert (verified.returncode, told.strip()) == (0, "")
    plain = unit("farcast-control")["ExecStart"]
    reset, *dropped = unit("farcast-control.service.d/consul.conf", suffix="")["ExecStart"]
    assert reset == ""
    assert dropped == [f"{plain[0]} --consul-token-file ${{CREDENTIALS_DIRECTORY}}/consul.token"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(("name", "drop_in"), [("farcast-control", "ca"), ("farcast-edge", "joined")])
def test_systemd_takes_the_drop_ins(name: str, drop_in: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.service.d").mkdir()
    for file in (f"{name}.service", f"{name}.service.d/{drop_in}.conf"):
        text = (DEPLOY / "systemd" / file).read_text()
        (tmp_path / file).write_text(text.replace("/opt/farcast/bin/farcast", "/bin/true"))
    command = ["systemd-analyze", "verify", str(tmp_path / f"{name}.service")]
    verified = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_an_edge_that_joins_by_token_is_given_no_hop_key_and_its_token_in_a_file(tmp_path: Path) -> None:
    plain, joined = unit("farcast-edge"), unit("farcast-edge.service.d/joined.conf", suffix="")
    reset, *credentials = joined["LoadCredential"]
    assert reset == ""
    assert [line.split(":")[0] for line in credentials] == ["edge.key", "join.token"]
    environment = dict(line.split("=", 1) for line in plain["Environment"] + joined["Environment"])
    for name in joined["UnsetEnvironment"]:
        del environment[name]
    values = {name: value.replace("%d", str(tmp_path)) for name, value in environment.items()}
    (tmp_path / "join.token").write_text(join_token())
    (tmp_path / "edge.key").write_text("")
    (tmp_path / "edge.toml").write_text(f'cert = "edge.key"\n[control]\nstate_dir = "{tmp_path}"\n')
    config = load_config(tmp_path / "edge.toml", values, {})
    assert config.join is not None
    assert config.hop is not None
    assert config.hop.cert.parent == tmp_path, "of the state directory, and nothing was handed over"


def join_token() -> str:
    token = JoinToken(("192.0.2.1:4440",), b"c" * 32, "fra", None, "ab" * 8, b"s" * 32, 4_000_000_000)
    return token.encode()


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))


@pytest.mark.parametrize("name", ["edge.yaml", "control.yaml", "namespace.yaml"])
def test_kubernetes_takes_the_manifests(name: str) -> None:
    for document in documents(name):
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


def kustomized(folder: str) -> list[dict[str, Any]]:
    """What ``kubectl apply -k`` would apply."""
    command = ["kubectl", "kustomize", str(DEPLOY / folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


WITH_KUBECTL = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@WITH_KUBECTL
@pytest.mark.parametrize("folder", ["kubernetes", "kubernetes-standby"])
def test_what_kustomize_makes_is_taken_by_kubernetes(folder: str) -> None:
    made = kustomized(folder)
    assert {document["kind"] for document in made} >= {"StatefulSet", "Deployment", "PodDisruptionBudget"}
    for document in made:
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


@WITH_KUBECTL
@pytest.mark.parametrize(("folder", "replicas"), [("kubernetes", 1), ("kubernetes-standby", 2)])
def test_the_control_plane_takes_the_arguments_of_its_pod(folder: str, replicas: int) -> None:
    (control,) = (document for document in kustomized(folder) if document["kind"] == "StatefulSet")
    pod = control["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    words = [word.replace("$(HOST_IP)", "10.0.0.1") for word in container["args"]]
    assert words.pop(0) == "control"
    flags = dict(word.removeprefix("--").split("=", 1) for word in words)
    keys = {key.replace(".", "-").replace("_", "-"): key for key in SCHEMA}
    loaded = load_control_config(None, {keys[flag]: value for flag, value in flags.items()})
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert str(loaded.state_dir) in mounts
    assert str(loaded.hop_cert.parent) in mounts
    assert control["spec"]["replicas"] == replicas
    assert (loaded.registry == "consul") == (replicas > 1), "two on one state would fight"
    if replicas > 1:
        assert loaded.consul.host == "10.0.0.1"
        assert container["readinessProbe"]["httpGet"]["path"] == "/livez", "a standby is not ready, and well"
        assert "podAntiAffinity" in pod["affinity"]


def linted(*command: str) -> None:
    """A linter of the tests' own environment finds nothing."""
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_is_one_by_the_specifications_schema() -> None:
    linted(
        "check-jsonschema", "--builtin-schema=vendor.compose-spec", str(DEPLOY / "compose" / "compose.yaml")
    )


def test_the_gates_workflow_is_one_by_githubs_schema() -> None:
    file = str(DEPLOY / "ci" / "github-actions.yml")
    linted("check-jsonschema", "--builtin-schema=vendor.github-workflows", file)


def test_the_containerfile_has_no_lint() -> None:
    """But for versions of Debian's packages: those that are pinned are gone with the next point release."""
    linted("hadolint", "--ignore=DL3008", str(DEPLOY / "container" / "Containerfile"))


@pytest.mark.parametrize(("shell", "script"), [("sh", "compose/make-certs.sh"), ("bash", "ci/gate.sh")])
def test_the_shell_reads_the_scripts(shell: str, script: str) -> None:
    subprocess.run([shell, "-n", str(DEPLOY / script)], check=True, timeout=10)


def test_the_kustomization_names_all_manifests() -> None:
    (kustomization,) = documents("kustomization.yaml")
    manifests = {file.name for file in (DEPLOY / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == manifests


def test_an_edges_pod_outlives_its_drain() -> None:
    config, deployment, budget = documents("edge.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    drain_s = tomllib.loads(config["data"]["edge.toml"])["drain_ms_max"] / 1_000
    script = container["lifecycle"]["preStop"]["exec"]["command"][-1]
    compile(script, "preStop", "exec")
    waits = re.search(r"monotonic\(\) \+ (\d+)", script)
    assert waits is not None
    assert drain_s < int(waits[1]) < pod["terminationGracePeriodSeconds"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["hostNetwork"]
    assert budget["kind"] == "PodDisruptionBudget"
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_the_edge_takes_the_configuration_of_its_manifest(tmp_path: Path) -> None:
    config, deployment, _ = documents("edge.yaml")
    file = tmp_path / "edge.toml"
    for name in ("public/tls.crt", "public/tls.key", "hop/hop.pem", "hop/hop.key", "hop/ca.pem"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    file.write_text(config["data"]["edge.toml"].replace("/etc/farcast", str(tmp_path)))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environ = {
        e["name"]: e["value"].replace("$(HOST_IP)", "10.0.0.1") for e in container["env"] if "value" in e
    }
    loaded = load_config(file, environ)
    assert loaded.control is not None
    assert loaded.control.advertise == "10.0.0.1:4433"


def test_the_units_set_what_the_edge_knows() -> None:
    environ = dict(pair.split("=", 1) for pair in unit("farcast-edge")["Environment"])
    assert set(environ) == {"FARCAST_EDGE_KEY", "FARCAST_EDGE_HOP_KEY"}
    flags = {word.split("=")[0] for word in shlex.split(unit("farcast-control")["ExecStart"][0])[2:]}
    known = {f"--{key.replace('.', '-').replace('_', '-')}" for key in SCHEMA} | {"--config"}
    assert {flag for flag in flags if flag.startswith("--")} <= known


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    return found


def test_compose_has_a_leader_a_standby_three_edges_and_what_watches_them(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {
        "control", "control-2", "edge-sin", "edge-fra", "edge-iad", "prometheus", "grafana", "consul",
    }  # fmt: skip
    for name, service in services.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("../"):
                assert (DEPLOY / "compose" / source).exists(), (name, source)
            elif not source.startswith("./"):
                assert source in compose["volumes"], (name, source)
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), (name, port)


def test_compose_has_two_control_planes_beside_one_consul_and_edges_know_both(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]

    def address(name: str) -> str:
        return str(services[name]["networks"]["farcast"]["ipv4_address"])

    for name in ("control", "control-2"):
        command = services[name]["command"]
        assert f"--registry consul --consul {address('consul')}:8500" in command
        assert "livez" in str(services[name]["healthcheck"]), "a standby is not ready, and well"
        for edge in ("edge-sin", "edge-fra", "edge-iad"):
            assert f"--control {address(name)}:4440" in services[edge]["command"]
    states = [services[name]["volumes"][0] for name in ("control", "control-2")]
    assert len(set(states)) == 2


def test_compose_gives_an_edge_longer_to_stop_than_it_drains(compose: dict[str, Any]) -> None:
    assert seconds(compose["services"]["edge-sin"]["stop_grace_period"]) * 1_000 > EdgeConfig().drain_ms_max


def test_prometheus_scrapes_what_compose_runs(compose: dict[str, Any]) -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    hosts = {t.split(":")[0] for job in jobs for c in job["static_configs"] for t in c["targets"]}
    assert hosts == {"control", "control-2", "edge-sin", "edge-fra", "edge-iad"}
    assert hosts <= set(compose["services"])


def test_the_image_is_made_by_the_rust_that_the_core_needs() -> None:
    manifest = tomllib.loads((DEPLOY.parent / "Cargo.toml").read_text())
    wanted = manifest["workspace"]["package"]["rust-version"]
    text = (DEPLOY / "container" / "Containerfile").read_text()
    assert f"rust:{wanted}" in text
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2
    assert re.search(r"^USER 10001", text, re.MULTILINE)
