"""The settings as their sources have them now, for a process that runs for days.

A token, an address or a master key that is replaced there counts within a minute, without a
restart.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock

from market_pipeline.config.settings import Settings
from market_pipeline.errors import MarketPipelineError

__all__ = ["CurrentSettings"]

_LOG = logging.getLogger(__name__)

_ANEW_S = 60.0


class CurrentSettings:
    """Called, it gives them; any thread may.

    If they cannot be used, those of before are, with a warning at the first time.

    Args:
        began_with: What the process began with.
        read: Reads them anew, as `load_settings` does.
    """

    def __init__(self, began_with: Settings, read: Callable[[], Settings]) -> None:
        self._settings, self._read = began_with, read
        self._lock = Lock()
        self._until_s = time.monotonic() + _ANEW_S
        self._failed = False

    def __call__(self) -> Settings:
        """The settings, at most a minute old."""
        with self._lock:
            if time.monotonic() >= self._until_s:
                self._read_anew()
                self._until_s = time.monotonic() + _ANEW_S
            return self._settings

    def _read_anew(self) -> None:
        try:
            self._settings = self._read()
        except (MarketPipelineError, OSError) as error:
            if not self._failed:
                _LOG.warning("the settings of before are used: %s", error)
            self._failed = True
        else:
            self._failed = False
