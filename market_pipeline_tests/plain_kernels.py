"""Kernels as the Python functions that they are compiled from, so that their lines are counted.

A plugin of pytest for `make lines`. Simulated days are still made by compiled code: Python takes
minutes for each.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numba
import pytest
from hypothesis import settings

_OF_MACHINE_CODE = ("::test_one_machine_code_for_all", "test_entry_points.py::test_it")
"""Tests of what no Python function has."""

_LONG = (
    "test_intervals.py::TestOnTheSimulatedVenue",
    "metrics/test_intervals.py",
    "metrics/test_features.py",
    "::test_more_than_tolerated_show_the_finer_step[2000000",
    "::test_many_distinct_values",
    "::test_outliers_anywhere_do_not_refine_the_step[0.1-",
    "::test_outliers_anywhere_do_not_refine_the_step[2.5-",
    "::test_a_planted_step_is_found_where_it_is",
    "::test_a_drift_however_steep_has_no_step",
    "::test_a_drift_that_begins_is_no_step",
    "::test_a_long_table_is_sampled_the_same_however_cut",
    "::test_how_far_it_looks_back",
    "::test_no_stamp_makes_a_drift_or_a_step",
    "::test_the_kept_shifts_stay_within_their_room",
    "::test_a_file_is_read_once_unless_something_is_lost",
)
"""Tests that Python takes many seconds for, and that run no line which the others do not."""

_SLOW_TO_COMPILE = ("books/test_replay.py", "stages/events/test_stream.py")
"""Files of slow tests that Python is done with in seconds."""

_called: list[Callable[..., int]] = []


def _itself(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _address_of(kernel: Callable[..., int], arguments: tuple[Any, ...]) -> int:
    if kernel not in _called:
        _called.append(kernel)
    return _called.index(kernel)


def _call_at(address: int, *arguments: Any) -> int:
    return _called[address](*arguments)


def _fetch_nothing(column: object, index: int) -> None:
    pass


def _lowest_bit(word: int) -> int:
    word = int(word)
    return (word & -word).bit_length() - 1


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Puts Python in the compiler's place before anything is imported that holds kernels."""
    from market_pipeline import jit
    from market_pipeline.books import fetch

    jit.kernel = jit.inlined_kernel = jit.callback_kernel = _itself  # type: ignore[assignment]
    fetch.fetch_ahead = _fetch_nothing

    from market_pipeline.books import entry_points

    entry_points.address_of, entry_points.call_at = _address_of, _call_at

    from market_pipeline.books import walk

    walk._lowest_bit = _lowest_bit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba, "njit", lambda **_: _itself)
        import_module("market_pipeline.quality.measures.skew")
        import_module("market_pipeline.quality.measures.stray_times")


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Tries few examples of each property: Python takes a hundred times as long for each."""
    items[:] = filter(_is_run, items)
    for item in items:
        function = getattr(item.obj, "__func__", item.obj)
        own = getattr(function, "_hypothesis_internal_use_settings", None)
        if own is not None:
            few = settings(own, max_examples=min(5, own.max_examples), deadline=None)
            function._hypothesis_internal_use_settings = few


def _is_run(item: pytest.Item) -> bool:
    is_slow = item.get_closest_marker("slow") and not _is_one_of(item, _SLOW_TO_COMPILE)
    return not is_slow and not _is_one_of(item, _OF_MACHINE_CODE + _LONG)


def _is_one_of(item: pytest.Item, names: tuple[str, ...]) -> bool:
    return any(name in item.nodeid for name in names)
