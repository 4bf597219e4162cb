"""What the last run of each step took, pushed to a Pushgateway where nothing scrapes the bridge.

Only gauges of the last run: counters that are pushed replace each other. Each step is a group, of
which a push replaces all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway

from market_pipeline.config.addresses import addresses_of
from market_pipeline.config.settings import Settings
from market_pipeline.telemetry.bridge.prometheus import prometheus_name
from market_pipeline.telemetry.bridge.push_session import push_session, without_login
from market_pipeline.telemetry.metrics.metric import Metric

__all__ = ["push_last_run"]

_LOG = logging.getLogger(__name__)

_JOB = "market-pipeline"
_WAIT_S = 5.0
_AGAIN_S = 60.0
_not_before_s: dict[str, float] = {}
"""When a gateway that failed is tried again, so that it delays no step after the other."""


def push_last_run(settings: Settings, asset: str, values: Mapping[Metric, float]) -> None:
    """Replaces what each gateway has of an asset; what cannot be pushed is logged, and left.

    Args:
        settings: With the addresses; without any it does nothing.
        asset: The name of the step, which is that of its asset where it makes one.
        values: Of the last run, by the metric that it is a value of.
    """
    for address in addresses_of(settings.pushgateway_url):
        if time.monotonic() < _not_before_s.get(address, 0.0):
            continue
        try:
            _push(settings, address, asset, values)
        except (OSError, ValueError) as error:  # whose text has the address
            _not_before_s[address] = time.monotonic() + _AGAIN_S
            _LOG.warning("a Pushgateway does not take the figures: %s", type(error).__name__)


def _push(settings: Settings, address: str, asset: str, values: Mapping[Metric, float]) -> None:
    registry = CollectorRegistry(auto_describe=False)  # of its own: no `target_info`, no process
    for metric, value in values.items():
        last = metric.name.replace("market_pipeline.", "market_pipeline.last_", 1)
        name = prometheus_name(last, metric.unit)
        Gauge(name, f"Of the last run: {metric.description}", registry=registry).set(value)
    with push_session(settings, address) as session:

        def handler(
            url: str,
            method: str,
            timeout: float | None,
            headers: list[tuple[str, str]],
            data: bytes,
        ) -> Callable[[], None]:
            def send() -> None:
                # A stream: what comes after the status is not waited for, however slowly it does.
                answer = session.request(
                    method, url, data=data, headers=dict(headers), timeout=timeout, stream=True
                )
                answer.raise_for_status()

            return send

        push_to_gateway(without_login(address), _JOB, registry, {"asset": asset}, _WAIT_S, handler)
