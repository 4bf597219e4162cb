"""The tables of the outbox of alerts, made where they are missing or of an earlier version."""

from __future__ import annotations

import sqlite3

__all__ = ["make_tables"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (run_id TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS findings (
    subject TEXT PRIMARY KEY,
    finding TEXT NOT NULL,
    alert TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY,
    alert_id TEXT NOT NULL,
    target TEXT NOT NULL,
    subject TEXT NOT NULL,
    alert TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_s REAL NOT NULL DEFAULT 0,
    changed_s REAL NOT NULL,
    error TEXT,
    put_in_s REAL NOT NULL,
    UNIQUE (alert_id, target)
) STRICT;
CREATE TABLE IF NOT EXISTS receivers (
    target TEXT PRIMARY KEY,
    sent_s REAL,
    failed_s REAL,
    error TEXT,
    not_before_s REAL NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_by_state ON deliveries (state, target);
"""
# What an outbox lacks that was made by an earlier version, by table and column.
_UPGRADES = {
    ("deliveries", "put_in_s"): """
ALTER TABLE deliveries ADD COLUMN put_in_s REAL NOT NULL DEFAULT 0;
UPDATE deliveries SET put_in_s = changed_s;
INSERT OR IGNORE INTO receivers (target, sent_s)
    SELECT target, max(changed_s) FROM deliveries WHERE state = 'sent' GROUP BY target;
""",
    ("deliveries", "subject"): """
ALTER TABLE deliveries ADD COLUMN subject TEXT NOT NULL DEFAULT '';
UPDATE deliveries SET subject = alert_id;
""",
    ("findings", "alert"): """
ALTER TABLE findings ADD COLUMN alert TEXT;
""",
    ("receivers", "not_before_s"): """
ALTER TABLE receivers ADD COLUMN not_before_s REAL NOT NULL DEFAULT 0;
""",
}


def make_tables(connection: sqlite3.Connection) -> None:
    """Makes the tables, or adds what those of an earlier version lack."""
    missing = [
        upgrade
        for (table, column), upgrade in _UPGRADES.items()
        for columns in [{row[1] for row in connection.execute(f"PRAGMA table_info({table})")}]
        if columns and column not in columns
    ]
    for statement in filter(str.strip, "".join([_SCHEMA, *missing]).split(";")):
        connection.execute(statement)
