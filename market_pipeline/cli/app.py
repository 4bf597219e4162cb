"""The verbs of the console script: one per task, `--json` where a script reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from market_pipeline.cli._begin import begin
from market_pipeline.cli._ending import ending_recorded
from market_pipeline.cli.access import access
from market_pipeline.cli.alerts import alerts
from market_pipeline.cli.analyze import analyze
from market_pipeline.cli.audit import audit
from market_pipeline.cli.backup import backup
from market_pipeline.cli.capture import capture
from market_pipeline.cli.compare import compare
from market_pipeline.cli.coverage import coverage
from market_pipeline.cli.demo import demo, simulate
from market_pipeline.cli.doctor import doctor
from market_pipeline.cli.fetch import fetch
from market_pipeline.cli.golden import golden
from market_pipeline.cli.health import health
from market_pipeline.cli.inventory import inventory
from market_pipeline.cli.keys import keys
from market_pipeline.cli.lineage import lineage
from market_pipeline.cli.logs import logs
from market_pipeline.cli.prune import prune
from market_pipeline.cli.recording import recording
from market_pipeline.cli.report import report
from market_pipeline.cli.run import run
from market_pipeline.cli.secrets import secrets
from market_pipeline.cli.telemetry import telemetry
from market_pipeline.cli.verdict import verdict
from market_pipeline.machine import require_open_files

__all__ = ["app"]


_WORDS = f"{__name__}.words"
_HELP = "--help"


class _Verbs(TyperGroup):
    """Has each verb begin and end with what all do; it begins before its arguments are looked at.

    Where one of them is `--help` it begins only once it runs: then that was the value of another.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for verb in _leaves(self):
            verb.invoke = _begun(verb.invoke)

    def invoke(self, ctx: Any) -> Any:
        words: list[str] = [*ctx._protected_args, *ctx.args]
        if words and words[0] in self.commands:
            ctx.meta[_WORDS] = words
            if _HELP not in words:
                begin(words[0], words[1:])
            with ending_recorded(words[0]):
                return super().invoke(ctx)
        return super().invoke(ctx)


def _leaves(group: TyperGroup) -> Iterator[Any]:
    for command in group.commands.values():
        if isinstance(command, TyperGroup):
            yield from _leaves(command)
        else:
            yield command


def _begun(invoke: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def begun(ctx: Any) -> Any:
        words = ctx.meta.get(_WORDS, [])
        if _HELP in words:
            begin(words[0], words[1:])
        return invoke(ctx)

    return begun


app = typer.Typer(
    name="market-pipeline",
    cls=_Verbs,
    help="Raw level-2 days in; rebuilt order books, a verdict for every day, and metrics out.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
)
for verb in (
    analyze,
    inventory,
    fetch,
    capture,
    run,
    verdict,
    coverage,
    report,
    compare,
    lineage,
    prune,
    doctor,
    access,
    health,
    logs,
    simulate,
    demo,
):
    app.command()(verb)
app.add_typer(alerts)
app.add_typer(recording)
app.add_typer(golden)
app.add_typer(keys)
app.add_typer(backup)
app.add_typer(audit)
app.add_typer(secrets)
app.add_typer(telemetry)


def _show_version(asked: bool) -> None:
    if asked:
        from market_pipeline import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Hold the options that stand before a verb, and refuse one that could open too few files.

    Libraries in Rust panic for want of them, with lines of their own. The doctor lists it.
    """
    if context.invoked_subcommand != doctor.__name__:
        require_open_files()
