"""A pipeline whose lake is a bucket of a quick store, and verbs run in this process."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from market_pipeline.cli.main import main
from market_pipeline.sources.crypto_lake import RawTable
from market_pipeline_tests.defs.workspace import Finished
from market_pipeline_tests.store.servers import ACCESS_KEY, SECRET_KEY, MotoServer

SYMBOLS = ("BTC-USDT", "ETH-USDT")


@dataclass
class Stored:
    """Settings and data below `root`, and the bucket they name."""

    root: Path
    bucket: str
    client: Any
    capture: pytest.CaptureFixture[str]

    @property
    def lake(self) -> Path:
        return self.root / "data" / "lake"

    def key(self, raw: RawTable, day: date, symbol: str = SYMBOLS[0], number: int = 1) -> str:
        folder = f"{raw.name}/exchange=BINANCE/symbol={symbol}/dt={day}"
        return f"{folder}/{number}.snappy.parquet"

    def put(
        self, raws: Iterable[RawTable], days: Iterable[date], body: bytes = b"abcd", **more: Any
    ) -> None:
        """Stores a shard of each table and day."""
        for raw in raws:
            for day in days:
                key = f"feed/{self.key(raw, day, **more)}"
                self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def run(self, *arguments: str) -> Finished:
        """What `market-pipeline` with these arguments says, and its exit code."""
        self.capture.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["market-pipeline", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        return Finished(ended.value.code, *self.capture.readouterr())


def stored(
    server: MotoServer,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capture: pytest.CaptureFixture[str],
) -> Stored:
    """A new bucket, and settings that name it in the current folder."""
    for name in [name for name in os.environ if name.startswith(("PIPELINE_", "AWS_"))]:
        monkeypatch.delenv(name)
    made = Stored(root, f"lake-{uuid.uuid4().hex[:12]}", server.client(), capture)
    made.client.create_bucket(Bucket=made.bucket)
    entries = "".join(f"- {{venue: BINANCE, symbol: {each}}}\n" for each in SYMBOLS)
    text = f"defaults: {{source: crypto_lake}}\ninstruments:\n{entries}"
    (root / "instruments.yaml").write_text(text)
    for name, value in {
        "PIPELINE_LAKE_URI": f"s3://{made.bucket}/feed",
        "PIPELINE_LAKE_ENDPOINT_URL": server.endpoint_url,
        "PIPELINE_LAKE_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)
    return made
