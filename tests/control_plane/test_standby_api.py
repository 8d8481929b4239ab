"""What a control plane that stands by answers over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from farcast.control_plane.registry.standby_api import standby_app


def ask(method: str, path: str, leader: str | None, token: str = "secret") -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=standby_app(lambda: leader, "secret"))
        async with httpx.AsyncClient(transport=transport, base_url="http://standby") as client:
            headers: dict[str, Any] = {"authorization": f"Bearer {token}"}
            return await client.request(method, path, headers=headers)

    return asyncio.run(asked())


def test_it_lives_and_is_not_ready() -> None:
    assert ask("GET", "/livez", None).status_code == 200
    assert ask("GET", "/readyz", "c1").status_code == 503


def test_readings_and_changes_name_the_leader_instead() -> None:
    for method, path in (("GET", "/status"), ("POST", "/drain"), ("POST", "/join-tokens")):
        answer = ask(method, path, "c1")
        assert answer.status_code == 503
        assert answer.json() == {
            "error": "this control plane stands by; the leader is c1",
            "leader": "c1",
        }
    assert ask("GET", "/status", None).json()["leader"] is None


def test_a_stranger_is_not_told_who_leads() -> None:
    answer = ask("GET", "/status", "c1", token="guess")
    assert answer.status_code == 401
    assert "c1" not in answer.text
