"""What a group of columns of the validation report is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["Figures", "columns_of", "figure", "table_column"]


def table_column(sql_type: str, description: str, **default: Any) -> Any:
    """A field that is a column of a published table."""
    return field(metadata={"type": sql_type, "description": description}, **default)


def figure(sql_type: str, description: str) -> Any:
    """A column that is null where it was not measured."""
    return table_column(sql_type, description, default=None)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Columns that one measurement fills; None is SQL's null."""


def columns_of(groups: Iterable[Figures]) -> dict[str, Any]:
    """The values of groups by column; where two have the same one, that of the last."""
    return {each.name: getattr(group, each.name) for group in groups for each in fields(group)}
