"""`market-pipeline doctor`: is everything there that a run needs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from market_pipeline.cli.output import console, findings_table

__all__ = ["doctor"]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check settings, paths, permissions, disk, instruments, versions and the lake.

    Exit code 0: nothing stands in the way of a run (there may be warnings). 1: something does.
    """
    from market_pipeline.doctor.run import run_doctor

    report = run_doctor()
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        console().print(findings_table(report.findings))
    raise typer.Exit(0 if report.ok else 1)
