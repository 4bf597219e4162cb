"""Emptying the outbox: attempts with growing waits, then the dead letters.

Receivers are independent of each other: each has its own lock and thread, and every attempt ends
within its time limit (`post`), so one that never answers holds up only itself. Attempts cost the
machine something, so of those that did not take the last one only some are tried in a turn.

At least once: an alert is marked as sent after its receiver took it, and a process that dies in
between leaves it to be sent again, with the same text, labels, fingerprint and start. The other
order could lose it.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from msgspec import to_builtins

from market_pipeline.alerts.alert import Alert
from market_pipeline.alerts.outbox import Delivery, Outbox
from market_pipeline.alerts.payloads import Links, line
from market_pipeline.alerts.targets import LOGGER, Refused, Target, send
from market_pipeline.config.settings import Settings
from market_pipeline.errors import WarehouseBusyError
from market_pipeline.telemetry.metrics.recording import flush, record
from market_pipeline.telemetry.metrics.table import ALERT_ATTEMPTS, ALERTS_DEAD, ALERTS_WAITING
from market_pipeline.threads import Workers
from market_pipeline.warehouse.layout import PRIVATE_FILE, Warehouse, make_private_folder
from market_pipeline.warehouse.locks import holding

__all__ = ["Delivered", "Patience", "deliver", "send_past"]

_LONGEST_TURN_SECONDS = 20.0
"""A tick of a sensor has 60 s, and the last attempt of a turn takes its time too."""

_DOUBTFUL_IN_A_TURN = 16
"""Each attempt is a process of 30 MB and 0.15 s of CPU time, and may be busy until its time is up:
many that answer nothing must not slow down those that do."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bear with a receiver; the settings `alert_…` of the same names.

    After `turn_seconds` nothing more is begun in one turn, so that it has ended within an interval:
    those who took all they had to take do not wait longer for one that takes much, or slowly.
    """

    timeout_seconds: float
    attempts: int
    first_retry_seconds: float
    longest_retry_seconds: float
    turn_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Patience:
        """As the settings say."""
        interval = settings.alert_interval_seconds
        return cls(
            settings.alert_timeout_seconds,
            settings.alert_attempts,
            settings.alert_first_retry_seconds,
            settings.alert_longest_retry_seconds,
            min(
                max(interval - settings.alert_timeout_seconds, interval / 2), _LONGEST_TURN_SECONDS
            ),
        )

    def wait_after(self, attempts: int) -> float:
        """Seconds until the next attempt: doubled each time, less up to half of it at random, so
        that a receiver that comes back is not met by everybody at once.
        """
        # Past 2^60 the bound has long been reached; a larger power would not be a float.
        doubled = self.first_retry_seconds * 2.0 ** min(attempts - 1, 60)
        return min(doubled, self.longest_retry_seconds) * random.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one turn did: alerts sent, attempts that failed, and those among them that died.

    `busy` are the receivers that were left alone because another turn was sending to them.
    """

    sent: int = 0
    failed: int = 0
    dead: int = 0
    busy: tuple[str, ...] = ()

    def __add__(self, other: Delivered) -> Delivered:
        return Delivered(
            self.sent + other.sent,
            self.failed + other.failed,
            self.dead + other.dead,
            self.busy + other.busy,
        )


def deliver(
    warehouse: Warehouse,
    targets: Sequence[Target],
    links: Links,
    patience: Patience,
    *,
    only: Collection[str] | None = None,
) -> Delivered:
    """Send what is due, to all receivers at the same time, and note how each attempt ended.

    A failed attempt ends the turn of its receiver, so one that is down costs one wait. Of those
    that did not take the last one, or were never tried, 16 have a turn: who waits for it longest.
    One to which another turn is sending is left alone: a daemon that was killed may have left one
    behind.

    Args:
        warehouse: Whose outbox.
        targets: The receivers there are.
        links: Where alerts point to.
        patience: How long to bear with each receiver.
        only: The names of those that have a turn; all that are due if None.

    Raises:
        PublishError: The outbox cannot be used.
        WarehouseBusyError: Another process kept it.
    """
    outbox = Outbox(warehouse)
    due = set(outbox.receivers_due(time.time()))
    if only is not None:
        due &= set(only)
    if not due:
        return Delivered()
    standings = sorted(outbox.standings(), key=lambda each: each.failed_s or 0.0)
    proven, doubtful = (
        [each.target for each in standings if each.target in due and each.is_proven is is_proven]
        for is_proven in (True, False)
    )
    names = proven + doubtful[:_DOUBTFUL_IN_A_TURN]
    known = {target.name: target for target in targets}
    until = time.monotonic() + patience.turn_seconds
    turn = _Turn(warehouse, outbox, known, links, patience, until)
    with Workers(len(names), "alerts") as threads:
        done = [*threads.map(turn.of, names)]
    _record(outbox, dict(zip(names, done, strict=True)))
    return sum(done, Delivered())


def send_past(
    alert: Alert, targets: Sequence[Target], links: Links, timeout_seconds: float, why: Exception
) -> None:
    """Sends an alert once to each receiver, with no note of it and no second attempt.

    Args:
        alert, targets, links, timeout_seconds: As for `send`.
        why: What keeps the outbox from being used.
    """
    LOGGER.warning("An alert is sent past the outbox, which cannot be used: %s", why)
    for target in targets:
        try:
            send(target, alert, links, timeout_seconds=timeout_seconds)
        except Refused as refused:
            LOGGER.warning("%s did not take it: %s", target.name, refused)


def _record(outbox: Outbox, turn: Mapping[str, Delivered]) -> None:
    """Records what a turn did for each receiver, and what waits after it for those there are."""
    for name, done in turn.items():
        for outcome in ("sent", "failed", "dead"):
            record(ALERT_ATTEMPTS, getattr(done, outcome), receiver=name, outcome=outcome)
    for each in outbox.standings():
        record(ALERTS_WAITING, each.waiting, receiver=each.target)
        record(ALERTS_DEAD, each.dead, receiver=each.target)
    flush()


@dataclass(frozen=True, slots=True)
class _Turn:
    """One look into the outbox; `until` is when it is over, on the monotonic clock."""

    warehouse: Warehouse
    outbox: Outbox
    known: Mapping[str, Target]
    links: Links
    patience: Patience
    until: float

    def of(self, name: str) -> Delivered:
        """One receiver's alerts, unless another turn is at them."""
        at_once = replace(self.warehouse, wait_seconds=0.0)
        with ExitStack() as held:
            try:
                held.enter_context(holding(at_once, f"alerts-{name}"))
            except WarehouseBusyError:
                return Delivered(busy=(name,))
            return self._emptied(name)

    def _emptied(self, name: str) -> Delivered:
        """One receiver's alerts, at least one, until one fails or the time is up."""
        target, sent = self.known.get(name), 0
        for delivery in self.outbox.due(name, time.time()):
            if sent and time.monotonic() >= self.until:
                break
            now, wait = time.time(), self.patience.wait_after(delivery.attempts + 1)
            self.outbox.begin(delivery, now_s=now, next_attempt_s=now + wait)
            try:
                if target is None:
                    raise Refused("no such receiver is configured now")
                send(
                    target,
                    delivery.alert,
                    self.links,
                    timeout_seconds=self.patience.timeout_seconds,
                )
            except Refused as refused:
                return Delivered(sent, 1, int(self._failed(delivery, refused, wait)))
            self.outbox.mark(delivery, "sent", now_s=time.time())
            sent += 1
        return Delivered(sent)

    def _failed(self, delivery: Delivery, refused: Refused, wait: float) -> bool:
        """Notes a failed attempt; whether it was the last."""
        attempts, now = delivery.attempts + 1, time.time()
        asked = min(refused.retry_after_seconds, self.patience.longest_retry_seconds)
        is_last = attempts >= self.patience.attempts
        if is_last:
            self._bury(delivery, str(refused))
        self.outbox.mark(
            delivery,
            "dead" if is_last else "waiting",
            now_s=now,
            error=str(refused),
            next_attempt_s=now + max(wait, asked),
            not_before_s=now + asked,
        )
        if is_last:
            return True
        LOGGER.warning(
            "%s did not take an alert (%s); attempt %d of %d, the next in %.0f s.",
            *(delivery.target, refused, attempts, self.patience.attempts, max(wait, asked)),
        )
        return False

    def _bury(self, delivery: Delivery, reason: str) -> None:
        """Adds a line to the dead letters, before the outbox says so: reported twice is better."""
        file = self.warehouse.data_dir / "alerts" / "dead-letter.jsonl"
        letter = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "target": delivery.target,
            "attempts": delivery.attempts + 1,
            "error": reason,
            "alert": to_builtins(delivery.alert),
        }
        make_private_folder(file.parent)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as letters:
            letters.write(f"{json.dumps(letter)}\n".encode())
            letters.flush()
            os.fsync(letters.fileno())
        LOGGER.error(
            "An alert could not be delivered to %s and is now a dead letter in %s: %s. Fix the "
            "receiver, then run `market-pipeline alerts retry`. It says: %s",
            *(delivery.target, file, reason, line(delivery.alert, self.links)),
        )
