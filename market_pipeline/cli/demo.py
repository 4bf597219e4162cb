"""`market-pipeline simulate` and `demo`: the pipeline on a made-up venue with planted faults."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from market_pipeline.cli.days import dagster_home, run_days
from market_pipeline.cli.options import DAY_FORMATS, EndDate, in_order
from market_pipeline.cli.output import console, print_verdicts
from market_pipeline.cli.run import FAILED, print_failed
from market_pipeline.cli.verdict import read_verdicts

if TYPE_CHECKING:
    from market_pipeline.sources.simulated import SimulationPlan

__all__ = ["demo", "simulate"]


def simulate(
    lake: Annotated[Path, typer.Argument(help="The lake folder to write into.")],
    start_date: Annotated[
        datetime | None,
        typer.Option(formats=DAY_FORMATS, help="First UTC day; without it the days of the demo."),
    ] = None,
    end_date: EndDate = None,
    instruments: Annotated[
        int, typer.Option(min=1, max=999, help="How many instruments, from SIM001-USDT-PERP on.")
    ] = 2,
    messages: Annotated[
        int, typer.Option(min=100, max=20_000_000, help="Messages of an average day.")
    ] = 100_000,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="Plant this fault; of several, or of `all`, one a day in turn."),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Write the market's own best bid and ask below this folder.")
    ] = None,
    instruments_file: Annotated[
        Path | None, typer.Option(help="Write the instruments file of these instruments there.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace days and a file that are already there.")
    ] = False,
) -> None:
    """Write days of a made-up venue into a lake folder, planted faults included.

    Without --start-date these are the demo's three days of two instruments, whose files are
    replaced. `docs/sources/simulated.md` lists the faults.

    Exit code 2: nothing, or not all, could be written.
    """
    from market_pipeline.sources.simulated import demo_plan

    if instruments_file and instruments_file.exists() and not overwrite:
        raise typer.BadParameter(f"{instruments_file} is there", param_hint="--instruments-file")
    if start_date is None:
        if end_date or fault:
            raise typer.BadParameter("give the first day too", param_hint="--start-date")
        plan, overwrite = demo_plan(), True
    else:
        plan = _range_plan(start_date, end_date, instruments, fault or [])
    _simulate(lake, plan, console(), messages=messages, truth=truth, overwrite=overwrite)
    if instruments_file:
        _write_instruments(instruments_file, plan)


def _range_plan(
    start_date: datetime, end_date: datetime | None, instruments: int, faults: Sequence[str]
) -> SimulationPlan:
    from market_pipeline.sources.simulated import FaultKind, range_plan

    start, end = in_order(start_date, end_date)
    known = [each.value for each in FaultKind]
    kinds = known if faults == ["all"] else faults
    for kind in kinds:
        if kind not in known:
            raise typer.BadParameter(
                f"{kind!r} is none of {', '.join(known)}, all", param_hint="--fault"
            )
    return range_plan(start, end, instruments, [FaultKind(kind) for kind in kinds])


def _simulate(
    lake: Path,
    plan: SimulationPlan,
    out: Console,
    *,
    messages: int = 100_000,
    truth: Path | None = None,
    overwrite: bool,
) -> None:
    from market_pipeline.sources import simulated

    with out.status("simulating") as status:
        files = simulated.simulate(
            lake,
            plan.instruments,
            plan.start,
            plan.end,
            faults=plan.faults,
            messages_per_day=messages,
            truth=truth,
            overwrite=overwrite,
            progress=status.update,
        )
    planted = ", with these faults planted:" if plan.faults else ""
    out.print(f"{len(files)} raw files written below {lake}{planted}")
    for fault in plan.faults:
        out.print(f"  {fault.day} {fault.symbol}: {fault.kind}", highlight=False)


def _write_instruments(file: Path, plan: SimulationPlan) -> None:
    import yaml

    from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder

    listed = [
        each.as_instrument().model_dump(
            mode="json", include={"venue", "symbol", "source", "tick", "lot"}
        )
        for each in plan.instruments
    ]
    make_private_folder(file.parent)
    file.touch(PRIVATE_FILE)
    file.write_text(yaml.safe_dump({"instruments": listed}, sort_keys=False), encoding="utf-8")


def demo() -> None:
    """Simulate three days of two instruments, run every stage on them, show the verdicts.

    Everything is written where PIPELINE_DATA_DIR, PIPELINE_LAKE_URI and PIPELINE_INSTRUMENTS_FILE
    point; `make demo` points them into `data/demo`. Exit code 2 if a run failed, else 0: the
    faults in the verdicts are planted ones.
    """
    from market_pipeline.config.settings import load_settings
    from market_pipeline.sources.simulated import demo_plan
    from market_pipeline.tables import with_catalogue

    settings = load_settings()
    dagster_home()  # refused before a minute of work, not after it
    out = console()
    plan = demo_plan()
    with_catalogue(settings.data_dir)
    _simulate(settings.lake_path, plan, out, overwrite=True)
    _write_instruments(settings.instruments_file, plan)
    days = [plan.start + timedelta(days=n) for n in range((plan.end - plan.start).days + 1)]
    failed = run_days(days, [each.id for each in plan.instruments], out)
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
