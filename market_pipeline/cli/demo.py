"""`market-pipeline simulate` and `demo`: the pipeline on a made-up venue with planted faults."""

from __future__ import annotations

import shlex
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from market_pipeline.cli.days import dagster_home, run_days
from market_pipeline.cli.output import console, print_verdicts
from market_pipeline.cli.run import FAILED, print_failed
from market_pipeline.cli.verdict import read_verdicts
from market_pipeline.config.settings import load_settings
from market_pipeline.tables import with_catalogue
from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder

__all__ = ["demo", "simulate"]


def simulate(
    lake: Annotated[Path, typer.Argument(help="The lake folder to write into.")],
) -> None:
    """Write the demo venue's three days into a lake folder, planted faults included."""
    _simulate(lake, console())


def _simulate(lake: Path, out: Console) -> None:
    # Only these verbs need the simulator, which takes a moment to import.
    from market_pipeline.sources import simulated  # noqa: PLC0415

    plan = simulated.demo_plan()
    with out.status("simulating") as status:
        files = simulated.simulate(
            lake,
            plan.instruments,
            plan.start,
            plan.end,
            faults=plan.faults,
            overwrite=True,
            progress=status.update,
        )
    out.print(f"{len(files)} raw files written below {lake}, with these faults planted:")
    for fault in plan.faults:
        out.print(f"  {fault.day} {fault.symbol}: {fault.kind}", highlight=False)


def demo() -> None:
    """Simulate three days of two instruments, run every stage on them, show the verdicts.

    Everything is written where PIPELINE_DATA_DIR, PIPELINE_LAKE_URI and PIPELINE_INSTRUMENTS_FILE
    point; `make demo` points them into `data/demo`. Exit code 2 if a run failed, else 0: the
    faults in the verdicts are planted ones.
    """
    from market_pipeline.sources.simulated import demo_plan  # noqa: PLC0415

    settings = load_settings()
    dagster_home()  # refused before a minute of work, not after it
    out = console()
    plan = demo_plan()
    with_catalogue(settings.data_dir)
    _simulate(settings.lake_path, out)
    instruments = [each.as_instrument() for each in plan.instruments]
    listed = [
        each.model_dump(mode="json", include={"venue", "symbol", "source", "tick", "lot"})
        for each in instruments
    ]
    make_private_folder(settings.instruments_file.parent)
    settings.instruments_file.touch(PRIVATE_FILE)
    settings.instruments_file.write_text(yaml.safe_dump({"instruments": listed}, sort_keys=False))
    days = [plan.start + timedelta(days=n) for n in range((plan.end - plan.start).days + 1)]
    failed = run_days(days, [each.id for each in instruments], out)
    if failed:
        print_failed(failed)
        raise typer.Exit(FAILED)
    print_verdicts(out, read_verdicts(settings, plan.start, plan.end))
    catalogue = shlex.quote(str(settings.data_dir / "warehouse" / "market.duckdb"))
    for line in (
        "\nThe faults above are the planted ones; docs/checks has a page for each check.",
        "Look at it:  make demo-ui   (then open http://127.0.0.1:3000)",
        f"Query it:    duckdb -readonly {catalogue}",
        f"         or  market_pipeline.connect({str(settings.data_dir)!r}) in Python",
    ):
        out.print(line, highlight=False, soft_wrap=True)
