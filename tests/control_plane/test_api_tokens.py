"""Tokens of the API: what is kept, what opens, what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from farcast.control_plane.api_limits import ASKERS_MAX, Buckets, Rate
from farcast.control_plane.api_tokens import LOCAL, TOKENS_FILE, TOKENS_MAX, ApiTokens, Scope
from farcast.errors import UserError

READ = [Scope.READ]


def test_only_the_hash_of_an_issued_token_is_on_disk(tmp_path: Path) -> None:
    text = ApiTokens(tmp_path).issue("grafana", READ, None, 100)
    file = tmp_path / TOKENS_FILE
    assert text not in file.read_text()
    assert text.removeprefix("farcast_") not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_tokens_survive_a_restart_and_end_when_they_say(tmp_path: Path) -> None:
    text = ApiTokens(tmp_path).issue("grafana", READ, 200, 100)
    again = ApiTokens(tmp_path)
    found = again.find(text, 199)
    assert found is not None
    assert (found.name, found.allows(Scope.READ), found.allows(Scope.OPERATE)) == ("grafana", True, False)
    assert again.find(text, 200) is None
    assert again.why_not_issue("grafana", READ, 199) is not None
    assert again.why_not_issue("grafana", READ, 200) is None


def test_the_local_token_may_everything(tmp_path: Path) -> None:
    tokens = ApiTokens(tmp_path)
    local = tokens.find((tmp_path / "api.token").read_text().strip(), 0)
    assert local is not None
    assert local.name == LOCAL
    assert all(map(local.allows, Scope))


@pytest.mark.parametrize("text", ["", "wrong", "\ud800", "farcast_", "x" * 100_000])
def test_what_is_no_token_finds_nobody(tmp_path: Path, text: str) -> None:
    assert ApiTokens(tmp_path).find(text, 0) is None


def test_operate_and_trust_include_reading_and_not_each_other(tmp_path: Path) -> None:
    tokens = ApiTokens(tmp_path)
    for scope, other in ((Scope.OPERATE, Scope.TRUST), (Scope.TRUST, Scope.OPERATE)):
        found = tokens.find(tokens.issue(scope.value, [scope], None, 0), 0)
        assert found is not None
        assert (found.allows(scope), found.allows(Scope.READ), found.allows(other)) == (True, True, False)


@pytest.mark.parametrize("content", ["", "{}", '[{"name": 7}]', "\x00"])
def test_a_damaged_file_ends_the_start_with_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / TOKENS_FILE).write_text(content)
    with pytest.raises(UserError, match=TOKENS_FILE) as caught:
        ApiTokens(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_disk_that_takes_nothing_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = ApiTokens(tmp_path)
    text = tokens.issue("grafana", READ, None, 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("farcast.control_plane.api_tokens.write_private", full)
    with pytest.raises(OSError, match="No space"):
        tokens.revoke("grafana")
    assert tokens.find(text, 0) is not None
    with pytest.raises(OSError, match="No space"):
        tokens.issue("other", READ, None, 0)
    assert [token.name for token in tokens.issued] == ["grafana"]


def test_there_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farcast.control_plane.api_tokens.write_private", lambda *_: None)
    tokens = ApiTokens(tmp_path)
    for k in range(TOKENS_MAX):
        assert tokens.why_not_issue(f"t{k}", READ, 0) is None
        tokens.issue(f"t{k}", READ, None, 0)
    assert "256" in str(tokens.why_not_issue("one-more", READ, 0))


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    buckets = Buckets(Rate(2, 3))
    assert [buckets.take("a", 0.0) for _ in range(4)] == [None, None, None, 0.5]
    assert buckets.take("b", 0.0) is None
    assert buckets.take("a", 0.25) == pytest.approx(0.25)
    assert buckets.take("a", 0.5) is None
    assert [buckets.take("a", 100.0) for _ in range(4)] == [None, None, None, 0.5]


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    buckets = Buckets(Rate(1, 1))
    assert buckets.take("a", 10.0) is None
    assert buckets.take("a", 5.0) == pytest.approx(1.0)
    assert buckets.take("a", 6.0) is None


def test_no_more_askers_are_remembered_than_the_limit() -> None:
    buckets = Buckets(Rate(1, 1))
    for k in range(3 * ASKERS_MAX):
        buckets.take(f"asker {k}", 0.0)
    assert len(buckets._levels) == ASKERS_MAX
