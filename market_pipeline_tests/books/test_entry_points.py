"""A kernel called by its address: the compiled one that Python calls, with the same arguments."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from market_pipeline import jit
from market_pipeline.books.entry_points import address_of, call_at


class Values(NamedTuple):
    """Two arrays, as kernels are given them."""

    first: NDArray[np.int64]
    second: NDArray[np.float64]


def _add(values, more, total):
    total[0] += 1
    return np.int64(values.first[-1] * 2 // more)


def _add_twice(address, values, more, total):
    return call_at(address, values, more, total) + call_at(address, values, more, total) + total[0]


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Both, with an empty folder for machine code."""
    monkeypatch.setattr(jit, "_CACHE_FOLDER", tmp_path)
    return jit.kernel(_add), jit.kernel(_add_twice)


def arguments(more, dtype=np.int64):
    """Those of `_add`."""
    return Values(np.arange(4, dtype=dtype), np.zeros(1)), more, np.zeros(1, np.int64)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.float64])
def test_the_kernel_for_the_types_is_called(kernels, dtype):
    """It is found by the types of its arguments, and changes what it is given."""
    add, twice = kernels
    given = arguments(2, dtype)

    assert 8 == twice(address_of(add, given), *given)
    assert 3 == add(*given)
    assert 3 == given[-1][0]


def test_it_is_not_compiled_with_its_caller(kernels):
    """The caller has none of it, and needs no compilation when it is loaded by the next process."""
    add, twice = kernels
    given = arguments(2)
    twice(address_of(add, given), *given)
    again = jit.kernel(_add_twice)

    assert 8 == again(address_of(add, given), *given) - 2
    assert {1} == set(again.stats.cache_hits.values())
    assert not add.part.overloads
    assert 1 == len(add.overloads)


def test_its_error_is_the_callers(kernels):
    """What it raises is raised there."""
    add, twice = kernels
    given = arguments(0)

    with pytest.raises(ZeroDivisionError):
        twice(address_of(add, given), *given)
