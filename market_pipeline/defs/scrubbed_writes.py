"""What Dagster's databases are given has no secret: events, runs, tags, ticks, heartbeats.

Every value of every statement that writes is looked at, whatever table it is for and whichever
process (run, code server, daemon, web server) writes it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import sqlalchemy

from market_pipeline.config.settings import load_settings
from market_pipeline.errors import MarketPipelineError
from market_pipeline.scrub.exits import scrub_exits
from market_pipeline.scrub.scrubber import scrubbed_json

__all__ = ["scrub_writes"]

_WRITING = ("INSERT", "UPDATE")
_LEARN_SECONDS = 60.0
"""The daemon and the web server read no setting themselves; so soon they know a new secret."""


class _Learnt:
    """When this process last read the settings, and with them the secrets."""

    next_s = 0.0


def scrub_writes(engine: sqlalchemy.Engine, *, guess: bool = True) -> None:
    """Has no statement that goes through an engine write a secret.

    Args:
        engine: The engine.
        guess: Whether what only looks like a secret is taken out too. Not of what Dagster reads
            back to run: the config of another project's run may need it.
    """

    def scrub(
        _: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> tuple[str, Any]:
        if not statement.startswith(_WRITING):
            return statement, parameters
        _learn()
        if many:
            return statement, [_without(row, guess=guess) for row in parameters]
        return statement, _without(parameters, guess=guess)

    scrub_exits()
    sqlalchemy.event.listen(engine, "before_cursor_execute", scrub, retval=True)


def _without(row: Any, *, guess: bool) -> Any:
    """The values of one row, by place or by name."""
    if isinstance(row, dict):
        return {name: _text(value, guess=guess) for name, value in row.items()}
    return tuple(_text(value, guess=guess) for value in row)


def _text(value: Any, *, guess: bool) -> Any:
    return scrubbed_json(value, guess=guess) if isinstance(value, str) else value


def _learn() -> None:
    now_s = time.monotonic()
    if now_s >= _Learnt.next_s:
        _Learnt.next_s = now_s + _LEARN_SECONDS
        with suppress(MarketPipelineError, OSError):  # what could be read of them is known
            load_settings()
