"""Files of a control plane's state directory that were cut off, flipped or emptied: one line that names the
file and the way out, or a control plane that serves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from farcast.certificates import make_authority
from farcast.control_plane.api import open_access
from farcast.control_plane.api_tokens import Scope
from farcast.control_plane.config import load_config
from farcast.control_plane.service import open_service
from farcast.errors import UserError


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority = make_authority("shows", datetime.now(UTC))
    identity = authority.issue_control("c1")
    (folder / "c1.pem").write_bytes(identity.chain_pem())
    (folder / "c1.key").write_bytes(identity.key_pem())
    (folder / "ca.pem").write_bytes(authority.certificate_pem())
    return folder


def opened(certificates: Path, state: Path) -> int:
    """Start as far as binding sockets, and end; the epoch."""
    config = load_config(
        None,
        {
            "listen": "127.0.0.1:0",
            "api": "127.0.0.1:0",
            "state_dir": str(state),
            "hop.cert": str(certificates / "c1.pem"),
            "hop.key": str(certificates / "c1.key"),
            "hop.ca": str(certificates / "ca.pem"),
        },
    )
    service = open_service(config)
    service.driver.close()
    service._listener.close()
    service._store.close()
    return service.controller.epoch.number


@pytest.fixture
def state(tmp_path: Path, certificates: Path) -> Path:
    assert opened(certificates, tmp_path) == 1
    access = open_access(tmp_path)
    access.tokens.issue("grafana", (Scope.READ,), None, 1)
    access.audit.append(1, who="ann", action="drain", about="sin-1", request_id="r1", outcome="done")
    return tmp_path


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[: len(content) // 2],
    "a bit": lambda content: bytes([content[0] ^ 0x80, *content[1:]]),
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["control.sqlite3", "api.token", "api-tokens.json"])
def test_a_damaged_file_is_one_line_that_names_it_and_the_way_out(
    state: Path, certificates: Path, name: str, damage: str
) -> None:
    file = state / name
    content = file.read_bytes()
    file.write_bytes(DAMAGE[damage](content))
    if (name, damage) == ("api.token", "empty"):
        assert opened(certificates, state) == 2
        assert len(file.read_text().strip()) > 40, "another one is made"
        return
    with pytest.raises(UserError) as caught:
        opened(certificates, state)
    (line,) = caught.value.message.splitlines()
    assert str(file) in line
    assert any(way in line for way in ("put back a copy", "put a copy back", "remove it")), line
    file.write_bytes(content)
    assert opened(certificates, state) >= 2, "nothing was made worse"


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_audit_log_loses_lines_and_stops_nobody(
    state: Path, certificates: Path, damage: str
) -> None:
    file = next(each for each in state.iterdir() if each.name.startswith("audit"))
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    assert opened(certificates, state) == 2


def test_a_token_that_was_cut_off_lets_nobody_in(state: Path, certificates: Path) -> None:
    (state / "api.token").write_text("a\n")
    with pytest.raises(UserError, match="is damaged: no token; remove it"):
        opened(certificates, state)
