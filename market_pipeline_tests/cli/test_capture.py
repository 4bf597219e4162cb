from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from market_pipeline.sources.recording import RecordKind, read_recording
from market_pipeline.sources.recording.reader import read_footer
from market_pipeline_tests.alerts.receiver import Receiver
from market_pipeline_tests.exchange.market import Market
from market_pipeline_tests.exchange.server import FakeExchange
from market_pipeline_tests.store.certificates import make_certificates

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 120
"""After so long something hangs, however busy the machine."""


@contextmanager
def living_exchange(folder, market=None):
    """An exchange in a thread, with a step every 5 ms; yields it and the environment for it."""
    certificates = make_certificates(folder)
    exchange = FakeExchange([market or Market("BTCUSDT")])
    ready, over = threading.Event(), threading.Event()

    async def live():
        async with exchange.serving(certificates):
            ready.set()
            while not over.is_set():
                exchange.step()
                await asyncio.sleep(0.005)

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    ready.wait()
    variables = {
        "PIPELINE_DATA_DIR": str(folder / "data"),
        "PIPELINE_CAPTURE__VENUE": "binance_spot",
        "PIPELINE_CAPTURE__SYMBOLS": "BTCUSDT",
        "PIPELINE_CAPTURE__WEBSOCKET_URLS": exchange.websocket,
        "PIPELINE_CAPTURE__REST_URL": exchange.rest,
        "PIPELINE_CAPTURE__CA_BUNDLE": str(certificates.authority),
        "PIPELINE_CAPTURE__STATUS_SECONDS": "0.2",
    }
    try:
        yield exchange, os.environ | variables
    finally:
        over.set()
        thread.join()


@contextmanager
def capturing(folder, environment, *arguments):
    """The console script as a process, killed at the end if it is still there."""
    script = "from market_pipeline.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "capture", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until_recorded(folder, besides=()):
    """Waits for a file with some frames, and not one of those that were left before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        files = {*folder.rglob("*.recording.partial")}.difference(besides)
        if any(path.stat().st_size > 5_000 for path in files):
            return
        time.sleep(0.05)
    raise AssertionError("nothing is recorded")


def until(happened):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def summaries(receiver):
    return [each["alerts"][0]["annotations"]["summary"] for each in receiver.taken]


@pytest.fixture
def receiver():
    made = Receiver().open()
    yield made
    made.close()


def payloads(path):
    records = (record for chunk in read_recording(path) for record in chunk.records())
    return [record.payload for record in records if record.kind == RecordKind.FRAME]


class TestCapture:
    def test_ends_cleanly_on_sigterm(self, tmp_path):
        """Status lines are JSON, the file is closed with every frame sent, the exit code is 0."""
        with living_exchange(tmp_path) as (exchange, environment):
            with capturing(tmp_path, environment, "--json", "--sink", "jsonl") as process:
                until_recorded(tmp_path)
                until((tmp_path / "data/live/binance_spot/best_quotes.jsonl").exists)
                process.send_signal(signal.SIGTERM)
                out, errors = process.communicate(timeout=PATIENCE_SECONDS)
            assert 0 == process.returncode, errors
            sent = [each for client in exchange.clients for each in client.sent]
        (path,) = tmp_path.rglob("*.recording")
        assert sorted(sent) == sorted(payloads(path))
        last = json.loads(out.splitlines()[-1])
        assert (len(sent), 0) == (last["frames"], last["streams"]["depth:BTCUSDT"]["gaps"])
        assert [] == list(tmp_path.rglob("*.partial"))
        book = last["streams"]["depth:BTCUSDT"]
        folder = tmp_path / "data/live/binance_spot"
        rows = (folder / "best_quotes.jsonl").read_text().splitlines()
        written = sum(len(each.read_text().splitlines()) for each in folder.glob("*.jsonl"))
        assert ("live", written, 0, {}) == (
            *(book["book"], last["sinks"]["jsonl"]["written"]),
            *(book["unverifiable_s"], last["switched_off"]),
        )
        assert book["verified_s"] > 0
        assert ("0.01", "0.001") == tuple(json.loads(rows[0])[name] for name in ("tick", "lot"))
        assert "tick 0.01 and lot 0.001, inferred from the first whole book" in errors
        ids = [json.loads(each)["data"]["u"] for each in sent if b"depthUpdate" in each]
        depth = read_footer(path).streams["depth:BTCUSDT"]
        assert (min(ids), max(ids)) == (depth.first_id, depth.last_id)

    def test_refuses_to_start_twice(self, tmp_path, receiver):
        """A second recorder of the venue on this host ends with 2 and names the first, which goes
        on, and reports what no connection had, without any Dagster.
        """
        with (
            living_exchange(tmp_path) as (exchange, environment),
            capturing(
                tmp_path, environment | {"PIPELINE_ALERT_WEBHOOK_URLS": receiver.url()}
            ) as first,
        ):
            until_recorded(tmp_path)
            with capturing(tmp_path, environment) as second:
                _, errors = second.communicate(timeout=PATIENCE_SECONDS)
            assert ([], 2, True) == (
                *(receiver.taken, second.returncode),
                f"process {first.pid}" in errors,
            )
            exchange.faults.loss = 0.5
            until(lambda: receiver.taken)
            assert "gaps that no one filled" in summaries(receiver)[0]

    def test_kill_and_restart(self, tmp_path, receiver):
        """After kill -9 the file is readable to its last block; the next start closes it, with what
        had come since that block, begins another one, and reports it.
        """
        with living_exchange(tmp_path) as (_, environment):
            environment["PIPELINE_ALERT_WEBHOOK_URLS"] = receiver.url()
            with capturing(tmp_path, environment) as process:
                until_recorded(tmp_path)
                process.kill()
            (left,) = tmp_path.rglob("*.recording.partial")
            before = payloads(left)
            with capturing(tmp_path, environment, "--seconds", "60") as process:
                assert any("  depth:BTCUSDT: book live, verified " in x for x in process.stdout)
                until(lambda: receiver.taken)
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=PATIENCE_SECONDS)
            assert 0 == process.returncode
        assert ["the recorder ended without closing its files"] == [
            re.findall("the recorder .* files", each)[0] for each in summaries(receiver)
        ]
        assert [] == list(tmp_path.rglob("*.partial"))
        closed = left.with_suffix("")
        (other,) = {*tmp_path.rglob("*.recording")} - {closed}
        whole = payloads(closed)
        assert [before, True] == [whole[: len(before)], bool(payloads(other))]
        assert [] == list(tmp_path.rglob("*.journal"))

    def test_nothing_to_record(self, tmp_path):
        """Without a venue the exit code is 2, and the message names those there are."""
        with capturing(tmp_path, os.environ | {"PIPELINE_DATA_DIR": str(tmp_path)}) as process:
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert (2, True) == (process.returncode, "binance_spot" in errors)
