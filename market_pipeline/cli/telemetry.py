"""`market-pipeline telemetry`: the figures of the pipeline itself, listed and served."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from market_pipeline.cli.output import console
from market_pipeline.cli.run import FAILED

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings

__all__ = ["telemetry"]

_HEALTH_SECONDS = 30.0

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
    from market_pipeline.telemetry.metrics.table import table_markdown

    typer.echo(table_markdown(), nl=False)


@telemetry.command("serve")
def serve(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Instead of the setting; 0 is any that is free."),
    ] = None,
) -> None:
    """Serve the figures of all processes at `/metrics` of this machine, until Ctrl-C or SIGTERM.

    It follows the files in the data folder and adds them up. `/health` has what
    `market-pipeline health` finds; `/livez` and `/readyz` say whether this process lives, and
    whether it has read all. Where `PIPELINE_OTLP_URL` names a collector it pushes them and
    the spans of runs, too.

    Exit code 0: ended as asked. 2: it could not start, as where the port is taken.
    """
    from market_pipeline.config.current import CurrentSettings
    from market_pipeline.config.settings import load_settings
    from market_pipeline.telemetry.bridge.otlp_push import OtlpPush
    from market_pipeline.telemetry.bridge.server import BridgeServer
    from market_pipeline.telemetry.bridge.sums import Bridge
    from market_pipeline.telemetry.metrics.recording import FOLDER, begin
    from market_pipeline.warehouse.heartbeats import Sign
    from market_pipeline.warehouse.layout import Warehouse

    settings = load_settings()
    current = CurrentSettings(settings, load_settings)
    begin(settings, "command")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    wanted = settings.metrics_port if port is None else port
    sign = Sign(Warehouse(settings.data_dir), "telemetry")
    try:
        bridge = Bridge(settings.data_dir / FOLDER)
        server = BridgeServer(
            *(bridge, wanted, _Health(), sign.beat),
            host=settings.metrics_host,
            token=partial(_token, settings, current),
        )
    except OSError as error:
        raise typer.BadParameter(
            f"port {wanted} of {settings.metrics_host} cannot be used: {error.strerror}. Set "
            "PIPELINE_METRICS_PORT to one that is free, and PIPELINE_METRICS_HOST to an address of "
            "this machine.",
            param_hint="--port",
        ) from None
    console().print(f"http://{settings.metrics_host}:{server.port}/metrics", soft_wrap=True)
    push = OtlpPush(bridge, current)
    push.start()
    server.run(stop)
    push.stop()
    sign.stop()


def _token(began_with: Settings, current: Callable[[], Settings]) -> str | None:
    """What clients have to show now; one that is taken away stays until this process ends.

    It listens where it did when there was one.
    """
    token = current().metrics_token or began_with.metrics_token
    return None if token is None else token.get_secret_value()


class _Health:
    """The last look at the health; a new one once that is half a minute old."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looked_s, self._found = float("-inf"), (False, b"")

    def __call__(self) -> tuple[bool, bytes]:
        from market_pipeline.config.settings import usable_settings
        from market_pipeline.health.figures import record_health
        from market_pipeline.health.look import look
        from market_pipeline.health.memory import Memory
        from market_pipeline.warehouse.layout import Warehouse

        with self._lock:
            if time.monotonic() - self._looked_s > _HEALTH_SECONDS:
                settings, problems = usable_settings()
                samples = Memory.of(Warehouse(settings.data_dir)).disks
                found = look(settings, problems, samples, time.time())
                record_health(found)
                self._found = found.exit_code == FAILED, json.dumps(found.as_json()).encode()
                self._looked_s = time.monotonic()
            return self._found
