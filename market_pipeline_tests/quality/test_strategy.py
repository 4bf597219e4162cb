"""Which rebuild a day allows: every combination of what the two tables can be."""

from __future__ import annotations

from itertools import product

import pytest

from market_pipeline.quality.measures.domain import REFUSED, DomainFault
from market_pipeline.quality.profile import PROFILES, Profile, RawPlace, place_columns
from market_pipeline.quality.strategy import MAX_BACKWARD_SHARE, choose_strategy

BLANK = dict.fromkeys(column.name for column in PROFILES.columns)


def profile(raw_table: str, **changes: object) -> Profile:
    """A usable profile of 1,000 rows in 500 messages without fault but for the changes."""
    figures = {"rows": 1_000, "messages": 500, "sequence_changes": 499, "sequence_backwards": 0}
    counted = {name: changes[name] for name in changes if name in BLANK}
    places = [
        RawPlace(kind, f"{raw_table}/7.parquet", 42, "price", "-1.0", "more", 5, 6)
        for kind in counted
        if counted[kind]
    ]
    clean = dict.fromkeys(REFUSED, 0)
    return Profile.from_record(
        BLANK
        | {"raw_table": raw_table, "status": "usable", "first_sequence_number": 9}
        | figures
        | clean
        | place_columns(places)
        | changes
    )


def unlike(raw_table: str) -> dict[str, Profile | None]:
    """What a table can be, by whether its rows can be used: the name begins with good or bad."""
    return {
        "good": profile(raw_table),
        "bad: missing": profile(raw_table, status="missing", rows=None),
        "bad: unusable": profile(raw_table, status="unusable", rows=None, failure="It is cut."),
        "bad: empty": profile(raw_table, rows=0, messages=0),
        "bad: null": profile(raw_table, null_rows=3),
        "bad: not looked at": None,
    }


DELTAS = unlike("book_delta_v2") | {
    f"bad: {kind}": profile("book_delta_v2", **{kind: 1}) for kind in REFUSED
}
DELTAS |= {
    "bad: one number": profile("book_delta_v2", sequence_changes=0),
    "bad: backwards": profile("book_delta_v2", sequence_backwards=6),
    "good: a few backwards": profile("book_delta_v2", sequence_backwards=5),
    "good: one message": profile("book_delta_v2", messages=1, sequence_changes=0),
    "good: odd times": profile("book_delta_v2", zero_times=9, future_times=9),
}
SNAPSHOTS = unlike("book") | {
    "good: absent levels": profile("book", negative_sizes=3, not_finite=2),
    "good: one number": profile("book", sequence_changes=0),
}


@pytest.mark.parametrize(("deltas", "snapshots"), list(product(DELTAS, SNAPSHOTS)))
def test_every_combination(deltas, snapshots):
    """Deltas if they are good, else snapshots if those are, else nothing; always with a reason."""
    trades = profile("trades", status="missing", rows=None)
    given = [each for each in (DELTAS[deltas], SNAPSHOTS[snapshots]) if each is not None]
    chosen = choose_strategy([*given, trades])
    wanted = "full_deltas" if deltas.startswith("good") else "snapshots_only"
    if wanted == "snapshots_only" and snapshots.startswith("bad"):
        wanted = "none"

    assert wanted == chosen.name
    assert chosen.reason.endswith(".") and not chosen.reason.endswith("..")


def test_nothing_was_looked_at():
    """Without any profile nothing is known against the deltas."""
    assert "full_deltas" == choose_strategy([]).name


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "All 1,000 deltas can be applied, in 500 messages."),
        (
            {"negative_prices": 2},
            "Negative prices in the deltas: 2, first price -1.0 in book_delta_v2/7.parquet, "
            "row 42; 1,000 snapshots are there.",
        ),
        (
            {"sequence_changes": 0},
            "All 500 messages of the deltas have the sequence number 9; 1,000 snapshots are there.",
        ),
        (
            {"sequence_backwards": 6},
            "6 of 500 messages of the deltas go backwards in sequence, which is more than 1%, "
            "first -1.0 after more in book_delta_v2/7.parquet, row 42; 1,000 snapshots are there.",
        ),
        (
            {"status": "unusable", "failure": "The file is cut. Fetch it again."},
            "The deltas cannot be read; 1,000 snapshots are there.",
        ),
    ],
)
def test_the_reason_names_figure_and_place(changes, told):
    """The sentence has the figure that decided, and the file and row of the first place."""
    given = [profile("book_delta_v2", **changes), profile("book")]

    assert told == choose_strategy(given).reason


def test_the_bound_is_a_share():
    """A hundredth of the messages may go backwards, and not one more."""
    assert 0.01 == MAX_BACKWARD_SHARE
    assert DomainFault.NULL in REFUSED
