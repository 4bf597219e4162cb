"""Faults in copies of real days: each is found by the check that is for it, as the docs say."""

from __future__ import annotations

from pathlib import Path

import pytest

from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.detection.real_faults import FAULTS, RealFault
from market_pipeline_tests.detection.tables import (
    ALWAYS,
    SPOILT_DAYS,
    found_cell,
    sequence_jumps,
    validated_copy,
    verdict_line,
)
from market_pipeline_tests.detection.validating import Validated

pytestmark = pytest.mark.slow

DOCS = (REPOSITORY / "docs/detection.md").read_text(encoding="utf-8").splitlines()
HELD = SPOILT_DAYS[:2]


@pytest.fixture(scope="module", params=HELD, ids=lambda day: f"{day[0]}:{day[1]}")
def day(
    request: pytest.FixtureRequest, sample_data: Path, tmp_path_factory
) -> tuple[int, Validated]:
    """Which of the days it is, and its verdict without a fault."""
    root = tmp_path_factory.mktemp("clean")
    return HELD.index(request.param), validated_copy(root, *request.param)


def test_a_clean_day(day: tuple[int, Validated]):
    """Nothing fails but what is true: minutes of a day, and a receipt clock that is slow."""
    number, clean = day
    line = verdict_line(clean, sequence_jumps(*HELD[number]))

    assert ALWAYS == clean.failed.keys()
    assert line in DOCS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault(day: tuple[int, Validated], fault: RealFault, tmp_path: Path):
    """The check that is for it fails, and the docs say which others do."""
    number, clean = day
    spoilt = validated_copy(tmp_path, *HELD[number], fault)
    (line,) = (line for line in DOCS if line.startswith(f"| {fault.name} |"))

    assert set(fault.expected) <= spoilt.failed.keys()
    assert line.strip("| ").split(" | ")[1 + number] == found_cell(fault, clean, spoilt)
