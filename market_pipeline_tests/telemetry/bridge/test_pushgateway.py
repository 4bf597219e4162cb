"""What is pushed to a real Pushgateway."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.telemetry.bridge import pushgateway
from market_pipeline.telemetry.bridge.pushgateway import push_last_run
from market_pipeline.telemetry.metrics import table
from market_pipeline_tests.ports import free_port
from market_pipeline_tests.telemetry.figures import parsed


@pytest.fixture
def gateway() -> Iterator[str]:
    """The address of one that has nothing yet."""
    program = shutil.which("prometheus-pushgateway") or shutil.which("pushgateway")
    if program is None:
        pytest.skip("pushgateway (Debian's package prometheus-pushgateway) is not installed")
    port = free_port()
    running = subprocess.Popen(
        [program, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(f"{address}/-/ready").raise_for_status()
                break
            except httpx.HTTPError:
                assert running.poll() is None
                time.sleep(0.05)
        yield address
    finally:
        running.terminate()
        running.wait()


def test_the_last_run_of_each_asset(gateway: str):
    """A later run takes the place of the one before and leaves other assets alone; nothing of a
    process or library is pushed, and no counter.
    """
    settings = load_settings(pushgateway_url=gateway)
    for asset, seconds, code in (("bars", 9.0, 1), ("trades", 5.0, 0), ("bars", 3.0, 0)):
        push_last_run(settings, asset, {table.STEP_DURATION: seconds, table.STEP_EXIT: code})

    text = httpx.get(f"{gateway}/metrics").text
    ours = {
        (name, dict(labels)["asset"]): value
        for (name, labels), value in parsed(text).items()
        if dict(labels).get("job") == "market-pipeline" and name.startswith("market_")
    }
    duration, code = (
        "market_pipeline_last_step_duration_seconds",
        "market_pipeline_last_step_exit_code",
    )
    assert {
        (duration, "bars"): 3.0,
        (duration, "trades"): 5.0,
        (code, "bars"): 0.0,
        (code, "trades"): 0.0,
    } == ours
    assert not [each for each in ("target_info", "otel_scope_info") if each in text]


def test_a_gateway_that_is_away(caplog: pytest.LogCaptureFixture):
    """The run goes on with one warning that shows nothing of the address, and does not ask again
    for a while.
    """
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        settings = load_settings(
            pushgateway_url=f"http://me:s3cret@127.0.0.1:{bound.getsockname()[1]}"
        )
        with caplog.at_level(logging.DEBUG, pushgateway.__name__):
            for _ in range(3):
                push_last_run(settings, "bars", {table.STEP_EXIT: 0})
    assert ["a Pushgateway does not take the figures: ConnectionError"] == caplog.messages
