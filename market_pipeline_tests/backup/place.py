"""A small pipeline's files, made without a run, and backups of them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from market_pipeline.audit.record import record
from market_pipeline.backup.create import Created, create
from market_pipeline.backup.restore import Checked, restore, ring_for, verify
from market_pipeline.backup.states import States
from market_pipeline.config.settings import load_settings
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.warehouse.layout import Warehouse, make_private_folder
from market_pipeline.warehouse.working_file import writing

HOUR = "recording/BINANCE/BTCUSDT/2024-08-08/00_host.recording"
SEALED_HOUR = "recording/BINANCE/BTCUSDT/2024-08-08/01_host.recording"
LONG = bytes(range(256)) * 9_000
"""Of three sealed segments."""


@dataclass(frozen=True)
class Place:
    """The folders below `root`, which the settings of this process name."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def folder(self) -> Path:
        return self.root / "backup"

    def fill(self) -> None:
        """Makes a file of each kind that a backup has, and some that it does not have."""
        for path, content in {
            self.lake / HOUR: LONG,
            self.lake / f"{SEALED_HOUR}.partial": b"an hour that is not over",
            self.lake / "book_delta_v2/exchange=B/symbol=X/dt=2024-08-08/1.parquet": b"raw",
            self.data / "golden/calm/manifest.json": b"{}",
            self.data / "golden/.calm.0.partial/manifest.json": b"half",
            self.data / "live/binance/bars.jsonl": b"{}\n",
            self.data / "tables/books/bbo/_delta_log/0.json": b"commit",
            self.data / "tables/books/bbo/1.parquet": b"rows",
            self.data / "staging/left.partial": b"half",
            self.data / "keys/passphrase.salt": b"00",
            self.root / "instruments.yaml": b"instruments: []\n",
            self.root / "config.yaml": b"threads: 2\n",
            self.root / ".env": b"PIPELINE_THREADS=2\n",
        }.items():
            make_private_folder(path.parent)
            path.write_bytes(content)
        for path in (self.home / "history/runs.db", self.data / "state/alerts.sqlite"):
            make_private_folder(path.parent)
            with closing(sqlite3.connect(path)) as database, database:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("CREATE TABLE runs AS SELECT 1 AS run")
        with writing(Warehouse(self.data)) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS row")
        record(self.data, "write", {"table": "none"})

    def seal_an_hour(self) -> None:
        """Has a second hour lie sealed, under the key for captures."""
        path = self.lake / SEALED_HOUR
        path.write_bytes(LONG[::-1])
        os.utime(path, ns=(1, 1_700_000_000_123_456_789))
        ring = ring_for(load_settings(), self.folder)
        assert ring is not None
        seal_in_place(path, ring, "captures")

    def create(self, *, raw: bool = False, tables: bool = False) -> Created:
        return create(load_settings(), self.home, raw=raw, tables=tables)

    def names(self) -> list[str]:
        return States(self.folder, None).names()

    def verify(self) -> Checked:
        ring = ring_for(load_settings(), self.folder)
        return verify(self.folder, ring, self.names())

    def restore(self, target: str = "back") -> Checked:
        ring = ring_for(load_settings(), self.folder)
        return restore(self.folder, ring, self.names()[-1], self.root / target)

    def files(self, below: str = "backup") -> dict[str, bytes]:
        """By path, what is in each file below a folder."""
        folder = self.root / below
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
