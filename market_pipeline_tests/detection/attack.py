"""All faults against truth: `python -m market_pipeline_tests.detection.attack`, a Markdown table.

Every kind of fault is put into copies of clean days; what is published of each is compared, row by
row, with the true book. The real sample days are looked for where MARKET_PIPELINE_SAMPLE_DATA
points; `--simulated` takes whole simulated days, whose clean verdict is `available`, and
`--captures` the beginnings of real captures.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import polars as pl
import typer

from market_pipeline_tests.detection.attack_table import by_class, summary, table
from market_pipeline_tests.detection.bases import (
    SIMULATED,
    load_base,
    prepare_sample,
    prepare_simulated,
)
from market_pipeline_tests.detection.capture_bases import CAPTURE_BASES, prepare_capture
from market_pipeline_tests.detection.faults import CASES, Case, compose
from market_pipeline_tests.detection.trial import Trial, try_spoilt
from market_pipeline_tests.quality.sample import SAMPLE_DAYS

AND = " + "
DEFAULT_DAYS = (0, 3)
"""Spot and COIN-M: few messages of many rows, and many of few."""


def cases_of(only: str = "", *, captures: bool = False) -> list[Case]:
    """The cases of all kinds whose name or module holds some words."""
    return [
        case
        for case in CASES.values()
        if case.kind.of_captures == captures and only in f"{case.kind.module}: {case.name}"
    ]


def pairs_of(cases: Sequence[Case], count: int, seed: int = 1) -> list[str]:
    """Names of pairs of cases of different classes, drawn at random."""
    drawn = random.Random(seed)
    pairs: list[str] = []
    while len(pairs) < count:
        one, other = drawn.sample(list(cases), 2)
        if one.kind.module != other.kind.module:
            pairs.append(f"{one.name}{AND}{other.name}")
    return pairs


class Work(NamedTuple):
    """A case, or several joined by +, at a place of a prepared base."""

    base: Path
    names: str
    place: float = 0.5

    @property
    def key(self) -> str:
        """What names it in the record."""
        return f"{self.base.parent.name}: {self.names} at {self.place:g}"


class Record:
    """The trials so far, in a file that an attack which was stopped goes on from."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.done: dict[str, Trial | None] = {}
        if file is not None and file.exists():
            for line in file.read_bytes().splitlines():
                key, trial = msgspec.json.decode(line, type=tuple[str, Trial | None])
                self.done[key] = trial

    def add(self, work: Work, trial: Trial | None) -> None:
        """Keeps the trial of a work; None if its faults could not be combined."""
        self.done[work.key] = trial
        if self._file is not None:
            with self._file.open("ab") as opened:
                opened.write(msgspec.json.encode((work.key, trial)) + b"\n")


def tried(work: Work) -> Trial | None:
    """Tries a case at a place of a prepared base, or several in turn.

    None if they cannot be combined: the second finds no such row in what the first left.
    """
    file, names, place = work
    base = load_base(file)
    moved = replace(base, day=replace(base.day, place=place))
    changes = [CASES[each] for each in names.split(AND)]
    try:
        spoilt = compose(*changes)(moved.day)
    except (ArithmeticError, LookupError, StopIteration, ValueError, pl.exceptions.PolarsError):
        if len(changes) == 1:
            raise
        return None
    return try_spoilt(moved, names, spoilt)


def main(
    day: Annotated[list[int] | None, typer.Option(help="Number of a sample day.")] = None,
    all_days: Annotated[bool, typer.Option("--all", help="All sample days.")] = False,
    simulated: Annotated[bool, typer.Option(help="Whole simulated days.")] = False,
    captures: Annotated[bool, typer.Option(help="Capture files.")] = False,
    pairs: Annotated[int, typer.Option(help="So many random pairs instead.")] = 0,
    place: Annotated[float, typer.Option(help="Where, as a share of the day.")] = 0.5,
    only: Annotated[str, typer.Option(help="Words of a kind's module or name.")] = "",
    jobs: Annotated[int, typer.Option(help="Processes.")] = 2,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Keep all figures, or go on from them.")
    ] = None,
    bases: Annotated[Path | None, typer.Option(help="Where to keep clean days.")] = None,
) -> None:
    """Puts every kind of fault into clean days and prints what was wrong and what was found."""
    # Each process takes one core; they would else fight for it.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    numbers = list(range(len(SAMPLE_DAYS))) if all_days else list(day or ())
    if not (numbers or simulated or captures):
        numbers = list(DEFAULT_DAYS)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        root = bases or Path(folder)
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            files = [pool.submit(prepare_sample, root, number) for number in numbers]
            if simulated:
                files += [pool.submit(prepare_simulated, root, name) for name in SIMULATED]
            of_captures = [
                pool.submit(prepare_capture, root, each) for each in CAPTURE_BASES if captures
            ]
            work = []
            for of_kind, prepared in ((False, files), (True, of_captures)):
                if not prepared:
                    continue  # kinds of one module alone make no pair
                cases = cases_of(only, captures=of_kind)
                names = pairs_of(cases, pairs) if pairs else [case.name for case in cases]
                work += [Work(file.result(), name, place) for file in prepared for name in names]
            record = Record(json_file)
            asked = {pool.submit(tried, each): each for each in work if each.key not in record.done}
            for number, future in enumerate(as_completed(asked), 1):
                record.add(asked[future], future.result())
                if number % 20 == 0:
                    typer.echo(f"{number} of {len(asked)}", err=True)
    trials = [trial for each in work if (trial := record.done[each.key]) is not None]
    typer.echo(summary(trials))
    typer.echo(f"- {time.monotonic() - started:,.0f} s\n")
    for line in (*by_class(trials), "", *table(trials)):
        typer.echo(line)


if __name__ == "__main__":
    typer.run(main)
