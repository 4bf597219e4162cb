"""What listens for others to connect: where, who reaches it, and what keeps others out.

All else only connects. A test holds the table in docs/security.md to this one, and that no other
module binds a port.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from market_pipeline.config.transport import is_loopback

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings

__all__ = ["LISTENERS", "Listener", "unguarded"]


@dataclass(frozen=True, slots=True)
class Listener:
    """What listens; the texts are Markdown.

    Attributes:
        name: What it is, and how it is started.
        address, port: Where, unless a setting says otherwise.
        reached_by: Who can connect.
        set_by: What changes address or port.
    """

    name: str
    address: str
    port: str
    reached_by: str
    set_by: str


_PROXY = "others by [the proxy with a login](ui.md#behind-a-reverse-proxy) alone"
LISTENERS = (
    Listener(
        "Dagster's UI: `make ui`, `make demo-ui`",
        "127.0.0.1",
        "3000",
        f"every user of this machine; {_PROXY}",
        "`PORT` of `make`",
    ),
    Listener(
        "Dagster's UI in the container",
        "all of the container",
        "3000",
        f"whoever reaches what `docker run -p 127.0.0.1:3000:3000` publishes; {_PROXY}",
        "`-p` of `docker run`",
    ),
    Listener(
        "Dagster's code servers, which the UI and the daemon start",
        "a socket in the folder of temporary files",
        "none",
        "the user that started them",
        "`TMPDIR`",
    ),
    Listener(
        "Metrics and health: `market-pipeline telemetry serve`",
        "127.0.0.1",
        "9464",
        "every user of this machine; with a token whoever has it, and then also from elsewhere",
        "`PIPELINE_METRICS_HOST`, `PIPELINE_METRICS_PORT`, `PIPELINE_METRICS_TOKEN`",
    ),
    Listener(
        "Prometheus of `ops/compose.yml`",
        "127.0.0.1",
        "9090",
        "every user of this machine, to read every figure",
        "`--web.listen-address` there",
    ),
    Listener(
        "Alertmanager of `ops/compose.yml`",
        "127.0.0.1",
        "9093",
        "every user of this machine, also to send and to silence alerts",
        "`--web.listen-address` there",
    ),
    Listener(
        "Grafana of `ops/compose.yml`",
        "127.0.0.1",
        "3001",
        "every user of this machine, with a login; others by a proxy alone",
        "`GF_SERVER_HTTP_ADDR`, `GF_SERVER_HTTP_PORT` there",
    ),
)


def unguarded(settings: Settings) -> Iterator[tuple[str, str]]:
    """The settings that would have anybody reach what listens, each with what is wrong with it."""
    if not is_loopback(settings.metrics_host) and settings.metrics_token is None:
        yield (
            "metrics_host",
            "expected an address of this machine alone, such as 127.0.0.1, as whoever reaches "
            "another one would be answered; PIPELINE_METRICS_TOKEN has them show a token",
        )
