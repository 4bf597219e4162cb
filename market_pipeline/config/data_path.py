"""What the path of the data folder may be; for the settings, and for whoever has no settings."""

from __future__ import annotations

from pathlib import Path

__all__ = ["data_path"]

_UNUSABLE = "%?\\"


def data_path(value: Path) -> Path:
    """The path, if every library reads it as it stands.

    Raises:
        ValueError: It holds a character that one reads as something else: deltalake takes `%` and a
            backslash for parts of a URL and refuses control characters, DuckDB cuts a database's
            path at `?`.
    """
    unusable = sorted({each for each in str(value) if each in _UNUSABLE or each < " "})
    if unusable:
        raise ValueError(f"{str(value)!r} holds {', '.join(map(repr, unusable))}")
    return value
