from __future__ import annotations

from types import SimpleNamespace

from market_pipeline.stages.validation.ordering import measure_ordering
from market_pipeline_tests.quality.factory import a_record

COUNTS = {
    "stale_messages": 0,
    "repeated_messages": 4,
    "late_messages": 1,
    "restarts": 0,
    "split_messages": 3,
    "bad_sequences": 2,
}


def measured(**record: object):
    """What a rebuild with these figures says of the order."""
    return measure_ordering(SimpleNamespace(record=a_record(**COUNTS | record)))


def test_figures_and_first_places():
    """Each kind is counted, and the first of it located where there is one."""
    said = measured(
        first_old_ns=5,
        first_old_sequence_number=7,
        first_restart_ns=None,
        first_split_ns=8,
        first_bad_sequence_ns=9,
    )

    assert {
        "stale_messages": 0,
        "repeated_messages": 4,
        "late_messages": 1,
        "sequence_restarts": 0,
        "split_messages": 3,
        "bad_sequences": 2,
        "first_old_ns": 5,
        "first_restart_ns": None,
        "first_split_ns": 8,
        "first_bad_sequence_ns": 9,
    } == said.columns
    assert [(5, 7), (8, None), (9, None)] == [
        (each.ts_receipt_ns, each.sequence_number) for each in said.findings
    ]
    assert {("ordering", "first")} == {(each.check, each.place) for each in said.findings}


def test_a_feed_in_order():
    """Nothing is located where nothing was found, nor by a record of before these figures."""
    clean = dict.fromkeys(COUNTS, 0)

    assert [] == measured(**clean, first_old_ns=None).findings
    assert [] == measure_ordering(SimpleNamespace(record=a_record())).findings
