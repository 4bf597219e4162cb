"""`market-pipeline alerts`: what waits and what was sent, a test message, dead letters again."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from market_pipeline.cli.output import console
from market_pipeline.lake.layout import Warehouse
from market_pipeline.settings import load_settings

if TYPE_CHECKING:
    from market_pipeline.alerts.outbox import Delivery

__all__ = ["alerts"]

alerts = typer.Typer(
    name="alerts",
    help="Show, test and send again what is told to the receivers of alerts.",
    no_args_is_help=True,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@alerts.command("list")
def list_alerts(
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="Only waiting, sent or dead; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Only so many, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show each alert and receiver: what waits, what was sent, what is a dead letter.

    Exit code 0: there is no dead letter. 1: there is one, whatever is shown. 2: wrong usage.
    """
    from market_pipeline.alerts.outbox import STATES, Outbox  # noqa: PLC0415

    unknown = sorted(set(state or []) - set(STATES))
    if unknown:
        raise typer.BadParameter(
            f"{', '.join(unknown)}: expected waiting, sent or dead", param_hint="--state"
        )
    outbox = Outbox(Warehouse(load_settings().data_dir))
    shown = outbox.deliveries([each for each in STATES if each in (state or STATES)], limit)
    if as_json:
        typer.echo(json.dumps([_as_json(each) for each in shown], indent=2))
    elif shown:
        console().print(_table(shown))
    else:
        console().print("No alert.")
    raise typer.Exit(1 if outbox.deliveries(["dead"], 1) else 0)


@alerts.command("test")
def test_receivers(as_json: AsJson = False) -> None:
    """Send a test message to every receiver now, past the outbox.

    Exit code 0: all took it. 1: one did not, or there is none. 2: wrong usage.
    """
    from market_pipeline.alerts.alert import trial_alert  # noqa: PLC0415
    from market_pipeline.alerts.payloads import Links  # noqa: PLC0415
    from market_pipeline.alerts.targets import (  # noqa: PLC0415
        Refused,
        configured_targets,
        send,
    )

    settings = load_settings()
    alert, links = trial_alert(time.time_ns()), Links.of(settings)
    results: list[dict[str, str | None]] = []
    for target in configured_targets(settings):
        error = None
        try:
            send(target, alert, links, timeout_seconds=settings.alert_timeout_seconds)
        except Refused as refused:
            error = str(refused)
        results.append({"target": target.name, "error": error})
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        for each in results:
            console().print(f"{each['target']}: {each['error'] or 'taken'}", markup=False)
        if not results:
            console().print("No receiver is configured; docs/alerts.md says how.")
    raise typer.Exit(0 if results and not any(each["error"] for each in results) else 1)


@alerts.command("retry")
def retry(as_json: AsJson = False) -> None:
    """Let every dead letter wait for delivery again; the daemon sends it.

    Exit code 0: all wait again, or there was none. 1: one has no receiver any more. 2: wrong usage.
    """
    from market_pipeline.alerts.outbox import Outbox  # noqa: PLC0415
    from market_pipeline.alerts.targets import configured_targets  # noqa: PLC0415

    settings = load_settings()
    names = [target.name for target in configured_targets(settings)]
    revived, stay = Outbox(Warehouse(settings.data_dir)).revive(names, now_s=time.time())
    if as_json:
        typer.echo(json.dumps({"waiting": revived, "dead": stay}, indent=2))
    else:
        without = f"; {stay} without a receiver stay dead" if stay else ""
        console().print(f"{revived} dead letters wait for delivery again{without}.")
    raise typer.Exit(1 if stay else 0)


def _as_json(delivery: Delivery) -> dict[str, object]:
    return {**asdict(delivery), "alert": delivery.alert.as_json()}


def _table(deliveries: list[Delivery]) -> Table:
    table = Table(title="Alerts", show_lines=True, title_justify="left")
    for column in ("state", "receiver", "day", "instrument", "what"):
        table.add_column(column, no_wrap=True)
    table.add_column("attempts", justify="right")
    table.add_column("text", overflow="fold", ratio=1)
    for each in deliveries:
        alert = each.alert
        text = alert.summary + (f"\n({each.error})" if each.error and each.state != "sent" else "")
        table.add_row(
            each.state,
            each.target,
            "" if alert.day is None else alert.day.isoformat(),
            alert.instrument or "",
            alert.check or alert.kind,
            str(each.attempts),
            text.replace("[", "\\["),
        )
    return table
