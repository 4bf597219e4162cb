from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.plots.window import MINUTE_NS, Window
from market_pipeline_tests.plots.day_files import DAY, SECOND_NS, START_NS

DAY_NS = 86_400 * SECOND_NS
moments = st.integers(START_NS, START_NS + DAY_NS - 1)


@given(moments, moments)
def test_shows_every_message_in_few_steps(one, other):
    """First and last message are inside, in at most 1,440 steps of whole seconds."""
    first, last = sorted((one, other))
    window = Window.of_day(DAY, first, last)

    assert window.start_ns <= first <= last < window.end_ns
    assert 1 <= window.steps <= 1_440
    assert (0, 0) == (window.every_ns % SECOND_NS, window.start_ns % window.every_ns)


@given(st.integers(0, DAY_NS // 4), st.integers(0, DAY_NS // 4 * 3 - 1))
def test_a_small_part_is_shown_alone(length, start):
    """Messages that cover less than a quarter of the day are not lost in an empty picture."""
    window = Window.of_day(DAY, START_NS + start, START_NS + start + length)

    assert window.end_ns - window.start_ns <= length + window.every_ns
    assert window.every_ns <= 16 * SECOND_NS


def test_most_of_a_day_is_the_day():
    """A day with a gap at its beginning is shown from midnight to midnight, by minutes."""
    window = Window.of_day(DAY, START_NS + DAY_NS // 2, START_NS + DAY_NS - 1)

    assert Window(START_NS, START_NS + DAY_NS, MINUTE_NS) == window
    assert 1_440 == window.steps


@given(moments, st.integers(1, DAY_NS))
def test_a_part_is_shown_whole_in_about_240_steps(start_ns, length_ns):
    """A part of a day is inside, in whole steps of seconds that begin at whole steps."""
    window = Window.of_span(start_ns, start_ns + length_ns)

    assert window.start_ns <= start_ns < start_ns + length_ns <= window.end_ns
    assert 1 <= window.steps <= 241
    assert (0, 0, 0) == (
        window.every_ns % SECOND_NS,
        window.start_ns % window.every_ns,
        (window.end_ns - window.start_ns) % window.every_ns,
    )
