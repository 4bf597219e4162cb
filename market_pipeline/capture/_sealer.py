"""Seals the hours that are over, in a thread of its own: the record never waits for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from market_pipeline.errors import MarketPipelineError
from market_pipeline.security.ring import KeyRing
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.shown import shown_logger

__all__ = ["HourSealer"]

_LOG = shown_logger(__name__)


class HourSealer:
    """Seals closed files of a recording one after the other.

    One that cannot be sealed stays plain, and is tried again once another one could be.

    Args:
        ring: Gives the keys as they are now; the active one for captures opens them.
        left: Closed files that lie plain since before; sealed when there is nothing newer.
    """

    def __init__(self, ring: Callable[[], KeyRing], left: Iterable[Path]) -> None:
        self._ring = ring
        self._new, self._left = deque[Path](), deque(left)
        self._changed = threading.Condition()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="sealer", daemon=True)
        self._thread.start()

    def put(self, path: Path) -> None:
        """Takes a file that was closed."""
        with self._changed:
            self._new.append(path)
            self._changed.notify()

    def close(self) -> None:
        """Ends when the files that were put are sealed; the next start goes on with others."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        refused: list[Path] = []
        while (path := self._next()) is not None:
            try:
                seal_in_place(path, self._ring(), "captures")
            except FileNotFoundError:
                continue  # removed, or moved away
            except (MarketPipelineError, OSError) as error:
                _LOG.warning("%s stays plain: %s", path, error)
                refused.append(path)
            else:
                self._left.extend(refused)
                refused.clear()

    def _next(self) -> Path | None:
        """The file to seal, waited for; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ending or self._new or self._left)
            if self._new:
                return self._new.popleft()
            return None if self._is_ending else self._left.popleft()
