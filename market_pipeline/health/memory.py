"""What one look remembers for the next: how the disks filled, and what was reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date

import msgspec

from market_pipeline.alerts.alert import Severity
from market_pipeline.health.disk import FreeBytes
from market_pipeline.warehouse.layout import Warehouse, make_private_folder, written_whole

__all__ = ["InForce", "Memory"]


class InForce(msgspec.Struct, frozen=True):
    """What was wrong at the last look, and since when (ns UTC)."""

    severity: Severity
    began_ns: int


class Memory(msgspec.Struct):
    """What is remembered in `state/health.json`; nothing of it is missed if it is lost.

    Attributes:
        disks: What disks had left, for a week.
        in_force: By the name of a finding, what was wrong and is reported.
        tries: By day, how often the days that are missing were requested.
        audited: The days that the last look with `--audit` would have requested.
    """

    disks: list[FreeBytes] = []
    in_force: dict[str, InForce] = {}
    tries: dict[str, int] = {}
    audited: list[str] = []

    @classmethod
    def of(cls, warehouse: Warehouse) -> Memory:
        """As the last look left it; empty if there was none, or it cannot be read."""
        try:
            return _memory.decode((warehouse.state_dir / _FILE).read_bytes())
        except (OSError, msgspec.DecodeError):
            return cls()

    def count_tries(self, days: Iterable[date], due: Iterable[date]) -> None:
        """Counts a try of each of the days, and forgets those that are due no more."""
        tries = Counter(self.tries) + Counter(day.isoformat() for day in days)
        names = {day.isoformat() for day in due}
        self.tries = {day: count for day, count in tries.items() if day in names}

    def keep(self, warehouse: Warehouse) -> None:
        """Writes it for the next look.

        Raises:
            OSError: The disk takes nothing.
        """
        make_private_folder(warehouse.state_dir)
        with written_whole(warehouse.state_dir / _FILE) as file:
            file.write(msgspec.json.encode(self))


_FILE = "health.json"
_memory = msgspec.json.Decoder(Memory)
