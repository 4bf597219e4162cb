"""Files of a few kilobytes that unpack to gigabytes, through every stage, with a clean day beside.

The stages run in a process of their own, whose peak memory is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from market_pipeline.sources.crypto_lake import TRADES, day_folder
from market_pipeline.stages.raw.profile import profile_day
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.sources.hostile_files import MEGABYTE, prefixed_text, sides, write
from market_pipeline_tests.stages.days import BTC, DAY, ETH, Later, raw_day, write_day

PEAK_MEGABYTES = 200
"""What the hostile day may take beyond the clean ones; its texts alone have five times as much."""


def peak_megabytes() -> float:
    """The most memory that this process has had so far."""
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def run_day(lake: Path, folder: Path) -> list[dict[str, object]]:
    """The verdicts of BTC and ETH, and what their raw tables are told to be."""
    warehouse = Warehouse(folder / "data")
    warehouse.prepare()
    profiles = profile_day(raw_day(lake, BTC, ETH), (BTC, ETH))
    later = Later(lake, folder, warehouse)
    return [
        {
            "outcome": row.outcome,
            "condition": row.condition,
            "failure": row.failure,
            "raw": [each["failure"] for each in profiles if each["symbol"] == of.symbol],
        }
        for of, row in zip((BTC, ETH), later.report(BTC, ETH), strict=True)
    ]


def main(folder: Path) -> None:
    """Runs the clean day, then the hostile one, and prints what came of both."""
    run_day(folder / "clean", folder / "before")
    before = peak_megabytes()
    verdicts = run_day(folder / "hostile", folder / "after")
    json.dump({"megabytes": peak_megabytes() - before, "verdicts": verdicts}, sys.stdout)


def shared_gigabyte(path: Path) -> None:
    """Four sides of 250 MB each."""
    write(path, pa.concat_tables(sides(2, letter * (250 * MEGABYTE)) for letter in "abcd"))


def shared_text(path: Path) -> None:
    """A side of 20 MB that 50,000 rows share: it fits, but not once for each of them."""
    write(path, sides(50_000, "y" * (20 * MEGABYTE)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (shared_gigabyte, "unpacks to more than may be held in memory"),
        (shared_text, "at most 1024 bytes"),
        (prefixed_text, "DELTA_BYTE_ARRAY"),
    ],
)
def test_a_small_file_that_becomes_large(folder: Path, make, reason):
    """Its instrument is refused with the reason, the other published, in bounded memory."""
    for lake in ("clean", "hostile"):
        for of in (BTC, ETH):
            write_day(folder / lake, of)
    hostile = day_folder(folder / "hostile", TRADES, BTC.venue, BTC.symbol, DAY)
    make(hostile / "1.snappy.parquet")
    ran = subprocess.run(
        [sys.executable, "-m", __name__, str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == ran.returncode, ran.stderr
    told = json.loads(ran.stdout)
    refused, clean = told["verdicts"]
    assert ("quarantined", True) == (refused["outcome"], reason in refused["failure"])
    assert [True, True, False] == [each is None for each in refused["raw"]]
    assert reason in refused["raw"][2]
    assert ("rebuilt", "available") == (clean["outcome"], clean["condition"])
    assert [None] * 3 == clean["raw"]
    assert told["megabytes"] < PEAK_MEGABYTES


if __name__ == "__main__":
    main(Path(sys.argv[1]))
