"""`market-pipeline lineage`: what a published day was made of, back to the raw objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from market_pipeline import connect
from market_pipeline.cli.options import DAY_FORMATS, AsJson
from market_pipeline.cli.output import console

if TYPE_CHECKING:
    from market_pipeline.config.values import JsonValue
    from market_pipeline.warehouse.chain import Link, NamedInput

__all__ = ["lineage"]


def lineage(
    day: Annotated[datetime, typer.Option(formats=DAY_FORMATS, help="The UTC day.")],
    instrument: Annotated[
        str, typer.Option(metavar="VENUE:SYMBOL", help="The instrument whose day to trace.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show what a published day was made of, from each table back to the raw objects.

    Exit code 0: every table is made of what is there now. 1: something it was made of was replaced
    or is gone, or nothing is recorded. 2: it could not be read.
    """
    from market_pipeline.config.settings import load_settings
    from market_pipeline.warehouse.chain import read_chain

    with connect(load_settings().data_dir) as connection:
        links = read_chain(connection, instrument, day.date())
    if as_json:
        record = {
            "instrument": instrument,
            "day": day.date().isoformat(),
            "tables": [link.as_json() for link in links],
        }
        typer.echo(json.dumps(record, indent=2))
    elif links:
        out = console()
        for same in _made_of_the_same(links):
            out.print("\n".join(_lines(same)), highlight=False, soft_wrap=True)
    else:
        console().print(f"Nothing is recorded of {instrument} on {day.date()}.")
    raise typer.Exit(0 if links and all(link.is_up_to_date for link in links) else 1)


def _made_of_the_same(links: Sequence[Link]) -> Iterator[list[Link]]:
    """Neighbours with the same inputs and parameters together."""
    for _, same in groupby(links, key=lambda link: (link.inputs, link.parameters)):
        yield list(same)


def _lines(links: Sequence[Link]) -> Iterator[str]:
    for link in links:
        yield f"{link.table}  {link.sha256}"
        yield (
            f"  made {link.made_at:%Y-%m-%d %H:%M:%S} UTC by {link.code_version} "
            f"(package {link.package_version})"
        )
    for name, value in links[0].parameters.items():
        yield f"  {name}: {_text(value)}"
    if not links[0].inputs:
        yield "  of nothing"
    for each in links[0].inputs:
        yield f"  of {each.table} {each.day}  {each.sha256}{_since(each)}"
        if each.path is not None:
            yield f"     {each.path}"
        if each.uri is not None:
            yield f"     {each.uri}"
        for file in each.vendor_files:
            yield f"     from {file}"
    yield ""


def _since(of: NamedInput) -> str:
    if of.state == "replaced":
        return f"  REPLACED since, now {of.sha256_now}"
    return "  GONE since" if of.state == "gone" else ""


def _text(value: JsonValue) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    return value if isinstance(value, str) else json.dumps(value)
