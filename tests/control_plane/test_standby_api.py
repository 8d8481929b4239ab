"""What a control plane that stands by answers over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx

from farcast.control_plane.api import open_access
from farcast.control_plane.api_tokens import load_token
from farcast.control_plane.registry.standby_api import standby_app


def ask(folder: Path, method: str, path: str, leader: str | None, token: str | None = None) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=standby_app(lambda: leader, open_access(folder)))
        async with httpx.AsyncClient(transport=transport, base_url="http://standby") as client:
            headers: dict[str, Any] = {"authorization": f"Bearer {token or load_token(folder)}"}
            return await client.request(method, path, headers=headers)

    return asyncio.run(asked())


def test_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    assert ask(tmp_path, "GET", "/livez", None, "guess").status_code == 200
    assert ask(tmp_path, "GET", "/readyz", "c1", "guess").status_code == 503


def test_readings_and_changes_name_the_leader_instead(tmp_path: Path) -> None:
    for method, path in (("GET", "/status"), ("POST", "/drain"), ("POST", "/join-tokens")):
        answer = ask(tmp_path, method, path, "c1")
        assert answer.status_code == 503
        told = answer.json()
        assert told["error"] == "this control plane stands by; the leader is c1"
        assert told["leader"] == "c1"
        assert told["request_id"] == answer.headers["x-request-id"]
    assert ask(tmp_path, "GET", "/status", None).json()["leader"] is None


def test_a_stranger_is_not_told_who_leads(tmp_path: Path) -> None:
    answer = ask(tmp_path, "GET", "/status", "leader-1", token="guess")
    assert answer.status_code == 401
    assert "leader-1" not in answer.text  # unlike "c1" it cannot be a part of the request's id
    assert ask(tmp_path, "GET", "/metrics", "c1", token="guess").status_code == 401


def test_metrics_say_that_it_does_not_lead(tmp_path: Path) -> None:
    answer = ask(tmp_path, "GET", "/metrics", "c1")
    assert answer.status_code == 200
    assert "farcast_control_leading 0" in answer.text.splitlines()
