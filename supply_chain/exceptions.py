"""Findings that were reviewed and are accepted for a time: `supply_chain/exceptions.toml`.

`python -m supply_chain.exceptions` prints the options of pip-audit that stand for its part of them.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

__all__ = ["LONGEST_DAYS", "Accepted", "accepted", "expired"]

_FILE = Path(__file__).with_name("exceptions.toml")

LONGEST_DAYS = 366
"""An exception is reviewed again after a year at the latest."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A finding that is accepted.

    Attributes:
        kind: `secret` or `vulnerability`.
        finding: Of a secret `path rule fingerprint`, as the scan prints it; else the id.
        reason: Why it does no harm.
        reviewed, expires: Days; from the second on it is a finding again.
    """

    kind: str
    finding: str
    reason: str
    reviewed: date
    expires: date


def accepted(kind: str, file: Path = _FILE) -> list[Accepted]:
    """Those of a kind, expired or not.

    Raises:
        KeyError, TypeError: An entry lacks a field or has one too many.
    """
    entries = tomllib.loads(file.read_text(encoding="utf-8")).get(kind, [])
    return [Accepted(kind=kind, **each) for each in entries]


def expired(entries: list[Accepted]) -> list[Accepted]:
    """Those that are to be reviewed again."""
    today = datetime.now(UTC).date()
    return [each for each in entries if each.expires <= today]


def _main() -> int:
    """The options of pip-audit; 1 if an exception is to be reviewed again."""
    entries = [*accepted("secret"), *accepted("vulnerability")]
    late = expired(entries)
    for each in late:
        sys.stderr.write(f"to be reviewed again since {each.expires}: {each.finding}\n")
    of_packages = [each for each in entries if each.kind == "vulnerability" and each not in late]
    sys.stdout.write(" ".join(f"--ignore-vuln {each.finding}" for each in of_packages) + "\n")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(_main())
