from __future__ import annotations

import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.defs.step_times import step_metadata
from market_pipeline.scrub.scrubber import learn
from market_pipeline.telemetry.logs import process_log
from market_pipeline.telemetry.logs.files import log_files
from market_pipeline.telemetry.traces import _tracer
from market_pipeline.telemetry.traces.work import begin_run, current, end_run, failed, working
from market_pipeline.threads import Workers

RUN = str(uuid4())
SECRET = "+".join(("wJalr/XUtn", "FEMI=K7MDENG.planted"))  # in pieces, as the tree holds no key


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """The folder of the traces of a run, that this thread works on."""
    settings = load_settings(data_dir=tmp_path)
    process_log.begin(settings, "run")
    begin_run(settings, RUN, "2024-08-08", "daily_books")
    yield tmp_path / "traces"
    end_run()
    process_log.begin(load_settings(data_dir=tmp_path, log_to="none"), "run")


def spans(folder: Path) -> dict[str, dict[str, Any]]:
    """By name and instrument, the spans that were written."""
    found = {}
    for path in folder.glob("traces-*.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            (of,) = line["resourceSpans"]
            (span,) = of["scopeSpans"][0]["spans"]
            span["about"] = {
                each["key"]: each["value"]["stringValue"] for each in span["attributes"]
            }
            found[span["name"] + span["about"].get("market_pipeline.instrument", "")] = span
    return found


def test_a_run_is_a_trace(run: Path):
    """By the run's id; steps are parts of it, and instruments of these, in whatever thread. Log
    lines and metadata name it.
    """

    def work(instrument: str) -> None:
        with working("instrument", instrument=instrument):
            logging.getLogger("market_pipeline.some").info(instrument)

    with working("rebuild_books", step="rebuild_books"), Workers(2, "rebuild") as pool:
        [*pool.map(work, ["A", "B"])]
        metadata = step_metadata()
    end_run()
    found = spans(run)
    assert {"daily_books", "rebuild_books", "instrumentA", "instrumentB"} == found.keys()
    root, step = found["daily_books"], found["rebuild_books"]
    assert {RUN.replace("-", "")} == {each["traceId"] for each in found.values()}
    assert ("parentSpanId" not in root, root["spanId"]) == (True, step["parentSpanId"])
    parents = {found[f"instrument{name}"]["parentSpanId"] for name in "AB"}
    assert {step["spanId"]} == parents
    assert (RUN, "2024-08-08") == tuple(
        root["about"][name] for name in ("dagster.run_id", "market_pipeline.day")
    )
    assert int(root["startTimeUnixNano"]) <= int(step["startTimeUnixNano"])
    assert int(step["endTimeUnixNano"]) <= int(root["endTimeUnixNano"])
    assert root["traceId"] == metadata["trace_id"]

    (path,) = log_files(run.parent / "logs")
    lines = [process_log.decode(line) for line in path.read_bytes().splitlines()]
    assert {(name, root["traceId"], found[f"instrument{name}"]["spanId"]) for name in "AB"} == {
        (line.instrument, line.trace_id, line.span_id) for line in lines
    }
    modes = {stat.S_IMODE(path.stat().st_mode) for path in run.iterdir()}
    assert ({0o600}, 0o700) == (modes, stat.S_IMODE(run.stat().st_mode))


def test_what_is_written_together(run: Path, monkeypatch: pytest.MonkeyPatch):
    """What ends soon after a line was written waits, for the end of the run at the latest."""
    monkeypatch.setattr(_tracer, "TOGETHER_S", 3_600)
    with working("rebuild_books"):
        for instrument in "ABC":
            with working("instrument", instrument=instrument):
                pass
    assert {"instrumentA"} == spans(run).keys()
    end_run()
    assert {"daily_books", "rebuild_books", *(f"instrument{name}" for name in "ABC")} == (
        spans(run).keys()
    )


def test_what_failed(run: Path):
    """A span has the error that ended it, and its parent too; one that went on has it alone. No
    secret is in it, nor in what it is about.
    """
    learn(SECRET)
    with working("validate_day"), working("instrument", instrument="A"):
        failed(ValueError("bad data"))
    with pytest.raises(RuntimeError), working("measure_day", step=SECRET):
        raise RuntimeError(f"no: {SECRET}")
    end_run()
    found = spans(run)
    status = {name: each["status"] for name, each in found.items()}
    assert {"code": 2, "message": "ValueError: bad data"} == status["instrumentA"]
    assert {} == status["validate_day"]
    error = {"code": 2, "message": "RuntimeError: no: [secret]"}
    assert (error, error) == (status["measure_day"], status["daily_books"])
    assert "[secret]" == found["measure_day"]["about"]["market_pipeline.step"]
    assert SECRET not in "".join(path.read_text() for path in run.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The run goes on, with one warning."""
    (tmp_path / "traces").touch()
    begin_run(load_settings(data_dir=tmp_path), RUN, "", "daily_books")
    for _ in range(3):
        with working("some"):
            pass
    end_run()
    assert 1 == sum("traces cannot be written" in each.message for each in caplog.records)
    assert current().run == ""
