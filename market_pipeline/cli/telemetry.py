"""`market-pipeline telemetry`: the figures of the pipeline itself, listed and served."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from market_pipeline.cli.output import console

__all__ = ["telemetry"]

telemetry = typer.Typer(
    name="telemetry",
    help="List the figures that the pipeline keeps about itself, or serve them to Prometheus.",
    no_args_is_help=True,
)


@telemetry.command("list")
def show() -> None:
    """Print every metric as a table in Markdown, as it stands in the documentation.

    Exit code 0.
    """
    from market_pipeline.telemetry.table import table_markdown

    typer.echo(table_markdown(), nl=False)


@telemetry.command("serve")
def serve(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Instead of the setting; 0 is any that is free."),
    ] = None,
) -> None:
    """Serve the figures of all processes at `/metrics` on this machine, until Ctrl-C or SIGTERM.

    It follows the files in the data folder and adds them up. `/livez` and `/readyz` say whether it
    lives, and whether it has read all.

    Exit code 0: ended as asked. 2: it could not start, as where the port is taken.
    """
    from market_pipeline.config.settings import load_settings
    from market_pipeline.telemetry.bridge import Bridge
    from market_pipeline.telemetry.recording import FOLDER
    from market_pipeline.telemetry.server import BridgeServer

    settings = load_settings()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    wanted = settings.metrics_port if port is None else port
    try:
        server = BridgeServer(Bridge(settings.data_dir / FOLDER), wanted)
    except OSError as error:
        raise typer.BadParameter(
            f"port {wanted} of this machine cannot be used: {error.strerror}. Set "
            "PIPELINE_METRICS_PORT to one that is free.",
            param_hint="--port",
        ) from None
    console().print(f"http://127.0.0.1:{server.port}/metrics", soft_wrap=True)
    server.run(stop)
