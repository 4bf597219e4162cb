"""The whole table: every case in every clean day, held to what the docs promise.

Takes more than half an hour: `python -m pytest -m attack market_pipeline_tests/detection`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from market_pipeline_tests.detection.attack import Work, cases_of, tried
from market_pipeline_tests.detection.attack_table import unshown
from market_pipeline_tests.detection.bases import SIMULATED, prepare_sample, prepare_simulated
from market_pipeline_tests.detection.capture_bases import CAPTURE_BASES, prepare_capture
from market_pipeline_tests.detection.trial import Trial
from market_pipeline_tests.quality.sample import SAMPLE_DAYS

pytestmark = pytest.mark.attack

WRONG_SHARE = 1e-5
"""So many of the rows that are published as valid may be wrong, over all cases of a day."""

PREPARED: dict[str, Callable[[Path], Path]] = {
    **{
        f"{exchange}:{symbol} {day}": partial(prepare_sample, number=number)
        for number, (exchange, symbol, day) in enumerate(SAMPLE_DAYS)
    },
    **{name: partial(prepare_simulated, name=name) for name in SIMULATED},
    **{name: partial(prepare_capture, name=name) for name in CAPTURE_BASES},
}


@pytest.fixture(scope="module", params=PREPARED)
def trials(
    request: pytest.FixtureRequest, sample_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Trial]:
    """Every case in one of the days."""
    file = PREPARED[request.param](tmp_path_factory.mktemp("base"))
    cases = cases_of(captures=request.param in CAPTURE_BASES)
    return [trial for case in cases if (trial := tried(Work(file, case.name))) is not None]


def test_no_wrong_row_is_silent(trials: list[Trial]):
    """Where a valid row is wrong, some check failed that does not fail on the clean day."""
    assert {} == {each.fault: each.silent for each in trials if each.silent}


def test_few_valid_rows_are_wrong(trials: list[Trial]):
    """At most one valid row in 100,000 is wrong, but for days that are wholly another's."""
    trials = [each for each in trials if not unshown(each)]
    wrong = {each.fault: each.wrong for each in trials if each.wrong}
    assert sum(wrong.values()) <= WRONG_SHARE * sum(each.valid for each in trials), wrong


def test_no_row_of_another_day_is_valid(trials: list[Trial]):
    """No valid row was received outside the UTC day."""
    rows = {each.fault: each.bbo.other_day + each.depth.other_day for each in trials}
    assert {} == {fault: count for fault, count in rows.items() if count}


def test_nothing_spoilt_is_available(trials: list[Trial]):
    """An available day has no wrong row and claims no time that nothing covers."""
    assert [] == [each.fault for each in trials if each.wrongly_available]


def test_nothing_stops_another_instrument(trials: list[Trial]):
    """No error ends a run, and the verdict of the other instrument is the same."""
    assert {} == {
        each.fault: each.crashed or each.neighbour
        for each in trials
        if each.crashed or each.neighbour != "as before"
    }
