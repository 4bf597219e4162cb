from __future__ import annotations

from market_pipeline.quality.checks.delivery import check_delivery
from market_pipeline_tests.quality.factory import THRESHOLDS, a_failed_row, a_row


def test_a_folder():
    """A lake in a folder does not say what it had before, so the check is not asked."""
    assert check_delivery(a_row(delivery_remarks=None), THRESHOLDS) is None


def test_as_first_fetched():
    """A store that has what was fetched passes."""
    said = check_delivery(a_row(delivery_remarks=()), THRESHOLDS)

    assert (True, 0.0, "The objects are those that were first fetched.") == (
        *(said.passed, said.figure, said.summary),
    )


def test_each_remark_is_told():
    """Every remark is in the summary, the figure is their number, and the day stays what it is."""
    said = check_delivery(
        a_row(delivery_remarks=("The object 1: gone", "The object 2: cut.")), THRESHOLDS
    )

    assert (False, "WARN", 2.0, False) == (
        *(said.passed, said.severity, said.figure, said.degrades),
    )
    assert "The object 1: gone; The object 2: cut." == said.summary


def test_a_day_that_could_not_be_rebuilt():
    """The remarks are told of such a day too: they may be the reason."""
    said = check_delivery(a_failed_row(delivery_remarks=("s3://b/1: gone",)), THRESHOLDS)

    assert not said.passed
