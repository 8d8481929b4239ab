"""A client without opinions: a MoQT session whose commands the test gives itself."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeVar

from farcast.proto._core import Command, Event
from farcast.proto.agent.link import ControlLink, connect_command
from farcast.proto.moqt.session import Session
from farcast.proto.moqt.values import AuthToken, NodeInfo, SetupOptions, TokenAliasType

from .world import Host, World, target

Found = TypeVar("Found")


class RawClient:
    """Engine: connects once (or, with no host to go to, is connected to), keeps every event of its
    session, answers nothing."""

    def __init__(
        self,
        to: Host | None,
        *,
        kind: str = "quic",
        node_id: str = "",
        implementation: str = "raw",
        mute: bool = False,
        tokens: tuple[bytes, ...] = (),
        **options: Any,
    ) -> None:
        self._mute = mute
        self._implementation = implementation
        self._node_id = node_id
        self._tokens = tuple(show(token) for token in tokens)
        self._link: ControlLink | None = None
        self.commands: deque[Any] = deque()
        if to is not None:
            self.commands.append(connect_command(1, target(kind, to.address, **options)))
        self.events: list[Any] = []
        self.closed: Any = None

    @property
    def is_closed(self) -> bool:
        return self.closed is not None

    @property
    def session(self) -> Session:
        assert self._link is not None
        return self._link.engine

    def handle_event(self, event: Any, now_us: int) -> None:
        if isinstance(event, Event.SessionOpened) and not self._mute:
            node = NodeInfo(self._node_id) if self._node_id else None
            options = SetupOptions(
                implementation=self._implementation, node=node, authorization_tokens=self._tokens
            )
            self._link = ControlLink(event, options)
        elif isinstance(event, Event.SessionClosed):
            self.closed = event
        elif self._link is not None:
            self._link.feed(event)
            self._collect()

    def _collect(self) -> None:
        while self._link is not None and (found := self.session.poll_event()) is not None:
            self.events.append(found)

    def handle_timeout(self, now_us: int) -> None:
        raise AssertionError("a raw client has no timers")

    def poll_timeout(self) -> int | None:
        return None

    def poll_command(self) -> Any:
        if self._link is not None:
            self.commands.extend(self._link.commands())
        return self.commands.popleft() if self.commands else None

    def found(self, kind: type[Found]) -> list[Found]:
        """Events of one kind so far."""
        self._collect()
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[Found]) -> Found:
        """The newest event of a kind."""
        return self.found(kind)[-1]

    def write(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Bytes of the test's own making on a stream."""
        self.commands.append(Command.Write(1, stream, data, fin))


def raw_client(world: World, to: Host, name: str = "raw", **options: Any) -> tuple[Host, RawClient]:
    """A raw client that is connected."""
    engine = RawClient(to, **options)
    host = world.add(name, engine)
    world.run(20)
    return host, engine


def show(token: bytes) -> AuthToken:
    """A token as a client puts it into SETUP or into a request."""
    return AuthToken(TokenAliasType.USE_VALUE, token_type=0, value=token)
