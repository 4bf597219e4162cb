"""The sensor: a day that is new or changed in the lake folder is requested."""

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg

from market_pipeline.defs.jobs import DAILY_JOB
from market_pipeline.defs.resources import Pipeline
from market_pipeline.instruments import Instrument
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, day_shards

__all__ = ["NEW_DAYS", "landed_days"]

_SETTLED_SECONDS = 60
_MAX_REQUESTS = 10


def landed_days(
    lake: Path, instruments: tuple[Instrument, ...], start: date, before: date
) -> dict[date, tuple[str, float]]:
    """The days with raw files: a fingerprint of what is there, and its latest change (Unix time).

    Two looks at the same files give the same fingerprint; a shard more, or one replaced, another.
    """
    seen: dict[date, list[tuple[str, int, int]]] = {}
    for instrument in instruments:
        for raw in (DELTAS, SNAPSHOTS, TRADES):
            folder = lake / raw.name / f"exchange={instrument.venue}/symbol={instrument.symbol}"
            for day in _days_in(folder):
                if start <= day < before:
                    for shard in day_shards(lake, raw, instrument.venue, instrument.symbol, day):
                        stat = shard.stat()
                        entry = (str(shard.relative_to(lake)), stat.st_size, stat.st_mtime_ns)
                        seen.setdefault(day, []).append(entry)
    return {
        day: (
            hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()[:16],
            max(changed for _, _, changed in files) / 1e9,
        )
        for day, files in sorted(seen.items())
    }


def _days_in(folder: Path) -> Iterator[date]:
    for path in folder.glob("dt=*"):
        try:
            yield date.fromisoformat(path.name.removeprefix("dt="))
        except ValueError:
            continue


@dg.sensor(
    name="new_lake_days",
    job=DAILY_JOB,
    minimum_interval_seconds=60,
    description="Requests a day whose raw files are new or changed and have settled for a minute.",
)
def new_lake_days(context: dg.SensorEvaluationContext, pipeline: Pipeline) -> dg.SensorResult:
    """Compare what the lake folder holds with what was requested before."""
    requested: dict[str, str] = json.loads(context.cursor or "{}")
    settings = pipeline.settings
    today = datetime.now(UTC).date()
    landed = landed_days(settings.lake_path, pipeline.selected, settings.start_date, today)
    runs: list[dg.RunRequest] = []
    for day, (fingerprint, changed) in landed.items():
        settled = time.time() - changed >= _SETTLED_SECONDS
        if requested.get(day.isoformat()) == fingerprint or not settled:
            continue
        if len(runs) == _MAX_REQUESTS:
            break
        # The key names the files, so the same files never run twice, even if the cursor is lost.
        run_key = f"{day}:{fingerprint}"
        runs.append(dg.RunRequest(run_key=run_key, partition_key=day.isoformat()))
        requested[day.isoformat()] = fingerprint
    return dg.SensorResult(
        run_requests=runs,
        cursor=json.dumps(requested),
        skip_reason=None if runs else dg.SkipReason("No day is new or changed and settled."),
    )


NEW_DAYS = new_lake_days
