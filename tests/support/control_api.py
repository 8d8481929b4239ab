"""The HTTP API over a control plane in virtual time, on a real socket of loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from control_world import World

from farcast.control_plane.api import ADDRESS_FILE, api_app, bind_api, open_access, serve_api
from farcast.control_plane.api_tokens import write_private
from farcast.control_plane.controller import Controller
from farcast.control_plane.invitations import Invitee, make_invitation
from farcast.control_plane.metrics import render
from farcast.control_plane.orders import Orders
from farcast.proto.access.keys import TrustedKey
from farcast.proto.joining.tokens import JoinToken


class WorldService:
    """What the API asks of a service, by a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ready = True

    @property
    def controller(self) -> Controller:
        """The engine."""
        return self.world.controller

    def now_us(self) -> int:
        """The world's clock."""
        return self.world.now_us

    def metrics(self) -> bytes:
        """Prometheus text."""
        return render(self.controller, self.now_us(), 0)

    def order(self, action: str, give: Callable[[Orders], str | None], **about: str) -> str | None:
        """Give an order."""
        return self.controller.order(give, self.now_us())

    def trust(self, key: TrustedKey) -> str | None:
        """Take a key's tokens."""
        return self.controller.trust(key, self.now_us())

    def distrust(self, key_id: str) -> str | None:
        """Forget a key."""
        return self.controller.distrust(key_id, self.now_us())

    def revoke_key(self, key_id: str) -> str | None:
        """End a key."""
        return self.controller.revoke_key(key_id, self.now_us())

    def revoke_token(self, token_id: str) -> str | None:
        """End a token."""
        return self.controller.revoke_token(token_id, self.now_us())

    def invite(self, wanted: Invitee) -> JoinToken | str:
        """A join token."""
        addresses = wanted.addresses or ("192.0.2.1:4440",)
        unix_us = self.controller.unix_us(self.now_us())
        token, invitation = make_invitation(wanted, addresses, b"a" * 32, unix_us)
        return self.controller.invite(invitation, self.now_us()) or token

    def revoke_node(self, node_id: str) -> str | None:
        """End an edge's certificates."""
        return self.controller.revoke_node(node_id, self.now_us())

    def revoke_serial(self, serial: str) -> str | None:
        """End a certificate."""
        return self.controller.revoke_serial(serial, self.now_us())

    def revoke_join_token(self, token_id: str) -> str | None:
        """End a join token."""
        return self.controller.revoke_join_token(token_id, self.now_us())

    def remove(self, node_id: str) -> str | None:
        """Take an edge out."""
        return self.controller.remove(node_id, self.now_us())


@contextmanager
def served(world: World, state_dir: Path, **access: Any) -> Iterator[str]:
    """The API's address while it is served; ``state_dir`` gets token and address as a service leaves them;
    ``access`` as for `farcast.control_plane.api_table.ApiAccess`."""
    listener = bind_api("127.0.0.1", 0)
    host, port = listener.getsockname()[:2]
    app = api_app(WorldService(world), open_access(state_dir, **access))
    write_private(state_dir / ADDRESS_FILE, json.dumps({"api": f"http://{host}:{port}"}))
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve_api(app, listener, stop),))
    thread.start()
    try:
        yield f"{host}:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
