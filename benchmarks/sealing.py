"""Sealed files: how fast they are sealed and opened, and what a rebuild from sealed ones costs."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.end_to_end import Task
from benchmarks.figures import Figure, rate
from benchmarks.generator import SEED
from benchmarks.lake_files import synthetic_lake
from benchmarks.measure import Spread, cpu_seconds, run_child
from benchmarks.workspace import scratch
from market_pipeline.security.files import open_sealed, sealed_whole
from market_pipeline.security.ring import KeyRing
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.security.segments import FILE_KEY_BYTES, SealingStream
from market_pipeline.security.stored import remove_sealed

__all__ = ["sealing_figures"]

_BAR = 1.2
_MASTER = bytes(32)
_PART_BYTES = 1 << 20
_WARM_UP_ROWS = 50_000
_DEPTH_MS = 100


def sealing_figures(size_mb: int, rows: int, runs: int) -> list[Figure]:
    """Rates of sealing and opening so many MB, and of rebuilding a vendor's day of so many rows."""
    group = f"sealing, {size_mb:,} MB"
    content = os.urandom(size_mb << 20)
    with scratch() as folder:
        ring = KeyRing(folder / "keys", _MASTER)
        ring.new("raw")
        sealed, plain = folder / "rows.sealed", folder / "rows"
        with sealed_whole(sealed, ring, "raw") as out:
            out.write(content)

        def write_plain() -> None:
            remove_sealed(plain)
            plain.write_bytes(content)

        passes: tuple[tuple[str, Callable[[], object], Callable[[], object], float | None], ...] = (
            ("sealed, to nowhere", partial(_seal, content), lambda: None, _BAR),
            ("opened, from a file", partial(_open, sealed, ring), lambda: None, _BAR),
            (
                "sealed in the place of a plain file, synced and read back",
                partial(seal_in_place, plain, ring, "raw"),
                write_plain,
                None,
            ),
        )
        figures = []
        for name, work, prepare, bar in passes:
            taken = (cpu_seconds(work, prepare) for _ in range(runs))
            rates = Spread.of(len(content) / seconds / 1e9 for seconds in taken)
            figures.append(Figure(group, name, "GB / CPU s", rates, bar=bar))
    return [*figures, *_rebuild_figures(rows, runs)]


class _Nowhere:
    def write(self, data: bytes | memoryview, /) -> int:
        return len(data)


def _seal(content: bytes) -> None:
    stream = SealingStream(_Nowhere(), os.urandom(FILE_KEY_BYTES), b"")
    stream.write(content)
    stream.finish()


def _open(sealed: Path, ring: KeyRing) -> None:
    with open_sealed(sealed, ring) as file:
        while file.read(_PART_BYTES):
            pass


def _rebuild_figures(rows: int, runs: int) -> list[Figure]:
    """The rebuild of a vendor's day from plain and from sealed raw files, in turns."""
    warm_up, plain = str(synthetic_lake(_WARM_UP_ROWS)), synthetic_lake(rows)
    key = base64.b64encode(_MASTER).decode()
    with scratch() as folder:
        sealed = folder / "sealed"
        shutil.copytree(plain, sealed)
        ring = KeyRing(folder / "keys", _MASTER)
        ring.new("raw")
        for file in sorted(sealed.rglob("*.parquet")):
            seal_in_place(file, ring, "raw")
        rates: dict[str, list[float]] = {"plain": [], "sealed": []}
        for _ in range(runs):
            for name, day in (("plain", plain), ("sealed", sealed)):
                task = Task(str(day), (SEED,), _DEPTH_MS, as_vendor=True)
                with scratch() as work:
                    given = [json.dumps(asdict(task)), warm_up]
                    answer = run_child(
                        "benchmarks.end_to_end", given, work, PIPELINE_MASTER_KEY=key
                    )
                rates[name].append(answer["rows"] / answer["cpu_s"] / 1e6)
    group = f"rebuild of a vendor's day, {rows:,} rows, top 20 per 100 ms"
    return [
        rate(group, f"from {name} raw files", Spread.of(found)) for name, found in rates.items()
    ]
