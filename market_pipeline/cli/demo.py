"""`market-pipeline simulate` and `demo`: the pipeline on a made-up venue with planted faults."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from market_pipeline.cli.output import console, verdict_table
from market_pipeline.cli.run import run_days
from market_pipeline.cli.verdict import read_verdicts
from market_pipeline.settings import load_settings
from market_pipeline.sources.simulated import demo_plan, simulate as simulate_days

__all__ = ["demo", "simulate"]


def simulate(
    lake: Annotated[Path, typer.Argument(help="The lake folder to write into.")],
) -> None:
    """Write the demo venue's three days into a lake folder, planted faults included."""
    _simulate(lake, console())


def _simulate(lake: Path, out: Console) -> None:
    instruments, faults, start, end = demo_plan()
    with out.status("simulating") as status:
        files = simulate_days(
            lake, instruments, start, end, faults=faults, overwrite=True, progress=status.update
        )
    out.print(f"{len(files)} raw files written below {lake}. Faults planted:")
    for fault in faults:
        out.print(f"  {fault.day} {fault.symbol}: {fault.kind}", highlight=False)


def demo() -> None:
    """Simulate three days of two instruments, run the whole graph on them, show the verdicts.

    The data goes where PIPELINE_DATA_DIR, PIPELINE_LAKE_URI and PIPELINE_INSTRUMENTS_FILE point;
    `make demo` points them into `data/demo`.
    """
    settings = load_settings()
    out = console()
    instruments, _, start, end = demo_plan()
    _simulate(settings.lake_path, out)
    listed = [
        {
            "venue": each.venue,
            "symbol": each.symbol,
            "source": "simulated",
            "tick": str(each.tick),
            "lot": str(each.lot),
        }
        for each in instruments
    ]
    settings.instruments_file.parent.mkdir(parents=True, exist_ok=True)
    settings.instruments_file.write_text(yaml.safe_dump({"instruments": listed}, sort_keys=False))
    days = [start.replace(day=start.day + n) for n in range((end - start).days + 1)]
    failed = run_days(days, [f"{each.venue}:{each.symbol}" for each in instruments], out)
    out.print(verdict_table(read_verdicts(settings, start, end)))
    for day, reason in failed.items():
        out.print(f"failed: {day}: {reason}", markup=False, soft_wrap=True)
    catalogue = shlex.quote(str(settings.data_dir / "warehouse" / "market.duckdb"))
    out.print("\nThe faults above are the planted ones; each check's page is in docs/checks.")
    out.print("Look at it:  make demo-ui   (then open http://127.0.0.1:3000)", highlight=False)
    out.print(f"Query it:    duckdb -readonly {catalogue}", highlight=False, soft_wrap=True)
    raise typer.Exit(2 if failed else 0)
