"""Runs the benchmarks: `make bench`, or `python -m benchmarks --help` for the choices."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks.capture import capture_figures as recorder_figures
from benchmarks.captures import capture_figures, made_capture, real_captures
from benchmarks.chain import month_figures, tiny_figures, vendor_figures
from benchmarks.days import DayArrays, real_day, synthetic_day
from benchmarks.end_to_end import day_figures, thread_figures
from benchmarks.figures import Figure
from benchmarks.history import history_figures
from benchmarks.kernel import kernel_figures
from benchmarks.machine import describe_machine
from benchmarks.replay import replay_figures
from benchmarks.report import print_results
from benchmarks.research import research_figures
from benchmarks.resume import resume_figures
from benchmarks.rivals import lakeapi_figures, rival_python
from benchmarks.sealing import sealing_figures
from benchmarks.start import start_figures
from benchmarks.trades import trade_figures
from benchmarks.workspace import work_folder

_FULL_ROWS = 100_000_000
_FULL_DISK_GB = 4


@dataclass(slots=True)
class Suite:
    """The benchmarks in their order; what cannot be run is left out with its reason.

    Attributes:
        kernel_rows, end_to_end_rows, history_days, capture_frames, trades_number, recorded_frames,
            failovers, sealed_mb: How much.
        runs: How often.
        console: Where progress is said.
    """

    kernel_rows: int
    end_to_end_rows: Sequence[int]
    history_days: int
    capture_frames: int
    trades_number: int
    recorded_frames: int
    failovers: int
    sealed_mb: int
    runs: int
    console: Console
    figures: list[Figure] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def kernel(self) -> None:
        """The kernel on the synthetic day."""
        self.figures += kernel_figures(synthetic_day(self.kernel_rows).deltas, self.runs)

    def lakeapi(self) -> None:
        """Ours and lakeapi on the synthetic day and on the real capture."""
        try:
            python = rival_python()
        except RuntimeError as error:
            self.left_out.append(f"{error}.")
            return
        days: tuple[Callable[[], DayArrays], ...] = (
            lambda: synthetic_day(self.kernel_rows),
            real_day,
        )
        for make in days:
            try:
                day = make()
            except FileNotFoundError as error:
                self.left_out.append(f"the real capture: {error}.")
            else:
                self.figures += lakeapi_figures(day, python, self.runs)

    def end_to_end(self) -> None:
        """Parquet to Parquet at each size."""
        for rows in self.end_to_end_rows:
            self.console.print(f"  {rows:,} rows")
            self.figures += day_figures(rows, self.runs)

    def threads(self) -> None:
        """Two instruments in one thread and in two."""
        self.figures += thread_figures(min(self.end_to_end_rows), self.runs)

    def replay(self) -> None:
        """A published day replayed message by message."""
        self.figures += replay_figures(self.kernel_rows, self.runs)

    def resume(self) -> None:
        """Saving a rebuild, and going on after it was killed."""
        self.figures += resume_figures(self.runs)

    def chain(self) -> None:
        """Every stage of a day, from raw files to the verdict."""
        for rows in self.end_to_end_rows:
            self.console.print(f"  {rows:,} rows")
            self.figures += vendor_figures(rows, self.runs)
        self.figures += tiny_figures(self.runs)

    def month(self) -> None:
        """Every stage of each day of a month of many instruments with little data."""
        self.figures += month_figures()

    def history(self) -> None:
        """A day after few and after many days."""
        for days in (10, self.history_days):
            self.console.print(f"  {days:,} days")
            self.figures += history_figures(days)

    def captures(self) -> None:
        """Captures of the sample data, and a made one."""
        try:
            self.figures += capture_figures("real", real_captures(), self.runs)
        except FileNotFoundError as error:
            self.left_out.append(f"the real captures: {error}.")
        made = made_capture(self.capture_frames)
        self.figures += capture_figures("made", [made], self.runs)

    def capture(self) -> None:
        """The recorder: lag, CPU time, memory and failovers."""
        self.figures += recorder_figures(self.recorded_frames, self.failovers)

    def trades(self) -> None:
        """Trades with their books, and bars of them."""
        self.figures += trade_figures(self.trades_number, self.runs)

    def research(self) -> None:
        """A published day as a researcher uses it."""
        self.figures += research_figures(min(self.end_to_end_rows), self.runs)

    def sealing(self) -> None:
        """Files sealed and opened, and a rebuild from sealed ones."""
        self.figures += sealing_figures(self.sealed_mb, min(self.end_to_end_rows), self.runs)

    def start(self) -> None:
        """The first row of a fresh process."""
        self.figures += start_figures(self.runs)


_PARTS = (
    "kernel",
    "lakeapi",
    "end_to_end",
    "threads",
    "replay",
    "resume",
    "chain",
    "month",
    "history",
    "captures",
    "capture",
    "trades",
    "research",
    "sealing",
    "start",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what was asked for, prints the figures and writes them as JSON."""
    given = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    sizes = list(given.end_to_end_rows)
    if given.full:
        free_gb = shutil.disk_usage(work_folder()).free / 1e9
        if free_gb < _FULL_DISK_GB:
            raise SystemExit(
                f"--full needs {_FULL_DISK_GB} GB in {work_folder()}, which has {free_gb:.1f} GB. "
                "Make room, or name another folder: BENCH_FOLDER=/folder make bench"
            )
        sizes.append(_FULL_ROWS)
    suite = Suite(
        given.kernel_rows,
        sizes,
        given.history_days,
        given.capture_frames,
        given.trades,
        given.recorded_frames,
        given.failovers,
        given.sealed_mb,
        given.runs,
        console,
    )
    machine = describe_machine()
    for part in _PARTS:
        if part in given.only:
            console.print(f"{part.replace('_', ' ')} …")
            getattr(suite, part)()
    results = {
        "taken_on": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine,
        "runs": given.runs,
        "left_out": suite.left_out,
        "figures": [figure.as_record() for figure in suite.figures],
    }
    print_results(results, console)
    file = given.json or work_folder() / "results.json"
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    console.print(f"Written to {file}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=_PARTS, default=_PARTS, help="these parts only"
    )
    parser.add_argument(
        "--kernel-rows", type=int, default=5_000_000, help="of the kernel and of lakeapi"
    )
    parser.add_argument(
        "--end-to-end-rows", type=int, nargs="+", default=[5_000_000, 20_000_000], help="each size"
    )
    parser.add_argument(
        "--history-days", type=int, default=1_000, help="published before what is measured"
    )
    parser.add_argument("--capture-frames", type=int, default=1_000_000, help="of the made capture")
    parser.add_argument("--trades", type=int, default=2_000_000, help="of a day")
    parser.add_argument("--recorded-frames", type=int, default=10_000_000, help="of the recorder")
    parser.add_argument("--failovers", type=int, default=50, help="of each kind of loss")
    parser.add_argument("--sealed-mb", type=int, default=256, help="of what is sealed")
    parser.add_argument("--full", action="store_true", help="end to end at 100 M rows as well")
    parser.add_argument("--runs", type=int, default=5, help="runs, or pairs of runs, of each")
    parser.add_argument("--json", type=Path, help="the results file (.bench/results.json)")
    return parser


if __name__ == "__main__":
    main()
