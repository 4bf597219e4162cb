"""`market-pipeline alerts`: what waits and was sent, how receivers stand, a test, a second try."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins
from rich.table import Table

from market_pipeline.cli.output import console

if TYPE_CHECKING:
    from market_pipeline.alerts.outbox import Delivery, Standing

__all__ = ["alerts"]

alerts = typer.Typer(
    name="alerts",
    help="Show, test and send again what is reported to the receivers of alerts.",
    no_args_is_help=True,
)
_NO_RECEIVER = "No receiver is configured; docs/alerts.md says how."
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
    from market_pipeline.alerts.outbox import STATES, Outbox
    from market_pipeline.config.settings import load_settings
    from market_pipeline.warehouse.layout import Warehouse

    unknown = sorted(set(state or []) - set(STATES))
    if unknown:
        raise typer.BadParameter(
            f"{', '.join(unknown)}: expected waiting, sent or dead", param_hint="--state"
        )
    outbox = Outbox(Warehouse(load_settings().data_dir))
    shown = outbox.deliveries([each for each in STATES if each in (state or STATES)], limit)
    if as_json:
        typer.echo(json.dumps(to_builtins(shown), indent=2))
    elif shown:
        console().print(_table(shown))
    else:
        console().print("No alert.")
    raise typer.Exit(1 if any(each.dead for each in outbox.standings()) else 0)


@alerts.command("receivers")
def receivers(as_json: AsJson = False) -> None:
    """Show how things stand with each receiver: what waits how long, and when it last took one.

    Exit code 0: nobody has a dead letter or failed at the last attempt. 1: somebody does. 2: wrong
    usage.
    """
    from market_pipeline.alerts.outbox import Outbox, Standing
    from market_pipeline.alerts.targets import configured_targets
    from market_pipeline.config.settings import load_settings
    from market_pipeline.warehouse.layout import Warehouse

    settings, now_s = load_settings(), time.time()
    configured = [target.name for target in configured_targets(settings)]
    known = {each.target: each for each in Outbox(Warehouse(settings.data_dir)).standings()}
    shown = [known.pop(name, Standing(name)) for name in configured] + list(known.values())
    if as_json:
        figures = [
            {
                **asdict(each),
                "configured": each.target in configured,
                "failing": each.failing,
                "oldest_waits_seconds": each.oldest_waits_seconds(now_s),
            }
            for each in shown
        ]
        typer.echo(json.dumps(figures, indent=2))
    elif shown:
        console().print(_standings_table(shown, configured, now_s))
    else:
        console().print(_NO_RECEIVER)
    raise typer.Exit(1 if any(each.dead or each.failing for each in shown) else 0)


@alerts.command("test")
def test_receivers(as_json: AsJson = False) -> None:
    """Send a test message to every receiver now, past the outbox.

    Exit code 0: all took it. 1: one did not, or there is none. 2: wrong usage.
    """
    from market_pipeline.alerts.alert import trial_alert
    from market_pipeline.alerts.payloads import Links
    from market_pipeline.alerts.targets import Refused, Target, configured_targets, send
    from market_pipeline.config.settings import load_settings
    from market_pipeline.threads import Workers

    settings = load_settings()
    alert, links = trial_alert(time.time_ns()), Links.of(settings)

    def result(target: Target) -> dict[str, str | None]:
        error = None
        try:
            send(target, alert, links, timeout_seconds=settings.alert_timeout_seconds)
        except Refused as refused:
            error = str(refused)
        return {"target": target.name, "error": error}

    targets = configured_targets(settings)
    with Workers(len(targets), "alerts") as threads:
        results = list(threads.map(result, targets))
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        for each in results:
            console().print(f"{each['target']}: {each['error'] or 'taken'}")
        if not results:
            console().print(_NO_RECEIVER)
    raise typer.Exit(0 if results and not any(each["error"] for each in results) else 1)


@alerts.command("retry")
def retry(as_json: AsJson = False) -> None:
    """Let every dead letter wait for delivery again; the daemon sends it.

    Exit code 0: all wait again, or there was none. 1: one has no receiver any more. 2: wrong usage.
    """
    from market_pipeline.alerts.outbox import Outbox
    from market_pipeline.alerts.targets import configured_targets
    from market_pipeline.config.settings import load_settings
    from market_pipeline.warehouse.layout import Warehouse

    settings = load_settings()
    names = [target.name for target in configured_targets(settings)]
    revived, stay = Outbox(Warehouse(settings.data_dir)).revive(names, now_s=time.time())
    if as_json:
        typer.echo(json.dumps({"waiting": revived, "dead": stay}, indent=2))
    else:
        without = f"; {stay} without a receiver stay dead" if stay else ""
        console().print(f"{revived} dead letters wait for delivery again{without}.")
    raise typer.Exit(1 if stay else 0)


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
            text,
        )
    return table


def _standings_table(standings: list[Standing], configured: Collection[str], now_s: float) -> Table:
    table = Table(title="Receivers of alerts", title_justify="left")
    table.add_column("receiver", no_wrap=True)
    for column in ("wait", "oldest s", "dead"):
        table.add_column(column, justify="right")
    for column in ("last taken", "last failure", "why"):
        table.add_column(column)
    for each in standings:
        waits = each.oldest_waits_seconds(now_s)
        table.add_row(
            each.target + ("" if each.target in configured else " (configured no more)"),
            f"{each.waiting:,}",
            "" if waits is None else f"{waits:,.0f}",
            f"{each.dead:,}",
            _utc(each.sent_s),
            _utc(each.failed_s),
            (each.error or "").replace("[", "\\["),
        )
    return table


def _utc(at_s: float | None) -> str:
    return "never" if at_s is None else f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
