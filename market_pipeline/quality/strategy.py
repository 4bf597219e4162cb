"""Which way of rebuilding a day its raw data allows, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Strategy", "choose_strategy"]


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a day is rebuilt.

    Attributes:
        name: full_deltas, snapshots_only (a row per snapshot), or none.
        reason: Why, in a sentence.
    """

    name: Literal["full_deltas", "snapshots_only", "none"]
    reason: str


def choose_strategy(profiles: Sequence[Mapping[str, Any]]) -> Strategy:
    """The strategy for one instrument and day from its rows of `lake.profiles`.

    Without any row nothing is known against the deltas, and they are used.
    """
    return Strategy("full_deltas", "")
