"""The outbox: every alert that is to be reported, to whom, and whether it was; it outlives a crash.

An alert is put in within one transaction together with the note that its run was taken, so a run
that is read twice, also after a kill, puts in nothing new. What a subject's finding is now is kept
too: a finding is reported again only after it changed, or after the check passed in between.
How things stand with each receiver is kept beside it: what waits how long, and its last failure.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from market_pipeline.alerts._outbox_file import make_file, transaction
from market_pipeline.alerts.alert import Alert
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["STATES", "Delivery", "Outbox", "Standing", "State"]

State = Literal["waiting", "sent", "dead"]
STATES: tuple[State, ...] = ("waiting", "sent", "dead")
_Values = Sequence[str | float] | Mapping[str, str | float]
_Thing = tuple[str, str, str]
"""Receiver, subject and severity: to who holds alerts, one of another severity is another."""

_alert = msgspec.json.Decoder(Alert)
_MOST_DUE = 1_000
"""No turn sends so many; a receiver that is down for weeks does not fill the memory."""
_PUT_IN = "INSERT OR IGNORE INTO deliveries(alert_id,target,subject,alert,changed_s,put_in_s) "
_NOTE_FINDING = """
INSERT INTO findings VALUES (:subject, :finding, :alert)
ON CONFLICT (subject) DO UPDATE SET finding = excluded.finding, alert = excluded.alert
WHERE finding <> excluded.finding
"""
_END_FINDING = "DELETE FROM findings WHERE subject = :subject AND finding = :finding"
_HOLDS_ALERTS = "alertmanager"
"""The kind of receivers that hold an alert in force; others get each once, and hold nothing."""
_REVIVE = """
UPDATE deliveries SET state = 'waiting', attempts = 0, next_attempt_s = 0, changed_s = ?
WHERE id = ?
"""
_READDRESS = f"""{_PUT_IN}
SELECT alert_id, ?, subject, alert, ?, put_in_s FROM deliveries WHERE id = ?
"""
_PUT_LAST = """
REPLACE INTO deliveries(alert_id, target, subject, alert, changed_s, put_in_s)
SELECT alert_id, target, subject, alert, ?, put_in_s FROM deliveries WHERE id = ?
"""
"""Under a new id: an attempt at it that is under way now is not the one that counts."""
_COLUMNS = "id, target, alert, state, attempts, next_attempt_s, changed_s, error, put_in_s"
# Nothing is due before what waits of its subject since earlier: a receiver that had the end first
# would hold what began. A time of before that lies ahead is of a clock that was set back since.
_DUE = """
JOIN (
    SELECT id, max(next_attempt_s) OVER earlier AS turn_s,
        max(iif(changed_s > :now_s, 0, next_attempt_s)) OVER earlier AS due_s
    FROM deliveries WHERE state = 'waiting'
    WINDOW earlier AS (PARTITION BY target, subject ORDER BY id)) USING (id)
"""
_RECEIVERS_DUE = f"""
SELECT DISTINCT target FROM deliveries {_DUE} LEFT JOIN receivers USING (target)
WHERE due_s <= :now_s AND (coalesce(not_before_s, 0) <= :now_s OR failed_s > :now_s)
ORDER BY target
"""
_NOTE_SENT = """
INSERT INTO receivers (target, sent_s) VALUES (:target, :now_s)
ON CONFLICT (target) DO UPDATE
SET sent_s = excluded.sent_s, failed_s = min(failed_s, excluded.sent_s), not_before_s = 0
"""
_NOTE_FAILED = """
INSERT INTO receivers (target, failed_s, error, not_before_s)
VALUES (:target, :now_s, :error, :not_before_s)
ON CONFLICT (target) DO UPDATE
SET failed_s = excluded.failed_s, error = excluded.error, not_before_s = excluded.not_before_s,
    sent_s = min(sent_s, excluded.failed_s - 0.001)
"""
_UNREADABLE = """
UPDATE deliveries SET state = 'dead', error = 'its text in the outbox cannot be read'
WHERE id = ? AND state <> 'sent'
"""
_STANDINGS = """
WITH undelivered AS (
    SELECT target, sum(state = 'waiting') AS waiting, sum(state = 'dead') AS dead,
        min(CASE state WHEN 'waiting' THEN put_in_s END) AS oldest_s
    FROM deliveries WHERE state IN ('waiting', 'dead') GROUP BY target
)
SELECT target, coalesce(waiting, 0), oldest_s, coalesce(dead, 0), sent_s, failed_s, error
FROM (SELECT target FROM undelivered UNION SELECT target FROM receivers)
LEFT JOIN undelivered USING (target) LEFT JOIN receivers USING (target)
ORDER BY target
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert for one receiver.

    Attributes:
        target: The receiver's name.
        attempts: How often it was tried.
        next_attempt_s: Unix time from which it may be tried again.
        changed_s: Unix time of its last change: when it was put in, tried or sent.
        error: Why the last attempt failed, if it did.
        put_in_s: Unix time at which it was put in; it waits since then.
    """

    id: int
    target: str
    alert: Alert
    state: State
    attempts: int
    next_attempt_s: float
    changed_s: float
    error: str | None
    put_in_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand with one receiver.

    Attributes:
        target: Its name.
        waiting: How many alerts wait for it.
        oldest_s: Unix time at which the oldest of them was put in; None if none waits.
        dead: How many are dead letters.
        sent_s: Unix time at which it last took one; None if it never did.
        failed_s: Unix time of the last attempt that failed; None if none ever did.
        error: Why that one failed.
    """

    target: str
    waiting: int = 0
    oldest_s: float | None = None
    dead: int = 0
    sent_s: float | None = None
    failed_s: float | None = None
    error: str | None = None

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self.failed_s is not None and self.failed_s > (self.sent_s or 0.0)

    @property
    def is_proven(self) -> bool:
        """Whether it took one at the last attempt."""
        return self.sent_s is not None and not self.failing

    def oldest_waits_seconds(self, now_s: float) -> float | None:
        """How long the oldest alert has waited at a Unix time; None if none waits."""
        return None if self.oldest_s is None else max(now_s - self.oldest_s, 0.0)


class Outbox:
    """The outbox of one data folder: `state/alerts.sqlite`, mode 0600, made when it is missing.

    Several processes and threads may use it at once.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self.path = warehouse.state_dir / "alerts.sqlite"
        make_file(self.path)

    def take(
        self,
        alerts: Iterable[Alert],
        targets: Sequence[str],
        *,
        now_s: float,
        passed: Iterable[str] = (),
        run_id: str | None = None,
    ) -> int:
        """Put in, in one transaction, what is not in force already.

        Args:
            alerts: What was found; the end of something is new if that was in force.
            targets: The names of the receivers.
            now_s: Unix time.
            passed: Subjects of which nothing is in force any more; who holds alerts in force is
                sent the end of what was.
            run_id: The run that all this is about; one that was taken before adds nothing.

        Returns:
            How many of the alerts are new.
        """
        new = 0
        with transaction(self.path) as connection:
            if run_id is not None:
                taken = connection.execute("INSERT OR IGNORE INTO runs VALUES (?)", [run_id])
                if not taken.rowcount:
                    return 0
            holders = [each for each in targets if _kind(each) == _HOLDS_ALERTS]
            for subject in passed:
                if (before := _in_force(connection, subject)) is not None:
                    _put_in(connection, _ended(before, now_s), holders, now_s)
                connection.execute("DELETE FROM findings WHERE subject = ?", [subject])
            for alert in alerts:
                before = _in_force(connection, alert.subject)
                note = _NOTE_FINDING if alert.ended_ns is None else _END_FINDING
                values = {"subject": alert.subject, "finding": alert.finding, "alert": _text(alert)}
                if not connection.execute(note, values).rowcount:
                    continue
                new += 1
                if before is not None and before.severity != alert.severity:
                    # To who holds them the two are different alerts.
                    _put_in(connection, _ended(before, now_s), holders, now_s)
                _put_in(connection, alert, targets, now_s)
        return new

    def receivers_due(self, now_s: float) -> list[str]:
        """The names of the receivers for which something may be tried now."""
        with transaction(self.path) as connection:
            rows = connection.execute(_RECEIVERS_DUE, {"now_s": now_s})
            return [target for (target,) in rows]

    def due(self, target: str, now_s: float) -> list[Delivery]:
        """What may be tried now for a receiver, the longest due first; no more than 1,000."""
        return self._read(
            f"{_DUE} WHERE target = :target AND due_s <= :now_s "
            f"ORDER BY turn_s, id LIMIT {_MOST_DUE}",
            {"target": target, "now_s": now_s},
        )

    def standings(self) -> list[Standing]:
        """How things stand with each receiver that was ever due an alert, by name."""
        with transaction(self.path) as connection:
            return [Standing(*row) for row in connection.execute(_STANDINGS)]

    def deliveries(self, states: Sequence[State] = STATES, limit: int = -1) -> list[Delivery]:
        """What is in one of some states, the newest first; `limit` of them, -1 for all."""
        marks = ", ".join("?" * len(states))
        return self._read(f"WHERE state IN ({marks}) ORDER BY id DESC LIMIT ?", [*states, limit])

    def begin(self, delivery: Delivery, *, now_s: float, next_attempt_s: float) -> None:
        """Note an attempt before it is made, and when the next is to be made if this one's end
        cannot be noted.

        Where nothing can be written nothing is sent, so a full disk does not have the same alert
        sent in every turn.
        """
        with transaction(self.path) as connection:
            connection.execute(
                "UPDATE deliveries SET attempts = attempts + 1, next_attempt_s = ?, changed_s = ? "
                "WHERE id = ?",
                [next_attempt_s, now_s, delivery.id],
            )

    def mark(
        self,
        delivery: Delivery,
        state: State,
        *,
        now_s: float,
        error: str | None = None,
        next_attempt_s: float = 0.0,
        not_before_s: float = 0.0,
    ) -> None:
        """Note how an attempt ended, also for its receiver.

        Args:
            delivery: What was tried.
            state: What became of it.
            now_s: Unix time.
            error: Why it failed; None if it did not.
            next_attempt_s: Unix time from which it may be tried again.
            not_before_s: Unix time before which its receiver wants no alert at all.
        """
        with transaction(self.path) as connection:
            connection.execute(
                "UPDATE deliveries SET state = ?, next_attempt_s = ?, changed_s = ?, error = ? "
                "WHERE id = ?",
                [state, next_attempt_s, now_s, error, delivery.id],
            )
            connection.execute(
                _NOTE_SENT if error is None else _NOTE_FAILED,
                {
                    "target": delivery.target,
                    "now_s": now_s,
                    "error": error,
                    "not_before_s": not_before_s,
                },
            )

    def revive(self, targets: Sequence[str], *, now_s: float) -> tuple[int, int]:
        """Let dead letters wait again, as if never tried.

        One for a receiver that is configured no more is readdressed to those of its kind.
        What was put in last of the same thing since then is sent again behind it: an end that
        the receiver has would not end what begins after it.

        Args:
            targets: The names of the receivers there are.
            now_s: Unix time.

        Returns:
            How many wait again, and how many stay dead because there is no receiver for them.
        """
        revived = stay = 0
        first: dict[_Thing, int] = {}
        with transaction(self.path) as connection:
            (newest,) = connection.execute("SELECT max(id) FROM deliveries").fetchone()
            for each in self._read_within(connection, "WHERE state = 'dead' ORDER BY id", []):
                heirs = [target for target in targets if _kind(target) == _kind(each.target)]
                if not heirs:
                    stay += 1
                    continue
                revived += 1
                if each.target in targets:
                    connection.execute(_REVIVE, [now_s, each.id])
                    again = [each.target]
                else:
                    again = [
                        heir
                        for heir in heirs
                        if connection.execute(_READDRESS, [heir, now_s, each.id]).rowcount
                    ]
                    connection.execute("DELETE FROM deliveries WHERE id = ?", [each.id])
                for target in again:
                    first.setdefault((target, each.alert.subject, each.alert.severity), each.id)
            # Once for each thing: there may be thousands of dead letters of one.
            behind = [
                number
                for thing, dead in first.items()
                for number in self._last_since(connection, thing, dead, newest)
            ]
            connection.executemany(_PUT_LAST, [(now_s, number) for number in sorted(behind)])
        return revived, stay

    def _last_since(
        self, connection: sqlite3.Connection, thing: _Thing, dead: int, newest: int
    ) -> list[int]:
        """The id of what a receiver was due last of what a dead letter is about, if since then."""
        target, subject, severity = thing
        clause = "WHERE id > ? AND id <= ? AND target = ? AND subject = ? ORDER BY id DESC"
        since = self._read_within(connection, clause, [dead, newest, target, subject])
        return [each.id for each in since if each.alert.severity == severity][:1]

    def _read(self, clause: str, values: _Values) -> list[Delivery]:
        with transaction(self.path) as connection:
            return self._read_within(connection, clause, values)

    def _read_within(
        self, connection: sqlite3.Connection, clause: str, values: _Values
    ) -> list[Delivery]:
        found = []
        rows = connection.execute(f"SELECT {_COLUMNS} FROM deliveries {clause}", values)
        for number, target, text, *others in rows.fetchall():
            try:
                alert = _alert.decode(text)
                found.append(Delivery(number, target, alert, *others))
            except ValueError:
                # Damaged, or of another version: it must not hold up what waits behind it.
                connection.execute(_UNREADABLE, [number])
        return found


def _kind(target: str) -> str:
    """The kind of a receiver, of its name as `targets.Target` makes it."""
    return target.partition("-")[0]


def _text(alert: Alert) -> str:
    return json.dumps(msgspec.to_builtins(alert))


def _put_in(
    connection: sqlite3.Connection, alert: Alert, targets: Sequence[str], now_s: float
) -> None:
    text = _text(alert)
    alert_id = hashlib.sha256(text.encode()).hexdigest()
    connection.executemany(
        _PUT_IN + "VALUES (?, ?, ?, ?, ?, ?)",
        [(alert_id, target, alert.subject, text, now_s, now_s) for target in targets],
    )


def _in_force(connection: sqlite3.Connection, subject: str) -> Alert | None:
    """What is in force of a subject; None also where an earlier version has noted it."""
    rows = connection.execute("SELECT alert FROM findings WHERE subject = ?", [subject]).fetchall()
    with suppress(msgspec.DecodeError):
        return next((_alert.decode(text) for (text,) in rows if text is not None), None)
    return None


def _ended(alert: Alert, now_s: float) -> Alert:
    return replace(alert, ended_ns=max(round(now_s * 1e9), alert.at_ns))
