"""No verb without a test: each is run here, or by the test that is named, and a new one is missed at once."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_api import served
from control_world import World
from cyclopts import App

from farcast.cli import main

TESTS = Path(__file__).parents[1]

HERE = (
    "status",
    "links export --out {tmp}/links.json",
    "routes",
    "why jkt-1 fra-1",
    "top --once",
    "drain lon-1",
    "undrain lon-1",
    "pin jkt-1 lon-1 fra-1",
    "unpin jkt-1 fra-1",
    "price jkt-1 --set 0.08",
    "capacity jkt-1 --set 900",
    "token key {tmp}/shop.jwk --key-id shop-1",
    "token issue --key {tmp}/shop.jwk --cluster dev --watch live",
    "token inspect {token}",
    "token trust {tmp}/shop.json --max-viewers 9",
    "token keys",
    "token usage",
    "token quotas shop-1",
    "token distrust shop-1",
    "token revoke --token-id t1",
    "api-token issue grafana",
    "api-token list",
    "api-token revoke grafana",
    "join-token --region fra",
    "remove lon-1",
    "audit",
    "ca init --dir {tmp}/ca --cluster shows",
    "ca issue --dir {tmp}/ca --role control --name c1 --out {tmp}/certs",
    "ca renew {tmp}/certs/c1.pem --dir {tmp}/ca",
    "ca show {tmp}/certs/c1.pem",
    "ca revoke gone-1",
    "config check edge {tmp}/edge.toml",
    "config show edge {tmp}/edge.toml",
    "completion bash",
    "doctor",
    "version",
    "sim list",
    "sim import {tmp}/links.json",
)
"""In this order, against one control plane; ``{tmp}`` is a folder, ``{token}`` the token that was issued."""

EDGE_TOML = 'dev_cert = true\n[auth]\nmode = "open"\n'

ELSEWHERE = {
    "edge": ("e2e/test_access.py", "edge"),
    "control": ("e2e/test_access.py", "control"),
    "publish": ("e2e/test_usage.py", "publish"),
    "watch": ("e2e/test_usage.py", "watch"),
    "bench": ("e2e/test_netcheck.py", "bench"),
    "dev": ("cli/test_tools.py", "dev"),
    "netcheck": ("e2e/test_netcheck.py", "netcheck"),
    "sim run": ("cli/test_sim.py", "run"),
    "sim compare": ("cli/test_sim.py", "compare"),
    "sim explain": ("cli/test_sim.py", "explain"),
    "sim replay": ("cli/test_sim.py", "replay"),
}
"""What serves or takes long: the test file, and the word by which it is run there."""

SPEAK_TO_A_CONTROL_PLANE = frozenset(
    {"status", "links", "routes", "why", "top", "drain", "undrain", "pin", "unpin", "price", "capacity",
     "api-token", "join-token", "remove", "audit"}
)  # fmt: skip
TOKEN_ORDERS = frozenset({"trust", "keys", "usage", "quotas", "distrust", "revoke"})


def verbs() -> set[str]:
    """All that the command line has, such as ``ca issue``."""

    def below(app: App, path: tuple[str, ...]) -> Iterator[str]:
        names = [name for name in app if not name.startswith("-")]
        if not names:
            yield " ".join(path)
        for name in names:
            yield from below(app[name], (*path, name))

    return set(below(main.make_app(), ()))


def verb_of(command: str) -> str:
    words = command.split()
    return next(" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in verbs())


def test_every_verb_is_run_here_or_elsewhere_and_nowhere_twice() -> None:
    here = [verb_of(command) for command in HERE]
    assert sorted([*here, *ELSEWHERE]) == sorted(verbs())


@pytest.mark.parametrize("verb", ELSEWHERE)
def test_the_test_that_is_named_runs_the_verb(verb: str) -> None:
    file, word = ELSEWHERE[verb]
    tree = ast.parse((TESTS / file).read_text())
    assert any(_begins_with(node, word) for node in ast.walk(tree)), f"{file} does not run {verb}"


def _begins_with(node: ast.AST, word: str) -> bool:
    """Whether a call, or words that are given to one, begins so; where to may stand before it."""
    words = node.args if isinstance(node, ast.Call) else getattr(node, "elts", [])
    return any(isinstance(each, ast.Constant) and each.value == word for each in words[:3])


def test_every_verb_does_what_it_is_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edges = ("fra-1", "jkt-1", "lon-1", "sin-1")
    world = World(
        edges,
        lambda a, b: 30.0 if "sin-1" in (a, b) else 200.0,
        certify=lambda request, admitted, after: "no",
    ).run(6)
    (tmp_path / "edge.toml").write_text(EDGE_TOML)
    token = ""
    with served(world, tmp_path):
        for command in HERE:
            words = command.format(tmp=tmp_path, token=token).split()
            state_dir = [f"--state-dir={tmp_path}"] if asks_a_control_plane(words) else []
            code = main.run([*words, *state_dir])
            out, err = capsys.readouterr()
            assert code == 0, f"farcast {command}: {code}: {err}"
            assert out or err, f"farcast {command} says nothing"
            if words[:2] == ["token", "key"]:
                (tmp_path / "shop.json").write_text(out)
            if words[:2] == ["token", "issue"]:
                token = out.strip()
            world.run(1)


def asks_a_control_plane(words: list[str]) -> bool:
    about_keys = words[0] == "token" and words[1] in TOKEN_ORDERS
    return words[0] in SPEAK_TO_A_CONTROL_PLANE or about_keys or words[:2] == ["ca", "revoke"]


WITHOUT_JSON = {
    "edge": "runs until it is ended; --ready-json and its log tell",
    "control": "runs until it is ended; --ready-json and its log tell",
    "token key": "prints a JWK, which is JSON",
    "completion": "prints a script",
}


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main.run([*verb.split(), "--help"]) == 0
    return capsys.readouterr().out


def test_the_help_of_every_verb_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    speaks = {verb: f"Example: farcast {verb}" in help_of(verb, capsys) for verb in [*verbs(), "links"]}
    assert [verb for verb, does in speaks.items() if not does] == []


def test_every_verb_has_json_but_those_that_have_nothing_to_tell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert {verb for verb in verbs() if "--json" not in help_of(verb, capsys)} == set(WITHOUT_JSON)


def test_every_verb_that_tells_something_tells_it_as_one_line_of_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(
        ("fra-1", "jkt-1", "lon-1", "sin-1"),
        lambda a, b: 30.0 if "sin-1" in (a, b) else 200.0,
        certify=lambda request, admitted, after: "no",
    ).run(6)
    (tmp_path / "edge.toml").write_text(EDGE_TOML)
    token = ""
    with served(world, tmp_path):
        for command in HERE:
            words = command.format(tmp=tmp_path, token=token).split()
            state_dir = [f"--state-dir={tmp_path}"] if asks_a_control_plane(words) else []
            json_too = [] if verb_of(command) in WITHOUT_JSON else ["--json"]
            assert main.run([*words, *json_too, *state_dir]) == 0, command
            out = capsys.readouterr().out
            if words[:2] == ["token", "key"]:
                (tmp_path / "shop.json").write_text(out)
            if json_too:
                (line,) = out.splitlines()
                told = json.loads(line)
                assert isinstance(told, dict), command
                token = told.get("token", token) if words[:2] == ["token", "issue"] else token
            world.run(1)


def test_a_join_token_is_taken_back_by_its_id_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(("fra-1", "sin-1"), lambda a, b: 80.0, certify=lambda request, admitted, after: "no").run(6)
    state_dir = f"--state-dir={tmp_path}"
    with served(world, tmp_path):
        assert main.run(["join-token", "--region", "fra", "--json", state_dir]) == 0
        token_id = json.loads(capsys.readouterr().out)["token_id"]
        assert token_id in {each.token_id for each in world.controller.trust_book.invitations}
        assert main.run(["join-token", "--revoke", token_id, state_dir]) == 0
        assert token_id not in {each.token_id for each in world.controller.trust_book.invitations}
        assert main.run(["join-token", "--revoke", token_id, state_dir]) == 1
        assert f"no join token {token_id!r}" in capsys.readouterr().err
        assert main.run(["join-token", "--revoke", token_id, "--region", "fra", state_dir]) == 2
