"""Parts of other packages, which settings name and an entry point brings."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points

from market_pipeline.errors import SettingsError

__all__ = ["entry_point_of"]


def entry_point_of(group: str, name: str, what: str, ours: Collection[str] = ()) -> EntryPoint:
    """The one entry point of a group by its name.

    Args:
        group, name: Of the entry point.
        what: It is, for the error.
        ours: Names of the same kind that need no package.

    Raises:
        SettingsError: No package brings it, or several do.
    """
    entries = list(entry_points(group=group, name=name))
    if len(entries) != 1:
        problem = "is brought by several packages" if entries else "is unknown"
        known = f"{', '.join(ours)} or " if ours else ""
        expected = f"{known}one entry point of {group}"
        raise SettingsError([f"the {what} {name} {problem}; expected {expected}"])
    return entries[0]
