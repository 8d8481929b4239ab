"""Which namespaces of an edge the control plane has been told of, and what is to be told next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from farcast.proto.control.messages import Offer

Fields = tuple[bytes, ...]

SINCE_TOLERANCE_US = 1_000
"""An offer whose beginning moved by more was withdrawn and made again."""


class OfferBook:
    """What was said of the offers, and the changes against it."""

    def __init__(self) -> None:
        self._said_since_us: dict[Fields, int] = {}

    def forget(self) -> None:
        """Nothing was said: everything is news."""
        self._said_since_us.clear()

    def changes(self, offers: Sequence[Offer], now_us: int) -> tuple[list[Offer], list[Fields]]:
        """Offers that are new or were made anew, and namespaces that are gone."""
        new = [offer for offer in offers if self._is_news(offer, now_us)]
        offered = {offer.namespace for offer in offers}
        return new, [namespace for namespace in self._said_since_us if namespace not in offered]

    def mark_said(self, offers: Iterable[Offer], withdrawn: Iterable[Fields], now_us: int) -> None:
        """These changes are in a report."""
        for namespace in withdrawn:
            del self._said_since_us[namespace]
        for offer in offers:
            self._said_since_us[offer.namespace] = now_us - offer.age_us

    def _is_news(self, offer: Offer, now_us: int) -> bool:
        since_us = self._said_since_us.get(offer.namespace)
        return since_us is None or abs(now_us - offer.age_us - since_us) > SINCE_TOLERANCE_US
