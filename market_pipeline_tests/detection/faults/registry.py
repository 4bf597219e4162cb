"""What a kind of fault is, and the list of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

__all__ = ["CAPTURES", "Case", "Kind", "compose", "fault", "registered"]

CAPTURES = "captures"
"""The table of faults in capture files; all others are in tables of the lake."""

_Subject = TypeVar("_Subject")
_REGISTERED: dict[str, Kind] = {}


@dataclass(frozen=True)
class Kind:
    """One way to spoil a day.

    Attributes:
        name: The words of its function's name.
        module: The module it is in, which is the class of faults it belongs to.
        sentence: What happens, in a sentence.
        tables: The tables it touches; `captures` alone for faults in capture files.
        change: Gives the spoilt day; takes a second argument where there are several cases.
        cases: Values of that argument; (None,) without one.
        keeps_schema: Whether the files still have the vendor's columns and types.
        is_harmless: Whether the book can be rebuilt right at every message all the same.
        unshown: Why nothing in the day can show that all its rows are wrong; empty if it can.
    """

    name: str
    module: str
    sentence: str
    tables: tuple[str, ...]
    change: Callable[..., Any]
    cases: tuple[Any, ...]
    keeps_schema: bool
    is_harmless: bool
    unshown: str

    @property
    def of_captures(self) -> bool:
        """Whether it spoils capture files instead of tables of the lake."""
        return self.tables == (CAPTURES,)

    def each_case(self) -> list[Case]:
        """The kind with each of its arguments."""
        return [Case(self, argument) for argument in self.cases]


@dataclass(frozen=True)
class Case:
    """A kind with one of its arguments."""

    kind: Kind
    argument: Any = None

    @property
    def name(self) -> str:
        """The kind's name, and the argument in brackets if there are several."""
        return self.kind.name if self.argument is None else f"{self.kind.name} [{self.argument}]"

    def __call__(self, subject: _Subject) -> _Subject:
        """The spoilt day; the one given is left alone."""
        arguments = () if self.argument is None else (self.argument,)
        spoilt: _Subject = self.kind.change(subject, *arguments)
        return spoilt


def fault(
    *tables: str,
    cases: Sequence[Any] = (None,),
    keeps_schema: bool = True,
    harmless: bool = False,
    unshown: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as a kind of fault, under the words of its name."""

    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        name = change.__name__.strip("_").replace("_", " ")
        assert name not in _REGISTERED, name
        _REGISTERED[name] = Kind(
            name=name,
            module=change.__module__.rpartition(".")[2],
            sentence=" ".join((inspect.getdoc(change) or "").split()),
            tables=tables,
            change=change,
            cases=tuple(cases),
            keeps_schema=keeps_schema,
            is_harmless=harmless,
            unshown=unshown,
        )
        return change

    return register


def registered() -> tuple[Kind, ...]:
    """All kinds of the modules that were imported, in the order in which they were."""
    return tuple(_REGISTERED.values())


def compose(*changes: Callable[[_Subject], _Subject]) -> Callable[[_Subject], _Subject]:
    """One fault after the other, the first given first."""

    def together(subject: _Subject) -> _Subject:
        return reduce(lambda day, change: change(day), changes, subject)

    return together
