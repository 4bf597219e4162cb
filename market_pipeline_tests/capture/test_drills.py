"""The recorder as a process that is killed, and that the disk refuses."""

from __future__ import annotations

import json
import random
import resource
import signal
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import chain

import polars as pl
import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.recording import CONVERTER, RecordKind, read_recording
from market_pipeline.sources.recording.journal import read_journal
from market_pipeline_tests.cli.test_capture import (
    PATIENCE_SECONDS,
    capturing,
    living_exchange,
    payloads,
    until_recorded,
)
from market_pipeline_tests.exchange.market import Market

LONG = pytest.param(50, marks=pytest.mark.attack)


class KeptMarket(Market):
    """A market that keeps what it has sent, whoever was connected."""

    def __init__(self, symbol):
        super().__init__(symbol)
        self.frames = []

    def step(self):
        frames = super().step()
        self.frames += [payload for _, payload in frames]
        return frames


def ids_of(frames, event, name):
    data = (json.loads(frame)["data"] for frame in frames if event in frame)
    return [each[name] for each in data]


def readable(partial):
    """The frames of a file that was left, of which nothing but the end may be cut off."""
    damages = []
    chunks = list(read_recording(partial, damages.append))
    size = partial.stat().st_size
    assert [] == [each for each in damages if each.offset + each.size_bytes != size]
    records = (record for chunk in chunks for record in chunk.records())
    return [record.payload for record in records if record.kind == RecordKind.FRAME]


def received(journal):
    """The frames of a journal; a kill may have left one that has no beginning."""
    read = read_journal(journal)
    entries = [] if read is None else read[1]
    return [each.payload for each in entries if each.kind == RecordKind.FRAME]


def converted(folder):
    """Rows of deltas and trades of all that is recorded."""
    instrument = Instrument(venue="BINANCE", symbol="BTC-USDT", source=CONVERTER.name)
    files, out = sorted(folder.rglob("*.recording")), folder / "converted"
    with RawWriter(out, CONVERTER.name) as raw:
        CONVERTER.convert(files, raw, instrument, datetime.now(UTC).date())
    return [pl.read_parquet(out / table) for table in ("book_delta_v2", "trades")]


def after_gaps(all_ids, recorded):
    """The recorded ids that follow on ones that were not, but for those before the first."""
    found, is_lost = [], False
    for each in all_ids[all_ids.index(min(recorded)) :]:
        if each in recorded and is_lost:
            found.append(each)
        is_lost = each not in recorded
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, LONG])
def test_killed_at_random_moments(tmp_path, kills):
    """Whenever it is killed, files are readable to their last whole block, the next start closes
    them with what the journal has and goes on, and the converted day has the gaps of what was not
    recorded, no other.
    """
    chance, market, left, journals = random.Random(7), KeptMarket("BTCUSDT"), {}, {}
    with living_exchange(tmp_path, market) as (_, environment):
        for kill in range(kills):
            with capturing(tmp_path, environment) as process:
                if kill % 3 == 0:  # else perhaps in the middle of the start
                    until_recorded(tmp_path, besides=left)
                time.sleep(chance.uniform(0, 1.5))
                process.kill()
                process.wait()
            for partial in tmp_path.rglob("*.partial"):
                left[partial] = readable(partial)
            for journal in tmp_path.rglob("*.journal"):
                journals[journal] = received(journal)
        with capturing(tmp_path, environment) as process:
            until_recorded(tmp_path, besides=left)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert 0 == process.returncode, errors
    assert [] == list(tmp_path.rglob("*.partial"))
    for partial, frames in left.items():
        closed = partial.with_suffix("")
        assert frames == (payloads(closed)[: len(frames)] if closed.exists() else [])
    frames = [frame for path in tmp_path.rglob("*.recording") for frame in payloads(path)]
    assert Counter() == Counter(chain(*journals.values())) - Counter(frames)
    assert [] == list(tmp_path.rglob("*.journal"))
    deltas, trades = converted(tmp_path)
    recorded = set(ids_of(frames, b'"depthUpdate"', "u"))
    assert recorded == set(deltas["sequence_number"])
    lost = deltas.filter(pl.col("lost_before") != 0)["sequence_number"].unique().sort()
    assert after_gaps(ids_of(market.frames, b'"depthUpdate"', "u"), recorded) == lost.to_list()
    assert sorted(set(ids_of(frames, b'"trade"', "t"))) == sorted(trades["id"].cast(int))


def lines_until(process, holds):
    for line in process.stdout:
        if holds(json.loads(line)):
            return
    raise AssertionError("the recorder has ended")


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, LONG])
def test_full_disk(tmp_path, times):
    """A disk that takes no more is an alarm; once it does, all that came meanwhile is there."""
    with living_exchange(tmp_path) as (exchange, environment):
        with capturing(tmp_path, environment, "--json") as process:
            until_recorded(tmp_path)
            (partial,) = tmp_path.rglob("*.partial")
            _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            for _ in range(times):
                room = partial.stat().st_size + 3_000
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, most))
                lines_until(process, lambda status: status["disk"])
                assert [] != readable(partial)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
                lines_until(process, lambda status: not status["disk"])
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        sent = [each for client in exchange.clients for each in client.sent]
    assert (0, times, times) == (
        process.returncode,
        errors.count("error: disk: "),
        errors.count("info: disk: it can be written again"),
    )
    (path,) = tmp_path.rglob("*.recording")
    assert sorted(sent) == sorted(payloads(path))
