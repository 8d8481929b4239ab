"""Promises: expressions over a simulation's outputs that hold or do not. Here they are read and written.

Grammar; spaces are free between tokens, and keywords are lower case::

    promise   = output { "." scope } [ stat ] bound [ "where" condition { "and" condition } ] ;
    output    = NAME ;                                        (* one of known_outputs() *)
    scope     = "all" | "worst_market" | "worst_pair" | "worst_viewer" | "stock" | "farcast"
              | "market(" NAME ")" | "pair(" NAME "," NAME ")" ;
    stat      = "mean" | "min" | "max" | "total" | "p" NUMBER ;          (* p50, p99, p99.9 *)
    bound     = op NUMBER unit | "within" NUMBER ".." NUMBER unit ;
    op        = "<" | "<=" | ">" | ">=" ;
    condition = attribute ( op NUMBER unit | ( "=" | "!=" ) NAME ) ;
    unit      = "us" | "ms" | "s" | "%" | "x" | "bit/s" | "kbit/s" | "Mbit/s" | "Gbit/s" | ;
    NAME      = letter { letter | digit | "_" | "-" } ;
    NUMBER    = [ "-" ] digit { digit } [ "." digit { digit } ] ;

What it means:

- Without a statistic, a ratio is that of all viewers together (the sum of what counts by the sum of what it
  counts of), and every single sample of a distribution has to keep the bound.
- ``pQ`` is the smallest sample that Q per cent of all samples do not exceed. ``within`` with ``pQ`` asks for
  the central Q per cent, half of the rest on either side.
- Statistics of a ratio are taken over viewers, each with its own; ``mean`` is the ratio of all together.
- Scopes narrow (``stock``, ``market(…)``) or ask for the worst of what is left, in whatever order: worst by
  the bound, so the lowest where the bound is ``>=``.
- The unit has to be said where there is one, and must be of the same dimension as the output's.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, get_args

from farcast.simulations.output_names import (
    ATTRIBUTES,
    OUTPUTS,
    AttributeInfo,
    OutputInfo,
    known_attributes,
    known_outputs,
)

__all__ = [
    "Condition",
    "Promise",
    "PromiseError",
    "Scope",
    "known_attributes",
    "known_outputs",
    "parse_promise",
    "render_promise",
]

PROMISE_CHARS_MAX: Final = 500
SCOPES_MAX: Final = 4
CONDITIONS_MAX: Final = 8

Op = Literal["<", "<=", ">", ">=", "within"]
Comparison = Literal["<", "<=", ">", ">=", "=", "!="]
ScopeKind = Literal["all", "stack", "market", "pair", "worst_market", "worst_pair", "worst_viewer"]
Worst = Literal["worst_market", "worst_pair", "worst_viewer"]

WORST: Final[tuple[str, ...]] = get_args(Worst)
_STATS: Final = ("mean", "min", "max", "total")
_BARE_SCOPES: Final = ("all", *WORST, "stock", "farcast")
_BOUNDS: Final[tuple[Op, ...]] = ("<", "<=", ">", ">=")

_UNITS: Final[dict[str, dict[str, Decimal]]] = {
    "ms": {"us": Decimal("0.001"), "ms": Decimal(1), "s": Decimal(1000)},
    "%": {"%": Decimal(1)},
    "x": {"x": Decimal(1)},
    "": {"": Decimal(1)},
    "Mbit/s": {
        "bit/s": Decimal("0.000001"),
        "kbit/s": Decimal("0.001"),
        "Mbit/s": Decimal(1),
        "Gbit/s": Decimal(1000),
    },
}
"""By the unit of an output or attribute: the units that a bound can be written in, as multiples of it."""

_TOKEN: Final = re.compile(
    r"(?P<percentile>p\d+(?:\.\d+)?(?![\w.-]))|(?P<number>-?\d+(?:\.\d+)?(?!\d|\.\d))|(?P<range>\.\.)|(?P<op><=|>=|!=|<|>|=)"
    r"|(?P<unit>(?:k|M|G)?bit/s|%)|(?P<name>[A-Za-z][A-Za-z0-9_-]*)|(?P<mark>[.(),])"
)
_SPACE: Final = re.compile(r"\s*")


class PromiseError(ValueError):
    """What is wrong with a promise, at which column (from 1), with a suggestion where something is near."""

    def __init__(self, text: str, column: int, what: str) -> None:
        super().__init__(f"column {column}: {what}")
        self.text = text
        self.column = column
        self.what = what


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose samples count: a kind, and the names of a ``market`` (1), a ``pair`` (2) or a ``stack`` (1)."""

    kind: ScopeKind
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """What a viewer has to be like to count; ``value`` in the attribute's own unit, or a name."""

    attribute: str
    op: Comparison
    value: float | str


@dataclass(frozen=True, slots=True)
class Promise:
    """A promise. ``low`` and ``high`` in the output's unit; ``<`` has no ``low`` and ``>`` no ``high``."""

    output: str
    op: Op
    low: float | None = None
    high: float | None = None
    stat: str | None = None
    scopes: tuple[Scope, ...] = ()
    where: tuple[Condition, ...] = ()

    @property
    def worst(self) -> str | None:
        """Of what the worst is asked for: ``worst_market``, ``worst_pair``, ``worst_viewer`` or nothing."""
        return next((scope.kind for scope in self.scopes if scope.kind in WORST), None)

    @property
    def percentile(self) -> float | None:
        """Q of ``pQ``."""
        return float(self.stat[1:]) if self.stat is not None and self.stat.startswith("p") else None

    @property
    def unit(self) -> str:
        """The unit of its bounds."""
        return OUTPUTS[self.output].unit


def parse_promise(text: str) -> Promise:
    """Read one promise; `PromiseError` says where it is wrong and what was meant."""
    return _Parser(text).promise()


def render_promise(promise: Promise) -> str:
    """The promise in its plainest form; reading that gives an equal promise."""
    scopes = "".join(f".{_render_scope(scope)}" for scope in promise.scopes)
    words = [promise.output + scopes, *([promise.stat] if promise.stat else [])]
    words += [_render_bound(promise)]
    if promise.where:
        words += ["where", " and ".join(_render_condition(condition) for condition in promise.where)]
    return " ".join(words)


def _render_scope(scope: Scope) -> str:
    if scope.kind == "stack":
        return scope.names[0]
    return f"{scope.kind}({', '.join(scope.names)})" if scope.names else scope.kind


def _render_bound(promise: Promise) -> str:
    unit = f" {promise.unit}" if promise.unit else ""
    if promise.op == "within":
        return f"within {_number(promise.low)}..{_number(promise.high)}{unit}"
    bound = promise.high if promise.low is None else promise.low
    return f"{promise.op} {_number(bound)}{unit}"


def _render_condition(condition: Condition) -> str:
    if isinstance(condition.value, str):
        return f"{condition.attribute} {condition.op} {condition.value}"
    unit = ATTRIBUTES[condition.attribute].unit
    return f"{condition.attribute} {condition.op} {_number(condition.value)} {unit}"


def _number(value: float | None) -> str:
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


class _Parser:
    """Recursive descent with one token in hand."""

    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > PROMISE_CHARS_MAX:
            raise self._error(PROMISE_CHARS_MAX + 1, f"longer than {PROMISE_CHARS_MAX} characters")
        self._tokens = self._scan()
        self._token = next(self._tokens)

    def promise(self) -> Promise:
        output = OUTPUTS[self._known("an output", OUTPUTS)]
        scopes = self._scopes()
        stat = self._stat(output)
        op, low, high = self._bound(output, stat)
        where = self._where() if self._is_word("where") else ()
        if self._token.kind != "end":
            words = ["where", "and"] if where else ["where"]
            raise self._unexpected("the end" if where else "'where' or the end", words)
        return Promise(output.name, op, low, high, stat, scopes, where)

    def _scopes(self) -> tuple[Scope, ...]:
        scopes: list[Scope] = []
        while self._token.text == ".":
            column = self._take().column
            if len(scopes) == SCOPES_MAX:
                raise self._error(column, f"more than {SCOPES_MAX} scopes")
            scope, column = self._scope()
            if any(scope.kind == other.kind for other in scopes):
                raise self._error(column, f"a second scope of the kind {scope.kind!r}")
            if scope.kind in WORST and any(other.kind in WORST for other in scopes):
                raise self._error(column, "the worst can be asked for once")
            scopes.append(scope)
        return tuple(scopes)

    def _scope(self) -> tuple[Scope, int]:
        column = self._token.column
        name = self._known("a scope", (*_BARE_SCOPES, "market", "pair"))
        if name in ("stock", "farcast"):
            return Scope("stack", (name,)), column
        if name == "market":
            return Scope("market", self._names(1)), column
        if name == "pair":
            return Scope("pair", self._names(2)), column
        kind: dict[str, ScopeKind] = {
            "all": "all",
            "worst_market": "worst_market",
            "worst_pair": "worst_pair",
            "worst_viewer": "worst_viewer",
        }
        return Scope(kind[name]), column

    def _names(self, count: int) -> tuple[str, ...]:
        self._mark("(")
        names = []
        for position in range(count):
            if position:
                self._mark(",")
            names.append(self._word("a name"))
        self._mark(")")
        return tuple(names)

    def _stat(self, output: OutputInfo) -> str | None:
        token = self._token
        if token.kind == "percentile":
            return self._percentile()
        if token.kind != "name" or token.text == "within":
            return None
        if token.text not in _STATS:
            raise self._unexpected("a statistic or a bound", [*_STATS, "p50", "p99", "p99.9", "within"])
        if token.text == "total" and output.kind == "ratio":
            raise self._error(token.column, f"{output.name} is a ratio: it has no total")
        return self._take().text

    def _percentile(self) -> str:
        token = self._take()
        percent = Decimal(token.text[1:])
        if not 0 < percent <= 100:
            raise self._error(token.column, f"{token.text}: a percentile is above 0 and at most 100")
        return f"p{_number(float(percent))}"

    def _bound(self, output: OutputInfo, stat: str | None) -> tuple[Op, float | None, float | None]:
        if self._is_word("within"):
            return self._range(output)
        op = next((op for op in _BOUNDS if op == self._token.text), None)
        if op is None:
            expected = "a bound (< <= > >= or within)" if stat else "a statistic or a bound"
            raise self._unexpected(expected, ["within"] if stat else [*_STATS, "p50", "p99", "within"])
        self._take()
        value = self._value(output.unit, output.name)
        return (op, None, value) if op in ("<", "<=") else (op, value, None)

    def _range(self, output: OutputInfo) -> tuple[Op, float | None, float | None]:
        self._take()
        low = self._number()
        if self._token.kind != "range":
            raise self._unexpected("'..' between the two ends")
        self._take()
        column = self._token.column
        high = self._number()
        factor = self._unit(output.unit, output.name)
        if high < low:
            raise self._error(column, f"the range ends below its beginning: {low} .. {high}")
        return "within", float(low * factor), float(high * factor)

    def _value(self, unit: str, name: str) -> float:
        number = self._number()
        return float(number * self._unit(unit, name))

    def _number(self) -> Decimal:
        if self._token.kind != "number":
            raise self._unexpected("a number")
        return Decimal(self._take().text)

    def _unit(self, unit: str, name: str) -> Decimal:
        units = _UNITS[unit]
        token = self._token
        is_unit = token.kind == "unit" or (token.kind == "name" and token.text not in ("where", "and"))
        if not is_unit:
            if "" in units:
                return units[""]
            raise self._error(token.column, f"{name} needs a unit: {', '.join(units)}")
        if token.text in units:
            return units[self._take().text]
        if "" in units:
            raise self._unexpected(f"no unit, {name} is a number", ["where"])
        raise self._error(token.column, f"{name} is in {', '.join(units)}, not in {token.text!r}")

    def _where(self) -> tuple[Condition, ...]:
        conditions: list[Condition] = []
        while self._is_word("where") or self._is_word("and"):
            token = self._token
            if (token.text == "where") != (not conditions):
                raise self._error(token.column, "conditions are joined by 'and'")
            if len(conditions) == CONDITIONS_MAX:
                raise self._error(token.column, f"more than {CONDITIONS_MAX} conditions")
            self._take()
            conditions.append(self._condition())
        return tuple(conditions)

    def _condition(self) -> Condition:
        attribute = ATTRIBUTES[self._known("an attribute", ATTRIBUTES)]
        ops = ("=", "!=") if attribute.unit == "name" else ("<", "<=", ">", ">=")
        if self._token.text not in ops:
            raise self._unexpected(f"one of {' '.join(ops)} after {attribute.name}")
        op = self._take().text
        return Condition(attribute.name, _comparison(op), self._operand(attribute))

    def _operand(self, attribute: AttributeInfo) -> float | str:
        if attribute.unit == "name":
            return self._word("a name")
        return self._value(attribute.unit, attribute.name)

    def _known(self, what: str, names: Iterable[str]) -> str:
        if self._token.kind != "name":
            raise self._unexpected(f"{what} ({', '.join(names)})")
        if self._token.text not in names:
            kind = what.split()[-1]
            near = _nearest(self._token.text, names) or f": there are {', '.join(names)}"
            raise self._error(self._token.column, f"no such {kind}: {self._token.text!r}{near}")
        return self._take().text

    def _word(self, what: str) -> str:
        if self._token.kind != "name" and re.fullmatch(r"p\d+", self._token.text) is None:
            raise self._unexpected(what)
        return self._take().text

    def _mark(self, mark: str) -> None:
        if self._token.text != mark:
            raise self._unexpected(f"{mark!r}")
        self._take()

    def _is_word(self, word: str) -> bool:
        return self._token.kind == "name" and self._token.text == word

    def _take(self) -> _Token:
        token = self._token
        self._token = next(self._tokens, token)
        return token

    def _scan(self) -> Iterator[_Token]:
        at = _end_of_space(self._text, 0)
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                raise self._error(at + 1, f"cannot be read: {self._text[at]!r}")
            yield _Token(found.lastgroup or "", found.group(), at + 1)
            at = _end_of_space(self._text, found.end())
        yield _Token("end", "", len(self._text) + 1)

    def _unexpected(self, expected: str, words: Iterable[str] = ()) -> PromiseError:
        token = self._token
        found = repr(token.text) if token.kind != "end" else "the end"
        near = _nearest(token.text, words) if token.kind == "name" else ""
        return self._error(token.column, f"{expected} expected, not {found}{near}")

    def _error(self, column: int, what: str) -> PromiseError:
        return PromiseError(self._text, column, what)


def _comparison(op: str) -> Comparison:
    comparisons: tuple[Comparison, ...] = get_args(Comparison)
    return next(comparison for comparison in comparisons if comparison == op)


def _end_of_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _nearest(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(words), n=1)
    return f": did you mean {near[0]!r}?" if near else ""
