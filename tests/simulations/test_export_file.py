"""What real edges measured is read whole, or refused with the place of the fault."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from farcast.errors import UserError
from farcast.simulations.export_file import read_export, write_export

EXPORT = Path(__file__).with_name("links_export.json")
GOOD: dict[str, Any] = json.loads(EXPORT.read_text(encoding="utf-8"))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    export = read_export(EXPORT)
    file = tmp_path / "again.json"
    file.write_bytes(write_export(export))
    assert read_export(file) == export


def test_links_come_with_their_windows_and_capacities() -> None:
    by_ends = {(path.src, path.dst): path.model for path in read_export(EXPORT).paths()}
    assert by_ends["sin-1", "fra-1"].queue_bytes == 2_500_000
    assert by_ends["jkt-1", "sin-1"].mean_loss > 0
    assert by_ends["sin-1", "jkt-1"].losses == ()
    assert all(model.config is not None for model in by_ends.values())


def _with(path: list[str | int], value: object) -> dict[str, Any]:
    document = copy.deepcopy(GOOD)
    at: Any = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["format"], "x", "is no export of links"),
        (["version"], 2, "version 2, this build reads 1"),
        (["edges"], [], "is no export of links"),
        (["links", 0, "dst"], "fra-2", "links[0].dst: no edge 'fra-2'; did you mean 'fra-1'?"),
        (["links", 0, "dst"], "sin-1", "links[0]: from 'sin-1' to itself"),
        (["links", 0, "rtt_us"], {"p50": 9, "p90": 8}, "links[0].rtt_us: p90 is below p50"),
        (["links", 0, "rtt_us"], {"p50": -9, "p90": 8}, "$.links[0].rtt_us.p50"),
        (["links", 0, "loss"], {"share": 2}, "$.links[0].loss.share"),
        (["links", 0, "speed"], 3, "speed"),
        (["links", 0, "capacity_bps"], 0, "$.links[0].capacity_bps"),
        (
            ["links", 3, "loss_windows", "windows"],
            [[5, 10, 0.1], [2, 10, 0.1]],
            "links[3]: no link can be like that",
        ),
        (["edges", 1, "node_id"], "sin-1", "edges: 'sin-1' is there twice"),
        (["edges", 0, "lat"], 91, "$.edges[0].lat"),
    ],
)
def test_a_fault_is_named_in_its_place(
    tmp_path: Path, path: list[str | int], value: object, said: str
) -> None:
    file = tmp_path / "links.json"
    file.write_text(json.dumps(_with(path, value)), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_export(file)
    assert said in str(caught.value)
    assert all(line.startswith(str(file)) for line in str(caught.value).splitlines())


def test_a_link_without_its_way_back_is_named(tmp_path: Path) -> None:
    document = copy.deepcopy(GOOD)
    del document["links"][1]
    file = tmp_path / "links.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(UserError, match="links: sin-1 to fra-1 is there, fra-1 to sin-1 is not"):
        read_export(file)


def test_a_file_that_is_not_there_or_no_json_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot be read: No such file"):
        read_export(tmp_path / "none.json")
    file = tmp_path / "bad.json"
    file.write_bytes(b"\xff{")
    with pytest.raises(UserError, match="is no export of links"):
        read_export(file)
