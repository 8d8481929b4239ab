"""Configuration of the control plane: file and flags, and all that is wrong with them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from farcast.control_plane.config import Address, ConfigError, ControlConfig, load_config
from farcast.control_plane.risk_groups import RiskGroups
from farcast.control_plane.service import controller_config

FLAGS: dict[str, object] = {
    "state_dir": "state",
    "hop.cert": "c1.pem",
    "hop.key": "c1.key",
    "hop.ca": "ca.pem",
}


def test_flags_beat_the_file_and_files_count_from_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "control.toml"
    file.write_text(
        'listen = "127.0.0.1:1000"\nrisk_groups = "groups.toml"\nregions = ["sin", "fra"]\n'
        "[guard]\nshare_max = 0.5\n[members]\nabsent_ms_max = 7\n[planner]\nupgrade_ms = 4\n"
    )
    config = load_config(file, {**FLAGS, "listen": "0.0.0.0:2000"})
    assert config.listen == Address("0.0.0.0", 2000)
    assert config.risk_groups == tmp_path / "groups.toml"
    assert config.hop_cert == Path("c1.pem")
    assert config.regions == {"sin", "fra"}
    engine = controller_config(config, RiskGroups())
    assert engine.cycle.gate.share_max == 0.5
    assert engine.cycle.planner.upgrade_ms == 4
    assert engine.members.absent_ms_max == 7


def test_the_defaults_need_nothing_but_names_of_files() -> None:
    config = load_config(None, FLAGS)
    assert isinstance(config, ControlConfig)
    assert config.api == Address("127.0.0.1", 4441)


def test_everything_wrong_is_told_at_once_with_line_and_fix(tmp_path: Path) -> None:
    file = tmp_path / "control.toml"
    file.write_text(
        'listn = "x"\nregions = ["Sin"]\nepoch_min = 0\n[guard]\nshare_max = 2\nmoves_mn = 3\n'
        "[members]\nabsent_ms_max = true\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file, {"listen": "no.where:1"})
    lines = caught.value.message.splitlines()
    assert lines == sorted(lines, key=lines.index)
    assert any(line.startswith(f"{file}:1: unknown key 'listn'; did you mean 'listen'?") for line in lines)
    assert any(line.startswith(f"{file}:2: regions: ") for line in lines)
    assert any(line.startswith(f"{file}:3: epoch_min: must be a whole number from 1") for line in lines)
    assert any(line.startswith(f"{file}:5: share_max: must be a number from 0 to 1") for line in lines)
    assert any("did you mean 'guard.moves_min'?" in line for line in lines)
    assert any(line.startswith(f"{file}:8: absent_ms_max: ") for line in lines)
    assert any(line.startswith("--listen: listen: 'no.where:1' is not IP:PORT") for line in lines)
    assert sum("is missing" in line for line in lines) == 4
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["= 3", "a = [", "\x00"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "control.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(file, FLAGS)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(tmp_path / "none.toml", FLAGS)
