"""Which ids of a rising sequence have been seen, in bounded memory."""

from __future__ import annotations


class SeenIds:
    """Ids that come in steps from ``first`` but may overtake each other: request ids, stream ids.

    All below a mark count as seen, and a set of at most ``gaps_max`` above it. Ids that stay away are given
    up as the others go on.
    """

    def __init__(self, first: int, step: int, gaps_max: int) -> None:
        self._first = first
        self._step = step
        self._gaps_max = gaps_max
        self._mark = first
        self._above: set[int] = set()
        self.next = first
        """Above every id seen."""

    def add(self, number: int) -> bool:
        """Notes an id; ``False`` if it is not of the sequence, was seen, or leaves out too many in one
        leap."""
        if not self._belongs(number) or number in self:
            return False
        if (number - self._mark) // self._step - len(self._above) > self._gaps_max:
            return False
        self._above.add(number)
        if len(self._above) > self._gaps_max:
            self._mark = min(self._above)
        while self._mark in self._above:
            self._above.remove(self._mark)
            self._mark += self._step
        self.next = max(self.next, number + self._step)
        return True

    def __contains__(self, number: int) -> bool:
        return self._belongs(number) and (number < self._mark or number in self._above)

    def _belongs(self, number: int) -> bool:
        return number >= self._first and (number - self._first) % self._step == 0
