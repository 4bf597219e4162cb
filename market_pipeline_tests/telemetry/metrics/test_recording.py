from __future__ import annotations

import logging
from pathlib import Path

import pytest

from market_pipeline.config.secret_values import learn_secret
from market_pipeline.config.settings import load_settings
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.files import line_files
from market_pipeline.telemetry.metrics import _meter, table
from market_pipeline.telemetry.metrics._meter import Meter
from market_pipeline.telemetry.metrics.recording import begin, flush, record
from market_pipeline.telemetry.otlp import DELTA, decode


def test_a_line_is_the_protocols(folder: Path):
    """Differences with role, unit and attributes; a gauge once; nothing where nothing is new."""
    record(table.PUBLISHED_ROWS, 2, table="books.bbo", venue="SIMULATED")
    record(table.PUBLISHED_ROWS, 3, table="books.bbo", venue="SIMULATED")
    record(table.STEP_MEMORY, 5.0, step="raw")
    record(table.CATALOGUE_DURATION, 0.2)
    flush()
    flush()
    record(table.PUBLISHED_ROWS, 4, table="books.bbo", venue="SIMULATED")
    flush()

    (path,) = line_files(folder)
    first, second = (decode(line) for line in path.read_bytes().splitlines())
    found = {stream.name: stream for _, stream in first.streams}
    assert {"service.name": "market-pipeline", "service.instance.id": "run"} == first.streams[0][0]
    rows = found["market_pipeline.publish.rows"]
    assert ("{row}", DELTA, True) == (
        *(rows.unit, rows.sum.aggregation_temporality, rows.sum.is_monotonic),
    )
    (point,) = rows.sum.data_points
    assert (5, {"table": "books.bbo", "venue": "SIMULATED"}) == (point.number, point.labels)
    (point,) = found["market_pipeline.catalogue.duration"].histogram.data_points
    assert ("1", 0.2, 0.2, ["1"]) == (
        *(point.count, point.sum, point.explicit_bounds[point.bucket_counts.index("1")]),
        [each for each in point.bucket_counts if each != "0"],
    )
    ((_, stream),) = second.streams
    assert ("market_pipeline.publish.rows", 4) == (stream.name, stream.sum.data_points[0].number)


def test_what_may_wait(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """It is written with the next line, where one was written shortly before."""
    monkeypatch.setattr(_meter, "TOGETHER_S", 3_600)
    for value in (1, 2, 4):
        record(table.PUBLISHED_ROWS, value, table="books.bbo", venue="SIMULATED")
        flush(may_wait=True)
    flush()
    (path,) = line_files(folder)
    lines = [decode(line) for line in path.read_bytes().splitlines()]
    assert [1, 6] == [line.streams[0][1].sum.data_points[0].number for line in lines]


def test_a_known_secret_in_a_label(folder: Path):
    """It is marked in the line, which is the protocol's all the same."""
    learn_secret(secret := "sq-93kfa0d7wqmzx1")
    record(table.CATALOGUE_DURATION, 0.2)
    record(table.PUBLISHED_ROWS, 2, table="books.bbo", venue=secret)
    flush()

    (path,) = line_files(folder)
    text = path.read_bytes()
    assert secret.encode() not in text
    assert 2 == len(decode(text).streams)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_no_number(folder: Path, value: float | None):
    """A figure that there is none of is passed over."""
    record(table.CATALOGUE_DURATION, value)
    flush()
    assert [] == line_files(folder)


@pytest.mark.usefixtures("folder")
def test_other_attributes_than_declared():
    """They are refused: a run or a day among them would make new series for ever."""
    with pytest.raises(ValueError, match="day"):
        record(table.CATALOGUE_DURATION, 1.0, day="2024-08-08")


@pytest.mark.parametrize("is_link", [False, True], ids=["a-file", "a-link-to-everybodys"])
def test_a_folder_that_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_link: bool
):
    """The work goes on with one warning, and what could not be written comes later, once."""
    if is_link:
        (everybodys := tmp_path / "everybodys").mkdir()
        everybodys.chmod(0o777)
        (tmp_path / "metrics").symlink_to(everybodys)
    else:
        (tmp_path / "metrics").touch()
    begin(load_settings(data_dir=tmp_path), "run")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            record(table.PUBLISHED_ROWS, 2, table="books.bbo", venue="SIMULATED")
            flush()
    assert 1 == len(caplog.records)
    (tmp_path / "metrics").unlink()
    begin(load_settings(data_dir=tmp_path, metrics=False), "run")

    bridge = Bridge(tmp_path / "metrics")
    bridge.update()
    ((_, family),) = bridge.families(0)
    assert [6] == [each.value for each in family.series.values()]


@pytest.mark.slow
def test_a_thousand_runs_of_five_hundred_instruments(tmp_path: Path):
    """No series is added by all runs after the first, and none is left out of it."""
    bridge, counts = Bridge(tmp_path), []
    for run in range(1_000):
        meter = Meter(tmp_path, "run")  # each run is a process of its own
        for number in range(3 if run else 500):
            of = {"venue": f"VENUE{number % 4}", "instrument": f"VENUE{number % 4}:{number}"}
            for condition in ("available", "degraded", "pending", "missing", "other"):
                meter.record(table.VERDICTS, 1, of | {"condition": condition})
        meter.flush()
        if run in {0, 999}:
            bridge.update()
            counts += [len(family.series) for _, family in bridge.families(0)]
    assert [2_500, 2_500] == counts
    overflow = b"otel.metric.overflow"
    assert not [path for path in line_files(tmp_path) if overflow in path.read_bytes()]
